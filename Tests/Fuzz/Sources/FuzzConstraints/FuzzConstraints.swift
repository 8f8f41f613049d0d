// Schemas, regular expressions and grammars of any bytes: an error in one line, or a constraint in
// which a model that takes any token comes to an end within its budget. The first byte chooses the
// kind and seeds the model.

import Constraints
import JSONTree

private let tokens: [[UInt8]] = {
    let words = [
        "\": \"", "true", "null", "{\"", "\"}", "é", "日本", "aaaa", "123", "\\u00", "\n  ", "ab",
    ]
    return (0...255).map { [UInt8($0)] } + words.map { Array($0.utf8) } + [[]]
}()
private let end = tokens.count - 1
private let vocabulary = ConstraintVocabulary(
    tokens: tokens, special: [], endOfGeneration: [Int32(end)])

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = [UInt8](UnsafeBufferPointer(start: data, count: count))
    guard let first = bytes.first else { return 0 }
    let rest = Array(bytes.dropFirst())
    let text = String(decoding: rest, as: UTF8.self)
    do throws(ConstraintError) {
        switch first % 3 {
        case 0: walk(try Constraint(regex: text), seed: UInt64(first))
        case 1: walk(try Constraint(grammar: text), seed: UInt64(first))
        default:
            guard let schema = try? JSON(parsing: rest) else { return 0 }
            walk(try Constraint(schema: schema), seed: UInt64(first))
        }
    } catch {
        precondition(!error.description.utf8.contains { $0 < 32 })
    }
    return 0
}

private func walk(_ constraint: Constraint, seed: UInt64) {
    var matcher = ConstraintMatcher(constraint, vocabulary: vocabulary)
    var mask = Array(repeating: UInt64(0), count: vocabulary.maskWordCount)
    var state = seed
    var text: [UInt8] = []
    let budget = 24
    let isPossible = matcher.leastTokensToEnd <= budget
    for step in 0..<budget {
        matcher.mask(remainingTokens: budget - step, into: &mask)
        let offered = tokens.indices.filter { mask[$0 / 64] >> UInt64($0 % 64) & 1 != 0 }
        precondition(!offered.isEmpty)
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let id = offered[Int(state >> 33) % offered.count]
        matcher.accept(Int32(id))
        precondition(!matcher.isStuck)
        if id == end { break }
        text += tokens[id]
    }
    if isPossible { precondition(matcher.isComplete && constraint.matches(text)) }
}
