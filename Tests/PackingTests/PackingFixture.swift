// Models to pack, files to pack them to, and a run of them.

import ExpertStreaming
import Glibc
import Inference
import Packing
import Quantization
import Testing

@testable import ModelFormats

enum Fixture {
    static let names = [
        "qwen3moe-f32", "qwen3moe-bf16", "qwen3moe-q8_0", "qwen3moe-k-quants", "olmoe-f16",
        "llama-moe-f32",
    ]

    static func path(_ name: String) -> String {
        "/" + #filePath.split(separator: "/").dropLast(2).joined(separator: "/")
            + "/Fixtures/models/\(name).gguf"
    }

    static func model(_ path: String) throws -> ModelDescription {
        try ModelDescription(file: ModelFile(path: path))
    }

    static func options(planes: String? = nil, zstd: Int? = nil) -> PackingOptions {
        var options = PackingOptions(packedBy: "a test")
        options.planes = planes.flatMap { PlaneWidths($0) }
        options.compressionLevel = zstd
        return options
    }

    /// The bits of the logits after each of some ids.
    static func logits(_ path: String) throws -> [UInt32] {
        let model = try model(path)
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 32
        options.threads = 1
        options.cache = .multiple(1)
        let plan = try MemoryPlan(model: model, options: options)
        var engine = try Engine(model: model, options: options, plan: plan)
        var all: [UInt32] = []
        let ids = (0..<16).map { Int32($0 * 37 % model.vocabularyCount) }
        try unsafe engine.everyLogit(of: ids) { row in all += unsafe row.map(\.bitPattern) }
        return all
    }
}

func readFile(_ path: String) throws -> [UInt8] {
    let file = try unsafe #require(unsafe fopen(path, "rb"), "\(path) is missing")
    defer { unsafe fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 18)
    while true {
        let count = unsafe fread(&chunk, 1, chunk.count, file)
        if count == 0 { return bytes }
        bytes += chunk[..<count]
    }
}

/// A path in the temporary directory, whose file is removed in the end.
final class TemporaryFile {
    let path: String

    init(_ bytes: [UInt8] = []) throws {
        var template = Array("/tmp/sluice-packing-XXXXXX".utf8CString)
        let descriptor = unsafe mkstemp(&template)
        try #require(descriptor >= 0)
        close(descriptor)
        path = unsafe template.withUnsafeBufferPointer {
            unsafe String(cString: $0.baseAddress!)
        }
        try write(bytes)
    }

    func write(_ bytes: [UInt8]) throws {
        let file = try unsafe #require(unsafe fopen(path, "wb"))
        defer { unsafe fclose(file) }
        let written = unsafe bytes.withUnsafeBytes {
            unsafe $0.isEmpty ? 0 : fwrite($0.baseAddress!, 1, $0.count, file)
        }
        try #require(written == bytes.count)
    }

    deinit { _ = unsafe unlink(path) }
}

/// The k-quants fixture with experts of another format, whose bytes are noise.
struct NoisyModel {
    /// The file, and the bytes of gate, up and down of all experts.
    let bytes: [UInt8]
    let experts: [[UInt8]]

    init(_ format: BlockFormat, seed: UInt64) throws {
        let path = Fixture.path("qwen3moe-k-quants")
        let source = try readFile(path)
        let file = try GGUFFile(path: path)
        var random = Random(state: seed)
        var experts: [[UInt8]] = []
        var data: [UInt8] = []
        var descriptions: [UInt8] = []
        for tensor in file.tensors {
            var content = Array(
                source[Int(tensor.fileOffset)..<Int(tensor.fileOffset) + tensor.byteCount])
            var stored = tensor.format
            if tensor.name.hasSuffix("_exps.weight") {
                let count = format.byteCount(elements: tensor.elementCount)
                content = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                stored = format
                experts.append(content)
            }
            descriptions.appendLittleEndian(UInt64(tensor.name.utf8.count))
            descriptions += Array(tensor.name.utf8)
            descriptions.appendLittleEndian(UInt32(tensor.shape.count))
            for length in tensor.shape { descriptions.appendLittleEndian(UInt64(length)) }
            descriptions.appendLittleEndian(stored.rawValue)
            descriptions.appendLittleEndian(UInt64(data.count))
            data += content
            data += [UInt8](repeating: 0, count: (32 - data.count % 32) % 32)
        }
        var bytes = Array("GGUF".utf8)
        bytes.appendLittleEndian(UInt32(3))
        bytes.appendLittleEndian(UInt64(file.tensors.count))
        bytes.appendLittleEndian(UInt64(file.metadata.keys.count))
        bytes += file.metadata.encoded + descriptions
        bytes += [UInt8](repeating: 0, count: (32 - bytes.count % 32) % 32)
        self.bytes = bytes + data
        self.experts = experts
    }

    private struct Random {
        var state: UInt64
        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state >> 33
        }
    }
}
