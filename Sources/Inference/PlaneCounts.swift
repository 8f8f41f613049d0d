/// A counter for each number of planes that an expert can be used with, 1 ... 4.
///
/// Models that are not cut into planes count everything at 1.
public struct PlaneCounts: Sendable, Equatable, BitwiseCopyable {
    private var one: UInt64 = 0
    private var two: UInt64 = 0
    private var three: UInt64 = 0
    private var four: UInt64 = 0

    public init() {}

    public subscript(planes: Int) -> UInt64 {
        get {
            switch planes {
            case 1: one
            case 2: two
            case 3: three
            case 4: four
            default: preconditionFailure("no expert has \(planes) planes")
            }
        }
        set {
            switch planes {
            case 1: one = newValue
            case 2: two = newValue
            case 3: three = newValue
            case 4: four = newValue
            default: preconditionFailure("no expert has \(planes) planes")
            }
        }
    }

    public var total: UInt64 { one + two + three + four }

    public static func - (later: Self, earlier: Self) -> Self {
        var difference = Self()
        for planes in 1...4 { difference[planes] = later[planes] - earlier[planes] }
        return difference
    }
}
