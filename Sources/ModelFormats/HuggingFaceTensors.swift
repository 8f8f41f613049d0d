/// The tensors of a model directory on their way to GGUF's names, and which are left without one.
///
/// Families take them by their names, layer by layer. Most stay where they are; what does not lie as
/// GGUF has it becomes a conversion, whose result has its place in a derived file behind the others.
struct HuggingFaceTensors {
    let configuration: HuggingFaceConfiguration
    /// Under GGUF's names.
    private(set) var tensors: [GGUFTensor] = []
    private(set) var conversions: [TensorConversion] = []
    /// Bytes of the derived file; 0 where there is nothing to convert.
    private(set) var derivedBytes = 0
    /// The layer that names are looked up in.
    private(set) var layer = 0

    private var left: [String: (tensor: SafetensorsTensor, fileIndex: Int)]
    private let directory: HuggingFaceDirectory
    private let paths: [String]
    /// Experts of a layer that has any.
    let expertCount: Int
    /// What comes before the names, there and in GGUF.
    private var prefixes = (theirs: "", gguf: "")

    /// A tensor that was taken, and what it is in the files.
    typealias Taken = (tensor: SafetensorsTensor, fileIndex: Int)

    init(
        _ weights: SafetensorsDirectory, _ configuration: HuggingFaceConfiguration,
        _ directory: HuggingFaceDirectory
    ) throws(ModelFileError) {
        left = weights.tensors
        paths = weights.paths
        self.configuration = configuration
        self.directory = directory
        expertCount = try configuration.family.expertCount(configuration)
    }

    /// Takes them all.
    ///
    /// - Parameter rotary: Tensors that follow from the configuration.
    mutating func takeAll(
        rotary: [(name: String, values: [Float])]
    ) throws(ModelFileError) {
        let family = configuration.family
        let embedding = "model.embed_tokens.weight"
        let shape = try shape(embedding)
        // What is as large as the vocabulary may be made room for: the file holds as many rows.
        guard shape.count == 2, shape[0] == configuration.vocabularyCount else {
            throw configuration.error(
                "vocab_size",
                "\(configuration.vocabularyCount), but '\(embedding)' has the shape \(shape)")
        }
        try place(embedding, "token_embd.weight")
        for (name, values) in rotary {
            convert(
                .values(values), [], to: [(name, [values.count])], .f32)
        }
        // A count that the files do not bear out ends at the first tensor that is missing.
        for layer in 0..<configuration.layerCount {
            self.layer = layer
            prefixes = ("model.layers.\(layer).", "blk.\(layer).")
            try family.takeLayer(from: &self)
        }
        prefixes = ("", "")
        try family.takeOutputNorm(from: &self)
        if configuration.tiesEmbeddings {
            left["lm_head.weight"] = nil
        } else {
            try weight("lm_head", "output")
        }
        try refuseRest()
    }

    // As they lie

    /// Whether there is a tensor `theirs` that has not been taken.
    func has(_ theirs: String) -> Bool { left[prefixes.theirs + theirs] != nil }

    /// The shape of a tensor, the fastest-moving dimension last.
    func shape(_ theirs: String) throws(ModelFileError) -> [Int] {
        guard let found = left[prefixes.theirs + theirs] else { throw missing(theirs) }
        return found.tensor.shape
    }

    /// Gives the tensor `theirs` the name `gguf`.
    mutating func place(_ theirs: String, _ gguf: String) throws(ModelFileError) {
        let taken = try take(theirs)
        let tensor = taken.tensor
        add(
            gguf, tensor.shape.reversed(), try format(of: taken), taken.fileIndex,
            at: tensor.fileOffset)
    }

    /// Places `theirs.weight` as `gguf.weight`.
    mutating func weight(_ theirs: String, _ gguf: String) throws(ModelFileError) {
        try place(theirs + ".weight", gguf + ".weight")
    }

    /// Places `theirs.weight` and, where there is one, `theirs.bias`.
    mutating func projection(_ theirs: String, _ gguf: String) throws(ModelFileError) {
        try weight(theirs, gguf)
        if has(theirs + ".bias") { try place(theirs + ".bias", gguf + ".bias") }
    }

    /// Places a tensor of which at most one dimension is not 1, as a vector.
    mutating func vector(_ theirs: String, _ gguf: String) throws(ModelFileError) {
        let taken = try take(theirs)
        let tensor = taken.tensor
        guard tensor.shape.count(where: { $0 != 1 }) <= 1 else {
            throw error(taken, "shape \(tensor.shape) is not that of a vector")
        }
        let format = try format(of: taken)
        add(
            gguf, [tensor.byteCount / format.bytesPerBlock], format, taken.fileIndex,
            at: tensor.fileOffset)
    }

    // Written anew

    /// Has every element of a vector or matrix as F32, changed. Kernels of convolutions, (channels, 1,
    /// taps), become matrices.
    mutating func numbers(
        _ theirs: String, _ gguf: String, _ change: TensorConversion.ElementChange
    ) throws(ModelFileError) {
        let taken = try take(theirs)
        let tensor = taken.tensor
        let format = try format(of: taken)
        var shape = tensor.shape
        if shape.count == 3, shape[1] == 1 { shape.remove(at: 1) }
        let kept = Array(shape.reversed())
        if case .none = change, format == .f32 {
            add(gguf, kept, format, taken.fileIndex, at: tensor.fileOffset)
            return
        }
        convert(.numbers(format, change), [taken], to: [(gguf, kept)], .f32)
    }

