/// A regular expression over characters, as ECMAScript and Python's `re` both understand it.
indirect enum Pattern: Sendable {
    case empty
    case character(CodePointSet)
    case sequence([Pattern])
    case choice([Pattern])
    case repeated(Pattern, Int, Int?)
    /// The text's beginning and end: `^` and `$`.
    case start, end

    static let anything = Pattern.repeated(.character(.all), 0, nil)

    /// Whether an assertion is in it.
    var hasAnchors: Bool {
        switch self {
        case .empty, .character: false
        case .start, .end: true
        case .sequence(let parts), .choice(let parts): parts.contains { $0.hasAnchors }
        case .repeated(let body, _, _): body.hasAnchors
        }
    }

    /// The texts that it matches: as a whole, or that have it somewhere, as JSON Schema means it. Anchors at the
    /// ends of a branch are resolved; nil where others remain.
    func resolved(isSearch: Bool) -> Pattern? {
        if case .choice(let parts) = self {
            var resolved: [Pattern] = []
            for part in parts {
                guard let part = part.resolved(isSearch: isSearch) else { return nil }
                resolved.append(part)
            }
            return .choice(resolved)
        }
        var parts: [Pattern] = if case .sequence(let parts) = self { parts } else { [self] }
        var (startsFree, endsFree) = (isSearch, isSearch)
        while case .start? = parts.first {
            parts.removeFirst()
            startsFree = false
        }
        while case .end? = parts.last {
            parts.removeLast()
            endsFree = false
        }
        guard !parts.contains(where: { $0.hasAnchors }) else {
            // ^(a|b)$ and (^a$|^b$): one group around everything is no obstacle.
            guard parts.count == 1, case .choice = parts[0], startsFree == isSearch,
                endsFree == isSearch
            else { return nil }
            return parts[0].resolved(isSearch: isSearch)
        }
        return .sequence(
            (startsFree ? [.anything] : []) + parts + (endsFree ? [.anything] : []))
    }

    /// The language in bytes; without anchors.
    func expression(_ spelling: Spelling) -> Expression {
        switch self {
        case .empty: .empty
        case .start, .end: .never
        case .character(let set): spelling.expression(for: set)
        case .sequence(let parts): .sequence(parts.map { $0.expression(spelling) })
        case .choice(let parts): .choice(parts.map { $0.expression(spelling) })
        case .repeated(let body, let least, let most):
            .repeated(body.expression(spelling), least, most)
        }
    }
}

/// How a character is written.
enum Spelling: Sendable {
    /// As it is, in UTF-8.
    case plain
    /// As in a JSON string, each character in one way only: escaped where it must be.
    case quoted

    func expression(for set: CodePointSet) -> Expression {
        if self == .plain { return set.isEmpty ? .never : .character(set) }
        let mustEscape = CodePointSet([0...0x1F, 0x22...0x22, 0x5C...0x5C])
        let plain = set.subtracting(mustEscape)
        var ways: [Expression] = plain.isEmpty ? [] : [.character(plain)]
        var short = ByteSet()
        for (value, letter) in Spelling.shortEscapes where set.contains(value) {
            short.insert(letter)
        }
        if !short.isEmpty { ways.append(.sequence([.literal("\\"), .bytes(short)])) }
        for value in UInt32(0)..<0x20
        where set.contains(value) && !Spelling.shortEscapes.contains(where: { $0.0 == value }) {
            let digits = String(value, radix: 16)
            ways.append(.literal("\\u00" + (digits.count == 1 ? "0" : "") + digits))
        }
        return ways.isEmpty ? .never : .choice(ways)
    }

    private static let shortEscapes: [(UInt32, UInt8)] = [
        (0x22, 0x22), (0x5C, 0x5C), (0x08, 0x62), (0x09, 0x74), (0x0A, 0x6E), (0x0C, 0x66),
        (0x0D, 0x72),
    ]
}
