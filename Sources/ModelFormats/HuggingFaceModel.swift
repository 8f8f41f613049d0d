/// A model in a directory as Hugging Face lays it out: `config.json`, weights in safetensors, and
/// where they are there `tokenizer.json`, `tokenizer_config.json`, `generation_config.json` and a
/// chat template.
///
/// It comes out as a GGUF file would: the same keys, the same tensor names, as llama.cpp's
/// converter gives them, with the tensors where they lie in the safetensors files. Three things
/// differ, since nothing is rewritten: every expert has tensors of its own, vectors and routers are
/// as wide as they were saved, and the rows of a `llama` model's queries and keys are not
/// reordered, which the key `sluice.rope.halves` tells.
public struct HuggingFaceModel: Sendable {
    /// The safetensors files; tensors refer to them by index.
    public let paths: [String]
    /// Bytes of each file when it was opened.
    public let fileSizes: [UInt64]
    /// Keys and values, as a GGUF file of the model has them.
    public let metadata: GGUFMetadata
    /// Tensors under GGUF's names, which are unique.
    public let tensors: [GGUFTensor]

    /// Opens the model in `directory`. Only headers of the weights are read.
    ///
    /// - Throws: `ModelFileError` where something is missing, damaged, or asks for arithmetic that
    ///   Sluice does not have.
    public init(directory: String) throws(ModelFileError) {
        try self.init(HuggingFaceDirectory(path: directory))
    }

    /// Reads a model from files in memory, by name, for tests and fuzzing; errors call the
    /// directory `name`.
    public init(
        files: [String: [UInt8]], name: String = "memory"
    ) throws(ModelFileError) {
        try self.init(HuggingFaceDirectory(files: files, name: name))
    }

    private init(_ directory: HuggingFaceDirectory) throws(ModelFileError) {
        let configuration = try HuggingFaceConfiguration(directory)
        let weights = try SafetensorsDirectory(directory)
        var roles = TensorRoles(weights, configuration, directory)
        tensors = try roles.takeAll()
        paths = weights.paths
        fileSizes = weights.fileSizes

        var writer = GGUFMetadataWriter()
        writer.add("general.architecture", configuration.family.ggufArchitecture)
        writer.add("general.type", "model")
        writer.add("general.name", directory.modelName)
        try configuration.write(to: &writer)
        if let tokenizer = try HuggingFaceTokenizer(directory, configuration) {
            tokenizer.write(to: &writer)
        }
        if let template = try HuggingFaceChatTemplate.read(directory) {
            writer.add("tokenizer.chat_template", template)
        }
        metadata = try writer.metadata(path: directory.path)
    }
}

/// Gives tensors their GGUF names, and sees that each gets one.
private struct TensorRoles {
    private var left: [String: (tensor: SafetensorsTensor, fileIndex: Int)]
    private let configuration: HuggingFaceConfiguration
    private let directory: HuggingFaceDirectory
    private let paths: [String]
    private var tensors: [GGUFTensor] = []

    init(
        _ weights: SafetensorsDirectory, _ configuration: HuggingFaceConfiguration,
        _ directory: HuggingFaceDirectory
    ) {
        left = weights.tensors
        paths = weights.paths
        self.configuration = configuration
        self.directory = directory
    }

    mutating func takeAll() throws(ModelFileError) -> [GGUFTensor] {
        let family = configuration.family
        let embedding = try take("model.embed_tokens.weight", as: "token_embd.weight")
        // What is as large as the vocabulary may be made room for: the file holds as many rows.
        guard embedding.shape.count == 2, embedding.shape[1] == configuration.vocabularyCount else {
            throw configuration.error(
                "vocab_size",
                "\(configuration.vocabularyCount), but 'model.embed_tokens.weight' has the shape "
                    + "\(Array(embedding.shape.reversed()))")
        }
        // A count that the files do not bear out ends at the first tensor that is missing.
        for layer in 0..<configuration.layerCount {
            for (theirs, gguf) in family.layerNames {
                try take(
                    "model.layers.\(layer).\(theirs).weight", as: "blk.\(layer).\(gguf).weight")
            }
            for expert in 0..<configuration.expertCount {
                for (theirs, gguf) in family.expertNames(expert) {
                    try take(
                        "model.layers.\(layer).\(theirs).weight", as: "blk.\(layer).\(gguf).weight")
                }
            }
        }
        try take("model.norm.weight", as: "output_norm.weight")
        if configuration.tiesEmbeddings {
            left["lm_head.weight"] = nil
        } else {
            try take("lm_head.weight", as: "output.weight")
        }
        try refuseRest()
        return tensors
    }

    @discardableResult
    private mutating func take(
        _ name: String, as ggufName: String
    ) throws(ModelFileError) -> GGUFTensor {
        guard let (tensor, fileIndex) = left.removeValue(forKey: name) else {
            throw ModelFileError(
                path: directory.path, field: "tensor '\(name)'",
                message: "missing from the safetensors files; config.json asks for "
                    + "\(configuration.layerCount) layers of \(configuration.expertCount) experts")
        }
        guard let format = tensor.format else {
            throw error(
                tensor, fileIndex,
                "\(tensor.elementType) is not supported; use weights in F32, F16 or BF16")
        }
        guard 1...Int(GGUFLimits.dimensions) ~= tensor.shape.count, !tensor.shape.contains(0) else {
            throw error(tensor, fileIndex, "shape \(tensor.shape) is not that of a weight")
        }
        let taken = GGUFTensor(
            name: ggufName, shape: tensor.shape.reversed(), format: format, fileIndex: fileIndex,
            fileOffset: tensor.fileOffset, byteCount: tensor.byteCount,
            elementCount: tensor.byteCount / format.bytesPerBlock)
        tensors.append(taken)
        return taken
    }

    /// Throws if a tensor found no role: ignoring a bias or a shared expert would give wrong
    /// answers.
    private func refuseRest() throws(ModelFileError) {
        // The angles of the rotary embedding, which old checkpoints saved, follow from the
        // configuration.
        let unknown = left.keys.filter { !$0.hasSuffix(".rotary_emb.inv_freq") }.min()
        guard let unknown, let (tensor, fileIndex) = left[unknown] else { return }
        throw error(
            tensor, fileIndex,
            (unknown.hasSuffix(".bias") ? "biases are not supported" : "it has no place")
                + " in a \(configuration.family.rawValue) as Sluice knows it; ignoring it would give "
                + "wrong answers")
    }

    private func error(
        _ tensor: SafetensorsTensor, _ fileIndex: Int, _ message: String
    ) -> ModelFileError {
        ModelFileError(
            path: paths[fileIndex], field: "tensor '\(tensor.name)'", offset: tensor.fileOffset,
            message: message)
    }
}
