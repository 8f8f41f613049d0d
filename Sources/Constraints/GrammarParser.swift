/// Reads grammars in GBNF, llama.cpp's form of Backus and Naur's (its grammars/README.md):
///
///     root   ::= "yes" | "no" digit{1,3}     # rules by name; `root` is what the text must be
///     digit  ::= [0-9]                       # characters: ranges, [^...] for all but these
///     spaced ::= (digit " ")+ .              # ( ) | * + ? {m} {m,} {m,n}; . is any character
///
/// A rule goes on over ends of lines within parentheses and after `|`. Rules that begin with themselves are
/// refused, as there.
struct GrammarParser {
    private let scalars: [Unicode.Scalar]
    private var position = 0
    /// Only white space between items has ends of lines.
    private var line = 1
    private var depth = 0
    private var grammar = Grammar()
    private var numbers: [String: Int] = [:]
    private var isDefined: Set<Int> = []
    /// Where each rule was first named.
    private var lines: [Int] = []

    static func parse(_ text: String) throws(ConstraintError) -> Grammar {
        guard text.utf8.count <= Limits.textBytes else {
            throw ConstraintError(
                "expected at most \(Limits.textBytes) bytes, found \(text.utf8.count)")
        }
        var parser = GrammarParser(scalars: Array(text.unicodeScalars))
        return try parser.parse()
    }

    private init(scalars: [Unicode.Scalar]) { self.scalars = scalars }

    private mutating func parse() throws(ConstraintError) -> Grammar {
        skipSpace(withLines: true)
        while position < scalars.count {
            try rule()
            skipSpace(withLines: true)
        }
        for (name, number) in numbers where !isDefined.contains(number) {
            throw ConstraintError("rule '\(name)' is used and not defined", at: "line \(lines[number])")
        }
        guard let root = numbers["root"] else {
            throw ConstraintError("expected a rule named 'root', found none", at: "line 1")
        }
        grammar.root = .rule(root)
        return grammar
    }

    private mutating func rule() throws(ConstraintError) {
        let line = self.line
        guard let name = name() else { throw error("expected a rule's name, found \(found)") }
        let number = self.number(of: name)
        skipSpace(withLines: false)
        guard take(":"), take(":"), take("=") else {
            throw error("expected '::=' after '\(name)', found \(found)")
        }
        guard isDefined.insert(number).inserted else {
            throw ConstraintError("rule '\(name)' is defined twice", at: "line \(line)")
        }
        skipSpace(withLines: true)
        grammar.rules[number] = try choice(inGroup: false)
        if position < scalars.count, peek != "\n", peek != "\r" {
            throw error("expected the end of the line, found \(found)")
        }
    }

    private mutating func choice(inGroup: Bool) throws(ConstraintError) -> Expression {
        depth += 1
        defer { depth -= 1 }
        if depth > Limits.depth {
            throw error("expected at most \(Limits.depth) groups inside each other, found more")
        }
        var branches = [try sequence(inGroup: inGroup)]
        while take("|") {
            skipSpace(withLines: true)
            branches.append(try sequence(inGroup: inGroup))
        }
        return branches.count == 1 ? branches[0] : .choice(branches)
    }

    private mutating func sequence(inGroup: Bool) throws(ConstraintError) -> Expression {
        var parts: [Expression] = []
        skipSpace(withLines: inGroup)
        while let next = peek {
            let item: Expression
            switch next {
            case "\"": item = try literal()
            case "[": item = try characters()
            case ".":
                position += 1
                item = .character(.all)
            case "(":
                let start = line
                position += 1
                skipSpace(withLines: true)
                item = try choice(inGroup: true)
                guard take(")") else {
                    throw ConstraintError("expected ')' for this '('", at: "line \(start)")
                }
            default:
                guard let name = name() else { return parts.count == 1 ? parts[0] : .sequence(parts) }
                item = .rule(number(of: name))
            }
            parts.append(try quantified(item))
            skipSpace(withLines: inGroup)
        }
        return parts.count == 1 ? parts[0] : .sequence(parts)
    }

