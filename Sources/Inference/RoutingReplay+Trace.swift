public import ExpertStreaming

extension RoutingReplay {

    /// A recorded trace, to be forced on a model: the tokens that were decoded, and before them the
    /// end of the prompt that they followed, if the recording has that many tokens of it, and whole
    /// ones (some programs leave out the last layer of all but the last). Where nothing was
    /// decoded, all of it.
    ///
    /// A recording without gate weights weighs all experts alike.
    ///
    /// - Parameters:
    ///   - name: the trace's, for errors.
    ///   - promptTokens: tokens that will be computed before the first decode step.
    /// - Throws: `EngineError` for a model of another shape, and for a token of which a layer was
    ///   not recorded whole.
    public init(
        trace: RoutingTrace, name: String, model: ModelDescription, promptTokens: Int = 0
    ) throws(EngineError) {
        let (shape, k) = (trace.shape, trace.shape.expertsPerToken)
        try model.check(shape, name: name)
        let tokens = Self.tokens(of: trace, promptTokens: promptTokens)
        var experts: [Int32] = []
        var weights: [Float] = []
        experts.reserveCapacity(tokens.count * shape.layerCount * k)
        weights.reserveCapacity(experts.capacity)
        for token in tokens {
            for layer in 0..<shape.layerCount {
                let chosen = trace.experts(token: token, layer: layer)
                guard chosen.count == k else {
                    throw EngineError(
                        "\(name): of token \(token), layer \(layer) only \(chosen.count) of \(k) "
                            + "experts were recorded; record it anew, without --expert-top-p")
                }
                experts.append(contentsOf: chosen.map { Int32($0) })
                weights.append(
                    contentsOf: trace.hasGateWeights
                        ? Array(trace.gateWeights[chosen.startIndex..<chosen.endIndex])
                        : Array(repeating: 1 / Float(k), count: k))
            }
        }
        try self.init(
            layerCount: shape.layerCount, expertCount: model.expertCount, expertsPerToken: k,
            experts: experts, weights: weights)
    }

    private static func isWhole(_ token: Int, of trace: RoutingTrace) -> Bool {
        (0..<trace.shape.layerCount).allSatisfy {
            trace.experts(token: token, layer: $0).count == trace.shape.expertsPerToken
        }
    }

    /// The tokens to replay, in order.
    private static func tokens(of trace: RoutingTrace, promptTokens: Int) -> [Int] {
        let decoded = (0..<trace.tokenCount).filter { trace.phases[$0] == .decode }
        guard let first = decoded.first else { return Array(0..<trace.tokenCount) }
        let start = first - promptTokens
        guard promptTokens > 0, start >= 0,
            (start..<first).allSatisfy({ isWhole($0, of: trace) })
        else { return decoded }
        return Array(start..<first) + decoded
    }
}

extension ModelDescription {
    /// - Parameter name: the trace's, for errors.
    /// - Throws: `EngineError` where a trace of this shape cannot have been recorded of the model.
    public func check(_ shape: TraceShape, name: String) throws(EngineError) {
        // A trace that does not say what it is of knows no more than the highest expert it saw.
        let isAnonymous = shape.model.isEmpty && shape.architecture.isEmpty
        guard shape.layerCount == expertLayerCount, shape.expertsPerToken == expertsPerToken,
            isAnonymous
                ? shape.expertsPerLayer <= expertCount : shape.expertsPerLayer == expertCount
        else {
            throw EngineError(
                "\(name) chooses \(shape.expertsPerToken) of \(shape.expertsPerLayer) experts in "
                    + "\(shape.layerCount) layers, but \(self.name) chooses \(expertsPerToken) of "
                    + "\(expertCount) in \(expertLayerCount); record one on a model of that shape")
        }
    }
}
