import Testing

@testable import ExpertStreaming

/// A streamer on a simulated disk: one layer of 16 experts of three parts, room for 8.
private struct Scene: ~Copyable {
    let file: TemporaryFile
    let disk: SimulatedDisk
    var streamer: ExpertStreamer

    init(bytes: Int = 20_000, experts: Int = 16, slots: Int = 8) throws {
        let file = try TemporaryFile(byteCount: bytes * experts * 3 + 100)
        let disk = SimulatedDisk()
        let layout = try file.layout(layers: 1, experts: experts, parts: 3, bytes: bytes)
        let slot = try ExpertStreamer.plan(
            layout: layout, alignment: try ExpertStreamer.alignment(paths: [file.path]),
            activeExpertsPerToken: 4, cacheBytes: .max
        ).classes[0].slotBytes
        streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: slot * slots, activeExpertsPerToken: 4,
            simulated: disk)
        self.file = file
        self.disk = disk
    }

    mutating func fetch(_ experts: [Int32]) -> (order: [Int], problem: String?) {
        streamer.fetch(layer: 0, experts, from: file)
    }
}

private let eintr: Int64 = -4
private let eio: Int64 = -5
private let eagain: Int64 = -11

@Suite struct FailureTests {

    @Test func allMissesOfALayerGoInOneSubmit() throws {
        var scene = try Scene()
        let (_, first) = scene.fetch([1, 2, 3, 4])
        let (_, second) = scene.fetch([3, 5, 4, 6, 7, 8])
        let (_, third) = scene.fetch([5, 6])
        #expect([first, second, third] == [nil, nil, nil])
        #expect(scene.disk.submits == [12, 12])
        #expect(scene.streamer.statistics.submits == 2)
        #expect(scene.streamer.statistics.reads == 24)
    }

    @Test func moreThanTheDiskIsGivenAtOnceFollows() throws {
        // 4 experts of 3 x 2 MB are three times the window.
        var scene = try Scene(bytes: 2_000_000, experts: 6, slots: 4)
        let window = Disk.directWindowBytes
        var most = 0
        scene.disk.outcome = { [disk = scene.disk] _, piece in
            most = max(most, (disk.inFlight + 1) * ReadPiece.largestBytes)
            return nil
        }
        let (order, problem) = scene.fetch([1, 2, 3, 4])
        scene.disk.outcome = { _, _ in nil }
        #expect(problem == nil)
        // On a disk that serves in turn, experts land in the order in which they were asked for.
        #expect(order == [0, 1, 2, 3])
        #expect(most > window / 2 && most <= window + ReadPiece.largestBytes * 2)
        #expect(scene.disk.submits.count > 1)
    }

    @Test(arguments: 0..<10) func arrivalInAnyOrderIsRight(seed: Int) throws {
        var scene = try Scene(bytes: 600_000, experts: 6, slots: 6)
        var generator = SplitMix(seed: UInt64(seed))
        scene.disk.choose = { Int.random(in: 0..<$0, using: &generator) }
        let (order, problem) = scene.fetch([0, 1, 2, 3, 4])
        #expect(problem == nil, "seed \(seed)")
        #expect(order.sorted() == [0, 1, 2, 3, 4])
    }

    @Test func nothingComesBeforeItIsThere() throws {
        var scene = try Scene()
        _ = scene.fetch([7])
        scene.disk.completesWhenPolled = false
        scene.streamer.acquire(layer: 0, [7, 3])
        let first = scene.streamer.next(wait: false)
        let polled = (0..<5).map { _ in scene.streamer.next(wait: false) }
        let second = scene.streamer.next(wait: true)
        let end = scene.streamer.next(wait: true)
        scene.streamer.release()
        #expect(first == 0)
        #expect(polled == [-1, -1, -1, -1, -1])
        #expect(second == 1)
        #expect(end == -1)
        #expect(scene.streamer.outstanding == 0)
    }

    @Test(arguments: 0..<10) func shortReadsGoOnWhereTheyStopped(seed: Int) throws {
        var scene = try Scene()
        var generator = SplitMix(seed: UInt64(seed))
        scene.disk.outcome = { _, piece in
            Int.random(in: 0..<3, using: &generator) == 0
                ? nil : Int64.random(in: 512...Int64(max(513, piece.length)), using: &generator)
        }
        let (_, problem) = scene.fetch([0, 15, 3, 9])
        #expect(problem == nil, "seed \(seed)")
        #expect(scene.streamer.statistics.retries > 0)
    }

    @Test func interruptedReadsAreRepeated() throws {
        var scene = try Scene()
        scene.disk.outcome = { number, _ in number % 3 == 0 ? eintr : number % 3 == 1 ? eagain : nil
        }
        let (_, problem) = scene.fetch([0, 1, 2])
        #expect(problem == nil)
        #expect(scene.streamer.statistics.retries > 0)
    }

