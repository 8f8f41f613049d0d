import CAllocationCounter
import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Inference

/// What follows attention, in every kind: shared experts, layers and models without experts, biases,
/// other activations, routers before attention. Against the logits of transformers, and each way of
/// computing against the plainest one.
@Suite struct FeedForwardTests {
    /// Models of tools/reference: dense; with shared experts and a layer without experts. Both in a
    /// format that packages cut into planes.
    static let dense = "../families/qwen3-deep/qwen3-deep"
    static let names = [dense, "../families/qwen2moe-mixed/qwen2moe-mixed"]

    private func engine(
        _ model: ModelDescription, _ change: (inout EngineOptions) throws -> Void = { _ in }
    ) throws -> Engine {
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 64
        options.threads = 1
        try change(&options)
        return try Engine(
            model: model, options: options, plan: MemoryPlan(model: model, options: options))
    }

    @Test(arguments: names)
    func cacheThreadsAndChunksChangeNoBit(name: String) throws {
        let ids = try Fixture.ids(name)
        func run(_ change: (inout EngineOptions) -> Void) throws -> [UInt32] {
            try Fixture.compute(name, ids) { change(&$0) }.map(\.bitPattern)
        }
        let plain = try run { $0.cache = .percent(100) }
        for cache in ["0.1x", "1x", "50%", "auto"] {
            for threads in [1, 2, 3] {
                let found = try run {
                    $0.cache = CacheSize(cache)!
                    $0.threads = threads
                }
                #expect(found == plain, "cache \(cache), \(threads) threads")
            }
        }
        for chunk in [1, 2, 7, 64] {
            for denseTokens in [1, 3, 64] {
                let found = try run {
                    $0.chunk = chunk
                    $0.denseTokens = denseTokens
                    $0.roundMultiplications = chunk == 7 ? 1 : 1 << 28
                    $0.threads = 2
                    $0.cache = .multiple(0.1)
                }
                #expect(found == plain, "chunks of \(chunk), goes of \(denseTokens)")
            }
        }
        for set in InstructionSet.available {
            #expect(try run { $0.instructionSet = set } == plain, "\(set)")
        }
    }

    /// Decode steps, from the file and from packages, with guesses.
    @Test(arguments: names)
    func decodingGivesTheBitsOfAPrompt(name: String) throws {
        let ids = try Fixture.ids(name)
        let expected = try Fixture.compute(name, ids) { $0.cache = .percent(100) }
            .map(\.bitPattern)
        for packaging in Packaging.allCases where packaging != .lowRecord {
            let packed = try PackedModel(name, packaging)
            for (cache, ranks) in [(0.1, 0), (0.1, 2), (1, 2), (2, 0)] {
                var engine = try packed.engine {
                    $0.cache = .multiple(cache)
                    $0.predictor = ranks > 0 ? .nextGate(layers: 2) : .none
                    $0.prefetchRanks = ranks
                    $0.threads = 2
                }
                let vocabulary = engine.vocabularyCount
                try engine.prefill(Array(ids[..<7]), from: 0)
                for position in 7..<ids.count {
                    try engine.decode(ids[position], at: position)
                    let row = expected[(position * vocabulary)..<((position + 1) * vocabulary)]
                    guard unsafe engine.logits.lazy.map(\.bitPattern).elementsEqual(row) else {
                        Issue.record("\(packaging), \(cache)x, \(ranks) ahead: \(position)")
                        break
                    }
                }
            }
        }
    }

    @Test(
        .enabled(
            if: allocation_counter_works() != 0, "a sanitizer owns malloc, nothing can be counted"),
        arguments: names)
    func decodingATokenAllocatesNothing(name: String) throws {
        for (cache, ranks) in [(0.1, 0), (1, 1), (2, 1)] {
            var engine = try Fixture.engine(name) {
                $0.cache = .multiple(cache)
                $0.predictor = ranks > 0 ? .nextGate(layers: 1) : .none
                $0.prefetchRanks = ranks
            }
            try engine.prefill(Fixture.ids(name), from: 0)
            try engine.decode(5, at: 16)
            let before = allocations_of_this_thread()
            for position in 17..<60 { try engine.decode(Int32(position), at: position) }
            #expect(allocations_of_this_thread() == before, "\(cache)x, \(ranks) ahead")
        }
    }

