internal import ExpertStreaming
public import Inference

/// A recording with router inputs, in place of the text it was made of.
///
/// Router logits are computed from the recorded inputs, which are of 16 bits, by the model's routers;
/// the choices are those recorded. A recording may be one long sequence, so it is cut into pieces,
/// which count as sequences.
public struct TraceRouting: RoutingSource {
    public let model: ModelFingerprint
    public let sequenceCount: Int
    /// Tokens of the sequences taken.
    public let tokenCount: Int
    private let path: String
    private let routers: [[Float]]
    private let pieceTokens: Int
    private let takes: @Sendable (Int) -> Bool

    /// - Parameters:
    ///   - path: A trace file with router inputs.
    ///   - routers: Of all layers, each (experts, embedding).
    ///   - pieceTokens: Most tokens of a sequence.
    ///   - takes: Which of the pieces, counted from 0, belong to this source.
    /// - Throws: `TraceError` where the file is no trace, `ProfilingError` where it is another model's
    ///   or has no inputs.
    public init(
        path: String, model: ModelDescription, routers: [[Float]], pieceTokens: Int,
        takes: @escaping @Sendable (Int) -> Bool
    ) throws {
        precondition(pieceTokens > 0, "pieces of nothing")
        self.path = path
        self.model = ModelFingerprint(model)
        self.routers = routers
        self.pieceTokens = pieceTokens
        self.takes = takes
        var reader = try TraceReader(path: path)
        try TraceRouting.check(reader.header, path, model)
        var pieces = Pieces(pieceTokens: pieceTokens)
        var (sequences, tokens) = (0, 0)
        while let record = try reader.next() {
            pieces.advance(to: record)
            guard takes(pieces.index) else { continue }
            tokens += 1
            if pieces.position == 0 { sequences += 1 }
        }
        sequenceCount = sequences
        tokenCount = tokens
    }

    private static func check(
        _ header: TraceHeader, _ path: String, _ model: ModelDescription
    ) throws(ProfilingError) {
        let shape = header.shape
        guard shape.layerCount == model.expertLayerCount,
            shape.expertsPerLayer == model.expertCount,
            shape.expertsPerToken == model.expertsPerToken
        else {
            throw ProfilingError(
                "\(path): was recorded of \(shape.layerCount) layers of \(shape.expertsPerLayer) experts, "
                    + "top-\(shape.expertsPerToken); the model has \(model.expertLayerCount) of "
                    + "\(model.expertCount), top-\(model.expertsPerToken)")
        }
        guard header.inputLength > 0 else {
            throw ProfilingError(
                "\(path): has no router inputs; record it with sluice trace --inputs")
        }
        guard header.inputLength == model.embeddingLength else {
            throw ProfilingError(
                "\(path): router inputs of \(header.inputLength) elements, where the model's have "
                    + "\(model.embeddingLength)")
        }
    }

    public func forEachSample(_ receive: @escaping (RoutingSample) -> Void) throws {
        var reader = try TraceReader(path: path)
        var pieces = Pieces(pieceTokens: pieceTokens)
        var sequence = -1
        let k = model.expertsPerToken
        var chosen = [Int32](repeating: 0, count: k)
        var logits = [Float](repeating: 0, count: model.experts)
        while let record = try reader.next() {
            pieces.advance(to: record)
            guard takes(pieces.index) else { continue }
            if pieces.position == 0 { sequence += 1 }
            for layer in 0..<model.layers {
                for rank in 0..<k {
                    let expert = Int(record.experts[layer * k + rank])
                    guard expert < model.experts else {
                        throw ProfilingError(
                            "\(path): token \(pieces.token), layer \(layer): no expert \(expert) among "
                                + "\(model.experts); a predictor needs every token's choice")
                    }
                    chosen[rank] = Int32(expert)
                }
                unsafe record.inputs.withUnsafeBufferPointer { inputs in
                    let input = unsafe inputs.baseAddress! + layer * model.embedding
                    unsafe computeLogits(layer, input, &logits)
                    let sample = unsafe RoutingSample(
                        layer: layer, sequence: sequence, position: pieces.position, tokens: 1,
                        input: input, routerLogits: &logits, chosen: &chosen)
                    receive(sample)
                }
            }
        }
    }

    private func computeLogits(
        _ layer: Int, _ input: UnsafePointer<Float>, _ logits: inout [Float]
    ) {
        unsafe routers[layer].withUnsafeBufferPointer { router in
            for expert in 0..<model.experts {
                logits[expert] = unsafe LinearMap.product(
                    router.baseAddress! + expert * model.embedding, input, model.embedding)
            }
        }
    }
}

/// Where a record lies among the pieces of a recording.
private struct Pieces {
    let pieceTokens: Int
    /// The current record, its piece, and its place there.
    private(set) var token = -1
    private(set) var index = -1
    private(set) var position = 0
    private var sequence: UInt32 = 0

    init(pieceTokens: Int) { self.pieceTokens = pieceTokens }

    mutating func advance(to record: TraceRecord) {
        token += 1
        position += 1
        if token == 0 || record.sequence != sequence || position == pieceTokens {
            index += 1
            position = 0
            sequence = record.sequence
        }
    }
}
