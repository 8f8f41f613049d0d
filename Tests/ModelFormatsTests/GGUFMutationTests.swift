// Damaged files of every kind: each is read, with everything it then says being true, or refused in one
// line. Nothing traps and nothing is allocated because a file states a number.

import Glibc
import ModelFormats
import Testing

@Suite struct GGUFMutationTests {
    /// Opens `bytes` and, when that works, looks at all there is. Returns whether it worked.
    @discardableResult
    static func survives(_ bytes: [UInt8], _ mutation: String) -> Bool {
        do {
            let file = try GGUFFile(bytes: bytes, name: "mutated")
            check(file, size: UInt64(bytes.count), mutation)
            return true
        } catch {
            let text = error.description
            #expect(text.hasPrefix("mutated: "), "\(mutation)")
            #expect(!text.unicodeScalars.contains { $0.value < 32 }, "\(mutation)")
            #expect(text.utf8.count < 4000, "\(mutation)")
            return false
        }
    }

    /// What a file that was accepted promises.
    static func check(_ file: GGUFFile, size: UInt64, _ mutation: String) {
        var end: UInt64 = 0
        for tensor in file.tensors.sorted(by: { $0.fileOffset < $1.fileOffset }) {
            #expect(tensor.fileOffset >= end, "\(mutation)")
            end = tensor.fileOffset + UInt64(tensor.byteCount)
            #expect(end <= size, "\(mutation)")
            #expect(tensor.shape.reduce(1, *) == tensor.elementCount, "\(mutation)")
            #expect(tensor.byteCount > 0, "\(mutation)")
        }
        for key in file.metadata.keys {
            guard let value = file.metadata[key] else {
                Issue.record("\(mutation): no value of \(key)")
                return
            }
            visit(value)
            // Whatever the type: a value or an error, from each of the ways to ask.
            _ = try? file.metadata.string(key)
            _ = try? file.metadata.integer(key)
            _ = try? file.metadata.number(key)
            _ = try? file.metadata.bool(key)
            _ = try? file.metadata.array(key)
        }
    }

    static func visit(_ value: GGUFValue) {
        guard case .array(let array) = value else { return }
        for index in 0..<array.count {
            _ = array.bytes(at: index)
            _ = array.integer(at: index)
            _ = array.number(at: index)
            if array.elementType == .array { visit(array[index]) }
        }
    }

    /// The files, read once; headers are where damage matters.
    static func fixtures() throws -> [(name: String, bytes: [UInt8], header: Int)] {
        try ["types.gguf", "version2.gguf", "formats.gguf", "vocabulary.gguf"].map { name in
            let bytes = try Fixture.bytes(name)
            let first = try GGUFFile(bytes: bytes).tensors.map(\.fileOffset).min()
            return (name, bytes, first.map(Int.init) ?? bytes.count)
        }
    }

