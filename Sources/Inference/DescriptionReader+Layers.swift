import ModelFormats

// What layers of most architectures have in common. Where a file has a bias, a shared expert or a
// correction of the router's choice under the usual name, it is used: it can mean nothing else.
extension DescriptionReader {
    /// Norms on queries and keys.
    enum Norms {
        case none
        case optional(ProjectionNorm)
        case required(ProjectionNorm)
    }

    /// Reads all layers of `model`.
    ///
    /// - Parameters:
    ///   - routesEarly: routers read what enters the layer.
    ///   - isGated: queries come with gates of the heads' results.
    ///   - adjust: completes a layer's attention.
    ///   - mixer: what a block (its name is given) has instead of attention, or nil.
    mutating func layers(
        of model: inout ModelDescription, norms: Norms, routesEarly: Bool = false,
        isGated: Bool = false,
        adjust: (inout DescriptionReader, Int, inout Attention) throws(ModelFileError) -> Void = {
            _, _, _ in
        },
        mixer: (inout DescriptionReader, String) throws(ModelFileError) -> Layer.Mixer? = {
            _, _ in nil
        }
    ) throws(ModelFileError) {
        tensorsTell(["leading_dense_block_count", "expert_shared_count"])
        var (expertLayer, expertWidth): (Int, Int?) = (0, nil)
        for index in 0..<model.layerCount {
            let block = "blk.\(index)"
            let attentionNorm = try norm(
                "\(block).attn_norm", model.embeddingLength, model.normKind)
            var mixing = try mixer(&self, block)
            if mixing == nil {
                var attention = try attention(block, of: model, norms: norms, isGated: isGated)
                try adjust(&self, index, &attention)
                mixing = .attention(attention)
            }
            // Families that norm attention's result call this norm by another name.
            let normName =
                has("\(block).ffn_norm.weight") ? "ffn_norm" : "post_attention_norm"
            let feedForwardNorm = try norm(
                "\(block).\(normName)", model.embeddingLength, model.normKind)
            let feeding: Layer.FeedForward
            if model.isDense || has("\(block).ffn_gate_inp.weight") {
                var experts = try experts(
                    index, expertLayer: expertLayer, width: expertWidth, of: model)
                experts.routesEarly = routesEarly
                expertWidth = experts.parts[0].rows
                expertLayer += 1
                feeding = .experts(experts)
            } else {
                feeding = .dense(
                    try feedForward(block, "", embeddingLength: model.embeddingLength))
            }
            model.layers.append(
                Layer(
                    index: index, attentionNorm: attentionNorm, mixer: mixing!,
                    feedForwardNorm: feedForwardNorm, feedForward: feeding))
        }
    }

    private mutating func attention(
        _ block: String, of model: ModelDescription, norms: Norms, isGated: Bool
    ) throws(ModelFileError) -> Attention {
        let embedding = model.embeddingLength
        let queryWidth = model.headCount * model.headSize
        let keyWidth = model.keyValueHeadCount * model.headSize
        var attention = Attention(
            query: try projection(
                "\(block).attn_q", columns: embedding, rows: isGated ? 2 * queryWidth : queryWidth),
            key: try projection("\(block).attn_k", columns: embedding, rows: keyWidth),
            value: try projection(
                "\(block).attn_v", columns: embedding,
                rows: model.keyValueHeadCount * model.valueSize),
            output: try projection(
                "\(block).attn_output", columns: model.headCount * model.valueSize,
                rows: embedding))
        attention.isGated = isGated
        guard !isGated || model.valueSize == model.headSize else {
            throw keyError(
                "attention.value_length",
                "\(model.valueSize), but queries of \(model.headSize) elements come with as many gates"
            )
        }
        let (query, key) = ("\(block).attn_q_norm.weight", "\(block).attn_k_norm.weight")
        switch norms {
        case .none: return attention
        case .optional(let norm):
            if !has(query), !has(key) { return attention }
            attention.norm = norm
        case .required(let norm): attention.norm = norm
        }
        let isWhole = attention.norm == .wholeProjection
        attention.queryNorm = try vector(query, isWhole ? queryWidth : model.headSize)
        attention.keyNorm = try vector(key, isWhole ? keyWidth : model.headSize)
        return attention
    }

    /// The matrices of a feed-forward whose tensors end in `suffix`.
    private mutating func feedForward(
        _ block: String, _ suffix: String, embeddingLength: Int
    ) throws(ModelFileError) -> DenseFeedForward {
        let gate = try tensor(
            "\(block).ffn_gate\(suffix).weight", columns: embeddingLength, rows: nil)
        let width = gate.shape[1]
        return DenseFeedForward(
            gate: gate,
            up: try tensor(
                "\(block).ffn_up\(suffix).weight", columns: embeddingLength, rows: width),
            down: try tensor(
                "\(block).ffn_down\(suffix).weight", columns: width, rows: embeddingLength))
    }

    private mutating func experts(
        _ index: Int, expertLayer: Int, width: Int?, of model: ModelDescription
    ) throws(ModelFileError) -> Experts {
        let block = "blk.\(index)"
        let (embedding, count) = (model.embeddingLength, model.expertCount)
        var experts = Experts(
            router: model.isDense
                ? nil : try projection("\(block).ffn_gate_inp", columns: embedding, rows: count),
            correctionBias: try optionalVector("\(block).exp_probs_b.bias", count),
            parts: try self.experts(
                layer: expertLayer, block: index, embeddingLength: embedding, expertCount: count,
                expertWidth: width))
        if has("\(block).ffn_gate_exps.bias") {
            let rows = experts.parts[0].rows
            experts.biases = Experts.Biases(
                gate: try floats("\(block).ffn_gate_exps.bias", shape: [rows, count]),
                up: try floats("\(block).ffn_up_exps.bias", shape: [rows, count]),
                down: try floats("\(block).ffn_down_exps.bias", shape: [embedding, count]))
        }
        if has("\(block).ffn_gate_shexp.weight") {
            experts.shared = try feedForward(block, "_shexp", embeddingLength: embedding)
            experts.sharedGate =
                has("\(block).ffn_gate_inp_shexp.weight")
                ? try floats("\(block).ffn_gate_inp_shexp.weight", shape: [embedding]) : nil
        }
        return experts
    }
}
