import CKernels
import Testing

import Glibc

/// A format of cached keys and values.
enum CacheFormat: Int, CaseIterable {
    case f32, f16, q8_0

    func allows(_ headSize: Int) -> Bool { self != .q8_0 || headSize % 32 == 0 }

    func rowBytes(_ headSize: Int) -> Int {
        switch self {
        case .f32: headSize * 4
        case .f16: headSize * 2
        case .q8_0: headSize / 32 * 34
        }
    }
}

extension Kernels {
    func cache(_ format: CacheFormat) -> sluice_cache_kernels {
        unsafe withUnsafeBytes(of: table.cache) { formats in
            unsafe formats.load(
                fromByteOffset: format.rawValue * MemoryLayout<sluice_cache_kernels>.stride,
                as: sluice_cache_kernels.self)
        }
    }
}

/// Some queries against some cached rows.
private struct AttentionCase {
    let format: CacheFormat
    let headSize: Int
    let count: Int
    let rows: Int
    /// Between rows, in floats.
    let gap: Int

    /// Where `table` stores, scores or mixes otherwise than the scalar one; nil if nowhere.
    func difference(_ table: String, _ kind: ActivationKind) -> String? {
        var random = Seeded(headSize * 4096 + count * 16 + rows)
        let rowBytes = format.rowBytes(headSize)
        let stride = rowBytes + 2 * gap
        let bytes = count == 0 ? 0 : (count - 1) * stride + rowBytes
        let queryStride = headSize + gap
        let weightStride = count + gap
        let sizes = [
            ((rows - 1) * queryStride + headSize) * 4, ((rows - 1) * weightStride + count) * 4,
            bytes,
            bytes, (rows * max(queryStride, weightStride)) * 4,
        ]
        let buffers = (sizes + [sizes[4]]).map { GuardedBuffer(capacity: $0 + 4) }
        let queries = buffers[0].last(sizes[0] / 4, of: Float.self)
        let weights = buffers[1].last(sizes[1] / 4, of: Float.self)
        let cached = buffers[2].last(bytes, of: UInt8.self)
        let stored = buffers[3].last(bytes, of: UInt8.self)
        fillActivations(queries, .usual, &random)
        fillActivations(weights, .usual, &random)
        cached.fill(with: 0)
        stored.fill(with: 0)
        let scalar = Kernels("scalar").cache(format)
        let other = Kernels(table).cache(format)
        for position in 0..<count {
            let row = buffers[4].last(headSize, of: Float.self)
            fillActivations(row, kind, &random)
            unsafe scalar.store(row.start, UInt32(headSize), cached.start + position * stride)
            unsafe other.store(row.start, UInt32(headSize), stored.start + position * stride)
        }
        // What a NaN becomes in half precision is not defined to the bit.
        if kind == .usual, (0..<bytes).contains(where: { stored[$0] != cached[$0] }) {
            return "stored bytes"
        }
        for operation in ["scores", "mix"] {
            let length = operation == "scores" ? count : headSize
            let size = (rows - 1) * (length + gap) + length
            let expected = buffers[4].last(size, of: Float.self)
            let got = buffers[5].last(size, of: Float.self)
            // Gaps between rows must stay as they are, and a mix adds to what is there.
            fillActivations(expected, .usual, &random)
            got.copy(from: expected)
            for (kernels, out) in [(scalar, expected), (other, got)] {
                if operation == "scores" {
                    unsafe kernels.scores(
                        queries.start, queryStride, UInt32(rows), cached.start, stride,
                        UInt32(count), UInt32(headSize), 0.125, out.start, length + gap)
                } else {
                    unsafe kernels.mix(
                        weights.start, weightStride, UInt32(rows), cached.start, stride,
                        UInt32(count), UInt32(headSize), out.start, length + gap)
                }
            }
            if let found = CKernelsTests.difference(got, expected) {
                return "\(operation): \(found)"
            }
        }
        withExtendedLifetime(buffers) {}
        return nil
    }
}

@Suite struct AttentionTests {
    @Test(arguments: Kernels.vectorNames, CacheFormat.allCases)
    func tablesAgreeForEveryHeadSizeAndCount(table: String, format: CacheFormat) {
        let heads = [1, 2, 7, 8, 15, 16, 31, 32, 33, 64, 80, 96, 127, 128, 129, 192, 256, 288]
        for headSize in heads where format.allows(headSize) {
            for count in 0...9 {
                let found = AttentionCase(
                    format: format, headSize: headSize, count: count,
                    rows: 1 + (headSize + count) % 9, gap: count % 2 * 24
                ).difference(table, count % 3 == 2 ? .mixed : .usual)
                #expect(found == nil, "head of \(headSize), \(count) positions")
            }
        }
    }

