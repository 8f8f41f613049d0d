internal import CKernels

/// Sizes of attention's buffers.
///
/// A key-value head's keys and values serve a group of heads. What meets them together is a *tile*:
/// some heads of the group, of one token or more. Which queries share a tile changes no bit of their
/// results, so tiles are of the size that is fast.
struct AttentionShape: Sendable {
    /// Positions of a span.
    static let span = Int(SLUICE_SPAN)
    /// Queries that meet a span together, about. 32 of them with their scores and results take
    /// 70 KB for heads of 128, which the second cache holds beside a span's keys.
    private static let queriesPerTile = 32
    /// The same of one token, whose tiles are dealt to all workers. The kernels take a key that is
    /// longer than `longKey` for a few queries at a time whatever the tile has, so nothing is lost
    /// by giving more workers something to do.
    private static let queriesPerStep = 8, queriesOfLongKeys = 4
    private static let longKey = 256

    /// Heads that share keys and values.
    let group: Int
    /// Heads of a group and tokens of a prompt in a tile.
    let tileHeads: Int
    let tileTokens: Int
    /// Heads of a group in a tile of one token.
    let stepHeads: Int
    /// Floats of a partial result, with its gap to the next one.
    let resultLength: Int
    /// Partial results of one token at the end of the context.
    let spanResultCount: Int
    /// Floats of a worker: queries, scores, results of one span, merged results, and one result more
    /// for a head's sink.
    let bufferLength: Int
    /// Where they begin.
    let scores: Int, results: Int, merged: Int, sink: Int

    init(headCount: Int, keyValueHeadCount: Int, headSize: Int, valueSize: Int, context: Int) {
        let group = headCount / keyValueHeadCount
        func largestPart(_ limit: Int) -> Int {
            (1...min(group, limit)).last { group.isMultiple(of: $0) } ?? 1
        }
        self.group = group
        tileHeads = largestPart(AttentionShape.queriesPerTile)
        stepHeads = largestPart(
            headSize > AttentionShape.longKey
                ? AttentionShape.queriesOfLongKeys : AttentionShape.queriesPerStep)
        tileTokens = max(1, AttentionShape.queriesPerTile / tileHeads)
        resultLength = (valueSize + 2 + 15) / 16 * 16
        spanResultCount = headCount * AttentionShape.spans(0..<context).count
        let queries = tileTokens * tileHeads
        scores = (queries * headSize + 15) / 16 * 16
        results = scores + queries * AttentionShape.span
        merged = results + queries * resultLength
        sink = merged + queries * resultLength
        bufferLength = sink + resultLength
    }

    /// The spans that `positions` fall into.
    static func spans(_ positions: Range<Int>) -> Range<Int> {
        (positions.lowerBound / span)..<((positions.upperBound + span - 1) / span)
    }
}

/// Deals tasks in order, so that all workers get about the same cost: each gets those whose middle
/// falls into its part of the whole.
struct Deal {
    private let total: Int
    private let worker: Int
    private let workers: Int
    private var before = 0

    init(total: Int, to worker: Int, of workers: Int) {
        self.total = total
        self.worker = worker
        self.workers = workers
    }

    /// Whether the next task is this worker's.
    mutating func takes(_ cost: Int) -> Bool {
        let middle = 2 * before + cost
        before += cost
        return middle * workers / (2 * total) == worker
    }
}
