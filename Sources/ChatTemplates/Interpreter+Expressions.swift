extension Interpreter {
    func evaluate(_ expression: Expression) throws(TemplateError) -> Value {
        try evaluate(expression, input: nil)
    }

    /// `input` is what the first of a block's filters works on.
    func evaluate(_ expression: Expression, input: Value?) throws(TemplateError) -> Value {
        line = expression.line
        try spend()
        switch expression.kind {
        case .literal(let literal): return value(of: literal)
        case .name(let name): return value(of: name)
        default: break
        }
        return try deeper { () throws(TemplateError) in
            try evaluateInner(expression, input: input)
        }
    }

    private func value(of literal: Expression.Literal) -> Value {
        switch literal {
        case .none: .none
        case .bool(let value): .bool(value)
        case .integer(let value): .integer(value)
        case .float(let value): .float(value)
        case .string(let text): .string(text)
        }
    }

    private func evaluateInner(
        _ expression: Expression, input: Value?
    ) throws(TemplateError) -> Value {
        switch expression.kind {
        case .literal(let literal): return value(of: literal)
        case .name(let name): return value(of: name)
        case .tuple(let items): return try made(.tuple(try evaluate(items)))
        case .list(let items): return try made(.list(try evaluate(items)))
        case .dictionary(let pairs): return try dictionary(pairs)
        case .unary(let kind, let operand): return try unary(kind, try evaluate(operand))
        case .binary(let kind, let left, let right):
            let first = try evaluate(left)
            let second = try evaluate(right)
            line = expression.line
            return try binary(kind, first, second)
        case .not(let operand): return .bool(!(try evaluate(operand).isTrue))
        case .and(let left, let right):
            let first = try evaluate(left)
            return first.isTrue ? try evaluate(right) : first
        case .or(let left, let right):
            let first = try evaluate(left)
            return first.isTrue ? first : try evaluate(right)
        case .comparison(let first, let others): return try compare(first, others)
        case .concatenation(let operands): return try concatenate(operands)
        case .condition(let test, let then, let otherwise):
            if try evaluate(test).isTrue { return try evaluate(then) }
            guard let otherwise else {
                return .undefined(
                    Undefined(
                        "the inline if-expression on line \(expression.line) evaluated to false and no else section was defined."
                    ))
            }
            return try evaluate(otherwise)
        case .attribute(let operand, let name):
            let value = try evaluate(operand)
            line = expression.line
            return try attribute(name, of: value)
        case .item(let operand, let key):
            let value = try evaluate(operand)
            let key = try evaluate(key)
            line = expression.line
            return try item(key, of: value)
        case .slice(let operand, let start, let stop, let step):
            return try slice(operand, start, stop, step, line: expression.line)
        case .filter(let operand, let name, let arguments):
            let value =
                if let operand { try evaluate(operand, input: input) } else { input ?? .none }
            let arguments = try evaluate(arguments)
            line = expression.line
            return try apply(filter: name, to: value, arguments)
        case .test(let operand, let name, let arguments):
            let value = try evaluate(operand)
            let arguments = try evaluate(arguments)
            line = expression.line
            return .bool(try apply(test: name, to: value, arguments))
        case .call(let callee, let arguments):
            let function = try evaluate(callee)
            let arguments = try evaluate(arguments)
            line = expression.line
            return try call(function, arguments)
        }
    }

    private func evaluate(_ expressions: [Expression]) throws(TemplateError) -> [Value] {
        var values: [Value] = []
        values.reserveCapacity(expressions.count)
        for expression in expressions { values.append(try evaluate(expression)) }
        return values
    }

    private func dictionary(_ pairs: [Expression.Pair]) throws(TemplateError) -> Value {
        let dict = Dict()
        for pair in pairs {
            let key = try evaluate(pair.key)
            dict.set(try self.key(of: key), key, to: try evaluate(pair.value))
        }
        return try made(.dictionary(dict))
    }

    private func compare(
        _ first: Expression, _ others: [Expression.Comparand]
    ) throws(TemplateError) -> Value {
        var left = try evaluate(first)
        for other in others {
            let right = try evaluate(other.value)
            line = first.line
            guard try compare(other.comparison, left, right) else { return .bool(false) }
            left = right
        }
        return .bool(true)
    }

    private func concatenate(_ operands: [Expression]) throws(TemplateError) -> Value {
        var result = Text()
        for operand in operands { result.append(try string(try evaluate(operand))) }
        return try made(.string(result))
    }

    private func slice(
        _ operand: Expression, _ start: Expression?, _ stop: Expression?, _ step: Expression?,
        line place: Int
    ) throws(TemplateError) -> Value {
        let value = try evaluate(operand)
        var bounds: [Int?] = []
        for bound in [start, stop, step] {
            guard let bound else {
                bounds.append(nil)
                continue
            }
            let number = try evaluate(bound)
            line = place
            if number.isNone {
                bounds.append(nil)
            } else if let index = number.integer {
                bounds.append(index)
            } else {
                throw fail("a slice's bounds are integers, and not \(number.typeName)")
            }
        }
        line = place
        return try slice(value, bounds[0], bounds[1], bounds[2])
    }

    func evaluate(_ arguments: CallArguments) throws(TemplateError) -> Arguments {
        var result = Arguments()
        result.positional = try evaluate(arguments.positional)
        for keyword in arguments.keywords {
            result.keywords.append((keyword.name, try evaluate(keyword.value)))
        }
        if let unpacked = arguments.unpacked {
            result.positional += try elements(of: try evaluate(unpacked))
        }
        if let unpacked = arguments.unpackedKeywords {
            guard case .dictionary(let dict) = try evaluate(unpacked) else {
                throw fail("what follows '**' is a dictionary, and nothing else")
            }
            for (key, value) in zip(dict.keys, dict.values) {
                guard let name = key.text?.string else {
                    throw fail("names of arguments are strings, and not \(key.typeName)")
                }
                if result.keywords.contains(where: { $0.name == name }) {
                    throw fail("the argument '\(name)' given twice")
                }
                result.keywords.append((name, value))
            }
        }
        return result
    }

    func apply(
        filter name: String, to value: Value, _ arguments: Arguments
    ) throws(TemplateError) -> Value {
        guard let filter = Filters.table[name] else { throw fail("there is no filter '\(name)'") }
        let bound = try arguments.bound(
            to: filter.parameters, required: filter.required, of: "the filter '\(name)'", self)
        return try made(try filter.body(self, value, bound))
    }

    func apply(
        test name: String, to value: Value, _ arguments: Arguments
    ) throws(TemplateError) -> Bool {
        guard let test = Tests.table[name] else { throw fail("there is no test '\(name)'") }
        let bound = try arguments.bound(
            to: test.parameters, required: test.parameters.count, of: "the test '\(name)'", self)
        return try test.body(self, value, bound)
    }
}
