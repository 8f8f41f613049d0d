import Constraints
import JSONTree
import OpenAIAPI

/// Calls as a family writes them, as parts of a constraint.
struct CallWriter {
    let family: ChatFamily
    let allowsSeveral: Bool

    /// At least one call of these tools.
    func parts(for tools: [ToolDefinition]) throws(APIError) -> [ConstraintPart] {
        let call = ConstraintPart.choice(try calls(tools, onlyStrict: false))
        let frame = frame
        var calls = [call]
        if frame.takesSeveral, allowsSeveral {
            let further = Self.literal(frame.separator) + [call]
            calls.append(.repeated(further, atLeast: 0, atMost: nil))
        }
        return Self.literal(frame.open) + calls + Self.literal(frame.close)
    }

    /// The texts that begin a call in free text, and what must follow them; nil where nothing marks
    /// a call.
    ///
    /// - Parameter onlyStrict: tools that are not strict may be given any arguments.
    func triggered(_ tools: [ToolDefinition], onlyStrict: Bool) throws(APIError)
        -> (triggers: [String], then: [ConstraintPart])?
    {
        if family == .harmony { return try triggeredMessages(tools, onlyStrict: onlyStrict) }
        guard let trigger = family.syntax(template: "").openings.first?.marker,
            family != .llama3
        else { return nil }
        let frame = frame
        let calls = try calls(tools, onlyStrict: onlyStrict)
        let first = calls.map { call in
            Self.without(trigger, Self.literal(frame.open) + call)
        }
        // Behind calls that stand in one section come others or its end; the rest have their own
        // triggers.
        guard !frame.close.isEmpty else { return ([trigger], [.choice(first)]) }
        let further = Self.literal(frame.separator) + [.choice(calls)]
        return (
            [trigger],
            [
                .choice(first),
                .repeated(further, atLeast: 0, atMost: allowsSeveral ? nil : 0),
                .literal(frame.close),
            ]
        )
    }

    /// The parts behind a text that the first of them begins with.
    private static func without(_ trigger: String, _ parts: [ConstraintPart]) -> [ConstraintPart] {
        guard case .literal(let text)? = parts.first, text.hasPrefix(trigger) else { return parts }
        return literal(String(text.dropFirst(trigger.count))) + parts.dropFirst()
    }

    private static func literal(_ text: String) -> [ConstraintPart] {
        text.isEmpty ? [] : [.literal(text)]
    }

    /// What a family writes around its calls, and between them.
    private struct Frame {
        var open = ""
        var separator = ""
        var close = ""
        var takesSeveral = true
    }

    private var frame: Frame {
        switch family {
        case .hermes, .qwenCoder, .seed, .glm: Frame(separator: "\n")
        case .functionary, .mistralArguments: Frame()
        case .mistral: Frame(open: "[TOOL_CALLS][", separator: ", ", close: "]")
        case .llama3, .harmony: Frame(takesSeveral: false)
        case .deepseekR1:
            Frame(open: "<｜tool▁calls▁begin｜>", separator: "\n", close: "<｜tool▁calls▁end｜>")
        case .deepseekV31:
            Frame(open: "<｜tool▁calls▁begin｜>", close: "<｜tool▁calls▁end｜>")
        case .deepseekML: Frame(open: "<｜DSML｜tool_calls>\n", close: "</｜DSML｜tool_calls>")
        case .kimi:
            Frame(open: "<|tool_calls_section_begin|>", close: "<|tool_calls_section_end|>")
        case .granite: Frame(open: "<|tool_call|>[", separator: ", ", close: "]")
        case .lfm2:
            Frame(open: "<|tool_call_start|>[", separator: ", ", close: "]<|tool_call_end|>")
        case .apriel: Frame(open: "<tool_calls>[", separator: ", ", close: "]</tool_calls>")
        case .command:
            Frame(open: "<|START_ACTION|>[\n", separator: ",\n", close: "\n]<|END_ACTION|>")
        case .gigachat: Frame(open: "<|function_call|>", takesSeveral: false)
        case .gigachatHeader:
            Frame(open: "<|message_sep|>\n\nfunction call<|role_sep|>\n", takesSeveral: false)
        }
    }