    private mutating func quantified(_ item: Expression) throws(ConstraintError) -> Expression {
        var item = item
        while true {
            let before = position
            skipSpace(withLines: false)
            if take("*") {
                item = .repeated(item, 0, nil)
            } else if take("+") {
                item = .repeated(item, 1, nil)
            } else if take("?") {
                item = .repeated(item, 0, 1)
            } else if take("{") {
                skipSpace(withLines: false)
                let least = try count()
                var most = least
                skipSpace(withLines: false)
                if take(",") {
                    skipSpace(withLines: false)
                    most = try count()
                } else if least == nil {
                    throw error("expected a number in {}, found \(found)")
                }
                skipSpace(withLines: false)
                guard take("}") else { throw error("expected '}', found \(found)") }
                if let most, most < least ?? 0 {
                    throw error("expected {m,n} with m <= n, found {\(least ?? 0),\(most)}")
                }
                item = .repeated(item, least ?? 0, most)
            } else {
                position = before
                return item
            }
        }
    }

    private mutating func count() throws(ConstraintError) -> Int? {
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

    private mutating func literal() throws(ConstraintError) -> Expression {
        position += 1
        var parts: [Expression] = []
        while !take("\"") {
            guard let next = peek, next != "\n" else { throw error("expected '\"', found \(found)") }
            let value = try character()
            guard !CodePointSet(value).isEmpty else {
                throw error("expected a character, found half a surrogate pair")
            }
            parts.append(.character(CodePointSet(value)))
        }
        return parts.isEmpty ? .empty : .sequence(parts)
    }

    private mutating func characters() throws(ConstraintError) -> Expression {
        position += 1
        let isInverted = take("^")
        var ranges: [ClosedRange<UInt32>] = []
        while !take("]") {
            guard let next = peek, next != "\n" else { throw error("expected ']', found \(found)") }
            let lower = try character()
            var upper = lower
            if peek == "-", position + 1 < scalars.count, scalars[position + 1] != "]" {
                position += 1
                upper = try character()
            }
            guard lower <= upper else { throw error("expected a range from low to high") }
            ranges.append(lower...upper)
        }
        let set = CodePointSet(ranges)
        return .character(isInverted ? set.inverted : set)
    }

    /// A character of a literal or a class.
    private mutating func character() throws(ConstraintError) -> UInt32 {
        guard let next = peek else { throw error("expected a character, found the end") }
        position += 1
        guard next == "\\" else { return next.value }
        guard let kind = peek else { throw error("expected an escape, found the end") }
        position += 1
        switch kind {
        case "n": return 0x0A
        case "r": return 0x0D
        case "t": return 0x09
        case "x": return try hexadecimal(digits: 2)
        case "u": return try hexadecimal(digits: 4)
        case "U": return try hexadecimal(digits: 8)
        case "\\", "\"", "[", "]", "-", "^", "/": return kind.value
        default: throw error("unknown escape \\\(kind)")
        }
    }

    private mutating func hexadecimal(digits: Int) throws(ConstraintError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<digits {
            guard let digit = peek?.hexadecimalValue, value <= CodePointSet.greatest else {
                throw error("expected \(digits) hexadecimal digits, found \(found)")
            }
            value = value << 4 | digit
            position += 1
        }
        guard value <= CodePointSet.greatest else {
            throw error("expected a code point up to 10FFFF")
        }
        return value
    }

    private mutating func number(of name: String) -> Int {
        if let number = numbers[name] { return number }
        let number = grammar.addRule(name)
        numbers[name] = number
        lines.append(line)
        return number
    }

    private mutating func name() -> String? {
        let start = position
        while let next = peek, isNamePart(next) { position += 1 }
        guard position > start else { return nil }
        var text = ""
        text.unicodeScalars.append(contentsOf: scalars[start..<position])
        return text
    }

    private func isNamePart(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar {
        case "a"..."z", "A"..."Z", "0"..."9", "-", "_": true
        default: false
        }
    }

    private mutating func skipSpace(withLines: Bool) {
        while let next = peek {
            switch next {
            case " ", "\t": position += 1
            case "\n" where withLines, "\r" where withLines:
                position += 1
                if next == "\n" { line += 1 }
            case "#": while let next = peek, next != "\n" { position += 1 }
            default: return
            }
        }
    }

    private var peek: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

    private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard peek == scalar else { return false }
        position += 1
        return true
    }

    private var found: String {
        guard let next = peek else { return "the end" }
        return next == "\n" ? "the end of the line" : "'\(next)'"
    }

    private func error(_ problem: String) -> ConstraintError {
        ConstraintError(problem, at: "line \(line)")
    }
}
