import CKernels
import Testing

/// Every table gives the bits of the scalar one, for every format, shape and kind of input.
@Suite struct GemmTests {
    /// Runs cases: the same product by a table and by the scalar reference, in guarded memory.
    private final class Bench {
        let weights = GuardedBuffer(capacity: 65 * 2 * 210 + 5 * 20 * 34 * 8)
        let records = GuardedBuffer(capacity: 9 * 20 * 256 * 4)
        let activations = GuardedBuffer(capacity: 20 * 256 * 4)
        let got = GuardedBuffer(capacity: 65 * (65 + 3) * 4)
        let expected = GuardedBuffer(capacity: 65 * (65 + 3) * 4)
        let table: Kernels
        let format: WeightFormat

        init(_ name: String, _ format: WeightFormat) {
            table = Kernels(name)
            self.format = format
        }

        /// nil, or what differed.
        func run(
            n: Int, rows: Int, tokens: Int, weights kind: WeightKind = .usual,
            activations activationKind: ActivationKind = .usual
        ) -> String? {
            let scalar = Kernels("scalar")
            var random = Seeded(n * 1000 + rows * 100 + tokens)
            let w = weights.last(rows * format.rowBytes(n), of: UInt8.self)
            fillWeights(w, format, kind, &random)
            let x = records.last(tokens * format.recordBytes(n), of: UInt8.self)
            for token in 0..<tokens {
                let row = activations.last(n, of: Float.self)
                fillActivations(row, activationKind, &random)
                scalar.quantize(row, format, into: x.dropFirst(token * format.recordBytes(n)))
            }

            // Results go behind 16 floats that must stay as they are, with gaps between tokens.
            let (before, stride) = (16, rows + 3)
            let size = before + (tokens - 1) * stride + rows
            let y = got.last(size, of: Float.self)
            let reference = expected.last(size, of: Float.self)
            for (kernels, out) in [(scalar, reference), (table, y)] {
                out.fill(with: 12345)
                kernels.gemm(
                    format, w, rows: rows, x, tokens: tokens, n: n, into: out.dropFirst(before),
                    stride: stride)
            }
            for i in 0..<size {
                let isResult = i >= before && (i - before) % stride < rows
                if !isResult && y[i] != 12345 { return "wrote over value \(i - before)" }
            }
            return difference(y, reference).map {
                """
                \(format), n \(n), \(rows) rows, \(tokens) tokens, weights \(kind), \
                activations \(activationKind): \($0)
                """
            }
        }
    }

    private static let tablesAndFormats = Kernels.vectorNames.flatMap { table in
        WeightFormat.allCases.map { (table, $0) }
    }

