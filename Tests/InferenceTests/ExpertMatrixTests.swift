import CKernels
import ModelFormats
import Quantization
import Testing

@testable import Inference

@Suite struct ExpertMatrixTests {
    /// Every format that has planes, cut in every way that leaves more than one.
    static let nestings = [BlockFormat.q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .q4_K, .q5_K, .q6_K]
        .flatMap { format in
            ["2+2", "2+1+1", "4+4", "1+1+2"].compactMap {
                NestedFormat(format: format, widths: PlaneWidths($0)!)
            }
        }
    private static let rows = 11
    private static let columns = 512

    /// A matrix of random bytes whose scales are finite and not tiny.
    private static func matrix(_ format: BlockFormat) -> [UInt8] {
        var random = RepeatableRandom(seed: 7)
        var bytes = (0..<format.byteCount(elements: columns) * rows).map { _ in
            UInt8(truncatingIfNeeded: random.next())
        }
        let (block, halves): (Int, [Int]) =
            switch format {
            case .q4_0, .q5_0, .q8_0: (format.byteCount(elements: 32), [0])
            case .q4_1, .q5_1: (format.byteCount(elements: 32), [0, 2])
            case .q6_K: (format.byteCount(elements: 256), [208])
            default: (format.byteCount(elements: 256), [0, 2])
            }
        for start in stride(from: 0, to: bytes.count, by: block) {
            for half in halves { bytes[start + half + 1] = bytes[start + half + 1] & 0x83 | 0x28 }
        }
        return bytes
    }

    private static func part(
        _ format: BlockFormat, _ nested: NestedFormat?
    ) -> ExpertPart {
        ExpertPart(
            format: format, rows: rows, columns: columns, tensors: [], nested: nested)
    }

    /// y for every row, computed in two unequal shares, of `tokens` inputs.
    private static func product(
        _ expert: ExpertMatrix, _ kernels: Kernels, tokens: Int
    ) -> [UInt32] {
        var floats = (0..<tokens * columns).map { Float(($0 * 37) % 101 - 50) / 17 }
        var a32 = [UInt32](repeating: 0, count: tokens * sluice_a32_bytes(columns) / 4)
        var a256 = [UInt32](repeating: 0, count: tokens * sluice_a256_bytes(columns) / 4)
        var y = [Float](repeating: .nan, count: tokens * rows)
        var rowBuffer = [Float](repeating: 0, count: columns)
        return unsafe floats.withUnsafeMutableBufferPointer { floats in
            unsafe a32.withUnsafeMutableBytes { a32 in
                unsafe a256.withUnsafeMutableBytes { a256 in
                    let x = unsafe Activations(
                        floats: floats.baseAddress!, a32: a32.baseAddress!,
                        a256: a256.baseAddress!, length: columns,
                        a32Stride: sluice_a32_bytes(columns),
                        a256Stride: sluice_a256_bytes(columns))
                    for token in 0..<tokens { unsafe x.quantise(token, kernels.table) }
                    let kind = unsafe expert.matrix.path.input
                    for range in [0..<3, 3..<rows] {
                        unsafe expert.multiply(
                            kernels, rows: range, x: x.row(kind, 0), xStride: x.strideBytes(kind),
                            tokens: tokens, y: &y, yStride: rows, rowBuffer: &rowBuffer)
                    }
                    return y.map(\.bitPattern)
                }
            }
        }
    }

    /// Calls `body` with the expert's matrix in one piece, and with its first `count` planes, whose
    /// addresses are odd.
    private static func withMatrices(
        _ nested: NestedFormat, _ arithmetic: Arithmetic, _ kernels: Kernels, planes count: Int,
        _ body: (_ whole: ExpertMatrix, _ cut: ExpertMatrix) -> Void
    ) {
        let bytes = matrix(nested.format)
        let parts = nested.split(bytes, rows: rows, columns: columns)
        var places: [Int] = []
        var all: [UInt8] = []
        for part in [bytes] + parts.prefix(count) {
            all += [UInt8](repeating: 0xA5, count: 63 - all.count % 64 + 2)
            places.append(all.count)
            all += part
        }
        unsafe all.withUnsafeBytes { raw in
            let base = raw.baseAddress!
            var whole = unsafe ExpertMatrix(
                part(nested.format, nil), arithmetic, kernels, unplaced: base)
            unsafe whole.use(planes: 4)
            #expect(unsafe whole.usedPlanes.count == 1)
            unsafe whole.place(plane: 0, at: base + places[0])
            var cut = unsafe ExpertMatrix(
                part(nested.format, nested), arithmetic, kernels, unplaced: base)
            unsafe cut.use(planes: count)
            #expect(unsafe cut.usedPlanes.count == count)
            for plane in 0..<count { unsafe cut.place(plane: plane, at: base + places[plane + 1]) }
            unsafe body(whole, cut)
        }
    }

