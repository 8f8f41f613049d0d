/// One expert of a model.
public struct LayerExpert: Hashable, Sendable, CustomStringConvertible {
    /// Among the layers with experts, from 0; the expert counts in its layer.
    public var layer: Int
    public var expert: Int

    public init(layer: Int, expert: Int) {
        self.layer = layer
        self.expert = expert
    }

    public var description: String { "expert \(expert) of layer \(layer)" }
}
