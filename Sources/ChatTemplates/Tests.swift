/// A test: what follows `is`.
struct Test: Sendable {
    typealias Body =
        @Sendable (Interpreter, Value, BoundArguments) throws(TemplateError) -> Bool

    let parameters: [String]
    let body: Body

    init(_ parameters: [String] = [], _ body: @escaping Body) {
        self.parameters = parameters
        self.body = body
    }
}

/// Jinja's tests (tests.py).
enum Tests {
    static let table: [String: Test] = kinds.merging(comparisons) { one, _ in one }

    private static let kinds: [String: Test] = [
        "defined": Test { _, value, _ in !value.isUndefined },
        "undefined": Test { _, value, _ in value.isUndefined },
        "none": Test { _, value, _ in value.isNone },
        "boolean": Test { _, value, _ in if case .bool = value { true } else { false } },
        "true": Test { _, value, _ in if case .bool(true) = value { true } else { false } },
        "false": Test { _, value, _ in if case .bool(false) = value { true } else { false } },
        "integer": Test { _, value, _ in if case .integer = value { true } else { false } },
        "float": Test { _, value, _ in if case .float = value { true } else { false } },
        "number": Test { _, value, _ in value.number != nil },
        "string": Test { _, value, _ in value.text != nil },
        "mapping": Test { _, value, _ in if case .dictionary = value { true } else { false } },
        "escaped": Test { _, value, _ in value.text?.isMarkup == true },
        "lower": Test { interpreter, value, _ throws(TemplateError) in
            try interpreter.string(value).isLower
        },
        "upper": Test { interpreter, value, _ throws(TemplateError) in
            try interpreter.string(value).isUpper
        },
        "sequence": Test { _, value, _ in
            switch value {
            case .string, .list, .tuple, .dictionary, .range: true
            // Undefined has a length, and nothing in it, but `__getitem__` too.
            case .undefined: true
            default: false
            }
        },
        "iterable": Test { _, value, _ in
            switch value {
            case .undefined, .string, .list, .tuple, .dictionary, .view, .range, .generator, .loop:
                true
            default: false
            }
        },
        "callable": Test { _, value, _ in
            switch value {
            case .macro, .function, .method, .joiner, .loop, .undefined: true
            default: false
            }
        },
        "filter": Test { _, value, _ in value.text.map { Filters.table[$0.string] != nil } ?? false
        },
        "test": Test { _, value, _ in value.text.map { Tests.table[$0.string] != nil } ?? false },
        "odd": Test { interpreter, value, _ throws(TemplateError) in
            let rest = try interpreter.binary(.modulo, value, .integer(2))
            return try interpreter.areEqual(rest, .integer(1))
        },
        "even": Test { interpreter, value, _ throws(TemplateError) in
            let rest = try interpreter.binary(.modulo, value, .integer(2))
            return try interpreter.areEqual(rest, .integer(0))
        },
        "divisibleby": Test(["num"]) { interpreter, value, arguments throws(TemplateError) in
            let rest = try interpreter.binary(.modulo, value, arguments[0] ?? .none)
            return try interpreter.areEqual(rest, .integer(0))
        },
        "sameas": Test(["other"]) { _, value, arguments in
            isSame(value, arguments[0] ?? .none)
        },
    ]

    private static let comparisons: [String: Test] = {
        var table: [String: Test] = [:]
        let names: [(Expression.Comparison, [String])] = [
            (.equal, ["==", "eq", "equalto"]), (.notEqual, ["!=", "ne"]),
            (.greater, [">", "gt", "greaterthan"]), (.greaterOrEqual, [">=", "ge"]),
            (.less, ["<", "lt", "lessthan"]), (.lessOrEqual, ["<=", "le"]), (.isIn, ["in"]),
        ]
        for (comparison, names) in names {
            for name in names {
                table[name] = Test(["other"]) {
                    interpreter, value, arguments throws(TemplateError) in
                    try interpreter.compare(comparison, value, arguments[0] ?? .none)
                }
            }
        }
        return table
    }()

    /// Python's `is`, as far as templates can rely on it: small integers and equal literals are one object.
    private static func isSame(_ one: Value, _ other: Value) -> Bool {
        switch (one, other) {
        case (.none, .none): true
        case (.bool(let one), .bool(let other)): one == other
        case (.integer(let one), .integer(let other)): one == other
        case (.string(let one), .string(let other)): one == other && one.isMarkup == other.isMarkup
        case (.list(let one), .list(let other)): one === other
        case (.tuple(let one), .tuple(let other)):
            one === other || one.values.isEmpty && other.values.isEmpty
        case (.dictionary(let one), .dictionary(let other)): one === other
        case (.undefined(let one), .undefined(let other)): one === other
        case (.namespace(let one), .namespace(let other)): one === other
        case (.macro(let one), .macro(let other)): one === other
        case (.function(let one), .function(let other)): one == other
        default: false
        }
    }
}
