/// A set of Unicode scalar values: ranges in order, apart from each other, without surrogates.
struct CodePointSet: Hashable, Sendable {
    private(set) var ranges: [ClosedRange<UInt32>]

    static let greatest: UInt32 = 0x10FFFF
    static let all = CodePointSet([0...greatest])
    static let digits = CodePointSet([0x30...0x39])
    static let ascii = CodePointSet([0...0x7F])
    static let none = CodePointSet([])

    init(_ ranges: [ClosedRange<UInt32>]) {
        var kept: [ClosedRange<UInt32>] = []
        func append(_ range: ClosedRange<UInt32>) {
            if let last = kept.last, range.lowerBound <= last.upperBound &+ 1 {
                kept[kept.count - 1] =
                    last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                kept.append(range)
            }
        }
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            let upper = min(range.upperBound, CodePointSet.greatest)
            if range.lowerBound < 0xD800 {
                append(range.lowerBound...min(upper, 0xD7FF))
            }
            let lower = max(range.lowerBound, 0xE000)
            if lower <= upper { append(lower...upper) }
        }
        self.ranges = kept
    }

    init(_ text: String) { self.init(text.unicodeScalars.map { $0.value...$0.value }) }

    init(_ value: UInt32) { self.init([value...value]) }

    var isEmpty: Bool { ranges.isEmpty }

    func contains(_ value: UInt32) -> Bool { ranges.contains { $0.contains(value) } }

    func union(_ other: CodePointSet) -> CodePointSet { CodePointSet(ranges + other.ranges) }

    var inverted: CodePointSet {
        var result: [ClosedRange<UInt32>] = []
        var next: UInt32 = 0
        for range in ranges {
            if range.lowerBound > next { result.append(next...range.lowerBound - 1) }
            next = range.upperBound + 1
        }
        if next <= CodePointSet.greatest { result.append(next...CodePointSet.greatest) }
        return CodePointSet(result)
    }

    func intersection(_ other: CodePointSet) -> CodePointSet {
        inverted.union(other.inverted).inverted
    }

    func subtracting(_ other: CodePointSet) -> CodePointSet { intersection(other.inverted) }

    /// The set as sequences of byte ranges in UTF-8: a scalar is in the set exactly when each of its
    /// bytes lies in the range at its place of one of them (Cox, "Regular Expression Matching in the
    /// Wild", 2010, "UTF-8").
    var byteSequences: [[ClosedRange<UInt8>]] {
        var result: [[ClosedRange<UInt8>]] = []
        let lengths: [ClosedRange<UInt32>] = [
            0...0x7F, 0x80...0x7FF, 0x800...0xFFFF, 0x10000...CodePointSet.greatest,
        ]
        for range in ranges {
            for (index, length) in lengths.enumerated() where range.overlaps(length) {
                CodePointSet.split(
                    range.clamped(to: length), continuations: index, into: &result)
            }
        }
        return result
    }

    private static func split(
        _ range: ClosedRange<UInt32>, continuations: Int, into result: inout [[ClosedRange<UInt8>]]
    ) {
        let (first, last) = (range.lowerBound, range.upperBound)
        for count in 0..<continuations {
            let mask = UInt32(1) << UInt32(6 * (count + 1)) - 1
            guard first & ~mask != last & ~mask else { continue }
            if first & mask != 0 {
                split(first...(first | mask), continuations: continuations, into: &result)
                split((first | mask) + 1...last, continuations: continuations, into: &result)
                return
            }
            if last & mask != mask {
                split(first...(last & ~mask) - 1, continuations: continuations, into: &result)
                split((last & ~mask)...last, continuations: continuations, into: &result)
                return
            }
        }
        result.append(zip(utf8(first), utf8(last)).map { $0...$1 })
    }

    private static func utf8(_ value: UInt32) -> [UInt8] {
        Unicode.Scalar(value).map { Array(String(Character($0)).utf8) } ?? []
    }
}
