import Inference
import ModelFormats
import Profiling
import Tokenization

/// Reads texts as windows of tokens, each to be computed from an empty context.
enum TextInput {
    /// - Parameters:
    ///   - paths: Files, or `-` for standard input.
    ///   - length: Tokens of a window.
    ///   - limit: Most tokens taken of each text; nil takes them all.
    static func windows(
        _ paths: [String], model: ModelDescription, length: Int, limit: Int? = nil
    ) throws -> [TextWindow] {
        guard length >= 2 else { throw InputError("--ctx \(length) leaves nothing to predict") }
        let tokenizer = try Tokenizer(metadata: model.file.metadata)
        // What the tokenizer puts before a text, if anything.
        let beginning = tokenizer.encode("", addSpecial: true, parseSpecial: false).first
            .flatMap { $0 == tokenizer.beginningOfSequence ? $0 : nil }
        return try paths.enumerated().flatMap { index, path in
            let text = try path == "-" ? Console.readInput() : Console.readFile(path)
            let ids = tokenizer.encode(text, addSpecial: false, parseSpecial: false)
            let windows = TextWindow.split(
                Array(ids.prefix(limit ?? ids.count)), text: index, length: length,
                beginning: beginning)
            guard !windows.isEmpty else {
                throw InputError(
                    "\(path): \(ids.count) tokens; at least 2 are needed", code: Failure.badData)
            }
            return windows
        }
    }
}
