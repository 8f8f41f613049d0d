/// Which plane of which expert is in which slot, and which one leaves next.
///
/// Every plane has a slot of its own, from the pool of its plane and its layer's size class. A slot
/// is in one of three states:
///   - *empty*: on its pool's list of free slots, which are taken first.
///   - *loading*: it belongs to a plane that is being read.
///   - *resident*: its plane is complete. An expert is *held* while it is leased, while a plane of
///     it is being read, and for ever if it is pinned; only an expert that nobody holds can be
///     evicted.
///
/// Who leaves is decided by the ranking: the expert that deserves least to stay, of those with a
/// slot in the pool that needs one. Before all others go experts that were read ahead for a layer
/// that has passed without using them; after all others, and only for an expert that is asked for,
/// those predicted for a layer still to come. The victim leaves with this plane and all that build
/// on it: from a later plane's pool it is *demoted* to a prefix, from plane 0's it goes. A set's
/// victims are found in one scan per pool: 384 evictions among 3,000 slots, 8 at a time, cost 0.27
/// ms.
///
/// Nothing is allocated after `init`.
struct ExpertCache: ~Copyable {

    enum SlotState {
        case empty
        case loading
        case resident
    }

    struct Pool: BitwiseCopyable {
        var firstSlot: Int
        /// Slots that may be used; the pool's others have no memory.
        var slotCount: Int
        /// First of the free slots, which are linked by `nextFree`; -1 for none.
        var firstFree: Int32
        var freeCount: Int
        var pinnedCount: Int
    }

    /// A slot that could be taken, and how much its expert deserves to stay.
    struct Candidate: BitwiseCopyable {
        /// 0 for a wrong prediction, 2 for one that may still come true, 1 for others.
        var tier: UInt8
        var retention: Double
        var slot: Int32

        /// Whether this one leaves before another.
        func leavesBefore(_ other: Self) -> Bool {
            if tier != other.tier { return tier < other.tier }
            return retention < other.retention
                || (retention == other.retention && slot < other.slot)
        }
    }

    /// For what a slot is needed.
    enum Purpose {
        case demand
        /// More planes for an expert, which must deserve them more than the victim.
        case upgrade(expertIndex: Int)
        case speculation
    }

    private let layerCount: Int
    private let expertsPerLayer: Int
    private let planesPerExpert: Int
    private let nested: Bool
    private var pools: FlatArray<Pool>
    /// Pool by layer and plane; -1 where the plane is empty.
    private var poolOf: FlatArray<Int32>
    /// Planes with bytes, by layer.
    private var widths: FlatArray<UInt8>
    /// Slot by plane index (expert index * planesPerExpert + plane); -1 for none.
    private var slotOf: FlatArray<Int32>
    /// Plane index by slot; -1 for none.
    private var owner: FlatArray<Int32>
    private var state: FlatArray<SlotState>
    private var nextFree: FlatArray<Int32>
    /// Leases, planes being read, and pins, by expert index.
    private var holds: FlatArray<Int32>
    private var pinned: FlatArray<Bool>
    /// Until which layer an expert is predicted, counted as `clock`; by expert index.
    private var predictedUntil: FlatArray<Int64>
    /// Bytes of a plane that was read ahead and has not been asked for; 0 for others. By slot.
    private var unproven: FlatArray<UInt32>
    /// The victims of one scan; a heap whose first element leaves last.
    private var candidates: FlatArray<Candidate>

    var ranking: EvictionRanking
    /// Layer that computes, or the first one before it does.
    private(set) var layer = 0
    /// Layers that began since the start, and whether the current one did.
    private(set) var clock: Int64 = 0
    private(set) var hasEntered = false
    /// Experts that had to leave, and experts that had to give up planes and kept others.
    private(set) var evictions: UInt64 = 0
    private(set) var demotions: UInt64 = 0
    /// Bytes read ahead that were asked for, and that left before anybody did.
    private(set) var usefulBytes: UInt64 = 0
    private(set) var wastedBytes: UInt64 = 0

