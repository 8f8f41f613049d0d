/// The order in which experts leave a replayed cache: that of the live cache, or one that knows what
/// comes.
struct ReplayRanking: ~Copyable {
    private let policy: ReplayPolicy
    private var online: EvictionRanking
    private var clock = 0
    private var lastUse: [Int]

    // belady
    /// By expert: the visit that uses it next, as far as it has not been served.
    private var nextVisit: [Int]
    /// By use, in the order of the visits: the next visit that uses the same expert.
    private let following: [Int]
    private var useIndex = 0

    // lookahead
    /// By expert: uses in the window.
    private var ahead: [Int]
    private var visitsAhead = 0

    init(policy: ReplayPolicy, shape: TraceShape, slotCount: Int, visits: ReplayVisits) {
        let experts = shape.layerCount * shape.expertsPerLayer
        self.policy = policy
        var known = EvictionPolicy.lru
        if case .online(let policy) = policy { known = policy }
        online = EvictionRanking(
            policy: known, layerCount: shape.layerCount, expertsPerLayer: shape.expertsPerLayer,
            expertsPerToken: shape.expertsPerToken, slotCount: slotCount)
        lastUse = [Int](repeating: 0, count: experts)
        ahead = lastUse
        var next = [Int](repeating: Int.max, count: experts)
        var following: [Int] = []
        if policy == .belady {
            following = [Int](repeating: Int.max, count: visits.experts.count)
            for (index, visit) in visits.visits.enumerated().reversed() {
                for use in (visit.first..<visit.first + visit.count).reversed() {
                    let expert = Int(visits.experts[use])
                    following[use] = next[expert]
                    next[expert] = index
                }
            }
        }
        self.following = following
        nextVisit = next
    }

    mutating func begin(_ visit: ReplayVisits.Visit, of visits: ReplayVisits) {
        if visit.beginsSequence { online.beginSequence() }
        guard visit.beginsStep else { return }
        online.beginToken()
        guard case .lookahead(let tokens) = policy else { return }
        while visitsAhead < visits.visits.count,
            visits.visits[visitsAhead].step < visit.step + tokens
        {
            for expert in visits.experts(of: visits.visits[visitsAhead]) { ahead[Int(expert)] += 1 }
            visitsAhead += 1
        }
    }

    mutating func used(_ expert: Int) {
        clock += 1
        lastUse[expert] = clock
        switch policy {
        case .online: online.used(expertIndex: expert, fully: true)
        case .belady:
            nextVisit[expert] = following[useIndex]
            useIndex += 1
        case .lookahead: ahead[expert] -= 1
        }
    }

    mutating func evicted(_ expert: Int) { online.evicted(expertIndex: expert) }

    func retention(_ expert: Int, layer: Int) -> Double {
        switch policy {
        case .online: online.retention(expertIndex: expert, layer: layer)
        case .belady: -Double(nextVisit[expert])
        case .lookahead: Double(ahead[expert]) + Double(lastUse[expert]) * 0x1p-40
        }
    }
}
