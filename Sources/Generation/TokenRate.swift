/// Tokens per second, over the last ten seconds.
struct TokenRate {
    private static let seconds = 10
    /// Tokens by second, as a ring with room for the running one.
    private var counts = [UInt32](repeating: 0, count: TokenRate.seconds + 1)
    private var second: UInt64 = 0

    /// Counts tokens.
    ///
    /// - Parameter now: nanoseconds of a clock that never goes back.
    mutating func add(_ count: Int, at now: UInt64) {
        let current = now / 1_000_000_000
        for skipped in 0..<min(current - min(current, second), UInt64(counts.count)) {
            counts[Int((current - skipped) % UInt64(counts.count))] = 0
        }
        second = max(second, current)
        counts[Int(current % UInt64(counts.count))] += UInt32(count)
    }

    func perSecond(at now: UInt64) -> Double {
        let current = now / 1_000_000_000
        var sum: UInt64 = 0
        for back in 0..<UInt64(TokenRate.seconds) where back <= current {
            let wanted = current - back
            if wanted <= second, wanted + UInt64(counts.count) > second {
                sum += UInt64(counts[Int(wanted % UInt64(counts.count))])
            }
        }
        return Double(sum) / Double(TokenRate.seconds)
    }
}
