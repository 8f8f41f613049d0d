import CAllocationCounter
import Testing

@testable import ExpertStreaming
@testable import Inference

/// Miss policies in an engine: what they may not change, and that they do what they say.
@Suite struct DecodePolicyTests {
    /// An engine that caches one active set.
    private static func engine(
        _ name: String, _ change: (inout EngineOptions) throws -> Void = { _ in }
    ) throws -> Engine {
        try Fixture.engine(name) {
            $0.cache = .multiple(1)
            try change(&$0)
        }
    }

    /// The logits of decoding `ids` one by one after a prompt of `prompt` of them, as bits, and
    /// what the engine counted meanwhile.
    private static func decode(
        _ name: String, prompt: Int = 4, _ change: (inout EngineOptions) throws -> Void
    ) throws -> (bits: [UInt32], statistics: EngineStatistics) {
        let ids = try Fixture.ids(name)
        var engine = try engine(name, change)
        if prompt > 0 { try engine.prefill(Array(ids[..<prompt]), from: 0) }
        let before = engine.statistics
        var bits: [UInt32] = []
        for position in prompt..<ids.count {
            try engine.decode(ids[position], at: position)
            bits += unsafe engine.logits.map(\.bitPattern)
        }
        return (bits, engine.statistics - before)
    }

    @Test(
        .enabled(if: thread_sanitizer_watches() == 0, "one thread races with none"),
        arguments: Fixture.names, Arithmetic.allCases)
    func limitsThatExcludeNothingAreExact(name: String, arithmetic: Arithmetic) throws {
        let exact = try Self.decode(name) { $0.arithmetic = arithmetic }
        #expect(exact.statistics.streaming.misses > 0)
        for policy in [
            "fallback,T1=1,T2=1", "drop,F=0", "defer,F=0", "substitute,F=0", "max-rank,M=1",
            "cumulative,P=0", "cache-prior,lambda=0",
        ] {
            let found = try Self.decode(name) {
                $0.arithmetic = arithmetic
                $0.missPolicy = try MissPolicy(policy)
            }
            #expect(found.bits == exact.bits, "\(policy)")
            #expect(found.statistics.misses == exact.statistics.misses, "\(policy)")
        }
    }

