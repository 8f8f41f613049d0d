internal import CKernels

/// The gated delta rule (arXiv 2412.06464, section 3.1): the memory of a head is one matrix S
/// (key size, value size), in which keys find values, however long the text.
///
/// ```
///   q, k   divided by sqrt(sum of squares + 1e-6), and q by sqrt(key size) besides
///   d      (v - decay S'k) beta              what the memory lacks of v for this key
///   o      decay S'q + (q . k) d             what the memory after this token has for the query
///   S      decay S + k d'
/// ```
/// with S before the token in the first two lines. So S is read once for S'q and S'k together, and
/// once more to be rewritten. S'x is summed in order of the rows of S; q . k and the sums of squares
/// as the F32 dot of CKernels.h; everything else is one operation for each element, each rounded.
struct DeltaRule: Sendable, Equatable {
    let keySize: Int
    let valueSize: Int

    /// Floats that `step` works with.
    var bufferLength: Int { 3 * valueSize }

    /// Added to the sum of squares of which a query's or key's length is the root.
    private static let lengthEpsilon: Float = 1e-6

    /// Makes q and k.
    ///
    /// - Parameter pair: (2, key size): q, then k.
    /// - Returns: q . k
    func normalise(
        query: UnsafePointer<Float>, key: UnsafePointer<Float>,
        into pair: UnsafeMutablePointer<Float>, _ kernels: Kernels
    ) -> Float {
        let dot = unsafe kernels.gemm[Int(SLUICE_F32)]
        unsafe normalise(query, scale: 1 / Float(keySize).squareRoot(), into: pair, dot)
        unsafe normalise(key, scale: 1, into: pair + keySize, dot)
        var match: Float = 0
        unsafe dot(pair, 0, 1, pair + keySize, 0, 1, UInt32(keySize), &match, 1)
        return match
    }

    private func normalise(
        _ x: UnsafePointer<Float>, scale: Float, into y: UnsafeMutablePointer<Float>,
        _ dot: sluice_gemm
    ) {
        var sum: Float = 0
        unsafe dot(x, 0, 1, x, 0, 1, UInt32(keySize), &sum, 1)
        let inverse = 1 / (sum + DeltaRule.lengthEpsilon).squareRoot()
        for index in 0..<keySize { unsafe y[index] = x[index] * inverse * scale }
    }

    /// Takes a token into the memory and answers its query.
    ///
    /// - Parameters:
    ///   - matrix: S, (key size, value size)
    ///   - pair: q and k as `normalise` makes them, and `match` as it returns it.
    ///   - value: (value size)
    ///   - output: o, (value size)
    ///   - buffer: `bufferLength` floats.
    func step(
        _ matrix: UnsafeMutablePointer<Float>, pair: UnsafePointer<Float>, match: Float,
        value: UnsafePointer<Float>, decay: Float, beta: Float,
        into output: UnsafeMutablePointer<Float>, _ kernels: Kernels,
        buffer: UnsafeMutablePointer<Float>
    ) {
        let (answers, known) = unsafe (buffer, buffer + valueSize)
        let change = unsafe buffer + 2 * valueSize
        unsafe answers.update(repeating: 0, count: 2 * valueSize)
        unsafe kernels.cache[Int(SLUICE_CACHE_F32)].mix(
            pair, keySize, 2, matrix, valueSize * 4, UInt32(keySize), UInt32(valueSize), answers,
            valueSize)
        for index in 0..<valueSize {
            unsafe change[index] = (value[index] - decay * known[index]) * beta
            unsafe output[index] = decay * answers[index] + match * change[index]
        }
        for row in 0..<keySize {
            let weight = unsafe pair[keySize + row]
            let elements = unsafe matrix + row * valueSize
            for index in 0..<valueSize {
                unsafe elements[index] = decay * elements[index] + weight * change[index]
            }
        }
    }
}
