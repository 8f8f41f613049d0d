// Where the bytes of a header come from: a file, or memory in tests and fuzzing.
//
// Files are read, never mapped: a mapped file that somebody truncates kills the process (SIGBUS), a read
// one ends in an error.

internal import CHost
import Glibc

/// A run of bytes of known length that can be read at any offset.
protocol ByteSource {
    /// The name that errors give it.
    var path: String { get }
    /// Bytes there are.
    var size: Int { get }
    /// Fills `buffer` from `offset` on; the caller has checked that the range lies inside `size`.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(ModelFileError)
    /// Says that a range will not be read again soon.
    func forget(from offset: Int, byteCount: Int)
}

extension ByteSource {
    func forget(from offset: Int, byteCount: Int) {}
}

extension ByteSource {
    /// `count` bytes from `offset` on, which the caller has checked to lie inside `size`.
    func bytes(at offset: Int, count: Int) throws(ModelFileError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var failure: ModelFileError?
        unsafe bytes.withUnsafeMutableBytes { buffer in
            do throws(ModelFileError) {
                try unsafe read(into: buffer, at: offset)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return bytes
    }
}

/// A regular file opened for reading; closed when the last reference goes.
///
/// What was read of it is dropped from the page cache at the end: a memory cgroup would charge it to us,
/// and nobody reads a header twice.
final class FileSource: ByteSource {
    let path: String
    let size: Int
    private let descriptor: Int32
    private var bytesRead = 0

    /// Opens `path`; directories, pipes and devices are refused, without waiting for a pipe's writer.
    init(path: String) throws(ModelFileError) {
        guard !path.utf8.contains(0) else {
            throw ModelFileError(path: path, message: "a file name cannot contain a zero byte")
        }
        let opened = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard opened >= 0 else {
            throw ModelFileError(path: path, message: "cannot be opened: \(systemMessage(errno))")
        }
        var status = stat()
        guard unsafe fstat(opened, &status) == 0 else {
            let code = errno
            close(opened)
            throw ModelFileError(path: path, message: "cannot be examined: \(systemMessage(code))")
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            close(opened)
            let kind =
                switch status.st_mode & S_IFMT {
                case S_IFDIR: "a directory"
                case S_IFIFO: "a pipe"
                case S_IFSOCK: "a socket"
                default: "a device"
                }
            throw ModelFileError(
                path: path, message: "expected a regular file, found \(kind); give the model's file"
            )
        }
        self.path = path
        size = Int(status.st_size)
        descriptor = opened
        // The reads below are as large as they should be; more read ahead would only be dropped again.
        posix_fadvise(opened, 0, 0, POSIX_FADV_RANDOM)
    }

    deinit {
        if bytesRead > 0 {
            // Rounded up: a page that is only partly in the range would stay.
            let pages = (bytesRead + 0xFFFF) / 0x10000 * 0x10000
            posix_fadvise(descriptor, 0, pages, POSIX_FADV_DONTNEED)
        }
        close(descriptor)
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(ModelFileError) {
        var done = 0
        while done < buffer.count {
            let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
            let count = unsafe pread(descriptor, rest.baseAddress, rest.count, offset + done)
            if count < 0 {
                if errno == EINTR { continue }
                throw ModelFileError(
                    path: path, offset: UInt64(offset + done),
                    message: "cannot be read: \(systemMessage(errno))")
            }
            guard count > 0 else {
                throw ModelFileError(
                    path: path, offset: UInt64(offset + done),
                    message: "the file was shortened while it was being read, from \(size) bytes")
            }
            done += count
        }
        bytesRead = max(bytesRead, offset + done)
    }

    func forget(from offset: Int, byteCount: Int) {
        host_drop_cached(descriptor, UInt64(offset), UInt64(byteCount))
    }
}

/// The system's words for an errno value.
func systemMessage(_ code: Int32) -> String {
    guard let text = unsafe strerror(code) else { return "error \(code)" }
    return unsafe String(cString: text)
}

/// Bytes in memory under a name.
struct MemorySource: ByteSource {
    let path: String
    let bytes: [UInt8]

    var size: Int { bytes.count }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(ModelFileError) {
        unsafe bytes.withUnsafeBytes { all in
            unsafe buffer.copyMemory(from: .init(rebasing: all[offset..<offset + buffer.count]))
        }
    }
}
