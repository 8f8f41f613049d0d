/// Qwen3-Next: gated delta nets in place of attention in most layers, attention behind a gate in the
/// others, and an expert that every token uses. What predicts further tokens is left out.
///
/// Most norms are stored as what they differ from 1 by, decays as logarithms; and the projection of a
/// delta net has its rows key head by key head. All that is rewritten.
struct Qwen3NextFamily: HuggingFaceFamily {
    let classNames = ["Qwen3NextForCausalLM"]
    let architecture = "qwen3next"

    func expertCount(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) -> Int {
        try configuration.count(["num_experts", "num_local_experts"], 1...65_536)
    }

    func leavesOut(_ name: String, _ configuration: HuggingFaceConfiguration) -> Bool {
        name.hasPrefix("mtp.")
    }

    // Keys

    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        let configuration = keys.configuration
        try configuration.refuseQuantization()
        try configuration.require("hidden_act", "silu")
        try keys.addSizes()
        try keys.addHeads()
        try keys.addEpsilon()
        let rotated = try configuration.rotatedCount(absent: 0.25)
        keys.add("rope.dimension_count", count: rotated)
        try keys.addRotary(dimensionCount: rotated)
        keys.add("full_attention_interval", count: try attentionInterval(configuration))

        let heads = try DeltaHeads(configuration)
        keys.add(
            "ssm.conv_kernel",
            count: try configuration.count("linear_conv_kernel_dim", 1...4096))
        keys.add("ssm.state_size", count: heads.keySize)
        keys.add("ssm.group_count", count: heads.keys)
        keys.add("ssm.time_step_rank", count: heads.values)
        keys.add("ssm.inner_size", count: heads.values * heads.valueSize)

        try keys.addExperts()
        try keys.addExpertWidth()
        keys.add(
            "expert_shared_feed_forward_length",
            count: try configuration.count("shared_expert_intermediate_size"))
        keys.addRouting(
            .softmax, normalises: try configuration.bool("norm_topk_prob", absent: true))
    }

    /// Every how many layers one has attention: the last of each so many.
    private func attentionInterval(
        _ configuration: HuggingFaceConfiguration
    ) throws(ModelFileError) -> Int {
        let stated = try configuration.count("full_attention_interval", 1...4096, absent: 4)
        guard let kinds = try configuration.perLayer("layer_types") else { return stated }
        let first = kinds.firstIndex { $0.string == "full_attention" }
        let interval =
            configuration.has("full_attention_interval") || first == nil ? stated : first! + 1
        for (layer, kind) in kinds.enumerated() {
            let expected =
                (layer + 1) % interval == 0 ? "full_attention" : "linear_attention"
            guard kind.string == expected else {
                throw configuration.error(
                    "layer_types",
                    "layer \(layer) is \(kind.text) where attention comes every \(interval) layers; "
                        + "not supported")
            }
        }
        return interval
    }

    /// Heads of a delta net. Several of values share one of keys.
    private struct DeltaHeads {
        let keys: Int
        let values: Int
        let keySize: Int
        let valueSize: Int

        init(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) {
            keys = try configuration.count("linear_num_key_heads", 1...65_536)
            values = try configuration.count("linear_num_value_heads", 1...65_536)
            keySize = try configuration.count("linear_key_head_dim", 1...65_536)
            valueSize = try configuration.count("linear_value_head_dim", 1...65_536)
            guard values % keys == 0 else {
                throw configuration.error(
                    "linear_num_value_heads", "\(values) is not a multiple of \(keys) key heads")
            }
            guard values * valueSize <= HuggingFaceConfiguration.widthLimit else {
                throw configuration.error(
                    "linear_value_head_dim", "\(values) heads of \(valueSize) elements are too many"
                )
            }
        }
    }

    // Tensors

    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try norm("input_layernorm", "attn_norm", from: &tensors)
        if tensors.has("linear_attn.A_log") {
            try takeDeltaNet(from: &tensors)
        } else {
            for (theirs, gguf) in HuggingFaceTensors.attentionNames {
                try tensors.projection(theirs, gguf)
            }
            try norm("self_attn.q_norm", "attn_q_norm", from: &tensors)
            try norm("self_attn.k_norm", "attn_k_norm", from: &tensors)
        }
        try norm("post_attention_layernorm", "post_attention_norm", from: &tensors)
        try tensors.expertsOrDense(sharesOne: true)
    }

    func takeOutputNorm(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try norm("model.norm", "output_norm", from: &tensors)
    }

    private func norm(
        _ theirs: String, _ gguf: String, from tensors: inout HuggingFaceTensors
    ) throws(ModelFileError) {
        try tensors.numbers("\(theirs).weight", "\(gguf).weight", .plusOne)
    }

    private func takeDeltaNet(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        let configuration = tensors.configuration
        try tensors.numbers("linear_attn.A_log", "ssm_a", .negativeExponential)
        try tensors.vector("linear_attn.dt_bias", "ssm_dt.bias")
        try tensors.numbers("linear_attn.conv1d.weight", "ssm_conv1d.weight", .none)
        try tensors.weight("linear_attn.in_proj_ba", "ssm_ba")
        try tensors.weight("linear_attn.norm", "ssm_norm")
        try tensors.weight("linear_attn.out_proj", "ssm_out")

        // For each key head: queries, keys, values of its value heads, gates of these. In GGUF: all
        // queries, all keys, all values; and all gates.
        let heads = try DeltaHeads(configuration)
        let key = heads.keySize
        let value = heads.values / heads.keys * heads.valueSize
        let group = 2 * key + 2 * value
        let (allKeys, allValues) = (heads.keys * key, heads.keys * value)
        try tensors.rows(
            "linear_attn.in_proj_qkvz.weight",
            shape: [heads.keys * group, configuration.hiddenSize],
            [
                (
                    "attn_qkv.weight", 2 * allKeys + allValues,
                    { row in
                        if row < 2 * allKeys {
                            let place = row % allKeys
                            return place / key * group + row / allKeys * key + place % key
                        }
                        let place = row - 2 * allKeys
                        return place / value * group + 2 * key + place % value
                    }
                ),
                (
                    "attn_gate.weight", allValues,
                    { row in row / value * group + 2 * key + value + row % value }
                ),
            ])
    }
}

extension HuggingFaceConfiguration {
    /// How many elements of a head are rotated.
    func rotatedCount(absent: Double) throws(ModelFileError) -> Int {
        let size = try headSize()
        let count = Int(Double(size) * (try rotatedShare(absent: absent)))
        guard count >= 2, count % 2 == 0 else {
            throw error(
                "partial_rotary_factor", "\(count) of \(size) elements are no pairs to rotate")
        }
        return count
    }
}
