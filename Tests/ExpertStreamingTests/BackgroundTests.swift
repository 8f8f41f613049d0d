import CAllocationCounter
import Testing

@testable import ExpertStreaming

extension ExpertStreamer {

    mutating func prefetch(layer: Int, _ experts: [Int32], planes: [UInt8]? = nil) {
        let planes = planes ?? experts.map { _ in UInt8(layout.planesPerExpert) }
        unsafe (experts + [-1]).withUnsafeBufferPointer { experts in
            unsafe (planes + [0]).withUnsafeBufferPointer { planes in
                unsafe prefetch(
                    layer: layer, experts: experts.baseAddress!, planes: planes.baseAddress!,
                    count: planes.count - 1)
            }
        }
    }
}

/// Three layers of 8 experts, of two planes of one part each, on a disk that waits to be asked.
private struct Scene: ~Copyable {
    let file: TemporaryFile
    let disk: SimulatedDisk
    var streamer: ExpertStreamer

    /// - Parameter slots: experts at full width.
    init(bytes: Int = 8000, slots: Int = 12, active: Int = 2, checksums: Bool = false) throws {
        // A local until the end: Swift 6.2 takes a field for initialised when this throws.
        let disk = SimulatedDisk()
        let file = try TemporaryFile(byteCount: 3 * 8 * 2 * (bytes + 4096))
        let layout = try file.records(
            layers: 3, experts: 8, parts: 1, planes: 2, checksums: checksums
        ) { _, _, _ in bytes }
        let slotBytes = try ExpertStreamer.plan(
            layout: layout, alignment: try ExpertStreamer.alignment(paths: [file.path]),
            activeExpertsPerToken: active, cacheBytes: .max
        ).classes[0].slotBytes
        streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: slotBytes * slots,
            activeExpertsPerToken: active, simulated: disk)
        self.disk = disk
        self.file = file
    }

    mutating func fetch(layer: Int, _ experts: [Int32], planes: [UInt8]? = nil) -> String? {
        streamer.fetch(layer: layer, experts, planes: planes, from: file).problem
    }

    /// Lets all reads in the background arrive.
    mutating func settle() {
        for _ in 0..<100
        where streamer.inFlight > 0 || streamer.hasBackgroundWork || streamer.hasPiecesWaiting {
            streamer.poll()
        }
    }

    func widths(layer: Int) -> [Int] {
        (0..<8).map { streamer.residentPlanes(layer: layer, expert: $0) }
    }
}

@Suite struct BackgroundTests {

    @Test func predictedExpertsAreThereWhenTheyAreAskedFor() throws {
        var scene = try Scene()
        let first = scene.fetch(layer: 0, [1, 2])
        scene.streamer.prefetch(layer: 1, [3, 4, 5], planes: [2, 1, 2])
        scene.settle()
        let widths = scene.widths(layer: 1)
        let second = scene.fetch(layer: 1, [3, 4], planes: [2, 1])
        let done = scene.streamer.statistics
        #expect(first == nil && second == nil)
        #expect(widths == [0, 0, 0, 2, 1, 2, 0, 0])
        #expect(done.misses == 2 && done.hits == 2)
        #expect(done.prefetchIssued == 3 && done.prefetchUseful == 2 && done.prefetchLate == 0)
        #expect(done.speculativeBytes == 5 * 8000)
        #expect(done.usefulSpeculativeBytes == 3 * 8000)
        #expect(done.wastedSpeculativeBytes == 0 && done.unknownSpeculativeBytes == 2 * 8000)
        #expect(done.expertBytesMissed == 4 * 8000)
    }

    /// Time goes down. The set's reads are more than the disk is given at once:
    ///
    ///     acquire 0   8 experts of 1.4 MB: 8 MiB fly, the rest waits
    ///     prefetch    nothing may be sent
    ///     ... the pieces arrive ...
    ///     next        the last one was sent and little is in flight: now it may
    @Test func nothingIsSentAheadOfWhatIsAskedFor() throws {
        var scene = try Scene(bytes: 700_000)
        scene.disk.completesWhenPolled = false
        var order: [Bool] = []
        scene.disk.outcome = { [half = scene.streamer.layout.extents[8 * 2].offset] _, piece in
            order.append(piece.offset >= half)
            return nil
        }
        scene.streamer.acquire(layer: 0, [0, 1, 2, 3, 4, 5, 6, 7])
        scene.streamer.prefetch(layer: 1, [7])
        while scene.streamer.outstanding > 0 { _ = scene.streamer.next(wait: true) }
        scene.streamer.release()
        scene.disk.completesWhenPolled = true
        scene.settle()
        let widths = scene.widths(layer: 1)
        #expect(widths == [0, 0, 0, 0, 0, 0, 0, 2])
        let lastOfSet = order.lastIndex(of: false)!
        let pieces = order.count { !$0 }
        // On a disk that serves in turn, the prediction comes last but for what was quietly in
        // flight.
        #expect(lastOfSet >= pieces - 1 && lastOfSet <= pieces + 4)
        #expect(order.prefix(pieces - 3).allSatisfy { !$0 })
    }