    // MARK: Routers before attention

    /// A model whose routers read what enters their layers: a token's embedding, and from there on the
    /// residual stream with the weighed outputs of the experts, both put together here.
    @Test func anEarlyRouterReadsWhatEntersItsLayer() throws {
        let name = "qwen3moe-q8_0"
        let model = try Self.routingEarly(Fixture.model(name))
        let (width, experts) = (model.embeddingLength, model.expertCount)
        var engine = try self.engine(model) { $0.cache = .multiple(0.1) }
        var routers: [[Float]] = []
        for layer in 0..<model.expertLayerCount {
            routers.append(engine.routerWeights(layer: layer))
        }
        var entering: [[Double]] = []
        var largest = 0.0
        var compared = 0
        engine.observe { seen in
            let inputs = unsafe Array(
                UnsafeBufferPointer(start: seen.input, count: seen.tokens * width))
            for token in 0..<seen.tokens {
                let input = inputs[(token * width)..<((token + 1) * width)].map { Double($0) }
                if seen.layer > 0 {
                    let gap = zip(input, entering[token]).map { abs($0 - $1) }.max()!
                    largest = max(largest, gap)
                }
                for expert in 0..<experts {
                    let row = routers[seen.layer][(expert * width)..<((expert + 1) * width)]
                    let logit = zip(row, input).reduce(0.0) { $0 + Double($1.0) * $1.1 }
                    let found = unsafe Double(seen.routerLogits[token * experts + expert])
                    largest = max(largest, abs(found - logit))
                    compared += 1
                }
            }
            entering = (0..<seen.tokens).map { token in
                (0..<width).map { place in
                    var sum = unsafe Double(seen.residual[token * width + place])
                    for choice in (token * 2)..<(token * 2 + 2) {
                        let row = unsafe Int(seen.outputRow[choice])
                        unsafe sum +=
                            Double(seen.gateWeights[choice])
                            * Double(seen.expertOutput[row * width + place])
                    }
                    return sum
                }
            }
        }
        #expect(model.expertsPerToken == 2)
        let ids = try Fixture.ids(name)
        try engine.prefill(Array(ids[..<9]), from: 0)
        for position in 9..<ids.count { try engine.decode(ids[position], at: position) }
        #expect(compared == ids.count * model.expertLayerCount * experts)
        #expect(largest < 1e-4, "\(largest)")
    }

    @Test func routingBeforeAttentionChangesNoBitAcrossCachesAndChunks() throws {
        let name = "qwen3moe-q8_0"
        let ids = try Fixture.ids(name)
        let model = try Self.routingEarly(Fixture.model(name))
        func run(_ change: (inout EngineOptions) -> Void) throws -> [UInt32] {
            var engine = try self.engine(model, change)
            var bits: [UInt32] = []
            try unsafe engine.everyLogit(of: ids) { row in
                bits += unsafe row.map(\.bitPattern)
            }
            return bits
        }
        let plain = try run { $0.cache = .percent(100) }
        #expect(try plain != Fixture.compute(name, ids).map(\.bitPattern))
        for (cache, chunk, threads) in [(0.1, 1, 2), (0.1, 7, 3), (1, 64, 2), (0.5, 3, 1)] {
            let found = try run {
                $0.cache = .multiple(cache)
                $0.chunk = chunk
                $0.threads = threads
            }
            #expect(found == plain, "\(cache)x, chunks of \(chunk), \(threads) threads")
        }
        for (cache, ranks) in [(0.1, 0), (0.1, 3), (2, 3)] {
            var engine = try self.engine(model) {
                $0.cache = .multiple(cache)
                $0.predictor = .nextGate(layers: 2)
                $0.prefetchRanks = ranks
            }
            var bits: [UInt32] = []
            for (position, id) in ids.enumerated() {
                try engine.decode(id, at: position)
                bits += unsafe engine.logits.map(\.bitPattern)
            }
            #expect(bits == plain, "token by token, \(cache)x, \(ranks) ahead")
        }
    }

