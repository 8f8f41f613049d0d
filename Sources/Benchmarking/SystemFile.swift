import CHost
import Glibc

/// A call that the kernel refused.
struct SystemError: Error, Equatable {
    let number: Int32

    /// "No such file or directory".
    var text: String { unsafe String(cString: strerror(number)) }

    /// Of the call just made.
    static var last: SystemError { SystemError(number: errno) }
}

/// Small text files of the kernel: /proc, /sys, control groups.
enum SystemFile {
    private static let largestBytes = 1 << 20

    static func read(_ path: String) throws(SystemError) -> String {
        var bytes = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = unsafe bytes.withUnsafeMutableBytes { buffer in
                unsafe host_read_text(path, buffer.baseAddress, buffer.count)
            }
            guard count >= 0 else { throw SystemError(number: Int32(-count)) }
            if count < bytes.count { return String(decoding: bytes[..<Int(count)], as: UTF8.self) }
            // There are files without an end.
            guard bytes.count < largestBytes else { throw SystemError(number: EFBIG) }
            bytes = [UInt8](repeating: 0, count: bytes.count * 4)
        }
    }

    /// One line's content; nil where there is no such file.
    static func line(_ path: String) -> String? {
        guard let text = try? read(path) else { return nil }
        return text.split(separator: "\n").first.map { String($0).trimmed } ?? ""
    }

    /// Writes in one call, as these files want it.
    static func write(_ text: String, to path: String) throws(SystemError) {
        let descriptor = unsafe open(path, O_WRONLY | O_TRUNC | O_CLOEXEC)
        guard descriptor >= 0 else { throw .last }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        let count = unsafe Glibc.write(descriptor, bytes, bytes.count)
        guard count >= 0 else { throw .last }
        guard count == bytes.count else { throw SystemError(number: EIO) }
    }

    static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

    static func requireWritable(_ path: String) throws(SystemError) {
        guard unsafe access(path, W_OK) == 0 else { throw .last }
    }

    /// Names in a folder; none where it cannot be read.
    static func names(in folder: String) -> [String] {
        guard let listing = unsafe opendir(folder) else { return [] }
        defer { unsafe closedir(listing) }
        var names: [String] = []
        while let entry = unsafe readdir(listing) {
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }
}

extension String {
    /// Without blanks and line ends around it.
    var trimmed: String {
        let blanks: (Character) -> Bool = { $0.isWhitespace }
        return String(drop(while: blanks).reversed().drop(while: blanks).reversed())
    }

}

extension StringProtocol {
    var words: [String] { split(whereSeparator: \.isWhitespace).map { String($0) } }
}
