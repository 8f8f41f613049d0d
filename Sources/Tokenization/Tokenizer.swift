/// Turns text into token numbers and back, as the model in a GGUF file was trained to.
///
/// Two kinds: byte-level byte-pair encoding (`tokenizer.ggml.model` is `gpt2`) and SentencePiece
/// (`llama`). Text is UTF-8, but nothing is ever refused or replaced: bytes that are not valid
/// UTF-8 are encoded as bytes. Unicode is not normalised, as in llama.cpp.
///
/// A value is a few arrays, shared by its copies; a vocabulary of 151,936 tokens takes about 6 MB.
public struct Tokenizer: Sendable {
    /// How text becomes tokens.
    enum Model: Sendable {
        case bytePair(BytePairModel)
        case sentencePiece(SentencePieceModel)
    }

    let vocabulary: Vocabulary
    let model: Model
    /// Finds tokens that are always matched as a whole.
    let userDefined: SpecialTokenMatcher
    /// Finds those and control tokens.
    let special: SpecialTokenMatcher
    let addsBeginning: Bool
    let addsEnd: Bool

    /// Starts a text, nil when the model has no such token.
    public let beginningOfSequence: Int32?
    /// Ends a text, nil when the model has no such token.
    public let endOfSequence: Int32?
    /// Fills up batches, nil when the model has no such token.
    public let padding: Int32?
    /// Stands for text that no token covers, nil when the model has no such token.
    public let unknown: Int32?
    /// All tokens after which a model has said what it had to say: the ends of sequence, turn and
    /// message that the file names, and the tokens known for that by their texts, such as
    /// `<|im_end|>`.
    public let endOfGeneration: Set<Int32>

    /// Tokens in the vocabulary; their numbers are 0 and up.
    public var vocabularyCount: Int { vocabulary.count }

    /// The vocabulary's own spelling of a token, as in `Ġhello` or `▁hello`; empty when there is no
    /// such token.
    public func text(of id: Int32) -> String {
        guard let id = index(of: id) else { return "" }
        return String(decoding: vocabulary.text(of: id), as: UTF8.self)
    }

    /// The token with this spelling in the vocabulary, nil when there is none. Of tokens with the
    /// same spelling, the first.
    public func id(ofText text: String) -> Int32? { vocabulary.id(of: text) }

    /// The tokens of `text`, which should be UTF-8 but need not be valid.
    ///
    /// - Parameter addSpecial: puts the beginning-of-sequence token before and the end-of-sequence
    ///   token after, where the model's file says so.
    /// - Parameter parseSpecial: control tokens written out in the text become those tokens;
    ///   without it they are text like any other, so that nobody can end a turn by writing its end.
    ///   Tokens that the file calls user-defined are matched either way.
    public func encode(_ text: [UInt8], addSpecial: Bool, parseSpecial: Bool) -> [Int32] {
        var ids: [Int32] = []
        ids.reserveCapacity(text.count / 3 + 2)
        if addSpecial, addsBeginning, let beginningOfSequence { ids.append(beginningOfSequence) }
        let scanned = ScannedText(text)
        let matcher = parseSpecial ? special : userDefined
        var workspace = MergeWorkspace()
        for fragment in matcher.fragments(of: text, vocabulary: vocabulary) {
            switch (fragment, model) {
            case (.token(let id), _):
                ids.append(id)
            case (.text(let range), .bytePair(let model)):
                model.encode(
                    scanned, range, vocabulary: vocabulary, workspace: &workspace, into: &ids)
            case (.text(let range), .sentencePiece(let model)):
                model.encode(
                    scanned, range, vocabulary: vocabulary, workspace: &workspace, into: &ids)
            }
        }
        if addSpecial, addsEnd, let endOfSequence { ids.append(endOfSequence) }
        return ids
    }

    /// The tokens of `text`; see the overload for bytes.
    public func encode(_ text: String, addSpecial: Bool, parseSpecial: Bool) -> [Int32] {
        encode(Array(text.utf8), addSpecial: addSpecial, parseSpecial: parseSpecial)
    }

    /// Whether `id` is a token with a meaning instead of a text.
    public func isControl(_ id: Int32) -> Bool {
        guard let id = index(of: id) else { return false }
        return vocabulary.types[id] == .control || vocabulary.types[id] == .unknown
    }

    /// The token's place in the vocabulary, nil when there is no such token.
    func index(of id: Int32) -> Int? {
        id >= 0 && Int(id) < vocabulary.count ? Int(id) : nil
    }
}
