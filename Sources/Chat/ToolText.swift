import JSONTree
import OpenAIAPI

/// Tools and calls in words, for templates that do not show them.
enum ToolText {
    static func instructions(for tools: [ToolDefinition], _ family: ChatFamily) -> String {
        switch family {
        case .deepseekV31, .deepseekR1: deepseek(tools, family)
        default: hermes(tools)
        }
    }

    /// As the models of NousResearch's Hermes and of Qwen learn it.
    private static func hermes(_ tools: [ToolDefinition]) -> String {
        """
        # Tools

        You may call one or more functions to assist with the user query.

        You are provided with function signatures within <tools></tools> XML tags:
        <tools>
        \(tools.map(\.json.text).joined(separator: "\n"))
        </tools>

        For each function call, return a json object with function name and arguments within \
        <tool_call></tool_call> XML tags:
        <tool_call>
        {"name": <function-name>, "arguments": <args-json-object>}
        </tool_call>
        """
    }

    private static func deepseek(_ tools: [ToolDefinition], _ family: ChatFamily) -> String {
        let descriptions = tools.map { tool in
            """
            ### \(tool.name)
            Description: \(tool.description ?? "")

            Parameters: \((tool.parameters ?? [:]).text)
            """
        }
        let call = calls(
            [ToolCall(id: "", name: "tool_call_name", arguments: "tool_call_arguments")], family)
        return """
            ## Tools
            You have access to the following tools:

            \(descriptions.joined(separator: "\n\n"))

            IMPORTANT: ALWAYS adhere to this exact format for tool use:
            \(call)

            Where:

            - `tool_call_name` must be an exact match to one of the available tools
            - `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters \
            Schema
            """
    }

    /// Calls as a model of the family writes them.
    static func calls(_ calls: [ToolCall], _ family: ChatFamily) -> String {
        func each(_ separator: String, _ text: (ToolCall, String) -> String) -> String {
            calls.map { text($0, $0.arguments.isEmpty ? "{}" : $0.arguments) }
                .joined(separator: separator)
        }
        func json(_ separator: String) -> String {
            each(separator) { "{\"name\": \"\($0.name)\", \"arguments\": \($1)}" }
        }
        switch family {
        case .granite: return "<|tool_call|>[" + json(", ") + "]"
        case .lfm2: return "<|tool_call_start|>[" + each(", ", pythonic) + "]<|tool_call_end|>"
        case .deepseekV31:
            let calls = each("") {
                "<｜tool▁call▁begin｜>\($0.name)<｜tool▁sep｜>\($1)<｜tool▁call▁end｜>"
            }
            return "<｜tool▁calls▁begin｜>\(calls)<｜tool▁calls▁end｜>"
        case .deepseekR1:
            let calls = each("\n") {
                "<｜tool▁call▁begin｜>function<｜tool▁sep｜>\($0.name)\n```json\n\($1)\n```"
                    + "<｜tool▁call▁end｜>"
            }
            return "<｜tool▁calls▁begin｜>\(calls)<｜tool▁calls▁end｜>"
        case .kimi:
            // The model numbers its calls; ids of other servers say nothing to it.
            let calls = each("") {
                let id = $0.id.hasPrefix("functions.") ? $0.id : "functions.\($0.name):0"
                return "<|tool_call_begin|>\(id)<|tool_call_argument_begin|>\($1)<|tool_call_end|>"
            }
            return "<|tool_calls_section_begin|>\(calls)<|tool_calls_section_end|>"
        default:
            return each("\n") {
                "<tool_call>\n{\"name\": \"\($0.name)\", \"arguments\": \($1)}\n</tool_call>"
            }
        }
    }

    /// `f(a=1)`; arguments that are no object stand as they are.
    private static func pythonic(_ call: ToolCall, _ arguments: String) -> String {
        guard let object = (try? JSON(parsing: arguments))?.object else {
            return "\(call.name)(\(arguments))"
        }
        let list = object.members.map { "\($0.name)=\(literal($0.value))" }
        return "\(call.name)(\(list.joined(separator: ", ")))"
    }

    private static func literal(_ value: JSON) -> String {
        switch value {
        case .null: "None"
        case .bool(let value): value ? "True" : "False"
        case .array(let elements): "[" + elements.map(literal).joined(separator: ", ") + "]"
        case .object(let object):
            "{"
                + object.members.map { "\(JSON.string($0.name).text): \(literal($0.value))" }
                .joined(separator: ", ") + "}"
        default: value.text
        }
    }
}
