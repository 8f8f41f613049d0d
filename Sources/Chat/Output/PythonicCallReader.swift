import JSONTree

/// Reads calls as Python would write them (LFM2, and Llama 3 behind its Python tag). Nothing is
/// certain before the end, so that nothing is handed on earlier.
struct PythonicCallReader: Sendable {
    private let syntax: PythonicCallSyntax

    init(_ syntax: PythonicCallSyntax) { self.syntax = syntax }

    func read(_ text: inout PendingText, into sink: inout DeltaSink) -> ReadingProgress {
        let source: ArraySlice<UInt8>
        if let close = syntax.close, let (bytes, _) = text.read(until: [Array(close.utf8)]) {
            source = bytes
        } else if text.isWhole {
            source = text.readAll()
        } else {
            return .unsure
        }
        var parser = PythonicCalls(bytes: Array(source), wantsCallMethod: syntax.wantsCallMethod)
        guard let calls = parser.calls() else {
            // Models that were shown JSON write JSON between the same markers.
            var whole = PendingText()
            whole.append(source.string)
            whole.isWhole = true
            var reader = JSONCallReader(JSONCallSyntax())
            return reader.read(&whole, into: &sink)
        }
        for call in calls {
            sink.beginCall(call.name, id: nil)
            var bytes: [UInt8] = []
            JSON.object(call.arguments).appendText(to: &bytes)
            sink.arguments(bytes)
        }
        return .done
    }
}

/// Calls with named arguments that are literals; nil wherever the text is anything else.
private struct PythonicCalls {
    let bytes: [UInt8]
    let wantsCallMethod: Bool
    var position = 0

    private static let greatestDepth = 64

    mutating func calls() -> [(name: String, arguments: JSONObject)]? {
        var result: [(name: String, arguments: JSONObject)] = []
        let isList = take("[")
        repeat {
            if isList, !result.isEmpty, peek() == UInt8(ascii: "]") { break }
            guard let call = call() else { return nil }
            result.append(call)
        } while take(",")
        if isList, !take("]") { return nil }
        skipSpace()
        return position == bytes.count ? result : nil
    }

    private mutating func call() -> (name: String, arguments: JSONObject)? {
        guard var name = word() else { return nil }
        if wantsCallMethod {
            guard name.hasSuffix(".call") else { return nil }
            name.removeLast(5)
        }
        var arguments = JSONObject()
        guard !name.isEmpty, take("(") else { return nil }
        while !take(")") {
            guard let key = word(), take("="), let value = value(depth: 0) else { return nil }
            arguments[key] = value
            if !take(","), peek() != UInt8(ascii: ")") { return nil }
        }
        return (name, arguments)
    }

    private mutating func value(depth: Int) -> JSON? {
        guard depth < Self.greatestDepth, let byte = peek() else { return nil }
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "'"): return string().map { .string($0) }
        case UInt8(ascii: "["):
            return elements("[", "]", depth: depth).map { .array($0) }
        case UInt8(ascii: "("):
            return elements("(", ")", depth: depth).map { .array($0) }
        case UInt8(ascii: "{"): return dictionary(depth: depth)
        default: return atom()
        }
    }

    private mutating func elements(_ open: Unicode.Scalar, _ close: Unicode.Scalar, depth: Int)
        -> [JSON]?
    {
        var elements: [JSON] = []
        guard take(open) else { return nil }
        while !take(close) {
            guard let element = value(depth: depth + 1) else { return nil }
            elements.append(element)
            if !take(","), peek() != UInt8(ascii: close) { return nil }
        }
        return elements
    }

    private mutating func dictionary(depth: Int) -> JSON? {
        var object = JSONObject()
        guard take("{") else { return nil }
        while !take("}") {
            guard let key = string(), take(":"), let value = value(depth: depth + 1) else {
                return nil
            }
            object[key] = value
            if !take(","), peek() != UInt8(ascii: "}") { return nil }
        }
        return .object(object)
    }

    private mutating func string() -> String? {
        guard let quote = peek(), quote == UInt8(ascii: "\"") || quote == UInt8(ascii: "'") else {
            return nil
        }
        position += 1
        var text: [UInt8] = []
        while position < bytes.count {
            let byte = bytes[position]
            position += 1
            if byte == quote { return String(validating: text, as: UTF8.self) }
            if byte != UInt8(ascii: "\\") {
                text.append(byte)
                continue
            }
            guard position < bytes.count else { return nil }
            let escaped = bytes[position]
            position += 1
            switch escaped {
            case UInt8(ascii: "n"): text.append(0x0A)
            case UInt8(ascii: "t"): text.append(0x09)
            case UInt8(ascii: "r"): text.append(0x0D)
            case quote, UInt8(ascii: "\\"), UInt8(ascii: "\""), UInt8(ascii: "'"):
                text.append(escaped)
            // As in Python, other escapes stand for themselves.
            default: text += [UInt8(ascii: "\\"), escaped]
            }
        }
        return nil
    }

    private mutating func atom() -> JSON? {
        let start = position
        while position < bytes.count, !Self.ends.contains(bytes[position]) { position += 1 }
        let text = bytes[start..<position].trimmed.string
        switch text {
        case "True", "true": return true
        case "False", "false": return false
        case "None", "null": return .null
        default:
            let json = try? JSON(parsing: text)
            return json?.number == nil ? nil : json
        }
    }

    private static let ends = Set(",)]}".utf8)

    /// A name, with dots.
    private mutating func word() -> String? {
        skipSpace()
        let start = position
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"),
                UInt8(ascii: "."):
                position += 1
                continue
            default: break
            }
            break
        }
        return start == position ? nil : bytes[start..<position].string
    }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard peek() == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    private mutating func peek() -> UInt8? {
        skipSpace()
        return position < bytes.count ? bytes[position] : nil
    }

    private mutating func skipSpace() {
        while position < bytes.count, PendingText.isSpace(bytes[position]) { position += 1 }
    }
}
