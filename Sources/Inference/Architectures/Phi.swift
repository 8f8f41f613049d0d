import ModelFormats

extension Architecture {
    /// Phi-3.5-MoE and what SlimMoE makes of it (Phi-mini-MoE, Phi-tiny-MoE): LayerNorm, biases
    /// everywhere, and two experts chosen one after the other (SparseMixer-v2, arXiv 2409.12136,
    /// section 2; here in evaluation, as transformers has it).
    static let phimoe = Architecture(
        "phimoe", normKind: .layer, routing: Routing(gating: .sparseMixer(jitter: 0.01))
    ) { reader, model throws(ModelFileError) in
        if let jitter = try reader.ownNumber("sluice.router_jitter", above: 0, through: 1) {
            model.routing.gating = .sparseMixer(jitter: Float(jitter))
        }
        guard model.expertsPerToken == 2 else {
            throw reader.keyError(
                "expert_used_count", "\(model.expertsPerToken), but its router chooses 2")
        }
        try reader.layers(of: &model, norms: .none)
    }
}
