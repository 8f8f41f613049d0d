// Blocks to floats: what every stored element *means*.
//
// This is the reference for the dot-product kernels and the way of formats that have none. Values are
// those of the dequantisers of the `gguf` Python package bit for bit, which fixes the order of the
// roundings: a scale is multiplied by its sub-scale first, then by the integer, then the minimum is
// subtracted, each step rounded to nearest even. Swift never contracts them into a fused multiply-add.
//
// Layouts are drawn at each decoder, offsets in bytes; `half` is an IEEE binary16, everything is
// little-endian. Nothing here allocates, throws or fails.

public import ModelFormats

/// Decodes rows of weights.
public enum BlockDecoder {
    /// Decodes `elements` elements, a multiple of the format's block, from `source` to `output`.
    ///
    /// `source` needs no alignment and must hold `format.byteCount(elements:)` bytes, `output` room for
    /// `elements` floats; they must not overlap. Elements beyond the last whole block are left alone.
    public static func decode(
        _ format: BlockFormat, from source: UnsafeRawPointer, elements: Int,
        into output: UnsafeMutablePointer<Float>
    ) {
        let bytes = unsafe source.assumingMemoryBound(to: UInt8.self)
        let blocks = elements / format.elementsPerBlock
        switch format {
        case .f32: unsafe decodeF32(bytes, blocks, output)
        case .f16: unsafe decodeF16(bytes, blocks, output)
        case .bf16: unsafe decodeBF16(bytes, blocks, output)
        case .q4_0: unsafe decodeQ4_0(bytes, blocks, output)
        case .q4_1: unsafe decodeQ4_1(bytes, blocks, output)
        case .q5_0: unsafe decodeQ5_0(bytes, blocks, output)
        case .q5_1: unsafe decodeQ5_1(bytes, blocks, output)
        case .q8_0: unsafe decodeQ8_0(bytes, blocks, output)
        case .q2_K: unsafe decodeQ2_K(bytes, blocks, output)
        case .q3_K: unsafe decodeQ3_K(bytes, blocks, output)
        case .q4_K: unsafe decodeQ4_K(bytes, blocks, output)
        case .q5_K: unsafe decodeQ5_K(bytes, blocks, output)
        case .q6_K: unsafe decodeQ6_K(bytes, blocks, output)
        case .iq4_nl: unsafe decodeIQ4_NL(bytes, blocks, output)
        case .iq4_xs: unsafe decodeIQ4_XS(bytes, blocks, output)
        case .mxfp4: unsafe decodeMXFP4(bytes, blocks, output)
        case .tq1_0: unsafe decodeTQ1_0(bytes, blocks, output)
        case .tq2_0: unsafe decodeTQ2_0(bytes, blocks, output)
        }
    }

    /// Decodes whole blocks, for tests and tools; `bytes` must be a whole number of them.
    public static func decode(_ format: BlockFormat, _ bytes: [UInt8]) -> [Float] {
        precondition(
            bytes.count % format.bytesPerBlock == 0,
            "\(bytes.count) bytes are not whole blocks of \(format.name)")
        let elements = bytes.count / format.bytesPerBlock * format.elementsPerBlock
        return unsafe [Float](unsafeUninitializedCapacity: elements) { output, count in
            unsafe bytes.withUnsafeBytes { source in
                if let source = source.baseAddress, let output = output.baseAddress {
                    unsafe decode(format, from: source, elements: elements, into: output)
                }
            }
            count = elements
        }
    }
}

/// The little-endian 16 bits at `bytes`.
@inline(__always)
func bits16(_ bytes: UnsafePointer<UInt8>) -> UInt16 {
    unsafe UInt16(littleEndian: UnsafeRawPointer(bytes).loadUnaligned(as: UInt16.self))
}

/// The little-endian 32 bits at `bytes`.
@inline(__always)
func bits32(_ bytes: UnsafePointer<UInt8>) -> UInt32 {
    unsafe UInt32(littleEndian: UnsafeRawPointer(bytes).loadUnaligned(as: UInt32.self))
}

/// The half-precision number at `bytes`.
@inline(__always)
func half(_ bytes: UnsafePointer<UInt8>) -> Float {
    unsafe Float(halfBits: bits16(bytes))
}
