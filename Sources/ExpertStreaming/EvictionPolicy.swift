/// Which expert leaves the cache first.
///
/// As text: a name, and behind a colon what the policy may be told: "lru", "slru:0.8", "lfu:64",
/// "lfu:none", "hobbit:0.4,0.2,0.2,0.2", "segment:16".
public enum EvictionPolicy: Sendable, Equatable {
    /// The least recently used.
    case lru
    /// Segmented LRU: an expert used again while it is here moves to a protected segment of that
    /// share of the slots, 0 ... 1; what overflows it is as good as just used. The least recently
    /// used of the others leaves first.
    case slru(protectedShare: Double)
    /// The least frequently used, the least recently used of several. Counts outlive eviction and
    /// sequences, and lose half their weight in `halfLife` tokens; with nil they keep it.
    case lfu(halfLife: Double?)
    /// Least frequently and recently: uses, divided by the tokens since the last one.
    case lfru
    /// Recency, frequency, full-width use and distance of the layer, weighted: HOBBIT
    /// (arXiv 2411.01433), section 3.4. Forgets with every sequence.
    case hobbit(HobbitWeights)
    /// Uses, divided by one more than the layers until it can be used again: EdgeMoE
    /// (arXiv 2308.14352), section 4.3, with the sign its prose asks for: printed, the formula would
    /// evict the next layer's experts first.
    case edgemoe
    /// The set worth keeping is chosen anew every so many tokens, by the uses in the segments
    /// before, each of which counts half of the one after it.
    case segment(tokens: Int)

    // Each of these settings missed least when recorded traces of Qwen3-30B-A3B, Gemma 4 26B-A4B and
    // OLMoE were replayed with 1x to 4x; half-lives from 8 to 256 tokens, protected shares from
    // 0.25 to 0.9 and segments from 4 to 64 tokens were tried. Above half, SLRU's protected segment
    // leaves a cache of 2x too few other slots for one token, and nothing is hit.
    public static let lfuDefault = EvictionPolicy.lfu(halfLife: 16)
    public static let slruDefault = EvictionPolicy.slru(protectedShare: 0.5)
    public static let hobbitDefault = EvictionPolicy.hobbit(.replayed)
    public static let segmentDefault = EvictionPolicy.segment(tokens: 8)

    /// Every policy with its usual settings, in the order in which they are explained.
    public static let all: [EvictionPolicy] = [
        .lru, .slruDefault, .lfuDefault, .lfru, .hobbitDefault, .edgemoe, .segmentDefault,
    ]
}

/// What each of HOBBIT's four terms counts, 0 ... 1; together 1.
public struct HobbitWeights: Sendable, Equatable {
    /// Of the last use: R / T.
    public let recency: Double
    /// Of the uses in this sequence: F / T.
    public let frequency: Double
    /// Of the uses at full width: H / T.
    public let fullWidth: Double
    /// Of how soon the expert's layer comes round again.
    public let layerDistance: Double

    /// The paper does not print its own. These had the best mean hit rate (0.597, LRU 0.571) of all
    /// multiples of a tenth when traces of Qwen3-30B-A3B (128 tokens), Gemma 4 26B-A4B (128) and
    /// OLMoE (299) were replayed with 1x, 2x, 3x and 4x. In replay every use is at full width, so
    /// frequency and full width count as one there; they share its 0.2 evenly.
    public static let replayed = HobbitWeights(
        recency: 0.7, frequency: 0.1, fullWidth: 0.1, layerDistance: 0.1)!

    /// Nil unless every weight is at least 0 and they add up to 1, within a thousandth.
    public init?(recency: Double, frequency: Double, fullWidth: Double, layerDistance: Double) {
        let weights = [recency, frequency, fullWidth, layerDistance]
        let sum = weights.reduce(0, +)
        guard weights.allSatisfy({ $0 >= 0 }), abs(sum - 1) < 1e-3 else { return nil }
        self.recency = recency
        self.frequency = frequency
        self.fullWidth = fullWidth
        self.layerDistance = layerDistance
    }
}

