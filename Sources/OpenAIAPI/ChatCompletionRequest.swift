public import JSONTree

/// The body of `POST /v1/chat/completions`, checked; also of `/apply-template`.
///
/// Fields that OpenAI's service has and that change nothing here are taken and ignored (`store`,
/// `metadata`, `service_tier`, `safety_identifier`, `prompt_cache_key`, `prediction`); those that
/// would change the answer and are not done are refused by name, as are unknown ones.
public struct ChatCompletionRequest: Sendable, Equatable {
    public enum ReasoningEffort: String, Sendable, CaseIterable {
        case none, minimal, low, medium, high, xhigh, max
    }

    /// Which model, by the name that the server gives it; nil for the one it has.
    public var model: String?
    public var messages: [ChatMessage]
    public var sampling = SamplingFields()
    public var streams = false
    /// A last chunk of a stream tells the usage.
    public var includesUsage = false
    /// Nil: to the end of the context.
    public var maximumTokens: Int?
    public var stops: [String] = []
    /// `n`: answers to the same prompt.
    public var choices = 1
    /// Likeliest tokens told beside each one; nil for no logprobs at all.
    public var topLogprobs: Int?
    public var user: String?
    public var responseFormat = ResponseFormat.text
    public var tools: [ToolDefinition] = []
    /// Never `required` or `function` without tools.
    public var toolChoice = ToolChoice.auto
    public var allowsParallelToolCalls = true
    /// Further variables of the template (`chat_template_kwargs`), such as `enable_thinking`.
    public var templateVariables = JSONObject()
    /// For the template.
    public var reasoningEffort: ReasoningEffort?
    /// The prompt ends where the answer begins.
    public var addsGenerationPrompt = true
    /// The answer goes on where the last message, an assistant's, ends.
    public var continuesFinalMessage = false
    public var ignoresEndOfText = false
    public var usesPrefixCache = true
    /// What the model thinks goes into `reasoning_content`; otherwise it stays in the content.
    public var splitsReasoning = true

    public init(messages: [ChatMessage]) { self.messages = messages }

    /// - Throws: `APIError` with status 400 and the path of the field at fault.
    public init(_ json: JSON, limits: RequestLimits = RequestLimits()) throws(APIError) {
        var fields = try Fields(json, path: "")
        messages = try Self.messages(&fields, limits)
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
        maximumTokens = try fields.same(
            ("max_completion_tokens", try fields.integer("max_completion_tokens", 1...Int.max)),
            ("max_tokens", try fields.integer("max_tokens", 1...Int.max)))
        try takeLogprobs(&fields, limits)
        try takeTools(&fields, limits)
        try takeTemplate(&fields)
        try Self.refuseUnsupported(&fields)
        try fields.finish()
    }

    private static func messages(_ fields: inout Fields, _ limits: RequestLimits) throws(APIError)
        -> [ChatMessage]
    {
        guard let elements = try fields.array("messages", atMost: limits.messages) else {
            throw .missing("messages")
        }
        if elements.isEmpty { throw .empty("messages") }
        var messages: [ChatMessage] = []
        for (index, element) in elements.enumerated() {
            messages.append(try ChatMessage(element, path: "messages[\(index)]"))
        }
        return messages
    }

    private mutating func takeLogprobs(_ fields: inout Fields, _ limits: RequestLimits)
        throws(APIError)
    {
        let wantsLogprobs = try fields.bool("logprobs") ?? false
        let top = try fields.integer("top_logprobs", 0...limits.topLogprobs)
        if top != nil, !wantsLogprobs {
            throw .invalid(
                "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
                param: "top_logprobs", code: "invalid_value")
        }
        topLogprobs = wantsLogprobs ? top ?? 0 : nil
    }

