/// Which expert is in which slot, and which one leaves next.
///
/// A slot is in one of two states:
///   - *idle*: on its class's list, least recently used first. It holds an expert, or nothing;
///     slots that hold nothing stand at the front and are taken first.
///   - *leased*: on no list. Only an idle slot can be taken, so a leased expert is never evicted,
///     and neither is one that is still being read.
///
/// The lists are rings of indices in two flat arrays; each class has a sentinel node after the
/// slots. Nothing is allocated after `init`, and every operation takes constant time.
struct ExpertCache: ~Copyable {
    private let expertsPerLayer: Int
    private let slotTotal: Int
    /// Size class by layer, and by slot.
    private var classOfLayer: FlatArray<Int32>
    private var classOfSlot: FlatArray<Int32>
    /// Slot by expert index (layer * expertsPerLayer + expert); -1 for none.
    private var slotOf: FlatArray<Int32>
    /// Expert index by slot; -1 for none.
    private var owner: FlatArray<Int32>
    private var next: FlatArray<Int32>
    private var previous: FlatArray<Int32>
    /// Experts that had to leave.
    var evictions: UInt64 = 0

    init(plan: StreamingPlan, layerCount: Int, expertsPerLayer: Int) {
        self.expertsPerLayer = expertsPerLayer
        slotTotal = plan.slotCount
        classOfLayer = FlatArray(repeating: 0, count: layerCount)
        classOfSlot = FlatArray(repeating: 0, count: slotTotal)
        slotOf = FlatArray(repeating: -1, count: layerCount * expertsPerLayer)
        owner = FlatArray(repeating: -1, count: slotTotal)
        var next = FlatArray<Int32>(repeating: -1, count: slotTotal + plan.classes.count)
        var previous = FlatArray<Int32>(repeating: -1, count: slotTotal + plan.classes.count)
        for layer in 0..<layerCount { classOfLayer[layer] = Int32(plan.classOfLayer[layer]) }
        var slot = 0
        for (index, size) in plan.classes.enumerated() {
            let sentinel = slotTotal + index
            next[sentinel] = Int32(sentinel)
            previous[sentinel] = Int32(sentinel)
            for _ in 0..<size.slotCount {
                classOfSlot[slot] = Int32(index)
                Self.link(slot, before: sentinel, &next, &previous)
                slot += 1
            }
        }
        self.next = next
        self.previous = previous
    }

    /// The slot that holds an expert, or -1.
    func slot(expertIndex: Int) -> Int { Int(slotOf[expertIndex]) }

    func expertIndex(slot: Int) -> Int { Int(owner[slot]) }

    /// Takes a slot off its list, so that it cannot be evicted.
    mutating func lease(slot: Int) {
        precondition(next[slot] >= 0, "slot \(slot) is leased already")
        unlink(slot)
    }

    /// Leases the best slot for an expert that has none: an empty one, or that of the least
    /// recently used expert of its class, which leaves. There must be an idle slot.
    mutating func takeSlot(expertIndex: Int) -> Int {
        let sentinel = slotTotal + Int(classOfLayer[expertIndex / expertsPerLayer])
        let slot = Int(next[sentinel])
        precondition(slot != sentinel, "more experts leased than the cache has slots")
        unlink(slot)
        if owner[slot] >= 0 {
            slotOf[Int(owner[slot])] = -1
            evictions += 1
        }
        owner[slot] = Int32(expertIndex)
        slotOf[expertIndex] = Int32(slot)
        return slot
    }

    /// Ends a lease; the expert becomes the most recently used.
    mutating func release(slot: Int) {
        precondition(next[slot] < 0, "slot \(slot) is not leased")
        link(slot, before: slotTotal + Int(classOfSlot[slot]))
    }

    /// Ends the lease of a slot whose expert did not arrive; the slot is empty and the next to be
    /// taken.
    mutating func discard(slot: Int) {
        precondition(next[slot] < 0, "slot \(slot) is not leased")
        slotOf[Int(owner[slot])] = -1
        owner[slot] = -1
        link(slot, before: Int(next[slotTotal + Int(classOfSlot[slot])]))
    }

    private mutating func link(_ slot: Int, before node: Int) {
        Self.link(slot, before: node, &next, &previous)
    }

    /// Static, because Swift 6.2 lets no initializer of a noncopyable type call a mutating method.
    private static func link(
        _ slot: Int, before node: Int, _ next: inout FlatArray<Int32>,
        _ previous: inout FlatArray<Int32>
    ) {
        let before = previous[node]
        next[Int(before)] = Int32(slot)
        previous[slot] = before
        next[slot] = Int32(node)
        previous[node] = Int32(slot)
    }

    private mutating func unlink(_ slot: Int) {
        next[Int(previous[slot])] = next[slot]
        previous[Int(next[slot])] = previous[slot]
        next[slot] = -1
        previous[slot] = -1
    }
}
