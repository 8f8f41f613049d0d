/// Why a trace cannot be read, written or replayed: one line that names the file, the place and the
/// field.
public struct TraceError: Error, CustomStringConvertible, Sendable, Equatable {

    /// What went wrong, for callers that act on it.
    public enum Kind: Sendable, Equatable {
        /// The file cannot be opened.
        case unusableFile
        /// The file cannot be created.
        case cannotCreate
        /// The file is not a trace, contradicts itself, or ends within a token.
        case malformed
        /// Reading or writing failed.
        case disk
        /// What is asked for does not suit the trace: a size in bytes where it names none.
        case unsuitable
    }

    public let kind: Kind
    public let description: String

    init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }
}
