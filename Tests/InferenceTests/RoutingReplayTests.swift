import CAllocationCounter
import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Inference

@Suite struct RoutingReplayTests {
    private static func engine(
        _ name: String, sequences: Int = 1, chunk: Int = 5
    ) throws -> Engine {
        let model = try Fixture.model(name)
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 64
        options.sequences = sequences
        options.chunk = chunk
        options.threads = 2
        return try Engine(
            model: model, options: options, plan: MemoryPlan(model: model, options: options))
    }

    /// What the router chose while `ids` were computed.
    private static func record(_ engine: inout Engine, _ ids: [Int32]) throws -> RoutingReplay {
        let (layers, k) = (engine.model.layerCount, engine.model.expertsPerToken)
        var experts = [Int32](repeating: -1, count: ids.count * layers * k)
        var weights = [Float](repeating: -1, count: ids.count * layers * k)
        engine.observe { seen in
            for token in 0..<seen.tokens {
                for rank in 0..<k {
                    let place = ((seen.position + token) * layers + seen.layer) * k + rank
                    experts[place] = unsafe seen.chosen[token * k + rank]
                    weights[place] = unsafe seen.gateWeights[token * k + rank]
                }
            }
        }
        try engine.prefill(ids, from: 0)
        engine.observe(nil)
        return try RoutingReplay(
            layerCount: layers, expertCount: engine.model.expertCount, expertsPerToken: k,
            experts: experts, weights: weights)
    }

    @Test(arguments: Fixture.names)
    func aModelsOwnRoutingForcedOnItChangesNoBit(name: String) throws {
        let ids = try Fixture.ids(name)
        var engine = try Self.engine(name)
        let routing = try Self.record(&engine, ids)
        let expected = unsafe engine.logits.map(\.bitPattern)
        try engine.forceRouting(routing)
        try engine.prefill(Array(ids[..<7]), from: 0)
        for position in 7..<ids.count { try engine.decode(ids[position], at: position) }
        #expect(unsafe engine.logits.map(\.bitPattern) == expected)
        // The recording has been used up exactly, and begins again.
        try engine.prefill(ids, from: 0)
        #expect(unsafe engine.logits.map(\.bitPattern) == expected)
    }

    @Test func theForcedExpertsAreTheOnesUsed() throws {
        let name = "qwen3moe-q8_0"
        var engine = try Self.engine(name)
        let model = engine.model
        let (layers, k) = (model.layerCount, model.expertsPerToken)
        // Three tokens whose experts tell token, layer and rank apart as far as there are experts.
        let experts = (0..<3 * layers * k).map { index in
            Int32((index / k + index % k) % model.expertCount)
        }
        let weights = (0..<3 * layers * k).map { Float($0 + 1) / 100 }
        try engine.forceRouting(
            RoutingReplay(
                layerCount: layers, expertCount: model.expertCount, expertsPerToken: k,
                experts: experts, weights: weights))
        var wrong = 0
        var seenTokens = 0
        engine.observe { seen in
            for token in 0..<seen.tokens {
                let recorded = (seen.position + token) % 3
                let place = (recorded * layers + seen.layer) * k
                for rank in 0..<k {
                    if unsafe seen.chosen[token * k + rank] != experts[place + rank]
                        || seen.gateWeights[token * k + rank] != weights[place + rank]
                    {
                        wrong += 1
                    }
                }
            }
            if seen.layer == 0 { seenTokens += seen.tokens }
        }
        // Chunks of 5, 5, 1 and single steps: the recording wraps around inside a chunk.
        let ids = Array(try Fixture.ids(name)[..<11])
        try engine.prefill(ids, from: 0)
        for position in 11..<16 { try engine.decode(3, at: position) }
        #expect(wrong == 0 && seenTokens == 16)
        // Ended, the router decides again.
        engine.observe(nil)
        try engine.forceRouting(nil)
        try engine.prefill(ids, from: 0)
        let free = try Fixture.compute(name, ids).suffix(model.vocabularyCount)
        #expect(unsafe engine.logits.elementsEqual(free))
    }

    @Test func anotherModelsShapeIsRefusedAndNothingChanges() throws {
        let name = "olmoe-f16"
        var engine = try Self.engine(name)
        let model = engine.model
        let (layers, count, k) = (model.layerCount, model.expertCount, model.expertsPerToken)
        for (otherLayers, otherCount, otherK) in [
            (layers + 1, count, k), (layers, count + 1, k), (layers, count, k - 1),
        ] {
            let total = otherLayers * otherK
            let routing = try RoutingReplay(
                layerCount: otherLayers, expertCount: otherCount, expertsPerToken: otherK,
                experts: (0..<total).map { Int32($0 % otherK) },
                weights: [Float](repeating: 0.5, count: total))
            let error = #expect(throws: EngineError.self) { try engine.forceRouting(routing) }
            let text = try #require(error?.description)
            #expect(text.contains("\(otherK) of \(otherCount) experts in \(otherLayers) layers"))
            #expect(text.contains("\(k) of \(count) in \(layers)"))
        }
        let ids = try Fixture.ids(name)
        try engine.prefill(ids, from: 0)
        let free = try Fixture.compute(name, ids).suffix(model.vocabularyCount)
        #expect(unsafe engine.logits.elementsEqual(free))
    }

