// From blocks to planes and back.
//
// Both sides store bits in one manner: byte i of a run of `stride` bytes holds the bits of elements
// i, i + stride, i + 2 stride, ... from its lowest bits up. A block format is two or three such
// fields with strides of its own, a plane is one; so a matrix goes from fields to integers to fields,
// 256 elements at a time.

import ModelFormats

/// Bits of consecutive integers, in bytes.
struct BitField {
    /// Where its first byte is, from the start of the block or the unit.
    var offset: Int
    /// Bits of an integer in it: 1, 2, 4 or 8.
    var bits: Int
    /// Elements from one of a byte to its next, and bytes until the order begins anew.
    var stride: Int
    /// Which bit of the integer its lowest one is.
    var position: Int

    /// Adds the field's bits to `count` integers.
    @inline(__always)
    func read(
        _ bytes: UnsafePointer<UInt8>, count: Int, into integers: UnsafeMutablePointer<UInt8>
    ) {
        let mask = UInt8(truncatingIfNeeded: 1 << bits &- 1)
        let position = UInt8(truncatingIfNeeded: self.position)
        for run in 0..<count &* bits / 8 / stride {
            let from = unsafe bytes + (offset &+ run &* stride)
            for j in 0..<8 / bits {
                let shift = UInt8(truncatingIfNeeded: j &* bits)
                let to = unsafe integers + (run &* (8 / bits) &+ j) &* stride
                for i in 0..<stride {
                    unsafe to[i] |= ((from[i] &>> shift) & mask) &<< position
                }
            }
        }
    }

    /// Adds the field's bits of `count` integers to its bytes, which are zero there.
    @inline(__always)
    func write(
        _ integers: UnsafePointer<UInt8>, count: Int, into bytes: UnsafeMutablePointer<UInt8>
    ) {
        let mask = UInt8(truncatingIfNeeded: 1 << bits &- 1)
        let position = UInt8(truncatingIfNeeded: self.position)
        for run in 0..<count &* bits / 8 / stride {
            let to = unsafe bytes + (offset &+ run &* stride)
            for j in 0..<8 / bits {
                let shift = UInt8(truncatingIfNeeded: j &* bits)
                let from = unsafe integers + (run &* (8 / bits) &+ j) &* stride
                for i in 0..<stride {
                    unsafe to[i] |= ((from[i] &>> position) & mask) &<< shift
                }
            }
        }
    }
}

/// Where a block keeps its integers and its scales.
private struct BlockFields {
    /// The integer's bits.
    var fields: [BitField]
    /// Where the scales are, first byte to last, in one piece in all formats but those whose two
    /// are the same.
    var scales: Range<Int>
    /// Flipped in each integer: the sign of Q8_0, so that it counts from 0.
    var flipped: UInt8 = 0

    /// Layouts as drawn in Block32Decoding.swift and KQuantDecoding.swift.
    init(_ format: BlockFormat) {
        switch format {
        case .q4_0:
            fields = [BitField(offset: 2, bits: 4, stride: 16, position: 0)]
            scales = 0..<2
        case .q4_1:
            fields = [BitField(offset: 4, bits: 4, stride: 16, position: 0)]
            scales = 0..<4
        case .q5_0:
            fields = [
                BitField(offset: 6, bits: 4, stride: 16, position: 0),
                BitField(offset: 2, bits: 1, stride: 1, position: 4),
            ]
            scales = 0..<2
        case .q5_1:
            fields = [
                BitField(offset: 8, bits: 4, stride: 16, position: 0),
                BitField(offset: 4, bits: 1, stride: 1, position: 4),
            ]
            scales = 0..<4
        case .q8_0:
            fields = [BitField(offset: 2, bits: 8, stride: 32, position: 0)]
            scales = 0..<2
            flipped = 0x80
        case .q4_K:
            fields = [BitField(offset: 16, bits: 4, stride: 32, position: 0)]
            scales = 0..<16
        case .q5_K:
            fields = [
                BitField(offset: 48, bits: 4, stride: 32, position: 0),
                BitField(offset: 16, bits: 1, stride: 32, position: 4),
            ]
            scales = 0..<16
        case .q6_K:
            fields = [
                BitField(offset: 0, bits: 4, stride: 64, position: 0),
                BitField(offset: 128, bits: 2, stride: 32, position: 4),
            ]
            scales = 192..<210
        default: preconditionFailure("\(format.name) has no planes")
        }
    }
}

