// How a tensor that does not lie as GGUF would have it is written anew. All is done in blocks: whatever
// the size of a tensor, two buffers of `TensorConversion.blockBytes` are enough, unless a single row is
// longer.

import Glibc

/// A run of bytes of a model's files: the whole of a tensor.
struct TensorSource: Sendable {
    let fileIndex: Int
    let offset: Int
    let byteCount: Int
}

/// One or several tensors of a derived file, and how they come from those of a model's files.
struct TensorConversion: Sendable {
    enum Kind: Sendable {
        /// F32 numbers that no file holds. No source.
        case values([Float])
        /// Every element as F32, and changed so.
        case numbers(BlockFormat, ElementChange)
        /// Rows of `rowBytes` bytes in another order: row `sourceRow(r)` becomes row `r`.
        case rows(rowBytes: Int, sourceRow: @Sendable (Int) -> Int)
        /// Matrices one after the other, of `rows` x `columns`, each transposed. With n outputs, every
        /// n-th column of the source goes to the same.
        case transposed(rows: Int, columns: Int, elementBytes: Int)
        /// MXFP4 as transformers keeps it, in two sources, into blocks of GGML. With n outputs, every
        /// n-th row of the source goes to the same.
        case microscaling(rows: Int, blocksPerRow: Int)
    }

    enum ElementChange: Sendable {
        /// Widened only.
        case none
        /// x + 1: norms that are stored as what they differ from 1 by.
        case plusOne
        /// -exp(x): decays that are stored as logarithms.
        case negativeExponential

        func applied(to value: Float) -> Float {
            switch self {
            case .none: value
            case .plusOne: value + 1
            case .negativeExponential: -exp(value)
            }
        }
    }

    let kind: Kind
    let sources: [TensorSource]
    /// Where in the derived file the outputs begin, and how many bytes each has.
    let outputs: [(offset: Int, byteCount: Int)]

    /// Bytes of a buffer.
    static let blockBytes = 8 << 20
}

/// Where a conversion's results go.
protocol ConversionOutput {
    mutating func write(_ bytes: [UInt8], at offset: Int) throws(ModelFileError)
}

extension TensorConversion {
    /// Writes the outputs. `files` are the model's, by index.
    func run(
        from files: [any ByteSource], into output: inout some ConversionOutput,
        blockBytes: Int = blockBytes
    ) throws(ModelFileError) {
        switch kind {
        case .values(let values):
            var bytes: [UInt8] = []
            for value in values { bytes.appendLittleEndian(value.bitPattern) }
            try output.write(bytes, at: outputs[0].offset)
        case .numbers(let format, let change):
            try writeNumbers(format, change, from: files, into: &output, blockBytes)
        case .rows(let rowBytes, let sourceRow):
            try writeRows(rowBytes, sourceRow, from: files, into: &output, blockBytes)
        case .transposed(let rows, let columns, let elementBytes):
            try writeTransposed(rows, columns, elementBytes, from: files, into: &output, blockBytes)
        case .microscaling(let rows, let blocksPerRow):
            try writeMicroscaling(rows, blocksPerRow, from: files, into: &output, blockBytes)
        }
    }

    /// Bytes `range` of a source.
    private func read(
        _ index: Int, _ range: Range<Int>, _ files: [any ByteSource]
    ) throws(ModelFileError) -> [UInt8] {
        let source = sources[index]
        let bytes = try files[source.fileIndex].bytes(
            at: source.offset + range.lowerBound, count: range.count)
        files[source.fileIndex].forget(
            from: source.offset + range.lowerBound, byteCount: range.count)
        return bytes
    }

    private func writeNumbers(
        _ format: BlockFormat, _ change: ElementChange, from files: [any ByteSource],
        into output: inout some ConversionOutput, _ blockBytes: Int
    ) throws(ModelFileError) {
        let width = format.bytesPerBlock
        let count = sources[0].byteCount / width
        let step = max(1, blockBytes / 4)
        for first in stride(from: 0, to: count, by: step) {
            let end = min(count, first + step)
            let stored = try read(0, first * width..<end * width, files)
            var bytes: [UInt8] = []
            bytes.reserveCapacity((end - first) * 4)
            for index in 0..<end - first {
                let bits = stored.littleEndian(at: index * width, byteCount: width)
                let value = Self.number(UInt32(truncatingIfNeeded: bits), format)
                bytes.appendLittleEndian(change.applied(to: value).bitPattern)
            }
            try output.write(bytes, at: outputs[0].offset + first * 4)
        }
    }

    /// The number of F32, F16 or BF16 that `bits` are.
    private static func number(_ bits: UInt32, _ format: BlockFormat) -> Float {
        switch format {
        case .f16: Float(Float16(bitPattern: UInt16(truncatingIfNeeded: bits)))
        case .bf16: Float(bitPattern: bits << 16)
        default: Float(bitPattern: bits)
        }
    }

