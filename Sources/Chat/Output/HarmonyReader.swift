/// Reads gpt-oss's messages: a header with a channel and perhaps a recipient, `<|message|>`, a
/// body, and a marker that ends it. Channel `analysis` is reasoning; `commentary` with a recipient
/// a call, without one a remark to the user; `final` the answer.
///
/// The text begins behind `<|start|>assistant`, which the prompt ends with.
struct HarmonyReader: Sendable {
    private enum State { case header, content, reasoning, call, dropped }

    static let markers = [
        "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|call|>",
        "<|return|>",
    ]
    private static let ends = ["<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>"]
        .map { Array($0.utf8) }
    /// Bytes a header may have.
    private static let longestHeader = 1024

    private let readsCalls: Bool
    private let splitsReasoning: Bool
    private var state = State.header
    private var arguments = ArgumentsReader()
    private var hasMessage = false

    init(readsCalls: Bool, splitsReasoning: Bool) {
        self.readsCalls = readsCalls
        self.splitsReasoning = splitsReasoning
    }

    mutating func read(_ text: inout PendingText, into sink: inout DeltaSink) {
        while step(&text, &sink) {}
        text.forgetRead()
    }

    /// False when more text is needed.
    private mutating func step(_ text: inout PendingText, _ sink: inout DeltaSink) -> Bool {
        switch state {
        case .header: return readHeader(&text, &sink)
        case .call:
            switch arguments.read(&text, into: &sink) {
            case .unsure: return false
            case .done, .malformed: state = .dropped
            }
            return true
        case .content, .reasoning, .dropped: return readBody(&text, &sink)
        }
    }

    private mutating func readHeader(_ text: inout PendingText, _ sink: inout DeltaSink) -> Bool {
        let message = Array("<|message|>".utf8)
        let start = text.position
        // A model that leaves the format out writes an answer.
        if !hasMessage {
            text.skipSpace()
            let isHeader = ["<|", "to="].contains {
                text.match(Array($0.utf8), at: text.position) != .no
            }
            text.position = start
            guard isHeader else { return beginPlain() }
        }
        guard case .marker(let end, _) = text.scan([message]) else {
            let length = text.bytes.count - start
            if length > Self.longestHeader { return beginPlain() }
            // Cut off within a header, nothing was said.
            if text.isWhole { text.position = text.bytes.count }
            return false
        }
        guard end - start <= Self.longestHeader else { return beginPlain() }
        let header = text.bytes[start..<end].string
        text.position = end + message.count
        hasMessage = true
        begin(header, &text, &sink)
        return true
    }

    private mutating func beginPlain() -> Bool {
        hasMessage = true
        state = .content
        return true
    }

    private mutating func begin(
        _ header: String, _ text: inout PendingText, _ sink: inout DeltaSink
    ) {
        let recipient = Self.word(after: "to=", in: header)
        let channel = Self.word(after: "<|channel|>", in: header)
        if let recipient, recipient != "assistant", recipient != "user", recipient != "all",
            readsCalls
        {
            let prefix = "functions."
            sink.beginCall(
                recipient.hasPrefix(prefix)
                    ? String(recipient.dropFirst(prefix.count)) : recipient, id: nil)
            arguments = ArgumentsReader()
            text.skipSpace()
            state = .call
        } else {
            state = channel == "analysis" && splitsReasoning ? .reasoning : .content
        }
    }

    /// The word behind a marker, up to white space or the next marker.
    private static func word(after marker: String, in header: String) -> String? {
        guard let range = header.utf8.firstRange(of: marker.utf8) else { return nil }
        let word = header[range.upperBound...].prefix { !$0.isWhitespace && $0 != "<" }
        return word.isEmpty ? nil : String(word)
    }

    private mutating func readBody(_ text: inout PendingText, _ sink: inout DeltaSink) -> Bool {
        let scan = text.scan(Self.ends)
        let end =
            switch scan {
            case .marker(let start, _): start
            case .text(let end): end
            }
        let body = text.bytes[text.position..<end]
        switch state {
        case .content: sink.content(body)
        case .reasoning: sink.reasoning(body)
        default: break
        }
        text.position = end
        guard case .marker(_, let which) = scan else { return false }
        // A channel without a start belongs to the next header.
        if which < 3 { text.position += Self.ends[which].count }
        state = .header
        return true
    }
}