extension NestedFormat {
    /// The planes as bit fields of a unit of 256 elements.
    private var planeFields: [BitField] {
        var position = bits.reduce(0, +)
        return bits.map {
            position -= $0
            return BitField(offset: 0, bits: $0, stride: 32 * $0, position: position)
        }
    }

    private func checkSizes(_ matrix: Int, _ parts: [Int], rows: Int, columns: Int) {
        precondition(
            columns % format.elementsPerBlock == 0,
            "\(columns) columns are not whole blocks of \(format.name)")
        precondition(
            matrix == rows * format.byteCount(elements: columns),
            "\(matrix) bytes are not \(rows) x \(columns) elements of \(format.name)")
        precondition(parts.count == bits.count, "\(parts.count) parts for planes of \(bits) bits")
        for plane in bits.indices {
            let expected = partBytes(plane, rows: rows, columns: columns)
            precondition(
                parts[plane] == expected, "part \(plane) has \(parts[plane]) bytes, not \(expected)"
            )
        }
    }

    /// Cuts a matrix of (rows, columns) in its block format into its planes.
    ///
    /// `parts` are one buffer per plane, of `partBytes` each, most significant first; all their
    /// bytes are written, padding as zeros. Any bytes can be split. Takes 256 bytes of its own.
    public func split(
        _ matrix: UnsafeRawBufferPointer, rows: Int, columns: Int,
        into parts: [UnsafeMutableRawBufferPointer]
    ) {
        unsafe checkSizes(matrix.count, parts.map(\.count), rows: rows, columns: columns)
        guard rows * columns > 0 else { return }
        let bytes = unsafe matrix.baseAddress!.assumingMemoryBound(to: UInt8.self)
        let outputs = unsafe parts.map {
            unsafe $0.initializeMemory(as: UInt8.self, repeating: 0).baseAddress!
        }
        let block = BlockFields(format)
        let planes = planeFields
        let rowBytes = format.byteCount(elements: columns)
        let (scaleBytes, first) = (
            scaleBytes(columns: columns), firstPlaneOffset(rows: rows, columns: columns)
        )
        unsafe forEachUnit(rows: rows, columns: columns) { row, unit, blocks, integers in
            for i in 0..<blocks {
                let index = unit &* (256 / format.elementsPerBlock) &+ i
                let from = unsafe bytes + (row &* rowBytes &+ index &* format.bytesPerBlock)
                unsafe (outputs[0] + (row &* scaleBytes &+ index &* block.scales.count)).update(
                    from: from + block.scales.lowerBound, count: block.scales.count)
                let to = unsafe integers + i &* format.elementsPerBlock
                for field in block.fields {
                    unsafe field.read(from, count: format.elementsPerBlock, into: to)
                }
            }
            if block.flipped != 0 {
                for i in 0..<blocks &* format.elementsPerBlock {
                    unsafe integers[i] ^= block.flipped
                }
            }
            for (plane, field) in planes.enumerated() {
                let unitAt = row &* planeBytes(plane, columns: columns) &+ unit &* field.stride
                let to = unsafe outputs[plane] + ((plane == 0 ? first : 0) &+ unitAt)
                unsafe field.write(integers, count: 256, into: to)
            }
        }
    }

