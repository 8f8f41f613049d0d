extension Interpreter {
    func call(_ function: Value, _ arguments: Arguments) throws(TemplateError) -> Value {
        try spend()
        switch function {
        case .undefined(let undefined): throw fail(undefined.hint)
        case .macro(let macro): return try call(macro, arguments)
        case .function(let name): return try made(try Functions.call(name, arguments, self))
        case .method(let method):
            return try made(try Methods.call(method.name, of: method.receiver, arguments, self))
        case .loop(let loop):
            let bound = try arguments.bound(
                to: ["iterable"], required: 1, of: "'loop'", self)
            return try loop.recurse(over: bound[0] ?? .none, self)
        case .joiner(let joiner):
            _ = try arguments.bound(to: [], required: 0, of: "a joiner", self)
            defer { joiner.isUsed = true }
            return joiner.isUsed ? joiner.separator : Value("")
        default: throw fail("a value of type \(function.typeName) cannot be called")
        }
    }

    private func call(_ macro: Macro, _ given: Arguments) throws(TemplateError) -> Value {
        let parameters = macro.definition.parameters
        var arguments = given
        let inner = Frame(parent: macro.frame)
        enter(inner, macro.definition.body.id)
        var unset: [Statement.Parameter] = []
        for (index, parameter) in parameters.enumerated() {
            if index < arguments.positional.count {
                inner.set(parameter.name, to: arguments.positional[index])
            } else if let value = arguments.take(parameter.name) {
                inner.set(parameter.name, to: value)
            } else {
                inner.set(parameter.name, to: .missing)
                unset.append(parameter)
            }
        }
        try setSpecials(of: macro, &arguments, in: inner)
        let text = try deeper { () throws(TemplateError) in
            try within(inner) { () throws(TemplateError) in
                for parameter in unset {
                    let value =
                        if let initial = parameter.initial {
                            try evaluate(initial)
                        } else {
                            Value.undefined(
                                Undefined("parameter '\(parameter.name)' was not provided"))
                        }
                    inner.set(parameter.name, to: value)
                }
                return try capture { () throws(TemplateError) in
                    try execute(macro.definition.body.body)
                }.text
            }
        }
        return .string(text)
    }

    /// Gives `caller`, `kwargs` and `varargs` their values, and refuses arguments that nothing takes.
    private func setSpecials(
        of macro: Macro, _ arguments: inout Arguments, in inner: Frame
    ) throws(TemplateError) {
        let name = macro.definition.name
        if macro.specials.contains("caller") {
            let caller = arguments.take("caller")
            inner.set(
                "caller", to: caller ?? .undefined(Undefined("No caller defined")))
        }
        if macro.specials.contains("kwargs") {
            let dict = Dict()
            for keyword in arguments.keywords { dict.set(keyword.name, to: keyword.value) }
            inner.set("kwargs", to: try made(.dictionary(dict)))
        } else if let keyword = arguments.keywords.first {
            throw fail("the macro '\(name)' takes no keyword argument '\(keyword.name)'")
        }
        let rest = arguments.positional.dropFirst(macro.definition.parameters.count)
        if macro.specials.contains("varargs") {
            inner.set("varargs", to: try made(.tuple(Array(rest))))
        } else if !rest.isEmpty {
            throw fail(
                "the macro '\(name)' takes not more than \(macro.definition.parameters.count) arguments"
            )
        }
    }
}

/// Functions that every template can call.
enum Functions {
    static let names: Set<String> = [
        "range", "dict", "lipsum", "cycler", "joiner", "namespace", "raise_exception",
        "strftime_now",
    ]
    /// The sandbox's limit.
    static let greatestRange = 100_000

