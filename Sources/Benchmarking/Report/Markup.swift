/// Text of HTML and SVG, well-formed by construction: elements close, and whatever is not a name of
/// ours is escaped. Model names, settings and commands come from files that anybody may have made.
struct Markup {
    private(set) var text = ""

    typealias Attributes = KeyValuePairs<String, String>

    /// An element and what `content` writes into it.
    mutating func element(
        _ name: String, _ attributes: Attributes = [:], _ content: (inout Markup) -> Void
    ) {
        open(name, attributes)
        text += ">"
        content(&self)
        text += "</\(name)>"
    }

    mutating func element(_ name: String, _ attributes: Attributes = [:], text: String) {
        element(name, attributes) { $0.write(text) }
    }

    /// An element that holds nothing: a void one of HTML, or any of SVG.
    mutating func empty(_ name: String, _ attributes: Attributes = [:]) {
        open(name, attributes)
        text += "/>"
    }

    mutating func write(_ words: String) { text += Markup.escaped(words) }

    /// Markup of our own, as it stands.
    mutating func append(_ other: Markup) { text += other.text }

    /// What needs no escaping because it was written here: styles, and line ends.
    mutating func append(literal: StaticString) { text += "\(literal)" }

    private mutating func open(_ name: String, _ attributes: Attributes) {
        text += "<\(name)"
        for (key, value) in attributes { text += " \(key)=\"\(Markup.escaped(value))\"" }
    }

    /// `words` as text or as a quoted attribute. Characters that neither HTML nor XML may hold
    /// become the replacement character, and so do those that turn the direction of the text around
    /// them.
    static func escaped(_ words: String) -> String {
        var result = ""
        result.reserveCapacity(words.utf8.count)
        for scalar in words.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "'": result += "&#39;"
            case "\t", "\n": result.unicodeScalars.append(scalar)
            case "\u{0}"..."\u{1f}", "\u{7f}"..."\u{9f}", "\u{fffe}", "\u{ffff}",
                "\u{202a}"..."\u{202e}", "\u{2066}"..."\u{2069}":
                result += "\u{fffd}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
