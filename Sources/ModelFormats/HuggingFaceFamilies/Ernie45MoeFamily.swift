/// ERNIE 4.5 with experts: a bias corrects the choice of experts, some are used by every token, and
/// some layers have none. What predicts further tokens is left out.
struct Ernie45MoeFamily: HuggingFaceFamily {
    let classNames = ["Ernie4_5_MoeForCausalLM"]
    let architecture = "ernie4_5-moe"
    let tiesEmbeddings = true

    func expertCount(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) -> Int {
        try configuration.count(["moe_num_experts", "num_experts"], 1...65_536)
    }

    func leavesOut(_ name: String, _ configuration: HuggingFaceConfiguration) -> Bool {
        ["mtp_block.", "mtp_emb_norm.", "mtp_hidden_norm.", "mtp_linear_proj."]
            .contains { name.hasPrefix("model.\($0)") }
    }

    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        let configuration = keys.configuration
        try keys.addTransformer()
        try keys.addExperts(used: configuration.has("moe_k") ? "moe_k" : "num_experts_per_tok")
        keys.add(
            "interleave_moe_layer_step",
            count: try configuration.count("moe_layer_interval", 1...4096, absent: 1))
        keys.add(
            "leading_dense_block_count",
            count: try configuration.count("moe_layer_start_index", 0...4096, absent: 1))
        try keys.addExpertWidth()
        let shared = try configuration.count("moe_num_shared_experts", 0...4096, absent: 2)
        keys.add("expert_shared_count", count: shared)
        if shared > 0 {
            // They lie as one that is as wide as all of them. The converter derives the width from the
            // dense layers', which gives the same for the models there are.
            let width = shared * (try configuration.count("moe_intermediate_size"))
            guard width <= HuggingFaceConfiguration.widthLimit else {
                throw configuration.error(
                    "moe_num_shared_experts", "\(width) elements of width are too many")
            }
            keys.add("expert_shared_feed_forward_length", count: width)
        }
        keys.addRouting(.softmax, normalises: true)
    }

    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.weight("input_layernorm", "attn_norm")
        for (theirs, gguf) in HuggingFaceTensors.attentionNames {
            try tensors.weight(theirs, gguf)
        }
        try tensors.weight("post_attention_layernorm", "ffn_norm")
        guard tensors.has("mlp.gate.weight") else { return try tensors.feedForward("mlp") }
        try tensors.expertsOrDense()
        // As checkpoints have it, and as the model has it since transformers 5.
        let bias = "moe_statics.e_score_correction_bias"
        let isNew = tensors.has("mlp.gate.\(bias)")
        try tensors.vector(isNew ? "mlp.gate.\(bias)" : "mlp.\(bias)", "exp_probs_b.bias")
        if tensors.has("mlp.shared_experts.gate_proj.weight") {
            try tensors.feedForward("mlp.shared_experts", suffix: "_shexp")
        }
    }
}
