import Testing

@testable import Inference
@testable import Profiling

@Suite struct ExpertTallyTests {
    /// Two tokens, three experts, top-2, an embedding of 2; every figure worked out by hand.
    private static let layer = HandMadeLayer(
        ids: [4, 9],
        routerLogits: [2, -1, 0.5, 1, 3, -4],
        residual: [3, 4, 0, 1],
        chosen: [0, 2, 1, 0],
        gateWeights: [0.75, 0.25, 0.5, 0.5],
        // Rows are sorted by expert: expert 0 of both tokens, expert 1, expert 2.
        outputRow: [0, 3, 2, 1],
        expertOutput: [-4, 3, 0, 2, 6, -8, 1, 0])

    private static func tally() -> ExpertTally {
        let shape = Fixture.shape(layers: 2, experts: 3, expertsPerToken: 2, embedding: 2)
        var tally = ExpertTally(shape)
        layer.observe { tally.add($0) }
        return tally
    }

    @Test func countsGatesAndLogitsAreThoseOfTheChosen() {
        let tally = ExpertTallyTests.tally()
        #expect(tally.tokens == 2)
        #expect(tally.activations == [2, 1, 1, 0, 0, 0])
        #expect(tally.gateMass == [1.25, 0.5, 0.25, 0, 0, 0])
        // Expert 0: 2 for the first token, 1 for the second.
        #expect(tally.chosenLogits == [3, 3, 0.5, 0, 0, 0])
        #expect(tally.largestOutputs == [4, 8, 1, 0, 0, 0])
    }

    @Test func saliencyIsGateTimesNormTimesTheTurnOfTheResidual() {
        let tally = ExpertTallyTests.tally()
        // Token 0: y = 0.75 (-4, 3) + 0.25 (1, 0) = (-2.75, 2.25); h + y = (0.25, 6.25);
        // cos((3, 4), (0.25, 6.25)) = 25.75 / (5 * sqrt(39.125)).
        let first = 1 - 25.75 / (5 * 39.125.squareRoot())
        // Token 1: y = 0.5 (6, -8) + 0.5 (0, 2) = (3, -3); h + y = (3, -2);
        // cos((0, 1), (3, -2)) = -2 / sqrt(13).
        let second = 1 + 2 / 13.0.squareRoot()
        let expected = [
            0.75 * 5 * first + 0.5 * 2 * second, 0.5 * 10 * second, 0.25 * 1 * first, 0, 0, 0,
        ]
        for (found, wanted) in zip(tally.saliency, expected) {
            #expect(abs(found - wanted) < 1e-12)
        }
    }

    @Test func aPatternDividesLogitsByAllTokensAndKeepsTheRest() throws {
        let pattern = try TaskPattern(name: "hand", tally: ExpertTallyTests.tally())
        #expect(pattern.tcess == [[1.5, 1.5, 0.25], [0, 0, 0]])
        #expect(pattern.activations == [[2, 1, 1], [0, 0, 0]])
        #expect(pattern.gateMass[0] == [1.25, 0.5, 0.25])
        #expect(pattern.largestOutputs[0] == [4, 8, 1])
    }

    @Test func infiniteOutputsAreNamedWithTheirExpert() {
        for bad in [Float.nan, .infinity] {
            var layer = ExpertTallyTests.layer
            layer.expertOutput[5] = bad
            var tally = ExpertTally(
                Fixture.shape(layers: 2, experts: 3, expertsPerToken: 2, embedding: 2))
            layer.observe { tally.add($0) }
            let error = #expect(throws: ProfilingError.self) {
                try TaskPattern(name: "bad", tally: tally)
            }
            #expect(error?.description.contains("layer 0, expert") == true)
        }
    }

    @Test func nothingProfiledIsRefused() {
        let shape = Fixture.shape(layers: 1, experts: 1, expertsPerToken: 1, embedding: 1)
        #expect(throws: ProfilingError.self) {
            try TaskPattern(name: "empty", tally: ExpertTally(shape))
        }
    }

    /// Whatever the chunk, every token chooses k experts per layer, and normalised gates sum to 1.
    @Test(arguments: ["qwen3moe-f32", "llama-moe-f32"], [1, 5, 64])
    func onAModelEveryTokenCountsOnce(name: String, chunk: Int) throws {
        let model = try Fixture.model(name)
        var engine = try Fixture.engine(model) { $0.chunk = chunk }
        let ids = (0..<21).map { Int32($0 * 7 % model.vocabularyCount) }
        let windows = TextWindow.split(ids, length: 16)
        let tally = try ExpertTally.over(windows, engine: &engine)
        #expect(tally.tokens == 21)
        for layer in 0..<model.layerCount {
            let range = (layer * model.expertCount)..<((layer + 1) * model.expertCount)
            #expect(tally.activations[range].reduce(0, +) == UInt64(21 * model.expertsPerToken))
            #expect(abs(tally.gateMass[range].reduce(0, +) - 21) < 1e-4)
        }
        var whole = try Fixture.engine(model)
        let other = try ExpertTally.over(windows, engine: &whole)
        #expect(other.saliency == tally.saliency && other.largestOutputs == tally.largestOutputs)
    }
}