    @Test func flippedBits() throws {
        var random = SplitMix64(seed: 1)
        var accepted = 0
        for (name, bytes, header) in try Self.fixtures() {
            for round in 0..<(header > 2000 ? 50 : 300) {
                var mutated = bytes
                for _ in 0...Int.random(in: 0..<4, using: &random) {
                    let at = Int.random(in: 0..<header, using: &random)
                    mutated[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                }
                if Self.survives(mutated, "\(name) bit flips, round \(round)") { accepted += 1 }
            }
        }
        // Flips in names and values leave a sound file.
        #expect(accepted > 0)
    }

    @Test func extremesAtEveryOffsetOfTheHeader() throws {
        let extremes: [UInt64] = [
            0, 1, 0x7F, 0x80, 0xFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 32, 1 << 62,
            .max >> 1, 1 << 63, .max,
        ]
        var mutations = 0
        for (name, bytes, header) in try Self.fixtures() {
            // The vocabulary is hundreds of like entries: every 61st offset meets each field of them.
            let step = header > 2000 ? 61 : 1
            for at in stride(from: 0, to: header, by: step) {
                for width in [1, 4, 8] where at + width <= bytes.count {
                    let value = extremes[(at + width) % extremes.count]
                    var mutated = bytes
                    for index in 0..<width {
                        mutated[at + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
                    }
                    Self.survives(mutated, "\(name) \(width) bytes of \(value) at \(at)")
                    mutations += 1
                }
            }
        }
        #expect(mutations > 2000)
    }

    @Test func spansMovedAboutAndFilesCut() throws {
        var random = SplitMix64(seed: 2)
        for (name, bytes, header) in try Self.fixtures() {
            for round in 0..<(header > 2000 ? 50 : 200) {
                let from = Int.random(in: 0..<header, using: &random)
                let length = Int.random(in: 1...min(64, header - from), using: &random)
                let to = Int.random(in: 0...header, using: &random)
                var mutated = bytes
                switch round % 4 {
                case 0: mutated.insert(contentsOf: bytes[from..<from + length], at: to)
                case 1: mutated.removeSubrange(from..<from + length)
                case 2: mutated = Array(bytes.prefix(from))
                default:
                    for index in 0..<min(length, bytes.count - to) {
                        mutated[to + index] = bytes[from + index]
                    }
                }
                Self.survives(mutated, "\(name) spans, round \(round)")
            }
        }
    }

    @Test func noiseIsRefused() {
        var random = SplitMix64(seed: 3)
        for round in 0..<200 {
            var bytes = GGUFBuilder(tensors: 3, keys: 3).bytes
            for _ in 0..<Int.random(in: 0..<400, using: &random) {
                bytes.append(UInt8.random(in: 0..<(round % 2 == 0 ? 255 : 14), using: &random))
            }
            Self.survives(bytes, "noise, round \(round)")
        }
    }

    @Test func damagedPartsOfASplitModelAreRefusedOrRead() throws {
        let directory = try TemporaryDirectory()
        var random = SplitMix64(seed: 4)
        let names = (1...3).map { "split-0000\($0)-of-00003.gguf" }
        let parts = try names.map { try Fixture.bytes($0) }
        for (name, bytes) in zip(names, parts) { try writeFile(directory.file(name), bytes) }
        for round in 0..<300 {
            let index = round % 3
            var mutated = parts[index]
            for _ in 0...Int.random(in: 0..<3, using: &random) {
                mutated[Int.random(in: 0..<320, using: &random) % mutated.count] ^=
                    1 << UInt8.random(in: 0..<8, using: &random)
            }
            try writeFile(directory.file(names[index]), mutated)
            do {
                let file = try GGUFFile(path: directory.file(names[round / 3 % 3]))
                #expect(file.paths.count == 3 || file.paths.count == 1, "round \(round)")
                for (tensor, size) in file.tensors.map({ ($0, file.fileSizes[$0.fileIndex]) }) {
                    #expect(tensor.fileOffset + UInt64(tensor.byteCount) <= size)
                }
            } catch {
                #expect(!String(describing: error).contains("\n"))
            }
            try writeFile(directory.file(names[index]), parts[index])
        }
    }

    /// Address space of a process under a sanitizer is terabytes, and what it frees stays for a while.
    static let memoryCanBeMeasured = (processMemory("VmPeak") ?? .max) < 1 << 32

    @Test(.enabled(if: memoryCanBeMeasured, "a sanitizer's memory hides the process's own"))
    func statedNumbersAllocateNothing() throws {
        let peak = try #require(processMemory("VmPeak"))
        let resident = try #require(processMemory("VmHWM"))
        for exponent in 8..<64 {
            let count = UInt64(1) << UInt64(exponent)
            Self.survives(
                GGUFBuilder(tensors: count).bytes + [UInt8](repeating: 0, count: 4096), "tensors")
            Self.survives(
                GGUFBuilder(keys: count).bytes + [UInt8](repeating: 0, count: 4096), "keys")
            for type in GGUFValueType.allCases {
                var builder = GGUFBuilder(keys: 1)
                builder.key("k", .array)
                builder.array(type, count: count)
                builder.raw([UInt8](repeating: 0, count: 4096))
                Self.survives(builder.bytes, "array of \(type.name)")
            }
            var string = GGUFBuilder(keys: 1)
            string.key("k", .string)
            string.integer(count)
            Self.survives(string.bytes, "string")
        }
        // In kB; other tests run beside this one.
        #expect(try #require(processMemory("VmHWM")) - resident < 64 << 10)
        #expect(try #require(processMemory("VmPeak")) - peak < 2 << 20)
    }
}

/// A figure of /proc/self/status, in kB.
private func processMemory(_ field: String) -> Int? {
    guard let status = try? readFile("/proc/self/status") else { return nil }
    let line = String(decoding: status, as: UTF8.self).split(separator: "\n")
        .first { $0.hasPrefix(field + ":") }
    return line?.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first
        .flatMap { Int($0) }
}

/// Steele, Lea and Flood's generator: the same numbers everywhere from a seed.
struct SplitMix64: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
