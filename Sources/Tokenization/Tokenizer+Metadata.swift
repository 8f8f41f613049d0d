public import ModelFormats

/// Reading a tokenizer from the metadata of a GGUF file. Anything in there may be wrong: what
/// cannot be used ends in an error, what llama.cpp passes over (special tokens outside the
/// vocabulary, merges of tokens that do not exist) is passed over here too.
extension Tokenizer {
    /// Reads the tokenizer that the file describes under `tokenizer.ggml`.
    ///
    /// Throws when there is none, when it is of another kind than `gpt2` and `llama`, when its
    /// pre-tokeniser is not known, and when its arrays do not fit together.
    public init(metadata: GGUFMetadata) throws(ModelFileError) {
        guard let kind = try metadata.string(Key.model) else {
            throw metadata.error(Key.model, "missing: the file has no tokenizer")
        }
        guard kind == "gpt2" || kind == "llama" else {
            throw metadata.error(
                Key.model,
                "expected 'gpt2' (byte-level BPE) or 'llama' (SentencePiece), found '\(kind)'")
        }
        var vocabulary = try Vocabulary(metadata: metadata, withScores: kind == "llama")
        let named = SpecialTokenNames.apply(to: &vocabulary)

        func id(_ key: String) throws(ModelFileError) -> Int32? {
            guard let id = try metadata.integer(key), id >= 0, id < vocabulary.count else {
                return nil
            }
            return Int32(id)
        }
        func known(_ id: Int32) -> Int32? { Int(id) < vocabulary.count ? id : nil }
        let isSentencePiece = kind == "llama"
        // SentencePiece models have these three at these numbers unless the file says otherwise.
        beginningOfSequence = try id(Key.beginning) ?? (isSentencePiece ? known(1) : nil)
        endOfSequence = try id(Key.end) ?? (isSentencePiece ? known(2) : nil)
        unknown = try id(Key.unknown) ?? (isSentencePiece ? known(0) : nil)
        padding = try id(Key.padding)

        var ends = named
        for key in [Key.end, Key.endOfTurn, Key.endOfMessage] {
            if let id = try id(key) { ends.insert(id) }
        }
        if let endOfSequence { ends.insert(endOfSequence) }
        SpecialTokenNames.resolveConflicts(in: &ends, &vocabulary)
        endOfGeneration = ends

        let addsBeginningByDefault: Bool
        if isSentencePiece {
            model = .sentencePiece(
                SentencePieceModel(
                    vocabulary: vocabulary, unknown: unknown,
                    spacePrefix: try Self.spacePrefix(metadata),
                    merges: try MergeTable(metadata, Key.listedMerges, vocabulary: vocabulary)))
            vocabulary.scores = []
            addsBeginningByDefault = true
        } else {
            let bytePair = try BytePairModel(metadata: metadata, vocabulary: vocabulary)
            model = .bytePair(bytePair)
            addsBeginningByDefault = bytePair.preTokenizer.addsBeginning
        }

        let wantsBeginning = try metadata.bool(Key.addsBeginning)
        let wantsEnd = try metadata.bool(Key.addsEnd)
        if wantsBeginning == true, beginningOfSequence == nil {
            throw metadata.error(
                Key.addsBeginning, "true, but '\(Key.beginning)' names no token of the vocabulary")
        }
        if wantsEnd == true, endOfSequence == nil {
            throw metadata.error(
                Key.addsEnd, "true, but '\(Key.end)' names no token of the vocabulary")
        }
        addsBeginning = wantsBeginning ?? addsBeginningByDefault
        addsEnd = wantsEnd ?? false

        let takesSpace = try Self.tokensThatTakeSpace(metadata, vocabulary)
        userDefined = SpecialTokenMatcher(vocabulary, types: [.userDefined], takesSpace: takesSpace)
        special = SpecialTokenMatcher(
            vocabulary, types: [.userDefined, .control, .unknown], takesSpace: takesSpace)
        self.vocabulary = vocabulary
    }

    private static func spacePrefix(
        _ metadata: GGUFMetadata
    ) throws(ModelFileError) -> SentencePieceModel.SpacePrefix {
        guard let name = try metadata.string(Key.spacePrefix) else {
            return try metadata.bool(Key.addsSpacePrefix) ?? true ? .always : .never
        }
        guard let prefix = SentencePieceModel.SpacePrefix(rawValue: name) else {
            throw metadata.error(
                Key.spacePrefix, "expected never, always, unless-spaced or first, found '\(name)'")
        }
        return prefix
    }

    /// The tokens of Phi-3 that swallow the white space after them. GGUF files do not carry that
    /// attribute; as in llama.cpp, it goes by the model's name.
    private static func tokensThatTakeSpace(
        _ metadata: GGUFMetadata, _ vocabulary: Vocabulary
    ) throws(ModelFileError) -> Set<Int32> {
        let name = try metadata.string("general.name")?.lowercased() ?? ""
        let bytes = Array(name.utf8)
        guard bytes.contains(sequence: "phi-3") || bytes.contains(sequence: "phi3") else {
            return []
        }
        let exceptions = ["<unk>", "<s>", "<|endoftext|>"].compactMap { vocabulary.id(of: $0) }
        let special = (0..<vocabulary.count).lazy.filter {
            switch vocabulary.types[$0] {
            case .control, .userDefined, .unknown: true
            case .normal, .unused, .byte: false
            }
        }
        return Set(special.map { Int32($0) }).subtracting(exceptions)
    }