    @Test(arguments: Fixture.names, MissPolicy.names)
    func aCacheThatHoldsEverythingIsExact(name: String, policy: String) throws {
        let exact = try Self.decode(name) { $0.cache = .percent(100) }
        let model = try Fixture.model(name)
        var engine = try Self.engine(name) {
            $0.cache = .percent(100)
            $0.missPolicy = try MissPolicy(policy)
        }
        try engine.preload { _ in }
        let ids = try Fixture.ids(name)
        try engine.prefill(Array(ids[..<4]), from: 0)
        var bits: [UInt32] = []
        for position in 4..<ids.count {
            try engine.decode(ids[position], at: position)
            bits += unsafe engine.logits.map(\.bitPattern)
        }
        #expect(bits == exact.bits)
        let misses = engine.statistics.misses
        #expect(
            misses.widthCount[1]
                == UInt64((ids.count - 4) * model.layerCount * model.expertsPerToken))
        #expect(misses.widthMass[1] == misses.mass)
    }

    @Test(arguments: Fixture.parallelNames, MissPolicy.names)
    func everyPolicyRunsAndAccountsForAllMass(name: String, policy: String) throws {
        let model = try Fixture.model(name)
        let choices =
            (try Fixture.ids(name).count - 4) * model.layerCount * model.expertsPerToken
        for cache in [CacheSize.multiple(0.5), .multiple(1), .multiple(2)] {
            for threads in [1, 3] {
                let (_, statistics) = try Self.decode(name) {
                    $0.cache = cache
                    $0.threads = threads
                    $0.missPolicy = try MissPolicy(policy)
                }
                let misses = statistics.misses
                #expect(misses.choices == UInt64(choices))
                let mass =
                    misses.widthMass[1] + misses.skippedMass + misses.swappedMass
                    + misses.deferredMass
                #expect(abs(mass - misses.mass) < 1e-9 * misses.mass)
                let count =
                    misses.widthCount[1] + misses.skippedCount + misses.swappedCount
                    + misses.deferredCount
                #expect(count == misses.choices)
                if model.routing.normalises {
                    let layers = Double(choices / model.expertsPerToken)
                    #expect(abs(misses.mass - layers) < 1e-5 * layers)
                }
            }
        }
    }

    /// Policies that shun misses read less, or they would be for nothing.
    @Test func policiesReadLess() throws {
        func bytes(_ policy: String) throws -> UInt64 {
            try Self.decode("qwen3moe-f32", prompt: 0) {
                $0.cache = .multiple(2)
                $0.missPolicy = try MissPolicy(policy)
            }.statistics.streaming.bytesRead
        }
        let exact = try bytes("exact")
        for policy in [
            "fallback,T1=0,T2=0", "drop,F=1", "substitute,F=1", "max-rank,J=1,M=8",
            "cumulative,J=1,P=1", "cache-prior,J=1,lambda=1",
        ] {
            #expect(try bytes(policy) < exact, "\(policy)")
        }
    }

    /// What a skip does to one layer, worked out from what the layer itself reports.
    @Test func aSkippedExpertIsNotAddedAndTheOthersMakeUpForIt() throws {
        let name = "qwen3moe-f32"
        var engine = try Self.engine(name) {
            $0.arithmetic = .f32
            $0.missPolicy = try MissPolicy("fallback,T1=0,T2=0")
        }
        let width = engine.model.embeddingLength
        let last = engine.model.layerCount - 1
        var expected: [Float] = []
        var outputs = 0
        engine.observe { layer in
            guard layer.layer == last else { return }
            expected = unsafe Array(UnsafeBufferPointer(start: layer.residual, count: width))
            for rank in 0..<3 where unsafe layer.outputRow[rank] >= 0 {
                outputs += 1
                for index in 0..<width {
                    let row = unsafe Int(layer.outputRow[rank]) * width
                    expected[index] +=
                        unsafe layer.gateWeights[rank] * layer.expertOutput[row + index]
                }
            }
            let sum = (0..<3).reduce(0) { unsafe $0 + layer.gateWeights[$1] }
            #expect(abs(sum - 1) < 1e-6)
        }
        // The cache is empty: everything but rank 0 is missing and skipped.
        try engine.decode(7, at: 0)
        #expect(outputs == 1)
        let found = (0..<width).map { unsafe engine.state.pointee.hidden[$0] }
        #expect(found == expected)
    }

    /// The first token of a cold engine: what layer 0 leaves out, layer 1 adds after its own, from
    /// layer 0's input. The outputs left out come from an exact run, whose layer 0 is the same.
    @Test(arguments: ["qwen3moe-f32", "olmoe-f16", "llama-moe-f32"])
    func aDeferredExpertIsAddedOneLayerLater(name: String) throws {
        struct Layer {
            var chosen: [Int32] = []
            var weights: [Float] = []
            var outputs: [[Float]] = []
            var residual: [Float] = []
        }
        func run(_ policy: String, _ id: Int32) throws -> (layers: [Layer], hidden: [Float]) {
            var engine = try Self.engine(name) { $0.missPolicy = try MissPolicy(policy) }
            let (width, k) = (engine.model.embeddingLength, engine.model.expertsPerToken)
            var layers: [Layer] = []
            engine.observe { seen in
                var layer = Layer()
                layer.residual = unsafe Array(
                    UnsafeBufferPointer(start: seen.residual, count: width))
                for rank in 0..<k {
                    unsafe layer.chosen.append(seen.chosen[rank])
                    unsafe layer.weights.append(seen.gateWeights[rank])
                    let row = unsafe Int(seen.outputRow[rank])
                    unsafe layer.outputs.append(
                        row < 0
                            ? []
                            : Array(
                                UnsafeBufferPointer(
                                    start: seen.expertOutput + row * width, count: width)))
                }
                layers.append(layer)
            }
            try engine.decode(id, at: 0)
            return (layers, (0..<width).map { unsafe engine.state.pointee.hidden[$0] })
        }
        var deferred = 0
        for id in 1..<12 {
            let exact = try run("exact", Int32(id)).layers[0]
            let (layers, hidden) = try run("defer,F=1", Int32(id))
            #expect(layers.count == 2)
            #expect(layers[0].chosen == exact.chosen)
            var expected = layers[1].residual
            func add(_ output: [Float], _ weight: Float) {
                for index in expected.indices { expected[index] += weight * output[index] }
            }
            for (weight, output) in zip(layers[1].weights, layers[1].outputs) {
                add(output, weight)
            }
            for rank in exact.chosen.indices where layers[0].outputs[rank].isEmpty {
                #expect(rank > 0 && layers[0].weights[rank] == 0)
                add(exact.outputs[rank], exact.weights[rank])
                deferred += 1
            }
            #expect(hidden == expected, "token \(id)")
        }
        #expect(deferred > 5)
    }

    @Test(
        .enabled(
            if: allocation_counter_works() != 0, "a sanitizer owns malloc, nothing can be counted"),
        arguments: Fixture.names, MissPolicy.names)
    func decidingAllocatesNothing(name: String, policy: String) throws {
        var engine = try Self.engine(name) {
            $0.missPolicy = try MissPolicy(policy)
            $0.predictor = .nextGate(layers: 2)
            $0.prefetchRanks = 3
        }
        try engine.prefill(Fixture.ids(name), from: 0)
        try engine.decode(5, at: 24)
        let before = allocations_of_this_thread()
        for position in 25..<60 { try engine.decode(Int32(position), at: position) }
        #expect(allocations_of_this_thread() == before)
    }

    /// Settings that no text gives, but a program may.
    @Test func settingsOutOfRangeAreHarmless() throws {
        for policy: MissPolicy in [
            .fallback(full: -1, prefix: 9, planes: 0),
            .fallback(full: .nan, prefix: .nan, planes: 9),
            .drop(below: .infinity), .deferred(below: .infinity), .substitute(below: 9, kept: -3),
            .maxRank(kept: -1, ranks: -1), .maxRank(kept: .max, ranks: .max),
            .cumulative(kept: 0, probability: .nan), .cachePrior(kept: 0, bonus: .nan),
            .cachePrior(kept: .max, bonus: .infinity),
        ] {
            let (_, statistics) = try Self.decode("qwen3moe-f32") { $0.missPolicy = policy }
            let misses = statistics.misses
            let count =
                misses.widthCount[1] + misses.skippedCount + misses.swappedCount
                + misses.deferredCount
            #expect(count == misses.choices && count > 0, "\(policy)")
        }
    }

    @Test func guessesNobodyMakesAreWarnedAbout() throws {
        let engine = try Self.engine("qwen3moe-f32") { $0.prefetchRanks = 2 }
        #expect(engine.plan.warnings.contains { $0.hasPrefix("--prefetch 2") })
        let guessing = try Self.engine("qwen3moe-f32") {
            $0.prefetchRanks = 2
            $0.predictor = .nextGate(layers: 1)
        }
        #expect(guessing.plan.warnings.isEmpty)
    }

    @Test func protectingWhatIsNotThereIsRefused() throws {
        let error = #expect(throws: EngineError.self) {
            _ = try Self.engine("qwen3moe-f32") {
                $0.protectedExperts = [LayerExpert(layer: 2, expert: 0)]
            }
        }
        #expect(error?.description.contains("expert 0 of layer 2") == true)
    }
}
