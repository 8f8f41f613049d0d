import ModelFormats

extension Architecture {
    /// Qwen2-MoE (Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B): biases on queries, keys and values, and a
    /// shared expert behind a gate.
    static let qwen2moe = Architecture("qwen2moe") { reader, model throws(ModelFileError) in
        try reader.layers(of: &model, norms: .none)
    }

    /// Qwen3-MoE: norms on each head's queries and keys, gate weights of the chosen experts
    /// normalised.
    static let qwen3moe = Architecture(
        "qwen3moe", routing: Routing(gating: .softmax, normalises: true)
    ) { reader, model throws(ModelFileError) in
        try reader.layers(of: &model, norms: .required(.perHead))
    }

    /// Qwen2, dense.
    static let qwen2 = Architecture("qwen2") { reader, model throws(ModelFileError) in
        try reader.layers(of: &model, norms: .none)
    }

    /// Qwen3, dense.
    static let qwen3 = Architecture("qwen3") { reader, model throws(ModelFileError) in
        try reader.layers(of: &model, norms: .required(.perHead))
    }
}
