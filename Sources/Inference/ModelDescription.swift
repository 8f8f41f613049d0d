public import ModelFormats
public import Quantization

/// What a model file says about itself, checked: hyper-parameters, and for every role the tensor
/// that fills it. Anything that could make the engine trap or answer wrongly later is refused here,
/// with the file, the key or tensor, and the place named.
public struct ModelDescription: Sendable {
    public let file: ModelFile
    public let architecture: Architecture
    /// `general.name`, or the architecture's name where the file gives none.
    public let name: String
    public let layerCount: Int
    /// Width of the residual stream, in elements.
    public let embeddingLength: Int
    public let headCount: Int
    public let keyValueHeadCount: Int
    /// Elements of one head; the same for keys and values.
    public let headSize: Int
    public let rotary: RotaryEmbedding
    /// Whether rotary position embedding turns neighbouring elements (2i, 2i + 1) rather than (i, i
    /// + n / 2): as the architecture's files have it, unless `sluice.rope.halves` says that the
    /// rows were not reordered for that.
    let rotatesNeighbours: Bool
    public let normEpsilon: Float
    public let expertCount: Int
    /// Experts that compute for one token: top-k.
    public let expertsPerToken: Int
    /// Rows of an expert's gate and up matrices.
    public let expertWidth: Int
    /// Whether the k chosen gate weights are divided by their sum.
    public let normalisesGateWeights: Bool
    public let vocabularyCount: Int
    /// Positions the model was trained for.
    public let contextLength: Int

    /// (vocabulary, embedding)
    public let tokenEmbedding: GGUFTensor
    /// (embedding)
    public let outputNorm: GGUFTensor
    /// (vocabulary, embedding); nil when the token embedding serves as the head.
    public let output: GGUFTensor?
    /// (rotary pairs): divisors of the rotary angles, where the file has them.
    public let rotaryDivisors: GGUFTensor?
    public let layers: [Layer]

    /// The tensors of one transformer layer. Shapes as (rows, columns).
    public struct Layer: Sendable {
        public let attentionNorm: GGUFTensor  // (embedding)
        public let query: GGUFTensor  // (heads x head size, embedding)
        public let key: GGUFTensor  // (key-value heads x head size, embedding)
        public let value: GGUFTensor  // (key-value heads x head size, embedding)
        public let attentionOutput: GGUFTensor  // (embedding, heads x head size)
        public let queryNorm: GGUFTensor?  // (head size) or (heads x head size)
        public let keyNorm: GGUFTensor?
        public let expertNorm: GGUFTensor  // (embedding)
        public let router: GGUFTensor  // (experts, embedding)
        /// Gate, up and down matrices of every expert.
        public let parts: [ExpertPart]

        /// Tensors that every token needs.
        var resident: [GGUFTensor] {
            [attentionNorm, query, key, value, attentionOutput, expertNorm, router]
                + [queryNorm, keyNorm].compactMap { $0 }
        }
    }

    /// One of the three matrices of a layer's experts. Files hold it as one stacked tensor, or
    /// (older ones) as one tensor per expert.
    public struct ExpertPart: Sendable {
        public let format: BlockFormat
        public let rows: Int
        public let columns: Int
        /// One tensor holding all experts, or one per expert; none in a package, whose planes are
        /// no tensors.
        public let tensors: [GGUFTensor]
        /// How it is cut into planes; nil where it lies in its format as it is.
        public var nested: NestedFormat?
        /// The format of the coarser version in plane 0, where planes do not nest and plane 1 is the
        /// whole; nil elsewhere.
        public var lowFormat: BlockFormat?

        /// The formats it may have to be multiplied in.
        var formats: [BlockFormat] { [format] + [lowFormat].compactMap { $0 } }

        /// Bytes of one expert's matrix.
        public var byteCount: Int { format.byteCount(elements: columns) * rows }

        /// File and offset of expert `index`'s matrix, where files hold it as it is.
        func place(of index: Int) -> (fileIndex: Int, offset: UInt64) {
            tensors.count == 1
                ? (tensors[0].fileIndex, tensors[0].fileOffset + UInt64(index * byteCount))
                : (tensors[index].fileIndex, tensors[index].fileOffset)
        }
    }

    /// Every tensor that stays in memory.
    public var residentTensors: [GGUFTensor] {
        [tokenEmbedding, outputNorm] + [output, rotaryDivisors].compactMap { $0 }
            + layers.flatMap(\.resident)
    }