    @Test func releaseAndNextWaitOnlyForTheSet() throws {
        var scene = try Scene(bytes: 700_000)
        scene.disk.completesWhenPolled = false
        // The set's reads complete first, whoever was sent first.
        scene.streamer.prefetch(layer: 1, [0, 1, 2, 3])
        let ahead = scene.disk.inFlight
        scene.disk.choose = { $0 - 1 }
        scene.streamer.acquire(layer: 0, [0])
        let index = scene.streamer.next(wait: true)
        scene.streamer.release()
        #expect(ahead > 0)
        #expect(index == 0)
        #expect(scene.disk.inFlight >= ahead && scene.streamer.inFlight == scene.disk.inFlight)
        #expect(scene.streamer.backgroundBytes <= 2 << 20 + ReadPiece.largestBytes)
        scene.disk.completesWhenPolled = true
        scene.settle()
        let widths = scene.widths(layer: 1)
        #expect(widths == [2, 2, 2, 2, 0, 0, 0, 0])
    }

    @Test func whatIsOnItsWayBecomesUrgentWhenItIsAskedFor() throws {
        var scene = try Scene(bytes: 700_000)
        scene.disk.completesWhenPolled = false
        scene.streamer.prefetch(layer: 0, [5, 6])
        let problem = scene.fetch(layer: 0, [5])
        let done = scene.streamer.statistics
        #expect(problem == nil)
        #expect(done.prefetchLate == 1 && done.misses == 1 && done.expertBytesMissed == 0)
        #expect(done.usefulSpeculativeBytes == 2 * 700_000)
    }

    @Test func predictionsOfAPassedLayerAreDropped() throws {
        var scene = try Scene(bytes: 700_000)
        scene.disk.completesWhenPolled = false
        scene.streamer.prefetch(layer: 1, [0, 1, 2, 3])
        scene.streamer.prefetch(layer: 2, [4])
        let problem = scene.fetch(layer: 1, [7])
        let dropped = scene.streamer.statistics.prefetchDropped
        scene.disk.completesWhenPolled = true
        scene.settle()
        let (passed, coming) = (scene.widths(layer: 1), scene.widths(layer: 2))
        #expect(problem == nil)
        #expect(dropped == 2)
        #expect(passed == [2, 2, 0, 0, 0, 0, 0, 2])
        #expect(coming == [0, 0, 0, 0, 2, 0, 0, 0])
    }

