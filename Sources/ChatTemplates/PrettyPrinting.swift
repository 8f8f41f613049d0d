/// Python's `pprint.pformat` with its width of 80: dictionaries in the order of their keys, and one element to a line
/// where a container does not fit.
enum PrettyPrinting {
    static func text(of value: Value, _ interpreter: Interpreter) throws(TemplateError) -> Text {
        try text(of: value, indent: 0, allowance: 0, interpreter)
    }

    private static func text(
        of value: Value, indent: Int, allowance: Int, _ interpreter: Interpreter
    ) throws(TemplateError) -> Text {
        let value = try sorted(value, interpreter)
        let flat = try interpreter.repr(value)
        if flat.count <= 80 - indent - allowance { return flat }
        switch value {
        case .list(let items):
            return try lines(of: items.values, "[", "]", indent, allowance, interpreter)
        case .tuple(let items):
            let closing: Text = items.values.count == 1 ? ",)" : ")"
            return try lines(of: items.values, "(", closing, indent, allowance, interpreter)
        case .dictionary(let dict):
            var result: Text = "{"
            for index in 0..<dict.count {
                if index > 0 {
                    result.append(",\n")
                    result.append(Text.repeating(" ", indent + 1))
                }
                let key = try interpreter.repr(dict.keys[index])
                result.append(key)
                result.append(": ")
                result.append(
                    try text(
                        of: dict.values[index], indent: indent + key.count + 3,
                        allowance: index == dict.count - 1 ? allowance + 1 : 1, interpreter))
            }
            try interpreter.spend(bytes: result.utf8.count)
            return result + "}"
        default: return flat
        }
    }

    private static func lines(
        of values: [Value], _ opening: Text, _ closing: Text, _ indent: Int, _ allowance: Int,
        _ interpreter: Interpreter
    ) throws(TemplateError) -> Text {
        var result = opening
        for (index, value) in values.enumerated() {
            if index > 0 {
                result.append(",\n")
                result.append(Text.repeating(" ", indent + 1))
            }
            let isLast = index == values.count - 1
            result.append(
                try text(
                    of: value, indent: indent + 1,
                    allowance: isLast ? allowance + closing.count : 1, interpreter))
        }
        try interpreter.spend(bytes: result.utf8.count)
        return result + closing
    }

    private static func sorted(
        _ value: Value, _ interpreter: Interpreter
    ) throws(TemplateError) -> Value {
        try interpreter.spend()
        switch value {
        case .list(let items):
            var values: [Value] = []
            for item in items.values { values.append(try sorted(item, interpreter)) }
            return .list(values)
        case .dictionary(let dict):
            let result = Dict()
            for pair in try interpreter.sorted(
                dict.pairs,
                by: { pair in if case .tuple(let items) = pair { items.values[0] } else { pair } })
            {
                guard case .tuple(let items) = pair else { continue }
                result.set(
                    try interpreter.key(of: items.values[0]), items.values[0],
                    to: try sorted(items.values[1], interpreter))
            }
            return .dictionary(result)
        default: return value
        }
    }
}
