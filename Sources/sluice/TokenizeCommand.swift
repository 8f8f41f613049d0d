import ArgumentParser
import ModelFormats
import Tokenization

struct TokenizeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tokenize", abstract: "Prints the token ids of a text, separated by spaces.")

    @Argument(help: "GGUF file, package, or demo.")
    var model: String

    @Flag(
        help: "Read control tokens such as <|im_start|> as what they stand for, not as plain text.")
    var parseSpecial = false

    @Flag(help: "Add the beginning and end tokens that the model's file asks for.")
    var addSpecial = false

    @Argument(help: "The text; without it, standard input is read.")
    var text: String?

    func run() throws {
        try Failure.reporting {
            let tokenizer = try Tokenizer(metadata: ModelLocation.file(model).metadata)
            let bytes = try text.map { Array($0.utf8) } ?? Console.readInput()
            let ids = tokenizer.encode(bytes, addSpecial: addSpecial, parseSpecial: parseSpecial)
            Console.out(ids.map(String.init).joined(separator: " ") + "\n")
        }
    }
}

struct DetokenizeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "detokenize", abstract: "Prints the text of token ids, byte for byte.")

    @Argument(help: "GGUF file, package, or demo.")
    var model: String

    @Flag(help: "Print control tokens too.")
    var special = false

    @Argument(help: "Token ids, separated by spaces or commas.")
    var ids: [String]

    func run() throws {
        try Failure.reporting {
            let tokenizer = try Tokenizer(metadata: ModelLocation.file(model).metadata)
            let ids = try TokenIDs.parse(ids, vocabularyCount: tokenizer.vocabularyCount)
            Console.outBytes(tokenizer.decode(ids, renderSpecial: special))
        }
    }
}

/// Token ids as written on a command line.
enum TokenIDs {
    static func parse(_ texts: [String], vocabularyCount: Int) throws -> [Int32] {
        try texts.flatMap { $0.split(whereSeparator: { $0 == "," || $0.isWhitespace }) }.map {
            text in
            guard let id = Int32(text), id >= 0, id < vocabularyCount else {
                throw InputError(
                    "token id '\(text)' is not a number from 0 to \(vocabularyCount - 1)")
            }
            return id
        }
    }
}
