// Makes small GGUF files with tokenizers in them, right or wrong as a test wants them.

import ModelFormats
import Tokenization

/// The metadata of a file, key by key.
struct VocabularyFile {
    enum Value {
        case string(String)
        case bool(Bool)
        case integer(UInt32)
        case strings([String])
        case integers([Int32])
        case floats([Float])
    }

    private(set) var values: [(key: String, value: Value)] = []

    /// A byte-level BPE of all bytes, then `words` with the `merges` that make them, then control
    /// tokens.
    static func bytePair(
        pre: String = "gpt-2", words: [String] = [], merges: [String] = [], control: [String] = [],
        userDefined: [String] = []
    ) -> VocabularyFile {
        var file = VocabularyFile()
        let tokens = byteAlphabet + words + control + userDefined
        file["tokenizer.ggml.model"] = .string("gpt2")
        file["tokenizer.ggml.pre"] = .string(pre)
        file["tokenizer.ggml.tokens"] = .strings(tokens)
        file["tokenizer.ggml.token_type"] = .integers(
            (byteAlphabet + words).map { _ in 1 } + control.map { _ in 3 }
                + userDefined.map { _ in 4 })
        file["tokenizer.ggml.merges"] = .strings(merges)
        return file
    }

    /// A SentencePiece vocabulary: `<unk>`, `<s>`, `</s>`, byte tokens if wanted, then pieces with
    /// scores.
    static func sentencePiece(
        pieces: KeyValuePairs<String, Float>, bytes: Bool = true, control: [String] = []
    ) -> VocabularyFile {
        var file = VocabularyFile()
        let byteTokens =
            bytes
            ? (0..<256).map {
                "<0x" + ($0 < 16 ? "0" : "") + String($0, radix: 16, uppercase: true) + ">"
            } : []
        file["tokenizer.ggml.model"] = .string("llama")
        file["tokenizer.ggml.tokens"] = .strings(
            ["<unk>", "<s>", "</s>"] + byteTokens + pieces.map(\.key) + control)
        file["tokenizer.ggml.token_type"] = .integers(
            [2, 3, 3] + byteTokens.map { _ in 6 } + pieces.map { _ in 1 } + control.map { _ in 3 })
        file["tokenizer.ggml.scores"] = .floats(
            [0, 0, 0] + byteTokens.map { _ in 0 } + pieces.map(\.value) + control.map { _ in 0 })
        return file
    }

    /// The characters that stand for the bytes, by byte.
    static let byteAlphabet: [String] = {
        var nextFree: UInt32 = 0x100
        return (UInt32(0)..<256).map { byte in
            switch byte {
            case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return String(Unicode.Scalar(byte)!)
            default:
                nextFree += 1
                return String(Unicode.Scalar(nextFree - 1)!)
            }
        }
    }()

    /// Sets a value; nil removes it.
    subscript(key: String) -> Value? {
        get { values.first { $0.key == key }?.value }
        set {
            values.removeAll { $0.key == key }
            if let newValue { values.append((key, newValue)) }
        }
    }

    func with(_ key: String, _ value: Value?) -> VocabularyFile {
        var file = self
        file[key] = value
        return file
    }

    /// The GGUF file's bytes.
    var bytes: [UInt8] {
        var bytes = Array("GGUF".utf8)
        func add(_ value: some FixedWidthInteger) {
            for shift in stride(from: 0, to: type(of: value).bitWidth, by: 8) {
                bytes.append(UInt8(truncatingIfNeeded: value >> shift))
            }
        }
        func add(_ text: String) {
            add(UInt64(text.utf8.count))
            bytes += Array(text.utf8)
        }
        func begin(_ elementType: UInt32, _ count: Int) {
            add(UInt32(9))
            add(elementType)
            add(UInt64(count))
        }
        add(UInt32(3))
        add(UInt64(0))
        add(UInt64(values.count))
        for (key, value) in values {
            add(key)
            switch value {
            case .string(let text):
                add(UInt32(8))
                add(text)
            case .bool(let flag):
                add(UInt32(7))
                add(UInt8(flag ? 1 : 0))
            case .integer(let number):
                add(UInt32(4))
                add(number)
            case .strings(let texts):
                begin(8, texts.count)
                for text in texts { add(text) }
            case .integers(let numbers):
                begin(5, numbers.count)
                for number in numbers { add(number) }
            case .floats(let numbers):
                begin(6, numbers.count)
                for number in numbers { add(number.bitPattern) }
            }
        }
        return bytes
    }

    func tokenizer() throws -> Tokenizer {
        try Tokenizer(metadata: GGUFFile(bytes: bytes).metadata)
    }
}

/// Numbers that look random and are the same in every run.
struct SeededNumbers: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}
