/// Cuts a template into tokens, as Jinja's lexer does with trim_blocks and lstrip_blocks on, which is how
/// transformers sets them: a line feed after a block tag goes, and so does white space before one at a line's beginning.
struct Lexer {
    private let source: [Unicode.Scalar]
    private var place = 0
    private var line = 1
    private var tokens: [Token] = []
    /// Closing brackets that are still to come. Inside of brackets `}}` and `%}` are no ends of tags.
    private var brackets: [Unicode.Scalar] = []
    /// Whether the last match ended with a line feed, so that what follows begins a line.
    private var isLineStart = true

    static func tokens(of text: String) throws(TemplateError) -> [Token] {
        var lexer = Lexer(text)
        try lexer.run()
        return lexer.tokens
    }

    /// Line ends become line feeds, and one at the very end goes: keep_trailing_newline is off.
    private init(_ text: String) {
        var scalars: [Unicode.Scalar] = []
        for scalar in text.unicodeScalars {
            if scalar == "\n", scalars.last == "\r" { scalars.removeLast() }
            if scalars.last == "\r" { scalars[scalars.count - 1] = "\n" }
            scalars.append(scalar)
        }
        if scalars.last == "\r" { scalars[scalars.count - 1] = "\n" }
        if scalars.last == "\n" { scalars.removeLast() }
        source = scalars
    }

    private func fail(_ problem: String) -> TemplateError { TemplateError(line: line, problem) }

    private mutating func run() throws(TemplateError) {
        while place < source.count {
            let start = place
            guard let tag = nextTag() else {
                add(data: source[start...])
                place = source.count
                break
            }
            let kind = source[tag + 1]
            if kind == "%", let raw = rawBegin(at: tag) {
                addData(start..<tag, sign: raw.sign, isVariable: false)
                advance(to: raw.end)
                try lexRaw()
                continue
            }
            var end = tag + 2
            var sign: Unicode.Scalar?
            if end < source.count, source[end] == "-" || source[end] == "+" {
                sign = source[end]
                end += 1
            }
            addData(start..<tag, sign: sign, isVariable: kind == "{")
            advance(to: end)
            switch kind {
            case "#": try skipComment()
            case "{":
                tokens.append(Token(kind: .variableBegin, line: line))
                try lexTag(isBlock: false)
            default:
                tokens.append(Token(kind: .blockBegin, line: line))
                try lexTag(isBlock: true)
            }
        }
        tokens.append(Token(kind: .end, line: line))
    }

    /// Where the next `{{`, `{%` or `{#` is.
    private func nextTag() -> Int? {
        var index = place
        while index + 1 < source.count {
            if source[index] == "{", ["{", "%", "#"].contains(source[index + 1]) { return index }
            index += 1
        }
        return nil
    }

    /// Moves on, counting lines.
    private mutating func advance(to end: Int) {
        for scalar in source[place..<end] where scalar == "\n" { line += 1 }
        isLineStart = end > place && source[end - 1] == "\n"
        place = end
    }

    private mutating func add(data: ArraySlice<Unicode.Scalar>) {
        if !data.isEmpty { tokens.append(Token(kind: .data(Text(data)), line: line)) }
    }

    /// The text before a tag, less the white space that the tag takes.
    private mutating func addData(
        _ range: Range<Int>, sign: Unicode.Scalar?, isVariable: Bool
    ) {
        var end = range.upperBound
        if sign == "-" {
            while end > range.lowerBound, source[end - 1].isPythonSpace { end -= 1 }
        } else if sign != "+", !isVariable {
            var lineStart = end
            while lineStart > range.lowerBound, source[lineStart - 1] != "\n" { lineStart -= 1 }
            if lineStart > range.lowerBound || isLineStart,
                source[lineStart..<end].allSatisfy({ $0.isPythonSpace })
            {
                end = lineStart
            }
        }
        add(data: source[range.lowerBound..<end])
        advance(to: range.upperBound)
    }

    private func skippingSpace(from index: Int) -> Int {
        var index = index
        while index < source.count, source[index].isPythonSpace { index += 1 }
        return index
    }

    private func hasWord(_ word: String, at index: Int) -> Bool {
        source[index...].starts(with: word.unicodeScalars)
    }

    /// `{% raw %}` at `tag`: the sign before it and where it ends.
    private func rawBegin(at tag: Int) -> (sign: Unicode.Scalar?, end: Int)? {
        var index = tag + 2
        var sign: Unicode.Scalar?
        if index < source.count, source[index] == "-" || source[index] == "+" {
            sign = source[index]
            index += 1
        }
        index = skippingSpace(from: index)
        guard hasWord("raw", at: index) else { return nil }
        index = skippingSpace(from: index + 3)
        if hasWord("-%}", at: index) { return (sign, skippingSpace(from: index + 3)) }
        return hasWord("%}", at: index) ? (sign, index + 2) : nil
    }

