// What follows a value: attributes, indices, calls, filters and tests; and what can be assigned to.

extension Parser {
    mutating func postfixes(of operand: Expression) throws(TemplateError) -> Expression {
        var result = operand
        var count = 0
        while true {
            if isAt(".") {
                result = try attribute(of: result)
            } else if isAt("[") {
                result = try subscripts(of: result)
            } else if isAt("(") {
                let line = current.line
                result = Expression(line: line, kind: .call(result, try arguments()))
            } else {
                return result
            }
            try countChain(&count)
        }
    }

    private mutating func attribute(of operand: Expression) throws(TemplateError) -> Expression {
        let line = next().line
        let token = next()
        switch token.kind {
        case .name(let name): return Expression(line: line, kind: .attribute(operand, name))
        case .integer(let index):
            let item = Expression(line: token.line, kind: .literal(.integer(index)))
            return Expression(line: line, kind: .item(operand, item))
        default:
            throw fail(
                "expected a name or number after '.', found \(token.description)", line: line)
        }
    }

    private mutating func subscripts(of operand: Expression) throws(TemplateError) -> Expression {
        let line = next().line
        var start: Expression?
        if !isAt(":") {
            if isAt("]") { throw fail("'[]' without an index") }
            let item = try expression()
            if isAt(",") {
                var items = [item]
                while take(",") {
                    if isAt("]") { break }
                    items.append(try expression())
                }
                try expect("]")
                let tuple = Expression(line: line, kind: .tuple(items))
                return Expression(line: line, kind: .item(operand, tuple))
            }
            if take("]") { return Expression(line: line, kind: .item(operand, item)) }
            start = item
        }
        try expect(":")
        let stop = isAt(":") || isAt("]") ? nil : try expression()
        var step: Expression?
        if take(":"), !isAt("]") { step = try expression() }
        try expect("]")
        return Expression(
            line: line, kind: .slice(operand, start: start, stop: stop, step: step))
    }

    mutating func filtersAndTests(
        of operand: Expression
    ) throws(TemplateError) -> Expression {
        var result = operand
        var count = 0
        while true {
            if isAt("|") {
                result = try filters(of: result)
            } else if isAt(name: "is") {
                result = try test(of: result)
            } else if isAt("(") {
                let line = current.line
                result = Expression(line: line, kind: .call(result, try arguments()))
            } else {
                return result
            }
            try countChain(&count)
        }
    }

    /// Filters one after the other. In a filter block the first has no bar before it, and none has an input.
    mutating func filters(
        of input: Expression?, isInline: Bool = false
    ) throws(TemplateError) -> Expression {
        var result = input
        var isFirst = isInline
        var count = 0
        while isFirst || isAt("|") {
            try countChain(&count)
            if !isFirst { next() }
            isFirst = false
            let line = current.line
            var name = try expectName()
            while take(".") { name += "." + (try expectName()) }
            let arguments = isAt("(") ? try self.arguments() : CallArguments()
            result = Expression(
                line: line, kind: .filter(input: result, name: name, arguments))
        }
        guard let result else { throw fail("expected a filter, found \(current.description)") }
        return result
    }

    private mutating func test(of operand: Expression) throws(TemplateError) -> Expression {
        let line = next().line
        let isNegated = take(name: "not")
        var name = try expectName()
        while take(".") { name += "." + (try expectName()) }
        var arguments = CallArguments()
        if isAt("(") {
            arguments = try self.arguments()
        } else if beginsArgument {
            if isAt(name: "is") { throw fail("'is' after a test: tests cannot be chained") }
            arguments.positional = [try postfixes(of: try primary())]
        }
        let test = Expression(line: line, kind: .test(operand, name: name, arguments))
        return isNegated ? Expression(line: line, kind: .not(test)) : test
    }

    /// Whether a test's argument without parentheses begins here.
    private var beginsArgument: Bool {
        switch current.kind {
        case .name(let name): !["else", "or", "and"].contains(name)
        case .string, .integer, .float, .symbol("["), .symbol("{"): true
        default: false
        }
    }

    private mutating func arguments() throws(TemplateError) -> CallArguments {
        let line = next().line
        var result = CallArguments()
        var isFirst = true
        func check(_ isRight: Bool) throws(TemplateError) {
            if !isRight { throw fail("arguments of a call in a wrong order", line: line) }
        }
        while !isAt(")") {
            if !isFirst {
                try expect(",")
                if isAt(")") { break }
            }
            isFirst = false
            if take("*") {
                try check(result.unpacked == nil && result.unpackedKeywords == nil)
                result.unpacked = try expression()
            } else if take("**") {
                try check(result.unpackedKeywords == nil)
                result.unpackedKeywords = try expression()
            } else if case .name(let name) = current.kind, case .symbol("=") = following.kind {
                try check(result.unpackedKeywords == nil)
                next()
                next()
                if result.keywords.contains(where: { $0.name == name }) {
                    throw fail("the argument '\(name)' given twice")
                }
                result.keywords.append(
                    CallArguments.Keyword(name: name, value: try expression()))
            } else {
                try check(
                    result.unpacked == nil && result.unpackedKeywords == nil
                        && result.keywords.isEmpty)
                result.positional.append(try expression())
            }
        }
        next()
        return result
    }

    // MARK: Targets

    mutating func assignableName() throws(TemplateError) -> String {
        let name = try expectName()
        try checkAssignable(name)
        return name
    }

    private func checkAssignable(_ name: String) throws(TemplateError) {
        if ["true", "false", "none", "True", "False", "None"].contains(name) {
            throw fail("cannot assign to '\(name)'")
        }
    }

    /// A name, or several with commas between them and parentheses around them.
    mutating func target(
        endsAtIn: Bool = false, hasNamespaces: Bool = false
    ) throws(TemplateError) -> Target {
        var targets: [Target] = []
        var isTuple = false
        while true {
            if !targets.isEmpty { try expect(",") }
            if isAt(.variableEnd) || isAt(.blockEnd) || isAt(")") || endsAtIn && isAt(name: "in") {
                break
            }
            if take("(") {
                // In here only names: Jinja parses a whole expression, and then wants names.
                targets.append(
                    try nested { (parser) throws(TemplateError) in try parser.target() })
                try expect(")")
            } else {
                let name = try assignableName()
                if hasNamespaces, take(".") {
                    targets.append(.attribute(namespace: name, try expectName()))
                } else {
                    targets.append(.name(name))
                }
            }
            guard isAt(",") else { break }
            isTuple = true
        }
        if !isTuple {
            guard let only = targets.first else {
                throw fail("expected a name to assign to, found \(current.description)")
            }
            return only
        }
        return .tuple(targets)
    }
}
