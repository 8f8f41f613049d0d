import OpenAIAPI

/// The families of models by what their templates show of how they write, as llama.cpp tells them
/// apart too: by the markers that occur in the template's text.
enum ChatFamily: String, Sendable, CaseIterable {
    /// `<tool_call>{"name": ..., "arguments": ...}</tool_call>`: Hermes 2 and 3, Qwen 2.5 and 3,
    /// and whatever has no way of its own.
    case hermes
    /// `<tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>`: Qwen 3
    /// Coder, Nemotron 3, Step 3.5.
    case qwenCoder
    /// The same in `<seed:tool_call>`: Seed-OSS.
    case seed
    /// `<function=NAME>{...}</function>`: functionary 3.1.
    case functionary
    /// `[TOOL_CALLS][{"name": ..., "arguments": ...}]`: Mistral to Nemo.
    case mistral
    /// `[TOOL_CALLS]NAME[ARGS]{...}`: Mistral Small 3.2 and later.
    case mistralArguments
    /// `{"name": ..., "parameters": ...}`, perhaps behind `<|python_tag|>`: Llama 3.
    case llama3
    /// Special tokens with a name line and fenced JSON: DeepSeek V3 and R1.
    case deepseekR1
    /// Special tokens with name and JSON: DeepSeek V3.1.
    case deepseekV31
    /// `<｜DSML｜invoke name="NAME">`: DeepSeek V3.2 and V4.
    case deepseekML
    /// `<|tool_call_begin|>functions.NAME:0<|tool_call_argument_begin|>{...}`: Kimi K2.
    case kimi
    /// `<tool_call>NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value></tool_call>`: GLM 4.5 on.
    case glm
    /// Messages with channels: gpt-oss.
    case harmony
    /// `<|tool_call|>[{...}]`: Granite 3.
    case granite
    /// `<|tool_call_start|>[f(a=1)]<|tool_call_end|>`: LFM2.
    case lfm2
    /// `<tool_calls>[{...}]</tool_calls>`: Apriel.
    case apriel
    /// `<|START_ACTION|>[{"tool_name": ..., "parameters": ...}]<|END_ACTION|>`: Command R7B on.
    case command
    /// `<|function_call|>{"name": ..., "arguments": ...}`: GigaChat 3.1.
    case gigachat
    /// The same behind a header of its own: GigaChat 3.
    case gigachatHeader

    init(template: String) {
        func has(_ texts: String...) -> Bool {
            texts.allSatisfy { template.utf8.contains($0.utf8) }
        }
        self =
            if has("<|channel|>", "<|message|>") {
                .harmony
            } else if has("｜DSML｜") {
                .deepseekML
            } else if has("<｜tool▁calls▁begin｜>") {
                has("```json") ? .deepseekR1 : .deepseekV31
            } else if has("<|tool_calls_section_begin|>") {
                .kimi
            } else if has("<arg_key>") {
                .glm
            } else if has("<seed:tool_call>") {
                .seed
            } else if has("<function=", "<tool_call>") {
                .qwenCoder
            } else if has("<function=") {
                .functionary
            } else if has("[TOOL_CALLS]") {
                has("[ARGS]") ? .mistralArguments : .mistral
            } else if has("<|tool_call|>") {
                .granite
            } else if has("<|tool_list_start|>") || has("<|tool_call_start|>") {
                .lfm2
            } else if has("<tool_calls>") {
                .apriel
            } else if has("<|START_ACTION|>") {
                .command
            } else if has("<|function_call|>") {
                .gigachat
            } else if has("function call", "<|role_sep|>") {
                .gigachatHeader
            } else if has("<tool_call>") {
                .hermes
            } else if has("<|start_header_id|>", "\"parameters\"") {
                .llama3
            } else {
                .hermes
            }
    }

    /// How the model writes, with the brackets that its template puts around thoughts.
    func syntax(template: String) -> OutputSyntax {
        var syntax = OutputSyntax()
        syntax.isHarmony = self == .harmony
        syntax.openings = openings
        if self == .llama3 { syntax.bareCalls = JSONCallSyntax(allowsSemicolons: true) }
        if self == .command {
            syntax.dropped = [
                "<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>",
            ]
        }
        let brackets: [OutputSyntax.Brackets] = [
            .init(open: "<seed:think>", close: "</seed:think>"),
            .init(open: "[THINK]", close: "[/THINK]"),
            .init(open: "<|START_THINKING|>", close: "<|END_THINKING|>"),
            .init(open: "<think>", close: "</think>"),
        ]
        syntax.reasoning = brackets.first {
            template.utf8.contains($0.open.utf8) || template.utf8.contains($0.close.utf8)
        }
        return syntax
    }

