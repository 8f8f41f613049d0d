import Foundation
import ModelFormats
import Testing
import Tokenization

struct RoundTripTests {
    static func tokenizer(_ name: String) throws -> Tokenizer {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("Fixtures/tokenizers")
        return try Tokenizer(metadata: GGUFFile(path: folder.path + "/\(name).gguf").metadata)
    }

    @Test(arguments: [
        "gpt-2", "llama-bpe", "qwen2", "deepseek-llm", "deepseek-coder", "starcoder", "llama",
    ])
    func anyBytesComeBack(name: String) throws {
        let tokenizer = try Self.tokenizer(name)
        var numbers = SeededNumbers(seed: 2)
        for _ in 0..<200 {
            let bytes = (0..<Int.random(in: 0...200, using: &numbers)).map { _ in
                UInt8.random(in: 0...255, using: &numbers)
            }
            let ids = tokenizer.encode(bytes, addSpecial: false, parseSpecial: false)
            #expect(tokenizer.decode(ids, renderSpecial: false) == bytes)
            #expect(
                ids.flatMap { tokenizer.bytes(of: $0, renderSpecial: false) }.suffix(bytes.count)
                    == bytes)
        }
    }

    // That the next two end is what they show: with quadratic work they would take hours.

    @Test(.timeLimit(.minutes(2)))
    func aWordOf200KilobytesIsMergedToTheEnd() throws {
        let words = ["aa", "aaaa", "aaaaaaaa"]
        let bytePair = try VocabularyFile.bytePair(
            words: words, merges: ["a a", "aa aa", "aaaa aaaa"]
        ).tokenizer()
        let longest = try #require(bytePair.id(ofText: "aaaaaaaa"))
        let text = [UInt8](repeating: 0x61, count: 200_000)
        #expect(
            bytePair.encode(text, addSpecial: false, parseSpecial: false)
                == [Int32](repeating: longest, count: 25_000))

        let pieces = try VocabularyFile.sentencePiece(
            pieces: ["a": -1, "aa": -1, "aaaa": -2, "aaaaaaaa": -3]
        ).with("tokenizer.ggml.add_space_prefix", .bool(false)).tokenizer()
        let longestPiece = try #require(pieces.id(ofText: "aaaaaaaa"))
        #expect(
            pieces.encode(text, addSpecial: false, parseSpecial: false)
                == [Int32](repeating: longestPiece, count: 25_000))
    }

    @Test(.timeLimit(.minutes(2)), arguments: ["qwen2", "llama"])
    func aRandomWordOf200KilobytesComesBack(name: String) throws {
        let tokenizer = try Self.tokenizer(name)
        var numbers = SeededNumbers(seed: 4)
        let letters = Array("theandovrwil".utf8)
        let text = (0..<200_000).map { _ in letters.randomElement(using: &numbers)! }
        let ids = tokenizer.encode(text, addSpecial: false, parseSpecial: false)
        #expect(ids.count < text.count)
        #expect(tokenizer.decode(ids, renderSpecial: false) == text)
    }
}