    @Test(arguments: nestings)
    func allPlanesMultiplyLikeTheMatrixInOnePiece(nested: NestedFormat) throws {
        for set in InstructionSet.available {
            let table = unsafe sluice_kernels_named(set)!
            let kernels = unsafe Kernels(table)
            for arithmetic in Arithmetic.allCases {
                unsafe Self.withMatrices(
                    nested, arithmetic, kernels, planes: nested.bits.count
                ) { whole, cut in
                    // Without a kernel for planes rows are decoded, as f32 does with both.
                    let sameWay = unsafe whole.matrix.path.kernel == cut.matrix.path.kernel
                    for tokens in [1, 3] where sameWay {
                        let found = unsafe Self.product(cut, kernels, tokens: tokens)
                        let expected = unsafe Self.product(whole, kernels, tokens: tokens)
                        #expect(found == expected, "\(set), \(arithmetic), \(tokens) tokens")
                    }
                    if arithmetic == .f32 { #expect(sameWay) }
                }
            }
        }
    }

    /// Against sums in double precision over the values that the prefix stands for.
    @Test(arguments: nestings)
    func aPrefixMultipliesItsOwnValues(nested: NestedFormat) throws {
        let parts = nested.split(Self.matrix(nested.format), rows: Self.rows, columns: Self.columns)
        let table = unsafe sluice_kernels_named("")!
        let kernels = unsafe Kernels(table)
        for count in 1..<nested.bits.count {
            // The values from planes laid out anew, by the way that QuantizationTests checks.
            var values = [Float](repeating: 0, count: Self.rows * Self.columns)
            unsafe Self.withAddresses(Array(parts.prefix(count))) { addresses in
                let planes = unsafe nested.planes(
                    addresses, rows: Self.rows, columns: Self.columns)
                for row in 0..<Self.rows {
                    unsafe values.withUnsafeMutableBufferPointer {
                        unsafe NestedFormat.decode(
                            nested.format, planes, row: row, columns: Self.columns,
                            into: $0.baseAddress! + row * Self.columns)
                    }
                }
            }
            unsafe Self.withMatrices(nested, .f32, kernels, planes: count) { _, cut in
                let found = unsafe Self.product(cut, kernels, tokens: 2).map(
                    Float.init(bitPattern:))
                for token in 0..<2 {
                    for row in 0..<Self.rows {
                        var sum = 0.0
                        var size = 0.0
                        for column in 0..<Self.columns {
                            let x = Float(((token * Self.columns + column) * 37) % 101 - 50) / 17
                            let term = Double(values[row * Self.columns + column]) * Double(x)
                            sum += term
                            size += abs(term)
                        }
                        let y = Double(found[token * Self.rows + row])
                        #expect(abs(y - sum) <= 1e-5 * size, "row \(row), \(count) planes")
                    }
                }
            }
        }
    }

    /// A layer's matrices may have different numbers of planes; asked for more, one gives all it has.
    @Test func noMorePlanesAreUsedThanTheFormatHas() throws {
        let nested = try #require(
            NestedFormat(format: .q4_K, widths: PlaneWidths("2+2")!))
        let table = unsafe sluice_kernels_named("")!
        unsafe Self.withMatrices(nested, .f32, Kernels(table), planes: 2) { _, cut in
            var cut = unsafe cut
            unsafe cut.use(planes: 3)
            #expect(unsafe cut.usedPlanes.count == 2)
            #expect(unsafe cut.planes.missing_bits == 0)
            unsafe cut.use(planes: 1)
            #expect(unsafe cut.usedPlanes.count == 1)
            #expect(unsafe cut.planes.missing_bits == 2)
        }
    }

    private static func withAddresses(
        _ parts: [[UInt8]], _ body: (UnsafeBufferPointer<UnsafeRawPointer>) -> Void
    ) {
        let joined = parts.flatMap { $0 }
        unsafe joined.withUnsafeBytes { raw in
            var addresses: [UnsafeRawPointer] = unsafe []
            var place = 0
            for part in parts {
                unsafe addresses.append(raw.baseAddress! + place)
                place += part.count
            }
            unsafe addresses.withUnsafeBufferPointer { unsafe body($0) }
        }
    }
}

/// The same numbers on every run.
private struct RepeatableRandom {
    var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state >> 33
    }
}
