/// A language of characters that must be cut with others or turned inside out: patterns with lengths, names that
/// are not declared ones, numbers within bounds.
///
/// Deterministic: `next[state * columns + column]`, -1 where nothing follows; `bounds` are the first code
/// points of the columns. State 0 is the start.
struct Automaton: Sendable {
    private(set) var bounds: [UInt32]
    private(set) var next: [Int32]
    private(set) var accepts: [Bool]

    /// More states than `Limits` allows.
    struct TooLarge: Error {}

    /// All texts.
    static let anything = Automaton(bounds: [0], next: [0], accepts: [true])

    private init(bounds: [UInt32], next: [Int32], accepts: [Bool]) {
        self.bounds = bounds
        self.next = next
        self.accepts = accepts
    }

    private var columnCount: Int { bounds.count }

    /// Texts of so many characters.
    init(length least: Int, _ most: Int?) throws(TooLarge) {
        let last = most.map { $0 } ?? least
        guard last < Limits.automatonStates else { throw TooLarge() }
        bounds = [0]
        next = (0...last).map { $0 < last ? Int32($0 + 1) : (most == nil ? Int32(last) : -1) }
        accepts = (0...last).map { $0 >= least }
    }

    /// These texts.
    init(literals: [String]) throws(TooLarge) {
        var states = Nondeterministic()
        let start = states.add()
        for literal in literals {
            var state = start
            for scalar in literal.unicodeScalars {
                let target = states.add()
                states.connect(state, CodePointSet(scalar.value), target)
                state = target
            }
            states.isFinal[state] = true
        }
        try self.init(states, start: start)
    }

    /// What the pattern matches as a whole, or, in a search, what has it somewhere.
    init(_ pattern: Pattern, isSearch: Bool) throws(TooLarge) {
        var states = Nondeterministic()
        let end = states.add()
        states.isFinal[end] = true
        if isSearch { states.connect(end, .all, end) }
        var start = try states.add(pattern, before: end)
        if isSearch {
            let before = states.add()
            states.connect(before, .all, before)
            states.step(before, start)
            start = before
        }
        try self.init(states, start: start)
    }

    /// By sets of states (Rabin and Scott, 1959).
    init(_ states: Nondeterministic, start: Int) throws(TooLarge) {
        var starts: Set<UInt32> = [0]
        for edge in states.edges.joined() {
            for range in edge.set.ranges {
                starts.insert(range.lowerBound)
                starts.insert(range.upperBound + 1)
            }
        }
        starts.remove(CodePointSet.greatest + 1)
        bounds = starts.sorted()
        next = []
        accepts = []
        let columns = bounds
        var numbers: [[Int]: Int32] = [:]
        var sets: [[Int]] = []
        func number(_ set: [Int]) -> Int32 {
            if let number = numbers[set] { return number }
            sets.append(set)
            numbers[set] = Int32(sets.count - 1)
            return Int32(sets.count - 1)
        }
        _ = number(states.closure([start], atStart: true, atEnd: false))
        var index = 0
        while index < sets.count {
            guard sets.count <= Limits.automatonStates,
                next.count <= 8 * Limits.automatonEdges
            else { throw TooLarge() }
            let set = sets[index]
            var targets: [[Int]] = Array(repeating: [], count: columns.count)
            for state in set {
                for edge in states.edges[state] {
                    for range in edge.set.ranges {
                        var column = Automaton.column(of: range.lowerBound, in: columns)
                        while column < columns.count, columns[column] <= range.upperBound {
                            targets[column].append(edge.target)
                            column += 1
                        }
                    }
                }
            }
            for target in targets {
                next.append(
                    target.isEmpty
                        ? -1 : number(states.closure(target, atStart: false, atEnd: false)))
            }
            let atEnd = states.closure(set, atStart: index == 0, atEnd: true)
            accepts.append(atEnd.contains { states.isFinal[$0] })
            index += 1
        }
        self = trimmed()
    }

    private static func column(of value: UInt32, in bounds: [UInt32]) -> Int {
        var (low, high) = (0, bounds.count)
        while high - low > 1 {
            let middle = (low + high) / 2
            if bounds[middle] <= value { low = middle } else { high = middle }
        }
        return low
    }

    // MARK: Operations

    /// Texts of both.
    func intersection(_ other: Automaton) throws(TooLarge) -> Automaton {
        try product(other) { $0 && $1 }
    }

    /// Texts of this and not of the other.
    func subtracting(_ other: Automaton) throws(TooLarge) -> Automaton {
        try product(other) { $0 && !$1 }
    }

    private func product(
        _ other: Automaton, _ accepts: (Bool, Bool) -> Bool
    ) throws(TooLarge) -> Automaton {
        let bounds = Set(self.bounds).union(other.bounds).sorted()
        let columns = bounds.map {
            (Automaton.column(of: $0, in: self.bounds), Automaton.column(of: $0, in: other.bounds))
        }
        struct Pair: Hashable {
            let one: Int32
            let other: Int32
        }
        var result = Automaton(bounds: bounds, next: [], accepts: [])
        var numbers = [Pair(one: 0, other: 0): Int32(0)]
        var pairs = [Pair(one: 0, other: 0)]
        var index = 0
        while index < pairs.count {
            guard pairs.count <= Limits.automatonStates,
                result.next.count <= 8 * Limits.automatonEdges
            else { throw TooLarge() }
            let pair = pairs[index]
            index += 1
            result.accepts.append(
                accepts(
                    pair.one >= 0 && self.accepts[Int(pair.one)],
                    pair.other >= 0 && other.accepts[Int(pair.other)]))
            for (left, right) in columns {
                let target = Pair(
                    one: pair.one < 0 ? -1 : next[Int(pair.one) * columnCount + left],
                    other: pair.other < 0
                        ? -1 : other.next[Int(pair.other) * other.columnCount + right])
                // Both operations need the left one alive.
                if target.one < 0 {
                    result.next.append(-1)
                } else if let number = numbers[target] {
                    result.next.append(number)
                } else {
                    numbers[target] = Int32(pairs.count)
                    result.next.append(Int32(pairs.count))
                    pairs.append(target)
                }
            }
        }
        return result.trimmed()
    }

