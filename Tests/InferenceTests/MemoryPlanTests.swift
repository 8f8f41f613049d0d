import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Inference

@Suite struct MemoryPlanTests {
    private func plan(
        _ name: String = "qwen3moe-k-quants", _ change: (inout EngineOptions) -> Void
    ) throws -> MemoryPlan {
        var options = EngineOptions()
        options.threads = 2
        options.context = 64
        change(&options)
        return try MemoryPlan(model: Fixture.model(name), options: options)
    }

    @Test(arguments: Fixture.names)
    func aBudgetBelowTheFloorIsRefusedWithTheFigureThatWorks(name: String) throws {
        let floor = try plan(name) { $0.memoryBytes = 512 << 20 }.floorBytes
        let message = try #require(
            throws: EngineError.self,
            performing: { _ = try plan(name) { $0.memoryBytes = floor - 1 } }
        ).description
        // "... give --memory 31M, ..."
        let words = message.split(whereSeparator: { " ,;".contains($0) })
        let place = try #require(words.lastIndex(of: "--memory").map { words.index(after: $0) })
        let size = try #require(ByteSize(String(words[place])), "\(message)")
        #expect(size.bytes >= floor && size.bytes < floor + (1 << 20))
        let smallest = try plan(name) { $0.memoryBytes = size.bytes }
        #expect(smallest.totalBytes <= size.bytes)
    }

    @Test(arguments: Fixture.names)
    func noPlanExceedsItsBudget(name: String) throws {
        let floor = try plan(name) { $0.memoryBytes = 512 << 20 }.floorBytes
        for extra in stride(from: 0, to: 600_000, by: 7_919) {
            let found = try plan(name) { $0.memoryBytes = floor + extra }
            #expect(found.totalBytes <= floor + extra)
        }
    }

    @Test func whatTheCallerHoldsIsInThePlan() throws {
        let alone = try plan { $0.memoryBytes = 512 << 20 }
        let beside = try plan {
            $0.memoryBytes = 512 << 20
            $0.callerBytes = 100 << 20
        }
        #expect(beside.floorBytes == alone.floorBytes + (100 << 20))
        #expect(beside.totalBytes == alone.totalBytes + (100 << 20))
    }

    @Test func autoTakesAllThatHelpsAndNoMore() throws {
        let found = try plan { $0.memoryBytes = 512 << 20 }
        #expect(found.streaming.holdsEverything)
        #expect(found.cacheBytes == found.streaming.needs.fullBytes)
    }

    /// What is pinned has its slots in the smallest plan, and an engine of it works, also after its
    /// cache is given back.
    @Test func protectedExpertsAreInTheFloor() throws {
        let model = try Fixture.model("qwen3moe-q8_0")
        let protected = Set((0..<5).map { LayerExpert(layer: 1, expert: $0) })
        let free = try plan("qwen3moe-q8_0") { $0.memoryBytes = 512 << 20 }
        let held = try plan("qwen3moe-q8_0") {
            $0.memoryBytes = 512 << 20
            $0.protectedExperts = protected
        }
        #expect(held.floorBytes > free.floorBytes)
        #expect(held.cacheBytes == free.cacheBytes)
        let message = try #require(
            throws: EngineError.self,
            performing: {
                _ = try plan("qwen3moe-q8_0") {
                    $0.memoryBytes = held.floorBytes - 1
                    $0.protectedExperts = protected
                }
            }
        ).description
        #expect(message.contains("5 protected experts that stay in memory"))

        var options = EngineOptions()
        options.threads = 2
        options.context = 64
        options.memoryBytes = held.floorBytes
        options.protectedExperts = protected
        var engine = try Engine(
            model: model, options: options, plan: MemoryPlan(model: model, options: options))
        try engine.prefill([1, 2, 3, 4], from: 0)
        try engine.releaseCache()
        try engine.decode(5, at: 4)
        for name in protected {
            #expect(engine.streamer.residentPlanes(layer: name.layer, expert: name.expert) == 1)
        }
    }

    @Test func moreProtectedThanThereAreSlotsIsRefused() throws {
        let all = (0..<3).flatMap { layer in
            (0..<8).map { LayerExpert(layer: layer, expert: $0) }
        }
        let message = try #require(
            throws: EngineError.self,
            performing: {
                _ = try plan("qwen3moe-q8_0") {
                    $0.memoryBytes = 512 << 20
                    $0.protectedExperts = Set(all.filter { $0.layer < 2 || $0.expert < 7 })
                }
            }
        ).description
        #expect(message.contains("protect fewer"))
    }

    @Test func aCacheThatDoesNotFitTheBudgetIsRefused() throws {
        let floor = try plan { $0.memoryBytes = 512 << 20 }.floorBytes
        let error = #expect(throws: EngineError.self) {
            try plan {
                $0.memoryBytes = floor
                $0.cache = .percent(100)
            }
        }
        #expect(error?.description.contains("short") == true)
    }

    @Test func aCacheBelowTheActiveSetIsWarnedAbout() throws {
        let small = try plan("qwen3moe-f32") {
            $0.memoryBytes = 512 << 20
            $0.cache = .multiple(0.5)
        }
        #expect(small.warnings.count == 1)
        let classic = try plan("qwen3moe-f32") {
            $0.memoryBytes = 512 << 20
            $0.cache = .multiple(2)
        }
        #expect(classic.warnings.isEmpty)
        #expect(abs(classic.streaming.multipleOfActiveSet - 2) < 0.01)
    }

    /// The chunks of 32 to 1024 tokens that a budget allows, by the rule in words: a 32nd of it for
    /// more than the shortest, and no cache below one token's experts for its sake.
    @Test func theChunkFollowsTheBudget() throws {
        let name = "qwen3moe-f32"
        let contextLength = try Fixture.model(name).contextLength
        let context = min(contextLength, 4096)
        func plan(_ memory: Int, _ change: (inout EngineOptions) -> Void = { _ in }) throws
            -> MemoryPlan
        {
            try self.plan(name) {
                $0.context = context
                $0.memoryBytes = memory
                change(&$0)
            }
        }
        let shortest = try plan(1 << 30) { $0.chunk = 32 }
        #expect(shortest.chunk == 32)
        let slotBytes = shortest.streaming.classes.reduce(0) { $0 + $1.slotBytes }
        var chunks: Set<Int> = []
        for memory in stride(from: shortest.floorBytes, to: 40 << 20, by: 100_003) {
            let found = try plan(memory)
            chunks.insert(found.chunk)
            #expect(found.chunk.nonzeroBitCount == 1 && (32...1024).contains(found.chunk))
            #expect(found.chunk <= context)
            let growth = found.scratchBytes - shortest.scratchBytes
            #expect(growth <= memory / 32)
            #expect(found.totalBytes <= memory)
            if found.chunk > 128 {
                #expect(found.streaming.multipleOfActiveSet >= 1 || found.streaming.holdsEverything)
            }
            // The next longer one would break the rule.
            guard found.chunk * 2 <= min(1024, context) else { continue }
            let longer = try plan(1 << 30) {
                $0.chunk = found.chunk * 2
                $0.cache = .multiple(found.chunk < 128 ? 0.01 : 1)
            }
            #expect(
                longer.scratchBytes - shortest.scratchBytes > memory / 32
                    || longer.totalBytes + 2 * slotBytes > memory, "\(memory)")
        }
        #expect(chunks.count > 2, "\(chunks)")
    }

    @Test func aLongChunkNeverTakesTheRoomOfACacheThatWasAskedFor() throws {
        let asked = try plan {
            $0.memoryBytes = 512 << 20
            $0.cache = .percent(100)
            $0.chunk = 32
        }
        for extra in stride(from: 0, to: 8 << 20, by: 250_000) {
            let found = try plan {
                $0.memoryBytes = asked.totalBytes + extra
                $0.cache = .percent(100)
            }
            #expect(found.streaming.holdsEverything)
        }
    }

    /// A chunk that was asked for is taken whatever it costs, as far as there are positions.
    @Test func aChunkThatWasAskedForIsTaken() throws {
        for (asked, taken) in [(1, 1), (7, 7), (64, 64), (100, 64)] {
            let found = try plan {
                $0.memoryBytes = 512 << 20
                $0.chunk = asked
            }
            #expect(found.chunk == taken)
            #expect(found.floorBytes == found.resizeFloorBytes)
        }
        let unasked = try plan { $0.memoryBytes = 512 << 20 }
        #expect(unasked.chunk == 64)
        #expect(unasked.floorBytes < unasked.resizeFloorBytes)
    }

    @Test func absurdOptionsAreRefusedByName() {
        for (change, name): ((inout EngineOptions) -> Void, String) in [
            ({ $0.context = 0 }, "--ctx"), ({ $0.context = 1 << 40 }, "--ctx"),
            ({ $0.threads = 0 }, "--threads"), ({ $0.threads = 100_000 }, "--threads"),
            ({ $0.chunk = 0 }, "--chunk"),
        ] {
            let error = #expect(throws: EngineError.self) { try plan { change(&$0) } }
            #expect(error?.description.hasPrefix(name) == true)
        }
    }
}
