// Where measured matrices lie in memory: what is measured must be what the kernels are meant for.

import CKernels
import ModelFormats
import Quantization
import Testing

@testable import Measuring

@Suite struct MeasuredMatrixTests {
    private static let matrices = MeasuredKernel.all.filter(\.multipliesMatrices)

    @Test(arguments: matrices)
    func bytesOfWholeMatricesAreTheirFormats(_ kernel: MeasuredKernel) {
        let bytes = kernel.bytes(rows: 16, columns: 768)
        switch kernel {
        case .format(let format): #expect(bytes == 16 * format.byteCount(elements: 768))
        case .planes(let nested, let used) where used == nested.bits.count:
            #expect(bytes == 16 * nested.format.byteCount(elements: 768))
        case .planes(let nested, let used):
            let left = nested.bits[used...].reduce(0, +)
            #expect(bytes == 16 * (nested.format.byteCount(elements: 768) - 768 * left / 8))
        case .scores, .mix: Issue.record("attention has no matrix")
        }
    }

    @Test func bytesOfQ4KAreThoseWorkedOutByHand() {
        // 2048 elements: 8 blocks of 144 bytes; of the first two bits 16 bytes of scales and 64 of
        // the plane for each block.
        let prefix = PlaneWidths("2+2").flatMap { NestedFormat(format: .q4_K, widths: $0) }!
        #expect(MeasuredKernel.format(.q4_K).bytes(rows: 3, columns: 2048) == 3 * 1152)
        #expect(MeasuredKernel.planes(prefix, used: 1).bytes(rows: 3, columns: 2048) == 3 * 640)
    }

    /// The parts of planes one after the other are a measured matrix: its product has the bits of
    /// the packed matrix's, in whatever ranges of rows it is computed.
    @Test(
        arguments: matrices.compactMap { kernel -> NestedFormat? in
            if case .planes(let nested, let used) = kernel, used == nested.bits.count {
                nested
            } else {
                nil
            }
        })
    func planesLieAsPackagesHaveThem(_ nested: NestedFormat) {
        let kernel = MeasuredKernel.planes(nested, used: nested.bits.count)
        let (rows, columns) = (8, 512)
        var generator = SystemlessGenerator(seed: 3)
        var packed = (0..<rows * nested.format.byteCount(elements: columns)).map { _ in
            UInt8.random(in: 0...255, using: &generator)
        }
        // Scales of ordinary size: no half-precision number of these bits is infinite.
        for index in packed.indices where index % 2 == 1 { packed[index] &= 0x37 }
        let parts = nested.split(packed, rows: rows, columns: columns)
        let matrix = MeasuredMatrix(kernel, rows: rows, columns: columns)
        let planes = parts.flatMap { $0 }
        #expect(planes.count == matrix.bytes)
        let whole = MeasuredMatrix(.format(nested.format), rows: rows, columns: columns)
        let expected = product(whole, packed, ranges: [0..<rows], columns)
        let got = product(matrix, planes, ranges: [0..<3, 3..<rows], columns)
        #expect(expected.map(\.bitPattern) == got.map(\.bitPattern))
        #expect(Set(expected).count > rows, "the weights say nothing")
    }

    private func product(
        _ matrix: MeasuredMatrix, _ bytes: [UInt8], ranges: [Range<Int>], _ columns: Int
    ) -> [Float] {
        let tokens = 2
        let x = (0..<tokens * columns).map { Float($0 * 37 % 101 - 50) / 50 }
        let table = unsafe sluice_kernels_named("scalar")!
        let blocks = matrix.kernel.blockElements
        let stride = blocks == 32 ? sluice_a32_bytes(columns) : sluice_a256_bytes(columns)
        var records = [UInt8](repeating: 0, count: tokens * stride)
        var y = [Float](repeating: .nan, count: tokens * matrix.rows)
        unsafe records.withUnsafeMutableBytes { records in
            unsafe x.withUnsafeBufferPointer { x in
                for token in 0..<tokens {
                    let row = unsafe x.baseAddress! + token * columns
                    let record = unsafe records.baseAddress! + token * stride
                    if blocks == 32 {
                        unsafe table.pointee.quantize_a32(row, UInt32(columns), record)
                    } else {
                        unsafe table.pointee.quantize_a256(row, UInt32(columns), record)
                    }
                }
            }
            unsafe bytes.withUnsafeBytes { weights in
                unsafe y.withUnsafeMutableBufferPointer { y in
                    for range in ranges {
                        unsafe matrix.multiply(
                            table, at: weights.baseAddress!, rows: range,
                            x: UnsafeRawPointer(records.baseAddress!), xStride: stride,
                            tokens: tokens, y: y.baseAddress!)
                    }
                }
            }
        }
        return y
    }
}

/// Knuth's linear congruences: the same numbers on every machine.
struct SystemlessGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state ^ (state >> 29)
    }
}
