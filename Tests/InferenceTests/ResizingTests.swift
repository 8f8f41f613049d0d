import CAllocationCounter
import Glibc
import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Inference

@Suite struct ResizingTests {
    private static func engine(
        _ name: String, _ change: (inout EngineOptions) -> Void = { _ in }
    ) throws -> Engine {
        try Fixture.engine(name) {
            $0.threads = 2
            change(&$0)
        }
    }

    @Test(arguments: Fixture.names)
    func resizingBetweenTokensChangesNoBit(name: String) throws {
        let ids = try Fixture.ids(name)
        let every = try Fixture.compute(name, ids)
        var engine = try Self.engine(name)
        let vocabulary = engine.vocabularyCount
        let (full, floor) = (engine.plan.totalBytes, engine.plan.resizeFloorBytes)
        let floorCache = engine.plan.streaming.needs.floorBytes
        #expect(engine.cacheBytes > floorCache)
        try engine.prefill(Array(ids[..<8]), from: 0)
        var cacheBytes: [Int] = []
        for position in 8..<ids.count {
            switch position % 5 {
            case 0: try engine.resize(memoryBytes: floor)
            case 1: try engine.resize(memoryBytes: (floor + full) / 2)
            case 2: try engine.resize(memoryBytes: full)
            case 3: try engine.releaseCache()
            default: try engine.restoreCache()
            }
            cacheBytes.append(engine.cacheBytes)
            #expect(engine.plan.totalBytes <= engine.plan.budgetBytes)
            try engine.decode(ids[position], at: position)
            let row = every[(position * vocabulary)..<((position + 1) * vocabulary)]
            #expect(unsafe engine.logits.elementsEqual(row), "after token \(position)")
        }
        #expect(cacheBytes.contains(floorCache))
        #expect(cacheBytes.contains(engine.plan.streaming.needs.fullBytes))
        // Counters go on over all of it.
        let streaming = engine.statistics.streaming
        #expect(engine.statistics.experts.total == streaming.hits + streaming.misses)
    }

    @Test func aBudgetBelowTheFloorIsRefusedAndNothingChanges() throws {
        var engine = try Self.engine("qwen3moe-q8_0")
        let ids = try Fixture.ids("qwen3moe-q8_0")
        try engine.prefill(Array(ids[..<4]), from: 0)
        let (budget, cache) = (engine.plan.budgetBytes, engine.cacheBytes)
        let floor = engine.plan.resizeFloorBytes
        for bytes in [floor - 1, 0, -1, .min] {
            do {
                try engine.resize(memoryBytes: bytes)
                Issue.record("a budget of \(bytes) was accepted")
            } catch {
                let text = "\(error)"
                #expect(text.contains(ByteSize(bytes: floor).enoughMegabytes), "\(text)")
                #expect(text.contains("stays at"))
            }
        }
        #expect(engine.plan.budgetBytes == budget && engine.cacheBytes == cache)
        let before = engine.statistics.streaming
        try engine.prefill(Array(ids[..<4]), from: 0)
        #expect((engine.statistics.streaming - before).misses == 0, "the cache was lost")
        try engine.resize(memoryBytes: floor)
        #expect(engine.plan.totalBytes <= floor)
    }

    @Test func aCacheThatWasAskedForIsKeptAsFarAsItFits() throws {
        var engine = try Self.engine("qwen3moe-f32") { $0.cache = .multiple(2) }
        let asked = engine.cacheBytes
        let total = engine.plan.totalBytes
        try engine.resize(memoryBytes: 512 << 21)
        #expect(engine.cacheBytes == asked)
        try engine.resize(memoryBytes: total - 8192)
        #expect(engine.cacheBytes < asked)
        #expect(engine.plan.totalBytes <= total - 8192)
        try engine.resize(memoryBytes: total)
        #expect(engine.cacheBytes == asked)
    }

    // MARK: Pressure

    private static let second: UInt64 = 1_000_000_000

