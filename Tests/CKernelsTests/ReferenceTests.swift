import CKernels
import Glibc
import Testing

/// The scalar table against things it does not share a line with: the `gguf` package's decoder,
/// the C library in double precision, and Swift's own numbers.
@Suite struct ReferenceTests {
    private let scalar = Kernels("scalar")

    private struct Missing: Error {
        var path: String
    }

    /// A file that tools/make_kernel_fixtures.py wrote.
    private struct Fixture {
        var rows = 0
        var columns = 0
        var blocks: [UInt8] = []
        var decoded: [Float] = []

        init(_ name: String, _ format: WeightFormat) throws {
            let folder = #filePath.split(separator: "/").dropLast(2).joined(separator: "/")
            let path = "/\(folder)/Fixtures/kernels/\(name).bin"
            guard let file = unsafe fopen(path, "rb") else { throw Missing(path: path) }
            defer { unsafe _ = fclose(file) }
            var header: [UInt32] = [0, 0]
            try #require(unsafe fread(&header, 4, 2, file) == 2)
            (rows, columns) = (Int(header[0]), Int(header[1]))
            blocks = .init(
                repeating: 0, count: rows * columns / format.elementsPerBlock * format.bytesPerBlock
            )
            try #require(unsafe fread(&blocks, 1, blocks.count, file) == blocks.count)
            decoded = .init(repeating: 0, count: rows * columns)
            try #require(unsafe fread(&decoded, 4, decoded.count, file) == decoded.count)
        }
    }

    private static let fixtures: [(String, WeightFormat)] = [
        ("F16", .f16), ("BF16", .bf16), ("Q4_0", .q4_0), ("Q8_0", .q8_0), ("MXFP4", .mxfp4),
        ("Q4_K", .q4_K), ("Q5_K", .q5_K), ("Q6_K", .q6_K), ("IQ4_XS", .iq4_xs),
    ]