    init(plan: StreamingPlan, layout: ExpertLayout, policy: EvictionPolicy, active: Int) {
        layerCount = layout.layerCount
        expertsPerLayer = layout.expertsPerLayer
        planesPerExpert = layout.planesPerExpert
        nested = layout.nested
        let experts = layout.layerCount * layout.expertsPerLayer
        let poolCount = plan.classes.reduce(0) { $0 + $1.pools.count }
        let slots = plan.classes.reduce(0) { $0 + $1.pools.count * $1.expertCount }
        var pools = FlatArray(
            repeating: Pool(
                firstSlot: 0, slotCount: 0, firstFree: -1, freeCount: 0, pinnedCount: 0),
            count: poolCount)
        var nextFree = FlatArray<Int32>(repeating: -1, count: slots)
        var firstPool: [Int] = []
        var pool = 0
        var slot = 0
        for size in plan.classes {
            firstPool.append(pool)
            for planned in size.pools {
                pools[pool].firstSlot = slot
                Self.open(planned.slotCount, &pools[pool], &nextFree)
                slot += size.expertCount
                pool += 1
            }
        }
        var poolOf = FlatArray<Int32>(
            repeating: -1, count: layout.layerCount * layout.planesPerExpert)
        var widths = FlatArray<UInt8>(repeating: 0, count: layout.layerCount)
        for layer in 0..<layout.layerCount {
            widths[layer] = UInt8(layout.width(layer: layer))
            for plane in 0..<layout.width(layer: layer) {
                poolOf[layer * layout.planesPerExpert + plane] = Int32(
                    firstPool[plan.classOfLayer[layer]] + plane)
            }
        }
        self.pools = pools
        self.poolOf = poolOf
        self.widths = widths
        self.nextFree = nextFree
        slotOf = FlatArray(repeating: -1, count: experts * layout.planesPerExpert)
        owner = FlatArray(repeating: -1, count: slots)
        state = FlatArray(repeating: .empty, count: slots)
        holds = FlatArray(repeating: 0, count: experts)
        pinned = FlatArray(repeating: false, count: experts)
        predictedUntil = FlatArray(repeating: -1, count: experts)
        unproven = FlatArray(repeating: 0, count: slots)
        candidates = FlatArray(
            repeating: Candidate(tier: 0, retention: 0, slot: -1),
            count: layout.expertsPerLayer)
        ranking = EvictionRanking(
            policy: policy, layerCount: layout.layerCount, expertsPerLayer: layout.expertsPerLayer,
            expertsPerToken: active,
            slotCount: plan.classes.reduce(0) { $0 + ($1.pools.first?.slotCount ?? 0) })
    }

    /// Puts a pool's first `count` slots on its list of free ones, the first in front. Static,
    /// because Swift 6.2 lets no initializer of a noncopyable type call a mutating method.
    private static func open(
        _ count: Int, _ pool: inout Pool, _ nextFree: inout FlatArray<Int32>
    ) {
        for slot in (pool.firstSlot + pool.slotCount..<pool.firstSlot + count).reversed() {
            nextFree[slot] = pool.firstFree
            pool.firstFree = Int32(slot)
            pool.freeCount += 1
        }
        pool.slotCount = count
    }

    // MARK: What is where

    /// The slot of a plane of an expert, or -1.
    func slot(expertIndex: Int, plane: Int) -> Int {
        Int(slotOf[expertIndex * planesPerExpert + plane])
    }

    /// The plane index (expert index * planesPerExpert + plane) that a slot belongs to.
    func planeIndex(slot: Int) -> Int { Int(owner[slot]) }

    func state(slot: Int) -> SlotState { state[slot] }

