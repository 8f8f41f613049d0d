/// The way to a part of a value, such as `function.name` or `0.id`: what filters call an attribute.
struct AttributePath {
    private let parts: [Value]

    init(_ attribute: Value?) {
        switch attribute {
        case nil, .some(.none): parts = []
        case .string(let text):
            parts = text.split(by: ".", limit: -1, fromRight: false).map { part in
                if part.all({ $0.isDigit }), let index = Int(part.string) {
                    .integer(index)
                } else {
                    .string(part)
                }
            }
        case let value?: parts = [value]
        }
    }

    func value(
        of value: Value, default initial: Value? = nil, _ interpreter: Interpreter
    ) throws(TemplateError) -> Value {
        var value = value
        for part in parts {
            value = try interpreter.item(part, of: value)
            if value.isUndefined, let initial, !initial.isNone { value = initial }
        }
        return value
    }
}

extension Filters {
    /// What strings are compared by where case does not matter.
    private static func folded(_ value: Value, _ isCaseSensitive: Bool) -> Value {
        if !isCaseSensitive, case .string(let text) = value {
            .string(text.lowercased)
        } else {
            value
        }
    }

    static let sequences: [String: Filter] = [
        "batch": Filter(["linecount", "fill_with"], required: 1) {
            interpreter, value, arguments throws(TemplateError) in
            let size = try arguments.integer(0, initially: 1, interpreter)
            var batches: [Value] = []
            var batch: [Value] = []
            for element in try interpreter.elements(of: value) {
                if batch.count == size {
                    batches.append(try interpreter.made(.list(batch)))
                    batch = []
                }
                batch.append(element)
            }
            if !batch.isEmpty {
                if let fill = arguments[1], !fill.isNone, batch.count < size {
                    try interpreter.spend(bytes: 16, times: size - batch.count)
                    batch += Array(repeating: fill, count: size - batch.count)
                }
                batches.append(try interpreter.made(.list(batch)))
            }
            return generator("do_batch", batches)
        },
        "slice": Filter(["slices", "fill_with"], required: 1) {
            interpreter, value, arguments throws(TemplateError) in
            let slices = try arguments.integer(0, initially: 1, interpreter)
            let elements = try interpreter.elements(of: value)
            if slices == 0 { throw interpreter.fail("'slice' into no slices") }
            try interpreter.spend(bytes: 96, times: slices)
            var result: [Value] = []
            var start = 0
            for index in 0..<max(slices, 0) {
                let hasExtra = index < elements.count % slices
                let end = start + elements.count / slices + (hasExtra ? 1 : 0)
                var part = Array(elements[start..<end])
                if let fill = arguments[1], !fill.isNone, !hasExtra { part.append(fill) }
                result.append(.list(part))
                start = end
            }
            return generator("sync_do_slice", result)
        },
        "count": Filter { interpreter, value, _ throws(TemplateError) in
            .integer(try interpreter.count(of: value))
        },
        "length": Filter { interpreter, value, _ throws(TemplateError) in
            .integer(try interpreter.count(of: value))
        },
        "dictsort": Filter(["case_sensitive", "by", "reverse"]) {
            interpreter, value, arguments throws(TemplateError) in
            guard case .dictionary(let dict) = value else {
                try interpreter.checkDefined(value)
                throw interpreter.fail("'dictsort' of a value of type \(value.typeName)")
            }
            let by = try arguments.text(1, initially: "key", interpreter).string
            guard by == "key" || by == "value" else {
                throw interpreter.fail("'dictsort' by '\(by)', and not by key or value")
            }
            let isCaseSensitive = arguments.isTrue(0)
            let sorted = try interpreter.sorted(dict.pairs, reversed: arguments.isTrue(2)) { pair in
                guard case .tuple(let items) = pair else { return pair }
                return folded(items.values[by == "key" ? 0 : 1], isCaseSensitive)
            }
            return .list(sorted)
        },
        "first": Filter { interpreter, value, _ throws(TemplateError) in
            try interpreter.cursor(over: value).next(interpreter)
                ?? .undefined(Undefined("No first item, sequence was empty."))
        },
        "last": Filter { interpreter, value, _ throws(TemplateError) in
            if case .generator = value { throw interpreter.fail("'last' of a generator") }
            return try interpreter.elements(of: value).last
                ?? .undefined(Undefined("No last item, sequence was empty."))
        },
        "random": Filter { interpreter, value, _ throws(TemplateError) in
            if case .generator = value { throw interpreter.fail("'random' of a generator") }
            return try interpreter.elements(of: value).randomElement()
                ?? .undefined(Undefined("No random item, sequence was empty."))
        },
        "groupby": Filter(["attribute", "default", "case_sensitive"], required: 1) {
            interpreter, value, arguments throws(TemplateError) in
            let path = AttributePath(arguments[0])
            let isCaseSensitive = arguments.isTrue(2)
            func key(_ element: Value) throws(TemplateError) -> Value {
                folded(
                    try path.value(of: element, default: arguments[1], interpreter),
                    isCaseSensitive)
            }
            var groups: [(key: Value, elements: [Value])] = []
            for element in try interpreter.sorted(try interpreter.elements(of: value), by: key) {
                let key = try key(element)
                if let last = groups.last, try interpreter.areEqual(last.key, key) {
                    groups[groups.count - 1].elements.append(element)
                } else {
                    groups.append((key, [element]))
                }
            }
            var result: [Value] = []
            for group in groups {
                // The group is called as its first element is, in its own case.
                let name = try path.value(
                    of: group.elements[0], default: arguments[1], interpreter)
                let elements = try interpreter.made(.list(group.elements))
                result.append(.tuple(Items([name, elements], isGroup: true)))
            }
            return .list(result)
        },
        "items": Filter { interpreter, value, _ throws(TemplateError) in
            switch value {
            case .undefined: return generator("do_items", [])
            case .dictionary(let dict): return generator("do_items", dict.pairs)
            default: throw interpreter.fail("'items' of a value of type \(value.typeName)")
            }
        },
        "join": Filter(["d", "attribute"]) { interpreter, value, arguments throws(TemplateError) in
            let separator = try interpreter.string(arguments[0] ?? Value(""))
            let path = AttributePath(arguments[1])
            var result = Text()
            var isFirst = true
            let cursor = try interpreter.cursor(over: value)
            while let element = try cursor.next(interpreter) {
                try interpreter.spend()
                if !isFirst { result.append(separator) }
                isFirst = false
                result.append(try interpreter.string(try path.value(of: element, interpreter)))
                if result.utf8.count > interpreter.limits.bytes {
                    try interpreter.spend(bytes: result.utf8.count)
                }
            }
            return .string(result)
        },
        "list": Filter { interpreter, value, _ throws(TemplateError) in
            if case .list = value { return value }
            return .list(try interpreter.elements(of: value))
        },
        "max": extreme { $0 > 0 },
        "min": extreme { $0 < 0 },
        "reverse": Filter { interpreter, value, _ throws(TemplateError) in
            if case .string(let text) = value {
                return .string(Text(text.scalars.reversed()).marked(like: text))
            }
            return generator("reversed", try interpreter.elements(of: value).reversed())
        },
        "sort": Filter(["reverse", "case_sensitive", "attribute"]) {
            interpreter, value, arguments throws(TemplateError) in
            let isCaseSensitive = arguments.isTrue(1)
            var paths = [AttributePath(arguments[2])]
            if let text = arguments[2]?.text {
                paths = text.split(by: ",", limit: -1, fromRight: false).map {
                    AttributePath(.string($0))
                }
            }
            let sorted = try interpreter.sorted(
                try interpreter.elements(of: value), reversed: arguments.isTrue(0)
            ) { (element) throws(TemplateError) in
                var keys: [Value] = []
                for path in paths {
                    keys.append(folded(try path.value(of: element, interpreter), isCaseSensitive))
                }
                return keys.count == 1 ? keys[0] : .list(keys)
            }
            return .list(sorted)
        },
        "unique": Filter(["case_sensitive", "attribute"]) {
            interpreter, value, arguments throws(TemplateError) in
            let path = AttributePath(arguments[1])
            let isCaseSensitive = arguments.isTrue(0)
            let cursor = try interpreter.cursor(over: value)
            var seen: Set<Key> = []
            return .generator(
                Generator("sync_do_unique", depth: value.depth + 1) {
                    interpreter throws(TemplateError) in
                    while let element = try cursor.next(interpreter) {
                        let key = folded(
                            try path.value(of: element, interpreter), isCaseSensitive)
                        if seen.insert(try interpreter.key(of: key)).inserted { return element }
                    }
                    return nil
                })
        },
    ]

    /// Elements that have been computed, to be given out once.
    static func generator(_ name: String, _ elements: [Value]) -> Value {
        let cursor = Cursor(elements)
        let depth = elements.reduce(0) { max($0, $1.depth) } + 1
        return .generator(
            Generator(name, depth: depth) { interpreter throws(TemplateError) in
                try cursor.next(interpreter)
            })
    }

    private static func extreme(_ isBetter: @escaping @Sendable (Int) -> Bool) -> Filter {
        Filter(["case_sensitive", "attribute"]) {
            interpreter, value, arguments throws(TemplateError) in
            let path = AttributePath(arguments[1])
            let isCaseSensitive = arguments.isTrue(0)
            let cursor = try interpreter.cursor(over: value)
            var best: (key: Value, element: Value)?
            while let element = try cursor.next(interpreter) {
                let key = folded(try path.value(of: element, interpreter), isCaseSensitive)
                if let known = best {
                    guard let order = try interpreter.order(key, known.key), isBetter(order) else {
                        continue
                    }
                }
                best = (key, element)
            }
            return best?.element
                ?? .undefined(Undefined("No aggregated item, sequence was empty."))
        }
    }
}
