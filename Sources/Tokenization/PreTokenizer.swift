/// Cuts text into the words that byte-pair merges stay inside of.
///
/// A model's file names its pre-tokeniser in `tokenizer.ggml.pre`. There are dozens of names, but
/// few distinct ways of cutting; each is one `SplitStage` or several, every one cutting the pieces
/// of the one before. The names and which share an expression are those of llama.cpp's vocabulary
/// loader, the expressions those of the models' tokenizer.json.
struct PreTokenizer: Sendable {
    /// How to cut, coarse to fine.
    let stages: [SplitStage]
    /// A word that is a token as a whole is taken as it is, whatever the merges would make of it.
    var ignoresMerges = false
    /// Whether text begins with the beginning-of-sequence token when the file does not say.
    var addsBeginning = false

    init(_ stages: SplitStage..., ignoresMerges: Bool = false, addsBeginning: Bool = false) {
        self.stages = stages
        self.ignoresMerges = ignoresMerges
        self.addsBeginning = addsBeginning
    }

    /// The pre-tokeniser of this name, nil when it is not known.
    init?(name: String) {
        guard let family = Self.families.first(where: { $0.names.contains(name) }) else {
            return nil
        }
        self = family.preTokenizer
    }

    /// All known names, for error messages.
    static var knownNames: [String] { families.flatMap(\.names) }

    private static let families: [(names: [String], preTokenizer: PreTokenizer)] = [
        (
            [
                "gpt-2", "olmo", "mpt", "phi-2", "jais", "trillion", "granite-docling", "exaone4",
                "gigachat", "mellum", "modern-bert", "a.x-4.0",
            ],
            PreTokenizer(.wordsOfGPT2)
        ),
        (
            [
                "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0",
                "lfm2",
            ],
            PreTokenizer(.words(WordRules(digitLimit: 3)), ignoresMerges: true, addsBeginning: true)
        ),
        (
            ["dbrx", "smaug-bpe", "chatglm-bpe", "glm4"],
            PreTokenizer(.words(WordRules(digitLimit: 3)))
        ),
        (
            [
                "qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "kormo", "f2llmv2",
                "bailingmoe", "bailingmoe2", "llada-moe", "grok-2", "solar-open",
            ],
            PreTokenizer(.words(WordRules(digitLimit: 1)))
        ),
        (
            ["qwen35"],
            PreTokenizer(.words(WordRules(letters: [.letter, .mark], digitLimit: 1)))
        ),
        (
            ["ufakzeka"],
            PreTokenizer(.words(WordRules(digitLimit: 1, splitsContractions: false)))
        ),
        (
            ["seed-coder"],
            PreTokenizer(.words(WordRules(digitLimit: 1, punctuationTakesNewlines: false)))
        ),
        (
            ["gpt-4o", "llama4", "kanana2", "minimax-m2", "talkie"],
            PreTokenizer(.casedWords(CasedWordRules(digitLimit: 3, takesContractions: true)))
        ),
        (
            ["tekken"],
            PreTokenizer(
                .casedWords(CasedWordRules(digitLimit: 1, takesContractions: false)),
                ignoresMerges: true, addsBeginning: true)
        ),
        (
            [
                "starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b",
                "mellum2",
            ],
            PreTokenizer(.each(.number), .wordsOfGPT2)
        ),
        (
            ["deepseek-llm"],
            PreTokenizer(
                .each(.newline), .spacedRanges(.deepSeekLetters),
                .spacedRanges(.deepSeekPunctuation),
                .trailingSpace, .ranges(.deepSeekEastAsian), .each(.number))
        ),
        (
            ["deepseek-coder"],
            PreTokenizer(
                .each(.newline), .spacedRuns(.letter), .spacedRuns(.punctuation),
                .ranges(.deepSeekEastAsian), .each(.number))
        ),
        (
            ["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
            PreTokenizer(
                .runs(.number, limit: 3), .ranges(.ideographsAndKana), .wordsOfDeepSeekV3)
        ),
        (
            ["falcon"],
            PreTokenizer(
                .punctuation(orAnyOf: Array("$+<=>^~|`".utf8)), .wordsOfGPT2, .threeDigits)
        ),
        (
            ["default"],
            PreTokenizer(
                .punctuation(orAnyOf: Array("$+<=>^~|".utf8)), .wordsOfGPT2,
                .runs(.number, limit: .max), .threeDigits)
        ),
    ]
}

/// The words of a range of text, one after the other.
struct WordIterator {
    private let stages: [SplitStage]
    /// Where the next word starts.
    private var position: Int
    /// Where the text ends, then for each stage where its piece at `position` ends; none is after
    /// the one before. A piece that is used up ends at `position`.
    private var ends: [Int]

    init(_ preTokenizer: PreTokenizer, range: Range<Int>) {
        stages = preTokenizer.stages
        position = range.lowerBound
        ends = [Int](repeating: range.lowerBound, count: stages.count + 1)
        ends[0] = range.upperBound
    }

    /// The next word; nil at the end.
    mutating func next(in text: ScannedText) -> Range<Int>? {
        guard position < ends[0] else { return nil }
        for stage in stages.indices where ends[stage + 1] == position {
            ends[stage + 1] = stages[stage].endOfFirstPiece(text, from: position, end: ends[stage])
        }
        let word = position..<ends[stages.count]
        position = word.upperBound
        return word
    }
}
