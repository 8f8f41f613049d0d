// Files with tokenizers that are odd, damaged or made to do harm.

import ModelFormats
import Testing

@testable import Tokenization

struct TokenizerFileTests {
    static let bytePair = VocabularyFile.bytePair(words: ["hi"], merges: ["h i"])
    static let sentencePiece = VocabularyFile.sentencePiece(pieces: ["▁": -1, "a": -2])

    /// The error's text when the file has another value for a key.
    static func refusal(
        _ file: VocabularyFile, _ key: String, _ value: VocabularyFile.Value?
    ) throws -> String {
        let error = try #require(throws: ModelFileError.self) {
            try file.with("tokenizer.ggml." + key, value).tokenizer()
        }
        #expect(!error.description.contains("\n"))
        return error.description
    }

    @Test func missingPartsAreNamed() throws {
        for key in ["model", "tokens", "merges"] {
            #expect(try Self.refusal(Self.bytePair, key, nil).contains("tokenizer.ggml." + key))
        }
        #expect(try Self.refusal(Self.sentencePiece, "scores", nil).contains("scores"))
    }

    @Test func unknownKindsAreRefusedByName() throws {
        #expect(try Self.refusal(Self.bytePair, "model", .string("rwkv")).contains("'rwkv'"))
        let message = try Self.refusal(Self.bytePair, "pre", .string("gpt-17"))
        #expect(message.contains("'gpt-17'") && message.contains("qwen2"))
    }

    @Test func withoutAPreTokeniserTheDefaultIsUsed() throws {
        #expect(throws: Never.self) {
            try Self.bytePair.with("tokenizer.ggml.pre", nil).tokenizer()
        }
    }

    @Test func valuesOfTheWrongTypeAreRefused() throws {
        for file in [Self.bytePair, Self.sentencePiece] {
            for key in ["model", "tokens", "token_type", "bos_token_id", "add_bos_token"] {
                _ = try Self.refusal(file, key, .floats([1]))
            }
            _ = try Self.refusal(file, "tokens", .integers([1, 2]))
            _ = try Self.refusal(file, "token_type", .strings([String](repeating: "x", count: 400)))
        }
        _ = try Self.refusal(Self.bytePair, "merges", .integers([1]))
        _ = try Self.refusal(Self.bytePair, "pre", .integer(1))
        _ = try Self.refusal(Self.sentencePiece, "scores", .strings(["a"]))
    }

    @Test func arraysThatAreTooShortAreRefused() throws {
        _ = try Self.refusal(Self.bytePair, "token_type", .integers([1]))
        _ = try Self.refusal(Self.sentencePiece, "scores", .floats([1, 2]))
        _ = try Self.refusal(Self.bytePair, "tokens", .strings([]))
        for line in ["hi", " i", " ", ""] {
            _ = try Self.refusal(Self.bytePair, "merges", .strings(["h i", line]))
        }
    }

    @Test func wantingATokenThatIsNotThereIsRefused() throws {
        let message = try Self.refusal(Self.bytePair, "add_bos_token", .bool(true))
        #expect(message.contains("tokenizer.ggml.bos_token_id"))
        _ = try Self.refusal(Self.bytePair, "add_eos_token", .bool(true))
    }

    @Test func specialNumbersOutsideTheVocabularyArePassedOver() throws {
        let tokenizer = try Self.bytePair.with("tokenizer.ggml.bos_token_id", .integer(.max))
            .with("tokenizer.ggml.eos_token_id", .integer(257)).tokenizer()
        #expect(tokenizer.beginningOfSequence == nil)
        #expect(tokenizer.endOfSequence == nil)
        #expect(tokenizer.endOfGeneration == [])
    }

    @Test func mergesOfUnknownTokensArePassedOver() throws {
        let file = VocabularyFile.bytePair(
            words: ["hi"], merges: ["q q", "h i", "zz z", "  ", "h ", "h i"])
        let tokenizer = try file.tokenizer()
        let hi = try #require(tokenizer.id(ofText: "hi"))
        #expect(tokenizer.encode("hiqq", addSpecial: false, parseSpecial: false).first == hi)
    }

    @Test func ofTokensWithTheSameTextTheFirstIsUsed() throws {
        let tokenizer = try VocabularyFile.bytePair(words: ["hi", "hi", "hi"], merges: ["h i"])
            .tokenizer()
        #expect(tokenizer.encode("hi", addSpecial: false, parseSpecial: false) == [256])
        #expect(tokenizer.vocabularyCount == 259)
        #expect(tokenizer.bytes(of: 258, renderSpecial: false) == Array("hi".utf8))
    }

    @Test func emptyTokensAreNeverFound() throws {
        let tokenizer = try VocabularyFile.bytePair(
            words: ["", ""], control: [""], userDefined: [""]
        )
        .tokenizer()
        #expect(tokenizer.id(ofText: "") == nil)
        #expect(tokenizer.encode("", addSpecial: false, parseSpecial: true) == [])
        #expect(tokenizer.encode("a", addSpecial: false, parseSpecial: true).count == 1)
        #expect(tokenizer.bytes(of: 256, renderSpecial: true) == [])
    }

    @Test func bytesWithoutATokenAreLeftOut() throws {
        let file = VocabularyFile.bytePair().with("tokenizer.ggml.tokens", .strings(["a", "b"]))
            .with("tokenizer.ggml.token_type", nil)
        #expect(
            try file.tokenizer().encode("axb", addSpecial: false, parseSpecial: false) == [0, 1])
    }

    @Test func scoresThatAreNoNumbersComeLast() throws {
        let tokenizer = try VocabularyFile.sentencePiece(
            pieces: [
                "▁": .nan, "a": .infinity, "b": -.infinity, "ab": .nan, "bb": -.infinity, "aa": 3,
            ]
        ).tokenizer()
        let ids = tokenizer.encode("aabbab", addSpecial: false, parseSpecial: false)
        #expect(ids.map(tokenizer.text) == ["▁", "aa", "bb", "ab"])
    }

    @Test func damagedFilesAreReadOrRefused() throws {
        var numbers = SeededNumbers(seed: 9)
        let text = Array("Hello hi <|im_end|> 123 \u{0} ▁ é ".utf8) + [0xFF, 0xE2]
        for file in [
            Self.bytePair, SpecialTokenTests.chat, Self.sentencePiece, SentencePieceTests.file,
        ] {
            let bytes = file.bytes
            var read = 0
            for _ in 0..<150 {
                var damaged = bytes
                for _ in 0..<Int.random(in: 1...6, using: &numbers) {
                    damaged[damaged.indices.randomElement(using: &numbers)!] =
                        UInt8.random(in: 0...255, using: &numbers)
                }
                guard let metadata = try? GGUFFile(bytes: damaged).metadata,
                    let tokenizer = try? Tokenizer(metadata: metadata)
                else { continue }
                read += 1
                for parse in [false, true] {
                    let ids = tokenizer.encode(text, addSpecial: true, parseSpecial: parse)
                    #expect(ids.allSatisfy { 0 <= $0 && Int($0) < tokenizer.vocabularyCount })
                    _ = tokenizer.decode(ids, renderSpecial: parse)
                }
            }
            // Damage to a token's text leaves a file that can be read.
            #expect(read > 5)
        }
    }
}
