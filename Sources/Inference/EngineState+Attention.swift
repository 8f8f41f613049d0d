internal import CKernels

// Attention: softmax(q . K / sqrt(head size)) V over a token's positions, span by span.
//
//   positions      0 ........ 255 | 256 ....... 511 | 512 ... n - 1
//   partial result  (o, m, l)     |  (o, m, l)      |  (o, m, l)      of every query of a group
//   answer          merged from left to right, o / l
//
// Keys and values are read once for all queries of a group of heads, and in a prompt for a tile of
// tokens. Who computes a span, and with how many other queries, changes no bit: CKernels.h defines
// the partial result of a span and the order in which they are merged. One token's spans are dealt
// to all workers, who leave partial results that a second stage merges; in a prompt there are tiles
// enough to give each worker whole ones, merged as they come. Nothing is ever of the size tokens x
// positions.

/// Sizes of attention's buffers.
struct AttentionShape: Sendable {
    /// Positions of a span.
    static let span = Int(SLUICE_SPAN)
    /// Queries that meet a span together, about. 32 of them with their scores and results take
    /// 70 KB for heads of 128, which the second cache holds beside a span's keys.
    private static let queriesPerTile = 32

    /// Heads that share keys and values.
    let group: Int
    let tileTokens: Int
    /// Floats of a partial result, with its gap to the next one.
    let resultLength: Int
    /// Partial results of one token at the end of the context.
    let spanResultCount: Int
    /// Floats of a worker: queries, scores, results of one span, merged results.
    let bufferLength: Int
    /// Where they begin.
    let scores: Int, results: Int, merged: Int

    init(headCount: Int, keyValueHeadCount: Int, headSize: Int, context: Int) {
        group = headCount / keyValueHeadCount
        tileTokens = max(1, AttentionShape.queriesPerTile / group)
        resultLength = (headSize + 2 + 15) / 16 * 16
        spanResultCount = headCount * AttentionShape.spans(context)
        let queries = tileTokens * group
        scores = (queries * headSize + 15) / 16 * 16
        results = scores + queries * AttentionShape.span
        merged = results + queries * resultLength
        bufferLength = merged + queries * resultLength
    }

    /// Spans that `positions` positions take.
    static func spans(_ positions: Int) -> Int { (positions + span - 1) / span }
}

/// The queries of one or more tokens at successive positions to the heads of one group.
@unsafe private struct Tile {
    /// (tokens, group, head size)
    let queries: UnsafePointer<Float>
    let tokens: Int
    /// Positions that the first token attends to; each following one attends to one more.
    let positions: Int
    let keys: UnsafeRawPointer
    let values: UnsafeRawPointer
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

extension EngineState {
    /// Decides how the loaded chunk's attention is dealt to the workers.
    mutating func dealAttention(decodes: Bool) {
        var (results, longest) = (0, 0)
        for token in unsafe 0..<tokens {
            let spans = unsafe AttentionShape.spans(attended(token))
            unsafe results += headCount * spans
            longest = max(longest, spans)
        }
        unsafe self.decodes = decodes
        unsafe splitsSpans =
            (decodes || tokens == 1) && results <= attention.spanResultCount
        unsafe mergesSpans = splitsSpans && longest > 1
    }

    func attend(_ worker: Int, _ workers: Int) {
        var total = 0
        for token in unsafe 0..<tokens { unsafe total += attended(token) * keyValueHeadCount }
        let deal = Deal(total: total, to: worker, of: workers)
        if unsafe splitsSpans {
            unsafe attendSpans(deal, worker)
        } else {
            unsafe attendTiles(deal, worker)
        }
    }

    /// Merges the partial results of those (token, head) tasks that have several.
    func mergeSpans(tasks: Range<Int>) {
        let table = unsafe kernels.table
        let length = unsafe attention.resultLength
        var first = unsafe spanResults
        for token in unsafe 0..<tokens {
            let spans = unsafe AttentionShape.spans(attended(token))
            for head in unsafe 0..<headCount {
                let task = unsafe token * headCount + head
                let result = unsafe first
                unsafe first += spans * length
                guard spans > 1, tasks.contains(task) else { continue }
                for span in 1..<spans {
                    unsafe table.pointee.merge_span(
                        result + span * length, UInt32(headSize), result)
                }
                unsafe table.pointee.finish_spans(
                    result, UInt32(headSize), mixed.floats + task * headSize)
            }
        }
    }

    /// Positions that a token attends to: its sequence's up to its own.
    private func attended(_ token: Int) -> Int { unsafe Int(positions[token]) + 1 }

    /// (token, group, span) tasks: each leaves its partial results, or the answer where a token has
    /// one span only.
    private func attendSpans(_ deal: Deal, _ worker: Int) {
        var deal = deal
        let buffer = unsafe attentionBuffers + worker * attention.bufferLength
        let (group, length) = unsafe (attention.group, attention.resultLength)
        var first = unsafe spanResults
        for token in unsafe 0..<tokens {
            let positions = unsafe attended(token)
            let spans = AttentionShape.spans(positions)
            for head in unsafe 0..<keyValueHeadCount {
                let task = unsafe token * headCount + head * group
                let tile = unsafe tile(
                    of: token, tokens: 1, head: head, queries: query + task * headSize)
                let results = unsafe first
                unsafe first += group * spans * length
                for span in 0..<spans {
                    let start = span * AttentionShape.span
                    guard deal.takes(min(AttentionShape.span, positions - start)) else { continue }
                    let scores = unsafe buffer + attention.scores
                    guard spans == 1 else {
                        unsafe attend(
                            tile, span: span, scores: scores, into: results + span * length,
                            stride: spans * length)
                        continue
                    }
                    let merged = unsafe buffer + attention.merged
                    unsafe attend(tile, span: 0, scores: scores, into: merged, stride: length)
                    unsafe finish(merged, count: group, task: task)
                }
            }
        }
    }

