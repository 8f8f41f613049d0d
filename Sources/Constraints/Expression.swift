/// A language over bytes as it is put together, before it is laid out as a program.
///
/// Rules make recursion possible: `rule(3)` stands for whatever the grammar's fourth rule says.
indirect enum Expression: Sendable {
    /// No text at all.
    case never
    /// The empty text.
    case empty
    /// One byte.
    case bytes(ByteSet)
    /// One character in UTF-8.
    case character(CodePointSet)
    case sequence([Expression])
    case choice([Expression])
    /// At least, at most; without the second as often as you like.
    case repeated(Expression, Int, Int?)
    case rule(Int)
    case network(Network)
    /// Here control tokens may stand for the text that they are named by.
    case marked(Expression)

    static func literal(_ text: String) -> Expression { literal(Array(text.utf8)) }

    static func literal(_ bytes: [UInt8]) -> Expression {
        bytes.isEmpty
            ? .empty : .sequence(bytes.map { .bytes(ByteSet(CollectionOfOne($0))) })
    }

    static func optional(_ expression: Expression) -> Expression { .repeated(expression, 0, 1) }

    var isNever: Bool { if case .never = self { true } else { false } }
}

/// An automaton whose edges are expressions: for what is a graph by nature, such as a search.
struct Network: Sendable {
    struct State: Sendable {
        var edges: [(label: Expression, target: Int)] = []
        var accepts = false
    }

    /// The first is the start.
    var states: [State] = []
}

/// Rules and the expression that everything begins with.
struct Grammar: Sendable {
    var rules: [Expression] = []
    /// What errors call the rules.
    var names: [String] = []
    var root: Expression = .never

    /// A new rule, whose body may be set later so that it can refer to itself.
    mutating func addRule(_ name: String, _ body: Expression = .never) -> Int {
        rules.append(body)
        names.append(name)
        return rules.count - 1
    }

    /// Takes over the other grammar's rules and returns its root in this one's numbers.
    mutating func absorb(_ other: Grammar) -> Expression {
        let offset = rules.count
        rules += other.rules.map { $0.shifted(by: offset) }
        names += other.names
        return other.root.shifted(by: offset)
    }
}

extension Expression {
    /// The same with all rule numbers raised.
    func shifted(by offset: Int) -> Expression {
        switch self {
        case .never, .empty, .bytes, .character: self
        case .sequence(let parts): .sequence(parts.map { $0.shifted(by: offset) })
        case .choice(let parts): .choice(parts.map { $0.shifted(by: offset) })
        case .repeated(let body, let least, let most):
            .repeated(body.shifted(by: offset), least, most)
        case .rule(let index): .rule(index + offset)
        case .marked(let body): .marked(body.shifted(by: offset))
        case .network(var network):
            {
                for state in network.states.indices {
                    for edge in network.states[state].edges.indices {
                        let label = network.states[state].edges[edge].label
                        network.states[state].edges[edge].label = label.shifted(by: offset)
                    }
                }
                return .network(network)
            }()
        }
    }

    /// Whether the empty text belongs to it, given which rules have it.
    func isNullable(_ rules: [Bool]) -> Bool {
        switch self {
        case .never, .bytes, .character: false
        case .empty: true
        case .sequence(let parts): parts.allSatisfy { $0.isNullable(rules) }
        case .choice(let parts): parts.contains { $0.isNullable(rules) }
        case .repeated(let body, let least, let most):
            least == 0 || most == 0 || body.isNullable(rules)
        case .rule(let index): rules[index]
        case .network(let network): network.states[0].accepts
        case .marked(let body): body.isNullable(rules)
        }
    }
}
