// Planes: which are cut, what their bytes are, and what a prefix of them means.

import CKernels
import ModelFormats
import Quantization
import Testing

@Suite struct NestedFormatTests {
    static let formats: [BlockFormat] = [
        .q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .q4_K, .q5_K, .q6_K,
    ]
    static let widths = ["2+2", "2+1+1", "4+4", "1+1+2", "2+4", "1+4", "4+1", "4+2", "1"]

    /// Every way that `widths` cut the formats.
    static let nested: [NestedFormat] = formats.flatMap { format in
        widths.compactMap { NestedFormat(format: format, widths: PlaneWidths($0)!) }
    }

    @Test func formatsAreCutAsFarAsTheyHaveBits() {
        func bits(_ format: BlockFormat, _ widths: String) -> [Int]? {
            NestedFormat(format: format, widths: PlaneWidths(widths)!)?.bits
        }
        #expect(bits(.q4_K, "2+2") == [2, 2])
        #expect(bits(.q5_K, "2+2") == [2, 2, 1])
        #expect(bits(.q6_K, "2+2") == [2, 2, 2])
        #expect(bits(.q8_0, "2+2") == [2, 2, 4])
        #expect(bits(.q4_0, "2+1+1") == [2, 1, 1])
        #expect(bits(.q6_K, "2+1+1") == [2, 1, 1, 2])
        #expect(bits(.q8_0, "2+1+1") == [2, 1, 1, 4])
        #expect(bits(.q5_1, "4+4") == [4, 1])
        #expect(bits(.q6_K, "4+4") == [4, 2])
        #expect(bits(.q8_0, "4+4") == [4, 4])
        // Three bits are no plane.
        #expect(bits(.q4_1, "1+4") == [1, 2, 1])
        #expect(bits(.q8_0, "4+1") == [4, 1, 2, 1])
        // One piece, too many pieces, and nothing to cut.
        #expect(bits(.q4_K, "4+4") == nil)
        #expect(bits(.q8_0, "1+1+1") == nil)
        #expect(bits(.mxfp4, "2+2") == nil)
        #expect(bits(.bf16, "4+4") == nil)
    }

    @Test func onlySumsOfOneTwoAndFourAreWidths() {
        #expect(PlaneWidths("2+1+1")?.description == "2+1+1")
        for text in ["", "+", "2+", "3", "2+3", "8", "4+4+1", "1+1+1+1", "-2", " 2", "2 + 2"] {
            #expect(PlaneWidths(text) == nil, "\(text)")
        }
    }

