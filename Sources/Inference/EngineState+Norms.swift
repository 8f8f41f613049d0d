internal import CKernels

extension EngineState {
    /// Norms rows of the residual stream, in every form that matrices ask for.
    func norm(
        _ tokens: Range<Int>, _ x: UnsafePointer<Float>, _ norm: NormState,
        into target: Activations
    ) {
        for token in tokens {
            unsafe self.norm(
                x + token * embeddingLength, norm, into: target.floats + token * embeddingLength)
            unsafe target.quantise(token, kernels.table)
        }
    }

    /// y = x / root mean square of x * weight; where the model takes the mean off first, it is the
    /// sum of x (as the kernels' dot with ones: 32 accumulators) / n, and the bias comes last.
    private func norm(
        _ x: UnsafePointer<Float>, _ norm: NormState, into y: UnsafeMutablePointer<Float>
    ) {
        let table = unsafe kernels.table
        let count = unsafe UInt32(embeddingLength)
        guard let ones = unsafe ones else {
            unsafe table.pointee.rms_norm(x, norm.weight, count, normEpsilon, y)
            return
        }
        var sum: Float = 0
        unsafe kernels.gemm[Int(SLUICE_F32)](x, 0, 1, ones, 0, 1, count, &sum, 1)
        unsafe y.update(from: x, count: embeddingLength)
        unsafe table.pointee.add_scaled(ones, -sum / Float(embeddingLength), count, y)
        unsafe table.pointee.rms_norm(y, norm.weight, count, normEpsilon, y)
        unsafe add(norm.bias, embeddingLength, to: y)
    }
}
