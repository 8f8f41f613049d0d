/// Puts the lines of a conversation's input together to what is said in one turn.
///
/// A line is a turn, unless it ends in a backslash, which joins the next one to it, or begins with
/// `"""`: then the turn goes on to the line that ends with `"""`. Text that a terminal marks as pasted
/// is taken as it is, with its line ends.
struct TurnReader {
    enum Turn: Equatable {
        case text(String)
        /// A word that begins with a slash, and what follows it.
        case command(String, argument: String)
    }

    private var gathered: [String] = []
    private var isBlock = false
    private var isPaste = false
    /// What was pasted is no command, and neither is text of several lines.
    private var isLiteral = false

    /// Whether a turn has begun.
    var isGathering: Bool { !gathered.isEmpty || isBlock || isPaste }

    mutating func forget() { self = TurnReader() }

    /// Takes one line, without its end. Returns the turn that it ends, if it does.
    mutating func take(_ line: String) -> Turn? {
        let (text, isPasted) = unmarked(line)
        gathered.append(text)
        if isPaste { return nil }
        if isPasted, !isBlock { return finish() }
        if isBlock {
            guard text.hasSuffix(Self.fence) else { return nil }
            gathered[gathered.count - 1].removeLast(Self.fence.count)
            return finish()
        }
        if gathered.count == 1, !isLiteral, text.hasPrefix(Self.fence) {
            isBlock = true
            isLiteral = true
            let rest = text.dropFirst(Self.fence.count)
            let isWhole = rest.hasSuffix(Self.fence)
            gathered[0] = String(isWhole ? rest.dropLast(Self.fence.count) : rest)
            return isWhole ? finish() : nil
        }
        if text.hasSuffix("\\") {
            gathered[gathered.count - 1].removeLast()
            isLiteral = true
            return nil
        }
        return finish()
    }

    /// The input has ended: what was begun is the turn.
    mutating func end() -> Turn? { isGathering ? finish() : nil }

    private static let fence = "\"\"\""

    private mutating func finish() -> Turn? {
        var lines = gathered
        let (isBlock, isLiteral) = (isBlock, isLiteral)
        self = TurnReader()
        // The line ends beside the fences are the fences'.
        if isBlock {
            if lines.count > 1, lines.first == "" { lines.removeFirst() }
            if lines.count > 1, lines.last == "" { lines.removeLast() }
        }
        let text = lines.joined(separator: "\n")
        if text.allSatisfy(\.isWhitespace) { return nil }
        guard !isLiteral, text.hasPrefix("/") else { return .text(text) }
        if text.hasPrefix("//") { return .text(String(text.dropFirst())) }
        let words = text.split(separator: " ", maxSplits: 1)
        return .command(
            String(words[0]),
            argument: words.count > 1
                ? String(words[1].drop { $0 == " " }.reversed().drop { $0 == " " }.reversed()) : "")
    }

    /// The line without the marks of bracketed paste, and whether any of it was pasted.
    private mutating func unmarked(_ line: String) -> (text: String, isPasted: Bool) {
        var text = ""
        var rest = Substring(line)
        var isPasted = isPaste
        while let mark = rest.firstRange(of: isPaste ? Self.pasteEnd : Self.pasteStart) {
            text += rest[..<mark.lowerBound]
            rest = rest[mark.upperBound...]
            isPaste.toggle()
            isPasted = true
        }
        if isPasted { isLiteral = true }
        return (text + rest, isPasted)
    }

    private static let pasteStart = "\u{1B}[200~"
    private static let pasteEnd = "\u{1B}[201~"
}
