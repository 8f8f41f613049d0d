/// A piece of a template, as the parser sees it.
struct Token: Sendable {
    enum Kind: Sendable, Equatable {
        /// Text between tags.
        case data(Text)
        /// `{{` and `}}`.
        case variableBegin, variableEnd
        /// `{%` and `%}`.
        case blockBegin, blockEnd
        case name(String)
        case string(Text)
        case integer(Int)
        case float(Double)
        /// Operators and brackets, as they are written.
        case symbol(String)
        case end
    }

    let kind: Kind
    let line: Int

    /// What it is, for messages.
    var description: String {
        switch kind {
        case .data: "text"
        case .variableBegin: "{{"
        case .variableEnd: "}}"
        case .blockBegin: "{%"
        case .blockEnd: "%}"
        case .name(let name): "'\(name)'"
        case .string: "a string"
        case .integer(let value): "\(value)"
        case .float(let value): "\(value)"
        case .symbol(let symbol): "'\(symbol)'"
        case .end: "the end of the template"
        }
    }
}
