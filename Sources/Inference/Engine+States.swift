// Sequences of models that remember in a state what others look up among keys and values. A state
// cannot go back: position p can be computed when the state covers exactly the p positions before,
// or when p is 0, which begins anew.
extension Engine {
    /// Whether sequences of this model have a state.
    public var keepsState: Bool { plan.stateBytes > 0 }

    /// Bytes of one sequence's state; 0 where there is none.
    public var stateByteCount: Int { plan.stateBytes / plan.sequences }

    /// Positions that the state of a sequence covers: the only one, besides 0, that can be computed
    /// next. 0 if there is none, or if what it had was lost by an error.
    public func statePositions(of sequence: Int) -> Int {
        precondition(sequence >= 0 && sequence < sequenceCapacity, "no sequence \(sequence)")
        return stateful.isEmpty ? 0 : stateful[sequence]
    }

    /// How many of the first positions of a sequence can be gone on from or copied, if another text
    /// has `common` of them in common with what it has computed: all of them where only keys and
    /// values are kept; with a state all or none.
    public func reusablePositions(common: Int, of sequence: Int) -> Int {
        !keepsState || common == statePositions(of: sequence) ? common : 0
    }

    /// The states of the loaded chunk's sequences are taken for lost until all layers have been
    /// computed: a layer that was computed cannot be computed again.
    mutating func beginStates(decodes: Bool) {
        let state = unsafe self.state
        for token in unsafe 0..<(decodes ? state.pointee.tokens : 1) {
            let sequence = unsafe Int(state.pointee.sequences[token])
            let position = unsafe Int(state.pointee.positions[token])
            precondition(
                position == 0 || position == stateful[sequence],
                "position \(position) of sequence \(sequence), whose state covers \(stateful[sequence])"
            )
            stateful[sequence] = 0
        }
    }

    mutating func endStates() {
        let state = unsafe self.state
        for token in unsafe 0..<state.pointee.tokens {
            let sequence = unsafe Int(state.pointee.sequences[token])
            stateful[sequence] = unsafe Int(state.pointee.positions[token]) + 1
        }
    }

    /// Copies a part of a sequence's state to `bytes`: for keeping it, together with the keys and
    /// values of the positions that it covers.
    ///
    /// Layer by layer as they lie; what they hold depends on the weights and the arithmetic, and not
    /// on the instruction set.
    ///
    /// - Parameter range: Within `stateByteCount`, of as many bytes as there are in `bytes`.
    public func readState(
        _ range: Range<Int>, of sequence: Int, into bytes: UnsafeMutableRawBufferPointer
    ) {
        check(range, sequence, byteCount: bytes.count)
        guard let start = bytes.baseAddress else { return }
        unsafe start.copyMemory(from: bytesOfState(range, sequence), byteCount: range.count)
    }

    /// Gives a sequence a part of a state that `readState` has copied from an engine of the same
    /// model and options.
    ///
    /// - Parameter positions: How many positions the state covers. It counts when its last byte is
    ///   written; parts come in order, with the keys and values before them.
    public mutating func writeState(
        _ range: Range<Int>, of sequence: Int, from bytes: UnsafeRawBufferPointer,
        covering positions: Int
    ) {
        check(range, sequence, byteCount: bytes.count)
        precondition(
            positions >= 0 && positions <= contextCapacity,
            "\(positions) positions are not in the context")
        guard let start = bytes.baseAddress else { return }
        unsafe bytesOfState(range, sequence).copyMemory(from: start, byteCount: range.count)
        stateful[sequence] = range.upperBound == stateByteCount ? positions : 0
    }

    private func bytesOfState(_ range: Range<Int>, _ sequence: Int) -> UnsafeMutableRawPointer {
        let states = unsafe UnsafeMutableRawPointer(state.pointee.states)
        return unsafe states + sequence * stateByteCount + range.lowerBound
    }

    private func check(_ range: Range<Int>, _ sequence: Int, byteCount: Int) {
        precondition(
            range.lowerBound >= 0 && range.upperBound <= stateByteCount,
            "bytes \(range) are not in a state of \(stateByteCount)")
        precondition(sequence >= 0 && sequence < sequenceCapacity, "no sequence \(sequence)")
        precondition(byteCount == range.count, "\(byteCount) bytes for \(range.count)")
    }
}
