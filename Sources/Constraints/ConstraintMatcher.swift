/// Follows one text through a constraint and says which tokens may come next.
///
/// States and masks are remembered: in the middle of a string the mask is the same again and again. What is
/// remembered belongs to the value, so that each generation has its own; a copy goes its own way.
public struct ConstraintMatcher: Sendable {
    private let vocabulary: ConstraintVocabulary
    private var machine: StateMachine
    private var state: Int32
    private var hasEnded = false
    /// Bytes over which ends are measured.
    private let spellable: ByteSet

    private struct Mask: Sendable {
        var words: [UInt64]
        /// Bytes to the end after the worst of its tokens.
        var greatestNeed: Int
    }
    private var masks: [Int32: Mask] = [:]
    /// By state: tokens to the end.
    private var endings: [Int32: Int] = [:]
    /// A way to the end that fits the budget, being followed.
    private var plan: ArraySlice<Int32> = []
    private var hasPlan = false
    /// By depth in the trie.
    private var path: [Int32]

    /// True where nothing may follow and the text is not complete: the vocabulary cannot spell what must come,
    /// or a token was accepted that the mask did not offer.
    public private(set) var isStuck = false

    public init(_ constraint: Constraint, vocabulary: ConstraintVocabulary) {
        self.vocabulary = vocabulary
        let program = constraint.program
        var spellable = vocabulary.spellable
        var costs = constraint.costs
        if spellable != .all {
            costs = program.costs(over: spellable)
            // No end can be promised byte by byte; the way there is by longer tokens, if there is one.
            if costs.bytes[Int(program.root)] >= Costs.never {
                costs = constraint.costs
                spellable = .all
            }
        }
        self.spellable = spellable
        machine = StateMachine(program, costs: costs)
        state = machine.start()
        path = Array(repeating: 0, count: vocabulary.greatestDepth + 1)
    }

    /// The text so far is a whole member of the language.
    public var isComplete: Bool { machine.accepts[Int(state)] }

    /// An upper bound on the tokens of the shortest end.
    public var leastTokensToEnd: Int {
        mutating get {
            let least = tokensToEnd(state)
            return hasPlan ? min(least, plan.count) : least
        }
    }

    /// Which tokens may come next: bit i % 64 of word i / 64 for token i.
    ///
    /// Tokens that end a generation are offered when the text is complete. Where it is complete and nothing
    /// can follow, these are all; a vocabulary without such tokens then has an empty mask.
    ///
    /// - Parameters:
    ///   - remainingTokens: how many may still come, with this one. As they run short, only tokens are
    ///     offered after which the shortest end still fits.
    ///   - words: at least `vocabulary.maskWordCount`; what is beyond is cleared.
    public mutating func mask(remainingTokens: Int, into words: inout [UInt64]) {
        for index in words.indices { words[index] = 0 }
        guard !hasEnded, state != StateMachine.dead else { return }
        if machine.stateCount > Limits.cachedStates { forget() }

        let budget = max(0, remainingTokens - 1)
        let cached = fullMask()
        if let mask = masks[state], cached, mask.greatestNeed <= budget {
            for index in mask.words.indices where index < words.count {
                words[index] = mask.words[index]
            }
        } else {
            _ = walk(budget: budget, into: &words)
            offerPlan(into: &words)
        }
        offerNamed(budget: budget, into: &words)
        if isComplete {
            for id in vocabulary.endOfGeneration { ConstraintMatcher.set(id, in: &words) }
        } else if !words.contains(where: { $0 != 0 }) {
            offerPlan(into: &words)
            isStuck = !words.contains { $0 != 0 }
        }
    }

    /// Goes on by a token. One that was not offered leaves the matcher stuck.
    public mutating func accept(_ id: Int32) {
        guard !hasEnded, id >= 0, id < vocabulary.tokenCount else { return }
        if vocabulary.endOfGeneration.contains(id) {
            if isComplete { hasEnded = true } else { fail() }
            return
        }
        if hasPlan, plan.first == id { plan.removeFirst() } else { hasPlan = false }
        let bytes = vocabulary.tokens[Int(id)]
        if vocabulary.named.contains(id) {
            state = machine.next(state, marked: bytes)
        } else {
            for byte in bytes { state = machine.next(state, byte) }
        }
        if state == StateMachine.dead || bytes.isEmpty { fail() }
    }

