extension Parser {
    mutating func expression(hasConditions: Bool = true) throws(TemplateError) -> Expression {
        try nested { (parser) throws(TemplateError) in
            hasConditions ? try parser.condition() : try parser.or()
        }
    }

    /// One expression, or several with commas between them.
    mutating func tuple(
        hasConditions: Bool = true, endsAtRecursive: Bool = false, inParentheses: Bool = false
    ) throws(TemplateError) -> Expression {
        let line = current.line
        var items: [Expression] = []
        var isTuple = false
        while true {
            if !items.isEmpty { try expect(",") }
            if isAt(.variableEnd) || isAt(.blockEnd) || isAt(")")
                || endsAtRecursive && isAt(name: "recursive")
            {
                break
            }
            items.append(try expression(hasConditions: hasConditions))
            guard isAt(",") else { break }
            isTuple = true
        }
        if !isTuple {
            if let only = items.first { return only }
            if !inParentheses {
                throw fail("expected an expression, found \(current.description)")
            }
        }
        return Expression(line: line, kind: .tuple(items))
    }

    private mutating func condition() throws(TemplateError) -> Expression {
        let line = current.line
        var result = try or()
        var count = 0
        while take(name: "if") {
            try countChain(&count)
            let test = try or()
            let otherwise =
                take(name: "else")
                ? try nested { (parser) throws(TemplateError) in try parser.condition() } : nil
            result = Expression(
                line: line, kind: .condition(test: test, then: result, otherwise: otherwise))
        }
        return result
    }

    /// A chain of operators is as deep a tree as parentheses make.
    private func countChain(_ count: inout Int) throws(TemplateError) {
        count += 1
        if count > Parser.greatestNesting {
            throw fail("more than \(Parser.greatestNesting) operators in a row")
        }
    }

    private mutating func or() throws(TemplateError) -> Expression {
        var left = try and()
        var count = 0
        while isAt(name: "or") {
            try countChain(&count)
            let line = next().line
            left = Expression(line: line, kind: .or(left, try and()))
        }
        return left
    }

    private mutating func and() throws(TemplateError) -> Expression {
        var left = try not()
        var count = 0
        while isAt(name: "and") {
            try countChain(&count)
            let line = next().line
            left = Expression(line: line, kind: .and(left, try not()))
        }
        return left
    }

    private mutating func not() throws(TemplateError) -> Expression {
        guard isAt(name: "not") else { return try comparison() }
        let line = next().line
        let operand = try nested { (parser) throws(TemplateError) in try parser.not() }
        return Expression(line: line, kind: .not(operand))
    }

    private mutating func comparison() throws(TemplateError) -> Expression {
        let line = current.line
        let first = try sum()
        var comparands: [Expression.Comparand] = []
        while true {
            var comparison: Expression.Comparison?
            switch current.kind {
            case .symbol(let symbol): comparison = Expression.Comparison(rawValue: symbol)
            case .name("in"): comparison = .isIn
            case .name("not"):
                if case .name("in") = following.kind {
                    next()
                    comparison = .isNotIn
                }
            default: break
            }
            guard let comparison else { break }
            next()
            comparands.append(
                Expression.Comparand(comparison: comparison, value: try sum()))
        }
        if comparands.isEmpty { return first }
        return Expression(line: line, kind: .comparison(first, comparands))
    }

    private mutating func sum() throws(TemplateError) -> Expression {
        var left = try concatenation()
        var count = 0
        while isAt("+") || isAt("-") {
            try countChain(&count)
            let kind: Expression.Binary = isAt("+") ? .add : .subtract
            let line = next().line
            left = Expression(line: line, kind: .binary(kind, left, try concatenation()))
        }
        return left
    }

    private mutating func concatenation() throws(TemplateError) -> Expression {
        let line = current.line
        var operands = [try product()]
        while take("~") { operands.append(try product()) }
        return operands.count == 1
            ? operands[0] : Expression(line: line, kind: .concatenation(operands))
    }

    private mutating func product() throws(TemplateError) -> Expression {
        var left = try power()
        var count = 0
        while case .symbol(let symbol) = current.kind, ["*", "/", "//", "%"].contains(symbol),
            let kind = Expression.Binary(rawValue: symbol)
        {
            try countChain(&count)
            let line = next().line
            left = Expression(line: line, kind: .binary(kind, left, try power()))
        }
        return left
    }

    /// From left to right, and weaker than a sign: Jinja's way, which is not Python's.
    private mutating func power() throws(TemplateError) -> Expression {
        var left = try unary()
        var count = 0
        while isAt("**") {
            try countChain(&count)
            let line = next().line
            left = Expression(line: line, kind: .binary(.power, left, try unary()))
        }
        return left
    }

    private mutating func unary(hasFilters: Bool = true) throws(TemplateError) -> Expression {
        let line = current.line
        var result: Expression
        if isAt("-") || isAt("+") {
            let kind: Expression.Unary = isAt("-") ? .minus : .plus
            next()
            let operand = try nested { (parser) throws(TemplateError) in
                try parser.unary(hasFilters: false)
            }
            result = Expression(line: line, kind: .unary(kind, operand))
        } else {
            result = try primary()
        }
        result = try postfixes(of: result)
        return hasFilters ? try filtersAndTests(of: result) : result
    }

    private mutating func primary() throws(TemplateError) -> Expression {
        let token = current
        let kind: Expression.Kind
        switch token.kind {
        case .name(let name):
            next()
            switch name {
            case "true", "True": kind = .literal(.bool(true))
            case "false", "False": kind = .literal(.bool(false))
            case "none", "None": kind = .literal(.none)
            default: kind = .name(name)
            }
        case .string(var text):
            next()
            while case .string(let more) = current.kind {
                text.append(more)
                next()
            }
            kind = .literal(.string(text))
        case .integer(let value):
            next()
            kind = .literal(.integer(value))
        case .float(let value):
            next()
            kind = .literal(.float(value))
        case .symbol("("):
            next()
            let tuple = try self.tuple(inParentheses: true)
            try expect(")")
            return tuple
        case .symbol("["): kind = .list(try items(until: "]"))
        case .symbol("{"): kind = .dictionary(try pairs())
        default: throw fail("expected an expression, found \(token.description)")
        }
        return Expression(line: token.line, kind: kind)
    }

    private mutating func items(until end: String) throws(TemplateError) -> [Expression] {
        next()
        var items: [Expression] = []
        while !isAt(end) {
            if !items.isEmpty { try expect(",") }
            if isAt(end) { break }
            items.append(try expression())
        }
        next()
        return items
    }

    private mutating func pairs() throws(TemplateError) -> [Expression.Pair] {
        next()
        var pairs: [Expression.Pair] = []
        while !isAt("}") {
            if !pairs.isEmpty { try expect(",") }
            if isAt("}") { break }
            let key = try expression()
            try expect(":")
            pairs.append(Expression.Pair(key: key, value: try expression()))
        }
        next()
        return pairs
    }

    private mutating func postfixes(of operand: Expression) throws(TemplateError) -> Expression {
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

    private mutating func filtersAndTests(
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
