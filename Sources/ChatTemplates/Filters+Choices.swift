// Filters that look things up, choose among elements or apply another filter.

extension Filters {
    static let choices: [String: Filter] = [
        "attr": Filter(["name"], required: 1) {
            interpreter, value, arguments throws(TemplateError) in
            let name = try arguments.text(0, initially: "", interpreter).string
            // Entries of a dictionary are no attributes here.
            if case .dictionary(let dict) = value, dict[name] != nil,
                !Methods.names(of: value).contains(name), !Methods.isForbidden(name, of: value)
            {
                return .undefined(Undefined("'dict object' has no attribute '\(name)'"))
            }
            return try interpreter.attribute(name, of: value)
        },
        "d": fallback, "default": fallback,
        "map": Filter(nil) { interpreter, value, arguments throws(TemplateError) in
            let transform = try mapping(arguments.all, interpreter)
            return try chosen("sync_do_map", value, interpreter) {
                interpreter, element throws(TemplateError) in
                try transform(interpreter, element)
            }
        },
        "select": selection("sync_do_select", isWanted: true, byAttribute: false),
        "reject": selection("sync_do_reject", isWanted: false, byAttribute: false),
        "selectattr": selection("sync_do_selectattr", isWanted: true, byAttribute: true),
        "rejectattr": selection("sync_do_rejectattr", isWanted: false, byAttribute: true),
    ]

    private static let fallback = Filter(["default_value", "boolean"]) { _, value, arguments in
        let isMissing = value.isUndefined || arguments.isTrue(1) && !value.isTrue
        return isMissing ? arguments[0] ?? Value("") : value
    }

    private typealias Transform = (Interpreter, Value) throws(TemplateError) -> Value?

    /// The elements for which `transform` gives a value. Nothing is computed of what is false, whatever its type.
    private static func chosen(
        _ name: String, _ value: Value, _ interpreter: Interpreter,
        _ transform: @escaping Transform
    ) throws(TemplateError) -> Value {
        guard value.isTrue else { return generator(name, []) }
        // A sequence that is none shows only when the first element is asked for.
        var cursor: Cursor?
        return .generator(
            Generator(name, depth: value.depth + 1) { interpreter throws(TemplateError) in
                let source = if let cursor { cursor } else { try interpreter.cursor(over: value) }
                cursor = source
                while let element = try source.next(interpreter) {
                    try interpreter.spend()
                    if let result = try transform(interpreter, element) { return result }
                }
                return nil
            })
    }

    private static func mapping(
        _ arguments: Arguments, _ interpreter: Interpreter
    ) throws(TemplateError) -> Transform {
        var arguments = arguments
        if arguments.positional.isEmpty, let attribute = arguments.take("attribute") {
            let initial = arguments.take("default")
            if let keyword = arguments.keywords.first {
                throw interpreter.fail("'map' has no parameter '\(keyword.name)'")
            }
            let path = AttributePath(attribute)
            return { interpreter, element throws(TemplateError) in
                try path.value(of: element, default: initial, interpreter)
            }
        }
        guard let filter = arguments.positional.first else {
            throw interpreter.fail("'map' without a filter or attribute")
        }
        arguments.positional.removeFirst()
        let rest = arguments
        return { interpreter, element throws(TemplateError) in
            guard let name = filter.text?.string else {
                throw interpreter.fail("'map' by a value of type \(filter.typeName)")
            }
            return try interpreter.apply(filter: name, to: element, rest)
        }
    }

    private static func selection(
        _ name: String, isWanted: Bool, byAttribute: Bool
    ) -> Filter {
        Filter(nil) { interpreter, value, bound throws(TemplateError) in
            var arguments = bound.all
            var path = AttributePath(nil)
            if byAttribute {
                guard let attribute = arguments.positional.first else {
                    // Like all that is lazy, this error waits for the first element.
                    if !value.isTrue { return generator(name, []) }
                    throw interpreter.fail("a filter by attribute without the attribute's name")
                }
                path = AttributePath(attribute)
                arguments.positional.removeFirst()
            }
            let test = arguments.positional.first
            if test != nil { arguments.positional.removeFirst() }
            let rest = arguments
            return try chosen(name, value, interpreter) {
                interpreter, element throws(TemplateError) in
                let tested = try path.value(of: element, interpreter)
                var isTrue = tested.isTrue
                if let test {
                    guard let name = test.text?.string else {
                        throw interpreter.fail("a test of type \(test.typeName)")
                    }
                    isTrue = try interpreter.apply(test: name, to: tested, rest)
                }
                return isTrue == isWanted ? element : nil
            }
        }
    }
}
