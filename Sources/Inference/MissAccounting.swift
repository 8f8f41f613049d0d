/// What a miss policy did to the router's choices in decode steps. Subtract two snapshots for the
/// figures of a span.
///
/// Masses are sums of gate weights as the router gave them; `widthMass`, `skippedMass`,
/// `swappedMass` and `deferredMass` add up to `mass`, and their counts to `choices`.
public struct MissAccounting: Sendable, Equatable {
    /// Experts that the router chose: k for each token and layer.
    public var choices: UInt64 = 0
    public var mass = 0.0
    /// Computed as chosen, by planes used.
    public var widthMass = ByWidth<Double>(repeating: 0)
    public var widthCount = ByWidth<UInt64>(repeating: 0)
    /// Left out.
    public var skippedMass = 0.0
    public var skippedCount: UInt64 = 0
    /// Given up for another expert that was in memory.
    public var swappedMass = 0.0
    public var swappedCount: UInt64 = 0
    /// Added one layer later.
    public var deferredMass = 0.0
    public var deferredCount: UInt64 = 0

    /// One value for each number of planes, 1 ... 4.
    public struct ByWidth<Value: Sendable & Equatable>: Sendable, Equatable {
        private var one: Value
        private var two: Value
        private var three: Value
        private var four: Value

        init(repeating value: Value) {
            one = value
            two = value
            three = value
            four = value
        }

        public subscript(planes: Int) -> Value {
            get {
                switch planes {
                case 1: one
                case 2: two
                case 3: three
                case 4: four
                default: preconditionFailure("an expert has 1 to 4 planes, not \(planes)")
                }
            }
            set {
                switch planes {
                case 1: one = newValue
                case 2: two = newValue
                case 3: three = newValue
                case 4: four = newValue
                default: preconditionFailure("an expert has 1 to 4 planes, not \(planes)")
                }
            }
        }
    }

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
        for width in 1...4 {
            difference.widthMass[width] = later.widthMass[width] - earlier.widthMass[width]
            difference.widthCount[width] = later.widthCount[width] - earlier.widthCount[width]
        }
        difference.skippedMass = later.skippedMass - earlier.skippedMass
        difference.skippedCount = later.skippedCount - earlier.skippedCount
        difference.swappedMass = later.swappedMass - earlier.swappedMass
        difference.swappedCount = later.swappedCount - earlier.swappedCount
        difference.deferredMass = later.deferredMass - earlier.deferredMass
        difference.deferredCount = later.deferredCount - earlier.deferredCount
        return difference
    }
}