    @Test(arguments: nested)
    func splitPartsMergeToTheSameBytes(_ nested: NestedFormat) {
        for (rows, columns) in shapes(nested.format) {
            let matrix = randomBytes(rows * nested.format.byteCount(elements: columns), seed: rows)
            let parts = nested.split(matrix, rows: rows, columns: columns)
            #expect(
                parts.map(\.count)
                    == nested.bits.indices.map {
                        nested.partBytes($0, rows: rows, columns: columns)
                    })
            #expect(nested.merge(parts, rows: rows, columns: columns) == matrix)
        }
    }

    /// The bytes against the definition in CKernels.h, bit by bit; the integers come from decoding
    /// blocks whose scales are 1.
    @Test(arguments: nested)
    func planesHoldTheBitsThatTheDefinitionSays(_ nested: NestedFormat) {
        for (rows, columns) in shapes(nested.format) {
            let matrix = unitScaled(nested.format, rows: rows, columns: columns)
            let integers = BlockDecoder.decode(nested.format, matrix).map {
                Int($0) + offset(nested.format)
            }
            let parts = nested.split(matrix, rows: rows, columns: columns)
            var below = nested.bits.reduce(0, +)
            for (plane, bits) in nested.bits.enumerated() {
                below -= bits
                let first =
                    plane == 0 ? nested.firstPlaneOffset(rows: rows, columns: columns) : 0
                let (rowBytes, step) = (nested.planeBytes(plane, columns: columns), 32 * bits)
                var expected = [UInt8](repeating: 0, count: rows * rowBytes)
                for row in 0..<rows {
                    for i in 0..<columns {
                        let (unit, within) = (i / 256, i % 256)
                        let field = integers[row * columns + i] >> below & (1 << bits - 1)
                        expected[row * rowBytes + unit * step + within % step] |=
                            UInt8(field << (within / step * bits))
                    }
                }
                #expect(
                    Array(parts[plane][first...]) == expected, "plane \(plane) of \(nested.bits)")
            }
        }
    }

    @Test(arguments: nested)
    func allPlanesDecodeToTheBitsOfTheBlocks(_ nested: NestedFormat) {
        for (rows, columns) in shapes(nested.format) {
            let matrix = randomBytes(rows * nested.format.byteCount(elements: columns), seed: 3)
            let expected = BlockDecoder.decode(nested.format, matrix)
            let parts = nested.split(matrix, rows: rows, columns: columns)
            let decoded = decode(nested, parts, rows: rows, columns: columns)
            let wrong = expected.indices.first { i in
                let (a, b) = (decoded[i], expected[i])
                return a.bitPattern != b.bitPattern && !(a.isNaN && b.isNaN)
            }
            #expect(wrong == nil)
        }
    }

    /// Every weight of a prefix is the mean of the smallest and the largest it can be.
    @Test(arguments: nested)
    func aPrefixDecodesToTheMiddleOfWhatItLeavesOpen(_ nested: NestedFormat) {
        let (rows, columns) = shapes(nested.format)[0]
        var matrix = randomBytes(rows * nested.format.byteCount(elements: columns), seed: 5)
        setHalfScales(of: nested.format, in: &matrix) { _ in 0x2c00 }
        let parts = nested.split(matrix, rows: rows, columns: columns)
        for prefix in 1..<parts.count {
            // All that the planes below can hold: bits clear, bits set.
            let bounds = [UInt8(0), 0xFF].map { fill in
                var filled = parts
                for plane in prefix..<parts.count {
                    filled[plane] = .init(repeating: fill, count: parts[plane].count)
                }
                let whole = nested.merge(filled, rows: rows, columns: columns)
                return BlockDecoder.decode(nested.format, whole)
            }
            let decoded = decode(
                nested, Array(parts[..<prefix]), rows: rows, columns: columns)
            for i in decoded.indices {
                let expected = (Double(bounds[0][i]) + Double(bounds[1][i])) / 2
                let largest = max(abs(bounds[0][i]), abs(bounds[1][i]), 1e-3)
                #expect(abs(Double(decoded[i]) - expected) <= 1e-6 * Double(largest))
            }
        }
    }

    @Test func decodingARowKeepsToItsFloats() {
        for nested in Self.nested {
            let (rows, columns) = shapes(nested.format)[1]
            let matrix = randomBytes(rows * nested.format.byteCount(elements: columns), seed: 7)
            let parts = nested.split(matrix, rows: rows, columns: columns)
            var output = [Float](repeating: -12345.5, count: columns + 2)
            unsafe withPlanes(nested, parts, rows: rows, columns: columns) { planes in
                unsafe output.withUnsafeMutableBufferPointer {
                    unsafe NestedFormat.decode(
                        nested.format, planes, row: rows - 1, columns: columns,
                        into: $0.baseAddress! + 1)
                }
            }
            #expect(output.first == -12345.5 && output.last == -12345.5)
        }
    }

    @Test func errorOfAPrefixIsTheRootMeanSquareOfTheDifferences() {
        for nested in Self.nested {
            let (rows, columns) = shapes(nested.format)[0]
            var matrix = randomBytes(rows * nested.format.byteCount(elements: columns), seed: 9)
            // The first scales are not numbers: their weights do not count.
            setHalfScales(of: nested.format, in: &matrix) { $0 < 2 ? 0x7e00 : 0x2c00 }
            let parts = nested.split(matrix, rows: rows, columns: columns)
            let exact = BlockDecoder.decode(nested.format, matrix)
            for prefix in 1...parts.count {
                let coarse = decode(
                    nested, Array(parts[..<prefix]), rows: rows, columns: columns)
                var (difference, square) = (0.0, 0.0)
                for (a, b) in zip(exact, coarse) where a.isFinite {
                    difference += (Double(a) - Double(b)) * (Double(a) - Double(b))
                    square += Double(a) * Double(a)
                }
                var error = PrefixError()
                #expect(error.relativeRMS == 0)
                unsafe withPointers(parts) {
                    unsafe error.add(nested, $0, prefix: prefix, rows: rows, columns: columns)
                }
                let expected = (difference / square).squareRoot()
                #expect(abs(error.relativeRMS - expected) <= 1e-9 * expected)
                #expect(prefix < parts.count || error.relativeRMS == 0)
                #expect(prefix == parts.count || error.relativeRMS > 0)
            }
        }
    }

    // MARK: Inputs

    /// Rows and columns with whole units, and where blocks allow it, with a padded last one.
    private func shapes(_ format: BlockFormat) -> [(Int, Int)] {
        format.elementsPerBlock == 256
            ? [(3, 512), (1, 256)] : [(3, 512), (2, 32), (5, 288), (1, 448), (1, 192)]
    }

    private func randomBytes(_ count: Int, seed: Int) -> [UInt8] {
        var state = UInt64(seed) &* 0x9e37_79b9_7f4a_7c15 &+ 1
        return (0..<count).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8(truncatingIfNeeded: state >> 33)
        }
    }

    /// Writes the bits that `half` gives for their index to every half-precision scale.
    private func setHalfScales(
        of format: BlockFormat, in matrix: inout [UInt8], _ half: (Int) -> UInt16
    ) {
        let offsets: [Int] =
            switch format {
            case .q4_1, .q5_1, .q4_K, .q5_K: [0, 2]
            case .q6_K: [208]
            default: [0]
            }
        var index = 0
        for block in stride(from: 0, to: matrix.count, by: format.bytesPerBlock) {
            for offset in offsets {
                let bits = half(index)
                matrix[block + offset] = UInt8(truncatingIfNeeded: bits)
                matrix[block + offset + 1] = UInt8(bits >> 8)
                index += 1
            }
        }
    }

    /// Random integers whose values are the integers themselves, less the format's offset.
    private func unitScaled(_ format: BlockFormat, rows: Int, columns: Int) -> [UInt8] {
        var matrix = randomBytes(rows * format.byteCount(elements: columns), seed: 11)
        // Minima, where there are any, come second.
        let hasMinimum = [.q4_1, .q5_1, .q4_K, .q5_K].contains(format)
        setHalfScales(of: format, in: &matrix) { hasMinimum && $0 % 2 == 1 ? 0 : 0x3c00 }
        for block in stride(from: 0, to: matrix.count, by: format.bytesPerBlock) {
            switch format {
            case .q4_K, .q5_K:
                // Scales 0-3 in the low bits of four bytes, 4-7 in the low halves of the last four.
                for i in 0..<12 { matrix[block + 4 + i] = i / 4 == 1 ? 0 : 1 }
            case .q6_K: for i in 192..<208 { matrix[block + i] = 1 }
            default: break
            }
        }
        return matrix
    }

    private func offset(_ format: BlockFormat) -> Int {
        switch format {
        case .q4_0: 8
        case .q5_0: 16
        case .q6_K: 32
        case .q8_0: 128
        default: 0
        }
    }

    // MARK: Decoding

    private func withPointers(_ parts: [[UInt8]], _ body: ([UnsafeRawPointer]) -> Void) {
        let buffers = unsafe parts.map { part in
            let buffer = UnsafeMutableRawBufferPointer.allocate(
                byteCount: part.count, alignment: 64)
            unsafe buffer.copyBytes(from: part)
            return unsafe buffer
        }
        unsafe body(buffers.map { UnsafeRawPointer($0.baseAddress!) })
        unsafe buffers.forEach { unsafe $0.deallocate() }
    }

    private func withPlanes(
        _ nested: NestedFormat, _ parts: [[UInt8]], rows: Int, columns: Int,
        _ body: (sluice_planes) -> Void
    ) {
        unsafe withPointers(parts) { pointers in
            unsafe pointers.withUnsafeBufferPointer {
                unsafe body(nested.planes($0, rows: rows, columns: columns))
            }
        }
    }

    private func decode(
        _ nested: NestedFormat, _ parts: [[UInt8]], rows: Int, columns: Int
    ) -> [Float] {
        var output = [Float](repeating: 0, count: rows * columns)
        unsafe withPlanes(nested, parts, rows: rows, columns: columns) { planes in
            unsafe output.withUnsafeMutableBufferPointer { output in
                for row in 0..<rows {
                    unsafe NestedFormat.decode(
                        nested.format, planes, row: row, columns: columns,
                        into: output.baseAddress! + row * columns)
                }
            }
        }
        return output
    }
}
