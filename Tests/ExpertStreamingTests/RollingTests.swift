import Testing

@testable import ExpertStreaming

/// A layer of 16 experts of two planes and a cache of fewer: leases end one by one, and others take
/// their place.
private struct Scene: ~Copyable {
    let file: TemporaryFile
    let disk: SimulatedDisk
    let layout: ExpertLayout
    var streamer: ExpertStreamer

    init(slots: Int, planes: Int = 1, bytes: Int = 20_000) throws {
        let file = try TemporaryFile(byteCount: (bytes * 2 + 8192) * 16 * planes)
        let layout = try file.records(layers: 1, experts: 16, parts: 2, planes: planes) { _, _, _ in
            bytes
        }
        let disk = SimulatedDisk()
        let slot = try ExpertStreamer.plan(
            layout: layout, alignment: try ExpertStreamer.alignment(paths: [file.path]),
            activeExpertsPerToken: 2, cacheBytes: .max
        ).classes[0].slotBytes
        streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: slot * slots, activeExpertsPerToken: 2,
            simulated: disk)
        self.file = file
        self.layout = layout
        self.disk = disk
    }

    /// Whether an expert that was given out holds the bytes of the file.
    func holds(_ index: Int, _ expert: Int32) -> Bool {
        for plane in 0..<layout.planesPerExpert {
            for part in 0..<2 {
                let same = unsafe file.matches(
                    streamer.address(index: index, plane: plane, part: part), layout, layer: 0,
                    expert: Int(expert), plane: plane, part: part)
                if !same { return false }
            }
        }
        return true
    }

    mutating func acquireMore(_ experts: some Collection<Int32>) {
        unsafe (Array(experts) + [-1]).withUnsafeBufferPointer {
            unsafe streamer.acquireMore(
                experts: $0.baseAddress!, planes: nil, count: experts.count)
        }
    }

    /// Fetches `experts` through whatever window the cache allows, `batch` of them released at once.
    mutating func roll(_ experts: [Int32], batch: Int) -> (order: [Int32], problem: String?) {
        var leased = min(streamer.leaseCapacity(layer: 0), experts.count)
        streamer.acquire(layer: 0, Array(experts[..<leased]))
        var order: [Int32] = []
        while order.count < experts.count {
            var given: [Int] = []
            while given.count < batch {
                let index = streamer.next(wait: given.isEmpty)
                if index < 0 { break }
                given.append(index)
            }
            if given.isEmpty { break }
            for index in given where !holds(index, experts[index]) {
                return (order, "wrong bytes: expert \(experts[index])")
            }
            order += given.map { experts[$0] }
            for index in given { streamer.release(index: index) }
            let more = min(streamer.leasesLeft, experts.count - leased)
            acquireMore(experts[leased..<(leased + more)])
            leased += more
        }
        let problem = streamer.failure?.description
        streamer.release()
        return (order, problem)
    }
}

@Suite struct RollingTests {

    @Test(arguments: [2, 3, 7, 15], [1, 2])
    func aLayerGoesThroughASmallerCache(slots: Int, planes: Int) throws {
        for batch in [1, 2, 16] {
            var scene = try Scene(slots: slots, planes: planes)
            var generator = SplitMix(seed: UInt64(slots * 16 + batch))
            scene.disk.choose = { Int.random(in: 0..<$0, using: &generator) }
            let experts = distinct(16, below: 16, using: &generator)
            let (order, problem) = scene.roll(experts, batch: batch)
            #expect(problem == nil, "\(batch) at once")
            #expect(order.sorted() == Array(0..<16))
            #expect(scene.streamer.statistics.misses == 16)
            #expect(scene.streamer.statistics.evictions == UInt64(16 - slots))
        }
    }

    /// Those in memory come first where they are listed first, and cost no read.
    @Test func whatIsHereIsUsedBeforeItsSlotIsNeeded() throws {
        var scene = try Scene(slots: 4)
        _ = scene.streamer.fetch(layer: 0, [3, 9, 12, 15], from: scene.file)
        let others = (0..<16).filter { ![3, 9, 12, 15].contains($0) }.map(Int32.init)
        let (order, problem) = scene.roll([12, 3, 15, 9] + others, batch: 2)
        #expect(problem == nil)
        #expect(order.prefix(4) == [12, 3, 15, 9])
        #expect(scene.streamer.statistics.hits == 4)
        #expect(scene.streamer.statistics.misses == 4 + 12)
    }

    /// The disk has the next expert to read before `next` is asked for another.
    @Test func aLeaseThatEndsLetsAReadBegin() throws {
        var scene = try Scene(slots: 3)
        scene.disk.completesWhenPolled = false
        scene.streamer.acquire(layer: 0, [0, 1, 2])
        let first = scene.streamer.next(wait: true)
        let flying = scene.disk.inFlight
        let left = scene.streamer.leasesLeft
        scene.streamer.release(index: first)
        let freed = scene.streamer.leasesLeft
        scene.acquireMore([7])
        #expect(first == 0 && left == 0 && freed == 1)
        #expect(scene.disk.inFlight == flying + 1)
        #expect(scene.streamer.outstanding == 3)
        scene.streamer.release()
        #expect(scene.disk.inFlight == 0)
        #expect((0..<16).count { scene.streamer.resident(layer: 0, expert: $0) } == 3)
    }

