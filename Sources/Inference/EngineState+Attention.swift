internal import CKernels

// Attention: softmax(scale x q . K) V over the positions that a token attends to, span by span.
//
//   positions      0 ........ 255 | 256 ....... 511 | 512 ... n - 1 |
//   partial result  (o, m, l)     |  (o, m, l)      |  (o, m, l)    | (0, sink, 1)   of every query
//   answer          merged from left to right, o / l
//
// Keys and values are read once for a tile: for several heads of the group that they serve, and in a
// prompt for several tokens. Who computes a span, and with how many other queries, changes no bit:
// CKernels.h defines the partial result of a span and the order in which they are merged. One
// token's spans are dealt to all workers, who leave partial results that a second stage merges; in a
// prompt there are tiles enough to give each worker whole ones, merged as they come. Nothing is ever
// of the size tokens x positions.
//
// With a window a token begins in the span of the first position that it attends to. What lies
// before in that span has scores of minus infinity, so that its exponentials are 0, and its values
// are not added at all. A head's sink is a score without a value, and is merged last, like a span.

/// The queries of one or more tokens at successive positions to some heads of one group.
@unsafe private struct Tile {
    /// (tokens, heads, head size), with `stride` floats from one to the next.
    let queries: UnsafePointer<Float>
    let stride: Int
    let tokens: Int
    let heads: Int
    /// Position after the first token's.
    let end: Int
    /// Positions that a token attends to, at most.
    let window: Int
    let keys: UnsafeRawPointer
    let values: UnsafeRawPointer

    var queryCount: Int { unsafe tokens * heads }

    /// Positions that a token of the tile attends to.
    func attended(_ token: Int) -> Range<Int> {
        let end = unsafe end + token
        return unsafe max(0, end - window)..<end
    }
}

