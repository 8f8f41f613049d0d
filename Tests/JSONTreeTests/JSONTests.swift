import Foundation
import JSONTree
import Testing

struct JSONTests {
    @Test(arguments: [
        "null", "true", "0", "-12", "1.5", "9223372036854775807", "\"a\\\"b\\\\\\n\\u0001é🦥\"",
        "[]", "{}",
        "[1,[2,[3]],{\"b\":1,\"a\":[null,false]}]",
    ])
    func `text is what was parsed`(_ text: String) throws {
        #expect(try JSON(parsing: text).text == text)
    }

    @Test func `members keep their order and a name given twice has its last value`() throws {
        let value = try JSON(parsing: #" { "z" : 1 , "a" : 2 , "z" : 3 } "#)
        #expect(value.text == #"{"z":3,"a":2}"#)
        #expect(value["z"] == 3)
        #expect(try JSON(parsing: #"{"a":2,"z":3}"#) == value)
    }

    @Test func `integers and other numbers are told apart`() throws {
        #expect(try JSON(parsing: "3") == .integer(3))
        #expect(try JSON(parsing: "3.0") == .number(3))
        #expect(try JSON(parsing: "3.0").integer == 3)
        #expect(try JSON(parsing: "9223372036854775808") == .number(9_223_372_036_854_775_808))
        #expect(try JSON(parsing: "1e3").number == 1000)
    }

    @Test func `surrogate pairs are one character`() throws {
        #expect(try JSON(parsing: #""\ud83e\udda5""#) == "🦥")
    }

    @Test(arguments: [
        ("", "expected a value, found the end at line 1, column 1"),
        ("{\"a\":1,\n}", "expected a member's name in quotes, found '}' at line 2, column 1"),
        ("[1 2]", "expected ',' or ']', found '2' at line 1, column 4"),
        ("01", "expected the end, found '1' at line 1, column 2"),
        ("\"a", "expected the end of this string, found none at line 1, column 1"),
        ("\"\\ud83e\"", "expected a character, found half a surrogate pair at line 1, column 2"),
        (
            "\"\\ud83e\\u0041\"",
            "expected a character, found half a surrogate pair at line 1, column 2"
        ),
        ("1e999", "expected a number that a double holds, found 1e999 at line 1, column 1"),
        ("nul", "expected a value, found 'n' at line 1, column 1"),
        ("\"\t\"", "expected control characters as \\u escapes, found byte 9 at line 1, column 2"),
    ])
    func `what is no JSON is refused with its place`(_ text: String, _ message: String) {
        let error = #expect(throws: JSONError.self) { try JSON(parsing: text) }
        #expect(error?.description == message)
    }

    @Test func `bytes that are not UTF-8 are refused`() {
        #expect(throws: JSONError.self) { try JSON(parsing: [0x22, 0xFF, 0x22]) }
    }

    @Test func `nesting is limited`() throws {
        let deep = String(repeating: "[", count: 100_000)
        let error = #expect(throws: JSONError.self) { try JSON(parsing: deep) }
        #expect(error?.problem == "expected at most 128 levels, found more")
        let fits = String(repeating: "[", count: 128) + String(repeating: "]", count: 128)
        #expect(try JSON(parsing: fits).text == fits)
    }

    @Test func `agrees with Foundation on random documents`() throws {
        var random = Steps(state: 7)
        for _ in 0..<200 {
            let value = Self.random(3, &random)
            let bytes = Array(value.text.utf8)
            let theirs = try JSONSerialization.jsonObject(
                with: Data(bytes), options: .fragmentsAllowed)
            let again = try JSONSerialization.data(
                withJSONObject: theirs, options: .fragmentsAllowed)
            #expect(try JSON(parsing: Array(again)) == value)
        }
    }

    private static func random(_ depth: Int, _ random: inout Steps) -> JSON {
        switch Int.random(in: 0..<(depth > 0 ? 6 : 4), using: &random) {
        case 0: return .null
        case 1: return .bool(.random(using: &random))
        case 2: return .integer(.random(in: -1000...1000, using: &random))
        case 3:
            let scalars = (0..<5).map { _ in
                Unicode.Scalar(UInt32.random(in: 0..<0xD800, using: &random))!
            }
            return .string(String(String.UnicodeScalarView(scalars)))
        case 4: return .array((0..<3).map { _ in Self.random(depth - 1, &random) })
        default:
            var object = JSONObject()
            for index in 0..<3 { object["m\(index)"] = Self.random(depth - 1, &random) }
            return .object(object)
        }
    }

    /// The same documents every time.
    private struct Steps: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state ^ (state >> 29)
        }
    }
}
