import Testing

@testable import Tokenization

struct PreTokenizerTests {
    static func words(_ name: String, _ text: [UInt8]) throws -> [[UInt8]] {
        let preTokenizer = try #require(PreTokenizer(name: name))
        var iterator = WordIterator(preTokenizer, range: 0..<text.count)
        let scanned = ScannedText(text)
        var words: [[UInt8]] = []
        while let word = iterator.next(in: scanned) { words.append(Array(text[word])) }
        return words
    }

    static func words(_ name: String, _ text: String) throws -> [String] {
        try words(name, Array(text.utf8)).map { String(decoding: $0, as: UTF8.self) }
    }

    @Test(arguments: PreTokenizer.knownNames)
    func wordsOfAnyBytesAreTheBytes(name: String) throws {
        var numbers = SeededNumbers(seed: 11)
        let common = Array("aZ é\n\r\t '0中ß!".utf8)
        for _ in 0..<60 {
            let text = (0..<Int.random(in: 0...80, using: &numbers)).map { _ in
                Bool.random(using: &numbers)
                    ? UInt8.random(in: 0...255, using: &numbers)
                    : common.randomElement(using: &numbers)!
            }
            let words = try Self.words(name, text)
            #expect(Array(words.joined()) == text)
            #expect(!words.contains([]))
        }
    }

    @Test func contractionsCountInCapitalsOnlyWhereTheModelSaysSo() throws {
        #expect(try Self.words("gpt-2", "we'll WE'LL") == ["we", "'ll", " WE", "'", "LL"])
        #expect(try Self.words("qwen2", "we'll WE'LL") == ["we", "'ll", " WE", "'LL"])
        #expect(try Self.words("gpt-4o", "we'll WE'LL") == ["we'll", " WE'LL"])
        #expect(try Self.words("ufakzeka", "we'll") == ["we", "'ll"])
        #expect(try Self.words("ufakzeka", "Ali'dan") == ["Ali", "'dan"])
        #expect(try Self.words("qwen2", "Ali'dan") == ["Ali", "'d", "an"])
    }

    @Test func digitsStayTogetherAsTheModelSays() throws {
        #expect(try Self.words("gpt-2", "a 12345") == ["a", " 12345"])
        #expect(try Self.words("llama-bpe", "a 12345") == ["a", " ", "123", "45"])
        #expect(try Self.words("qwen2", "a 123") == ["a", " ", "1", "2", "3"])
        #expect(try Self.words("starcoder", "a 12") == ["a", " ", "1", "2"])
        #expect(try Self.words("default", "12345") == ["123", "45"])
    }

    @Test func spaceBeforeAWordBelongsToIt() throws {
        #expect(try Self.words("gpt-2", "a   b  ") == ["a", "  ", " b", "  "])
        #expect(try Self.words("gpt-2", "a\n\nb") == ["a", "\n", "\n", "b"])
        #expect(try Self.words("qwen2", "a \n \n  b") == ["a", " \n \n", " ", " b"])
        #expect(try Self.words("qwen2", "!\r\n\r\nb") == ["!\r\n\r\n", "b"])
        #expect(try Self.words("seed-coder", "!\n\nb") == ["!", "\n\n", "b"])
    }

    @Test func capitalsBeginANewWordWhereCaseCounts() throws {
        #expect(
            try Self.words("tekken", "HTTPServer camelCase ABC") == [
                "HTTPServer", " camel", "Case", " ABC",
            ])
        // Capitals give back to the last letter without case, here the hiragana.
        #expect(try Self.words("gpt-4o", "AあBC!") == ["Aあ", "BC", "!"])
    }

    @Test(.timeLimit(.minutes(2))) func monotonousTextIsCutToTheEnd() throws {
        // Each of these is a text on which a scanner that starts over at every character never
        // ends.
        let count = 60_000
        for unit in [" ", "\n", "a", "A", "あA", "!", "1", "\u{1}", "\u{3000}", "'", " \u{301}"] {
            let text = Array(String(repeating: unit, count: count / unit.utf8.count).utf8)
            for name in ["gpt-2", "qwen2", "gpt-4o", "deepseek-llm", "deepseek-v3", "default"] {
                #expect(try Self.words(name, text).reduce(0) { $0 + $1.count } == text.count)
            }
        }
    }

    @Test func rangesContainTheirEndsAndNothingElse() {
        let ranges = CharacterRanges([0x41...0x43, 0x50...0x50, 0x100...0x102, 0x200...0x200])
        let inside: Set<UInt32> = [0x41, 0x42, 0x43, 0x50, 0x100, 0x101, 0x102, 0x200]
        for codePoint in UInt32(0)..<0x300 {
            #expect(ranges.contains(codePoint) == inside.contains(codePoint), "\(codePoint)")
        }
        #expect(!ranges.contains(ScannedCharacter.endOfPiece))
    }

    @Test func charactersAreReadAsTheStandardLibraryReadsThem() {
        var numbers = SeededNumbers(seed: 5)
        let leads: [UInt8] = [
            0x61, 0x80, 0xC1, 0xC3, 0xE0, 0xE2, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF,
        ]
        for _ in 0..<20_000 {
            let bytes =
                [leads.randomElement(using: &numbers)!]
                + (0..<3).map { _ in UInt8.random(in: 0x78...0xC8, using: &numbers) }
            let count = Int.random(in: 1...4, using: &numbers)
            let length = bytes.scalarLength(at: 0, end: count)
            let expected = (1...4).first {
                $0 <= count
                    && String(validating: bytes[..<$0], as: UTF8.self)?.unicodeScalars.count == 1
            }
            #expect(length == expected ?? 0, "\(bytes[..<count])")
            let character = ScannedText(bytes).character(at: 0, end: count)
            if let expected {
                let scalar = String(decoding: bytes[..<expected], as: UTF8.self).unicodeScalars
                    .first!
                #expect(character.codePoint == scalar.value)
            } else {
                #expect(character.codePoint == 0xFFFD && character.next == 1)
            }
        }
    }

    @Test func tableOfKindsAgreesWithTheProperties() {
        let table = CharacterKinds.table
        for value in stride(from: UInt32(0), through: 0x10_FFFF, by: 7) {
            guard let scalar = Unicode.Scalar(value) else { continue }
            let properties = scalar.properties
            #expect(table[value].meets(.space) == properties.isWhitespace)
            let isLetter: Bool =
                switch properties.generalCategory {
                case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter,
                    .otherLetter:
                    true
                default: false
                }
            #expect(table[value].meets(.letter) == isLetter)
        }
    }
}
