import JSONTree
import Testing

@testable import Constraints

struct MatcherTests {
    @Test func offersExactlyTheTokensThatMayFollow() throws {
        let constraint = try Constraint(regex: "ab(c|\"a\")?")
        var matcher = ConstraintMatcher(constraint, vocabulary: SmallVocabulary.shared.vocabulary)
        // Both tokens of the same bytes.
        #expect(offered(&matcher) == ["a", "abc", "abc"].map { Array($0.utf8) })
        matcher.accept(3 + 0x61)
        #expect(!matcher.isComplete)
        matcher.accept(3 + 0x62)
        #expect(matcher.isComplete)
        #expect(offered(&matcher) == ["<end>", "\"", "c", "\"a\""].map { Array($0.utf8) })
        matcher.accept(3 + 0x63)
        #expect(offered(&matcher) == [Array("<end>".utf8)])
        matcher.accept(SmallVocabulary.end)
        #expect(offered(&matcher) == [])
        #expect(!matcher.isStuck)
    }

    @Test func aTokenMayEndWithinACharacter() throws {
        let constraint = try Constraint(regex: "[é日]")
        var matcher = ConstraintMatcher(constraint, vocabulary: SmallVocabulary.shared.vocabulary)
        #expect(offered(&matcher) == [[0xC3], [0xE6]])
        matcher.accept(3 + 0xE6)
        #expect(offered(&matcher) == [[0x97]])
    }

    @Test func aTokenThatWasNotOfferedLeavesItStuck() throws {
        let constraint = try Constraint(regex: "abc")
        for token: Int32 in [3 + 0x7A, SmallVocabulary.end, 2] {
            var matcher = ConstraintMatcher(
                constraint, vocabulary: SmallVocabulary.shared.vocabulary)
            matcher.accept(token)
            #expect(matcher.isStuck)
            #expect(offered(&matcher) == [])
        }
    }

    @Test func aVocabularyThatCannotSpellTheTextIsStuckAtOnce() throws {
        let letters = ConstraintVocabulary(
            tokens: [Array("a".utf8), Array("bb".utf8)], special: [], endOfGeneration: [])
        var matcher = ConstraintMatcher(try Constraint(regex: "xyz"), vocabulary: letters)
        var mask: [UInt64] = [0]
        matcher.mask(remainingTokens: 10, into: &mask)
        #expect(mask == [0])
        #expect(matcher.isStuck)
        // What only a longer token spells is no dead end.
        matcher = ConstraintMatcher(try Constraint(regex: "(abb|a)*x?bb"), vocabulary: letters)
        matcher.mask(remainingTokens: 10, into: &mask)
        #expect(mask == [0b11])
        #expect(!matcher.isStuck)
    }

    @Test func aByteThatIsNoTokenIsNeverNeededAtTheEnd() throws {
        // Every byte but the quote, which comes only with a brace: no string can end alone.
        let tokens = (0...255).map { [UInt8($0)] }.filter { $0 != [0x22] } + [Array("\"}".utf8)]
        let vocabulary = ConstraintVocabulary(tokens: tokens, special: [], endOfGeneration: [])
        var matcher = ConstraintMatcher(
            try Constraint(regex: "x\"|yz"), vocabulary: vocabulary)
        var mask = Array(repeating: UInt64(0), count: vocabulary.maskWordCount)
        matcher.mask(remainingTokens: 10, into: &mask)
        let ids = tokens.indices.filter { mask[$0 / 64] >> UInt64($0 % 64) & 1 != 0 }
        #expect(ids.map { tokens[$0] } == [Array("y".utf8)])
    }

    @Test(arguments: [1, 2, 3, 5, 8, 13, 20, 24]) func endsWithinItsBudgetWhereverThatIsPossible(
        budget: Int
    ) throws {
        let schema: JSON = [
            "type": "object",
            "properties": [
                "name": ["type": "string"],
                "items": ["type": "array", "items": ["type": "number"]],
                "nested": ["type": "object"],
            ],
            "required": ["name", "items"],
        ]
        for constraint in [
            try Constraint(schema: schema), Constraint.jsonObject(),
            try Constraint(grammar: "root ::= \"(\" root \")\" | [a-z]{4,} | \"[\" root{3} \"]\""),
        ] {
            let matcher = ConstraintMatcher(
                constraint, vocabulary: SmallVocabulary.shared.vocabulary)
            var start = matcher
            let least = start.leastTokensToEnd
            for seed in 0..<8 {
                let walk = Walk(constraint, tokens: budget, seed: 100 * budget + seed, ends: false)
                if least <= budget { #expect(walk.isComplete, "seed \(seed): \(walk.string)") }
                #expect(walk.isComplete == constraint.matches(walk.text))
            }
        }
    }

    @Test func theLeastNumberOfTokensIsTheOneOfTheShortestText() throws {
        var matcher = ConstraintMatcher(
            try Constraint(regex: "x{5}|aaaaaaaaabc|y{7}z*"),
            vocabulary: SmallVocabulary.shared.vocabulary)
        // Of the fewest bytes: xxxxx.
        #expect(matcher.leastTokensToEnd == 5)
        matcher.accept(3 + 0x61)
        // aaaaaaaa and abc cannot both follow; a is taken: aaaaaaaa, then abc is one byte too long.
        #expect(matcher.leastTokensToEnd == 3)
    }

    @Test func forgettingStatesChangesNothing() throws {
        let constraint = try Constraint(regex: "([a-z]{3}[0-9]{2}|[a-c0-9]{0,9}z)*")
        var machine = StateMachine(constraint.program, costs: constraint.costs)
        var forgetful = machine
        var generator = SeededGenerator(5)
        var (state, other) = (machine.start(), forgetful.start())
        for _ in 0..<400 {
            let byte = Array("abcz0199".utf8).randomElement(using: &generator) ?? 0
            let next = machine.next(state, byte)
            guard next != StateMachine.dead else {
                #expect(forgetful.next(other, byte) == StateMachine.dead)
                continue
            }
            state = next
            other = forgetful.forget(keeping: forgetful.next(other, byte))
            #expect(machine.accepts[Int(state)] == forgetful.accepts[Int(other)])
            #expect(machine.needs[Int(state)] == forgetful.needs[Int(other)])
        }
    }

    @Test func copiesGoTheirOwnWay() throws {
        var one = ConstraintMatcher(
            try Constraint(regex: "ab|cd"), vocabulary: SmallVocabulary.shared.vocabulary)
        var other = one
        one.accept(3 + 0x61)
        other.accept(3 + 0x63)
        #expect(offered(&one) == [Array("b".utf8)])
        #expect(offered(&other) == [Array("d".utf8)])
    }
}
