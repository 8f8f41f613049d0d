/// The scanners for pre-tokenisers that cut text into words, and the parts they share.
///
/// Each gives the end of the match that starts at a byte. Line for line they follow the
/// alternatives of the expressions in `SplitStage`, in their order: the first alternative that
/// matches wins, however short.
extension ScannedText {
    func endOfGPT2Word(from start: Int, end: Int) -> Int {
        let first = character(at: start, end: end)
        if first.codePoint == 0x27 {
            let contraction = endOfContraction(after: first.next, end: end, anyCase: false)
            if contraction > first.next { return contraction }
        }
        let body = afterOptionalSpace(first, end: end)
        if body.kind.meets(.letter) { return endOfRun(of: .letter, from: body.next, end: end) }
        if body.kind.meets(.number) { return endOfRun(of: .number, from: body.next, end: end) }
        if !body.kind.meets([.space, .end]) {
            return endOfRun(notOf: [.space, .letter, .number, .end], from: body.next, end: end)
        }
        return endOfSpace(from: start, end: end, newlinesApart: false)
    }

    func endOfWord(_ rules: WordRules, from start: Int, end: Int) -> Int {
        let first = character(at: start, end: end)
        if first.codePoint == 0x27, rules.splitsContractions {
            let contraction = endOfContraction(after: first.next, end: end, anyCase: true)
            if contraction > first.next { return contraction }
        }
        if first.kind.meets(rules.letters) {
            return endOfRun(of: rules.letters, from: first.next, end: end)
        }
        if !first.kind.meets([.newline, .number, .end]) {
            let wordEnd = endOfRun(of: rules.letters, from: first.next, end: end)
            if wordEnd > first.next { return wordEnd }
        }
        if first.kind.meets(.number) {
            return endOfRun(of: .number, limit: rules.digitLimit, from: start, end: end)
        }
        let body = afterOptionalSpace(first, end: end)
        let notPunctuation = rules.letters.union([.space, .number, .letter, .end])
        if !body.kind.meets(notPunctuation) {
            let bodyEnd = endOfRun(notOf: notPunctuation, from: body.next, end: end)
            guard rules.punctuationTakesNewlines else { return bodyEnd }
            return endOfRun(of: .newline, from: bodyEnd, end: end)
        }
        return endOfSpace(from: start, end: end, newlinesApart: true)
    }

    func endOfCasedWord(_ rules: CasedWordRules, from start: Int, end: Int) -> Int {
        let first = character(at: start, end: end)
        let mayLead = !first.kind.meets([.newline, .letter, .number, .end])
        // A mark may lead a word or be part of it, so both readings are tried, in the expression's
        // order.
        var wordEnd: Int?
        if mayLead { wordEnd = endOfSmallWord(from: first.next, end: end) }
        if wordEnd == nil { wordEnd = endOfSmallWord(from: start, end: end) }
        if wordEnd == nil, mayLead { wordEnd = endOfCapitalWord(from: first.next, end: end) }
        if wordEnd == nil { wordEnd = endOfCapitalWord(from: start, end: end) }
        if let wordEnd {
            guard rules.takesContractions, wordEnd < end, bytes[wordEnd] == 0x27 else {
                return wordEnd
            }
            let contraction = endOfContraction(after: wordEnd + 1, end: end, anyCase: true)
            return contraction > wordEnd + 1 ? contraction : wordEnd
        }
        if first.kind.meets(.number) {
            return endOfRun(of: .number, limit: rules.digitLimit, from: start, end: end)
        }
        let body = afterOptionalSpace(first, end: end)
        if !body.kind.meets([.space, .letter, .number, .end]) {
            var position = endOfRun(
                notOf: [.space, .letter, .number, .end], from: body.next, end: end)
            // Slashes up to here are in the run; one can only follow a line end.
            while position < end, [0x0A, 0x0D, 0x2F].contains(bytes[position]) { position += 1 }
            return position
        }
        return endOfSpace(from: start, end: end, newlinesApart: true)
    }

    /// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`, nil when it does not match.
    ///
    /// The first part takes all it can; if no small letter follows, it gives back as far as the
    /// last character that both parts may contain, and only that one is left for the second part.
    private func endOfSmallWord(from start: Int, end: Int) -> Int? {
        var position = start
        var afterLastShared: Int?
        while true {
            let character = character(at: position, end: end)
            guard character.kind.meets(.upperPart) else {
                if character.kind.meets(.lowerPart) {
                    return endOfRun(of: .lowerPart, from: character.next, end: end)
                }
                return afterLastShared
            }
            if character.kind.meets(.lowerPart) { afterLastShared = character.next }
            position = character.next
        }
    }

    /// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*` where `endOfSmallWord` is nil:
    /// no small letter follows the capitals. Nil when it does not match.
    private func endOfCapitalWord(from start: Int, end: Int) -> Int? {
        let wordEnd = endOfRun(of: .upperPart, from: start, end: end)
        return wordEnd > start ? wordEnd : nil
    }

