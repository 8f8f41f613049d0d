private import Glibc

/// What a policy knows of every expert, and what it makes of it: the expert with the smallest
/// `retention` leaves first.
///
/// Serves the live cache and the replay of traces alike, so that a policy chosen by replay is the
/// one that runs. Knows experts by index (layer * experts per layer + expert) and keeps what it
/// knows of those that are not in the cache too. Allocates nothing after `init`; every operation
/// takes constant time, except that `beginSequence` (hobbit) and each m-th `beginToken` (segment)
/// go through all experts once, and each overflow of a decaying count too, every 400 half-lives.
struct EvictionRanking: ~Copyable {
    private let policy: EvictionPolicy
    private let layerCount: Int
    private let expertsPerLayer: Int
    /// Uses so far: of two experts the one with the higher stamp was used later.
    private var clock: UInt64 = 0
    /// Tokens so far; hobbit counts them from the start of the sequence.
    private var token: UInt32 = 0
    /// The clock at an expert's last use; 0 for never.
    private var lastUse: FlatArray<UInt64>
    /// The token of an expert's last use.
    private var lastToken: FlatArray<UInt32>
    /// Uses by expert. Those of a decaying count weigh `useWeight` each, which grows token by
    /// token, so that no count has to shrink; only their ratio matters.
    private var uses: FlatArray<Double>
    private var useWeight = 1.0
    private let useGrowth: Double
    /// hobbit: uses at full width. segment: what an expert was worth when the set was chosen.
    private var second: FlatArray<Double>
    private var protected: ProtectedSegment

    /// - Parameter slotCount: Experts the cache holds, which is what `slru` protects a share of;
    ///   nil stands for two active sets.
    init(
        policy: EvictionPolicy, layerCount: Int, expertsPerLayer: Int, expertsPerToken: Int,
        slotCount: Int? = nil
    ) {
        let experts = layerCount * expertsPerLayer
        var counts = false
        var tokens = false
        var seconds = false
        var growth = 1.0
        var protectedCount = 0
        switch policy {
        case .lru: break
        case .slru(let share):
            let slots = slotCount ?? 2 * layerCount * expertsPerToken
            protectedCount = Int((share * Double(min(slots, experts))).rounded(.down))
        case .lfu(let halfLife):
            counts = true
            if let halfLife { growth = exp2(1 / halfLife) }
        case .lfru, .edgemoe:
            counts = true
            tokens = true
        case .hobbit:
            counts = true
            tokens = true
            seconds = true
        case .segment:
            counts = true
            seconds = true
        }
        self.policy = policy
        self.layerCount = layerCount
        self.expertsPerLayer = expertsPerLayer
        useGrowth = growth
        lastUse = FlatArray(repeating: 0, count: experts)
        lastToken = FlatArray(repeating: 0, count: tokens ? experts : 0)
        uses = FlatArray(repeating: 0, count: counts ? experts : 0)
        second = FlatArray(repeating: 0, count: seconds ? experts : 0)
        protected = ProtectedSegment(capacity: protectedCount, expertCount: experts)
    }

    /// A new sequence begins: policies that count per sequence forget.
    mutating func beginSequence() {
        guard case .hobbit = policy else { return }
        token = 0
        for expert in 0..<uses.count {
            uses[expert] = 0
            second[expert] = 0
            lastToken[expert] = 0
        }
    }

    /// A new token begins, at layer 0; or a chunk of tokens that are computed together.
    mutating func beginToken() {
        token &+= 1
        switch policy {
        case .lfu where useGrowth > 1:
            useWeight *= useGrowth
            if useWeight > 0x1p400 { rescale() }
        case .segment(let tokens) where token > 1 && Int(token - 1) % tokens == 0:
            for expert in 0..<uses.count {
                second[expert] = second[expert] / 2 + uses[expert]
                uses[expert] = 0
            }
        default: break
        }
    }

    /// An expert serves the current token, whether it was here or had to be read.
    ///
    /// - Parameter fully: with all its planes, rather than with a prefix.
    mutating func used(expertIndex: Int, fully: Bool) {
        clock += 1
        switch policy {
        case .lru: break
        case .slru:
            let demoted = protected.used(expertIndex)
            if demoted >= 0 {
                lastUse[demoted] = clock
                clock += 1
            }
        case .lfu: uses[expertIndex] += useWeight
        case .lfru, .edgemoe:
            uses[expertIndex] += 1
            lastToken[expertIndex] = token
        case .hobbit:
            uses[expertIndex] += 1
            if fully { second[expertIndex] += 1 }
            lastToken[expertIndex] = token
        case .segment: uses[expertIndex] += 1
        }
        lastUse[expertIndex] = clock
    }

