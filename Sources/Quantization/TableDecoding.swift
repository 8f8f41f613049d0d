// Formats whose four bits are an index into a table of sixteen integers.

/// Sixteen signed bytes in two words, entry 0 lowest: a table that lives in registers and needs no global.
struct SignedByteTable {
    let low: UInt64
    let high: UInt64

    /// The levels of IQ4_NL and IQ4_XS:
    /// -127 -104 -83 -65 -49 -35 -22 -10, 1 13 25 38 53 69 89 113.
    @inline(__always)
    static var nonLinear: Self { Self(low: 0xF6EA_DDCF_BFAD_9881, high: 0x7159_4535_2619_0D01) }

    /// E2M1 numbers doubled, so that they are integers: 0 1 2 3 4 6 8 12, and their negatives (with 0, not
    /// -0, as the ninth). Source: OCP Microscaling Formats, version 1.0.
    @inline(__always)
    static var doubledE2M1: Self { Self(low: 0x0C08_0604_0302_0100, high: 0xF4F8_FAFC_FDFE_FF00) }

    /// Entry `index`, 0 to 15.
    @inline(__always)
    subscript(index: UInt8) -> Float {
        let word = index < 8 ? low : high
        return Float(Int8(truncatingIfNeeded: word &>> (UInt64(index & 7) &* 8)))
    }
}

// | 0 half d | 2 nibbles, 16 |   value = d level(q); nibbles as in Q4_0
func decodeIQ4_NL(
    _ bytes: UnsafePointer<UInt8>, _ blocks: Int, _ output: UnsafeMutablePointer<Float>
) {
    let levels = SignedByteTable.nonLinear
    for b in 0..<blocks {
        let block = unsafe bytes + 18 &* b
        unsafe decodeLevels(block + 2, scale: half(block), levels, output + 32 &* b)
    }
}

// | 0 half d | 2 high bits of the scales, 16 bits | 4 low nibbles of the scales, 4 | 8 nibbles, 128 |
//
// Eight sub-blocks of 32, sub-block j in bytes 8 + 16 j onwards. Its scale has six bits: the nibble j of
// the four bytes below bits 2 j and 2 j + 1 of the 16.   value = (d (scale - 32)) level(q)
func decodeIQ4_XS(
    _ bytes: UnsafePointer<UInt8>, _ blocks: Int, _ output: UnsafeMutablePointer<Float>
) {
    let levels = SignedByteTable.nonLinear
    for b in 0..<blocks {
        let block = unsafe bytes + 136 &* b
        let out = unsafe output + 256 &* b
        let d = unsafe half(block)
        let high = unsafe Int32(bits16(block + 2))
        let low = unsafe Int32(bitPattern: bits32(block + 4))
        for j in 0..<8 {
            let shift = Int32(truncatingIfNeeded: j)
            let scale = (low &>> (4 &* shift)) & 15 | ((high &>> (2 &* shift)) & 3) << 4
            unsafe decodeLevels(
                block + (8 &+ 16 &* j), scale: d * Float(scale &- 32), levels, out + 32 &* j)
        }
    }
}

// | 0 exponent e, 8 bits | 1 nibbles, 16 |   value = 2^(e - 128) level(q), levels doubled; nibbles as in Q4_0
func decodeMXFP4(
    _ bytes: UnsafePointer<UInt8>, _ blocks: Int, _ output: UnsafeMutablePointer<Float>
) {
    let levels = SignedByteTable.doubledE2M1
    for b in 0..<blocks {
        let block = unsafe bytes + 17 &* b
        let exponent = unsafe UInt32(block[0])
        // Half of 2^(e - 127). The two smallest are subnormal.
        let bits = exponent < 2 ? 0x0020_0000 &<< exponent : (exponent &- 1) << 23
        unsafe decodeLevels(
            block + 1, scale: Float(bitPattern: bits), levels, output + 32 &* b)
    }
}

/// Decodes 32 elements: low nibbles, then high ones, of 16 bytes.
@inline(__always)
private func decodeLevels(
    _ quants: UnsafePointer<UInt8>, scale: Float, _ levels: SignedByteTable,
    _ out: UnsafeMutablePointer<Float>
) {
    for i in 0..<16 {
        let byte = unsafe quants[i]
        unsafe out[i] = scale * levels[byte & 15]
        unsafe out[16 &+ i] = scale * levels[byte >> 4]
    }
}
