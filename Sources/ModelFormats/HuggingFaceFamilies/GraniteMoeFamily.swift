/// Granite's models with experts: multipliers on embeddings, residuals, attention and logits, and for
/// some an expert that every token uses.
///
/// GGUF's rotation takes neighbours for a pair, these checkpoints elements that are half a head apart:
/// rows of queries and keys are rewritten in the other order.
struct GraniteMoeFamily: HuggingFaceFamily {
    let classNames = ["GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"]
    let architecture = "granitemoe"

    func expertCount(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) -> Int {
        try configuration.count(["num_local_experts", "num_experts"], 1...65_536)
    }

    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        let configuration = keys.configuration
        try keys.addTransformer()
        try keys.addExperts()
        keys.addRouting(.softmaxOfChosen, normalises: false)
        keys.add("vocab_size", count: configuration.vocabularyCount)
        keys.add("rope.dimension_count", count: try configuration.headSize())
        for (name, key) in [
            ("attention_multiplier", "attention.scale"),
            ("embedding_multiplier", "embedding_scale"),
            ("residual_multiplier", "residual_scale"), ("logits_scaling", "logit_scale"),
        ] {
            let value = try configuration.number(name, absent: 1)
            guard value > 0 else { throw configuration.error(name, "\(value) is not above 0") }
            keys.add(key, number: value)
        }
        if let width = try sharedWidth(configuration) {
            keys.add("expert_shared_feed_forward_length", count: width)
        }
    }

    /// The width of the expert that every token uses; nil where there is none.
    private func sharedWidth(
        _ configuration: HuggingFaceConfiguration
    ) throws(ModelFileError) -> Int? {
        let name = "shared_intermediate_size"
        let width = try configuration.count(
            name, 0...HuggingFaceConfiguration.widthLimit, absent: 0)
        return width == 0 ? nil : width
    }

    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        let configuration = tensors.configuration
        try tensors.weight("input_layernorm", "attn_norm")
        let size = try configuration.headSize()
        for (theirs, gguf, heads) in [
            ("self_attn.q_proj", "attn_q", configuration.headCount),
            ("self_attn.k_proj", "attn_k", configuration.keyValueHeadCount),
        ] {
            try tensors.rows(
                "\(theirs).weight", shape: [heads * size, configuration.hiddenSize],
                [
                    (
                        "\(gguf).weight", heads * size,
                        { row in
                            row / size * size
                                + HuggingFaceTensors.neighbours(row % size, half: size / 2)
                        }
                    )
                ])
        }
        try tensors.weight("self_attn.v_proj", "attn_v")
        try tensors.weight("self_attn.o_proj", "attn_output")
        try tensors.weight("post_attention_layernorm", "ffn_norm")
        // As checkpoints have it, and as the model has it since transformers 5.
        let router = "block_sparse_moe.router"
        try tensors.weight(
            tensors.has("\(router).layer.weight") ? "\(router).layer" : router, "ffn_gate_inp")
        try tensors.experts(
            "block_sparse_moe.experts", ("gate_proj", "up_proj", "down_proj"),
            stacked: [
                ("block_sparse_moe.input_linear.weight", "block_sparse_moe.output_linear.weight"),
                ("block_sparse_moe.experts.gate_up_proj", "block_sparse_moe.experts.down_proj"),
            ])
        if try sharedWidth(configuration) != nil {
            try tensors.rowHalves(
                "shared_mlp.input_linear.weight", "ffn_gate_shexp.weight", "ffn_up_shexp.weight")
            try tensors.weight("shared_mlp.output_linear", "ffn_down_shexp")
        }
    }
}
