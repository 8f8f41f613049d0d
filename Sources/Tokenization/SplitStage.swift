/// One step of a pre-tokeniser: a pattern whose matches are cut out of a piece of text. What lies
/// between two matches becomes a piece too.
///
/// The patterns are regular expressions in the models' own files; here each is a scanner that finds
/// the same cuts in one pass. The doc comment of a case gives the expression.
enum SplitStage: Sendable {
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` (GPT-2)
    case wordsOfGPT2
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|`
    /// ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`, and its variants (Llama 3, Qwen 2)
    case words(WordRules)
    /// As `words`, but a word is capitals then small letters (`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*`
    /// then `[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`, or one or more of the first then any of the second), and
    /// punctuation goes on with `[\r\n/]*` (GPT-4o, Tekken)
    case casedWords(CasedWordRules)
    /// `` [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+| ``
    /// `[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|`
    /// `\s*[\r\n]+|\s+(?!\S)|\s+` (DeepSeek V3)
    case wordsOfDeepSeekV3
    /// Every character of the kinds by itself, as in `\p{N}` or `[\r\n]`.
    case each(CharacterKind)
    /// Runs of the kinds, at most so many characters each, as in `\p{N}{1,3}`.
    case runs(CharacterKind, limit: Int)
    /// `\s?` and a run of the kinds, as in `\s?\p{L}+`.
    case spacedRuns(CharacterKind)
    /// `\s?` and a run of the characters.
    case spacedRanges(CharacterRanges)
    /// A run of the characters.
    case ranges(CharacterRanges)
    /// A run of `\p{P}` and the ASCII characters, as in `[\p{P}\$\+<=>\^~\|]+`.
    case punctuation(orAnyOf: [UInt8])
    /// `[0-9][0-9][0-9]`
    case threeDigits
    /// `\s+$`
    case trailingSpace

    /// The end of the first piece of `start..<end`, which is not empty: the match there, or what
    /// comes before the first match.
    func endOfFirstPiece(_ text: ScannedText, from start: Int, end: Int) -> Int {
        switch self {
        case .wordsOfGPT2: return text.endOfGPT2Word(from: start, end: end)
        case .words(let rules): return text.endOfWord(rules, from: start, end: end)
        case .casedWords(let rules): return text.endOfCasedWord(rules, from: start, end: end)
        case .trailingSpace: return text.endBeforeTrailingSpace(from: start, end: end)
        case .wordsOfDeepSeekV3:
            return firstPiece(text, from: start, end: end) {
                $0.endOfDeepSeekV3Word(from: $1, end: end)
            }
        case .each(let kinds):
            return firstPiece(text, from: start, end: end) {
                $0.endOfRun(of: kinds, limit: 1, from: $1, end: end)
            }
        case .runs(let kinds, let limit):
            return firstPiece(text, from: start, end: end) {
                $0.endOfRun(of: kinds, limit: limit, from: $1, end: end)
            }
        case .spacedRuns(let kinds):
            return firstPiece(text, from: start, end: end) {
                let first = $0.character(at: $1, end: end)
                if first.kind.meets(kinds) {
                    return $0.endOfRun(of: kinds, from: first.next, end: end)
                }
                guard first.kind.meets(.space) else { return $1 }
                let runEnd = $0.endOfRun(of: kinds, from: first.next, end: end)
                return runEnd > first.next ? runEnd : $1
            }
        case .spacedRanges(let ranges):
            return firstPiece(text, from: start, end: end) {
                let first = $0.character(at: $1, end: end)
                if ranges.contains(first.codePoint) {
                    return $0.endOfRun(of: ranges, from: first.next, end: end)
                }
                guard first.kind.meets(.space) else { return $1 }
                let runEnd = $0.endOfRun(of: ranges, from: first.next, end: end)
                return runEnd > first.next ? runEnd : $1
            }
        case .ranges(let ranges):
            return firstPiece(text, from: start, end: end) {
                $0.endOfRun(of: ranges, from: $1, end: end)
            }
        case .punctuation(let others):
            return firstPiece(text, from: start, end: end) {
                $0.endOfPunctuation(orAnyOf: others, from: $1, end: end)
            }
        case .threeDigits:
            return firstPiece(text, from: start, end: end) {
                guard $1 + 3 <= end else { return $1 }
                for position in $1..<$1 + 3 where !(0x30...0x39).contains($0.bytes[position]) {
                    return $1
                }
                return $1 + 3
            }
        }
    }

    /// The end of the first piece by a function that gives the end of the match at a position, or
    /// the position itself when there is none. It must take constant time to find that there is
    /// none.
    @inline(__always)
    private func firstPiece(
        _ text: ScannedText, from start: Int, end: Int,
        endOfMatch: (ScannedText, Int) -> Int
    ) -> Int {
        let matchEnd = endOfMatch(text, start)
        if matchEnd > start { return matchEnd }
        var position = text.character(at: start, end: end).next
        while position < end, endOfMatch(text, position) == position {
            position = text.character(at: position, end: end).next
        }
        return position
    }
}

/// What distinguishes the pre-tokenisers of Llama 3's kind.
struct WordRules: Sendable {
    /// Characters a word consists of: letters, and marks in newer models.
    var letters: CharacterKind = .letter
    /// Digits that stay together.
    var digitLimit: Int
    /// Whether `'s` and the like are words of their own.
    var splitsContractions = true
    /// Whether punctuation takes the line ends after it along; if not, it also ends before one.
    var punctuationTakesNewlines = true
}

/// What distinguishes the pre-tokenisers of GPT-4o's kind.
struct CasedWordRules: Sendable {
    /// Digits that stay together.
    var digitLimit: Int
    /// Whether `'s` and the like go with the word before them.
    var takesContractions: Bool
}
