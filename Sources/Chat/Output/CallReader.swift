/// How far a reader of calls has come.
enum ReadingProgress: Equatable {
    /// It needs more text.
    case unsure
    case done
    /// This is no call. What was read before is to be read as something else, unless a call has
    /// begun already; then from here on.
    case malformed
}

/// Reads what follows a marker, whichever way it is written.
enum CallReader: Sendable {
    /// Nothing but white space has come yet.
    case choosing(CallSyntax, schemas: ToolSchemas)
    case json(JSONCallReader)
    case headed(HeadedCallReader)
    case tagged(TaggedCallReader)
    case pythonic(PythonicCallReader)

    mutating func read(_ text: inout PendingText, into sink: inout DeltaSink) -> ReadingProgress {
        if case .choosing(let syntax, let schemas) = self {
            text.skipSpace()
            guard let first = text.first else { return text.isWhole ? .malformed : .unsure }
            let isBracket = first == UInt8(ascii: "{") || first == UInt8(ascii: "[")
            if isBracket, let json = syntax.json {
                self = .json(JSONCallReader(json))
            } else if let headed = syntax.headed {
                self = .headed(HeadedCallReader(headed))
            } else if let tagged = syntax.tagged {
                self = .tagged(TaggedCallReader(tagged, schemas: schemas))
            } else if let pythonic = syntax.pythonic {
                self = .pythonic(PythonicCallReader(pythonic))
            } else {
                return .malformed
            }
        }
        switch self {
        case .choosing: return .malformed
        case .json(var reader):
            defer { self = .json(reader) }
            return reader.read(&text, into: &sink)
        case .headed(var reader):
            defer { self = .headed(reader) }
            return reader.read(&text, into: &sink)
        case .tagged(var reader):
            defer { self = .tagged(reader) }
            return reader.read(&text, into: &sink)
        case .pythonic(let reader): return reader.read(&text, into: &sink)
        }
    }
}
