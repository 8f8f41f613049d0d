/// Which experts follow which: for a layer, an expert of the layer before and one of the layer
/// before that, the experts that were chosen next, with weights (EdgeMoE, arXiv 2308.14352, section
/// on preloading: a table keyed by the experts of the previous two layers).
///
/// A layer's guess adds up the weights over all pairs of the last two layers' experts; a pair
/// without entries falls back on the row of its nearer expert alone. What every guess of a layer
/// begins with decides between experts that no row tells apart.
public final class ExpertPaths: Sendable {
    public let layerCount: Int
    public let expertCount: Int
    /// First entry by row, and one more; see `row`.
    let firstEntry: [UInt32]
    let entryExperts: [UInt16]
    let entryWeights: [Float]
    /// (layers, experts): what the scores of a layer's experts begin with.
    let base: [Float]

    /// Bytes of memory it holds.
    public var byteCount: Int {
        firstEntry.count * 4 + entryExperts.count * 2 + entryWeights.count * 4
            + base.count * 4
    }

    /// - Parameters:
    ///   - firstEntry: (layers x experts x (experts + 1) + 1): the entries of row r are
    ///     `firstEntry[r]` ..< `firstEntry[r + 1]`. The row of layer l, expert a of layer l - 1 and
    ///     expert b of layer l - 2 is (l * experts + a) * (experts + 1) + b; b = experts stands for
    ///     any. Rows of layer 0 are not used.
    ///   - entryExperts: experts of layer l.
    ///   - entryWeights: how likely each is; any non-negative scale.
    ///   - base: (layers, experts), or empty for none: what a guess begins with, on that scale.
    /// - Throws: `EngineError` where the table is not one.
    public init(
        layerCount: Int, expertCount: Int, firstEntry: [UInt32], entryExperts: [UInt16],
        entryWeights: [Float], base: [Float] = []
    ) throws(EngineError) {
        guard (1...4096).contains(layerCount), (1...4096).contains(expertCount),
            firstEntry.count == layerCount * expertCount * (expertCount + 1) + 1,
            entryExperts.count == entryWeights.count, firstEntry.first == 0,
            firstEntry.last! == entryExperts.count,
            zip(firstEntry, firstEntry.dropFirst()).allSatisfy({ $0 <= $1 }),
            entryExperts.allSatisfy({ $0 < expertCount }),
            entryWeights.allSatisfy({ $0 >= 0 && $0.isFinite }),
            base.isEmpty || base.count == layerCount * expertCount,
            base.allSatisfy({ $0 >= 0 && $0.isFinite })
        else {
            throw EngineError(
                "path table: \(firstEntry.count) rows and \(entryExperts.count) entries make no "
                    + "table of \(layerCount) layers of \(expertCount) experts")
        }
        self.layerCount = layerCount
        self.expertCount = expertCount
        self.firstEntry = firstEntry
        self.entryExperts = entryExperts
        self.entryWeights = entryWeights
        self.base =
            base.isEmpty ? [Float](repeating: 0, count: layerCount * expertCount) : base
    }

    /// The row of `layer` after expert `last` of the layer before and `beforeLast` of the one
    /// before that; nil for any.
    func row(layer: Int, last: Int32, beforeLast: Int32?) -> Int {
        (layer * expertCount + Int(last)) * (expertCount + 1)
            + (beforeLast.map(Int.init) ?? expertCount)
    }

    /// Adds `times` the weights of a row's entries to `scores`, (experts); false if it has none.
    func add(row: Int, times: Float = 1, to scores: inout [Float]) -> Bool {
        let entries = Int(firstEntry[row])..<Int(firstEntry[row + 1])
        for entry in entries { scores[Int(entryExperts[entry])] += entryWeights[entry] * times }
        return !entries.isEmpty
    }
}
