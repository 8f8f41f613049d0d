import CAllocationCounter
import Glibc
import ModelFormats
import Testing

@testable import Inference

/// The tiny models that tools/make_model_fixtures.py writes, each with ids and the logits
/// transformers gives.
enum Fixture {
    static let names = [
        "qwen3moe-f32", "qwen3moe-bf16", "qwen3moe-q8_0", "qwen3moe-k-quants", "qwen3moe-ternary",
        "olmoe-f16", "llama-moe-f32",
    ]

    /// For tests of what several threads do, again and again: under the thread sanitizer, which is
    /// many times slower, one model of each architecture. Formats of weights know of no threads.
    static let parallelNames: [String] = {
        guard thread_sanitizer_watches() != 0 else { return names }
        print("skipped the tiny models of other formats, in tests that vary threads")
        return ["qwen3moe-k-quants", "olmoe-f16", "llama-moe-f32"]
    }()

    static func path(_ file: String) -> String {
        let tests = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(2)
        return tests.joined(separator: "/") + "/Fixtures/models/" + file
    }

    static func model(_ name: String) throws -> ModelDescription {
        try ModelDescription(file: GGUFFile(path: path(name + ".gguf")))
    }

    static func ids(_ name: String) throws -> [Int32] {
        let array = try NumPyArray(path(name + ".ids.npy"))
        return unsafe array.bytes.withUnsafeBytes { raw in
            (0..<array.shape[0]).map { index in
                switch array.type {
                case "<i8":
                    unsafe Int32(raw.loadUnaligned(fromByteOffset: index * 8, as: Int64.self))
                default: unsafe raw.loadUnaligned(fromByteOffset: index * 4, as: Int32.self)
                }
            }
        }
    }

    /// (tokens, vocabulary), row-major.
    static func logits(_ name: String) throws -> [Float] {
        let array = try NumPyArray(path(name + ".logits.npy"))
        return unsafe array.bytes.withUnsafeBytes { raw in
            (0..<array.bytes.count / 4).map {
                unsafe raw.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self)
            }
        }
    }

    /// An engine for one of the models, on one thread; `change` adjusts its options.
    static func engine(
        _ name: String, _ change: (inout EngineOptions) throws -> Void = { _ in }
    ) throws -> Engine {
        let model = try model(name)
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 64
        options.threads = 1
        try change(&options)
        return try Engine(
            model: model, options: options, plan: MemoryPlan(model: model, options: options))
    }

    /// The logits after each of `ids`, under the options that `change` makes.
    static func compute(
        _ name: String, _ ids: [Int32], _ change: (inout EngineOptions) -> Void = { _ in }
    ) throws -> [Float] {
        var engine = try engine(name, change)
        var all: [Float] = []
        try unsafe engine.everyLogit(of: ids) { row in all += unsafe Array(row) }
        return all
    }
}

/// As much of NumPy's format as the fixtures use.
struct NumPyArray {
    var type: String
    var shape: [Int]
    var bytes: [UInt8]

    init(_ path: String) throws {
        let file = try unsafe #require(unsafe fopen(path, "rb"), "\(path) is missing")
        defer { unsafe fclose(file) }
        var all: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = unsafe fread(&chunk, 1, chunk.count, file)
            if count == 0 { break }
            all += chunk[..<count]
        }
        let headerLength = Int(all[8]) | Int(all[9]) << 8
        let header = String(decoding: all[10..<(10 + headerLength)], as: UTF8.self)
        func between(_ start: String, _ end: Character) -> Substring {
            var rest = header[...]
            while !rest.hasPrefix(start) { rest = rest.dropFirst() }
            return rest.dropFirst(start.count).prefix { $0 != end }
        }
        type = String(between("'descr': '", "'"))
        shape = between("'shape': (", ")").split(separator: ",").compactMap {
            Int($0.filter(\.isNumber))
        }
        bytes = Array(all[(10 + headerLength)...])
    }
}
