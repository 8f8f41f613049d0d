public import ModelFormats

/// What a model file says about itself, checked: hyper-parameters, and for every role the tensor
/// that fills it. Anything that could make the engine trap or answer wrongly later is refused here,
/// with the file, the key or tensor, and the place named.
public struct ModelDescription: Sendable {
    public let file: ModelFile
    public let architecture: Architecture
    /// `general.name`, or the architecture's name where the file gives none.
    public let name: String
    /// Layers of the transformer.
    public let layerCount: Int
    /// Width of the residual stream, in elements.
    public let embeddingLength: Int
    public let headCount: Int
    public internal(set) var keyValueHeadCount: Int
    /// Elements of a query and of a key of one head.
    public internal(set) var headSize: Int
    /// Elements of a value of one head.
    public internal(set) var valueSize: Int
    public internal(set) var rotary: RotaryEmbedding
    /// Whether rotary position embedding turns neighbouring elements (2i, 2i + 1) rather than (i, i
    /// + n / 2): as the architecture's files have it, unless `sluice.rope.halves` says that the
    /// rows were not reordered for that.
    public internal(set) var rotatesNeighbours = false
    public internal(set) var normKind = NormKind.rms
    public internal(set) var normEpsilon: Float
    public internal(set) var multipliers = Multipliers()
    /// Experts of a layer that has any; 1 in a dense model, whose feed-forward is the one expert that
    /// every token uses.
    public let expertCount: Int
    /// Experts that compute for one token: top-k.
    public let expertsPerToken: Int
    /// Rows of an expert's gate and up matrices.
    public internal(set) var expertWidth = 0
    public internal(set) var routing: Routing
    public internal(set) var activation = ExpertActivation.silu
    public let vocabularyCount: Int
    /// Positions the model was trained for.
    public let contextLength: Int

    /// (vocabulary, embedding)
    public let tokenEmbedding: GGUFTensor
    public internal(set) var outputNorm: Norm
    /// (vocabulary, embedding), with what is added to the logits; the weight is the token embedding's
    /// where that serves as the head.
    public internal(set) var output: Projection
    /// (rotary pairs): divisors of the rotary angles, where the file has them.
    public internal(set) var rotaryDivisors: GGUFTensor?
    /// The same for contexts longer than the trained one, where they differ.
    public internal(set) var longRotaryDivisors: GGUFTensor?
    public internal(set) var layers: [Layer] = []
    /// Numbers of the layers that have experts. What streams, traces and predicts experts counts
    /// only these, from 0 on.
    public internal(set) var expertLayers: [Int] = []

    /// Layers that have experts.
    public var expertLayerCount: Int { expertLayers.count }

    /// Layers that look positions up: those with keys and values, or latents of them.
    public var attentionLayerCount: Int {
        layers.count {
            switch $0.mixer {
            case .attention, .latent: true
            case .convolution, .deltaNet: false
            }
        }
    }

    /// Latent attention, where the model has it: all of its layers are alike.
    var latentAttention: LatentAttention? {
        for layer in layers {
            if case .latent(let latent) = layer.mixer { return latent }
        }
        return nil
    }

    /// Whether latents of positions are kept, of which all heads' keys and values are made.
    public var keepsLatents: Bool { latentAttention != nil }

    /// Whether every token uses the one expert there is.
    public var isDense: Bool { routing.gating == .always }

    /// Every tensor that stays in memory, by what it is for.
    public var roles: [(role: TensorRole, tensors: [GGUFTensor])] {
        let head = tiesEmbeddings ? [] : [output.weight]
        let vectors = [rotaryDivisors, longRotaryDivisors, output.bias].compactMap { $0 }
        var byRole: [TensorRole: [GGUFTensor]] = [
            .embedding: [tokenEmbedding], .head: head, .norm: outputNorm.tensors + vectors,
        ]
        for (role, tensors) in layers.flatMap(\.roles) { byRole[role, default: []] += tensors }
        return TensorRole.allCases.compactMap { role in
            byRole[role].flatMap { $0.isEmpty ? nil : (role, $0) }
        }
    }

    /// Every tensor that stays in memory.
    public var residentTensors: [GGUFTensor] { roles.flatMap(\.tensors) }

    /// Every matrix that stays in memory and that a token is multiplied with, but for the head.
    public var matricesPerToken: [GGUFTensor] {
        roles.filter { !$0.role.isWidened && $0.role != .embedding && $0.role != .head }
            .flatMap(\.tensors)
    }

    /// Whether the token embedding serves as the head.
    public var tiesEmbeddings: Bool { output.weight.name == tokenEmbedding.name }

    /// Gate, up and down matrices of the experts of an expert layer.
    public func expertParts(layer: Int) -> [ExpertPart] {
        guard let experts = layers[expertLayers[layer]].experts else { return [] }
        return experts.parts
    }

    /// Planes of every expert, most significant first; 1 where weights are not cut into planes.
    public var planesPerExpert: Int { file.package?.planesPerExpert ?? 1 }

    /// Whether a prefix of an expert's planes is a coarser version of it, to which the others add; if
    /// not, plane 0 is a coarser version and plane 1 the whole.
    public var planesNest: Bool { file.package?.manifest.nested ?? true }

    /// Where part `part` (gate, up, down) of a plane of an expert lies; 0 bytes for a part that is not
    /// in this plane.
    ///
    /// - Parameter layer: among those with experts.
    public func extent(
        layer: Int, expert: Int, plane: Int, part: Int
    ) -> (fileIndex: Int, offset: UInt64, byteCount: Int) {
        if let package = file.package {
            let extent = package.extent(layer: layer, expert: expert, plane: plane, part: part)
            return (0, extent.offset, extent.byteCount)
        }
        let matrix = expertParts(layer: layer)[part]
        let place = matrix.place(of: expert)
        return (place.fileIndex, place.offset, matrix.byteCount)
    }

