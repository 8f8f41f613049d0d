public import JSONTree

/// One message of a conversation.
public struct ChatMessage: Sendable, Equatable {
    public enum Role: String, Sendable, CaseIterable {
        case system, developer, user, assistant, tool
    }

    public var role: Role
    /// Text parts are joined by line breaks. Nil only in an assistant's message that calls tools.
    public var content: String?
    public var name: String?
    /// What an assistant thought before it answered.
    public var reasoningContent: String?
    public var toolCalls: [ToolCall] = []
    /// Which call a tool's message answers.
    public var toolCallID: String?

    public init(role: Role, content: String?) {
        self.role = role
        self.content = content
    }

    init(_ json: JSON, path: String) throws(APIError) {
        var fields = try Fields(json, path: path)
        let word = try fields.requiredString("role")
        guard let role = Role(rawValue: word) else {
            if word == "function" {
                throw .unsupported(
                    fields.path(of: "role"),
                    "Functions are deprecated: send the result as a message of role 'tool'.")
            }
            throw .unknownWord(
                word, Role.allCases.map(\.rawValue), param: fields.path(of: "role"))
        }
        self.role = role
        content = try Self.content(&fields, role)
        name = try fields.string("name")
        switch role {
        case .assistant: try takeAssistant(&fields)
        case .tool: toolCallID = try fields.requiredString("tool_call_id")
        default: break
        }
        if content == nil, toolCalls.isEmpty, reasoningContent == nil {
            throw .missing(fields.path(of: "content"))
        }
        try fields.finish()
    }

    private mutating func takeAssistant(_ fields: inout Fields) throws(APIError) {
        reasoningContent = try fields.same(
            ("reasoning_content", try fields.string("reasoning_content")),
            ("reasoning", try fields.string("reasoning")))
        if let refusal = try fields.string("refusal"), content == nil { content = refusal }
        fields.ignore("annotations")
        try fields.refuse("audio", "Sound is not supported: this model reads and writes text.")
        try fields.refuse(
            "function_call", "Functions are deprecated: give the call in 'tool_calls'.")
        guard let calls = try fields.array("tool_calls", atMost: 128) else { return }
        for (index, call) in calls.enumerated() {
            toolCalls.append(
                try ToolCall(call, path: fields.path(of: "tool_calls") + "[\(index)]"))
        }
    }

    private static func content(_ fields: inout Fields, _ role: Role) throws(APIError) -> String? {
        guard let value = fields.value("content") else { return nil }
        let path = fields.path(of: "content")
        if let text = value.string { return text }
        guard let parts = value.array else {
            throw .wrongType(path, expected: "a string or an array of content parts", value)
        }
        if parts.isEmpty { throw .empty(path) }
        var texts: [String] = []
        for (index, part) in parts.enumerated() {
            texts.append(try text(ofPart: part, path: "\(path)[\(index)]", role))
        }
        return texts.joined(separator: "\n")
    }

    private static func text(ofPart json: JSON, path: String, _ role: Role) throws(APIError)
        -> String
    {
        var part = try Fields(json, path: path)
        let type = try part.requiredString("type")
        let text: String
        switch type {
        case "text": text = try part.requiredString("text")
        case "refusal" where role == .assistant: text = try part.requiredString("refusal")
        case "image_url", "input_audio", "file", "video_url", "audio_url":
            throw .invalid(
                "Content parts of type '\(type)' are not supported: this model reads text only. "
                    + "Send parts of type 'text'.", param: part.path(of: "type"),
                code: "unsupported_value")
        default: throw .unknownWord(type, ["text"], param: part.path(of: "type"))
        }
        part.ignore("cache_control", "annotations")
        try part.finish()
        return text
    }

    /// As it stands in a request.
    public var json: JSON {
        var object = JSONObject()
        object["role"] = .string(role.rawValue)
        object["content"] = JSON(content)
        object["name"] = name.map { .string($0) }
        object["reasoning_content"] = reasoningContent.map { .string($0) }
        if !toolCalls.isEmpty { object["tool_calls"] = .array(toolCalls.map(\.json)) }
        object["tool_call_id"] = toolCallID.map { .string($0) }
        return .object(object)
    }
}
