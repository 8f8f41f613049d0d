// tokenizer.json files, and what the `tokenizers` package makes of the texts of the tokenizer fixtures; made
// by tools/make_huggingface_fixtures.py.

import Foundation
import ModelFormats
import Testing

@testable import Tokenization

struct HuggingFaceTokenizerTests {
    static let folder = TokenizerFixtureTests.folder.deletingLastPathComponent()
        .appendingPathComponent("huggingface/tokenizers")

    static func bytes(_ name: String) throws -> [UInt8] {
        try Array(Data(contentsOf: folder.appendingPathComponent(name)))
    }

    static func names() throws -> [String] {
        try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
            .filter { $0.pathExtension == "ids" }
            .map { $0.deletingPathExtension().lastPathComponent }.sorted()
    }

    /// A model that has the `tokenizer.json` called `name`.
    static func model(_ name: String) throws -> HuggingFaceModel {
        try HuggingFaceModel(files: [
            "config.json": bytes("config.json"),
            "model.safetensors": bytes("model.safetensors"),
            "tokenizer.json": bytes(name + ".json"),
        ])
    }

    @Test func everyKindHasAFixture() throws {
        #expect(try Self.names().count == 14)
    }

    @Test(arguments: try names())
    func textBecomesTheTokensOfTheTokenizersPackage(name: String) throws {
        let model = try Self.model(name)
        if !name.contains("space"), !name.contains("sentence") {
            #expect(try model.metadata.string("tokenizer.ggml.pre") == name)
        }
        let tokenizer = try Tokenizer(metadata: model.metadata)
        let texts = try TokenizerFixtureTests.texts()
        let lines = try String(
            decoding: Self.bytes(name + ".ids"), as: UTF8.self
        ).split(separator: "\n", omittingEmptySubsequences: false).dropLast()
        #expect(texts.count == lines.count)
        var differing = 0
        for (text, line) in zip(texts, lines) where TokenizerFixtureTests.isSettled(text) {
            let expected = line.split(separator: " ").compactMap { Int32($0) }
            let found = tokenizer.encode(text, addSpecial: true, parseSpecial: true)
            if found != expected {
                differing += 1
                let shown = String(decoding: text, as: UTF8.self).debugDescription
                if differing <= 5 { Issue.record("\(shown): \(found), expected \(expected)") }
            }
        }
        #expect(differing == 0, "of \(texts.count) texts")
    }
}
