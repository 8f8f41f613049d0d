/// The tokenizer of a model directory, as GGUF would hold it.
///
/// Two kinds of byte-pair encoding are known: over bytes, with one of the ways to cut words that
/// `HuggingFacePreTokenizer` knows, and SentencePiece's, over characters with `▁` for spaces and
/// bytes for what the vocabulary has not. For the second the merges are written too, as
/// `sluice.tokenizer.merges`: SentencePiece's scores can say almost the same, but not which of two
/// ways to the same token goes first. Text is not normalised: NFC, which some byte-level tokenizers
/// ask for, is left to who writes the text, as llama.cpp leaves it.
struct HuggingFaceTokenizer {
    private let document: HuggingFaceTokenizerDocument
    private let kind: Kind
    private let special: HuggingFaceSpecialTokens
    private let tokens: [String]
    private let types: [Int32]

    private enum Kind {
        case byteLevel(preTokenizer: String)
        case sentencePiece(HuggingFaceSpacePrefix)
    }

    /// GGUF's numbers for the types of tokens.
    private enum TokenType {
        static let normal: Int32 = 1
        static let unknown: Int32 = 2
        static let control: Int32 = 3
        static let userDefined: Int32 = 4
        static let unused: Int32 = 5
        static let byte: Int32 = 6
    }

    /// Reads the tokenizer in `directory`; nil when there is no `tokenizer.json`.
    init?(
        _ directory: HuggingFaceDirectory, _ configuration: HuggingFaceConfiguration
    ) throws(ModelFileError) {
        guard let cursor = try directory.document("tokenizer.json") else { return nil }
        let count = configuration.vocabularyCount
        document = try HuggingFaceTokenizerDocument(cursor, vocabularyCount: count)
        if document.byteFallback || document.mentionsSentencePiece {
            kind = .sentencePiece(try HuggingFaceSpacePrefix(document))
            guard !document.ignoresMerges else {
                throw document.error(
                    "model.ignore_merges", nil, "true is not supported beside byte_fallback")
            }
        } else {
            try Self.checkNormalizer(document)
            kind = .byteLevel(
                preTokenizer: try HuggingFacePreTokenizer.name(
                    document.preTokenizer, ignoresMerges: document.ignoresMerges,
                    path: document.path))
        }

        var tokens = [String?](repeating: nil, count: count)
        var types = [Int32](repeating: TokenType.unused, count: count)
        for (text, id) in document.vocabulary {
            tokens[id] = text
            types[id] = TokenType.normal
        }
        if case .sentencePiece = kind { try Self.markBytes(document, &types) }
        for token in document.addedTokens {
            if let text = tokens[token.id], Array(text.utf8) != Array(token.content.utf8) {
                throw document.error(
                    "added token '\(token.content)'", token.offset,
                    "its number \(token.id) is that of '\(text)'")
            }
            tokens[token.id] = token.content
            types[token.id] =
                token.content == document.unknownToken
                ? TokenType.unknown
                : token.isSpecial || Self.looksSpecial(token.content)
                    ? TokenType.control : TokenType.userDefined
        }
        // As llama.cpp's converter calls the rows of the embedding that no token has.
        self.tokens = tokens.enumerated().map { $1 ?? "[PAD\($0)]" }
        self.types = types
        special = try HuggingFaceSpecialTokens(directory, configuration, document)
    }

    /// Adds the tokenizer's keys.
    func write(to writer: inout GGUFMetadataWriter) {
        switch kind {
        case .byteLevel(let preTokenizer):
            writer.add("tokenizer.ggml.model", "gpt2")
            writer.add("tokenizer.ggml.pre", preTokenizer)
        case .sentencePiece:
            writer.add("tokenizer.ggml.model", "llama")
            writer.add("tokenizer.ggml.pre", "default")
        }
        writer.add("tokenizer.ggml.tokens", tokens)
        writer.add("tokenizer.ggml.token_type", types)
        switch kind {
        case .byteLevel:
            writer.add("tokenizer.ggml.merges", document.merges)
        case .sentencePiece(let prefix):
            writer.add("tokenizer.ggml.scores", scores)
            writer.add("sluice.tokenizer.merges", document.merges)
            writer.add("tokenizer.ggml.add_space_prefix", prefix != .never)
            writer.add("sluice.tokenizer.space_prefix", prefix.rawValue)
        }
        special.write(to: &writer)
    }

    /// A score for each token: the earlier a merge makes it, the higher. Tokens that no merge makes
    /// come last, except bytes, control tokens and the like, which have 0 as in SentencePiece's own
    /// files.
    private var scores: [Float] {
        var ranks: [[UInt8]: Int] = [:]
        for (rank, merge) in document.merges.enumerated() {
            // One space, as was checked.
            let token = merge.utf8.filter { $0 != 0x20 }
            if ranks[token] == nil { ranks[token] = rank }
        }
        return tokens.indices.map { id in
            types[id] == TokenType.normal
                ? -Float(ranks[Array(tokens[id].utf8)] ?? document.merges.count) : 0
        }
    }

