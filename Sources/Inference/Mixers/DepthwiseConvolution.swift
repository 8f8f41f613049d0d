/// A depthwise causal convolution over the tokens of a sequence: every channel has a kernel of its
/// own, of a few taps.
///
///   y[p][c] = kernel[0][c] * x[p - taps + 1][c] + ... + kernel[taps - 1][c] * x[p][c]
///
/// summed from the oldest input to the newest, each product and each sum rounded. Inputs before the
/// first position are zeros. What a sequence keeps from one chunk to the next is its last taps - 1
/// inputs, in the row of their position modulo taps - 1, so nothing moves when a token comes.
///
/// Channels do not meet: who computes which of them, and how many tokens at once, changes no bit.
@unsafe struct DepthwiseConvolution {
    let taps: Int
    let channels: Int
    /// (taps, channels), the newest input's last.
    let kernel: UnsafePointer<Float>

    /// Floats that a sequence keeps.
    static func stateLength(taps: Int, channels: Int) -> Int { (taps - 1) * channels }

    /// Replaces inputs of one token by outputs, for some channels.
    ///
    /// - Parameters:
    ///   - x: (range): the inputs of the channels in `range`.
    ///   - state: (taps - 1, channels): of the token's sequence, which has had all positions before
    ///     `position`. At position 0 it is cleared first.
    func convolve(
        _ x: UnsafeMutablePointer<Float>, channels range: Range<Int>, position: Int,
        state: UnsafeMutablePointer<Float>
    ) {
        let count = range.count
        let first = unsafe kernel + range.lowerBound
        let depth = unsafe taps - 1
        guard depth > 0 else {
            for channel in 0..<count { unsafe x[channel] *= first[channel] }
            return
        }
        let rows = unsafe state + range.lowerBound
        if position == 0 {
            for row in 0..<depth {
                unsafe (rows + row * channels).update(repeating: 0, count: count)
            }
        }
        // The oldest input's row is where this token's goes.
        let oldest = unsafe rows + position % depth * channels
        for channel in 0..<count {
            let input = unsafe x[channel]
            unsafe x[channel] = first[channel] * oldest[channel]
            unsafe oldest[channel] = input
        }
        for tap in 1...depth {
            let row = unsafe rows + (position + tap) % depth * channels
            let weights = unsafe first + tap * channels
            for channel in 0..<count {
                unsafe x[channel] = x[channel] + weights[channel] * row[channel]
            }
        }
    }

    /// The gated convolution of LFM2 for some channels of one token:
    /// `output` = c * convolution(b * x).
    ///
    /// - Parameters:
    ///   - gates: (3, channels): b, c and x as the input projection gives them; x is overwritten.
    ///   - output: (channels)
    ///   - state: As for `convolve`.
    func convolveGated(
        _ gates: UnsafeMutablePointer<Float>, channels range: Range<Int>, position: Int,
        state: UnsafeMutablePointer<Float>, into output: UnsafeMutablePointer<Float>
    ) {
        let b = unsafe gates + range.lowerBound
        let c = unsafe b + channels
        let x = unsafe c + channels
        for channel in 0..<range.count { unsafe x[channel] = b[channel] * x[channel] }
        unsafe convolve(x, channels: range, position: position, state: state)
        let y = unsafe output + range.lowerBound
        for channel in 0..<range.count { unsafe y[channel] = c[channel] * x[channel] }
    }
}
