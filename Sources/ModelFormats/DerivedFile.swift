// The file for tensors that had to be written anew: it has no name, so that nothing of it is left when
// the process ends, however it ends. What must read it opens /proc/self/fd/N, which is the file itself.

internal import CHost
import Glibc

/// A file without a name, of a size that is known beforehand; gone when the last reference goes.
final class DerivedFile: Sendable {
    /// Under which this process can open it.
    let path: String
    let size: Int
    /// Where it takes room.
    let folder: String
    private let descriptor: Int32

    /// Makes one in `folder`; nil for TMPDIR, or /var/tmp where that is not set. It takes no room yet.
    init(size: Int, folder: String?) throws(ModelFileError) {
        let folder = folder ?? Self.temporaryFolder
        let opened = unsafe host_unnamed_file(folder)
        guard opened >= 0 else {
            throw ModelFileError(
                path: folder,
                message: "no file can be made here for rewritten weights: "
                    + "\(systemMessage(-opened)); \(Self.advice)")
        }
        guard ftruncate(opened, size) == 0 else {
            let code = errno
            close(opened)
            throw Self.noRoom(folder, size, code)
        }
        self.folder = folder
        self.size = size
        descriptor = opened
        path = "/proc/self/fd/\(opened)"
    }

    deinit { close(descriptor) }

    private static let advice = "set TMPDIR to a folder with room, or use the model as GGUF"

    private static var temporaryFolder: String {
        guard let value = unsafe getenv("TMPDIR") else { return "/var/tmp" }
        let path = unsafe String(cString: value)
        return path.isEmpty ? "/var/tmp" : path
    }

    /// Bytes that this process may take in `folder`; nil where the system does not say.
    private static func free(_ folder: String) -> Int? {
        var status = statvfs()
        guard unsafe statvfs(folder, &status) == 0 else { return nil }
        return Int(clamping: status.f_bavail.multipliedReportingOverflow(by: status.f_frsize).0)
    }

    private static func noRoom(_ folder: String, _ size: Int, _ code: Int32) -> ModelFileError {
        let free = free(folder).map { ", \(byteText($0)) are free" } ?? ""
        return ModelFileError(
            path: folder,
            message: "no room for \(byteText(size)) of rewritten weights\(free) "
                + "(\(systemMessage(code))): \(advice)")
    }

    /// Takes the room, so that no write fails later.
    func reserve() throws(ModelFileError) {
        // Asked first: what does not fit would take all that is there, for a moment, from others.
        if let free = Self.free(folder), free < size {
            throw Self.noRoom(folder, size, ENOSPC)
        }
        let code = host_allocate(descriptor, UInt64(size))
        guard code == 0 || code == EOPNOTSUPP || code == ENOSYS else {
            throw Self.noRoom(folder, size, code)
        }
    }

    func write(_ bytes: [UInt8], at offset: Int) throws(ModelFileError) {
        precondition(offset >= 0 && offset + bytes.count <= size)
        let code = unsafe bytes.withUnsafeBytes { buffer -> Int32 in
            var done = 0
            while done < buffer.count {
                let written = unsafe pwrite(
                    descriptor, buffer.baseAddress! + done, buffer.count - done, offset + done)
                if written < 0 {
                    if errno == EINTR { continue }
                    return errno
                }
                done += written
            }
            return 0
        }
        guard code == 0 else { throw Self.noRoom(folder, size, code) }
    }

    /// Has what was written go to the device, and lets the page cache forget it: it would count
    /// against a memory limit.
    func settle() {
        fdatasync(descriptor)
        host_drop_cached(descriptor, 0, UInt64(size))
    }
}

/// A number of bytes, for people.
func byteText(_ count: Int) -> String {
    for (unit, size) in [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000)]
    where count >= size {
        let tenths = (count + size / 20) / (size / 10)
        return "\(tenths / 10).\(tenths % 10) \(unit)"
    }
    return "\(count) bytes"
}
