/// A reader's place in a JSON document (RFC 8259): takes one value after the other, in the
/// document's order, and builds nothing that the caller does not keep.
///
/// Strict, since documents come from strangers: text is UTF-8, no name appears twice in an object,
/// numbers are finite, values nest `JSONLimits.depth` deep at most, and after the value nothing
/// follows. Errors name the byte.
struct JSONCursor {
    /// What a value is, as its first byte tells.
    enum Kind: String {
        case object = "an object"
        case array = "an array"
        case string = "a string"
        case number = "a number"
        case bool = "a bool"
        case null = "null"
    }

    /// The document, for errors.
    let path: String
    /// Its first byte, counted from the start of the file.
    private let base: Int
    private let bytes: [UInt8]
    private var position = 0
    private var depth = 0

    /// A cursor before the value of a document that lies in the file from byte `base` on.
    init(path: String, bytes: [UInt8], base: Int = 0) {
        self.path = path
        self.bytes = bytes
        self.base = base
    }

    /// The byte of the file at which the cursor stands.
    var offset: Int { base + position }

    /// The kind of the next value, which is not taken.
    mutating func kind(_ field: @autoclosure () -> String) throws(ModelFileError) -> Kind {
        skipSpace()
        guard position < bytes.count else {
            throw error(field(), "the document ends where a value is expected")
        }
        switch bytes[position] {
        case UInt8(ascii: "{"): return .object
        case UInt8(ascii: "["): return .array
        case UInt8(ascii: "\""): return .string
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number
        case UInt8(ascii: "t"), UInt8(ascii: "f"): return .bool
        case UInt8(ascii: "n"): return .null
        default: throw error(field(), "expected a JSON value, found byte \(bytes[position])")
        }
    }

    /// Takes an object; `member` must take the value of each name. `nameAt` is the name's byte.
    mutating func takeObject(
        _ field: @autoclosure () -> String,
        _ member: (inout JSONCursor, _ name: String, _ nameAt: Int) throws(ModelFileError) -> Void
    ) throws(ModelFileError) {
        try enter(.object, field())
        var names: Set<ExactName> = []
        if take(UInt8(ascii: "}")) { return leave() }
        while true {
            skipSpace()
            let nameAt = offset
            let name = try takeString("a name in \(field())")
            guard names.insert(ExactName(text: name)).inserted else {
                throw error(field(), at: nameAt, "the name '\(name)' appears twice")
            }
            guard take(UInt8(ascii: ":")) else {
                throw error(field(), "expected ':' after the name '\(name)'")
            }
            try member(&self, name, nameAt)
            if take(UInt8(ascii: ",")) { continue }
            if take(UInt8(ascii: "}")) { return leave() }
            throw error(field(), "expected ',' or '}' after the value of '\(name)'")
        }
    }

    /// Takes an array; `element` must take each value. `index` counts from 0.
    mutating func takeArray(
        _ field: @autoclosure () -> String,
        _ element: (inout JSONCursor, _ index: Int) throws(ModelFileError) -> Void
    ) throws(ModelFileError) {
        try enter(.array, field())
        if take(UInt8(ascii: "]")) { return leave() }
        var index = 0
        while true {
            try element(&self, index)
            index += 1
            if take(UInt8(ascii: ",")) { continue }
            if take(UInt8(ascii: "]")) { return leave() }
            throw error(field(), "expected ',' or ']' after element \(index - 1)")
        }
    }

    /// Takes a string, its escapes resolved.
    mutating func takeString(_ field: @autoclosure () -> String) throws(ModelFileError) -> String {
        try expect(.string, field())
        let start = offset
        position += 1
        let first = position
        var resolved: [UInt8]?
        while position < bytes.count {
            let byte = bytes[position]
            switch byte {
            case UInt8(ascii: "\""):
                let text =
                    if let resolved {
                        String(validating: resolved, as: UTF8.self)
                    } else {
                        String(validating: bytes[first..<position], as: UTF8.self)
                    }
                guard let text else {
                    throw error(field(), at: start, "expected text in UTF-8, found other bytes")
                }
                position += 1
                return text
            case UInt8(ascii: "\\"):
                if resolved == nil { resolved = Array(bytes[first..<position]) }
                let scalar = try takeEscape(field())
                resolved?.append(contentsOf: UTF8.encode(scalar)!)
            case 0..<0x20:
                throw error(field(), "a string holds the control character \(byte) unescaped")
            default:
                resolved?.append(byte)
                position += 1
            }
        }
        throw error(field(), at: start, "a string has no end")
    }

