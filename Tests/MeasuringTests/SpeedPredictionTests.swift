import Testing

@testable import Measuring

@Suite struct SpeedPredictionTests {
    private func prediction(
        resident: Int = 0, experts: Int = 1_020_000_000, multiple: Double = 2, all: Bool = false,
        memory: Double, disk: Double
    ) -> SpeedPrediction {
        SpeedPrediction(
            residentBytesPerToken: resident, activeSetBytes: experts, cacheMultiple: multiple,
            holdsEverything: all, memoryBytesPerSecond: memory, diskBytesPerSecond: disk)
    }

    private func row(_ prediction: SpeedPrediction, _ hitRate: Double) throws -> SpeedPrediction.Row
    {
        try #require(prediction.rows.first { $0.hitRate == hitRate })
    }

    /// Qwen3-30B-A3B, 1.02 GB of experts per token: 1.02 x 0.3 / 0.86 s and so on, by hand.
    @Test(arguments: [
        (0.44, 0.7, 1.44), (0.44, 0.85, 2.88), (0.86, 0.7, 2.81), (0.86, 0.85, 5.62),
    ])
    func aSlowDiskSetsThePace(_ disk: Double, _ hitRate: Double, _ speed: Double) throws {
        let row = try row(prediction(memory: 11e9, disk: disk * 1e9), hitRate)
        #expect(abs(row.tokensPerSecond - speed) < 0.01 && row.bound == .disk)
    }

    /// 2 GB of 25 GB/s, while 153 MB come from a disk of 3 GB/s in less time.
    @Test func aFastDiskLeavesItToMemory() throws {
        let fast = prediction(resident: 980_000_000, memory: 25e9, disk: 3e9)
        let row = try row(fast, 0.85)
        #expect(abs(row.tokensPerSecond - 12.5) < 0.001 && row.bound == .memory)
        #expect(row.missedBytesPerToken == 153_000_000)
        #expect(try self.row(fast, 1).tokensPerSecond == row.tokensPerSecond)
    }

    @Test(arguments: [
        (0.9, 0, 0), (1, 0.155, 0.319), (2, 0.31, 0.60), (3, 0.41, 0.703), (8, 0.645, 0.975),
        (12, 0.645, 0.975),
    ])
    func hitsFollowThePublishedTraces(_ multiple: Double, _ least: Double, _ greatest: Double) {
        let range = SpeedPrediction.hitRates(multiple: multiple, holdsEverything: false)
        #expect(abs(range.least - least) < 1e-9 && abs(range.greatest - greatest) < 1e-9)
    }

    @Test func whatHoldsEverythingHitsAlways() {
        let whole = prediction(multiple: 8, all: true, memory: 10e9, disk: 1e9)
        #expect(whole.least == whole.greatest && whole.least.hitRate == 1)
        #expect(whole.least.missedBytesPerToken == 0 && whole.least.bound == .memory)
    }

    @Test func moreHitsAreNeverSlower() {
        let speeds = prediction(resident: 1 << 29, memory: 11e9, disk: 0.8e9).rows
            .map(\.tokensPerSecond)
        #expect(speeds == speeds.sorted())
    }
}
