/// The architectures of transformers that Sluice knows, by the name `config.json` gives them, and
/// what their tensors are called there and in GGUF.
enum HuggingFaceFamily: String, CaseIterable {
    case qwen3moe = "Qwen3MoeForCausalLM"
    case olmoe = "OlmoeForCausalLM"
    case mixtral = "MixtralForCausalLM"

    /// The name in `general.architecture`.
    var ggufArchitecture: String {
        switch self {
        case .qwen3moe: "qwen3moe"
        case .olmoe: "olmoe"
        case .mixtral: "llama"
        }
    }

    /// Whether the configuration says if gate weights are normalised (`norm_topk_prob`); Mixtral's
    /// always are.
    var choosesGateNormalisation: Bool { self != .mixtral }

    /// Tensors that every layer has, without `model.layers.N.` and `blk.N.` before and `.weight`
    /// after.
    var layerNames: [(theirs: String, gguf: String)] {
        let common = [
            ("input_layernorm", "attn_norm"), ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"), ("post_attention_layernorm", "ffn_norm"),
            ("\(experts).gate", "ffn_gate_inp"),
        ]
        if self == .mixtral { return common }
        return common + [
            ("self_attn.q_norm", "attn_q_norm"), ("self_attn.k_norm", "attn_k_norm"),
        ]
    }

    /// Tensors of expert `index` of a layer, as above.
    func expertNames(_ index: Int) -> [(theirs: String, gguf: String)] {
        let names =
            self == .mixtral ? ("w1", "w3", "w2") : ("gate_proj", "up_proj", "down_proj")
        return [(names.0, "gate"), (names.1, "up"), (names.2, "down")].map { name, role in
            ("\(experts).experts.\(index).\(name)", "ffn_\(role).\(index)")
        }
    }

    /// The module that holds router and experts.
    private var experts: String { self == .mixtral ? "block_sparse_moe" : "mlp" }
}
