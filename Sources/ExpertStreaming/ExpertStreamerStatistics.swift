/// What a streamer has done since it was made. Subtract two snapshots for the figures of a span.
public struct ExpertStreamerStatistics: Sendable, Equatable {
    /// Experts asked for that were in memory, and that were not.
    public var hits: UInt64 = 0
    public var misses: UInt64 = 0
    /// Experts that had to leave their slot for another.
    public var evictions: UInt64 = 0
    /// Bytes of the missed experts' weights.
    public var expertBytesMissed: UInt64 = 0
    /// Bytes read for them, with the slack that alignment costs.
    public var bytesRead: UInt64 = 0
    /// Read requests, and the calls that handed them to the kernel (or to the reader threads).
    public var reads: UInt64 = 0
    public var submits: UInt64 = 0
    /// Reads sent again: after a short result, EINTR or EAGAIN.
    public var retries: UInt64 = 0
    /// Time spent waiting for the disk with nothing to compute.
    public var stallNanoseconds: UInt64 = 0

    public init() {}

    /// Hits per expert asked for, 0 to 1; 1 if none was.
    public var hitRate: Double {
        hits + misses == 0 ? 1 : Double(hits) / Double(hits + misses)
    }

    public static func - (later: Self, earlier: Self) -> Self {
        var difference = Self()
        difference.hits = later.hits - earlier.hits
        difference.misses = later.misses - earlier.misses
        difference.evictions = later.evictions - earlier.evictions
        difference.expertBytesMissed = later.expertBytesMissed - earlier.expertBytesMissed
        difference.bytesRead = later.bytesRead - earlier.bytesRead
        difference.reads = later.reads - earlier.reads
        difference.submits = later.submits - earlier.submits
        difference.retries = later.retries - earlier.retries
        difference.stallNanoseconds = later.stallNanoseconds - earlier.stallNanoseconds
        return difference
    }
}
