/// A recorded routing: for each token and layer the experts that were chosen, with their gate
/// weights.
///
/// Forced on an engine (`Engine.forceRouting`), it makes a model with random weights move the bytes
/// that a trained one would.
public struct RoutingReplay: Sendable, Equatable {
    public let layerCount: Int
    /// Experts of each layer.
    public let expertCount: Int
    /// Experts chosen for a token in each layer: k.
    public let expertsPerToken: Int
    public let tokenCount: Int
    /// By falling weight: (tokens, layers, k), row-major.
    public let experts: [Int32]
    /// The weight each expert's output is added with: (tokens, layers, k).
    public let weights: [Float]

    /// - Throws: `EngineError` naming the first token and layer that no router could have chosen: a
    ///   missing entry, an expert out of range or chosen twice, a weight below 0 or not finite.
    public init(
        layerCount: Int, expertCount: Int, expertsPerToken: Int, experts: [Int32],
        weights: [Float]
    ) throws(EngineError) {
        guard (1...65_536).contains(layerCount), (1...65_536).contains(expertCount),
            (1...expertCount).contains(expertsPerToken)
        else {
            throw EngineError(
                "a routing of \(expertsPerToken) of \(expertCount) experts in \(layerCount) layers "
                    + "is not one of a Mixture-of-Experts model")
        }
        let perToken = layerCount * expertsPerToken
        guard !experts.isEmpty, experts.count % perToken == 0, weights.count == experts.count else {
            throw EngineError(
                "a routing with \(experts.count) experts and \(weights.count) weights does not hold "
                    + "whole tokens of \(layerCount) layers x \(expertsPerToken) experts")
        }
        for first in stride(from: 0, to: experts.count, by: expertsPerToken) {
            let place =
                "token \(first / perToken), layer \(first % perToken / expertsPerToken) of the "
                + "routing"
            for choice in first..<(first + expertsPerToken) {
                guard experts[choice] >= 0, experts[choice] < expertCount else {
                    throw EngineError(
                        "\(place): no expert \(experts[choice]) among \(expertCount)")
                }
                guard !experts[first..<choice].contains(experts[choice]) else {
                    throw EngineError("\(place): expert \(experts[choice]) is chosen twice")
                }
                guard weights[choice].isFinite, weights[choice] >= 0 else {
                    throw EngineError("\(place): \(weights[choice]) is no gate weight")
                }
            }
        }
        self.layerCount = layerCount
        self.expertCount = expertCount
        self.expertsPerToken = expertsPerToken
        tokenCount = experts.count / perToken
        self.experts = experts
        self.weights = weights
    }

    /// Refuses a model of another shape, and one without routers.
    func check(_ model: ModelDescription) throws(EngineError) {
        guard !model.isDense else {
            throw EngineError(
                "\(model.name) is dense: it has no routers whose choices a recording could replace")
        }
        guard layerCount == model.expertLayerCount, expertCount == model.expertCount,
            expertsPerToken == model.expertsPerToken
        else {
            throw EngineError(
                "the recorded routing chooses \(expertsPerToken) of \(expertCount) experts in "
                    + "\(layerCount) layers, but \(model.name) chooses \(model.expertsPerToken) of "
                    + "\(model.expertCount) in \(model.expertLayerCount); record one on a model of that "
                    + "shape")
        }
    }
}