    /// Whether a plane is complete, or has no bytes to wait for.
    func isComplete(expertIndex: Int, plane: Int) -> Bool {
        let slot = slotOf[expertIndex * planesPerExpert + plane]
        if slot >= 0 { return state[Int(slot)] == .resident }
        return plane >= width(expertIndex: expertIndex)
    }

    /// Planes of an expert that have bytes.
    func width(expertIndex: Int) -> Int { Int(widths[expertIndex / expertsPerLayer]) }

    /// The widest version of an expert that is complete, in planes; 0 for none.
    func usablePlanes(expertIndex: Int) -> Int {
        if !nested {
            return isComplete(expertIndex: expertIndex, plane: 1)
                ? 2 : isComplete(expertIndex: expertIndex, plane: 0) ? 1 : 0
        }
        var plane = 0
        while plane < planesPerExpert, isComplete(expertIndex: expertIndex, plane: plane) {
            plane += 1
        }
        return plane
    }

    /// Whether width `planes` needs a plane that is not complete.
    func isMissing(expertIndex: Int, plane: Int, for planes: Int) -> Bool {
        if nested { return plane < planes && !isComplete(expertIndex: expertIndex, plane: plane) }
        return plane == planes - 1 && usablePlanes(expertIndex: expertIndex) < planes
    }

    /// The pool of a plane, or -1 if it is empty.
    func pool(layer: Int, plane: Int) -> Int { Int(poolOf[layer * planesPerExpert + plane]) }

    /// Experts of a layer that can be leased at the same time.
    func leaseCapacity(layer: Int) -> Int {
        var least = expertsPerLayer
        for plane in 0..<Int(widths[layer]) {
            let pool = pool(layer: layer, plane: plane)
            least = min(least, pools[pool].slotCount - pools[pool].pinnedCount)
        }
        return least
    }

    // MARK: Time

    /// A new token begins, before layer 0.
    mutating func beginToken() {
        ranking.beginToken()
        if hasEntered { clock += Int64(layerCount - layer) }
        layer = 0
        hasEntered = false
    }

    /// A layer begins, or goes on with another set.
    mutating func enter(layer: Int) {
        clock += Int64((layer - self.layer + layerCount) % layerCount)
        self.layer = layer
        hasEntered = true
    }

    /// What `clock` will be when a layer begins the next time.
    func due(layer: Int) -> Int64 {
        let ahead = (layer - self.layer + layerCount) % layerCount
        return clock + Int64(ahead == 0 && hasEntered ? layerCount : ahead)
    }

    // MARK: Reading ahead

    /// Protects an expert until its layer has passed.
    mutating func predict(expertIndex: Int, due: Int64) {
        predictedUntil[expertIndex] = max(predictedUntil[expertIndex], due)
    }

    /// A slot is read ahead of any demand.
    mutating func doubt(slot: Int, byteCount: Int) { unproven[slot] = UInt32(byteCount) }

    /// A plane is asked for. True if it was read ahead and nobody had asked before.
    mutating func prove(slot: Int) -> Bool {
        if unproven[slot] == 0 { return false }
        usefulBytes += UInt64(unproven[slot])
        unproven[slot] = 0
        return true
    }

    // MARK: Leases and slots

    /// Keeps an expert from being evicted, until as many `unhold`.
    mutating func hold(expertIndex: Int) { holds[expertIndex] += 1 }

    mutating func unhold(expertIndex: Int) {
        precondition(holds[expertIndex] > 0, "expert \(expertIndex) is not held")
        holds[expertIndex] -= 1
    }

    /// Keeps an expert for ever; false if fewer than `active` slots of a pool would be left to the
    /// others.
    mutating func pin(expertIndex: Int, active: Int) -> Bool {
        if pinned[expertIndex] { return true }
        let layer = expertIndex / expertsPerLayer
        for plane in 0..<width(expertIndex: expertIndex) {
            let pool = pool(layer: layer, plane: plane)
            if pools[pool].slotCount - pools[pool].pinnedCount <= active { return false }
        }
        for plane in 0..<width(expertIndex: expertIndex) {
            pools[pool(layer: layer, plane: plane)].pinnedCount += 1
        }
        pinned[expertIndex] = true
        hold(expertIndex: expertIndex)
        return true
    }

