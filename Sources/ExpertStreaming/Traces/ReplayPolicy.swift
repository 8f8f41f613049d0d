/// A policy as replay knows it: those that run, and two that know the future and so bound them.
public enum ReplayPolicy: Sendable, Equatable, CustomStringConvertible {
    case online(EvictionPolicy)
    /// The expert whose next use is farthest away leaves first. What is missed is always admitted,
    /// as the engine must, so this is not quite the optimum with bypass.
    case belady
    /// The expert with the fewest uses among the current and the following tokens, that many
    /// together, leaves first, the least recently used of several: the oracle behind SCH
    /// (arXiv 2505.16056).
    case lookahead(tokens: Int)

    /// Reads "belady", "sch16" (with a number of tokens), or the text of an `EvictionPolicy`.
    ///
    /// - Throws: `EvictionPolicyError` for anything else.
    public init(_ text: String) throws(EvictionPolicyError) {
        let lower = text.lowercased()
        if lower == "belady" {
            self = .belady
        } else if lower.hasPrefix("sch") {
            guard let tokens = plainInteger(lower.dropFirst(3)), (1...1 << 30).contains(tokens)
            else {
                throw EvictionPolicyError(
                    description: "policy '\(text)': write the tokens it looks ahead behind sch, as "
                        + "in 'sch16'")
            }
            self = .lookahead(tokens: tokens)
        } else {
            do {
                self = .online(try EvictionPolicy(text))
            } catch {
                throw lower.contains(":") || EvictionPolicy.names.contains(lower)
                    ? error
                    : EvictionPolicyError(
                        description: error.description + "; in replay also belady and sch16")
            }
        }
    }

    public var description: String {
        switch self {
        case .online(let policy): policy.description
        case .belady: "belady"
        case .lookahead(let tokens): "sch\(tokens)"
        }
    }
}

/// What replay reads ahead of a decoded token's layer, as if it came in while the layer before
/// computed.
public enum ReplayPredictor: Sendable, Equatable, CustomStringConvertible {
    case none
    /// The experts of the token before.
    case previous
    /// The layer's so many most used experts so far.
    case frequent(Int)
    /// So many of the experts that will be used, by rank: what a perfect predictor could do.
    case oracle(Int)

    /// Reads "none", "previous", "frequent" or "oracle", the last two with a number of experts
    /// behind a colon, or k of them.
    ///
    /// - Throws: `EvictionPolicyError` for anything else.
    public init(_ text: String, expertsPerToken: Int) throws(EvictionPolicyError) {
        let halves = text.lowercased().split(
            separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        let count = halves.count == 2 ? plainInteger(halves[1]) : expertsPerToken
        switch (halves[0], count) {
        case ("none", _) where halves.count == 1: self = .none
        case ("previous", _) where halves.count == 1: self = .previous
        case ("frequent", let count?) where (1...1024).contains(count): self = .frequent(count)
        case ("oracle", let count?) where (1...1024).contains(count): self = .oracle(count)
        default:
            throw EvictionPolicyError(
                description: "predictor '\(text)' is unknown; known are none, previous, frequent, "
                    + "frequent:4, oracle, oracle:4")
        }
    }

    public var description: String {
        switch self {
        case .none: "none"
        case .previous: "previous"
        case .frequent(let count): "frequent:\(count)"
        case .oracle(let count): "oracle:\(count)"
        }
    }
}

/// One cache and how it is measured.
public struct ReplaySettings: Sendable, Equatable {

    /// How much the cache holds.
    public enum Capacity: Sendable, Equatable {
        case experts(Int)
        /// With the experts' own sizes, which the trace must know.
        case bytes(Int)
    }

    /// What becomes of the tokens of a prompt.
    public enum Prefill: Sendable, Equatable {
        /// They are left out: decoding begins with an empty cache.
        case skipped
        /// They go one by one, like decoded ones.
        case tokens
        /// They are computed together: each layer asks once for each expert any of them uses.
        case together
    }

