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
        let path = try #require(vectorFolder).path + "/ggml-vocab-\(name).gguf"
        let tokenizer = try Tokenizer(metadata: GGUFFile(path: path).metadata)

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