    /// The metadata keys, as GGUF names them.
    enum Key {
        static let model = "tokenizer.ggml.model"
        static let preTokenizer = "tokenizer.ggml.pre"
        static let tokens = "tokenizer.ggml.tokens"
        static let scores = "tokenizer.ggml.scores"
        static let types = "tokenizer.ggml.token_type"
        static let merges = "tokenizer.ggml.merges"
        static let beginning = "tokenizer.ggml.bos_token_id"
        static let end = "tokenizer.ggml.eos_token_id"
        static let endOfTurn = "tokenizer.ggml.eot_token_id"
        static let endOfMessage = "tokenizer.ggml.eom_token_id"
        static let unknown = "tokenizer.ggml.unknown_token_id"
        static let padding = "tokenizer.ggml.padding_token_id"
        static let addsBeginning = "tokenizer.ggml.add_bos_token"
        static let addsEnd = "tokenizer.ggml.add_eos_token"
        static let addsSpacePrefix = "tokenizer.ggml.add_space_prefix"
        /// What GGUF has no word for, in models that come from a tokenizer.json: the merges of a
        /// SentencePiece model, and more ways to put a space before a text.
        static let listedMerges = "sluice.tokenizer.merges"
        static let spacePrefix = "sluice.tokenizer.space_prefix"
    }
}

extension Vocabulary {
    /// Reads texts and types, and scores where there must be some.
    init(metadata: GGUFMetadata, withScores: Bool) throws(ModelFileError) {
        typealias Key = Tokenizer.Key
        self.init()
        guard let tokens = try metadata.array(Key.tokens) else {
            throw metadata.error(Key.tokens, "missing: the file has no vocabulary")
        }
        guard tokens.elementType == .string, tokens.count > 0, tokens.count < Int(Int32.max) else {
            throw metadata.error(
                Key.tokens, "expected strings, found \(tokens.count) values of another type")
        }
        let types = try metadata.array(Key.types)
        if let types, types.count < tokens.count {
            throw metadata.error(
                Key.types, "expected one of each of \(tokens.count) tokens, found \(types.count)")
        }
        let textBytes = (0..<tokens.count).reduce(0) { $0 + tokens.bytes(at: $1).count }
        reserve(tokens.count, textBytes: textBytes)
        for id in 0..<tokens.count {
            var type = TokenType.normal
            if let types {
                guard let number = types.integer(at: id) else {
                    throw metadata.error(Key.types, "expected integers, found another type")
                }
                // Numbers that GGUF does not define come without a meaning, like unused tokens.
                type = UInt8(exactly: number).flatMap(TokenType.init(rawValue:)) ?? .unused
            }
            guard append(tokens.bytes(at: id), type: type) else {
                throw metadata.error(Key.tokens, "texts of more than 4 GB")
            }
        }
        buildIndex()

        guard withScores else { return }
        guard let scores = try metadata.array(Key.scores), scores.count >= tokens.count else {
            throw metadata.error(
                Key.scores, "expected one for each of \(tokens.count) tokens, found fewer")
        }
        self.scores.reserveCapacity(tokens.count)
        for id in 0..<tokens.count {
            guard let score = scores.number(at: id) else {
                throw metadata.error(Key.scores, "expected numbers, found another type")
            }
            self.scores.append(Float(score))
        }
    }
}

extension BytePairModel {
    /// Reads pre-tokeniser and merges.
    init(metadata: GGUFMetadata, vocabulary: Vocabulary) throws(ModelFileError) {
        typealias Key = Tokenizer.Key
        let name = try metadata.string(Key.preTokenizer) ?? "default"
        guard let preTokenizer = PreTokenizer(name: name) else {
            throw metadata.error(
                Key.preTokenizer,
                "'\(name)' is not a pre-tokeniser this program knows; it knows "
                    + PreTokenizer.knownNames.sorted().joined(separator: ", "))
        }
        self.preTokenizer = preTokenizer

        byteIDs = (UInt8.min...UInt8.max).map {
            var text: [UInt8] = []
            ByteAlphabet.appendCharacter(of: $0, to: &text)
            return vocabulary.plainID(of: text, 0..<text.count) ?? -1
        }

        guard
            let merges = try MergeTable(metadata, Key.merges, vocabulary: vocabulary)
        else { throw metadata.error(Key.merges, "missing: byte-pair encoding needs merges") }
        self.merges = merges
    }
}

extension MergeTable {
    /// Reads the merges under `key`, each `LEFT RIGHT`; nil when there are none.
    init?(
        _ metadata: GGUFMetadata, _ key: String, vocabulary: Vocabulary
    ) throws(ModelFileError) {
        guard let lines = try metadata.array(key) else { return nil }
        guard lines.elementType == .string || lines.count == 0, lines.count < Int(Int32.max) else {
            throw metadata.error(key, "expected strings, found another type")
        }
        self.init(capacity: lines.count)
        for number in 0..<lines.count {
            // "left right"; a first character is never the separator.
            var text = Array(lines.bytes(at: number))
            guard let space = text.dropFirst().firstIndex(of: 0x20) else {
                throw metadata.error(
                    key,
                    "entry \(number): expected two tokens with a space between, found one")
            }
            let left = vocabulary.plainID(of: text, 0..<space)
            let right = vocabulary.plainID(of: text, space + 1..<text.count)
            text.remove(at: space)
            guard let left, let right, let merged = vocabulary.plainID(of: text, 0..<text.count)
            else {
                continue
            }
            append(left: left, right: right, merged: merged)
        }
    }
}

extension [UInt8] {
    /// Whether the UTF-8 of `text` occurs.
    func contains(sequence text: String) -> Bool {
        let wanted = Array(text.utf8)
        return indices.contains { self[$0...].starts(with: wanted) }
    }
}
