import Testing

@testable import ExpertStreaming

/// Runs a governor on a machine that stalls `stall(ranks)` nanoseconds per token.
private func levels(
    _ governor: inout PrefetchGovernor, windows: Int, wasted: Double = 0,
    _ stall: (_ ranks: Int) -> UInt64
) -> [Int] {
    (0..<windows).map { _ in
        let ranks = governor.allowedRanks
        governor.end(
            PrefetchGovernor.Window(
                tokens: 10, stallNanoseconds: 10 * stall(ranks),
                usefulBytes: UInt64(ranks) * UInt64(1000 * (1 - wasted)),
                wastedBytes: UInt64(ranks) * UInt64(1000 * wasted)))
        return governor.level
    }
}

@Suite struct PrefetchGovernorTests {

    @Test func whatPaysStays() {
        var governor = PrefetchGovernor(largestLevel: 6)
        let all = levels(&governor, windows: 500) { UInt64(1000 - 100 * $0) }
        #expect(all.allSatisfy { $0 == 6 })
    }

    @Test func whatHarmsIsTurnedOffAndStaysOff() {
        var governor = PrefetchGovernor(largestLevel: 6)
        let all = levels(&governor, windows: 400) { UInt64(1000 + 100 * $0) }
        #expect(all.last == 0)
        #expect(zip(all, all.dropFirst()).allSatisfy { $0 >= $1 })
        // Off, it reads ahead only to compare, ever more rarely.
        var reading = 0
        for _ in 0..<400 {
            if governor.allowedRanks > 0 { reading += 1 }
            governor.end(
                PrefetchGovernor.Window(
                    tokens: 10, stallNanoseconds: governor.allowedRanks > 0 ? 2000 : 1000,
                    usefulBytes: 0, wastedBytes: 0))
        }
        #expect(reading >= 3 && reading <= 8)
    }

    @Test func whatMakesNoDifferenceIsTurnedOff() {
        var governor = PrefetchGovernor(largestLevel: 4)
        let all = levels(&governor, windows: 200) { _ in 1000 }
        #expect(all.last == 0)
    }

    /// A disk that becomes idle makes reading ahead worth it again, and it comes back step by step.
    @Test func itComesBackWhenItPaysAgain() {
        var governor = PrefetchGovernor(largestLevel: 4)
        let off = levels(&governor, windows: 100) { $0 > 0 ? 2000 : 1000 }
        let on = levels(&governor, windows: 400) { $0 > 0 ? 500 : 1000 }
        #expect(off.last == 0)
        #expect(on.last == 4)
        #expect(zip(on, on.dropFirst()).allSatisfy { $1 - $0 <= 1 && $1 >= $0 })
    }

    @Test func wasteTurnsDownBetweenComparisonsButNotOff() {
        var governor = PrefetchGovernor(largestLevel: 8)
        // It helps a little, and a comparison would turn it up again.
        let all = levels(&governor, windows: 60, wasted: 0.9) { $0 > 0 ? 900 : 1000 }
        #expect(all.min() == 1)
        var thrifty = PrefetchGovernor(largestLevel: 8)
        let kept = levels(&thrifty, windows: 60, wasted: 0.5) { $0 > 0 ? 900 : 1000 }
        #expect(kept.allSatisfy { $0 == 8 })
    }

    @Test func nothingIsNeverAllowedMore() {
        var governor = PrefetchGovernor(largestLevel: 0)
        let all = levels(&governor, windows: 50) { _ in 1000 }
        #expect(all.allSatisfy { $0 == 0 } && governor.allowedRanks == 0)
    }

    @Test func aMachineThatNeverStallsKeepsItsLevel() {
        var governor = PrefetchGovernor(largestLevel: 3)
        let all = levels(&governor, windows: 100) { _ in 0 }
        #expect(all.allSatisfy { $0 == 3 })
    }
}
