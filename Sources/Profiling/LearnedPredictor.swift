/// Linear maps from what a layer's router is given to the router logits of a later layer.
public struct LearnedPredictor: Sendable, Equatable {
    public let layers: Int
    public let experts: Int
    /// Length of a router's input.
    public let embedding: Int
    /// How many layers ahead it looks: map l is given the input of layer l's router and predicts
    /// the logits of layer l + ahead. 1 or 2.
    public let ahead: Int
    /// (layers - ahead, experts, embedding), row-major
    public let weights: [Float]
    /// (layers - ahead, experts)
    public let bias: [Float]

    init(
        layers: Int, experts: Int, embedding: Int, ahead: Int, weights: [Float], bias: [Float]
    ) {
        self.layers = layers
        self.experts = experts
        self.embedding = embedding
        self.ahead = ahead
        self.weights = weights
        self.bias = bias
    }

    /// Predicts the logits (experts) of layer `layer + ahead` from the input (embedding) of
    /// `layer`'s router; `layer` is below `layers - ahead`.
    public func logits(
        layer: Int, input: UnsafePointer<Float>, into logits: UnsafeMutablePointer<Float>
    ) {
        precondition(layer >= 0 && layer < layers - ahead, "no map for layer \(layer)")
        unsafe weights.withUnsafeBufferPointer { weights in
            let map = unsafe weights.baseAddress! + layer * experts * embedding
            for expert in 0..<experts {
                unsafe logits[expert] =
                    bias[layer * experts + expert]
                    + LinearMap.product(map + expert * embedding, input, embedding)
            }
        }
    }
}

/// The arithmetic of a router outside the engine, and of fitting one.
enum LinearMap {
    /// Sum of a[i] * b[i], in four sums which the processor adds side by side.
    static func product<Value: BinaryFloatingPoint>(
        _ a: UnsafePointer<Value>, _ b: UnsafePointer<Value>, _ count: Int
    ) -> Value {
        var (s0, s1, s2, s3): (Value, Value, Value, Value) = (0, 0, 0, 0)
        var index = 0
        while index + 4 <= count {
            unsafe s0 += a[index] * b[index]
            unsafe s1 += a[index + 1] * b[index + 1]
            unsafe s2 += a[index + 2] * b[index + 2]
            unsafe s3 += a[index + 3] * b[index + 3]
            index += 4
        }
        while index < count {
            unsafe s0 += a[index] * b[index]
            index += 1
        }
        return (s0 + s1) + (s2 + s3)
    }
}
