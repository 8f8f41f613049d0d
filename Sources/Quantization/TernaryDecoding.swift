// Weights of -1, 0 and 1 with one scale per 256.

// | 0 five trits per byte, 48 | 48 four trits per byte, 4 | 52 half d |
//
// A byte is a fraction of 256 in base three: multiplied by 3^k (modulo 256), its first digit is trit k. The
// first 32 bytes hold elements 0-159, trit k of byte i at 32 k + i; the next 16 elements 160-239, at
// 160 + 16 k + i; the last four elements 240-255, at 240 + 4 k + i.   value = d (trit - 1)
func decodeTQ1_0(
    _ bytes: UnsafePointer<UInt8>, _ blocks: Int, _ output: UnsafeMutablePointer<Float>
) {
    for b in 0..<blocks {
        let block = unsafe bytes + 54 &* b
        let out = unsafe output + 256 &* b
        let d = unsafe half(block + 52)
        unsafe decodeTrits(block, width: 32, digits: 5, d, out)
        unsafe decodeTrits(block + 32, width: 16, digits: 5, d, out + 160)
        unsafe decodeTrits(block + 48, width: 4, digits: 4, d, out + 240)
    }
}

@inline(__always)
private func decodeTrits(
    _ packed: UnsafePointer<UInt8>, width: Int, digits: Int, _ d: Float,
    _ out: UnsafeMutablePointer<Float>
) {
    var power: UInt8 = 1
    for k in 0..<digits {
        for i in 0..<width {
            let fraction = unsafe packed[i] &* power
            let trit = Int32((UInt16(fraction) &* 3) >> 8)
            unsafe out[width &* k &+ i] = d * Float(trit &- 1)
        }
        power = power &* 3
    }
}

// | 0 two-bit q, 64 | 64 half d |
//
// Bits 2 s and 2 s + 1 of byte 32 g + i belong to element 128 g + 32 s + i.   value = d (q - 1)
func decodeTQ2_0(
    _ bytes: UnsafePointer<UInt8>, _ blocks: Int, _ output: UnsafeMutablePointer<Float>
) {
    for b in 0..<blocks {
        let block = unsafe bytes + 66 &* b
        let d = unsafe half(block + 64)
        for group in 0..<2 {
            let quants = unsafe block + 32 &* group
            for position in 0..<4 {
                let out = unsafe output + (256 &* b &+ 128 &* group &+ 32 &* position)
                let shift = UInt8(truncatingIfNeeded: 2 &* position)
                for i in 0..<32 {
                    let q = unsafe Int32((quants[i] &>> shift) & 3)
                    unsafe out[i] = d * Float(q &- 1)
                }
            }
        }
    }
}
