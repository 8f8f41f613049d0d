public import JSONTree

/// One piece of a streamed chat completion.
public struct ChatChunk: Sendable, Equatable {
    public struct ToolCallDelta: Sendable, Equatable {
        /// Which call of the message, from 0.
        public var index: Int
        /// With the call's first piece only, as is the name.
        public var id: String?
        public var name: String?
        /// The next part of the arguments' JSON text.
        public var arguments: String?

        public init(index: Int, id: String? = nil, name: String? = nil, arguments: String? = nil) {
            self.index = index
            self.id = id
            self.name = name
            self.arguments = arguments
        }
    }

    public struct Delta: Sendable, Equatable {
        /// With a choice's first piece only.
        public var role: String?
        public var content: String?
        public var reasoningContent: String?
        public var toolCalls: [ToolCallDelta] = []

        public init(
            role: String? = nil, content: String? = nil, reasoningContent: String? = nil,
            toolCalls: [ToolCallDelta] = []
        ) {
            self.role = role
            self.content = content
            self.reasoningContent = reasoningContent
            self.toolCalls = toolCalls
        }
    }

    public struct Choice: Sendable, Equatable {
        public var index: Int
        public var delta: Delta
        /// With a choice's last piece only.
        public var finishReason: FinishReason?
        public var logprobs: [LogprobEntry]?

        public init(
            index: Int, delta: Delta, finishReason: FinishReason? = nil,
            logprobs: [LogprobEntry]? = nil
        ) {
            self.index = index
            self.delta = delta
            self.finishReason = finishReason
            self.logprobs = logprobs
        }
    }

    public var header: ResponseHeader
    /// Empty in the chunk that tells the usage.
    public var choices: [Choice]
    public var usage: Usage?
    public var timings: Timings?
    public var experts: ExpertAccounting?
    /// A request for the usage makes every other chunk say that it has none.
    var writesUsage = false

    public init(header: ResponseHeader, choices: [Choice]) {
        self.header = header
        self.choices = choices
    }

    public var json: JSON {
        var object = JSONObject()
        header.write(to: &object, kind: "chat.completion.chunk")
        object["choices"] = .array(choices.map(\.json))
        if writesUsage || usage != nil { object["usage"] = usage?.json ?? .null }
        object["timings"] = timings?.json
        object["sluice"] = experts?.json
        return .object(object)
    }

    /// A chunk as a server sent it; members that are not known here are ignored.
    ///
    /// - Throws: `ResponseError` where it has no choices.
    public init(json: JSON) throws(ResponseError) {
        header = ResponseHeader(json: json)
        choices = []
        for (index, choice) in try json.required("choices", \.array).enumerated() {
            choices.append(try Choice(json: choice, index: index))
        }
        usage = Usage(json: json["usage"])
        timings = Timings(json: json["timings"])
        experts = ExpertAccounting(json: json["sluice"])
    }
}

extension ChatChunk.Choice {
    var json: JSON {
        var object = JSONObject()
        object["index"] = .integer(index)
        object["delta"] = delta.json
        object["logprobs"] = JSON(chatLogprobs: logprobs)
        object["finish_reason"] = JSON(finishReason?.rawValue)
        return .object(object)
    }

    init(json: JSON, index position: Int) throws(ResponseError) {
        index = json["index"]?.integer ?? position
        delta = ChatChunk.Delta(json: json["delta"] ?? .null)
        finishReason = json["finish_reason"]?.string.flatMap { FinishReason(rawValue: $0) }
        logprobs = try json["logprobs"]?.chatLogprobs()
    }
}

extension ChatChunk.Delta {
    var json: JSON {
        var object = JSONObject()
        object["role"] = role.map { .string($0) }
        // The first piece says that there is no text yet, as OpenAI's does.
        object["content"] = content.map { .string($0) } ?? (role == nil ? nil : .null)
        object["reasoning_content"] = reasoningContent.map { .string($0) }
        if !toolCalls.isEmpty { object["tool_calls"] = .array(toolCalls.map(\.json)) }
        return .object(object)
    }

    init(json: JSON) {
        role = json["role"]?.string
        content = json["content"]?.string
        reasoningContent = json["reasoning_content"]?.string ?? json["reasoning"]?.string
        toolCalls = (json["tool_calls"]?.array ?? []).enumerated().map { position, call in
            ChatChunk.ToolCallDelta(
                index: call["index"]?.integer ?? position, id: call["id"]?.string,
                name: call["function"]?["name"]?.string,
                arguments: call["function"]?["arguments"]?.string)
        }
    }
}

extension ChatChunk.ToolCallDelta {
    var json: JSON {
        var function = JSONObject()
        function["name"] = name.map { .string($0) }
        function["arguments"] = arguments.map { .string($0) }
        var object = JSONObject()
        object["index"] = .integer(index)
        object["id"] = id.map { .string($0) }
        if id != nil { object["type"] = "function" }
        object["function"] = .object(function)
        return .object(object)
    }
}

/// Makes the chunks of one streamed answer, in the order in which OpenAI sends them: for every
/// choice its role, its pieces, its end; then the usage, where it was asked for.
public struct ChatChunkWriter: Sendable {
    public let header: ResponseHeader
    public let includesUsage: Bool

    public init(header: ResponseHeader, includesUsage: Bool) {
        self.header = header
        self.includesUsage = includesUsage
    }

    /// The first chunk of a choice.
    public func start(choice: Int) -> ChatChunk { piece(choice: choice, .init(role: "assistant")) }

    public func piece(choice: Int, _ delta: ChatChunk.Delta, logprobs: [LogprobEntry]? = nil)
        -> ChatChunk
    {
        chunk([.init(index: choice, delta: delta, logprobs: logprobs)])
    }

    /// The last chunk of a choice.
    public func finish(choice: Int, _ reason: FinishReason) -> ChatChunk {
        chunk([.init(index: choice, delta: .init(), finishReason: reason)])
    }

    /// The chunk after all choices; nil where the request did not ask for it.
    public func usage(_ usage: Usage, timings: Timings?, experts: ExpertAccounting?) -> ChatChunk? {
        guard includesUsage else { return nil }
        var chunk = chunk([])
        chunk.usage = usage
        chunk.timings = timings
        chunk.experts = experts
        return chunk
    }

    private func chunk(_ choices: [ChatChunk.Choice]) -> ChatChunk {
        var chunk = ChatChunk(header: header, choices: choices)
        chunk.writesUsage = includesUsage
        return chunk
    }
}
