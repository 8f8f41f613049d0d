// The K-quants: 256 elements in sub-blocks whose scales are integers times one half-precision d.
//
// Two-bit fields lie so that 32 bytes hold 128 elements: bits 2 s and 2 s + 1 of byte i belong to element
// 32 s + i. High bits are stored apart, bit by bit in the same manner.

// | 0 scales, 16 | 16 two-bit q, 64 | 80 half d | 82 half dmin |
//
// Sixteen sub-blocks of 16: scale in the low nibble of its byte, minimum in the high one.
// value = (d scale) q - (dmin minimum)
func decodeQ2_K(_ bytes: UnsafePointer<UInt8>, _ blocks: Int, _ output: UnsafeMutablePointer<Float>)
{
    for b in 0..<blocks {
        let block = unsafe bytes + 84 &* b
        let out = unsafe output + 256 &* b
        let d = unsafe half(block + 80)
        let dmin = unsafe half(block + 82)
        for j in 0..<16 {
            let scales = unsafe block[j]
            let scale = d * Float(scales & 15)
            let minimum = dmin * Float(scales >> 4)
            // 16 sub-blocks: 2 groups of 128 elements, 4 bit positions, 2 halves of the 32 bytes.
            let quants = unsafe block + (16 &+ 32 &* (j / 8) &+ 16 &* (j % 2))
            let shift = UInt8(truncatingIfNeeded: j % 8 / 2 &* 2)
            for i in 0..<16 {
                let q = unsafe (quants[i] &>> shift) & 3
                unsafe out[16 &* j &+ i] = scale * Float(q) - minimum
            }
        }
    }
}

// | 0 high bits, 32 | 32 two-bit q, 64 | 96 scales, 12 | 108 half d |
//
// Bit k of high byte i belongs to element 32 k + i; where it is *clear*, 4 is taken off. Sixteen
// sub-blocks of 16 with six-bit scales: nibble j of the first eight bytes (all low nibbles first), and two
// bits of byte 8 + j % 4 at 2 (j / 4).   value = (d (scale - 32)) (q - 4 or q)
func decodeQ3_K(_ bytes: UnsafePointer<UInt8>, _ blocks: Int, _ output: UnsafeMutablePointer<Float>)
{
    for b in 0..<blocks {
        let block = unsafe bytes + 110 &* b
        let out = unsafe output + 256 &* b
        let d = unsafe half(block + 108)
        let scales = unsafe block + 96
        for j in 0..<16 {
            let low = unsafe j < 8 ? scales[j] & 15 : scales[j &- 8] >> 4
            let high = unsafe (scales[8 &+ j % 4] &>> UInt8(truncatingIfNeeded: j / 4 &* 2)) & 3
            let scale = d * Float(Int32(low | high << 4) &- 32)
            let quants = unsafe block + (32 &+ 32 &* (j / 8) &+ 16 &* (j % 2))
            let highBits = unsafe block + 16 &* (j % 2)
            let shift = UInt8(truncatingIfNeeded: j % 8 / 2 &* 2)
            let highShift = UInt8(truncatingIfNeeded: j / 2)
            for i in 0..<16 {
                let q = unsafe Int32((quants[i] &>> shift) & 3)
                let offset = unsafe Int32((highBits[i] &>> highShift) & 1 ^ 1) << 2
                unsafe out[16 &* j &+ i] = scale * Float(q &- offset)
            }
        }
    }
}

/// Scale and minimum of sub-block `j`, six bits each, out of the 12 bytes that Q4_K and Q5_K pack them in:
/// bytes 0-3 and 4-7 hold scales and minima 0-3 in their low six bits; bytes 8-11 hold the low nibbles of
/// scale (below) and minimum (above) 4-7, whose two high bits sit on top of bytes 0-3 and 4-7.
@inline(__always)
func scaleAndMinimum(
    _ packed: UnsafePointer<UInt8>, _ j: Int
) -> (scale: UInt8, minimum: UInt8) {
    if j < 4 { return unsafe (packed[j] & 0x3F, packed[4 &+ j] & 0x3F) }
    let low = unsafe packed[4 &+ j]
    return unsafe (
        low & 15 | (packed[j &- 4] >> 2) & 0x30,
        low >> 4 | (packed[j] >> 2) & 0x30
    )
}

