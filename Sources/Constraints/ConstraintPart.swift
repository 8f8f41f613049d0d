public import JSONTree

/// A piece of a text that is put together, such as a tool call with what stands around it.
public indirect enum ConstraintPart: Sendable {
    /// This text. Where the vocabulary has a control token of a part of it, that may stand for it.
    case literal(String)
    case constraint(Constraint)
    /// JSON that fulfils the schema.
    case schema(JSON)
    /// One of these.
    case choice([[ConstraintPart]])
    /// Without `atMost` as often as you like.
    case repeated([ConstraintPart], atLeast: Int, atMost: Int?)
    /// Any text up to and including the first time that this comes, such as `</think>`.
    case until(String)
}

extension Constraint {
    /// Any JSON object.
    public static func jsonObject() -> Constraint { anyJSONObject }

    /// These parts one after the other.
    public static func sequence(_ parts: [ConstraintPart]) throws(ConstraintError) -> Constraint {
        var grammar = Grammar()
        grammar.root = try grammar.add(parts)
        return try Constraint(grammar)
    }

    /// Free text until one of the triggers appears; then what the trigger asks for; then the same again.
    ///
    /// Nothing is free but text without a trigger: as soon as one is complete, its constraint begins. Free text may
    /// have control tokens.
    ///
    /// - Parameters:
    ///   - requires: the text is not complete before a trigger has appeared and been answered.
    ///   - repeats: free text, and triggers, may come again; else the text ends with the first answer.
    public static func triggered(
        _ triggers: [(trigger: String, then: Constraint)], requires: Bool, repeats: Bool = true
    ) throws(ConstraintError) -> Constraint {
        guard !triggers.isEmpty, triggers.allSatisfy({ !$0.trigger.isEmpty }) else {
            throw ConstraintError("expected triggers of at least one character")
        }
        var grammar = Grammar()
        var answers: [Expression] = []
        for (trigger, then) in triggers {
            let answer = grammar.absorb(then.grammar)
            answers.append(.rule(grammar.addRule("after \(trigger)", answer)))
        }
        let search = Search(for: triggers.map { Array($0.trigger.utf8) })
        let free = search.network(answers: answers, acceptsFreeText: true, repeats: repeats)
        if requires {
            let first = search.network(answers: answers, acceptsFreeText: false, repeats: false)
            grammar.root = .sequence([.network(first)] + (repeats ? [.network(free)] : []))
        } else {
            grammar.root = .network(free)
        }
        return try Constraint(grammar)
    }
}

extension Grammar {
    /// The expression of parts one after the other.
    fileprivate mutating func add(
        _ parts: [ConstraintPart], depth: Int = 0
    ) throws(ConstraintError) -> Expression {
        guard depth < Limits.depth else {
            throw ConstraintError(
                "expected at most \(Limits.depth) levels inside each other, found more")
        }
        var expressions: [Expression] = []
        for part in parts {
            switch part {
            case .literal(let text): expressions.append(.marked(.literal(text)))
            case .constraint(let constraint): expressions.append(absorb(constraint.grammar))
            case .schema(let schema):
                expressions.append(absorb(try SchemaCompiler.grammar(for: schema)))
            case .choice(let ways):
                var choices: [Expression] = []
                for way in ways { choices.append(try add(way, depth: depth + 1)) }
                expressions.append(.choice(choices))
            case .repeated(let body, let least, let most):
                guard least >= 0 else {
                    throw ConstraintError("expected a count from 0, found \(least)")
                }
                expressions.append(.repeated(try add(body, depth: depth + 1), least, most))
            case .until(let text):
                guard !text.isEmpty else {
                    throw ConstraintError("expected an end of at least one character")
                }
                let search = Search(for: [Array(text.utf8)])
                expressions.append(
                    .network(
                        search.network(answers: [.empty], acceptsFreeText: false, repeats: false)))
            }
        }
        return .sequence(expressions)
    }
}

/// Finds the first of several texts in a longer one (Aho and Corasick, "Efficient String Matching", 1975): a
/// state for each of their beginnings, which is the longest that the text so far ends in.
private struct Search {
    /// By state and byte.
    private var next: [[Int]] = []
    /// Which of the texts is complete.
    private var found: [Int?] = []

    init(for texts: [[UInt8]]) {
        var children: [[UInt8: Int]] = [[:]]
        found = [nil]
        for (index, text) in texts.enumerated() {
            var state = 0
            for byte in text {
                if let child = children[state][byte] {
                    state = child
                } else {
                    children.append([:])
                    found.append(nil)
                    children[state][byte] = children.count - 1
                    state = children.count - 1
                }
            }
            found[state] = found[state] ?? index
        }
        next = Array(repeating: Array(repeating: 0, count: 256), count: children.count)
        // By length: the longest beginning that a state ends in is shorter than it.
        var fallback = Array(repeating: 0, count: children.count)
        var states = [0]
        var index = 0
        while index < states.count {
            let state = states[index]
            index += 1
            if found[state] == nil { found[state] = found[fallback[state]] }
            for byte in 0..<256 {
                let without = state == 0 ? 0 : next[fallback[state]][byte]
                if let child = children[state][UInt8(byte)] {
                    next[state][byte] = child
                    fallback[child] = without
                    states.append(child)
                } else {
                    next[state][byte] = without
                }
            }
        }
    }

    /// Text, and when one of the texts is complete, its answer; then the end, or the same again.
    func network(answers: [Expression], acceptsFreeText: Bool, repeats: Bool) -> Network {
        var network = Network()
        let end = next.count
        for row in next {
            var targets: [Int: ByteSet] = [:]
            for (byte, target) in row.enumerated() {
                targets[target, default: ByteSet()].insert(UInt8(byte))
            }
            var state = Network.State(accepts: acceptsFreeText)
            for (target, bytes) in targets.sorted(by: { $0.key < $1.key }) {
                let text = Expression.marked(.bytes(bytes))
                if let answer = found[target] {
                    state.edges.append((.sequence([text, answers[answer]]), end))
                } else {
                    state.edges.append((text, target))
                }
            }
            network.states.append(state)
        }
        network.states.append(
            Network.State(edges: repeats ? network.states[0].edges : [], accepts: true))
        return network
    }
}
