import Testing

@testable import ExpertStreaming

/// Experts of planes of 4096 bytes times (class + 1); bytes enough for exactly the slots wanted.
private struct Shape {
    var layout: ExpertLayout
    var plan: StreamingPlan

    /// - Parameter slots: experts at full width, by class.
    init(
        slots: [Int], layersPerClass: Int = 1, experts: Int = 16, planes: Int = 1,
        nested: Bool = true, shares: [Double] = []
    ) throws {
        let layers = slots.count * layersPerClass
        var extents: [ExpertExtent] = []
        for layer in 0..<layers {
            let extent = ExpertExtent(
                fileIndex: 0, offset: 0, byteCount: 4096 * (1 + layer / layersPerClass))
            extents += [ExpertExtent](repeating: extent, count: experts * planes)
        }
        layout = try ExpertLayout(
            layerCount: layers, expertsPerLayer: experts, partsPerExpert: 1,
            planesPerExpert: planes, nested: nested, extents: extents, fileSizes: [1 << 20])
        let bytes = slots.enumerated().reduce(0) {
            $0 + $1.element * 4096 * (1 + $1.offset) * planes
        }
        plan = try StreamingPlan(
            layout: layout, alignment: 4096, active: 1, cacheBytes: bytes, planeShares: shares)
    }

    func cache() -> ExpertCache {
        ExpertCache(plan: plan, layout: layout, policy: .lru, active: 1)
    }
}

extension ExpertCache {

    /// Leases an expert with planes 0 ..< `planes` (or plane `planes` - 1 where they are not
    /// nested), as if all reads succeeded; true if nothing had to be read.
    fileprivate mutating func take(
        _ expertIndex: Int, planes: Int, of shape: Shape, layer: Int
    ) -> Bool {
        hold(expertIndex: expertIndex)
        var hit = true
        for plane in 0..<shape.layout.planesPerExpert
        where isMissing(expertIndex: expertIndex, plane: plane, for: planes) {
            hit = false
            let room = makeRoom(pool: pool(layer: layer, plane: plane), count: 1)
            precondition(room)
            complete(
                slot: takeSlot(planeIndex: expertIndex * shape.layout.planesPerExpert + plane))
        }
        return hit
    }

    /// Ends the lease; the expert is the most recently used.
    fileprivate mutating func giveBack(_ expertIndex: Int) {
        unhold(expertIndex: expertIndex)
        ranking.used(expertIndex: expertIndex, fully: true)
    }
}

/// The cache in the plainest words: for every expert its planes, all experts least recently used
/// first.
private struct CacheModel {
    let shape: Shape
    var order: [Int] = []
    var planes: [Int: Set<Int>] = [:]
    var leased: Set<Int> = []

    func classOf(_ expert: Int) -> Int {
        shape.plan.classOfLayer[expert / shape.layout.expertsPerLayer]
    }

    func used(_ plane: Int, class size: Int) -> Int {
        planes.count { classOf($0.key) == size && $0.value.contains(plane) }
    }

    func usable(_ expert: Int) -> Int {
        let held = planes[expert] ?? []
        if !shape.layout.nested { return held.contains(1) ? 2 : held.contains(0) ? 1 : 0 }
        return (0..<shape.layout.planesPerExpert).prefix { held.contains($0) }.count
    }

    mutating func take(_ expert: Int, planes wanted: Int) {
        leased.insert(expert)
        let size = classOf(expert)
        let needed = shape.layout.nested ? Array(0..<wanted) : [wanted - 1]
        if !shape.layout.nested, usable(expert) >= wanted { return }
        for plane in needed where planes[expert]?.contains(plane) != true {
            if used(plane, class: size) == shape.plan.classes[size].pools[plane].slotCount {
                let victim = order.first {
                    classOf($0) == size && !leased.contains($0)
                        && planes[$0]?.contains(plane) == true
                }!
                if shape.layout.nested {
                    planes[victim] = planes[victim]!.filter { $0 < plane }
                } else {
                    planes[victim]!.remove(plane)
                }
            }
            planes[expert, default: []].insert(plane)
        }
    }