    /// Without states from which there is no end.
    private func trimmed() -> Automaton {
        var sources: [[Int32]] = Array(repeating: [], count: accepts.count)
        for state in accepts.indices {
            for column in 0..<columnCount {
                let target = next[state * columnCount + column]
                if target >= 0, sources[Int(target)].last != Int32(state) {
                    sources[Int(target)].append(Int32(state))
                }
            }
        }
        var isLive = accepts
        var pending = accepts.indices.filter { accepts[$0] }
        while let state = pending.popLast() {
            for source in sources[state] where !isLive[Int(source)] {
                isLive[Int(source)] = true
                pending.append(Int(source))
            }
        }
        var numbers: [Int32] = Array(repeating: -1, count: accepts.count)
        var kept: [Int] = []
        for state in accepts.indices where isLive[state] || state == 0 {
            numbers[state] = Int32(kept.count)
            kept.append(state)
        }
        var result = Automaton(bounds: bounds, next: [], accepts: kept.map { accepts[$0] })
        for state in kept {
            for column in 0..<columnCount {
                let target = next[state * columnCount + column]
                result.next.append(target >= 0 && isLive[Int(target)] ? numbers[Int(target)] : -1)
            }
        }
        return result
    }

    var isEmpty: Bool { accepts == [false] }

    func matches(_ text: String) -> Bool {
        var state: Int32 = 0
        for scalar in text.unicodeScalars {
            state = next[
                Int(state) * columnCount + Automaton.column(of: scalar.value, in: bounds)]
            if state < 0 { return false }
        }
        return accepts[Int(state)]
    }

    /// The language in bytes.
    func expression(_ spelling: Spelling) throws(TooLarge) -> Expression {
        if isEmpty { return .never }
        var network = Network()
        var spelled: [CodePointSet: Expression] = [:]
        var edgeCount = 0
        for state in accepts.indices {
            var ranges: [Int32: [ClosedRange<UInt32>]] = [:]
            for column in 0..<columnCount {
                let target = next[state * columnCount + column]
                guard target >= 0 else { continue }
                let end = column + 1 < columnCount ? bounds[column + 1] - 1 : CodePointSet.greatest
                ranges[target, default: []].append(bounds[column]...end)
            }
            var edges: [(label: Expression, target: Int)] = []
            for (target, ranges) in ranges.sorted(by: { $0.key < $1.key }) {
                let set = CodePointSet(ranges)
                let label = spelled[set] ?? spelling.expression(for: set)
                spelled[set] = label
                edges.append((label, Int(target)))
            }
            edgeCount += edges.count
            guard edgeCount <= Limits.automatonEdges else { throw TooLarge() }
            network.states.append(Network.State(edges: edges, accepts: accepts[state]))
        }
        return .network(network)
    }
}

/// An automaton that may go several ways, from which a deterministic one is made.
struct Nondeterministic {
    enum Step { case always, atStart, atEnd }

    var edges: [[(set: CodePointSet, target: Int)]] = []
    var steps: [[(condition: Step, target: Int)]] = []
    var isFinal: [Bool] = []

    mutating func add() -> Int {
        edges.append([])
        steps.append([])
        isFinal.append(false)
        return edges.count - 1
    }

    mutating func connect(_ state: Int, _ set: CodePointSet, _ target: Int) {
        edges[state].append((set, target))
    }

    mutating func step(_ state: Int, _ target: Int, when condition: Step = .always) {
        steps[state].append((condition, target))
    }

    /// States reached without a character, in order.
    func closure(_ states: [Int], atStart: Bool, atEnd: Bool) -> [Int] {
        var found = Set(states)
        var pending = states
        while let state = pending.popLast() {
            for step in steps[state] {
                let isOpen =
                    switch step.condition {
                    case .always: true
                    case .atStart: atStart
                    case .atEnd: atEnd
                    }
                if isOpen, found.insert(step.target).inserted { pending.append(step.target) }
            }
        }
        return found.sorted()
    }

    /// The states of a pattern, each repetition written out (Thompson, 1968); returns the one to begin with.
    mutating func add(_ pattern: Pattern, before end: Int) throws(Automaton.TooLarge) -> Int {
        guard edges.count <= Limits.automatonStates else { throw Automaton.TooLarge() }
        switch pattern {
        case .empty: return end
        case .start, .end:
            let state = add()
            if case .start = pattern {
                step(state, end, when: .atStart)
            } else {
                step(state, end, when: .atEnd)
            }
            return state
        case .character(let set):
            let state = add()
            connect(state, set, end)
            return state
        case .sequence(let parts):
            var end = end
            for part in parts.reversed() { end = try add(part, before: end) }
            return end
        case .choice(let parts):
            let state = add()
            for part in parts { step(state, try add(part, before: end)) }
            return state
        case .repeated(let body, let least, let most):
            var target = end
            if let most {
                for _ in 0..<max(0, most - least) {
                    let state = add()
                    step(state, try add(body, before: target))
                    step(state, end)
                    target = state
                }
            } else {
                let state = add()
                step(state, try add(body, before: state))
                step(state, end)
                target = state
            }
            for _ in 0..<least { target = try add(body, before: target) }
            return target
        }
    }
}
