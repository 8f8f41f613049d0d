import CAllocationCounter
import Glibc
import Testing

@testable import ExpertStreaming

/// Three layers of 16 experts of two planes, the last layer's twice as large.
private func makeFile() throws -> (file: TemporaryFile, layout: ExpertLayout) {
    let file = try TemporaryFile(byteCount: 3 << 20)
    let layout = try file.records(
        layers: 3, experts: 16, parts: 2, planes: 2, checksums: true
    ) { layer, plane, _ in layer == 2 ? 9000 : 5000 - 1000 * plane }
    return (file, layout)
}

private func needs(_ layout: ExpertLayout, _ file: TemporaryFile) throws -> CacheNeeds {
    ExpertStreamer.needs(
        layout: layout, alignment: try ExpertStreamer.alignment(paths: [file.path]),
        activeExpertsPerToken: 3)
}

@Suite struct ResizeTests {

    @Test(arguments: [nil] + IOMode.allCases, [[], [1, 0.5]])
    func bytesStayRightThroughRandomSizes(mode: IOMode?, shares: [Double]) throws {
        let (file, layout) = try makeFile()
        let needs = try needs(layout, file)
        var generator = SplitMix(seed: UInt64(shares.count) + 7)
        var streamer: ExpertStreamer
        do {
            streamer = try ExpertStreamer(
                layout: layout, paths: [file.path], cacheBytes: needs.fullBytes / 2,
                activeExpertsPerToken: 3,
                options: StreamingOptions(io: mode, planeShares: shares),
                simulated: mode == nil ? SimulatedDisk() : nil)
        } catch {
            #expect(error.kind == .modeRefused)
            return
        }
        for round in 0..<12 {
            let bytes = Int.random(in: needs.floorBytes...needs.fullBytes, using: &generator)
            let before = streamer.statistics
            try streamer.resize(cacheBytes: bytes)
            let expected = try ExpertStreamer.plan(
                layout: layout, alignment: streamer.plan.alignment, activeExpertsPerToken: 3,
                cacheBytes: bytes, planeShares: shares)
            #expect(streamer.plan == expected)
            // What is in memory is still right: it costs no read to look at it.
            for layer in 0..<3 {
                let here = (0..<16).filter {
                    streamer.residentPlanes(layer: layer, expert: $0) > 0
                }
                for expert in here {
                    let planes = [UInt8(streamer.residentPlanes(layer: layer, expert: expert))]
                    let (_, problem) = streamer.fetch(
                        layer: layer, [Int32(expert)], planes: planes, from: file)
                    try #require(problem == nil, "round \(round)")
                }
            }
            #expect(streamer.statistics.reads == before.reads, "round \(round)")
            for step in 0..<24 {
                let experts = distinct(3, below: 16, using: &generator)
                streamer.prefetch(layer: (step + 1) % 3, distinct(2, below: 16, using: &generator))
                let (_, problem) = streamer.fetch(
                    layer: step % 3, experts,
                    planes: experts.map { _ in UInt8.random(in: 1...2, using: &generator) },
                    from: file)
                try #require(problem == nil, "round \(round), step \(step)")
            }
        }
        #expect(streamer.statistics.evictions > 0)
    }

