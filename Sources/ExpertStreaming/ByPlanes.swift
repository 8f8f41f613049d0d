/// A sum for each number of planes that an expert can be used with, or for each plane: 1 ... 4, the
/// first plane being 1.
///
/// Models that are not cut into planes count everything at 1.
public struct ByPlanes<Value: AdditiveArithmetic & BitwiseCopyable & Sendable>: Sendable, Equatable,
    BitwiseCopyable
{
    private var one = Value.zero
    private var two = Value.zero
    private var three = Value.zero
    private var four = Value.zero

    public init() {}

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

    public var total: Value { one + two + three + four }

    public static func - (later: Self, earlier: Self) -> Self {
        var difference = Self()
        for planes in 1...4 { difference[planes] = later[planes] - earlier[planes] }
        return difference
    }
}

/// Counts by planes.
public typealias PlaneCounts = ByPlanes<UInt64>
