import CAllocationCounter
import Testing

@testable import ExpertStreaming
@testable import Inference

@Suite struct HotPathTests {
    private static func engine(
        _ name: String, cache: CacheSize, io: IOMode? = nil, arithmetic: Arithmetic = .int8
    ) throws -> Engine {
        let model = try Fixture.model(name)
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 128
        // One thread, so that all stages run on this one and are counted.
        options.threads = 1
        options.cache = cache
        options.io = io
        options.arithmetic = arithmetic
        return try Engine(
            model: model, options: options, plan: MemoryPlan(model: model, options: options))
    }

    @Test(
        .enabled(
            if: allocation_counter_works() != 0, "a sanitizer owns malloc, nothing can be counted"),
        arguments: Fixture.names, Arithmetic.allCases)
    func decodingATokenAllocatesNothing(name: String, arithmetic: Arithmetic) throws {
        for cache in [CacheSize.multiple(1), .percent(100)] {
            for io in [nil, IOMode.pread] {
                var engine = try HotPathTests.engine(
                    name, cache: cache, io: io, arithmetic: arithmetic)
                try engine.prefill(Fixture.ids(name), from: 0)
                try engine.decode(5, at: 24)
                let before = allocations_of_this_thread()
                for position in 25..<60 { try engine.decode(Int32(position), at: position) }
                #expect(
                    allocations_of_this_thread() == before,
                    "cache \(cache), read by \(engine.ioMode)")
            }
        }
    }

    /// With everything that may happen besides: experts in planes, read ahead and widened, under
    /// every policy.
    @Test(
        .enabled(
            if: allocation_counter_works() != 0, "a sanitizer owns malloc, nothing can be counted"),
        arguments: [Packaging.twoOneOne, .lowRecord], [1.0, 2])
    func decodingFromAPackageAllocatesNothing(packaging: Packaging, multiple: Double) throws {
        let name = "qwen3moe-q8_0"
        let packed = try PackedModel(name, packaging)
        let model = try packed.description()
        var readAhead: UInt64 = 0
        for policy in EvictionPolicy.all {
            for predictor: Predictor in [
                .nextGate(layers: 3), try .somePaths(model), try .someGates(model),
            ] {
                for miss in ["exact", "fallback,T1=0.3,T2=0.6", "defer"] {
                    var engine = try packed.engine {
                        $0.policy = policy
                        $0.predictor = predictor
                        $0.prefetchRanks = 4
                        $0.missPolicy = try MissPolicy(miss)
                        $0.cache = .multiple(multiple)
                    }
                    try engine.prefill(Fixture.ids(name), from: 0)
                    try engine.decode(5, at: 24)
                    let before = allocations_of_this_thread()
                    for position in 25..<60 { try engine.decode(Int32(position), at: position) }
                    #expect(
                        allocations_of_this_thread() == before,
                        "\(policy), \(miss), \(predictor)")
                    readAhead += engine.statistics.streaming.prefetchIssued
                }
            }
        }
        #expect(readAhead > 0)
    }

    /// The counter itself must see Swift's allocations, or the test above could not fail.
    @Test(
        .enabled(
            if: allocation_counter_works() != 0, "a sanitizer owns malloc, nothing can be counted"))
    func theCounterSeesAnArray() {
        let before = allocations_of_this_thread()
        var array: [Int] = []
        array.reserveCapacity(1000)
        array.append(Int(before & 1))
        #expect(allocations_of_this_thread() > before)
        #expect(array.count == 1)
    }
}
