/// The `config.json` of a model: which transformer it is, checked to be one that Sluice computes,
/// and its hyper-parameters.
///
/// What asks for arithmetic that is not done here is refused by name; leaving it out would give
/// fluent nonsense. Defaults are those of the transformers package.
struct HuggingFaceConfiguration {
    let family: HuggingFaceFamily
    let layerCount: Int
    let expertCount: Int
    let vocabularyCount: Int
    /// Whether the token embedding serves as the head.
    let tiesEmbeddings: Bool
    private let object: JSONObject
    private let headCount: Int

    private static let fileName = "config.json"

    init(_ directory: HuggingFaceDirectory) throws(ModelFileError) {
        guard let object = try directory.object(Self.fileName) else {
            throw ModelFileError(
                path: directory.path,
                message:
                    "\(Self.fileName) is missing; give a directory as Hugging Face lays it out, "
                    + "or a GGUF file")
        }
        self.object = object
        let names = try object.array("architectures") ?? []
        guard let name = names.first?.string else {
            throw object.error("architectures", "missing; it does not say what model it is")
        }
        guard names.count == 1, let family = HuggingFaceFamily(rawValue: name) else {
            let known = HuggingFaceFamily.allCases.map(\.rawValue).joined(separator: ", ")
            throw object.error(
                "architectures", "'\(name)' is not supported; supported are \(known)")
        }
        self.family = family
        layerCount = try Self.count(object, "num_hidden_layers", 1...4096)
        headCount = try Self.count(object, "num_attention_heads", 1...65_536)
        // The two names of one thing: transformers 5 writes the second for every family.
        let expertsKey = object["num_experts"] != nil ? "num_experts" : "num_local_experts"
        expertCount = try Self.count(object, expertsKey, 1...65_536)
        vocabularyCount = try Self.count(object, "vocab_size", 1...1 << 24)
        tiesEmbeddings = try object.bool("tie_word_embeddings") ?? false
        try refuseUnsupported()
    }

    /// An error about a member of the file.
    func error(_ name: String, _ message: String) -> ModelFileError {
        object.error(name, message)
    }

    /// Token numbers under `name`, which may be one or several; those outside the vocabulary left
    /// out, as configurations come with defaults that mean nothing.
    func tokenIDs(_ name: String) throws(ModelFileError) -> [Int] {
        try Self.tokenIDs(object, name, below: vocabularyCount)
    }

    static func tokenIDs(
        _ object: JSONObject, _ name: String, below limit: Int
    ) throws(ModelFileError) -> [Int] {
        guard let value = object[name] else { return [] }
        var ids: [Int] = []
        for element in value.elements ?? [value] {
            guard let id = element.integer else {
                throw object.error(name, "expected token numbers, found \(value.text)")
            }
            if id >= 0, id < limit { ids.append(id) }
        }
        return ids
    }

    /// Adds the keys that llama.cpp's converter writes for the family, and those that say what it
    /// leaves to the reader.
    func write(to writer: inout GGUFMetadataWriter) throws(ModelFileError) {
        let prefix = family.ggufArchitecture
        func count(
            _ name: String, _ range: ClosedRange<Int> = 1...1 << 24
        ) throws(ModelFileError) -> UInt32 {
            UInt32(try Self.count(object, name, range))
        }
        let hidden = try count("hidden_size", 1...1_048_576)
        let context = try count("max_position_embeddings")
        writer.add("\(prefix).block_count", UInt32(layerCount))
        writer.add("\(prefix).context_length", context)
        writer.add("\(prefix).embedding_length", hidden)
        if object["intermediate_size"] != nil {
            writer.add("\(prefix).feed_forward_length", try count("intermediate_size"))
        }
        writer.add("\(prefix).attention.head_count", UInt32(headCount))
        writer.add(
            "\(prefix).attention.head_count_kv",
            object["num_key_value_heads"] == nil
                ? UInt32(headCount) : try count("num_key_value_heads"))
        guard let epsilon = try object.number("rms_norm_eps") else {
            throw object.error("rms_norm_eps", "missing")
        }
        writer.add("\(prefix).attention.layer_norm_rms_epsilon", Float(epsilon))
        writer.add("\(prefix).expert_count", UInt32(expertCount))
        writer.add("\(prefix).expert_used_count", try count("num_experts_per_tok"))
        if family == .qwen3moe {
            writer.add("\(prefix).expert_feed_forward_length", try count("moe_intermediate_size"))
        }
        if family.choosesGateNormalisation {
            writer.add(
                "\(prefix).expert_weights_norm", try object.bool("norm_topk_prob") ?? false)
        }
        let headSize = object["head_dim"] == nil ? nil : try count("head_dim", 1...65_536)
        if let headSize {
            writer.add("\(prefix).attention.key_length", headSize)
            writer.add("\(prefix).attention.value_length", headSize)
        }
        if family == .mixtral {
            writer.add("\(prefix).vocab_size", UInt32(vocabularyCount))
            writer.add("\(prefix).rope.dimension_count", headSize ?? hidden / UInt32(headCount))
            // Converters reorder the rows of queries and keys; here they lie as they were trained.
            writer.add("sluice.rope.halves", true)
        }
        try writeRotary(prefix, context, to: &writer)
    }

