/// How well a model's routing suits a cache: SRP, SCH and bounds as "Not All Models Suit Expert
/// Offloading" (arXiv 2505.16056) defines them and its code (moe-lrc) computes them.
///
/// Over decoded tokens, sequence by sequence, each with a cache of its own. A layer's cache holds
/// rho * k experts; the model's holds rho * k for each of its layers, of any layer. Unlike replay,
/// these definitions score a token's experts against the cache as it was before the token, count
/// first uses while the cache is not yet full as hits, and let an expert leave that the same token
/// uses; `pinned` bounds do not do the last.
public struct RoutingStatistics: Sendable {

    /// Segment routing best performance: how well the best fixed set per window of tokens tells what
    /// is used in it.
    public struct Predictability: Sendable, Equatable {
        /// F1 of the best threshold, 0 ... 1.
        public let srp: Double
        /// An expert belongs to a window's set if the window uses it at least so often.
        public let threshold: Int
        /// Size of the sets, as a multiple of what is used.
        public let segmentRatio: Double
    }

    /// Hit rates of one cache size, 0 ... 1.
    public struct Bounds: Sendable, Equatable {
        /// Cache size as a multiple of the experts one token uses.
        public let rho: Double
        public let lru: Double
        public let lfu: Double
        /// Evicts what the next `segment` tokens use least.
        public let sch: Double
        /// Evicts what is used again last.
        public let belady: Double
        /// The same, but never what the current token uses.
        public let pinnedBelady: Double
    }

    /// Tokens of a window, and of the look-ahead of SCH: m.
    public let segment: Int
    /// Tokens that were looked at.
    public let tokenCount: Int
    /// By layer; the model's has one threshold for all of them.
    public let layers: [Predictability]
    public let model: Predictability
    /// With a cache per layer, all layers together, by rho.
    public let layerBounds: [Bounds]
    /// With one cache for all layers, by rho.
    public let modelBounds: [Bounds]
    public let previousTokenOverlap: Double
    private let wholeMultiple: Double

    /// - Parameters:
    ///   - segment: m, at least 1; a sequence shorter than that has no window.
    ///   - rhos: Cache sizes, from 1 on, in rising order.
    /// - Throws: `TraceError` where no sequence has a window.
    public init(_ trace: RoutingTrace, segment: Int, rhos: [Double]) throws(TraceError) {
        precondition(segment >= 1 && rhos.allSatisfy { $0 >= 1 })
        let shape = trace.shape
        let sequences = Self.decodedSequences(trace)
        guard sequences.contains(where: { $0.count >= segment }) else {
            throw TraceError(
                .unsuitable,
                "no sequence of the trace has the \(segment) decoded tokens of a segment; give "
                    + "a shorter --segment, or record more")
        }
        var layers: [Predictability] = []
        var total = WindowHistogram(segment: segment)
        for layer in 0..<shape.layerCount {
            var histogram = WindowHistogram(segment: segment)
            for tokens in sequences {
                histogram.add(
                    tokens.map { trace.experts(token: $0, layer: layer) },
                    experts: shape.expertsPerLayer)
            }
            layers.append(histogram.best)
            total.add(histogram)
        }
        self.segment = segment
        tokenCount = sequences.reduce(0) { $0 + $1.count }
        self.layers = layers
        model = total.best
        previousTokenOverlap = trace.previousTokenOverlap
        wholeMultiple = Double(shape.expertsPerLayer) / Double(shape.expertsPerToken)

        let perLayer = (0..<shape.layerCount).map { layer in
            sequences.map { tokens in
                tokens.map { token in trace.experts(token: token, layer: layer).map(Int.init) }
            }
        }
        let together = sequences.map { tokens in
            tokens.map { token in
                (0..<shape.layerCount).flatMap { layer in
                    trace.experts(token: token, layer: layer).map {
                        layer * shape.expertsPerLayer + Int($0)
                    }
                }
            }
        }
        layerBounds = rhos.map { rho in
            Self.bounds(
                perLayer.flatMap { $0 }, experts: shape.expertsPerLayer,
                capacity: Int(rho * Double(shape.expertsPerToken)), rho: rho, segment: segment)
        }
        modelBounds = rhos.map { rho in
            Self.bounds(
                together, experts: shape.layerCount * shape.expertsPerLayer,
                capacity: Int(rho * Double(shape.expertsPerToken * shape.layerCount)), rho: rho,
                segment: segment)
        }
    }

    /// The cache size from which more memory gains less than it did before: where the curve of SCH
    /// (one cache) is farthest above the line from its first point to a cache of everything, if that
    /// is a tenth of its height at least. Nil for a curve without such a place, or fewer than three
    /// sizes.
    public var knee: Double? {
        guard let first = modelBounds.first, modelBounds.count >= 3, first.sch < 1,
            wholeMultiple > first.rho
        else { return nil }
        var knee: Double?
        var height = 0.1
        for bounds in modelBounds {
            let along = (bounds.rho - first.rho) / (wholeMultiple - first.rho)
            let above = (bounds.sch - first.sch) / (1 - first.sch) - along
            if above > height {
                height = above
                knee = bounds.rho
            }
        }
        return knee
    }

    /// Runs of decoded tokens of one sequence.
    private static func decodedSequences(_ trace: RoutingTrace) -> [[Int]] {
        var sequences: [[Int]] = []
        for token in 0..<trace.tokenCount where trace.phases[token] == .decode {
            if let last = sequences.last?.last, last == token - 1,
                !trace.beginsSequence(token: token)
            {
                sequences[sequences.count - 1].append(token)
            } else {
                sequences.append([token])
            }
        }
        return sequences
    }

