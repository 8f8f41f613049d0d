public import Inference

/// What one router was given and made of it, for the tokens of a chunk. Pointers are valid during
/// the call only. Shapes are (rows, columns), row-major; T tokens, k experts per token.
@safe public struct RoutingSample {
    /// Among the layers with experts, from 0.
    public let layer: Int
    /// Counts the sequences of the source from 0; a chunk is of one sequence.
    public let sequence: Int
    /// Position of the chunk's first token in its sequence.
    public let position: Int
    public let tokens: Int
    /// (T, embedding)
    public let input: UnsafePointer<Float>
    /// Raw output, before any softmax: (T, experts).
    public let routerLogits: UnsafePointer<Float>
    /// Experts by rank: (T, k).
    public let chosen: UnsafePointer<Int32>

    public init(
        layer: Int, sequence: Int, position: Int, tokens: Int, input: UnsafePointer<Float>,
        routerLogits: UnsafePointer<Float>, chosen: UnsafePointer<Int32>
    ) {
        self.layer = layer
        self.sequence = sequence
        self.position = position
        self.tokens = tokens
        unsafe self.input = input
        unsafe self.routerLogits = routerLogits
        unsafe self.chosen = chosen
    }
}

/// Where samples of routing come from: a text run through a model, or a recording of that.
///
/// Chunks come in the order of their positions, each with all its layers in order before the next.
/// Training may ask for the samples several times, and must get the same.
public protocol RoutingSource: ~Copyable {
    var model: ModelFingerprint { get }
    /// How many sequences there are.
    var sequenceCount: Int { get }
    mutating func forEachSample(_ receive: @escaping (RoutingSample) -> Void) throws
}

/// A text run through its model.
public struct TextRouting: ~Copyable, RoutingSource {
    private var engine: Engine
    /// What is run; another text may follow on the same engine.
    public var windows: [TextWindow]
    public let model: ModelFingerprint

    public init(engine: consuming Engine, windows: [TextWindow]) {
        model = ModelFingerprint(engine.model)
        self.engine = engine
        self.windows = windows
    }

    public var sequenceCount: Int { windows.count }

    public mutating func forEachSample(_ receive: @escaping (RoutingSample) -> Void) throws {
        defer { engine.observe(nil) }
        for (sequence, window) in windows.enumerated() {
            engine.observe { layer in
                let sample = unsafe RoutingSample(
                    layer: layer.layer, sequence: sequence, position: layer.position,
                    tokens: layer.tokens, input: layer.input, routerLogits: layer.routerLogits,
                    chosen: layer.chosen)
                receive(sample)
            }
            try engine.prefill(window.ids, from: 0)
        }
    }

    /// The routers of all layers, each (experts, embedding).
    public func routers() -> [[Float]] {
        (0..<model.layers).map { engine.routerWeights(layer: $0) }
    }
}
