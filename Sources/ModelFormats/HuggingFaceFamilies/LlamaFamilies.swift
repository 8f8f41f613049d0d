/// Llama, without experts. Its `attn_q` and `attn_k` keep the order of rows they were trained in.
struct LlamaFamily: HuggingFaceFamily {
    let classNames = ["LlamaForCausalLM"]
    let architecture = "llama"

    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        try keys.addLlama()
    }

    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.weight("input_layernorm", "attn_norm")
        for (theirs, gguf) in HuggingFaceTensors.attentionNames {
            try tensors.projection(theirs, gguf)
        }
        try tensors.weight("post_attention_layernorm", "ffn_norm")
        try tensors.feedForward("mlp")
    }
}

/// Mixtral (arXiv 2401.04088): a Llama with experts.
struct MixtralFamily: HuggingFaceFamily {
    let classNames = ["MixtralForCausalLM"]
    let architecture = "llama"

    func expertCount(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) -> Int {
        try configuration.count(["num_experts", "num_local_experts"], 1...65_536)
    }

    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        try keys.addLlama()
        try keys.addExperts()
        keys.addRouting(.softmax, normalises: true)
    }

    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.weight("input_layernorm", "attn_norm")
        for (theirs, gguf) in HuggingFaceTensors.attentionNames {
            try tensors.weight(theirs, gguf)
        }
        try tensors.weight("post_attention_layernorm", "ffn_norm")
        // As checkpoints have it, and as the model has it since transformers 5.
        let module = tensors.has("mlp.gate.weight") ? "mlp" : "block_sparse_moe"
        try tensors.weight("\(module).gate", "ffn_gate_inp")
        try tensors.experts(
            "\(module).experts", ("w1", "w3", "w2"),
            stacked: [("\(module).experts.gate_up_proj", "\(module).experts.down_proj")])
    }
}

extension HuggingFaceKeys {
    /// Adds the keys of a `llama`, with or without experts.
    fileprivate mutating func addLlama() throws(ModelFileError) {
        try addTransformer()
        add("vocab_size", count: configuration.vocabularyCount)
        add("rope.dimension_count", count: try configuration.headSize())
        // Converters reorder the rows of queries and keys; here they lie as they were trained.
        addOwn("rope.halves", flag: true)
    }
}

extension HuggingFaceTensors {
    /// Queries, keys, values and output, as most families call them.
    static let attentionNames = [
        ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"),
    ]
}
