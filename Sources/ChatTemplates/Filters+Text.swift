extension Filters {
    static let texts: [String: Filter] = [
        "capitalize": text { $0.capitalized },
        "lower": text { $0.lowercased },
        "upper": text { $0.uppercased },
        "title": text { titled($0) },
        "string": text { $0 },
        "e": text { $0.isMarkup ? $0 : $0.escaped },
        "escape": text { $0.isMarkup ? $0 : $0.escaped },
        "forceescape": text { $0.escaped },
        "safe": text { Text(utf8: $0.utf8, isMarkup: true) },
        "striptags": text { stripped($0) },
        "wordcount": Filter { interpreter, value, _ throws(TemplateError) in
            var count = 0
            var isInWord = false
            for scalar in try interpreter.softText(value).scalars {
                if scalar.isWord, !isInWord { count += 1 }
                isInWord = scalar.isWord
            }
            return .integer(count)
        },
        "center": Filter(["width"]) { interpreter, value, arguments throws(TemplateError) in
            let width = try arguments.integer(0, initially: 80, interpreter)
            return .string(
                try interpreter.padded(
                    try interpreter.softText(value), to: width, with: " ", alignment: .center))
        },
        "trim": Filter(["chars"]) { interpreter, value, arguments throws(TemplateError) in
            let text = try interpreter.softText(value)
            return .string(text.stripped(try arguments.optionalText(0, interpreter)))
        },
        "replace": Filter(["old", "new", "count"], required: 2) {
            interpreter, value, arguments throws(TemplateError) in
            var limit = -1
            if let count = arguments[2], !count.isNone {
                limit = try arguments.integer(2, initially: -1, interpreter)
            }
            return .string(
                try interpreter.replace(
                    try interpreter.string(value), try interpreter.string(arguments[0] ?? .none),
                    try interpreter.string(arguments[1] ?? .none), limit))
        },
        "format": Filter(nil) { interpreter, value, bound throws(TemplateError) in
            let arguments = bound.all
            if !arguments.positional.isEmpty, !arguments.keywords.isEmpty {
                throw interpreter.fail("'format' with arguments with and without names")
            }
            var values = Value.tuple(arguments.positional)
            if !arguments.keywords.isEmpty {
                let dict = Dict()
                for keyword in arguments.keywords { dict.set(keyword.name, to: keyword.value) }
                values = .dictionary(dict)
            }
            return .string(
                try interpreter.percentFormat(try interpreter.softText(value), values))
        },
        "indent": Filter(["width", "first", "blank"]) {
            interpreter, value, arguments throws(TemplateError) in
            .string(try indented(interpreter, value, arguments))
        },
        "truncate": Filter(["length", "killwords", "end", "leeway"]) {
            interpreter, value, arguments throws(TemplateError) in
            try truncated(interpreter, value, arguments)
        },
        "wordwrap": Filter(["width", "break_long_words", "wrapstring", "break_on_hyphens"]) {
            interpreter, value, arguments throws(TemplateError) in
            let text = try interpreter.requiredText(value, "wordwrap")
            let width = try arguments.integer(0, initially: 79, interpreter)
            if width <= 0 { throw interpreter.fail("'wordwrap' to a width of \(width)") }
            let wrapping = Wrapping(
                width: width, breaksLongWords: arguments.isTrue(1, initially: true),
                breaksOnHyphens: arguments.isTrue(3, initially: true))
            let end = try arguments.optionalText(2, interpreter) ?? "\n"
            var result = Text()
            for (index, line) in text.lines().enumerated() {
                if index > 0 { result.append(end) }
                let lines = wrapping.lines(of: line)
                try interpreter.spend(bytes: end.utf8.count, times: lines.count)
                for (index, part) in lines.enumerated() {
                    if index > 0 { result.append(end) }
                    result.append(part)
                }
            }
            return .string(result)
        },
        "urlencode": Filter { interpreter, value, _ throws(TemplateError) in
            .string(try URLQuoting.query(of: value, interpreter))
        },
        "urlize": Filter(nil) { interpreter, _, _ throws(TemplateError) in
            throw interpreter.fail("'urlize' makes links for web pages, and is not supported")
        },
        "xmlattr": Filter(["autospace"]) { interpreter, value, arguments throws(TemplateError) in
            guard case .dictionary(let dict) = value else {
                try interpreter.checkDefined(value)
                throw interpreter.fail("'xmlattr' of a value of type \(value.typeName)")
            }
            var result = Text()
            for (key, value) in zip(dict.keys, dict.values) {
                if value.isNone || value.isUndefined { continue }
                guard let name = key.text,
                    !name.utf8.contains(where: { " \t\n\r\u{0B}\u{0C}/>=".utf8.contains($0) })
                else { throw interpreter.fail("'xmlattr' with a name that is none") }
                if !result.isEmpty { result.append(" ") }
                let text = try interpreter.softText(value)
                result.append(name.isMarkup ? name : name.escaped)
                result.append("=\"")
                result.append(text.isMarkup ? text : text.escaped)
                result.append("\"")
            }
            let hasSpace = !result.isEmpty && arguments.isTrue(0, initially: true)
            return .string(hasSpace ? Text(" ") + result : result)
        },
        "pprint": Filter { interpreter, value, _ throws(TemplateError) in
            .string(try PrettyPrinting.text(of: value, interpreter))
        },
        "tojson": Filter(["ensure_ascii", "indent", "separators", "sort_keys"]) {
            interpreter, value, arguments throws(TemplateError) in
            .string(try json(interpreter, value, arguments))
        },
    ]

    /// A filter without parameters of what a value is as text.
    private static func text(_ body: @escaping @Sendable (Text) -> Text) -> Filter {
        Filter { interpreter, value, _ throws(TemplateError) in
            let text = try interpreter.softText(value)
            try interpreter.spend(steps: text.utf8.count / 8)
            return .string(body(text))
        }
    }

    /// Jinja's own title case: words begin after white space, hyphens and opening brackets.
    private static func titled(_ text: Text) -> Text {
        var result = Text()
        var word: [Unicode.Scalar] = []
        func flush() {
            guard let first = word.first else { return }
            result.append(Text([first]).uppercased)
            result.append(Text(word.dropFirst()).lowercased)
            word = []
        }
        for scalar in text.scalars {
            if scalar.isPythonSpace || ["-", "(", "{", "[", "<"].contains(scalar) {
                flush()
                result.append(scalar)
            } else {
                word.append(scalar)
            }
        }
        flush()
        return result
    }

    /// Without tags and comments, runs of white space as one space, and HTML's commonest references resolved.
    private static func stripped(_ text: Text) -> Text {
        var kept = Text()
        var place = 0
        while let start = text.find("<", from: place) {
            let isComment = text.bytes(start..<text.utf8.count).hasPrefix("<!--")
            let end =
                isComment
                ? text.find("-->", from: start + 4).map { $0 + 3 }
                : text.find(">", from: start).map { $0 + 1 }
            guard let end else { break }
            kept.append(text.bytes(place..<start))
            place = end
        }
        kept.append(text.bytes(place..<text.utf8.count))
        var result = Text()
        for (index, word) in kept.splitAtSpace(limit: -1, fromRight: false).enumerated() {
            if index > 0 { result.append(" ") }
            result.append(word)
        }
        let references: [(Text, Text)] = [
            ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#34;", "\""), ("&#39;", "'"),
            ("&nbsp;", "\u{A0}"), ("&amp;", "&"),
        ]
        for (reference, character) in references {
            result = result.replacing(reference, with: character)
        }
        return result
    }

    private static func indented(
        _ interpreter: Interpreter, _ value: Value, _ arguments: BoundArguments
    ) throws(TemplateError) -> Text {
        let text = try interpreter.requiredText(value, "indent")
        var indent: Text
        if let string = arguments[0]?.text {
            indent = string
        } else {
            let width = try arguments.integer(0, initially: 4, interpreter)
            try interpreter.spend(bytes: 1, times: width)
            indent = Text.repeating(" ", width)
        }
        if text.isMarkup, !indent.isMarkup { indent = indent.escaped }
        // With a line feed at the end, so that an empty last line counts.
        let lines = (text + "\n").lines()
        try interpreter.spend(bytes: indent.utf8.count, times: lines.count)
        let indentsBlank = arguments.isTrue(2)
        var result = Text(isMarkup: text.isMarkup)
        if arguments.isTrue(1) { result.append(indent) }
        for (index, line) in lines.enumerated() {
            if index > 0 {
                result.append("\n")
                if indentsBlank || !line.isEmpty { result.append(indent) }
            }
            result.append(line)
        }
        return result
    }

    private static func truncated(
        _ interpreter: Interpreter, _ value: Value, _ arguments: BoundArguments
    ) throws(TemplateError) -> Value {
        let text = try interpreter.requiredText(value, "truncate")
        let length = try arguments.integer(0, initially: 255, interpreter)
        let end = try arguments.text(2, initially: "...", interpreter)
        var leeway = 5
        if let some = arguments[3], !some.isNone {
            leeway = try arguments.integer(3, initially: 5, interpreter)
        }
        let room = length - end.count
        if room < 0 || leeway < 0 {
            throw interpreter.fail("'truncate' to less than its end takes")
        }
        if text.count <= length &+ leeway { return .string(text) }
        var kept = text.slice(0..<min(room, text.count))
        if !arguments.isTrue(1), let space = kept.findLast(" ") { kept = kept.bytes(0..<space) }
        return .string((kept + end).marked(like: text))
    }

    private static func json(
        _ interpreter: Interpreter, _ value: Value, _ arguments: BoundArguments
    ) throws(TemplateError) -> Text {
        var format = JSONText()
        format.onlyASCII = arguments.isTrue(0)
        format.sortsKeys = arguments.isTrue(3)
        switch arguments[1] {
        case nil, .some(.none): break
        case .string(let text)?: format.indent = text
        default:
            let width = try arguments.integer(1, initially: 0, interpreter)
            if width > 1024 { throw interpreter.fail("'tojson' with an indent of \(width)") }
            format.indent = Text.repeating(" ", width)
        }
        if format.indent != nil { format.itemSeparator = "," }
        if let separators = arguments[2], !separators.isNone {
            let parts = try interpreter.elements(of: separators)
            guard parts.count == 2, let item = parts[0].text, let key = parts[1].text else {
                throw interpreter.fail("'tojson' with separators that are not two strings")
            }
            format.itemSeparator = item
            format.keySeparator = key
        }
        return try format.text(of: value, interpreter)
    }
}

extension Interpreter {
    /// The text of filters that do not print what is no string.
    func requiredText(_ value: Value, _ filter: String) throws(TemplateError) -> Text {
        guard let text = value.text else {
            try checkDefined(value)
            throw fail("'\(filter)' of a value of type \(value.typeName)")
        }
        return text
    }
}
