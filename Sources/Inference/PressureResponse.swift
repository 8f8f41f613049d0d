internal import ExpertStreaming

/// How large the expert cache should be while memory is short, and afterwards.
///
/// Under pressure an eighth of the cache goes at a time, and the next only when the system has had
/// some seconds to show what that helped. After a minute without pressure an eighth of the plan
/// comes back, and after each further minute: growing at once would bring back what made memory
/// short.
struct PressureResponse {
    enum Decision: Equatable {
        case stay
        /// To so many bytes of slots.
        case shrink(Int)
        case grow(Int)
    }

    private var lastShrink: UInt64?
    /// When memory was short last, or the cache grew.
    private var lastUnrest: UInt64 = 0

    static let secondsBetweenShrinks: UInt64 = 3
    static let quietSeconds: UInt64 = 60

    /// Whether there is anything to decide; false for all but a few tokens, which then cost no more.
    func concerns(_ level: MemoryPressure.Level, now: UInt64) -> Bool {
        level == .pressed || (lastShrink != nil && isQuiet(now))
    }

    private func isQuiet(_ now: UInt64) -> Bool {
        now - lastUnrest >= Self.quietSeconds * 1_000_000_000
    }

    /// - Parameters:
    ///   - now: nanoseconds of a clock that never goes back.
    ///   - cacheBytes: the cache's size now.
    ///   - floorBytes: the smallest that works.
    ///   - plannedBytes: its size without pressure.
    mutating func decide(
        _ level: MemoryPressure.Level, now: UInt64, cacheBytes: Int, floorBytes: Int,
        plannedBytes: Int
    ) -> Decision {
        if level == .pressed {
            lastUnrest = now
            if let lastShrink, now - lastShrink < Self.secondsBetweenShrinks * 1_000_000_000 {
                return .stay
            }
            let target = max(floorBytes, cacheBytes - cacheBytes / 8)
            guard target < cacheBytes else { return .stay }
            lastShrink = now
            return .shrink(target)
        }
        // Only what pressure took comes back: the cache may be small for another reason.
        guard lastShrink != nil, isQuiet(now) else { return .stay }
        lastUnrest = now
        let target = min(plannedBytes, cacheBytes + max(1, plannedBytes / 8))
        if target == plannedBytes { lastShrink = nil }
        return target > cacheBytes ? .grow(target) : .stay
    }
}
