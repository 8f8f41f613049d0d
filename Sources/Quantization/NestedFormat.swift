public import ModelFormats

/// Bits of the planes that weights are cut into, most significant first: "2+2", "2+1+1", "4+4".
///
/// A format with fewer bits takes the first planes as far as it has bits; one with more keeps the
/// rest in one plane more: 2+2 cuts Q4_K in 2+2, Q6_K in 2+2+2, Q8_0 in 2+2+4.
public struct PlaneWidths: Sendable, Equatable, CustomStringConvertible {
    public let bits: [Int]

    /// Nil for text that is no sum of 1, 2 and 4.
    public init?(_ text: String) {
        let words = text.split(separator: "+", omittingEmptySubsequences: false)
        let bits = words.compactMap { ["1": 1, "2": 2, "4": 4][$0] }
        guard !bits.isEmpty, bits.count == words.count, bits.count <= 3, bits.reduce(0, +) <= 8
        else { return nil }
        self.bits = bits
    }

    public var description: String { bits.map(String.init).joined(separator: "+") }
}

/// A block format whose integers are stored by significance, so that a prefix of the planes is a
/// coarser version of the same weights. CKernels.h defines the bytes.
///
/// A matrix of (rows, columns) becomes one *part* per plane. The part of plane 0 holds the scales of
/// all rows, then, from a multiple of 64 on, the plane's rows; those of the others only rows.
public struct NestedFormat: Sendable, Equatable {
    /// The format that all planes together are, to the bit.
    public let format: BlockFormat
    /// Bits of each plane, most significant first; their sum is the format's.
    public let bits: [Int]

    /// Nil if integers of `format` cannot be cut, or `widths` leave it in one piece.
    public init?(format: BlockFormat, widths: PlaneWidths) {
        let total: Int
        switch format {
        case .q4_0, .q4_1, .q4_K: total = 4
        case .q5_0, .q5_1, .q5_K: total = 5
        case .q6_K: total = 6
        case .q8_0: total = 8
        default: return nil
        }
        var left = total
        var bits: [Int] = []
        for width in widths.bits where left > 0 {
            bits.append(min(width, left))
            left -= bits[bits.count - 1]
        }
        // What is left after the last plane is 1, 2 or 4 bits, or it would take two planes.
        while left > 0 {
            let width = left >= 4 ? 4 : left >= 2 ? 2 : 1
            bits.append(width)
            left -= width
        }
        guard bits.count > 1, bits.count <= 4 else { return nil }
        self.format = format
        self.bits = bits
    }

    /// Bytes of the scales of a row of `columns` elements.
    public func scaleBytes(columns: Int) -> Int {
        format.byteCount(elements: columns) - columns * bits.reduce(0, +) / 8
    }

    /// Bytes of a row of one plane.
    public func planeBytes(_ plane: Int, columns: Int) -> Int {
        (columns + 255) / 256 * 32 * bits[plane]
    }

    /// Where the rows of plane 0 begin in its part: after the scales.
    public func firstPlaneOffset(rows: Int, columns: Int) -> Int {
        (rows * scaleBytes(columns: columns) + 63) / 64 * 64
    }

    /// Bytes of the part of a plane.
    public func partBytes(_ plane: Int, rows: Int, columns: Int) -> Int {
        (plane == 0 ? firstPlaneOffset(rows: rows, columns: columns) : 0)
            + rows * planeBytes(plane, columns: columns)
    }
}
