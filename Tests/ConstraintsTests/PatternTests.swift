import Foundation
import Testing

@testable import Constraints

/// A constraint's machine, which keeps its states from text to text.
private struct Machine {
    private var machine: StateMachine

    init(_ constraint: Constraint) {
        machine = StateMachine(constraint.program, costs: constraint.costs)
    }

    mutating func matches(_ text: String) -> Bool {
        var state = machine.start()
        for byte in text.utf8 { state = machine.next(state, byte) }
        return machine.accepts[Int(state)]
    }
}

struct PatternTests {
    /// Texts over the alphabet, shortest first.
    private static func texts(over alphabet: String, upTo length: Int) -> [String] {
        var all = [""]
        var last = [""]
        for _ in 0..<length {
            last = last.flatMap { text in alphabet.map { text + String($0) } }
            all += last
        }
        return all
    }

    private static let patterns = [
        "", "a", "a|b|", "(a|b)*c?", "a{2}", "a{0,2}b{1,}", "(ab?){2,3}", "[a-b]+c", "[^a]*",
        "(a*)*b",
        "(a?){3}", "(?:a|ab)(?:c|bc)", "a+?b*?", "(a|b|c){0,3}", ".*c", "\\w\\W?", "[\\d-]+|a-b",
        "(|a)+",
        "((a{1,2}){1,2}){1,2}", "a{,2}", "[]a]?", "\\x61\\u0062?", "(?<name>a)b", "((a|b*)?c){2}",
        "a{3,3}|b{0}",
        "^a$", "^(a|b)$|c", "(^a|b)c", "(a$|b$)", "^$", "(?:^|c)a", "a(?:$|b)", "^a|b$",
    ]

    /// Against ICU, on every short text.
    @Test(arguments: patterns) func matchesWhatAnotherEngineMatches(pattern: String) throws {
        // In ECMAScript [] is empty, and {,2} are characters.
        guard pattern != "[]a]?", pattern != "a{,2}" else { return }
        var machine = Machine(try Constraint(regex: pattern))
        let parsed = try PatternParser.parse(pattern)
        let whole = try Automaton(parsed, isSearch: false)
        let anywhere = try Automaton(parsed, isSearch: true)
        var searching = try parsed.resolved(isSearch: true).map { resolved in
            var grammar = Grammar()
            grammar.root = resolved.expression(.plain)
            return Machine(try Constraint(grammar))
        }
        let oracle = try NSRegularExpression(pattern: "\\A(?:" + pattern + ")\\z")
        let search = try NSRegularExpression(pattern: "(?:" + pattern + ")")
        for text in PatternTests.texts(over: "abc-", upTo: 4) {
            let range = NSRange(text.startIndex..., in: text)
            let expected = oracle.firstMatch(in: text, range: range) != nil
            #expect(machine.matches(text) == expected, "\(text)")
            #expect(whole.matches(text) == expected, "\(text)")
            let found = search.firstMatch(in: text, range: range) != nil
            #expect(anywhere.matches(text) == found, "\(text)")
            #expect(searching?.matches(text) ?? found == found, "\(text)")
        }
    }

