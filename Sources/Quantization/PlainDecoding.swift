// Formats without blocks.

func decodeF32(_ bytes: UnsafePointer<UInt8>, _ count: Int, _ output: UnsafeMutablePointer<Float>) {
    for i in 0..<count { unsafe output[i] = Float(bitPattern: bits32(bytes + 4 &* i)) }
}

func decodeF16(_ bytes: UnsafePointer<UInt8>, _ count: Int, _ output: UnsafeMutablePointer<Float>) {
    for i in 0..<count { unsafe output[i] = half(bytes + 2 &* i) }
}

func decodeBF16(_ bytes: UnsafePointer<UInt8>, _ count: Int, _ output: UnsafeMutablePointer<Float>)
{
    for i in 0..<count { unsafe output[i] = Float(bfloat16Bits: bits16(bytes + 2 &* i)) }
}
