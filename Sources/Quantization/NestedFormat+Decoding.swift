// What a prefix of the planes means, in floats.
//
// With r bits missing, an integer is known up to an interval of 2^r values and taken from its middle:
// u 2^r + (2^r - 1) / 2, where u is what the planes given say. All of it is exact in a float, and
// scales are applied as BlockDecoder applies them, so with all planes the values are its values to the
// bit. Integers are put together in the output itself: nothing here allocates, throws or fails.

public import CKernels
public import ModelFormats

extension NestedFormat {
    /// The first `parts.count` planes of a matrix of (rows, columns), for a planar kernel or
    /// `decode`.
    ///
    /// `parts` has at least one pointer and at most as many as there are planes. What they point
    /// at must outlive what is made here, and needs no alignment. Allocates nothing.
    public func planes(
        _ parts: UnsafeBufferPointer<UnsafeRawPointer>, rows: Int, columns: Int
    ) -> sluice_planes {
        precondition(
            parts.count >= 1 && parts.count <= bits.count,
            "\(parts.count) parts of a matrix that has \(bits.count)")
        var planes = unsafe sluice_planes()
        unsafe planes.scales = parts[0].assumingMemoryBound(to: UInt8.self)
        unsafe planes.scale_bytes = scaleBytes(columns: columns)
        unsafe planes.count = UInt8(parts.count)
        var missing = 0
        for plane in bits.indices {
            guard plane < parts.count else {
                missing += bits[plane]
                continue
            }
            let rowsAt = plane == 0 ? firstPlaneOffset(rows: rows, columns: columns) : 0
            let start = unsafe (parts[plane] + rowsAt).assumingMemoryBound(to: UInt8.self)
            let bytes = planeBytes(plane, columns: columns)
            let width = UInt8(bits[plane])
            switch plane {
            case 0:
                unsafe (planes.plane.0, planes.plane_bytes.0, planes.bits.0) = (start, bytes, width)
            case 1:
                unsafe (planes.plane.1, planes.plane_bytes.1, planes.bits.1) = (start, bytes, width)
            case 2:
                unsafe (planes.plane.2, planes.plane_bytes.2, planes.bits.2) = (start, bytes, width)
            default:
                unsafe (planes.plane.3, planes.plane_bytes.3, planes.bits.3) = (start, bytes, width)
            }
        }
        unsafe planes.missing_bits = UInt8(missing)
        return unsafe planes
    }

    /// Decodes row `row` of the planes of a matrix in `format` to `columns` floats.
    ///
    /// `planes` are a prefix as `planes(_:rows:columns:)` makes it of a format that has planes;
    /// `columns` is a multiple of the format's block.
    public static func decode(
        _ format: BlockFormat, _ planes: sluice_planes, row: Int, columns: Int,
        into output: UnsafeMutablePointer<Float>
    ) {
        let (plane, bytes, bits) = unsafe (planes.plane, planes.plane_bytes, planes.bits)
        unsafe readIntegers(plane.0! + row &* bytes.0, bits.0, columns, into: output)
        if unsafe planes.count > 1 {
            unsafe appendBits(plane.1! + row &* bytes.1, bits.1, columns, to: output)
        }
        if unsafe planes.count > 2 {
            unsafe appendBits(plane.2! + row &* bytes.2, bits.2, columns, to: output)
        }
        if unsafe planes.count > 3 {
            unsafe appendBits(plane.3! + row &* bytes.3, bits.3, columns, to: output)
        }

        let step = unsafe Float(1 << Int(planes.missing_bits))
        let middle = (step - 1) / 2
        let scales = unsafe planes.scales + row &* planes.scale_bytes
        switch format {
        case .q4_0: unsafe scaleBlocks(output, columns, scales, step, middle - 8)
        case .q5_0: unsafe scaleBlocks(output, columns, scales, step, middle - 16)
        case .q8_0: unsafe scaleBlocks(output, columns, scales, step, middle - 128)
        case .q4_1, .q5_1: unsafe scaleBlocksAndAdd(output, columns, scales, step, middle)
        case .q4_K, .q5_K: unsafe scaleSubBlocks(output, columns, scales, step, middle)
        case .q6_K: unsafe scaleRunsOf16(output, columns, scales, step, middle - 32)
        default: preconditionFailure("\(format.name) has no planes")
        }
    }
}

