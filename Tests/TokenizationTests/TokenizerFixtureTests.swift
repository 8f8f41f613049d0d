// Random texts, and what the `tokenizers` and `sentencepiece` packages make of them, as written by
// tools/make_tokenizer_fixtures.py. SLUICE_TOKENIZER_CASES names another folder made by it, with
// other and more texts.

import Foundation
import ModelFormats
import Testing

@testable import Tokenization

struct TokenizerFixtureTests {
    static let folder: URL =
        if let cases = ProcessInfo.processInfo.environment["SLUICE_TOKENIZER_CASES"] {
            URL(fileURLWithPath: cases)
        } else {
            URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                .appendingPathComponent("Fixtures/tokenizers")
        }

    static func names(_ pathExtension: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
            .filter { $0.pathExtension == pathExtension }
            .map { $0.deletingPathExtension().lastPathComponent }.sorted()
    }

    static func lines(_ name: String) throws -> [Substring] {
        let text = try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
        return text.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
    }

    static func texts() throws -> [[UInt8]] {
        try lines("texts.hex").map { line in
            let digits = Array(line.utf8)
            return stride(from: 0, to: digits.count, by: 2).map {
                UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)!
            }
        }
    }

    /// Whether Unicode 16, which the `tokenizers` package goes by, and 17, which Swift 6.3 does,
    /// say the same of all characters: one without new ones, and without the one that changed from
    /// `Ll` to `Lo`.
    static func isSettled(_ text: [UInt8]) -> Bool {
        String(decoding: text, as: UTF8.self).unicodeScalars.allSatisfy {
            ($0.properties.age?.major ?? 0) < 17 && $0.value != 0x295
        }
    }

    @Test(arguments: try names("words"))
    func textIsCutIntoTheSameWords(name: String) throws {
        let preTokenizer = try #require(PreTokenizer(name: name))
        let texts = try Self.texts()
        let lines = try Self.lines(name + ".words")
        #expect(texts.count == lines.count)
        var differing = 0
        for (text, line) in zip(texts, lines) where Self.isSettled(text) {
            let expected = line.split(separator: " ").compactMap { Int($0) }
            var words = WordIterator(preTokenizer, range: 0..<text.count)
            let scanned = ScannedText(text)
            var found: [Int] = []
            while let word = words.next(in: scanned) { found.append(word.count) }
            if found != expected {
                differing += 1
                let shown = String(decoding: text, as: UTF8.self).debugDescription
                if differing <= 10 { Issue.record("\(shown): \(found), expected \(expected)") }
            }
        }
        #expect(differing == 0, "of \(texts.count) texts")
    }

    @Test(arguments: try names("ids"))
    func textBecomesTheSameTokensAndComesBack(name: String) throws {
        let path = Self.folder.appendingPathComponent(name + ".gguf").path
        let tokenizer = try Tokenizer(metadata: GGUFFile(path: path).metadata)
        let texts = try Self.texts()
        let lines = try Self.lines(name + ".ids")
        #expect(texts.count == lines.count)
        var differing = 0
        for (text, line) in zip(texts, lines) where Self.isSettled(text) {
            let expected = line.split(separator: " ").compactMap { Int32($0) }
            let found = tokenizer.encode(text, addSpecial: false, parseSpecial: false)
            let decoded = tokenizer.decode(found, renderSpecial: false)
            // A sentence piece cannot tell a space from the character that stands for it.
            let returned =
                name == "llama" ? text.replacing([0xE2, 0x96, 0x81], with: [0x20]) : text
            if found != expected || decoded != returned {
                differing += 1
                let shown = String(decoding: text, as: UTF8.self).debugDescription
                if differing <= 10 { Issue.record("\(shown): \(found), expected \(expected)") }
            }
        }
        #expect(differing == 0, "of \(texts.count) texts")
    }
}