    private func writeRows(
        _ rowBytes: Int, _ sourceRow: (Int) -> Int, from files: [any ByteSource],
        into output: inout some ConversionOutput, _ blockBytes: Int
    ) throws(ModelFileError) {
        let count = outputs[0].byteCount / rowBytes
        var first = 0
        while first < count {
            // As many rows as can be picked from one run of the source.
            var lowest = sourceRow(first)
            var highest = lowest
            var end = first + 1
            while end < count {
                let row = sourceRow(end)
                let (low, high) = (min(lowest, row), max(highest, row))
                guard (high - low + 1) * rowBytes <= blockBytes else { break }
                (lowest, highest) = (low, high)
                end += 1
            }
            let stored = try read(0, lowest * rowBytes..<(highest + 1) * rowBytes, files)
            var bytes: [UInt8] = []
            bytes.reserveCapacity((end - first) * rowBytes)
            for row in first..<end {
                bytes += stored[((sourceRow(row) - lowest) * rowBytes)...].prefix(rowBytes)
            }
            try output.write(bytes, at: outputs[0].offset + first * rowBytes)
            first = end
        }
    }

    private func writeTransposed(
        _ rows: Int, _ columns: Int, _ elementBytes: Int, from files: [any ByteSource],
        into output: inout some ConversionOutput, _ blockBytes: Int
    ) throws(ModelFileError) {
        let matrixBytes = rows * columns * elementBytes
        let parts = outputs.count
        // Columns at a time, so that each output's are whole rows of it.
        let step = max(1, blockBytes / (rows * elementBytes * parts)) * parts
        for matrix in 0..<sources[0].byteCount / matrixBytes {
            for first in stride(from: 0, to: columns, by: step) {
                let width = min(step, columns - first)
                var block: [UInt8] = []
                block.reserveCapacity(rows * width * elementBytes)
                for row in 0..<rows {
                    let start = matrix * matrixBytes + (row * columns + first) * elementBytes
                    block += try read(0, start..<start + width * elementBytes, files)
                }
                for part in 0..<parts {
                    let bytes = Self.transposed(
                        block, rows: rows, columns: width, elementBytes: elementBytes,
                        from: part, by: parts)
                    let partBytes = matrixBytes / parts
                    try output.write(
                        bytes,
                        at: outputs[part].offset + matrix * partBytes + first / parts * rows
                            * elementBytes)
                }
            }
        }
    }

    /// Columns `from`, `from + by` ... of a matrix, one after the other.
    private static func transposed(
        _ block: [UInt8], rows: Int, columns: Int, elementBytes: Int, from: Int, by: Int
    ) -> [UInt8] {
        func gather<Element: FixedWidthInteger>(_ type: Element.Type) -> [UInt8] {
            let count = columns / by
            return unsafe [UInt8](unsafeUninitializedCapacity: count * rows * elementBytes) {
                target, filled in
                // The range of each access follows from the counts above.
                unsafe block.withUnsafeBytes { source in
                    for column in 0..<count {
                        for row in 0..<rows {
                            let element = unsafe source.loadUnaligned(
                                fromByteOffset: (row * columns + from + column * by) * elementBytes,
                                as: Element.self)
                            unsafe UnsafeMutableRawBufferPointer(target).storeBytes(
                                of: element, toByteOffset: (column * rows + row) * elementBytes,
                                as: Element.self)
                        }
                    }
                }
                filled = count * rows * elementBytes
            }
        }
        return elementBytes == 2 ? gather(UInt16.self) : gather(UInt32.self)
    }

    private func writeMicroscaling(
        _ rows: Int, _ blocksPerRow: Int, from files: [any ByteSource],
        into output: inout some ConversionOutput, _ blockBytes: Int
    ) throws(ModelFileError) {
        let parts = outputs.count
        let rowBytes = blocksPerRow * BlockFormat.mxfp4.bytesPerBlock
        let step = max(1, blockBytes / (rowBytes * parts)) * parts
        for first in stride(from: 0, to: rows, by: step) {
            let count = min(step, rows - first)
            let blocks = try read(
                0, first * blocksPerRow * 16..<(first + count) * blocksPerRow * 16, files)
            let scales = try read(
                1, first * blocksPerRow..<(first + count) * blocksPerRow, files)
            for part in 0..<parts {
                let bytes = Self.microscaling(
                    blocks, scales, rows: count, blocksPerRow: blocksPerRow, from: part, by: parts)
                try output.write(bytes, at: outputs[part].offset + first / parts * rowBytes)
            }
        }
    }

    /// Rows `from`, `from + by` ... as blocks of GGML: the scale, then 16 bytes of elements 0 ... 15 in
    /// the low halves and 16 ... 31 in the high ones. The source has neighbours in one byte.
    private static func microscaling(
        _ blocks: [UInt8], _ scales: [UInt8], rows: Int, blocksPerRow: Int, from: Int, by: Int
    ) -> [UInt8] {
        let total = rows / by * blocksPerRow
        let size = BlockFormat.mxfp4.bytesPerBlock
        return unsafe [UInt8](unsafeUninitializedCapacity: total * size) { target, filled in
            // The range of each access follows from the counts above.
            unsafe blocks.withUnsafeBufferPointer { blocks in
                for index in 0..<total {
                    let row = index / blocksPerRow * by + from
                    let block = row * blocksPerRow + index % blocksPerRow
                    unsafe target[index * size] = scales[block]
                    for pair in 0..<8 {
                        let low = unsafe blocks[block * 16 + pair]
                        let high = unsafe blocks[block * 16 + 8 + pair]
                        let at = index * size + 1 + 2 * pair
                        unsafe target[at] = low & 0x0F | high << 4
                        unsafe target[at + 1] = low >> 4 | high & 0xF0
                    }
                }
            }
            filled = total * size
        }
    }
}
