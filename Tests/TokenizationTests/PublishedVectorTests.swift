// Real vocabularies with texts and the tokens that the models' own tokenisers make of them, as
// published with llama.cpp. They are not ours to ship: the tests run where somebody has put them
// beside the repository, in the folder `tokenizers` of SLUICE_SHARED or of `../shared`.

import Foundation
import ModelFormats
import Testing
import Tokenization

/// The folder of vocabularies, nil when there is none.
private let vectorFolder: URL? = {
    let folder =
        if let shared = ProcessInfo.processInfo.environment["SLUICE_SHARED"] {
            URL(fileURLWithPath: shared)
        } else {
            URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                .deletingLastPathComponent().deletingLastPathComponent()
                .appendingPathComponent("shared")
        }
    let tokenizers = folder.appendingPathComponent("tokenizers")
    return FileManager.default.fileExists(atPath: tokenizers.path) ? tokenizers : nil
}()

@Suite(.enabled(if: vectorFolder != nil, "no folder ../shared/tokenizers with published vectors"))
struct PublishedVectorTests {
    static let names = [
        "deepseek-coder", "deepseek-llm", "gpt-2", "llama-spm", "phi-3", "starcoder",
    ]

    @Test(arguments: names)
    func everyTextBecomesTheTokensPublishedForIt(name: String) throws {
        let metadata = try GGUFFile(path: Self.path(name)).metadata
        try Self.check(Tokenizer(metadata: metadata), name)
    }

    /// The same vocabularies written as tokenizer.json, with the pre-tokenisers of the fixtures.
    @Test(arguments: names.filter { $0 != "llama-spm" && $0 != "phi-3" })
    func theSameVocabularyAsAModelDirectoryGivesTheSameTokens(name: String) throws {
        let metadata = try GGUFFile(path: Self.path(name)).metadata
        let tokens = try #require(try metadata.array("tokenizer.ggml.tokens"))
        let types = try #require(try metadata.array("tokenizer.ggml.token_type"))
        let merges = try #require(try metadata.array("tokenizer.ggml.merges"))
        // NSString keys: a dictionary of Swift strings takes two spellings of a letter for one.
        let vocabulary = NSMutableDictionary()
        var added: [[String: Any]] = []
        for id in 0..<tokens.count {
            let text = try #require(tokens.string(at: id))
            if types.integer(at: id) == 1 {
                vocabulary[text as NSString] = id
            } else {
                added.append(["content": text, "id": id, "special": types.integer(at: id) == 3])
            }
        }
        let fixture = try JSONSerialization.jsonObject(
            with: Data(HuggingFaceTokenizerTests.bytes(name + ".json")))
        var document = try #require(fixture as? [String: Any])
        document["added_tokens"] = added
        document["post_processor"] = NSNull()
        document["model"] =
            [
                "type": "BPE", "vocab": vocabulary,
                "merges": (0..<merges.count).map { merges.string(at: $0)! },
            ] as [String: Any]
        let model = try HuggingFaceModel(files: [
            "config.json": Self.configuration(rows: tokens.count),
            "model.safetensors": Self.weights(rows: tokens.count),
            "tokenizer.json": Array(JSONSerialization.data(withJSONObject: document)),
        ])
        try Self.check(Tokenizer(metadata: model.metadata), name)
    }

    private static func configuration(rows: Int) throws -> [UInt8] {
        let text = try String(
            decoding: HuggingFaceTokenizerTests.bytes("config.json"), as: UTF8.self)
        return Array(text.replacing("1024", with: "\(rows)").utf8)
    }

    /// The fixture's weights with another number of rows in the embedding.
    private static func weights(rows: Int) throws -> [UInt8] {
        let bytes = try HuggingFaceTokenizerTests.bytes("model.safetensors")
        let length = bytes[..<8].enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
        let header = try #require(
            try JSONSerialization.jsonObject(with: Data(bytes[8..<8 + length]))
                as? [String: [String: Any]])
        var end = 0
        var changed: [String: [String: Any]] = [:]
        for (name, entry) in header {
            let shape = try #require(entry["shape"] as? [Int])
                .map { $0 == 1024 ? rows : $0 }
            let size = 2 * shape.reduce(1, *)
            changed[name] = ["dtype": "F16", "shape": shape, "data_offsets": [end, end + size]]
            end += size
        }
        let text = try Array(JSONSerialization.data(withJSONObject: changed))
        return (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) } + text
            + [UInt8](repeating: 0, count: end)
    }

    private static func path(_ name: String) throws -> String {
        try #require(vectorFolder).path + "/ggml-vocab-\(name).gguf"
    }

    /// Encodes the published texts and compares with the published tokens.
    private static func check(_ tokenizer: Tokenizer, _ name: String) throws {
        let path = try path(name)
        let input = try String(contentsOfFile: path + ".inp", encoding: .utf8)
        var texts = input.components(separatedBy: "\n__ggml_vocab_test__\n")
        if texts.last == "" { texts.removeLast() }
        let output = try String(contentsOfFile: path + ".out", encoding: .utf8)
        var lines = output.components(separatedBy: "\n")
        if lines.last == "" { lines.removeLast() }
        #expect(texts.count == lines.count)

        for (text, line) in zip(texts, lines) {
            let expected = line.split(separator: " ").compactMap { Int32($0) }
            let found = tokenizer.encode(text, addSpecial: false, parseSpecial: false)
            #expect(found == expected, "\(text.debugDescription)")
            #expect(tokenizer.decode(found, renderSpecial: false) == Array(text.utf8))
        }
    }
}
