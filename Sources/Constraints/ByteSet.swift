/// A set of byte values.
struct ByteSet: Hashable, Sendable {
    private var low: UInt64 = 0
    private var middle: UInt64 = 0
    private var high: UInt64 = 0
    private var top: UInt64 = 0

    static let all = ByteSet(0...255)

    init() {}

    init(_ range: ClosedRange<UInt8>) { for byte in range { insert(byte) } }

    init(_ bytes: some Sequence<UInt8>) { for byte in bytes { insert(byte) } }

    var isEmpty: Bool { low | middle | high | top == 0 }

    func contains(_ byte: UInt8) -> Bool {
        let word =
            switch byte >> 6 {
            case 0: low
            case 1: middle
            case 2: high
            default: top
            }
        return word >> UInt64(byte & 63) & 1 != 0
    }

    mutating func insert(_ byte: UInt8) {
        let bit = UInt64(1) << UInt64(byte & 63)
        switch byte >> 6 {
        case 0: low |= bit
        case 1: middle |= bit
        case 2: high |= bit
        default: top |= bit
        }
    }

    mutating func formUnion(_ other: ByteSet) {
        low |= other.low
        middle |= other.middle
        high |= other.high
        top |= other.top
    }

    func subtracting(_ other: ByteSet) -> ByteSet {
        var result = self
        result.low &= ~other.low
        result.middle &= ~other.middle
        result.high &= ~other.high
        result.top &= ~other.top
        return result
    }

    func intersection(_ other: ByteSet) -> ByteSet {
        var result = self
        result.low &= other.low
        result.middle &= other.middle
        result.high &= other.high
        result.top &= other.top
        return result
    }
}
