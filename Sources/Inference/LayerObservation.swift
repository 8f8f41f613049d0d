/// What one layer's router and experts did to the tokens of a chunk. Pointers are valid during the
/// call only. Shapes are (rows, columns), row-major; T tokens, k experts per token.
@safe public struct LayerObservation {
    /// Among the layers with experts, from 0.
    public let layer: Int
    public let tokens: Int
    /// (T)
    public let ids: UnsafePointer<Int32>
    /// Where in its sequence each token stands: (T).
    public let positions: UnsafePointer<Int32>
    /// The sequence each token belongs to: (T).
    public let sequences: UnsafePointer<Int32>
    /// Raw output of the router, before any softmax: (T, experts). Of no meaning in a dense model,
    /// which has no routers.
    public let routerLogits: UnsafePointer<Float>
    /// What the router was given: (T, embedding). The experts were given the same, normed, unless
    /// the router reads the residual stream as it enters the layer.
    public let input: UnsafePointer<Float>
    /// The residual stream before the outputs of the feed-forward are added: (T, embedding).
    public let residual: UnsafePointer<Float>
    /// Experts by rank: (T, k), after any miss policy.
    public let chosen: UnsafePointer<Int32>
    /// The weight each output is added with: (T, k); 0 where a miss policy leaves it out, or to the
    /// next layer.
    public let gateWeights: UnsafePointer<Float>
    /// Ranks that are computed, before any miss policy, from the best on: (T); all k but under
    /// `Routing.topP`.
    public let rankCounts: UnsafePointer<Int32>
    /// Row of `expertOutput` by choice: (T, k); -1 where there is none.
    public let outputRow: UnsafePointer<Int32>
    /// Outputs of the down matrices, before the gate weights: (T x k, embedding).
    public let expertOutput: UnsafePointer<Float>

    /// Position of the chunk's first token.
    public var position: Int { unsafe Int(positions[0]) }
}
