/// One expert of a model.
public struct ExpertPlace: Sendable, Hashable, Codable {
    public let layer: Int
    /// Its index among the experts of the layer.
    public let expert: Int

    public init(layer: Int, expert: Int) {
        self.layer = layer
        self.expert = expert
    }
}
