internal import CHost
internal import ExpertStreaming
internal import ModelFormats

/// Reads tensors that a package keeps compressed, frame by frame: one frame is in memory beside the
/// tensor itself.
@safe struct FrameReader: ~Copyable {
    private let zstd = unsafe host_zstd_create()
    private var frame: [UInt8] = []

    /// Decompresses `tensor`, which has these frames, to `destination`.
    ///
    /// - Returns: CRC-32C of the frames.
    mutating func read(
        _ tensor: GGUFTensor, _ frames: [Int], _ reader: inout FileReader,
        into destination: UnsafeMutableRawPointer
    ) throws -> UInt32 {
        var checksum: UInt32 = 0
        var offset = tensor.fileOffset
        var done = 0
        for count in frames {
            if frame.count < count { frame = [UInt8](repeating: 0, count: count) }
            let expected = min(TensorStorage.frameBytes, tensor.byteCount - done)
            let size = try unsafe frame.withUnsafeMutableBytes { buffer -> Int64 in
                guard let start = buffer.baseAddress, let zstd = unsafe zstd else { return -1 }
                try unsafe reader.read(into: start, offset: offset, byteCount: count)
                checksum = unsafe host_crc32c(checksum, start, count)
                return unsafe host_zstd_decompress(
                    zstd, destination + done, expected, start, count)
            }
            guard size == Int64(expected) else {
                throw ModelFileError(
                    path: reader.path, field: "tensor \(tensor.name)", offset: offset,
                    message:
                        "a zstd frame that does not hold \(expected) bytes; it is damaged: fetch "
                        + "or pack the package again")
            }
            offset += UInt64(count)
            done += expected
        }
        return checksum
    }

    deinit { unsafe host_zstd_destroy(zstd) }
}