    /// Ends a pin.
    mutating func unpin(expertIndex: Int) {
        guard pinned[expertIndex] else { return }
        for plane in 0..<width(expertIndex: expertIndex) {
            pools[pool(layer: expertIndex / expertsPerLayer, plane: plane)].pinnedCount -= 1
        }
        pinned[expertIndex] = false
        unhold(expertIndex: expertIndex)
    }

    /// Makes sure that `count` slots of a pool are free, evicting who deserves least to stay.
    ///
    /// - Returns: false if too many experts are held, or deserve more than what the room is for.
    mutating func makeRoom(pool: Int, count: Int, for purpose: Purpose = .demand) -> Bool {
        while pools[pool].freeCount < count {
            let found = findVictims(
                pool: pool, count: min(count - pools[pool].freeCount, candidates.count),
                before: limit(for: purpose))
            if found == 0 { return false }
            for index in 0..<found { evict(slot: Int(candidates[index].slot)) }
        }
        return true
    }

    /// Gives an absent plane a free slot of its pool; it is being read from now on, and its expert
    /// held until `complete` or `discard`.
    mutating func takeSlot(planeIndex: Int) -> Int {
        let expertIndex = planeIndex / planesPerExpert
        let pool = pool(
            layer: expertIndex / expertsPerLayer, plane: planeIndex % planesPerExpert)
        let slot = Int(pools[pool].firstFree)
        precondition(slot >= 0, "more experts leased than the cache has slots")
        precondition(slotOf[planeIndex] < 0, "plane \(planeIndex) has a slot already")
        pools[pool].firstFree = nextFree[slot]
        pools[pool].freeCount -= 1
        owner[slot] = Int32(planeIndex)
        slotOf[planeIndex] = Int32(slot)
        state[slot] = .loading
        hold(expertIndex: expertIndex)
        return slot
    }

    /// The plane of a slot has arrived.
    mutating func complete(slot: Int) {
        precondition(state[slot] == .loading, "slot \(slot) is not being read")
        state[slot] = .resident
        unhold(expertIndex: Int(owner[slot]) / planesPerExpert)
    }

    /// The plane of a slot will not arrive: the slot is free, and the next to be taken.
    mutating func discard(slot: Int) {
        precondition(state[slot] == .loading, "slot \(slot) is not being read")
        unhold(expertIndex: Int(owner[slot]) / planesPerExpert)
        free(slot: slot)
    }

    private mutating func free(slot: Int) {
        let planeIndex = Int(owner[slot])
        let pool = pool(
            layer: planeIndex / planesPerExpert / expertsPerLayer,
            plane: planeIndex % planesPerExpert)
        wastedBytes += UInt64(unproven[slot])
        unproven[slot] = 0
        slotOf[planeIndex] = -1
        owner[slot] = -1
        state[slot] = .empty
        nextFree[slot] = pools[pool].firstFree
        pools[pool].firstFree = Int32(slot)
        pools[pool].freeCount += 1
    }

    // MARK: Resizing

    func firstSlot(pool: Int) -> Int { pools[pool].firstSlot }
    func slotCount(pool: Int) -> Int { pools[pool].slotCount }
    func pinnedCount(pool: Int) -> Int { pools[pool].pinnedCount }

    /// A resident plane has been copied from one slot of its pool to an empty one.
    mutating func relocate(from: Int, to: Int) {
        precondition(
            state[from] == .resident && state[to] == .empty, "slot \(from) cannot move to \(to)")
        slotOf[Int(owner[from])] = Int32(to)
        owner[to] = owner[from]
        state[to] = .resident
        unproven[to] = unproven[from]
        owner[from] = -1
        state[from] = .empty
        unproven[from] = 0
    }