    /// Gives the byte tokens their type, and refuses a vocabulary that has not all of them: what it
    /// lacks would become the unknown token.
    private static func markBytes(
        _ document: HuggingFaceTokenizerDocument, _ types: inout [Int32]
    ) throws(ModelFileError) {
        guard document.byteFallback else {
            throw document.error(
                "model.byte_fallback", nil,
                "false is not supported beside '▁' for spaces; true is, with tokens for all bytes")
        }
        var left = Set(
            (0..<256).map { byte in
                "<0x" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true) + ">"
            })
        for (text, id) in document.vocabulary where left.remove(text) != nil {
            types[id] = TokenType.byte
        }
        if let absent = left.min() {
            throw document.error("model.vocab", nil, "no token '\(absent)' for that byte")
        }
    }

    /// Nothing, or NFC.
    private static func checkNormalizer(
        _ document: HuggingFaceTokenizerDocument
    ) throws(ModelFileError) {
        guard let normalizer = document.normalizer else { return }
        let steps =
            normalizer["type"]?.string == "Sequence"
            ? normalizer["normalizers"]?.elements ?? [] : [normalizer]
        guard steps.allSatisfy({ $0["type"]?.string == "NFC" }) else {
            throw document.error(
                "normalizer", normalizer.offset,
                "only NFC is supported with byte-level BPE, found \(normalizer.text)")
        }
    }

    /// Whether an added token is a control token for its looks alone: models forget to say so. The
    /// rule is that of llama.cpp's converter.
    private static func looksSpecial(_ text: String) -> Bool {
        ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(text)
            || text.hasPrefix("<|") && text.hasSuffix("|>")
            || text.hasPrefix("<｜") && text.hasSuffix("｜>")
            || text.hasPrefix("<unused") && text.hasSuffix(">")
    }
}

/// When SentencePiece text begins with a space that nobody wrote; raw values are those of
/// `sluice.tokenizer.space_prefix`.
enum HuggingFaceSpacePrefix: String {
    case never
    /// At the start, and after every special token.
    case always
    /// The same, unless a space is there already.
    case unlessSpaced = "unless-spaced"
    /// Only at the very start of a text, unless a space is there already.
    case first

    /// Reads it from the normaliser (older files) or the pre-tokeniser.
    init(_ document: HuggingFaceTokenizerDocument) throws(ModelFileError) {
        if let normalizer = document.normalizer, document.preTokenizer == nil {
            self = try Self.fromNormalizer(normalizer, document)
        } else if let preTokenizer = document.preTokenizer, document.normalizer == nil {
            self = try Self.fromMetaspace(preTokenizer, document)
        } else {
            throw document.error(
                "pre_tokenizer", document.preTokenizer?.offset,
                "a normaliser and a pre-tokeniser together, or neither, are not supported beside "
                    + "byte_fallback: \(document.preTokenizer?.text ?? "none")")
        }
    }

    private static func fromNormalizer(
        _ value: JSONValue, _ document: HuggingFaceTokenizerDocument
    ) throws(ModelFileError) -> HuggingFaceSpacePrefix {
        var steps = value["type"]?.string == "Sequence" ? value["normalizers"]?.elements : [value]
        var prefix = HuggingFaceSpacePrefix.never
        if let first = steps?.first, first["type"]?.string == "Prepend",
            first["prepend"]?.string == "▁"
        {
            prefix = .always
            steps?.removeFirst()
        }
        guard let steps, steps.count == 1, steps[0]["type"]?.string == "Replace",
            steps[0]["pattern"]?["String"]?.string == " ", steps[0]["content"]?.string == "▁"
        else {
            throw document.error(
                "normalizer", value.offset,
                "expected spaces to become '▁', with or without one before the text, found "
                    + value.text)
        }
        return prefix
    }

    private static func fromMetaspace(
        _ value: JSONValue, _ document: HuggingFaceTokenizerDocument
    ) throws(ModelFileError) -> HuggingFaceSpacePrefix {
        guard value["type"]?.string == "Metaspace", value["replacement"]?.string == "▁",
            value["split"]?.bool == false
        else {
            throw document.error(
                "pre_tokenizer", value.offset,
                "expected a Metaspace of '▁' that does not split, found \(value.text)")
        }
        switch value["prepend_scheme"]?.string {
        case "never": return .never
        case "first": return .first
        case "always": return .unlessSpaced
        default:
            throw document.error(
                "pre_tokenizer", value.offset,
                "expected a prepend_scheme of never, first or always, found \(value.text)")
        }
    }
}
