import CAllocationCounter
import ExpertStreaming
import Testing

@testable import Inference

/// An engine whose rule of routing is another than its model's.
@Suite struct RoutedEngineTests {
    private static let name = "qwen3moe-f32"

    /// Logits of decoding a model's ids one by one, as bits, and what was counted.
    private static func decode(
        _ name: String, _ change: (inout EngineOptions) throws -> Void
    ) throws -> (bits: [UInt32], statistics: EngineStatistics) {
        var engine = try Fixture.engine(name, change)
        var bits: [UInt32] = []
        for (position, id) in try Fixture.ids(name).enumerated() {
            try engine.decode(id, at: position)
            bits += unsafe engine.logits.map(\.bitPattern)
        }
        return (bits, engine.statistics)
    }

    @Test(arguments: Fixture.names)
    func aProbabilityOfOneIsTheModelsOwnRule(name: String) throws {
        let plain = try Self.decode(name) { _ in }
        let whole = try Self.decode(name) { $0.expertTopP = 1 }
        #expect(whole.bits == plain.bits && whole.statistics.misses == plain.statistics.misses)
    }

    /// The count of experts, from the router's logits by brute force; what is beyond it is neither
    /// computed nor added nor counted.
    @Test(arguments: Fixture.names, [0.000_1, 0.3, 0.6])
    func topPComputesTheFewestExpertsThatReachIt(name: String, topP: Double) throws {
        let model = try Fixture.model(name)
        let (k, experts) = (model.expertsPerToken, model.expertCount)
        var engine = try Fixture.engine(name) { $0.expertTopP = topP }
        #expect(engine.routing.topP == Float(topP))
        var wanted = 0
        var residual: [Float] = []
        var weights: [Float] = []
        engine.observe { layer in
            for token in 0..<layer.tokens {
                let logits = (0..<experts).map {
                    unsafe Double(layer.routerLogits[token * experts + $0])
                }
                let powers = logits.map { Double(Routing.exponential(Float($0 - logits.max()!))) }
                let sorted = powers.sorted(by: >).map { $0 / powers.reduce(0, +) }
                let sums = sorted.indices.map { sorted[...$0].reduce(0, +) }
                let count = min(k, sums.firstIndex { $0 >= topP }! + 1)
                wanted += count
                #expect(unsafe layer.rankCounts[token] == Int32(count))
                for rank in 0..<k {
                    let choice = token * k + rank
                    #expect(unsafe (layer.outputRow[choice] >= 0) == (rank < count))
                    #expect(unsafe (layer.gateWeights[choice] > 0) == (rank < count))
                }
                weights = (0..<k).map { unsafe layer.gateWeights[token * k + $0] }
                let sum = weights.reduce(0, +)
                #expect(abs(sum - (model.routing.normalises ? 1 : Float(sums[count - 1]))) < 1e-5)
            }
            let width = model.embeddingLength
            residual = unsafe Array(UnsafeBufferPointer(start: layer.residual, count: width))
            for rank in 0..<k where unsafe layer.outputRow[rank] >= 0 {
                for index in 0..<width {
                    let row = unsafe Int(layer.outputRow[rank]) * width
                    residual[index] += unsafe weights[rank] * layer.expertOutput[row + index]
                }
            }
        }
        let ids = try Fixture.ids(name)
        try engine.prefill(Array(ids[..<8]), from: 0)
        let (computed, before) = (wanted, engine.statistics)
        for position in 8..<ids.count { try engine.decode(ids[position], at: position) }
        let decoded = engine.statistics - before
        #expect(decoded.misses.choices == UInt64(wanted - computed))
        #expect(decoded.misses.widthCount[1] == decoded.misses.choices)
        #expect(decoded.misses.widthMass[1] == decoded.misses.mass)
        #expect(decoded.experts[1] == decoded.misses.choices)
        let hidden = (0..<model.embeddingLength).map { unsafe engine.state.pointee.hidden[$0] }
        #expect(hidden == residual)
    }

    /// Chunks, threads and what is in memory change no bit.
    @Test(arguments: Fixture.names)
    func topPAnswersAlikeInChunksAndOneByOne(name: String) throws {
        let ids = try Fixture.ids(name)
        let alone = try Self.decode(name) {
            $0.expertTopP = 0.5
            $0.arithmetic = .f32
        }
        for (chunk, threads) in [(5, 1), (32, 3)] {
            var engine = try Fixture.engine(name) {
                $0.expertTopP = 0.5
                $0.arithmetic = .f32
                $0.chunk = chunk
                $0.threads = threads
                $0.cache = .multiple(1)
            }
            try engine.prefill(ids, from: 0)
            let bits = unsafe engine.logits.map(\.bitPattern)
            #expect(bits == Array(alone.bits.suffix(bits.count)))
        }
    }