    /// CRC-32C of a plane of an expert, over its bytes from the first of its first part to the last of
    /// its last part; nil where the file has none.
    public func checksum(layer: Int, expert: Int, plane: Int) -> UInt32? {
        file.package?.checksum(layer: layer, expert: expert, plane: plane)
    }

    /// Bytes of the experts of one layer among those with experts, all of them.
    public func expertBytes(layer: Int) -> Int {
        expertParts(layer: layer).reduce(0) { $0 + $1.byteCount } * expertCount
    }

    /// Bytes of the experts one token uses, over all layers.
    public var activeSetBytes: Int {
        (0..<expertLayerCount).reduce(0) { $0 + expertBytes(layer: $1) } / expertCount
            * expertsPerToken
    }

    /// Reads the description of a GGUF file.
    public init(file: GGUFFile) throws(ModelFileError) { try self.init(file: ModelFile(file)) }

    /// Reads the description of `file`.
    ///
    /// - Throws: `ModelFileError` where the file is not a model that Sluice can compute.
    public init(file: ModelFile) throws(ModelFileError) {
        let metadata = file.metadata
        guard let architectureName = try metadata.string("general.architecture") else {
            throw metadata.error(
                "general.architecture", "missing; the file does not say what model it is")
        }
        guard let architecture = Architecture.named(architectureName) else {
            let known = Architecture.all.map(\.name).joined(separator: ", ")
            throw metadata.error(
                "general.architecture",
                "'\(architectureName)' is not supported; supported are \(known)")
        }
        var reader = DescriptionReader(file: file, prefix: architecture.name)
        self = try ModelDescription(architecture, &reader)
        try architecture.read(&reader, &self)
        // One expert's rows are every layer's: the engine's buffers have one shape.
        expertWidth = layers.lazy.compactMap { $0.experts?.parts[0].rows }.first ?? 0
        expertLayers = layers.indices.filter { layers[$0].experts != nil }
        guard !expertLayers.isEmpty else {
            throw metadata.error(
                "\(architecture.name).block_count",
                "\(layerCount) layers, none of them with experts")
        }
        if let problem = routing.problem(experts: expertCount, perToken: expertsPerToken) {
            throw reader.keyError("expert_used_count", problem)
        }
        try reader.refuseUnsupportedKeys(contextLength: contextLength)
        try reader.refuseUnusedTensors()
    }

    /// What all architectures have.
    private init(
        _ architecture: Architecture, _ reader: inout DescriptionReader
    ) throws(ModelFileError) {
        let metadata = reader.file.metadata
        let prefix = architecture.name
        let blockCount = try reader.count("block_count", 1...4096)
        // Layers that predict tokens beyond the next one come last.
        let predicting = try reader.count("nextn_predict_layers", 0...(blockCount - 1), default: 0)
        layerCount = blockCount - predicting
        for block in layerCount..<blockCount { reader.skip(block: block) }
        embeddingLength = try reader.count("embedding_length", 1...1_048_576)
        headCount = try reader.uniformCount("attention.head_count", 1...65_536, layers: layerCount)
        keyValueHeadCount = try reader.uniformCount(
            "attention.head_count_kv", 1...headCount, layers: layerCount, default: headCount)
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
        headSize = try reader.count(
            "attention.key_length", 1...65_536, default: embeddingLength / headCount)
        valueSize = try reader.count("attention.value_length", 1...65_536, default: headSize)
        let experts = try reader.count("expert_count", 0...65_536, default: 0)
        expertCount = max(1, experts)
        if experts > 0 {
            expertsPerToken = try reader.count("expert_used_count", 1...min(experts, 1024))
            routing = try reader.routing(architecture.routing, expertCount: experts)
        } else {
            expertsPerToken = 1
            routing = Routing(gating: .always)
        }
        contextLength = try reader.count("context_length", 1...(1 << 24))
        normEpsilon = try reader.normEpsilon(architecture.normKind)
        normKind = architecture.normKind

        let embedding = try reader.tensor("token_embd.weight", columns: embeddingLength, rows: nil)
        vocabularyCount = embedding.shape[1]
        guard vocabularyCount <= 1 << 24 else {
            throw reader.error(embedding, "\(vocabularyCount) tokens are more than 16,777,216")
        }
        if let tokens = try metadata.array("tokenizer.ggml.tokens"), tokens.count != vocabularyCount
        {
            throw metadata.error(
                "tokenizer.ggml.tokens",
                "\(tokens.count) tokens, but token_embd.weight has \(vocabularyCount) rows")
        }
        tokenEmbedding = embedding
        file = reader.file
        self.architecture = architecture
        name = ModelDescription.printable(
            try metadata.string("general.name") ?? architecture.name)
        rotary = try reader.rotary(
            headSize: headSize, contextLength: contextLength, roundsRamp: architecture.roundsRamp)
        outputNorm = try reader.norm(architecture.outputNormName, embeddingLength, normKind)
        output = Projection(
            weight: reader.has("output.weight")
                ? try reader.tensor(
                    "output.weight", columns: embeddingLength, rows: vocabularyCount) : embedding,
            bias: try reader.optionalVector("output.bias", vocabularyCount))
        (rotaryDivisors, longRotaryDivisors) = try reader.rotaryDivisors(
            pairs: rotary.dimensionCount / 2)
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