    @Test(arguments: [eagain, 100]) func aReadThatNeverGetsAnywhereFails(result: Int64) throws {
        var scene = try Scene()
        scene.disk.outcome = { _, _ in result }  // 100 bytes are less than a block
        let (_, problem) = scene.fetch([0, 1, 2])
        let failure = scene.streamer.takeFailure()
        #expect(failure?.kind == .readFailed)
        #expect(problem == failure?.description)
    }

    /// The n-th read fails: one clear error, the other experts are right, and the streamer goes on.
    @Test(arguments: 0..<14) func aFailedReadLeavesTheStreamerUsable(failing: Int) throws {
        var scene = try Scene()
        _ = scene.fetch([0, 1])
        var generator = SplitMix(seed: UInt64(failing))
        scene.disk.choose = { Int.random(in: 0..<$0, using: &generator) }
        var hit = false
        scene.disk.outcome = { number, _ in
            if number == 6 + failing {
                hit = true
                return eio
            }
            return nil
        }
        let (order, problem) = scene.fetch([0, 2, 3, 4, 5])
        let failure = scene.streamer.takeFailure()
        let evicted = scene.streamer.statistics.evictions
        #expect(hit == (failing < 12))
        if hit {
            #expect(order.first == 0 && order.count < 5)
            #expect(problem == failure?.description)
            #expect(failure?.kind == .readFailed)
            #expect(failure?.description.contains("EIO") == true)
            #expect(failure?.description.contains(scene.file.path) == true)
            #expect(failure?.description.contains("at offset") == true)
        } else {
            #expect(problem == nil && failure == nil)
        }

        scene.disk.outcome = { _, _ in nil }
        let (again, after) = scene.fetch([2, 3, 4, 5])
        #expect(after == nil)
        #expect(again.sorted() == [0, 1, 2, 3])
        // The failed expert's slot was free: nobody had to leave for it.
        #expect(scene.streamer.statistics.evictions == evicted)
        for _ in 0..<3 {
            let (_, problem) = scene.fetch([0, 1, 2, 3, 4, 5, 6, 7])
            #expect(problem == nil)
        }
    }

    @Test func aFileThatWasCutSaysSo() throws {
        var scene = try Scene()
        scene.disk.outcome = { number, _ in number == 4 ? 0 : nil }
        let (_, problem) = scene.fetch([0, 1, 2])
        #expect(problem?.contains("the file ends at offset") == true)
    }

    @Test func releasingEarlyWaitsForReadsInFlightAndForgetsTheRest() throws {
        var scene = try Scene(bytes: 2_000_000, experts: 6, slots: 6)
        scene.disk.completesWhenPolled = false
        scene.streamer.acquire(layer: 0, [0, 1, 2, 3, 4])
        let first = scene.streamer.next(wait: true)
        scene.streamer.release()
        let held = (0..<6).map { scene.streamer.resident(layer: 0, expert: $0) }
        #expect(first == 0)
        #expect(scene.disk.inFlight == 0)
        #expect(held[0] && !held[4])
        let (_, problem) = scene.fetch([0, 1, 2, 3, 4, 5])
        #expect(problem == nil)
    }

    @Test func anEmptySetIsDoneAtOnce() throws {
        var scene = try Scene()
        scene.streamer.acquire(layer: 0, [])
        let next = scene.streamer.next(wait: true)
        scene.streamer.release()
        #expect(next == -1)
        #expect(scene.streamer.statistics.submits == 0)
    }

    @Test func wrongListsStopTheProgram() async {
        await #expect(processExitsWith: .failure) { try FailureTests.acquire([1, 1]) }
        await #expect(processExitsWith: .failure) { try FailureTests.acquire([0, 16]) }
        await #expect(processExitsWith: .failure) { try FailureTests.acquire([-1, 2]) }
        await #expect(processExitsWith: .success) { try FailureTests.acquire([0, 1]) }
    }

    private static func acquire(_ experts: [Int32]) throws {
        var scene = try Scene()
        scene.streamer.acquire(layer: 0, experts)
    }

    @Test(arguments: 0..<5) func randomUseAgreesWithAPlainModel(seed: Int) throws {
        var scene = try Scene(bytes: 3_000)
        var generator = SplitMix(seed: UInt64(seed))
        scene.disk.choose = { Int.random(in: 0..<$0, using: &generator) }
        var recent: [Int32] = []  // least recently used first
        var misses = 0
        for step in 0..<300 {
            let experts = distinct(
                Int.random(in: 1...8, using: &generator), below: 16, using: &generator)
            misses += experts.count { !recent.contains($0) }
            let (_, problem) = scene.fetch(experts)
            try #require(problem == nil, "seed \(seed), step \(step)")
            recent.removeAll { experts.contains($0) }
            recent = (recent + experts).suffix(8)
            for expert in 0..<16 {
                try #require(
                    scene.streamer.resident(layer: 0, expert: expert)
                        == recent.contains(Int32(expert)),
                    "seed \(seed), step \(step), expert \(expert)")
            }
        }
        #expect(Int(scene.streamer.statistics.misses) == misses)
    }
}
