import CKernels

/// How far the weights of a prefix are from those of all planes, summed over any number of matrices.
public struct PrefixError: Sendable, Equatable {
    /// Sum of the squares of the differences.
    public private(set) var squaredError = 0.0
    /// Sum of the squares of the weights.
    public private(set) var squaredWeights = 0.0

    /// No weights yet.
    public init() {}

    /// Root of the mean squared error over that of the mean squared weight; 0 for no weights.
    public var relativeRMS: Double {
        squaredWeights > 0 ? (squaredError / squaredWeights).squareRoot() : 0
    }

    /// Adds a matrix of (rows, columns), from all its parts, whose first `prefix` planes are asked
    /// about. Weights that are not finite, as under a damaged scale, are left out.
    public mutating func add(
        _ nested: NestedFormat, _ parts: [UnsafeRawPointer], prefix: Int, rows: Int,
        columns: Int
    ) {
        let (whole, some) = unsafe parts.withUnsafeBufferPointer { parts in
            let some = unsafe UnsafeBufferPointer(rebasing: parts[..<prefix])
            return unsafe (
                nested.planes(parts, rows: rows, columns: columns),
                nested.planes(some, rows: rows, columns: columns)
            )
        }
        unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * columns) { values in
            unsafe values.initialize(repeating: 0)
            guard let exact = values.baseAddress else { return }
            let coarse = unsafe exact + columns
            for row in 0..<rows {
                unsafe NestedFormat.decode(
                    nested.format, whole, row: row, columns: columns, into: exact)
                unsafe NestedFormat.decode(
                    nested.format, some, row: row, columns: columns, into: coarse)
                for i in 0..<columns {
                    let weight = unsafe Double(exact[i])
                    let difference = unsafe Double(coarse[i]) - weight
                    guard weight.isFinite, difference.isFinite else { continue }
                    squaredError += difference * difference
                    squaredWeights += weight * weight
                }
            }
        }
    }
}
