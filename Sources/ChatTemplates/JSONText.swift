/// Python's `json.dumps`, as the filter `tojson` of transformers calls it.
struct JSONText {
    var onlyASCII = false
    /// What one level is indented by; nil for everything on one line.
    var indent: Text?
    var itemSeparator: Text = ", "
    var keySeparator: Text = ": "
    var sortsKeys = false

    func text(of value: Value, _ interpreter: Interpreter) throws(TemplateError) -> Text {
        var text = Text()
        try append(value, level: 0, to: &text, interpreter)
        return text
    }

    private func append(
        _ value: Value, level: Int, to text: inout Text, _ interpreter: Interpreter
    ) throws(TemplateError) {
        try interpreter.spend()
        if text.utf8.count > interpreter.limits.bytes {
            try interpreter.spend(bytes: text.utf8.count)
        }
        switch value {
        case .none: text.append("null")
        case .bool(let value): text.append(value ? "true" : "false")
        case .integer(let value): text.append(String(value))
        case .float(let value): text.append(JSONText.number(value))
        case .string(let string): appendQuoted(string, to: &text)
        case .list(let items), .tuple(let items):
            if items.values.isEmpty {
                text.append("[]")
                return
            }
            text.append("[")
            for (index, value) in items.values.enumerated() {
                if index > 0 { text.append(itemSeparator) }
                appendLineBreak(level: level + 1, to: &text)
                try append(value, level: level + 1, to: &text, interpreter)
            }
            appendLineBreak(level: level, to: &text)
            text.append("]")
        case .dictionary(let dict): try append(dict, level: level, to: &text, interpreter)
        default:
            throw interpreter.fail("a value of type \(value.typeName) has no form in JSON")
        }
    }

    private func append(
        _ dict: Dict, level: Int, to text: inout Text, _ interpreter: Interpreter
    ) throws(TemplateError) {
        if dict.count == 0 {
            text.append("{}")
            return
        }
        var order = Array(0..<dict.count)
        if sortsKeys {
            let places = order.map { Value.integer($0) }
            let sorted = try interpreter.sorted(places) { (place) throws(TemplateError) in
                dict.keys[place.integer ?? 0]
            }
            order = sorted.map { $0.integer ?? 0 }
        }
        text.append("{")
        for (count, index) in order.enumerated() {
            if count > 0 { text.append(itemSeparator) }
            appendLineBreak(level: level + 1, to: &text)
            appendQuoted(try name(of: dict.keys[index], interpreter), to: &text)
            text.append(keySeparator)
            try append(dict.values[index], level: level + 1, to: &text, interpreter)
        }
        appendLineBreak(level: level, to: &text)
        text.append("}")
    }

    private func name(of key: Value, _ interpreter: Interpreter) throws(TemplateError) -> Text {
        switch key {
        case .string(let text): return text
        case .none: return "null"
        case .bool(let value): return value ? "true" : "false"
        case .integer(let value): return Text(String(value))
        case .float(let value): return Text(JSONText.number(value))
        default: throw interpreter.fail("a key of type \(key.typeName) has no form in JSON")
        }
    }

    private static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        return value.isInfinite ? (value < 0 ? "-Infinity" : "Infinity") : Decimal.repr(value)
    }

    private func appendLineBreak(level: Int, to text: inout Text) {
        guard let indent else { return }
        text.append("\n")
        text.append(Text.repeating(indent, level))
    }

    private func appendQuoted(_ string: Text, to text: inout Text) {
        text.append("\"")
        for scalar in string.scalars {
            switch scalar {
            case "\"": text.append("\\\"")
            case "\\": text.append("\\\\")
            case "\n": text.append("\\n")
            case "\r": text.append("\\r")
            case "\t": text.append("\\t")
            case "\u{08}": text.append("\\b")
            case "\u{0C}": text.append("\\f")
            case _ where scalar.value < 32 || onlyASCII && scalar.value >= 127:
                for unit in String(Character(scalar)).utf16 {
                    let digits = String(unit, radix: 16)
                    text.append("\\u" + String(repeating: "0", count: 4 - digits.count) + digits)
                }
            default: text.append(scalar)
            }
        }
        text.append("\"")
    }
}
