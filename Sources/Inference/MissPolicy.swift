/// What to do when an expert that the router chose is not in memory, as `--miss` takes it: a name,
/// then settings, as in `fallback,T1=0.6,T2=0.9`.
///
/// Policies act on decode steps only. A prompt is computed in chunks, which read each expert once
/// whatever its weight, so there they would cost quality and save little. The expert of rank 0 (the
/// largest gate weight) and protected experts always compute at full width. *Miss* means that not
/// all planes are in memory; a hit is computed as chosen, except by `maxRank`, `cumulative` and
/// `cachePrior`, which choose anew. Gate weights g are compared as shares of their sum over the k
/// chosen; k is the experts per token, fewer of some tokens under `Routing.topP`.
public enum MissPolicy: Sendable, Equatable, CustomStringConvertible {
    /// Wait for every plane of every expert: the model's own answer.
    case exact
    /// Mixed precision by the sum s of the gate weights of better ranks: s <= `full` (T1) reads all
    /// planes, `full` < s <= `prefix` (T2) is content with `planes` planes (W), beyond that a
    /// prefix serves if it is in memory and else the expert is skipped. What is skipped is made up
    /// for by scaling the others (HOBBIT, arXiv 2411.01433, token-level score).
    case fallback(full: Double, prefix: Double, planes: Int)
    /// Skip a miss with g < `below` (F) / k, and scale the others up (cold-expert drop).
    case drop(below: Double)
    /// A miss with g < `below` (F) / k is read while the layer computes, and added one layer later;
    /// in the last layer it is waited for (Expert Deferral of KTransformers, SOSP'25, applied to
    /// misses only). Acts on one sequence at a time.
    case deferred(below: Double)
    /// A miss from rank `kept` (J) on with g < `below` (F) / k is replaced by the expert in memory
    /// that the router likes best among those not chosen, with the weight of the one it stands for;
    /// without such an expert it is read.
    case substitute(below: Double, kept: Int)
    /// Keep the best `kept` (J); fill the other places with experts in memory among the best
    /// `ranks` (M), then by rank ("Max-Rank", arXiv 2412.00099).
    case maxRank(kept: Int, ranks: Int)
    /// `maxRank` with M for each token: as many of the best as together have the router probability
    /// `probability` (P) ("Cumulative threshold", same paper).
    case cumulative(kept: Int, probability: Double)
    /// Choose by the router's logits with `bonus` (lambda) times their mean range in this layer
    /// added for experts in memory and for the best `kept` (J); the weights are the router's own
    /// ("Cache-Prior", same paper).
    case cachePrior(kept: Int, bonus: Double)

    /// Names as `--miss` takes them.
    public static let names = [
        "exact", "fallback", "drop", "defer", "substitute", "max-rank", "cumulative", "cache-prior",
    ]

    /// Reads a policy; settings left out keep their defaults.
    ///
    /// - Throws: `EngineError` naming the word that is wrong and what would do.
    public init(_ text: String) throws(EngineError) {
        let words = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        var settings = try MissSettings(words.dropFirst(), policy: words[0])
        switch words[0] {
        case "exact": self = .exact
        case "fallback":
            let full = try settings.number("T1", 0.6, 0...1)
            let prefix = try settings.number("T2", 0.9, 0...1)
            guard full <= prefix else {
                throw EngineError("--miss '\(text)': T1 is above T2; give T1 <= T2")
            }
            self = .fallback(
                full: full, prefix: prefix, planes: try settings.count("W", 1, 1...4))
        case "drop": self = .drop(below: try settings.number("F", 0.75, 0...1))
        case "defer": self = .deferred(below: try settings.number("F", 1, 0...1))
        case "substitute":
            self = .substitute(
                below: try settings.number("F", 0.75, 0...1),
                kept: try settings.count("J", 1, 1...1024))
        case "max-rank":
            self = .maxRank(
                kept: try settings.count("J", 2, 1...1024),
                ranks: try settings.count("M", 12, 1...65_536))
        case "cumulative":
            self = .cumulative(
                kept: try settings.count("J", 2, 1...1024),
                probability: try settings.number("P", 0.9, 0...1))
        case "cache-prior":
            self = .cachePrior(
                kept: try settings.count("J", 2, 1...1024),
                bonus: try settings.number("lambda", 0.2, 0...1))
        default:
            throw EngineError(
                "--miss '\(text)': '\(words[0])' is none of "
                    + MissPolicy.names.joined(separator: ", "))
        }
        try settings.refuseUnused()
    }