    /// Gives a pool more or fewer slots; those that it loses are empty.
    mutating func setSlotCount(pool: Int, to count: Int) {
        pools[pool].slotCount = count
        pools[pool].firstFree = -1
        pools[pool].freeCount = 0
        for index in 1...count {
            let slot = pools[pool].firstSlot + count - index
            guard owner[slot] < 0 else { continue }
            nextFree[slot] = pools[pool].firstFree
            pools[pool].firstFree = Int32(slot)
            pools[pool].freeCount += 1
        }
    }

    // MARK: Eviction

    /// Takes a plane away, and all that need it.
    private mutating func evict(slot: Int) {
        let expertIndex = Int(owner[slot]) / planesPerExpert
        let plane = Int(owner[slot]) % planesPerExpert
        for above in plane..<(nested ? planesPerExpert : plane + 1) {
            let slot = self.slot(expertIndex: expertIndex, plane: above)
            if slot >= 0 { free(slot: slot) }
        }
        if usablePlanes(expertIndex: expertIndex) > 0 {
            demotions += 1
        } else {
            evictions += 1
            ranking.evicted(expertIndex: expertIndex)
        }
    }

    /// What every victim must leave before.
    private func limit(for purpose: Purpose) -> Candidate {
        switch purpose {
        case .demand: Candidate(tier: 3, retention: 0, slot: 0)
        case .speculation: Candidate(tier: 2, retention: -.infinity, slot: -1)
        case .upgrade(let expertIndex):
            Candidate(
                tier: 1, retention: ranking.retention(expertIndex: expertIndex, layer: layer),
                slot: -1)
        }
    }

    /// Collects the `count` slots of a pool that leave first, or all that can leave if they are
    /// fewer; returns how many, in `candidates`, the next to leave first.
    private mutating func findVictims(pool: Int, count: Int, before limit: Candidate) -> Int {
        let first = pools[pool].firstSlot
        let end = first + pools[pool].slotCount
        var found = 0
        for slot in first..<end {
            let planeIndex = Int(owner[slot])
            guard planeIndex >= 0 else { continue }
            let expertIndex = planesPerExpert == 1 ? planeIndex : planeIndex / planesPerExpert
            guard holds[expertIndex] == 0 else { continue }
            let isAhead = predictedUntil[expertIndex] >= clock
            let candidate = Candidate(
                tier: isAhead ? 2 : unproven[slot] > 0 ? 0 : 1,
                retention: ranking.retention(expertIndex: expertIndex, layer: layer),
                slot: Int32(slot))
            guard candidate.leavesBefore(limit) else { continue }
            if found < count {
                candidates[found] = candidate
                found += 1
                siftUp(found - 1)
            } else if candidate.leavesBefore(candidates[0]) {
                candidates[0] = candidate
                siftDown(found)
            }
        }
        // Heap sort: the last to leave goes to the end.
        var left = found
        while left > 1 {
            left -= 1
            let last = candidates[0]
            candidates[0] = candidates[left]
            candidates[left] = last
            siftDown(left)
        }
        return found
    }

    private mutating func siftUp(_ index: Int) {
        var child = index
        while child > 0 {
            let parent = (child - 1) / 2
            guard candidates[parent].leavesBefore(candidates[child]) else { return }
            let moved = candidates[parent]
            candidates[parent] = candidates[child]
            candidates[child] = moved
            child = parent
        }
    }

    private mutating func siftDown(_ count: Int) {
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < count else { return }
            if child + 1 < count, candidates[child].leavesBefore(candidates[child + 1]) {
                child += 1
            }
            guard candidates[parent].leavesBefore(candidates[child]) else { return }
            let moved = candidates[parent]
            candidates[parent] = candidates[child]
            candidates[child] = moved
            parent = child
        }
    }
}