    /// Takes an integer that fits 63 bits and sign.
    mutating func takeInteger(_ field: @autoclosure () -> String) throws(ModelFileError) -> Int {
        let start = offset
        let text = try takeNumberText(field())
        guard let value = Int(text) else {
            throw error(field(), at: start, "expected an integer of 64 bits, found \(text)")
        }
        return value
    }

    /// Takes a number.
    mutating func takeNumber(_ field: @autoclosure () -> String) throws(ModelFileError) -> Double {
        let start = offset
        let text = try takeNumberText(field())
        guard let value = Double(text), value.isFinite else {
            throw error(field(), at: start, "expected a finite number, found \(text)")
        }
        return value
    }

    /// Takes `true` or `false`.
    mutating func takeBool(_ field: @autoclosure () -> String) throws(ModelFileError) -> Bool {
        try expect(.bool, field())
        let value = bytes[position] == UInt8(ascii: "t")
        try takeWord(value ? "true" : "false", field())
        return value
    }

    /// Takes `null`.
    mutating func takeNull(_ field: @autoclosure () -> String) throws(ModelFileError) {
        try expect(.null, field())
        try takeWord("null", field())
    }

    /// Takes a value of any kind and forgets it.
    mutating func skip(_ field: @autoclosure () -> String) throws(ModelFileError) {
        switch try kind(field()) {
        case .object:
            try takeObject("a value") { cursor, _, _ throws(ModelFileError) in
                try cursor.skip("a value")
            }
        case .array:
            try takeArray("a value") { cursor, _ throws(ModelFileError) in
                try cursor.skip("a value")
            }
        case .string: _ = try takeString(field())
        case .number: _ = try takeNumber(field())
        case .bool: _ = try takeBool(field())
        case .null: try takeNull(field())
        }
    }

    /// Throws if anything but white space follows.
    mutating func finish() throws(ModelFileError) {
        skipSpace()
        guard position == bytes.count else {
            throw error(nil, "something follows the end of the JSON value")
        }
    }

    /// An error about `field`, at byte `offset` of the file or where the cursor stands.
    func error(_ field: String?, at offset: Int? = nil, _ message: String) -> ModelFileError {
        ModelFileError(
            path: path, field: field, offset: UInt64(offset ?? self.offset), message: message)
    }

    // Parts of values

    private mutating func enter(
        _ kind: Kind, _ field: @autoclosure () -> String
    ) throws(ModelFileError) {
        try expect(kind, field())
        guard depth < JSONLimits.depth else {
            throw error(
                field(), "values nest deeper than \(JSONLimits.depth); the document is damaged")
        }
        depth += 1
        position += 1
    }

    private mutating func leave() { depth -= 1 }

    private mutating func expect(
        _ expected: Kind, _ field: @autoclosure () -> String
    ) throws(ModelFileError) {
        let found = try kind(field())
        guard found == expected else {
            throw error(field(), "expected \(expected.rawValue), found \(found.rawValue)")
        }
    }

