/// A family of models of transformers, and how its directories are presented in llama.cpp's
/// convention: its keys, and its tensors' names and order.
///
/// Each has a file of its own in `HuggingFaceFamilies`; nothing else asks which family a model is of.
protocol HuggingFaceFamily: Sendable {
    /// What `architectures` in `config.json` calls it.
    var classNames: [String] { get }

    /// The name in `general.architecture`.
    var architecture: String { get }

    /// Whether the token embedding serves as the head where `tie_word_embeddings` is not set.
    var tiesEmbeddings: Bool { get }

    /// Experts of a layer that has any; 0 where no layer has.
    func expertCount(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) -> Int

    /// Adds the keys that llama.cpp's converter writes for the family, and those that say what it
    /// leaves to the reader.
    ///
    /// - Throws: `ModelFileError` where a member of the configuration asks for what is not supported.
    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError)

    /// Takes the tensors of the layer that `tensors` stands at.
    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError)

    /// Takes the norm before the head.
    func takeOutputNorm(from tensors: inout HuggingFaceTensors) throws(ModelFileError)

    /// Whether a tensor is left out knowingly: what predicts tokens further ahead, for speculation.
    func leavesOut(_ name: String, _ configuration: HuggingFaceConfiguration) -> Bool
}

extension HuggingFaceFamily {
    var tiesEmbeddings: Bool { false }

    func expertCount(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) -> Int { 0 }

    func takeOutputNorm(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.weight("model.norm", "output_norm")
    }

    func leavesOut(_ name: String, _ configuration: HuggingFaceConfiguration) -> Bool { false }

    /// Whether `name` is a tensor of a layer behind the last one, as predictors of further tokens
    /// are stored by some.
    func isBehindLastLayer(_ name: String, _ configuration: HuggingFaceConfiguration) -> Bool {
        let parts = name.split(separator: ".", maxSplits: 3)
        guard parts.count == 4, parts[0] == "model", parts[1] == "layers",
            let layer = Int(parts[2])
        else { return false }
        let count = configuration.layerCount
        return count..<count + max(0, configuration.furtherPredictors) ~= layer
    }
}

/// The families that are known.
enum HuggingFaceFamilies {
    static let all: [any HuggingFaceFamily] = [
        Qwen3MoeFamily(), OlmoeFamily(), MixtralFamily(), Qwen2MoeFamily(), DeepSeekFamily.v2,
        DeepSeekFamily.v3, GraniteMoeFamily(), PhiMoeFamily(), GptOssFamily(), Lfm2MoeFamily(),
        Ernie45MoeFamily(), Glm4MoeFamily(), Qwen3NextFamily(), SmallThinkerFamily(), LlamaFamily(),
        Qwen2Family(), Qwen3Family(),
    ]

    static func named(_ name: String) -> (any HuggingFaceFamily)? {
        all.first { $0.classNames.contains(name) }
    }
}