    /// Four slots: 0 and 1 of layer 0 are old, 7 of layer 1 was predicted in vain, and the old 0 is
    /// predicted for the next token.
    @Test func wrongPredictionsLeaveFirstAndRightOnesLast() throws {
        var scene = try Scene(slots: 4)
        var problems = [scene.fetch(layer: 0, [0, 1])]
        scene.streamer.prefetch(layer: 1, [7])
        scene.settle()
        problems.append(scene.fetch(layer: 1, [2]))
        scene.streamer.prefetch(layer: 0, [0])
        problems.append(scene.fetch(layer: 2, [3]))
        let wrong = scene.widths(layer: 1)
        problems.append(scene.fetch(layer: 2, [4]))
        problems.append(scene.fetch(layer: 2, [5]))
        let layers = [scene.widths(layer: 0), scene.widths(layer: 1), scene.widths(layer: 2)]
        let done = scene.streamer.statistics
        #expect(problems.allSatisfy { $0 == nil })
        #expect(wrong == [0, 0, 2, 0, 0, 0, 0, 0])
        #expect(done.wastedSpeculativeBytes == 2 * 8000 && done.prefetchUseful == 0)
        #expect(
            layers == [
                [2, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 2, 2, 2, 0, 0],
            ])
    }

    /// The cache holds no more than one set, and all of it is being read ahead: who asks gets it.
    @Test(arguments: 0..<6) func slotsBeingReadAheadAreGivenBack(seed: Int) throws {
        var generator = SplitMix(seed: UInt64(seed))
        var scene = try Scene(bytes: 600_000, slots: 2)
        scene.disk.completesWhenPolled = seed % 2 == 0
        scene.disk.choose = { Int.random(in: 0..<$0, using: &generator) }
        scene.disk.outcome = { number, _ in number % 5 == seed % 5 ? -11 : nil }  // EAGAIN
        for step in 0..<12 {
            scene.streamer.prefetch(layer: step % 3, [0, 1, 2])
            let problem = scene.fetch(layer: step % 3, [6, 1])
            try #require(problem == nil, "seed \(seed), step \(step)")
        }
        #expect(scene.streamer.statistics.prefetchIssued > 0)
    }

    /// The n-th read fails; reads ahead are reads 0 to 3, those of the set the others.
    @Test(arguments: 0..<4) func failuresInTheBackgroundAreNobodys(failing: Int) throws {
        var scene = try Scene()
        scene.disk.outcome = { number, _ in number == failing ? -5 : nil }
        scene.streamer.prefetch(layer: 0, [2, 3])
        scene.settle()
        let widths = scene.widths(layer: 0)
        let failure = scene.streamer.failure
        let problem = scene.fetch(layer: 0, [2, 3])
        #expect(failure == nil)
        // A failed second plane leaves the first; a failed first one leaves nothing that is usable.
        #expect(Set(widths[2...3]) == (failing % 2 == 0 ? [0, 2] : [1, 2]))
        #expect(problem == nil)
        #expect(scene.streamer.statistics.wastedSpeculativeBytes == 8000)
    }

    /// A read ahead fails after its expert was asked for, or before: either way it is read again.
    @Test func damageInTheBackgroundIsNobodysToo() throws {
        var scene = try Scene(checksums: true)
        scene.disk.spoils = { $0 < 2 }
        scene.disk.choose = { _ in 0 }
        scene.streamer.prefetch(layer: 0, [2], planes: [1])
        scene.settle()
        let damaged = scene.widths(layer: 0)
        let problem = scene.fetch(layer: 0, [2])
        #expect(damaged == [0, 0, 0, 0, 0, 0, 0, 0])
        #expect(problem == nil)
        #expect(scene.streamer.statistics.rereads == 1)
    }

    @Test func anExpertInUseGetsItsOtherPlanes() throws {
        var scene = try Scene(bytes: 100_000)
        scene.disk.completesWhenPolled = false
        let narrow = scene.fetch(layer: 0, [3, 4], planes: [1, 1])
        scene.streamer.prefetch(layer: 1, [0])
        scene.streamer.requestUpgrade(layer: 0, expert: 4)
        scene.streamer.requestUpgrade(layer: 0, expert: 4)
        scene.streamer.requestUpgrade(layer: 0, expert: 5)  // not here: there is nothing to widen
        scene.disk.completesWhenPolled = true
        scene.settle()
        let widths = scene.widths(layer: 0)
        #expect(narrow == nil)
        #expect(widths == [0, 0, 0, 1, 2, 0, 0, 0])
        #expect(scene.streamer.statistics.upgradeBytes == 100_000)
        #expect(scene.streamer.statistics.speculativeBytes == 200_000)
    }

    /// Upgrades take no room from who was used later.
    @Test func anUpgradeEvictsOnlyWhoDeservesLess() throws {
        let file = try TemporaryFile(byteCount: 1 << 20)
        let layout = try file.records(layers: 1, experts: 8, parts: 1, planes: 2) { _, _, _ in 4000
        }
        var streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: 4096 * 8, activeExpertsPerToken: 2,
            options: StreamingOptions(planeShares: [1, 0.4]), simulated: SimulatedDisk())
        #expect(streamer.plan.classes[0].pools.map(\.slotCount) == [6, 2])
        let problems = [
            streamer.fetch(layer: 0, [0], planes: [2], from: file).problem,
            streamer.fetch(layer: 0, [1], planes: [1], from: file).problem,
            streamer.fetch(layer: 0, [2], planes: [2], from: file).problem,
        ]
        streamer.requestUpgrade(layer: 0, expert: 1)  // takes that of 0
        for _ in 0..<10 { streamer.poll() }
        let first = (0..<3).map { streamer.residentPlanes(layer: 0, expert: $0) }
        streamer.requestUpgrade(layer: 0, expert: 0)  // used before both
        for _ in 0..<10 { streamer.poll() }
        let second = (0..<3).map { streamer.residentPlanes(layer: 0, expert: $0) }
        #expect(problems == [nil, nil, nil])
        #expect(first == [1, 2, 2])
        #expect(second == [1, 2, 2])
    }

    @Test(arguments: [0, 1, 3]) func onlyAsManyRanksAsAllowedAreRead(ranks: Int) throws {
        let file = try TemporaryFile(byteCount: 1 << 20)
        let layout = try file.records(layers: 2, experts: 16, parts: 1, planes: 1) { _, _, _ in 4000
        }
        var streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: 1 << 20, activeExpertsPerToken: 2,
            options: StreamingOptions(prefetchRanks: ranks), simulated: SimulatedDisk())
        streamer.beginToken()
        streamer.prefetch(layer: 1, [12, 3, 14, 5])
        for _ in 0..<20 { streamer.poll() }
        let here = (0..<16).filter { streamer.residentPlanes(layer: 1, expert: $0) > 0 }
        #expect(here == [12, 3, 14, 5].prefix(ranks).sorted())
        #expect(streamer.statistics.prefetchLevel == ranks)
        // The window after the first one has nothing read ahead, to compare with.
        for _ in 0..<PrefetchGovernor.windowTokens { streamer.beginToken() }
        streamer.prefetch(layer: 1, [0, 1])
        for _ in 0..<20 { streamer.poll() }
        let later = streamer.statistics.prefetchIssued
        #expect(later == UInt64(ranks))
    }

    @Test(arguments: 0..<16) func randomUseBringsTheRightBytesAndAddsUp(seed: Int) throws {
        var generator = SplitMix(seed: UInt64(seed))
        var scene = try Scene(
            bytes: seed % 3 == 0 ? 600_000 : 5000, slots: 2 + seed, active: 2,
            checksums: seed % 2 == 0)
        scene.disk.choose = { Int.random(in: 0..<$0, using: &generator) }
        scene.disk.completesWhenPolled = seed % 4 != 1
        let spoilt = seed % 2 == 0
        scene.disk.spoils = { spoilt && $0 % 37 == 5 }
        scene.disk.outcome = { number, piece in
            number % 11 == 3 ? -4 : number % 13 == 7 ? Int64(piece.length / 2) : nil
        }
        for step in 0..<150 {
            let layer = step % 3
            if layer == 0 { scene.streamer.beginToken() }
            let capacity = min(4, scene.streamer.leaseCapacity(layer: layer))
            let experts = distinct(
                Int.random(in: 1...capacity, using: &generator), below: 8, using: &generator)
            let widths = experts.map { _ in UInt8.random(in: 1...2, using: &generator) }
            for _ in 0..<Int.random(in: 0...2, using: &generator) {
                let layer = Int.random(in: 0..<3, using: &generator)
                let ahead = distinct(4, below: 8, using: &generator)
                scene.streamer.prefetch(layer: layer, ahead)
            }
            if Bool.random(using: &generator) {
                scene.streamer.requestUpgrade(
                    layer: layer, expert: Int.random(in: 0..<8, using: &generator))
            }
            let problem = scene.fetch(layer: layer, experts, planes: widths)
            // A read that is spoilt twice running is damage; all else is nobody's fault.
            if let failure = scene.streamer.takeFailure(), failure.kind == .damagedRecord {
                continue
            }
            try #require(problem == nil, "seed \(seed), step \(step)")
        }
        scene.disk.completesWhenPolled = true
        scene.settle()
        let done = scene.streamer.statistics
        #expect(done.prefetchIssued > 0)
        #expect(done.speculativeBytes >= done.usefulSpeculativeBytes + done.wastedSpeculativeBytes)
        #expect(done.unknownSpeculativeBytes <= UInt64(scene.streamer.plan.arenaBytes))
        #expect(scene.streamer.inFlight == 0 && scene.streamer.backgroundBytes == 0)
        #expect(scene.streamer.freeTagCount == scene.streamer.disk.depth)
    }

    @Test(.enabled(if: allocation_counter_works() != 0, "a sanitizer owns malloc"))
    func readingAheadAllocatesNothing() throws {
        let file = try TemporaryFile(byteCount: 1 << 20)
        let layout = try file.records(layers: 3, experts: 8, parts: 2, planes: 2, checksums: true) {
            _, _, _ in 5000
        }
        var streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: 400_000, activeExpertsPerToken: 2)
        let experts: [Int32] = [3, 1, 4, 0, 5, 2, 6, 7]
        func token(_ step: Int) {
            unsafe experts.withUnsafeBufferPointer { experts in
                let base = experts.baseAddress!
                streamer.beginToken()
                for layer in 0..<3 {
                    unsafe streamer.prefetch(
                        layer: (layer + 1) % 3, experts: base + step % 4, planes: nil, count: 3)
                    unsafe streamer.acquire(layer: layer, experts: base + step % 5, count: 2)
                    while streamer.outstanding > 0 { _ = streamer.next(wait: true) }
                    streamer.requestUpgrade(layer: layer, expert: step % 8)
                    streamer.release()
                    streamer.poll()
                }
            }
        }
        for step in 0..<40 { token(step) }
        let before = allocations_of_this_thread()
        for step in 0..<100 { token(step) }
        let made = allocations_of_this_thread() - before
        #expect(made == 0)
        #expect(streamer.statistics.prefetchUseful > 0 && streamer.statistics.evictions > 0)
    }
}

