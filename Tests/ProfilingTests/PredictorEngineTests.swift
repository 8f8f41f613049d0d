import ExpertStreaming
import Glibc
import Testing

@testable import Inference
@testable import Profiling

/// A text decoded token by token, so that the engine's guesses and the samples are of the same run.
private struct DecodedText: ~Copyable, RoutingSource {
    var engine: Engine
    let windows: [[Int32]]
    let model: ModelFingerprint

    init(engine: consuming Engine, windows: [[Int32]]) {
        model = ModelFingerprint(engine.model)
        self.engine = engine
        self.windows = windows
    }

    var sequenceCount: Int { windows.count }

    mutating func forEachSample(_ receive: @escaping (RoutingSample) -> Void) throws {
        defer { engine.observe(nil) }
        for (sequence, window) in windows.enumerated() {
            engine.observe { layer in
                let sample = unsafe RoutingSample(
                    layer: layer.layer, sequence: sequence, position: layer.position,
                    tokens: layer.tokens, input: layer.input, routerLogits: layer.routerLogits,
                    chosen: layer.chosen)
                receive(sample)
            }
            for (position, id) in window.enumerated() { try engine.decode(id, at: position) }
        }
    }
}

/// What a predictor is worth in the engine is what its training says it is.
@Suite struct PredictorEngineTests {
    private static let trained: (result: PredictorTraining.Result, windows: [[Int32]])? = {
        guard let model = try? Fixture.model("qwen3moe-q8_0") else { return nil }
        var random = Random(state: 11)
        let windows = (0..<24).map { _ in (0..<24).map { _ in Int32(random.below(256)) } }
        guard
            let engine = try? Fixture.engine(model, { $0.arithmetic = .f32 })
        else { return nil }
        var source = DecodedText(engine: engine, windows: windows)
        guard var result = try? PredictorTraining().train(on: &source) else { return nil }
        // The engine keeps the maps in half precision.
        let learned = result.learned
        result = PredictorTraining.Result(
            learned: LearnedPredictor(
                layers: learned.layers, experts: learned.experts, embedding: learned.embedding,
                ahead: 1, weights: learned.weights.map { Float(Float16($0)) }, bias: learned.bias),
            path: result.path, fits: result.fits, trainingTokens: result.trainingTokens)
        return (result, windows.suffix(8).map { $0 })
    }()

    private func compare(_ predictor: Predictor, table: Int) throws {
        let (result, windows) = try #require(PredictorEngineTests.trained)
        let model = try Fixture.model("qwen3moe-q8_0")
        let engine = try Fixture.engine(model) {
            $0.arithmetic = .f32
            $0.predictor = predictor
        }
        let routers = (0..<model.layerCount).map { engine.routerWeights(layer: $0) }
        var source = DecodedText(engine: engine, windows: windows)
        let expected = try PredictorTraining.recall(of: result, routers: routers, on: &source)[
            table]
        let found = source.engine.statistics.prediction
        #expect(found.guesses == [expected.trials])
        #expect(expected.trials > 300)
        #expect(found.ranks == model.expertsPerToken)
        for rank in 0..<found.ranks {
            // Sums in another order may turn over a tie, no more.
            let difference = Int(found.right[rank]) - Int(expected.right[rank])
            #expect(abs(difference) <= 2, "rank \(rank)")
            #expect(expected.right[rank] < expected.trials)
        }
    }

    @Test func nextGateRecallsWhatItsMeasurementSays() throws {
        try compare(.nextGate(layers: 1), table: 0)
    }

    @Test func learnedMapsRecallWhatTheirTrainingSays() throws {
        let (result, _) = try #require(PredictorEngineTests.trained)
        try compare(PredictorFile.learned(result.learned).predictor(), table: 1)
    }

    @Test func pathsRecallWhatTheirTrainingSays() throws {
        let (result, _) = try #require(PredictorEngineTests.trained)
        #expect(result.path.pairs.count > 20)
        try compare(PredictorFile.path(result.path).predictor(), table: 2)
    }

    @Test func mapsThatLookFurtherThanTheEngineAreRefused() throws {
        let maps = LearnedPredictor(
            layers: 3, experts: 1, embedding: 1, ahead: 2, weights: [1], bias: [0])
        #expect(throws: ProfilingError.self) { try PredictorFile.learned(maps).predictor() }
    }