    @Test func routingsThatNoRouterChoosesAreRefusedByPlace() {
        func refusal(
            _ experts: [Int32], _ weights: [Float], layers: Int = 2, count: Int = 4, k: Int = 2
        ) -> String {
            do {
                _ = try RoutingReplay(
                    layerCount: layers, expertCount: count, expertsPerToken: k, experts: experts,
                    weights: weights)
                return ""
            } catch { return error.description }
        }
        let good: [Int32] = [0, 1, 2, 3, 3, 0, 1, 2]
        let half = [Float](repeating: 0.5, count: 8)
        #expect(refusal(good, half).isEmpty)
        #expect(refusal([0, 1, 2, 4, 3, 0, 1, 2], half).contains("token 0, layer 1"))
        #expect(refusal([0, 1, 2, 3, 3, 0, 1, -1], half).contains("token 1, layer 1"))
        #expect(refusal([0, 1, 2, 3, 3, 3, 1, 2], half).contains("expert 3 is chosen twice"))
        #expect(refusal(good, Array(repeating: .nan, count: 8)).contains("token 0, layer 0"))
        #expect(refusal(good, Array(repeating: -1, count: 8)).contains("no gate weight"))
        #expect(refusal(Array(good[..<6]), half).contains("whole tokens"))
        #expect(refusal([], []).contains("whole tokens"))
        #expect(refusal(good, half, k: 5).contains("5 of 4"))
        #expect(refusal(good, half, layers: 1 << 62).contains("layers"))
    }

    @Test(
        .enabled(
            if: allocation_counter_works() != 0, "a sanitizer owns malloc, nothing can be counted"))
    func aForcedTokenAllocatesNothing() throws {
        let name = "qwen3moe-k-quants"
        var engine = try Self.engine(name)
        let routing = try Self.record(&engine, Fixture.ids(name))
        try engine.forceRouting(routing)
        var before = allocations_of_this_thread()
        for position in 0..<60 {
            if position == 2 { before = allocations_of_this_thread() }
            try engine.decode(Int32(position), at: position)
        }
        #expect(allocations_of_this_thread() == before)
    }

    // MARK: Traces

    /// Two prompt tokens and three decoded ones, each of which chose what its number tells.
    private static func trace(
        layers: Int, experts: Int, k: Int, weights: Bool = true, named: Bool = true,
        absent: Int? = nil
    ) throws -> RoutingTrace {
        var shape = TraceShape(layerCount: layers, expertsPerLayer: experts, expertsPerToken: k)
        shape.model = named ? "a model" : ""
        var trace = try RoutingTrace(shape: shape)
        for token in 0..<5 {
            var chosen = (0..<layers * k).map { UInt16((token + $0 % k) % experts) }
            if token == absent { chosen[layers * k - 1] = RoutingTrace.absent }
            let problem = trace.append(
                sequence: 0, phase: token < 2 ? .prefill : .decode, tokenID: -1,
                experts: chosen[...],
                weights: weights
                    ? [Float](repeating: Float(token + 1), count: layers * k)[...] : [])
            #expect(problem == nil)
        }
        return trace
    }

    @Test func ofATraceDecodeIsReplayedAndAsMuchPromptAsFits() throws {
        let model = try Fixture.model("qwen3moe-q8_0")
        let (layers, k) = (model.layerCount, model.expertsPerToken)
        let trace = try Self.trace(layers: layers, experts: model.expertCount, k: k)
        for (prompt, tokens) in [(0, [2, 3, 4]), (1, [1, 2, 3, 4]), (2, [0, 1, 2, 3, 4])] {
            let replay = try RoutingReplay(
                trace: trace, name: "t", model: model, promptTokens: prompt)
            #expect(replay.tokenCount == tokens.count)
            #expect(
                replay.weights
                    == tokens.flatMap { [Float](repeating: Float($0 + 1), count: layers * k) })
            #expect(
                replay.experts
                    == tokens.flatMap { token in
                        (0..<layers * k).map { Int32((token + $0 % k) % model.expertCount) }
                    })
        }
        // A prompt longer than the recording's gets what decode chose.
        let long = try RoutingReplay(trace: trace, name: "t", model: model, promptTokens: 3)
        #expect(long.tokenCount == 3)
        // So does one of which the last layer was left out.
        let cut = try RoutingReplay(
            trace: Self.trace(layers: layers, experts: model.expertCount, k: k, absent: 1),
            name: "t", model: model, promptTokens: 1)
        #expect(cut.tokenCount == 3)
        let unweighed = try RoutingReplay(
            trace: Self.trace(layers: layers, experts: model.expertCount, k: k, weights: false),
            name: "t", model: model)
        #expect(unweighed.weights.allSatisfy { $0 == 1 / Float(k) })
    }

    @Test func tracesOfAnotherShapeAreRefusedWithBothShapes() throws {
        let model = try Fixture.model("qwen3moe-q8_0")
        let (layers, count, k) = (model.layerCount, model.expertCount, model.expertsPerToken)
        func refusal(_ trace: RoutingTrace) -> String {
            do {
                _ = try RoutingReplay(trace: trace, name: "some.trace", model: model)
                return ""
            } catch { return error.description }
        }
        for (otherLayers, otherCount, otherK) in [
            (layers + 1, count, k), (layers, count + 1, k), (layers, count - 1, k),
            (layers, count, k + 1),
        ] {
            let text = refusal(
                try Self.trace(layers: otherLayers, experts: otherCount, k: otherK))
            #expect(
                text.contains(
                    "some.trace chooses \(otherK) of \(otherCount) experts in \(otherLayers)"))
            #expect(text.contains("chooses \(k) of \(count) in \(layers);"))
        }
        // One that names no model cannot know experts that were never chosen.
        #expect(
            refusal(try Self.trace(layers: layers, experts: count - 1, k: k, named: false)).isEmpty)
        let incomplete = refusal(
            try Self.trace(layers: layers, experts: count, k: k, absent: 3))
        #expect(incomplete.contains("token 3, layer \(layers - 1) only \(k - 1) of \(k)"))
    }
}
