/// A model in a directory as Hugging Face lays it out: `config.json`, weights in safetensors, and
/// where they are there `tokenizer.json`, `tokenizer_config.json`, `generation_config.json` and a
/// chat template.
///
/// It comes out as a GGUF file would: the same keys, the same tensor names, as llama.cpp's
/// converter gives them, with the tensors where they lie in the safetensors files. What does not
/// lie there as GGUF has it (matrices in one, other orders of rows, norms that are stored without their
/// 1) is rewritten into one more file, which has no name and goes with the model. Four
/// things differ, since nothing is rewritten without need: most experts have tensors of their own,
/// vectors and routers are as wide as they were saved, DeepSeek's `attn_kv_b` is one matrix, and the
/// rows of a `llama` model's queries and keys are not reordered, which the key `sluice.rope.halves`
/// tells.
public struct HuggingFaceModel: Sendable {
    /// The safetensors files, and what was rewritten where there is any; tensors refer to them by
    /// index. The last one can be opened as long as the model is there.
    public let paths: [String]
    /// Bytes of each file when it was opened.
    public let fileSizes: [UInt64]
    /// Keys and values, as a GGUF file of the model has them.
    public let metadata: GGUFMetadata
    /// Tensors under GGUF's names, which are unique.
    public let tensors: [GGUFTensor]

    let derived: DerivedWeights?
    private let directory: HuggingFaceDirectory
    private let fileNames: [String]

    /// Opens the model in `directory`. Of the weights only headers are read, and what has to be
    /// rewritten.
    ///
    /// - Parameters:
    ///   - writesDerived: Whether that is rewritten now; otherwise `ModelFile.writeDerived` does it.
    ///   - temporaryFolder: Where; nil for TMPDIR, or /var/tmp where that is not set.
    ///   - report: Called with one line before much is rewritten.
    /// - Throws: `ModelFileError` where something is missing, damaged, or asks for arithmetic that
    ///   Sluice does not have, and where there is no room for what is rewritten.
    public init(
        directory: String, writesDerived: Bool = true, temporaryFolder: String? = nil,
        report: ((String) -> Void)? = nil
    ) throws(ModelFileError) {
        try self.init(HuggingFaceDirectory(path: directory), temporaryFolder: temporaryFolder)
        if writesDerived { try derived?.write(report: report) }
    }

    /// Reads a model from files in memory, by name, for tests and fuzzing; errors call the
    /// directory `name`.
    public init(
        files: [String: [UInt8]], name: String = "memory"
    ) throws(ModelFileError) {
        try self.init(HuggingFaceDirectory(files: files, name: name), temporaryFolder: nil)
        try derived?.write(report: nil)
    }

    private init(
        _ directory: HuggingFaceDirectory, temporaryFolder: String?
    ) throws(ModelFileError) {
        let configuration = try HuggingFaceConfiguration(directory)
        var keys = HuggingFaceKeys(configuration, name: directory.modelName)
        try configuration.family.addKeys(to: &keys)
        let weights = try SafetensorsDirectory(directory)
        var taken = try HuggingFaceTensors(weights, configuration, directory)
        try taken.takeAll(rotary: keys.rotaryTensors)

        var writer = keys.writer
        if let tokenizer = try HuggingFaceTokenizer(directory, configuration) {
            tokenizer.write(to: &writer)
        }
        if let template = try HuggingFaceChatTemplate.read(directory) {
            writer.add("tokenizer.chat_template", template)
        }
        metadata = try writer.metadata(path: directory.path)

        derived =
            taken.conversions.isEmpty
            ? nil
            : try DerivedWeights(
                taken.conversions, size: taken.derivedBytes, from: weights.names, of: directory,
                folder: temporaryFolder)
        tensors = taken.tensors
        paths = weights.paths + (derived.map { [$0.path] } ?? [])
        fileSizes = weights.fileSizes + (derived.map { [UInt64($0.size)] } ?? [])
        fileNames = weights.names
        self.directory = directory
    }

    /// The bytes of one of the model's tensors, from wherever they are.
    public func bytes(of tensor: GGUFTensor) throws(ModelFileError) -> [UInt8] {
        let offset = Int(tensor.fileOffset)
        if tensor.fileIndex < fileNames.count {
            return try directory.source(fileNames[tensor.fileIndex])
                .bytes(at: offset, count: tensor.byteCount)
        }
        guard directory.isOnDisk else {
            return derived?.bytes(at: offset, count: tensor.byteCount) ?? []
        }
        return try FileSource(path: paths[tensor.fileIndex])
            .bytes(at: offset, count: tensor.byteCount)
    }
}
