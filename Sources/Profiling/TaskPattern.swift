public import Inference

/// How a model uses its experts on one kind of text.
///
/// Figures are (layers, experts).
public struct TaskPattern: Sendable, Equatable, Codable {
    /// What the user calls it.
    public let name: String
    /// Tokens of the text it was made from.
    public let tokens: Int
    /// How often each expert was chosen.
    public let activations: [[UInt64]]
    /// Sum of its gate weights.
    public let gateMass: [[Float]]
    /// Mean over all tokens of the router's raw logit where the expert was among the k chosen, and
    /// of 0 where it was not: PreMoe's score (arXiv 2505.17639), with the model's own k.
    public let tcess: [[Float]]
    /// EASY-EP's score (arXiv 2504.06792), a sum over tokens.
    public let saliency: [[Float]]
    /// Greatest magnitude among the elements the expert put out; what super experts are told by.
    public let largestOutputs: [[Float]]

    private enum CodingKeys: String, CodingKey {
        case name, tokens, activations, tcess, saliency
        case gateMass = "gate_mass"
        case largestOutputs = "largest_outputs"
    }

    /// A figure by which experts are ranked.
    public enum Score: String, Sendable, CaseIterable {
        case activations, gateMass, tcess, saliency
    }

    /// - Throws: `ProfilingError` where the tally is empty or holds what is not finite.
    public init(name: String, tally: ExpertTally) throws(ProfilingError) {
        guard tally.tokens > 0 else { throw ProfilingError("'\(name)': no token to profile") }
        try tally.requireFinite()
        self.name = name
        tokens = tally.tokens
        let experts = tally.experts
        func rows<Value, Out>(_ values: [Value], _ convert: (Value) -> Out) -> [[Out]] {
            (0..<tally.layers).map { values[($0 * experts)..<(($0 + 1) * experts)].map(convert) }
        }
        activations = rows(tally.activations) { $0 }
        gateMass = rows(tally.gateMass) { Float($0) }
        tcess = rows(tally.chosenLogits) { Float($0 / Double(tally.tokens)) }
        saliency = rows(tally.saliency) { Float($0) }
        largestOutputs = rows(tally.largestOutputs) { $0 }
    }

    /// All experts in the order in which a cache is warmed with them.
    ///
    /// Each layer's scores, negative ones as 0, are divided by their sum, so that every layer
    /// weighs the same (as EASY-EP adds domains); then all experts are sorted by that share, the
    /// greatest first. Ties go to the better rank inside its layer, then to the earlier layer. By
    /// activations the share is the chance of a use, so any prefix of the order is the static cache
    /// of its size that hits most on such text.
    public func ranking(by score: Score = .activations) -> [LayerExpert] {
        var ranked: [(share: Double, rank: Int, place: LayerExpert)] = []
        for layer in activations.indices {
            let scores = scores(score, layer: layer)
            let sum = scores.reduce(0, +)
            let order = scores.indices.sorted {
                (scores[$1], $0) < (scores[$0], $1)
            }
            for (rank, expert) in order.enumerated() {
                ranked.append(
                    (
                        sum > 0 ? scores[expert] / sum : 0, rank,
                        LayerExpert(layer: layer, expert: expert)
                    ))
            }
        }
        ranked.sort {
            ($1.share, $0.rank, $0.place.layer) < ($0.share, $1.rank, $1.place.layer)
        }
        return ranked.map(\.place)
    }

    private func scores(_ score: Score, layer: Int) -> [Double] {
        switch score {
        case .activations: activations[layer].map { Double($0) }
        case .gateMass: gateMass[layer].map { max(0, Double($0)) }
        case .tcess: tcess[layer].map { max(0, Double($0)) }
        case .saliency: saliency[layer].map { max(0, Double($0)) }
        }
    }
}
