private import CHost

/// A trace file open for reading.
final class TraceFile {
    let path: String
    let byteCount: Int
    private let descriptor: Int32

    init(path: String) throws(TraceError) {
        let descriptor = unsafe host_open_file(path, 0)
        guard descriptor >= 0 else {
            throw TraceError(
                .unusableFile, "\(path): cannot be opened (\(errnoText(-descriptor)))")
        }
        let size = host_file_size(descriptor)
        guard size >= 0 else {
            host_close_file(descriptor)
            throw TraceError(.unusableFile, "\(path): no size (\(errnoText(Int32(-size))))")
        }
        self.path = path
        self.descriptor = descriptor
        byteCount = Int(size)
    }

    deinit {
        host_close_file(descriptor)
    }

    /// Bytes from `offset` on; all of them, or an error.
    func read(offset: Int, count: Int) throws(TraceError) -> [UInt8] {
        precondition(offset >= 0 && count >= 0 && offset + count <= byteCount)
        var result: Int64 = 0
        var done = 0
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            while done < count {
                result = unsafe host_read(
                    descriptor, buffer.baseAddress! + done, count - done, UInt64(offset + done))
                if result == -4 { continue }  // EINTR
                if result <= 0 { break }
                done += Int(result)
            }
            filled = done
        }
        guard done == count else {
            throw TraceError(
                .disk,
                "\(path): reading at offset \(offset + done) failed "
                    + "(\(result == 0 ? "the file ends there" : errnoText(Int32(-result))))")
        }
        return bytes
    }
}
