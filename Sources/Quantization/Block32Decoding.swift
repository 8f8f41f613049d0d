// Blocks of 32 with one scale. Element i < 16 of a nibble format is the low nibble of byte i, element
// 16 + i its high nibble. Fifth bits (Q5_0, Q5_1) are bit i of one 32-bit word, for element i.

// | 0 half d | 2 nibbles, 16 |   value = d (q - 8)
func decodeQ4_0(_ bytes: UnsafePointer<UInt8>, _ blocks: Int, _ output: UnsafeMutablePointer<Float>)
{
    for b in 0..<blocks {
        let block = unsafe bytes + 18 &* b
        let out = unsafe output + 32 &* b
        let d = unsafe half(block)
        let quants = unsafe block + 2
        for i in 0..<16 {
            let byte = unsafe Int32(quants[i])
            unsafe out[i] = d * Float((byte & 15) &- 8)
            unsafe out[16 &+ i] = d * Float((byte >> 4) &- 8)
        }
    }
}

// | 0 half d | 2 half m | 4 nibbles, 16 |   value = d q + m
func decodeQ4_1(_ bytes: UnsafePointer<UInt8>, _ blocks: Int, _ output: UnsafeMutablePointer<Float>)
{
    for b in 0..<blocks {
        let block = unsafe bytes + 20 &* b
        let out = unsafe output + 32 &* b
        let d = unsafe half(block)
        let m = unsafe half(block + 2)
        let quants = unsafe block + 4
        for i in 0..<16 {
            let byte = unsafe Int32(quants[i])
            unsafe out[i] = d * Float(byte & 15) + m
            unsafe out[16 &+ i] = d * Float(byte >> 4) + m
        }
    }
}

// | 0 half d | 2 fifth bits, 4 | 6 nibbles, 16 |   value = d (q - 16)
func decodeQ5_0(_ bytes: UnsafePointer<UInt8>, _ blocks: Int, _ output: UnsafeMutablePointer<Float>)
{
    for b in 0..<blocks {
        let block = unsafe bytes + 22 &* b
        let out = unsafe output + 32 &* b
        let d = unsafe half(block)
        let fifth = unsafe bits32(block + 2)
        let quants = unsafe block + 6
        for i in 0..<16 {
            let byte = unsafe Int32(quants[i])
            let low = byte & 15 | fifthBit(fifth, i)
            let high = byte >> 4 | fifthBit(fifth, 16 &+ i)
            unsafe out[i] = d * Float(low &- 16)
            unsafe out[16 &+ i] = d * Float(high &- 16)
        }
    }
}

// | 0 half d | 2 half m | 4 fifth bits, 4 | 8 nibbles, 16 |   value = d q + m
func decodeQ5_1(_ bytes: UnsafePointer<UInt8>, _ blocks: Int, _ output: UnsafeMutablePointer<Float>)
{
    for b in 0..<blocks {
        let block = unsafe bytes + 24 &* b
        let out = unsafe output + 32 &* b
        let d = unsafe half(block)
        let m = unsafe half(block + 2)
        let fifth = unsafe bits32(block + 4)
        let quants = unsafe block + 8
        for i in 0..<16 {
            let byte = unsafe Int32(quants[i])
            let low = byte & 15 | fifthBit(fifth, i)
            let high = byte >> 4 | fifthBit(fifth, 16 &+ i)
            unsafe out[i] = d * Float(low) + m
            unsafe out[16 &+ i] = d * Float(high) + m
        }
    }
}

/// Bit `index` of `word` as the value 16 or 0.
@inline(__always)
private func fifthBit(_ word: UInt32, _ index: Int) -> Int32 {
    Int32(truncatingIfNeeded: (word &>> UInt32(truncatingIfNeeded: index)) & 1) << 4
}

// | 0 half d | 2 int8 q, 32 |   value = q d
func decodeQ8_0(_ bytes: UnsafePointer<UInt8>, _ blocks: Int, _ output: UnsafeMutablePointer<Float>)
{
    for b in 0..<blocks {
        let block = unsafe bytes + 34 &* b
        let out = unsafe output + 32 &* b
        let d = unsafe half(block)
        let quants = unsafe block + 2
        for i in 0..<32 {
            unsafe out[i] = Float(Int8(bitPattern: quants[i])) * d
        }
    }
}