    static func call(
        _ name: String, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws(TemplateError) -> Value {
        func bound(_ parameters: [String], _ required: Int) throws(TemplateError) -> BoundArguments
        {
            try arguments.bound(
                to: parameters, required: required, of: "the function '\(name)'", interpreter)
        }
        switch name {
        case "range": return .range(try range(arguments, interpreter))
        case "dict": return .dictionary(try dict(arguments, interpreter))
        case "namespace":
            let namespace = try interpreter.newNamespace()
            let attributes = try dict(arguments, interpreter)
            for (key, value) in zip(attributes.keys, attributes.values) {
                guard let name = key.text?.string else {
                    throw interpreter.fail(
                        "a namespace's names are strings, and not \(key.typeName)")
                }
                try interpreter.set(name, of: namespace, to: value)
            }
            return .namespace(namespace)
        case "cycler":
            if !arguments.keywords.isEmpty || arguments.positional.isEmpty {
                throw interpreter.fail("'cycler' takes at least one item, and no names")
            }
            return .cycler(Cycler(Items(arguments.positional)))
        case "joiner": return .joiner(Joiner(try bound(["sep"], 0)[0] ?? Value(", ")))
        case "raise_exception":
            let message = try interpreter.string(try bound(["message"], 1)[0] ?? .none)
            throw TemplateError(line: interpreter.line, message.string, isRaised: true)
        case "strftime_now":
            let format = try bound(["format"], 1).text(0, initially: "", interpreter)
            guard
                let text = LocalTime(secondsSince1970: interpreter.now)?.formatted(format.string)
            else { throw interpreter.fail("'strftime_now' with a format or time it cannot print") }
            return Value(text)
        case "lipsum": throw interpreter.fail("'lipsum', whose text is random, is not supported")
        default:
            // `self.name()` of a block.
            guard name.hasPrefix("block "),
                let scope = interpreter.scopes.blocks[String(name.dropFirst(6))]
            else { throw interpreter.fail("there is no function '\(name)'") }
            return .string(
                try interpreter.deeper { () throws(TemplateError) in
                    try interpreter.capture { () throws(TemplateError) in
                        try interpreter.enterBlock(scope)
                    }.text
                })
        }
    }

    private static func range(
        _ arguments: Arguments, _ interpreter: Interpreter
    ) throws(TemplateError) -> PythonRange {
        let values = arguments.positional
        guard (1...3).contains(values.count), arguments.keywords.isEmpty else {
            throw interpreter.fail("'range' takes one to three integers, and no names")
        }
        var bounds: [Int] = []
        for value in values {
            guard let integer = value.integer else {
                throw interpreter.fail("'range' takes integers, and not \(value.typeName)")
            }
            bounds.append(integer)
        }
        let step = bounds.count == 3 ? bounds[2] : 1
        if step == 0 { throw interpreter.fail("'range' with a step of 0") }
        guard
            let range = PythonRange(
                start: bounds.count == 1 ? 0 : bounds[0],
                stop: bounds.count == 1 ? bounds[0] : bounds[1], step: step),
            range.count <= greatestRange
        else { throw interpreter.fail("'range' with more than \(greatestRange) elements") }
        return range
    }

    /// Python's `dict(...)`: of a dictionary or of pairs, and of names.
    static func dict(
        _ arguments: Arguments, _ interpreter: Interpreter
    ) throws(TemplateError) -> Dict {
        let dict = Dict()
        if arguments.positional.count > 1 {
            throw interpreter.fail("a dictionary is made of one value, and not of more")
        }
        switch arguments.positional.first {
        case nil: break
        case .dictionary(let other):
            for (key, value) in zip(other.keys, other.values) {
                dict.set(try interpreter.key(of: key), key, to: value)
            }
        case let pairs?:
            for pair in try interpreter.elements(of: pairs) {
                let values = try interpreter.elements(of: pair)
                if values.count != 2 {
                    throw interpreter.fail("a dictionary is made of pairs")
                }
                dict.set(try interpreter.key(of: values[0]), values[0], to: values[1])
            }
        }
        for keyword in arguments.keywords { dict.set(keyword.name, to: keyword.value) }
        return dict
    }
}