    /// Planes of every expert, most significant first; 1 where weights are not cut into planes.
    public var planesPerExpert: Int { file.package?.planesPerExpert ?? 1 }

    /// Whether a prefix of an expert's planes is a coarser version of it, to which the others add; if
    /// not, plane 0 is a coarser version and plane 1 the whole.
    public var planesNest: Bool { file.package?.manifest.nested ?? true }

    /// Where part `part` (gate, up, down) of a plane of an expert lies; 0 bytes for a part that is not
    /// in this plane.
    public func extent(
        layer: Int, expert: Int, plane: Int, part: Int
    ) -> (fileIndex: Int, offset: UInt64, byteCount: Int) {
        if let package = file.package {
            let extent = package.extent(layer: layer, expert: expert, plane: plane, part: part)
            return (0, extent.offset, extent.byteCount)
        }
        let matrix = layers[layer].parts[part]
        let place = matrix.place(of: expert)
        return (place.fileIndex, place.offset, matrix.byteCount)
    }

    /// CRC-32C of a plane of an expert, over its bytes from the first of its first part to the last of
    /// its last part; nil where the file has none.
    public func checksum(layer: Int, expert: Int, plane: Int) -> UInt32? {
        file.package?.checksum(layer: layer, expert: expert, plane: plane)
    }

    /// Bytes of one layer's experts, all of them.
    public func expertBytes(layer: Int) -> Int {
        layers[layer].parts.reduce(0) { $0 + $1.byteCount } * expertCount
    }

    /// Bytes of the experts one token uses, over all layers.
    public var activeSetBytes: Int {
        (0..<layerCount).reduce(0) { $0 + expertBytes(layer: $1) } / expertCount * expertsPerToken
    }

    /// Reads the description of a GGUF file.
    public init(file: GGUFFile) throws(ModelFileError) { try self.init(file: ModelFile(file)) }

