/// Why experts cannot be streamed: one line that says what failed, where, and what to do about it.
public struct StreamingError: Error, CustomStringConvertible, Sendable, Equatable {

    /// What went wrong, for callers that act on it.
    public enum Kind: Sendable, Equatable {
        /// A file cannot be opened, is not a regular file, or has not the size it was announced
        /// with.
        case unusableFile
        /// The layout contradicts itself or the files: an extent past the end of its file, for
        /// instance.
        case invalidLayout
        /// The cache is smaller than the experts that one token needs at once.
        case cacheTooSmall
        /// The kernel gives less memory than was planned.
        case outOfMemory
        /// The way of reading that was asked for does not work on this machine or file.
        case modeRefused
        /// A read failed or ended before the wanted bytes, after the retries that make sense.
        case readFailed
        /// Bytes arrived twice that do not match their checksum.
        case damagedRecord
    }

    public let kind: Kind
    public let description: String

    init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }
}

/// "ENOENT (no such file)" and the like, for the errors that reading files can bring.
func errnoText(_ number: Int32) -> String {
    switch number {
    case 1: "EPERM: not permitted"
    case 2: "ENOENT: no such file"
    case 5: "EIO: the device reports an error"
    case 9: "EBADF: bad descriptor"
    case 11: "EAGAIN: try again"
    case 12: "ENOMEM: not enough memory"
    case 13: "EACCES: permission denied"
    case 14: "EFAULT: bad address"
    case 16: "EBUSY: busy"
    case 17: "EEXIST: used from a second thread"
    case 21: "EISDIR: not a regular file"
    case 22: "EINVAL: not supported for this file"
    case 23: "ENFILE: too many files open on this machine"
    case 24: "EMFILE: too many files open, see ulimit -n"
    case 38: "ENOSYS: this kernel does not have it"
    case 61: "ENODATA: unreadable sector"
    case 95: "EOPNOTSUPP: not supported"
    case 116: "ESTALE: the network file is gone"
    default: "errno \(number)"
    }
}
