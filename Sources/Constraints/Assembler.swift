/// Lays a grammar out as a program, from the end to the start: each expression is given the node that
/// comes after it and returns the one to begin with.
struct Assembler {
    private var program = Program()
    private var setNumbers: [ByteSet: Int32] = [:]
    /// Equal ends are one: the sets of UTF-8 share their last bytes.
    private var byteNodes: [ByteNode: Int32] = [:]
    private var entries: [Int32] = []
    /// Entries of rules that have the empty text, without it.
    private var solidEntries: [Int: Int32] = [:]
    private var unfinishedSolids: [Int] = []
    private let nullable: [Bool]
    private let grammar: Grammar
    private var isMarked = false
    private var depth = 0

    private struct ByteNode: Hashable {
        let set: Int32
        let next: Int32
        let isMarked: Bool
    }

    /// - Throws: where the grammar is too large, has a rule that begins with itself, or has no text.
    static func program(for grammar: Grammar) throws(ConstraintError) -> Program {
        guard grammar.rules.count <= Limits.ruleCount else {
            throw ConstraintError(
                "expected at most \(Limits.ruleCount) rules, found \(grammar.rules.count)")
        }
        var assembler = Assembler(grammar)
        try assembler.assemble()
        return assembler.program
    }

    private init(_ grammar: Grammar) {
        self.grammar = grammar
        var nullable = Array(repeating: false, count: grammar.rules.count)
        var isChanged = true
        while isChanged {
            isChanged = false
            for (index, rule) in grammar.rules.enumerated()
            where !nullable[index] && rule.isNullable(nullable) {
                nullable[index] = true
                isChanged = true
            }
        }
        self.nullable = nullable
    }

    private mutating func assemble() throws(ConstraintError) {
        for _ in grammar.rules { entries.append(try reserve()) }
        for (index, rule) in grammar.rules.enumerated() {
            join(entries[index], [try lay(rule, before: Program.finish)])
        }
        program.root = try lay(grammar.root, before: Program.finish)
        while let index = unfinishedSolids.popLast(), let entry = solidEntries[index] {
            join(entry, [try laySolid(grammar.rules[index], before: Program.finish)])
        }
        program.findClasses()
        try refuseLeftRecursion()
        guard program.costs(over: .all).bytes[Int(program.root)] < Costs.never else {
            throw ConstraintError("expected at least one text that fulfils it, found none")
        }
    }

    // MARK: Nodes

    private mutating func add(_ node: Program.Node) throws(ConstraintError) -> Int32 {
        guard program.nodes.count < Limits.nodeCount else {
            throw ConstraintError(
                "expected something smaller: it needs more than \(Limits.nodeCount) nodes")
        }
        program.nodes.append(node)
        return Int32(program.nodes.count - 1)
    }

    /// A node that goes nowhere yet.
    private mutating func reserve() throws(ConstraintError) -> Int32 {
        try add(Program.Node(kind: .split))
    }

    private mutating func join(_ node: Int32, _ targets: [Int32]) {
        program.nodes[Int(node)].first = Int32(program.targets.count)
        program.nodes[Int(node)].second = Int32(targets.count)
        program.targets += targets
    }

    private mutating func split(_ targets: [Int32]) throws(ConstraintError) -> Int32 {
        if targets.count == 1 { return targets[0] }
        let node = try reserve()
        join(node, targets)
        return node
    }

    private mutating func bytes(_ set: ByteSet, before next: Int32) throws(ConstraintError) -> Int32 {
        guard !set.isEmpty else { return try split([]) }
        let number = setNumbers[set] ?? Int32(program.sets.count)
        if Int(number) == program.sets.count {
            program.sets.append(set)
            setNumbers[set] = number
        }
        let key = ByteNode(set: number, next: next, isMarked: isMarked)
        if let node = byteNodes[key] { return node }
        let node = try add(
            Program.Node(kind: .bytes, isMarked: isMarked, first: number, second: next))
        byteNodes[key] = node
        return node
    }

    private mutating func call(_ entry: Int32, before next: Int32) throws(ConstraintError) -> Int32 {
        if next == Program.finish { return entry }
        return try add(Program.Node(kind: .call, first: entry, second: next))
    }

    // MARK: Expressions

