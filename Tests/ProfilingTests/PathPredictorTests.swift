import Testing

@testable import Profiling

@Suite struct PathPredictorTests {
    private static let (layers, experts, k, tokens) = (4, 5, 2, 60)
    private static let shape = Fixture.shape(
        layers: layers, experts: experts, expertsPerToken: k, embedding: 1)

    /// (layers, tokens, k), skewed so that some pairs are frequent.
    private static let choices: [[[Int]]] = {
        var random = Random(state: 3)
        return (0..<layers).map { _ in
            (0..<tokens).map { _ in
                let one = min(random.below(experts), random.below(experts))
                return [one, (one + 1 + random.below(experts - 1)) % experts]
            }
        }
    }()

    private static func paths() -> RecordedPaths {
        var paths = RecordedPaths(shape)
        for layer in 0..<layers {
            let chosen = choices[layer].joined().map { Int32($0) }
            unsafe chosen.withUnsafeBufferPointer {
                let none = [Float](repeating: 0, count: tokens * experts)
                let sample = unsafe RoutingSample(
                    layer: layer, sequence: 0, position: 0, tokens: tokens, input: none,
                    routerLogits: none, chosen: $0.baseAddress!)
                paths.add(sample)
            }
        }
        return paths
    }

    /// How often `expert` is chosen in `layer` among the tokens with `a` in the layer before and,
    /// if given, `b` in the one before that; nil if there are fewer than `least` such tokens.
    private static func share(
        _ expert: Int, _ layer: Int, _ a: Int, _ b: Int?, least: Int = 1
    ) -> Float? {
        let such = (0..<tokens).filter { token in
            choices[layer - 1][token].contains(a)
                && (b == nil || choices[layer - 2][token].contains(b!))
        }
        guard such.count >= least else { return nil }
        return Float(such.count { choices[layer][$0].contains(expert) }) / Float(such.count)
    }

    private static func scores(
        _ predictor: PathPredictor, _ layer: Int, _ last: [Int], _ before: [Int]?
    ) -> [Float] {
        var scores = [Float](repeating: -1, count: experts)
        let last = last.map { Int32($0) }
        if let before = before?.map({ Int32($0) }) {
            unsafe predictor.scores(layer: layer, last: last, before: before, k: k, into: &scores)
        } else {
            unsafe predictor.scores(layer: layer, last: last, before: nil, k: k, into: &scores)
        }
        return scores
    }

    /// Every key of every layer against shares counted one token at a time.
    @Test(arguments: [1, 6])
    func scoresAreTheSharesOfPairsWithBackOff(least: Int) {
        let predictor = PathPredictorTests.paths().predictor(
            width: PathPredictorTests.experts, pairsPerLayer: 1000, leastCount: least)
        var pairs = 0
        var backedOff = 0
        for layer in 1..<PathPredictorTests.layers {
            for last in [[0, 1], [2, 4], [3, 0]] {
                for before in layer == 1 ? [nil] : [[0, 1], [4, 2], [1, 3]] {
                    let found = PathPredictorTests.scores(predictor, layer, last, before)
                    for expert in 0..<PathPredictorTests.experts {
                        let prior = PathPredictorTests.choices[layer]
                            .count { $0.contains(expert) }
                        var wanted =
                            Float(prior) / Float(PathPredictorTests.tokens) * 1e-4
                        for a in last {
                            for b in before.map({ $0.map { Optional($0) } }) ?? [nil] {
                                let pair =
                                    b == nil
                                    ? nil
                                    : PathPredictorTests.share(expert, layer, a, b, least: least)
                                wanted +=
                                    pair ?? PathPredictorTests.share(expert, layer, a, nil) ?? 0
                                if pair == nil { backedOff += 1 } else { pairs += 1 }
                            }
                        }
                        #expect(abs(found[expert] - wanted) < 1e-5)
                    }
                }
            }
        }
        #expect(pairs > 0 && (least == 1 || backedOff > pairs / 10))
    }

    @Test func sizesAreBoundedAndTheMostFrequentPairsStay() {
        let all = PathPredictorTests.paths().predictor(width: 5, pairsPerLayer: 1000, leastCount: 1)
        let few = PathPredictorTests.paths().predictor(width: 2, pairsPerLayer: 3, leastCount: 1)
        #expect(few.firstPair == [0, 0, 0, 3, 6])
        #expect(few.pairShares.count == 12 && few.successors.count == 4 * 5 * 2)
        let counts = { (layer: Int, key: UInt32) in
            (0..<PathPredictorTests.tokens).count {
                PathPredictorTests.choices[layer - 1][$0].contains(Int(key) / 5)
                    && PathPredictorTests.choices[layer - 2][$0].contains(Int(key) % 5)
            }
        }
        for layer in 2...3 {
            let range = Int(all.firstPair[layer])..<Int(all.firstPair[layer + 1])
            let most = all.pairs[range].map { counts(layer, $0) }.sorted(by: >).prefix(3)
            let kept = few.pairs[Int(few.firstPair[layer])..<Int(few.firstPair[layer + 1])]
            #expect(kept.map { counts(layer, $0) }.sorted(by: >) == Array(most))
        }
    }
}