@Suite struct PrefetchQueueTests {

    private func wish(_ expert: Int32, rank: UInt16, due: Int64) -> PrefetchQueue.Wish {
        PrefetchQueue.Wish(expertIndex: expert, planes: 1, rank: rank, due: due)
    }

    @Test func nearerLayersAndBetterRanksComeFirst() {
        var queue = PrefetchQueue(capacity: 4)
        let room = [
            queue.insert(wish(1, rank: 1, due: 7)), queue.insert(wish(2, rank: 0, due: 8)),
            queue.insert(wish(3, rank: 0, due: 7)), queue.insert(wish(4, rank: 1, due: 8)),
            queue.insert(wish(5, rank: 2, due: 8)),  // the last of all: not taken
            queue.insert(wish(6, rank: 2, due: 7)),  // drives 4 out
        ]
        var order: [Int32] = []
        while let next = queue.removeFirst() { order.append(next.expertIndex) }
        #expect(room == [true, true, true, true, false, false])
        #expect(order == [3, 1, 6, 2])
    }

    @Test func whatHasPassedIsRemoved() {
        var queue = PrefetchQueue(capacity: 8)
        for due in 1...6 { _ = queue.insert(wish(Int32(due), rank: 0, due: Int64(due))) }
        let passed = queue.removeDue(2)
        let replaced = queue.removeDue(from: 4, through: 4)
        var order: [Int32] = []
        while let next = queue.removeFirst() { order.append(next.expertIndex) }
        #expect(passed == 2 && replaced == 1)
        #expect(order == [3, 5, 6])
    }

