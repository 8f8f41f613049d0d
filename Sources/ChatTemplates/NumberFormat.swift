/// How a number or string is written: what a conversion of `%` or a replacement field of `format` asks for
/// (Python's format specification mini-language).
struct FormatSpecification {
    enum Alignment { case left, right, center, afterSign }

    var fill: Text = " "
    var alignment: Alignment?
    /// What a positive number begins with: nothing, `+` or a space.
    var plus: Text = ""
    /// `#`: a prefix such as 0x, or a point without digits behind it.
    var isAlternate = false
    var width = 0
    /// Between thousands; empty for none.
    var separator: Text = ""
    var precision: Int?
    /// The type's letter; nil for what is usual of a value.
    var type: Unicode.Scalar?

    init() {}

    /// Parses `[[fill]align][sign][z][#][0][width][,][.precision][type]`; nil where it is something else.
    init?(parsing text: Text) {
        let scalars = text.scalars
        var place = 0
        func alignment(_ scalar: Unicode.Scalar) -> Alignment? {
            switch scalar {
            case "<": .left
            case ">": .right
            case "^": .center
            case "=": .afterSign
            default: nil
            }
        }
        func take(_ wanted: Unicode.Scalar) -> Bool {
            guard place < scalars.count, scalars[place] == wanted else { return false }
            place += 1
            return true
        }
        func number() -> Int? {
            var value: Int?
            while place < scalars.count, scalars[place].isASCIIDigit {
                value = min((value ?? 0) * 10 + Int(scalars[place].value - 0x30), 1 << 40)
                place += 1
            }
            return value
        }
        if scalars.count > 1, let some = alignment(scalars[1]) {
            fill = Text([scalars[0]])
            self.alignment = some
            place = 2
        } else if let first = scalars.first, let some = alignment(first) {
            self.alignment = some
            place = 1
        }
        if take("+") { plus = "+" } else if take(" ") { plus = " " } else { _ = take("-") }
        isAlternate = take("#")
        if take("0"), self.alignment == nil {
            fill = "0"
            self.alignment = .afterSign
        }
        width = number() ?? 0
        if take(",") { separator = "," } else if take("_") { separator = "_" }
        if take(".") {
            guard let digits = number() else { return nil }
            precision = digits
        }
        if place < scalars.count {
            type = scalars[place]
            place += 1
        }
        if place < scalars.count { return nil }
    }
}

extension Interpreter {
    /// A string cut to its precision and made as wide as asked.
    func formatted(
        _ text: Text, _ format: FormatSpecification
    ) throws(TemplateError) -> Text {
        var text = text
        if let precision = format.precision, precision < text.count {
            text = text.slice(0..<precision)
        }
        return try aligned("", text, format, initially: .left)
    }

    private func aligned(
        _ sign: Text, _ digits: Text, _ format: FormatSpecification,
        initially alignment: FormatSpecification.Alignment
    ) throws(TemplateError) -> Text {
        let count = sign.count + digits.count
        let missing = max(0, format.width - count)
        try spend(bytes: format.fill.utf8.count, times: missing)
        let left: Int
        switch format.alignment ?? alignment {
        case .afterSign: return sign + Text.repeating(format.fill, missing) + digits
        case .left: left = 0
        case .right: left = missing
        case .center: left = missing / 2
        }
        return Text.repeating(format.fill, left) + sign + digits
            + Text.repeating(format.fill, missing - left)
    }

    func formatted(
        _ value: Int, _ format: FormatSpecification
    ) throws(TemplateError) -> Text {
        let sign: Text = value < 0 ? "-" : format.plus
        var digits: String
        var prefix: Text = ""
        var group = 3
        switch format.type {
        case "x", "X", "o", "b":
            let radix = format.type == "o" ? 8 : format.type == "b" ? 2 : 16
            digits = String(value.magnitude, radix: radix, uppercase: format.type == "X")
            if format.isAlternate, let type = format.type { prefix = Text("0") + Text([type]) }
            group = 4
        case "c":
            guard let code = UInt32(exactly: value), let scalar = Unicode.Scalar(code) else {
                throw fail("\(value) is no character's code")
            }
            return try aligned("", Text([scalar]), format, initially: .left)
        case "e", "E", "f", "F", "g", "G", "%": return try formatted(Double(value), format)
        case nil, "d", "n", "i", "u": digits = String(value.magnitude)
        case let type?: throw fail("an unknown format '\(type)' of an integer")
        }
        if let precision = format.precision {
            try spend(bytes: precision)
            digits = String(repeating: "0", count: max(0, precision - digits.utf8.count)) + digits
        }
        let text = grouped(digits, "", by: group, format, room: sign.count + prefix.count)
        return try aligned(sign + prefix, text, format, initially: .right)
    }

    func formatted(
        _ value: Double, _ format: FormatSpecification
    ) throws(TemplateError) -> Text {
        let sign: Text = value.sign == .minus && !value.isNaN ? "-" : format.plus
        let magnitude = value.magnitude
        let precision = format.precision ?? 6
        // No float has more than 1,100 digits; behind them there are only zeros.
        if precision > 100_000 { throw fail("a float with \(precision) digits") }
        var text: String
        if !value.isFinite {
            text = value.isNaN ? "nan" : "inf"
            if format.type == "%" { text += "%" }
        } else {
            switch format.type {
            case "f", "F":
                text = Decimal.fixed(magnitude, places: precision, keepsPoint: format.isAlternate)
            case "%":
                text =
                    Decimal.fixed(
                        magnitude * 100, places: precision, keepsPoint: format.isAlternate) + "%"
            case "e", "E":
                text = Decimal.exponential(
                    magnitude, places: precision, keepsPoint: format.isAlternate)
            case "g", "G", "n":
                text = Decimal.general(
                    magnitude, digits: precision, keepsZeros: format.isAlternate)
            case nil:
                if format.precision == nil {
                    text = Decimal.repr(magnitude)
                } else {
                    text = Decimal.general(magnitude, digits: precision, keepsZeros: false)
                    if !text.utf8.contains(where: { $0 == 0x2E || $0 == 0x65 }) { text += ".0" }
                }
            case let type?: throw fail("an unknown format '\(type)' of a float")
            }
        }
        if ["E", "F", "G"].contains(format.type) { text = text.uppercased() }
        let wholeEnd = text.utf8.firstIndex { !(0x30...0x39).contains($0) } ?? text.endIndex
        let digits = grouped(
            String(text[..<wholeEnd]), String(text[wholeEnd...]), by: 3, format, room: sign.count)
        return try aligned(sign, digits, format, initially: .right)
    }

    /// Digits with separators between groups, filled with zeros in groups where zeros fill.
    private func grouped(
        _ digits: String, _ rest: String, by group: Int, _ format: FormatSpecification, room: Int
    ) -> Text {
        guard !format.separator.isEmpty, !digits.isEmpty else { return Text(digits + rest) }
        var padded = Array(digits.utf8)
        if format.alignment == .afterSign, format.fill == "0" {
            let width = min(format.width, 1 << 20) - room - rest.utf8.count
            while padded.count + (padded.count - 1) / group < width {
                padded.insert(0x30, at: 0)
            }
        }
        var result: [UInt8] = []
        for (index, digit) in padded.enumerated() {
            if index > 0, (padded.count - index) % group == 0 { result += format.separator.utf8 }
            result.append(digit)
        }
        return Text(utf8: result) + Text(rest)
    }
}
