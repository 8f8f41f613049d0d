import ModelFormats

extension Architecture {
    /// Qwen3-Next: the gated delta rule in three layers of four, gated attention in the fourth.
    static let qwen3next = Architecture(
        "qwen3next", routing: Routing(gating: .softmax, normalises: true)
    ) { reader, model throws(ModelFileError) in
        let embedding = model.embeddingLength
        let taps = try reader.count("ssm.conv_kernel", 2...64)
        let keySize = try reader.count("ssm.state_size", 1...4096)
        let keyHeads = try reader.count("ssm.group_count", 1...4096)
        let valueHeads = try reader.count("ssm.time_step_rank", 1...4096)
        let inner = try reader.count("ssm.inner_size", 1...1 << 20)
        guard inner % valueHeads == 0, valueHeads % keyHeads == 0 else {
            throw reader.keyError(
                "ssm.inner_size",
                "\(inner) elements, \(valueHeads) value heads and \(keyHeads) key heads do not "
                    + "divide one another")
        }
        let channels = 2 * keyHeads * keySize + inner
        reader.tensorsTell(["full_attention_interval"])
        try reader.layers(
            of: &model, norms: .required(.perHead), isGated: true,
            mixer: { reader, block throws(ModelFileError) in
                guard reader.has("\(block).ssm_a") else { return nil }
                func matrix(_ name: String, _ columns: Int, _ rows: Int) throws(ModelFileError)
                    -> GGUFTensor
                {
                    try reader.tensor("\(block).\(name).weight", columns: columns, rows: rows)
                }
                return .deltaNet(
                    DeltaNet(
                        input: reader.has("\(block).ssm_in.weight")
                            ? .grouped(try matrix("ssm_in", embedding, channels + inner))
                            : .separate(
                                queryKeyValue: try matrix("attn_qkv", embedding, channels),
                                gate: try matrix("attn_gate", embedding, inner)),
                        betaAlpha: try matrix("ssm_ba", embedding, 2 * valueHeads),
                        kernel: try reader.floats(
                            "\(block).ssm_conv1d.weight", shape: [taps, channels]),
                        timeBias: try reader.vector("\(block).ssm_dt.bias", valueHeads),
                        decay: try reader.vector("\(block).ssm_a", valueHeads),
                        norm: try reader.vector("\(block).ssm_norm.weight", inner / valueHeads),
                        output: try matrix("ssm_out", inner, embedding),
                        keyHeadCount: keyHeads, valueHeadCount: valueHeads, keySize: keySize,
                        valueSize: inner / valueHeads, taps: taps))
            })
    }
}
