/// What a streamer has done since it was made. Subtract two snapshots for the figures of a span.
public struct ExpertStreamerStatistics: Sendable, Equatable {
    /// Experts asked for that were in memory, and that were not.
    public var hits: UInt64 = 0
    public var misses: UInt64 = 0
    /// Of those that were not: experts of which a narrower version was.
    public var partialHits: UInt64 = 0
    /// Experts given out, by the planes that were usable.
    public var givenByWidth = PlaneCounts()
    /// Experts that had to leave for others.
    public var evictions: UInt64 = 0
    /// Experts that had to give up planes for others and kept a narrower version.
    public var demotions: UInt64 = 0
    /// Bytes of the missed planes' weights; and the same by plane.
    public var expertBytesMissed: UInt64 = 0
    public var planeBytesMissed = PlaneCounts()
    /// Bytes of weights that were asked for to widen experts in use.
    public var upgradeBytes: UInt64 = 0
    /// Bytes of weights read ahead because they were predicted: all; those asked for since; and
    /// those that left before anybody did.
    public var speculativeBytes: UInt64 = 0
    public var usefulSpeculativeBytes: UInt64 = 0
    public var wastedSpeculativeBytes: UInt64 = 0
    /// Predicted experts whose reading began; that were there when they were asked for; that were
    /// still being read; and that were dropped before their reading began.
    public var prefetchIssued: UInt64 = 0
    public var prefetchUseful: UInt64 = 0
    public var prefetchLate: UInt64 = 0
    public var prefetchDropped: UInt64 = 0
    /// Predicted experts of a layer that may be read ahead now; not a count.
    public var prefetchLevel = 0
    /// Bytes read, with the slack that alignment costs.
    public var bytesRead: UInt64 = 0
    /// Read requests, and the calls that handed them to the kernel (or to the reader threads).
    public var reads: UInt64 = 0
    public var submits: UInt64 = 0
    /// Reads sent again: after a short result, EINTR or EAGAIN.
    public var retries: UInt64 = 0
    /// Planes read a second time because they did not match their checksum.
    public var rereads: UInt64 = 0
    /// Time spent waiting for the disk with nothing to compute.
    public var stallNanoseconds: UInt64 = 0
    /// Time with reads of an acquired set in flight, from the first one's submission until the last
    /// one's arrival was noticed.
    public var diskBusyNanoseconds: UInt64 = 0

    public init() {}

    /// Hits per expert asked for, 0 to 1; 1 if none was.
    public var hitRate: Double {
        hits + misses == 0 ? 1 : Double(hits) / Double(hits + misses)
    }

    /// Bytes read ahead of which nobody knows yet whether they will be asked for. Of a difference:
    /// 0 if more were decided about than were read.
    public var unknownSpeculativeBytes: UInt64 {
        let decided = usefulSpeculativeBytes + wastedSpeculativeBytes
        return speculativeBytes > decided ? speculativeBytes - decided : 0
    }

    public static func - (later: Self, earlier: Self) -> Self {
        var difference = Self()
        difference.upgradeBytes = later.upgradeBytes - earlier.upgradeBytes
        difference.speculativeBytes = later.speculativeBytes - earlier.speculativeBytes
        difference.usefulSpeculativeBytes =
            later.usefulSpeculativeBytes - earlier.usefulSpeculativeBytes
        difference.wastedSpeculativeBytes =
            later.wastedSpeculativeBytes - earlier.wastedSpeculativeBytes
        difference.prefetchLevel = later.prefetchLevel
        difference.prefetchIssued = later.prefetchIssued - earlier.prefetchIssued
        difference.prefetchUseful = later.prefetchUseful - earlier.prefetchUseful
        difference.prefetchLate = later.prefetchLate - earlier.prefetchLate
        difference.prefetchDropped = later.prefetchDropped - earlier.prefetchDropped
        difference.hits = later.hits - earlier.hits
        difference.misses = later.misses - earlier.misses
        difference.partialHits = later.partialHits - earlier.partialHits
        difference.givenByWidth = later.givenByWidth - earlier.givenByWidth
        difference.demotions = later.demotions - earlier.demotions
        difference.planeBytesMissed = later.planeBytesMissed - earlier.planeBytesMissed
        difference.evictions = later.evictions - earlier.evictions
        difference.expertBytesMissed = later.expertBytesMissed - earlier.expertBytesMissed
        difference.bytesRead = later.bytesRead - earlier.bytesRead
        difference.reads = later.reads - earlier.reads
        difference.submits = later.submits - earlier.submits
        difference.retries = later.retries - earlier.retries
        difference.rereads = later.rereads - earlier.rereads
        difference.stallNanoseconds = later.stallNanoseconds - earlier.stallNanoseconds
        difference.diskBusyNanoseconds = later.diskBusyNanoseconds - earlier.diskBusyNanoseconds
        return difference
    }
}
