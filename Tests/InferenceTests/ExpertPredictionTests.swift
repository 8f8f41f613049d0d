import CAllocationCounter
import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Inference

@Suite struct ExpertPredictionTests {
    private static func engine(
        _ name: String, _ predictor: Predictor, prefetch: Int = 0,
        _ change: (inout EngineOptions) throws -> Void = { _ in }
    ) throws -> Engine {
        let model = try Fixture.model(name)
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 64
        options.threads = 1
        options.cache = .multiple(1)
        options.predictor = predictor
        options.prefetchRanks = prefetch
        try change(&options)
        return try Engine(
            model: model, options: options, plan: MemoryPlan(model: model, options: options))
    }

    /// What the router of `layer` was given and chose, for one decoded token.
    private struct Seen {
        var input: [Float]
        var chosen: [Int32]
    }

    private static func observe(_ engine: inout Engine, id: Int32, at position: Int) throws
        -> [Seen]
    {
        var layers: [Seen] = []
        let (width, k) = (engine.model.embeddingLength, engine.model.expertsPerToken)
        engine.observe { seen in
            layers.append(
                unsafe Seen(
                    input: Array(UnsafeBufferPointer(start: seen.input, count: width)),
                    chosen: Array(UnsafeBufferPointer(start: seen.chosen, count: k))))
        }
        try engine.decode(id, at: position)
        engine.observe(nil)
        return layers
    }

    // MARK: Ranking and recall

    @Test func guessesAreRankedAndHeldAgainstTheChoice() {
        var prediction = ExpertPrediction(
            predictor: .nextGate(layers: 2), prefetchRanks: 3, layerCount: 3, expertCount: 5,
            expertsPerToken: 2)
        #expect(prediction.ranks == 3)
        #expect(prediction.reach(after: 0) == 2 && prediction.reach(after: 1) == 1)
        #expect(prediction.reach(after: 2) == 0)
        func guess(_ layer: Int, _ ahead: Int) -> [Int32] {
            (0..<3).map { prediction.guess(layer: layer, ahead: ahead, rank: $0) }
        }
        func check(_ layer: Int, _ chosen: [Int32]) {
            unsafe chosen.withUnsafeBufferPointer {
                unsafe prediction.check(layer: layer, chosen: $0)
            }
        }
        prediction.begin()
        check(0, [0, 1])  // nothing was guessed for layer 0
        prediction.scores = [0, 2, 5, 2, 1]
        prediction.rank(layer: 1, ahead: 1)
        #expect(guess(1, 1) == [2, 1, 3])  // 1 and 3 tie: the lower index first
        prediction.scores = [9, 8, 7, 6, .nan]
        prediction.rank(layer: 2, ahead: 2)
        #expect(guess(2, 2) == [0, 1, 2])
        check(1, [3, 2])
        prediction.scores = [1, 1, 1, 1, 1]
        prediction.rank(layer: 2, ahead: 1)
        #expect(guess(2, 1) == [0, 1, 2])
        #expect(guess(2, 2) == [0, 1, 2])
        check(2, [4, 1])
        let found = prediction.statistics
        #expect(found.guesses == [2, 1])
        #expect((0..<3).map { found.recall(ahead: 1, rank: $0) } == [0.5, 0.5, 0.5])
        #expect((0..<3).map { found.recall(ahead: 2, rank: $0) } == [0, 1, 0])
        // A new step has no guesses yet.
        prediction.begin()
        check(1, [3, 2])
        #expect(prediction.statistics == found)
        #expect((found - found).recall(ahead: 1, rank: 0) == nil)
    }

    // MARK: Next gates

