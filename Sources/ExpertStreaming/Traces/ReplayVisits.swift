/// A trace as the sequence of requests a cache sees: layer by layer, token by token.
struct ReplayVisits {

    /// One layer's request.
    struct Visit {
        var layer: Int
        /// Its experts, in `experts`.
        var first: Int
        var count: Int
        /// The step this is part of: a token, or tokens computed together.
        var step: Int
        var beginsStep: Bool
        var beginsSequence: Bool
        var isDecode: Bool
    }

    private(set) var visits: [Visit] = []
    /// Expert indices (layer * experts per layer + expert), distinct within a visit.
    private(set) var experts: [Int32] = []
    private(set) var stepCount = 0
    /// Tokens by phase, that some visit belongs to.
    private(set) var prefillTokens = 0
    private(set) var decodeTokens = 0

    init(_ trace: RoutingTrace, prefill: ReplaySettings.Prefill) {
        var token = 0
        var sequence: UInt32?
        while token < trace.tokenCount {
            var end = token + 1
            if trace.phases[token] == .prefill {
                if prefill == .together {
                    while end < trace.tokenCount, trace.phases[end] == .prefill,
                        !trace.beginsSequence(token: end)
                    {
                        end += 1
                    }
                }
                guard prefill != .skipped else {
                    token = end
                    continue
                }
                prefillTokens += end - token
            } else {
                decodeTokens += 1
            }
            add(token..<end, of: trace, beginsSequence: sequence != trace.sequences[token])
            sequence = trace.sequences[token]
            token = end
        }
    }

    func experts(of visit: Visit) -> ArraySlice<Int32> {
        experts[visit.first..<visit.first + visit.count]
    }

    private mutating func add(
        _ tokens: Range<Int>, of trace: RoutingTrace, beginsSequence: Bool
    ) {
        var isFirst = true
        for layer in 0..<trace.shape.layerCount {
            let first = experts.count
            // Of an expert that several tokens use, the last use counts: it decides how recently
            // the expert was used.
            var chosen: [UInt16] = []
            for token in tokens.reversed() {
                for expert in trace.experts(token: token, layer: layer).reversed()
                where !chosen.contains(expert) {
                    chosen.append(expert)
                }
            }
            guard !chosen.isEmpty else { continue }
            for expert in chosen.reversed() {
                experts.append(Int32(layer * trace.shape.expertsPerLayer + Int(expert)))
            }
            visits.append(
                Visit(
                    layer: layer, first: first, count: chosen.count, step: stepCount,
                    beginsStep: isFirst, beginsSequence: isFirst && beginsSequence,
                    isDecode: trace.phases[tokens.lowerBound] == .decode))
            isFirst = false
        }
        if !isFirst { stepCount += 1 }
    }
}