    @Test(arguments: MissPolicy.names)
    func everyPolicyAccountsForWhatTopPLeaves(policy: String) throws {
        for cache in [CacheSize.multiple(0.5), .multiple(2)] {
            let misses = try Self.decode(Self.name) {
                $0.expertTopP = 0.5
                $0.cache = cache
                $0.missPolicy = try MissPolicy(policy)
            }.statistics.misses
            let mass =
                misses.widthMass[1] + misses.skippedMass + misses.swappedMass + misses.deferredMass
            #expect(abs(mass - misses.mass) < 1e-9 * misses.mass)
            let count =
                misses.widthCount[1] + misses.skippedCount + misses.swappedCount
                + misses.deferredCount
            #expect(count == misses.choices && misses.choices > 0)
        }
    }

    @Test(
        .enabled(
            if: allocation_counter_works() != 0, "a sanitizer owns malloc, nothing can be counted"),
        arguments: MissPolicy.names)
    func decodingWithTopPAllocatesNothing(policy: String) throws {
        var engine = try Fixture.engine(Self.name) {
            $0.expertTopP = 0.5
            $0.cache = .multiple(1)
            $0.missPolicy = try MissPolicy(policy)
            $0.predictor = .nextGate(layers: 1)
            $0.prefetchRanks = 2
        }
        try engine.decode(3, at: 0)
        let before = allocations_of_this_thread()
        for position in 1..<20 { try engine.decode(Int32(position), at: position) }
        #expect(allocations_of_this_thread() == before)
    }

    /// Weights of a router's bias and of its correction, as a model file would give them.
    @Test func aRoutersBiasAndCorrectionAreHeeded() throws {
        let model = try Fixture.model(Self.name)
        let (k, experts, layers) = (
            model.expertsPerToken, model.expertCount, model.expertLayerCount
        )
        var logits: [[Float]] = []
        var chosen: [[Int32]] = []
        func observe(_ engine: inout Engine) throws {
            logits = []
            chosen = []
            engine.observe { layer in
                logits.append((0..<experts).map { unsafe layer.routerLogits[$0] })
                chosen.append((0..<k).map { unsafe layer.chosen[$0] })
            }
            try engine.decode(7, at: 0)
        }
        var engine = try Fixture.engine(Self.name) { $0.predictor = .nextGate(layers: 1) }
        try observe(&engine)
        let plain = logits[0]

        let vectors = UnsafeMutablePointer<Float>.allocate(capacity: 2 * experts)
        defer { unsafe vectors.deallocate() }
        for expert in 0..<experts {
            unsafe vectors[expert] = Float(expert % 3) - 0.5
            unsafe vectors[experts + expert] = expert == 5 ? 10 : expert == 2 ? 9 : 0
        }
        for layer in 0..<layers {
            unsafe engine.state.pointee.expertLayers[layer].routerBias = UnsafePointer(vectors)
        }
        try observe(&engine)
        #expect(logits[0] == (0..<experts).map { unsafe plain[$0] + vectors[$0] })
        let best = (0..<experts).sorted { logits[0][$0] > logits[0][$1] }.prefix(k)
        #expect(chosen[0] == best.map { Int32($0) })

        for layer in 0..<layers {
            unsafe engine.state.pointee.expertLayers[layer].routerCorrection =
                UnsafePointer(vectors + experts)
        }
        try observe(&engine)
        for layer in 0..<layers {
            #expect(chosen[layer][0] == 5 && chosen[layer][1] == 2)
            if layer > 0 {
                #expect(engine.prediction.guess(layer: layer, ahead: 1, rank: 0) == 5)
                #expect(engine.prediction.guess(layer: layer, ahead: 1, rank: 1) == 2)
            }
        }
    }

    @Test func whatIsNoProbabilityIsRefused() throws {
        for topP in [0, -0.5, 1.01, Double.nan] {
            let error = #expect(throws: EngineError.self) {
                _ = try Fixture.engine(Self.name) { $0.expertTopP = topP }
            }
            #expect(error?.description == "--expert-top-p \(topP) is not above 0, up to 1")
        }
    }
}
