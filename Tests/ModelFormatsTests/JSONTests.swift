// JSON documents, right and wrong, against hand-worked cases and against Foundation's reader.

import Foundation
import Testing

@testable import ModelFormats

@Suite struct JSONTests {
    /// Takes a whole document as a tree.
    static func parse(_ bytes: [UInt8]) throws(ModelFileError) -> JSONValue {
        var cursor = JSONCursor(path: "document", bytes: bytes)
        var budget = 10_000
        let value = try JSONValue(&cursor, "value", budget: &budget)
        try cursor.finish()
        return value
    }

    static func parse(_ text: String) throws(ModelFileError) -> JSONValue {
        try parse(Array(text.utf8))
    }

    func refuses(
        _ text: String, at offset: UInt64, _ words: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        do {
            _ = try Self.parse(text)
            Issue.record("was accepted", sourceLocation: sourceLocation)
        } catch {
            #expect(error.offset == offset, "\(error)", sourceLocation: sourceLocation)
            #expect(error.message.contains(words), "\(error)", sourceLocation: sourceLocation)
        }
    }

    @Test func valuesOfEveryKindAreRead() throws {
        let text = """
             {"a" : [1, -2.5, 1e3, true, false, null, "x"], "b":{}, "c":[]}
            """
        let value = try Self.parse(text)
        let elements = try #require(value["a"]?.elements)
        #expect(elements[0].integer == 1 && elements[0].number == 1)
        #expect(elements[1].integer == nil && elements[1].number == -2.5)
        #expect(elements[2].integer == nil && elements[2].number == 1000)
        #expect(elements[3].bool == true && elements[4].bool == false)
        #expect(elements[5].unlessNull == nil && elements[6].string == "x")
        #expect(value["b"]?.isObject == true && value["c"]?.elements?.isEmpty == true)
        #expect(value["d"] == nil)
        #expect(value.text == #"{a: [1, -2.5, 1000.0, true, false, null, "x"], b: {}, c: []}"#)
    }

    @Test func escapesBecomeCharacters() throws {
        let text = #""\"\\\/\b\f\n\r\t\u00e9\u4E2D\ud83e\udd99\u0000x""#
        let found = try #require(try Self.parse(text).string)
        #expect(Array(found.utf8) == Array("\"\\/\u{8}\u{c}\n\r\té中🦙\0x".utf8))
    }

    @Test func spellingsOfALetterStayApart() throws {
        // Precomposed and decomposed: equal to Swift's strings, two names to JSON.
        #expect(throws: Never.self) { try Self.parse("{\"\u{e9}\": 1, \"e\u{301}\": 2}") }
    }

    @Test func integersFitSixtyFourBits() throws {
        #expect(try Self.parse("9223372036854775807").integer == Int.max)
        #expect(try Self.parse("-9223372036854775808").integer == Int.min)
        #expect(try Self.parse("9223372036854775808").integer == nil)
        #expect(try Self.parse("9223372036854775808").number == 9_223_372_036_854_775_808)
    }

