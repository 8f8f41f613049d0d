/// Decides how many predicted experts per layer may be read ahead: fewer when that does not pay,
/// more when it does.
///
/// Time is cut into windows of tokens. What pays is less stalling, and that is measured rather than
/// inferred: every so often a window runs without reading ahead, and the next one is compared with
/// it. A window with reading ahead that stalls more than the one without turns the level down; one
/// that stalls less by a margin turns it up. Between comparisons the level goes down when most
/// bytes of a window were wasted, because on a busy disk or a small cache they cost what they
/// displace. At level 0 only comparisons read ahead, at level 1, and ever more rarely.
///
/// Deterministic: the same figures give the same levels.
public struct PrefetchGovernor: Sendable, Equatable {

    /// What a window of tokens cost, as differences of the streamer's counters.
    public struct Window: Sendable, Equatable {
        public var tokens: Int
        /// Time spent waiting for the disk.
        public var stallNanoseconds: UInt64
        /// Bytes read ahead that were asked for, and that left before anybody did.
        public var usefulBytes: UInt64
        public var wastedBytes: UInt64

        public init(
            tokens: Int, stallNanoseconds: UInt64, usefulBytes: UInt64, wastedBytes: UInt64
        ) {
            self.tokens = tokens
            self.stallNanoseconds = stallNanoseconds
            self.usefulBytes = usefulBytes
            self.wastedBytes = wastedBytes
        }

        fileprivate var stallPerToken: Double { Double(stallNanoseconds) / Double(max(tokens, 1)) }
    }

    private enum Phase: Equatable {
        /// At the level; so many windows until the next comparison.
        case running(left: Int)
        /// Without reading ahead, to have something to compare with.
        case without
        /// At the level (at least 1), to be compared.
        case with(stallWithout: Double)
    }

    /// Tokens in a window.
    public static let windowTokens = 16
    /// Windows between two comparisons, at first and at most.
    static let shortestInterval = 8
    static let longestInterval = 128
    /// How much less stalling turns the level up; how much more turns it down.
    static let margin = 0.03
    /// Share of wasted bytes in all that a window decided about above which the level goes down.
    static let largestWaste = 0.75

    /// Predicted experts per layer that may be read ahead, between comparisons; 0 for none.
    public private(set) var level: Int
    /// Most that are ever allowed.
    public let largestLevel: Int

    private var phase: Phase
    private var interval = shortestInterval

    /// - Parameter largestLevel: experts per layer allowed at first and at most.
    public init(largestLevel: Int) {
        self.largestLevel = max(largestLevel, 0)
        level = self.largestLevel
        phase = .running(left: 1)
    }

    /// Predicted experts per layer that may be read ahead in the window that runs.
    public var allowedRanks: Int {
        switch phase {
        case .running: level
        case .without: 0
        case .with: min(max(level, 1), largestLevel)
        }
    }

    /// A window has ended.
    public mutating func end(_ window: Window) {
        guard largestLevel > 0 else { return }
        switch phase {
        case .running(let left):
            let decided = window.usefulBytes + window.wastedBytes
            if Double(window.wastedBytes) > Self.largestWaste * Double(decided), level > 1 {
                level -= 1
            }
            phase = left > 1 ? .running(left: left - 1) : .without
        case .without:
            phase = .with(stallWithout: window.stallPerToken)
        case .with(let stallWithout):
            compare(with: window.stallPerToken, without: stallWithout)
            phase = .running(left: interval)
        }
    }

    private mutating func compare(with: Double, without: Double) {
        let before = level
        if with < without * (1 - Self.margin) {
            level = min(level + 1, largestLevel)
        } else if with > without * (1 + Self.margin) {
            level /= 2
        } else if without > 0, level > 0 {
            // It neither helps nor harms: what is read in vain wears the disk and heats the board.
            level -= 1
        }
        // What has settled is looked at more rarely.
        interval =
            level == before
            ? min(interval * 2, Self.longestInterval) : Self.shortestInterval
    }
}
