// What a sequence has computed, as bytes: for keeping it beyond the engine's life.
extension Engine {
    /// Bytes that the keys and values of one position of a sequence take.
    public var bytesPerPosition: Int { plan.keyValueRows.bytesPerPosition }

    /// Copies the keys and values of a sequence's positions to `bytes`.
    ///
    /// In the order of layers and their key-value heads: the rows of keys, then those of values, if
    /// values have their own.
    /// What a row holds depends on the weights, the arithmetic and the cache's format, and not on
    /// the instruction set.
    ///
    /// - Parameter bytes: `bytesPerPosition` for each position.
    public func readPositions(
        _ positions: Range<Int>, of sequence: Int, into bytes: UnsafeMutableRawBufferPointer
    ) {
        check(positions, sequence, byteCount: bytes.count)
        guard let start = bytes.baseAddress else { return }
        unsafe state.pointee.visitRows(positions, of: sequence) { rows, offset, byteCount in
            unsafe (start + offset).copyMemory(from: rows, byteCount: byteCount)
        }
    }

    /// Gives a sequence positions that `readPositions` has copied from an engine of the same model
    /// and options: as if it had computed the same ids. Of a model that keeps states the sequence has
    /// none until `writeState`.
    public mutating func writePositions(
        _ positions: Range<Int>, of sequence: Int, from bytes: UnsafeRawBufferPointer
    ) {
        check(positions, sequence, byteCount: bytes.count)
        if keepsState { stateful[sequence] = 0 }
        guard let start = bytes.baseAddress else { return }
        unsafe state.pointee.visitRows(positions, of: sequence) { rows, offset, byteCount in
            unsafe rows.copyMemory(from: start + offset, byteCount: byteCount)
        }
    }

    /// CRC-32C of all weights that stay in memory: tells models of one shape apart.
    public func residentChecksum() -> UInt32 { weights.checksum() }

    private func check(_ positions: Range<Int>, _ sequence: Int, byteCount: Int) {
        precondition(
            positions.lowerBound >= 0 && positions.upperBound <= contextCapacity,
            "positions \(positions) are not in the context")
        precondition(sequence >= 0 && sequence < sequenceCapacity, "no sequence \(sequence)")
        precondition(
            byteCount == positions.count * bytesPerPosition,
            "\(byteCount) bytes for \(positions.count) positions")
    }
}