    private mutating func lay(
        _ expression: Expression, before next: Int32
    ) throws(ConstraintError) -> Int32 {
        depth += 1
        defer { depth -= 1 }
        guard depth <= 4 * Limits.depth else {
            throw ConstraintError(
                "expected at most \(Limits.depth) levels inside each other, found more")
        }
        switch expression {
        case .never: return try split([])
        case .empty: return next
        case .bytes(let set): return try bytes(set, before: next)
        case .character(let set): return try character(set, before: next)
        case .sequence(let parts):
            var next = next
            for part in parts.reversed() { next = try lay(part, before: next) }
            return next
        case .choice(let parts):
            var targets: [Int32] = []
            for part in parts { targets.append(try lay(part, before: next)) }
            return try split(targets)
        case .repeated(let body, let least, let most):
            return try repeated(body, least, most, before: next)
        case .rule(let index): return try call(entries[index], before: next)
        case .network(let network):
            return try lay(network, isSolid: false, before: next)
        case .marked(let body):
            let outer = isMarked
            isMarked = true
            defer { isMarked = outer }
            return try lay(body, before: next)
        }
    }

    /// The expression without the empty text.
    private mutating func laySolid(
        _ expression: Expression, before next: Int32
    ) throws(ConstraintError) -> Int32 {
        guard expression.isNullable(nullable) else { return try lay(expression, before: next) }
        depth += 1
        defer { depth -= 1 }
        guard depth <= 4 * Limits.depth else {
            throw ConstraintError(
                "expected at most \(Limits.depth) levels inside each other, found more")
        }
        switch expression {
        case .never, .empty, .bytes, .character: return try split([])
        case .sequence(let parts):
            // The first part that is not empty, and then the rest as it likes.
            var next = next
            var targets: [Int32] = []
            for part in parts.reversed() {
                targets.append(try laySolid(part, before: next))
                next = try lay(part, before: next)
            }
            return try split(targets)
        case .choice(let parts):
            var targets: [Int32] = []
            for part in parts { targets.append(try laySolid(part, before: next)) }
            return try split(targets)
        case .repeated(let body, let least, let most):
            if most == 0 { return try split([]) }
            let least = body.isNullable(nullable) ? 0 : max(0, least - 1)
            let rest = try repeated(body, least, most.map { $0 - 1 }, before: next)
            return try laySolid(body, before: rest)
        case .rule(let index):
            if let entry = solidEntries[index] { return try call(entry, before: next) }
            let entry = try reserve()
            solidEntries[index] = entry
            unfinishedSolids.append(index)
            return try call(entry, before: next)
        case .network(let network): return try lay(network, isSolid: true, before: next)
        case .marked(let body):
            let outer = isMarked
            isMarked = true
            defer { isMarked = outer }
            return try laySolid(body, before: next)
        }
    }

    private mutating func character(
        _ set: CodePointSet, before next: Int32
    ) throws(ConstraintError) -> Int32 {
        var firsts: [(next: Int32, bytes: ByteSet)] = []
        for sequence in set.byteSequences {
            var target = next
            for range in sequence.dropFirst().reversed() {
                target = try bytes(ByteSet(range), before: target)
            }
            let first = ByteSet(sequence[0])
            if let index = firsts.firstIndex(where: { $0.next == target }) {
                firsts[index].bytes.formUnion(first)
            } else {
                firsts.append((target, first))
            }
        }
        var targets: [Int32] = []
        for first in firsts { targets.append(try bytes(first.bytes, before: first.next)) }
        return try split(targets)
    }

    private mutating func repeated(
        _ body: Expression, _ least: Int, _ most: Int?, before next: Int32
    ) throws(ConstraintError) -> Int32 {
        if let most, most < least { return try split([]) }
        guard least <= Limits.repetition, most ?? 0 <= Limits.repetition else {
            throw ConstraintError(
                "expected at most \(Limits.repetition) repetitions, found \(max(least, most ?? 0))")
        }
        // Rounds that take nothing would go on for ever: of such a body none is needed, and each that
        // is run takes something.
        let least = body.isNullable(nullable) ? 0 : least
        switch (least, most) {
        case (_, 0): return next
        case (0, 1): return try split([try laySolid(body, before: next), next])
        case (0, nil), (1, nil):
            let again = try reserve()
            let start = try laySolid(body, before: again)
            join(again, [start, next])
            return least == 0 ? again : start
        default:
            if case .bytes = body, most ?? least + 1 <= 8 {
                // Few and small: laid out one after the other, readings stay without counts.
                var target = next
                if let most {
                    for _ in least..<most {
                        target = try split([try lay(body, before: target), next])
                    }
                } else {
                    target = try repeated(body, 0, nil, before: next)
                }
                for _ in 0..<least { target = try lay(body, before: target) }
                return target
            }
            let start = try laySolid(body, before: Program.finish)
            program.loops.append(
                Program.Loop(
                    body: start, least: Int32(least), most: Int32(most ?? -1), next: next))
            return try add(Program.Node(kind: .loop, first: Int32(program.loops.count - 1)))
        }
    }

