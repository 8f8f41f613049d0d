import JSONTree
import Testing

@testable import Constraints

struct ConstraintPartTests {
    private static let call = ["name": ["const": "f"], "arguments": ["type": "object"]] as JSON

    private func schema() throws -> JSON {
        [
            "type": "object", "properties": ConstraintPartTests.call,
            "required": ["name", "arguments"],
        ]
    }

    @Test func partsFollowEachOther() throws {
        let constraint = try Constraint.sequence([
            .literal("<tool_call>\n"),
            .choice([[.schema(try schema())], [.constraint(try Constraint(regex: "none"))]]),
            .repeated([.literal(";"), .until("--")], atLeast: 1, atMost: 2),
            .literal("</tool_call>"),
        ])
        for text in [
            "<tool_call>\n{\"name\":\"f\",\"arguments\":{}};--</tool_call>",
            "<tool_call>\nnone;a-b--;-x--</tool_call>",
        ] {
            #expect(constraint.matches(Array(text.utf8)), "\(text)")
        }
        for text in [
            "<tool_call>\nnone</tool_call>", "<tool_call>\nnone;--;--;--</tool_call>",
            "<tool_call>\nnone;--x</tool_call>", "<tool_call>\n{};--</tool_call>",
        ] {
            #expect(!constraint.matches(Array(text.utf8)), "\(text)")
        }
    }

    @Test func aTriggerBindsWhatFollows() throws {
        let number = try Constraint(regex: "[0-9]+;")
        let word = try Constraint(regex: "[a-z]+;")
        func matches(_ text: String, requires: Bool, repeats: Bool) throws -> Bool {
            try Constraint.triggered(
                [("<n>", number), ("<w>", word)], requires: requires, repeats: repeats
            ).matches(Array(text.utf8))
        }
        for (text, free, required, once, requiredOnce) in [
            ("", true, false, true, false), ("just <text", true, false, true, false),
            ("a <n>12;", true, true, true, true), ("<w>ab;<<n>1;", true, true, false, false),
            ("<n>12; and more", true, true, false, false), ("<n>", false, false, false, false),
            ("<n>a;", false, false, false, false), ("<n>1;x<w>2;", false, false, false, false),
            ("<<n>7;", true, true, true, true),
        ] {
            #expect(try matches(text, requires: false, repeats: true) == free, "\(text)")
            #expect(try matches(text, requires: true, repeats: true) == required, "\(text)")
            #expect(try matches(text, requires: false, repeats: false) == once, "\(text)")
            #expect(try matches(text, requires: true, repeats: false) == requiredOnce, "\(text)")
        }
    }

    @Test func controlTokensStandForLiteralsAndInFreeText() throws {
        let small = SmallVocabulary.shared
        let name = Array("<tool_call>".utf8)
        var matcher = ConstraintMatcher(
            try .sequence([.literal("<tool_call>{}")]), vocabulary: small.vocabulary)
        #expect(offered(&matcher) == ["<tool_call>", "<", "<tool"].map { Array($0.utf8) })
        matcher.accept(SmallVocabulary.call)
        #expect(offered(&matcher) == [Array("{".utf8)])
        // A schema has none, though its text would fit.
        matcher = ConstraintMatcher(
            try Constraint(schema: ["const": "<tool_call>"]), vocabulary: small.vocabulary)
        matcher.accept(3 + 0x22)
        #expect(!offered(&matcher).contains(name))
        matcher.accept(SmallVocabulary.call)
        #expect(matcher.isStuck)
        // Free text may have it, and it triggers.
        let answer = try Constraint(regex: "x")
        matcher = ConstraintMatcher(
            try .triggered([("<tool_call>", answer)], requires: false), vocabulary: small.vocabulary
        )
        #expect(offered(&matcher).contains(name))
        matcher.accept(SmallVocabulary.call)
        #expect(offered(&matcher) == [Array("x".utf8)])
    }

    @Test func aRequiredTriggerComesBeforeTheEnd() throws {
        let constraint = try Constraint.triggered(
            [("<tool_call>", Constraint(schema: schema()))], requires: true)
        for seed in 0..<20 {
            let walk = Walk(constraint, tokens: 120, seed: seed, ends: false)
            #expect(walk.isComplete && walk.string.contains("<tool_call>"), "\(walk.string)")
        }
    }

    @Test func emptyTriggersAreRefused() throws {
        let any = Constraint.jsonObject()
        #expect(throws: ConstraintError.self) {
            try Constraint.triggered([("", any)], requires: true)
        }
        #expect(throws: ConstraintError.self) { try Constraint.triggered([], requires: true) }
        #expect(throws: ConstraintError.self) { try Constraint.sequence([.until("")]) }
    }
}