    private var openings: [CallOpening] {
        let functionTags = TaggedCallSyntax(
            callOpen: "<function=", nameEnd: ">", keyOpen: "<parameter=", valueOpen: ">",
            valueClose: "</parameter>", callClose: "</function>", sectionClose: "</tool_call>",
            trimsLineBreaks: true)
        var bareTags = functionTags
        bareTags.callOpen = ""
        func json(_ marker: String, close: String? = nil) -> [CallOpening] {
            [.init(marker: marker, syntax: .init(json: .init(close: close)))]
        }
        switch self {
        case .harmony: return []
        case .functionary: return [.init(marker: "<function=", syntax: .init(tagged: bareTags))]
        case .hermes, .qwenCoder:
            // Models stray from one way to the other, and leave the outer tag out.
            return [
                .init(
                    marker: "<tool_call>",
                    syntax: .init(json: .init(close: "</tool_call>"), tagged: functionTags))
            ]
                + (self == .hermes
                    ? [] : [.init(marker: "<function=", syntax: .init(tagged: bareTags))])
        case .seed:
            var tags = functionTags
            tags.sectionClose = "</seed:tool_call>"
            return [.init(marker: "<seed:tool_call>", syntax: .init(tagged: tags))]
        case .mistral, .mistralArguments:
            let headed = HeadedCallSyntax(
                callOpen: "[TOOL_CALLS]", isOpen: true, headerEnd: "[ARGS]", header: .identified)
            return [.init(marker: "[TOOL_CALLS]", syntax: .init(json: .init(), headed: headed))]
        case .llama3:
            return [
                .init(
                    marker: "<|python_tag|>",
                    syntax: .init(
                        json: .init(allowsSemicolons: true),
                        pythonic: .init(wantsCallMethod: true)))
            ]
        case .deepseekR1, .deepseekV31:
            let section = HeadedCallSyntax(
                callOpen: "<｜tool▁call▁begin｜>", headerEnd: "<｜tool▁sep｜>",
                callClose: "<｜tool▁call▁end｜>", sectionClose: "<｜tool▁calls▁end｜>")
            var single = section
            single.isOpen = true
            return [
                .init(marker: "<｜tool▁calls▁begin｜>", syntax: .init(headed: section)),
                .init(marker: "<｜tool▁call▁begin｜>", syntax: .init(headed: single)),
            ]
        case .deepseekML:
            let tags = TaggedCallSyntax(
                callOpen: "<｜DSML｜invoke name=\"", nameEnd: "\">",
                keyOpen: "<｜DSML｜parameter name=\"", valueOpen: ">",
                valueClose: "</｜DSML｜parameter>", callClose: "</｜DSML｜invoke>",
                sectionClose: "</｜DSML｜tool_calls>")
            return [.init(marker: "<｜DSML｜tool_calls>", syntax: .init(tagged: tags))]
        case .kimi:
            let section = HeadedCallSyntax(
                callOpen: "<|tool_call_begin|>", headerEnd: "<|tool_call_argument_begin|>",
                header: .numbered, callClose: "<|tool_call_end|>",
                sectionClose: "<|tool_calls_section_end|>")
            return [.init(marker: "<|tool_calls_section_begin|>", syntax: .init(headed: section))]
        case .glm:
            let tags = TaggedCallSyntax(
                callOpen: "", nameEnd: "\n", keyOpen: "<arg_key>", valueOpen: "<arg_value>",
                valueClose: "</arg_value>", callClose: "</tool_call>")
            return [.init(marker: "<tool_call>", syntax: .init(tagged: tags))]
        case .granite: return json("<|tool_call|>")
        case .lfm2:
            return [
                .init(
                    marker: "<|tool_call_start|>",
                    syntax: .init(pythonic: .init(close: "<|tool_call_end|>")))
            ]
        case .apriel: return json("<tool_calls>", close: "</tool_calls>")
        case .command: return json("<|START_ACTION|>", close: "<|END_ACTION|>")
        case .gigachat: return json("<|function_call|>")
        case .gigachatHeader: return json("<|message_sep|>\n\nfunction call<|role_sep|>\n")
        }
    }

    /// Control tokens that end a turn although the vocabulary may not say so.
    var stops: [String] {
        switch self {
        case .harmony: ["<|call|>", "<|return|>"]
        case .glm: ["<|observation|>", "<|user|>"]
        default: []
        }
    }

    var idStyle: DeltaSink.IDStyle {
        switch self {
        case .mistral, .mistralArguments: .nine
        case .kimi: .own
        default: .long
        }
    }
}
