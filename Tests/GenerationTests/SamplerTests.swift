import Glibc
import Testing

@testable import Generation

@Suite struct SamplerTests {
    private func settings(_ change: (inout SamplerSettings) -> Void) -> SamplerSettings {
        var settings = SamplerSettings()
        settings.temperature = 1
        settings.topK = 0
        settings.topP = 1
        settings.minP = 0
        change(&settings)
        return settings
    }

    private func draw(_ sampler: inout Sampler, _ logits: [Float]) -> Int32 {
        unsafe logits.withUnsafeBufferPointer { unsafe sampler.draw($0) }
    }

    /// How often each token came up in `count` draws.
    private func histogram(
        _ settings: SamplerSettings, _ logits: [Float], count: Int = 20_000
    ) -> [Double] {
        var sampler = Sampler(settings: settings, vocabularyCount: logits.count)
        var counts = [Double](repeating: 0, count: logits.count)
        for _ in 0..<count { counts[Int(draw(&sampler, logits))] += 1 / Double(count) }
        return counts
    }

    private func logarithms(_ probabilities: [Double]) -> [Float] {
        probabilities.map { Float(log($0)) }
    }

    @Test func temperatureZeroTakesTheLikeliestAndTiesGoToTheLowerId() {
        var sampler = Sampler(settings: settings { $0.temperature = 0 }, vocabularyCount: 4)
        #expect(draw(&sampler, [1, 3, 3, 2]) == 1)
        #expect(draw(&sampler, [-.infinity, .nan, -5, -6]) == 2)
    }

    @Test func notANumberNeverWinsAndAllOfThemStillGiveAToken() {
        var sampler = Sampler(settings: settings { _ in }, vocabularyCount: 3)
        for _ in 0..<100 { #expect(draw(&sampler, [.nan, 0, .nan]) == 1) }
        let id = draw(&sampler, [.nan, .nan, .nan])
        #expect((0..<3).contains(id))
    }

    @Test func plainDrawsFollowTheDistribution() {
        let probabilities = [0.5, 0.25, 0.15, 0.1]
        let seen = histogram(settings { _ in }, logarithms(probabilities))
        for (expected, found) in zip(probabilities, seen) {
            #expect(abs(expected - found) < 0.015, "\(seen)")
        }
    }

    @Test func temperatureSharpens() {
        // At temperature 1/2 probabilities are squared: 0.64 to 0.16 becomes 16 to 1.
        let seen = histogram(settings { $0.temperature = 0.5 }, logarithms([0.8, 0.2]))
        #expect(abs(seen[0] - 16.0 / 17) < 0.01, "\(seen)")
    }

    @Test func topKKeepsTheKLikeliestOnly() {
        let seen = histogram(settings { $0.topK = 2 }, logarithms([0.1, 0.4, 0.2, 0.3]))
        #expect(seen[0] == 0 && seen[2] == 0)
        #expect(abs(seen[1] - 4.0 / 7) < 0.015, "\(seen)")
    }

    @Test(arguments: [0, 3])
    func topPKeepsTheSmallestSetThatReachesIt(topK: Int) {
        let seen = histogram(
            settings {
                $0.topP = 0.65
                $0.topK = topK
            }, logarithms([0.1, 0.4, 0.2, 0.3]))
        #expect(seen[0] == 0 && seen[2] == 0 && seen[1] > 0 && seen[3] > 0, "\(seen)")
    }

    @Test(arguments: [0, 4])
    func minPDropsWhatIsFarBelowTheLikeliest(topK: Int) {
        let seen = histogram(
            settings {
                $0.minP = 0.6
                $0.topK = topK
            }, logarithms([0.1, 0.4, 0.2, 0.3]))
        #expect(seen[0] == 0 && seen[2] == 0 && seen[1] > 0 && seen[3] > 0, "\(seen)")
    }

    @Test func topPZeroStillKeepsOne() {
        let seen = histogram(settings { $0.topP = 0 }, logarithms([0.1, 0.4, 0.2, 0.3]), count: 50)
        #expect(abs(seen[1] - 1) < 1e-9)
    }

    @Test func theSameSeedDrawsTheSameAndAnotherSeedDoesNot() {
        func run(_ seed: UInt64) -> [Int32] {
            var sampler = Sampler(settings: settings { $0.seed = seed }, vocabularyCount: 50)
            return (0..<64).map { step in
                draw(&sampler, (0..<50).map { Float(($0 * 7 + step) % 13) / 5 })
            }
        }
        #expect(run(1) == run(1))
        #expect(run(1) != run(2))
    }

    @Test func penaltiesChangeExactlyWhatTheyName() {
        // Token 0 seen twice, token 1 once, token 2 never; greedy shows who is ahead.
        func winner(_ logits: [Float], _ change: @escaping (inout SamplerSettings) -> Void) -> Int32
        {
            var sampler = Sampler(
                settings: settings {
                    $0.temperature = 0
                    change(&$0)
                }, vocabularyCount: 3)
            for id: Int32 in [0, 1, 0] { sampler.accept(id) }
            return draw(&sampler, logits)
        }
        #expect(winner([4, 3, 2.1], { _ in }) == 0)
        // Positive logits are divided, negative ones multiplied.
        #expect(winner([4, 3, 2.1], { $0.repetitionPenalty = 2 }) == 2)
        #expect(winner([-1, -1.5, -1.9], { $0.repetitionPenalty = 2 }) == 2)
        // Presence is paid once, frequency by count.
        #expect(winner([4, 3.6, 3.1], { $0.presencePenalty = 1 }) == 2)
        #expect(winner([4, 3.6, 2.5], { $0.frequencyPenalty = 1 }) == 1)
    }

    @Test func penaltiesForgetWhatLeftTheWindow() {
        var sampler = Sampler(
            settings: settings {
                $0.temperature = 0
                $0.presencePenalty = 5
                $0.penaltyWindow = 2
            }, vocabularyCount: 3)
        sampler.accept(0)
        #expect(draw(&sampler, [3, 2, 1]) == 1)
        sampler.accept(1)
        sampler.accept(2)
        #expect(draw(&sampler, [3, 2, 1]) == 0)
    }

    @Test func settingsOutOfRangeAreNamed() {
        #expect(settings { _ in }.problem == nil)
        #expect(settings { $0.topP = 1.5 }.problem?.contains("top-p") == true)
        #expect(settings { $0.temperature = .nan }.problem?.contains("temperature") == true)
        #expect(settings { $0.topK = -1 }.problem?.contains("top-k") == true)
    }
}
