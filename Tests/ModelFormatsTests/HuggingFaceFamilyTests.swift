// Every family's checkpoint against a GGUF file of the same model, which Python wrote as llama.cpp's
// converter would: tools/reference/tiny_models.py makes both. Those in Tests/Fixtures/families are
// small; SLUICE_FAMILIES may name a folder with others, of any dimensions.

import Foundation
import ModelFormats
import Testing

@Suite struct HuggingFaceFamilyTests {
    /// A model as both.
    struct Twins: CustomTestStringConvertible {
        let name: String
        let directory: String
        let gguf: String
        var testDescription: String { name }
    }

    static let all: [Twins] = {
        let environment = ProcessInfo.processInfo.environment["SLUICE_FAMILIES"]
        let folders =
            [Fixture.directory + "/../families"]
            + (environment?.split(separator: ":").map { String($0) } ?? [])
        var found: [Twins] = []
        for folder in folders {
            let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
            for name in names.sorted() {
                let twins = Twins(
                    name: name, directory: "\(folder)/\(name)/hf",
                    gguf: "\(folder)/\(name)/\(name).gguf")
                let exist = [twins.directory + "/config.json", twins.gguf].allSatisfy {
                    FileManager.default.fileExists(atPath: $0)
                }
                if exist { found.append(twins) }
            }
        }
        return found
    }()

    /// Keys that say something about the file rather than the model; and that of the expression by which
    /// text is cut, of which several names mean the same.
    static let incidental: Set<String> = [
        "general.name", "general.file_type", "general.quantization_version", "general.description",
        "general.license", "general.type", "general.architecture", "tokenizer.ggml.pre",
    ]

