/// SmallThinker (arXiv 2507.20984): the router reads a layer's input before attention, experts are
/// gated by ReLU. transformers does not have it; names are those of the models' own code.
struct SmallThinkerFamily: HuggingFaceFamily {
    let classNames = ["SmallThinkerForCausalLM"]
    let architecture = "smallthinker"

    func expertCount(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) -> Int {
        try configuration.count(["moe_num_primary_experts", "num_experts"], 1...65_536)
    }

    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        let configuration = keys.configuration
        try configuration.refuseQuantization()
        try configuration.refusePartialRotation()
        try configuration.require("moe_enable_early_router", true, "a router behind attention")
        try configuration.require("moe_enable_secondary_experts", false, "a second set of experts")
        try configuration.require("use_qk_norm", false, "a norm of queries and keys")
        try configuration.require("moe_shared_primary_experts", 0)
        try keys.addSizes()
        try keys.addHeads()
        try keys.addEpsilon()
        try keys.addRotary(dimensionCount: configuration.headSize())
        let width = try configuration.count("moe_ffn_hidden_size")
        keys.add("expert_feed_forward_length", count: width)
        if !configuration.has("intermediate_size") { keys.add("feed_forward_length", count: width) }
        try keys.addExperts(used: "moe_num_active_primary_experts")
        // A softmax over the chosen ones, or sigmoids that are made to add up to 1: either way the
        // weights are normalised.
        let softmax = try configuration.bool("moe_primary_router_apply_softmax", absent: false)
        keys.addRouting(softmax ? .softmax : .sigmoid, normalises: true)
        if try hasWindows(configuration) {
            keys.add(
                "attention.sliding_window", count: try configuration.count("sliding_window_size"))
        }
    }

    /// Whether layers look at a window. Which do, and which know positions, GGUF leaves to the reader:
    /// without windows all layers rotate; with them, all but every fourth, which has no window either.
    private func hasWindows(
        _ configuration: HuggingFaceConfiguration
    ) throws(ModelFileError) -> Bool {
        let windows = try configuration.perLayer("sliding_window_layout")
        let has = windows?.contains { $0.integer != 0 } ?? false
        let rotates = try configuration.perLayer("rope_layout")
        let experts = try configuration.perLayer("moe_layer_layout")
        for layer in 0..<configuration.layerCount {
            let inFour = layer % 4 == 0 ? 0 : 1
            for (name, value, expected) in [
                ("sliding_window_layout", windows?[layer], has ? inFour : 0),
                ("rope_layout", rotates?[layer], has ? inFour : 1),
                ("moe_layer_layout", experts?[layer], 1),
            ] {
                guard let value, value.integer != expected else { continue }
                throw configuration.error(
                    name, "layer \(layer) is \(value.text), only \(expected) is supported there")
            }
        }
        if has, rotates == nil {
            throw configuration.error("rope_layout", "missing; with windows it is needed")
        }
        return has
    }

    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.weight("input_layernorm", "attn_norm")
        for (theirs, gguf) in HuggingFaceTensors.attentionNames {
            try tensors.weight(theirs, gguf)
        }
        try tensors.weight("post_attention_layernorm", "ffn_norm")
        try tensors.weight("block_sparse_moe.primary_router", "ffn_gate_inp")
        try tensors.experts("block_sparse_moe.experts", ("gate", "up", "down"), stacked: [])
    }
}
