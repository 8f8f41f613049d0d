public import ExpertStreaming

/// What a miss policy did to the router's choices in decode steps. Subtract two snapshots for the
/// figures of a span.
///
/// Masses are sums of gate weights as the router gave them; `widthMass`, `skippedMass`,
/// `swappedMass` and `deferredMass` add up to `mass`, and their counts to `choices`.
public struct MissAccounting: Sendable, Equatable {
    /// Experts that the router chose: k for each token and layer, or fewer under `Routing.topP`.
    public var choices: UInt64 = 0
    public var mass = 0.0
    /// Computed as chosen, by planes used.
    public var widthMass = ByPlanes<Double>()
    public var widthCount = PlaneCounts()
    /// Left out.
    public var skippedMass = 0.0
    public var skippedCount: UInt64 = 0
    /// Given up for another expert that was in memory.
    public var swappedMass = 0.0
    public var swappedCount: UInt64 = 0
    /// Added one layer later.
    public var deferredMass = 0.0
    public var deferredCount: UInt64 = 0

    public init() {}

    mutating func add(mass share: Double, width: Int) {
        widthMass[width] += share
        widthCount[width] += 1
    }

    mutating func add(skipped share: Double) {
        skippedMass += share
        skippedCount += 1
    }

    mutating func add(swapped share: Double) {
        swappedMass += share
        swappedCount += 1
    }

    mutating func add(deferred share: Double) {
        deferredMass += share
        deferredCount += 1
    }

    public static func - (later: Self, earlier: Self) -> Self {
        var difference = Self()
        difference.choices = later.choices - earlier.choices
        difference.mass = later.mass - earlier.mass
        difference.widthMass = later.widthMass - earlier.widthMass
        difference.widthCount = later.widthCount - earlier.widthCount
        difference.skippedMass = later.skippedMass - earlier.skippedMass
        difference.skippedCount = later.skippedCount - earlier.skippedCount
        difference.swappedMass = later.swappedMass - earlier.swappedMass
        difference.swappedCount = later.swappedCount - earlier.swappedCount
        difference.deferredMass = later.deferredMass - earlier.deferredMass
        difference.deferredCount = later.deferredCount - earlier.deferredCount
        return difference
    }
}