    /// The end of a block tag or comment: `close` with `-` or `+` before it or a line feed after it.
    private func tagEnd(_ close: String, at index: Int) -> Int? {
        if hasWord("+" + close, at: index) { return index + 3 }
        if hasWord("-" + close, at: index) { return skippingSpace(from: index + 3) }
        guard hasWord(close, at: index) else { return nil }
        return index + 2 < source.count && source[index + 2] == "\n" ? index + 3 : index + 2
    }

    private mutating func lexRaw() throws(TemplateError) {
        let start = place
        for tag in start..<source.count where hasWord("{%", at: tag) {
            var index = tag + 2
            var sign: Unicode.Scalar?
            if index < source.count, source[index] == "-" || source[index] == "+" {
                sign = source[index]
                index += 1
            }
            index = skippingSpace(from: index)
            guard hasWord("endraw", at: index) else { continue }
            guard let end = tagEnd("%}", at: skippingSpace(from: index + 6)) else { continue }
            addData(start..<tag, sign: sign, isVariable: false)
            advance(to: end)
            return
        }
        throw fail("a raw block without endraw")
    }

    private mutating func skipComment() throws(TemplateError) {
        for index in place..<source.count {
            if let end = tagEnd("#}", at: index) {
                advance(to: end)
                return
            }
        }
        throw fail("a comment without its end '#}'")
    }

    private mutating func lexTag(isBlock: Bool) throws(TemplateError) {
        while place < source.count {
            if brackets.isEmpty {
                if isBlock, let end = tagEnd("%}", at: place) {
                    tokens.append(Token(kind: .blockEnd, line: line))
                    advance(to: end)
                    return
                }
                if !isBlock, hasWord("-}}", at: place) || hasWord("}}", at: place) {
                    tokens.append(Token(kind: .variableEnd, line: line))
                    advance(
                        to: source[place] == "-" ? skippingSpace(from: place + 3) : place + 2)
                    return
                }
            }
            let scalar = source[place]
            if scalar.isPythonSpace {
                advance(to: skippingSpace(from: place))
            } else if scalar.isASCIIDigit {
                try lexNumber()
            } else if scalar.isWord || scalar.properties.isIDContinue {
                try lexName()
            } else if scalar == "'" || scalar == "\"" {
                try lexString(quote: scalar)
            } else {
                try lexSymbol()
            }
        }
    }

    private mutating func lexName() throws(TemplateError) {
        var end = place
        var name = String.UnicodeScalarView()
        while end < source.count, source[end].isWord || source[end].properties.isIDContinue {
            name.append(source[end])
            end += 1
        }
        let first = name.first ?? "_"
        guard first == "_" || first.properties.isIDStart,
            name.allSatisfy({ $0.properties.isIDContinue })
        else { throw fail("the name '\(String(name))' has characters that no name has") }
        tokens.append(Token(kind: .name(String(name)), line: line))
        advance(to: end)
    }

    private mutating func lexSymbol() throws(TemplateError) {
        let scalar = source[place]
        let pair =
            place + 1 < source.count
            ? String(String.UnicodeScalarView([scalar, source[place + 1]])) : ""
        let symbol: String
        if ["//", "**", "==", "!=", ">=", "<="].contains(pair) {
            symbol = pair
        } else if "+-/*%~[](){}><=.:|,;".unicodeScalars.contains(scalar) {
            symbol = String(Character(scalar))
        } else {
            throw fail("a character that belongs to no expression: '\(Character(scalar))'")
        }
        switch symbol {
        case "{": brackets.append("}")
        case "(": brackets.append(")")
        case "[": brackets.append("]")
        case "}", ")", "]":
            guard let expected = brackets.popLast() else {
                throw fail("a '\(symbol)' that closes nothing")
            }
            if expected != scalar {
                throw fail("a '\(symbol)' where '\(Character(expected))' has to close first")
            }
        default: break
        }
        tokens.append(Token(kind: .symbol(symbol), line: line))
        advance(to: place + symbol.unicodeScalars.count)
    }

    private mutating func lexNumber() throws(TemplateError) {
        let isAfterDot = place > 0 && source[place - 1] == "."
        let number = NumberLiteral(source, at: place, mayBeFloat: !isAfterDot)
        guard let kind = number.kind else {
            throw fail("the number \(number.text) does not fit into 64 bits")
        }
        tokens.append(Token(kind: kind, line: line))
        advance(to: number.end)
    }

    private mutating func lexString(quote: Unicode.Scalar) throws(TemplateError) {
        var end = place + 1
        while end < source.count, source[end] != quote {
            end += source[end] == "\\" ? 2 : 1
        }
        guard end < source.count else { throw fail("a string without its closing quote") }
        let text: Text
        do {
            text = try StringLiteral.text(of: source[(place + 1)..<end])
        } catch {
            throw fail(error.problem)
        }
        tokens.append(Token(kind: .string(text), line: line))
        advance(to: end + 1)
    }
}