    // Rotary position embedding

    private func writeRotary(
        _ prefix: String, _ context: UInt32, to writer: inout GGUFMetadataWriter
    ) throws(ModelFileError) {
        // transformers 5 writes both in one object, before it they were two members.
        let inOne = try object.object("rope_parameters")
        let apart = try object.object("rope_scaling")
        let outside = try object.number("rope_theta")
        guard let base = try inOne?.number("rope_theta") ?? outside else {
            throw object.error("rope_theta", "missing, here and in 'rope_parameters'")
        }
        writer.add("\(prefix).rope.freq_base", Float(base))
        guard let rope = inOne ?? apart else { return }
        let olderType = try rope.string("type")
        let type = try rope.string("rope_type") ?? olderType ?? "default"
        if type == "default" || type == "none" { return }
        guard type == "linear" || type == "yarn" else {
            throw rope.error(
                rope["rope_type"] == nil ? "type" : "rope_type",
                "'\(type)' is not supported; default, linear and yarn are")
        }
        guard let factor = try rope.number("factor"), factor >= 1, factor < 1e6 else {
            throw rope.error("factor", "missing, or not between 1 and 1e6")
        }
        writer.add("\(prefix).rope.scaling.type", type)
        writer.add("\(prefix).rope.scaling.factor", Float(factor))
        guard type == "yarn" else { return }
        let trained = try rope.integer("original_max_position_embeddings") ?? Int(context)
        guard 1...1 << 24 ~= trained else {
            throw rope.error(
                "original_max_position_embeddings", "\(trained) is not between 1 and 16777216")
        }
        writer.add("\(prefix).rope.scaling.original_context_length", UInt32(trained))
        // The paper's values, which are built in; see `RotaryEmbedding`.
        for (name, builtIn) in [("beta_fast", 32.0), ("beta_slow", 1.0)] {
            if let value = try rope.number(name), value != builtIn {
                throw rope.error(name, "\(value) is not supported, only \(builtIn) is")
            }
        }
        for name in ["attention_factor", "mscale", "mscale_all_dim"] where rope[name] != nil {
            throw rope.error(name, "not supported; only the value that follows from 'factor' is")
        }
        if try rope.bool("truncate") == false {
            throw rope.error("truncate", "false is not supported")
        }
    }

    // Refusals

    private func refuseUnsupported() throws(ModelFileError) {
        if let activation = try object.string("hidden_act"), activation != "silu" {
            throw object.error("hidden_act", "'\(activation)' is not supported, only silu is")
        }
        if let quantization = object["quantization_config"] {
            let method = quantization["quant_method"]?.string.map { " (\($0))" } ?? ""
            throw object.error(
                "quantization_config",
                "quantised weights\(method) are not supported; use the model's F32, F16 or BF16 weights"
            )
        }
        if let value = object["clip_qkv"] {
            throw object.error(
                "clip_qkv", "clipping queries, keys and values at \(value.text) is not supported")
        }
        try refuseSlidingWindow()
        try refuseDenseLayers()
        for name in ["shared_expert_intermediate_size", "num_shared_experts", "n_shared_experts"] {
            if let value = object[name], value.integer != 0 {
                throw object.error(name, "\(value.text): shared experts are not supported")
            }
        }
        for holder in [object, try object.object("rope_parameters")].compactMap({ $0 }) {
            if let share = try holder.number("partial_rotary_factor"), share != 1 {
                throw holder.error("partial_rotary_factor", "\(share) is not supported, only 1 is")
            }
        }
    }

    /// A window as long as the context hides nothing.
    private func refuseSlidingWindow() throws(ModelFileError) {
        guard try object.bool("use_sliding_window") ?? true,
            let window = try object.integer("sliding_window"),
            try window < Self.count(object, "max_position_embeddings", 1...1 << 24)
        else { return }
        throw object.error(
            "sliding_window", "attention to the last \(window) positions only is not supported")
    }

    private func refuseDenseLayers() throws(ModelFileError) {
        if let step = try object.integer("decoder_sparse_step"), step != 1 {
            throw object.error(
                "decoder_sparse_step",
                "\(step): layer 0 has no experts; layers without experts are not supported")
        }
        if let dense = try object.array("mlp_only_layers")?.first {
            throw object.error(
                "mlp_only_layers",
                "layer \(dense.text) has no experts; layers without experts are not supported")
        }
    }

    private static func count(
        _ object: JSONObject, _ name: String, _ range: ClosedRange<Int>
    ) throws(ModelFileError) -> Int {
        guard let value = try object.integer(name) else {
            throw object.error(name, "missing; every Mixture-of-Experts model needs it")
        }
        guard range.contains(value) else {
            throw object.error(
                name, "\(value) is not between \(range.lowerBound) and \(range.upperBound)")
        }
        return value
    }
}
