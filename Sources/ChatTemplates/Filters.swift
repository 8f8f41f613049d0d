/// A filter: its parameters beside the value it works on, and what it does.
struct Filter: Sendable {
    typealias Body =
        @Sendable (Interpreter, Value, BoundArguments) throws(TemplateError) -> Value

    /// Nil for a filter that takes whatever it gets.
    let parameters: [String]?
    let required: Int
    let body: Body

    init(_ parameters: [String]? = [], required: Int = 0, _ body: @escaping Body) {
        self.parameters = parameters
        self.required = required
        self.body = body
    }
}

/// Jinja's filters (filters.py), and `tojson` as transformers defines it.
enum Filters {
    static let table: [String: Filter] = texts.merging(sequences) { one, _ in one }
        .merging(numbers) { one, _ in one }
        .merging(choices) { one, _ in one }

    private static let numbers: [String: Filter] = [
        "abs": Filter { interpreter, value, _ throws(TemplateError) in
            if let integer = value.integer {
                return integer < 0
                    ? try interpreter.unary(.minus, value) : .integer(integer)
            }
            guard case .float(let number) = value else {
                try interpreter.checkDefined(value)
                throw interpreter.fail("'abs' of a value of type \(value.typeName)")
            }
            return .float(number.magnitude)
        },
        "float": Filter(["default"]) { interpreter, value, arguments throws(TemplateError) in
            if case .undefined = value { try interpreter.checkDefined(value) }
            if let number = value.number { return .float(number) }
            if let number = value.text.flatMap({ Numerals.float($0) }) { return .float(number) }
            return arguments[0] ?? .float(0)
        },
        "int": Filter(["default", "base"]) { interpreter, value, arguments throws(TemplateError) in
            try integer(interpreter, value, arguments)
        },
        "round": Filter(["precision", "method"]) {
            interpreter, value, arguments throws(TemplateError) in
            try round(interpreter, value, arguments)
        },
        "filesizeformat": Filter(["binary"]) {
            interpreter, value, arguments throws(TemplateError) in
            guard let size = value.number ?? value.text.flatMap({ Numerals.float($0) }) else {
                try interpreter.checkDefined(value)
                throw interpreter.fail("'filesizeformat' of a value of type \(value.typeName)")
            }
            return Value(fileSize(size, isBinary: arguments.isTrue(0)))
        },
        "sum": Filter(["attribute", "start"]) {
            interpreter, value, arguments throws(TemplateError) in
            let path = AttributePath(arguments[0])
            var sum = arguments[1] ?? .integer(0)
            if case .string = sum { throw interpreter.fail("'sum' of strings") }
            let cursor = try interpreter.cursor(over: value)
            while let element = try cursor.next(interpreter) {
                try interpreter.spend()
                sum = try interpreter.binary(.add, sum, try path.value(of: element, interpreter))
            }
            return sum
        },
    ]

    private static func integer(
        _ interpreter: Interpreter, _ value: Value, _ arguments: BoundArguments
    ) throws(TemplateError) -> Value {
        let initial = arguments[0] ?? .integer(0)
        func whole(_ number: Double) throws(TemplateError) -> Value? {
            if !number.isFinite { return nil }
            guard let integer = Int(exactly: number.rounded(.towardZero)) else {
                throw interpreter.fail("an integer of more than 64 bits")
            }
            return .integer(integer)
        }
        if let integer = value.integer { return .integer(integer) }
        switch value {
        case .undefined: try interpreter.checkDefined(value)
        case .float(let number): return try whole(number) ?? initial
        case .string(let text):
            let base = try arguments.integer(1, initially: 10, interpreter)
            if let integer = Numerals.integer(text, base: base) { return .integer(integer) }
            if let number = Numerals.float(text) { return try whole(number) ?? initial }
        default: break
        }
        return initial
    }

    private static func round(
        _ interpreter: Interpreter, _ value: Value, _ arguments: BoundArguments
    ) throws(TemplateError) -> Value {
        let places = try arguments.integer(0, initially: 0, interpreter)
        let method = try arguments.text(1, initially: "common", interpreter).string
        guard let number = value.number else {
            try interpreter.checkDefined(value)
            throw interpreter.fail("'round' of a value of type \(value.typeName)")
        }
        switch method {
        case "common":
            if let integer = value.integer {
                if places >= 0 { return .integer(integer) }
                if places < -18 { return .integer(0) }
                return .integer(try roundedToTens(integer, places, interpreter))
            }
            guard let result = Decimal.rounded(number, places: places) else {
                throw interpreter.fail("'round' to a float that is too large")
            }
            return .float(result)
        case "ceil", "floor":
            let scale = try interpreter.binary(.power, .integer(10), .integer(places))
            let scaled = try interpreter.binary(.multiply, value, scale)
            var whole = scaled
            if case .float(let number) = scaled {
                let bound = number.rounded(method == "ceil" ? .up : .down)
                guard let integer = Int(exactly: bound) else {
                    throw interpreter.fail("'round' of a number beyond 64 bits")
                }
                whole = .integer(integer)
            }
            return try interpreter.binary(.divide, whole, scale)
        default: throw interpreter.fail("'round' by the method '\(method)', which there is not")
        }
    }

