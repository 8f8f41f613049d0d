import Glibc

/// The rotary position embedding of a configuration, as keys and tensors of GGUF.
///
/// YaRN (arXiv 2309.00071) becomes keys. The factors of Llama 3 and LongRoPE (arXiv 2402.13753) become
/// tensors, by which the frequencies of the pairs are divided.
extension HuggingFaceKeys {
    /// What is read of a scaling, wherever it stands.
    private struct Scaling {
        let type: String
        let rope: JSONObject
        let dimensionCount: Int
        let base: Double
        /// Positions that the model was trained on before it was stretched.
        let trained: Int?
    }

    /// Adds the embedding's base and scaling.
    ///
    /// - Parameters:
    ///   - dimensionCount: Elements of a head that are rotated.
    ///   - scalesAttention: Whether the family multiplies attention's scale by what follows from
    ///     `mscale_all_dim`, as DeepSeek's do.
    mutating func addRotary(
        dimensionCount: Int, scalesAttention: Bool = false
    ) throws(ModelFileError) {
        // transformers 5 writes both in one object, before it they were two members.
        let inOne = try configuration.object("rope_parameters")
        let apart = try configuration.object("rope_scaling")
        let outside =
            configuration.has("rope_theta") ? try configuration.number("rope_theta") : nil
        guard let base = try inOne?.number("rope_theta") ?? outside else {
            throw configuration.error("rope_theta", "missing, here and in 'rope_parameters'")
        }
        guard base > 1, base < 1e12 else {
            throw configuration.error("rope_theta", "\(base) is not between 1 and 1e12")
        }
        add("rope.freq_base", number: base)
        guard let rope = inOne ?? apart else { return }
        let olderType = try rope.string("type")
        let type = try rope.string("rope_type") ?? olderType ?? "default"
        let scaling = Scaling(
            type: type, rope: rope, dimensionCount: dimensionCount, base: base,
            trained: try trained(rope))
        switch type {
        case "default", "none": return
        case "linear":
            add("rope.scaling.type", text: type)
            add("rope.scaling.factor", number: try factor(scaling))
        case "yarn": try addYaRN(scaling, scalesAttention)
        case "llama3": try addLlama3(scaling)
        case "longrope", "su": try addLongRoPE(scaling)
        default:
            throw rope.error(
                rope["rope_type"] == nil ? "type" : "rope_type",
                "'\(type)' is not supported; default, linear, yarn, llama3 and longrope are")
        }
    }

    private func trained(_ rope: JSONObject) throws(ModelFileError) -> Int? {
        let name = "original_max_position_embeddings"
        if let trained = try rope.integer(name) {
            guard 1...1 << 24 ~= trained else {
                throw rope.error(name, "\(trained) is not between 1 and 16777216")
            }
            return trained
        }
        return configuration.has(name) ? try configuration.count(name) : nil
    }

    /// Throws where there are no pairs that factors could be for.
    private func checkPairs(_ scaling: Scaling) throws(ModelFileError) {
        let count = scaling.dimensionCount
        guard count >= 2, count % 2 == 0 else {
            throw configuration.error("head_dim", "\(count) elements are no pairs to rotate")
        }
    }

    /// How many times as long the context became.
    private func factor(_ scaling: Scaling) throws(ModelFileError) -> Double {
        var factor = try scaling.rope.number("factor")
        if factor == nil, let trained = scaling.trained {
            factor = Double(configuration.contextLength) / Double(trained)
        }
        guard let factor, factor >= 1, factor < 1e6 else {
            throw scaling.rope.error("factor", "missing, or not between 1 and 1e6")
        }
        return factor
    }

    // YaRN

    private mutating func addYaRN(
        _ scaling: Scaling, _ scalesAttention: Bool
    ) throws(ModelFileError) {
        let rope = scaling.rope
        let factor = try factor(scaling)
        add("rope.scaling.type", text: "yarn")
        add("rope.scaling.factor", number: factor)
        add(
            "rope.scaling.original_context_length",
            count: scaling.trained ?? configuration.contextLength)
        for (name, key) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
            guard let value = try rope.number(name) else { continue }
            guard value > 0, value < 1e6 else {
                throw rope.error(name, "\(value) is not between 0 and 1e6")
            }
            add("rope.scaling.\(key)", number: value)
        }
        addOwn("rope.rounds_ramp", flag: try rope.bool("truncate") ?? true)