    /// One way for each tool to be called.
    private func calls(_ tools: [ToolDefinition], onlyStrict: Bool) throws(APIError)
        -> [[ConstraintPart]]
    {
        try ways(tools) { tool throws(ConstraintError) in
            try call(of: tool, isFree: onlyStrict && !tool.strict)
        }
    }

    private func ways(
        _ tools: [ToolDefinition],
        _ way: (ToolDefinition) throws(ConstraintError) -> [ConstraintPart]
    ) throws(APIError) -> [[ConstraintPart]] {
        var ways: [[ConstraintPart]] = []
        for (index, tool) in tools.enumerated() {
            do throws(ConstraintError) {
                ways.append(try way(tool))
            } catch {
                throw .invalid(
                    "Invalid schema for function '\(tool.name)': \(error).",
                    param: "tools[\(index)].function.parameters",
                    code: "invalid_function_parameters")
            }
        }
        return ways
    }

    private func call(of tool: ToolDefinition, isFree: Bool) throws(ConstraintError)
        -> [ConstraintPart]
    {
        let name = tool.name
        switch family {
        case .hermes:
            return try headed(
                tool, isFree, "<tool_call>\n{\"name\": \"\(name)\", \"arguments\": ",
                "}\n</tool_call>")
        case .granite, .lfm2, .apriel, .gigachat, .gigachatHeader:
            return try headed(tool, isFree, "{\"name\": \"\(name)\", \"arguments\": ", "}")
        case .mistral:
            // With an id of the model's own, as it may have learned it.
            let id = [.literal(", \"id\": \"")] + (try Self.shortID()) + [.literal("\"")]
            let arguments = try headed(tool, isFree, "{\"name\": \"\(name)\", \"arguments\": ", "")
            return arguments + [.choice([[], id]), .literal("}")]
        case .llama3:
            return try headed(tool, isFree, "{\"name\": \"\(name)\", \"parameters\": ", "}")
        case .command:
            let open = "    {\"tool_call_id\": \"0\", \"tool_name\": \"\(name)\", \"parameters\": "
            return try headed(tool, isFree, open, "}")
        case .functionary: return try headed(tool, isFree, "<function=\(name)>", "</function>")
        case .mistralArguments:
            let id = [.literal("[CALL_ID]")] + (try Self.shortID())
            return [.literal("[TOOL_CALLS]\(name)"), .choice([[], id])]
                + (try headed(tool, isFree, "[ARGS]", ""))
        case .deepseekR1:
            return try headed(
                tool, isFree, "<｜tool▁call▁begin｜>function<｜tool▁sep｜>\(name)\n```json\n",
                "\n```<｜tool▁call▁end｜>")
        case .deepseekV31:
            return try headed(
                tool, isFree, "<｜tool▁call▁begin｜>\(name)<｜tool▁sep｜>", "<｜tool▁call▁end｜>")
        case .kimi:
            return [
                .literal("<|tool_call_begin|>functions.\(name):"),
                .constraint(try Constraint(regex: "[0-9]{1,2}")),
            ] + (try headed(tool, isFree, "<|tool_call_argument_begin|>", "<|tool_call_end|>"))
        case .harmony:
            let headers =
                ["<|channel|>commentary to=functions.\(name) <|constrain|>json<|message|>"]
                + Self.recipientFirst.map { " to=functions.\(name)\($0)" }
            return [.choice(headers.map { [.literal($0)] })] + (try headed(tool, isFree, "", ""))
        case .qwenCoder:
            return try tagged(
                tool, isFree, open: "<tool_call>\n<function=\(name)>\n",
                close: "</function>\n</tool_call>")
        case .seed:
            return try tagged(
                tool, isFree, open: "<seed:tool_call>\n<function=\(name)>\n",
                close: "</function>\n</seed:tool_call>")
        case .glm:
            return try tagged(tool, isFree, open: "<tool_call>\(name)", close: "</tool_call>")
        case .deepseekML:
            return try tagged(
                tool, isFree, open: "<｜DSML｜invoke name=\"\(name)\">\n",
                close: "</｜DSML｜invoke>\n")
        }
    }

