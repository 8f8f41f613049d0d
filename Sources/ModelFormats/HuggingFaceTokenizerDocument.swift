/// A `tokenizer.json`, read and checked as far as it does not depend on the kind of tokenizer.
struct HuggingFaceTokenizerDocument {
    /// A token that is matched as a whole.
    struct AddedToken {
        let content: String
        let id: Int
        let isSpecial: Bool
        /// Its place in the file.
        let offset: Int
    }

    private(set) var path: String
    /// Tokens that merges make, and their numbers, each once.
    private(set) var vocabulary: [(text: String, id: Int)] = []
    /// `LEFT RIGHT`, in order of precedence, with one space.
    private(set) var merges: [String] = []
    private(set) var addedTokens: [AddedToken] = []
    private(set) var normalizer: JSONValue?
    private(set) var preTokenizer: JSONValue?
    private(set) var postProcessor: JSONValue?
    private(set) var byteFallback = false
    private(set) var ignoresMerges = false
    private(set) var unknownToken: String?
    private var vocabularyCount: Int

    /// Whether it puts `▁` for spaces.
    var mentionsSentencePiece: Bool {
        (normalizer?.text.contains("▁") ?? false) || (preTokenizer?.text.contains("▁") ?? false)
    }

    /// - Parameter vocabularyCount: Rows of the model's embedding; a token beyond is refused.
    init(_ document: JSONCursor, vocabularyCount: Int) throws(ModelFileError) {
        var cursor = document
        path = cursor.path
        self.vocabularyCount = vocabularyCount
        var reader = self
        var budget = JSONLimits.treeValues
        var hasModel = false
        try cursor.takeObject("the document") { cursor, name, _ throws(ModelFileError) in
            let field = "'\(name)'"
            switch name {
            case "added_tokens": try reader.takeAddedTokens(&cursor)
            case "model":
                hasModel = true
                try reader.takeModel(&cursor)
            case "normalizer":
                reader.normalizer = try JSONValue(&cursor, field, budget: &budget).unlessNull
            case "pre_tokenizer":
                reader.preTokenizer = try JSONValue(&cursor, field, budget: &budget).unlessNull
            case "post_processor":
                reader.postProcessor = try JSONValue(&cursor, field, budget: &budget).unlessNull
            default: try cursor.skip(field)
            }
        }
        try cursor.finish()
        guard hasModel else { throw cursor.error("'model'", at: 0, "missing") }
        try reader.checkNumbers()
        self = reader
    }

    /// The number of the added token with this text.
    func addedID(_ content: String) -> Int? {
        addedTokens.first { $0.content.utf8.elementsEqual(content.utf8) }?.id
    }

    func error(_ field: String, _ offset: Int?, _ message: String) -> ModelFileError {
        ModelFileError(
            path: path, field: field, offset: offset.map { UInt64($0) }, message: message)
    }

    // Parts

    private mutating func takeAddedTokens(_ cursor: inout JSONCursor) throws(ModelFileError) {
        var tokens: [AddedToken] = []
        let limit = vocabularyCount
        try cursor.takeArray("'added_tokens'") { cursor, index throws(ModelFileError) in
            let field = "added token \(index)"
            let offset = cursor.offset
            var content: String?
            var id: Int?
            var flags: Set<String> = []
            try cursor.takeObject(field) { cursor, name, _ throws(ModelFileError) in
                switch name {
                case "content": content = try cursor.takeString(field)
                case "id": id = try cursor.takeInteger(field)
                case "special", "single_word", "lstrip", "rstrip", "normalized":
                    if try cursor.takeBool(field) { flags.insert(name) }
                default: try cursor.skip(field)
                }
            }
            guard let content, !content.isEmpty, let id else {
                throw cursor.error(field, at: offset, "expected an id and a content")
            }
            guard 0..<limit ~= id else {
                throw cursor.error(
                    field, at: offset,
                    "'\(content)' has the number \(id), the model's vocabulary \(limit) rows")
            }
            for flag in ["single_word", "lstrip", "rstrip"] where flags.contains(flag) {
                throw cursor.error(
                    field, at: offset,
                    "'\(content)' is \(flag), which looks at the text beside it; not supported")
            }
            tokens.append(
                AddedToken(
                    content: content, id: id, isSpecial: flags.contains("special"), offset: offset))
        }
        addedTokens = tokens
    }

