/// Reads markup as a strict XML parser would, as far as the report uses XML: elements that nest and
/// close, attributes in double quotes and each but once, the five entities and no stray `<` or `&`.
struct MarkupChecker {
    struct Element: Equatable {
        var name: String
        var attributes: [String: String]
    }

    struct Fault: Error, CustomStringConvertible {
        var description: String
    }

    private(set) var elements: [Element] = []
    /// All text outside tags, unescaped, styles left out.
    private(set) var text = ""
    private var rest: Substring.UnicodeScalarView

    init(_ markup: String) throws {
        rest = markup[...].unicodeScalars
        try read()
    }

    private mutating func read() throws {
        var open: [String] = []
        while !rest.isEmpty {
            if open.last == "style" {
                while !starts("</style>"), !rest.isEmpty { rest.removeFirst() }
            }
            guard rest.first == "<" else {
                let words = try characters(until: ["<"])
                if open.isEmpty, words.contains(where: { !$0.isWhitespace }) {
                    throw Fault(description: "text outside of elements: \(words.prefix(40))")
                }
                text += words
                continue
            }
            rest.removeFirst()
            if take("!DOCTYPE html>") { continue }
            if take("/") {
                let name = try name()
                guard take(">") else { throw Fault(description: "</\(name) does not end") }
                guard open.popLast() == name else {
                    throw Fault(description: "</\(name)> closes another element")
                }
                continue
            }
            let (element, isEmpty) = try tag()
            elements.append(element)
            if !isEmpty { open.append(element.name) }
        }
        guard open.isEmpty else { throw Fault(description: "<\(open[0])> is never closed") }
    }

    private mutating func tag() throws -> (Element, isEmpty: Bool) {
        var element = Element(name: try name(), attributes: [:])
        while true {
            if take("/>") { return (element, true) }
            if take(">") { return (element, false) }
            guard take(" ") else { throw Fault(description: "<\(element.name): no space") }
            let key = try name()
            guard take("=\"") else { throw Fault(description: "\(key): no quoted value") }
            let value = try characters(until: ["\""])
            guard take("\"") else { throw Fault(description: "\(key): the value does not end") }
            guard element.attributes.updateValue(value, forKey: key) == nil else {
                throw Fault(description: "\(key) stands twice in <\(element.name)>")
            }
        }
    }

    private mutating func name() throws -> String {
        var name = ""
        while let next = rest.first,
            next.properties.isAlphabetic || next == "-" || ("0"..."9").contains(next)
        {
            name.unicodeScalars.append(next)
            rest.removeFirst()
        }
        guard !name.isEmpty else {
            throw Fault(description: "no name before \(String(rest.prefix(20)))")
        }
        return name
    }

    private mutating func characters(until ends: Set<Unicode.Scalar>) throws -> String {
        let entities: [(String, Unicode.Scalar)] = [
            ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"),
        ]
        var words = ""
        while let next = rest.first, !ends.contains(next) {
            if next == "&" {
                guard let (name, scalar) = entities.first(where: { starts($0.0) }) else {
                    throw Fault(description: "a stray & before \(String(rest.prefix(20)))")
                }
                rest.removeFirst(name.unicodeScalars.count)
                words.unicodeScalars.append(scalar)
                continue
            }
            guard next != "<", next.value >= 32 || next == "\n" || next == "\t" else {
                throw Fault(description: "U+\(String(next.value, radix: 16)) where text is")
            }
            words.unicodeScalars.append(next)
            rest.removeFirst()
        }
        return words
    }

    private func starts(_ words: String) -> Bool { rest.starts(with: words.unicodeScalars) }

    private mutating func take(_ words: String) -> Bool {
        guard starts(words) else { return false }
        rest.removeFirst(words.unicodeScalars.count)
        return true
    }
}
