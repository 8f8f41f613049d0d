/// LFM2 with experts: short convolutions in place of attention in most layers.
///
/// The few numbers of a convolution's kernel are rewritten as F32, as converters do.
struct Lfm2MoeFamily: HuggingFaceFamily {
    let classNames = ["Lfm2MoeForCausalLM"]
    let architecture = "lfm2moe"
    let tiesEmbeddings = true

    func expertCount(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) -> Int {
        try configuration.count(["num_experts", "num_local_experts"], 1...65_536)
    }

    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        let configuration = keys.configuration
        try configuration.refuseQuantization()
        try configuration.refusePartialRotation()
        try configuration.require("conv_bias", false, "a bias of convolutions")
        try keys.addSizes()
        try keys.addHeadSize()
        try keys.addEpsilon("norm_eps")
        try keys.addRotary(dimensionCount: configuration.headSize())
        guard let kinds = try configuration.perLayer("layer_types") else {
            throw configuration.error("layer_types", "missing; this family of models needs it")
        }
        // None where a layer has no attention.
        var heads: [Int] = []
        for kind in kinds {
            guard let kind = kind.string, ["conv", "full_attention"].contains(kind) else {
                throw configuration.error(
                    "layer_types", "\(kind.text) is neither 'conv' nor 'full_attention'")
            }
            heads.append(kind == "conv" ? 0 : configuration.keyValueHeadCount)
        }
        keys.add("attention.head_count_kv", counts: heads)
        keys.add("vocab_size", count: configuration.vocabularyCount)
        keys.add("shortconv.l_cache", count: try configuration.count("conv_L_cache", 1...4096))
        keys.add(
            "leading_dense_block_count",
            count: try configuration.count("num_dense_layers", 0...4096, absent: 2))
        try keys.addExperts()
        try keys.addExpertWidth()
        keys.addRouting(
            .sigmoid, normalises: try configuration.bool("norm_topk_prob", absent: true),
            scale: try configuration.number("routed_scaling_factor", absent: 1))
    }

    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.weight("operator_norm", "attn_norm")
        if tensors.has("conv.conv.weight") {
            try tensors.weight("conv.in_proj", "shortconv.in_proj")
            try tensors.numbers("conv.conv.weight", "shortconv.conv.weight", .none)
            try tensors.weight("conv.out_proj", "shortconv.out_proj")
        } else {
            for name in ["q", "k", "v"] {
                try tensors.weight("self_attn.\(name)_proj", "attn_\(name)")
            }
            try tensors.weight("self_attn.out_proj", "attn_output")
            try tensors.weight("self_attn.q_layernorm", "attn_q_norm")
            try tensors.weight("self_attn.k_layernorm", "attn_k_norm")
        }
        try tensors.weight("ffn_norm", "ffn_norm")
        let names = ("w1", "w3", "w2")
        guard tensors.has("feed_forward.gate.weight") else {
            return try tensors.feedForward("feed_forward", names: names)
        }
        try tensors.weight("feed_forward.gate", "ffn_gate_inp")
        if tensors.has("feed_forward.expert_bias") {
            try tensors.vector("feed_forward.expert_bias", "exp_probs_b.bias")
        }
        let experts = "feed_forward.experts"
        try tensors.experts(
            experts, names, stacked: [("\(experts).gate_up_proj", "\(experts).down_proj")])
    }

    /// The norm before the head has the name of one behind the embedding, there and in GGUF.
    func takeOutputNorm(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.weight("model.embedding_norm", "token_embd_norm")
    }
}