extension EngineState {
    /// Decides how the loaded chunk's attention is dealt to the workers.
    mutating func dealAttention(decodes: Bool) {
        var (results, longest) = (0, 0)
        for token in unsafe 0..<tokens {
            let spans = unsafe AttentionShape.spans(0..<(Int(positions[token]) + 1)).count
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
        for token in unsafe 0..<tokens { unsafe total += attended(token).count }
        if unsafe splitsSpans {
            let tiles = unsafe headCount / attention.stepHeads
            unsafe attendSpans(Deal(total: total * tiles, to: worker, of: workers), worker)
        } else {
            let tiles = unsafe headCount / attention.tileHeads
            unsafe attendTiles(Deal(total: total * tiles, to: worker, of: workers), worker)
        }
    }

    /// Merges the partial results of those (token, head) tasks that have several.
    func mergeSpans(tasks: Range<Int>, _ worker: Int) {
        let table = unsafe kernels.table
        let length = unsafe attention.resultLength
        var first = unsafe spanResults
        for token in unsafe 0..<tokens {
            let spans = unsafe AttentionShape.spans(attended(token)).count
            for head in unsafe 0..<headCount {
                let result = unsafe first
                unsafe first += spans * length
                guard spans > 1, unsafe tasks.contains(token * headCount + head) else { continue }
                for span in 1..<spans {
                    unsafe table.pointee.merge_span(
                        result + span * length, UInt32(valueSize), result)
                }
                unsafe finish(result, token, head, worker)
            }
        }
    }

    /// Positions that a token attends to in the running layer.
    private func attended(_ token: Int) -> Range<Int> {
        let end = unsafe Int(positions[token]) + 1
        return unsafe max(0, end - layers[layer].lookup.window)..<end
    }

    /// (token, heads, span) tasks: each leaves its partial results, or the answer where a token has
    /// one span only.
    private func attendSpans(_ deal: Deal, _ worker: Int) {
        var deal = deal
        let buffer = unsafe attentionBuffers + worker * attention.bufferLength
        let (heads, length) = unsafe (attention.stepHeads, attention.resultLength)
        let stride = unsafe layers[layer].lookup.queryStride
        var first = unsafe spanResults
        for token in unsafe 0..<tokens {
            let positions = unsafe attended(token)
            let spans = AttentionShape.spans(positions)
            for head in unsafe Swift.stride(from: 0, to: headCount, by: heads) {
                let tile = unsafe tile(
                    of: token, tokens: 1, heads: head..<(head + heads),
                    queries: query + (token * headCount + head) * stride, stride: stride)
                let results = unsafe first
                unsafe first += heads * spans.count * length
                for span in spans {
                    let start = span * AttentionShape.span
                    let own = positions.clamped(to: start..<(start + AttentionShape.span))
                    guard deal.takes(own.count) else { continue }
                    let scores = unsafe buffer + attention.scores
                    guard spans.count == 1 else {
                        unsafe attend(
                            tile, span: span, scores: scores,
                            into: results + (span - spans.lowerBound) * length,
                            stride: spans.count * length)
                        continue
                    }
                    let merged = unsafe buffer + attention.merged
                    unsafe attend(tile, span: span, scores: scores, into: merged, stride: length)
                    for index in 0..<heads {
                        unsafe finish(merged + index * length, token, head + index, worker)
                    }
                }
            }
        }
    }

    /// (heads, tile) tasks, each of all its spans. Those of a group follow one another, for its keys
    /// and values may still be in a cache.
    private func attendTiles(_ deal: Deal, _ worker: Int) {
        var deal = deal
        let heads = unsafe attention.tileHeads
        for head in unsafe stride(from: 0, to: headCount, by: heads) {
            var first = 0
            while unsafe first < tokens {
                let count = unsafe decodes ? 1 : min(attention.tileTokens, tokens - first)
                var cost = 0
                for token in first..<(first + count) { unsafe cost += attended(token).count }
                if deal.takes(cost) {
                    unsafe attendTile(
                        first: first, count: count, heads: head..<(head + heads), worker)
                }
                first += count
            }
        }
    }

    private func attendTile(first: Int, count: Int, heads: Range<Int>, _ worker: Int) {
        let table = unsafe kernels.table
        let length = unsafe attention.resultLength
        let buffer = unsafe attentionBuffers + worker * attention.bufferLength
        let stride = unsafe layers[layer].lookup.queryStride
        for token in 0..<count {
            for index in 0..<heads.count {
                let task = unsafe (first + token) * headCount + heads.lowerBound + index
                unsafe (buffer + (token * heads.count + index) * headSize).update(
                    from: query + task * stride, count: headSize)
            }
        }
        let tile = unsafe tile(
            of: first, tokens: count, heads: heads, queries: buffer, stride: headSize)
        let (results, merged) = unsafe (buffer + attention.results, buffer + attention.merged)
        let opening = unsafe AttentionShape.spans(tile.attended(0)).lowerBound
        let spans = unsafe opening..<AttentionShape.spans(tile.attended(count - 1)).upperBound
        for span in spans {
            let fresh = unsafe attend(
                tile, span: span, scores: buffer + attention.scores,
                into: span == opening ? merged : results, stride: length)
            guard span > opening else { continue }
            for query in fresh {
                let (next, before) = unsafe (results + query * length, merged + query * length)
                let positions = unsafe tile.attended(query / heads.count)
                if AttentionShape.spans(positions).lowerBound == span {
                    unsafe before.update(from: next, count: length)
                } else {
                    unsafe table.pointee.merge_span(next, UInt32(valueSize), before)
                }
            }
        }
        for token in 0..<count {
            for index in 0..<heads.count {
                unsafe finish(
                    merged + (token * heads.count + index) * length, first + token,
                    heads.lowerBound + index, worker)
            }
        }
    }

    private func tile(
        of token: Int, tokens: Int, heads: Range<Int>, queries: UnsafePointer<Float>, stride: Int
    ) -> Tile {
        let lookup = unsafe layers[layer].lookup
        let rows = unsafe cacheRow(
            sequence: Int(sequences[token]), layer: lookup.cacheIndex,
            head: heads.lowerBound / attention.group)
        return unsafe Tile(
            queries: queries, stride: stride, tokens: tokens, heads: heads.count,
            end: Int(positions[token]) + 1, window: lookup.window,
            keys: UnsafeRawPointer(keyCache + rows * keyRowBytes),
            values: UnsafeRawPointer(valueCache + rows * valueRowBytes))
    }

    /// The partial results of a tile's queries in one span, `stride` floats apart.
    ///
    /// - Returns: The queries that attend to any of its positions; the others have no result.
    @discardableResult
    private func attend(
        _ tile: Tile, span: Int, scores: UnsafeMutablePointer<Float>,
        into results: UnsafeMutablePointer<Float>, stride: Int
    ) -> Range<Int> {
        let table = unsafe kernels.table
        let width = AttentionShape.span
        let start = span * width
        /// Of the span, what a token attends to.
        func own(_ token: Int) -> Range<Int> {
            let positions = unsafe tile.attended(token).clamped(to: start..<(start + width))
            return (positions.lowerBound - start)..<(positions.upperBound - start)
        }
        let first = unsafe max(0, start + 1 - tile.end)
        let last = unsafe min(tile.tokens, start + width + tile.window - tile.end) - 1
        let (firstOwn, lastOwn) = (own(first), own(last))
        let count = unsafe (last + 1 - first) * tile.heads
        let (keys, values) = unsafe (
            tile.keys + start * keyRowBytes, tile.values + start * valueRowBytes
        )
        let results = unsafe results + first * tile.heads * stride
        unsafe cacheKernels.pointee.scores(
            tile.queries + first * tile.heads * tile.stride, tile.stride, UInt32(count),
            keys + firstOwn.lowerBound * keyRowBytes, keyRowBytes,
            UInt32(lastOwn.upperBound - firstOwn.lowerBound), UInt32(headSize), attentionScale,
            scores + firstOwn.lowerBound, width)
        for query in 0..<count {
            let own = unsafe own(first + query / tile.heads)
            let (row, result) = unsafe (scores + query * width, results + query * stride)
            unsafe row.update(repeating: -.infinity, count: own.lowerBound)
            unsafe result.update(repeating: 0, count: valueSize)
            unsafe result[valueSize + 1] = table.pointee.span_exp(
                row, UInt32(own.upperBound), result + valueSize)
        }
        func mix(_ tokens: ClosedRange<Int>, _ positions: Range<Int>) {
            if positions.isEmpty { return }
            let query = unsafe (tokens.lowerBound - first) * tile.heads
            unsafe cacheKernels.pointee.mix(
                scores + query * width + positions.lowerBound, width,
                UInt32(tokens.count * tile.heads), values + positions.lowerBound * valueRowBytes,
                valueRowBytes, UInt32(positions.count), UInt32(valueSize),
                results + query * stride, stride)
        }
        // What all tokens attend to is added for all at once; what only earlier ones do before it,
        // what only later ones do after it, so that none sees a value that is not its own.
        guard lastOwn.lowerBound < firstOwn.upperBound else {
            for token in first...last { mix(token...token, own(token)) }
            return unsafe (first * tile.heads)..<((last + 1) * tile.heads)
        }
        for token in first...last {
            mix(token...token, own(token).lowerBound..<lastOwn.lowerBound)
        }
        mix(first...last, lastOwn.lowerBound..<firstOwn.upperBound)
        for token in first...last {
            mix(token...token, firstOwn.upperBound..<own(token).upperBound)
        }
        return unsafe (first * tile.heads)..<((last + 1) * tile.heads)
    }

    /// Writes the answer of a query whose spans are all merged.
    private func finish(
        _ merged: UnsafeMutablePointer<Float>, _ token: Int, _ head: Int, _ worker: Int
    ) {
        let table = unsafe kernels.table
        let lookup = unsafe layers[layer].lookup
        let task = unsafe token * headCount + head
        if let sinks = unsafe lookup.sinks {
            // Its values are 0 since the buffer was made.
            let sink = unsafe attentionBuffers + worker * attention.bufferLength + attention.sink
            unsafe sink[valueSize] = sinks[head]
            unsafe sink[valueSize + 1] = 1
            unsafe table.pointee.merge_span(sink, UInt32(valueSize), merged)
        }
        let answer = unsafe answers + task * valueSize
        unsafe table.pointee.finish_spans(merged, UInt32(valueSize), answer)
        if unsafe lookup.isGated {
            let gates = unsafe query + task * lookup.queryStride + headSize
            for index in unsafe 0..<valueSize {
                unsafe answer[index] *= Routing.sigmoid(gates[index])
            }
        }
    }
}
