public import ChatTemplates
public import Constraints
import JSONTree
public import OpenAIAPI

/// How one model is talked to: its template, and the way of its family to write thoughts and calls.
///
/// A template that does not show tools gets them as a part of the system message, in Hermes's way;
/// what a template refuses that has a plain meaning in it (roles, ids, several calls at once) is
/// turned into what it takes.
public struct ChatModel: Sendable {
    let template: ChatTemplate
    let family: ChatFamily
    let syntax: OutputSyntax
    let traits: TemplateTraits
    private let beginning: String
    private let end: String
    /// The generated text must have control tokens spelled out: the family's markers are such.
    public let rendersSpecial: Bool
    /// Texts that end an answer, besides the vocabulary's own tokens.
    public let stops: [String]

    /// - Parameters:
    ///   - template: Jinja; nil where the model has none, and ChatML is used.
    ///   - architecture: as GGUF names it; tells the family of a model without a template.
    ///   - beginning: text of the token that begins a text; nil without one.
    ///   - end: text of the token that ends a text.
    ///   - tokenTexts: whether a text is one token of the vocabulary.
    /// - Throws: `TemplateError` with the line of what cannot be understood.
    public init(
        template text: String?, architecture: String, beginning: String?, end: String?,
        tokenTexts isToken: (String) -> Bool
    ) throws(TemplateError) {
        let source = text ?? ""
        template =
            if let text { try ChatTemplate(text) } else { try ChatTemplate.fallback() }
        let likely = architecture == "gpt-oss" ? .harmony : ChatFamily(template: source)
        traits = TemplateTraits(template, text: source, isHarmony: likely == .harmony)
        // A template that shows neither tools nor calls gets both in Hermes's way.
        let isShown = traits.showsTools || traits.showsCalls || likely == .harmony
        family = isShown ? likely : .hermes
        // Who has a token for it thinks, whatever the template says.
        let hint = isToken("<think>") && isToken("</think>") ? "<think>" : ""
        syntax = family.syntax(template: source + hint)
        self.beginning = beginning ?? ""
        self.end = end ?? ""
        rendersSpecial = syntax.markers.contains(where: isToken)
        let isChatML = text == nil || source.utf8.contains("<|im_end|>".utf8)
        stops = family.stops + (isChatML && !isToken("<|im_end|>") ? ["<|im_end|>"] : [])
    }

    /// Everything that a request needs, with one rendering of the template.
    public struct Prepared: Sendable {
        public var prompt: String
        public var constraint: Constraint?
        public var parser: ChatOutputParser
    }

    public func prepare(_ request: ChatCompletionRequest, now: Double) throws(APIError) -> Prepared
    {
        let prompt = try prompt(for: request, now: now)
        let thinking = thinking(in: prompt, request)
        return Prepared(
            prompt: prompt, constraint: try constraint(for: request, thinking),
            parser: parser(for: request, thinking))
    }

    /// The text that the model is to continue, with control tokens spelled out; it has the
    /// beginning token's text where the template writes it.
    ///
    /// - Parameter now: seconds since 1970, for templates that tell the date.
    /// - Throws: `APIError` with status 400 where the template refuses the conversation.
    public func prompt(for request: ChatCompletionRequest, now: Double) throws(APIError) -> String {
        var variables = JSONObject()
        variables["messages"] = .array(traits.messages(request, family))
        variables["tools"] = traits.tools(request)
        variables["add_generation_prompt"] = .bool(request.addsGenerationPrompt)
        variables["bos_token"] = .string(beginning)
        variables["eos_token"] = .string(end)
        switch request.reasoningEffort {
        case nil, .minimal?: break
        case .some(.none): variables["enable_thinking"] = false
        default: variables["enable_thinking"] = true
        }
        if let effort = request.reasoningEffort, effort != .none {
            variables["reasoning_effort"] = .string(effort.rawValue)
        }
        for (name, value) in request.templateVariables.members { variables[name] = value }
        let text: String
        do {
            text = try template.render(variables, now: now)
        } catch {
            throw .invalid(
                error.isRaised
                    ? "The model's chat template refuses this conversation: \(error.problem)"
                    : "The model's chat template cannot be rendered with this conversation: "
                        + "\(error)", param: "messages", code: "invalid_conversation")
        }
        return request.continuesFinalMessage ? try cut(text, behind: request.messages) : text
    }

    /// The rendered conversation up to the end of its last message's content.
    private func cut(_ text: String, behind messages: [ChatMessage]) throws(APIError) -> String {
        let content = Array((messages.last?.content ?? "").utf8)[...].trimmed
        let bytes = Array(text.utf8)
        var end = bytes.count
        while end >= content.count {
            if bytes[(end - content.count)..<end].elementsEqual(content) {
                return bytes[..<end].string
            }
            end -= 1
        }
        throw .invalid(
            "The model's chat template does not show the last message as it is, so that it cannot "
                + "be continued.", param: "continue_final_message", code: "invalid_conversation")
    }

    /// What the answer must look like; nil where it is free.
    ///
    /// - Throws: `APIError` with status 400 where a schema, expression or grammar cannot be kept.
    public func constraint(for request: ChatCompletionRequest) throws(APIError) -> Constraint? {
        if request.responseFormat == .text, !request.constrainsTools { return nil }
        return try constraint(for: request, thinking(in: prompt(for: request, now: 0), request))
    }

    /// Tells apart what the model answers to this request.
    public func parser(for request: ChatCompletionRequest) -> ChatOutputParser {
        let prompt = (try? prompt(for: request, now: 0)) ?? ""
        return parser(for: request, thinking(in: prompt, request))
    }

    private func parser(for request: ChatCompletionRequest, _ thinking: Thinking)
        -> ChatOutputParser
    {
        ChatOutputParser(
            syntax, tools: request.usesTools ? request.tools : [],
            startsInReasoning: thinking == .begun, splitsReasoning: request.splitsReasoning,
            greatestCallCount: request.allowsParallelToolCalls ? .max : 1,
            idStyle: family.idStyle)
    }

    /// Where the answer begins.
    enum Thinking {
        /// The model cannot think aloud, or the prompt has done with it.
        case never
        /// The model may begin to.
        case possible
        /// The prompt has opened the thoughts.
        case begun
    }

    private func thinking(in prompt: String, _ request: ChatCompletionRequest) -> Thinking {
        guard let brackets = syntax.reasoning else { return .never }
        let bytes = Array(prompt.utf8)[...]
        if request.continuesFinalMessage {
            let content = Array((request.messages.last?.content ?? "").utf8)
            guard let open = content.firstRange(of: brackets.open.utf8) else { return .never }
            let isClosed = content[open.upperBound...].contains(brackets.close.utf8)
            return isClosed ? .never : .begun
        }
        let tail = bytes.suffix(256).trimmed
        if tail.reversed().starts(with: brackets.open.utf8.reversed()) { return .begun }
        return tail.reversed().starts(with: brackets.close.utf8.reversed()) ? .never : .possible
    }
}

extension ChatCompletionRequest {
    /// The model may call tools.
    var usesTools: Bool { !tools.isEmpty && toolChoice != .none }

    /// Calls must have a form, whatever the model would write.
    var constrainsTools: Bool {
        guard usesTools else { return false }
        return toolChoice != .auto || tools.contains(where: \.strict)
    }
}
