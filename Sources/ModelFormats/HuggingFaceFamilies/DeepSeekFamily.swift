/// DeepSeek-V2 (arXiv 2405.04434) and V3 (arXiv 2412.19437): latent attention, experts that every
/// token uses, and a choice of experts that may be limited to groups of them.
///
/// V3 takes the sigmoid of each logit where V2 takes the softmax of all, and has a bias that corrects
/// the choice. Its predictor of a second token is left out.
struct DeepSeekFamily: HuggingFaceFamily {
    let classNames: [String]
    let architecture = "deepseek2"
    private let generation: Generation

    private enum Generation { case two, three }

    static let v2 = DeepSeekFamily(classNames: ["DeepseekV2ForCausalLM"], generation: .two)
    static let v3 = DeepSeekFamily(classNames: ["DeepseekV3ForCausalLM"], generation: .three)

    private init(classNames: [String], generation: Generation) {
        self.classNames = classNames
        self.generation = generation
    }

    func expertCount(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) -> Int {
        try configuration.count(
            ["n_routed_experts", "num_experts", "num_local_experts"], 1...65_536)
    }

    func leavesOut(_ name: String, _ configuration: HuggingFaceConfiguration) -> Bool {
        isBehindLastLayer(name, configuration)
    }

    // Keys

    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        let configuration = keys.configuration
        try configuration.refuseQuantization()
        try configuration.require("hidden_act", "silu")
        try configuration.refusePartialRotation()
        try keys.addSizes()
        try keys.addEpsilon()
        keys.add("vocab_size", count: configuration.vocabularyCount)
        keys.add(
            "leading_dense_block_count",
            count: try configuration.count(
                "first_k_dense_replace", 0...4096, absent: generation == .two ? 0 : 3))

        let latent = try LatentSizes(configuration)
        if let rank = latent.queryRank { keys.add("attention.q_lora_rank", count: rank) }
        keys.add("attention.kv_lora_rank", count: latent.rank)
        // What is cached: one head of keys, which are the latent and a rotated part, and of values,
        // which are the latent.
        keys.add("attention.head_count_kv", count: 1)
        keys.add("attention.key_length", count: latent.rank + latent.rotated)
        keys.add("attention.value_length", count: latent.rank)
        keys.add("attention.key_length_mla", count: latent.plain + latent.rotated)
        keys.add("attention.value_length_mla", count: latent.value)
        keys.add("rope.dimension_count", count: latent.rotated)
        try keys.addRotary(dimensionCount: latent.rotated, scalesAttention: true)

