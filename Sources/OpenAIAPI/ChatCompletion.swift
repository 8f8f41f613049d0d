public import JSONTree

/// The answer to a chat completion, whole.
public struct ChatCompletion: Sendable, Equatable {
    public struct Message: Sendable, Equatable {
        /// Nil where the model only called tools.
        public var content: String?
        public var reasoningContent: String?
        public var toolCalls: [ToolCall] = []

        public init(
            content: String? = nil, reasoningContent: String? = nil, toolCalls: [ToolCall] = []
        ) {
            self.content = content
            self.reasoningContent = reasoningContent
            self.toolCalls = toolCalls
        }
    }

    public struct Choice: Sendable, Equatable {
        public var index: Int
        public var message: Message
        public var finishReason: FinishReason
        /// Token by token; nil where they were not asked for.
        public var logprobs: [LogprobEntry]?

        public init(
            index: Int, message: Message, finishReason: FinishReason,
            logprobs: [LogprobEntry]? = nil
        ) {
            self.index = index
            self.message = message
            self.finishReason = finishReason
            self.logprobs = logprobs
        }
    }

    public var header: ResponseHeader
    public var choices: [Choice]
    public var usage: Usage
    public var timings: Timings?
    public var experts: ExpertAccounting?

    public init(
        header: ResponseHeader, choices: [Choice], usage: Usage, timings: Timings? = nil,
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
        header.write(to: &object, kind: "chat.completion")
        object["choices"] = .array(choices.map(\.json))
        object["usage"] = usage.json
        object["timings"] = timings?.json
        object["sluice"] = experts?.json
        return .object(object)
    }

    /// An answer as a server sent it; members that are not known here are ignored.
    ///
    /// - Throws: `ResponseError` where it has no choices, or a choice no message.
    public init(json: JSON) throws(ResponseError) {
        header = ResponseHeader(json: json)
        choices = []
        for (index, choice) in try json.required("choices", \.array).enumerated() {
            choices.append(try Choice(json: choice, index: index))
        }
        usage = Usage(json: json["usage"]) ?? Usage(promptTokens: 0, completionTokens: 0)
        timings = Timings(json: json["timings"])
        experts = ExpertAccounting(json: json["sluice"])
    }
}

extension ChatCompletion.Choice {
    var json: JSON {
        var object = JSONObject()
        object["index"] = .integer(index)
        object["message"] = message.json
        object["logprobs"] = JSON(chatLogprobs: logprobs)
        object["finish_reason"] = .string(finishReason.rawValue)
        return .object(object)
    }

    init(json: JSON, index position: Int) throws(ResponseError) {
        index = json["index"]?.integer ?? position
        message = ChatCompletion.Message(json: try json.required("message", { $0 }))
        finishReason = json["finish_reason"]?.string.flatMap { FinishReason(rawValue: $0) } ?? .stop
        logprobs = try json["logprobs"]?.chatLogprobs()
    }
}

extension ChatCompletion.Message {
    var json: JSON {
        var object = JSONObject()
        object["role"] = "assistant"
        object["content"] = JSON(content)
        object["refusal"] = .null
        object["reasoning_content"] = reasoningContent.map { .string($0) }
        if !toolCalls.isEmpty { object["tool_calls"] = .array(toolCalls.map(\.json)) }
        return .object(object)
    }

    init(json: JSON) {
        content = json["content"]?.string
        reasoningContent = json["reasoning_content"]?.string ?? json["reasoning"]?.string
        toolCalls = (json["tool_calls"]?.array ?? []).map { call in
            ToolCall(
                id: call["id"]?.string ?? "", name: call["function"]?["name"]?.string ?? "",
                arguments: call["function"]?["arguments"]?.string ?? "")
        }
    }

    /// Adds one piece of a streamed answer.
    public mutating func append(_ delta: ChatChunk.Delta) {
        if let text = delta.content { content = (content ?? "") + text }
        if let text = delta.reasoningContent { reasoningContent = (reasoningContent ?? "") + text }
        for piece in delta.toolCalls {
            // Calls come in order; an index far off is a server's mistake, not a reason for a gap.
            if toolCalls.isEmpty || piece.index >= toolCalls.count {
                toolCalls.append(ToolCall(id: "", name: "", arguments: ""))
            }
            let index = min(max(piece.index, 0), toolCalls.count - 1)
            if let id = piece.id { toolCalls[index].id = id }
            if let name = piece.name { toolCalls[index].name += name }
            toolCalls[index].arguments += piece.arguments ?? ""
        }
    }

    /// The message as history for the next request.
    public var asHistory: ChatMessage {
        var message = ChatMessage(role: .assistant, content: content)
        message.reasoningContent = reasoningContent
        message.toolCalls = toolCalls
        return message
    }
}

extension JSON {
    init(chatLogprobs entries: [LogprobEntry]?) {
        self =
            entries.map { ["content": .array($0.map(\.json)), "refusal": .null] } ?? .null
    }

    func chatLogprobs() throws(ResponseError) -> [LogprobEntry]? {
        guard let entries = self["content"]?.array else { return nil }
        var result: [LogprobEntry] = []
        for entry in entries { result.append(try LogprobEntry(json: entry)) }
        return result
    }
}