    /// Reads the description of `file`.
    ///
    /// - Throws: `ModelFileError` where the file is not a Mixture-of-Experts model that Sluice can
    ///   compute.
    public init(file: ModelFile) throws(ModelFileError) {
        var reader = DescriptionReader(file: file)
        let metadata = file.metadata
        guard let architectureName = try metadata.string("general.architecture") else {
            throw metadata.error(
                "general.architecture", "missing; the file does not say what model it is")
        }
        guard let architecture = Architecture(rawValue: architectureName) else {
            let known = Architecture.allCases.map(\.rawValue).joined(separator: ", ")
            throw metadata.error(
                "general.architecture",
                "'\(architectureName)' is not supported; supported are \(known)")
        }
        reader.prefix = architecture.rawValue
        let prefix = architecture.rawValue

        try reader.refuseUnsupportedKeys()

        let layerCount = try reader.count("block_count", 1...4096)
        let embeddingLength = try reader.count("embedding_length", 1...1_048_576)
        let headCount = try reader.count("attention.head_count", 1...65_536)
        let keyValueHeadCount = try reader.count(
            "attention.head_count_kv", 1...headCount, default: headCount)
        guard headCount % keyValueHeadCount == 0 else {
            throw metadata.error(
                "\(prefix).attention.head_count_kv",
                "\(keyValueHeadCount) key-value heads do not divide \(headCount) heads")
        }
        if try metadata.integer("\(prefix).attention.key_length") == nil,
            embeddingLength % headCount != 0
        {
            throw metadata.error(
                "\(prefix).attention.head_count",
                "\(headCount) heads do not divide an embedding of \(embeddingLength)")
        }
        let headSize = try reader.count(
            "attention.key_length", 1...65_536, default: embeddingLength / headCount)
        let valueSize = try reader.count("attention.value_length", 1...65_536, default: headSize)
        guard valueSize == headSize else {
            throw metadata.error(
                "\(prefix).attention.value_length",
                "\(valueSize) differs from the key length \(headSize), which is not supported")
        }
        let expertCount = try reader.count("expert_count", 0...65_536, default: 0)
        guard expertCount > 0 else {
            throw metadata.error(
                "\(prefix).expert_count",
                "no experts: a dense model; Sluice runs Mixture-of-Experts models")
        }
        let expertsPerToken = try reader.count("expert_used_count", 1...min(expertCount, 1024))
        let contextLength = try reader.count("context_length", 1...(1 << 24))
        guard
            let epsilon = try metadata.number("\(prefix).attention.layer_norm_rms_epsilon"),
            epsilon >= 0, epsilon < 1
        else {
            throw metadata.error(
                "\(prefix).attention.layer_norm_rms_epsilon", "missing, or not between 0 and 1")
        }

        let embedding = try reader.tensor("token_embd.weight", columns: embeddingLength, rows: nil)
        let vocabularyCount = embedding.shape[1]
        guard vocabularyCount <= 1 << 24 else {
            throw reader.error(embedding, "\(vocabularyCount) tokens are more than 16,777,216")
        }
        if let tokens = try metadata.array("tokenizer.ggml.tokens"), tokens.count != vocabularyCount
        {
            throw metadata.error(
                "tokenizer.ggml.tokens",
                "\(tokens.count) tokens, but token_embd.weight has \(vocabularyCount) rows")
        }

        self.file = file
        self.architecture = architecture
        name = ModelDescription.printable(
            try metadata.string("general.name") ?? architecture.rawValue)
        self.layerCount = layerCount
        self.embeddingLength = embeddingLength
        self.headCount = headCount
        self.keyValueHeadCount = keyValueHeadCount
        self.headSize = headSize
        rotary = try reader.rotary(headSize: headSize, contextLength: contextLength)
        rotatesNeighbours =
            try metadata.bool("sluice.rope.halves") == true
            ? false : architecture.rotatesNeighbours
        normEpsilon = Float(epsilon)
        self.expertCount = expertCount
        self.expertsPerToken = expertsPerToken
        normalisesGateWeights =
            try metadata.bool("\(prefix).expert_weights_norm") ?? architecture.normalisesGateWeights
        self.vocabularyCount = vocabularyCount
        self.contextLength = contextLength
        tokenEmbedding = embedding
        outputNorm = try reader.vector("output_norm.weight", embeddingLength)
        output =
            file.tensor(named: "output.weight") == nil
            ? nil
            : try reader.tensor("output.weight", columns: embeddingLength, rows: vocabularyCount)
        rotaryDivisors =
            file.tensor(named: "rope_freqs.weight") == nil
            ? nil : try reader.vector("rope_freqs.weight", rotary.dimensionCount / 2)

        let queryWidth = headCount * headSize
        let keyWidth = keyValueHeadCount * headSize
        var layers: [Layer] = []
        var expertWidth: Int?
        for index in 0..<layerCount {
            let block = "blk.\(index)"
            let (queryNormLength, keyNormLength): (Int?, Int?) =
                switch architecture.projectionNorm {
                case .none: (nil, nil)
                case .perHead: (headSize, headSize)
                case .wholeProjection: (queryWidth, keyWidth)
                }
            let parts = try reader.experts(
                layer: index, block: block, embeddingLength: embeddingLength,
                expertCount: expertCount,
                expertWidth: expertWidth)
            expertWidth = parts[0].rows
            layers.append(
                Layer(
                    attentionNorm: try reader.vector("\(block).attn_norm.weight", embeddingLength),
                    query: try reader.tensor(
                        "\(block).attn_q.weight", columns: embeddingLength, rows: queryWidth),
                    key: try reader.tensor(
                        "\(block).attn_k.weight", columns: embeddingLength, rows: keyWidth),
                    value: try reader.tensor(
                        "\(block).attn_v.weight", columns: embeddingLength, rows: keyWidth),
                    attentionOutput: try reader.tensor(
                        "\(block).attn_output.weight", columns: queryWidth, rows: embeddingLength),
                    queryNorm: try queryNormLength.map { length throws(ModelFileError) in
                        try reader.vector("\(block).attn_q_norm.weight", length)
                    },
                    keyNorm: try keyNormLength.map { length throws(ModelFileError) in
                        try reader.vector("\(block).attn_k_norm.weight", length)
                    },
                    expertNorm: try reader.vector("\(block).ffn_norm.weight", embeddingLength),
                    router: try reader.tensor(
                        "\(block).ffn_gate_inp.weight", columns: embeddingLength, rows: expertCount),
                    parts: parts))
        }
        self.layers = layers
        self.expertWidth = expertWidth ?? 0
        try reader.refuseUnusedTensors()
    }

    /// A name from a file, fit for a terminal and a log: one line, no control characters, not
    /// endless.
    private static func printable(_ name: String) -> String {
        String(
            String.UnicodeScalarView(
                name.unicodeScalars.prefix(200).map { scalar in
                    switch scalar.properties.generalCategory {
                    case .control, .format, .lineSeparator, .paragraphSeparator: "?"
                    default: scalar
                    }
                }))
    }
}