    /// Has rows of a matrix in another order: as row r of the result comes `sourceRow(r)`.
    ///
    /// - Parameters:
    ///   - shape: What the matrix must have, (rows, columns).
    ///   - results: Names and rows of the results; `sourceRow` is asked for each.
    mutating func rows(
        _ theirs: String, shape: [Int],
        _ results: [(gguf: String, rows: Int, sourceRow: @Sendable (Int) -> Int)]
    ) throws(ModelFileError) {
        let taken = try source(theirs, shape: shape)
        let format = try format(of: taken)
        let columns = shape[1]
        for result in results {
            convert(
                .rows(rowBytes: columns * format.bytesPerBlock, sourceRow: result.sourceRow),
                [taken], to: [(result.gguf, [columns, result.rows])], format)
        }
    }

    /// Takes a tensor that a conversion reads.
    mutating func source(_ theirs: String, shape: [Int]) throws(ModelFileError) -> Taken {
        let taken = try take(theirs)
        try require(taken, shape)
        return taken
    }

    /// Adds tensors that are made of others.
    ///
    /// - Parameter results: Names in GGUF and shapes, the fastest-moving dimension first.
    mutating func convert(
        _ kind: TensorConversion.Kind, _ sources: [Taken],
        to results: [(gguf: String, shape: [Int])],
        _ format: BlockFormat
    ) {
        var outputs: [(offset: Int, byteCount: Int)] = []
        for (gguf, shape) in results {
            let alignment = DerivedWeights.alignment
            let offset = (derivedBytes + alignment - 1) / alignment * alignment
            let byteCount =
                format.byteCount(elements: shape[0]) * shape.dropFirst().reduce(1, *)
            outputs.append((offset, byteCount))
            derivedBytes = offset + byteCount
            add(gguf, shape, format, paths.count, at: UInt64(offset))
        }
        conversions.append(
            TensorConversion(
                kind: kind,
                sources: sources.map {
                    TensorSource(
                        fileIndex: $0.fileIndex, offset: Int($0.tensor.fileOffset),
                        byteCount: $0.tensor.byteCount)
                }, outputs: outputs))
    }

    // Errors

    /// An error about a tensor that was taken.
    func error(_ taken: Taken, _ message: String) -> ModelFileError {
        ModelFileError(
            path: paths[taken.fileIndex], field: "tensor '\(taken.tensor.name)'",
            offset: taken.tensor.fileOffset, message: message)
    }

    private func require(_ taken: Taken, _ shape: [Int]) throws(ModelFileError) {
        guard taken.tensor.shape == shape else {
            throw error(taken, "shape \(taken.tensor.shape) where \(shape) is expected")
        }
    }

    /// Takes a tensor, whatever is to become of it.
    mutating func take(_ theirs: String) throws(ModelFileError) -> Taken {
        guard let taken = left.removeValue(forKey: prefixes.theirs + theirs) else {
            throw missing(theirs)
        }
        return taken
    }

    /// How the elements of a tensor are stored, which must be plain numbers.
    func format(of taken: Taken) throws(ModelFileError) -> BlockFormat {
        let tensor = taken.tensor
        guard let format = tensor.format else {
            throw error(
                taken, "\(tensor.elementType) is not supported; use weights in F32, F16 or BF16")
        }
        guard 1...Int(GGUFLimits.dimensions) ~= tensor.shape.count, !tensor.shape.contains(0) else {
            throw error(taken, "shape \(tensor.shape) is not that of a weight")
        }
        return format
    }

    /// Adds a tensor under GGUF's name; the fastest-moving dimension comes first.
    mutating func add(
        _ name: String, _ shape: [Int], _ format: BlockFormat, _ fileIndex: Int, at offset: UInt64
    ) {
        let elements = shape.reduce(1, *)
        tensors.append(
            GGUFTensor(
                name: prefixes.gguf + name, shape: shape, format: format, fileIndex: fileIndex,
                fileOffset: offset,
                byteCount: elements / format.elementsPerBlock * format.bytesPerBlock,
                elementCount: elements))
    }

    private func missing(_ theirs: String) -> ModelFileError {
        let experts = expertCount == 0 ? "" : " of \(expertCount) experts"
        return ModelFileError(
            path: directory.path, field: "tensor '\(prefixes.theirs)\(theirs)'",
            message: "missing from the safetensors files; config.json asks for "
                + "\(configuration.layerCount) layers\(experts)")
    }

    /// Throws if a tensor found no role: ignoring a bias or a shared expert would give wrong
    /// answers.
    private func refuseRest() throws(ModelFileError) {
        let unknown = left.keys.filter { name in
            // The angles of the rotary embedding, which old checkpoints saved, follow from the
            // configuration.
            !name.hasSuffix(".rotary_emb.inv_freq")
                && !configuration.family.leavesOut(name, configuration)
        }.min()
        guard let unknown, let taken = left[unknown] else { return }
        throw error(
            taken,
            (unknown.hasSuffix(".bias") ? "biases are not supported" : "it has no place")
                + " in a \(configuration.className) as Sluice knows it; ignoring it would give "
                + "wrong answers")
    }
}
