/// Python's methods of `str`, on one string.
struct StringMethods {
    private let text: Text
    private let name: String
    private let arguments: Arguments
    private let interpreter: Interpreter

    init(text: Text, name: String, arguments: Arguments, _ interpreter: Interpreter) {
        self.text = text
        self.name = name
        self.arguments = arguments
        self.interpreter = interpreter
    }

    private func bound(
        _ names: [String] = [], _ required: Int = 0
    ) throws(TemplateError) -> BoundArguments {
        try arguments.bound(
            to: names, required: required, of: "the method '\(name)'", interpreter)
    }

    func call() throws(TemplateError) -> Value {
        switch name {
        case "format":
            return .string(try interpreter.braceFormat(text, arguments))
        case "format_map":
            var all = Arguments()
            if case .dictionary(let dict) = try bound(["mapping"], 1)[0] {
                for (key, value) in zip(dict.keys, dict.values) {
                    if let name = key.text?.string { all.keywords.append((name, value)) }
                }
            }
            return .string(try interpreter.braceFormat(text, all))
        case "split", "rsplit": return try split()
        case "splitlines":
            let lines = text.lines(keepingEnds: try bound(["keepends"]).isTrue(0))
            return try list(lines)
        case "join": return try join()
        case "replace": return try replace()
        case "startswith", "endswith": return .bool(try hasAffix())
        case "strip", "lstrip", "rstrip":
            let set = try bound(["chars"]).optionalText(0, interpreter)
            return .string(text.stripped(set, left: name != "rstrip", right: name != "lstrip"))
        case "find", "rfind", "index", "rindex", "count": return try search()
        case "center", "ljust", "rjust": return try justify()
        case "zfill": return try fillWithZeros()
        case "expandtabs":
            let width = try bound(["tabsize"]).integer(0, initially: 8, interpreter)
            guard let result = text.expandingTabs(width, limit: interpreter.limits.bytes) else {
                throw interpreter.fail("'expandtabs' of a string that gets too long")
            }
            return .string(result)
        case "partition", "rpartition": return try partition()
        case "removeprefix":
            let prefix = try bound(["prefix"], 1).text(0, initially: "", interpreter)
            let start = text.hasPrefix(prefix) ? prefix.utf8.count : 0
            return .string(text.bytes(start..<text.utf8.count))
        case "removesuffix":
            let suffix = try bound(["suffix"], 1).text(0, initially: "", interpreter)
            let end = text.utf8.count - (text.hasSuffix(suffix) ? suffix.utf8.count : 0)
            return .string(text.bytes(0..<end))
        case "encode", "translate", "maketrans":
            throw interpreter.fail("the method '\(name)' of strings is not supported")
        default:
            _ = try bound()
            return plain
        }
    }

    /// Methods without arguments.
    private var plain: Value {
        switch name {
        case "capitalize": .string(text.capitalized)
        case "casefold":
            // Case folding differs from lower case in few letters; of those only these two are common.
            .string(
                text.lowercased.replacing("\u{DF}", with: "ss").replacing(
                    "\u{3C2}", with: "\u{3C3}"))
        case "lower": .string(text.lowercased)
        case "upper": .string(text.uppercased)
        case "title": .string(text.titlecased)
        case "swapcase": .string(text.caseSwapped)
        case "isalnum": .bool(text.all { $0.isAlphanumeric })
        case "isalpha": .bool(text.all { $0.isLetter })
        case "isascii": .bool(text.isASCII)
        case "isdecimal": .bool(text.all { $0.isDecimal })
        case "isdigit": .bool(text.all { $0.isDigit })
        case "isnumeric": .bool(text.all { $0.properties.numericType != nil })
        case "isidentifier": .bool(isIdentifier)
        case "isprintable": .bool(text.scalars.allSatisfy { $0.isPrintable })
        case "isspace": .bool(text.all { $0.isPythonSpace })
        case "islower": .bool(text.isLower)
        case "isupper": .bool(text.isUpper)
        default: .bool(text.isTitlecased)
        }
    }

    private var isIdentifier: Bool {
        let scalars = text.scalars
        guard let first = scalars.first, first == "_" || first.properties.isIDStart else {
            return false
        }
        return scalars.allSatisfy { $0.properties.isIDContinue }
    }

    private func list(_ parts: [Text]) throws(TemplateError) -> Value {
        try interpreter.spend(bytes: text.utf8.count + parts.count * 64)
        return .list(parts.map { .string($0) })
    }

    private func split() throws(TemplateError) -> Value {
        let bound = try bound(["sep", "maxsplit"])
        let limit = try bound.integer(1, initially: -1, interpreter)
        let isFromRight = name == "rsplit"
        guard let separator = try bound.optionalText(0, interpreter) else {
            return try list(text.splitAtSpace(limit: limit, fromRight: isFromRight))
        }
        if separator.isEmpty { throw interpreter.fail("'\(name)' at an empty separator") }
        return try list(text.split(by: separator, limit: limit, fromRight: isFromRight))
    }

    private func join() throws(TemplateError) -> Value {
        var result = Text(isMarkup: text.isMarkup)
        var isFirst = true
        let cursor = try interpreter.cursor(over: try bound(["iterable"], 1)[0] ?? .none)
        while let value = try cursor.next(interpreter) {
            guard let part = value.text else {
                if text.isMarkup {
                    if !isFirst { result.append(text) }
                    result.append(try interpreter.string(value).escaped)
                    isFirst = false
                    continue
                }
                throw interpreter.fail("'join' of a value of type \(value.typeName)")
            }
            if !isFirst { result.append(text) }
            isFirst = false
            result.append(text.isMarkup && !part.isMarkup ? part.escaped : part)
            if result.utf8.count > interpreter.limits.bytes {
                try interpreter.spend(bytes: result.utf8.count)
            }
        }
        return .string(result)
    }

