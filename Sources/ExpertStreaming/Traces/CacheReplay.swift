/// A cache simulated over a trace, without a model.
///
/// It holds experts of all layers, ranks them like the live cache, and serves one layer of one token
/// after the other: what the layer asks for is looked up in order of rank; what is missing is
/// admitted, and the expert worth least leaves for it, but never one that the same token uses in the
/// same layer. Experts in a tie leave by index.
public struct CacheReplay: ~Copyable {
    private let settings: ReplaySettings
    private let expertsPerLayer: Int
    /// What an expert takes, by layer: its bytes, or 1.
    private let cost: [Int]
    private let expertBytes: [Int]?
    /// Of one pool: the whole cache, or each layer's share.
    private let poolCapacity: Int
    /// Experts in the cache, by pool, in no order.
    private var members: [[Int32]]
    private var usedCost: [Int]
    /// By expert: its place in its pool; -1 for none.
    private var place: [Int32]
    /// By expert: the last visit that protects it.
    private var protector: [Int]
    private var ranking: ReplayRanking
    private var count = 0
    private var result: ReplayResult

    /// Replays a trace.
    ///
    /// - Throws: `TraceError` where the settings need sizes that the trace does not know.
    public static func run(
        _ trace: RoutingTrace, _ settings: ReplaySettings
    ) throws(TraceError) -> ReplayResult {
        let visits = ReplayVisits(trace, prefill: settings.prefill)
        let (capacity, cost) = try measures(trace.shape, settings)
        var replay = CacheReplay(
            trace.shape, settings, visits, capacity: capacity, cost: cost)
        replay.run(visits)
        replay.result.tokens =
            visits.decodeTokens + (settings.countsPrefill ? visits.prefillTokens : 0)
        return replay.result
    }

    /// What the cache holds in the settings' unit, and what an expert takes of it by layer.
    ///
    /// - Throws: `TraceError` where that is not one expert, or not known.
    private static func measures(
        _ shape: TraceShape, _ settings: ReplaySettings
    ) throws(TraceError) -> (capacity: Int, cost: [Int]) {
        let capacity: Int
        let cost: [Int]
        let unit: String
        switch settings.capacity {
        case .experts(let count):
            capacity = count
            cost = [Int](repeating: 1, count: shape.layerCount)
            unit = "experts"
        case .bytes(let bytes):
            guard let sizes = shape.expertBytes else {
                throw TraceError(
                    .unsuitable, "a cache in bytes, and a trace that names no expert's size")
            }
            capacity = bytes
            cost = sizes
            unit = "bytes"
        }
        let pools = settings.perLayer ? shape.layerCount : 1
        guard let largest = cost.max(), capacity / pools >= largest else {
            throw TraceError(
                .unsuitable,
                "a cache of \(capacity) \(unit)"
                    + (settings.perLayer ? ", shared by \(pools) layers," : "")
                    + " does not hold one expert; give more")
        }
        return (capacity, cost)
    }

    private init(
        _ shape: TraceShape, _ settings: ReplaySettings, _ visits: ReplayVisits, capacity: Int,
        cost: [Int]
    ) {
        let experts = shape.layerCount * shape.expertsPerLayer
        let pools = settings.perLayer ? shape.layerCount : 1
        let slots = capacity / max(1, cost.reduce(0, +) / cost.count)
        var result = ReplayResult()
        if shape.expertBytes != nil {
            result.missedBytes = 0
            result.readAheadBytes = 0
        }
        self.settings = settings
        self.cost = cost
        self.result = result
        expertsPerLayer = shape.expertsPerLayer
        expertBytes = shape.expertBytes
        poolCapacity = capacity / pools
        members = [[Int32]](repeating: [], count: pools)
        usedCost = [Int](repeating: 0, count: pools)
        place = [Int32](repeating: -1, count: experts)
        protector = [Int](repeating: -1, count: experts)
        ranking = ReplayRanking(
            policy: settings.policy, shape: shape, slotCount: min(slots, experts), visits: visits)
    }