    private mutating func takeTools(_ fields: inout Fields, _ limits: RequestLimits)
        throws(APIError)
    {
        for (index, tool) in (try fields.array("tools", atMost: limits.tools) ?? []).enumerated() {
            let definition = try ToolDefinition(tool, path: "tools[\(index)]")
            if tools.contains(where: { $0.name == definition.name }) {
                throw .invalid(
                    "Invalid 'tools[\(index)].function.name': the name '\(definition.name)' is "
                        + "given twice.", param: "tools[\(index)].function.name",
                    code: "invalid_value")
            }
            tools.append(definition)
        }
        toolChoice = try ToolChoice(&fields) ?? .auto
        allowsParallelToolCalls = try fields.bool("parallel_tool_calls") ?? true
        switch toolChoice {
        case .required where tools.isEmpty, .function where tools.isEmpty:
            throw .invalid(
                "'tool_choice' is only allowed when 'tools' are specified.", param: "tool_choice",
                code: "invalid_value")
        case .function(let name) where !tools.contains { $0.name == name }:
            throw .invalid(
                "Invalid value for 'tool_choice': no function named '\(name)' was specified in the "
                    + "'tools' parameter.", param: "tool_choice", code: "invalid_value")
        default: break
        }
    }

    private enum ReasoningFormat: String, CaseIterable { case auto, split, deepseek, none }

    private mutating func takeTemplate(_ fields: inout Fields) throws(APIError) {
        templateVariables = try fields.object("chat_template_kwargs") ?? JSONObject()
        for name in ["messages", "tools", "add_generation_prompt"]
        where templateVariables[name] != nil {
            throw .invalid(
                "'chat_template_kwargs' must not set '\(name)': give it as a field of its own.",
                param: "chat_template_kwargs.\(name)", code: "invalid_value")
        }
        reasoningEffort = try fields.word("reasoning_effort", ReasoningEffort.self)
        splitsReasoning = try fields.word("reasoning_format", ReasoningFormat.self) != .some(.none)
        continuesFinalMessage = try fields.bool("continue_final_message") ?? false
        let addsPrompt = try fields.bool("add_generation_prompt")
        addsGenerationPrompt = addsPrompt ?? !continuesFinalMessage
        guard continuesFinalMessage else { return }
        if addsPrompt == true {
            throw .invalid(
                "'add_generation_prompt' begins a new message and 'continue_final_message' goes on "
                    + "with the last one. Give one of them.", param: "continue_final_message",
                code: "conflicting_parameters")
        }
        guard let last = messages.last, last.role == .assistant, last.toolCalls.isEmpty,
            last.content?.isEmpty == false
        else {
            throw .invalid(
                "'continue_final_message' needs a last message of role 'assistant' with text in "
                    + "its content.", param: "continue_final_message", code: "invalid_value")
        }
    }

    private static func refuseUnsupported(_ fields: inout Fields) throws(APIError) {
        try fields.refuse(
            "functions", unless: [], "Functions are deprecated: give them in 'tools'.")
        try fields.refuse(
            "function_call", unless: "none", "Functions are deprecated: use 'tool_choice'.")
        try fields.refuse(
            "modalities", unless: ["text"], "Only ['text'] is supported: this model writes text.")
        try fields.refuse("audio", "Sound is not supported: this model writes text.")
        try fields.refuse(
            "verbosity", unless: "medium",
            "Only 'medium' is supported: ask for the length you want in a message.")
        try fields.refuse(
            "web_search_options", "Searching is not supported: this server has no network.")
    }

    /// The request's body. Parsing it gives an equal request.
    public var json: JSON {
        var object = JSONObject()
        object["model"] = model.map { .string($0) }
        object["messages"] = .array(messages.map(\.json))
        sampling.write(to: &object)
        object.writeCommon(
            stops: stops, choices: choices, streams: streams, includesUsage: includesUsage,
            user: user, ignoresEndOfText: ignoresEndOfText, usesPrefixCache: usesPrefixCache)
        object["max_completion_tokens"] = maximumTokens.map { .integer($0) }
        if let topLogprobs {
            object["logprobs"] = true
            object["top_logprobs"] = .integer(topLogprobs)
        }
        object["response_format"] = responseFormat.json
        if !tools.isEmpty { object["tools"] = .array(tools.map(\.json)) }
        if toolChoice != .auto { object["tool_choice"] = toolChoice.json }
        if !allowsParallelToolCalls { object["parallel_tool_calls"] = false }
        if !templateVariables.isEmpty {
            object["chat_template_kwargs"] = .object(templateVariables)
        }
        object["reasoning_effort"] = reasoningEffort.map { .string($0.rawValue) }
        if !splitsReasoning { object["reasoning_format"] = "none" }
        if continuesFinalMessage { object["continue_final_message"] = true }
        if addsGenerationPrompt == continuesFinalMessage {
            object["add_generation_prompt"] = .bool(addsGenerationPrompt)
        }
        return .object(object)
    }
}
