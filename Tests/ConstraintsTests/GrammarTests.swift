import Testing

@testable import Constraints

struct GrammarTests {
    @Test func describesNestedTexts() throws {
        let constraint = try Constraint(
            grammar: """
                # sums of numbers
                root  ::= sum "\\n"
                sum   ::= term ( ("+" | "-") term )*   # left to right
                term  ::= digit{1,3} |
                          "(" sum ")"
                digit ::= [0-9]
                """)
        for text in ["1\n", "12+345-(6+(7))\n"] { #expect(constraint.matches(Array(text.utf8))) }
        for text in ["", "1", "1234\n", "(1\n", "1+\n", "(1))\n"] {
            #expect(!constraint.matches(Array(text.utf8)))
        }
    }

    /// Every text of up to seven letters, against counting.
    @Test func recursionCountsBrackets() throws {
        let constraint = try Constraint(grammar: #"root ::= ("(" root ")")*"#)
        for length in 0...12 {
            for bits in 0..<(1 << length) {
                var depth = 0
                var isBalanced = true
                var text: [UInt8] = []
                for place in 0..<length {
                    let opens = bits >> place & 1 != 0
                    text.append(opens ? 0x28 : 0x29)
                    depth += opens ? 1 : -1
                    if depth < 0 { isBalanced = false }
                }
                #expect(constraint.matches(text) == (isBalanced && depth == 0))
            }
        }
    }

    @Test(arguments: [
        ("root ::= [^a-c\\n]+", ["d", "é\t"], ["a", "d\n", ""]),
        ("root ::= \"\\x41\\u00e9\\U0001F600\\\"\"", ["Aé😀\""], ["A"]),
        ("root ::= .{2}", ["ab", "\n😀"], ["a", "abc"]),
        ("root ::= \"a\"? \"b\"* \"c\"+", ["c", "abbcc"], ["ab"]),
        ("root ::= \"a\"{,2} \"b\"{2,}", ["bb", "aabbb"], ["ab", "aaabb"]),
        ("root ::= a-b_1\na-b_1 ::= \"x\" |", ["x", ""], ["y"]),
        ("root ::= \"a\" root | \"b\"", ["b", "aaab"], ["a"]),
        ("root ::= [\\]\\-^]+", ["]-^"], ["a"]),
        ("root ::= (\"a\"\n  \"b\" # and\n  \"c\")\n", ["abc"], ["ab"]),
        ("root ::= x{2}\nx ::= \"a\"? \"b\"?", ["", "ab", "ba", "abab", "bb"], ["aaa", "bab a"]),
    ])
    func readsTheNotation(grammar: String, members: [String], others: [String]) throws {
        let constraint = try Constraint(grammar: grammar)
        for text in members { #expect(constraint.matches(Array(text.utf8)), "\(text)") }
        for text in others { #expect(!constraint.matches(Array(text.utf8)), "\(text)") }
    }

    @Test(arguments: [
        ("rule ::= \"a\"", "line 1: expected a rule named 'root', found none"),
        ("root ::= a\n\nroot ::= b", "line 3: rule 'root' is defined twice"),
        ("root ::=\n  a b", "line 2: rule 'a' is used and not defined"),
        ("root = \"a\"", "line 1: expected '::=' after 'root', found '='"),
        ("root ::= \"a", "line 1: expected '\"', found the end"),
        ("root ::= (\"a\"\n", "line 1: expected ')' for this '('"),
        ("root ::= \"a\" )", "line 1: expected the end of the line, found ')'"),
        ("root ::= [z-a]", "line 1: expected a range from low to high"),
        ("root ::= \"\\q\"", "line 1: unknown escape \\q"),
        ("root ::= \"a\"{2,1}", "line 1: expected {m,n} with m <= n, found {2,1}"),
        (
            "root ::= root \"a\" | \"b\"",
            "root: rule 'root' begins with itself; write the repetition with * or + instead"
        ),
        ("root ::= \"x\"? a\na ::= \"\" b\nb ::= \"y\"* root \"z\"", nil),
        ("root ::= \"a\" root", "expected at least one text that fulfils it, found none"),
        ("", "line 1: expected a rule named 'root', found none"),
        ("?", "line 1: expected a rule's name, found '?'"),
    ])
    func refusesWithTheLine(grammar: String, message: String?) {
        let error = #expect(throws: ConstraintError.self) { try Constraint(grammar: grammar) }
        if let message {
            #expect(error?.description == message)
        } else {
            #expect(error?.problem.contains("begins with itself") == true)
        }
    }

    /// A grammar whose texts can be read in more and more ways: what is kept of them are true
    /// readings.
    @Test func ambiguityCostsNoMoreThanItsLimit() throws {
        let constraint = try Constraint(
            grammar: "root ::= \"a\" root | \"a\" root root | \"a\" \"b\"? root \"c\" | \"\"")
        for seed in 0..<5 {
            let walk = Walk(constraint, tokens: 60, seed: seed, ends: false)
            #expect(walk.isComplete)
        }
        #expect(constraint.matches(Array(repeating: 0x61, count: 200)))
        #expect(!constraint.matches(Array("b".utf8)))
    }

    @Test func depthIsBoundedAndStillComesToAnEnd() throws {
        let constraint = try Constraint(grammar: #"root ::= "(" root ")" | "x""#)
        func nested(_ depth: Int) -> [UInt8] {
            Array(
                (String(repeating: "(", count: depth) + "x" + String(repeating: ")", count: depth))
                    .utf8)
        }
        #expect(constraint.matches(nested(Limits.frameDepth)))
        #expect(!constraint.matches(nested(Limits.frameDepth + 1)))
        let only = try Constraint(grammar: #"root ::= "(" root ")" | "" "x""#)
        var matcher = ConstraintMatcher(only, vocabulary: SmallVocabulary.shared.vocabulary)
        for _ in 0..<Limits.frameDepth { matcher.accept(3 + 0x28) }
        #expect(offered(&matcher) == [Array("x".utf8)])
    }
}