        try keys.addExperts()
        try keys.addExpertWidth()
        keys.add(
            "expert_shared_count",
            count: try configuration.count(
                "n_shared_experts", 0...65_536, absent: generation == .two ? 2 : 1))
        try addRouting(to: &keys)
    }

    private func addRouting(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        let configuration = keys.configuration
        if try configuration.count("moe_layer_freq", absent: 1) != 1 {
            throw configuration.error("moe_layer_freq", "not supported, only 1 is")
        }
        let scale = try configuration.number(
            "routed_scaling_factor", absent: generation == .two ? 1 : 2.5)
        let inGroups: Bool
        switch generation {
        case .two:
            try configuration.require("scoring_func", "softmax")
            try configuration.require("topk_method", "greedy", "group_limited_greedy")
            // transformers does not, and the model's own code does not scale where it does.
            try configuration.require("norm_topk_prob", false, "making weights add up to 1")
            inGroups = try configuration.string("topk_method") == "group_limited_greedy"
            keys.addRouting(.softmax, normalises: false, scale: scale)
        case .three:
            try configuration.require("scoring_func", "sigmoid")
            try configuration.require("topk_method", "noaux_tc")
            inGroups = true
            keys.addRouting(
                .sigmoid, normalises: try configuration.bool("norm_topk_prob", absent: true),
                scale: scale)
        }
        let experts = try expertCount(configuration)
        let absent: (groups: Int?, used: Int?) = generation == .two ? (nil, nil) : (8, 4)
        let groups =
            inGroups ? try configuration.count("n_group", 1...experts, absent: absent.groups) : 1
        guard experts % groups == 0 else {
            throw configuration.error(
                "n_group", "\(groups) groups cannot share \(experts) experts")
        }
        keys.add("expert_group_count", count: groups)
        keys.add(
            "expert_group_used_count",
            count: inGroups
                ? try configuration.count("topk_group", 1...groups, absent: absent.used) : 1)
    }

    /// The sizes of latent attention.
    private struct LatentSizes {
        /// Of queries; nil where they are not compressed.
        let queryRank: Int?
        /// Of keys and values.
        let rank: Int
        /// Elements of a query's head that are not rotated.
        let plain: Int
        let rotated: Int
        let value: Int

        init(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) {
            // Null is a value here, of which the reader of JSON makes an absence.
            queryRank =
                configuration.has("q_lora_rank")
                ? try configuration.count("q_lora_rank", 1...1_048_576) : nil
            rank = try configuration.count("kv_lora_rank", 1...1_048_576)
            plain = try configuration.count("qk_nope_head_dim", 1...65_536)
            rotated = try configuration.count("qk_rope_head_dim", 2...65_536)
            value = try configuration.count("v_head_dim", 1...65_536)
            guard rotated % 2 == 0 else {
                throw configuration.error("qk_rope_head_dim", "\(rotated) is odd")
            }
        }
    }

    // Tensors

    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.weight("input_layernorm", "attn_norm")
        try takeAttention(from: &tensors)
        try tensors.weight("self_attn.kv_a_layernorm", "attn_kv_a_norm")
        try tensors.weight("self_attn.kv_b_proj", "attn_kv_b")
        try tensors.weight("self_attn.o_proj", "attn_output")
        try tensors.weight("post_attention_layernorm", "ffn_norm")
        guard tensors.has("mlp.gate.weight") else { return try tensors.feedForward("mlp") }
        try tensors.expertsOrDense()
        if generation == .three {
            try tensors.vector("mlp.gate.e_score_correction_bias", "exp_probs_b.bias")
        }
        if tensors.has("mlp.shared_experts.gate_proj.weight") {
            try tensors.feedForward("mlp.shared_experts", suffix: "_shexp")
        }
    }

    /// GGUF's rotation takes neighbours for a pair. So do these models, unless `rope_interleave` is
    /// false.
    private func takeAttention(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        let configuration = tensors.configuration
        let latent = try LatentSizes(configuration)
        let query = latent.queryRank == nil ? ("q_proj", "attn_q") : ("q_b_proj", "attn_q_b")
        if latent.queryRank != nil {
            try tensors.weight("self_attn.q_a_proj", "attn_q_a")
            try tensors.weight("self_attn.q_a_layernorm", "attn_q_a_norm")
        }
        let down = ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa")
        let takesNeighbours = try configuration.bool("rope_interleave", absent: true)
        if generation == .two || takesNeighbours {
            try tensors.weight("self_attn.\(query.0)", query.1)
            return try tensors.weight(down.0, down.1)
        }
        // Pairs are half of the rotated part apart.
        let (head, plain, rank) = (latent.plain + latent.rotated, latent.plain, latent.rank)
        let half = latent.rotated / 2
        try tensors.rows(
            "self_attn.\(query.0).weight",
            shape: [configuration.headCount * head, latent.queryRank ?? configuration.hiddenSize],
            [
                (
                    "\(query.1).weight", configuration.headCount * head,
                    { row in
                        row / head * head
                            + HuggingFaceTensors.neighbours(row % head, after: plain, half: half)
                    }
                )
            ])
        try tensors.rows(
            "\(down.0).weight", shape: [rank + latent.rotated, configuration.hiddenSize],
            [
                (
                    "\(down.1).weight", rank + latent.rotated,
                    { HuggingFaceTensors.neighbours($0, after: rank, half: half) }
                )
            ])
    }
}

extension HuggingFaceTensors {
    /// Where, of rows whose pairs are `half` apart, the row lies that stands at `row` when pairs are
    /// neighbours. The first `after` rows are not rotated.
    static func neighbours(_ row: Int, after: Int = 0, half: Int) -> Int {
        guard row >= after, row < after + 2 * half else { return row }
        let place = row - after
        return after + place % 2 * half + place / 2
    }
}
