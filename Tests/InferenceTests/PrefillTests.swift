import CAllocationCounter
import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Inference

/// A prompt's experts in rounds, through any cache: always the same bits.
@Suite struct PrefillTests {

    @Test(arguments: ["qwen3moe-q8_0", "qwen3moe-k-quants", "olmoe-f16"], Arithmetic.allCases)
    func chunksRoundsCachesAndWaysOfReadingChangeNoBit(name: String, arithmetic: Arithmetic) throws
    {
        let ids = try Fixture.ids(name)
        let expected = try Fixture.compute(name, ids) {
            $0.arithmetic = arithmetic
            $0.chunk = 1
            $0.cache = .percent(100)
        }.map(\.bitPattern)
        var number = 0
        for chunk in [2, 5, 64] {
            // One expert at a time, a few, and all that are here.
            for round in [1, 400_000, 1 << 28] {
                for cache in [CacheSize.multiple(0.1), .multiple(1), .percent(50), .percent(100)] {
                    let io = IOMode.allCases[number % IOMode.allCases.count]
                    number += 1
                    do {
                        let found = try Fixture.compute(name, ids) {
                            $0.arithmetic = arithmetic
                            $0.chunk = chunk
                            $0.roundMultiplications = round
                            $0.cache = cache
                            $0.threads = 1 + number % 3
                            $0.io = io
                        }.map(\.bitPattern)
                        #expect(
                            found == expected,
                            "chunk \(chunk), round \(round), cache \(cache), \(io)")
                    } catch let error as StreamingError where error.kind == .modeRefused {
                        print("skipped for \(io): \(error)")
                    }
                }
            }
        }
    }

    /// A layer of which the cache holds less than a chunk uses is read once per chunk, and no more.
    @Test func theSmallestCacheReadsEachExpertOncePerChunk() throws {
        let name = "qwen3moe-q8_0"
        let ids = try Fixture.ids(name)
        var engine = try Fixture.engine(name) {
            $0.cache = .multiple(0.1)
            $0.chunk = 64
            $0.roundMultiplications = 1
        }
        var used: Set<[Int]> = []
        let k = engine.model.expertsPerToken
        engine.observe { layer in
            for choice in 0..<(layer.tokens * k) {
                used.insert([layer.layer, unsafe Int(layer.chosen[choice])])
            }
        }
        try engine.prefill(ids, from: 0)
        let streaming = engine.statistics.streaming
        #expect(engine.streamer.leaseCapacity(layer: 0) == k)
        #expect(used.count > 2 * k * engine.model.layerCount)
        #expect(Int(streaming.hits + streaming.misses) == used.count)
        #expect(Int(streaming.misses) == used.count)
    }

    /// What is in memory is computed before any read can take its place.
    @Test func whatIsInMemoryIsNotReadAgain() throws {
        let name = "qwen3moe-q8_0"
        let ids = try Fixture.ids(name)
        var engine = try Fixture.engine(name) {
            $0.cache = .multiple(1)
            $0.chunk = 64
        }
        try engine.prefill(ids, from: 0)
        let before = engine.statistics.streaming
        let resident = (0..<engine.model.layerCount).map { layer in
            (0..<engine.model.expertCount).filter {
                engine.streamer.residentPlanes(layer: layer, expert: $0) > 0
            }
        }
        var used = engine.model.layers.map { _ in Set<Int>() }
        let k = engine.model.expertsPerToken
        var counted: Set<Int> = []
        engine.observe { layer in
            counted.insert(layer.layer)
            for choice in 0..<(layer.tokens * k) {
                used[layer.layer].insert(unsafe Int(layer.chosen[choice]))
            }
        }
        try engine.prefill(ids, from: 0)
        let done = engine.statistics.streaming - before
        // The first layer finds all that the last prompt left of it.
        #expect(counted.count == engine.model.layerCount)
        #expect(Int(done.hits) >= resident[0].count { used[0].contains($0) })
        #expect(Int(done.hits + done.misses) == used.reduce(0) { $0 + $1.count })
    }

    @Test(arguments: Packaging.packages, IOMode.allCases)
    func damageInTheWindowFailsThatPromptAndNoOther(packaging: Packaging, mode: IOMode) throws {
        let name = "qwen3moe-q8_0"
        let ids = try Fixture.ids(name)
        let expected = try Fixture.compute(name, ids).map(\.bitPattern)
        let packed = try PackedModel(name, packaging)
        let model = try packed.description()
        // The coarse version that stands beside the full one is not read where all is exact.
        let plane = model.planesNest ? 0 : model.planesPerExpert - 1
        for layer in 0..<model.layerCount {
            var engine: Engine
            do {
                engine = try packed.engine {
                    $0.io = mode
                    $0.cache = .multiple(0.1)
                    $0.chunk = 64
                    $0.roundMultiplications = 1
                }
            } catch let error as StreamingError where error.kind == .modeRefused {
                print("skipped \(mode) of a damaged package: \(error)")
                return
            }
            var used: [Int32] = []
            let k = engine.model.expertsPerToken
            engine.observe { observed in
                guard observed.layer == layer, used.isEmpty else { return }
                used = unsafe Array(
                    UnsafeBufferPointer(start: observed.chosen, count: observed.tokens * k))
            }
            try engine.prefill(ids, from: 0)
            // Whatever is in memory would be right still.
            try engine.releaseCache()
            try engine.prefill([ids[0]], from: 0)
            let expert = try #require(
                used.lazy.map({ Int($0) }).first {
                    !used.prefix(k).contains(Int32($0))
                        && engine.streamer.residentPlanes(layer: layer, expert: $0) == 0
                })
            let extent = model.extent(layer: layer, expert: expert, plane: plane, part: 1)
            let place = extent.offset + UInt64(extent.byteCount / 2)
            try packed.flip(at: place)
            let error = #expect(throws: StreamingError.self) { try engine.prefill(ids, from: 0) }
            #expect(error?.kind == .damagedRecord)
            #expect(error?.description.contains("expert \(expert) of MoE layer \(layer)") == true)
            // The window is at rest, and a prompt that does without the expert is answered.
            #expect(engine.streamer.outstanding == 0)
            try engine.prefill([ids[0]], from: 0)
            #expect(
                unsafe engine.logits.map(\.bitPattern)
                    == Array(expected.prefix(engine.vocabularyCount)))
            try packed.flip(at: place)
            try engine.prefill(ids, from: 0)
            #expect(
                unsafe engine.logits.map(\.bitPattern)
                    == Array(expected.suffix(engine.vocabularyCount)))
        }
    }

    @Test(
        .enabled(
            if: allocation_counter_works() != 0, "a sanitizer owns malloc, nothing can be counted"),
        arguments: ["qwen3moe-q8_0", "qwen3moe-k-quants"], [0.1, 1])
    func aPromptAllocatesNothing(name: String, multiple: Double) throws {
        let ids = try Fixture.ids(name)
        var engine = try Fixture.engine(name) {
            $0.cache = .multiple(multiple)
            $0.chunk = 8
            $0.roundMultiplications = 400_000
        }
        try engine.prefill(ids, from: 0)
        let before = allocations_of_this_thread()
        try engine.prefill(ids, from: 0)
        #expect(allocations_of_this_thread() == before)
    }
}
