import ExpertStreaming
import Glibc
import Testing

@testable import Inference
@testable import Profiling

@Suite struct QualityTests {
    private static let ids = (0..<40).map { Int32(($0 * 37 + $0 * $0) % 90) }

    @Test func divergenceOfTwoTokensWorkedOutByHand() {
        // Shares 1/2, 1/4, 1/4 and 1/4, 1/4, 1/2.
        let exact: [Float] = [log(2), 0, 0]
        let other: [Float] = [5, 5, 5 + log(2)]
        let token = unsafe exact.withUnsafeBufferPointer { exact in
            unsafe other.withUnsafeBufferPointer { other in
                unsafe TokenDivergence(exact: exact, logits: other, next: 1)
            }
        }
        #expect(abs(token.negativeLogLikelihood - log(4.0)) < 1e-6)
        #expect(abs(token.exactNegativeLogLikelihood - log(4.0)) < 1e-6)
        // 1/2 log 2 + 1/4 log 1 + 1/4 log 1/2
        #expect(abs(token.divergence - log(2.0) / 4) < 1e-6)
        #expect(!token.agrees)
        let same = unsafe exact.withUnsafeBufferPointer {
            unsafe TokenDivergence(exact: $0, logits: $0, next: 0)
        }
        #expect(same.divergence == 0 && same.agrees)
        let broken: [Float] = [.nan, 0, 0]
        let bad = unsafe exact.withUnsafeBufferPointer { exact in
            unsafe broken.withUnsafeBufferPointer { broken in
                unsafe TokenDivergence(exact: exact, logits: broken, next: 0)
            }
        }
        #expect(bad.divergence.isNaN)
    }

    /// Logits of transformers for the fixture's ids give its perplexity by the definition.
    @Test(arguments: ["qwen3moe-f32", "olmoe-f16", "llama-moe-f32", "qwen3moe-k-quants"])
    func perplexityIsThatOfTransformers(name: String) throws {
        let model = try Fixture.model(name)
        let ids = try Fixture.ids(name)
        let logits = try Fixture.logits(name)
        #expect(logits.count == ids.count * model.vocabularyCount)
        var sum = 0.0
        for token in 0..<(ids.count - 1) {
            let row = logits[(token * model.vocabularyCount)...].prefix(model.vocabularyCount)
            let total = row.reduce(0.0) { $0 + exp(Double($1)) }
            sum += log(total) - Double(row[row.startIndex + Int(ids[token + 1])])
        }
        let expected = exp(sum / Double(ids.count - 1))

        let measurement = QualityMeasurement(
            windows: [TextWindow(text: 0, ids: ids)], warmUp: 0)
        var engine = try Fixture.engine(model) { $0.arithmetic = .f32 }
        let exact = try measurement.exactLogits(engine: &engine, folder: "/tmp")
        #expect(exact.count == ids.count - 1)
        let figures = try measurement.figures(engine: &engine, exact: exact)
        #expect(figures.all.tokens == ids.count - 1)
        #expect(abs(figures.all.perplexity / expected - 1) < 1e-4)
        #expect(figures.all.perplexity == figures.all.exactPerplexity)
    }

    /// A small cache reads more and answers the same, bit for bit.
    @Test func exactStaysExactWhateverTheCache() throws {
        let model = try Fixture.model("qwen3moe-q8_0")
        let windows =
            TextWindow.split(QualityTests.ids, text: 0, length: 16)
            + TextWindow.split(QualityTests.ids.reversed(), text: 1, length: 11)
        let measurement = QualityMeasurement(windows: windows, warmUp: 10)
        var engine = try Fixture.engine(model) { $0.headRows = 3 }
        let exact = try measurement.exactLogits(engine: &engine, folder: "/tmp")
        var bytes: [Double] = []
        for multiple in [1.0, 100] {
            var engine = try Fixture.engine(model) { $0.cache = .multiple(multiple) }
            let figures = try measurement.figures(engine: &engine, exact: exact)
            #expect(figures.all.greatestDivergence == 0 && figures.all.agreement == 1)
            #expect(figures.all.tokens == exact.count && figures.steps == exact.count - 10)
            #expect(figures.statistics.tokens == UInt64(figures.steps))
            #expect(figures.texts.map(\.tokens) == [37, 36])
            bytes.append(figures.bytesReadPerToken)
        }
        #expect(bytes[0] > bytes[1])
    }

    /// Other arithmetic is an approximation, and is told from the exact one.
    @Test func anApproximationDiverges() throws {
        let model = try Fixture.model("qwen3moe-q8_0")
        let measurement = QualityMeasurement(
            windows: TextWindow.split(QualityTests.ids, length: 64), warmUp: 1000)
        #expect(measurement.warmUp == 19, "half of the steps")
        var engine = try Fixture.engine(model) { $0.arithmetic = .f32 }
        let exact = try measurement.exactLogits(engine: &engine, folder: "/tmp")
        var other = try Fixture.engine(model)
        let figures = try measurement.figures(engine: &other, exact: exact)
        #expect(figures.all.meanDivergence > 0 && figures.all.meanDivergence < 0.1)
        #expect(figures.all.greatestDivergence >= figures.all.meanDivergence)
        #expect(figures.all.perplexity != figures.all.exactPerplexity)
    }

    @Test func rowsComeBackAsTheyWere() throws {
        var kept = try ReferenceLogits(vocabularyCount: 3, folder: "/tmp")
        let rows: [[Float]] = [[1, 2, 3], [.infinity, -0.0, .leastNonzeroMagnitude], [7, 8, 9]]
        for row in rows { try unsafe row.withUnsafeBufferPointer { try unsafe kept.append($0) } }
        var row: [Float] = [0, 0, 0]
        for index in [2, 0, 1] {
            try kept.read(index, into: &row)
            #expect(row == rows[index])
        }
        #expect(throws: ProfilingError.self) {
            _ = try ReferenceLogits(vocabularyCount: 3, folder: "/nowhere/at/all")
        }
    }
}
