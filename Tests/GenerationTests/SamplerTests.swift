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

    mutating func draw(_ original: [Float], allowed: (Int) -> Bool = { _ in true }) -> Int32 {
        var logits = original.map { $0.isNaN ? -.infinity : $0 }
        for (id, bias) in settings.logitBias { logits[Int(id)] += bias }
        let window = recent.suffix(settings.penaltyWindow)
        for id in Set(window) {
            let logit = logits[Int(id)]
            let repeated =
                logit > 0 ? logit / settings.repetitionPenalty : logit * settings.repetitionPenalty
            logits[Int(id)] =
                repeated - settings.presencePenalty
                - settings.frequencyPenalty * Float(window.count { $0 == id })
        }
        for id in logits.indices where !allowed(id) { logits[id] = -.infinity }
        var kept = logits.indices.sorted {
            logits[$0] > logits[$1] || (logits[$0] == logits[$1] && $0 < $1)
        }
        if settings.temperature == 0 { return Int32(kept[0]) }
        if settings.topK > 0 { kept = Array(kept.prefix(settings.topK)) }
        if settings.typicalP < 1, logits[kept[0]].isFinite { keepTypical(&kept, logits) }
        let largest = logits[kept[0]]
        let masses = kept.map { exp(Double(logits[$0] - largest)) }
        let total = masses.reduce(0, +)
        var before = 0.0
        var count = 0
        while count < kept.count {
            let gap = Double(logits[kept[count]] - largest)
            if count > 0, settings.topP < 1 || settings.topK > 0 || settings.typicalP < 1,
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

    /// Algorithm of arXiv 2202.00666, section 3: candidates by |entropy - surprise|, until their
    /// mass exceeds p. `kept` stays in its order.
    private func keepTypical(_ kept: inout [Int], _ logits: [Float]) {
        let total = kept.reduce(0) { $0 + exp(Double(logits[$1] - logits[kept[0]])) }
        let surprise = Dictionary(
            uniqueKeysWithValues: kept.map {
                ($0, log(total) - Double(logits[$0] - logits[kept[0]]))
            })
        let entropy = kept.reduce(0) { sum, id in
            surprise[id]!.isFinite ? sum + exp(-surprise[id]!) * surprise[id]! : sum
        }
        func distance(_ id: Int) -> Double { abs(surprise[id]! - entropy) }
        // A stable sort: equals stay in order of likelihood.
        let ranked = kept.enumerated().sorted {
            (distance($0.element), $0.offset) < (distance($1.element), $1.offset)
        }
        var mass = 0.0
        var typical: Set<Int> = []
        for (_, id) in ranked where mass <= Double(settings.typicalP) {
            mass += exp(-surprise[id]!)
            typical.insert(id)
        }
        kept.removeAll { !typical.contains($0) }
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

    private func draw(
        _ sampler: inout Sampler, _ logits: [Float], mask: [UInt64] = []
    ) -> Int32 {
        unsafe logits.withUnsafeBufferPointer { unsafe sampler.draw($0, mask: mask) }
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

    /// Chains with typical-p, biases and masks, against the same reference.
    @Test(arguments: [1, 2, 64, 65, 300, 1000])
    func typicalBiasedAndMaskedDrawsAreWhatSortingAllWouldDraw(vocabularyCount: Int) {
        var chain = 0
        for temperature: Float in [0, 0.2, 1.3] {
            for topK in [0, 1, 40] {
                for (typicalP, topP, minP): (Float, Float, Float) in [
                    (0.9, 1, 0), (0.3, 0.9, 0.01), (0, 1, 0), (0.7, 1, 0.1), (1, 0.95, 0),
                ] {
                    chain += 1
                    let made = settings {
                        $0.temperature = temperature
                        $0.topK = topK
                        $0.typicalP = typicalP
                        $0.topP = topP
                        $0.minP = minP
                        $0.seed = UInt64(chain)
                        if chain % 3 == 0 {
                            $0.logitBias[0] = 4
                            $0.logitBias[Int32(vocabularyCount - 1)] = -100
                            $0.logitBias[Int32(vocabularyCount / 2)] = 2.5
                        }
                        if chain % 4 == 0 { $0.presencePenalty = 1.5 }
                    }
                    compare(made, vocabularyCount, chain)
                }
            }
        }
    }

    private func compare(_ settings: SamplerSettings, _ vocabularyCount: Int, _ chain: Int) {
        var random = Noise(source: RandomSource(seed: UInt64(chain + 500)))
        var sampler = Sampler(
            settings: settings, vocabularyCount: vocabularyCount, isMasked: true)
        var reference = SortingSampler(settings)
        for (number, filling) in Self.fillings.enumerated() {
            let logits = (0..<vocabularyCount).map { filling($0, &random) }
            // All, a random half, or a single one.
            let single = Int(random.next() % UInt64(vocabularyCount))
            let halves = (0..<vocabularyCount).map { _ in random.next() % 2 == 0 }
            let allows = { (id: Int) in
                switch number % 3 {
                case 0: true
                case 1: halves[id] || id == single
                default: id == single
                }
            }
            var mask = [UInt64](repeating: 0, count: (vocabularyCount + 63) / 64)
            for id in 0..<vocabularyCount where allows(id) { mask[id / 64] |= 1 << (id % 64) }
            let found = draw(&sampler, logits, mask: number % 3 == 0 && chain % 2 == 0 ? [] : mask)
            let expected = reference.draw(logits, allowed: allows)
            #expect(found == expected, "chain \(chain), filling \(number): \(settings)")
            sampler.accept(expected)
            reference.recent.append(expected)
        }
    }

    @Test func typicalSamplingLeavesOutTheTooObvious() {
        // One likely token and many alike: the surprise of the many is the average one's.
        let probabilities = [0.3] + Array(repeating: 0.7 / 40, count: 40)
        let seen = histogram(settings { $0.typicalP = 0.6 }, logarithms(probabilities), count: 2000)
        #expect(seen[0] == 0)
        // 0.6 / 0.0175 is 34.3, so 35 of them.
        #expect(seen.count { $0 > 0 } == 35)
    }

    @Test func settingsOutOfRangeAreNamed() {
        #expect(settings { _ in }.problem == nil)
        #expect(settings { $0.typicalP = -0.1 }.problem?.contains("typical-p") == true)
        #expect(settings { $0.logitBias = [7: 101] }.problem?.contains("token 7") == true)
        #expect(settings { $0.topP = 1.5 }.problem?.contains("top-p") == true)
        #expect(settings { $0.temperature = .nan }.problem?.contains("temperature") == true)
        #expect(settings { $0.topK = -1 }.problem?.contains("top-k") == true)
    }
}