    private mutating func lay(
        _ network: Network, isSolid: Bool, before next: Int32
    ) throws(ConstraintError) -> Int32 {
        var nodes: [Int32] = []
        for _ in network.states { nodes.append(try reserve()) }
        var start: [Int32] = []
        for (index, state) in network.states.enumerated() {
            var targets: [Int32] = []
            for edge in state.edges {
                targets.append(try lay(edge.label, before: nodes[edge.target]))
            }
            if index == 0 { start = targets }
            join(nodes[index], targets + (state.accepts ? [next] : []))
        }
        return isSolid ? try split(start) : nodes[0]
    }

    // MARK: Checks

    /// A rule that comes back to itself before it has taken a byte would put frames on the stack for ever.
    private func refuseLeftRecursion() throws(ConstraintError) {
        var visitor = LeftRecursion(program: program)
        guard let node = visitor.find() else { return }
        // The rule whose entry the node calls, where it has a name.
        let name = entries.firstIndex(of: node).map { grammar.names[$0] }
        throw ConstraintError(
            "rule \(name.map { "'\($0)'" } ?? "in a repetition") begins with itself;"
                + " write the repetition with * or + instead",
            at: name ?? "")
    }
}

/// Finds a cycle of steps that take no byte, of which at least one puts a frame on the stack.
private struct LeftRecursion {
    let program: Program
    private let isNullable: [Bool]

    init(program: Program) {
        self.program = program
        isNullable = program.costs(over: .all).bytes.map { $0 == 0 }
    }

    private func steps(from node: Int32) -> [(target: Int32, pushes: Bool)] {
        let it = program.nodes[Int(node)]
        switch it.kind {
        case .bytes, .finish: return []
        case .split:
            return program.targets[Int(it.first)..<Int(it.first + it.second)].map { ($0, false) }
        case .call:
            return [(it.first, true)] + (isNullable[Int(it.first)] ? [(it.second, false)] : [])
        case .loop:
            let loop = program.loops[Int(it.first)]
            return [(loop.body, true)] + (loop.least == 0 ? [(loop.next, false)] : [])
        }
    }

    /// Tarjan's strongly connected components, without recursion: a step that pushes within one is it.
    mutating func find() -> Int32? {
        let count = program.nodes.count
        var index = Array(repeating: Int32(-1), count: count)
        var low = Array(repeating: Int32(0), count: count)
        var component = Array(repeating: Int32(-1), count: count)
        var stack: [Int32] = []
        var next: Int32 = 0
        var path: [(node: Int32, steps: [(target: Int32, pushes: Bool)], at: Int)] = []
        func open(_ node: Int32) {
            index[Int(node)] = next
            low[Int(node)] = next
            next += 1
            stack.append(node)
            path.append((node, steps(from: node), 0))
        }
        for start in 0..<Int32(count) where index[Int(start)] < 0 {
            open(start)
            while let top = path.last {
                if top.at < top.steps.count {
                    path[path.count - 1].at += 1
                    let target = top.steps[top.at].target
                    if index[Int(target)] < 0 {
                        open(target)
                    } else if component[Int(target)] < 0 {
                        low[Int(top.node)] = min(low[Int(top.node)], index[Int(target)])
                    }
                    continue
                }
                path.removeLast()
                if let parent = path.last?.node {
                    low[Int(parent)] = min(low[Int(parent)], low[Int(top.node)])
                }
                if low[Int(top.node)] == index[Int(top.node)] {
                    while let member = stack.popLast() {
                        component[Int(member)] = top.node
                        if member == top.node { break }
                    }
                }
            }
        }
        for node in 0..<Int32(count) {
            for step in steps(from: node)
            where step.pushes && component[Int(step.target)] == component[Int(node)] {
                return step.target
            }
        }
        return nil
    }
}
