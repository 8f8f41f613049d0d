// A large file in the making: written in any order under a temporary name, and renamed when it is whole.

internal import CHost
import Glibc

/// A file that cannot be written; its text is one line.
public struct OutputError: Error, CustomStringConvertible, Sendable {
    /// The file.
    public let path: String
    /// What happened, and what to do.
    public let message: String
    /// Whether it could not even be created.
    public let isCreation: Bool

    init(path: String, _ message: String, isCreation: Bool = false) {
        self.path = path
        self.message = message
        self.isCreation = isCreation
    }

    public var description: String {
        path.onOneLine(limit: .max) + ": " + message.onOneLine(limit: 1000)
    }
}

/// A file open for writing at any offset; closed when the last reference goes.
final class OutputFile {
    let path: String
    private let descriptor: Int32
    /// From here on, bytes have been written since the last `synchronise`.
    private var unsynchronisedFrom: UInt64 = .max
    private var unsynchronisedTo: UInt64 = 0

    /// Opens `path`, keeping what it holds, and claims it against other processes.
    init(path: String) throws(OutputError) {
        let opened = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o666)
        guard opened >= 0 else {
            throw OutputError(
                path: path, "cannot be created: \(systemMessage(errno))", isCreation: true)
        }
        guard flock(opened, LOCK_EX | LOCK_NB) == 0 else {
            close(opened)
            throw OutputError(
                path: path,
                "another process is writing this file; wait for it, or choose another name",
                isCreation: true)
        }
        self.path = path
        descriptor = opened
    }

    deinit { close(descriptor) }

    /// Bytes it holds.
    var size: Int { max(0, Int(host_file_size(descriptor))) }

    /// Bytes written since the last `synchronise`, gaps included.
    var unsynchronisedBytes: UInt64 {
        unsynchronisedTo > unsynchronisedFrom ? unsynchronisedTo - unsynchronisedFrom : 0
    }

    /// Cuts or extends it to `size` bytes; what is added reads as zeros.
    func resize(_ size: UInt64) throws(OutputError) {
        guard ftruncate(descriptor, Int(size)) == 0 else { throw failure() }
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(OutputError) {
        unsynchronisedFrom = min(unsynchronisedFrom, offset)
        unsynchronisedTo = max(unsynchronisedTo, offset + UInt64(bytes.count))
        var done = 0
        while done < bytes.count {
            let written = unsafe pwrite(
                descriptor, bytes.baseAddress! + done, bytes.count - done, Int(offset) + done)
            if written < 0 {
                if errno == EINTR { continue }
                throw failure()
            }
            done += written
        }
    }

    func write(_ bytes: [UInt8], at offset: UInt64) throws(OutputError) {
        var failure: OutputError?
        unsafe bytes.withUnsafeBytes { buffer in
            do throws(OutputError) { unsafe try write(buffer, at: offset) } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }

    /// Fills `buffer` from `offset` on. False if the file ends before.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) -> Bool {
        var done = 0
        while done < buffer.count {
            let count = unsafe host_read(
                descriptor, buffer.baseAddress! + done, buffer.count - done, offset + UInt64(done))
            if count == -Int64(EINTR) { continue }
            guard count > 0 else { return false }
            done += Int(count)
        }
        return true
    }

    /// Makes sure that what was written is on the device, and lets the page cache forget it: it would
    /// count against a memory limit, and nobody reads it soon.
    func synchronise() throws(OutputError) {
        guard fsync(descriptor) == 0 else { throw failure() }
        if unsynchronisedTo > unsynchronisedFrom {
            host_drop_cached(descriptor, unsynchronisedFrom, unsynchronisedBytes)
        }
        unsynchronisedFrom = .max
        unsynchronisedTo = 0
    }

    private func failure() -> OutputError { OutputError(path: path, Self.reason(errno)) }

    private static func reason(_ code: Int32) -> String {
        switch code {
        case ENOSPC, EDQUOT, EFBIG:
            "cannot be written: \(systemMessage(code)); make room and run the command again, it goes on "
                + "where it stopped"
        default: "cannot be written: \(systemMessage(code))"
        }
    }

    /// Gives `temporary` the name `path`, for good: a crash of the machine after it does not undo it.
    static func rename(_ temporary: String, to path: String) throws(OutputError) {
        guard unsafe Glibc.rename(temporary, path) == 0 else {
            throw OutputError(path: path, "cannot be named: \(systemMessage(errno))")
        }
        let folder = unsafe open(folder(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { return }
        fsync(folder)
        close(folder)
    }

    /// Bytes free for this user on the file system of `path`; nil if it does not say.
    static func freeBytes(for path: String) -> UInt64? {
        var status = statvfs()
        guard unsafe statvfs(folder(of: path), &status) == 0 else { return nil }
        return UInt64(status.f_bavail) * UInt64(status.f_frsize)
    }

    static func remove(_ path: String) { _ = unsafe unlink(path) }

    private static func folder(of path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}
