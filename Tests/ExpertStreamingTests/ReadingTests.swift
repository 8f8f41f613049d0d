import CAllocationCounter
import CHost
import Glibc
import Testing

@testable import ExpertStreaming

/// Why a mode cannot be tested here; nil if it can.
private func refusal(of mode: IOMode) -> String? {
    do {
        let file = try TemporaryFile(byteCount: 10_000)
        _ = try ExpertStreamer(
            layout: try file.layout(layers: 1, experts: 2, parts: 1, bytes: 1000),
            paths: [file.path],
            cacheBytes: 1 << 20, activeExpertsPerToken: 1, options: StreamingOptions(io: mode))
        return nil
    } catch {
        print("skipped for \(mode): \(error)")
        return "\(error)"
    }
}

private let workingModes = IOMode.allCases.filter { refusal(of: $0) == nil }

@Suite struct ReadingTests {

    /// Sizes and offsets as GGUF has them: multiples of 32 and of nothing larger; the last expert
    /// ends with the file, in the middle of a block.
    @Test(arguments: workingModes, [96, 4096 * 3 + 512 + 32, 1_152 * 300 + 2272])
    func everyModeBringsTheRightBytes(mode: IOMode, bytes: Int) throws {
        let file = try TemporaryFile(byteCount: bytes * 2 * 8 * 3 + 6 * 32, seed: UInt64(bytes))
        let layout = try file.layout(layers: 2, experts: 8, parts: 3) { layer, part in
            layer == 1 && part == 2 ? bytes + 96 : bytes - 32
        }
        let needs = try cacheNeeds(layout, of: file, active: 3)
        var streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: needs.floorBytes * 3 / 2,
            activeExpertsPerToken: 3, options: StreamingOptions(io: mode))
        #expect(streamer.mode == mode)
        #expect(streamer.plan.classes.count == 2)