    @Test(arguments: [
        ("\\d", ["0", "9"], ["a", "", "٣"]), ("\\s", [" ", "\n", "\u{3000}"], ["a", "\u{1C}"]),
        ("\\S", ["a", "é", "😀"], [" ", "\u{A0}"]), ("\\W", ["-", "€"], ["a", "_", "é", "٣"]),
        (".", ["a", "日", "😀"], ["\n", "\r", "\u{2028}", "ab"]),
        ("[a-zà-ÿ]", ["q", "é"], ["É", "日"]), ("[^\\n]", ["a", "😀"], ["\n"]),
        ("\\u{1F600}", ["😀"], ["😁"]), ("\\ud83d\\ude00", ["😀"], ["😁"]),
        ("[\\]\\-\\\\]", ["]", "-", "\\"], ["a"]), ("\\.\\/\\$", ["./$"], ["a/$"]),
        ("{}", ["{}"], [""]),
        ("[\\u0000-\\u{10ffff}]", ["\0", "\u{D7FF}", "\u{E000}", "\u{10FFFF}"], [""]),
    ])
    func classesAreWhatECMAScriptAndPythonAgreeOn(
        pattern: String, members: [String], others: [String]
    ) throws {
        let constraint = try Constraint(regex: pattern)
        for text in members { #expect(constraint.matches(Array(text.utf8)), "\(text)") }
        for text in others { #expect(!constraint.matches(Array(text.utf8)), "\(text)") }
    }

    @Test func onlyWellFormedCharactersAreTexts() throws {
        let constraint = try Constraint(regex: "[^a]")
        // Overlong, surrogate, beyond Unicode, cut off, lone continuation.
        let broken: [[UInt8]] = [
            [0xC0, 0x80], [0xC1, 0xBF], [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80],
            [0xF0, 0x80, 0x80, 0x80],
            [0xF4, 0x90, 0x80, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xE2, 0x82], [0x80], [0xFF],
        ]
        for bytes in broken { #expect(!constraint.matches(bytes), "\(bytes)") }
        for value in stride(from: UInt32(0), through: 0x10FFFF, by: 251) {
            guard let scalar = Unicode.Scalar(value), value != 0x61 else { continue }
            #expect(constraint.matches(Array(String(Character(scalar)).utf8)), "\(value)")
        }
    }

    @Test(arguments: [
        ("(a", "character 1: expected ')' for this '('"),
        ("a)", "character 2: found ')' without '('; write \\) for the character"),
        ("a(?=b)", "character 2: looking ahead is not possible; describe the whole text"),
        ("(?<!a)b", "character 1: looking behind is not possible; describe the whole text"),
        ("(a)\\1", "character 4: references to groups are not possible"),
        ("a\\b", "character 2: \\b is not possible; only ^ and $ are"),
        (
            "\\p{L}",
            "character 2: Unicode properties are not possible; write the ranges, as in [a-zà-ÿ]"
        ),
        ("*a", "character 1: found a quantifier with nothing before it"),
        ("a**", "character 3: found two quantifiers in a row; put the first into a group (?:...)"),
        ("a{3,2}", "character 2: expected {m,n} with m <= n, found {3,2}"),
        ("a{9999999}", "character 9: expected at most 1000000 repetitions, found more"),
        ("[b-a]", "character 2: expected a range from low to high"),
        ("[a", "character 1: expected ']' for this '['"),
        ("(?i)a", "character 1: flags and other (?...) are not possible"),
        ("\\u{110000}", "character 1: expected \\u{...} with a code point up to 10FFFF"),
        ("\\q", "character 1: unknown escape \\q"),
        ("\\", "character 2: expected an escape, found the end"),
        ("^*", "character 1: found a quantifier after an anchor"),
        ("[^\\u{0}-\\u{10ffff}]", "expected at least one text that fulfils it, found none"),
    ])
    func refusesWithThePlace(pattern: String, message: String) {
        let error = #expect(throws: ConstraintError.self) { try Constraint(regex: pattern) }
        #expect(error?.description == message)
    }

    @Test func hugeRepetitionsCostNothing() throws {
        let constraint = try Constraint(regex: "((a{0,1000000}){0,1000000}b?){0,1000000}")
        #expect(constraint.program.nodes.count < 20)
        #expect(constraint.matches(Array("aaabaab".utf8)))
        #expect(!constraint.matches(Array("aac".utf8)))
        let exact = try Constraint(regex: "[ab]{1000}")
        #expect(exact.matches(Array(repeating: 0x61, count: 1000)))
        #expect(!exact.matches(Array(repeating: 0x61, count: 999)))
        #expect(!exact.matches(Array(repeating: 0x61, count: 1001)))
    }

    @Test func groupsInsideEachOtherHaveALimit() {
        let deep = String(repeating: "(", count: 5000) + String(repeating: ")", count: 5000)
        let error = #expect(throws: ConstraintError.self) { try Constraint(regex: deep) }
        #expect(error?.problem == "expected at most 100 groups inside each other, found more")
    }
}
