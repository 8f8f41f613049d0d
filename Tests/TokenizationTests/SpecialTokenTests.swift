import Testing
import Tokenization

struct SpecialTokenTests {
    static let chat = VocabularyFile.bytePair(
        words: ["hi"], merges: ["h i"], control: ["<|im_end|>", "<|im_end|>!", "<a>"],
        userDefined: ["[tool]", "ab", "bcd"])

    @Test func controlTokensAreTextUnlessParsed() throws {
        let tokenizer = try Self.chat.tokenizer()
        let end = try #require(tokenizer.id(ofText: "<|im_end|>"))
        let hi = try #require(tokenizer.id(ofText: "hi"))
        #expect(
            tokenizer.encode("hi<|im_end|>hi", addSpecial: false, parseSpecial: true) == [
                hi, end, hi,
            ])
        let plain = tokenizer.encode("hi<|im_end|>hi", addSpecial: false, parseSpecial: false)
        #expect(!plain.contains(end))
        #expect(tokenizer.decode(plain, renderSpecial: false) == Array("hi<|im_end|>hi".utf8))
    }

    @Test func wholeWordLookupDoesNotFindControlTokensEither() throws {
        // The pre-tokeniser leaves "stop" in one piece, and llama-bpe looks whole words up first.
        let tokenizer = try VocabularyFile.bytePair(pre: "llama-bpe", control: ["stop"]).tokenizer()
        let stop = try #require(tokenizer.id(ofText: "stop"))
        #expect(tokenizer.encode("stop", addSpecial: false, parseSpecial: true) == [stop])
        #expect(tokenizer.encode("stop", addSpecial: false, parseSpecial: false).count == 4)
    }

    @Test func mergesDoNotMakeControlTokens() throws {
        let tokenizer = try VocabularyFile.bytePair(merges: ["n o"], control: ["no"]).tokenizer()
        #expect(tokenizer.encode("no", addSpecial: false, parseSpecial: false).count == 2)
        let pieces = try VocabularyFile.sentencePiece(
            pieces: ["▁": -1, "<": -2, "s": -3, ">": -4, "s>": -5]
        ).tokenizer()
        let ids = pieces.encode("<s>", addSpecial: false, parseSpecial: false)
        #expect(ids.map(pieces.text) == ["▁", "<", "s>"])
        #expect(pieces.encode("<s>", addSpecial: false, parseSpecial: true) == [1])
    }

    @Test func userDefinedTokensAreAlwaysMatched() throws {
        let tokenizer = try Self.chat.tokenizer()
        let tool = try #require(tokenizer.id(ofText: "[tool]"))
        #expect(
            tokenizer.encode("[tool][tool]", addSpecial: false, parseSpecial: false) == [
                tool, tool,
            ])
        #expect(tokenizer.bytes(of: tool, renderSpecial: false) == Array("[tool]".utf8))
    }

    @Test func theLongestOfOverlappingTokensWins() throws {
        let tokenizer = try Self.chat.tokenizer()
        func texts(_ text: String) -> [String] {
            tokenizer.encode(text, addSpecial: false, parseSpecial: true).map(tokenizer.text)
        }
        #expect(texts("<|im_end|>!") == ["<|im_end|>!"])
        #expect(texts("<|im_end|>?") == ["<|im_end|>", "?"])
        // `bcd` is longer than `ab`, so it wins although `ab` starts first.
        #expect(texts("abcd") == ["a", "bcd"])
        #expect(texts("abab") == ["ab", "ab"])
        #expect(texts("<a<a>>") == ["<", "a", "<a>", ">"])
    }

    @Test func controlTokensGiveBytesOnlyWhenRendered() throws {
        let tokenizer = try Self.chat.tokenizer()
        let end = try #require(tokenizer.id(ofText: "<|im_end|>"))
        #expect(tokenizer.isControl(end))
        #expect(tokenizer.bytes(of: end, renderSpecial: false) == [])
        #expect(tokenizer.bytes(of: end, renderSpecial: true) == Array("<|im_end|>".utf8))
    }

    @Test func numbersOutsideTheVocabularyAreNothing() throws {
        let tokenizer = try Self.chat.tokenizer()
        for id in [Int32.min, -1, Int32(tokenizer.vocabularyCount), .max] {
            #expect(tokenizer.bytes(of: id, renderSpecial: true) == [])
            #expect(tokenizer.text(of: id) == "")
            #expect(!tokenizer.isControl(id))
        }
    }

    @Test func beginningAndEndAreAddedAsTheFileSays() throws {
        let file = VocabularyFile.bytePair(control: ["<s>", "</s>"])
            .with("tokenizer.ggml.bos_token_id", .integer(256))
            .with("tokenizer.ggml.eos_token_id", .integer(257))
        let a = Int32(UInt8(ascii: "a"))
        func ids(_ file: VocabularyFile) throws -> [Int32] {
            try file.tokenizer().encode("a", addSpecial: true, parseSpecial: false)
        }
        #expect(try ids(file) == [a])
        #expect(try ids(file.with("tokenizer.ggml.add_bos_token", .bool(true))) == [256, a])
        #expect(try ids(file.with("tokenizer.ggml.add_eos_token", .bool(true))) == [a, 257])
        let llama = file.with("tokenizer.ggml.pre", .string("llama-bpe"))
        #expect(try ids(llama) == [256, a])
        #expect(try ids(llama.with("tokenizer.ggml.add_bos_token", .bool(false))) == [a])
    }

    @Test func generationEndsAtNamedAndAtKnownTokens() throws {
        let file = VocabularyFile.bytePair(
            words: ["<|eot_id|>"],
            control: ["<|endoftext|>", "<|im_end|>", "<|im_start|>", "<stop>", "<fin>"])
        let tokenizer = try file.with("tokenizer.ggml.eos_token_id", .integer(260))
            .with("tokenizer.ggml.eot_token_id", .integer(261)).tokenizer()
        let texts = tokenizer.endOfGeneration.map(tokenizer.text).sorted()
        #expect(texts == ["<fin>", "<stop>", "<|endoftext|>", "<|eot_id|>", "<|im_end|>"])
        #expect(tokenizer.endOfSequence == 260)
        // A token known to end a turn is a control token whatever the file calls it.
        #expect(tokenizer.isControl(256))
    }

    @Test func callingAToolDoesNotMakeEveryMessageTheLast() throws {
        let tokenizer = try VocabularyFile.bytePair(
            control: ["<|end|>", "<|return|>", "<|call|>", "<|channel|>"]
        ).tokenizer()
        #expect(
            tokenizer.endOfGeneration.map(tokenizer.text).sorted() == ["<|call|>", "<|return|>"])
        #expect(!tokenizer.isControl(try #require(tokenizer.id(ofText: "<|channel|>"))))
    }

    @Test func spaceAfterPhi3TokensIsSwallowed() throws {
        let file = VocabularyFile.sentencePiece(
            pieces: ["▁": -1, "a": -2, "▁a": -3], control: ["<|user|>", "<|endoftext|>"])
        func texts(_ file: VocabularyFile, _ text: String) throws -> [String] {
            let tokenizer = try file.tokenizer()
            return tokenizer.encode(text, addSpecial: false, parseSpecial: true).map(tokenizer.text)
        }
        let phi = file.with("general.name", .string("Phi3"))
        #expect(try texts(phi, "<|user|>\n a") == ["<|user|>", "▁a"])
        #expect(try texts(file, "<|user|>\n a") == ["<|user|>", "▁", "<0x0A>", "▁a"])
        #expect(try texts(phi, "<|endoftext|> a") == ["<|endoftext|>", "▁", "▁a"])
        #expect(try texts(phi, "<|user|> \n ") == ["<|user|>"])
    }
}
