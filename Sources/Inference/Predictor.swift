/// Where guesses of the next layers' experts come from. A guess changes no answer: it only lets the
/// disk begin earlier.
public enum Predictor: Sendable {
    case none
    /// The routers of the next layers (1 ... 3), applied to this layer's router input in one
    /// stacked product (HOBBIT, arXiv 2411.01433, "Stacking Computer").
    case nextGate(layers: Int)
    /// A table of which experts follow which.
    case path(ExpertPaths)
    /// A linear map from this layer's router input to the next one's logits.
    case learned(LearnedGates)
    /// What a forced routing will choose in the next layer, each choice replaced by a wrong one
    /// with probability 1 - `recall`: measures what guesses of a known quality are worth on a model
    /// whose own guesses mean nothing. Costs what `nextGate` of one layer does. Guesses nothing
    /// while no routing is forced.
    case recorded(recall: Double)

    /// Most layers that `nextGate` looks ahead.
    public static let mostLayersAhead = 3

    /// Layers that it looks ahead.
    var layersAhead: Int {
        switch self {
        case .none: 0
        case .nextGate(let layers): layers
        case .path, .learned, .recorded: 1
        }
    }

    /// Bytes of its tables.
    var byteCount: Int {
        switch self {
        case .none, .nextGate, .recorded: 0
        case .path(let paths): paths.byteCount
        case .learned(let gates): gates.byteCount
        }
    }

    /// - Throws: `EngineError` where it was made for a model of another shape.
    func check(layers: Int, experts: Int, embedding: Int) throws(EngineError) {
        switch self {
        case .none: break
        case .nextGate(let ahead):
            guard (1...Predictor.mostLayersAhead).contains(ahead) else {
                throw EngineError(
                    "--predict next-gate:\(ahead): it looks 1 to \(Predictor.mostLayersAhead) "
                        + "layers ahead")
            }
        case .recorded(let recall):
            guard recall >= 0, recall <= 1 else {
                throw EngineError("--predict recorded:\(recall): a recall is from 0 to 1")
            }
        case .path(let paths):
            guard paths.layerCount == layers, paths.expertCount == experts else {
                throw EngineError(
                    "--predict path: the table is for \(paths.layerCount) layers of "
                        + "\(paths.expertCount) experts, the model has \(layers) of \(experts); "
                        + "train one for this model")
            }
        case .learned(let gates):
            guard gates.layerCount == layers, gates.expertCount == experts,
                gates.embeddingLength == embedding
            else {
                throw EngineError(
                    "--predict learned: the maps are for \(gates.layerCount) layers of "
                        + "\(gates.expertCount) experts and an embedding of "
                        + "\(gates.embeddingLength), the model has \(layers) of \(experts) and "
                        + "\(embedding); train them for this model")
            }
        }
    }
}

/// Which predictor an engine has, without its tables: asked in every layer, so nothing that counts
/// references.
enum PredictorKind {
    case none, nextGate, path, learned
    case recorded(recall: Double)

    init(_ predictor: Predictor) {
        self =
            switch predictor {
            case .none: .none
            case .nextGate: .nextGate
            case .path: .path
            case .learned: .learned
            case .recorded(let recall): .recorded(recall: recall)
            }
    }
}