    public var capacity: Capacity
    public var policy: ReplayPolicy
    public var prefill = Prefill.tokens
    /// Whether a prompt's requests count like those of decoding.
    public var countsPrefill = false
    /// Whether every layer has the same share of the cache for itself.
    public var perLayer = false
    /// Whether a layer's miss may evict what the same token uses in this layer.
    public var evictsOwn = false
    /// Whether the cache may hold more for a moment: room is made when a layer has everything.
    public var evictsAfterwards = false
    public var predictor = ReplayPredictor.none

    public init(capacity: Capacity, policy: ReplayPolicy) {
        self.capacity = capacity
        self.policy = policy
    }

    /// The capacity that a size on the command line means for a model.
    ///
    /// - Parameter inBytes: Whether multiples and percentages are of bytes, or of experts. A size
    ///   in bytes always is.
    /// - Throws: `TraceError` where bytes are asked for and the trace names none, and for `auto`.
    public static func capacity(
        _ size: CacheSize, for shape: TraceShape, inBytes: Bool
    ) throws(TraceError) -> Capacity {
        let experts = shape.layerCount * shape.expertsPerLayer
        let active = shape.layerCount * shape.expertsPerToken
        var isBytes = inBytes
        if case .bytes = size { isBytes = true }
        guard isBytes else {
            switch size {
            case .multiple(let factor): return .experts(share(factor, of: active, atMost: experts))
            case .percent(let percent):
                return .experts(share(percent / 100, of: experts, atMost: experts))
            case .auto, .bytes:
                throw TraceError(
                    .unsuitable, "cache 'auto' needs a machine; give a size, as in 2x or 4000M")
            }
        }
        guard let expertBytes = shape.expertBytes else {
            throw TraceError(
                .unsuitable,
                "the trace does not say how large an expert is; give the cache in experts, as in "
                    + "2x, or name the size with --expert-bytes")
        }
        let layerSum = expertBytes.reduce(0, +)
        let needs = CacheNeeds(
            floorBytes: 0, activeSetBytes: layerSum * shape.expertsPerToken,
            fullBytes: layerSum * shape.expertsPerLayer)
        guard let bytes = size.bytes(for: needs) else {
            throw TraceError(
                .unsuitable, "cache 'auto' needs a machine; give a size, as in 2x or 4000M")
        }
        return .bytes(bytes)
    }

    private static func share(_ factor: Double, of count: Int, atMost limit: Int) -> Int {
        let product = (factor * Double(count)).rounded(.down)
        return product < Double(limit) ? Int(product) : limit
    }
}

/// What a cache did with a trace.
public struct ReplayResult: Sendable, Equatable {
    /// Tokens that were counted.
    public var tokens = 0
    /// Experts asked for by them: once per layer for tokens computed together.
    public var lookups = 0
    /// Those that were in the cache, or had been read ahead.
    public var hits = 0
    /// Bytes of those that were not; nil where the trace does not know sizes.
    public var missedBytes: Int?
    /// Experts that left, over the whole trace.
    public var evictions = 0
    /// Most experts in the cache at once.
    public var largestCount = 0
    /// Experts named by the predictor, and those of them that were asked for.
    public var predicted = 0
    public var predictedRight = 0
    /// Experts read ahead, and those of them that were asked for then.
    public var readAhead = 0
    public var readAheadUsed = 0
    public var readAheadBytes: Int?

    public var misses: Int { lookups - hits }
    /// 0 ... 1.
    public var hitRate: Double { lookups == 0 ? 0 : Double(hits) / Double(lookups) }
    public var missesPerToken: Double { tokens == 0 ? 0 : Double(misses) / Double(tokens) }
    public var missedBytesPerToken: Double? {
        missedBytes.map { tokens == 0 ? 0 : Double($0) / Double(tokens) }
    }
    public var readAheadBytesPerToken: Double? {
        readAheadBytes.map { tokens == 0 ? 0 : Double($0) / Double(tokens) }
    }
}
