/// Qwen 2 and 2.5, without experts: queries, keys and values have biases.
struct Qwen2Family: HuggingFaceFamily {
    let classNames = ["Qwen2ForCausalLM"]
    let architecture = "qwen2"

    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        try keys.addTransformer()
    }

    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.qwenAttention()
        try tensors.feedForward("mlp")
    }
}

/// Qwen 3, without experts: queries and keys are normalised.
struct Qwen3Family: HuggingFaceFamily {
    let classNames = ["Qwen3ForCausalLM"]
    let architecture = "qwen3"

    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        try keys.addTransformer()
    }

    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.qwenAttention(normalises: true)
        try tensors.feedForward("mlp")
    }
}

/// Qwen 1.5 and 2 with experts, and one that every token uses, behind a gate.
struct Qwen2MoeFamily: HuggingFaceFamily {
    let classNames = ["Qwen2MoeForCausalLM"]
    let architecture = "qwen2moe"

    func expertCount(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) -> Int {
        try configuration.count(["num_experts", "num_local_experts"], 1...65_536)
    }

    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        try keys.addTransformer()
        try keys.addExperts()
        try keys.addExpertWidth()
        keys.add(
            "expert_shared_feed_forward_length",
            count: try keys.configuration.count("shared_expert_intermediate_size"))
        keys.addRouting(
            .softmax, normalises: try keys.configuration.bool("norm_topk_prob", absent: false))
    }

    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.qwenAttention()
        try tensors.expertsOrDense(sharesOne: true)
    }
}

/// Qwen 3 with experts.
struct Qwen3MoeFamily: HuggingFaceFamily {
    let classNames = ["Qwen3MoeForCausalLM"]
    let architecture = "qwen3moe"

    func expertCount(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) -> Int {
        try configuration.count(["num_experts", "num_local_experts"], 1...65_536)
    }

    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        let configuration = keys.configuration
        try keys.addTransformer()
        try keys.addExperts()
        try keys.addExpertWidth()
        keys.addRouting(
            .softmax, normalises: try configuration.bool("norm_topk_prob", absent: false))
    }

    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.qwenAttention(normalises: true)
        try tensors.expertsOrDense()
    }
}

/// OLMoE (arXiv 2409.02060): queries and keys are normalised over all heads.
struct OlmoeFamily: HuggingFaceFamily {
    let classNames = ["OlmoeForCausalLM"]
    let architecture = "olmoe"

    func expertCount(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) -> Int {
        try configuration.count(["num_experts", "num_local_experts"], 1...65_536)
    }

    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        let configuration = keys.configuration
        if configuration.has("clip_qkv") {
            throw configuration.error(
                "clip_qkv",
                "clipping queries, keys and values at \(try configuration.number("clip_qkv")) "
                    + "is not supported")
        }
        try keys.addTransformer()
        try keys.addExperts()
        keys.addRouting(
            .softmax, normalises: try configuration.bool("norm_topk_prob", absent: false))
    }

    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.qwenAttention(normalises: true)
        try tensors.expertsOrDense()
    }
}

extension HuggingFaceKeys {
    mutating func addExpertWidth() throws(ModelFileError) {
        add(
            "expert_feed_forward_length", count: try configuration.count("moe_intermediate_size"))
    }
}

extension HuggingFaceTensors {
    /// Norms and attention of a layer, with biases where there are any.
    fileprivate mutating func qwenAttention(
        normalises: Bool = false
    ) throws(ModelFileError) {
        try weight("input_layernorm", "attn_norm")
        for (theirs, gguf) in Self.attentionNames { try projection(theirs, gguf) }
        if normalises {
            try weight("self_attn.q_norm", "attn_q_norm")
            try weight("self_attn.k_norm", "attn_k_norm")
        }
        try weight("post_attention_layernorm", "ffn_norm")
    }
}