    @Test func whatIsNoJSONIsRefusedAtItsPlace() {
        refuses("", at: 0, "ends where a value")
        refuses("[1,", at: 3, "ends where a value")
        refuses("[1 2]", at: 3, "expected ',' or ']'")
        refuses("[1,]", at: 3, "expected a JSON value")
        refuses("{\"a\" 1}", at: 5, "expected ':'")
        refuses("{\"a\": 1,}", at: 8, "expected a JSON value")
        refuses("{a: 1}", at: 1, "expected a JSON value")
        refuses("{\"a\": 1, \"a\": 2}", at: 9, "appears twice")
        refuses("'a'", at: 0, "expected a JSON value")
        refuses("\"a", at: 0, "no end")
        refuses("\"a\\", at: 3, "no end")
        refuses("\"a\nb\"", at: 2, "control character")
        refuses(#""\x""#, at: 1, "escape")
        refuses(#""\u12g4""#, at: 5, "hexadecimal")
        refuses(#""\ud800""#, at: 1, "surrogate")
        refuses(#""\ud800\u0041""#, at: 1, "surrogate")
        refuses(#""\udc00""#, at: 1, "surrogate")
        refuses("01", at: 0, "as JSON writes them")
        refuses("-01", at: 0, "as JSON writes them")
        refuses("-", at: 0, "as JSON writes them")
        refuses("1.", at: 0, "as JSON writes them")
        refuses(".5", at: 0, "expected a JSON value")
        refuses("1e", at: 0, "as JSON writes them")
        refuses("+1", at: 0, "expected a JSON value")
        refuses("1e999", at: 0, "finite")
        refuses(String(repeating: "1", count: 1000), at: 0, "as JSON writes them")
        refuses("NaN", at: 0, "expected a JSON value")
        refuses("tru", at: 0, "expected 'true'")
        refuses("1 2", at: 2, "something follows")
        refuses(String(repeating: "[", count: 65), at: 64, "nest deeper")
        refuses(String(repeating: "{\"a\":", count: 65), at: 64 * 5, "nest deeper")
        #expect(throws: ModelFileError.self) { try Self.parse([0x22, 0xFF, 0x22]) }
        #expect(throws: ModelFileError.self) { try Self.parse([0x22, 0xED, 0xA0, 0x80, 0x22]) }
    }

    @Test func depthIsCountedAtOneTime() throws {
        let deep = String(repeating: "[", count: 63) + String(repeating: "]", count: 63)
        #expect(throws: Never.self) { try Self.parse("[" + deep + "," + deep + "]") }
    }

    @Test func treesHaveABudget() {
        var cursor = JSONCursor(path: "document", bytes: Array("[1, 2, 3]".utf8))
        var budget = 3
        #expect(throws: ModelFileError.self) {
            try JSONValue(&cursor, "value", budget: &budget)
        }
    }

    /// Documents of the fixtures, damaged: what one reader accepts the other does, and reads the same.
    @Test func damagedDocumentsAreReadAsFoundationReadsThem() throws {
        var random = SplitMix64(seed: 5)
        let alphabet = Array(#"{}[]",:\0123456789-+.eEtrufalsn /bu"#.utf8)
        let sound = try HuggingFaceFixture.files("olmoe-bf16")
        let documents = ["config.json", "tokenizer_config.json", "generation_config.json"].map {
            sound[$0]!
        }
        var accepted = 0
        for round in 0..<6000 {
            var bytes = documents[round % documents.count]
            for _ in 0...Int.random(in: 0..<3, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                switch round % 4 {
                case 0: bytes[at] = alphabet.randomElement(using: &random)!
                case 1: bytes.remove(at: at)
                case 2: bytes.insert(alphabet.randomElement(using: &random)!, at: at)
                default: bytes[at] = UInt8.random(in: 0...255, using: &random)
                }
            }
            let ours = try? Self.parse(bytes)
            // Foundation takes the last of two like names, and other encodings of Unicode.
            let theirs =
                String(validating: bytes, as: UTF8.self) == nil || bytes.contains(0)
                ? nil : try? JSONSerialization.jsonObject(with: Data(bytes))
            guard let ours else { continue }
            let shown = String(decoding: bytes, as: UTF8.self)
            let read = try #require(theirs, "round \(round): only ours accepts \(shown)")
            #expect(Self.same(ours, read), "round \(round): \(shown)")
            accepted += 1
        }
        #expect(accepted > 500)
    }

    static func same(_ ours: JSONValue, _ theirs: Any) -> Bool {
        switch ours.content {
        case .null: theirs is NSNull
        case .bool(let value): (theirs as? NSNumber)?.boolValue == value
        case .number(let value, _): (theirs as? NSNumber)?.doubleValue == value
        case .string(let text): (theirs as? String)?.utf8.elementsEqual(text.utf8) ?? false
        case .array(let elements):
            if let array = theirs as? [Any] {
                array.count == elements.count && zip(elements, array).allSatisfy { same($0, $1) }
            } else {
                false
            }
        case .object(let members):
            if let dictionary = theirs as? [String: Any] {
                dictionary.count == members.count
                    && members.allSatisfy { member in
                        dictionary[member.name].map { same(member.value, $0) } ?? false
                    }
            } else {
                false
            }
        }
    }
}