    private static func bounds(
        _ sequences: [[[Int]]], experts: Int, capacity: Int, rho: Double, segment: Int
    ) -> Bounds {
        let demands = sequences.reduce(0) { $0 + $1.reduce(0) { $0 + $1.count } }
        func rate(_ rule: BoundedCache.Rule, pinned: Bool = false) -> Double {
            let hits = sequences.reduce(0) {
                $0
                    + BoundedCache.hits(
                        $1, experts: experts, capacity: capacity, rule: rule, pinned: pinned)
            }
            return demands == 0 ? 0 : Double(hits) / Double(demands)
        }
        return Bounds(
            rho: rho, lru: rate(.lru), lfu: rate(.lfu), sch: rate(.lookahead(segment)),
            belady: rate(.belady), pinnedBelady: rate(.belady, pinned: true))
    }
}

/// How often windows use experts: the number of pairs of a window and an expert by the window's uses
/// of it.
struct WindowHistogram {
    private let segment: Int
    private var pairs: [Int]

    init(segment: Int) {
        self.segment = segment
        pairs = [Int](repeating: 0, count: segment + 1)
    }

    /// Adds all windows of a sequence, one beginning at each token.
    mutating func add(_ tokens: [ArraySlice<UInt16>], experts: Int) {
        guard tokens.count >= segment else { return }
        var uses = [Int](repeating: 0, count: experts)
        for (index, chosen) in tokens.enumerated() {
            for expert in chosen { uses[Int(expert)] += 1 }
            if index >= segment {
                for expert in tokens[index - segment] { uses[Int(expert)] -= 1 }
            }
            if index >= segment - 1 {
                for count in uses { pairs[count] += 1 }
            }
        }
    }

    mutating func add(_ other: WindowHistogram) {
        for count in pairs.indices { pairs[count] += other.pairs[count] }
    }

    /// The threshold with the best F1 = 2 M / (P + A): M uses are foretold by sets that foretell P,
    /// and there are A.
    var best: RoutingStatistics.Predictability {
        let all = pairs.indices.reduce(0) { $0 + $1 * pairs[$1] }
        var best = RoutingStatistics.Predictability(srp: 0, threshold: segment, segmentRatio: 0)
        guard all > 0 else { return best }
        var matches = 0
        var foretold = 0
        for threshold in pairs.indices.reversed() {
            matches += threshold * pairs[threshold]
            foretold += segment * pairs[threshold]
            let score = 2 * Double(matches) / Double(foretold + all)
            if score > best.srp {
                best = RoutingStatistics.Predictability(
                    srp: score, threshold: threshold,
                    segmentRatio: Double(foretold) / Double(all))
            }
        }
        return best
    }
}

/// The caches behind the bounds, by the rules of `RoutingStatistics`.
enum BoundedCache {
    enum Rule: Equatable {
        case lru
        /// Fewest uses so far, whether in the cache or not; then least recent.
        case lfu
        case belady
        /// Fewest uses in the current and the following tokens, that many together; then least
        /// recent.
        case lookahead(Int)
    }

    /// Demands of a sequence, by token, that are hits.
    static func hits(
        _ tokens: [[Int]], experts: Int, capacity: Int, rule: Rule, pinned: Bool
    ) -> Int {
        var held: [Int] = []
        held.reserveCapacity(min(capacity, experts) + 1)
        var isHeld = [Bool](repeating: false, count: experts)
        var isSeen = isHeld
        var isCurrent = isHeld
        var lastUse = [Int](repeating: 0, count: experts)
        var uses = lastUse
        /// Uses to come, counted over all demands, the next one last.
        var nextUses = [[Int]](repeating: [], count: experts)
        if rule == .belady {
            for (use, expert) in tokens.joined().enumerated().reversed() {
                nextUses[expert].append(use)
            }
        }
        var aheadEnd = 0
        var window = 0
        if case .lookahead(let count) = rule { window = count }
        var clock = 0
        var seen = 0
        var hits = 0
        /// Smallest leaves.
        func worth(_ expert: Int) -> (Int, Int) {
            switch rule {
            case .lru: (lastUse[expert], 0)
            case .lfu, .lookahead: (uses[expert], lastUse[expert])
            case .belady: (-(nextUses[expert].last ?? Int.max), 0)
            }
        }
        for (token, demands) in tokens.enumerated() {
            while window > 0, aheadEnd < min(token + window, tokens.count) {
                for expert in tokens[aheadEnd] { uses[expert] += 1 }
                aheadEnd += 1
            }
            for expert in demands {
                if isHeld[expert] || !isSeen[expert] && seen < capacity { hits += 1 }
                if !isSeen[expert] {
                    isSeen[expert] = true
                    seen += 1
                }
                isCurrent[expert] = pinned
            }
            for expert in demands {
                if !isHeld[expert] {
                    if held.count == capacity {
                        var victim = -1
                        for place in held.indices where !isCurrent[held[place]] {
                            if victim < 0 || worth(held[place]) < worth(held[victim]) {
                                victim = place
                            }
                        }
                        isHeld[held[victim]] = false
                        held[victim] = expert
                    } else {
                        held.append(expert)
                    }
                    isHeld[expert] = true
                }
                clock += 1
                lastUse[expert] = clock
                switch rule {
                case .lru: break
                case .lfu: uses[expert] += 1
                case .lookahead: uses[expert] -= 1
                case .belady: nextUses[expert].removeLast()
                }
            }
            for expert in demands { isCurrent[expert] = false }
        }
        return hits
    }
}
