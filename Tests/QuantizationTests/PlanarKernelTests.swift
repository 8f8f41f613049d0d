// The planar kernels against what planes mean: all of them are the packed weights, a prefix is what it
// decodes to.

import CKernels
import ModelFormats
import Quantization
import Testing

@Suite struct PlanarKernelTests {
    /// Formats that have kernels, and their number in the tables.
    private static let kernels: [BlockFormat: Int] = [
        .q4_0: 3, .q8_0: 4, .q4_K: 6, .q5_K: 7, .q6_K: 8,
    ]
    private static let nested = NestedFormatTests.nested.filter { kernels[$0.format] != nil }
    private static let tables: [String] = {
        var count: UInt32 = 0
        let tables = unsafe sluice_kernels_available(&count)
        return (0..<Int(count)).map { unsafe String(cString: tables![$0]!.pointee.name) }
    }()

    @Test(arguments: tables, nested)
    func allPlanesMultiplyToTheBitsOfThePackedKernel(table: String, nested: NestedFormat) {
        for columns in nested.format.elementsPerBlock == 256 ? [512] : [512, 288] {
            let product = Product(table, nested, rows: 6, columns: columns, tokens: 3)
            let expected = product.packed()
            let got = product.planar(nested.bits.count)
            let same = zip(expected, got).allSatisfy {
                $0.bitPattern == $1.bitPattern || $0.isNaN && $1.isNaN
            }
            #expect(same, "\(columns) columns")
        }
    }

    /// In double precision over the decoded weights and the activations as quantised, a product
    /// differs only by the roundings of a few dozen float operations.
    @Test(arguments: nested)
    func aPrefixMultipliesAsItDecodes(_ nested: NestedFormat) {
        let product = Product("scalar", nested, rows: 3, columns: 512, tokens: 1)
        for prefix in 1...nested.bits.count {
            let got = product.planar(prefix)
            for (row, weights) in product.decoded(prefix).enumerated() {
                var (expected, magnitude) = (0.0, 0.0)
                for (weight, x) in zip(weights, product.activations) {
                    expected += Double(weight) * x
                    magnitude += abs(Double(weight) * x)
                }
                let limit = max(1e-6 * magnitude, 64 * Double(Float.leastNonzeroMagnitude))
                #expect(abs(Double(got[row]) - expected) <= limit, "\(prefix) planes, row \(row)")
            }
        }
    }

    /// A random matrix and its planes, and quantised activations to multiply them with.
    private struct Product {
        let (nested, rows, columns, tokens): (NestedFormat, Int, Int, Int)
        let kernels: String
        let format: Int
        let matrix: [UInt8]
        let parts: [[UInt8]]
        let recordBytes: Int
        var records: [UInt8]

        init(_ table: String, _ nested: NestedFormat, rows: Int, columns: Int, tokens: Int) {
            (self.nested, self.rows, self.columns, self.tokens) = (nested, rows, columns, tokens)
            kernels = table
            format = PlanarKernelTests.kernels[nested.format]!
            var state: UInt64 = 1
            func random() -> UInt8 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return UInt8(truncatingIfNeeded: state >> 33)
            }
            var matrix = (0..<rows * nested.format.byteCount(elements: columns)).map { _ in
                random()
            }
            // Scales of usual size: an exponent of 7 in their upper bytes.
            let halves: [Int] =
                switch nested.format {
                case .q4_K, .q5_K: [1, 3]
                case .q6_K: [209]
                default: [1]
                }
            for block in stride(from: 0, to: matrix.count, by: nested.format.bytesPerBlock) {
                for half in halves { matrix[block + half] = 0x1c | matrix[block + half] & 0x83 }
            }
            self.matrix = matrix
            parts = nested.split(matrix, rows: rows, columns: columns)

            let isA256 = nested.format.elementsPerBlock == 256
            recordBytes = isA256 ? sluice_a256_bytes(columns) : sluice_a32_bytes(columns)
            records = .init(repeating: 0, count: tokens * recordBytes)
            let scalar = unsafe sluice_kernels_named("scalar")!.pointee
            for token in 0..<tokens {
                let x = (0..<columns).map { _ in Float(Int8(bitPattern: random())) / 16 }
                unsafe records.withUnsafeMutableBytes {
                    let record = unsafe $0.baseAddress! + token * recordBytes
                    if isA256 {
                        unsafe scalar.quantize_a256(x, UInt32(columns), record)
                    } else {
                        unsafe scalar.quantize_a32(x, UInt32(columns), record)
                    }
                }
            }
        }

        /// The first token's activations as its record says.
        var activations: [Double] {
            (0..<columns).map { i in
                let at = columns + i / nested.format.elementsPerBlock * 4
                let bits = (0..<4).reduce(0) { $0 | UInt32(records[at + $1]) << (8 * UInt32($1)) }
                return Double(Int8(bitPattern: records[i])) * Double(Float(bitPattern: bits))
            }
        }

        /// The function of the table whose first is `functions`.
        private func kernel<Function>(_ functions: UnsafeRawBufferPointer) -> Function {
            unsafe functions.load(
                fromByteOffset: format * MemoryLayout<Function>.stride, as: Function.self)
        }

        func packed() -> [Float] {
            var y = [Float](repeating: 0, count: rows * tokens)
            let table = unsafe sluice_kernels_named(kernels)!.pointee
            let gemm: sluice_gemm = unsafe withUnsafeBytes(of: table.gemm) { unsafe kernel($0) }
            unsafe gemm(
                matrix, nested.format.byteCount(elements: columns), UInt32(rows), records,
                recordBytes, UInt32(tokens), UInt32(columns), &y, rows)
            return y
        }

        func planar(_ prefix: Int) -> [Float] {
            var y = [Float](repeating: 0, count: rows * tokens)
            let table = unsafe sluice_kernels_named(kernels)!.pointee
            let gemm: sluice_planar_gemm = unsafe withUnsafeBytes(of: table.planar) {
                unsafe kernel($0)
            }
            unsafe withPlanes(prefix) { planes in
                var planes = unsafe planes
                unsafe gemm(
                    &planes, UInt32(rows), records, recordBytes, UInt32(tokens), UInt32(columns),
                    &y, rows)
            }
            return y
        }

        func decoded(_ prefix: Int) -> [[Float]] {
            var values: [[Float]] = []
            unsafe withPlanes(prefix) { planes in
                for row in 0..<rows {
                    var weights = [Float](repeating: 0, count: columns)
                    unsafe NestedFormat.decode(
                        nested.format, planes, row: row, columns: columns, into: &weights)
                    values.append(weights)
                }
            }
            return values
        }

        private func withPlanes(_ prefix: Int, _ body: (sluice_planes) -> Void) {
            let buffers = unsafe parts[..<prefix].map { part in
                let buffer = UnsafeMutableRawBufferPointer.allocate(
                    byteCount: part.count, alignment: 64)
                unsafe buffer.copyBytes(from: part)
                return unsafe buffer
            }
            let starts = unsafe buffers.map { UnsafeRawPointer($0.baseAddress!) }
            unsafe starts.withUnsafeBufferPointer {
                unsafe body(nested.planes($0, rows: rows, columns: columns))
            }
            unsafe buffers.forEach { unsafe $0.deallocate() }
        }
    }
}
