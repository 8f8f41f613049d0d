/// Python's `str.format`, with fields looked up by the sandbox's rules.
struct BraceFormat {
    private let interpreter: Interpreter
    private let arguments: Arguments
    private let isMarkup: Bool
    /// The number of the next field without a name; nil once a field has had a number.
    private var automatic: Int? = 0
    private var hasAutomatic = false

    init(_ arguments: Arguments, isMarkup: Bool, _ interpreter: Interpreter) {
        self.arguments = arguments
        self.isMarkup = isMarkup
        self.interpreter = interpreter
    }

    mutating func text(
        of scalars: ArraySlice<Unicode.Scalar>, depth: Int = 0
    ) throws(TemplateError) -> Text {
        if depth > 1 { throw interpreter.fail("'format' with fields in fields in fields") }
        var result = Text(isMarkup: isMarkup)
        var place = scalars.startIndex
        while place < scalars.endIndex {
            let scalar = scalars[place]
            place += 1
            guard scalar == "{" || scalar == "}" else {
                result.append(scalar)
                continue
            }
            if place < scalars.endIndex, scalars[place] == scalar {
                result.append(scalar)
                place += 1
                continue
            }
            if scalar == "}" { throw interpreter.fail("'format' with a single '}'") }
            let start = place
            var open = 1
            while place < scalars.endIndex {
                if scalars[place] == "{" { open += 1 }
                if scalars[place] == "}" { open -= 1 }
                if open == 0 { break }
                place += 1
            }
            guard place < scalars.endIndex else {
                throw interpreter.fail("'format' with a '{' that is not closed")
            }
            result.append(try field(scalars[start..<place], depth: depth))
            place += 1
        }
        return result
    }

    /// `name!conversion:specification`.
    private mutating func field(
        _ field: ArraySlice<Unicode.Scalar>, depth: Int
    ) throws(TemplateError) -> Text {
        var nameEnd = field.startIndex
        var brackets = 0
        while nameEnd < field.endIndex {
            let scalar = field[nameEnd]
            if scalar == "[" { brackets += 1 }
            if scalar == "]" { brackets -= 1 }
            if brackets <= 0, scalar == "!" || scalar == ":" { break }
            nameEnd += 1
        }
        var value = try lookUp(field[..<nameEnd])
        var rest = field[nameEnd...]
        if rest.first == "!" {
            rest = rest.dropFirst()
            guard let conversion = rest.popFirst(), rest.isEmpty || rest.first == ":" else {
                throw interpreter.fail("'format' with '!' and no conversion")
            }
            switch conversion {
            case "s": value = .string(try interpreter.string(value))
            case "r": value = .string(try interpreter.repr(value))
            case "a": value = .string(try interpreter.ascii(value))
            default: throw interpreter.fail("'format' with an unknown conversion '!\(conversion)'")
            }
        }
        let specification = try text(of: rest.dropFirst(), depth: depth + 1)
        let text = try interpreter.formatted(value, specification)
        return isMarkup && !text.isMarkup ? text.escaped : text
    }

    /// `name`, `name.attribute`, `name[index]`.
    private mutating func lookUp(
        _ path: ArraySlice<Unicode.Scalar>
    ) throws(TemplateError) -> Value {
        let firstEnd = path.firstIndex { $0 == "." || $0 == "[" } ?? path.endIndex
        var value = try argument(Text(path[..<firstEnd]))
        var rest = path[firstEnd...]
        while let scalar = rest.popFirst() {
            if scalar == "." {
                let end = rest.firstIndex { $0 == "." || $0 == "[" } ?? rest.endIndex
                let name = Text(rest[..<end])
                if name.isEmpty { throw interpreter.fail("'format' with an empty attribute") }
                value = try interpreter.attribute(name.string, of: value)
                rest = rest[end...]
            } else {
                guard scalar == "[", let end = rest.firstIndex(of: "]"), end > rest.startIndex
                else {
                    throw interpreter.fail("'format' with an index that is none")
                }
                let index = Text(rest[..<end])
                let key = index.all { $0.isASCIIDigit } ? Int(index.string) : nil
                value = try interpreter.item(key.map { .integer($0) } ?? .string(index), of: value)
                rest = rest[(end + 1)...]
            }
        }
        return value
    }

    private mutating func argument(_ name: Text) throws(TemplateError) -> Value {
        var number: Int?
        if name.isEmpty {
            guard let next = automatic else {
                throw interpreter.fail("'format' with fields with and without numbers")
            }
            number = next
            automatic = next + 1
            hasAutomatic = true
        } else if name.all({ $0.isASCIIDigit }) {
            if hasAutomatic {
                throw interpreter.fail("'format' with fields with and without numbers")
            }
            automatic = nil
            number = Int(name.string) ?? Int.max
        }
        if let number {
            guard number < arguments.positional.count else {
                throw interpreter.fail("'format' with fewer values than fields")
            }
            return arguments.positional[number]
        }
        guard let value = arguments.keywords.first(where: { Text($0.name) == name })?.value else {
            throw interpreter.fail("'format' has no value for the field '\(name.string)'")
        }
        return value
    }
}

extension Interpreter {
    func braceFormat(_ format: Text, _ arguments: Arguments) throws(TemplateError) -> Text {
        var formatter = BraceFormat(arguments, isMarkup: format.isMarkup, self)
        return try formatter.text(of: format.scalars[...])
    }

    /// Python's `format(value, specification)`.
    func formatted(_ value: Value, _ specification: Text) throws(TemplateError) -> Text {
        if specification.isEmpty { return try softText(value) }
        guard let format = FormatSpecification(parsing: specification) else {
            throw fail("'\(specification.string)' is no format")
        }
        if let text = value.text {
            if format.type != nil && format.type != "s"
                || format.alignment == .afterSign && format.fill != "0"
                || !format.plus.isEmpty || !format.separator.isEmpty
            {
                throw fail("'\(specification.string)' is no format of a string")
            }
            var format = format
            // Zeros fill a string, too, but at its end.
            if format.alignment == .afterSign { format.alignment = .left }
            return try formatted(text, format)
        }
        if let integer = value.integer {
            if format.precision != nil,
                format.type.map({ "dxXobcn".unicodeScalars.contains($0) }) ?? true
            {
                throw fail("a format with a precision of an integer")
            }
            return try formatted(integer, format)
        }
        if case .float(let number) = value { return try formatted(number, format) }
        throw fail("the format '\(specification.string)' of a value of type \(value.typeName)")
    }
}
