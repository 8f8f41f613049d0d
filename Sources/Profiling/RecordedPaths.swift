/// The choices of all layers for every token of a text, from which path tables are counted.
struct RecordedPaths {
    let model: ModelFingerprint
    /// Per layer (tokens, k).
    private(set) var choices: [[UInt16]]

    init(_ model: ModelFingerprint) {
        self.model = model
        choices = [[UInt16]](repeating: [], count: model.layers)
    }

    var tokens: Int { choices[0].count / model.expertsPerToken }

    mutating func add(_ sample: RoutingSample) {
        for index in 0..<(sample.tokens * model.expertsPerToken) {
            choices[sample.layer].append(unsafe UInt16(sample.chosen[index]))
        }
    }

    /// Counts the table.
    ///
    /// - Parameters:
    ///   - width: Successors kept per key.
    ///   - pairsPerLayer: Most pairs kept per layer; those seen most often are.
    ///   - leastCount: A pair seen less often is left to the back-off.
    func predictor(width: Int, pairsPerLayer: Int, leastCount: Int) -> PathPredictor {
        let (layers, experts) = (model.layers, model.experts)
        var shares: [Float] = []
        var successors = Successors(width: width)
        var pairSuccessors = Successors(width: width)
        var firstPair: [UInt32] = [0]
        var pairs: [UInt32] = []
        for layer in 0..<layers {
            var counts = [UInt32](repeating: 0, count: experts)
            for expert in choices[layer] { counts[Int(expert)] += 1 }
            shares += counts.map { Float($0) / Float(max(1, tokens)) }
            if layer == 0 {
                for _ in 0..<experts { successors.appendNone() }
            } else {
                let tokensOf = tokensOfExperts(layer - 1)
                var found: [PairCount] = []
                for expert in 0..<experts {
                    counts = [UInt32](repeating: 0, count: experts)
                    for token in tokensOf[expert] { count(layer, token, &counts, at: 0) }
                    successors.append(counts[...], of: tokensOf[expert].count)
                    if layer > 1 {
                        found += pairsWith(
                            expert, layer, tokensOf[expert], width: width, leastCount: leastCount)
                    }
                }
                // The most frequent ones, ties to the lower key; then by key, for searching.
                found.sort { ($1.count, $0.key) < ($0.count, $1.key) }
                for pair in found.prefix(pairsPerLayer).sorted(by: { $0.key < $1.key }) {
                    pairs.append(pair.key)
                    pairSuccessors.append(pair.successors)
                }
            }
            firstPair.append(UInt32(pairs.count))
        }
        return PathPredictor(
            layers: layers, experts: experts, width: width, shares: shares,
            successors: successors.experts, successorShares: successors.shares,
            firstPair: firstPair, pairs: pairs, pairSuccessors: pairSuccessors.experts,
            pairShares: pairSuccessors.shares)
    }

    private struct PairCount {
        var key: UInt32
        var count: Int
        var successors: Successors
    }

    /// The pairs of `expert` of layer - 1 with one of layer - 2, among the tokens that chose it.
    private func pairsWith(
        _ expert: Int, _ layer: Int, _ tokens: [Int32], width: Int, leastCount: Int
    ) -> [PairCount] {
        let (experts, k) = (model.experts, model.expertsPerToken)
        var seen = [Int](repeating: 0, count: experts)
        var counts = [UInt32](repeating: 0, count: experts * experts)
        for token in tokens {
            for rank in 0..<k {
                let before = Int(choices[layer - 2][Int(token) * k + rank])
                seen[before] += 1
                count(layer, token, &counts, at: before * experts)
            }
        }
        return seen.indices.filter { seen[$0] >= leastCount }.map { before in
            var successors = Successors(width: width)
            successors.append(
                counts[(before * experts)..<((before + 1) * experts)], of: seen[before])
            return PairCount(
                key: UInt32(expert * experts + before), count: seen[before], successors: successors)
        }
    }

    /// Counts a token's experts of a layer, into the row that begins at `row`.
    private func count(_ layer: Int, _ token: Int32, _ counts: inout [UInt32], at row: Int) {
        let k = model.expertsPerToken
        for rank in 0..<k { counts[row + Int(choices[layer][Int(token) * k + rank])] += 1 }
    }

    private func tokensOfExperts(_ layer: Int) -> [[Int32]] {
        var tokens = [[Int32]](repeating: [], count: model.experts)
        for (index, expert) in choices[layer].enumerated() {
            tokens[Int(expert)].append(Int32(index / model.expertsPerToken))
        }
        return tokens
    }
}

/// Rows of the likeliest successors.
private struct Successors {
    let width: Int
    var experts: [UInt16] = []
    var shares: [Float] = []

    init(width: Int) { self.width = width }

    /// Appends the most counted; `total` is how often the key was seen.
    mutating func append(_ counts: ArraySlice<UInt32>, of total: Int) {
        let order = counts.indices.filter { counts[$0] > 0 }
            .sorted { (counts[$1], $0) < (counts[$0], $1) }.prefix(width)
        for index in order {
            experts.append(UInt16(index - counts.startIndex))
            shares.append(Float(counts[index]) / Float(total))
        }
        for _ in order.count..<width { appendFiller() }
    }

    mutating func append(_ other: Successors) {
        experts += other.experts
        shares += other.shares
    }

    mutating func appendNone() { for _ in 0..<width { appendFiller() } }

    private mutating func appendFiller() {
        experts.append(0)
        shares.append(0)
    }
}
