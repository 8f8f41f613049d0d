import JSONTree

/// How a request wants tokens drawn. What is nil is the server's to choose.
public struct SamplingFields: Sendable, Equatable {
    /// 0 ... 2; 0 takes the likeliest token.
    public var temperature: Double?
    /// 0 ... 1.
    public var topP: Double?
    /// 0 keeps all tokens.
    public var topK: Int?
    /// 0 ... 1.
    public var minP: Double?
    /// 0 ... 1; 1 is off.
    public var typicalP: Double?
    /// -2 ... 2.
    public var frequencyPenalty: Double?
    /// -2 ... 2.
    public var presencePenalty: Double?
    /// 0.01 ... 100; 1 is off.
    public var repetitionPenalty: Double?
    /// How many tokens back the penalties look.
    public var penaltyWindow: Int?
    public var seed: Int?
    /// Added to the logits of these tokens, -100 ... 100.
    public var logitBias: [Int32: Double] = [:]

    public init() {}

    init(_ fields: inout Fields, limits: RequestLimits) throws(APIError) {
        temperature = try fields.number("temperature", 0...2)
        topP = try fields.number("top_p", 0...1)
        topK = try fields.integer("top_k", 0...Int(Int32.max))
        minP = try fields.number("min_p", 0...1)
        typicalP = try fields.number("typical_p", 0...1)
        frequencyPenalty = try fields.number("frequency_penalty", -2...2)
        presencePenalty = try fields.number("presence_penalty", -2...2)
        repetitionPenalty = try fields.same(
            ("repeat_penalty", try fields.number("repeat_penalty", 0.01...100)),
            ("repetition_penalty", try fields.number("repetition_penalty", 0.01...100)))
        penaltyWindow = try fields.integer("repeat_last_n", 0...1_048_576)
        seed = try fields.integer("seed", Int.min...Int.max)
        guard let biases = try fields.object("logit_bias") else { return }
        let path = fields.path(of: "logit_bias")
        guard biases.count <= limits.logitBiases else {
            throw .invalid(
                "Invalid '\(path)': too many entries. Expected at most \(limits.logitBiases), but "
                    + "got \(biases.count) instead.", param: path,
                code: "object_above_max_properties")
        }
        var entries = try Fields(.object(biases), path: path)
        for name in biases.names {
            guard let id = Int32(name), id >= 0 else {
                throw .invalid(
                    "Invalid '\(path)': expected ids of tokens as names, but got '\(name)' "
                        + "instead.", param: path, code: "invalid_value")
            }
            logitBias[id] = try entries.number(name, -100...100)
        }
    }

    func write(to object: inout JSONObject) {
        object["temperature"] = temperature.map { .number($0) }
        object["top_p"] = topP.map { .number($0) }
        object["top_k"] = topK.map { .integer($0) }
        object["min_p"] = minP.map { .number($0) }
        object["typical_p"] = typicalP.map { .number($0) }
        object["frequency_penalty"] = frequencyPenalty.map { .number($0) }
        object["presence_penalty"] = presencePenalty.map { .number($0) }
        object["repeat_penalty"] = repetitionPenalty.map { .number($0) }
        object["repeat_last_n"] = penaltyWindow.map { .integer($0) }
        object["seed"] = seed.map { .integer($0) }
        guard !logitBias.isEmpty else { return }
        var biases = JSONObject()
        for (id, bias) in logitBias.sorted(by: { $0.key < $1.key }) {
            biases[String(id)] = .number(bias)
        }
        object["logit_bias"] = .object(biases)
    }
}
