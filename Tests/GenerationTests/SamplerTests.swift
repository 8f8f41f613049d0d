import Glibc
import Testing

@testable import Generation

/// The chain as its definition reads: all tokens sorted, then cut, then drawn.
private struct SortingSampler {
    var settings: SamplerSettings
    var random: RandomSource
    var recent: [Int32] = []

    init(_ settings: SamplerSettings) {
        self.settings = settings
        random = RandomSource(seed: settings.seed)
    }

    mutating func draw(_ original: [Float]) -> Int32 {
        var logits = original.map { $0.isNaN ? -.infinity : $0 }
        let window = recent.suffix(settings.penaltyWindow)
        for id in Set(window) {
            let logit = logits[Int(id)]
            let repeated =
                logit > 0 ? logit / settings.repetitionPenalty : logit * settings.repetitionPenalty
            logits[Int(id)] =
                repeated - settings.presencePenalty
                - settings.frequencyPenalty * Float(window.count { $0 == id })
        }
        var kept = logits.indices.sorted {
            logits[$0] > logits[$1] || (logits[$0] == logits[$1] && $0 < $1)
        }
        let largest = logits[kept[0]]
        if settings.temperature == 0 { return Int32(kept[0]) }
        if settings.topK > 0 { kept = Array(kept.prefix(settings.topK)) }
        let masses = kept.map { exp(Double(logits[$0] - largest)) }
        let total = masses.reduce(0, +)
        var before = 0.0
        var count = 0
        while count < kept.count {
            let gap = Double(logits[kept[count]] - largest)
            if count > 0, settings.topP < 1 || settings.topK > 0,
                before >= Double(settings.topP) * total
            {
                break
            }
            if count > 0, settings.minP > 0, gap < log(Double(settings.minP)) { break }
            before += masses[count]
            count += 1
        }
        let shares = kept[..<count].map {
            exp(Double(logits[$0] - largest) / Double(settings.temperature))
        }
        var point = random.unit() * shares.reduce(0, +)
        for (id, share) in zip(kept, shares) {
            point -= share
            if point < 0 { return Int32(id) }
        }
        return Int32(kept[0])
    }
}

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

    /// Ways of filling a vocabulary: smooth, with many ties, in the order that is worst for a heap,
    /// and with what is no number.
    private static let fillings: [@Sendable (Int, inout Noise) -> Float] = [
        { _, random in random.normal() * 3 },
        { _, random in (random.normal() * 2).rounded() / 2 },
        { id, _ in Float(id) / 50 },
        { _, _ in 1.5 },
        { _, random in
            switch random.next() % 8 {
            case 0: .nan
            case 1: -.infinity
            default: random.normal()
            }
        },
        { id, random in id % 97 == 41 ? .infinity : random.normal() },
        { _, random in random.next() % 2 == 0 ? .nan : -.infinity },
    ]

    private struct Noise: RandomNumberGenerator {
        var source: RandomSource

        mutating func next() -> UInt64 { UInt64(source.unit() * 0x1p53) }

        mutating func normal() -> Float {
            Float((-2 * log(1 - source.unit())).squareRoot() * cos(2 * .pi * source.unit()))
        }
    }

    /// 256 and 4096 are where more candidates are ranked, 64 is a block.
    @Test(arguments: [1, 2, 63, 64, 65, 300, 5000])
    func everySettingDrawsWhatSortingAllWouldDraw(vocabularyCount: Int) {
        var chains: [SamplerSettings] = []
        for temperature: Float in [0, 0.3, 1.7] {
            for topK in [0, 1, 40, 1000] {
                for (topP, minP): (Float, Float) in [(1, 0), (0.9, 0), (1, 0.02), (0.999, 0.001)] {
                    chains.append(
                        settings {
                            $0.temperature = temperature
                            $0.topK = topK
                            $0.topP = topP
                            $0.minP = minP
                            $0.seed = UInt64(chains.count)
                        })
                    if chains.count % 3 == 0 {
                        chains[chains.count - 1].repetitionPenalty = 1.3
                        chains[chains.count - 1].frequencyPenalty = 0.5
                        chains[chains.count - 1].penaltyWindow = 5
                    }
                }
            }
        }
        for (chain, settings) in chains.enumerated() {
            var random = Noise(source: RandomSource(seed: UInt64(chain + 100)))
            var sampler = Sampler(settings: settings, vocabularyCount: vocabularyCount)
            var reference = SortingSampler(settings)
            for (number, filling) in Self.fillings.enumerated() {
                let logits = (0..<vocabularyCount).map { filling($0, &random) }
                let (found, expected) = (draw(&sampler, logits), reference.draw(logits))
                #expect(found == expected, "chain \(chain), filling \(number): \(settings)")
                sampler.accept(expected)
                reference.recent.append(expected)
            }
        }
    }

    @Test func settingsOutOfRangeAreNamed() {
        #expect(settings { _ in }.problem == nil)
        #expect(settings { $0.topP = 1.5 }.problem?.contains("top-p") == true)
        #expect(settings { $0.temperature = .nan }.problem?.contains("temperature") == true)
        #expect(settings { $0.topK = -1 }.problem?.contains("top-k") == true)
    }
}
