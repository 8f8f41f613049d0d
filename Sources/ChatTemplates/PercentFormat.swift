/// `format % values`, Python's printf.
struct PercentFormat {
    private let interpreter: Interpreter
    private let scalars: [Unicode.Scalar]
    private let values: [Value]
    private let mapping: Value?
    private let isMarkup: Bool
    private var place = 0
    private var used = 0

    init(_ format: Text, _ value: Value, _ interpreter: Interpreter) {
        self.interpreter = interpreter
        scalars = format.scalars
        isMarkup = format.isMarkup
        switch value {
        case .tuple(let items):
            values = items.values
            mapping = nil
        case .dictionary, .list, .range, .undefined:
            values = [value]
            mapping = value
        default:
            values = [value]
            mapping = nil
        }
    }

    mutating func text() throws(TemplateError) -> Text {
        var result = Text(isMarkup: isMarkup)
        while place < scalars.count {
            let scalar = scalars[place]
            place += 1
            if scalar == "%" {
                result.append(try conversion())
            } else {
                result.append(scalar)
            }
        }
        if mapping == nil, used < values.count {
            throw interpreter.fail("'%' with more values than the format has places for")
        }
        return result
    }

    private var current: Unicode.Scalar? { place < scalars.count ? scalars[place] : nil }

    private mutating func nextValue() throws(TemplateError) -> Value {
        guard used < values.count else {
            throw interpreter.fail("'%' with fewer values than the format has places for")
        }
        used += 1
        return values[used - 1]
    }

    /// A number or `*`, which takes a value.
    private mutating func number() throws(TemplateError) -> Int? {
        if current == "*" {
            place += 1
            guard let number = try nextValue().integer else {
                throw interpreter.fail("'*' in a format asks for an integer")
            }
            return number
        }
        var number: Int?
        while let scalar = current, scalar.isASCIIDigit {
            number = min((number ?? 0) * 10 + Int(scalar.value - 0x30), 1 << 40)
            place += 1
        }
        return number
    }

    private mutating func key() throws(TemplateError) -> Value? {
        guard current == "(" else { return nil }
        guard let mapping else { throw interpreter.fail("'%(name)' asks for a dictionary") }
        place += 1
        let start = place
        var open = 1
        while let scalar = current {
            if scalar == "(" { open += 1 }
            if scalar == ")" { open -= 1 }
            if open == 0 { break }
            place += 1
        }
        guard current != nil else { throw interpreter.fail("'%(' without ')'") }
        let name = Text(scalars[start..<place])
        place += 1
        guard case .dictionary(let dict) = mapping, let value = dict[.string(name)] else {
            throw interpreter.fail("the dictionary has no '\(name.string)' for '%'")
        }
        return value
    }

    private mutating func conversion() throws(TemplateError) -> Text {
        let keyed = try key()
        var format = FormatSpecification()
        flags: while let scalar = current {
            switch scalar {
            case "-": format.alignment = .left
            case "0":
                format.fill = "0"
            case "+": format.plus = "+"
            case " ": if format.plus.isEmpty { format.plus = " " }
            case "#": format.isAlternate = true
            default: break flags
            }
            place += 1
        }
        if var width = try number() {
            if width < 0 {
                format.alignment = .left
                width = width == Int.min ? Int.max : -width
            }
            format.width = width
        }
        if current == "." {
            place += 1
            format.precision = max(0, try number() ?? 0)
        }
        while let scalar = current, ["h", "l", "L"].contains(scalar) { place += 1 }
        guard let type = current else { throw interpreter.fail("a format that ends in '%'") }
        place += 1
        if type == "%" { return "%" }
        let value = if let keyed { keyed } else { try nextValue() }
        return try write(value, type, &format)
    }

    private func write(
        _ value: Value, _ type: Unicode.Scalar, _ format: inout FormatSpecification
    ) throws(TemplateError) -> Text {
        switch type {
        case "s", "r", "a":
            var text: Text
            switch type {
            case "s": text = try interpreter.softText(value)
            case "r": text = try interpreter.repr(value)
            default: text = try interpreter.ascii(value)
            }
            if isMarkup, !text.isMarkup { text = text.escaped }
            return try padded(text, format)
        case "c":
            if let text = value.text {
                if text.count != 1 { throw interpreter.fail("'%c' of more than one character") }
                return try padded(text, format)
            }
            guard let code = value.integer.flatMap({ UInt32(exactly: $0) }),
                let scalar = Unicode.Scalar(code)
            else { throw interpreter.fail("'%c' of what is no character") }
            return try padded(Text([scalar]), format)
        default: break
        }
        if format.alignment != .left {
            format.alignment = format.fill == "0" ? .afterSign : .right
        } else {
            format.fill = " "
        }
        format.type = type
        switch type {
        case "d", "i", "u":
            format.type = "d"
            if case .float(let number) = value,
                let whole = Int(exactly: number.rounded(.towardZero))
            {
                return try interpreter.formatted(whole, format)
            }
            fallthrough
        case "x", "X", "o":
            guard let integer = value.integer else {
                try interpreter.checkDefined(value)
                throw interpreter.fail("'%\(type)' of a value of type \(value.typeName)")
            }
            return try interpreter.formatted(integer, format)
        case "e", "E", "f", "F", "g", "G":
            guard let number = value.number else {
                try interpreter.checkDefined(value)
                throw interpreter.fail("'%\(type)' of a value of type \(value.typeName)")
            }
            return try interpreter.formatted(number, format)
        default: throw interpreter.fail("an unknown conversion '%\(type)'")
        }
    }

    private func padded(
        _ text: Text, _ format: FormatSpecification
    ) throws(TemplateError) -> Text {
        var format = format
        format.fill = " "
        format.alignment = format.alignment ?? .right
        return try interpreter.formatted(text, format)
    }
}

extension Interpreter {
    func percentFormat(_ format: Text, _ value: Value) throws(TemplateError) -> Text {
        var formatter = PercentFormat(format, value, self)
        return try formatter.text()
    }

    /// Python's `ascii`.
    func ascii(_ value: Value) throws(TemplateError) -> Text {
        if case .string(let text) = value { return text.quoted(onlyASCII: true) }
        var result = Text()
        for scalar in try repr(value).scalars {
            if scalar.isASCII {
                result.append(scalar)
            } else {
                // Quoted on its own it is an escape in quotes.
                let quoted = Text([scalar]).quoted(onlyASCII: true)
                result.append(quoted.bytes(1..<(quoted.utf8.count - 1)))
            }
        }
        return result
    }
}
