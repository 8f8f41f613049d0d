import FoundationEssentials
import ModelFormats

@testable import Inference
@testable import Profiling

/// The files the tests of this room read, and small models of shape only.
enum Fixture {
    static let tests = #filePath.split(separator: "/", omittingEmptySubsequences: false)
        .dropLast(2).joined(separator: "/")

    /// A file that tools/make_profiling_fixtures.py wrote.
    static func json<Value: Decodable>(_ name: String, as type: Value.Type) throws -> Value {
        let path = "\(tests)/Fixtures/profiling/\(name).json"
        return try JSONDecoder().decode(type, from: Data(try WholeFile.read(path, limit: 1 << 20)))
    }

    /// A tiny model of Tests/Fixtures/models.
    static func model(_ name: String) throws -> ModelDescription {
        try ModelDescription(file: GGUFFile(path: "\(tests)/Fixtures/models/\(name).gguf"))
    }

    /// The ids of a tiny model's fixture, in NumPy's format 1.0.
    static func ids(_ name: String) throws -> [Int32] {
        let (header, data) = try array("\(name).ids.npy")
        let width = header.contains("<i8") ? 8 : 4
        return unsafe data.withUnsafeBytes { bytes in
            stride(from: 0, to: bytes.count, by: width).map {
                unsafe bytes.loadUnaligned(fromByteOffset: $0, as: Int32.self)
            }
        }
    }

    /// (tokens, vocabulary): what transformers computes after each of them.
    static func logits(_ name: String) throws -> [Float] {
        let (_, data) = try array("\(name).logits.npy")
        return unsafe data.withUnsafeBytes { bytes in
            stride(from: 0, to: bytes.count, by: 4).map {
                unsafe bytes.loadUnaligned(fromByteOffset: $0, as: Float.self)
            }
        }
    }

    private static func array(_ file: String) throws -> (header: String, data: [UInt8]) {
        let bytes = try WholeFile.read("\(tests)/Fixtures/models/\(file)", limit: 1 << 24)
        let length = 10 + Int(bytes[8]) + Int(bytes[9]) << 8
        return (String(decoding: bytes[10..<length], as: UTF8.self), Array(bytes[length...]))
    }

    static func engine(
        _ model: ModelDescription, _ change: (inout EngineOptions) -> Void = { _ in }
    ) throws -> Engine {
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 64
        options.threads = 1
        change(&options)
        return try Engine(
            model: model, options: options, plan: MemoryPlan(model: model, options: options))
    }

    static func shape(
        layers: Int, experts: Int, expertsPerToken: Int, embedding: Int, name: String = "shape"
    ) -> ModelFingerprint {
        ModelFingerprint(
            name: name, architecture: "qwen3moe", layers: layers, experts: experts,
            expertsPerToken: expertsPerToken, embedding: embedding, tensorTableHash: 7)
    }
}

/// A small generator of numbers, the same on every machine.
struct Random {
    var state: UInt64

    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state >> 33
    }

    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

    /// Even between -1 and 1.
    mutating func float() -> Float { Float(next()) / Float(1 << 30) - 1 }
}

/// One layer of a chunk, written out by hand; sizes follow from the shape given.
struct HandMadeLayer {
    var layer = 0
    var position = 0
    var ids: [Int32]
    var routerLogits: [Float]
    var input: [Float] = []
    var residual: [Float] = []
    var chosen: [Int32]
    var gateWeights: [Float] = []
    var outputRow: [Int32] = []
    var expertOutput: [Float] = []

    func observe(_ body: (LayerObservation) -> Void) {
        unsafe ids.withUnsafeBufferPointer { ids in
            unsafe routerLogits.withUnsafeBufferPointer { routerLogits in
                unsafe input.withUnsafeBufferPointer { input in
                    unsafe residual.withUnsafeBufferPointer { residual in
                        unsafe chosen.withUnsafeBufferPointer { chosen in
                            unsafe observe(ids, routerLogits, input, residual, chosen, body)
                        }
                    }
                }
            }
        }
    }

    private func observe(
        _ ids: UnsafeBufferPointer<Int32>, _ routerLogits: UnsafeBufferPointer<Float>,
        _ input: UnsafeBufferPointer<Float>, _ residual: UnsafeBufferPointer<Float>,
        _ chosen: UnsafeBufferPointer<Int32>, _ body: (LayerObservation) -> Void
    ) {
        let none = UnsafeMutablePointer<Float>.allocate(capacity: 1)
        defer { unsafe none.deallocate() }
        // Positions, then sequences, which are all the first, then experts of each token.
        let places = UnsafeMutablePointer<Int32>.allocate(capacity: 3 * ids.count)
        defer { unsafe places.deallocate() }
        for index in ids.indices {
            unsafe places[index] = Int32(position + index)
            unsafe places[ids.count + index] = 0
            unsafe places[2 * ids.count + index] = Int32(chosen.count / ids.count)
        }
        unsafe gateWeights.withUnsafeBufferPointer { gates in
            unsafe outputRow.withUnsafeBufferPointer { rows in
                unsafe expertOutput.withUnsafeBufferPointer { outputs in
                    let rowBase = unsafe rows.baseAddress ?? chosen.baseAddress!
                    let observation = unsafe LayerObservation(
                        layer: layer, tokens: ids.count, ids: ids.baseAddress!,
                        positions: UnsafePointer(places),
                        sequences: UnsafePointer(places + ids.count),
                        routerLogits: routerLogits.baseAddress!,
                        input: input.baseAddress ?? UnsafePointer(none),
                        residual: residual.baseAddress ?? UnsafePointer(none),
                        chosen: chosen.baseAddress!,
                        gateWeights: gates.baseAddress ?? UnsafePointer(none),
                        rankCounts: UnsafePointer(places + 2 * ids.count), outputRow: rowBase,
                        expertOutput: outputs.baseAddress ?? UnsafePointer(none))
                    body(observation)
                }
            }
        }
    }
}
