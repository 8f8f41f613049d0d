/// A tensor of a model's files: what it is and where its bytes lie. The range is inside the file.
public struct GGUFTensor: Sendable {
    /// Its name, unique in the model, as in `blk.0.attn_q.weight`.
    public let name: String
    /// Its dimensions, 0 to 4 of them, the fastest-moving first as GGUF stores them: a matrix is
    /// (columns, rows), stacked experts are (columns, rows, experts).
    public let shape: [Int]
    /// How its elements are stored. Rows are whole blocks.
    public let format: BlockFormat
    /// Which of the model's files holds it, an index into `ModelFile.paths`.
    public let fileIndex: Int
    /// Its first byte, counted from the start of that file.
    public let fileOffset: UInt64
    /// Bytes of it all.
    public let byteCount: Int
    /// Elements of it all.
    public let elementCount: Int
    /// How a package keeps its bytes; nil where they lie in the file as they are, unchecked.
    public internal(set) var storage: TensorStorage?
}

/// The names under which ggml knows the numbers of tensor types, for refusing those we cannot read.
func ggmlTypeName(_ number: UInt32) -> String? {
    if let format = BlockFormat(rawValue: number) { return format.name }
    return switch number {
    case 4: "Q4_2"
    case 5: "Q4_3"
    case 9: "Q8_1"
    case 15: "Q8_K"
    case 16: "IQ2_XXS"
    case 17: "IQ2_XS"
    case 18: "IQ3_XXS"
    case 19: "IQ1_S"
    case 21: "IQ3_S"
    case 22: "IQ2_S"
    case 24: "I8"
    case 25: "I16"
    case 26: "I32"
    case 27: "I64"
    case 28: "F64"
    case 29: "IQ1_M"
    case 31: "Q4_0_4_4"
    case 32: "Q4_0_4_8"
    case 33: "Q4_0_8_8"
    case 36: "IQ4_NL_4_4"
    case 37: "IQ4_NL_4_8"
    case 38: "IQ4_NL_8_8"
    case 40: "NVFP4"
    case 41: "Q1_0"
    default: nil
    }
}
