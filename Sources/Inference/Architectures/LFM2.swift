import ModelFormats

extension Architecture {
    /// LFM2 with experts: short convolutions in most layers, attention in the others; sigmoid
    /// routing with a bias.
    static let lfm2moe = Architecture(
        "lfm2moe", routing: Routing(gating: .sigmoid, normalises: true),
        outputNormName: "token_embd_norm"
    ) { reader, model throws(ModelFileError) in
        model.routing.normEpsilon = 1e-6
        let taps = try reader.count("shortconv.l_cache", 2...64)
        let embedding = model.embeddingLength
        try reader.layers(
            of: &model, norms: .required(.perHead),
            mixer: { reader, block throws(ModelFileError) in
                guard reader.has("\(block).shortconv.conv.weight") else { return nil }
                return .convolution(
                    ShortConvolution(
                        input: try reader.tensor(
                            "\(block).shortconv.in_proj.weight", columns: embedding,
                            rows: 3 * embedding),
                        kernel: try reader.floats(
                            "\(block).shortconv.conv.weight", shape: [taps, embedding]),
                        output: try reader.tensor(
                            "\(block).shortconv.out_proj.weight", columns: embedding,
                            rows: embedding),
                        taps: taps))
            })
    }
}
