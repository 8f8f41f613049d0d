/// Reads calls whose name stands before the arguments.
struct HeadedCallReader: Sendable {
    private enum State { case header, beforeArguments, nameLine, arguments, afterArguments, next }

    static let callIDMarker = "[CALL_ID]"

    private let syntax: HeadedCallSyntax
    private var state: State
    private var name = ""
    private var id: String?
    private var arguments = ArgumentsReader()
    private var hasNameLine = false
    /// No call has been read yet.
    private var isFirst = true

    init(_ syntax: HeadedCallSyntax) {
        self.syntax = syntax
        state = syntax.isOpen ? .header : .next
    }

    mutating func read(_ text: inout PendingText, into sink: inout DeltaSink) -> ReadingProgress {
        while true {
            switch state {
            case .next:
                if let progress = readNext(&text) { return progress }
            case .header:
                if let progress = readHeader(&text) { return progress }
            case .beforeArguments, .nameLine:
                if let progress = readBeforeArguments(&text, &sink) { return progress }
            case .arguments:
                switch arguments.read(&text, into: &sink) {
                case .done: state = .afterArguments
                case .malformed: return .malformed
                case .unsure: return text.isWhole ? .malformed : .unsure
                }
            case .afterArguments:
                if let progress = readAfterArguments(&text) { return progress }
            }
        }
    }

    /// The next call of a section, or its end.
    private mutating func readNext(_ text: inout PendingText) -> ReadingProgress? {
        text.skipSpace()
        let markers = [syntax.callOpen, syntax.sectionClose ?? ""].map { Array($0.utf8) }
        switch text.take(markers) {
        case .found(0):
            state = .header
            return nil
        case .found: return isFirst ? .malformed : .done
        case .unsure: return .unsure
        case .none:
            if text.isAtEnd, !text.isWhole { return .unsure }
            return isFirst ? .malformed : .done
        }
    }

    private mutating func readHeader(_ text: inout PendingText) -> ReadingProgress? {
        guard let (bytes, _) = text.read(until: [Array(syntax.headerEnd.utf8)]) else {
            // A name does not go on for ever.
            let length = text.bytes.count - text.position
            return text.isWhole || length > 512 ? .malformed : .unsure
        }
        guard bytes.count <= 512 else { return .malformed }
        isFirst = false
        hasNameLine = false
        name = bytes.trimmed.string
        id = nil
        switch syntax.header {
        case .name: break
        case .numbered:
            id = name
            if name.hasPrefix("functions.") { name.removeFirst("functions.".count) }
            if let colon = name.lastIndex(of: ":") { name = String(name[..<colon]) }
        case .identified:
            if let range = name.utf8.firstRange(of: Self.callIDMarker.utf8) {
                id = String(name[range.upperBound...])
                name = String(name[..<range.lowerBound])
            }
        }
        state = .beforeArguments
        return name.isEmpty ? .malformed : nil
    }

    /// The arguments follow, or, in DeepSeek R1's way, the name on a line of its own and the
    /// arguments between fences.
    private mutating func readBeforeArguments(
        _ text: inout PendingText, _ sink: inout DeltaSink
    ) -> ReadingProgress? {
        if state == .beforeArguments {
            text.skipSpace()
            guard let first = text.first else { return text.isWhole ? .malformed : .unsure }
            switch text.take([Array("```json".utf8)]) {
            case .found: text.skipSpace()
            case .unsure: return .unsure
            case .none where first != UInt8(ascii: "{"):
                if hasNameLine { return .malformed }
                state = .nameLine
            case .none: break
            }
        }
        if state == .nameLine {
            guard let (line, _) = text.read(until: [[0x0A]]) else {
                let length = text.bytes.count - text.position
                return text.isWhole || length > 512 ? .malformed : .unsure
            }
            name = line.trimmed.string
            hasNameLine = true
            guard !name.isEmpty, line.count <= 512 else { return .malformed }
            state = .beforeArguments
            return nil
        }
        guard let first = text.first else { return text.isWhole ? .malformed : .unsure }
        guard first == UInt8(ascii: "{") else { return .malformed }
        sink.beginCall(name, id: id)
        arguments = ArgumentsReader()
        state = .arguments
        return nil
    }

    private mutating func readAfterArguments(_ text: inout PendingText) -> ReadingProgress? {
        text.skipSpace()
        let markers = ["```", syntax.callClose ?? ""].map { Array($0.utf8) }
        switch text.take(markers) {
        case .found(0): return nil
        case .unsure: return .unsure
        case .found: break
        case .none:
            if text.isAtEnd, !text.isWhole { return .unsure }
        }
        state = .next
        return nil
    }
}