    @Test func pressureTakesAnEighthEveryFewSecondsDownToTheFloor() {
        var response = PressureResponse()
        func decide(
            _ level: MemoryPressure.Level, _ tenths: UInt64, _ cache: Int
        ) -> PressureResponse.Decision {
            response.decide(
                level, now: 100 * Self.second + tenths * Self.second / 10, cacheBytes: cache,
                floorBytes: 500, plannedBytes: 800)
        }
        #expect(!response.concerns(.calm, now: .max) && response.concerns(.pressed, now: 0))
        #expect(decide(.calm, 0, 800) == .stay)
        #expect(decide(.pressed, 1, 800) == .shrink(700))
        #expect(decide(.pressed, 2, 700) == .stay)
        let quiet = 100 * Self.second + 2 * Self.second / 10 + 60 * Self.second
        #expect(!response.concerns(.calm, now: quiet - 1) && response.concerns(.calm, now: quiet))
        #expect(decide(.pressed, 30, 700) == .stay)
        #expect(decide(.pressed, 31, 700) == .shrink(613))
        #expect(decide(.pressed, 61, 613) == .shrink(537))
        #expect(decide(.pressed, 91, 537) == .shrink(500))
        #expect(decide(.pressed, 121, 500) == .stay)
        // A quiet minute gives an eighth of the plan back, and each further one.
        #expect(decide(.calm, 720, 500) == .stay)
        #expect(decide(.calm, 721, 500) == .grow(600))
        #expect(decide(.calm, 722, 600) == .stay)
        #expect(decide(.calm, 1320, 600) == .stay)
        #expect(decide(.pressed, 1321, 600) == .shrink(525))
        #expect(decide(.calm, 1920, 525) == .stay)
        #expect(decide(.calm, 1921, 525) == .grow(625))
        #expect(decide(.calm, 2521, 625) == .grow(725))
        #expect(decide(.calm, 3121, 725) == .grow(800))
        #expect(!response.concerns(.calm, now: .max))
        // The plan is reached; a cache that is small for another reason is left alone.
        #expect(decide(.calm, 9000, 500) == .stay)
    }

    /// A control group that is over its limit, as far as its files say.
    @Test func anEngineUnderPressureShrinksAndAnswersAlike() throws {
        var template = Array("/tmp/sluice-group-XXXXXX".utf8CString)
        let isMade = unsafe mkdtemp(&template) != nil
        try #require(isMade)
        let group = String(
            decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer {
            for name in ["memory.current", "memory.max"] { unsafe unlink("\(group)/\(name)") }
            unsafe rmdir(group)
        }
        for (name, text) in [("memory.current", "1000\n"), ("memory.max", "900\n")] {
            let file = try unsafe #require(unsafe fopen("\(group)/\(name)", "w"))
            unsafe fputs(text, file)
            unsafe fclose(file)
        }
        let name = "qwen3moe-k-quants"
        let ids = try Fixture.ids(name)
        var engine = try Self.engine(name)
        try engine.prefill(Array(ids.dropLast()), from: 0)
        let planned = engine.cacheBytes
        #expect(planned == engine.plan.cacheBytes)
        engine.pressure = MemoryPressure(
            groups: [group], pressureFiles: [], asksForTriggers: false, meminfo: "")
        try engine.decode(ids.last!, at: ids.count - 1)
        #expect(engine.statistics.pressureShrinks == 1)
        #expect(engine.cacheBytes <= planned - planned / 8)
        #expect(engine.cacheBytes >= engine.plan.streaming.needs.floorBytes)
        let expected = try Fixture.compute(name, ids).suffix(engine.vocabularyCount)
        #expect(unsafe engine.logits.elementsEqual(expected))
        // The plan is not forgotten.
        engine.pressure = nil
        try engine.restoreCache()
        #expect(engine.cacheBytes == planned)
    }

    @Test(
        .enabled(
            if: allocation_counter_works() != 0, "a sanitizer owns malloc, nothing can be counted"))
    func watchingForPressureAllocatesNothingWhileItIsCalm() throws {
        var engine = try Self.engine("olmoe-f16") {
            $0.reactsToPressure = true
            $0.threads = 1
        }
        var before = allocations_of_this_thread()
        var shrinks: UInt64 = 0
        for position in 0..<60 {
            if position == 2 {
                before = allocations_of_this_thread()
                shrinks = engine.statistics.pressureShrinks
            }
            try engine.decode(7, at: position)
        }
        // The machine may be short of memory just now; then resizing allocates.
        if engine.statistics.pressureShrinks == shrinks {
            #expect(allocations_of_this_thread() == before)
        }
        #expect(engine.statistics.tokens == 60)
    }
}
