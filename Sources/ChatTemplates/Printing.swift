// Python's `str` and `repr`.

extension Interpreter {
    /// What is printed.
    func string(_ value: Value) throws(TemplateError) -> Text {
        switch value {
        case .string(let text): return Text(utf8: text.utf8)
        case .undefined, .missing: return Text()
        case .integer(let value): return Text(String(value))
        default: return try repr(value)
        }
    }

    func repr(_ value: Value) throws(TemplateError) -> Text {
        var text = Text()
        try appendRepr(value, to: &text)
        try spend(bytes: text.utf8.count)
        return text
    }

    /// A string stays what it is, anything else is printed: Python's `soft_str`.
    func softText(_ value: Value) throws(TemplateError) -> Text {
        if case .string(let text) = value { return text }
        return try string(value)
    }

    private func appendRepr(_ value: Value, to text: inout Text) throws(TemplateError) {
        try spend()
        if text.utf8.count > limits.bytes { try spend(bytes: text.utf8.count) }
        switch value {
        case .missing, .undefined: text.append("Undefined")
        case .none: text.append("None")
        case .bool(let value): text.append(value ? "True" : "False")
        case .integer(let value): text.append(String(value))
        case .float(let value): text.append(Decimal.repr(value))
        case .string(let string):
            if string.isMarkup { text.append("Markup(") }
            text.append(string.quoted())
            if string.isMarkup { text.append(")") }
        case .list(let items): try append(items.values, "[", "]", to: &text)
        case .tuple(let items):
            try append(items.values, "(", items.values.count == 1 ? ",)" : ")", to: &text)
        case .dictionary(let dict): try append(dict, to: &text)
        case .view(let view):
            text.append("dict_\(view.part.rawValue)(")
            try append(view.elements, "[", "]", to: &text)
            text.append(")")
        case .range(let range):
            text.append("range(\(range.start), \(range.stop)")
            text.append(range.step == 1 ? ")" : ", \(range.step))")
        case .namespace(let namespace):
            text.append("<Namespace ")
            // A namespace may hold itself, so this is the one value whose inside has no limited depth.
            try deeper { () throws(TemplateError) in try append(namespace.attributes, to: &text) }
            text.append(">")
        case .loop(let loop):
            text.append("<LoopContext \(loop.index0 + 1)/\(try loop.count(self))>")
        case .macro(let macro):
            text.append("<Macro \(Text(macro.definition.name).quoted().string)>")
        case .generator(let generator): text.append("<generator object \(generator.name)>")
        case .cycler: text.append("<jinja2.utils.Cycler object>")
        case .joiner: text.append("<jinja2.utils.Joiner object>")
        case .function(let name): text.append("<function \(name)>")
        case .method(let method):
            text.append(
                "<built-in method \(method.name) of \(method.receiver.typeName) object>")
        }
    }

    private func append(
        _ values: [Value], _ opening: String, _ closing: String, to text: inout Text
    ) throws(TemplateError) {
        text.append(opening)
        for (index, value) in values.enumerated() {
            if index > 0 { text.append(", ") }
            try appendRepr(value, to: &text)
        }
        text.append(closing)
    }

    private func append(_ dict: Dict, to text: inout Text) throws(TemplateError) {
        text.append("{")
        for index in 0..<dict.count {
            if index > 0 { text.append(", ") }
            try appendRepr(dict.keys[index], to: &text)
            text.append(": ")
            try appendRepr(dict.values[index], to: &text)
        }
        text.append("}")
    }
}

extension Text {
    /// As Python writes a string in its source: in single quotes where that needs no escapes.
    func quoted(onlyASCII: Bool = false) -> Text {
        let quote: UInt8 =
            utf8.contains(UInt8(ascii: "'")) && !utf8.contains(UInt8(ascii: "\""))
            ? UInt8(ascii: "\"") : UInt8(ascii: "'")
        var result = Text(utf8: [quote])
        for scalar in scalars {
            switch scalar {
            case "\\": result.append("\\\\")
            case "\n": result.append("\\n")
            case "\r": result.append("\\r")
            case "\t": result.append("\\t")
            case _ where scalar.value == UInt32(quote):
                result.append("\\")
                result.append(scalar)
            case _ where scalar.isASCII && scalar.value >= 32 && scalar.value < 127:
                result.append(scalar)
            case _ where !scalar.isASCII && !onlyASCII && scalar.isPrintable: result.append(scalar)
            default: result.append(Text.escape(scalar))
            }
        }
        result.append(Unicode.Scalar(quote))
        return result
    }

    private static func escape(_ scalar: Unicode.Scalar) -> String {
        let digits = String(scalar.value, radix: 16)
        let (letter, width) =
            scalar.value < 0x100 ? ("x", 2) : scalar.value < 0x10000 ? ("u", 4) : ("U", 8)
        return "\\" + letter + String(repeating: "0", count: width - digits.count) + digits
    }
}