    /// An expert left the cache. Only `slru` asks: what comes back starts outside the protected
    /// segment.
    mutating func evicted(expertIndex: Int) {
        if case .slru = policy { protected.forget(expertIndex) }
    }

    /// How much an expert deserves to stay while `layer` computes; compared, never added. Between
    /// experts of equal worth the later use decides where the policy says so.
    func retention(expertIndex: Int, layer: Int) -> Double {
        switch policy {
        case .lru: return Double(lastUse[expertIndex])
        case .slru:
            // Any protected expert outranks all others: stamps stay far below 2^52.
            return Double(lastUse[expertIndex]) + (protected.holds(expertIndex) ? 0x1p52 : 0)
        case .lfu: return uses[expertIndex] / useWeight + recency(expertIndex)
        case .lfru:
            return uses[expertIndex] / Double(1 + token &- lastToken[expertIndex])
                + recency(expertIndex)
        case .hobbit(let weights):
            let tokens = Double(max(token, 1))
            let sum =
                weights.recency * Double(lastToken[expertIndex])
                + weights.frequency * uses[expertIndex] + weights.fullWidth * second[expertIndex]
            let distance = Double(layersUntil(expertIndex, layer)) / Double(layerCount)
            return sum / tokens + weights.layerDistance * (1 - distance)
        case .edgemoe: return uses[expertIndex] / Double(1 + layersUntil(expertIndex, layer))
        case .segment: return second[expertIndex] + recency(expertIndex)
        }
    }

    /// Layers from `layer` to the expert's own, going round past the last.
    private func layersUntil(_ expertIndex: Int, _ layer: Int) -> Int {
        let ahead = expertIndex / expertsPerLayer - layer
        return ahead < 0 ? ahead + layerCount : ahead
    }

    /// Less than any difference between counts, for the first 10^12 uses.
    private func recency(_ expertIndex: Int) -> Double { Double(lastUse[expertIndex]) * 0x1p-40 }

    private mutating func rescale() {
        for expert in 0..<uses.count { uses[expert] *= 0x1p-400 }
        useWeight *= 0x1p-400
    }
}

/// The protected part of a segmented LRU: experts used twice since they came, in the order of their
/// last use. A ring of indices with a sentinel after the experts; -1 is "not on it".
private struct ProtectedSegment: ~Copyable {
    private let capacity: Int
    private let sentinel: Int
    private var count = 0
    private var isHere: FlatArray<Bool>
    private var next: FlatArray<Int32>
    private var previous: FlatArray<Int32>

    init(capacity: Int, expertCount: Int) {
        let experts = capacity > 0 ? expertCount : 0
        self.capacity = capacity
        sentinel = experts
        isHere = FlatArray(repeating: false, count: experts)
        var next = FlatArray<Int32>(repeating: -1, count: experts + 1)
        var previous = FlatArray<Int32>(repeating: -1, count: experts + 1)
        next[experts] = Int32(experts)
        previous[experts] = Int32(experts)
        self.next = next
        self.previous = previous
    }

    func holds(_ expert: Int) -> Bool { capacity > 0 && next[expert] >= 0 }

    /// Notes a use. The expert that has to leave the segment for it, or -1.
    mutating func used(_ expert: Int) -> Int {
        guard capacity > 0 else { return -1 }
        guard isHere[expert] else {
            isHere[expert] = true
            return -1
        }
        var demoted = -1
        if next[expert] >= 0 {
            unlink(expert)
        } else if count == capacity {
            demoted = Int(next[sentinel])
            unlink(demoted)
        }
        let last = Int(previous[sentinel])
        next[last] = Int32(expert)
        previous[expert] = Int32(last)
        next[expert] = Int32(sentinel)
        previous[sentinel] = Int32(expert)
        count += 1
        return demoted
    }

    mutating func forget(_ expert: Int) {
        guard capacity > 0 else { return }
        isHere[expert] = false
        if next[expert] >= 0 { unlink(expert) }
    }

    private mutating func unlink(_ expert: Int) {
        next[Int(previous[expert])] = next[expert]
        previous[Int(next[expert])] = previous[expert]
        next[expert] = -1
        previous[expert] = -1
        count -= 1
    }
}
