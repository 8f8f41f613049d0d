import ModelFormats

internal import Glibc

extension Architecture {
    /// DeepSeek-V2 and V3 and their like (Kimi-K2, GigaChat3, Moonlight): latent attention, leading
    /// dense layers, shared experts, groups of experts.
    static let deepseek2 = Architecture("deepseek2") { reader, model throws(ModelFileError) in
        model.rotatesNeighbours = true
        // The model's own values; the plain names are those of what is kept of a position.
        let keyLength = try reader.count(
            "attention.key_length_mla", 2...65_536, default: model.headSize)
        let valueLength = try reader.count(
            "attention.value_length_mla", 1...65_536, default: model.valueSize)
        let rank = try reader.count("attention.kv_lora_rank", 1...65_536)
        let queryRank = try reader.count("attention.q_lora_rank", 0...65_536, default: 0)
        let turned = model.rotary.dimensionCount
        guard turned < keyLength else {
            throw reader.keyError(
                "rope.dimension_count", "\(turned) of a key of \(keyLength) elements")
        }
        model.headSize = rank + turned
        model.valueSize = rank
        model.keyValueHeadCount = 1
        // Sums of two for V3's sigmoid, the largest alone for V2's softmax.
        let isThird = model.routing.gating == .sigmoid
        model.routing.groupScore = isThird ? .sumOfTwoLargest : .maximum
        model.routing.normEpsilon = isThird ? 1e-20 : 0
        // V2, section 3.1.2 "YaRN": the square of 1 + m ln(factor) on the products, none on the angles.
        let multiplier = try reader.number(
            "rope.scaling.yarn_log_multiplier", above: -1, through: 10)
        var scale = 1 / Double(keyLength).squareRoot()
        if case .yarn(var yarn) = model.rotary.scaling {
            let magnitude = 1 + (multiplier ?? 0) * log(yarn.factor)
            scale *= magnitude * magnitude
            yarn.magnitude = try reader.yarnMagnitude(factor: yarn.factor, plain: 1)
            model.rotary.scaling = .yarn(yarn)
        }
        model.multipliers.attention = Float(scale)

        let (embedding, heads) = (model.embeddingLength, model.headCount)
        let plain = keyLength - turned
        try reader.layers(
            of: &model, norms: .none,
            mixer: { reader, block throws(ModelFileError) in
                func matrix(_ name: String, _ columns: Int, _ rows: Int) throws(ModelFileError)
                    -> GGUFTensor
                {
                    try reader.tensor("\(block).\(name).weight", columns: columns, rows: rows)
                }
                let isSplit = reader.has("\(block).attn_k_b.weight")
                return .latent(
                    LatentAttention(
                        queryDown: queryRank == 0
                            ? nil : try matrix("attn_q_a", embedding, queryRank),
                        queryNorm: queryRank == 0
                            ? nil : try reader.vector("\(block).attn_q_a_norm.weight", queryRank),
                        query: queryRank == 0
                            ? try matrix("attn_q", embedding, heads * keyLength)
                            : try matrix("attn_q_b", queryRank, heads * keyLength),
                        keyValueDown: try matrix("attn_kv_a_mqa", embedding, rank + turned),
                        keyValueNorm: try reader.vector("\(block).attn_kv_a_norm.weight", rank),
                        keyValueUp: isSplit
                            ? .split(
                                key: try reader.stack(
                                    "\(block).attn_k_b.weight", shape: [plain, rank, heads]),
                                value: try reader.stack(
                                    "\(block).attn_v_b.weight", shape: [rank, valueLength, heads]))
                            : .joined(
                                try matrix("attn_kv_b", rank, heads * (plain + valueLength))),
                        output: try matrix("attn_output", heads * valueLength, embedding),
                        rank: rank, turnedSize: turned, plainSize: plain, valueSize: valueLength))
            })
    }
}