    /// A recording gives the predictors that its text gives, and takes the pieces it is told to.
    @Test func recordingsTrainAsTheirTextsDo() throws {
        let model = try Fixture.model("qwen3moe-q8_0")
        var random = Random(state: 3)
        let windows = (0..<12).map { _ in (0..<10).map { _ in Int32(random.below(256)) } }
        let path = "/tmp/sluice-trace-\(getpid())"
        defer { _ = unsafe unlink(path) }
        let routers = try record(windows, of: model, at: path)

        let engine = try Fixture.engine(model) { $0.arithmetic = .f32 }
        var text = DecodedText(engine: engine, windows: windows)
        var trace = try TraceRouting(
            path: path, model: model, routers: routers, pieceTokens: 16, takes: { _ in true })
        #expect(trace.model == text.model)
        #expect(trace.sequenceCount == 12 && trace.tokenCount == 120)
        let (expected, found) = (
            try PredictorTraining().train(on: &text), try PredictorTraining().train(on: &trace)
        )
        #expect(found.path == expected.path)
        #expect(found.trainingTokens == 120)
        let difference = zip(found.learned.weights, expected.learned.weights)
            .map { ($0 - $1).magnitude }.max()!
        let largest = expected.learned.weights.map(\.magnitude).max()!
        #expect(difference < 1e-2 * largest)

        // Sequences of 10 in pieces of 4, 4 and 2; every third is taken.
        let pieces = try TraceRouting(
            path: path, model: model, routers: routers, pieceTokens: 4, takes: { $0 % 3 == 2 })
        #expect(pieces.sequenceCount == 12 && pieces.tokenCount == 24)
        var seen: [[Int]] = []
        let note = { (sample: RoutingSample) in
            if sample.layer == 0 { seen.append([sample.sequence, sample.position]) }
        }
        try pieces.forEachSample(note)
        #expect(seen == (0..<12).flatMap { [[$0, 0], [$0, 1]] })
    }

    @Test func recordingsOfOthersAndWithoutInputsAreRefused() throws {
        let model = try Fixture.model("qwen3moe-q8_0")
        let path = "/tmp/sluice-trace-refused-\(getpid())"
        defer { _ = unsafe unlink(path) }
        for (layers, inputs, word) in [
            (2, 64, "2 layers"), (3, 0, "--inputs"), (3, 8, "8 elements"),
        ] {
            var header = TraceHeader(
                shape: TraceShape(layerCount: layers, expertsPerLayer: 8, expertsPerToken: 2),
                hasGateWeights: true)
            header.inputLength = inputs
            try TraceWriter(path: path, header: header).close()
            let error = #expect(throws: ProfilingError.self) {
                try TraceRouting(
                    path: path, model: model, routers: [], pieceTokens: 4, takes: { _ in true })
            }
            #expect(error?.description.contains(word) == true)
        }
    }

    /// Records windows as `sluice trace --inputs` would, but each as a sequence.
    private func record(
        _ windows: [[Int32]], of model: ModelDescription, at path: String
    ) throws -> [[Float]] {
        var engine = try Fixture.engine(model) { $0.arithmetic = .f32 }
        var header = TraceHeader(
            shape: TraceShape(
                layerCount: model.layerCount, expertsPerLayer: model.expertCount,
                expertsPerToken: model.expertsPerToken), hasGateWeights: true)
        header.inputLength = model.embeddingLength
        header.inputFormat = .float32
        var writer = try TraceWriter(path: path, header: header)
        let (k, length) = (model.expertsPerToken, model.embeddingLength)
        for (sequence, window) in windows.enumerated() {
            for (position, id) in window.enumerated() {
                var record = TraceRecord(
                    header: header, sequence: UInt32(sequence), phase: .decode, tokenID: id)
                engine.observe { layer in
                    for rank in 0..<k {
                        record.experts[layer.layer * k + rank] = unsafe UInt16(layer.chosen[rank])
                        record.gateWeights[layer.layer * k + rank] =
                            unsafe layer.gateWeights[rank]
                    }
                    for element in 0..<length {
                        record.inputs[layer.layer * length + element] =
                            unsafe layer.input[element]
                    }
                }
                try engine.decode(id, at: position)
                try writer.append(record)
            }
        }
        try writer.close()
        return (0..<model.layerCount).map { engine.routerWeights(layer: $0) }
    }
}