    private mutating func run(_ visits: ReplayVisits) {
        var predictor = PredictorState(settings.predictor, expertsPerLayer: expertsPerLayer)
        for (index, visit) in visits.visits.enumerated() {
            ranking.begin(visit, of: visits)
            if visit.beginsSequence { predictor.beginSequence() }
            let wanted = visits.experts(of: visit)
            let counts = visit.isDecode || settings.countsPrefill
            var readAhead: [Int32] = []
            if visit.isDecode {
                let named = predictor.predict(layer: visit.layer, wanted: wanted)
                for expert in named { protector[Int(expert)] = index }
                for expert in named where place[Int(expert)] < 0 {
                    admit(Int(expert), visit: index)
                    readAhead.append(expert)
                }
                for expert in named { protector[Int(expert)] = -1 }
                result.predicted += named.count
                result.predictedRight += named.count { wanted.contains($0) }
            }
            if !settings.evictsOwn {
                for expert in wanted { protector[Int(expert)] = index }
            }
            for expert in wanted.map(Int.init) {
                let isHere = place[expert] >= 0
                if counts {
                    result.lookups += 1
                    if isHere { result.hits += 1 }
                    if !isHere, let bytes = expertBytes {
                        result.missedBytes! += bytes[visit.layer]
                    }
                }
                if !isHere { admit(expert, visit: index) }
                ranking.used(expert)
            }
            if settings.evictsAfterwards { makeRoom(for: 0, pool(visit.layer), visit, index) }
            result.readAhead += readAhead.count
            result.readAheadUsed += readAhead.count { wanted.contains($0) }
            if let bytes = expertBytes {
                result.readAheadBytes! += readAhead.count * bytes[visit.layer]
            }
            predictor.learn(layer: visit.layer, wanted)
        }
    }

    private func pool(_ layer: Int) -> Int { settings.perLayer ? layer : 0 }

    private mutating func admit(_ expert: Int, visit: Int) {
        let layer = expert / expertsPerLayer
        let pool = pool(layer)
        if !settings.evictsAfterwards {
            makeRoom(for: cost[layer], pool, layer: layer, visit: visit)
        }
        place[expert] = Int32(members[pool].count)
        members[pool].append(Int32(expert))
        usedCost[pool] += cost[layer]
        count += 1
        result.largestCount = max(result.largestCount, count)
    }

    private mutating func makeRoom(
        for needed: Int, _ pool: Int, _ visit: ReplayVisits.Visit, _ index: Int
    ) {
        makeRoom(for: needed, pool, layer: visit.layer, visit: index)
    }

    /// Evicts until the pool has room for so much more. In a pool too small for what one layer asks
    /// for at once, what it asks for leaves too.
    private mutating func makeRoom(for needed: Int, _ pool: Int, layer: Int, visit: Int) {
        while usedCost[pool] + needed > poolCapacity, !members[pool].isEmpty {
            var victim = worst(pool, layer: layer, sparing: visit)
            if victim < 0 {
                if settings.evictsAfterwards { return }
                victim = worst(pool, layer: layer, sparing: -2)
            }
            evict(victim, pool)
        }
    }

    /// The expert worth least, -1 if the visit protects all of them.
    private func worst(_ pool: Int, layer: Int, sparing visit: Int) -> Int {
        var worst = -1
        var least = Double.infinity
        for member in members[pool] {
            let expert = Int(member)
            if protector[expert] == visit { continue }
            let worth = ranking.retention(expert, layer: layer)
            if worth < least || worth == least && expert < worst {
                worst = expert
                least = worth
            }
        }
        return worst
    }

    private mutating func evict(_ expert: Int, _ pool: Int) {
        let hole = place[expert]
        let last = members[pool].removeLast()
        if Int(last) != expert {
            members[pool][Int(hole)] = last
            place[Int(last)] = hole
        }
        place[expert] = -1
        usedCost[pool] -= cost[expert / expertsPerLayer]
        count -= 1
        result.evictions += 1
        ranking.evicted(expert)
    }
}

/// What a predictor remembers.
private struct PredictorState {
    private let predictor: ReplayPredictor
    private let expertsPerLayer: Int
    /// By layer: the experts of the token before.
    private var previous: [Int: [Int32]] = [:]
    /// By layer, then by expert: uses.
    private var uses: [Int: [Int]] = [:]

    init(_ predictor: ReplayPredictor, expertsPerLayer: Int) {
        self.predictor = predictor
        self.expertsPerLayer = expertsPerLayer
    }

    mutating func beginSequence() { previous = [:] }

    func predict(layer: Int, wanted: ArraySlice<Int32>) -> [Int32] {
        switch predictor {
        case .none: return []
        case .previous: return previous[layer] ?? []
        case .oracle(let count): return Array(wanted.prefix(count))
        case .frequent(let count):
            guard let uses = uses[layer] else { return [] }
            let ranked = uses.indices.filter { uses[$0] > 0 }.sorted {
                (uses[$1], $0) < (uses[$0], $1)
            }
            return ranked.prefix(count).map { Int32(layer * expertsPerLayer + $0) }
        }
    }

    mutating func learn(layer: Int, _ wanted: ArraySlice<Int32>) {
        switch predictor {
        case .none, .oracle: break
        case .previous: previous[layer] = Array(wanted)
        case .frequent:
            for expert in wanted {
                uses[layer, default: [Int](repeating: 0, count: expertsPerLayer)][
                    Int(expert) % expertsPerLayer] += 1
            }
        }
    }
}