    public var description: String {
        switch self {
        case .exact: "exact"
        case .fallback(let full, let prefix, let planes):
            "fallback,T1=\(full),T2=\(prefix),W=\(planes)"
        case .drop(let below): "drop,F=\(below)"
        case .deferred(let below): "defer,F=\(below)"
        case .substitute(let below, let kept): "substitute,F=\(below),J=\(kept)"
        case .maxRank(let kept, let ranks): "max-rank,J=\(kept),M=\(ranks)"
        case .cumulative(let kept, let probability): "cumulative,J=\(kept),P=\(probability)"
        case .cachePrior(let kept, let bonus): "cache-prior,J=\(kept),lambda=\(bonus)"
        }
    }

    /// What the user should know before it runs on a model of `expertsPerToken`; nil if nothing.
    public func warning(expertsPerToken k: Int) -> String? {
        switch self {
        case .drop where k <= 4:
            "--miss \(self): with \(k) experts per token each one dropped is much of the answer; "
                + "the rule was tried on models of 6 and more"
        case .substitute(_, let kept) where kept >= k, .maxRank(let kept, _) where kept >= k,
            .cumulative(let kept, _) where kept >= k:
            "--miss \(self): J keeps all \(k) experts of a token, so nothing changes"
        case .maxRank(_, let ranks) where ranks <= k:
            "--miss \(self): M reaches no further than the \(k) experts of a token, so nothing "
                + "changes; give more"
        default: nil
        }
    }

    /// Whether router logits are read as they are, before the softmax: to compare them, or because
    /// the weights of a new choice are made of them.
    func readsLogits(under routing: Routing) -> Bool {
        switch (self, routing.gating) {
        case (.cachePrior, _), (.maxRank, .sparseMixer), (.cumulative, .sparseMixer): true
        default: false
        }
    }

    /// Whether it asks of experts that were not chosen if they are in memory.
    var asksOfAllExperts: Bool {
        switch self {
        case .substitute, .maxRank, .cumulative, .cachePrior: true
        case .exact, .fallback, .drop, .deferred: false
        }
    }
}

/// `NAME=VALUE` words, taken one by one.
private struct MissSettings {
    private let policy: String
    private var values: [String: String] = [:]

    init(_ words: ArraySlice<String>, policy: String) throws(EngineError) {
        self.policy = policy
        for word in words {
            let halves = word.split(separator: "=", maxSplits: 1).map(String.init)
            guard halves.count == 2 else {
                throw EngineError("--miss \(policy): '\(word)' is not NAME=VALUE")
            }
            guard values.updateValue(halves[1], forKey: halves[0].lowercased()) == nil else {
                throw EngineError("--miss \(policy): \(halves[0]) is given twice")
            }
        }
    }

    mutating func number(
        _ name: String, _ standard: Double, _ range: ClosedRange<Double>
    ) throws(EngineError) -> Double {
        try value(name, standard, range, "a number")
    }

    mutating func count(
        _ name: String, _ standard: Int, _ range: ClosedRange<Int>
    ) throws(EngineError) -> Int {
        try value(name, standard, range, "a whole number")
    }

    private mutating func value<Value: LosslessStringConvertible & Comparable>(
        _ name: String, _ standard: Value, _ range: ClosedRange<Value>, _ kind: String
    ) throws(EngineError) -> Value {
        guard let text = values.removeValue(forKey: name.lowercased()) else { return standard }
        guard let value = Value(text), range.contains(value) else {
            throw EngineError(
                "--miss \(policy): \(name)=\(text) is not \(kind) between \(range.lowerBound) "
                    + "and \(range.upperBound)")
        }
        return value
    }

    func refuseUnused() throws(EngineError) {
        guard let name = values.keys.min() else { return }
        throw EngineError("--miss \(policy): it has no setting '\(name)'")
    }
}
