import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Inference

@Suite struct StatisticsTests {
    @Test func figuresPerTokenAreAveragesOverTheSpan() {
        var earlier = EngineStatistics()
        earlier.tokens = 3
        earlier.attentionNanoseconds = 100
        earlier.experts[2] = 7
        earlier.streaming.bytesRead = 1000
        var later = earlier
        later.tokens += 4
        later.attentionNanoseconds += 1_000_000_000
        later.routerNanoseconds += 500_000_000
        later.expertNanoseconds += 6_000_000_000
        later.headNanoseconds += 500_000_000
        later.streaming.stallNanoseconds += 2_000_000_000
        later.streaming.bytesRead += 4096
        later.streaming.hits += 6
        later.streaming.misses += 2
        later.experts[1] += 4
        later.experts[2] += 8
        let span = later - earlier
        #expect(span.computeNanoseconds == 6_000_000_000)
        #expect(span.experts.total == 12)
        let token = span.perToken
        #expect(token.demandBytes == 1024)
        #expect(token.stallSeconds == 0.5)
        #expect(token.computeSeconds == 1.5)
        #expect(token.hitRate == 0.75)
        #expect(token.expertsByPlanes == [1, 2, 0, 0])
    }

    /// Reads outside of a token, as preloading makes, may stall longer than anything was computed.
    @Test func timeComputingIsNeverNegative() {
        var statistics = EngineStatistics()
        statistics.expertNanoseconds = 10
        statistics.streaming.stallNanoseconds = 11
        #expect(statistics.computeNanoseconds == 0)
        #expect(EngineStatistics().perToken.computeSeconds == 0)
    }

    @Test(arguments: Fixture.names)
    func everyExpertComputedIsCountedAtItsPlanes(name: String) throws {
        let model = try Fixture.model(name)
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.threads = 1
        let plan = try MemoryPlan(model: model, options: options)
        var engine = try Engine(model: model, options: options, plan: plan)
        try engine.prefill(Array(Fixture.ids(name)[..<9]), from: 0)
        let before = engine.statistics
        for position in 9..<14 { try engine.decode(4, at: position) }
        let span = engine.statistics - before
        #expect(span.tokens == 5)
        #expect(span.experts[1] == UInt64(5 * model.layerCount * model.expertsPerToken))
        #expect(span.experts.total == span.streaming.hits + span.streaming.misses)
    }
}
