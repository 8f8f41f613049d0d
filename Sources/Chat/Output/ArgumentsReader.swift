import JSONTree

/// Reads the JSON value that is a call's arguments. An object is handed on as it comes in; what
/// else models write in its place is turned into one where its meaning is plain.
struct ArgumentsReader: Sendable {
    private var scanner = JSONValueScanner()
    private var value: [UInt8] = []
    /// Nothing is kept: the bytes go on at once.
    private var isStreamed = false
    private var isEmpty = true

    /// `done` once the whole value was read and handed on. The text stands at its first byte when
    /// this is called first.
    mutating func read(_ text: inout PendingText, into sink: inout DeltaSink) -> ReadingProgress {
        var progress = ReadingProgress.unsure
        var end = false
        while !end, let byte = text.first {
            if isEmpty {
                isStreamed = byte == UInt8(ascii: "{")
                isEmpty = false
            }
            switch scanner.step(byte) {
            case .inside: break
            case .last:
                end = true
                progress = .done
            case .after:
                progress = .done
                end = true
                continue
            case .invalid:
                progress = .malformed
                end = true
                continue
            }
            value.append(byte)
            text.position += 1
        }
        // Numbers and words end with the text too.
        if progress == .unsure, text.isWhole, !isStreamed, !isEmpty { progress = .done }
        if isStreamed {
            sink.arguments(value)
            value = []
        } else if progress == .done {
            sink.arguments(Self.object(value))
        }
        return progress
    }

    /// What the value means as an object: `null` none, and a string what it spells.
    private static func object(_ value: [UInt8]) -> [UInt8] {
        guard let json = try? JSON(parsing: value) else { return value }
        switch json {
        case .null: return Array("{}".utf8)
        case .string(let text): return Array((text.isEmpty ? "{}" : text).utf8)
        default: return value
        }
    }
}
