import CAllocationCounter
import Glibc
import Testing

@testable import ExpertStreaming

/// What the formulas of the policies say, worked out by hand or in the plainest way.
@Suite struct EvictionRankingTests {

    private static func ranking(
        _ policy: EvictionPolicy, layers: Int = 1, experts: Int = 8, slots: Int? = nil
    ) -> EvictionRanking {
        EvictionRanking(
            policy: policy, layerCount: layers, expertsPerLayer: experts, expertsPerToken: 2,
            slotCount: slots)
    }

    /// Experts 0 ..< count, first to leave first.
    private static func order(
        _ ranking: borrowing EvictionRanking, count: Int, layer: Int = 0
    ) -> [Int] {
        var worth: [(Double, Int)] = []
        for expert in 0..<count {
            worth.append((ranking.retention(expertIndex: expert, layer: layer), expert))
        }
        return worth.sorted { $0 < $1 }.map(\.1)
    }

    private static func close(_ left: Double, _ right: Double) -> Bool {
        abs(left - right) < 1e-9
    }

    /// Uses experts, one token for each list.
    private static func use(_ tokens: [[Int]], _ ranking: inout EvictionRanking) {
        for experts in tokens {
            ranking.beginToken()
            for expert in experts { ranking.used(expertIndex: expert, fully: true) }
        }
    }

    @Test func lruRanksByTheLastUse() {
        var ranking = Self.ranking(.lru)
        Self.use([[0, 1], [2, 3], [1, 0]], &ranking)
        #expect(Self.order(ranking, count: 4) == [2, 3, 1, 0])
    }

    @Test func slruKeepsWhatWasUsedAgainUntilItsSegmentOverflows() {
        var ranking = Self.ranking(.slru(protectedShare: 0.5), slots: 4)
        Self.use([[0], [1], [0], [1], [2], [3]], &ranking)
        // 0 and 1 are protected, though 2 and 3 came later.
        #expect(Self.order(ranking, count: 4) == [2, 3, 0, 1])
        // 2 takes the place of 0, which is as good as just used, but not protected.
        Self.use([[2]], &ranking)
        #expect(Self.order(ranking, count: 4) == [3, 0, 1, 2])
        // What left and comes back starts unprotected.
        ranking.evicted(expertIndex: 1)
        Self.use([[1], [3]], &ranking)
        #expect(Self.order(ranking, count: 4) == [0, 1, 2, 3])
    }

    @Test func slruWithoutAProtectedSegmentIsLRU() {
        var ranking = Self.ranking(.slru(protectedShare: 0), slots: 4)
        Self.use([[0], [0], [1], [2], [1]], &ranking)
        #expect(Self.order(ranking, count: 3) == [0, 2, 1])
    }

    @Test func countsOfLFUOutliveEvictionAndSequencesAndTiesGoToTheLaterUse() {
        var ranking = Self.ranking(.lfu(halfLife: nil))
        Self.use([[0], [0], [0], [1], [1], [2], [2], [3]], &ranking)
        ranking.evicted(expertIndex: 0)
        ranking.beginSequence()
        #expect(Self.order(ranking, count: 4) == [3, 1, 2, 0])
        Self.use([[3]], &ranking)
        #expect(Self.order(ranking, count: 4) == [1, 2, 3, 0])
    }

    @Test func aDecayingCountIsTheSumOfItsHalvedUses() {
        // More than 400 half-lives, so that counts are brought back to size in between.
        let halfLife = 2.5
        var ranking = Self.ranking(.lfu(halfLife: halfLife), experts: 6)
        var uses = [[Int]](repeating: [], count: 6)
        var generator = SplitMix(seed: 3)
        for token in 1...1_500 {
            ranking.beginToken()
            for expert in Set((0..<2).map { _ in Int.random(in: 0..<6, using: &generator) }) {
                ranking.used(expertIndex: expert, fully: true)
                uses[expert].append(token)
            }
            for expert in 0..<6 {
                let expected = uses[expert].reduce(0) {
                    $0 + pow(0.5, Double(token - $1) / halfLife)
                }
                let retention = ranking.retention(expertIndex: expert, layer: 0)
                #expect(abs(retention - expected) < 1e-6, "expert \(expert) at token \(token)")
            }
        }
    }

