import Testing

@testable import Tokenization

struct MergeWorkspaceTests {
    /// Symbols are numbers below 1000; about two thirds of the pairs merge, with priorities of
    /// which many are equal.
    private struct RandomRules: MergeRules {
        let seed: UInt64

        func merge(_ left: MergeSymbol, _ right: MergeSymbol) -> Merge? {
            var numbers = SeededNumbers(
                seed: seed ^ UInt64(left.id) << 20 ^ UInt64(right.id) << 40)
            guard numbers.next() % 3 > 0 else { return nil }
            return Merge(
                priority: UInt32(numbers.next() % 5), id: Int32(numbers.next() % 1000))
        }
    }

    /// Does what the workspace is there to do, without any cleverness.
    private func merged(_ symbols: [MergeSymbol], _ rules: RandomRules) -> [MergeSymbol] {
        var symbols = symbols
        while true {
            var best: (place: Int, merge: Merge)?
            for place in symbols.indices.dropLast() {
                guard let merge = rules.merge(symbols[place], symbols[place + 1]) else { continue }
                if best == nil || merge.priority < best!.merge.priority { best = (place, merge) }
            }
            guard let best else { return symbols }
            symbols[best.place].id = best.merge.id
            symbols[best.place].end = symbols[best.place + 1].end
            symbols.remove(at: best.place + 1)
        }
    }

    @Test func shortAndLongWordsMergeAsTheDefinitionSays() {
        var workspace = MergeWorkspace()
        var numbers = SeededNumbers(seed: 1)
        let lengths =
            Array(0...6) + Array(MergeWorkspace.shortWord - 2...MergeWorkspace.shortWord + 3) + [
                200
            ]
        for seed in UInt64(0)..<30 {
            for length in lengths {
                let symbols = (0..<length).map {
                    MergeSymbol(
                        id: Int32.random(in: 0..<4, using: &numbers), start: UInt32($0),
                        end: UInt32($0 + 1))
                }
                let rules = RandomRules(seed: seed)
                workspace.symbols = symbols
                workspace.mergeAll(rules)
                let expected = merged(symbols, rules)
                #expect(
                    workspace.symbols.map(\.id) == expected.map(\.id), "seed \(seed), \(length)")
                #expect(workspace.symbols.map(\.start) == expected.map(\.start))
                #expect(workspace.symbols.map(\.end) == expected.map(\.end))
            }
        }
    }
}
