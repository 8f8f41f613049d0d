/// Parses statements; a port of Jinja's parser.py, so that what is accepted is the same.
struct Parser {
    private let tokens: [Token]
    private var index = 0
    private var nesting = 0
    private(set) var scopeCount = 1
    private var loopDepth = 0

    static let greatestNesting = 100

    init(_ tokens: [Token]) { self.tokens = tokens }

    /// The statements of a whole template, in scope 0.
    mutating func template() throws(TemplateError) -> Scope {
        Scope(id: 0, body: try statements(until: []))
    }

    // MARK: Tokens

    var current: Token { tokens[index] }

    /// The token after the current one.
    var following: Token { tokens[min(index + 1, tokens.count - 1)] }

    @discardableResult
    mutating func next() -> Token {
        let token = tokens[index]
        if index < tokens.count - 1 { index += 1 }
        return token
    }

    func isAt(_ symbol: String) -> Bool {
        if case .symbol(symbol) = current.kind { true } else { false }
    }

    func isAt(name: String) -> Bool {
        if case .name(name) = current.kind { true } else { false }
    }

    func isAt(_ kind: Token.Kind) -> Bool { current.kind == kind }

    mutating func take(_ symbol: String) -> Bool {
        guard isAt(symbol) else { return false }
        next()
        return true
    }

    mutating func take(name: String) -> Bool {
        guard isAt(name: name) else { return false }
        next()
        return true
    }

    mutating func expect(_ symbol: String) throws(TemplateError) {
        guard take(symbol) else {
            throw fail("expected '\(symbol)', found \(current.description)")
        }
    }

    mutating func expectName() throws(TemplateError) -> String {
        guard case .name(let name) = current.kind else {
            throw fail("expected a name, found \(current.description)")
        }
        next()
        return name
    }

    func fail(_ problem: String, line: Int? = nil) -> TemplateError {
        TemplateError(line: line ?? current.line, problem)
    }

    /// Counts what is inside each other: parsing, like all work on the tree, recurses.
    mutating func nested<Result>(
        _ body: (inout Parser) throws(TemplateError) -> Result
    ) throws(TemplateError) -> Result {
        guard nesting < Parser.greatestNesting else {
            throw fail("more than \(Parser.greatestNesting) constructs inside each other")
        }
        nesting += 1
        let result = try body(&self)
        nesting -= 1
        return result
    }

    mutating func newScope() -> Int {
        defer { scopeCount += 1 }
        return scopeCount
    }

    // MARK: Statements

    /// Statements up to a tag named in `ends`, which is then the current token, or to the template's end.
    private mutating func statements(until ends: [String]) throws(TemplateError) -> [Statement] {
        var result: [Statement] = []
        var outputs: [Statement.Output] = []
        var outputLine = current.line
        func flush() {
            if !outputs.isEmpty {
                result.append(Statement(line: outputLine, kind: .output(outputs)))
                outputs = []
            }
        }
        while true {
            if outputs.isEmpty { outputLine = current.line }
            switch current.kind {
            case .data(let text):
                outputs.append(.text(text))
                next()
            case .variableBegin:
                next()
                outputs.append(.value(try tuple()))
                guard isAt(.variableEnd) else {
                    throw fail("expected '}}', found \(current.description)")
                }
                next()
            case .blockBegin:
                flush()
                next()
                if case .name(let name) = current.kind, ends.contains(name) { return result }
                let statement = try nested { (parser) throws(TemplateError) in
                    try parser.statement(within: ends)
                }
                result.append(statement)
                guard isAt(.blockEnd) else {
                    throw fail("expected '%}', found \(current.description)")
                }
                next()
            default:
                flush()
                if !ends.isEmpty {
                    let wanted = ends.map { "'\($0)'" }.joined(separator: " or ")
                    throw fail("the template ends, but \(wanted) was expected")
                }
                return result
            }
        }
    }

    /// A statement's body: from the end of its tag to the tag `ends`, whose name stays the current token.
    private mutating func body(until ends: String...) throws(TemplateError) -> [Statement] {
        _ = take(":")
        guard isAt(.blockEnd) else { throw fail("expected '%}', found \(current.description)") }
        next()
        return try statements(until: ends)
    }

    private mutating func scope(until end: String) throws(TemplateError) -> Scope {
        let id = newScope()
        let scope = Scope(id: id, body: try body(until: end))
        next()
        return scope
    }

    private mutating func statement(within ends: [String]) throws(TemplateError) -> Statement {
        let line = current.line
        guard case .name(let name) = current.kind else {
            throw fail("expected a tag's name, found \(current.description)")
        }
        next()
        return Statement(line: line, kind: try kind(of: name, line: line, within: ends))
    }