    /// Puts the matrix that `split` cut together again, to the bit.
    ///
    /// All parts are needed. Bytes that pad a part are not looked at.
    public func merge(
        _ parts: [UnsafeRawBufferPointer], rows: Int, columns: Int,
        into matrix: UnsafeMutableRawBufferPointer
    ) {
        unsafe checkSizes(matrix.count, parts.map(\.count), rows: rows, columns: columns)
        guard rows * columns > 0 else { return }
        let bytes = unsafe matrix.initializeMemory(as: UInt8.self, repeating: 0).baseAddress!
        let inputs = unsafe parts.map {
            unsafe $0.baseAddress!.assumingMemoryBound(to: UInt8.self)
        }
        let block = BlockFields(format)
        let planes = planeFields
        let rowBytes = format.byteCount(elements: columns)
        let (scaleBytes, first) = (
            scaleBytes(columns: columns), firstPlaneOffset(rows: rows, columns: columns)
        )
        unsafe forEachUnit(rows: rows, columns: columns) { row, unit, blocks, integers in
            for (plane, field) in planes.enumerated() {
                let unitAt = row &* planeBytes(plane, columns: columns) &+ unit &* field.stride
                let from = unsafe inputs[plane] + ((plane == 0 ? first : 0) &+ unitAt)
                unsafe field.read(from, count: 256, into: integers)
            }
            if block.flipped != 0 {
                for i in 0..<256 { unsafe integers[i] ^= block.flipped }
            }
            for i in 0..<blocks {
                let index = unit &* (256 / format.elementsPerBlock) &+ i
                let to = unsafe bytes + (row &* rowBytes &+ index &* format.bytesPerBlock)
                unsafe (to + block.scales.lowerBound).update(
                    from: inputs[0] + (row &* scaleBytes &+ index &* block.scales.count),
                    count: block.scales.count)
                let from = unsafe integers + i &* format.elementsPerBlock
                for field in block.fields {
                    unsafe field.write(from, count: format.elementsPerBlock, into: to)
                }
            }
        }
    }

    /// Calls `body` with each unit, how many blocks it has, and 256 integers that are zero.
    private func forEachUnit(
        rows: Int, columns: Int,
        _ body: (
            _ row: Int, _ unit: Int, _ blocks: Int, _ integers: UnsafeMutablePointer<UInt8>
        ) -> Void
    ) {
        unsafe withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 256) { integers in
            for row in 0..<rows {
                for unit in 0..<(columns + 255) / 256 {
                    unsafe integers.initialize(repeating: 0)
                    let elements = min(256, columns - unit * 256)
                    unsafe body(
                        row, unit, elements / format.elementsPerBlock, integers.baseAddress!)
                }
            }
        }
    }

    /// The parts of a matrix, for tests and tools.
    public func split(_ matrix: [UInt8], rows: Int, columns: Int) -> [[UInt8]] {
        let buffers = unsafe bits.indices.map { plane in
            UnsafeMutableRawBufferPointer.allocate(
                byteCount: partBytes(plane, rows: rows, columns: columns), alignment: 64)
        }
        defer { unsafe buffers.forEach { unsafe $0.deallocate() } }
        unsafe matrix.withUnsafeBytes {
            unsafe split($0, rows: rows, columns: columns, into: buffers)
        }
        return unsafe buffers.map { unsafe [UInt8]($0) }
    }

    /// The matrix of all `parts`, for tests and tools.
    public func merge(_ parts: [[UInt8]], rows: Int, columns: Int) -> [UInt8] {
        let buffers = unsafe parts.map { part in
            let buffer = UnsafeMutableRawBufferPointer.allocate(
                byteCount: part.count, alignment: 64)
            unsafe buffer.copyBytes(from: part)
            return unsafe buffer
        }
        defer { unsafe buffers.forEach { unsafe $0.deallocate() } }
        let bytes = rows * format.byteCount(elements: columns)
        return unsafe [UInt8](unsafeUninitializedCapacity: bytes) { matrix, count in
            unsafe merge(
                buffers.map { UnsafeRawBufferPointer($0) }, rows: rows, columns: columns,
                into: UnsafeMutableRawBufferPointer(matrix))
            count = bytes
        }
    }
}
