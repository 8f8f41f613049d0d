public import Inference
internal import ModelFormats

/// Which model a profile or a predictor was made from: enough to refuse another one by name.
public struct ModelFingerprint: Sendable, Hashable, Codable {
    public let name: String
    public let architecture: String
    /// Layers that have experts.
    public let layers: Int
    /// Experts per layer.
    public let experts: Int
    /// Experts that compute for one token: top-k.
    public let expertsPerToken: Int
    /// Width of the residual stream, in elements.
    public let embedding: Int
    /// FNV-1a of 64 bits over name, shape and format of every tensor, in order of name; 16
    /// hexadecimal digits. A package's experts count as the stacked tensors that GGUF has, so that
    /// it shares what was made for the GGUF it was packed from. Places in the file do not count,
    /// values neither: two trainings of one shape under one name cannot be told apart.
    public let tensorTable: String

    private enum CodingKeys: String, CodingKey {
        case name, architecture, layers, experts, embedding
        case expertsPerToken = "experts_per_token"
        case tensorTable = "tensor_table"
    }

    public init(_ model: ModelDescription) {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        var tensors = model.file.tensors.map { ($0.name, $0.shape, $0.format.name) }
        if let manifest = model.file.package?.manifest {
            for layer in manifest.layers {
                for part in layer.parts {
                    tensors.append(
                        (
                            "blk.\(layer.block).ffn_\(part.role)_exps.weight",
                            [part.columns, part.rows, manifest.expertCount], part.format
                        ))
                }
            }
        }
        for (name, shape, format) in tensors.sorted(by: { $0.0 < $1.0 }) {
            for byte in "\(name) \(shape) \(format)\n".utf8 {
                hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3
            }
        }
        self.init(
            name: model.name, architecture: model.architecture.name, layers: model.expertLayerCount,
            experts: model.expertCount, expertsPerToken: model.expertsPerToken,
            embedding: model.embeddingLength, tensorTableHash: hash)
    }

    init(
        name: String, architecture: String, layers: Int, experts: Int, expertsPerToken: Int,
        embedding: Int, tensorTableHash: UInt64
    ) {
        self.name = name
        self.architecture = architecture
        self.layers = layers
        self.experts = experts
        self.expertsPerToken = expertsPerToken
        self.embedding = embedding
        let digits = String(tensorTableHash, radix: 16)
        tensorTable = String(repeating: "0", count: 16 - digits.count) + digits
    }

    /// Says why a file made for `self` does not serve `model`; nil where it does.
    func mismatch(with model: ModelFingerprint) -> String? {
        if self == model { return nil }
        let reason =
            summary == model.summary
            ? "its tensors have other shapes or formats" : "that is \(model.summary)"
        return "made for \(summary), not for the model in use: \(reason)"
    }

    private var summary: String {
        "'\(name)' (\(architecture), \(layers) layers of \(experts) experts, top-\(expertsPerToken))"
    }
}
