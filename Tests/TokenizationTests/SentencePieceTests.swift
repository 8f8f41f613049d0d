import Testing
import Tokenization

struct SentencePieceTests {
    static let file = VocabularyFile.sentencePiece(
        pieces: ["▁": -1, "a": -2, "b": -3, "▁a": -4, "ab": -5, "▁▁": -6, "c": -7])

    static func texts(_ file: VocabularyFile, _ text: String) throws -> [String] {
        let tokenizer = try file.tokenizer()
        return tokenizer.encode(text, addSpecial: false, parseSpecial: false).map(tokenizer.text)
    }

    @Test func theHighestScoreMergesFirst() throws {
        // ▁a (-4) goes before ab (-5).
        #expect(try Self.texts(Self.file, "ab") == ["▁a", "b"])
        #expect(try Self.texts(Self.file, "cab") == ["▁", "c", "ab"])
    }

    @Test func ofEqualScoresTheLeftmostMergesFirst() throws {
        let file = VocabularyFile.sentencePiece(
            pieces: [
                "▁": -1, "x": -2, "y": -3, "xy": -4, "yx": -4, "xx": -0.0, "▁x": -9, "yy": 0.0,
            ])
        #expect(try Self.texts(file, "yxyx") == ["▁", "yx", "yx"])
        #expect(try Self.texts(file, "yyxx") == ["▁", "yy", "xx"])
        #expect(try Self.texts(file, "xxx") == ["▁", "xx", "x"])
    }

    @Test func theSpaceNobodyWroteIsAddedAndTakenAway() throws {
        let tokenizer = try Self.file.tokenizer()
        for text in ["a", " a", "  a", "", " ", "ab c", "\n"] {
            let ids = tokenizer.encode(text, addSpecial: true, parseSpecial: false)
            #expect(ids.first == 1)
            #expect(tokenizer.decode(ids, renderSpecial: false) == Array(text.utf8))
        }
        let bare = Self.file.with("tokenizer.ggml.add_space_prefix", .bool(false))
        #expect(try Self.texts(bare, "a a") == ["a", "▁a"])
        let bareTokenizer = try bare.tokenizer()
        let ids = bareTokenizer.encode(" a", addSpecial: false, parseSpecial: false)
        #expect(bareTokenizer.decode(ids, renderSpecial: false) == Array(" a".utf8))
    }

    @Test func textAfterASpecialTokenStartsLikeAText() throws {
        let tokenizer = try Self.file.tokenizer()
        let ids = tokenizer.encode("<s>a</s>a", addSpecial: false, parseSpecial: true)
        #expect(ids.map(tokenizer.text) == ["<s>", "▁a", "</s>", "▁a"])
        #expect(tokenizer.decode(ids, renderSpecial: true) == Array("<s>a</s> a".utf8))
    }

    @Test func whatIsNoPieceIsSpelledInBytes() throws {
        #expect(try Self.texts(Self.file, "é") == ["▁", "<0xC3>", "<0xA9>"])
        // Bytes that are no UTF-8 are kept as they are.
        let tokenizer = try Self.file.tokenizer()
        let bytes: [UInt8] = [0xE2, 0x96, 0x20, 0xFF, 0x61, 0xC3]
        let ids = tokenizer.encode(bytes, addSpecial: false, parseSpecial: false)
        #expect(tokenizer.decode(ids, renderSpecial: false) == bytes)
    }

    @Test func withoutByteTokensARunOfUnknownCharactersIsOneUnknownToken() throws {
        let file = VocabularyFile.sentencePiece(pieces: ["▁": -1, "a": -2], bytes: false)
        #expect(try Self.texts(file, "éüa☺") == ["▁", "<unk>", "a", "<unk>"])
    }

    @Test func mergingWordByWordChangesNothing() throws {
        // A piece with a space inside forbids it; without that piece, both ways must agree.
        var numbers = SeededNumbers(seed: 3)
        let pieces: KeyValuePairs<String, Float> = [
            "▁": -1, "a": -2, "b": -3, "▁a": -4, "ab": -5, "▁▁": -6, "▁▁▁▁": -7, "▁ab": -8,
            "ba": -4,
            "aa": -9, "bb": -2.5, "▁b": -3,
        ]
        let word = try VocabularyFile.sentencePiece(pieces: pieces).tokenizer()
        var withSpaceInside = VocabularyFile.sentencePiece(pieces: pieces)
        guard case .strings(let tokens)? = withSpaceInside["tokenizer.ggml.tokens"],
            case .integers(let types)? = withSpaceInside["tokenizer.ggml.token_type"],
            case .floats(let scores)? = withSpaceInside["tokenizer.ggml.scores"]
        else { return #expect(Bool(false)) }
        // It can never be made, since `zz` cannot.
        withSpaceInside["tokenizer.ggml.tokens"] = .strings(tokens + ["zz▁zz"])
        withSpaceInside["tokenizer.ggml.token_type"] = .integers(types + [1])
        withSpaceInside["tokenizer.ggml.scores"] = .floats(scores + [0])
        let whole = try withSpaceInside.tokenizer()
        for _ in 0..<300 {
            let count = Int.random(in: 0...60, using: &numbers)
            let text = (0..<count).map { _ in "aab  b".utf8.randomElement(using: &numbers)! }
            #expect(
                word.encode(text, addSpecial: false, parseSpecial: false)
                    == whole.encode(text, addSpecial: false, parseSpecial: false))
        }
    }
}
