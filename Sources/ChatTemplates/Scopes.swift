/// What Jinja's compiler finds out about names (idtracking.py): for each scope, which names it holds and
/// where their first values come from. It also refuses unknown filters and tests where Jinja's compiler does.
struct Scopes: Sendable {
    /// Where a name's value comes from when its scope is entered.
    enum Origin: Sendable {
        /// The statement gives it: a loop's target, a macro's parameter.
        case parameter
        /// The rendering's variables and the environment's functions.
        case variables
        /// The scope around.
        case outer
        case nowhere
    }

    struct Entry: Sendable {
        let name: String
        let origin: Origin
    }

    /// By the scope's number.
    private(set) var entries: [[Entry]]
    /// Of macros, by their body's scope: which of `caller`, `kwargs` and `varargs` the body mentions.
    private(set) var specials: [Int: Set<String>] = [:]
    /// Bodies of `{% block %}`, which `self` and `super` refer to.
    private(set) var blocks: [String: Scope] = [:]

    init(of template: Scope, count: Int) throws(TemplateError) {
        entries = Array(repeating: [], count: count)
        let symbols = Symbols(parent: nil)
        if NameFinder(looking: ["self"], in: template.body).found.contains("self") {
            symbols.declareParameter("self")
        }
        for statement in template.body { symbols.visit(statement) }
        try walk(template.body, symbols, isSoft: false)
        keep(symbols, for: template.id)
    }

    private mutating func keep(_ symbols: Symbols, for id: Int) {
        entries[id] = symbols.loads.map { Entry(name: $0.key, origin: $0.value) }
    }

    /// Analyses scopes inside of `statements`, whose own names are `symbols`. Soft: inside of an `if`, where
    /// an unknown filter matters only when it is reached.
    private mutating func walk(
        _ statements: [Statement], _ symbols: Symbols, isSoft: Bool
    ) throws(TemplateError) {
        for statement in statements {
            switch statement.kind {
            case .branches(let branches, let otherwise):
                for branch in branches {
                    try check(branch.test, isSoft: true)
                    try walk(branch.body, symbols, isSoft: true)
                }
                try walk(otherwise, symbols, isSoft: true)
            case .output(let outputs):
                for case .value(let value) in outputs { try check(value, isSoft: isSoft) }
            case .set(_, let value): try check(value, isSoft: isSoft)
            case .setBlock(_, let filter, let scope):
                let inner = Symbols(parent: symbols)
                for child in scope.body { inner.visit(child) }
                if let filter {
                    inner.visit(filter)
                    try check(filter, isSoft: false)
                }
                try walk(scope, inner)
            case .loop(let loop):
                try check(loop.iterated, isSoft: isSoft)
                try walk(loop, symbols, line: statement.line)
            case .macro(let macro): try walk(macro, symbols)
            case .callBlock(let macro, let call):
                try walk(macro, symbols)
                try check(call, isSoft: isSoft)
            case .generation(let macro): try walk(macro, symbols)
            case .filterBlock(let filter, let scope):
                let inner = Symbols(parent: symbols)
                for child in scope.body { inner.visit(child) }
                inner.visit(filter)
                try check(filter, isSoft: false)
                try walk(scope, inner)
            case .with(let bindings, let scope):
                let inner = Symbols(parent: symbols)
                for binding in bindings {
                    inner.declare(binding.target)
                    try check(binding.value, isSoft: isSoft)
                }
                for child in scope.body { inner.visit(child) }
                try walk(scope, inner)
            case .autoescape(let value, let scope):
                try check(value, isSoft: isSoft)
                let inner = Symbols(parent: symbols)
                for child in scope.body { inner.visit(child) }
                try walk(scope, inner)
            case .block(let name, let scope):
                if blocks.updateValue(scope, forKey: name) != nil {
                    throw TemplateError(
                        line: statement.line, "the block '\(name)' is defined twice")
                }
                // A block is a function of its own, outside of what is around it.
                let inner = Symbols(parent: nil)
                let found = NameFinder(looking: ["self", "super"], in: scope.body).found
                for name in found.sorted() { inner.declareParameter(name) }
                for child in scope.body { inner.visit(child) }
                try walk(scope, inner)
            case .breakLoop, .continueLoop, .refused: break
            }
        }
    }

    private mutating func walk(_ scope: Scope, _ symbols: Symbols) throws(TemplateError) {
        try walk(scope.body, symbols, isSoft: false)
        keep(symbols, for: scope.id)
    }

    private mutating func walk(
        _ loop: Statement.Loop, _ outer: Symbols, line: Int
    ) throws(TemplateError) {
        if NameFinder.stores("loop", in: loop) {
            throw TemplateError(line: line, "a loop cannot assign to 'loop'")
        }
        let body = Symbols(parent: outer)
        body.declareParameter("loop")
        body.declare(loop.target)
        for child in loop.body.body { body.visit(child) }
        try walk(loop.body, body)
        let otherwise = Symbols(parent: outer)
        for child in loop.otherwise.body { otherwise.visit(child) }
        try walk(loop.otherwise, otherwise)
        if let test = loop.test {
            let symbols = Symbols(parent: outer)
            symbols.declare(loop.target)
            symbols.visit(test)
            try check(test, isSoft: false)
            keep(symbols, for: loop.testScope)
        }
    }

    private mutating func walk(
        _ macro: Statement.Macro, _ outer: Symbols
    ) throws(TemplateError) {
        let symbols = Symbols(parent: outer)
        for parameter in macro.parameters {
            symbols.declareParameter(parameter.name)
            if let initial = parameter.initial { try check(initial, isSoft: false) }
        }
        for parameter in macro.parameters {
            if let initial = parameter.initial { symbols.visit(initial) }
        }
        var found = NameFinder(
            looking: ["caller", "kwargs", "varargs"], in: macro.body.body
        ).found
        for parameter in macro.parameters where found.contains(parameter.name) {
            // A caller that is a parameter has to have a default, and is then like any other.
            if parameter.name == "caller", parameter.initial == nil {
                throw TemplateError(
                    line: macro.body.body.first?.line ?? 1,
                    "the macro '\(macro.name)' has a parameter 'caller' without a default")
            }
            found.remove(parameter.name)
        }
        for name in found.sorted() { symbols.declareParameter(name) }
        specials[macro.body.id] = found
        for child in macro.body.body { symbols.visit(child) }
        try walk(macro.body, symbols)
    }

    /// Names of filters and tests are checked before anything is rendered.
    private func check(_ expression: Expression, isSoft: Bool) throws(TemplateError) {
        if !isSoft {
            switch expression.kind {
            case .filter(_, let name, _) where Filters.table[name] == nil:
                throw TemplateError(line: expression.line, "there is no filter '\(name)'")
            case .test(_, let name, _) where Tests.table[name] == nil:
                throw TemplateError(line: expression.line, "there is no test '\(name)'")
            default: break
            }
        }
        var isCondition = false
        if case .condition = expression.kind { isCondition = true }
        for child in expression.children { try check(child, isSoft: isSoft || isCondition) }
    }
}
