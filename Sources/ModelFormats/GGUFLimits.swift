/// What a GGUF header may hold. Real files stay far below; beyond, a file is damaged or hostile.
enum GGUFLimits {
    /// Bytes up to the first tensor's data. The largest vocabularies (262,144 entries and their merges)
    /// take about 15 MB.
    static let headerBytes = 128 << 20
    /// Metadata keys; models have 30 to 60.
    static let keys: UInt64 = 65_536
    /// Bytes of one key, as the specification says.
    static let keyBytes: UInt64 = 65_535
    /// Tensors of one file; a large model with stacked experts has about 1,000.
    static let tensors: UInt64 = 262_144
    /// Bytes of a tensor's name, as the specification says.
    static let tensorNameBytes: UInt64 = 64
    /// Dimensions of a tensor, as the specification says.
    static let dimensions: UInt32 = 4
    /// Arrays inside arrays; the vocabulary of models needs one level.
    static let arrayDepth = 4
    /// Bytes to which tensor data may be aligned; 32 unless the file says otherwise.
    static let alignment = 8...1 << 20
    /// The alignment of a file that states none.
    static let defaultAlignment = 32
    /// Bytes read from the file at a time.
    static let readBytes = 1 << 20

    /// Least bytes of a metadata entry: key length, one byte of key, type, one byte of value.
    static let smallestEntry: UInt64 = 8 + 1 + 4 + 1
    /// Least bytes of a tensor's description: name length, one byte of name, dimension count, type, offset.
    static let smallestTensor: UInt64 = 8 + 1 + 4 + 4 + 8
}
