/// Ranks the experts of a layer by a score.
enum ExpertRanking {
    /// Writes the indices of the `count` greatest scores, the greatest first, ties to the lower
    /// index, as the engine chooses. `count` is at most the number of scores.
    static func top(_ count: Int, of scores: [Float], into ranking: inout [Int32]) {
        ranking.removeAll(keepingCapacity: true)
        for _ in 0..<count {
            var best = -1
            for expert in scores.indices where best < 0 || scores[expert] > scores[best] {
                if !ranking.contains(Int32(expert)) { best = expert }
            }
            ranking.append(Int32(best))
        }
    }
}