        /// What attention's temperature asks of cosines and sines (section 3.4).
        func magnitude(_ share: Double) -> Double { 0.1 * share * log(factor) + 1 }
        let numerator = try rope.number("mscale") ?? 0
        let denominator = try rope.number("mscale_all_dim") ?? 0
        if scalesAttention, denominator != 0 {
            add("rope.scaling.yarn_log_multiplier", number: 0.1 * denominator)
        }
        let followed =
            numerator != 0 && denominator != 0
            ? magnitude(numerator) / magnitude(denominator) : magnitude(1)
        let value = try rope.number("attention_factor") ?? followed
        guard value > 0, value < 1e6 else {
            throw rope.error("attention_factor", "\(value) is not between 0 and 1e6")
        }
        // The key's value is multiplied with what follows from the factor alone; with 1 where attention
        // is scaled instead.
        let share = value / (scalesAttention ? 1 : magnitude(1))
        if abs(share - 1) > 1e-7 { add("rope.scaling.yarn_attn_factor", number: share) }
    }

    // Llama 3

    /// Frequencies of long waves are divided by the factor, those of short ones are kept, and what is
    /// between is interpolated.
    private mutating func addLlama3(_ scaling: Scaling) throws(ModelFileError) {
        let rope = scaling.rope
        let factor = try factor(scaling)
        try checkPairs(scaling)
        guard let low = try rope.number("low_freq_factor"),
            let high = try rope.number("high_freq_factor"), low > 0, high > low, high < 1e6
        else {
            throw rope.error(
                "high_freq_factor", "expected more than 'low_freq_factor', and both above 0")
        }
        guard let trained = scaling.trained.map({ Double($0) }) else {
            throw rope.error("original_max_position_embeddings", "missing")
        }
        let factors = (0..<scaling.dimensionCount / 2).map { pair in
            let share = Double(2 * pair) / Double(scaling.dimensionCount)
            let wavelength = 2 * Double.pi * pow(scaling.base, share)
            if wavelength < trained / high { return Float(1) }
            if wavelength > trained / low { return Float(factor) }
            let smooth = (trained / wavelength - low) / (high - low)
            return Float(1 / ((1 - smooth) / factor + smooth))
        }
        addTensor("rope_freqs.weight", factors)
    }

    // LongRoPE

    private mutating func addLongRoPE(_ scaling: Scaling) throws(ModelFileError) {
        let rope = scaling.rope
        try checkPairs(scaling)
        guard let trained = scaling.trained, trained > 1 else {
            throw rope.error("original_max_position_embeddings", "missing, or not above 1")
        }
        add("rope.scaling.type", text: "longrope")
        add("rope.scaling.original_context_length", count: trained)
        for (member, name) in [
            ("long_factor", "rope_factors_long"), ("short_factor", "rope_factors_short"),
        ] {
            let factors = (try rope.array(member) ?? []).map { $0.number ?? 0 }
            let count = scaling.dimensionCount / 2
            guard factors.count == count, factors.allSatisfy({ $0 > 0 && $0 < 1e6 }) else {
                throw rope.error(
                    member, "expected \(count) numbers between 0 and 1e6, one for each pair")
            }
            addTensor("\(name).weight", factors.map { Float($0) })
        }
        add("rope.scaling.attn_factor", number: try attentionFactor(scaling, trained: trained))
    }

    /// The factor on cosines and sines.
    private func attentionFactor(
        _ scaling: Scaling, trained: Int
    ) throws(ModelFileError) -> Double {
        let rope = scaling.rope
        let short = try rope.number("short_mscale")
        let long = try rope.number("long_mscale")
        if let short {
            guard long == nil || long == short, short > 0, short < 1e6 else {
                throw rope.error(
                    "long_mscale", "not equal to 'short_mscale', or not above 0; not supported")
            }
            return short
        }
        if let stated = try rope.number("attention_factor") {
            guard stated > 0, stated < 1e6 else {
                throw rope.error("attention_factor", "\(stated) is not between 0 and 1e6")
            }
            return stated
        }
        let stretch =
            try rope.number("factor") ?? Double(configuration.contextLength) / Double(trained)
        guard stretch < 1e6 else { throw rope.error("factor", "\(stretch) is not below 1e6") }
        return stretch > 1 ? (1 + log(stretch) / log(Double(trained))).squareRoot() : 1
    }
}
