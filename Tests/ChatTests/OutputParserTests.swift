import JSONTree
import OpenAIAPI
import Testing

@testable import Chat

/// What a model said, put together again.
struct Said: Equatable, Sendable {
    struct Call: Equatable, Sendable {
        var name: String
        var arguments: String

        init(_ name: String, _ arguments: String) {
            self.name = name
            self.arguments = arguments
        }
    }

    var content = ""
    var reasoning = ""
    var calls: [Call] = []
}

extension Said {
    /// Of the pieces; ids, which are random, apart.
    init(_ deltas: [ChatDelta]) {
        self.init()
        for delta in deltas {
            switch delta {
            case .content(let text): content += text
            case .reasoning(let text): reasoning += text
            case .toolCall(let index, _, let name):
                #expect(index == calls.count)
                calls.append(Call(name, ""))
            case .toolArguments(let index, let text):
                #expect(index == calls.count - 1)
                calls[index].arguments += text
            }
        }
    }
}

struct OutputParserTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var family: ChatFamily
        var text: String
        var said: Said
        var startsInReasoning = false
        var testDescription: String { "\(family): \(text.prefix(60))" }
    }

    static let weather = ToolDefinition(
        name: "get_weather",
        parameters: [
            "type": "object",
            "properties": ["city": ["type": "string"], "days": ["type": "integer"]],
        ])
    static let time = ToolDefinition(name: "get_time")

    static func parser(_ test: Case, tools: [ToolDefinition] = [weather, time])
        -> ChatOutputParser
    {
        ChatOutputParser(
            test.family.syntax(template: template(test.family)), tools: tools,
            startsInReasoning: test.startsInReasoning, splitsReasoning: true,
            greatestCallCount: .max, idStyle: test.family.idStyle)
    }

    /// Stands for a template: what matters of it here is which brackets thoughts have.
    private static func template(_ family: ChatFamily) -> String {
        switch family {
        case .seed: "<seed:think>"
        case .mistralArguments: "[THINK]"
        case .command: "<|START_THINKING|>"
        default: "<think>"
        }
    }

    static let cases: [Case] = [
        Case(family: .hermes, text: "Hello there.\n", said: Said(content: "Hello there.\n")),
        Case(
            family: .hermes, text: "<think>\nHm, é.\n</think>\n\nYes.",
            said: Said(content: "Yes.", reasoning: "Hm, é.")),
        Case(
            family: .hermes, text: "Hm.\n</think>\n\nYes.",
            said: Said(content: "Yes.", reasoning: "Hm."),
            startsInReasoning: true),
        Case(
            family: .hermes, text: "Hm, and", said: Said(reasoning: "Hm, and"),
            startsInReasoning: true),
        Case(
            family: .hermes, text: "1 < 2, <thin air, <tool_cal, and <think> later",
            said: Said(content: "1 < 2, <thin air, <tool_cal, and <think> later")),
        Case(
            family: .hermes,
            text: """
                <think>
                Look up.
                </think>

                Let me see.
                <tool_call>
                {"name": "get_weather", "arguments": {"city": "Zürich \\"}\\"", "days": 3}}
                </tool_call>
                <tool_call>
                {"name": "get_time", "arguments": {}}
                </tool_call>
                """,
            said: Said(
                content: "Let me see.", reasoning: "Look up.",
                calls: [
                    .init("get_weather", #"{"city": "Zürich \"}\"", "days": 3}"#),
                    .init("get_time", "{}"),
                ])),
        // Arguments first, none at all, as a string, and an unfinished closing tag.
        Case(
            family: .hermes,
            text: #"<tool_call>{"arguments": {"days": 1}, "name": "get_weather"}</tool_call>"#
                + #"<tool_call>{"name": "get_time"}</tool_call>"#
                + #"<tool_call>{"name": "get_time", "arguments": "{\"a\": 1}"}</tool_call>"#
                + #"<tool_call>{"name": "get_time", "arguments": null, "id": 7}</tool_"#,
            said: Said(
                content: "</tool_",
                calls: [
                    .init("get_weather", #"{"days": 1}"#), .init("get_time", "{}"),
                    .init("get_time", #"{"a": 1}"#), .init("get_time", "{}"),
                ])),
        // No calls: no JSON, no name, a list of nothing; and half of one at the end.
        Case(
            family: .hermes, text: "A \n <tool_call>\nnothing</tool_call> b",
            said: Said(content: "A \n <tool_call>\nnothing</tool_call> b")),
        Case(
            family: .hermes, text: #"<tool_call>{"title": "x"}</tool_call>"#,
            said: Said(content: #"<tool_call>{"title": "x"}</tool_call>"#)),
        Case(
            family: .hermes, text: #"a<tool_call>{"name": 3}<tool_call>{"name": "get_time"}"#,
            said: Said(
                content: #"a<tool_call>{"name": 3}"#, calls: [.init("get_time", "{}")])),
        Case(family: .hermes, text: "<tool_call>", said: Said(content: "<tool_call>")),
        Case(
            family: .hermes, text: #"<tool_call>{"name": "get_t"#,
            said: Said(content: #"<tool_call>{"name": "get_t"#)),
        Case(
            family: .hermes, text: #"<tool_call>{"name": "get_time", "arguments": {"a": [1, "#,
            said: Said(calls: [.init("get_time", #"{"a": [1, "#)])),
        Case(
            family: .hermes, text: #"<tool_call>{"name": "get_time", "arguments": {"a": 1]} x"#,
            said: Said(content: "]} x", calls: [.init("get_time", #"{"a": 1"#)])),
        Case(
            family: .qwenCoder,
            text: """
                I look.

                <tool_call>
                <function=get_weather>
                <parameter=city>
                Rome "I"
                and more
                </parameter>
                <parameter=days>
                3
                </parameter>
                </function>
                </tool_call>
                <tool_call>
                <function=get_time>
                </function>
                </tool_call>
                """,
            said: Said(
                content: "I look.",
                calls: [
                    .init("get_weather", #"{"city":"Rome \"I\"\nand more","days":3}"#),
                    .init("get_time", "{}"),
                ])),
        // Without the outer tag; a string that looks like a number; Python's words; a list.
        Case(
            family: .qwenCoder,
            text: """
                <function=get_weather><parameter=city>5</parameter><parameter=x>True</parameter>\
                <parameter=y>[1, "a"]</parameter><parameter=z>as is</parameter></function>
                """,
            said: Said(
                calls: [.init("get_weather", #"{"city":"5","x":true,"y":[1,"a"],"z":"as is"}"#)])),
        Case(
            family: .qwenCoder,
            text: #"<tool_call>{"name": "get_time", "arguments": {}}</tool_call>"#,
            said: Said(calls: [.init("get_time", "{}")])),
        Case(
            family: .qwenCoder, text: "if a <function= b> c",
            said: Said(content: "if a <function= b> c"),
            startsInReasoning: false),
        Case(
            family: .seed,
            text: """
                <seed:think>Hm.</seed:think><seed:tool_call>
                <function=get_time>
                <parameter=zone>UTC</parameter>
                </function>
                </seed:tool_call>
                """,
            said: Said(reasoning: "Hm.", calls: [.init("get_time", #"{"zone":"UTC"}"#)])),
        Case(
            family: .functionary,
            text:
                #"<function=get_weather>{"city": "Rome"}</function><function=get_time>{}</function>"#,
            said: Said(
                calls: [.init("get_weather", #"{"city": "Rome"}"#), .init("get_time", "{}")])),
        Case(
            family: .mistral,
            text:
                #"[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Rome"}, "id": "a"}, "#
                + #"{"name": "get_time", "arguments": {}}]"#,
            said: Said(
                calls: [.init("get_weather", #"{"city": "Rome"}"#), .init("get_time", "{}")])),
        Case(
            family: .mistralArguments,
            text: "[THINK]Hm.[/THINK]Now.[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]"
                + #"{"city": "Rome"}[TOOL_CALLS]get_time[ARGS]{}"#,
            said: Said(
                content: "Now.", reasoning: "Hm.",
                calls: [.init("get_weather", #"{"city": "Rome"}"#), .init("get_time", "{}")])),
        Case(
            family: .mistralArguments, text: "[TOOL_CALLS] [what?",
            said: Said(content: "[TOOL_CALLS] [what?")),
        Case(
            family: .llama3, text: #"{"name": "get_weather", "parameters": {"city": "Rome"}}"#,
            said: Said(calls: [.init("get_weather", #"{"city": "Rome"}"#)])),
        Case(
            family: .llama3,
            text: #"<|python_tag|>{"type": "function", "name": "get_time", "parameters": {}}; "#
                + #"{"name": "get_weather", "parameters": {"days": 2}}"#,
            said: Said(calls: [.init("get_time", "{}"), .init("get_weather", #"{"days": 2}"#)])),
        Case(
            family: .llama3, text: #"<|python_tag|>get_weather.call(city="Rome", days=2)"#,
            said: Said(calls: [.init("get_weather", #"{"city":"Rome","days":2}"#)])),
        // JSON that is an answer, and a function that nobody has.
        Case(
            family: .llama3, text: " {\"answer\": {\"name\": \"get_time\"}}",
            said: Said(content: " {\"answer\": {\"name\": \"get_time\"}}")),
        Case(
            family: .llama3, text: #"{"name": "launch", "parameters": {}}"#,
            said: Said(content: #"{"name": "launch", "parameters": {}}"#)),
        Case(
            family: .deepseekR1,
            text: """
                Hm.
                </think>

                <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather
                ```json
                {"city": "Rome"}
                ```<｜tool▁call▁end｜>
                <｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time
                ```json
                {}
                ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>
                """,
            said: Said(
                reasoning: "Hm.",
                calls: [.init("get_weather", #"{"city": "Rome"}"#), .init("get_time", "{}")]),
            startsInReasoning: true),
        Case(
            family: .deepseekV31,
            text: "Well.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
                + #"{"city": "Rome"}<｜tool▁call▁end｜><｜tool▁call▁begin｜>get_time<｜tool▁sep｜>{}"#
                + "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            said: Said(
                content: "Well.",
                calls: [.init("get_weather", #"{"city": "Rome"}"#), .init("get_time", "{}")])),
        Case(
            family: .deepseekV31, text: "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>",
            said: Said(content: "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>")),
        Case(
            family: .deepseekML,
            text: """
                Fine.

                <｜DSML｜tool_calls>
                <｜DSML｜invoke name="get_weather">
                <｜DSML｜parameter name="city" string="true">17</｜DSML｜parameter>
                <｜DSML｜parameter name="days" string="false">3</｜DSML｜parameter>
                </｜DSML｜invoke>
                <｜DSML｜invoke name="get_time">
                </｜DSML｜invoke>
                </｜DSML｜tool_calls>
                """,
            said: Said(
                content: "Fine.",
                calls: [.init("get_weather", #"{"city":"17","days":3}"#), .init("get_time", "{}")])),
        Case(
            family: .kimi,
            text: "Well.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
                + #"<|tool_call_argument_begin|>{"city": "Rome"}<|tool_call_end|>"#
                + "<|tool_call_begin|>functions.get_time:1<|tool_call_argument_begin|>{}"
                + "<|tool_call_end|><|tool_calls_section_end|>",
            said: Said(
                content: "Well.",
                calls: [.init("get_weather", #"{"city": "Rome"}"#), .init("get_time", "{}")])),
        Case(
            family: .glm,
            text: """

                <think>Hm.</think>
                Well.
                <tool_call>get_weather
                <arg_key>city</arg_key>
                <arg_value>Rome</arg_value>
                <arg_key>days</arg_key>
                <arg_value>2</arg_value>
                </tool_call>
                <tool_call>get_time
                </tool_call>
                """,
            said: Said(
                content: "Well.", reasoning: "Hm.",
                calls: [
                    .init("get_weather", #"{"city":"Rome","days":2}"#), .init("get_time", "{}"),
                ])),
        Case(
            family: .glm,
            text:
                "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Rome</arg_value></tool_call>"
                + "<tool_call>get_time</tool_call>",
            said: Said(
                calls: [.init("get_weather", #"{"city":"Rome"}"#), .init("get_time", "{}")])),
        Case(
            family: .harmony,
            text: "<|channel|>analysis<|message|>Hm, < é.<|end|><|start|>assistant<|channel|>"
                + "commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary "
                + "to=functions.get_weather <|constrain|>json<|message|>"
                + #"{"city": "Rome"}<|call|>"#,
            said: Said(
                content: "I look.", reasoning: "Hm, < é.",
                calls: [.init("get_weather", #"{"city": "Rome"}"#)])),
        Case(
            family: .harmony,
            text: " to=functions.get_time<|channel|>commentary json<|message|>{}<|call|><|start|>"
                + "assistant<|channel|>final<|message|>It is <b>.<|return|>",
            said: Said(content: "It is <b>.", calls: [.init("get_time", "{}")])),
        Case(
            family: .harmony, text: "the plain answer, to=nobody",
            said: Said(content: "the plain answer, to=nobody")),
        Case(
            family: .harmony, text: "<|channel|>final<|message|>Half<|end|><|start|>assist",
            said: Said(content: "Half")),
        Case(
            family: .granite,
            text: #"<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Rome"}}]"#,
            said: Said(calls: [.init("get_weather", #"{"city": "Rome"}"#)])),
        Case(
            family: .lfm2,
            text: #"<|tool_call_start|>[get_weather(city='Ro"me', days=-2, x=[1, {'a': None}], "#
                + "y=(True,)), get_time()]<|tool_call_end|>There.",
            said: Said(
                content: "There.",
                calls: [
                    .init(
                        "get_weather", #"{"city":"Ro\"me","days":-2,"x":[1,{"a":null}],"y":[true]}"#
                    ),
                    .init("get_time", "{}"),
                ])),
        Case(
            family: .lfm2, text: "<|tool_call_start|>[get_time(1)]<|tool_call_end|>",
            said: Said(content: "<|tool_call_start|>[get_time(1)]<|tool_call_end|>")),
        Case(
            family: .apriel,
            text: #"<tool_calls>[{"name": "get_time", "arguments": {}}]</tool_calls>"#,
            said: Said(calls: [.init("get_time", "{}")])),
        Case(
            family: .command,
            text: "<|START_THINKING|>Hm.<|END_THINKING|><|START_ACTION|>[\n    "
                + #"{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Rome"}}"#
                + "\n]<|END_ACTION|>",
            said: Said(
                reasoning: "Hm.", calls: [.init("get_weather", #"{"city": "Rome"}"#)])),
        Case(
            family: .command, text: "<|START_RESPONSE|>Rome is\n\nfine.<|END_RESPONSE|>",
            said: Said(content: "Rome is\n\nfine.")),
        Case(
            family: .gigachat,
            text: #"Well.<|function_call|>{"name": "get_time", "arguments": {}}"#,
            said: Said(content: "Well.", calls: [.init("get_time", "{}")])),
        Case(
            family: .gigachatHeader,
            text: "Well.<|message_sep|>\n\nfunction call<|role_sep|>\n"
                + #"{"name": "get_time", "arguments": {}}"#,
            said: Said(content: "Well.", calls: [.init("get_time", "{}")])),
    ]

    @Test(arguments: cases)
    func `a whole text is told apart`(_ test: Case) {
        var parser = Self.parser(test)
        let said = Said(parser.append(test.text) + parser.finish())
        #expect(said == test.said)
        #expect(parser.hasToolCalls == !test.said.calls.isEmpty)
    }

    @Test(arguments: cases)
    func `how the text is cut changes nothing`(_ test: Case) {
        let scalars = Array(test.text.unicodeScalars)
        func text(_ range: Range<Int>) -> String {
            var view = String.UnicodeScalarView()
            view.append(contentsOf: scalars[range])
            return String(view)
        }
        for cut in 1..<scalars.count {
            var parser = Self.parser(test)
            let deltas =
                parser.append(text(0..<cut)) + parser.append(text(cut..<scalars.count))
                + parser.finish()
            #expect(Said(deltas) == test.said, "cut at \(cut)")
        }
        for step in [1, 3, 7] {
            var parser = Self.parser(test)
            var deltas: [ChatDelta] = []
            for start in stride(from: 0, to: scalars.count, by: step) {
                deltas += parser.append(text(start..<min(start + step, scalars.count)))
            }
            #expect(Said(deltas + parser.finish()) == test.said, "pieces of \(step)")
        }
    }

    @Test func `half a marker is never handed on`() {
        var parser = Self.parser(Case(family: .hermes, text: "", said: Said()))
        #expect(parser.append("Look: <tool") == [.content("Look:")])
        #expect(parser.append("_call>\n{\"name\": \"get_weather\", \"argu") == [])
        let begun = parser.append("ments\": {\"city\":")
        guard case .toolCall(0, let id, "get_weather")? = begun.first else {
            Issue.record("no call in \(begun)")
            return
        }
        #expect(id.hasPrefix("call_") && id.utf8.count == 29)
        #expect(begun.last == .toolArguments(index: 0, "{\"city\":"))
        #expect(parser.append(" \"Rome\"}}") == [.toolArguments(index: 0, " \"Rome\"}")])
        #expect(parser.append("\n</tool_call>") == [])
        #expect(parser.finish() == [])
    }

    @Test func `without tools nothing is a call`() {
        let text = #"<tool_call>{"name": "get_time", "arguments": {}}</tool_call>"#
        var parser = Self.parser(Case(family: .hermes, text: text, said: Said()), tools: [])
        #expect(Said(parser.append(text) + parser.finish()) == Said(content: text))
        #expect(!parser.hasToolCalls)
    }

    @Test func `thoughts can stay in the content`() {
        var parser = ChatOutputParser(
            ChatFamily.hermes.syntax(template: "<think>"), tools: [Self.time],
            startsInReasoning: false, splitsReasoning: false, greatestCallCount: .max,
            idStyle: .long)
        let text = "<think>\n<tool_call>{\"name\": \"get_time\"}\n</think>\n\nYes."
        #expect(Said(parser.append(text) + parser.finish()) == Said(content: text))
    }

    @Test func `calls beyond the greatest number are dropped`() {
        var parser = ChatOutputParser(
            ChatFamily.mistral.syntax(template: ""), tools: [Self.time, Self.weather],
            startsInReasoning: false, splitsReasoning: true, greatestCallCount: 1, idStyle: .nine)
        let deltas = parser.append(
            #"[TOOL_CALLS][{"name": "get_time", "arguments": {}}, {"name": "get_weather", "arguments": {"a": 1}}]"#
        )
        #expect(Said(deltas + parser.finish()) == Said(calls: [.init("get_time", "{}")]))
        guard case .toolCall(_, let id, _)? = deltas.first else {
            Issue.record("no call in \(deltas)")
            return
        }
        #expect(id.utf8.count == 9)
    }

    @Test func `Kimi's calls keep the ids that the model gave them`() {
        let test = Self.cases.first { $0.family == .kimi }
        guard let test else { return }
        var parser = Self.parser(test)
        let ids = parser.append(test.text).compactMap { delta -> String? in
            if case .toolCall(_, let id, _) = delta { id } else { nil }
        }
        #expect(ids == ["functions.get_weather:0", "functions.get_time:1"])
    }

    /// Deterministic pieces of markers, braces and words, in every family: no trap, and the same
    /// whichever way it is cut.
    @Test(arguments: ChatFamily.allCases)
    func `random texts are told apart the same however they are cut`(_ family: ChatFamily) {
        var random = SplitMix(state: family.rawValue.utf8.reduce(7) { $0 &* 31 &+ UInt64($1) })
        let test = Case(family: family, text: "", said: Said())
        let markers = family.syntax(template: Self.template(family)).markers
        let words =
            markers + markers + [
                "{", "}", "[", "]", "\"", ":", ",", "(", ")", "=", " ", "\n", "name", "\"name\": ",
                "\"arguments\": ", "get_time", "{\"name\": \"get_time\", \"arguments\": {", "}}",
                "é",
                "<", "<|", "1", "\\", "function", "```json\n",
            ]
        for round in 0..<300 {
            var pieces: [String] = []
            for _ in 0..<Int.random(in: 1...24, using: &random) {
                pieces.append(words.randomElement(using: &random) ?? "")
            }
            let text = pieces.joined()
            var whole = Self.parser(test)
            let expected = Said(whole.append(text) + whole.finish())
            var cut = Self.parser(test)
            var deltas: [ChatDelta] = []
            for scalar in text.unicodeScalars { deltas += cut.append(String(scalar)) }
            #expect(Said(deltas + cut.finish()) == expected, "\(round): \(text)")
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers everywhere.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