    /// Guesses against dot products worked out here, and recall against what the router then chose.
    @Test func nextGatesAreTheRoutersOfTheLayersToCome() throws {
        let name = "qwen3moe-q8_0"
        var engine = try Self.engine(name, .nextGate(layers: 2))
        let (layers, experts) = (engine.model.layerCount, engine.model.expertCount)
        let (width, k) = (engine.model.embeddingLength, engine.model.expertsPerToken)
        #expect(
            engine.model.layers.allSatisfy { $0.experts?.router?.weight.format == .f32 }
                && layers == 3)
        let routers = (0..<layers).map { layer in
            let weights = unsafe engine.state.pointee.expertLayers[layer].router!.weights
            return unsafe Array(
                UnsafeBufferPointer(
                    start: weights.assumingMemoryBound(to: Float.self), count: experts * width))
        }
        var right = [0, 0, 0, 0]
        var steps = 0
        for (position, id) in try Fixture.ids(name).enumerated() {
            let seen = try Self.observe(&engine, id: id, at: position)
            steps += 1
            for ahead in 1...2 {
                for layer in 0..<(layers - ahead) {
                    let logits = (0..<experts).map { expert in
                        (0..<width).reduce(0.0) {
                            $0 + Double(routers[layer + ahead][expert * width + $1])
                                * Double(seen[layer].input[$1])
                        }
                    }
                    let ranked = (0..<experts).sorted { logits[$0] > logits[$1] }
                    for rank in 0..<k {
                        let guess = engine.prediction.guess(
                            layer: layer + ahead, ahead: ahead, rank: rank)
                        #expect(abs(logits[Int(guess)] - logits[ranked[rank]]) < 1e-4)
                        if seen[layer + ahead].chosen.contains(guess) {
                            right[(ahead - 1) * k + rank] += 1
                        }
                    }
                }
            }
        }
        let statistics = engine.statistics.prediction
        #expect(statistics.guesses == [UInt64(2 * steps), UInt64(steps)])
        for ahead in 1...2 {
            for rank in 0..<k {
                let expected =
                    Double(right[(ahead - 1) * k + rank]) / Double(steps * (layers - ahead))
                #expect(statistics.recall(ahead: ahead, rank: rank) == expected)
            }
        }
        // Routers of neighbouring layers of a random model have nothing in common, but there must
        // be something to compare.
        #expect(right.reduce(0, +) > 0)
        #expect(engine.statistics.predictionNanoseconds > 0)
    }

    // MARK: Learned gates

    @Test func learnedGatesMapTheInputToTheNextLogits() throws {
        let name = "qwen3moe-f32"
        let model = try Fixture.model(name)
        let (layers, experts) = (model.layerCount, model.expertCount)
        let width = model.embeddingLength
        // Eighths, which half precision holds exactly.
        let weights = (0..<(layers * experts * width)).map { Float(($0 * 7919) % 65 - 32) / 8 }
        let bias = (0..<(layers * experts)).map { Float($0 % 5) }
        let gates = try LearnedGates(
            layerCount: layers, expertCount: experts, embeddingLength: width, weights: weights,
            bias: bias)
        #expect(gates.byteCount == weights.count * 2 + bias.count * 4)
        var engine = try Self.engine(name, .learned(gates))
        for (position, id) in try Fixture.ids(name).enumerated() {
            let seen = try Self.observe(&engine, id: id, at: position)
            let logits = (0..<experts).map { expert in
                (0..<width).reduce(Double(bias[expert])) {
                    $0 + Double(weights[expert * width + $1]) * Double(seen[0].input[$1])
                }
            }
            let ranked = (0..<experts).sorted { logits[$0] > logits[$1] }
            for rank in 0..<model.expertsPerToken {
                let guess = Int(engine.prediction.guess(layer: 1, ahead: 1, rank: rank))
                #expect(abs(logits[guess] - logits[ranked[rank]]) < 1e-3)
            }
        }
        #expect(engine.statistics.prediction.guesses == [UInt64(try Fixture.ids(name).count)])
    }

    @Test func predictorsOfAnotherShapeAreRefused() throws {
        let gates = try LearnedGates(
            layerCount: 2, expertCount: 8, embeddingLength: 16,
            weights: [Float](repeating: 0, count: 256), bias: [])
        let paths = try ExpertPaths(
            layerCount: 2, expertCount: 2, firstEntry: [UInt32](repeating: 0, count: 13),
            entryExperts: [], entryWeights: [])
        for predictor: Predictor in [
            .learned(gates), .path(paths), .nextGate(layers: 0), .nextGate(layers: 4),
            .nextGate(layers: .max), .nextGate(layers: -1),
        ] {
            let error = #expect(throws: EngineError.self) {
                _ = try Self.engine("qwen3moe-f32", predictor)
            }
            #expect(error?.description.hasPrefix("--predict") == true)
        }
        #expect(throws: EngineError.self) {
            try LearnedGates(
                layerCount: 2, expertCount: 8, embeddingLength: 16, weights: [0], bias: [])
        }
        #expect(throws: EngineError.self) {
            try LearnedGates(
                layerCount: .max, expertCount: 8, embeddingLength: 16, weights: [], bias: [])
        }
    }

    // MARK: Paths

    /// Three layers of three experts. Keys are (layer, last, before last); 3 stands for any.
    private static func paths(_ rows: [[Int]: [(Int, Float)]]) throws -> ExpertPaths {
        var first: [UInt32] = [0]
        var experts: [UInt16] = []
        var weights: [Float] = []
        for layer in 0..<3 {
            for last in 0..<3 {
                for before in 0..<4 {
                    for (expert, weight) in rows[[layer, last, before]] ?? [] {
                        experts.append(UInt16(expert))
                        weights.append(weight)
                    }
                    first.append(UInt32(experts.count))
                }
            }
        }
        return try ExpertPaths(
            layerCount: 3, expertCount: 3, firstEntry: first, entryExperts: experts,
            entryWeights: weights)
    }

    @Test func pathsAddUpOverPairsAndFallBackOnTheNearerExpert() throws {
        let paths = try Self.paths([
            [1, 0, 3]: [(2, 0.5)], [1, 1, 3]: [(2, 0.25), (0, 0.5)],
            [2, 0, 1]: [(1, 1)], [2, 0, 3]: [(0, 0.125)], [2, 2, 3]: [(2, 0.25)],
        ])
        var prediction = ExpertPrediction(
            predictor: .path(paths), prefetchRanks: 0, layerCount: 3, expertCount: 3,
            expertsPerToken: 2)
        func choose(_ layer: Int, _ chosen: [Int32]) {
            unsafe chosen.withUnsafeBufferPointer {
                unsafe prediction.check(layer: layer, chosen: $0)
            }
        }
        prediction.begin()
        choose(0, [1, 0])
        prediction.score(after: 0, by: paths)
        #expect(prediction.scores == [0.5, 0, 0.75])
        choose(1, [0, 2])
        // Pairs (0, 1): a row of its own; (0, 0), (2, 1) and (2, 0): fall back.
        prediction.score(after: 1, by: paths)
        #expect(prediction.scores == [0.125, 1, 0.5])
    }

    @Test func tablesThatAreNoneAreRefused() {
        let good = [UInt32](repeating: 0, count: 13)
        func make(_ first: [UInt32], _ experts: [UInt16], _ weights: [Float]) throws {
            _ = try ExpertPaths(
                layerCount: 2, expertCount: 2, firstEntry: first, entryExperts: experts,
                entryWeights: weights)
        }
        #expect(throws: Never.self) { try make(good, [], []) }
        var backwards = good
        backwards[4] = 1
        var last = good
        last[12] = 1
        #expect(throws: Never.self) { try make(last, [1], [0.5]) }
        for (first, experts, weights): ([UInt32], [UInt16], [Float]) in [
            ([], [], []), (Array(good.dropLast()), [], []), (backwards, [], []), (last, [], []),
            (last, [2], [1]), (last, [1], []), (last, [1], [.nan]), (last, [1], [-1]),
        ] {
            #expect(throws: EngineError.self) { try make(first, experts, weights) }
        }
    }

    // MARK: In an engine

    /// A guess may be right or wrong, early or late: it changes no bit.
    @Test(arguments: Fixture.parallelNames, Arithmetic.allCases)
    func guessesChangeNoBit(name: String, arithmetic: Arithmetic) throws {
        let model = try Fixture.model(name)
        let ids = try Fixture.ids(name)
        func run(_ predictor: Predictor, _ prefetch: Int, _ cache: CacheSize, _ threads: Int) throws
            -> [UInt32]
        {
            var engine = try Self.engine(name, predictor, prefetch: prefetch) {
                $0.cache = cache
                $0.threads = threads
                $0.arithmetic = arithmetic
            }
            var bits: [UInt32] = []
            for (position, id) in ids.enumerated() {
                try engine.decode(id, at: position)
                bits += unsafe engine.logits.map(\.bitPattern)
            }
            return bits
        }
        let shape = model.layerCount * model.expertCount
        let gates = try LearnedGates(
            layerCount: model.layerCount, expertCount: model.expertCount,
            embeddingLength: model.embeddingLength,
            weights: [Float](repeating: 1, count: shape * model.embeddingLength), bias: [])
        let rows = shape * (model.expertCount + 1)
        let paths = try ExpertPaths(
            layerCount: model.layerCount, expertCount: model.expertCount,
            firstEntry: (0...rows).map { UInt32($0) },
            entryExperts: (0..<rows).map { UInt16($0 % model.expertCount) },
            entryWeights: [Float](repeating: 1, count: rows))
        let plain = try run(.none, 0, .percent(100), 1)
        for predictor: Predictor in [
            .nextGate(layers: 1), .nextGate(layers: 3), .learned(gates), .path(paths),
        ] {
            for (cache, prefetch, threads): (CacheSize, Int, Int) in [
                (.multiple(0.5), 1, 1), (.multiple(1), model.expertCount, 2),
                (.multiple(2), 1000, 3),
            ] {
                #expect(try run(predictor, prefetch, cache, threads) == plain)
            }
        }
    }

    @Test(
        .enabled(
            if: allocation_counter_works() != 0, "a sanitizer owns malloc, nothing can be counted"))
    func guessingAllocatesNothing() throws {
        let name = "qwen3moe-f32"
        let model = try Fixture.model(name)
        let rows = model.layerCount * model.expertCount * (model.expertCount + 1)
        let paths = try ExpertPaths(
            layerCount: model.layerCount, expertCount: model.expertCount,
            firstEntry: (0...rows).map { UInt32($0) },
            entryExperts: (0..<rows).map { UInt16($0 % model.expertCount) },
            entryWeights: [Float](repeating: 1, count: rows))
        let count = model.layerCount * model.expertCount
        let gates = try LearnedGates(
            layerCount: model.layerCount, expertCount: model.expertCount,
            embeddingLength: model.embeddingLength,
            weights: [Float](repeating: 1, count: count * model.embeddingLength),
            bias: [Float](repeating: 1, count: count))
        for predictor: Predictor in [.nextGate(layers: 3), .path(paths), .learned(gates)] {
            var engine = try Self.engine(name, predictor, prefetch: 4)
            try engine.prefill(Fixture.ids(name), from: 0)
            try engine.decode(5, at: 24)
            let before = allocations_of_this_thread()
            for position in 25..<60 { try engine.decode(Int32(position), at: position) }
            #expect(allocations_of_this_thread() == before, "\(predictor)")
        }
    }

    @Test func tablesCountAgainstTheBudget() throws {
        let gates = try LearnedGates(
            layerCount: 2, expertCount: 8, embeddingLength: 48,
            weights: [Float](repeating: 0, count: 768), bias: [])
        let without = try Self.engine("qwen3moe-f32", .none)
        let with = try Self.engine("qwen3moe-f32", .learned(gates))
        #expect(with.plan.floorBytes >= without.plan.floorBytes + gates.byteCount)
    }

    // MARK: Recorded choices

    /// A routing of 200 tokens, different from token to token and layer to layer.
    private static func routing(_ model: ModelDescription) throws -> RoutingReplay {
        let (layers, k) = (model.layerCount, model.expertsPerToken)
        var experts: [Int32] = []
        for row in 0..<(200 * layers) {
            let first = row * 5 + row / 7
            experts += (0..<k).map { Int32((first + $0) % model.expertCount) }
        }
        return try RoutingReplay(
            layerCount: layers, expertCount: model.expertCount, expertsPerToken: k,
            experts: experts, weights: [Float](repeating: 1 / Float(k), count: experts.count))
    }

    @Test(arguments: [0, 0.25, 0.886, 1]) func recordedChoicesAreGuessedWithTheirRecall(
        recall: Double
    ) throws {
        let name = "qwen3moe-q8_0"
        var engine = try Self.engine(name, .recorded(recall: recall), prefetch: 2) {
            $0.context = 256
        }
        try engine.forceRouting(Self.routing(engine.model))
        for position in 0..<200 { try engine.decode(Int32(position % 7), at: position) }
        let found = engine.statistics.prediction
        let (layers, k) = (engine.model.layerCount, engine.model.expertsPerToken)
        #expect(found.guesses == [UInt64(200 * (layers - 1))])
        // Four standard deviations of so many draws.
        let spread = 4 * (recall * (1 - recall) / Double(200 * (layers - 1))).squareRoot()
        for rank in 0..<k {
            let measured = try #require(found.recall(ahead: 1, rank: rank))
            #expect(abs(measured - recall) <= spread, "rank \(rank): \(measured)")
        }
    }

    @Test func recordedChoicesAreGuessedOnlyOfAForcedRouting() throws {
        var engine = try Self.engine("qwen3moe-q8_0", .recorded(recall: 1), prefetch: 2)
        for position in 0..<4 { try engine.decode(3, at: position) }
        #expect(engine.statistics.prediction.guesses == [0])
        #expect(engine.statistics.streaming.prefetchIssued == 0)
        #expect(throws: EngineError.self) {
            _ = try Self.engine("qwen3moe-q8_0", .recorded(recall: 1.5))
        }
    }

    @Test func readingRecordedChoicesAheadChangesNoBit() throws {
        let name = "qwen3moe-q8_0"
        func logits(_ predictor: Predictor, governed: Bool) throws -> ([UInt32], UInt64) {
            var engine = try Self.engine(name, predictor, prefetch: 2) {
                $0.governsPrefetch = governed
            }
            try engine.forceRouting(Self.routing(engine.model))
            for position in 0..<60 { try engine.decode(Int32(position % 5), at: position) }
            let useful = engine.statistics.streaming.usefulSpeculativeBytes
            return (unsafe engine.logits.map(\.bitPattern), useful)
        }
        let plain = try logits(.none, governed: true)
        let governed = try logits(.recorded(recall: 0.8), governed: true)
        let free = try logits(.recorded(recall: 0.8), governed: false)
        #expect(plain.1 == 0 && governed.1 > 0 && free.1 > 0)
        #expect(plain.0 == governed.0 && plain.0 == free.0)
    }
}