    private mutating func fail() {
        state = StateMachine.dead
        isStuck = true
    }

    // MARK: Masks

    /// Makes sure that the state's whole mask is known.
    private mutating func fullMask() -> Bool {
        if masks[state] != nil { return true }
        if masks.count >= Limits.cachedMasks { masks.removeAll(keepingCapacity: true) }
        var words = Array(repeating: UInt64(0), count: vocabulary.maskWordCount)
        let greatest = walk(budget: nil, into: &words)
        masks[state] = Mask(words: words, greatestNeed: greatest)
        return true
    }

    /// Walks the trie along with the machine, marks tokens that may come next and after which the end fits
    /// the budget, and returns the most bytes that any of them leaves to the end.
    private mutating func walk(budget: Int?, into words: inout [UInt64]) -> Int {
        let nodes = vocabulary.nodes
        let classCount = machine.program.classCount
        let classOf = machine.program.classOf
        let limit = machine.stateCount + Limits.statesPerMask
        var greatest = 0
        var index = 0
        path[0] = state
        while index < nodes.count {
            let node = nodes[index]
            let before = path[Int(node.depth) - 1]
            let column = Int(classOf[Int(node.byte)])
            var after = machine.rows[Int(before) * classCount + column]
            if after < 0, machine.stateCount < limit {
                after = machine.next(before, classOf: column)
            }
            guard after > 0 else {
                index = Int(node.skip)
                continue
            }
            path[Int(node.depth)] = after
            index += 1
            guard node.count > 0 else { continue }
            let need = machine.needs[Int(after)]
            guard need < Costs.never else { continue }
            if let budget, need > budget, tokensToEnd(after) > budget { continue }
            greatest = max(greatest, need)
            for position in Int(node.first)..<Int(node.first) + Int(node.count) {
                ConstraintMatcher.set(vocabulary.ids[position], in: &words)
            }
        }
        return greatest
    }

    /// Control tokens that stand for text.
    private mutating func offerNamed(budget: Int, into words: inout [UInt64]) {
        for id in vocabulary.named {
            let after = machine.next(state, marked: vocabulary.tokens[Int(id)])
            guard after != StateMachine.dead else { continue }
            if machine.needs[Int(after)] > budget, tokensToEnd(after) > budget { continue }
            ConstraintMatcher.set(id, in: &words)
        }
    }

    private static func set(_ id: Int32, in words: inout [UInt64]) {
        let word = Int(id) >> 6
        if word < words.count { words[word] |= 1 << UInt64(id & 63) }
    }

    // MARK: Ends

    /// The first token of the way to the end is offered in any case: another way of the same length may be
    /// split into more tokens, and this one is known to fit.
    private mutating func offerPlan(into words: inout [UInt64]) {
        if !hasPlan {
            guard
                let text = machine.ending(
                    from: state, over: spellable, limit: Limits.plannedBytes),
                let tokens = vocabulary.split(text)
            else { return }
            plan = tokens[...]
            hasPlan = true
        }
        if let first = plan.first { ConstraintMatcher.set(first, in: &words) }
    }

    /// Tokens of the shortest end from a state; each byte one where it is too long to be split.
    private mutating func tokensToEnd(_ state: Int32) -> Int {
        if let known = endings[state] { return known }
        var count = machine.needs[Int(state)]
        if let text = machine.ending(from: state, over: spellable, limit: Limits.plannedBytes),
            let tokens = vocabulary.split(text)
        {
            count = tokens.count
        }
        endings[state] = count
        return count
    }

    private mutating func forget() {
        state = machine.forget(keeping: state)
        masks.removeAll(keepingCapacity: true)
        endings.removeAll(keepingCapacity: true)
    }
}