    mutating func giveBack(_ expert: Int) {
        leased.remove(expert)
        order.removeAll { $0 == expert }
        order.append(expert)
    }
}

@Suite struct ExpertCacheTests {

    @Test(arguments: 0..<24) func agreesWithAPlainModelOverRandomOperations(seed: Int) throws {
        var generator = SplitMix(seed: UInt64(seed))
        let experts = 12
        let planes = 1 + seed % 4
        let nested = seed % 8 != 1
        let shape = try Shape(
            slots: [
                Int.random(in: 4...20, using: &generator),
                Int.random(in: 4...20, using: &generator),
            ],
            layersPerClass: 2, experts: experts, planes: planes, nested: nested,
            shares: seed % 3 == 0 ? [1, 0.6, 0.5, 0.3].dropLast(4 - planes) : [])
        var cache = shape.cache()
        var model = CacheModel(shape: shape)
        for step in 0..<500 {
            let expert = Int.random(in: 0..<4 * experts, using: &generator)
            let size = shape.plan.classes[model.classOf(expert)]
            let leases = model.leased.count { model.classOf($0) == model.classOf(expert) }
            if model.leased.contains(expert) {
                cache.giveBack(expert)
                model.giveBack(expert)
            } else if leases < size.fullSlotCount {
                let wanted = Int.random(in: 1...planes, using: &generator)
                cache.enter(layer: expert / experts)
                let hit = cache.take(expert, planes: wanted, of: shape, layer: expert / experts)
                let expected = model.usable(expert) >= wanted
                try #require(hit == expected, "seed \(seed), step \(step): expert \(expert)")
                model.take(expert, planes: wanted)
            }
            var slots: Set<Int> = []
            for expert in 0..<4 * experts {
                let usable = cache.usablePlanes(expertIndex: expert)
                try #require(
                    usable == model.usable(expert), "seed \(seed), step \(step): expert \(expert)")
                for plane in 0..<planes {
                    let slot = cache.slot(expertIndex: expert, plane: plane)
                    try #require(
                        (slot >= 0) == (model.planes[expert]?.contains(plane) == true),
                        "seed \(seed), step \(step): plane \(plane) of expert \(expert)")
                    if slot >= 0 {
                        let (inserted, _) = slots.insert(slot)
                        try #require(inserted, "seed \(seed), step \(step): slot \(slot) twice")
                    }
                }
            }
        }
        #expect(cache.evictions + cache.demotions > 0)
        if seed % 3 == 0, nested, planes > 1 { #expect(cache.demotions > 0) }
    }

    /// What LRU is known for: a cycle one longer than the cache never hits, one that fits always
    /// does.
    @Test(arguments: [(slots: 8, cycle: 9, hits: 0), (slots: 8, cycle: 8, hits: 8 * 9)])
    func cyclesHitNothingOrEverything(slots: Int, cycle: Int, hits: Int) throws {
        let shape = try Shape(slots: [slots])
        var cache = shape.cache()
        var found = 0
        for _ in 0..<10 {
            for expert in 0..<cycle {
                if cache.take(expert, planes: 1, of: shape, layer: 0) { found += 1 }
                cache.giveBack(expert)
            }
        }
        #expect(found == hits)
    }

    @Test func evictionNeverTakesALeasedOrPinnedExpert() throws {
        let shape = try Shape(slots: [4], planes: 2)
        var cache = shape.cache()
        _ = cache.take(0, planes: 2, of: shape, layer: 0)
        let pinned = cache.pin(expertIndex: 1, active: 1)
        _ = cache.take(1, planes: 2, of: shape, layer: 0)
        cache.giveBack(1)
        for expert in 2..<16 {
            _ = cache.take(expert, planes: 2, of: shape, layer: 0)
            cache.giveBack(expert)
        }
        let usable = (0..<16).map { cache.usablePlanes(expertIndex: $0) }
        let capacity = cache.leaseCapacity(layer: 0)
        #expect(pinned)
        #expect(usable == [2, 2] + [Int](repeating: 0, count: 12) + [2, 2])
        #expect(capacity == 3)
    }

    @Test func pinsLeaveRoomForTheActiveExperts() throws {
        let shape = try Shape(slots: [4], planes: 2)
        var cache = shape.cache()
        let pinned = (0..<4).map { cache.pin(expertIndex: $0, active: 2) }
        let again = cache.pin(expertIndex: 0, active: 2)
        cache.unpin(expertIndex: 0)
        let other = cache.pin(expertIndex: 3, active: 2)
        #expect(pinned == [true, true, false, false])
        #expect(again && other)
    }

    /// Two experts at full width, four more at half: the least recently used give up their second
    /// planes first and go last.
    @Test func coldExpertsAreDemotedBeforeTheyLeave() throws {
        let shape = try Shape(slots: [4], planes: 2, shares: [1, 0.4])
        #expect(shape.plan.classes[0].pools.map(\.slotCount) == [6, 2])
        var cache = shape.cache()
        var widths: [[Int]] = []
        for expert in 0..<7 {
            _ = cache.take(expert, planes: 2, of: shape, layer: 0)
            cache.giveBack(expert)
            widths.append((0..<7).map { cache.usablePlanes(expertIndex: $0) })
        }
        #expect(
            widths == [
                [2, 0, 0, 0, 0, 0, 0], [2, 2, 0, 0, 0, 0, 0], [1, 2, 2, 0, 0, 0, 0],
                [1, 1, 2, 2, 0, 0, 0], [1, 1, 1, 2, 2, 0, 0], [1, 1, 1, 1, 2, 2, 0],
                [0, 1, 1, 1, 1, 2, 2],
            ])
        #expect(cache.demotions == 5 && cache.evictions == 1)
    }

    @Test func aSlotWhosePlaneDidNotArriveIsTakenNext() throws {
        let shape = try Shape(slots: [4])
        var cache = shape.cache()
        for expert in 0..<4 {
            _ = cache.take(expert, planes: 1, of: shape, layer: 0)
            cache.giveBack(expert)
        }
        let room = cache.makeRoom(pool: 0, count: 1)  // evicts expert 0
        let failed = cache.takeSlot(planeIndex: 4)
        cache.discard(slot: failed)
        let next = cache.takeSlot(planeIndex: 5)
        let places = (0..<5).map { cache.slot(expertIndex: $0, plane: 0) >= 0 }
        #expect(room)
        #expect(next == failed)
        #expect(places == [false, true, true, true, false])
        #expect(cache.evictions == 1)
    }

    /// Whoever is asked to make room for several at once takes the same as one by one.
    @Test(arguments: 0..<10) func victimsOfAScanAreThoseOfManyScans(seed: Int) throws {
        var generator = SplitMix(seed: UInt64(seed))
        let shape = try Shape(slots: [40], experts: 64)
        var one = shape.cache()
        var many = shape.cache()
        for expert in (0..<64).shuffled(using: &generator).prefix(40) {
            _ = one.take(expert, planes: 1, of: shape, layer: 0)
            _ = many.take(expert, planes: 1, of: shape, layer: 0)
            one.giveBack(expert)
            many.giveBack(expert)
        }
        let count = Int.random(in: 1...40, using: &generator)
        for room in 1...count { _ = one.makeRoom(pool: 0, count: room) }
        _ = many.makeRoom(pool: 0, count: count)
        for expert in 0..<64 {
            let left = one.slot(expertIndex: expert, plane: 0)
            let right = many.slot(expertIndex: expert, plane: 0)
            #expect(left == right, "seed \(seed), expert \(expert)")
        }
        #expect(many.evictions == count)
    }

    @Test func leasingMoreThanThereIsStopsTheProgram() async {
        await #expect(processExitsWith: .failure) {
            let shape = try Shape(slots: [2])
            var cache = shape.cache()
            for expert in 0..<3 { _ = cache.takeSlot(planeIndex: expert) }
        }
    }
}