    private func replace() throws(TemplateError) -> Value {
        let bound = try bound(["old", "new", "count"], 2)
        let old = try bound.text(0, initially: "", interpreter)
        var new = try bound.text(1, initially: "", interpreter)
        if text.isMarkup, !new.isMarkup { new = new.escaped }
        let limit = try bound.integer(2, initially: -1, interpreter)
        return .string(try interpreter.replace(text, old, new, limit))
    }

    private func hasAffix() throws(TemplateError) -> Bool {
        let bound = try bound([name == "startswith" ? "prefix" : "suffix", "start", "end"], 1)
        var text = text
        if bound[1] != nil || bound[2] != nil {
            let range = Swift.Range(
                boundsOf: text.count, try bound.integer(1, initially: 0, interpreter),
                try bound.integer(2, initially: Int.max, interpreter))
            text = text.slice(range)
        }
        var affixes: [Value] = [bound[0] ?? .none]
        if case .tuple(let items) = bound[0] { affixes = items.values }
        for affix in affixes {
            guard let affix = affix.text else {
                throw interpreter.fail(
                    "'\(name)' asks for a string or a tuple of strings, and not \(affix.typeName)")
            }
            if name == "startswith" ? text.hasPrefix(affix) : text.hasSuffix(affix) { return true }
        }
        return false
    }

    private func search() throws(TemplateError) -> Value {
        let bound = try bound(["sub", "start", "end"], 1)
        let wanted = try bound.text(0, initially: "", interpreter)
        var offset = 0
        var text = text
        if bound[1] != nil || bound[2] != nil {
            let start = try bound.integer(1, initially: 0, interpreter)
            if start > text.count {
                if name == "count" { return .integer(0) }
                if name == "find" || name == "rfind" { return .integer(-1) }
                throw interpreter.fail("'\(name)' of a string that is not there")
            }
            let range = Swift.Range(
                boundsOf: text.count, start, try bound.integer(2, initially: Int.max, interpreter))
            offset = range.lowerBound
            text = text.slice(range)
        }
        if name == "count" { return .integer(text.occurrences(of: wanted)) }
        let place = name.hasPrefix("r") ? text.findLast(wanted) : text.find(wanted)
        guard let place else {
            if name == "find" || name == "rfind" { return .integer(-1) }
            throw interpreter.fail("'\(name)' of a string that is not there")
        }
        return .integer(offset + text.scalarCount(upTo: place))
    }

    private func justify() throws(TemplateError) -> Value {
        let bound = try bound(["width", "fillchar"], 1)
        let width = try bound.integer(0, initially: 0, interpreter)
        let fill = try bound.text(1, initially: " ", interpreter)
        if fill.count != 1 { throw interpreter.fail("'\(name)' fills with one character") }
        return .string(
            try interpreter.padded(
                text, to: width, with: fill,
                alignment: name == "center" ? .center : name == "ljust" ? .left : .right))
    }

    private func fillWithZeros() throws(TemplateError) -> Value {
        let width = try bound(["width"], 1).integer(0, initially: 0, interpreter)
        let hasSign = text.hasPrefix("+") || text.hasPrefix("-")
        let sign = text.bytes(0..<(hasSign ? 1 : 0))
        let rest = text.bytes((hasSign ? 1 : 0)..<text.utf8.count)
        let padded = try interpreter.padded(
            rest, to: width - (hasSign ? 1 : 0), with: "0", alignment: .right)
        return .string((sign + padded).marked(like: text))
    }

    private func partition() throws(TemplateError) -> Value {
        let separator = try bound(["sep"], 1).text(0, initially: "", interpreter)
        if separator.isEmpty { throw interpreter.fail("'\(name)' at an empty separator") }
        let isFromRight = name == "rpartition"
        let place = isFromRight ? text.findLast(separator) : text.find(separator)
        let empty = Text(isMarkup: text.isMarkup)
        guard let place else {
            let parts = isFromRight ? [empty, empty, text] : [text, empty, empty]
            return .tuple(parts.map { .string($0) })
        }
        let end = place + separator.utf8.count
        return .tuple([
            .string(text.bytes(0..<place)), .string(text.bytes(place..<end)),
            .string(text.bytes(end..<text.utf8.count)),
        ])
    }
}

enum Alignment { case left, right, center }

extension Interpreter {
    /// `text` made `width` code points wide.
    func padded(
        _ text: Text, to width: Int, with fill: Text, alignment: Alignment
    ) throws(TemplateError) -> Text {
        let count = text.count
        guard width > count else { return text }
        let missing = width - count
        try spend(bytes: fill.utf8.count, times: missing)
        // Python's way of centering: the odd one goes left of a text of even length.
        let left =
            switch alignment {
            case .left: 0
            case .right: missing
            case .center: missing / 2 + (missing & width & 1)
            }
        return (Text.repeating(fill, left) + text + Text.repeating(fill, missing - left))
            .marked(like: text)
    }

    func replace(
        _ text: Text, _ old: Text, _ new: Text, _ limit: Int
    ) throws(TemplateError) -> Text {
        if new.utf8.count > old.utf8.count {
            let count = text.occurrences(of: old)
            try spend(
                bytes: new.utf8.count, times: limit < 0 ? count : min(count, limit))
        }
        return text.replacing(old, with: new, limit: limit)
    }
}
