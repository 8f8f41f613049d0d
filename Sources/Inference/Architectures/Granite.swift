import ModelFormats

extension Architecture {
    /// Granite with experts: a Llama with constants on embedding, attention, residual stream and
    /// logits.
    static let granitemoe = Architecture(
        "granitemoe", routing: Routing(gating: .softmaxOfChosen)
    ) { reader, model throws(ModelFileError) in
        model.rotatesNeighbours = true
        func constant(_ key: String) throws(ModelFileError) -> Float? {
            try reader.number(key, above: 0, through: 1e6).map { Float($0) }
        }
        model.multipliers.embedding = try constant("embedding_scale") ?? 1
        model.multipliers.residual = try constant("residual_scale") ?? 1
        model.multipliers.attention = try constant("attention.scale")
        model.multipliers.logits = 1 / (try constant("logit_scale") ?? 1)
        try reader.layers(of: &model, norms: .none)
    }
}
