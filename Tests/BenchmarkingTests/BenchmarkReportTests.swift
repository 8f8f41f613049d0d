import Benchmarking
import Testing

@Suite struct BenchmarkReportTests {
    @Test func aPercentileIsAValueThatWasMeasured() {
        var runs = [BenchmarkRun(engine: "a", decodeTokensPerSecond: 1, tokenSeconds: [3, 1])]
        runs.append(BenchmarkRun(engine: "a", decodeTokensPerSecond: 4, tokenSeconds: [2, 4]))
        let row = BenchmarkReport.Row(point: Self.point, command: "x", runs: runs)
        #expect(row.tokenSeconds(percentile: 0.5) == 2)
        #expect(row.tokenSeconds(percentile: 0.51) == 3)
        #expect(row.tokenSeconds(percentile: 0.99) == 4)
        #expect(row.tokenSeconds(percentile: 0) == 1)
        #expect(row.decode == Spread([4, 1]) && row.decode.median == 2.5)
        #expect(row.spread(\.hitRate) == nil)
    }

    static let point = BenchmarkPoint(
        engine: .sluice, model: "m.gguf", setting: "cache=2x", threads: 2, promptTokens: 0,
        warmUpTokens: 1, tokens: 2)
}
