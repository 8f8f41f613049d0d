internal import CKernels

// The gated delta net of Qwen3-Next (Gated Delta Networks, arXiv 2412.06464, section 3):
//
//   q, k, v      silu(convolution of the projected input)
//   decay, beta  exp(rate * softplus(a + time bias)), sigmoid(b)
//   o            the gated delta rule's answer, by value head: see `DeltaRule`
//   y            rms norm of o, times silu(z)
//
// A *group* is a key head with the value heads that share its query and key. It is computed as a
// whole, token after token, and meets no other group, so who computes it and in what chunks changes
// no bit.

/// Sizes of a gated delta net.
struct DeltaNetShape: Sendable, Equatable {
    let keyHeads: Int
    /// A multiple of the key heads.
    let valueHeads: Int
    let keySize: Int
    let valueSize: Int
    /// Of the convolution.
    let taps: Int

    /// Value heads of a group.
    var groupHeads: Int { valueHeads / keyHeads }
    /// Values of a group.
    var groupWidth: Int { groupHeads * valueSize }
    /// Values of all groups: what a token's result has.
    var valueWidth: Int { valueHeads * valueSize }
    /// What is convolved: all queries, all keys, all values.
    var channels: Int { 2 * keyHeads * keySize + valueWidth }
    /// Floats that a sequence keeps: the convolution's, then the matrices (value heads, key size,
    /// value size).
    var stateLength: Int { matrixOffset + valueHeads * keySize * valueSize }
    var matrixOffset: Int {
        unsafe DepthwiseConvolution.stateLength(taps: taps, channels: channels)
    }
    /// Floats that a worker needs to compute a group.
    var bufferLength: Int { 2 * keySize + rule.bufferLength }
    var rule: DeltaRule { DeltaRule(keySize: keySize, valueSize: valueSize) }
    /// Floats that `silu` is multiplied with, all of them 1.
    var onesLength: Int { max(keySize, groupWidth) }
}

/// Where the parts of a group lie in a token's projected row, in floats: those of the first group,
/// and how much further each following group's are.
struct DeltaNetColumns: Sendable, Equatable {
    struct Part: Sendable, Equatable {
        let first: Int
        let step: Int

        func of(_ group: Int) -> Int { first + group * step }
    }

    let query: Part
    let key: Part
    let value: Part
    /// z
    let gate: Part

    /// All queries, all keys, all values, all gates.
    static func separate(_ shape: DeltaNetShape) -> DeltaNetColumns {
        let keys = shape.keyHeads * shape.keySize
        return DeltaNetColumns(
            query: Part(first: 0, step: shape.keySize),
            key: Part(first: keys, step: shape.keySize),
            value: Part(first: 2 * keys, step: shape.groupWidth),
            gate: Part(first: shape.channels, step: shape.groupWidth))
    }

    /// Group after group, each with its query, key, values and gates: as the model was trained.
    static func byGroup(_ shape: DeltaNetShape) -> DeltaNetColumns {
        let step = 2 * shape.keySize + 2 * shape.groupWidth
        return DeltaNetColumns(
            query: Part(first: 0, step: step), key: Part(first: shape.keySize, step: step),
            value: Part(first: 2 * shape.keySize, step: step),
            gate: Part(first: 2 * shape.keySize + shape.groupWidth, step: step))
    }
}

/// One layer's weights, as the recurrence needs them.
@unsafe struct GatedDeltaNet {
    let shape: DeltaNetShape
    let columns: DeltaNetColumns
    /// Of `shape.channels` channels.
    let convolution: DepthwiseConvolution
    /// (value heads): -exp(A_log), never above 0 in a trained model.
    let rate: UnsafePointer<Float>
    /// (value heads): added to a.
    let timeBias: UnsafePointer<Float>
    /// (value size)
    let norm: UnsafePointer<Float>
    let normEpsilon: Float
    /// (`shape.onesLength`) ones.
    let ones: UnsafePointer<Float>

    /// One token's inputs and output.
    @unsafe struct Token {
        /// At `columns`; the convolved parts are overwritten.
        let projected: UnsafeMutablePointer<Float>
        /// Group after group, each with its b and its a: (key heads, 2, group heads).
        let gates: UnsafePointer<Float>
        /// (value heads, value size)
        let output: UnsafeMutablePointer<Float>
        let position: Int
        /// (`shape.stateLength`): of the token's sequence, which has had all positions before this
        /// one. At position 0 it is cleared first.
        let state: UnsafeMutablePointer<Float>
    }

    /// Computes a group's part of a token.
    ///
    /// - Parameter buffer: `shape.bufferLength` floats.
    func compute(
        group: Int, of token: Token, _ kernels: Kernels, buffer: UnsafeMutablePointer<Float>
    ) {
        let (keySize, valueSize, rule) = unsafe (shape.keySize, shape.valueSize, shape.rule)
        let (heads, width) = unsafe (shape.groupHeads, shape.groupWidth)
        let keys = unsafe shape.keyHeads * keySize
        let query = unsafe token.projected + columns.query.of(group)
        let key = unsafe token.projected + columns.key.of(group)
        let values = unsafe token.projected + columns.value.of(group)
        let outputGates = unsafe token.projected + columns.gate.of(group)
        unsafe convolve(query, from: group * keySize, keySize, token, kernels)
        unsafe convolve(key, from: keys + group * keySize, keySize, token, kernels)
        unsafe convolve(values, from: 2 * keys + group * width, width, token, kernels)
        let pair = unsafe buffer
        let match = unsafe rule.normalise(query: query, key: key, into: pair, kernels)
        for member in 0..<heads {
            let head = group * heads + member
            let gates = unsafe token.gates + group * 2 * heads + member
            let time = unsafe GateFunctions.softplus(gates[heads] + timeBias[head])
            let matrix = unsafe token.state + shape.matrixOffset + head * keySize * valueSize
            if unsafe token.position == 0 {
                unsafe matrix.update(repeating: 0, count: keySize * valueSize)
            }
            let output = unsafe token.output + head * valueSize
            unsafe rule.step(
                matrix, pair: pair, match: match, value: values + member * valueSize,
                decay: Float(GateFunctions.exp(Double(rate[head] * time))),
                beta: GateFunctions.sigmoid(gates[0]), into: output, kernels,
                buffer: buffer + 2 * keySize)
            unsafe kernels.table.pointee.rms_norm(
                output, norm, UInt32(valueSize), normEpsilon, output)
            unsafe kernels.table.pointee.swiglu(
                outputGates + member * valueSize, output, UInt32(valueSize), output)
        }
    }

    /// silu of the convolution, in place.
    private func convolve(
        _ x: UnsafeMutablePointer<Float>, from channel: Int, _ count: Int, _ token: Token,
        _ kernels: Kernels
    ) {
        unsafe convolution.convolve(
            x, channels: channel..<(channel + count), position: token.position,
            state: token.state)
        unsafe kernels.table.pointee.swiglu(x, ones, UInt32(count), x)
    }
}