    // MARK: Figures

    @Test func theDiskIsBusyWhileASetIsReadAndOnlyThen() throws {
        var scene = try Scene()
        let clock = ContinuousClock()
        let span = clock.measure {
            let problem = scene.fetch(layer: 0, [1, 2])
            #expect(problem == nil)
        }
        let busy = scene.streamer.statistics.diskBusyNanoseconds
        let nanoseconds = span.components.attoseconds / 1_000_000_000
        #expect(busy > 0 && Int64(busy) <= span.components.seconds * 1_000_000_000 + nanoseconds)
        // Experts that are there, and what nobody waits for, do not count.
        #expect(scene.fetch(layer: 0, [2, 1]) == nil)
        scene.streamer.prefetch(layer: 1, [4, 5])
        scene.settle()
        #expect(scene.streamer.statistics.speculativeBytes > 0)
        #expect(scene.streamer.statistics.diskBusyNanoseconds == busy)
        // A stall is part of it: nothing else was in flight.
        #expect(scene.streamer.statistics.stallNanoseconds <= busy)
        #expect(scene.fetch(layer: 1, [6]) == nil)
        let later = scene.streamer.statistics - scene.streamer.statistics
        #expect(later.diskBusyNanoseconds == 0)
        #expect(scene.streamer.statistics.diskBusyNanoseconds > busy)
    }
}
