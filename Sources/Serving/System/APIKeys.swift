import CHost
import Glibc

/// The keys that let a request in. Only their digests are kept.
///
/// A given key is compared by its SHA-256 with that of every key, over all 32 bytes: how long a
/// comparison takes says neither how long a key is nor where two differ, and which of them matched
/// is not told by when it ends.
public struct APIKeys: Sendable, Equatable {
    private let digests: [[UInt8]]

    public static let none = APIKeys(keys: [])

    /// Whether there is none, which lets every request in.
    public var isEmpty: Bool { digests.isEmpty }

    init(keys: [String]) { digests = keys.map { APIKeys.digest(Array($0.utf8)) } }

    /// Reads a file with one key per line; '#' begins a comment, at the start of a line.
    ///
    /// - Throws: `ServiceError` if the file cannot be read, is readable for everybody, or holds no
    ///   key. No message holds a key or a part of one.
    public init(path: String) throws(ServiceError) {
        let mode = unsafe host_file_mode(path)
        guard mode >= 0 else {
            throw ServiceError(
                "\(path): API keys cannot be read: \(unsafe String(cString: strerror(Int32(-mode))))"
            )
        }
        guard mode & 0o007 == 0 else {
            throw ServiceError(
                "\(path): API keys that everybody can read protect nothing; chmod o-rwx \(path)")
        }
        let text = try SmallTextFile.read(path, limitBytes: 1 << 20)
        let keys = text.split(whereSeparator: \.isNewline).map { $0.trimmed }
            .filter { !$0.isEmpty && !$0.hasPrefix("#") }
        guard !keys.isEmpty else {
            throw ServiceError(
                "\(path): holds no API key; write one on a line of its own, or take the file out of the "
                    + "configuration")
        }
        self.init(keys: keys.map(String.init))
    }

    /// Whether there is such a file at all; one that cannot be looked at counts, because taking it for
    /// none would let everybody in.
    static func exists(_ path: String) -> Bool { unsafe host_file_mode(path) != -ENOENT }

    /// Whether `key` is one of them.
    func accept(_ key: some StringProtocol) -> Bool {
        let given = APIKeys.digest(Array(key.utf8))
        var accepted: UInt8 = 0
        for digest in digests {
            var difference: UInt8 = 0
            for index in 0..<32 { difference |= digest[index] ^ given[index] }
            // 1 for a difference of 0, without a branch.
            accepted |= UInt8(truncatingIfNeeded: (UInt16(difference) &- 1) >> 15)
        }
        return accepted == 1
    }

    private static func digest(_ bytes: [UInt8]) -> [UInt8] {
        var hash = host_sha256()
        var digest = [UInt8](repeating: 0, count: 32)
        unsafe host_sha256_begin(&hash, 0)
        unsafe bytes.withUnsafeBytes { unsafe host_sha256_add(&hash, $0.baseAddress, $0.count) }
        unsafe host_sha256_end(&hash, &digest)
        return digest
    }
}

/// Text files that an administrator writes.
enum SmallTextFile {
    static func read(_ path: String, limitBytes: Int) throws(ServiceError) -> String {
        var bytes = [CChar](repeating: 0, count: limitBytes + 1)
        let count = unsafe host_read_text(path, &bytes, bytes.count)
        guard count >= 0 else {
            throw ServiceError(
                "\(path): cannot be read: \(unsafe String(cString: strerror(Int32(-count))))")
        }
        guard count <= limitBytes else {
            throw ServiceError(
                "\(path): longer than the \(limitBytes) bytes that such a file may have")
        }
        guard
            let text = String(
                validating: bytes.prefix(Int(count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        else { throw ServiceError("\(path): holds bytes that are no UTF-8") }
        return text
    }
}

extension Substring {
    /// Without white space at both ends.
    var trimmed: Substring {
        var text = self
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return text
    }
}
