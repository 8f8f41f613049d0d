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
    func countChain(_ count: inout Int) throws(TemplateError) {
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

    mutating func primary() throws(TemplateError) -> Expression {
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
}