    /// The first of a set is the first to be forgotten, or the last, as `release` is told.
    @Test func theOrderOfReleaseIsTheOrderOfEviction() throws {
        for lastFirst in [false, true] {
            var scene = try Scene(slots: 3)
            scene.streamer.acquire(layer: 0, [4, 5, 6])
            for _ in 0..<3 { _ = scene.streamer.next(wait: true) }
            scene.streamer.release(lastFirst: lastFirst)
            _ = scene.streamer.fetch(layer: 0, [9], from: scene.file)
            #expect(scene.streamer.resident(layer: 0, expert: 4) == lastFirst)
            #expect(scene.streamer.resident(layer: 0, expert: 6) != lastFirst)
        }
    }

    /// The n-th read fails somewhere in the window: one error, nothing wrong given out, and the
    /// streamer goes on.
    @Test(arguments: 0..<16) func aFailedReadEndsTheWindowAndNothingElse(failing: Int) throws {
        var scene = try Scene(slots: 5)
        var generator = SplitMix(seed: UInt64(failing))
        scene.disk.choose = { Int.random(in: 0..<$0, using: &generator) }
        scene.disk.outcome = { number, _ in number == failing ? -5 : nil }
        let experts = distinct(16, below: 16, using: &generator)
        let (order, problem) = scene.roll(experts, batch: 2)
        let failure = scene.streamer.takeFailure()
        #expect(order.count < 16)
        #expect(failure?.kind == .readFailed && problem == failure?.description)
        #expect(scene.disk.inFlight == 0)
        scene.disk.outcome = { _, _ in nil }
        for _ in 0..<2 {
            let (again, after) = scene.roll(experts, batch: 3)
            #expect(after == nil)
            #expect(again.sorted() == Array(0..<16))
        }
    }

    /// Least recently used first, and who is leased stays.
    private struct Model {
        let slots: Int
        var resident: [Int32] = []
        var held: Set<Int32> = []
        var misses = 0

        mutating func lease(_ experts: some Collection<Int32>) {
            held.formUnion(experts)
            for expert in experts where !resident.contains(expert) {
                misses += 1
                if resident.count == slots {
                    resident.remove(at: resident.firstIndex { !held.contains($0) }!)
                }
                resident.append(expert)
            }
        }

        mutating func release(_ expert: Int32) {
            held.remove(expert)
            resident.removeAll { $0 == expert }
            resident.append(expert)
        }
    }

    @Test(arguments: 0..<5) func randomWindowsAgreeWithAPlainModel(seed: Int) throws {
        var scene = try Scene(slots: 6, bytes: 3_000)
        var model = Model(slots: 6)
        var generator = SplitMix(seed: UInt64(seed))
        scene.disk.choose = { Int.random(in: 0..<$0, using: &generator) }
        for step in 0..<100 {
            let experts = distinct(
                Int.random(in: 1...16, using: &generator), below: 16, using: &generator)
            var leased = min(6, experts.count)
            scene.streamer.acquire(layer: 0, Array(experts[..<leased]))
            model.lease(experts[..<leased])
            for _ in experts {
                let index = scene.streamer.next(wait: true)
                try #require(index >= 0 && scene.holds(index, experts[index]))
                scene.streamer.release(index: index)
                model.release(experts[index])
                let more = Int.random(
                    in: 0...min(scene.streamer.leasesLeft, experts.count - leased),
                    using: &generator)
                // The last lease must not end before there are others.
                let count = model.held.isEmpty ? min(experts.count - leased, max(more, 1)) : more
                scene.acquireMore(experts[leased..<(leased + count)])
                model.lease(experts[leased..<(leased + count)])
                leased += count
            }
            scene.streamer.release()
            for expert in 0..<16 {
                try #require(
                    scene.streamer.resident(layer: 0, expert: expert)
                        == model.resident.contains(Int32(expert)),
                    "seed \(seed), step \(step), expert \(expert)")
            }
        }
        #expect(Int(scene.streamer.statistics.misses) == model.misses)
    }

    @Test func wrongUseStopsTheProgram() async {
        await #expect(processExitsWith: .failure) {
            try RollingTests.roll { $0.acquireMore([3]) }
        }
        await #expect(processExitsWith: .failure) {
            try RollingTests.roll { $0.streamer.release(index: 1) }
        }
        await #expect(processExitsWith: .failure) {
            try RollingTests.roll {
                $0.streamer.release(index: 0)
                $0.streamer.release(index: 0)
            }
        }
        await #expect(processExitsWith: .failure) {
            try RollingTests.roll {
                $0.streamer.release(index: 0)
                _ = $0.streamer.planes(index: 0)
            }
        }
        await #expect(processExitsWith: .success) {
            try RollingTests.roll {
                $0.streamer.release(index: 0)
                $0.acquireMore([3])
            }
        }
    }

    /// Two of three leases: the first is given out.
    private static func roll(_ misuse: (inout Scene) -> Void) throws {
        var scene = try Scene(slots: 2)
        scene.disk.completesWhenPolled = false
        scene.streamer.acquire(layer: 0, [0, 1])
        precondition(scene.streamer.next(wait: true) == 0)
        misuse(&scene)
    }
}