    /// More positions than are widened at once, for few queries and for many.
    @Test(arguments: Kernels.vectorNames, CacheFormat.allCases)
    func tablesAgreeOverASpan(table: String, format: CacheFormat) {
        for rows in [1, 3, 8, 33] {
            for count in [31, 32, 33, 100, Int(SLUICE_SPAN)] {
                let found = AttentionCase(
                    format: format, headSize: 64, count: count, rows: rows, gap: 8
                ).difference(table, .usual)
                #expect(found == nil, "\(rows) queries, \(count) positions")
            }
        }
    }

    @Test(arguments: Kernels.vectorNames)
    func tablesMergeAlike(table: String) {
        let buffers = (0..<5).map { _ in GuardedBuffer(capacity: 256 * 4) }
        for headSize in [1, 15, 16, 17, 80, 128] {
            for kind in ActivationKind.allCases {
                var random = Seeded(headSize)
                let results = (0..<5).map { buffers[$0].last(headSize + 2, of: Float.self) }
                fillActivations(results[0], kind, &random)
                fillActivations(results[1], kind, &random)
                results[2].copy(from: results[1])
                for (index, name) in ["scalar", table].enumerated() {
                    let kernels = Kernels(name)
                    let (merged, answer) = (results[1 + index], results[3 + index])
                    answer.fill(with: 0)
                    unsafe kernels.table.merge_span(
                        results[0].start, UInt32(headSize), merged.start)
                    unsafe kernels.table.finish_spans(
                        merged.start, UInt32(headSize), answer.start)
                }
                let (merged, answer) = (
                    difference(results[2], results[1]), difference(results[4], results[3])
                )
                #expect(merged == nil && answer == nil, "head of \(headSize), \(kind)")
            }
        }
        withExtendedLifetime(buffers) {}
    }

    /// What a query gets from `keys` and `values`, (count, head size), span by span.
    private func attention(
        _ kernels: Kernels, _ format: CacheFormat, query: [Float], keys: [Float], values: [Float],
        scale: Float
    ) -> [Float] {
        let size = query.count
        let rowBytes = format.rowBytes(size)
        let count = keys.count / size
        let cache = kernels.cache(format)
        func stored(_ x: [Float]) -> [UInt8] {
            var rows = [UInt8](repeating: 0, count: count * rowBytes)
            unsafe rows.withUnsafeMutableBytes { rows in
                unsafe x.withUnsafeBufferPointer { x in
                    for t in 0..<count {
                        unsafe cache.store(
                            x.baseAddress! + t * size, UInt32(size),
                            rows.baseAddress! + t * rowBytes)
                    }
                }
            }
            return rows
        }
        let (keys, values) = (stored(keys), stored(values))
        var merged: [Float] = []
        for start in stride(from: 0, to: count, by: Int(SLUICE_SPAN)) {
            let length = min(Int(SLUICE_SPAN), count - start)
            var scores = [Float](repeating: 0, count: length)
            var result = [Float](repeating: 0, count: size + 2)
            unsafe keys.withUnsafeBytes {
                unsafe cache.scores(
                    query, size, 1, $0.baseAddress! + start * rowBytes, rowBytes, UInt32(length),
                    UInt32(size), scale, &scores, length)
            }
            var maximum: Float = 0
            result[size + 1] = unsafe kernels.table.span_exp(&scores, UInt32(length), &maximum)
            result[size] = maximum
            unsafe values.withUnsafeBytes {
                unsafe cache.mix(
                    scores, length, 1, $0.baseAddress! + start * rowBytes, rowBytes, UInt32(length),
                    UInt32(size), &result, size + 2)
            }
            if start == 0 {
                merged = result
            } else {
                unsafe kernels.table.merge_span(result, UInt32(size), &merged)
            }
        }
        var answer = [Float](repeating: 0, count: size)
        unsafe kernels.table.finish_spans(merged, UInt32(size), &answer)
        return answer
    }

