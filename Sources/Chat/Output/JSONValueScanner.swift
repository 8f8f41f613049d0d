/// Finds where a JSON value ends while it comes in byte by byte. It looks at brackets and strings
/// only: what a model writes as arguments is handed on as it is.
struct JSONValueScanner: Sendable {
    enum Step { case inside, last, after, invalid }

    private var brackets: [UInt8] = []
    private var isInString = false
    private var isEscaped = false
    private var hasBegun = false

    /// Brackets inside each other, at most.
    private static let greatestDepth = 256

    /// Takes the next byte; the first one begins the value. `after` says that the byte belongs to
    /// what follows: numbers and words end only there.
    mutating func step(_ byte: UInt8) -> Step {
        defer { hasBegun = true }
        if isInString {
            if isEscaped {
                isEscaped = false
            } else if byte == UInt8(ascii: "\\") {
                isEscaped = true
            } else if byte == UInt8(ascii: "\"") {
                isInString = false
                return brackets.isEmpty ? .last : .inside
            }
            return .inside
        }
        switch byte {
        case UInt8(ascii: "\""):
            if hasBegun, brackets.isEmpty { return .invalid }
            isInString = true
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            if hasBegun, brackets.isEmpty || brackets.count == Self.greatestDepth {
                return .invalid
            }
            brackets.append(byte == UInt8(ascii: "{") ? UInt8(ascii: "}") : UInt8(ascii: "]"))
        case UInt8(ascii: "}"), UInt8(ascii: "]"):
            if brackets.isEmpty { return hasBegun ? .after : .invalid }
            if brackets.popLast() != byte { return .invalid }
            return brackets.isEmpty ? .last : .inside
        case UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: "."),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "A")...UInt8(ascii: "Z"):
            break
        default:
            if brackets.isEmpty { return hasBegun ? .after : .invalid }
        }
        return .inside
    }
}
