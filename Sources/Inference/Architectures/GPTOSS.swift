import ModelFormats

extension Architecture {
    /// gpt-oss: attention sinks, a sliding window in every other layer, biases everywhere, clamped
    /// SwiGLU. Its own code does not round the ends of YaRN's ramp, unlike the paper's.
    static let gptOSS = Architecture(
        "gpt-oss", routing: Routing(gating: .softmaxOfChosen), roundsRamp: false
    ) { reader, model throws(ModelFileError) in
        model.activation = .clampedSwiGLU(alpha: 1.702, limit: 7)
        let window = try reader.window()
        let windowed = try reader.flags(
            "attention.sliding_window_pattern", count: model.layerCount)
        let heads = model.headCount
        try reader.layers(
            of: &model, norms: .none,
            adjust: { reader, layer, attention throws(ModelFileError) in
                attention.sinks = try reader.vector("blk.\(layer).attn_sinks.weight", heads)
                attention.window = windowed?[layer] ?? (layer % 2 == 0) ? window : nil
            })
    }
}