    /// (group, tile) tasks, each of all its spans. Those of a group follow one another, for its keys
    /// and values may still be in a cache.
    private func attendTiles(_ deal: Deal, _ worker: Int) {
        var deal = deal
        for head in unsafe 0..<keyValueHeadCount {
            var first = 0
            while unsafe first < tokens {
                let count = unsafe decodes ? 1 : min(attention.tileTokens, tokens - first)
                let positions = unsafe attended(first)
                if deal.takes(count * positions + count * (count - 1) / 2) {
                    unsafe attendTile(from: first, tokens: count, head: head, worker)
                }
                first += count
            }
        }
    }

    private func attendTile(from first: Int, tokens count: Int, head: Int, _ worker: Int) {
        let table = unsafe kernels.table
        let (group, length) = unsafe (attention.group, attention.resultLength)
        let buffer = unsafe attentionBuffers + worker * attention.bufferLength
        let rowLength = unsafe group * headSize
        for token in 0..<count {
            let task = unsafe (first + token) * headCount + head * group
            unsafe (buffer + token * rowLength).update(
                from: query + task * headSize, count: rowLength)
        }
        let tile = unsafe tile(of: first, tokens: count, head: head, queries: buffer)
        let (results, merged) = unsafe (buffer + attention.results, buffer + attention.merged)
        for span in unsafe 0..<AttentionShape.spans(tile.positions + count - 1) {
            let fresh = unsafe attend(
                tile, span: span, scores: buffer + attention.scores,
                into: span == 0 ? merged : results, stride: length)
            guard span > 0 else { continue }
            for query in fresh..<(count * group) {
                unsafe table.pointee.merge_span(
                    results + query * length, UInt32(headSize), merged + query * length)
            }
        }
        for token in 0..<count {
            let task = unsafe (first + token) * headCount + head * group
            unsafe finish(merged + token * group * length, count: group, task: task)
        }
    }

    private func tile(
        of token: Int, tokens: Int, head: Int, queries: UnsafePointer<Float>
    ) -> Tile {
        let offset = unsafe cacheOffset(
            sequence: Int(sequences[token]), layer: layer, head: head)
        return unsafe Tile(
            queries: queries, tokens: tokens, positions: attended(token),
            keys: UnsafeRawPointer(keyCache + offset), values: UnsafeRawPointer(valueCache + offset)
        )
    }

    /// The partial results of a tile's queries in one span, `stride` floats apart.
    ///
    /// - Returns: The first query that attends to any of its positions; those before it have none.
    @discardableResult
    private func attend(
        _ tile: Tile, span: Int, scores: UnsafeMutablePointer<Float>,
        into results: UnsafeMutablePointer<Float>, stride: Int
    ) -> Int {
        let table = unsafe kernels.table
        let (group, size) = unsafe (attention.group, UInt32(headSize))
        let width = AttentionShape.span
        let start = span * width
        let firstToken = unsafe max(0, start + 1 - tile.positions)
        func length(_ token: Int) -> Int { unsafe min(width, tile.positions + token - start) }
        let first = firstToken * group
        let count = unsafe tile.tokens * group - first
        let queries = unsafe tile.queries + first * headSize
        let own = unsafe results + first * stride
        let keys = unsafe tile.keys + start * cacheRowBytes
        let values = unsafe tile.values + start * cacheRowBytes
        let common = length(firstToken)
        unsafe cacheKernels.pointee.scores(
            queries, headSize, UInt32(count), keys, cacheRowBytes,
            UInt32(length(tile.tokens - 1)), size, 1 / Float(headSize).squareRoot(), scores,
            width)
        for query in 0..<count {
            let result = unsafe own + query * stride
            unsafe result.update(repeating: 0, count: headSize)
            unsafe result[headSize + 1] = table.pointee.span_exp(
                scores + query * width, UInt32(length(firstToken + query / group)),
                result + headSize)
        }
        unsafe cacheKernels.pointee.mix(
            scores, width, UInt32(count), values, cacheRowBytes, UInt32(common), size, own,
            stride)
        // What later tokens attend to beyond the first, so that none sees a value after its own.
        for token in unsafe firstToken..<tile.tokens where length(token) > common {
            let query = (token - firstToken) * group
            unsafe cacheKernels.pointee.mix(
                scores + query * width + common, width, UInt32(group),
                values + common * cacheRowBytes, cacheRowBytes, UInt32(length(token) - common),
                size, own + query * stride, stride)
        }
        return first
    }

    /// Writes the answers of `count` queries from (token, head) `task` on.
    private func finish(_ merged: UnsafePointer<Float>, count: Int, task: Int) {
        for query in 0..<count {
            unsafe kernels.table.pointee.finish_spans(
                merged + query * attention.resultLength, UInt32(headSize),
                mixed.floats + (task + query) * headSize)
        }
    }
}
