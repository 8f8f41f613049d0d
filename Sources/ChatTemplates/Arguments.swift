/// The arguments of a call, computed.
struct Arguments {
    var positional: [Value] = []
    var keywords: [(name: String, value: Value)] = []

    /// Takes a keyword argument out.
    mutating func take(_ name: String) -> Value? {
        guard let place = keywords.firstIndex(where: { $0.name == name }) else { return nil }
        return keywords.remove(at: place).value
    }

    /// The arguments in the order of a function's parameters.
    ///
    /// - Parameter names: Nil for a function that takes whatever it gets.
    func bound(
        to names: [String]?, required: Int, of function: String, _ interpreter: Interpreter
    ) throws(TemplateError) -> BoundArguments {
        guard let names else { return BoundArguments(values: [], all: self) }
        guard positional.count <= names.count else {
            throw interpreter.fail(
                "\(function) takes at most \(names.count) arguments, and not \(positional.count)")
        }
        var values: [Value?] = positional
        values += Array(repeating: nil, count: names.count - positional.count)
        for keyword in keywords {
            guard let place = names.firstIndex(of: keyword.name) else {
                throw interpreter.fail("\(function) has no parameter '\(keyword.name)'")
            }
            if values[place] != nil {
                throw interpreter.fail("\(function) is given '\(keyword.name)' twice")
            }
            values[place] = keyword.value
        }
        for index in 0..<required where values[index] == nil {
            throw interpreter.fail("\(function) needs the argument '\(names[index])'")
        }
        return BoundArguments(values: values, all: self)
    }
}

/// Arguments by the place of their parameters; nil where none was given.
struct BoundArguments {
    let values: [Value?]
    let all: Arguments

    subscript(place: Int) -> Value? { values[place] }

    func isTrue(_ place: Int, initially value: Bool = false) -> Bool {
        values[place]?.isTrue ?? value
    }

    func integer(
        _ place: Int, initially initial: Int, _ interpreter: Interpreter
    ) throws(TemplateError) -> Int {
        guard let value = values[place] else { return initial }
        guard let integer = value.integer else {
            throw interpreter.fail("expected an integer, found \(value.typeName)")
        }
        return integer
    }

    func text(
        _ place: Int, initially initial: Text, _ interpreter: Interpreter
    ) throws(TemplateError) -> Text {
        guard let value = values[place] else { return initial }
        guard let text = value.text else {
            throw interpreter.fail("expected a string, found \(value.typeName)")
        }
        return text
    }

    /// A string, or nil for `none` and where there is no argument.
    func optionalText(
        _ place: Int, _ interpreter: Interpreter
    ) throws(TemplateError) -> Text? {
        guard let value = values[place], !value.isNone else { return nil }
        return try text(place, initially: "", interpreter)
    }
}