    /// The end of the match at `start`, or `start` when there is none: a number or a control
    /// character that no word follows.
    func endOfDeepSeekV3Word(from start: Int, end: Int) -> Int {
        let first = character(at: start, end: end)
        if first.codePoint < 0x80, first.kind.meets([.punctuation, .symbol]) {
            var position = first.next
            while position < end, bytes[position].isASCIILetter { position += 1 }
            if position > first.next { return position }
        }
        let letters: CharacterKind = [.letter, .mark]
        if first.kind.meets(letters) { return endOfRun(of: letters, from: first.next, end: end) }
        if !first.kind.meets([.newline, .punctuation, .symbol, .end]) {
            let wordEnd = endOfRun(of: letters, from: first.next, end: end)
            if wordEnd > first.next { return wordEnd }
        }
        let body = afterOptionalSpace(first, end: end)
        if body.kind.meets([.punctuation, .symbol]) {
            let bodyEnd = endOfRun(of: [.punctuation, .symbol], from: body.next, end: end)
            return endOfRun(of: .newline, from: bodyEnd, end: end)
        }
        guard first.kind.meets(.space) else { return start }
        return endOfSpace(from: start, end: end, newlinesApart: true)
    }

    /// Runs of `\p{P}` and `others`, as far as one goes from `start`.
    func endOfPunctuation(orAnyOf others: [UInt8], from start: Int, end: Int) -> Int {
        var position = start
        while true {
            let character = character(at: position, end: end)
            guard
                character.kind.meets(.punctuation)
                    || character.codePoint < 0x80 && others.contains(UInt8(character.codePoint))
            else { return position }
            position = character.next
        }
    }

    /// The start of the white space that ends the piece; `end` when all of it or nothing is such
    /// space.
    func endBeforeTrailingSpace(from start: Int, end: Int) -> Int {
        var position = start
        var runStart: Int?
        while position < end {
            let character = character(at: position, end: end)
            if character.kind.meets(.space) {
                if runStart == nil { runStart = position }
            } else {
                runStart = nil
            }
            position = character.next
        }
        guard let runStart, runStart > start else { return end }
        return runStart
    }

    /// At most `limit` characters of `kinds` from `start` on.
    func endOfRun(of kinds: CharacterKind, limit: Int, from start: Int, end: Int) -> Int {
        var position = start
        var count = 0
        while count < limit {
            let character = character(at: position, end: end)
            guard character.kind.meets(kinds) else { break }
            position = character.next
            count += 1
        }
        return position
    }

    /// Characters of `ranges` from `start` on.
    func endOfRun(of ranges: CharacterRanges, from start: Int, end: Int) -> Int {
        var position = start
        while true {
            let character = character(at: position, end: end)
            guard ranges.contains(character.codePoint) else { return position }
            position = character.next
        }
    }

    /// The character that follows one optional space: `first` itself unless it is a space (U+0020)
    /// before something other than white space.
    @inline(__always)
    private func afterOptionalSpace(_ first: ScannedCharacter, end: Int) -> ScannedCharacter {
        guard first.codePoint == 0x20 else { return first }
        let second = character(at: first.next, end: end)
        return second.kind.meets([.space, .end]) ? first : second
    }

    /// The end of `s`, `t`, `re`, `ve`, `m`, `ll` or `d` after an apostrophe; `start` when there is
    /// none.
    ///
    /// The long s (U+017F) is an `s` where case does not count: so say the rules of Unicode for it.
    private func endOfContraction(after start: Int, end: Int, anyCase: Bool) -> Int {
        guard start < end else { return start }
        let fold: UInt8 = anyCase ? 0x20 : 0
        let first = bytes[start] | fold
        switch first {
        case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"):
            return start + 1
        case 0xC5 | fold where anyCase && bytes[start] == 0xC5:
            return start + 1 < end && bytes[start + 1] == 0xBF ? start + 2 : start
        default: break
        }
        guard start + 1 < end else { return start }
        let second = bytes[start + 1] | fold
        switch (first, second) {
        case (UInt8(ascii: "r"), UInt8(ascii: "e")), (UInt8(ascii: "v"), UInt8(ascii: "e")),
            (UInt8(ascii: "l"), UInt8(ascii: "l")):
            return start + 2
        default: return start
        }
    }

    /// The end of the match of `\s*[\r\n]+|\s+(?!\S)|\s+` (the first alternative where newlines
    /// count apart) at `start`, which holds white space.
    ///
    /// White space before something else leaves its last character to that, unless it is the only
    /// one.
    private func endOfSpace(from start: Int, end: Int, newlinesApart: Bool) -> Int {
        var position = start
        var lastStart = start
        var afterNewline: Int?
        while true {
            let character = character(at: position, end: end)
            guard character.kind.meets(.space) else { break }
            if character.kind.meets(.newline) { afterNewline = character.next }
            lastStart = position
            position = character.next
        }
        if newlinesApart, let afterNewline { return afterNewline }
        return position == end || lastStart == start ? position : lastStart
    }
}

extension UInt8 {
    @inline(__always)
    var isASCIILetter: Bool { (0x41...0x5A).contains(self) || (0x61...0x7A).contains(self) }
}
