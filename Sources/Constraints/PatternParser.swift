/// Reads regular expressions: the part of ECMAScript's syntax that describes regular languages.
///
/// Where ECMAScript and Python differ, a class has what both agree on: `.` is anything but a line's end of
/// either, `\d` and `\w` are ASCII, and `\D` and `\W` have nothing that Unicode calls a digit, or a letter
/// or digit. Lazy quantifiers match the same texts as greedy ones. Refused are references to groups, looking
/// ahead and behind, word boundaries, flags and Unicode properties.
struct PatternParser {
    private let scalars: [Unicode.Scalar]
    private var position = 0
    private var depth = 0

    static func parse(_ text: String) throws(ConstraintError) -> Pattern {
        guard text.utf8.count <= Limits.textBytes else {
            throw ConstraintError(
                "expected at most \(Limits.textBytes) bytes, found \(text.utf8.count)")
        }
        var parser = PatternParser(scalars: Array(text.unicodeScalars))
        let pattern = try parser.choice()
        if parser.position < parser.scalars.count {
            throw parser.error("found ')' without '('; write \\) for the character")
        }
        return pattern
    }

    private init(scalars: [Unicode.Scalar]) { self.scalars = scalars }

    private mutating func choice() throws(ConstraintError) -> Pattern {
        depth += 1
        defer { depth -= 1 }
        if depth > Limits.depth {
            throw error("expected at most \(Limits.depth) groups inside each other, found more")
        }
        var branches = [try sequence()]
        while take("|") { branches.append(try sequence()) }
        return branches.count == 1 ? branches[0] : .choice(branches)
    }

    private mutating func sequence() throws(ConstraintError) -> Pattern {
        var parts: [Pattern] = []
        while let next = peek, next != "|", next != ")" {
            let start = position
            let atom = try atom()
            parts.append(try quantified(atom, from: start))
        }
        if parts.isEmpty { return .empty }
        return parts.count == 1 ? parts[0] : .sequence(parts)
    }

    private mutating func quantified(
        _ atom: Pattern, from start: Int
    ) throws(ConstraintError) -> Pattern {
        var least = 0
        var most: Int?
        if take("*") {
        } else if take("+") {
            least = 1
        } else if take("?") {
            most = 1
        } else if peek == "{", let bounds = try counted() {
            (least, most) = bounds
        } else {
            return atom
        }
        switch atom {
        case .start, .end: throw error("found a quantifier after an anchor", at: start)
        default: break
        }
        if take("+") || peek == "*" || (peek == "{" && isCount) {
            throw error("found two quantifiers in a row; put the first into a group (?:...)")
        }
        _ = take("?")
        return .repeated(atom, least, most)
    }

    private var isCount: Bool {
        var copy = self
        return (try? copy.counted()) != nil
    }

    /// {m}, {m,} or {m,n}; nil, and nothing taken, where the brace is just a character.
    private mutating func counted() throws(ConstraintError) -> (Int, Int?)? {
        let start = position
        position += 1
        guard let least = try number() else {
            position = start
            return nil
        }
        var most: Int? = least
        if take(",") { most = try number() }
        guard take("}") else {
            position = start
            return nil
        }
        if let most, most < least {
            throw error("expected {m,n} with m <= n, found {\(least),\(most)}", at: start)
        }
        return (least, most)
    }

    private mutating func number() throws(ConstraintError) -> Int? {
        var value: Int?
        while let digit = peek, ("0"..."9").contains(digit) {
            value = (value ?? 0) * 10 + Int(digit.value - 0x30)
            if value ?? 0 > Limits.repetition {
                throw error("expected at most \(Limits.repetition) repetitions, found more")
            }
            position += 1
        }
        return value
    }

