// The next layer's experts, by the experts of the two layers before it.
//
// EdgeMoE (arXiv 2308.14352) keeps a dictionary from the experts activated in the previous two layers to
// the probability of each expert of the next one. With k experts chosen per layer a key of whole sets is
// almost never seen twice; ours are the k x k pairs of one expert of either layer:
//
//     score(e | A, B) = sum over a in A, b in B of share(e | a, b)
//
// where A are the experts of layer l - 1, B those of layer l - 2, and share(e | a, b) is how often e
// was chosen in layer l when a and b had been. It backs off to share(e | a) where the pair was seen
// too seldom to be kept, or there is no layer l - 2; and share(e), scaled to decide only between equals,
// is added at the end. Only the `width` likeliest successors of a key are kept, so that the size is
// bounded.

/// A table from the experts of the last two layers to those of the next.
public struct PathPredictor: Sendable, Equatable {
    public let layers: Int
    public let experts: Int
    /// Successors kept per key.
    public let width: Int
    /// (layers, experts): share of the tokens that choose each expert.
    public let shares: [Float]
    /// (layers, experts, width): for an expert of layer l - 1, the likeliest of layer l, and the
    /// share of tokens that choose them; a share of 0 fills up. Layer 0 has none.
    public let successors: [UInt16]
    public let successorShares: [Float]
    /// (layers + 1): the pairs of layer l are those from `firstPair[l]` up to `firstPair[l + 1]`.
    public let firstPair: [UInt32]
    /// (pairs): expert of layer l - 1 times `experts` plus expert of layer l - 2, ascending in a
    /// layer.
    public let pairs: [UInt32]
    /// (pairs, width)
    public let pairSuccessors: [UInt16]
    public let pairShares: [Float]

    /// Weight of share(e) beside the sum of all others.
    static let tieBreak: Float = 1e-4

    /// Adds up the scores (experts) of layer `layer`.
    ///
    /// - Parameters:
    ///   - layer: The layer to predict, at least 1.
    ///   - last: Experts of the layer before, `k` of them.
    ///   - before: Experts of the layer before that; nil for layer 1.
    public func scores(
        layer: Int, last: UnsafePointer<Int32>, before: UnsafePointer<Int32>?, k: Int,
        into scores: UnsafeMutablePointer<Float>
    ) {
        precondition(layer > 0 && layer < layers, "no table for layer \(layer)")
        for expert in 0..<experts {
            unsafe scores[expert] = shares[layer * experts + expert] * PathPredictor.tieBreak
        }
        for a in 0..<k {
            let expert = unsafe Int(last[a])
            let row = (layer * experts + expert) * width
            guard let before = unsafe before else {
                unsafe add(successors, successorShares, row, 1, scores)
                continue
            }
            var unseen: Float = 0
            for b in 0..<k {
                if let pair = find(unsafe UInt32(expert * experts + Int(before[b])), layer) {
                    unsafe add(pairSuccessors, pairShares, pair * width, 1, scores)
                } else {
                    unseen += 1
                }
            }
            if unseen > 0 { unsafe add(successors, successorShares, row, unseen, scores) }
        }
    }

    private func add(
        _ successors: [UInt16], _ shares: [Float], _ row: Int, _ times: Float,
        _ scores: UnsafeMutablePointer<Float>
    ) {
        for index in row..<(row + width) {
            unsafe scores[Int(successors[index])] += shares[index] * times
        }
    }

    private func find(_ key: UInt32, _ layer: Int) -> Int? {
        var (low, high) = (Int(firstPair[layer]), Int(firstPair[layer + 1]))
        let end = high
        while low < high {
            let middle = (low + high) / 2
            if pairs[middle] < key { low = middle + 1 } else { high = middle }
        }
        return low < end && pairs[low] == key ? low : nil
    }
}
