import Foundation
import JSONTree

@testable import Constraints

/// Numbers that are the same every time (SplitMix64: Steele, Lea and Flood, 2014).
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    init(_ seed: Int) { state = UInt64(truncatingIfNeeded: seed) }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// A vocabulary with every byte and some longer tokens, many of which cut through JSON's structure.
struct SmallVocabulary {
    static let end: Int32 = 0
    static let call: Int32 = 1
    let tokens: [[UInt8]]
    let vocabulary: ConstraintVocabulary

    init() {
        let long = [
            "\",\"", "\":", "{\"", "\"}", "},{", "[[", "]]", "true", "null", "false", "0.", "-1", "  ",
            "\n  ", "\\u00", "\\\"", "ä", "é\"", "日本", "name", "\": \"", "e+", "000", "123", "abc", "😀",
            "the ", "aaaaaaaa", "kind", "\",", ", ", "\"a\"", "}}}", "<tool", "_call>",
        ]
        tokens =
            [Array("<end>".utf8), Array("<tool_call>".utf8), []]
            + (0...255).map { [UInt8($0)] } + long.map { Array($0.utf8) } + [Array("abc".utf8)]
        vocabulary = ConstraintVocabulary(
            tokens: tokens, special: [0, 1], endOfGeneration: [SmallVocabulary.end])
    }

    static let shared = SmallVocabulary()
}

/// A model that chooses any token that it is offered.
struct Walk {
    var text: [UInt8] = []
    var ids: [Int32] = []
    /// Whether it chose the end.
    var hasEnded = false
    var isComplete = false

    init(
        _ constraint: Constraint, _ small: SmallVocabulary = .shared, tokens budget: Int, seed: Int,
        ends: Bool = true
    ) {
        var generator = SeededGenerator(seed)
        var matcher = ConstraintMatcher(constraint, vocabulary: small.vocabulary)
        var mask = Array(repeating: UInt64(0), count: small.vocabulary.maskWordCount)
        for step in 0..<budget {
            matcher.mask(remainingTokens: budget - step, into: &mask)
            var offered = mask.enumerated().flatMap { word, bits in
                (0..<64).filter { bits >> UInt64($0) & 1 != 0 }.map { Int32(64 * word + $0) }
            }
            if !ends, offered.count > 1 { offered.removeAll { $0 == SmallVocabulary.end } }
            guard let chosen = offered.randomElement(using: &generator) else { break }
            matcher.accept(chosen)
            if chosen == SmallVocabulary.end {
                hasEnded = true
                break
            }
            ids.append(chosen)
            text += small.tokens[Int(chosen)]
        }
        isComplete = matcher.isComplete
    }

    var string: String { String(decoding: text, as: UTF8.self) }
}

/// The tokens that are offered, in order.
func offered(_ matcher: inout ConstraintMatcher, _ small: SmallVocabulary = .shared, left: Int = 1000)
    -> [[UInt8]]
{
    var mask = Array(repeating: UInt64(0), count: small.vocabulary.maskWordCount)
    matcher.mask(remainingTokens: left, into: &mask)
    return small.tokens.indices.filter { mask[$0 / 64] >> UInt64($0 % 64) & 1 != 0 }.map {
        small.tokens[$0]
    }
}
