import ChatTemplates
import Constraints
import JSONTree
import OpenAIAPI
import Testing

@testable import Chat

/// Templates as small as they can be, and what becomes of requests with them.
struct ChatModelTests {
    /// Knows roles and nothing else.
    static let plain = """
        {%- for message in messages -%}
        [{{ message.role }}]{{ message.content }}
        {% endfor -%}
        {%- if add_generation_prompt -%}[assistant]{%- endif -%}
        """
    /// Refuses all roles but two.
    static let twoRoles = """
        {%- for message in messages -%}
        {%- if message.role not in ['user', 'assistant'] -%}
        {{- raise_exception('Only two roles') -}}
        {%- endif -%}
        [{{ message.role }}]{{ message.content }}
        {% endfor -%}
        """
    /// Opens the thoughts, or not.
    static let thinking =
        plain + """
            {%- if add_generation_prompt -%}
            {{- '<think>\\n' if enable_thinking is not defined or enable_thinking else '<think></think>' -}}
            {%- endif -%}
            """

    static func model(_ template: String?, tokens: Set<String> = []) throws -> ChatModel {
        try ChatModel(
            template: template, architecture: "qwen3moe", beginning: "<s>", end: "</s>",
            tokenTexts: { tokens.contains($0) })
    }

    static func request(_ messages: (ChatMessage.Role, String)...) -> ChatCompletionRequest {
        ChatCompletionRequest(messages: messages.map { ChatMessage(role: $0.0, content: $0.1) })
    }