    private static func routingEarly(_ model: ModelDescription) -> ModelDescription {
        var model = model
        model.layers = model.layers.map { layer in
            var experts = layer.experts!
            experts.routesEarly = true
            return Layer(
                index: layer.index, attentionNorm: layer.attentionNorm, mixer: layer.mixer,
                feedForwardNorm: layer.feedForwardNorm, feedForward: .experts(experts))
        }
        return model
    }

    // MARK: Dense models

    /// Layers are used in turn, so all but the few slots in which others come and go keep theirs.
    @Test func aDenseModelHitsWhatFits() throws {
        let model = try Fixture.model(Self.dense)
        let layers = model.layerCount
        #expect(model.isDense && model.expertLayerCount == layers && layers > 2)
        for ranks in [0, 1] {
            var engine = try self.engine(model) {
                $0.cache = .multiple(Double(layers - 1) / Double(layers) + 0.01)
                $0.prefetchRanks = ranks
            }
            #expect(engine.plan.streaming.slotCount == layers - 1)
            try engine.prefill([1, 2, 3], from: 0)
            for position in 3..<8 { try engine.decode(1, at: position) }
            let before = engine.statistics
            for position in 8..<28 { try engine.decode(1, at: position) }
            let done = (engine.statistics - before).streaming
            #expect(done.hits + done.misses == UInt64(20 * layers))
            if ranks == 0 {
                #expect(done.misses <= UInt64(20 * 2))
            } else {
                #expect(done.prefetchUseful + done.prefetchLate > 0)
                #expect(done.wastedSpeculativeBytes == 0)
            }
        }
    }

    @Test func aDenseModelRefusesWhatOnlyARouterCouldDo() throws {
        let model = try Fixture.model(Self.dense)
        func message(_ change: (inout EngineOptions) throws -> Void) throws -> String {
            var text = ""
            do {
                _ = try self.engine(model, change)
            } catch let error as EngineError {
                text = error.description
            }
            return text
        }
        for policy in MissPolicy.names where policy != "exact" {
            let text = try message { $0.missPolicy = try MissPolicy(policy) }
            #expect(text.contains("--miss") && text.contains("dense"), "\(text)")
        }
        for predictor in [Predictor.recorded(recall: 1), try .someGates(model)] {
            let text = try message { $0.predictor = predictor }
            #expect(text.contains("--predict") && text.contains("dense"), "\(text)")
        }
        var engine = try self.engine(model)
        let replay = try RoutingReplay(
            layerCount: model.expertLayerCount, expertCount: 1, expertsPerToken: 1,
            experts: Array(repeating: 0, count: model.expertLayerCount),
            weights: Array(repeating: 1, count: model.expertLayerCount))
        #expect(throws: EngineError.self) { try engine.forceRouting(replay) }
        #expect(engine.routerWeights(layer: 0).isEmpty)
    }

    @Test func aPlanOfADenseModelSpeaksOfLayers() throws {
        let model = try Fixture.model(Self.dense)
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 64
        options.cache = .multiple(0.5)
        let plan = try MemoryPlan(model: model, options: options)
        let needs = plan.streaming.needs
        #expect(needs.activeSetBytes == needs.fullBytes)
        #expect(needs.floorBytes * model.layerCount == needs.fullBytes)
        #expect(plan.warnings.count == 1)
        #expect(plan.warnings[0].contains("feed-forward") && !plan.warnings[0].contains("LRU"))
        options.cache = .bytes(1)
        let error = #expect(throws: EngineError.self) {
            _ = try MemoryPlan(model: model, options: options)
        }
        #expect(error?.description.contains("feed-forward of one layer") == true)
        options.cache = .percent(100)
        #expect(try MemoryPlan(model: model, options: options).warnings.isEmpty)
    }
}
