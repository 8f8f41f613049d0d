internal import CKernels
internal import ModelFormats
internal import Quantization

/// Which arithmetic multiplies weights with activations.
public enum Arithmetic: String, CaseIterable, Sendable {
    /// Activations quantised to int8 per block, integer dot products straight from the block
    /// formats.
    case int8
    /// Weights decoded to float, float dot products, float key-value cache: the reference, several
    /// times slower.
    case f32
}

/// The form in which a matrix wants its input.
enum ActivationKind: UInt8 {
    case float
    /// int8 in blocks of 32; see CKernels.h.
    case a32
    /// int8 in blocks of 256.
    case a256
}

/// How rows of a format are multiplied under an arithmetic.
struct MatrixPath {
    /// Index into the kernel table; -1 decodes each row to float first.
    let kernel: Int32
    let input: ActivationKind

    /// Decodes each row, then multiplies floats.
    static let decoding = MatrixPath(kernel: -1, input: .float)

    private init(kernel: Int32, input: ActivationKind) {
        self.kernel = kernel
        self.input = input
    }

    init(format: BlockFormat, arithmetic: Arithmetic) {
        (kernel, input) =
            switch (format, arithmetic) {
            case (.f32, _): (Int32(SLUICE_F32), .float)
            case (.f16, _): (Int32(SLUICE_F16), .float)
            case (.bf16, _): (Int32(SLUICE_BF16), .float)
            case (.q4_0, .int8): (Int32(SLUICE_Q4_0), .a32)
            case (.q8_0, .int8): (Int32(SLUICE_Q8_0), .a32)
            case (.mxfp4, .int8): (Int32(SLUICE_MXFP4), .a32)
            case (.q4_K, .int8): (Int32(SLUICE_Q4_K), .a256)
            case (.q5_K, .int8): (Int32(SLUICE_Q5_K), .a256)
            case (.q6_K, .int8): (Int32(SLUICE_Q6_K), .a256)
            case (.iq4_xs, .int8): (Int32(SLUICE_IQ4_XS), .a256)
            default: (-1, .float)
            }
    }
}

/// A weight matrix in memory: (rows, columns), row-major, in its file's block format. Does not own
/// it.
@unsafe struct Matrix {
    var weights: UnsafeRawPointer
    var rows: Int
    var columns: Int
    var rowBytes: Int
    var format: BlockFormat
    var path: MatrixPath
}

/// Rows of activations in every form that the matrices they meet ask for. Does not own its memory.
@unsafe struct Activations {
    /// (tokens, length)
    var floats: UnsafeMutablePointer<Float>
    /// Records `a32Stride` bytes apart; nil where no matrix asks for them.
    var a32: UnsafeMutableRawPointer?
    var a256: UnsafeMutableRawPointer?
    /// Whether the floats have rows of their own, or only the other forms.
    var hasFloats = true
    var length: Int
    var a32Stride: Int
    var a256Stride: Int

    /// Takes rows of another length, at most what there is room for.
    mutating func setLength(_ length: Int) {
        unsafe self.length = length
        unsafe a32Stride = sluice_a32_bytes(length)
        unsafe a256Stride = sluice_a256_bytes(length)
    }

    /// The first of the rows from `token` on, in the form `kind`.
    func row(_ kind: ActivationKind, _ token: Int) -> UnsafeRawPointer {
        switch kind {
        case .float: unsafe UnsafeRawPointer(floats + token * length)
        case .a32: unsafe UnsafeRawPointer(a32! + token * a32Stride)
        case .a256: unsafe UnsafeRawPointer(a256! + token * a256Stride)
        }
    }

    func strideBytes(_ kind: ActivationKind) -> Int {
        switch kind {
        case .float: unsafe length * 4
        case .a32: unsafe a32Stride
        case .a256: unsafe a256Stride
        }
    }

    /// Fills the quantised forms of row `token` from its floats.
    func quantise(_ token: Int, _ kernels: UnsafePointer<sluice_kernels>) {
        let row = unsafe floats + token * length
        if let a32 = unsafe a32 {
            unsafe kernels.pointee.quantize_a32(row, UInt32(length), a32 + token * a32Stride)
        }
        if let a256 = unsafe a256 {
            unsafe kernels.pointee.quantize_a256(row, UInt32(length), a256 + token * a256Stride)
        }
    }
}

extension Matrix {
    /// The rows from `first` on.
    func rows(from first: Int) -> Matrix {
        var part = unsafe self
        unsafe part.weights += first * rowBytes
        unsafe part.rows -= first
        return unsafe part
    }

    /// y[t * yStride + r] = row r . x[t] for the rows in `range` and `tokens` rows of input at `x`.
    ///
    /// `rowBuffer` holds one decoded row (columns floats), for formats without a kernel.
    func multiply(
        _ kernels: Kernels, rows range: Range<Int>, x: UnsafeRawPointer,
        xStride: Int, tokens: Int, y: UnsafeMutablePointer<Float>, yStride: Int,
        rowBuffer: UnsafeMutablePointer<Float>
    ) {
        if range.isEmpty { return }
        let first = unsafe weights + range.lowerBound * rowBytes
        if unsafe path.kernel >= 0 {
            unsafe kernels.gemm[Int(path.kernel)](
                first, rowBytes, UInt32(range.count), x, xStride, UInt32(tokens), UInt32(columns),
                y + range.lowerBound, yStride)
            return
        }
        let dot = unsafe kernels.gemm[Int(SLUICE_F32)]
        for row in range {
            unsafe BlockDecoder.decode(
                format, from: weights + row * rowBytes, elements: columns, into: rowBuffer)
            unsafe dot(
                rowBuffer, 0, 1, x, xStride, UInt32(tokens), UInt32(columns), y + row, yStride)
        }
    }

    /// Rows of a unit of work: about as many as take microseconds to read, and whole tiles of the
    /// kernels.
    var unitRows: Int { unsafe max(16, Matrix.unitBytes / max(1, rowBytes) / 16 * 16) }

    var unitCount: Int { unsafe (rows + unitRows - 1) / unitRows }

    /// The rows of a unit.
    func unitRange(_ unit: Int) -> Range<Int> {
        let first = unsafe unit * unitRows
        return unsafe first..<min(rows, first + unitRows)
    }

    /// Chosen from 16 to 256 KiB: smaller ones are claimed too often, larger ones leave workers
    /// waiting for the last.
    private static let unitBytes = 64 << 10
}
