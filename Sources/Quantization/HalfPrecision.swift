// The 16-bit number formats, widened to 32 bits. Exact: every value of either has its own Float.

extension Float {
    /// The value of an IEEE 754 binary16 number with these bits.
    ///
    /// Written with selects and one subtraction rather than through Float16, which costs a library call per
    /// value on x86-64 without F16C; a loop over it becomes vector code. No intermediate is subnormal, so
    /// the result does not depend on a flush-to-zero mode.
    @inlinable @inline(__always)
    public init(halfBits: UInt16) {
        let sign = UInt32(halfBits & 0x8000) << 16
        let magnitude = UInt32(halfBits & 0x7FFF)
        // The exponent's bias grows from 15 to 127; for infinity and NaN it grows once more, to 255.
        let widened = (magnitude << 13) &+ (112 << 23)
        let special = widened &+ (112 << 23)
        // Subnormal: 2^-14 (1 + m / 1024) - 2^-14 = m 2^-24.
        let subnormal =
            (Float(bitPattern: widened &+ (1 << 23)) - Float(bitPattern: 113 << 23)).bitPattern
        let bits = magnitude >= 0x7C00 ? special : magnitude < 0x0400 ? subnormal : widened
        self.init(bitPattern: sign | bits)
    }

    /// The value of a bfloat16 number with these bits: the upper half of a Float.
    @inlinable @inline(__always)
    public init(bfloat16Bits: UInt16) {
        self.init(bitPattern: UInt32(bfloat16Bits) << 16)
    }
}