    private mutating func takeModel(_ cursor: inout JSONCursor) throws(ModelFileError) {
        var reader = self
        try cursor.takeObject("'model'") { cursor, name, nameAt throws(ModelFileError) in
            let field = "'model.\(name)'"
            switch name {
            case "type":
                let type = try cursor.takeString(field)
                guard type == "BPE" else {
                    throw cursor.error(
                        field, at: nameAt, "'\(type)' is not supported, only BPE is")
                }
            case "vocab": try reader.takeVocabulary(&cursor)
            case "merges": try reader.takeMerges(&cursor)
            case "byte_fallback": reader.byteFallback = try cursor.takeBool(field)
            case "ignore_merges": reader.ignoresMerges = try cursor.takeBool(field)
            case "unk_token":
                if try cursor.kind(field) == .null { return try cursor.takeNull(field) }
                reader.unknownToken = try cursor.takeString(field)
            case "dropout", "continuing_subword_prefix", "end_of_word_suffix":
                // Nothing, an empty text and 0 are what changes nothing.
                var budget = 1
                let value = try JSONValue(&cursor, field, budget: &budget)
                guard value.unlessNull == nil || value.string == "" || value.number == 0 else {
                    throw cursor.error(field, at: nameAt, "\(value.text) is not supported")
                }
            default: try cursor.skip(field)
            }
        }
        self = reader
    }

    private mutating func takeVocabulary(_ cursor: inout JSONCursor) throws(ModelFileError) {
        var vocabulary: [(text: String, id: Int)] = []
        let limit = vocabularyCount
        guard try cursor.kind("'model.vocab'") == .object else {
            throw cursor.error(
                "'model.vocab'", "expected an object of tokens and numbers, as a BPE model has it")
        }
        try cursor.takeObject("'model.vocab'") { cursor, text, textAt throws(ModelFileError) in
            let id = try cursor.takeInteger("token '\(text)'")
            guard 0..<limit ~= id else {
                throw cursor.error(
                    "token '\(text)'", at: textAt,
                    "its number is \(id), the model's vocabulary has \(limit) rows")
            }
            vocabulary.append((text, id))
        }
        self.vocabulary = vocabulary
    }

    /// Takes merges as texts, `"a b"`, or (files since 2024) as pairs, `["a", "b"]`.
    private mutating func takeMerges(_ cursor: inout JSONCursor) throws(ModelFileError) {
        var merges: [String] = []
        try cursor.takeArray("'model.merges'") { cursor, index throws(ModelFileError) in
            let field = "merge \(index)"
            let offset = cursor.offset
            var text = ""
            if try cursor.kind(field) == .string {
                text = try cursor.takeString(field)
            } else {
                try cursor.takeArray(field) { cursor, part throws(ModelFileError) in
                    text += (part == 0 ? "" : " ") + (try cursor.takeString(field))
                }
            }
            let parts = text.utf8.split(separator: 0x20, omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else {
                throw cursor.error(
                    field, at: offset, "expected two tokens without spaces in them, found '\(text)'"
                )
            }
            merges.append(text)
        }
        self.merges = merges
    }

    /// Refuses two tokens of one number.
    private func checkNumbers() throws(ModelFileError) {
        var taken = [Bool](repeating: false, count: vocabularyCount)
        for (text, id) in vocabulary {
            guard !taken[id] else {
                throw error("token '\(text)'", nil, "its number \(id) is another token's too")
            }
            taken[id] = true
        }
        var added: Set<Int> = []
        for token in addedTokens where !added.insert(token.id).inserted {
            throw error(
                "added token '\(token.content)'", token.offset,
                "its number \(token.id) is another added token's too")
        }
    }
}

extension JSONValue {
    /// The value, nil for null.
    var unlessNull: JSONValue? {
        if case .null = content { nil } else { self }
    }
}
