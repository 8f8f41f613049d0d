/// Reads text piece by piece, and knows where it is for errors.
struct TextScanner {
    private let bytes: [UInt8]
    private let name: String
    private var position = 0
    private var line = 1

    init(_ bytes: [UInt8], name: String) {
        self.bytes = bytes
        self.name = name
    }

    var isAtEnd: Bool { position == bytes.count }
    var isAtLineEnd: Bool { isAtEnd || bytes[position] == UInt8(ascii: "\n") }

    func error(_ field: String, _ why: String) -> TraceError {
        TraceError(
            .malformed, "\(name): line \(line), \(field): \(why) (offset \(position))")
    }

    /// Passes `text` if it comes next.
    mutating func take(_ text: StaticString) -> Bool {
        let count = text.utf8CodeUnitCount
        guard count <= bytes.count - position else { return false }
        let same = text.withUTF8Buffer { wanted in
            (0..<count).allSatisfy { unsafe bytes[position + $0] == wanted[$0] }
        }
        if same { position += count }
        return same
    }

    /// Passes `text`, which has to come next after any space.
    mutating func expect(_ text: StaticString, _ field: String) throws(TraceError) {
        skipSpace()
        guard take(text) else { throw error(field, "expected '\(text)'") }
    }

    mutating func skipSpace() {
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "\n"): line += 1
            case UInt8(ascii: " "), UInt8(ascii: "\r"), UInt8(ascii: "\t"): break
            default: return
            }
            position += 1
        }
    }

    /// What is left of this line, without its end.
    mutating func restOfLine() -> Substring {
        let start = position
        while !isAtLineEnd { position += 1 }
        var rest = bytes[start..<position]
        if rest.last == UInt8(ascii: "\r") { rest.removeLast() }
        return Substring(decoding: rest, as: UTF8.self)
    }

    mutating func nextLine() {
        guard !isAtEnd else { return }
        position += 1
        line += 1
    }

    /// Digits, after any space.
    mutating func integer(_ field: String, below limit: Int) throws(TraceError) -> Int {
        skipSpace()
        let start = position
        var value = 0
        while position < bytes.count, (48...57).contains(bytes[position]) {
            value = value * 10 + Int(bytes[position] - 48)
            position += 1
            guard value < limit else { throw error(field, "not below \(limit)") }
        }
        guard position > start else { throw error(field, "not a whole number") }
        return value
    }

    /// `[a, b, ...]`, each element read by `body`.
    mutating func list(
        _ field: String, _ body: (inout TextScanner) throws(TraceError) -> Void
    ) throws(TraceError) {
        try expect("[", field)
        skipSpace()
        if take("]") { return }
        repeat {
            try body(&self)
            skipSpace()
        } while take(",")
        try expect("]", field)
    }

    /// An integer and the comma behind it.
    mutating func column(_ field: String, below limit: Int) throws(TraceError) -> Int {
        let value = try integer(field, below: limit)
        guard take(",") else { throw error(field, "expected ',' behind \(value)") }
        return value
    }

    /// A number with a fraction, up to the next comma or the line's end.
    mutating func number(_ field: String) throws(TraceError) -> Float {
        let start = position
        while !isAtLineEnd, bytes[position] != UInt8(ascii: ",") { position += 1 }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        guard let value = Float(text), value.isFinite else {
            position = start
            throw error(field, "'\(text.prefix(40))' is not a number")
        }
        return value
    }
}
