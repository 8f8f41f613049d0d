/// How `tokenizer.json` cuts text into words, and the name GGUF has for it.
///
/// Recognised are exactly the ways of cutting that `Tokenization` has, by structure and regular
/// expression; anything close to one of them is refused, since it would give other tokens now and
/// then.
enum HuggingFacePreTokenizer {
    /// One step of cutting.
    enum Stage: Equatable {
        /// Every match of an expression is a piece of its own, and so is what lies between. In
        /// UTF-8: to Swift's strings, a letter and its decomposition are the same.
        case split([UInt8])
        /// Every digit is a piece of its own.
        case digits
        /// Bytes become characters; `words` cuts by GPT-2's expression before.
        case byteLevel(words: Bool)
    }

    /// The name in `tokenizer.ggml.pre`.
    ///
    /// - Parameter ignoresMerges: Whether a word that is a token is taken whole.
    static func name(
        _ value: JSONValue?, ignoresMerges: Bool, path: String
    ) throws(ModelFileError) -> String {
        let stages = try stages(value, path: path)
        let known = known.first { $0.stages == stages && $0.ignoresMerges == ignoresMerges }
        guard let known else {
            throw error(
                value, path,
                "a pre-tokeniser that is not known"
                    + (ignoresMerges ? " together with ignore_merges" : "") + ": "
                    + (value?.text ?? "none") + "; known are those of "
                    + Self.known.map(\.name).joined(separator: ", "))
        }
        return known.name
    }

    private static func stages(
        _ value: JSONValue?, path: String
    ) throws(ModelFileError) -> [Stage] {
        guard let value else { return [] }
        func refusal(_ reason: String) -> ModelFileError {
            error(value, path, "\(reason) is not supported: \(value.text)")
        }
        switch value["type"]?.string {
        case "Sequence":
            var stages: [Stage] = []
            for element in value["pretokenizers"]?.elements ?? [] {
                stages += try Self.stages(element, path: path)
            }
            return stages
        case "ByteLevel":
            guard value["add_prefix_space"]?.bool ?? true == false else {
                throw refusal("a space put before the text")
            }
            return [.byteLevel(words: value["use_regex"]?.bool ?? true)]
        case "Digits":
            guard value["individual_digits"]?.bool == true else {
                throw refusal("a cut at numbers")
            }
            return [.digits]
        case "Split":
            guard let expression = value["pattern"]?["Regex"]?.string,
                value["behavior"]?.string == "Isolated", value["invert"]?.bool ?? false == false
            else { throw refusal("this kind of split") }
            return [split(expression)]
        default:
            throw refusal("this pre-tokeniser")
        }
    }

    /// Line ends are written out by some files and escaped by others, which means the same.
    private static func split(_ expression: String) -> Stage {
        .split(
            expression.utf8.flatMap { byte -> [UInt8] in
                switch byte {
                case 0x0A: Array(#"\n"#.utf8)
                case 0x0D: Array(#"\r"#.utf8)
                default: [byte]
                }
            })
    }

    private static func error(_ value: JSONValue?, _ path: String, _ message: String)
        -> ModelFileError
    {
        ModelFileError(
            path: path, field: "'pre_tokenizer'", offset: value.map { UInt64($0.offset) },
            message: message)
    }

    // The expressions, as the models' tokenizer.json have them.

    private static let contractions = #"(?i:'s|'t|'re|'ve|'m|'ll|'d)"#
    private static let space = #"\s*[\r\n]+|\s+(?!\S)|\s+"#
    private static let llama3 =
        contractions + #"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"# + space
    private static let qwen2 =
        contractions + #"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"# + space
    private static let qwen35 =
        contractions
        + #"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"# + space
    private static let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
    private static let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
    private static let before = #"[^\r\n\p{L}\p{N}]?"#
    private static let tekken =
        "\(before)\(upper)*\(lower)+|\(before)\(upper)+\(lower)*"
        + #"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|"# + space
    private static let gpt4o =
        "\(before)\(upper)*\(lower)+\(contractions)?|\(before)\(upper)+\(lower)*\(contractions)?"
        + #"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|"# + space
    private static let deepSeekV3 =
        ##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##
        + #"| ?[\p{P}\p{S}]+[\r\n]*|"# + space
    private static let eastAsian = "[\u{4e00}-\u{9fa5}\u{800}-\u{4e00}\u{ac00}-\u{d7ff}]+"
    private static let ideographsAndKana =
        "[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+"
    private static let deepSeekPunctuation =
        "\\s?[!-/:-~\u{ff01}-\u{ff0f}\u{ff1a}-\u{ff5e}\u{2018}-\u{201f}\u{3000}-\u{3002}]+"

    private static let bytes = Stage.byteLevel(words: false)
    private static let known: [(name: String, stages: [Stage], ignoresMerges: Bool)] = [
        ("gpt-2", [.byteLevel(words: true)], false),
        ("starcoder", [.digits, .byteLevel(words: true)], false),
        ("llama-bpe", [split(llama3), bytes], true),
        ("dbrx", [split(llama3), bytes], false),
        ("qwen2", [split(qwen2), bytes], false),
        ("qwen35", [split(qwen35), bytes], false),
        ("gpt-4o", [split(gpt4o), bytes], false),
        ("tekken", [split(tekken), bytes], true),
        (
            "deepseek-llm",
            [
                split(#"[\r\n]"#), split(#"\s?"# + deepSeekLetters + "+"),
                split(deepSeekPunctuation), split(#"\s+$"#), split(eastAsian), .digits, bytes,
            ], false
        ),
        (
            "deepseek-coder",
            [
                split(#"[\r\n]"#), split(#"\s?\p{L}+"#), split(#"\s?\p{P}+"#),
                split(eastAsian), .digits, bytes,
            ], false
        ),
        (
            "deepseek-v3",
            [split(#"\p{N}{1,3}"#), split(ideographsAndKana), split(deepSeekV3), bytes], false
        ),
    ]

    /// The letters of DeepSeek LLM's expression, as a character class.
    private static let deepSeekLetters = "[" + DeepSeekLetters.ranges.map(written).joined() + "]"

    /// A range as the expression writes it: two neighbours without a dash.
    private static func written(_ range: ClosedRange<UInt32>) -> String {
        var text = String.UnicodeScalarView()
        func add(_ code: UInt32) {
            if let scalar = Unicode.Scalar(code) { text.append(scalar) }
        }
        add(range.lowerBound)
        if range.count > 2 { text.append("-") }
        if range.count > 1 { add(range.upperBound) }
        return String(text)
    }
}