        var generator = SplitMix(seed: 3)
        for step in 0..<30 {
            let experts = distinct(3, below: 8, using: &generator)
            let (order, problem) = streamer.fetch(layer: step % 2, experts, from: file)
            #expect(problem == nil, "step \(step)")
            #expect(order.sorted() == [0, 1, 2])
        }
        let done = streamer.statistics
        #expect(done.hits + done.misses == 90)
        #expect(done.hits > 0 && done.misses > 0 && done.evictions > 0)
        #expect(done.bytesRead >= done.expertBytesMissed)
    }

    @Test(arguments: workingModes) func aFileSmallerThanABlockIsRead(mode: IOMode) throws {
        let file = try TemporaryFile(byteCount: 300)
        let layout = try file.layout(layers: 1, experts: 4, parts: 2, bytes: 33)
        var streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: 1 << 20, activeExpertsPerToken: 2,
            options: StreamingOptions(io: mode))
        let (_, problem) = streamer.fetch(layer: 0, [0, 1, 2, 3], from: file)
        #expect(problem == nil)
    }

    /// tmpfs takes O_DIRECT on some kernels and refuses it on others; it must be right either way.
    @Test(
        .enabled(if: isWritable("/dev/shm"), "no writable /dev/shm"),
        arguments: [nil] + workingModes)
    func filesInMemoryAreRead(mode: IOMode?) throws {
        let file = try TemporaryFile(byteCount: 700_001, directory: "/dev/shm")
        let layout = try file.layout(layers: 2, experts: 4, parts: 3, bytes: 29_001)
        var streamer: ExpertStreamer
        do {
            streamer = try ExpertStreamer(
                layout: layout, paths: [file.path], cacheBytes: 1 << 20, activeExpertsPerToken: 2,
                options: StreamingOptions(io: mode))
        } catch {
            // A refusal of a forced mode is right too, if it says why.
            #expect(mode == .direct && error.kind == .modeRefused)
            return
        }
        for layer in 0..<2 {
            let (_, problem) = streamer.fetch(layer: layer, [3, 0, 2, 1], from: file)
            #expect(problem == nil)
        }
    }

    @Test func expertsOfOneModelMayLieInManyFiles() throws {
        let files = try (0..<3).map { try TemporaryFile(byteCount: 100_000, seed: UInt64($0)) }
        // Expert e in file e % 3, its second part in the next file.
        let extents = (0..<12).map { (index: Int) -> ExpertExtent in
            ExpertExtent(
                fileIndex: (index / 2 + index % 2) % 3, offset: UInt64(7000 * index + 32),
                byteCount: 6000)
        }
        let layout = try ExpertLayout(
            layerCount: 1, expertsPerLayer: 6, partsPerExpert: 2, extents: extents,
            fileSizes: files.map { UInt64($0.bytes.count) })
        for mode in workingModes {
            var streamer = try ExpertStreamer(
                layout: layout, paths: files.map(\.path), cacheBytes: 1 << 20,
                activeExpertsPerToken: 2,
                options: StreamingOptions(io: mode))
            streamer.acquire(layer: 0, [5, 4, 3, 2, 1, 0])
            while streamer.outstanding > 0 {
                let index = streamer.next(wait: true)
                try #require(index >= 0)
                for part in 0..<2 {
                    let extent = layout.extents[(5 - index) * 2 + part]
                    let same = unsafe files[extent.fileIndex].bytes.withUnsafeBytes {
                        unsafe memcmp(
                            $0.baseAddress! + Int(extent.offset),
                            streamer.address(index: index, part: part), extent.byteCount) == 0
                    }
                    #expect(same, "\(mode), index \(index), part \(part)")
                }
            }
            streamer.release()
        }
    }

    @Test(arguments: workingModes) func expertsLargerThanManyPiecesAreRead(mode: IOMode) throws {
        let file = try TemporaryFile(byteCount: 8 << 20)
        let layout = try file.layout(layers: 1, experts: 2, parts: 3, bytes: 1_300_032)
        var streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: 16 << 20, activeExpertsPerToken: 2,
            options: StreamingOptions(io: mode))
        let (_, problem) = streamer.fetch(layer: 0, [1, 0], from: file)
        #expect(problem == nil)
        let done = streamer.statistics
        #expect(done.reads - done.retries == 6 * 3)
    }

    @Test func aCacheOfEverythingReadsEachExpertOnce() throws {
        let file = try TemporaryFile(byteCount: 1 << 20)
        let layout = try file.layout(layers: 4, experts: 8, parts: 3, bytes: 10_016)
        let needs = try cacheNeeds(layout, of: file, active: 2)
        var streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: needs.fullBytes,
            activeExpertsPerToken: 2)
        #expect(streamer.plan.holdsEverything)
        var generator = SplitMix(seed: 1)
        for step in 0..<400 {
            let experts = distinct(3, below: 8, using: &generator)
            let (_, problem) = streamer.fetch(layer: step % 4, experts, from: file)
            try #require(problem == nil)
        }
        #expect(streamer.statistics.misses == 32)
        #expect(streamer.statistics.evictions == 0)
        #expect(streamer.statistics.hits == 1200 - 32)
    }

    /// One token's active set, one slot less, and one layer's experts less: LRU falls from all to
    /// nothing. (With one slot less, every layer finds one expert: it is leased before the other
    /// one's slot is chosen.)
    @Test func belowTheActiveSetNothingHits() throws {
        let file = try TemporaryFile(byteCount: 200_000)
        let layout = try file.layout(layers: 4, experts: 4, parts: 1, bytes: 4096)
        for (slots, hits) in [(8, 8 * 9), (7, 4 * 9), (6, 0)] {
            let slotBytes = try ExpertStreamer.plan(
                layout: layout, alignment: ExpertStreamer.alignment(paths: [file.path]),
                activeExpertsPerToken: 2, cacheBytes: 1 << 20
            ).classes[0].slotBytes
            var streamer = try ExpertStreamer(
                layout: layout, paths: [file.path], cacheBytes: slots * slotBytes,
                activeExpertsPerToken: 2)
            for token in 0..<10 * 4 {
                let (_, problem) = streamer.fetch(layer: token % 4, [1, 3], from: file)
                try #require(problem == nil)
            }
            #expect(Int(streamer.statistics.hits) == hits, "\(slots) slots")
        }
    }

    @Test func hitsComeFirstAndInOrder() throws {
        let file = try TemporaryFile(byteCount: 200_000)
        let layout = try file.layout(layers: 1, experts: 8, parts: 2, bytes: 9_000)
        var streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: 1 << 20, activeExpertsPerToken: 4)
        _ = streamer.fetch(layer: 0, [6, 2, 4], from: file)
        let (order, problem) = streamer.fetch(layer: 0, [1, 2, 0, 4, 6], from: file)
        #expect(problem == nil)
        #expect(order.prefix(3) == [1, 3, 4])
        #expect(order.sorted() == [0, 1, 2, 3, 4])
    }

    @Test(arguments: workingModes) func aStreamerMayBeMadeOnOneThreadAndUsedOnAnother(mode: IOMode)
        throws
    {
        final class Box {
            var streamer: ExpertStreamer
            let file: TemporaryFile
            var problem: String? = "did not run"
            init(_ streamer: consuming ExpertStreamer, _ file: TemporaryFile) {
                self.streamer = streamer
                self.file = file
            }
        }
        let file = try TemporaryFile(byteCount: 200_000)
        let layout = try file.layout(layers: 1, experts: 8, parts: 2, bytes: 9_000)
        let box = Box(
            try ExpertStreamer(
                layout: layout, paths: [file.path], cacheBytes: 1 << 20, activeExpertsPerToken: 4,
                options: StreamingOptions(io: mode)),
            file)
        var thread: UInt64 = 0
        let error = unsafe host_thread_start(
            &thread,
            { raw in
                let box = unsafe Unmanaged<Box>.fromOpaque(raw!).takeUnretainedValue()
                box.problem = box.streamer.fetch(layer: 0, [1, 2, 3, 4, 5], from: box.file).problem
                // Left in flight: the streamer is destroyed on the first thread.
                box.streamer.acquire(layer: 0, [0, 6, 7])
            },
            Unmanaged.passUnretained(box).toOpaque(), "leader", -1)
        try #require(error == 0)
        host_thread_join(thread)
        #expect(box.problem == nil)
    }

    @Test(
        .enabled(if: allocation_counter_works() != 0, "a sanitizer owns malloc"),
        arguments: workingModes)
    func streamingAllocatesNothing(mode: IOMode) throws {
        let file = try TemporaryFile(byteCount: 1 << 20)
        let layout = try file.layout(layers: 4, experts: 8, parts: 3, bytes: 10_016)
        let needs = try cacheNeeds(layout, of: file, active: 3)
        var streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: needs.activeSetBytes,
            activeExpertsPerToken: 3, options: StreamingOptions(io: mode))
        var generator = SplitMix(seed: 1)
        let sets = (0..<64).map { _ in distinct(3, below: 8, using: &generator) }
        func token(_ experts: [Int32], _ layer: Int) -> Int {
            unsafe experts.withUnsafeBufferPointer {
                unsafe streamer.acquire(layer: layer, experts: $0.baseAddress!, count: 3)
            }
            var sum = 0
            _ = streamer.next(wait: false)
            while streamer.outstanding > 0 {
                let index = streamer.next(wait: true)
                sum += unsafe Int(streamer.address(index: index, part: 2).load(as: UInt8.self))
            }
            streamer.release()
            return sum
        }
        // Once round, so that the language runtime has made what it makes on first use.
        for step in 0..<64 { _ = token(sets[step], step % 4) }
        let before = allocations_of_this_thread()
        var sum = 0
        for step in 0..<256 { sum += token(sets[step % 64], step % 4) }
        let made = allocations_of_this_thread() - before
        #expect(made == 0)
        #expect(sum > 0)
        #expect(streamer.statistics.evictions > 0)
    }

    @Test(arguments: workingModes) func nothingStaysInThePageCache(mode: IOMode) throws {
        let file = try TemporaryFile(byteCount: 4_000_000)
        let layout = try file.layout(layers: 1, experts: 8, parts: 3, bytes: 160_000)
        let descriptor = unsafe host_open_file(file.path, 0)
        defer { host_close_file(descriptor) }
        let size = UInt64(file.bytes.count)
        host_drop_cached(descriptor, 0, size)
        // tmpfs, for one, is nothing but page cache.
        guard host_cached_bytes(descriptor, 0, size) == 0 else { return }
        var streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: 1 << 20, activeExpertsPerToken: 2,
            options: StreamingOptions(io: mode))
        for expert in 0..<8 {
            let (_, problem) = streamer.fetch(layer: 0, [Int32(expert)], from: file)
            #expect(problem == nil)
        }
        let left = host_cached_bytes(descriptor, 0, size)
        // A page at either end of a range may be somebody else's too, and the kernel keeps what
        // others have a hold on.
        #expect(left < size / 2, "\(left) bytes")
    }

    /// What a cache needs on the disk that holds `file`, whatever alignment that disk asks for.
    private func cacheNeeds(
        _ layout: ExpertLayout, of file: TemporaryFile, active: Int
    ) throws -> CacheNeeds {
        ExpertStreamer.needs(
            layout: layout, alignment: try ExpertStreamer.alignment(paths: [file.path]),
            activeExpertsPerToken: active)
    }

    /// In a process of its own, because others allocate beside it.
    @Test(
        .enabled(if: allocation_counter_works() != 0, "a sanitizer's memory hides ours")
    )
    func memoryStaysWithinThePlan() async {
        await #expect(processExitsWith: .success) {
            for mode in workingModes { try ReadingTests.measureMemory(mode) }
        }
    }

    private static func measureMemory(_ mode: IOMode) throws {
        func resident() throws -> Int {
            let status = try #require(SmallFile.read("/proc/self/status"))
            return try #require(MemoryLimit.kibibytes("VmRSS", in: status))
        }
        let file = try TemporaryFile(byteCount: 24 << 20)
        let layout = try file.layout(layers: 4, experts: 64, parts: 3, bytes: 30_000)
        let before = try resident()
        var streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: 16 << 20, activeExpertsPerToken: 8,
            options: StreamingOptions(io: mode))
        let plan = streamer.plan
        let made = try resident() - before
        for step in 0..<64 {
            let experts = (0..<8).map { Int32((step * 8 + $0) % 64) }
            let (_, problem) = streamer.fetch(layer: step % 4, experts, from: file)
            try #require(problem == nil)
        }
        let used = try resident() - before
        print("planned \(plan.totalBytes), of it slots \(plan.arenaBytes); taken \(used)")
        // All slots are backed from the start, and nothing much comes on top.
        try #require(made >= plan.arenaBytes && plan.arenaBytes > 15 << 20)
        try #require(used <= plan.totalBytes)
    }

    @Test func makingAndDroppingStreamersLeavesNoDescriptors() throws {
        let file = try TemporaryFile(byteCount: 100_000)
        let layout = try file.layout(layers: 1, experts: 4, parts: 1, bytes: 9_000)
        func make() throws {
            for mode in workingModes {
                var streamer = try ExpertStreamer(
                    layout: layout, paths: [file.path], cacheBytes: 1 << 20,
                    activeExpertsPerToken: 2,
                    options: StreamingOptions(io: mode))
                let (_, problem) = streamer.fetch(layer: 0, [1, 2], from: file)
                #expect(problem == nil)
            }
            #expect(throws: StreamingError.self) {
                _ = try ExpertStreamer(
                    layout: layout, paths: [file.path], cacheBytes: 1, activeExpertsPerToken: 2)
            }
        }
        // Other tests run beside this one and open files too: only a growth with every round is a
        // leak.
        func open() -> Int {
            (0..<4096).count { fcntl(Int32($0), F_GETFD) >= 0 && opensOurFile(Int32($0)) }
        }
        func opensOurFile(_ descriptor: Int32) -> Bool {
            var ours = stat()
            var theirs = stat()
            guard unsafe stat(file.path, &ours) == 0, unsafe fstat(descriptor, &theirs) == 0 else {
                return false
            }
            return ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino
        }
        for _ in 0..<100 { try make() }
        #expect(open() == 0)
    }
}
