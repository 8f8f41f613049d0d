import CKernels
import Testing

/// Planes of random bytes, each ending at a guard page.
@safe
struct Planes {
    private(set) var planes: sluice_planes
    private let buffers: [GuardedBuffer]

    init(_ format: WeightFormat, bits: [Int], rows: Int, n: Int, _ random: inout Seeded) {
        let total = format.planarBits!
        let units = (n + 255) / 256
        unsafe planes = sluice_planes()
        unsafe planes.count = UInt8(bits.count)
        unsafe planes.missing_bits = UInt8(total - bits.reduce(0, +))
        // What blocks have besides their integers.
        let scaleBytes = format.rowBytes(n) - n * total / 8
        unsafe planes.scale_bytes = scaleBytes
        var buffers: [GuardedBuffer] = []
        let starts = unsafe ([scaleBytes] + bits.map { units * 32 * $0 }).map { rowBytes in
            let buffer = GuardedBuffer(capacity: rows * rowBytes)
            buffers.append(buffer)
            let region = buffer.last(rows * rowBytes, of: UInt8.self)
            for i in 0..<region.count {
                region[i] = UInt8(truncatingIfNeeded: random.next() >> 32)
            }
            return unsafe UnsafePointer(region.start)
        }
        unsafe planes.scales = starts[0]
        for (plane, width) in bits.enumerated() {
            let (start, bytes) = unsafe (starts[plane + 1], units * 32 * width)
            unsafe withUnsafeMutableBytes(of: &planes.plane) {
                unsafe $0.storeBytes(of: start, toByteOffset: plane * 8, as: type(of: start))
            }
            unsafe withUnsafeMutableBytes(of: &planes.plane_bytes) {
                unsafe $0.storeBytes(of: bytes, toByteOffset: plane * 8, as: Int.self)
            }
            unsafe withUnsafeMutableBytes(of: &planes.bits) {
                unsafe $0.storeBytes(of: UInt8(width), toByteOffset: plane, as: UInt8.self)
            }
        }
        self.buffers = buffers
    }
}

extension WeightFormat {
    /// Bits of the integers that planes are made of; nil where there are none.
    var planarBits: Int? {
        switch self {
        case .q4_0, .q4_K: 4
        case .q5_K: 5
        case .q6_K: 6
        case .q8_0: 8
        case .f32, .f16, .bf16, .mxfp4, .iq4_xs: nil
        }
    }
}

/// Every table gives the bits of the scalar one for every prefix of every cut. That the scalar
/// kernels do what planes mean is shown with NestedFormat, which cuts and decodes.
@Suite struct PlanarTests {
    static let formats = WeightFormat.allCases.filter { $0.planarBits != nil }
    static let tablesAndFormats = Kernels.vectorNames.flatMap { table in
        formats.map { (table, $0) }
    }

    /// All planes of one, two and four bits, at most four of them, that fit `total` bits.
    static func prefixes(_ total: Int, _ above: [Int] = []) -> [[Int]] {
        guard above.count < 4 else { return [] }
        return [1, 2, 4].filter { $0 <= total }.flatMap { width in
            [above + [width]] + prefixes(total - width, above + [width])
        }
    }

    @Test func formatsWithPlanesHaveAKernelInEveryTable() {
        for name in Kernels.names {
            unsafe withUnsafeBytes(of: Kernels(name).table.planar) { functions in
                for format in WeightFormat.allCases {
                    let function = unsafe functions.load(
                        fromByteOffset: format.rawValue * 8, as: Int.self)
                    #expect((function != 0) == (format.planarBits != nil), "\(name) \(format)")
                }
            }
        }
    }

    @Test(arguments: tablesAndFormats)
    func agreesWithScalarForEveryPrefix(table: String, format: WeightFormat) {
        for bits in Self.prefixes(format.planarBits!) {
            let n = format.elementsPerBlock == 256 ? 512 : 352
            for (rows, tokens) in [(1, 1), (5, 1), (37, 1), (3, 7), (33, 5)] {
                #expect(difference(table, format, bits, n: n, rows: rows, tokens: tokens) == nil)
            }
        }
    }

    @Test(arguments: tablesAndFormats)
    func agreesWithScalarForEveryLengthAndNumberOfTokens(table: String, format: WeightFormat) {
        for blocks in [1, 2, 3, 7, 8, 9, 15, 16, 17] {
            let n = blocks * format.elementsPerBlock
            for bits in [[2], [4], [2, 2], [1, 1, 2]] {
                #expect(
                    difference(table, format, bits, n: n, rows: 1 + blocks % 5, tokens: 1) == nil)
            }
        }
        for tokens in 1...9 {
            #expect(
                difference(
                    table, format, [2, 1], n: format.elementsPerBlock * 3, rows: 6, tokens: tokens)
                    == nil)
        }
    }

    /// nil, or where a table differs from the scalar one.
    private func difference(
        _ table: String, _ format: WeightFormat, _ bits: [Int], n: Int, rows: Int, tokens: Int
    ) -> String? {
        var random = Seeded(n * 1000 + rows * 100 + tokens)
        let planes = Planes(format, bits: bits, rows: rows, n: n, &random)
        let scalar = Kernels("scalar")
        let recordBytes = format.recordBytes(n)
        let stride = rows + 3
        let size = 16 + (tokens - 1) * stride + rows
        let buffers = [tokens * recordBytes, n * 4, size * 4, size * 4].map {
            GuardedBuffer(capacity: $0)
        }
        let x = buffers[0].last(tokens * recordBytes, of: UInt8.self)
        for token in 0..<tokens {
            let activations = buffers[1].last(n, of: Float.self)
            fillActivations(activations, token % 2 == 0 ? .usual : .mixed, &random)
            scalar.quantize(activations, format, into: x.dropFirst(token * recordBytes))
        }
        let expected = buffers[2].last(size, of: Float.self)
        let got = buffers[3].last(size, of: Float.self)
        for (kernels, y) in [(scalar, expected), (Kernels(table), got)] {
            y.fill(with: 12345)
            kernels.planar(
                format, planes, rows: rows, x, tokens: tokens, n: n, into: y.dropFirst(16),
                stride: stride)
        }
        let found = CKernelsTests.difference(got, expected)
        for i in 0..<size where i < 16 || (i - 16) % stride >= rows {
            if got[i] != 12345 { return "wrote over value \(i - 16)" }
        }
        withExtendedLifetime((buffers, planes)) {}
        return found.map { "planes of \(bits) bits, n \(n), \(rows) rows, \(tokens) tokens: \($0)" }
    }
}