/// Text that names no policy: one line that says what would.
public struct EvictionPolicyError: Error, CustomStringConvertible, Sendable, Equatable {
    public let description: String
}

extension EvictionPolicy: CustomStringConvertible {
    /// Names of the policies, as text begins.
    public static let names = ["lru", "slru", "lfu", "lfru", "hobbit", "edgemoe", "segment"]

    /// Reads a policy as `description` writes it; upper case is as good.
    ///
    /// - Throws: `EvictionPolicyError` for an unknown name, and for settings out of range.
    public init(_ text: String) throws(EvictionPolicyError) {
        let halves = text.lowercased().split(
            separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        let name = String(halves[0])
        let setting = halves.count == 2 ? halves[1] : nil
        switch name {
        case "lru", "lfru", "edgemoe":
            guard setting == nil else {
                throw EvictionPolicyError(
                    description: "policy '\(text)': \(name) takes no settings; write '\(name)'")
            }
            self = name == "lru" ? .lru : name == "lfru" ? .lfru : .edgemoe
        case "slru":
            guard let setting else {
                self = .slruDefault
                return
            }
            guard let share = plainDecimal(setting), share <= 1 else {
                throw EvictionPolicyError(
                    description: "policy '\(text)': '\(setting)' is no share of the slots; "
                        + "write a number from 0 to 1, as in 'slru:0.5'")
            }
            self = .slru(protectedShare: share)
        case "lfu":
            guard let setting else {
                self = .lfuDefault
                return
            }
            if setting == "none" {
                self = .lfu(halfLife: nil)
                return
            }
            guard let halfLife = plainDecimal(setting), halfLife >= 1, halfLife <= 1e9 else {
                throw EvictionPolicyError(
                    description: "policy '\(text)': '\(setting)' is no half-life of the counts in "
                        + "tokens; write a number from 1 on, as in 'lfu:64', or 'lfu:none'")
            }
            self = .lfu(halfLife: halfLife)
        case "hobbit":
            guard let setting else {
                self = .hobbitDefault
                return
            }
            let numbers = setting.split(separator: ",", omittingEmptySubsequences: false)
                .map(plainDecimal)
            guard numbers.count == 4, let recency = numbers[0], let frequency = numbers[1],
                let fullWidth = numbers[2], let distance = numbers[3],
                let weights = HobbitWeights(
                    recency: recency, frequency: frequency, fullWidth: fullWidth,
                    layerDistance: distance)
            else {
                throw EvictionPolicyError(
                    description: "policy '\(text)': hobbit takes four weights that add up to 1 "
                        + "(recency, frequency, full width, layer distance), as in "
                        + "'hobbit:0.4,0.2,0.2,0.2'")
            }
            self = .hobbit(weights)
        case "segment":
            guard let setting else {
                self = .segmentDefault
                return
            }
            guard let tokens = plainInteger(setting), tokens >= 1, tokens <= 1 << 30 else {
                throw EvictionPolicyError(
                    description: "policy '\(text)': '\(setting)' is no number of tokens; write a "
                        + "whole number from 1 on, as in 'segment:16'")
            }
            self = .segment(tokens: tokens)
        default:
            throw EvictionPolicyError(
                description: "policy '\(text)' is unknown; known are "
                    + Self.names.joined(separator: ", "))
        }
    }

    public var description: String {
        switch self {
        case .lru: "lru"
        case .slru(let share): "slru:\(short(share))"
        case .lfu(let halfLife): "lfu:" + (halfLife.map(short) ?? "none")
        case .lfru: "lfru"
        case .hobbit(let weights):
            "hobbit:"
                + [
                    weights.recency, weights.frequency, weights.fullWidth, weights.layerDistance,
                ].map(short).joined(separator: ",")
        case .edgemoe: "edgemoe"
        case .segment(let tokens): "segment:\(tokens)"
        }
    }
}

/// A number without a fraction that says nothing: "64" for 64.0.
private func short(_ number: Double) -> String {
    number == number.rounded() && abs(number) < 1e15 ? "\(Int(number))" : "\(number)"
}
