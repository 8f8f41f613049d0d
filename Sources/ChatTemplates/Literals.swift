extension Unicode.Scalar {
    var isASCIIDigit: Bool { ("0"..."9").contains(self) }

    /// The value of a hexadecimal digit.
    var hexadecimalValue: Int? { isASCII ? Character(self).hexDigitValue : nil }
}

/// A number as Jinja's lexer finds one: with underscores between digits, and 0x, 0o and 0b before them.
struct NumberLiteral {
    let text: String
    let end: Int
    /// Nil where an integer has more than 64 bits.
    let kind: Token.Kind?

    init(_ source: [Unicode.Scalar], at start: Int, mayBeFloat: Bool) {
        /// The end of digits with single underscores between them.
        func digits(from index: Int, _ isDigit: (Unicode.Scalar) -> Bool) -> Int {
            var end = index
            while end < source.count {
                if isDigit(source[end]) {
                    end += 1
                } else if source[end] == "_", end + 1 < source.count, isDigit(source[end + 1]),
                    end > start
                {
                    end += 1
                } else {
                    break
                }
            }
            return end
        }
        func text(upTo end: Int) -> String {
            String(String.UnicodeScalarView(source[start..<end].filter { $0 != "_" }))
        }
        func scalar(_ index: Int) -> Unicode.Scalar? { index < source.count ? source[index] : nil }

        let whole = digits(from: start) { $0.isASCIIDigit }
        if mayBeFloat {
            var end = whole
            if scalar(end) == ".", scalar(end + 1)?.isASCIIDigit == true {
                end = digits(from: end + 1) { $0.isASCIIDigit }
            }
            if scalar(end) == "e" || scalar(end) == "E" {
                let sign = scalar(end + 1) == "+" || scalar(end + 1) == "-" ? 1 : 0
                if scalar(end + 1 + sign)?.isASCIIDigit == true {
                    end = digits(from: end + 1 + sign) { $0.isASCIIDigit }
                }
            }
            if end > whole {
                self.text = text(upTo: end)
                self.end = end
                kind = Double(self.text).map { .float($0) }
                return
            }
        }
        let radix =
            switch scalar(start + 1) {
            case "b", "B": 2
            case "o", "O": 8
            case "x", "X": 16
            default: 10
            }
        if source[start] == "0", radix != 10 {
            let end = digits(from: start + 2) { ($0.hexadecimalValue ?? 99) < radix }
            if end > start + 2 {
                self.text = text(upTo: end)
                self.end = end
                kind = Int(self.text.dropFirst(2), radix: radix).map { .integer($0) }
                return
            }
        }
        // A number does not begin with zeros: what follows them is another token, and an error of syntax.
        let end = source[start] == "0" ? digits(from: start) { $0 == "0" } : whole
        self.text = text(upTo: end)
        self.end = end
        kind = Int(self.text).map { .integer($0) }
    }
}

/// What Python's codec "unicode-escape" makes of a string's inside.
enum StringLiteral {
    struct Problem: Error { let problem: String }

    static func text(of source: ArraySlice<Unicode.Scalar>) throws(Problem) -> Text {
        var text = Text()
        var index = source.startIndex
        while index < source.endIndex {
            let scalar = source[index]
            index += 1
            guard scalar == "\\", index < source.endIndex else {
                text.append(scalar)
                continue
            }
            let kind = source[index]
            index += 1
            switch kind {
            case "\n": break
            case "\\", "'", "\"": text.append(kind)
            case "a": text.append("\u{07}" as Unicode.Scalar)
            case "b": text.append("\u{08}" as Unicode.Scalar)
            case "f": text.append("\u{0C}" as Unicode.Scalar)
            case "n": text.append("\n" as Unicode.Scalar)
            case "r": text.append("\r" as Unicode.Scalar)
            case "t": text.append("\t" as Unicode.Scalar)
            case "v": text.append("\u{0B}" as Unicode.Scalar)
            case "0"..."7":
                var code = 0
                index -= 1
                var digits = 0
                while digits < 3, index < source.endIndex, let digit = octal(source[index]) {
                    code = code * 8 + digit
                    index += 1
                    digits += 1
                }
                text.append(try character(of: code))
            case "x", "u", "U":
                let count = kind == "x" ? 2 : kind == "u" ? 4 : 8
                var code = 0
                for _ in 0..<count {
                    guard index < source.endIndex, let digit = source[index].hexadecimalValue else {
                        throw Problem(
                            problem: "a string escape \\\(kind) without its \(count) digits")
                    }
                    code = code << 4 | digit
                    index += 1
                }
                text.append(try character(of: code))
            case "N": throw Problem(problem: "a string escape \\N, which is not supported")
            default:
                text.append("\\")
                text.append(kind)
            }
        }
        return text
    }

    private static func octal(_ scalar: Unicode.Scalar) -> Int? {
        ("0"..."7").contains(scalar) ? Int(scalar.value - 0x30) : nil
    }

    private static func character(of code: Int) throws(Problem) -> Unicode.Scalar {
        guard let code = UInt32(exactly: code), let scalar = Unicode.Scalar(code) else {
            throw Problem(problem: "a string escape of a code that is no character")
        }
        return scalar
    }
}