    @Test(
        .enabled(if: !all.isEmpty, "no models in Tests/Fixtures/families or $SLUICE_FAMILIES"),
        arguments: all)
    func keysAreThoseOfTheGGUF(twins: Twins) throws {
        let ours = try HuggingFaceModel(directory: twins.directory).metadata
        let theirs = try GGUFFile(path: twins.gguf).metadata
        #expect(
            try ours.string("general.architecture") == theirs.string("general.architecture"))
        // Small directories come without a tokenizer.
        let hasTokenizer = FileManager.default.fileExists(
            atPath: twins.directory + "/tokenizer.json")
        for key in theirs.keys where !Self.incidental.contains(key) {
            if !hasTokenizer, key.hasPrefix("tokenizer.") { continue }
            if let array = try? theirs.array(key) {
                let found = try #require(try ours.array(key), "\(key)")
                #expect(found.count == array.count, "\(key)")
                for index in 0..<min(found.count, array.count) {
                    #expect(found.string(at: index) == array.string(at: index), "\(key) \(index)")
                    #expect(found.integer(at: index) == array.integer(at: index), "\(key) \(index)")
                }
                continue
            }
            guard ours.keys.contains(key) else {
                // Says nothing where the context was not stretched.
                let isUnstretched =
                    key.hasSuffix("rope.scaling.original_context_length")
                    && theirs.keys.allSatisfy { !$0.hasSuffix("rope.scaling.attn_factor") }
                if isUnstretched { continue }
                Issue.record("\(key) is missing, it is \(String(describing: theirs[key]))")
                continue
            }
            #expect(ours.type(of: key) == theirs.type(of: key), "\(key)")
            #expect(ours[key]?.number == theirs[key]?.number, "\(key)")
            #expect((try? ours.bool(key)) == (try? theirs.bool(key)), "\(key)")
            #expect((try? ours.string(key)) == (try? theirs.string(key)), "\(key)")
        }
    }

    @Test(
        .enabled(if: !all.isEmpty, "no models in Tests/Fixtures/families or $SLUICE_FAMILIES"),
        arguments: all)
    func tensorsAreThoseOfTheGGUF(twins: Twins) throws {
        let model = try HuggingFaceModel(directory: twins.directory)
        let file = try GGUFFile(path: twins.gguf)
        let whole = try Data(contentsOf: URL(filePath: twins.gguf), options: .alwaysMapped)
        var ours = Presented(model)
        for tensor in file.tensors {
            let bytes = [UInt8](whole[Int(tensor.fileOffset)...].prefix(tensor.byteCount))
            guard let found = try ours.take(tensor) else {
                Issue.record("\(tensor.name) is missing")
                continue
            }
            // A vector may be written as a matrix of one row.
            let shape = tensor.shape.last == 1 ? tensor.shape.dropLast() : tensor.shape
            #expect(found.shape == Array(shape), "\(tensor.name)")
            if found.format == tensor.format, found.bytes == bytes { continue }
            guard let expected = Numbers(bytes, tensor.format),
                let numbers = Numbers(found.bytes, found.format)
            else {
                Issue.record("\(tensor.name) differs in \(tensor.format.name)")
                continue
            }
            // What another library's exp and pow make of a number may differ in its last bits.
            let tolerance: Float =
                tensor.name.hasSuffix(".ssm_a") || tensor.name.hasPrefix("rope_") ? 1e-6 : 0
            #expect(expected.values.count == numbers.values.count, "\(tensor.name)")
            let differ = zip(expected.values, numbers.values).filter {
                abs($0 - $1) > tolerance * abs($0) || $0.isNaN
            }
            #expect(differ.isEmpty, "\(tensor.name): \(differ.count) of \(numbers.values.count)")
        }
        #expect(ours.left.isEmpty, "\(ours.left.keys.sorted())")
    }

    /// Configurations and headers with bytes changed: a line, or a model whose tensors lie in its files.
    @Test(
        .enabled(if: !all.isEmpty, "no models in Tests/Fixtures/families or $SLUICE_FAMILIES"),
        arguments: all)
    func damageIsReadOrRefused(twins: Twins) throws {
        var sound: [String: [UInt8]] = [:]
        for name in ["config.json", "model.safetensors"] {
            sound[name] = [UInt8](try Data(contentsOf: URL(filePath: "\(twins.directory)/\(name)")))
        }
        var random = SplitMix64(seed: 21)
        let alphabet = Array("0123456789[]{},:\"-e.tfn".utf8)
        let header = sound["model.safetensors"]![..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
        var refused = 0
        for round in 0..<60 {
            var files = sound
            let name = round % 3 == 0 ? "model.safetensors" : "config.json"
            var bytes = files[name]!
            let range = name == "config.json" ? 0..<bytes.count : 8..<8 + header
            for _ in 0...Int.random(in: 0..<3, using: &random) {
                let at = Int.random(in: range, using: &random)
                // Digits for digits more often than not: other counts rather than other documents.
                let isDigit = 0x30...0x39 ~= bytes[at]
                bytes[at] = (isDigit ? alphabet[..<10] : alphabet[...]).randomElement(
                    using: &random)!
            }
            files[name] = bytes
            do {
                let model = try HuggingFaceModel(files: files, name: "dir")
                for tensor in model.tensors {
                    let end = tensor.fileOffset + UInt64(tensor.byteCount)
                    #expect(end <= model.fileSizes[tensor.fileIndex])
                    #expect(try model.bytes(of: tensor).count == tensor.byteCount)
                }
            } catch {
                refused += 1
                #expect("\(error)".hasPrefix("dir"))
                #expect(!"\(error)".unicodeScalars.contains { $0.value < 32 })
            }
        }
        #expect(refused > 15)
    }
}

/// Plain numbers, whatever their width.
private struct Numbers {
    let values: [Float]

    init?(_ bytes: [UInt8], _ format: BlockFormat) {
        func bits(_ index: Int, _ width: Int) -> UInt32 {
            (0..<width).reduce(0) { $0 | UInt32(bytes[index * width + $1]) << UInt32(8 * $1) }
        }
        switch format {
        case .f32:
            values = (0..<bytes.count / 4).map { Float(bitPattern: bits($0, 4)) }
        case .bf16:
            values = (0..<bytes.count / 2).map { Float(bitPattern: bits($0, 2) << 16) }
        case .f16:
            values = (0..<bytes.count / 2).map { Float(Float16(bitPattern: UInt16(bits($0, 2)))) }
        default: return nil
        }
    }
}

