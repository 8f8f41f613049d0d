internal import ModelFormats

/// A transformer family Sluice can compute: what its files leave unsaid, and which tensors fill its
/// layers. Each has a file of its own under Architectures.
public struct Architecture: Sendable {
    /// As GGUF files have it in `general.architecture`.
    public let name: String
    let normKind: NormKind
    /// Where the file does not say.
    let routing: Routing
    /// Name of the norm before the head.
    let outputNormName: String
    /// Whether the ends of YaRN's ramp are rounded: see `RotaryEmbedding`.
    let roundsRamp: Bool
    /// Fills what is particular to the family: layers, and what deviates from the common.
    let read:
        @Sendable (inout DescriptionReader, inout ModelDescription) throws(ModelFileError) -> Void

    init(
        _ name: String, normKind: NormKind = .rms, routing: Routing = Routing(gating: .softmax),
        outputNormName: String = "output_norm", roundsRamp: Bool = true,
        read:
            @escaping @Sendable (
                inout DescriptionReader, inout ModelDescription
            ) throws(ModelFileError) -> Void
    ) {
        self.name = name
        self.normKind = normKind
        self.routing = routing
        self.outputNormName = outputNormName
        self.roundsRamp = roundsRamp
        self.read = read
    }

    /// All of them.
    public static let all: [Architecture] = [
        deepseek2, ernie45moe, glm4moe, gptOSS, granitemoe, lfm2moe, llama, olmoe, phimoe, qwen2,
        qwen2moe, qwen3, qwen3moe, qwen3next, smallthinker,
    ]

    static func named(_ name: String) -> Architecture? { all.first { $0.name == name } }
}

extension Routing {
    init(gating: Gating, normalises: Bool = false) {
        self.init()
        self.gating = gating
        self.normalises = normalises
    }
}
