/// GLM 4.5 and 4.6: a part of each head rotates, a bias corrects the choice of experts, one is used by
/// every token. The layer that predicts a further token is left out, and not counted.
struct Glm4MoeFamily: HuggingFaceFamily {
    let classNames = ["Glm4MoeForCausalLM"]
    let architecture = "glm4moe"

    func expertCount(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) -> Int {
        try configuration.count(
            ["n_routed_experts", "num_local_experts", "num_experts"], 1...65_536)
    }

    func leavesOut(_ name: String, _ configuration: HuggingFaceConfiguration) -> Bool {
        isBehindLastLayer(name, configuration)
    }

    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        let configuration = keys.configuration
        try configuration.refuseQuantization()
        try configuration.require("hidden_act", "silu")
        try keys.addSizes()
        try keys.addHeads()
        try keys.addEpsilon()
        let rotated = try configuration.rotatedCount(absent: 0.5)
        keys.add("rope.dimension_count", count: rotated)
        try keys.addRotary(dimensionCount: rotated)
        keys.add("nextn_predict_layers", count: 0)
        keys.add(
            "leading_dense_block_count",
            count: try configuration.count("first_k_dense_replace", 0...4096, absent: 1))
        try keys.addExperts()
        try keys.addExpertWidth()
        keys.add(
            "expert_shared_count",
            count: try configuration.count("n_shared_experts", 0...65_536, absent: 1))
        let experts = try expertCount(configuration)
        let groups = try configuration.count("n_group", 1...experts, absent: 1)
        guard experts % groups == 0 else {
            throw configuration.error(
                "n_group", "\(groups) groups cannot share \(experts) experts")
        }
        keys.add("expert_group_count", count: groups)
        keys.add(
            "expert_group_used_count",
            count: try configuration.count("topk_group", 1...groups, absent: 1))
        keys.addRouting(
            .sigmoid, normalises: try configuration.bool("norm_topk_prob", absent: true),
            scale: try configuration.number("routed_scaling_factor", absent: 1))
    }

    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.weight("input_layernorm", "attn_norm")
        for (theirs, gguf) in HuggingFaceTensors.attentionNames {
            try tensors.projection(theirs, gguf)
        }
        if tensors.has("self_attn.q_norm.weight") {
            try tensors.weight("self_attn.q_norm", "attn_q_norm")
            try tensors.weight("self_attn.k_norm", "attn_k_norm")
        }
        try tensors.weight("post_attention_layernorm", "post_attention_norm")
        guard tensors.has("mlp.gate.weight") else { return try tensors.feedForward("mlp") }
        try tensors.expertsOrDense()
        try tensors.vector("mlp.gate.e_score_correction_bias", "exp_probs_b.bias")
        if tensors.has("mlp.shared_experts.gate_proj.weight") {
            try tensors.feedForward("mlp.shared_experts", suffix: "_shexp")
        }
    }
}
