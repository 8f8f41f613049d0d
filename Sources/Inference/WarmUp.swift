/// Which experts fill the cache between the prompt and the first token, as `--warm-up` takes it.
public enum WarmUp: String, CaseIterable, Sendable {
    /// Those the prompt's last chunk left there.
    case none
    /// Those the prompt used most, by gate weight, its end counting more than its beginning.
    case prompt
}

/// How much a prompt used each expert: the sum of its gate weights, halved every
/// `PromptUse.halfLife` tokens.
struct PromptUse {
    /// Tokens after which a use counts half. Long enough to cover a paragraph, because the next
    /// tokens continue the last one rather than the whole prompt.
    static let halfLife = 128.0

    private let expertCount: Int
    /// (layers, experts)
    private var scores: [Float]

    init(layerCount: Int, expertCount: Int) {
        self.expertCount = expertCount
        scores = Array(repeating: 0, count: layerCount * expertCount)
    }

    /// A new prompt begins.
    mutating func begin() {
        for index in scores.indices { scores[index] = 0 }
    }

    /// Adds a chunk's choices in one layer.
    ///
    /// - Parameter chosen: (tokens, k); `weights` likewise.
    mutating func add(
        layer: Int, tokens: Int, chosen: UnsafeBufferPointer<Int32>,
        weights: UnsafeBufferPointer<Float>
    ) {
        let perToken = Float(PromptUse.factor)
        let first = layer * expertCount
        let k = chosen.count / max(1, tokens)
        for token in 0..<tokens {
            for expert in first..<(first + expertCount) { scores[expert] *= perToken }
            for choice in (token * k)..<(token * k + k) {
                unsafe scores[first + Int(chosen[choice])] += weights[choice]
            }
        }
    }

    /// The experts that were used, most used first; ties in the order of the file.
    var ranking: [LayerExpert] {
        scores.indices.filter { scores[$0] > 0 }
            .sorted { (scores[$0], $1) > (scores[$1], $0) }
            .map { LayerExpert(layer: $0 / expertCount, expert: $0 % expertCount) }
    }

    /// 2 to the power of -1 / `halfLife`.
    private static let factor = 0.994_599_423_483_633_2
}