    @Test func `a model without a template speaks ChatML`() throws {
        let model = try Self.model(nil)
        let prompt = try model.prompt(for: Self.request((.system, "S"), (.user, "U")), now: 0)
        #expect(
            prompt == """
                <|im_start|>system
                S<|im_end|>
                <|im_start|>user
                U<|im_end|>
                <|im_start|>assistant

                """)
        #expect(model.stops == ["<|im_end|>"])
        #expect(try Self.model(nil, tokens: ["<|im_end|>"]).stops == [])
    }

    @Test func `a template that ignores tools gets them in the system message`() throws {
        let model = try Self.model(Self.plain)
        var request = Self.request((.system, "Be brief."), (.user, "Hi"))
        request.tools = [OutputParserTests.time]
        var calling = ChatMessage(role: .assistant, content: "I look.")
        calling.toolCalls = [ToolCall(id: "a", name: "get_time", arguments: "{}")]
        var results = [
            ChatMessage(role: .tool, content: "5"), ChatMessage(role: .tool, content: "6"),
        ]
        results[0].toolCallID = "a"
        results[1].toolCallID = "b"
        request.messages += [calling] + results
        #expect(
            try model.prompt(for: request, now: 0) == """
                [system]Be brief.

                # Tools

                You may call one or more functions to assist with the user query.

                You are provided with function signatures within <tools></tools> XML tags:
                <tools>
                {"type":"function","function":{"name":"get_time"}}
                </tools>

                For each function call, return a json object with function name and arguments within \
                <tool_call></tool_call> XML tags:
                <tool_call>
                {"name": <function-name>, "arguments": <args-json-object>}
                </tool_call>
                [user]Hi
                [assistant]I look.
                <tool_call>
                {"name": "get_time", "arguments": {}}
                </tool_call>
                [tool]5
                [tool]6
                [assistant]
                """)
    }

    @Test func `a template without a system role gets its text in the user's message`() throws {
        let model = try Self.model(Self.twoRoles)
        var request = Self.request((.system, "S"), (.developer, "D"), (.user, "U"))
        var result = ChatMessage(role: .tool, content: "5")
        result.toolCallID = "a"
        request.messages.append(result)
        #expect(
            try model.prompt(for: request, now: 0) == """
                [user]S

                D

                U
                [user]<tool_response>
                5
                </tool_response>

                """)
    }

    @Test func `a template's refusal is the request's error`() throws {
        let model = try Self.model("{{ raise_exception('No ' + messages[0].role) }}")
        let error = #expect(throws: APIError.self) {
            try model.prompt(for: Self.request((.user, "U")), now: 0)
        }
        #expect(error?.status == 400)
        #expect(error?.param == "messages")
        #expect(
            error?.message == "The model's chat template refuses this conversation: No user")
        let broken = try Self.model("\n{{ messages[0].content + 1 }}")
        let second = #expect(throws: APIError.self) {
            try broken.prompt(for: Self.request((.user, "U")), now: 0)
        }
        #expect(second?.message.contains("line 2") == true)
        #expect(throws: TemplateError.self) { try Self.model("{% if %}") }
    }

    @Test func `thoughts begin where the prompt has opened them`() throws {
        let model = try Self.model(Self.thinking)
        var request = Self.request((.user, "U"))
        var parser = model.parser(for: request)
        #expect(parser.isInReasoning)
        #expect(
            Said(parser.append("Hm.\n</think>\n\nYes.") + parser.finish())
                == Said(content: "Yes.", reasoning: "Hm."))
        #expect(!parser.isInReasoning)
        // The template closes them again.
        for effort in [ChatCompletionRequest.ReasoningEffort.none, .high] {
            request.reasoningEffort = effort
            #expect(model.parser(for: request).isInReasoning == (effort == .high))
        }
        request.reasoningEffort = nil
        request.templateVariables["enable_thinking"] = false
        parser = model.parser(for: request)
        #expect(
            Said(parser.append("Hm.") + parser.finish()) == Said(content: "Hm."))
    }

    @Test func `an answer is continued where it ends`() throws {
        let model = try Self.model(Self.thinking)
        var request = Self.request((.user, "U"), (.assistant, "<think>So far "))
        request.continuesFinalMessage = true
        request.addsGenerationPrompt = false
        #expect(try model.prompt(for: request, now: 0) == "[user]U\n[assistant]<think>So far")
        #expect(model.parser(for: request).isInReasoning)
        request.messages[1].content = "<think>So</think>It"
        #expect(!model.parser(for: request).isInReasoning)
        let hidden = try Self.model("{{ messages | length }}")
        let error = #expect(throws: APIError.self) { try hidden.prompt(for: request, now: 0) }
        #expect(error?.param == "continue_final_message")
    }

    private static let schema: JSON = [
        "type": "object", "properties": ["a": ["type": "integer"]], "required": ["a"],
        "additionalProperties": false,
    ]

    @Test func `a response format holds behind the thoughts`() throws {
        var request = Self.request((.user, "U"))
        let plain = try Self.model(Self.plain)
        #expect(try plain.constraint(for: request) == nil)
        request.responseFormat = .jsonSchema(name: "s", schema: Self.schema, strict: true)
        func matches(_ model: ChatModel, _ text: String) throws -> Bool {
            let constraint = try #require(try model.constraint(for: request))
            return constraint.matches(Array(text.utf8))
        }
        #expect(try matches(plain, #"{"a": 1}"#))
        #expect(try !matches(plain, #"{"a": "1"}"#))
        #expect(try !matches(plain, "<think>x</think>\n\n{\"a\": 1}"))
        // The prompt has opened the thoughts: they must end first.
        let thinking = try Self.model(Self.thinking)
        #expect(try matches(thinking, "x {\n</think>\n\n{\"a\": 1}"))
        #expect(try !matches(thinking, #"{"a": 1}"#))
        // The model may think or not.
        let possible = try Self.model(Self.plain, tokens: ["<think>", "</think>"])
        #expect(try matches(possible, "<think>x</think>\n\n{\"a\": 1}"))
        #expect(try matches(possible, #"{"a": 1}"#))
        #expect(try !matches(possible, "x</think>{\"a\": 1}"))

        request.responseFormat = .jsonObject
        #expect(try matches(plain, #"{"b": [1, {}]}"#))
        #expect(try !matches(plain, "[]"))
        request.responseFormat = .regex("a+b")
        #expect(try matches(plain, "aab"))
        request.responseFormat = .grammar("root ::= \"x\" | \"y\"")
        #expect(try matches(plain, "y"))
        #expect(try !matches(plain, "z"))
    }

    @Test func `a format that cannot be kept is the request's error`() throws {
        let model = try Self.model(Self.plain)
        var request = Self.request((.user, "U"))
        request.responseFormat = .regex("(")
        var error = #expect(throws: APIError.self) { try model.constraint(for: request) }
        #expect(error?.status == 400)
        #expect(error?.param == "response_format")
        request.responseFormat = .text
        request.tools = [
            OutputParserTests.time, ToolDefinition(name: "f", parameters: ["type": "nothing"]),
        ]
        request.toolChoice = .function("f")
        error = #expect(throws: APIError.self) { try model.constraint(for: request) }
        #expect(error?.param == "tools[1].function.parameters")
        #expect(error?.message.contains("function 'f'") == true)
    }

    /// Two calls as each family must write them when it has to.
    static let required: [(ChatFamily, String)] = [
        (
            .hermes,
            #"<tool_call>"# + "\n" + #"{"name": "get_weather", "arguments": {"city": "Rome"}}"#
                + "\n</tool_call>\n<tool_call>\n" + #"{"name": "get_time", "arguments": {}}"#
                + "\n</tool_call>"
        ),
        (
            .qwenCoder,
            "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n</function>\n"
                + "</tool_call>\n<tool_call>\n<function=get_time>\n</function>\n</tool_call>"
        ),
        (
            .seed,
            "<seed:tool_call>\n<function=get_weather>\n<parameter=city>Rome</parameter>\n</function>\n"
                + "</seed:tool_call>\n<seed:tool_call>\n<function=get_time>\n</function>\n"
                + "</seed:tool_call>"
        ),
        (
            .functionary,
            #"<function=get_weather>{"city": "Rome"}</function><function=get_time>{}</function>"#
        ),
        (
            .mistral,
            #"[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Rome"}}, "#
                + #"{"name": "get_time", "arguments": {}, "id": "abcdefghi"}]"#
        ),
        (
            .mistralArguments,
            #"[TOOL_CALLS]get_weather[ARGS]{"city": "Rome"}[TOOL_CALLS]get_time[ARGS]{}"#
        ),
        (
            .deepseekR1,
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
                + #"{"city": "Rome"}"# + "\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function"
                + "<｜tool▁sep｜>get_time\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        ),
        (
            .deepseekV31,
            #"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Rome"}"#
                + "<｜tool▁call▁end｜><｜tool▁call▁begin｜>get_time<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
                + "<｜tool▁calls▁end｜>"
        ),
        (
            .deepseekML,
            "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"get_weather\">\n"
                + "<｜DSML｜parameter name=\"city\" string=\"true\">Rome</｜DSML｜parameter>\n"
                + "</｜DSML｜invoke>\n<｜DSML｜invoke name=\"get_time\">\n</｜DSML｜invoke>\n"
                + "</｜DSML｜tool_calls>"
        ),
        (
            .kimi,
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
                + #"<|tool_call_argument_begin|>{"city": "Rome"}<|tool_call_end|><|tool_call_begin|>"#
                + "functions.get_time:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
                + "<|tool_calls_section_end|>"
        ),
        (
            .glm,
            "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n</tool_call>\n"
                + "<tool_call>get_time</tool_call>"
        ),
        (
            .granite,
            #"<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Rome"}}, "#
                + #"{"name": "get_time", "arguments": {}}]"#
        ),
        (
            .lfm2,
            #"<|tool_call_start|>[{"name": "get_weather", "arguments": {"city": "Rome"}}, "#
                + #"{"name": "get_time", "arguments": {}}]<|tool_call_end|>"#
        ),
        (
            .apriel,
            #"<tool_calls>[{"name": "get_weather", "arguments": {"city": "Rome"}}, "#
                + #"{"name": "get_time", "arguments": {}}]</tool_calls>"#
        ),
        (
            .command,
            "<|START_ACTION|>[\n    "
                + #"{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Rome"}}"#
                + ",\n    " + #"{"tool_call_id": "0", "tool_name": "get_time", "parameters": {}}"#
                + "\n]<|END_ACTION|>"
        ),
    ]

    private static let tools = [
        ToolDefinition(
            name: "get_weather",
            parameters: [
                "properties": ["city": ["type": "string"], "days": ["type": "integer"]],
                "required": ["city"], "additionalProperties": false,
            ], strict: true),
        ToolDefinition(name: "get_time", strict: true),
    ]

    private static func parsed(_ family: ChatFamily, _ text: String) -> Said {
        var parser = ChatOutputParser(
            family.syntax(template: ""), tools: tools, startsInReasoning: false,
            splitsReasoning: true, greatestCallCount: .max, idStyle: family.idStyle)
        return Said(parser.append(text) + parser.finish())
    }

    @Test(arguments: required)
    func `calls that are required are calls that are read`(_ family: ChatFamily, _ text: String)
        throws
    {
        var said = Self.parsed(family, text)
        for index in said.calls.indices {
            said.calls[index].arguments = try JSON(parsing: said.calls[index].arguments).text
        }
        #expect(
            said
                == Said(calls: [.init("get_weather", #"{"city":"Rome"}"#), .init("get_time", "{}")])
        )

        let several = CallWriter(family, allowsSeveral: true, order: [])
        let constraint = try Constraint.sequence(several.parts(for: Self.tools))
        #expect(constraint.matches(Array(text.utf8)))
        #expect(!constraint.matches(Array(text.utf8.dropLast())))
        #expect(!constraint.matches(Array((text + "x").utf8)))
        #expect(!constraint.matches(Array(text.replacing("get_time", with: "got_time").utf8)))
        // Where one call is allowed, two are too many.
        let single = CallWriter(family, allowsSeveral: false, order: [])
        #expect(
            try !Constraint.sequence(single.parts(for: Self.tools)).matches(Array(text.utf8)))

        // In free text, the same calls have the same form.
        let (triggers, then) = try #require(
            try several.triggered(Self.tools, onlyStrict: true))
        let answer = try Constraint.sequence(then)
        let free = try Constraint.triggered(
            triggers.map { (trigger: $0, then: answer) }, requires: false)
        #expect(free.matches(Array("Hello.".utf8)))
        #expect(free.matches(Array(("Well. " + text).utf8)))
        #expect(!free.matches(Array(text.replacing("get_time", with: "got_time").utf8)))
    }

    /// Families that write one call at most.
    @Test(
        arguments: [
            (.llama3, #"{"name": "get_weather", "parameters": {"city": "Rome"}}"#),
            (
                .harmony,
                #"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Rome"}"#
            ),
            (
                .harmony,
                #" to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Rome"}"#
            ),
            (
                .gigachat,
                #"<|function_call|>{"name": "get_weather", "arguments": {"city": "Rome"}}"#
            ),
            (
                .gigachatHeader,
                "<|message_sep|>\n\nfunction call<|role_sep|>\n"
                    + #"{"name": "get_weather", "arguments": {"city": "Rome"}}"#
            ),
        ] as [(ChatFamily, String)])
    func `a single call that is required is read`(_ family: ChatFamily, _ text: String) throws {
        #expect(
            Self.parsed(family, text)
                == Said(calls: [.init("get_weather", #"{"city": "Rome"}"#)]))
        let constraint = try Constraint.sequence(
            CallWriter(family, allowsSeveral: true, order: []).parts(for: Self.tools))
        #expect(constraint.matches(Array(text.utf8)))
        #expect(!constraint.matches(Array(text.replacing("Rome", with: "\"").utf8)))
    }

    @Test func `tools and a format leave the choice between the two`() throws {
        let model = try Self.model(Self.plain)
        var request = Self.request((.user, "U"))
        request.tools = Self.tools
        request.responseFormat = .jsonSchema(name: "s", schema: Self.schema, strict: true)
        let call = Array(Self.required[0].1.utf8)
        var constraint = try #require(try model.constraint(for: request))
        #expect(constraint.matches(call))
        #expect(constraint.matches(Array(#"{"a": 1}"#.utf8)))
        #expect(!constraint.matches(Array("Hello".utf8)))
        request.toolChoice = .function("get_time")
        constraint = try #require(try model.constraint(for: request))
        #expect(!constraint.matches(call))
        #expect(!constraint.matches(Array(#"{"a": 1}"#.utf8)))
        let time = "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {}}\n</tool_call>"
        #expect(constraint.matches(Array(time.utf8)))
        request.toolChoice = .none
        constraint = try #require(try model.constraint(for: request))
        #expect(!constraint.matches(call))
        // A free choice of tools that are not strict is free.
        request.toolChoice = .auto
        request.responseFormat = .text
        request.tools = [OutputParserTests.time]
        #expect(try model.constraint(for: request) == nil)
    }

    @Test func `harmony's answers come in their channel`() throws {
        let model = try Self.model("<|channel|><|message|>" + Self.plain, tokens: ["<|channel|>"])
        #expect(model.rendersSpecial)
        #expect(model.stops == ["<|call|>", "<|return|>"])
        var request = Self.request((.user, "U"))
        request.responseFormat = .regex("[0-9]+")
        let constraint = try #require(try model.constraint(for: request))
        let answer = "<|channel|>final<|message|>42"
        let thought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
        #expect(constraint.matches(Array(answer.utf8)))
        #expect(constraint.matches(Array((thought + answer).utf8)))
        #expect(!constraint.matches(Array("42".utf8)))
        var parser = model.parser(for: request)
        #expect(
            Said(parser.append(thought + answer) + parser.finish())
                == Said(content: "42", reasoning: "Hm."))
    }

    @Test func `everything is prepared at once`() throws {
        let model = try Self.model(Self.thinking)
        var request = Self.request((.user, "U"))
        request.tools = Self.tools
        request.toolChoice = .required
        request.allowsParallelToolCalls = false
        var prepared = try model.prepare(request, now: 0)
        #expect(try prepared.prompt == model.prompt(for: request, now: 0))
        let text = "Hm.</think>\n" + Self.required[0].1
        #expect(prepared.constraint?.matches(Array(text.utf8)) == false)
        let said = Said(prepared.parser.append(text) + prepared.parser.finish())
        #expect(said.calls.map(\.name) == ["get_weather"])
        #expect(said.reasoning == "Hm.")
    }

    @Test func `ids are shortened always to the same`() {
        #expect(TemplateTraits.shortID("abcDEF123") == "abcDEF123")
        let short = TemplateTraits.shortID("call_abc")
        #expect(short.utf8.count == 9)
        #expect(short == TemplateTraits.shortID("call_abc"))
        #expect(short != TemplateTraits.shortID("call_abd"))
    }
}
