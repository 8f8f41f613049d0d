internal import CKernels
internal import ModelFormats

/// For every layer a linear map from its router input to the router logits of the next layer, held
/// in half precision: a guess needs no more, and the maps are read once per token.
@safe public final class LearnedGates: @unchecked Sendable {
    // Written by `init` only, which is why sharing it is sound.
    private let memory: UnsafeMutableRawPointer
    public let layerCount: Int
    public let expertCount: Int
    public let embeddingLength: Int
    /// (layers): the maps, (experts, embedding). Valid as long as this lives.
    let matrices: UnsafeMutablePointer<Matrix>
    /// (layers, experts); as long.
    let bias: UnsafeMutablePointer<Float>
    private let mapBytes: Int

    /// Bytes of memory it holds.
    public var byteCount: Int { mapBytes + layerCount * expertCount * 4 }

    /// - Parameters:
    ///   - weights: (layers, experts, embedding), row-major; layer l's rows give the logits of l +
    ///     1, so those of the last layer are not used.
    ///   - bias: (layers, experts), or empty for none.
    /// - Throws: `EngineError` where the counts are not those of the shapes.
    public init(
        layerCount: Int, expertCount: Int, embeddingLength: Int, weights: [Float], bias: [Float]
    ) throws(EngineError) {
        let (rows, tooMany) = layerCount.multipliedReportingOverflow(by: expertCount)
        let (elements, tooLarge) = rows.multipliedReportingOverflow(by: embeddingLength)
        guard layerCount > 0, expertCount > 0, embeddingLength > 0, !tooMany, !tooLarge,
            weights.count == elements, bias.isEmpty || bias.count == rows,
            embeddingLength <= Int(UInt32.max)
        else {
            throw EngineError(
                "learned gates: \(weights.count) weights and \(bias.count) biases are not those of "
                    + "\(layerCount) layers of \(expertCount) experts and an embedding of "
                    + "\(embeddingLength)")
        }
        self.layerCount = layerCount
        self.expertCount = expertCount
        self.embeddingLength = embeddingLength
        unsafe self.bias = .allocate(capacity: rows)
        for row in 0..<rows { unsafe self.bias[row] = bias.isEmpty ? 0 : bias[row] }
        mapBytes = elements * 2
        unsafe memory = AnonymousMemory.allocate(mapBytes)
        let halves = unsafe memory.bindMemory(to: UInt16.self, capacity: elements)
        unsafe matrices = .allocate(capacity: layerCount)
        for layer in 0..<layerCount {
            unsafe (matrices + layer).initialize(
                to: Matrix(
                    weights: UnsafeRawPointer(halves + layer * expertCount * embeddingLength),
                    rows: expertCount, columns: embeddingLength, rowBytes: embeddingLength * 2,
                    format: .f16, path: MatrixPath(format: .f16, arithmetic: .f32)))
        }
        let toHalf = unsafe sluice_kernels_named(nil)!.pointee.to_f16!
        unsafe weights.withUnsafeBufferPointer { source in
            for row in 0..<rows {
                unsafe toHalf(
                    source.baseAddress! + row * embeddingLength, UInt32(embeddingLength),
                    halves + row * embeddingLength)
            }
        }
    }

    deinit {
        unsafe matrices.deallocate()
        unsafe bias.deallocate()
        unsafe AnonymousMemory.free(memory, mapBytes)
    }
}
