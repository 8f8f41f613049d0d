import Glibc

/// Logits of many tokens, kept in a temporary file without a name: it goes with the value, and with
/// the process whatever its end.
public struct ReferenceLogits: ~Copyable {
    /// Logits of one token.
    public let vocabularyCount: Int
    /// Tokens kept.
    public private(set) var count = 0
    private let descriptor: Int32

    /// - Parameter folder: Where the file is; needs four bytes per token and logit.
    /// - Throws: `ProfilingError` where none can be made there.
    public init(vocabularyCount: Int, folder: String) throws(ProfilingError) {
        var template = Array("\(folder)/sluice-logits-XXXXXX".utf8CString)
        let descriptor = unsafe mkstemp(&template)
        guard descriptor >= 0 else {
            throw ProfilingError(
                "\(folder): no temporary file can be made: \(ReferenceLogits.reason()); set TMPDIR")
        }
        unsafe unlink(template)
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        self.init(vocabularyCount: vocabularyCount, descriptor: descriptor)
    }

    private init(vocabularyCount: Int, descriptor: Int32) {
        self.vocabularyCount = vocabularyCount
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    private var rowBytes: Int { vocabularyCount * 4 }

    /// Keeps the next token's logits.
    public mutating func append(_ logits: UnsafeBufferPointer<Float>) throws(ProfilingError) {
        precondition(logits.count == vocabularyCount, "logits of another model")
        let bytes = UnsafeRawBufferPointer(logits)
        var done = 0
        while done < bytes.count {
            let written = unsafe pwrite(
                descriptor, bytes.baseAddress! + done, bytes.count - done,
                off_t(count * rowBytes + done))
            if written < 0, errno == EINTR { continue }
            guard written > 0 else {
                throw ProfilingError(
                    "the temporary file of exact logits cannot be written: \(ReferenceLogits.reason()); set "
                        + "TMPDIR to a folder with more room, or take less text")
            }
            done += written
        }
        count += 1
    }

    /// Reads the logits of token `index` into `row`, which holds one vocabulary.
    public func read(_ index: Int, into row: inout [Float]) throws(ProfilingError) {
        precondition(index < count && row.count == vocabularyCount, "no such row")
        var done = 0
        while done < rowBytes {
            let count = unsafe row.withUnsafeMutableBytes { bytes in
                unsafe pread(
                    descriptor, bytes.baseAddress! + done, rowBytes - done,
                    off_t(index * rowBytes + done))
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                throw ProfilingError(
                    "the temporary file of exact logits cannot be read: \(ReferenceLogits.reason())"
                )
            }
            done += count
        }
    }

    private static func reason() -> String { unsafe String(cString: strerror(errno)) }
}
