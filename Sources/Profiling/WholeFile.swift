import Glibc
public import ModelFormats

/// Reads and writes the files of this room in one piece.
public enum WholeFile {
    /// The bytes of the regular file at `path`.
    ///
    /// - Throws: `ModelFileError` where it cannot be read or is larger than `limit` bytes.
    public static func read(_ path: String, limit: Int) throws(ModelFileError) -> [UInt8] {
        guard !path.utf8.contains(0) else {
            throw ModelFileError(path: path, message: "a file name cannot contain a zero byte")
        }
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            throw ModelFileError(path: path, message: "cannot be opened: \(reason())")
        }
        defer { close(descriptor) }
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw ModelFileError(path: path, message: "is not a regular file")
        }
        let size = Int(status.st_size)
        guard size <= limit else {
            throw ModelFileError(
                path: path, message: "\(size) bytes are more than the \(limit) such a file may have"
            )
        }
        var bytes = [UInt8](repeating: 0, count: size)
        var done = 0
        while done < size {
            let count = unsafe bytes.withUnsafeMutableBytes { buffer in
                unsafe Glibc.read(descriptor, buffer.baseAddress! + done, size - done)
            }
            if count < 0 {
                if errno == EINTR { continue }
                throw ModelFileError(path: path, message: "cannot be read: \(reason())")
            }
            guard count > 0 else {
                throw ModelFileError(path: path, message: "ended early: it shrank while being read")
            }
            done += count
        }
        return bytes
    }

    private static func reason() -> String { unsafe String(cString: strerror(errno)) }
}