    @Test func lfruDividesUsesByTheTokensSinceTheLast() {
        var ranking = Self.ranking(.lfru)
        Self.use([[0], [0], [0], [0, 1], [], [1], []], &ranking)
        // 0: 4 uses, the last 3 tokens ago: 4 / 4. 1: 2 uses, the last a token ago: 2 / 2, later.
        #expect(Self.close(ranking.retention(expertIndex: 0, layer: 0), 1))
        #expect(Self.close(ranking.retention(expertIndex: 1, layer: 0), 1))
        #expect(Self.order(ranking, count: 3) == [2, 0, 1])
    }

    @Test func hobbitAddsItsFourTerms() throws {
        let weights = try #require(
            HobbitWeights(recency: 0.4, frequency: 0.3, fullWidth: 0.2, layerDistance: 0.1))
        var ranking = Self.ranking(.hobbit(weights), layers: 4)
        // Expert 1 of layer 1, whose index is 9: used at tokens 1, 2 and 4 of 5, twice fully.
        for token in 1...5 {
            ranking.beginToken()
            if token != 3, token != 5 { ranking.used(expertIndex: 9, fully: token != 2) }
        }
        // Recency 4/5, frequency 3/5, full width 2/5; from layer 2, layer 1 is 3 of 4 ahead.
        let used: Double = 0.32 + 0.18 + 0.08
        #expect(Self.close(ranking.retention(expertIndex: 9, layer: 2), used + 0.025))
        #expect(Self.close(ranking.retention(expertIndex: 9, layer: 1), used + 0.1))
        // A new sequence: only the distance is left.
        ranking.beginSequence()
        #expect(Self.close(ranking.retention(expertIndex: 9, layer: 0), 0.075))
    }

    @Test func edgemoeEvictsTheRarelyUsedAndTheFarAhead() {
        var ranking = Self.ranking(.edgemoe, layers: 4, experts: 1)
        Self.use([[0, 1, 2, 3], [0, 1, 3], [3], [3]], &ranking)
        // At layer 1: layers 1, 2, 3, 0 come in 0, 1, 2, 3.
        let worth = (0..<4).map { expert in ranking.retention(expertIndex: expert, layer: 1) }
        let expected: [Double] = [2 / 4, 2 / 1, 1 / 2, 4 / 3]
        #expect(worth == expected)
    }

    @Test func segmentChoosesItsSetOnlyAtItsEnds() {
        var ranking = Self.ranking(.segment(tokens: 4))
        Self.use([[0], [0], [1], [2]], &ranking)
        // Nothing is chosen yet: recency decides.
        #expect(Self.order(ranking, count: 4) == [3, 0, 1, 2])
        // The fifth token chooses: 0 was used twice, 1 and 2 once. What follows changes only ties.
        Self.use([[1], [2], [3], [3]], &ranking)
        #expect(Self.order(ranking, count: 4) == [3, 1, 2, 0])
        // The ninth: 1 and 2 have half a use and a whole one, 3 has two, and 0 two halves.
        Self.use([[0]], &ranking)
        #expect(Self.order(ranking, count: 4) == [0, 1, 2, 3])
    }

    @Test(.enabled(if: allocation_counter_works() != 0, "a sanitizer owns malloc"))
    func rankingAllocatesNothing() {
        for policy in EvictionPolicy.all {
            var ranking = Self.ranking(policy, layers: 3)
            let before = allocations_of_this_thread()
            var sum = 0.0
            for token in 0..<600 {
                if token % 100 == 0 { ranking.beginSequence() }
                ranking.beginToken()
                for layer in 0..<3 {
                    let expert = layer * 8 + (token * 5 + layer) % 8
                    ranking.used(expertIndex: expert, fully: token & 1 == 0)
                    ranking.evicted(expertIndex: layer * 8 + token % 8)
                    sum += ranking.retention(expertIndex: expert, layer: layer)
                }
            }
            #expect(allocations_of_this_thread() == before, "\(policy)")
            #expect(sum > 0)
        }
    }
}
