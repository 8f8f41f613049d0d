/// A string as Python means it: a sequence of code points, equal when they are the same.
///
/// Swift's `String` compares by canonical equivalence and counts graphemes; a template sees neither. The bytes are UTF-8,
/// whose order is the order of code points, so that comparing and searching work on bytes.
struct Text: Hashable, Sendable, ExpressibleByStringLiteral {
    private(set) var utf8: [UInt8]
    /// Python's `Markup`, which filters such as `safe` and `escape` give: what is added to it is escaped.
    var isMarkup = false

    init(utf8: [UInt8] = [], isMarkup: Bool = false) {
        self.utf8 = utf8
        self.isMarkup = isMarkup
    }

    init(_ string: String) { utf8 = Array(string.utf8) }

    init(stringLiteral string: String) { self.init(string) }

    init(_ scalars: some Sequence<Unicode.Scalar>) {
        utf8 = []
        for scalar in scalars { append(scalar) }
    }

    static func == (one: Text, other: Text) -> Bool { one.utf8 == other.utf8 }

    func hash(into hasher: inout Hasher) { hasher.combine(utf8) }

    static func < (one: Text, other: Text) -> Bool {
        one.utf8.lexicographicallyPrecedes(other.utf8)
    }

    static func + (one: Text, other: Text) -> Text { Text(utf8: one.utf8 + other.utf8) }

    var string: String { String(decoding: utf8, as: UTF8.self) }

    var isEmpty: Bool { utf8.isEmpty }

    var isASCII: Bool { utf8.allSatisfy { $0 < 0x80 } }

    /// Code points, Python's `len`.
    var count: Int {
        var count = 0
        for byte in utf8 where byte & 0xC0 != 0x80 { count += 1 }
        return count
    }

    var scalars: [Unicode.Scalar] {
        if isASCII { return utf8.map { Unicode.Scalar($0) } }
        return Array(string.unicodeScalars)
    }

    /// The same code points, as markup if `other` is.
    func marked(like other: Text) -> Text { Text(utf8: utf8, isMarkup: other.isMarkup) }

    mutating func append(_ scalar: Unicode.Scalar) {
        if scalar.isASCII {
            utf8.append(UInt8(ascii: scalar))
        } else {
            utf8.append(contentsOf: Unicode.UTF8.encode(scalar)!)
        }
    }

    mutating func append(_ text: Text) { utf8.append(contentsOf: text.utf8) }

    mutating func append(_ string: String) { utf8.append(contentsOf: string.utf8) }

    static func repeating(_ text: Text, _ times: Int) -> Text {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count * max(times, 0))
        for _ in 0..<max(times, 0) { bytes.append(contentsOf: text.utf8) }
        return Text(utf8: bytes, isMarkup: text.isMarkup)
    }
}

// Offsets below are in bytes, at the borders of code points.
extension Text {
    /// Where `pattern` first begins at or after `start`.
    func find(_ pattern: Text, from start: Int = 0) -> Int? {
        let needle = pattern.utf8
        guard needle.count <= utf8.count - start else { return nil }
        guard let first = needle.first else { return start }
        var place = start
        while place <= utf8.count - needle.count {
            if utf8[place] == first, matches(needle, at: place) { return place }
            place += 1
        }
        return nil
    }

    /// Where `pattern` last begins, and ends at or before `end`.
    func findLast(_ pattern: Text, before end: Int? = nil) -> Int? {
        let needle = pattern.utf8
        var place = (end ?? utf8.count) - needle.count
        while place >= 0 {
            // An empty pattern is at every border, so also at the end.
            if matches(needle, at: place) { return place }
            place -= 1
        }
        return nil
    }

    private func matches(_ needle: [UInt8], at place: Int) -> Bool {
        for index in 0..<needle.count where utf8[place + index] != needle[index] { return false }
        return true
    }

    func hasPrefix(_ prefix: Text) -> Bool { utf8.starts(with: prefix.utf8) }

    func hasSuffix(_ suffix: Text) -> Bool {
        utf8.count >= suffix.utf8.count
            && matches(suffix.utf8, at: utf8.count - suffix.utf8.count)
    }

    func bytes(_ range: Range<Int>) -> Text { Text(utf8: Array(utf8[range]), isMarkup: isMarkup) }

    /// The code points before a byte offset.
    func scalarCount(upTo offset: Int) -> Int {
        var count = 0
        for byte in utf8[..<offset] where byte & 0xC0 != 0x80 { count += 1 }
        return count
    }

    /// The code points of a range of code points.
    func slice(_ range: Range<Int>) -> Text {
        if isASCII { return bytes(range) }
        return Text(scalars[range]).marked(like: self)
    }

    /// Occurrences of `pattern` that do not overlap; of an empty one, code points and one more.
    func occurrences(of pattern: Text) -> Int {
        if pattern.isEmpty { return count + 1 }
        var found = 0
        var place = 0
        while let next = find(pattern, from: place) {
            found += 1
            place = next + pattern.utf8.count
        }
        return found
    }

    /// Python's `str.replace`; `limit` below 0 means all.
    func replacing(_ pattern: Text, with replacement: Text, limit: Int = -1) -> Text {
        var left = limit < 0 ? Int.max : limit
        var result = Text(isMarkup: isMarkup)
        if pattern.isEmpty {
            for scalar in scalars {
                if left > 0 {
                    result.append(replacement)
                    left -= 1
                }
                result.append(scalar)
            }
            if left > 0 { result.append(replacement) }
            return result
        }
        var place = 0
        while left > 0, let next = find(pattern, from: place) {
            result.utf8.append(contentsOf: utf8[place..<next])
            result.append(replacement)
            place = next + pattern.utf8.count
            left -= 1
        }
        result.utf8.append(contentsOf: utf8[place...])
        return result
    }

    /// Without the code points of `set` at its ends, by default white space.
    func stripped(_ set: Text? = nil, left: Bool = true, right: Bool = true) -> Text {
        let scalars = scalars
        let wanted = set.map { Set($0.scalars) }
        func isStripped(_ scalar: Unicode.Scalar) -> Bool {
            wanted.map { $0.contains(scalar) } ?? scalar.isPythonSpace
        }
        var start = 0
        var end = scalars.count
        if left { while start < end, isStripped(scalars[start]) { start += 1 } }
        if right { while end > start, isStripped(scalars[end - 1]) { end -= 1 } }
        return start == 0 && end == scalars.count
            ? self : Text(scalars[start..<end]).marked(like: self)
    }

    /// `&`, `<`, `>` and quotes as HTML's references, as markupsafe writes them.
    var escaped: Text {
        var result = Text(isMarkup: true)
        for byte in utf8 {
            switch byte {
            case UInt8(ascii: "&"): result.append("&amp;")
            case UInt8(ascii: "<"): result.append("&lt;")
            case UInt8(ascii: ">"): result.append("&gt;")
            case UInt8(ascii: "'"): result.append("&#39;")
            case UInt8(ascii: "\""): result.append("&#34;")
            default: result.utf8.append(byte)
            }
        }
        return result
    }
}
