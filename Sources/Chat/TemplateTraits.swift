import ChatTemplates
import JSONTree
import OpenAIAPI

/// What a template takes and what it does not, found out by trying, and conversations turned into
/// what it takes.
struct TemplateTraits: Sendable {
    /// Tools that it is given show in the prompt.
    let showsTools: Bool
    /// So do calls in an assistant's message,
    let showsCalls: Bool
    /// messages of role tool,
    private let showsResults: Bool
    /// and messages of role system.
    let showsSystem: Bool
    /// It takes a call's arguments as JSON text only.
    private let wantsTextArguments: Bool
    /// It shows calls only in messages whose content is null.
    private let wantsNullContent: Bool
    /// It shows calls only in messages without text.
    private let dropsCallsBesideText: Bool
    /// It trips over tools that are null.
    private let wantsToolList: Bool
    /// It trips over tools without description and parameters.
    private let wantsWholeTools: Bool
    private let knowsDevelopers: Bool
    /// It takes ids of nine letters and digits only.
    private let wantsShortIDs: Bool
    /// It takes one call in a message.
    private let wantsSingleCalls: Bool
    /// Thoughts are in `thinking`, beside no content in a message with calls.
    private let knowsThinking: Bool

    init(_ template: ChatTemplate, text: String, isHarmony: Bool) {
        func has(_ word: String) -> Bool { text.utf8.contains(word.utf8) }
        func rendered(_ messages: [JSON], tools: JSON = nil) -> String {
            var variables = JSONObject()
            variables["messages"] = .array(messages)
            variables["tools"] = tools
            variables["add_generation_prompt"] = true
            variables["bos_token"] = ""
            variables["eos_token"] = ""
            return (try? template.render(variables, now: 0)) ?? ""
        }
        let bare: JSON = [ToolDefinition(name: "probe_of_tools").json]
        let whole: JSON = [Self.whole(ToolDefinition(name: "probe_of_tools"))]
        let user: JSON = ["role": "user", "content": "Hello"]
        let system: JSON = ["role": "system", "content": "probe of system"]
        let developer: JSON = ["role": "developer", "content": "probe of developers"]
        func calling(_ content: JSON, _ arguments: JSON) -> JSON {
            let call: JSON = [
                "id": "abcdefghi", "type": "function",
                "function": ["name": "probe_of_calls", "arguments": arguments],
            ]
            return ["role": "assistant", "content": content, "tool_calls": [call]]
        }
        let result: JSON = [
            "role": "tool", "tool_call_id": "abcdefghi", "name": "probe_of_calls",
            "content": "probe of results",
        ]
        let takesBare = rendered([user], tools: bare).utf8.contains("probe_of_tools".utf8)
        let takesWhole = rendered([user], tools: whole).utf8.contains("probe_of_tools".utf8)
        let tools = takesBare || takesWhole ? whole : nil
        showsTools = takesBare || takesWhole
        wantsWholeTools = !takesBare
        func conversation(_ content: JSON, _ arguments: JSON) -> String {
            rendered([user, calling(content, arguments), result], tools: tools)
        }
        let name = "probe_of_calls".utf8
        let ways: [(content: JSON, arguments: JSON)] = [
            ("", ["a": "b"]), ("", #"{"a": "b"}"#), (nil, ["a": "b"]), (nil, #"{"a": "b"}"#),
        ]
        let way = ways.first { conversation($0.content, $0.arguments).utf8.contains(name) }
        showsCalls = way != nil
        let (content, arguments) = way ?? ways[0]
        wantsTextArguments = arguments.string != nil
        wantsNullContent = content.isNull
        dropsCallsBesideText = !conversation("Text", arguments).utf8.contains(name)
        let shown = conversation(content, arguments)
        showsResults = shown.utf8.contains("probe of results".utf8)
        // Some templates are for conversations with tools only.
        showsSystem = [nil, whole].contains { tools in
            rendered([system, user], tools: tools).utf8.contains("probe of system".utf8)
        }
        knowsDevelopers = rendered([developer, user]).utf8.contains("probe of developers".utf8)
        wantsToolList = rendered([user]).isEmpty && !rendered([user], tools: []).isEmpty
        wantsShortIDs = has("length != 9")
        wantsSingleCalls = isHarmony || has("single tool-calls at once")
        knowsThinking = has("message.thinking")
    }

    /// A tool with an empty description and parameters where it has none.
    private static func whole(_ tool: ToolDefinition) -> JSON {
        guard case .object(var object) = tool.json, case .object(var function)? = object["function"]
        else { return tool.json }
        if tool.description == nil { function["description"] = "" }
        if tool.parameters?["properties"] == nil {
            var parameters = tool.parameters?.object ?? JSONObject()
            parameters["type"] = "object"
            parameters["properties"] = [:]
            function["parameters"] = .object(parameters)
        }
        object["function"] = .object(function)
        return .object(object)
    }

    /// The tools as the template wants them; null for none, as transformers has it.
    func tools(_ request: ChatCompletionRequest) -> JSON {
        guard showsTools, request.usesTools else { return wantsToolList ? [] : .null }
        return .array(request.tools.map { wantsWholeTools ? Self.whole($0) : $0.json })
    }

    /// The messages as the template wants them.
    func messages(_ request: ChatCompletionRequest, _ family: ChatFamily) -> [JSON] {
        var messages = request.messages
        if !knowsDevelopers {
            for index in messages.indices where messages[index].role == .developer {
                messages[index].role = .system
            }
        }
        if wantsSingleCalls { messages = Self.splitCalls(messages) }
        messages = messages.map { spelled($0, family) }
        if !showsResults { messages = Self.spellResults(messages) }
        if !showsTools, request.usesTools {
            Self.addToSystem(ToolText.instructions(for: request.tools, family), &messages)
        }
        if !showsSystem { messages = Self.foldSystem(messages) }
        let names = Dictionary(
            messages.flatMap(\.toolCalls).map { ($0.id, $0.name) }, uniquingKeysWith: { $1 })
        return messages.map { json($0, names: names) }
    }

    private func json(_ message: ChatMessage, names: [String: String]) -> JSON {
        var object = JSONObject()
        var content = message.content ?? ""
        var thoughts = message.reasoningContent
        if knowsThinking, !message.toolCalls.isEmpty, let given = thoughts, !content.isEmpty {
            thoughts = given + "\n" + content
            content = ""
        }
        object["role"] = .string(message.role.rawValue)
        let isNull = wantsNullContent && content.isEmpty && !message.toolCalls.isEmpty
        object["content"] = isNull ? .null : .string(content)
        object["name"] = message.name.map { .string($0) }
        object["reasoning_content"] = thoughts.map { .string($0) }
        if knowsThinking { object["thinking"] = thoughts.map { .string($0) } }
        if !message.toolCalls.isEmpty {
            object["tool_calls"] = .array(message.toolCalls.map(json))
        }
        if let id = message.toolCallID {
            object["tool_call_id"] = .string(wantsShortIDs ? Self.shortID(id) : id)
            if message.name == nil { object["name"] = names[id].map { .string($0) } }
        }
        return .object(object)
    }

    /// With the arguments as an object, as transformers has it.
    private func json(_ call: ToolCall) -> JSON {
        let parsed = try? JSON(parsing: call.arguments)
        let isText = wantsTextArguments || parsed?.object == nil
        let arguments = isText ? .string(call.arguments) : parsed
        return [
            "id": .string(wantsShortIDs ? Self.shortID(call.id) : call.id), "type": "function",
            "function": ["name": .string(call.name), "arguments": arguments ?? .null],
        ]
    }

    /// Nine letters and digits that stand for an id: itself, if it is such; else always the same
    /// for the same id (FNV-1a).
    static func shortID(_ id: String) -> String {
        let isShort =
            id.utf8.count == 9 && id.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber) }
        if isShort { return id }
        let digits = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in id.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        var text = ""
        for _ in 0..<9 {
            text.append(digits[Int(hash % 62)])
            hash /= 62
        }
        return text
    }

    /// Every call in a message of its own, with its result behind it.
    private static func splitCalls(_ messages: [ChatMessage]) -> [ChatMessage] {
        var result: [ChatMessage] = []
        var index = 0
        while index < messages.count {
            let message = messages[index]
            index += 1
            guard message.toolCalls.count > 1 else {
                result.append(message)
                continue
            }
            var answers: [ChatMessage] = []
            while index < messages.count, messages[index].role == .tool {
                answers.append(messages[index])
                index += 1
            }
            for (number, call) in message.toolCalls.enumerated() {
                var single = ChatMessage(
                    role: .assistant, content: number == 0 ? message.content : "")
                if number == 0 { single.reasoningContent = message.reasoningContent }
                single.toolCalls = [call]
                result.append(single)
                result += answers.filter { $0.toolCallID == call.id }
            }
            let ids = message.toolCalls.map(\.id)
            result += answers.filter { !ids.contains($0.toolCallID ?? "") }
        }
        return result
    }

    /// Calls as the model writes them, where the template does not show them.
    private func spelled(_ message: ChatMessage, _ family: ChatFamily) -> ChatMessage {
        let text = message.content ?? ""
        guard !message.toolCalls.isEmpty, !showsCalls || dropsCallsBesideText && !text.isEmpty
        else { return message }
        var message = message
        message.content =
            (text.isEmpty ? "" : text + "\n") + ToolText.calls(message.toolCalls, family)
        message.toolCalls = []
        return message
    }

    /// Results as messages of the user, neighbours in one, for a template that does not show them.
    private static func spellResults(_ messages: [ChatMessage]) -> [ChatMessage] {
        var result: [ChatMessage] = []
        var isBehindResult = false
        for message in messages {
            let isResult = message.role == .tool
            defer { isBehindResult = isResult }
            guard isResult else {
                result.append(message)
                continue
            }
            let text = "<tool_response>\n\(message.content ?? "")\n</tool_response>"
            if isBehindResult, let before = result.last?.content {
                result[result.count - 1].content = before + "\n" + text
            } else {
                result.append(ChatMessage(role: .user, content: text))
            }
        }
        return result
    }

    private static func addToSystem(_ text: String, _ messages: inout [ChatMessage]) {
        if messages.first?.role == .system {
            messages[0].content = (messages[0].content.map { $0 + "\n\n" } ?? "") + text
        } else {
            messages.insert(ChatMessage(role: .system, content: text), at: 0)
        }
    }

    /// System messages before the text of the next message, for a template that has no such role.
    private static func foldSystem(_ messages: [ChatMessage]) -> [ChatMessage] {
        var result: [ChatMessage] = []
        var held: [String] = []
        for var message in messages {
            if message.role == .system {
                held.append(message.content ?? "")
                continue
            }
            if message.role == .user, !held.isEmpty {
                message.content = (held + [message.content ?? ""]).joined(separator: "\n\n")
                held = []
            }
            result.append(message)
        }
        if !held.isEmpty {
            result.append(ChatMessage(role: .user, content: held.joined(separator: "\n\n")))
        }
        return result
    }
}
