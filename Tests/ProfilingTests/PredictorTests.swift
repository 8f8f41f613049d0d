import Testing

@testable import Inference
@testable import Profiling

/// Samples made up by a rule, for predictors.
struct InventedRouting: RoutingSource {
    let model: ModelFingerprint
    var sequenceCount = 10
    var chunks = 2
    var chunkTokens = 16
    /// Inputs (T, embedding), logits (T, experts) and choices (T, k) of a layer.
    var layer:
        @Sendable (_ layer: Int, _ tokens: Int, _ random: inout Random) -> (
            input: [Float], logits: [Float], chosen: [Int32]
        )

    func forEachSample(_ receive: @escaping (RoutingSample) -> Void) {
        for sequence in 0..<sequenceCount {
            for chunk in 0..<chunks {
                for layer in 0..<model.layers {
                    // Every layer of a chunk draws the same numbers.
                    var random = Random(state: UInt64(sequence * 100 + chunk))
                    let made = self.layer(layer, chunkTokens, &random)
                    unsafe made.input.withUnsafeBufferPointer { input in
                        unsafe made.logits.withUnsafeBufferPointer { logits in
                            unsafe made.chosen.withUnsafeBufferPointer { chosen in
                                let sample = unsafe RoutingSample(
                                    layer: layer, sequence: sequence,
                                    position: chunk * chunkTokens, tokens: chunkTokens,
                                    input: input.baseAddress!, routerLogits: logits.baseAddress!,
                                    chosen: chosen.baseAddress!)
                                receive(sample)
                            }
                        }
                    }
                }
            }
        }
    }
}

@Suite struct PredictorTests {
    private static let shape = Fixture.shape(
        layers: 4, experts: 6, expertsPerToken: 2, embedding: 5)

    private static func coefficient(_ layer: Int, _ expert: Int, _ index: Int) -> Float {
        Float((expert * 7 + index * 3 + layer * 5) % 11 - 5)
    }

    /// Router logits are a linear map, different in every layer, of numbers that all layers share.
    private static let linear = InventedRouting(model: shape) { layer, tokens, random in
        let input = (0..<(tokens * 5)).map { _ in random.float() }
        var logits: [Float] = []
        var chosen: [Int32] = []
        for token in 0..<tokens {
            let scores: [Float] = (0..<6).map { expert in
                var sum = Float(expert % 3) * 0.1
                for index in 0..<5 {
                    sum += coefficient(layer, expert, index) * input[token * 5 + index]
                }
                return sum
            }
            logits += scores
            var ranking: [Int32] = []
            ExpertRanking.top(2, of: scores, into: &ranking)
            chosen += ranking
        }
        return (input, logits, chosen)
    }

    @Test(arguments: [1, 2], [1, 1 << 20])
    func aLinearRuleIsLearnedWhateverTheMemory(ahead: Int, memory: Int) throws {
        var training = PredictorTraining()
        training.ahead = ahead
        training.memoryBytes = memory
        var source = PredictorTests.linear
        let result = try training.train(on: &source)
        #expect(result.trainingTokens == 320)
        #expect(result.fits.map(\.layer) == Array(0..<(4 - ahead)))
        #expect(result.learned.weights.count == (4 - ahead) * 6 * 5)
        // Routers that know nothing.
        let routers = [[Float]](repeating: [Float](repeating: 0, count: 30), count: 4)
        let tables = try PredictorTraining.recall(of: result, routers: routers, on: &source)
        #expect(tables.map(\.name) == ["next-gate", "learned", "path", "previous token"])
        let trials = UInt64(320 * (4 - ahead))
        #expect(tables.allSatisfy { $0.trials == trials })
        #expect(tables[1].recall(at: 2) > 0.98)
        #expect(tables[1].recall(at: 2) > tables[2].recall(at: 2))
        // Equal scores rank by index: experts 0 and 1 are all that next-gate can say here.
        #expect(tables[0].byRank.count == 4)
    }

    /// The same routers for every layer make next-gate as good as the linear rule is simple.
    @Test func nextGateAppliesTheLaterRouterToTheEarlierInput() throws {
        var source = PredictorTests.linear
        let result = try PredictorTraining().train(on: &source)
        let routers: [[Float]] = (0..<4).map { layer in
            (0..<30).map { PredictorTests.coefficient(layer, $0 / 5, $0 % 5) }
        }
        let tables = try PredictorTraining.recall(of: result, routers: routers, on: &source)
        // The bias alone is missing.
        #expect(tables[0].byRank[0] > 0.97)
    }

    @Test func learnedLogitsAreTheMapOfTheirLayer() {
        let predictor = LearnedPredictor(
            layers: 3, experts: 2, embedding: 3, ahead: 1,
            weights: [1, 2, 3, 4, 5, 6, -1, 0, 1, 0, 2, 0], bias: [0.5, 0, 0, 10])
        var logits: [Float] = [0, 0]
        let input: [Float] = [1, 10, 100]
        unsafe predictor.logits(layer: 0, input: input, into: &logits)
        #expect(logits == [321.5, 654])
        unsafe predictor.logits(layer: 1, input: input, into: &logits)
        #expect(logits == [99, 30])
    }

    @Test func tooLittleTextIsRefused() {
        var source = PredictorTests.linear
        source.sequenceCount = 4
        #expect(throws: ProfilingError.self) { try PredictorTraining().train(on: &source) }
        source.sequenceCount = 5
        #expect(throws: Never.self) { try PredictorTraining().train(on: &source) }
    }

    @Test func recallCountsRanksAndChosen() {
        var table = RecallTable(name: "x", ranks: 4, expertsPerToken: 2)
        func add(_ predicted: [Int32], _ chosen: [Int32]) {
            unsafe chosen.withUnsafeBufferPointer {
                unsafe table.add(predicted: predicted, chosen: $0)
            }
        }
        add([3, 1, 0, 2], [1, 3])
        add([3, 1, 0, 2], [0, 5])
        add([], [0, 5])
        let third = 1.0 / 3
        #expect(table.byRank == [third, third, third, 0])
        #expect(table.recall(at: 2) == third)
        #expect(table.recall(at: 4) == 0.5)
    }

    @Test func rankingIsDescendingWithTiesToTheLowerIndex() {
        var ranking: [Int32] = []
        ExpertRanking.top(3, of: [1, 3, 3, 2], into: &ranking)
        #expect(ranking == [1, 2, 3])
        ExpertRanking.top(3, of: [.nan, .nan, .nan], into: &ranking)
        #expect(Set(ranking).count == 3)
    }

    /// On a real router, which next-gate takes from the engine.
    @Test func routersOfAModelGiveItsOwnLogits() throws {
        let model = try Fixture.model("qwen3moe-q8_0")
        var engine = try Fixture.engine(model)
        let routers = (0..<model.layerCount).map { engine.routerWeights(layer: $0) }
        var worst: Float = 0
        var seen = 0
        engine.observe { sample in
            for token in 0..<sample.tokens {
                for expert in 0..<model.expertCount {
                    let product = unsafe routers[sample.layer].withUnsafeBufferPointer {
                        unsafe LinearMap.product(
                            $0.baseAddress! + expert * model.embeddingLength,
                            sample.input + token * model.embeddingLength, model.embeddingLength)
                    }
                    let logit = unsafe sample.routerLogits[token * model.expertCount + expert]
                    worst = max(worst, abs(product - logit))
                    seen += 1
                }
            }
        }
        try engine.prefill([1, 2, 3, 4, 5], from: 0)
        #expect(seen == 5 * model.layerCount * model.expertCount)
        #expect(worst < 1e-4)
    }
}