    private static func shortID() throws(ConstraintError) -> [ConstraintPart] {
        [.constraint(try Constraint(regex: "[a-zA-Z0-9]{9}"))]
    }

    /// gpt-oss's headers behind a recipient that comes first.
    private static let recipientFirst = [
        "<|channel|>commentary json<|message|>",
        "<|channel|>commentary <|constrain|>json<|message|>",
    ]

    /// gpt-oss's calls are messages of their own.
    private func triggeredMessages(_ tools: [ToolDefinition], onlyStrict: Bool) throws(APIError)
        -> (triggers: [String], then: [ConstraintPart])
    {
        let headers = [" <|constrain|>json<|message|>"] + Self.recipientFirst
        let messages = try ways(tools) { tool throws(ConstraintError) in
            [.literal(tool.name), .choice(headers.map { [.literal($0)] })]
                + (try headed(tool, onlyStrict && !tool.strict, "", ""))
        }
        return (
            ["<|channel|>commentary to=functions.", "<|start|>assistant to=functions."],
            [.choice(messages)]
        )
    }

    /// The arguments as one JSON object, with what stands around them.
    private func headed(_ tool: ToolDefinition, _ isFree: Bool, _ open: String, _ close: String)
        throws(ConstraintError) -> [ConstraintPart]
    {
        let arguments: ConstraintPart
        if isFree {
            arguments = .constraint(.jsonObject())
        } else if case .object(var schema)? = tool.parameters {
            if schema["type"] == nil { schema["type"] = "object" }
            arguments = .constraint(try Constraint(schema: .object(schema)))
        } else {
            arguments = .literal("{}")
        }
        return Self.literal(open) + [arguments] + Self.literal(close)
    }

    /// The arguments one by one, in the order of the schema; those that are not required may be
    /// left out.
    private func tagged(_ tool: ToolDefinition, _ isFree: Bool, open: String, close: String)
        throws(ConstraintError) -> [ConstraintPart]
    {
        // GLM's templates differ in line breaks between the tags.
        let space = family == .glm ? [ConstraintPart.choice([[], [.literal("\n")]])] : []
        var parts = [.literal(open)] + space
        let required = tool.parameters?["required"]?.array ?? []
        guard let properties = tool.parameters?["properties"]?.object else {
            return parts + [.literal(close)]
        }
        for (key, property) in properties.members {
            let argument = try argument(key, property, of: tool, isFree, space)
            parts += required.contains(.string(key)) ? argument : [.choice([argument, []])]
        }
        return parts + [.literal(close)]
    }

    private func argument(
        _ key: String, _ property: JSON, of tool: ToolDefinition, _ isFree: Bool,
        _ space: [ConstraintPart]
    ) throws(ConstraintError) -> [ConstraintPart] {
        let isString = property["type"] == "string"
        let open: [ConstraintPart]
        let close: String
        switch family {
        case .glm:
            open = [.literal("<arg_key>\(key)</arg_key>")] + space + [.literal("<arg_value>")]
            close = "</arg_value>"
        case .deepseekML:
            open = [.literal("<｜DSML｜parameter name=\"\(key)\" string=\"\(isString)\">")]
            close = "</｜DSML｜parameter>\n"
        case .seed:
            open = [.literal("<parameter=\(key)>")]
            close = "</parameter>\n"
        default:
            open = [.literal("<parameter=\(key)>\n")]
            close = "\n</parameter>\n"
        }
        if isString, let values = property["enum"]?.array {
            let ways = values.compactMap(\.string).map { [ConstraintPart.literal($0)] }
            return open + [.choice(ways), .literal(close)] + space
        }
        guard !isFree, !isString, case .object(var schema) = property else {
            return open + [.until(close)] + space
        }
        // What the property refers to stands at the top of the whole schema.
        for name in ["$defs", "definitions"] where schema[name] == nil {
            schema[name] = tool.parameters?[name]
        }
        let value = ConstraintPart.constraint(try Constraint(schema: .object(schema)))
        return open + [value, .literal(close)] + space
    }
}
