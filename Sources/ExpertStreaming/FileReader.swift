private import CHost

/// Reads any range of a file into any memory, and leaves nothing in the page cache.
///
/// For weights that stay in memory: as ordinary reads they would be there twice, and the copy in
/// the page cache would count against the memory limit. Reads with O_DIRECT through a bounce buffer
/// where the file allows it, else through the page cache, dropping what was read.
public struct FileReader: ~Copyable {
    public let path: String
    /// Size of the file in bytes when it was opened.
    public let fileBytes: UInt64
    /// Whether the page cache is bypassed.
    public private(set) var isDirect: Bool

    private let buffered: OpenFiles
    private let direct: OpenFiles
    private let alignment: Int
    private let bounce: Bounce

    /// Memory that a reader takes, in bytes.
    public static let bounceBytes = 4 << 20

    /// - Throws: `unusableFile` if the file cannot be opened or is not a regular one.
    public init(path: String) throws(StreamingError) {
        var buffered = OpenFiles(count: 1)
        if let failure = buffered.open(paths: [path], direct: false) {
            throw StreamingError(
                .unusableFile, "\(path): cannot be opened (\(errnoText(failure.error)))")
        }
        let size = host_file_size(buffered.descriptors[0])
        guard size >= 0 else {
            throw StreamingError(.unusableFile, "\(path): no size (\(errnoText(Int32(-size))))")
        }
        var direct = OpenFiles(count: 1)
        let refused = direct.open(paths: [path], direct: true) != nil
        guard let bounce = Bounce() else {
            throw StreamingError(
                .outOfMemory, "no memory for a read buffer of \(ByteSize(bytes: Self.bounceBytes))")
        }
        alignment = buffered.directAlignment()
        isDirect = !refused
        fileBytes = UInt64(size)
        self.path = path
        self.buffered = buffered
        self.direct = direct
        self.bounce = bounce
    }

    /// Reads `byteCount` bytes from `offset` on.
    ///
    /// - Throws: `readFailed` naming the offset if the file ends early or the device fails.
    public mutating func read(
        into destination: UnsafeMutableRawPointer, offset: UInt64, byteCount: Int
    ) throws(StreamingError) {
        guard byteCount >= 0, offset <= fileBytes, UInt64(byteCount) <= fileBytes - offset else {
            throw StreamingError(
                .readFailed,
                "\(path): \(byteCount) bytes at offset \(offset) reach past its end at "
                    + "\(fileBytes); the file is truncated")
        }
        var done: UInt64 = 0
        var attempts = 0
        while done < UInt64(byteCount) {
            let at = offset + done
            let left = UInt64(byteCount) - done
            let result =
                unsafe isDirect
                ? readDirect(into: destination + Int(done), offset: at, left: left)
                : readBuffered(into: destination + Int(done), offset: at, left: left)
            if result == -22 || result == -95, isDirect {
                isDirect = false  // EINVAL, EOPNOTSUPP: accepted at open, refused at the first read
                continue
            }
            if result == -4 || result == -11, attempts < 100 {
                attempts += 1  // EINTR, EAGAIN
                continue
            }
            guard result > 0 else {
                throw StreamingError(
                    .readFailed,
                    "\(path): reading at offset \(at) failed "
                        + "(\(result == 0 ? "the file ends there" : errnoText(Int32(-result))))")
            }
            attempts = 0
            done += UInt64(result)
        }
    }

    /// Bytes that arrived, or a negative errno value.
    private func readDirect(
        into destination: UnsafeMutableRawPointer, offset: UInt64, left: UInt64
    ) -> Int64 {
        let mask = UInt64(alignment - 1)
        let lead = offset & mask
        // Straight to its place if that suits the device, and then all but the last block.
        if lead == 0, UInt(bitPattern: destination) & UInt(mask) == 0, left > mask {
            let length = min(left & ~mask, 1 << 30)
            return unsafe host_read(direct.descriptors[0], destination, Int(length), offset)
        }
        let wanted = min(left, UInt64(Self.bounceBytes) - lead)
        let length = (lead + wanted + mask) & ~mask
        let result = unsafe host_read(
            direct.descriptors[0], bounce.address, Int(length), offset - lead)
        guard result > Int64(lead) else { return min(result, 0) }
        let arrived = min(UInt64(result) - lead, wanted)
        unsafe destination.copyMemory(from: bounce.address + Int(lead), byteCount: Int(arrived))
        return Int64(arrived)
    }

    private func readBuffered(
        into destination: UnsafeMutableRawPointer, offset: UInt64, left: UInt64
    ) -> Int64 {
        let length = min(left, UInt64(Self.bounceBytes))
        let result = unsafe host_read(buffered.descriptors[0], destination, Int(length), offset)
        if result > 0 { host_drop_cached(buffered.descriptors[0], offset, UInt64(result)) }
        return result
    }

    /// The bounce buffer; unmapped with its owner.
    @safe
    private struct Bounce: ~Copyable {
        let address: UnsafeMutableRawPointer

        init?() {
            var error: Int32 = 0
            guard let address = unsafe host_map_memory(FileReader.bounceBytes, 0, &error) else {
                return nil
            }
            unsafe self.address = address
        }

        deinit {
            unsafe host_unmap_memory(address, FileReader.bounceBytes)
        }
    }
}