/// The tensors of a directory, put together as a GGUF file has them.
private struct Presented {
    let model: HuggingFaceModel
    var left: [String: GGUFTensor]

    struct Whole {
        var shape: [Int]
        var format: BlockFormat
        var bytes: [UInt8]
    }

    init(_ model: HuggingFaceModel) {
        self.model = model
        left = Dictionary(uniqueKeysWithValues: model.tensors.map { ($0.name, $0) })
    }

    private mutating func read(_ name: String) throws -> Whole? {
        guard let tensor = left.removeValue(forKey: name) else { return nil }
        return Whole(
            shape: tensor.shape, format: tensor.format, bytes: try model.bytes(of: tensor))
    }

    /// What `tensor` of the GGUF file is here.
    mutating func take(_ tensor: GGUFTensor) throws -> Whole? {
        if tensor.name.hasSuffix("_exps.weight"), left[tensor.name] == nil {
            return try stacked(tensor)
        }
        if tensor.name.contains("attn_k_b.") || tensor.name.contains("attn_v_b.") {
            return try half(tensor)
        }
        guard var found = try read(tensor.name) else { return nil }
        if try model.metadata.bool("sluice.rope.halves") == true,
            tensor.name.contains(".attn_q.") || tensor.name.contains(".attn_k.")
        {
            try interleave(&found, keys: tensor.name.contains(".attn_k."))
        }
        return found
    }

    private mutating func stacked(_ tensor: GGUFTensor) throws -> Whole? {
        let base = tensor.name.replacing("_exps.weight", with: ".")
        var all: Whole?
        for expert in 0..<tensor.shape[2] {
            guard let one = try read("\(base)\(expert).weight") else { return nil }
            if all == nil {
                all = Whole(shape: one.shape + [tensor.shape[2]], format: one.format, bytes: [])
            }
            all?.bytes += one.bytes
        }
        return all
    }

    /// Keys or values of `attn_kv_b`: of each head (nope + value, rank), the first transposed.
    private mutating func half(_ tensor: GGUFTensor) throws -> Whole? {
        let isKey = tensor.name.contains("attn_k_b.")
        let joined = tensor.name.replacing(isKey ? "attn_k_b" : "attn_v_b", with: "attn_kv_b")
        guard let source = left[joined] else { return nil }
        let bytes = try model.bytes(of: source)
        if !isKey { left[joined] = nil }
        let size = source.format.bytesPerBlock
        let rank = source.shape[0]
        let heads = tensor.shape[2]
        let rows = source.shape[1] / heads
        let part = isKey ? tensor.shape[0] : tensor.shape[1]
        var out: [UInt8] = []
        for head in 0..<heads {
            func element(_ row: Int, _ column: Int) -> ArraySlice<UInt8> {
                bytes[(((head * rows + row) * rank + column) * size)...].prefix(size)
            }
            if isKey {
                for column in 0..<rank { for row in 0..<part { out += element(row, column) } }
            } else {
                for row in rows - part..<rows {
                    for column in 0..<rank { out += element(row, column) }
                }
            }
        }
        return Whole(
            shape: isKey ? [part, rank, heads] : [rank, part, heads], format: source.format,
            bytes: out)
    }

    /// Rows of each head in the order of GGUF's pairs, which are neighbours.
    private func interleave(_ whole: inout Whole, keys: Bool) throws {
        let key = "llama.attention.head_count" + (keys ? "_kv" : "")
        let heads = try #require(try model.metadata.integer(key))
        let rows = whole.shape.count == 1 ? whole.shape[0] : whole.shape[1]
        let rowBytes = whole.bytes.count / rows
        let size = rows / heads
        var out: [UInt8] = []
        for row in 0..<rows {
            let place = row % size
            let source = row - place + place % 2 * (size / 2) + place / 2
            out += whole.bytes[(source * rowBytes)...].prefix(rowBytes)
        }
        whole.bytes = out
    }
}