    private mutating func atom() throws(ConstraintError) -> Pattern {
        let start = position
        guard let character = peek else { return .empty }
        position += 1
        switch character {
        case "^": return .start
        case "$": return .end
        case ".": return .character(PatternParser.dot)
        case "[": return .character(try classBody(from: start))
        case "(": return try group(from: start)
        case "\\":
            if let set = try classEscape() { return .character(set) }
            return .character(CodePointSet(try escapedValue(isInClass: false)))
        case "*", "+", "?":
            throw error("found a quantifier with nothing before it", at: start)
        default: return .character(CodePointSet(character.value))
        }
    }

    private mutating func group(from start: Int) throws(ConstraintError) -> Pattern {
        if take("?") {
            if take(":") {
            } else if take("P") || peek == "<" {
                guard take("<"), peek != "=", peek != "!" else {
                    throw error("looking behind is not possible; describe the whole text", at: start)
                }
                while let next = peek, next != ">" {
                    guard next.properties.isAlphabetic || ("0"..."9").contains(next) || next == "_"
                    else { throw error("expected a group's name, found '\(next)'") }
                    position += 1
                }
                guard take(">") else { throw error("expected '>' after the group's name") }
            } else if peek == "=" || peek == "!" {
                throw error("looking ahead is not possible; describe the whole text", at: start)
            } else {
                throw error("flags and other (?...) are not possible", at: start)
            }
        }
        let inside = try choice()
        guard take(")") else { throw error("expected ')' for this '('", at: start) }
        return inside
    }

    /// What stands between brackets.
    private mutating func classBody(from start: Int) throws(ConstraintError) -> CodePointSet {
        let isInverted = take("^")
        var ranges: [ClosedRange<UInt32>] = []
        while true {
            guard let next = peek else { throw error("expected ']' for this '['", at: start) }
            if next == "]" { break }
            let place = position
            let lower: UInt32
            switch try classAtom() {
            case .set(let set):
                if peek == "-", position + 1 < scalars.count, scalars[position + 1] != "]" {
                    throw error("a range cannot begin with a class", at: place)
                }
                ranges += set.ranges
                continue
            case .value(let value): lower = value
            }
            guard peek == "-", position + 1 < scalars.count, scalars[position + 1] != "]" else {
                ranges.append(lower...lower)
                continue
            }
            position += 1
            guard case .value(let upper) = try classAtom() else {
                throw error("a range cannot end with a class", at: place)
            }
            guard lower <= upper else {
                throw error("expected a range from low to high", at: place)
            }
            ranges.append(lower...upper)
        }
        position += 1
        let set = CodePointSet(ranges)
        return isInverted ? set.inverted : set
    }

    private enum ClassAtom {
        case set(CodePointSet)
        case value(UInt32)
    }

    private mutating func classAtom() throws(ConstraintError) -> ClassAtom {
        guard let character = peek else { throw error("expected ']'") }
        position += 1
        guard character == "\\" else { return .value(character.value) }
        if let set = try classEscape() { return .set(set) }
        return .value(try escapedValue(isInClass: true))
    }

    /// \d and its kind; nil, and nothing taken, where it is another escape.
    private mutating func classEscape() throws(ConstraintError) -> CodePointSet? {
        let set: CodePointSet
        switch peek {
        case "d": set = .digits
        case "D": set = PatternParser.nonDigits
        case "w": set = PatternParser.word
        case "W": set = PatternParser.nonWord
        case "s": set = PatternParser.space
        case "S": set = PatternParser.nonSpace
        case "p", "P":
            throw error("Unicode properties are not possible; write the ranges, as in [a-zà-ÿ]")
        default: return nil
        }
        position += 1
        return set
    }

