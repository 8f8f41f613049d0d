import ModelFormats

extension Architecture {
    /// Llama, dense or with experts (Mixtral): interleaved rotary pairs.
    static let llama = Architecture(
        "llama", routing: Routing(gating: .softmax, normalises: true)
    ) { reader, model throws(ModelFileError) in
        model.rotatesNeighbours = try reader.bool("sluice.rope.halves") != true
        try reader.layers(of: &model, norms: .none)
    }
}