    /// softmax(q . K * scale) V in double precision.
    private func bruteForce(
        query: [Float], keys: [Float], values: [Float], scale: Float
    ) -> [Double] {
        let size = query.count
        let scores = stride(from: 0, to: keys.count, by: size).map { row in
            (0..<size).reduce(0.0) { $0 + Double(query[$1]) * Double(keys[row + $1]) }
                * Double(scale)
        }
        let weights = scores.map { exp($0 - scores.max()!) }
        let sum = weights.reduce(0, +)
        return (0..<size).map { i in
            weights.indices.reduce(0.0) { $0 + weights[$1] * Double(values[$1 * size + i]) } / sum
        }
    }

    /// Scores of every size: nearly alike, apart by hundreds, and so large that all weight is one
    /// position's, whose span comes first, last or in between.
    @Test(arguments: Kernels.names, [(0.1 as Float, 1e-6), (4, 4e-6), (1000, 1e-3)])
    func spansGiveTheSoftmaxOfTheWhole(table: String, sharpness: (scale: Float, bound: Double)) {
        let size = 32
        let span = Int(SLUICE_SPAN)
        for count in [1, 2, span - 1, span, span + 1, 2 * span, 3 * span + 77] {
            var random = Seeded(count)
            // Halves of 6 bits, so that all formats but Q8_0 hold them exactly.
            func numbers(_ count: Int) -> [Float] {
                (0..<count).map { _ in (random.unit() * 32).rounded() / 32 }
            }
            let query = numbers(size)
            let (keys, values) = (numbers(count * size), numbers(count * size))
            let expected = bruteForce(
                query: query, keys: keys, values: values, scale: sharpness.scale)
            for format in [CacheFormat.f32, .f16] {
                let answer = attention(
                    Kernels(table), format, query: query, keys: keys, values: values,
                    scale: sharpness.scale)
                let worst = zip(answer, expected).map { abs(Double($0) - $1) }.max()!
                #expect(worst < sharpness.bound, "\(format), \(count) positions: \(worst)")
            }
            let coarse = attention(
                Kernels(table), .q8_0, query: query, keys: keys, values: values, scale: 0.1)
            let exact = bruteForce(query: query, keys: keys, values: values, scale: 0.1)
            let worst = zip(coarse, exact).map { abs(Double($0) - $1) }.max()!
            #expect(worst < 0.01, "q8_0, \(count) positions: \(worst)")
        }
    }

    /// Positions whose score is minus infinity weigh nothing, be it a whole span of them; NaN stays.
    @Test func infiniteScoresNeverMakeNaNsOfTheirOwn() {
        let size = 16
        let span = Int(SLUICE_SPAN)
        let scalar = Kernels("scalar")
        func answer(_ score: (Int) -> Float) -> [Float] {
            var keys = [Float](repeating: 0, count: 3 * span * size)
            for t in 0..<(3 * span) { keys[t * size] = score(t) }
            let values = [Float](repeating: 2, count: 3 * span * size)
            var query = [Float](repeating: 0, count: size)
            query[0] = 1
            return attention(
                scalar, .f32, query: query, keys: keys, values: values, scale: 1)
        }
        let two = [Float](repeating: 2, count: size)
        for finite in [0, 1, 2] {
            #expect(answer { $0 / span == finite ? 1 : -.infinity } == two)
        }
        #expect(answer { $0 == span + 3 ? -Float.greatestFiniteMagnitude / 2 : -.infinity } == two)
        #expect(answer { $0 % 2 == 0 ? 3e38 : -3e38 } == two)
        let (invalid, infinite) = (
            answer { $0 == 300 ? .nan : 1 }, answer { $0 == 300 ? .infinity : 1 }
        )
        #expect(invalid.allSatisfy { $0.isNaN } && infinite.allSatisfy { $0.isNaN })
    }

    @Test(arguments: Kernels.names)
    func storingQ8RoundsAsItSays(table: String) {
        let cache = Kernels(table).cache(.q8_0)
        var row = [UInt8](repeating: 0, count: 68)
        var x = [Float](repeating: 0, count: 64)
        x.replaceSubrange(0..<6, with: [127, 0.5, 1.5, -0.5, -126.4, -127])
        x[32] = .nan
        unsafe cache.store(x, 64, &row)
        // A scale of 1, ties to even; a block with a NaN has a NaN for its scale.
        #expect(row[0] == 0x00 && row[1] == 0x3c)
        #expect(row[2..<8].map { Int8(bitPattern: $0) } == [127, 0, 2, 0, -126, -127])
        #expect(row[35] & 0x7c == 0x7c && row[36..<68].allSatisfy { $0 == 0 })
    }
}
