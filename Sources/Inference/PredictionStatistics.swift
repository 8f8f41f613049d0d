/// How good guesses of the next layers' experts were, in decode steps. Subtract two snapshots for
/// the figures of a span.
public struct PredictionStatistics: Sendable, Equatable {
    /// Ranks that are followed up.
    public let ranks: Int
    /// By how many layers ahead (1 first): tokens guessed for.
    public private(set) var guesses: [UInt64]
    /// (layers ahead, ranks): how often the guess of that rank was among the k chosen.
    public private(set) var right: [UInt64]

    init(layersAhead: Int = 0, ranks: Int = 0) {
        self.ranks = ranks
        guesses = Array(repeating: 0, count: layersAhead)
        right = Array(repeating: 0, count: layersAhead * ranks)
    }

    /// Share of guesses of `rank` (from 0), made `ahead` layers before (from 1), that were chosen;
    /// nil before the first guess.
    public func recall(ahead: Int, rank: Int) -> Double? {
        guard guesses[ahead - 1] > 0 else { return nil }
        return Double(right[(ahead - 1) * ranks + rank]) / Double(guesses[ahead - 1])
    }

    mutating func add(ahead: Int) { guesses[ahead - 1] += 1 }

    mutating func add(right rank: Int, ahead: Int) { right[(ahead - 1) * ranks + rank] += 1 }

    public static func - (later: Self, earlier: Self) -> Self {
        // Before the first step there is nothing to subtract, whatever its shape.
        guard later.right.count == earlier.right.count else { return later }
        var difference = later
        for index in difference.guesses.indices {
            difference.guesses[index] -= earlier.guesses[index]
        }
        for index in difference.right.indices { difference.right[index] -= earlier.right[index] }
        return difference
    }
}
