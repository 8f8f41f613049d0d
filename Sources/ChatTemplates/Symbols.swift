/// The names of one scope while it is analysed.
final class Symbols {
    private let parent: Symbols?
    private(set) var loads: [String: Scopes.Origin] = [:]
    private var stores: Set<String> = []

    init(parent: Symbols?) { self.parent = parent }

    private func isKnown(_ name: String) -> Bool {
        loads[name] != nil || parent?.isKnown(name) == true
    }

    func declareParameter(_ name: String) {
        stores.insert(name)
        loads[name] = .parameter
    }

    func declare(_ target: Target) {
        switch target {
        case .name(let name): declareParameter(name)
        case .attribute(let namespace, _): load(namespace)
        case .tuple(let targets): for target in targets { declare(target) }
        }
    }

    private func load(_ name: String) {
        if !isKnown(name) { loads[name] = .variables }
    }

    private func store(_ name: String) {
        stores.insert(name)
        if loads[name] == nil { loads[name] = parent?.isKnown(name) == true ? .outer : .nowhere }
    }

    private func store(_ target: Target) {
        switch target {
        case .name(let name): store(name)
        case .attribute(let namespace, _): load(namespace)
        case .tuple(let targets): for target in targets { store(target) }
        }
    }

    func visit(_ expression: Expression) {
        if case .name(let name) = expression.kind { load(name) }
        for child in expression.children { visit(child) }
    }

    /// Names of the statement that are its surroundings', and not of a scope inside of it.
    func visit(_ statement: Statement) {
        switch statement.kind {
        case .output(let outputs): for case .value(let value) in outputs { visit(value) }
        case .set(let target, let value):
            visit(value)
            store(target)
        case .setBlock(let target, _, _): store(target)
        case .loop(let loop): visit(loop.iterated)
        case .branches(let branches, let otherwise): visit(branches[...], otherwise)
        case .macro(let macro): store(macro.name)
        case .callBlock(_, let call): visit(call)
        case .filterBlock(let filter, _): visit(filter)
        case .with(let bindings, _): for binding in bindings { visit(binding.value) }
        case .autoescape(let value, _): visit(value)
        case .block, .generation, .breakLoop, .continueLoop, .refused: break
        }
    }

    /// A name that only some branches set keeps, in the others, the value it has outside.
    private func visit(_ branches: ArraySlice<Statement.Branch>, _ otherwise: [Statement]) {
        for branch in branches { visit(branch.test) }
        let before = (loads: loads, stores: stores)
        var merged = before
        for body in branches.map(\.body) + [otherwise] {
            (loads, stores) = before
            for child in body { visit(child) }
            merged.loads.merge(loads) { _, new in new }
            merged.stores.formUnion(stores)
        }
        (loads, stores) = merged
        for name in stores.subtracting(before.stores) {
            loads[name] = parent?.isKnown(name) == true ? .outer : .variables
        }
    }
}

extension Expression {
    /// The expressions directly inside.
    var children: [Expression] {
        switch kind {
        case .literal, .name: []
        case .tuple(let items), .list(let items), .concatenation(let items): items
        case .dictionary(let pairs): pairs.flatMap { [$0.key, $0.value] }
        case .unary(_, let operand), .not(let operand), .attribute(let operand, _): [operand]
        case .binary(_, let left, let right), .and(let left, let right), .or(let left, let right),
            .item(let left, let right):
            [left, right]
        case .comparison(let first, let others): [first] + others.map(\.value)
        case .condition(let test, let then, let otherwise):
            [test, then] + (otherwise.map { [$0] } ?? [])
        case .slice(let operand, let start, let stop, let step):
            [operand] + [start, stop, step].compactMap { $0 }
        case .filter(let input, _, let arguments):
            (input.map { [$0] } ?? []) + arguments.expressions
        case .test(let input, _, let arguments), .call(let input, let arguments):
            [input] + arguments.expressions
        }
    }
}

extension CallArguments {
    var expressions: [Expression] {
        positional + keywords.map(\.value)
            + [unpacked, unpackedKeywords].compactMap { $0 }
    }
}

/// Finds names that are read before they are set, anywhere inside of statements.
struct NameFinder {
    private(set) var found: Set<String> = []
    private var wanted: Set<String>

    init(looking names: Set<String>, in statements: [Statement]) {
        wanted = names
        for statement in statements { visit(statement) }
    }

    /// Whether a loop's target or body sets a name.
    static func stores(_ name: String, in loop: Statement.Loop) -> Bool {
        var finder = NameFinder(looking: [name], in: [])
        finder.store(loop.target)
        for statement in loop.body.body + loop.otherwise.body { finder.visit(statement) }
        return finder.wanted.isEmpty
    }

    private mutating func store(_ target: Target) {
        switch target {
        case .name(let name): wanted.remove(name)
        case .attribute: break
        case .tuple(let targets): for target in targets { store(target) }
        }
    }

    private mutating func visit(_ expression: Expression) {
        if case .name(let name) = expression.kind, wanted.contains(name) { found.insert(name) }
        for child in expression.children { visit(child) }
    }

    private mutating func visit(_ macro: Statement.Macro) {
        for parameter in macro.parameters { wanted.remove(parameter.name) }
        for parameter in macro.parameters { if let initial = parameter.initial { visit(initial) } }
        for statement in macro.body.body { visit(statement) }
    }

    private mutating func visit(_ statement: Statement) {
        switch statement.kind {
        case .output(let outputs): for case .value(let value) in outputs { visit(value) }
        case .set(let target, let value):
            store(target)
            visit(value)
        case .setBlock(let target, let filter, let scope):
            store(target)
            if let filter { visit(filter) }
            for child in scope.body { visit(child) }
        case .loop(let loop):
            store(loop.target)
            visit(loop.iterated)
            for child in loop.body.body + loop.otherwise.body { visit(child) }
            if let test = loop.test { visit(test) }
        case .branches(let branches, let otherwise):
            for branch in branches {
                visit(branch.test)
                for child in branch.body { visit(child) }
            }
            for child in otherwise { visit(child) }
        case .macro(let macro), .generation(let macro): visit(macro)
        case .callBlock(let macro, let call):
            visit(call)
            visit(macro)
        case .filterBlock(let filter, let scope):
            for child in scope.body { visit(child) }
            visit(filter)
        case .with(let bindings, let scope):
            for binding in bindings { store(binding.target) }
            for binding in bindings { visit(binding.value) }
            for child in scope.body { visit(child) }
        case .autoescape(let value, let scope):
            visit(value)
            for child in scope.body { visit(child) }
        case .block, .breakLoop, .continueLoop, .refused: break
        }
    }
}