    @Test(arguments: tablesAndFormats)
    func agreesWithScalarForEveryLength(table: String, format: WeightFormat) {
        let bench = Bench(table, format)
        let lengths =
            format.elementsPerBlock == 1
            ? Array(1...100)
            : [1, 2, 3, 5, 7, 8, 9, 11, 16, 17, 19].map { $0 * format.elementsPerBlock }
        for n in lengths {
            #expect(bench.run(n: n, rows: 1 + n % 5, tokens: 1) == nil)
            #expect(
                bench.run(n: n, rows: 4, tokens: 2, weights: .randomBytes, activations: .mixed)
                    == nil)
        }
    }

    @Test(arguments: tablesAndFormats)
    func agreesWithScalarForEveryNumberOfRowsAndTokens(table: String, format: WeightFormat) {
        let bench = Bench(table, format)
        let n = format.elementsPerBlock == 1 ? 77 : format.elementsPerBlock == 32 ? 9 * 32 : 512
        for rows in 1...5 {
            for tokens in 1...9 {
                #expect(bench.run(n: n, rows: rows, tokens: tokens) == nil)
            }
        }
    }

    /// Some tables take many rows and tokens in panels: around every size of those, and what they
    /// leave over.
    @Test(arguments: tablesAndFormats)
    func agreesWithScalarForManyRowsAndTokens(table: String, format: WeightFormat) {
        let bench = Bench(table, format)
        let n = format.elementsPerBlock == 1 ? 77 : format.elementsPerBlock == 32 ? 9 * 32 : 512
        for rows in [15, 16, 17, 24, 31, 32, 33, 40, 41, 65] {
            for tokens in [2, 3, 4, 5, 7, 9] {
                #expect(bench.run(n: n, rows: rows, tokens: tokens) == nil)
            }
        }
        for tokens in [12, 13, 16, 17, 31, 33, 49, 64] {
            let found = bench.run(
                n: n, rows: 33, tokens: tokens, weights: .randomBytes, activations: .mixed)
            #expect(found == nil)
        }
        for weights in WeightKind.allCases {
            for activations in ActivationKind.allCases {
                let found = bench.run(
                    n: n, rows: 33, tokens: 5, weights: weights, activations: activations)
                #expect(found == nil)
            }
        }
    }

    /// One token takes 16 rows at a time.
    @Test(arguments: tablesAndFormats)
    func agreesWithScalarForManyRowsOfOneToken(table: String, format: WeightFormat) {
        let bench = Bench(table, format)
        let n = format.elementsPerBlock == 1 ? 77 : format.elementsPerBlock == 32 ? 9 * 32 : 512
        for rows in [8, 15, 16, 17, 31, 32, 33, 37] {
            #expect(bench.run(n: n, rows: rows, tokens: 1) == nil)
            let found = bench.run(
                n: n, rows: rows, tokens: 1, weights: .randomBytes, activations: .mixed)
            #expect(found == nil)
        }
    }

    @Test(arguments: tablesAndFormats)
    func agreesWithScalarOnExtremeBlocksAndActivations(table: String, format: WeightFormat) {
        let bench = Bench(table, format)
        let n = format.elementsPerBlock == 1 ? 77 : format.elementsPerBlock == 32 ? 9 * 32 : 512
        for weights in WeightKind.allCases {
            for activations in ActivationKind.allCases {
                for tokens in [1, 2, 4] {
                    let found = bench.run(
                        n: n, rows: 4, tokens: tokens, weights: weights, activations: activations)
                    #expect(found == nil)
                }
            }
        }
    }

    /// A prompt read in one piece and token by token must end in the same state.
    @Test(arguments: Kernels.names, WeightFormat.allCases)
    func aTokensResultDoesNotDependOnTheOthers(table: String, format: WeightFormat) {
        let table = Kernels(table)
        let (n, rows, tokens) = (256, 38, 7)
        let (rowBytes, recordBytes) = (format.rowBytes(n), format.recordBytes(n))
        var random = Seeded(7)
        let buffers = [
            rows * rowBytes, tokens * recordBytes, n * 4, rows * tokens * 4, rows * tokens * 4,
        ]
        .map { GuardedBuffer(capacity: $0) }
        let w = buffers[0].last(rows * rowBytes, of: UInt8.self)
        fillWeights(w, format, .usual, &random)
        let x = buffers[1].last(tokens * recordBytes, of: UInt8.self)
        let activations = buffers[2].last(n, of: Float.self)
        for token in 0..<tokens {
            fillActivations(activations, .usual, &random)
            table.quantize(activations, format, into: x.dropFirst(token * recordBytes))
        }

        let together = buffers[3].last(rows * tokens, of: Float.self)
        let apart = buffers[4].last(rows * tokens, of: Float.self)
        table.gemm(format, w, rows: rows, x, tokens: tokens, n: n, into: together, stride: rows)
        for token in 0..<tokens {
            for row in 0..<rows {
                table.gemm(
                    format, w.dropFirst(row * rowBytes), rows: 1, x.dropFirst(token * recordBytes),
                    tokens: 1, n: n, into: apart.dropFirst(token * rows + row), stride: 1)
            }
        }
        let found = difference(together, apart)
        #expect(found == nil)
        withExtendedLifetime(buffers) {}
    }
}
