internal import CKernels
internal import ModelFormats
internal import Quantization

/// One of an expert's three matrices: in one piece as its file has it, cut into planes of which some
/// are in memory, or with a coarser version in another format beside it.
///
/// Made once per layer with shape and format; a copy gets the addresses when its expert is leased.
@unsafe struct ExpertMatrix {
    /// Shape, format and arithmetic; `weights` is used only where the matrix is in one piece.
    var matrix: Matrix
    /// The planes in use. Pointers are to row 0.
    private(set) var planes = unsafe sluice_planes()
    /// Planes the format is cut into; 0 where the matrix is in one piece.
    private let planeCount: Int
    /// Where plane 0 begins in its part, behind the scales.
    private let firstPlaneOffset: Int
    /// The matrix whole and in its coarser version, where planes are two versions.
    private var versions: (low: Matrix, whole: Matrix)?
    /// Planes that `place` must be given the addresses of.
    private(set) var usedPlanes = 0..<1

    /// - Parameter unplaced: Any address, which no one reads before `place`.
    init(
        _ part: ExpertPart, _ arithmetic: Arithmetic, _ kernels: Kernels,
        unplaced: UnsafeRawPointer
    ) {
        var path = MatrixPath(format: part.format, arithmetic: arithmetic)
        if let nested = part.nested {
            unsafe planeCount = nested.bits.count
            unsafe firstPlaneOffset = nested.firstPlaneOffset(
                rows: part.rows, columns: part.columns)
            if unsafe path.kernel >= 0 && kernels.planar[Int(path.kernel)] == nil {
                path = .decoding
            }
            unsafe planes.scale_bytes = nested.scaleBytes(columns: part.columns)
            for (plane, bits) in nested.bits.enumerated() {
                let bytes = nested.planeBytes(plane, columns: part.columns)
                switch plane {
                case 0: unsafe (planes.bits.0, planes.plane_bytes.0) = (UInt8(bits), bytes)
                case 1: unsafe (planes.bits.1, planes.plane_bytes.1) = (UInt8(bits), bytes)
                case 2: unsafe (planes.bits.2, planes.plane_bytes.2) = (UInt8(bits), bytes)
                default: unsafe (planes.bits.3, planes.plane_bytes.3) = (UInt8(bits), bytes)
                }
            }
        } else {
            unsafe planeCount = 0
            unsafe firstPlaneOffset = 0
        }
        unsafe matrix = Matrix(
            weights: unplaced, rows: part.rows, columns: part.columns,
            rowBytes: part.format.byteCount(elements: part.columns), format: part.format, path: path
        )
        unsafe versions = nil
        if let low = part.lowFormat {
            let coarse = unsafe Matrix(
                weights: unplaced, rows: part.rows, columns: part.columns,
                rowBytes: low.byteCount(elements: part.columns), format: low,
                path: MatrixPath(format: low, arithmetic: arithmetic))
            unsafe versions = (coarse, matrix)
        }
    }

    /// Takes the first `count` planes, or as many as the format has. The experts of a layer have as
    /// many planes as their widest matrix.
    mutating func use(planes count: Int) {
        if let versions = unsafe versions {
            unsafe matrix = count == 1 ? versions.low : versions.whole
            unsafe usedPlanes = (count - 1)..<count
            return
        }
        guard unsafe planeCount > 0 else { return }
        let bits = unsafe planes.bits
        let used = unsafe min(count, planeCount)
        unsafe planes.count = UInt8(used)
        unsafe usedPlanes = 0..<used
        unsafe planes.missing_bits =
            (used < 2 ? bits.1 : 0) + (used < 3 ? bits.2 : 0) + (used < 4 ? bits.3 : 0)
    }

    /// Says where the part of a plane lies.
    mutating func place(plane: Int, at address: UnsafeRawPointer) {
        guard unsafe planeCount > 0 else {
            unsafe matrix.weights = address
            return
        }
        let start = unsafe address.assumingMemoryBound(to: UInt8.self)
        switch plane {
        case 0:
            unsafe planes.scales = start
            unsafe planes.plane.0 = start + firstPlaneOffset
        case 1: unsafe planes.plane.1 = start
        case 2: unsafe planes.plane.2 = start
        default: unsafe planes.plane.3 = start
        }
    }

    /// As `Matrix.multiply`, with the planes in use.
    func multiply(
        _ kernels: Kernels, rows range: Range<Int>, x: UnsafeRawPointer, xStride: Int, tokens: Int,
        y: UnsafeMutablePointer<Float>, yStride: Int, rowBuffer: UnsafeMutablePointer<Float>
    ) {
        if range.isEmpty { return }
        guard unsafe planeCount > 0 else {
            unsafe matrix.multiply(
                kernels, rows: range, x: x, xStride: xStride, tokens: tokens, y: y,
                yStride: yStride, rowBuffer: rowBuffer)
            return
        }
        let kernel = unsafe Int(matrix.path.kernel)
        if kernel >= 0, let planar = unsafe kernels.planar[kernel] {
            var rows = unsafe planes(from: range.lowerBound)
            unsafe planar(
                &rows, UInt32(range.count), x, xStride, UInt32(tokens), UInt32(matrix.columns),
                y + range.lowerBound, yStride)
            return
        }
        let dot = unsafe kernels.gemm[Int(SLUICE_F32)]
        for row in range {
            unsafe NestedFormat.decode(
                matrix.format, planes, row: row, columns: matrix.columns, into: rowBuffer)
            unsafe dot(
                rowBuffer, 0, 1, x, xStride, UInt32(tokens), UInt32(matrix.columns), y + row,
                yStride)
        }
    }

    /// The planes in use from row `row` on.
    private func planes(from row: Int) -> sluice_planes {
        var moved = unsafe planes
        let (plane, bytes) = unsafe (planes.plane, planes.plane_bytes)
        unsafe moved.scales += row * planes.scale_bytes
        unsafe moved.plane = unsafe (
            plane.0.map { unsafe $0 + row * bytes.0 }, plane.1.map { unsafe $0 + row * bytes.1 },
            plane.2.map { unsafe $0 + row * bytes.2 }, plane.3.map { unsafe $0 + row * bytes.3 }
        )
        return unsafe moved
    }
}
