import ModelFormats

extension Architecture {
    /// ERNIE 4.5 with experts: a correction bias on softmax probabilities, shared experts,
    /// interleaved rotary pairs.
    static let ernie45moe = Architecture(
        "ernie4_5-moe", routing: Routing(gating: .softmax, normalises: true)
    ) { reader, model throws(ModelFileError) in
        model.rotatesNeighbours = true
        model.routing.normFloor = 1e-12
        reader.tensorsTell(["interleave_moe_layer_step"])
        try reader.layers(of: &model, norms: .none)
    }
}