/// The integers of a row of the first plane, which has `bits` bits of each.
private func readIntegers(
    _ row: UnsafePointer<UInt8>, _ bits: UInt8, _ columns: Int,
    into output: UnsafeMutablePointer<Float>
) {
    unsafe forEachRun(row, bits, columns, output) { bytes, shift, mask, out, count in
        for i in 0..<count { unsafe out[i] = Float((bytes[i] &>> shift) & mask) }
    }
}

/// The same for a plane below: the integers so far move up to make room for its bits.
private func appendBits(
    _ row: UnsafePointer<UInt8>, _ bits: UInt8, _ columns: Int,
    to output: UnsafeMutablePointer<Float>
) {
    let factor = Float(1 << Int(bits))
    unsafe forEachRun(row, bits, columns, output) { bytes, shift, mask, out, count in
        for i in 0..<count {
            unsafe out[i] = out[i] * factor + Float((bytes[i] &>> shift) & mask)
        }
    }
}

/// Calls `body` with each run of consecutive elements whose bits lie in consecutive bytes.
@inline(__always)
private func forEachRun(
    _ row: UnsafePointer<UInt8>, _ bits: UInt8, _ columns: Int,
    _ output: UnsafeMutablePointer<Float>,
    _ body: (
        _ bytes: UnsafePointer<UInt8>, _ shift: UInt8, _ mask: UInt8,
        _ out: UnsafeMutablePointer<Float>, _ count: Int
    ) -> Void
) {
    let width = Int(bits)
    let stride = 32 &* width
    let mask = UInt8(truncatingIfNeeded: 1 << width &- 1)
    for unit in 0..<(columns &+ 255) / 256 {
        let bytes = unsafe row + unit &* stride
        for j in 0..<8 / width {
            let first = unit &* 256 &+ j &* stride
            // The last unit may end within a run, or before it.
            let count = max(0, min(stride, columns &- first))
            let shift = UInt8(truncatingIfNeeded: j &* width)
            unsafe body(bytes, shift, mask, output + first, count)
        }
    }
}

// Each turns integers u in `out` into values, the integer being u step + offset.

// Q4_0, Q5_0, Q8_0 | half d |
private func scaleBlocks(
    _ out: UnsafeMutablePointer<Float>, _ columns: Int, _ scales: UnsafePointer<UInt8>,
    _ step: Float, _ offset: Float
) {
    for b in 0..<columns / 32 {
        let d = unsafe half(scales + 2 &* b)
        for i in 32 &* b..<32 &* b &+ 32 { unsafe out[i] = d * (out[i] * step + offset) }
    }
}

// Q4_1, Q5_1 | half d | half m |
private func scaleBlocksAndAdd(
    _ out: UnsafeMutablePointer<Float>, _ columns: Int, _ scales: UnsafePointer<UInt8>,
    _ step: Float, _ offset: Float
) {
    for b in 0..<columns / 32 {
        let d = unsafe half(scales + 4 &* b)
        let m = unsafe half(scales + (4 &* b &+ 2))
        for i in 32 &* b..<32 &* b &+ 32 { unsafe out[i] = d * (out[i] * step + offset) + m }
    }
}

// Q4_K, Q5_K | half d | half dmin | 12 scales and minima |
private func scaleSubBlocks(
    _ out: UnsafeMutablePointer<Float>, _ columns: Int, _ scales: UnsafePointer<UInt8>,
    _ step: Float, _ offset: Float
) {
    for b in 0..<columns / 256 {
        let head = unsafe scales + 16 &* b
        let d = unsafe half(head)
        let dmin = unsafe half(head + 2)
        for j in 0..<8 {
            let packed = unsafe scaleAndMinimum(head + 4, j)
            let scale = d * Float(packed.scale)
            let minimum = dmin * Float(packed.minimum)
            let first = 256 &* b &+ 32 &* j
            for i in first..<first &+ 32 {
                unsafe out[i] = scale * (out[i] * step + offset) - minimum
            }
        }
    }
}

// Q6_K | int8 scales, 16 | half d |
private func scaleRunsOf16(
    _ out: UnsafeMutablePointer<Float>, _ columns: Int, _ scales: UnsafePointer<UInt8>,
    _ step: Float, _ offset: Float
) {
    for b in 0..<columns / 256 {
        let head = unsafe scales + 18 &* b
        let d = unsafe half(head + 16)
        for j in 0..<16 {
            let scale = unsafe d * Float(Int8(bitPattern: head[j]))
            let first = 256 &* b &+ 16 &* j
            for i in first..<first &+ 16 { unsafe out[i] = scale * (out[i] * step + offset) }
        }
    }
}
