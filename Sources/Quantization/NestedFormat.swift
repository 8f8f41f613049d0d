public import ModelFormats

/// Bits of the planes that weights are cut into, most significant first: "2+2", "2+1+1", "4+4".
///
/// A format with fewer bits takes the first planes as far as it has bits; one with more keeps the
/// rest in planes of its own: 2+2 cuts Q4_K in 2+2, Q5_K in 2+2+1, Q6_K in 2+2+2, Q8_0 in 2+2+4.
public struct PlaneWidths: Sendable, Equatable, CustomStringConvertible {
    public let bits: [Int]

    /// Nil for text that is no sum of 1, 2 and 4 of at most three terms and eight bits.
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
/// coarser version of the same weights. CKernels.h defines the bytes of a row.
///
/// A matrix of (rows, columns) becomes one *part* per plane. The part of plane 0 holds the scales of
/// all rows, then, from a multiple of 64 on, the plane's rows; those of the others only rows.
///
///     part 0   | scales of row 0 | scales of row 1 | ... | zeros | plane 0 of row 0 | of row 1 | ...
///     part p   | plane p of row 0 | plane p of row 1 | ...
public struct NestedFormat: Sendable, Equatable {
    /// Most planes that a format is cut into.
    public static let planesMax = 4

    /// The format that all planes together are, to the bit.
    public let format: BlockFormat
    /// Bits of each plane, most significant first; their sum is the format's. Each is 1, 2 or 4.
    public let bits: [Int]

    /// Nil if integers of `format` cannot be cut, or `widths` leave it in one piece or would take
    /// more than four planes ("1+1+1" for eight bits).
    public init?(format: BlockFormat, widths: PlaneWidths) {
        guard let total = Self.integerBits(of: format) else { return nil }
        var left = total
        var bits: [Int] = []
        // What is left after the last plane asked for is one request more.
        for width in widths.bits + [total] {
            // Of fewer bits than asked for, 3 is the only number that is no plane: it takes two.
            var wanted = min(width, left)
            left -= wanted
            while wanted > 0 {
                let plane = wanted >= 4 ? 4 : wanted >= 2 ? 2 : 1
                bits.append(plane)
                wanted -= plane
            }
        }
        guard bits.count > 1, bits.count <= Self.planesMax else { return nil }
        self.format = format
        self.bits = bits
    }

    /// Bits of the integers of `format`; nil for one that cannot be cut.
    static func integerBits(of format: BlockFormat) -> Int? {
        switch format {
        case .q4_0, .q4_1, .q4_K: 4
        case .q5_0, .q5_1, .q5_K: 5
        case .q6_K: 6
        case .q8_0: 8
        default: nil
        }
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
