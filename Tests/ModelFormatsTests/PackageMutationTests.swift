// Damaged packages of every kind, with checksums that fit: each is refused in one line, or everything it
// says lies in the file. Nothing traps and nothing is allocated because a file states a number.

import Testing

@testable import ModelFormats

@Suite struct PackageMutationTests {
    private let bytes: [UInt8]

    init() throws { bytes = try PackageExample(compressionLevel: nil).bytes() }

    /// Opens `bytes` and, when that works, looks at all there is. Returns whether it worked.
    @discardableResult
    static func survives(_ bytes: [UInt8], _ mutation: String) -> Bool {
        do throws(ModelFileError) {
            let package = try Package(bytes: bytes, name: "mutated")
            check(package, size: UInt64(bytes.count), mutation)
            var verifier = try PackageVerifier(bytes: bytes, name: "mutated")
            try verifier.run()
            #expect(verifier.damages.count <= PackageVerifier.limit)
            return true
        } catch {
            let text = error.description
            #expect(text.hasPrefix("mutated: "), "\(mutation)")
            #expect(!text.unicodeScalars.contains { $0.value < 32 }, "\(mutation)")
            #expect(text.utf8.count < 4000, "\(mutation)")
            return false
        }
    }

    /// What a package that was accepted promises.
    static func check(_ package: Package, size: UInt64, _ mutation: String) {
        var end: UInt64 = 4096
        for tensor in package.tensors {
            #expect(tensor.fileOffset >= end, "\(mutation)")
            let stored = tensor.storage?.storedBytes(tensor.byteCount) ?? 0
            #expect(stored > 0, "\(mutation)")
            end = tensor.fileOffset + UInt64(stored)
            #expect(end <= size, "\(mutation)")
        }
        for layer in 0..<package.layerCount {
            for expert in 0..<min(package.expertCount, 8) {
                for plane in 0..<package.planesPerExpert {
                    _ = package.checksum(layer: layer, expert: expert, plane: plane)
                    for part in 0..<3 {
                        let extent = package.extent(
                            layer: layer, expert: expert, plane: plane, part: part)
                        #expect(extent.offset >= end, "\(mutation)")
                        #expect(extent.offset + UInt64(extent.byteCount) <= size, "\(mutation)")
                    }
                }
            }
        }
        for key in package.metadata.keys { #expect(package.metadata[key] != nil, "\(mutation)") }
    }

    /// Where damage matters: the header's numbers, and the sections that are read on opening.
    private func places() throws -> [Range<Int>] {
        try [0..<160]
            + [1, 4, 5].map { kind in try #require(bytes.packageSection(kind)).range }
    }

    @Test func flippedBits() throws {
        var random = SplitMix64(seed: 11)
        var accepted = 0
        for place in try places() {
            for round in 0..<250 {
                var mutated = bytes
                for _ in 0...Int.random(in: 0..<3, using: &random) {
                    mutated[Int.random(in: place, using: &random)] ^=
                        1 << UInt8.random(in: 0..<8, using: &random)
                }
                if Self.survives(mutated.resealed, "bit flips in \(place), round \(round)") {
                    accepted += 1
                }
            }
        }
        // Flips in names and checksums leave a package.
        #expect(accepted > 0)
    }

    @Test func extremesInTheHeaderAndTheTable() throws {
        let extremes: [UInt64] = [
            0, 1, 0x7F, 0xFF, 0xFFF, 0x1000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 32,
            1 << 62, .max >> 1, 1 << 63, .max - 4095, .max,
        ]
        let table = try #require(bytes.packageSection(4)).range
        for place in [0..<144, table] {
            for at in stride(from: place.lowerBound, to: place.upperBound - 8, by: 4) {
                for (index, value) in extremes.enumerated() {
                    var mutated = bytes
                    if (at + index) % 8 == 0 {
                        mutated.set(value, at: at)
                    } else {
                        mutated.set(UInt32(truncatingIfNeeded: value), at: at)
                    }
                    Self.survives(mutated.resealed, "\(value) at \(at)")
                }
            }
        }
    }

    @Test func everyNumberOfTheManifestTakenToItsExtremes() throws {
        let section = try #require(bytes.packageSection(5)).range
        let text = Array(bytes[section])
        let extremes = [
            "0", "-1", "1", "4095", "2147483648", "9223372036854775807", "9223372036854775808",
            "-9223372036854775808", "1e400", "0.5", "null", "\"\"", "[]", "{}", "true",
        ]
        var start = 0
        var numbers = 0
        while start < text.count {
            guard (0x30...0x39).contains(text[start]) else {
                start += 1
                continue
            }
            let end = text[start...].firstIndex { !(0x30...0x39).contains($0) } ?? text.count
            for extreme in extremes[(numbers % 3)...] where numbers % 5 == 0 || extreme.count > 9 {
                let changed = Array(text[..<start]) + Array(extreme.utf8) + Array(text[end...])
                Self.survives(bytes.replacingManifest(changed), "\(extreme) at \(start)")
            }
            numbers += 1
            start = end
        }
        #expect(numbers > 100)
    }

    @Test func manifestsCutAndMixed() throws {
        let section = try #require(bytes.packageSection(5)).range
        let text = Array(bytes[section])
        var random = SplitMix64(seed: 12)
        for round in 0..<300 {
            var mutated = text
            let from = Int.random(in: 0..<text.count, using: &random)
            let length = Int.random(in: 1...min(80, text.count - from), using: &random)
            let to = Int.random(in: 0...text.count, using: &random)
            switch round % 4 {
            case 0: mutated.insert(contentsOf: text[from..<from + length], at: to)
            case 1: mutated.removeSubrange(from..<from + length)
            case 2: mutated = Array(text[..<from])
            default: mutated.insert(UInt8.random(in: 0...255, using: &random), at: to)
            }
            Self.survives(bytes.replacingManifest(mutated), "manifest, round \(round)")
        }
    }

    @Test func filesCutAnywhere() {
        for count in stride(from: 0, to: bytes.count, by: 997) {
            #expect(!Self.survives(Array(bytes.prefix(count)), "cut at \(count)"))
        }
    }
}
