public import JSONTree

/// The answer to a text completion, and a piece of it where it is streamed: OpenAI gives both the
/// same shape.
public struct Completion: Sendable, Equatable {
    public struct Choice: Sendable, Equatable {
        /// Prompt number times `n`, plus the answer's number.
        public var index: Int
        public var text: String
        /// Nil in a piece that is not the last.
        public var finishReason: FinishReason?
        public var logprobs: CompletionLogprobs?

        public init(
            index: Int, text: String, finishReason: FinishReason? = nil,
            logprobs: CompletionLogprobs? = nil
        ) {
            self.index = index
            self.text = text
            self.finishReason = finishReason
            self.logprobs = logprobs
        }
    }

    public var header: ResponseHeader
    public var choices: [Choice]
    /// Always in a whole answer; in a stream in the last piece, if it was asked for.
    public var usage: Usage?
    public var timings: Timings?
    public var experts: ExpertAccounting?

    public init(
        header: ResponseHeader, choices: [Choice], usage: Usage? = nil, timings: Timings? = nil,
        experts: ExpertAccounting? = nil
    ) {
        self.header = header
        self.choices = choices
        self.usage = usage
        self.timings = timings
        self.experts = experts
    }

    public var json: JSON {
        var object = JSONObject()
        header.write(to: &object, kind: "text_completion")
        object["choices"] = .array(
            choices.map { choice in
                [
                    "text": .string(choice.text), "index": .integer(choice.index),
                    "logprobs": choice.logprobs?.json ?? .null,
                    "finish_reason": JSON(choice.finishReason?.rawValue),
                ]
            })
        object["usage"] = usage?.json
        object["timings"] = timings?.json
        object["sluice"] = experts?.json
        return .object(object)
    }

    /// An answer as a server sent it; members that are not known here are ignored.
    ///
    /// - Throws: `ResponseError` where it has no choices.
    public init(json: JSON) throws(ResponseError) {
        header = ResponseHeader(json: json)
        choices = try json.required("choices", \.array).enumerated().map { position, choice in
            Choice(
                index: choice["index"]?.integer ?? position, text: choice["text"]?.string ?? "",
                finishReason: choice["finish_reason"]?.string.flatMap {
                    FinishReason(rawValue: $0)
                },
                logprobs: choice["logprobs"]?.object.map {
                    CompletionLogprobs(json: .object($0))
                })
        }
        usage = Usage(json: json["usage"])
        timings = Timings(json: json["timings"])
        experts = ExpertAccounting(json: json["sluice"])
    }
}