    private mutating func skipSpace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x09, 0x0A, 0x0D: position += 1
            default: return
            }
        }
    }

    /// Takes `byte` after white space, if it is there.
    private mutating func take(_ byte: UInt8) -> Bool {
        skipSpace()
        guard position < bytes.count, bytes[position] == byte else { return false }
        position += 1
        return true
    }

    private mutating func takeWord(
        _ word: StaticString, _ field: @autoclosure () -> String
    ) throws(ModelFileError) {
        guard bytes[position...].starts(with: "\(word)".utf8) else {
            throw error(field(), "expected '\(word)'")
        }
        position += word.utf8CodeUnitCount
    }

    /// Takes a backslash and what it stands for.
    private mutating func takeEscape(
        _ field: @autoclosure () -> String
    ) throws(ModelFileError) -> Unicode.Scalar {
        let start = offset
        position += 1
        guard position < bytes.count else { throw error(field(), "a string has no end") }
        let letter = bytes[position]
        position += 1
        switch letter {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return .init(letter)
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{C}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"): break
        default: throw error(field(), at: start, "a string holds an escape that JSON has not")
        }
        let unit = try takeHexadecimal(field())
        if let scalar = Unicode.Scalar(unit) { return scalar }
        // Half of a pair, and not the second.
        if unit < 0xDC00, position + 1 < bytes.count, bytes[position] == UInt8(ascii: "\\"),
            bytes[position + 1] == UInt8(ascii: "u")
        {
            position += 2
            let second = try takeHexadecimal(field())
            if 0xDC00..<0xE000 ~= second,
                let scalar = Unicode.Scalar(
                    0x10000 + (UInt32(unit) - 0xD800) << 10 + (UInt32(second) - 0xDC00))
            {
                return scalar
            }
        }
        throw error(field(), at: start, "a string holds half of a surrogate pair")
    }

    private mutating func takeHexadecimal(
        _ field: @autoclosure () -> String
    ) throws(ModelFileError) -> UInt16 {
        var value: UInt16 = 0
        for _ in 0..<4 {
            guard position < bytes.count,
                let digit = Character(Unicode.Scalar(bytes[position])).hexDigitValue
            else { throw error(field(), "expected four hexadecimal digits after \\u") }
            value = value << 4 | UInt16(digit)
            position += 1
        }
        return value
    }

    /// Takes a number as it is written: `-`, digits, `.` and digits, exponent.
    private mutating func takeNumberText(
        _ field: @autoclosure () -> String
    ) throws(ModelFileError) -> String {
        try expect(.number, field())
        let start = position
        if bytes[position] == UInt8(ascii: "-") { position += 1 }
        let first = position
        var sound = takeDigits() && (position == first + 1 || bytes[first] != UInt8(ascii: "0"))
        if sound, position < bytes.count, bytes[position] == UInt8(ascii: ".") {
            position += 1
            sound = takeDigits()
        }
        if sound, position < bytes.count, bytes[position] | 0x20 == UInt8(ascii: "e") {
            position += 1
            if position < bytes.count,
                bytes[position] == UInt8(ascii: "+") || bytes[position] == UInt8(ascii: "-")
            {
                position += 1
            }
            sound = takeDigits()
        }
        guard sound, position - start <= JSONLimits.numberBytes else {
            throw error(field(), at: base + start, "expected a number as JSON writes them")
        }
        return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    /// Whether there was a digit.
    private mutating func takeDigits() -> Bool {
        let start = position
        while position < bytes.count, UInt8(ascii: "0")...UInt8(ascii: "9") ~= bytes[position] {
            position += 1
        }
        return position > start
    }
}

/// A name that equals others by its bytes: to Swift's strings, two spellings of an accent are the same.
private struct ExactName: Hashable {
    var text: String

    static func == (left: ExactName, right: ExactName) -> Bool {
        left.text.utf8.elementsEqual(right.text.utf8)
    }

    func hash(into hasher: inout Hasher) {
        var text = text
        text.withUTF8 { unsafe hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
}

/// What a JSON document may hold.
enum JSONLimits {
    /// Objects and arrays inside each other; models' files have about six.
    static let depth = 64
    /// Bytes of a number. 17 digits tell doubles apart.
    static let numberBytes = 400
    /// Bytes of a document; the largest tokenizer.json known has 33 MB.
    static let documentBytes = 64 << 20
    /// Values of a document that are kept as a tree; a configuration has some dozens.
    static let treeValues = 65_536
}
