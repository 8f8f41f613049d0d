/// How a package keeps the bytes of a tensor.
public struct TensorStorage: Sendable, Equatable {
    /// CRC-32C of the bytes in the file, compressed or not.
    public let checksum: UInt32
    /// Bytes of the zstd frames that hold it, in order: each holds `frameBytes` bytes of the tensor, the
    /// last one what is left. Empty where it is not compressed.
    public let frames: [Int]

    /// Bytes of a tensor that one frame holds.
    public static let frameBytes = PackageFormat.frameBytes

    /// Bytes in the file of a tensor of `byteCount` bytes.
    public func storedBytes(_ byteCount: Int) -> Int {
        frames.isEmpty ? byteCount : frames.reduce(0, +)
    }
}