    @Test func aSmallerCacheKeepsWhatWasUsedLast() throws {
        let (file, layout) = try makeFile()
        let needs = try needs(layout, file)
        var streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: needs.fullBytes,
            activeExpertsPerToken: 3, simulated: SimulatedDisk())
        for expert in 0..<16 { _ = streamer.fetch(layer: 2, [Int32(expert)], from: file) }
        try streamer.resize(cacheBytes: needs.fullBytes / 2)
        let slots = streamer.plan.classes[streamer.plan.classOfLayer[2]].slotCount
        let kept = (0..<16).map { streamer.residentPlanes(layer: 2, expert: $0) }
        #expect(slots < 16)
        #expect(kept == (0..<16).map { $0 < 16 - slots ? 0 : 2 })
        #expect(Int(streamer.statistics.evictions) == 16 - slots)
        let capacity = streamer.leaseCapacity(layer: 2)
        #expect(capacity == slots)
    }

    @Test func whatCannotBeIsRefusedAndChangesNothing() throws {
        let (file, layout) = try makeFile()
        let needs = try needs(layout, file)
        var streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: needs.floorBytes * 3,
            activeExpertsPerToken: 3, simulated: SimulatedDisk())
        for expert in 0..<4 { try streamer.pin(layer: 2, expert: expert) }
        let plan = streamer.plan
        let kinds = [needs.floorBytes - 1, needs.floorBytes].map { bytes in
            do throws(StreamingError) {
                try streamer.resize(cacheBytes: bytes)
                return nil as StreamingError.Kind?
            } catch {
                return error.kind
            }
        }
        let pinned = (0..<4).map { streamer.residentPlanes(layer: 2, expert: $0) }
        #expect(kinds == [.cacheTooSmall, .cacheTooSmall])
        #expect(streamer.plan == plan)
        #expect(pinned == [2, 2, 2, 2])
    }

    @Test func pinnedExpertsStayAndArriveWhole() throws {
        let (file, layout) = try makeFile()
        let needs = try needs(layout, file)
        let disk = SimulatedDisk()
        var streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: needs.floorBytes * 2,
            activeExpertsPerToken: 3, simulated: disk)
        disk.outcome = { number, _ in number == 1 ? -5 : nil }
        #expect(throws: StreamingError.self) { try streamer.pin(layer: 2, expert: 9) }
        disk.outcome = { _, _ in nil }
        try streamer.pin(layer: 2, expert: 5)
        try streamer.pin(layer: 2, expert: 5)
        for step in 0..<20 {
            _ = streamer.fetch(layer: 2, [Int32(step % 5), Int32(6 + step % 9)], from: file)
        }
        let pinned = streamer.residentPlanes(layer: 2, expert: 5)
        let capacity = streamer.leaseCapacity(layer: 2)
        streamer.unpin(layer: 2, expert: 5)
        let unpinned = streamer.leaseCapacity(layer: 2)
        var error: StreamingError?
        for expert in 0..<16 where error == nil {
            do throws(StreamingError) {
                try streamer.pin(layer: 2, expert: expert)
            } catch let refused {
                error = refused
            }
        }
        #expect(pinned == 2)
        #expect(unpinned == capacity + 1)
        #expect(error?.kind == .cacheTooSmall)
        #expect(error?.description.contains("cannot be pinned") == true)
    }

    /// In a process of its own, because others allocate beside it.
    @Test(.enabled(if: allocation_counter_works() != 0, "a sanitizer's memory hides ours"))
    func memoryIsGivenBackAndTakenAgain() async {
        await #expect(processExitsWith: .success) {
            for mode in IOMode.allCases { try ResizeTests.measureMemory(mode) }
        }
    }

    private static func measureMemory(_ mode: IOMode) throws {
        func held(_ key: String) throws -> Int {
            let status = try #require(SmallFile.read("/proc/self/status"))
            return try #require(MemoryLimit.kibibytes(key, in: status))
        }
        // A sparse file: what it holds does not matter here.
        let file = try TemporaryFile(byteCount: 4096)
        let size = 130 << 20
        unsafe truncate(file.path, off_t(size))
        let extents = (0..<128).map {
            ExpertExtent(fileIndex: 0, offset: UInt64($0) << 20, byteCount: 1 << 20)
        }
        let layout = try ExpertLayout(
            layerCount: 2, expertsPerLayer: 64, partsPerExpert: 1, extents: extents,
            fileSizes: [UInt64(size)])
        let before = try held("VmRSS")
        guard
            var streamer = try? ExpertStreamer(
                layout: layout, paths: [file.path], cacheBytes: 100 << 20,
                activeExpertsPerToken: 4, options: StreamingOptions(io: mode))
        else { return }
        let isPinned = try held("VmPin") > 0
        for megabytes in [100, 33, 5, 70, 100, 12] {
            try streamer.resize(cacheBytes: megabytes << 20)
            for step in 0..<32 {
                let experts = (0..<4).map { Int32((step * 4 + $0) % 64) }
                streamer.acquire(layer: step % 2, experts)
                while streamer.outstanding > 0 { _ = streamer.next(wait: true) }
                streamer.release()
            }
            let used = try held("VmRSS") - before
            print("\(mode): \(megabytes) MiB planned, \(used >> 10) KiB taken")
            // All slots are backed, and nothing much comes on top.
            try #require(used >= streamer.plan.arenaBytes)
            try #require(used <= streamer.plan.totalBytes)
            if isPinned {
                let pinned = try held("VmPin")
                try #require(pinned == streamer.plan.arenaBytes, "\(pinned) bytes are pinned")
            }
        }
    }
}