    /// An integer rounded half to even at a place before the point.
    private static func roundedToTens(
        _ value: Int, _ places: Int, _ interpreter: Interpreter
    ) throws(TemplateError) -> Int {
        var unit = 1
        for _ in places..<0 { unit *= 10 }
        let remainder = ((value % unit) + unit) % unit
        let (floor, overflow) = value.subtractingReportingOverflow(remainder)
        let isUp =
            remainder > unit - remainder
            || remainder == unit - remainder && (floor / unit) % 2 != 0
        let (result, more) = floor.addingReportingOverflow(isUp ? unit : 0)
        if overflow || more { throw interpreter.fail("an integer of more than 64 bits") }
        return result
    }

    private static func fileSize(_ size: Double, isBinary: Bool) -> String {
        let base: Double = isBinary ? 1024 : 1000
        if size == 1 { return "1 Byte" }
        if size < base { return "\(Int(exactly: size.rounded(.towardZero)) ?? 0) Bytes" }
        let letters =
            isBinary
            ? ["K", "M", "G", "T", "P", "E", "Z", "Y"] : ["k", "M", "G", "T", "P", "E", "Z", "Y"]
        var unit = base
        for (index, letter) in letters.enumerated() {
            unit *= base
            if size < unit || index == letters.count - 1 {
                let number = base * size / unit
                return (number.isFinite ? Decimal.fixed(number, places: 1) : "inf")
                    + " " + letter + (isBinary ? "iB" : "B")
            }
        }
        return ""
    }
}

/// Numbers as Python's `int` and `float` read them from strings.
enum Numerals {
    /// Without white space around it and single underscores between digits; digits of any script.
    private static func digits(of text: Text) -> [Unicode.Scalar]? {
        var result: [Unicode.Scalar] = []
        let scalars = text.stripped().scalars
        for (index, scalar) in scalars.enumerated() {
            if scalar == "_" {
                guard index > 0, index + 1 < scalars.count, scalars[index - 1] != "_",
                    scalars[index - 1].isAlphanumeric, scalars[index + 1].isAlphanumeric
                else { return nil }
            } else if let value = scalar.decimalValue {
                result.append(Unicode.Scalar(UInt8(0x30 + value)))
            } else {
                guard scalar.isASCII else { return nil }
                result.append(scalar)
            }
        }
        return result
    }

    static func integer(_ text: Text, base: Int) -> Int? {
        guard base == 0 || (2...36).contains(base), var digits = digits(of: text) else {
            return nil
        }
        var sign = ""
        if digits.first == "-" || digits.first == "+" {
            sign = String(Character(digits.removeFirst()))
        }
        var base = base
        if digits.count > 1, digits[0] == "0",
            let letter = digits[1].properties.lowercaseMapping.first
        {
            let prefixes: [Character: Int] = ["x": 16, "o": 8, "b": 2]
            if let radix = prefixes[letter], base == 0 || base == radix {
                base = radix
                digits.removeFirst(2)
            }
        }
        if base == 0 {
            base = 10
            if digits.first == "0", digits.contains(where: { $0 != "0" }) { return nil }
        }
        guard let first = digits.first, first != "+", first != "-" else { return nil }
        return Int(sign + String(String.UnicodeScalarView(digits)), radix: base)
    }

    static func float(_ text: Text) -> Double? {
        guard let digits = digits(of: text) else { return nil }
        let word = String(String.UnicodeScalarView(digits)).lowercased()
        var bare = word[...]
        if let sign = bare.first, sign == "-" || sign == "+" { bare.removeFirst() }
        if ["inf", "infinity", "nan"].contains(bare) { return Double(word) }
        guard
            bare.utf8.allSatisfy({
                (0x30...0x39).contains($0) || [0x2E, 0x65, 0x2B, 0x2D].contains($0)
            }),
            bare.utf8.contains(where: { (0x30...0x39).contains($0) })
        else { return nil }
        // Swift wants digits on both sides of the point.
        var text = ""
        var previous: Character?
        for character in word {
            if character == ".", previous?.isNumber != true { text += "0" }
            if previous == ".", !character.isNumber { text += "0" }
            text.append(character)
            previous = character
        }
        if previous == "." { text += "0" }
        if text.hasPrefix("+") { text.removeFirst() }
        return Double(text)
    }
}
