import Testing

@testable import ExpertStreaming

/// The cache in the plainest words: lists of experts by class, least recently used first.
private struct CacheModel {
    var capacity: [Int]
    var classOfLayer: [Int]
    var expertsPerLayer: Int
    var idle: [[Int]]
    var leased: [[Int]]

    init(capacity: [Int], classOfLayer: [Int], expertsPerLayer: Int) {
        self.capacity = capacity
        self.classOfLayer = classOfLayer
        self.expertsPerLayer = expertsPerLayer
        idle = capacity.map { _ in [] }
        leased = capacity.map { _ in [] }
    }

    func classOf(_ expert: Int) -> Int { classOfLayer[expert / expertsPerLayer] }
    func holds(_ expert: Int) -> Bool {
        idle[classOf(expert)].contains(expert) || leased[classOf(expert)].contains(expert)
    }

    mutating func lease(_ expert: Int) {
        let size = classOf(expert)
        if let place = idle[size].firstIndex(of: expert) { idle[size].remove(at: place) }
        leased[size].append(expert)
        if idle[size].count + leased[size].count > capacity[size] { idle[size].removeFirst() }
    }

    mutating func release(_ expert: Int, keep: Bool) {
        let size = classOf(expert)
        leased[size].removeAll { $0 == expert }
        if keep { idle[size].append(expert) }
    }
}

private func plan(slots: [Int], layersPerClass: Int, experts: Int) throws -> (
    StreamingPlan, ExpertLayout
) {
    // Classes differ by the size of their experts; bytes enough for exactly the slots wanted.
    let layers = slots.count * layersPerClass
    var extents: [ExpertExtent] = []
    for layer in 0..<layers {
        for _ in 0..<experts {
            extents.append(
                ExpertExtent(
                    fileIndex: 0, offset: 0, byteCount: 4096 * (1 + layer / layersPerClass)))
        }
    }
    let layout = try ExpertLayout(
        layerCount: layers, expertsPerLayer: experts, partsPerExpert: 1, extents: extents,
        fileSizes: [1 << 20])
    let bytes = slots.enumerated().reduce(0) { $0 + $1.element * 4096 * (1 + $1.offset) }
    return (
        try StreamingPlan(layout: layout, alignment: 4096, active: 1, cacheBytes: bytes), layout
    )
}

@Suite struct ExpertCacheTests {

    @Test(arguments: 0..<20) func agreesWithAPlainModelOverRandomOperations(seed: Int) throws {
        var generator = SplitMix(seed: UInt64(seed))
        let experts = 12
        let (plan, layout) = try plan(
            slots: [
                Int.random(in: 4...20, using: &generator),
                Int.random(in: 4...20, using: &generator),
            ],
            layersPerClass: 2, experts: experts)
        var cache = ExpertCache(
            plan: plan, layerCount: layout.layerCount, expertsPerLayer: experts)
        var model = CacheModel(
            capacity: plan.classes.map(\.slotCount), classOfLayer: plan.classOfLayer,
            expertsPerLayer: experts)
        var leases: [Int: Int] = [:]  // slot by expert

        for step in 0..<2000 {
            let expert = Int.random(in: 0..<layout.layerCount * experts, using: &generator)
            let size = model.classOf(expert)
            if let slot = leases[expert] {
                let keep = Int.random(in: 0..<5, using: &generator) > 0
                keep ? cache.release(slot: slot) : cache.discard(slot: slot)
                model.release(expert, keep: keep)
                leases[expert] = nil
            } else if model.leased[size].count < model.capacity[size] {
                let held = cache.slot(expertIndex: expert)
                try #require(
                    (held >= 0) == model.holds(expert),
                    "seed \(seed), step \(step): expert \(expert)")
                if held >= 0 { cache.lease(slot: held) }
                let slot = held >= 0 ? held : cache.takeSlot(expertIndex: expert)
                model.lease(expert)
                leases[expert] = slot
                let shared = leases.filter { $0.value == slot }.count
                try #require(
                    shared == 1, "seed \(seed), step \(step): slot \(slot) is leased twice")
            }
            for (expert, slot) in leases {
                let place = cache.slot(expertIndex: expert)
                try #require(place == slot, "seed \(seed), step \(step): a leased expert moved")
            }
            for expert in 0..<layout.layerCount * experts {
                let held = cache.slot(expertIndex: expert) >= 0
                try #require(
                    held == model.holds(expert), "seed \(seed), step \(step): expert \(expert)")
            }
        }
        #expect(cache.evictions > 0)
    }

    /// What LRU is known for: a cycle one longer than the cache never hits, one that fits always
    /// does.
    @Test(arguments: [(slots: 8, cycle: 9, hits: 0), (slots: 8, cycle: 8, hits: 8 * 9)])
    func cyclesHitNothingOrEverything(slots: Int, cycle: Int, hits: Int) throws {
        let (plan, layout) = try plan(slots: [slots], layersPerClass: 1, experts: 16)
        var cache = ExpertCache(plan: plan, layerCount: layout.layerCount, expertsPerLayer: 16)
        var found = 0
        for _ in 0..<10 {
            for expert in 0..<cycle {
                var slot = cache.slot(expertIndex: expert)
                if slot >= 0 {
                    found += 1
                    cache.lease(slot: slot)
                } else {
                    slot = cache.takeSlot(expertIndex: expert)
                }
                cache.release(slot: slot)
            }
        }
        #expect(found == hits)
    }

    @Test func evictionNeverTakesALeasedSlot() throws {
        let (plan, layout) = try plan(slots: [4], layersPerClass: 1, experts: 16)
        var cache = ExpertCache(plan: plan, layerCount: layout.layerCount, expertsPerLayer: 16)
        let kept = cache.takeSlot(expertIndex: 0)
        for expert in 1..<16 {
            let slot = cache.takeSlot(expertIndex: expert)
            #expect(slot != kept)
            cache.release(slot: slot)
        }
        let place = cache.slot(expertIndex: 0)
        #expect(place == kept)
    }

    @Test func aSlotWhoseExpertDidNotArriveIsTakenNext() throws {
        let (plan, layout) = try plan(slots: [4], layersPerClass: 1, experts: 16)
        var cache = ExpertCache(plan: plan, layerCount: layout.layerCount, expertsPerLayer: 16)
        for expert in 0..<4 {
            let slot = cache.takeSlot(expertIndex: expert)
            cache.release(slot: slot)
        }
        let failed = cache.takeSlot(expertIndex: 4)  // evicts expert 0
        cache.discard(slot: failed)
        let next = cache.takeSlot(expertIndex: 5)
        let places = (0..<5).map { cache.slot(expertIndex: $0) >= 0 }
        #expect(next == failed)
        #expect(places == [false, true, true, true, false])
        #expect(cache.evictions == 1)
    }

    @Test func leasingMoreThanThereIsStopsTheProgram() async {
        await #expect(processExitsWith: .failure) {
            let (plan, layout) = try plan(slots: [2], layersPerClass: 1, experts: 16)
            var cache = ExpertCache(plan: plan, layerCount: layout.layerCount, expertsPerLayer: 16)
            for expert in 0..<3 { _ = cache.takeSlot(expertIndex: expert) }
        }
    }
}
