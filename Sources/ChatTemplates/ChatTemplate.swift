public import JSONTree

/// A chat template: Jinja2 as Hugging Face's transformers sets it up (chat_template_utils.py), equal to it byte for byte.
///
/// That is Jinja's ImmutableSandboxedEnvironment with trim_blocks and lstrip_blocks, the tags `generation`, `break` and
/// `continue`, the filter `tojson` without HTML's escapes, and the functions `raise_exception` and `strftime_now`.
/// Different from there: integers have 64 bits, what is random or made for web pages (`lipsum`, `urlize`) and other
/// templates (`include`, `import`, `extends`) are refused, and so is a template that exceeds `RenderLimits`.
public struct ChatTemplate: Sendable {
    private let body: Scope
    private let scopes: Scopes

    /// Parses a template.
    ///
    /// - Throws: `TemplateError` with the line and the construct, also for filters and tests that do not exist.
    public init(_ text: String) throws(TemplateError) {
        var parser = Parser(try Lexer.tokens(of: text))
        body = try parser.template()
        scopes = try Scopes(of: body, count: parser.scopeCount)
    }

    /// Renders a conversation.
    ///
    /// - Parameters:
    ///   - variables: `messages`, `tools`, `add_generation_prompt`, `bos_token`, `eos_token` and any others. What is
    ///     not there is undefined in the template.
    ///   - now: Seconds since 1970, printed in local time by `strftime_now`.
    ///   - limits: What the rendering may cost.
    /// - Throws: `TemplateError`; `isRaised` is set where the template itself refuses the conversation.
    public func render(
        _ variables: JSONObject, now: Double, limits: RenderLimits = RenderLimits()
    ) throws(TemplateError) -> String {
        let values = Dict()
        for member in variables.members { values.set(member.name, to: Value(member.value)) }
        let interpreter = Interpreter(body, scopes, variables: values, now: now, limits: limits)
        return try interpreter.render()
    }

    /// ChatML, for a model that has no template of its own.
    public static func fallback() throws(TemplateError) -> ChatTemplate { try ChatTemplate(chatML) }

    private static let chatML = """
        {%- for message in messages -%}
        {{- '<|im_start|>' + message.role + '\\n' -}}
        {%- if message.content is string -%}
        {{- message.content -}}
        {%- elif message.content -%}
        {%- for part in message.content if part.type == 'text' -%}{{- part.text -}}{%- endfor -%}
        {%- endif -%}
        {{- '<|im_end|>\\n' -}}
        {%- endfor -%}
        {%- if add_generation_prompt -%}
        {{- '<|im_start|>assistant\\n' -}}
        {%- endif -%}
        """
}
