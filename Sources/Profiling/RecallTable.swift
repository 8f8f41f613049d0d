/// How often a predictor's ranks were right.
///
/// A trial is one token in one layer. Rank r, from 0, is right when the expert predicted r-th is
/// among the k chosen; recall at n is the share of the chosen that is among the first n predicted.
public struct RecallTable: Sendable, Equatable {
    /// What predicted.
    public let name: String
    /// Right predictions by rank.
    public private(set) var right: [UInt64]
    public private(set) var trials: UInt64 = 0
    private let expertsPerToken: Int

    init(name: String, ranks: Int, expertsPerToken: Int) {
        self.name = name
        self.expertsPerToken = expertsPerToken
        right = [UInt64](repeating: 0, count: ranks)
    }

    mutating func add(predicted: [Int32], chosen: UnsafeBufferPointer<Int32>) {
        trials += 1
        for (rank, expert) in predicted.enumerated() where unsafe chosen.contains(expert) {
            right[rank] += 1
        }
    }

    /// Share of the trials in which each rank was right.
    public var byRank: [Double] { right.map { Double($0) / Double(max(1, trials)) } }

    /// Share of the chosen experts among the first `count` predicted.
    public func recall(at count: Int) -> Double {
        Double(right.prefix(count).reduce(0, +))
            / Double(max(1, trials * UInt64(expertsPerToken)))
    }
}