// | 0 half d | 2 half dmin | 4 scales and minima, 12 | 16 nibbles, 128 |
//
// Eight sub-blocks of 32; sub-blocks 2 g and 2 g + 1 are the low and the high nibbles of 32 bytes.
// value = (d scale) q - (dmin minimum)
func decodeQ4_K(_ bytes: UnsafePointer<UInt8>, _ blocks: Int, _ output: UnsafeMutablePointer<Float>)
{
    for b in 0..<blocks {
        let block = unsafe bytes + 144 &* b
        let d = unsafe half(block)
        let dmin = unsafe half(block + 2)
        for g in 0..<4 {
            let low = unsafe scaleAndMinimum(block + 4, 2 &* g)
            let high = unsafe scaleAndMinimum(block + 4, 2 &* g &+ 1)
            let lowScale = d * Float(low.scale)
            let lowMinimum = dmin * Float(low.minimum)
            let highScale = d * Float(high.scale)
            let highMinimum = dmin * Float(high.minimum)
            let quants = unsafe block + (16 &+ 32 &* g)
            let out = unsafe output + (256 &* b &+ 64 &* g)
            for i in 0..<32 {
                let byte = unsafe quants[i]
                unsafe out[i] = lowScale * Float(byte & 15) - lowMinimum
                unsafe out[32 &+ i] = highScale * Float(byte >> 4) - highMinimum
            }
        }
    }
}

// | 0 half d | 2 half dmin | 4 scales and minima, 12 | 16 fifth bits, 32 | 48 nibbles, 128 |
//
// As Q4_K; bit j of fifth byte i belongs to element i of sub-block j.
func decodeQ5_K(_ bytes: UnsafePointer<UInt8>, _ blocks: Int, _ output: UnsafeMutablePointer<Float>)
{
    for b in 0..<blocks {
        let block = unsafe bytes + 176 &* b
        let d = unsafe half(block)
        let dmin = unsafe half(block + 2)
        let fifth = unsafe block + 16
        for g in 0..<4 {
            let low = unsafe scaleAndMinimum(block + 4, 2 &* g)
            let high = unsafe scaleAndMinimum(block + 4, 2 &* g &+ 1)
            let lowScale = d * Float(low.scale)
            let lowMinimum = dmin * Float(low.minimum)
            let highScale = d * Float(high.scale)
            let highMinimum = dmin * Float(high.minimum)
            let quants = unsafe block + (48 &+ 32 &* g)
            let out = unsafe output + (256 &* b &+ 64 &* g)
            let shift = UInt8(truncatingIfNeeded: 2 &* g)
            for i in 0..<32 {
                let byte = unsafe quants[i]
                let bits = unsafe fifth[i] &>> shift
                let lowQ = byte & 15 | (bits & 1) << 4
                let highQ = byte >> 4 | (bits & 2) << 3
                unsafe out[i] = lowScale * Float(lowQ) - lowMinimum
                unsafe out[32 &+ i] = highScale * Float(highQ) - highMinimum
            }
        }
    }
}

// | 0 low nibbles, 128 | 128 two high bits, 64 | 192 int8 scales, 16 | 208 half d |
//
// Sixteen sub-blocks of 16. Per 128 elements, 64 bytes of nibbles: elements 0-63 low, 64-127 high.
// value = (d scale) (q - 32)
func decodeQ6_K(_ bytes: UnsafePointer<UInt8>, _ blocks: Int, _ output: UnsafeMutablePointer<Float>)
{
    for b in 0..<blocks {
        let block = unsafe bytes + 210 &* b
        let out = unsafe output + 256 &* b
        let d = unsafe half(block + 208)
        for j in 0..<16 {
            let scale = unsafe d * Float(Int8(bitPattern: block[192 &+ j]))
            let group = j / 8
            let within = 16 &* (j % 8)
            let nibbles = unsafe block + (64 &* group &+ within % 64)
            let nibbleShift = UInt8(truncatingIfNeeded: within / 64 &* 4)
            let highBits = unsafe block + (128 &+ 32 &* group &+ within % 32)
            let highShift = UInt8(truncatingIfNeeded: within / 32 &* 2)
            for i in 0..<16 {
                let low = unsafe (nibbles[i] &>> nibbleShift) & 15
                let high = unsafe (highBits[i] &>> highShift) & 3
                unsafe out[16 &* j &+ i] = scale * Float(Int32(low | high << 4) &- 32)
            }
        }
    }
}