    /// The products of each row with the activations as quantised, in double precision over the
    /// `gguf` package's values, differ only by the roundings of a few dozen float operations.
    @Test(arguments: fixtures)
    func dotProductsMatchTheGGUFPackagesDecoder(name: String, format: WeightFormat) throws {
        let fixture = try Fixture(name, format)
        let n = fixture.columns
        var random = Seeded(3)
        let buffers = [fixture.blocks.count, n * 4, format.recordBytes(n), fixture.rows * 4]
            .map { GuardedBuffer(capacity: $0) }
        let weights = buffers[0].last(fixture.blocks.count, of: UInt8.self)
        for i in 0..<weights.count { weights[i] = fixture.blocks[i] }
        let x = buffers[1].last(n, of: Float.self)
        fillActivations(x, .usual, &random)
        let record = buffers[2].last(format.recordBytes(n), of: UInt8.self)
        scalar.quantize(x, format, into: record)
        let y = buffers[3].last(fixture.rows, of: Float.self)
        scalar.gemm(
            format, weights, rows: fixture.rows, record, tokens: 1, n: n, into: y,
            stride: fixture.rows)

        // From here on x is what the quantised record says.
        if format.elementsPerBlock > 1 {
            for i in 0..<n {
                let at = n + i / format.elementsPerBlock * 4
                let bits = (0..<4).reduce(0) { $0 | UInt32(record[at + $1]) << (8 * UInt32($1)) }
                x[i] = Float(Int8(bitPattern: record[i])) * Float(bitPattern: bits)
            }
        }
        for row in 0..<fixture.rows {
            var expected = 0.0
            var magnitude = 0.0
            for i in 0..<n {
                let product = Double(fixture.decoded[row * n + i]) * Double(x[i])
                expected += product
                magnitude += abs(product)
            }
            // The last row's scales are denormal, and so may be what its sums are made of.
            let limit = max(1e-6 * magnitude, 64 * Double(Float.leastNonzeroMagnitude))
            #expect(
                abs(Double(y[row]) - expected) <= limit, "row \(row): \(y[row]) for \(expected)")
        }
        withExtendedLifetime(buffers) {}
    }

    @Test func f32DotProductMatchesDoublePrecision() {
        var random = Seeded(5)
        let buffers = (0..<3).map { _ in GuardedBuffer(capacity: 4000) }
        for n in [1, 31, 32, 33, 1000] {
            let x = buffers[0].last(n, of: Float.self)
            let (w, record) = (
                buffers[1].last(n * 4, of: UInt8.self), buffers[2].last(n * 4, of: UInt8.self)
            )
            fillActivations(x, .usual, &random)
            scalar.quantize(x, .f32, into: w)
            let weights = (0..<n).map { x[$0] }
            fillActivations(x, .usual, &random)
            scalar.quantize(x, .f32, into: record)
            let expected = (0..<n).reduce(0.0) { $0 + Double(weights[$1]) * Double(x[$1]) }
            scalar.gemm(.f32, w, rows: 1, record, tokens: 1, n: n, into: x, stride: 1)
            #expect(abs(Double(x[0]) - expected) <= 1e-5 * Double(n))
        }
        withExtendedLifetime(buffers) {}
    }

    /// `softmax_exp` of a vector whose maximum is 0 is the exponential of the others.
    @Test func exponentialIsWithinTwoUlpsOfTheCLibrary() {
        let steps = 200_000
        var x = (0...steps).map { Float($0) * (-87 / Float(steps)) }
        let inputs = x
        unsafe _ = scalar.table.softmax_exp(&x, UInt32(x.count))
        var worst = 0.0
        for (input, result) in zip(inputs, x) {
            let expected = exp(Double(input))
            worst = max(worst, abs(Double(result) - expected) / Double(Float(expected).ulp))
        }
        #expect(worst < 2, "\(worst) ulps")
    }

    @Test func exponentialKeepsToItsLimits() {
        var x: [Float] = [0, -87, (-87 as Float).nextDown, -1000, -.infinity, .nan]
        let sum = unsafe scalar.table.softmax_exp(&x, UInt32(x.count))
        #expect(x[0] == 1)
        #expect(x[1] > 0 && x[1] < 2e-38)
        #expect(x[2] == 0 && x[3] == 0 && x[4] == 0)
        #expect(x[5].isNaN && sum.isNaN)
        #expect(unsafe scalar.table.softmax_exp(&x, 0) == 0)

        // Nothing but minus infinity is no maximum, and infinite minus infinite is avoided.
        x = [-.infinity, -.infinity]
        #expect(unsafe scalar.table.softmax_exp(&x, 2) == 0 && x == [0, 0])

        // 1 + exp(-g) is taken at 88 for any smaller g, so a large negative gate closes.
        var y: Float = 0
        unsafe scalar.table.swiglu([-1000], [1], 1, &y)
        #expect(y <= 0 && y > -1e-34)
    }

    @Test func swigluMatchesDoublePrecision() {
        var random = Seeded(9)
        let gate = (0..<1000).map { _ in random.unit() * 20 }
        let up = (0..<1000).map { _ in random.unit() }
        var y = gate
        unsafe scalar.table.swiglu(gate, up, 1000, &y)
        for i in 0..<1000 {
            let g = Double(gate[i])
            let expected = g / (1 + exp(-g)) * Double(up[i])
            #expect(abs(Double(y[i]) - expected) <= 1e-6 * abs(expected))
        }
    }

    @Test func regluClosesBelowZero() {
        var y = [Float](repeating: 9, count: 5)
        unsafe scalar.table.reglu([-3, 0, 2, .infinity, .nan], [5, 5, -1.5, 1, 1], 5, &y)
        #expect(abs(y[0]) == 0 && y[1] == 0 && y[2] == -3 && y[3] == .infinity && y[4].isNaN)
    }

    @Test func clampedSwigluMatchesDoublePrecision() {
        var random = Seeded(10)
        // Far enough out that both limits cut some off.
        let gate = (0..<1000).map { _ in random.unit() * 20 }
        let up = (0..<1000).map { _ in random.unit() * 20 }
        var y = gate
        unsafe scalar.table.clamped_swiglu(gate, up, 1000, 1.702, 7, &y)
        for i in 0..<1000 {
            let g = min(Double(gate[i]), 7)
            let u = max(-7, min(Double(up[i]), 7))
            let expected = g / (1 + exp(-1.702 * g)) * (u + 1)
            #expect(abs(Double(y[i]) - expected) <= 1e-5 * abs(expected))
        }
        #expect(gate.contains { $0 > 7 } && up.contains { $0 > 7 } && up.contains { $0 < -7 })
        unsafe scalar.table.clamped_swiglu([.nan, 1], [1, .nan], 2, 1.702, 7, &y)
        #expect(y[0].isNaN && y[1].isNaN)
    }

    @Test func rmsNormMatchesDoublePrecision() {
        var random = Seeded(11)
        let x = (0..<777).map { _ in random.unit() * 5 }
        let weight = (0..<777).map { _ in random.unit() }
        var y = x
        unsafe scalar.table.rms_norm(x, weight, 777, 1e-5, &y)
        let meanSquare = x.reduce(0.0) { $0 + Double($1) * Double($1) } / 777
        for i in 0..<777 {
            let expected = Double(x[i]) / (meanSquare + 1e-5).squareRoot() * Double(weight[i])
            #expect(abs(Double(y[i]) - expected) <= 1e-6 * abs(expected) + 1e-30)
        }
    }

    /// Swift's `Float16` conversions are the oracle, on every half and around every rounding.
    @Test func halfPrecisionMatchesSwiftsFloat16() {
        let halves = (0...UInt16.max).map { $0 }
        var widened = [Float](repeating: 0, count: halves.count)
        unsafe scalar.table.from_f16(halves, UInt32(halves.count), &widened)
        #expect(zip(halves, widened).allSatisfy { same($1, Float(Float16(bitPattern: $0))) })

        for step in -1...1 {
            let between = widened.map { value in
                value.isFinite
                    ? Float(bitPattern: value.bitPattern + 0x1000).advancedUlps(step) : value
            }
            var narrowed = [UInt16](repeating: 0, count: between.count)
            unsafe scalar.table.to_f16(between, UInt32(between.count), &narrowed)
            for (value, half) in zip(between, narrowed) {
                let (got, expected) = (Float16(bitPattern: half), Float16(value))
                #expect(got.bitPattern == expected.bitPattern || (got.isNaN && expected.isNaN))
                if got.bitPattern != expected.bitPattern && !expected.isNaN { return }
            }
        }
    }

    @Test func quantizerRoundsToNearestEvenAndRefusesWhatIsNotFinite() {
        // a = 127, so that q is x rounded.
        var x = [Float](repeating: 0, count: 256)
        x.replaceSubrange(0..<8, with: [127, 0.5, 1.5, -0.5, -2.5, 126.5, -126.51, 3.49])
        var record = [UInt8](repeating: 0xee, count: sluice_a256_bytes(256))
        func q(_ i: Int) -> Int8 { Int8(bitPattern: record[i]) }
        func scale() -> Float {
            Float(
                bitPattern: (0..<4).reduce(0) { $0 | UInt32(record[256 + $1]) << (8 * UInt32($1)) })
        }
        func sum(_ run: Int) -> Int16 {
            Int16(bitPattern: UInt16(record[260 + 2 * run]) | UInt16(record[261 + 2 * run]) << 8)
        }
        unsafe scalar.table.quantize_a256(x, 256, &record)
        #expect((0..<8).map(q) == [127, 0, 2, 0, -2, 126, -127, 3])
        #expect(scale() == 1 && sum(0) == 129 && sum(1) == 0)

        for (value, expected) in [(Float.nan, Float.nan), (-.infinity, .nan), (0.9e-30, 0)] {
            x = [Float](repeating: 0, count: 256)
            x[200] = value
            unsafe scalar.table.quantize_a256(x, 256, &record)
            #expect(same(scale(), expected))
            #expect((0..<256).allSatisfy { q($0) == 0 } && (0..<16).allSatisfy { sum($0) == 0 })
        }
        x[200] = .greatestFiniteMagnitude
        unsafe scalar.table.quantize_a256(x, 256, &record)
        #expect(q(200) == 127 && sum(12) == 127 && scale() == .greatestFiniteMagnitude / 127)
    }
}

extension Float {
    /// The float `steps` (-1, 0 or 1) representable numbers further up.
    fileprivate func advancedUlps(_ steps: Int) -> Float {
        steps < 0 ? nextDown : steps > 0 ? nextUp : self
    }
}
