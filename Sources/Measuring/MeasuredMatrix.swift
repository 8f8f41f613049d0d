internal import CKernels
internal import ModelFormats
internal import Quantization

/// Where the bytes of a matrix lie behind its first one. Plane follows plane, as in the parts of a
/// package; those that are not used take no room.
struct MeasuredMatrix {
    let kernel: MeasuredKernel
    let rows: Int
    let columns: Int
    let bytes: Int
    /// From row to row; of planes that of the scales.
    private let rowBytes: Int
    private var planes: [(offset: Int, rowBytes: Int, bits: Int)] = []
    private var missingBits = 0

    init(_ kernel: MeasuredKernel, rows: Int, columns: Int) {
        self.kernel = kernel
        self.rows = rows
        self.columns = columns
        switch kernel {
        case .format(let format):
            rowBytes = format.byteCount(elements: columns)
            bytes = rows * rowBytes
        case .planes(let nested, let used):
            rowBytes = nested.scaleBytes(columns: columns)
            var next = nested.firstPlaneOffset(rows: rows, columns: columns)
            for (plane, bits) in nested.bits.enumerated() {
                guard plane < used else {
                    missingBits += bits
                    continue
                }
                planes.append((next, nested.planeBytes(plane, columns: columns), bits))
                next += rows * nested.planeBytes(plane, columns: columns)
            }
            bytes = next
        case .scores, .mix:
            rowBytes = columns * 2
            bytes = rows * rowBytes
        }
    }

    /// Bytes of weights in a range of rows: what is read to multiply them.
    func bytes(of range: Range<Int>) -> Int {
        range.count * (rowBytes + planes.reduce(0) { $0 + $1.rowBytes })
    }

    /// y[t * rows + r] = row r . x[t] for the rows in `range`, or the same work of attention with
    /// rows as positions.
    func multiply(
        _ table: UnsafePointer<sluice_kernels>, at start: UnsafeRawPointer, rows range: Range<Int>,
        x: UnsafeRawPointer, xStride: Int, tokens: Int, y: UnsafeMutablePointer<Float>
    ) {
        let first = unsafe start + range.lowerBound * rowBytes
        let raw = unsafe UnsafeRawPointer(table)
        switch kernel {
        case .format:
            let gemm = unsafe (raw + MemoryLayout<sluice_kernels>.offset(of: \.gemm)!)
                .assumingMemoryBound(to: sluice_gemm.self)
            unsafe gemm[kernel.tableIndex](
                first, rowBytes, UInt32(range.count), x, xStride, UInt32(tokens), UInt32(columns),
                y + range.lowerBound, rows)
        case .planes:
            let planar = unsafe (raw + MemoryLayout<sluice_kernels>.offset(of: \.planar)!)
                .assumingMemoryBound(to: sluice_planar_gemm?.self)
            var weights = unsafe pointers(at: start, from: range.lowerBound)
            unsafe planar[kernel.tableIndex]!(
                &weights, UInt32(range.count), x, xStride, UInt32(tokens), UInt32(columns),
                y + range.lowerBound, rows)
        case .scores, .mix:
            unsafe attend(table, first, range.count, x, y)
        }
    }

    /// One head's share of attention over `positions` cached positions: (positions, head size). For
    /// `mix` the positions' weights are floats at `x`, too.
    private func attend(
        _ table: UnsafePointer<sluice_kernels>, _ cached: UnsafeRawPointer, _ positions: Int,
        _ x: UnsafeRawPointer, _ y: UnsafeMutablePointer<Float>
    ) {
        let cache =
            unsafe UnsafeRawPointer(table)
            + MemoryLayout<sluice_kernels>.offset(of: \.cache)!
        let f16 =
            unsafe cache.assumingMemoryBound(to: sluice_cache_kernels.self)
            + Int(SLUICE_CACHE_F16)
        let floats = unsafe x.assumingMemoryBound(to: Float.self)
        if kernel == .scores {
            unsafe f16.pointee.scores(
                floats, columns, 1, cached, rowBytes, UInt32(positions), UInt32(columns), 1, y,
                positions)
        } else {
            unsafe y.update(repeating: 0, count: columns)
            unsafe f16.pointee.mix(
                floats, positions, 1, cached, rowBytes, UInt32(positions), UInt32(columns), y,
                columns)
        }
    }

    private func pointers(at start: UnsafeRawPointer, from row: Int) -> sluice_planes {
        let bytes = unsafe start.assumingMemoryBound(to: UInt8.self)
        var weights = unsafe sluice_planes()
        unsafe weights.scales = bytes + row * rowBytes
        unsafe weights.scale_bytes = rowBytes
        unsafe weights.count = UInt8(planes.count)
        unsafe weights.missing_bits = UInt8(missingBits)
        for (index, plane) in planes.enumerated() {
            let place = unsafe bytes + plane.offset + row * plane.rowBytes
            switch index {
            case 0:
                unsafe weights.plane.0 = place
                unsafe (weights.plane_bytes.0, weights.bits.0) = (plane.rowBytes, UInt8(plane.bits))
            case 1:
                unsafe weights.plane.1 = place
                unsafe (weights.plane_bytes.1, weights.bits.1) = (plane.rowBytes, UInt8(plane.bits))
            case 2:
                unsafe weights.plane.2 = place
                unsafe (weights.plane_bytes.2, weights.bits.2) = (plane.rowBytes, UInt8(plane.bits))
            default:
                unsafe weights.plane.3 = place
                unsafe (weights.plane_bytes.3, weights.bits.3) = (plane.rowBytes, UInt8(plane.bits))
            }
        }
        return unsafe weights
    }
}