    private mutating func kind(
        of name: String, line: Int, within ends: [String]
    ) throws(TemplateError) -> Statement.Kind {
        switch name {
        case "for": return try loop()
        case "if": return try branches()
        case "set": return try set()
        case "macro":
            let name = try assignableName()
            return .macro(try macro(named: name, parameters: parameters(), until: "endmacro"))
        case "call": return try callBlock(line: line)
        case "filter":
            let filter = try filters(of: nil, isInline: true)
            return .filterBlock(filter, try scope(until: "endfilter"))
        case "with": return try with()
        case "generation":
            return .generation(try macro(named: "caller", parameters: [], until: "endgeneration"))
        case "block": return try block()
        case "autoescape":
            let isOn = try expression()
            return .autoescape(isOn, try scope(until: "endautoescape"))
        case "print":
            var outputs: [Statement.Output] = []
            while !isAt(.blockEnd) {
                if !outputs.isEmpty { try expect(",") }
                outputs.append(.value(try expression()))
            }
            return .output(outputs)
        case "break", "continue":
            if loopDepth == 0 { throw fail("'\(name)' outside of a loop", line: line) }
            return name == "break" ? .breakLoop : .continueLoop
        case "include", "import", "from", "extends":
            // Their rest is any expression and some words; it means nothing here.
            while !isAt(.blockEnd), !isAt(.end) { next() }
            return .refused(
                "'\(name)' needs another template, and a chat template stands alone")
        default:
            let hint =
                ends.isEmpty
                ? ""
                : "; the open block ends with \(ends.map { "'\($0)'" }.joined(separator: " or "))"
            throw fail("unknown tag '\(name)'\(hint)", line: line)
        }
    }

    private mutating func loop() throws(TemplateError) -> Statement.Kind {
        let target = try self.target(endsAtIn: true)
        guard take(name: "in") else {
            throw fail("expected 'in', found \(current.description)")
        }
        let iterated = try tuple(hasConditions: false, endsAtRecursive: true)
        let test = take(name: "if") ? try expression() : nil
        let isRecursive = take(name: "recursive")
        let (testScope, bodyScope, otherwiseScope) = (newScope(), newScope(), newScope())
        loopDepth += 1
        let statements = try body(until: "endfor", "else")
        loopDepth -= 1
        var otherwise: [Statement] = []
        if take(name: "else") { otherwise = try body(until: "endfor") }
        next()
        return .loop(
            Statement.Loop(
                target: target, iterated: iterated, test: test, testScope: testScope,
                isRecursive: isRecursive, body: Scope(id: bodyScope, body: statements),
                otherwise: Scope(id: otherwiseScope, body: otherwise)))
    }

    private mutating func branches() throws(TemplateError) -> Statement.Kind {
        var branches: [Statement.Branch] = []
        while true {
            let test = try tuple(hasConditions: false)
            branches.append(
                Statement.Branch(test: test, body: try body(until: "elif", "else", "endif")))
            if take(name: "elif") { continue }
            var otherwise: [Statement] = []
            if take(name: "else") { otherwise = try body(until: "endif") }
            next()
            return .branches(branches, otherwise: otherwise)
        }
    }

    private mutating func set() throws(TemplateError) -> Statement.Kind {
        let target = try self.target(hasNamespaces: true)
        if take("=") { return .set(target, try tuple()) }
        let filter = isAt("|") ? try filters(of: nil) : nil
        return .setBlock(target, filter: filter, try scope(until: "endset"))
    }

    private mutating func with() throws(TemplateError) -> Statement.Kind {
        var bindings: [Statement.Binding] = []
        while !isAt(.blockEnd) {
            if !bindings.isEmpty { try expect(",") }
            let target = try self.target()
            try expect("=")
            bindings.append(Statement.Binding(target: target, value: try expression()))
        }
        return .with(bindings, try scope(until: "endwith"))
    }

    private mutating func block() throws(TemplateError) -> Statement.Kind {
        let name = try expectName()
        // Both words matter to templates that extend this one, and none does.
        _ = take(name: "scoped")
        _ = take(name: "required")
        let outer = loopDepth
        loopDepth = 0
        let scope = try scope(until: "endblock")
        loopDepth = outer
        _ = take(name: name)
        return .block(name: name, scope)
    }

    private mutating func callBlock(line: Int) throws(TemplateError) -> Statement.Kind {
        let parameters = isAt("(") ? try self.parameters() : []
        let call = try expression()
        guard case .call = call.kind else { throw fail("'call' without a call", line: line) }
        return .callBlock(
            try macro(named: "caller", parameters: parameters, until: "endcall"), call: call)
    }

    private mutating func macro(
        named name: String, parameters: [Statement.Parameter], until end: String
    ) throws(TemplateError) -> Statement.Macro {
        // Its body is a function, and a loop around it is not its own.
        let outer = loopDepth
        loopDepth = 0
        let body = try scope(until: end)
        loopDepth = outer
        return Statement.Macro(name: name, parameters: parameters, body: body)
    }

    private mutating func parameters() throws(TemplateError) -> [Statement.Parameter] {
        try expect("(")
        var result: [Statement.Parameter] = []
        while !isAt(")") {
            if !result.isEmpty { try expect(",") }
            let name = try assignableName()
            var initial: Expression?
            if take("=") {
                initial = try expression()
            } else if result.last?.initial != nil {
                throw fail("the parameter '\(name)' without a default after one with a default")
            }
            result.append(Statement.Parameter(name: name, initial: initial))
        }
        try expect(")")
        return result
    }
}
