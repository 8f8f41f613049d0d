/// Phi-3.5-MoE and SlimMoE's Phi-mini and Phi-tiny (arXiv 2506.18349): norms that take the mean off,
/// biases, and the sparse mixer (arXiv 2409.12136), whose two experts are chosen one after the other.
struct PhiMoeFamily: HuggingFaceFamily {
    // As transformers calls it, and as the models' own code does.
    let classNames = ["PhimoeForCausalLM", "PhiMoEForCausalLM"]
    let architecture = "phimoe"

    func expertCount(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) -> Int {
        try configuration.count(["num_local_experts", "num_experts"], 1...65_536)
    }

    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        let configuration = keys.configuration
        try configuration.refuseQuantization()
        try configuration.require("hidden_act", "silu")
        try configuration.refusePartialRotation()
        try configuration.require("num_experts_per_tok", 2)
        try keys.addSizes()
        try keys.addHeads()
        try keys.addEpsilon()
        let size = try configuration.headSize()
        keys.add("rope.dimension_count", count: size)
        try keys.addRotary(dimensionCount: size)
        let window = try configuration.count(
            "sliding_window", 0...HuggingFaceConfiguration.widthLimit, absent: 0)
        // As long as the context, it hides nothing.
        keys.add(
            "attention.sliding_window", count: window < configuration.contextLength ? window : 0)
        try keys.addExperts()
        // How far a logit may be behind the largest one to be weighed with it.
        let jitter = try configuration.number("router_jitter_noise", absent: 0.01)
        guard jitter > 0, jitter <= 1 else {
            throw configuration.error(
                "router_jitter_noise", "\(jitter) is not above 0 and at most 1")
        }
        keys.addOwn("router_jitter", number: jitter)
    }

    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.projection("input_layernorm", "attn_norm")
        for (theirs, gguf) in HuggingFaceTensors.attentionNames {
            try tensors.projection(theirs, gguf)
        }
        try tensors.projection("post_attention_layernorm", "ffn_norm")
        // As checkpoints have it, and as the model has it since transformers 5.
        let isNew = tensors.has("mlp.router.weight")
        let module = isNew ? "mlp" : "block_sparse_moe"
        try tensors.weight(isNew ? "mlp.router" : "\(module).gate", "ffn_gate_inp")
        try tensors.experts(
            "\(module).experts", ("w1", "w3", "w2"),
            stacked: [("\(module).experts.gate_up_proj", "\(module).experts.down_proj")])
    }

    func takeOutputNorm(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.projection("model.norm", "output_norm")
        if tensors.has("lm_head.bias") { try tensors.place("lm_head.bias", "output.bias") }
    }
}
