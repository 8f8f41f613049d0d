import CKernels

/// A table of kernels.
@safe
struct Kernels {
    /// The functions themselves, which take pointers.
    let table: sluice_kernels

    /// The table named `name`, which must be one that this machine runs.
    init(_ name: String) {
        guard let found = unsafe sluice_kernels_named(name) else { fatalError("no table \(name)") }
        unsafe table = found.pointee
    }

    /// The names of the tables that this machine runs, best first.
    static let names: [String] = {
        var count: UInt32 = 0
        let tables = unsafe sluice_kernels_available(&count)
        return (0..<Int(count)).map { unsafe String(cString: tables![$0]!.pointee.name) }
    }()

    /// Those without the scalar one, which defines them.
    static let vectorNames = names.filter { $0 != "scalar" }

    /// y[token * yStride + row] from `rows` rows of `weights` and `tokens` records, all of them
    /// contiguous.
    func gemm(
        _ format: WeightFormat, _ weights: Region<UInt8>, rows: Int, _ records: Region<UInt8>,
        tokens: Int, n: Int, into y: Region<Float>, stride yStride: Int
    ) {
        unsafe withUnsafeBytes(of: table.gemm) { functions in
            let gemm = unsafe functions.load(
                fromByteOffset: format.rawValue * MemoryLayout<sluice_gemm>.stride,
                as: sluice_gemm.self)
            unsafe gemm(
                weights.start, format.rowBytes(n), UInt32(rows), records.start,
                format.recordBytes(n),
                UInt32(tokens), UInt32(n), y.start, yStride)
        }
    }

    /// As `gemm`, for planes.
    func planar(
        _ format: WeightFormat, _ planes: Planes, rows: Int, _ records: Region<UInt8>,
        tokens: Int, n: Int, into y: Region<Float>, stride yStride: Int
    ) {
        unsafe withUnsafeBytes(of: table.planar) { functions in
            let planar = unsafe functions.load(
                fromByteOffset: format.rawValue * MemoryLayout<sluice_planar_gemm>.stride,
                as: sluice_planar_gemm.self)
            var planes = unsafe planes.planes
            unsafe planar(
                &planes, UInt32(rows), records.start, format.recordBytes(n), UInt32(tokens),
                UInt32(n), y.start, yStride)
        }
    }

    /// Turns activations into the record that `gemm` takes.
    func quantize(_ x: Region<Float>, _ format: WeightFormat, into record: Region<UInt8>) {
        switch format.elementsPerBlock {
        case 1:
            unsafe UnsafeMutableRawPointer(record.start).copyMemory(
                from: x.start, byteCount: x.count * 4)
        case 32: unsafe table.quantize_a32(x.start, UInt32(x.count), record.start)
        default: unsafe table.quantize_a256(x.start, UInt32(x.count), record.start)
        }
    }
}

/// A weight format that has kernels, with the geometry of its blocks.
enum WeightFormat: Int, CaseIterable {
    case f32, f16, bf16, q4_0, q8_0, mxfp4, q4_K, q5_K, q6_K, iq4_xs

    var elementsPerBlock: Int { rawValue < 3 ? 1 : rawValue < 6 ? 32 : 256 }

    var bytesPerBlock: Int { [4, 2, 2, 18, 34, 17, 144, 176, 210, 136][rawValue] }

    /// Where in a block its half-precision scales are.
    var halfScales: [Int] {
        switch self {
        case .f32, .f16, .bf16, .mxfp4: []
        case .q4_0, .q8_0, .iq4_xs: [0]
        case .q4_K, .q5_K: [0, 2]
        case .q6_K: [208]
        }
    }

    func rowBytes(_ n: Int) -> Int { n / elementsPerBlock * bytesPerBlock }

    /// Bytes of an activation record of `n` elements.
    func recordBytes(_ n: Int) -> Int {
        switch elementsPerBlock {
        case 1: n * 4
        case 32: sluice_a32_bytes(n)
        default: sluice_a256_bytes(n)
        }
    }
}

/// A small seeded generator, the same on every machine.
struct Seeded: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: Int) { state = UInt64(bitPattern: Int64(seed)) &* 0x9e37_79b9_7f4a_7c15 &+ 1 }

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state &* 0x2545_f491_4f6c_dd1d
    }

    /// In [-1, 1).
    mutating func unit() -> Float {
        Float(Int32(truncatingIfNeeded: next() >> 40) - (1 << 23)) / Float(1 << 23)
    }
}

/// Whether two results are the same bits, or both NaN.
func same(_ a: Float, _ b: Float) -> Bool { a.bitPattern == b.bitPattern || (a.isNaN && b.isNaN) }

/// The first place where two results differ, in words; nil when they agree.
func difference(_ got: Region<Float>, _ expected: Region<Float>) -> String? {
    for i in 0..<expected.count where !same(got[i], expected[i]) {
        return "value \(i) is \(got[i]), the scalar table has \(expected[i])"
    }
    return nil
}
