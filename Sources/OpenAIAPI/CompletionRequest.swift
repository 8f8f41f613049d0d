public import JSONTree

/// The body of `POST /v1/completions`, checked.
public struct CompletionRequest: Sendable, Equatable {
    public enum Prompt: Sendable, Equatable {
        case text(String)
        case tokens([Int32])
    }

    /// Which model, by the name that the server gives it; nil for the one it has.
    public var model: String?
    /// At least one; each gets its own answers, numbered on from those of the one before.
    public var prompts: [Prompt]
    public var sampling = SamplingFields()
    public var streams = false
    /// A last chunk of a stream tells the usage.
    public var includesUsage = false
    /// Nil: OpenAI's 16 is for the server to take or leave. 0 only with `echoes`: no answer, just
    /// the prompt's logprobs.
    public var maximumTokens: Int?
    public var stops: [String] = []
    /// `n`: answers to each prompt.
    public var choices = 1
    /// Likeliest tokens told beside each one; nil for no logprobs at all.
    public var topLogprobs: Int?
    /// The prompt comes back before the answer, with its logprobs where those are asked for.
    public var echoes = false
    public var user: String?
    public var responseFormat = ResponseFormat.text
    public var ignoresEndOfText = false
    public var usesPrefixCache = true

    public init(prompts: [Prompt]) { self.prompts = prompts }

    /// - Throws: `APIError` with status 400 and the path of the field at fault.
    public init(_ json: JSON, limits: RequestLimits = RequestLimits()) throws(APIError) {
        var fields = try Fields(json, path: "")
        prompts = try Self.prompts(&fields, limits)
        let common = try CommonFields(&fields, limits: limits)
        model = common.model
        sampling = common.sampling
        streams = common.streams
        includesUsage = common.includesUsage
        stops = common.stops
        choices = common.choices
        user = common.user
        responseFormat = common.responseFormat
        ignoresEndOfText = common.ignoresEndOfText
        usesPrefixCache = common.usesPrefixCache
        echoes = try fields.bool("echo") ?? false
        maximumTokens = try fields.integer("max_tokens", (echoes ? 0 : 1)...Int.max)
        topLogprobs = try fields.integer("logprobs", 0...limits.topLogprobs)
        try fields.refuse(
            "best_of", unless: .integer(choices),
            "Only the value of 'n' is supported: every answer that is computed is returned.")
        try fields.refuse(
            "suffix", unless: "", "This model writes what follows a prompt, not what fills a gap.")
        if prompts.count * choices > limits.choices {
            throw .invalid(
                "Invalid 'prompt': \(prompts.count) prompts with \(choices) answers each are more "
                    + "than \(limits.choices) answers.", param: "prompt",
                code: "array_above_max_length")
        }
        try fields.finish()
    }

    private static func prompts(_ fields: inout Fields, _ limits: RequestLimits) throws(APIError)
        -> [Prompt]
    {
        guard let value = fields.value("prompt") else { throw .missing("prompt") }
        if let text = value.string { return [.text(text)] }
        guard let elements = value.array else {
            throw .wrongType(
                "prompt", expected: "a string, an array of strings or arrays of token ids", value)
        }
        guard let first = elements.first else { throw .empty("prompt") }
        if first.number != nil {
            return [.tokens(try tokens(elements, path: "prompt", limits))]
        }
        try fields.checkCount(elements.count, atMost: limits.prompts, "prompt")
        var prompts: [Prompt] = []
        for (index, element) in elements.enumerated() {
            let path = "prompt[\(index)]"
            // All of one kind, as OpenAI has it.
            if first.string != nil {
                guard let text = element.string else {
                    throw .wrongType(path, expected: "a string", element)
                }
                prompts.append(.text(text))
            } else {
                guard let ids = element.array else {
                    throw .wrongType(path, expected: "an array", element)
                }
                prompts.append(.tokens(try tokens(ids, path: path, limits)))
            }
        }
        return prompts
    }

    /// Ids as they are; whether the vocabulary has them is for who knows it.
    static func tokens(_ elements: [JSON], path: String, _ limits: RequestLimits)
        throws(APIError) -> [Int32]
    {
        if elements.isEmpty { throw .empty(path) }
        if elements.count > limits.tokens {
            throw .invalid(
                "Invalid '\(path)': array too long. Expected an array with maximum length "
                    + "\(limits.tokens), but got an array with length \(elements.count) instead.",
                param: path, code: "array_above_max_length")
        }
        var ids: [Int32] = []
        ids.reserveCapacity(elements.count)
        for (index, element) in elements.enumerated() {
            guard let integer = element.integer else {
                throw .wrongType("\(path)[\(index)]", expected: "an integer", element)
            }
            guard let id = Int32(exactly: integer), id >= 0 else {
                throw .invalid(
                    "Invalid '\(path)[\(index)]': expected the id of a token, but got \(integer) "
                        + "instead.", param: "\(path)[\(index)]", code: "invalid_value")
            }
            ids.append(id)
        }
        return ids
    }

    /// The request's body. Parsing it gives an equal request.
    public var json: JSON {
        var object = JSONObject()
        object["model"] = model.map { .string($0) }
        let values: [JSON] = prompts.map { prompt in
            switch prompt {
            case .text(let text): .string(text)
            case .tokens(let ids): .array(ids.map { .integer(Int($0)) })
            }
        }
        object["prompt"] = values.count == 1 ? values[0] : .array(values)
        sampling.write(to: &object)
        object.writeCommon(
            stops: stops, choices: choices, streams: streams, includesUsage: includesUsage,
            user: user, ignoresEndOfText: ignoresEndOfText, usesPrefixCache: usesPrefixCache)
        object["max_tokens"] = maximumTokens.map { .integer($0) }
        object["logprobs"] = topLogprobs.map { .integer($0) }
        if echoes { object["echo"] = true }
        object["response_format"] = responseFormat.json
        return .object(object)
    }
}
