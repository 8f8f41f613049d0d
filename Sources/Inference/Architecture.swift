/// The transformer families Sluice can compute, by the name GGUF files give them in
/// `general.architecture`.
public enum Architecture: String, CaseIterable, Sendable {
    /// Qwen3-MoE: per-head norms on queries and keys, gate weights of the chosen experts
    /// normalised.
    case qwen3moe
    /// OLMoE: norms over the whole query and key projections, gate weights not normalised.
    case olmoe
    /// Llama with experts (Mixtral): no such norms, gate weights normalised, interleaved rotary
    /// pairs.
    case llama

    /// What the norms on queries and keys span.
    enum ProjectionNorm: Sendable {
        case none
        case perHead
        case wholeProjection
    }

    var projectionNorm: ProjectionNorm {
        switch self {
        case .qwen3moe: .perHead
        case .olmoe: .wholeProjection
        case .llama: .none
        }
    }

    /// Whether the gate weights of the chosen experts are divided by their sum, where the file does
    /// not say.
    var normalisesGateWeights: Bool { self != .olmoe }

    /// Whether rotary position embedding turns neighbouring elements (2i, 2i + 1) rather than (i, i
    /// + n / 2), in files whose rows were reordered for that; see `ModelDescription`.
    var rotatesNeighbours: Bool { self == .llama }
}