    /// The character that an escape means; the backslash is taken.
    private mutating func escapedValue(isInClass: Bool) throws(ConstraintError) -> UInt32 {
        let start = position - 1
        guard let character = peek else { throw error("expected an escape, found the end") }
        position += 1
        switch character {
        case "n": return 0x0A
        case "r": return 0x0D
        case "t": return 0x09
        case "f": return 0x0C
        case "v": return 0x0B
        case "b" where isInClass: return 0x08
        case "0":
            if let next = peek, ("0"..."9").contains(next) {
                throw error("octal escapes are not possible; write \\x..", at: start)
            }
            return 0
        case "x": return try hexadecimal(digits: 2, from: start)
        case "u":
            if take("{") {
                var value: UInt32 = 0
                var count = 0
                while let digit = peek?.hexadecimalValue {
                    position += 1
                    count += 1
                    guard count <= 6 else { break }
                    value = value << 4 | digit
                }
                guard take("}"), count > 0, value <= CodePointSet.greatest else {
                    throw error("expected \\u{...} with a code point up to 10FFFF", at: start)
                }
                return value
            }
            let high = try hexadecimal(digits: 4, from: start)
            guard (0xD800..<0xDC00).contains(high), peek == "\\", position + 1 < scalars.count,
                scalars[position + 1] == "u"
            else { return high }
            position += 2
            let low = try hexadecimal(digits: 4, from: start)
            guard (0xDC00..<0xE000).contains(low) else {
                throw error("expected the second half of a surrogate pair", at: start)
            }
            return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)
        case "1"..."9", "k":
            throw error("references to groups are not possible", at: start)
        case "b", "B", "A", "Z", "z", "G":
            throw error("\\\(character) is not possible; only ^ and $ are", at: start)
        default:
            guard !character.properties.isAlphabetic else {
                throw error("unknown escape \\\(character)", at: start)
            }
            return character.value
        }
    }

    private mutating func hexadecimal(digits: Int, from start: Int) throws(ConstraintError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<digits {
            guard let digit = peek?.hexadecimalValue else {
                throw error("expected \(digits) hexadecimal digits", at: start)
            }
            value = value << 4 | digit
            position += 1
        }
        return value
    }

    private var peek: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

    private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard peek == scalar else { return false }
        position += 1
        return true
    }

    private func error(_ problem: String, at place: Int? = nil) -> ConstraintError {
        ConstraintError(problem, at: "character \((place ?? position) + 1)")
    }

    // MARK: Classes

    private static let word = CodePointSet([0x30...0x39, 0x41...0x5A, 0x5F...0x5F, 0x61...0x7A])
    /// What ECMAScript or Python call white space.
    private static let allSpace = CodePointSet([
        0x09...0x0D, 0x1C...0x20, 0x85...0x85, 0xA0...0xA0, 0x1680...0x1680, 0x2000...0x200A,
        0x2028...0x2029, 0x202F...0x202F, 0x205F...0x205F, 0x3000...0x3000, 0xFEFF...0xFEFF,
    ])
    /// What both do.
    private static let space = allSpace.subtracting(
        CodePointSet([0x1C...0x1F, 0x85...0x85, 0xFEFF...0xFEFF]))
    private static let nonSpace = allSpace.inverted
    private static let dot = CodePointSet([0x0A...0x0A, 0x0D...0x0D, 0x2028...0x2029]).inverted
    private static let nonDigits = CodePointSet(without { $0.numericType != nil })
        .subtracting(.digits)
    private static let nonWord = CodePointSet(
        without { $0.isAlphabetic || $0.numericType != nil || $0.generalCategory == .nonspacingMark }
    ).subtracting(word)

    /// Ranges of the first plane, where nearly all of these are, and none of the others.
    private static func without(
        _ isExcluded: (Unicode.Scalar.Properties) -> Bool
    ) -> [ClosedRange<UInt32>] {
        var ranges: [ClosedRange<UInt32>] = []
        var first: UInt32?
        for value in UInt32(0)...0x10000 {
            let isIn =
                value < 0x10000
                && Unicode.Scalar(value).map { !isExcluded($0.properties) } ?? false
            if isIn, first == nil { first = value }
            if !isIn, let start = first {
                ranges.append(start...value - 1)
                first = nil
            }
        }
        return ranges
    }
}

extension Unicode.Scalar {
    var hexadecimalValue: UInt32? {
        switch value {
        case 0x30...0x39: value - 0x30
        case 0x41...0x46: value - 0x41 + 10
        case 0x61...0x66: value - 0x61 + 10
        default: nil
        }
    }
}
