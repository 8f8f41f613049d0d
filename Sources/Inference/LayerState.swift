internal import ModelFormats

/// The resident weights of one layer.
@unsafe struct LayerState {
    var attentionNorm: NormState
    var attention: LayerAttention
    /// Meaningless where `attention` is `none`.
    var lookup: Lookup
    /// (embedding, mixed width): of whatever mixes positions in this layer.
    var attentionOutput: Matrix
    var outputBias: UnsafePointer<Float>?  // (embedding)
    var expertNorm: NormState
    /// Whether its feed-forward has experts.
    var hasExperts: Bool
    /// What every token uses: the feed-forward of a layer without experts, or a shared expert.
    var dense: DenseMatrices?
    /// Gives the weight of a shared expert's output through a sigmoid: (embedding); nil for 1.
    var denseGate: UnsafePointer<Float>?
}

/// The matrices of a feed-forward that every token uses.
@unsafe struct DenseMatrices {
    var gate: Matrix  // (width, embedding)
    var up: Matrix  // (width, embedding)
    var down: Matrix  // (embedding, width)
}

/// A norm over the residual stream.
@unsafe struct NormState {
    var weight: UnsafePointer<Float>
    var bias: UnsafePointer<Float>?

    init(_ norm: Norm, _ weights: borrowing ResidentWeights) {
        unsafe weight = weights.vector(norm.weight)
        unsafe bias = weights.vector(norm.bias)
    }
}

/// How a layer looks positions up, if it does.
@unsafe enum LayerAttention {
    /// It has a mixer with a state instead.
    case none
    case heads(HeadAttention)
    case latent(LatentHeads)
}

/// What lookups differ in from layer to layer.
@unsafe struct Lookup {
    /// The layer's number among those that look positions up.
    var cacheIndex = 0
    /// Positions that a token attends to, at most.
    var window = 0
    /// Floats from one head's query to the next one's.
    var queryStride = 0
    /// (heads)
    var sinks: UnsafePointer<Float>?
    /// Whether a head's query is followed by as many gates of its result.
    var isGated = false
}

/// Keys and values of heads of their own.
@unsafe struct HeadAttention {
    var query: Matrix
    var key: Matrix
    var value: Matrix
    var queryBias: UnsafePointer<Float>?
    var keyBias: UnsafePointer<Float>?
    var valueBias: UnsafePointer<Float>?
    var queryNorm: UnsafePointer<Float>?
    var keyNorm: UnsafePointer<Float>?
    var norm: ProjectionNorm
    var rotates: Bool

    init(
        _ attention: Attention, _ arithmetic: Arithmetic, _ weights: borrowing ResidentWeights
    ) {
        unsafe query = weights.matrix(attention.query.weight, arithmetic)
        unsafe key = weights.matrix(attention.key.weight, arithmetic)
        unsafe value = weights.matrix(attention.value.weight, arithmetic)
        unsafe queryBias = weights.vector(attention.query.bias)
        unsafe keyBias = weights.vector(attention.key.bias)
        unsafe valueBias = weights.vector(attention.value.bias)
        unsafe queryNorm = weights.vector(attention.queryNorm)
        unsafe keyNorm = weights.vector(attention.keyNorm)
        unsafe norm = attention.norm
        unsafe rotates = attention.rotates
    }
}

/// One vector for the keys and values of all heads: see `EngineState+Latent.swift`.
@unsafe struct LatentHeads {
    /// (query rank, embedding); nil where queries come from the input.
    var queryDown: Matrix?
    var queryNorm: UnsafePointer<Float>?
    var query: Matrix
    var keyValueDown: Matrix
    var keyValueNorm: UnsafePointer<Float>
    var keyUp: KeyUp
    /// (heads x value size, rank) with this many rows from one head's to the next one's.
    var valueUp: Matrix
    var valueUpStride: Int
    var rank: Int
    var plainSize: Int
    var turnedSize: Int
    var valueSize: Int

    @unsafe enum KeyUp {
        /// (heads x rank, plain size)
        case transposed(Matrix)
        /// (heads x plain size, rank), with this many rows from one head's to the next one's.
        case rows(Matrix, stride: Int)
    }

    init(
        _ latent: LatentAttention, _ arithmetic: Arithmetic, _ weights: borrowing ResidentWeights
    ) {
        unsafe queryDown = latent.queryDown.map { unsafe weights.matrix($0, arithmetic) }
        unsafe queryNorm = weights.vector(latent.queryNorm)
        unsafe query = weights.matrix(latent.query, arithmetic)
        unsafe keyValueDown = weights.matrix(latent.keyValueDown, arithmetic)
        unsafe keyValueNorm = weights.vector(latent.keyValueNorm)
        switch latent.keyValueUp {
        case .split(let key, let value):
            unsafe keyUp = .transposed(weights.matrix(key, arithmetic))
            unsafe valueUp = weights.matrix(value, arithmetic)
            unsafe valueUpStride = latent.valueSize
        case .joined(let both):
            let matrix = unsafe weights.matrix(both, arithmetic)
            let stride = latent.plainSize + latent.valueSize
            unsafe keyUp = .rows(matrix, stride: stride)
            unsafe valueUp = matrix.rows(from: latent.plainSize)
            unsafe valueUpStride = stride
        }
        unsafe rank = latent.rank
        unsafe plainSize = latent.plainSize
        unsafe turnedSize = latent.turnedSize
        unsafe valueSize = latent.valueSize
    }
}

extension LayerState {
    /// - Parameters:
    ///   - cacheIndex: number of the next layer that looks positions up; counts this one.
    ///   - context: positions of the cache.
    init(
        _ layer: Layer, of model: ModelDescription, cacheIndex: inout Int, context: Int,
        _ arithmetic: Arithmetic, _ weights: borrowing ResidentWeights
    ) {
        unsafe attentionNorm = NormState(layer.attentionNorm, weights)
        unsafe expertNorm = NormState(layer.feedForwardNorm, weights)
        unsafe attentionOutput = weights.matrix(layer.mixerOutput, arithmetic)
        unsafe hasExperts = layer.experts != nil
        unsafe dense = layer.dense.map { dense in
            unsafe DenseMatrices(
                gate: weights.matrix(dense.gate, arithmetic),
                up: weights.matrix(dense.up, arithmetic),
                down: weights.matrix(dense.down, arithmetic))
        }
        unsafe denseGate = weights.vector(layer.experts?.sharedGate)
        unsafe lookup = Lookup(
            cacheIndex: cacheIndex, window: context, queryStride: model.headSize)
        switch layer.mixer {
        case .attention(let own):
            unsafe attention = .heads(HeadAttention(own, arithmetic, weights))
            unsafe outputBias = weights.vector(own.output.bias)
            unsafe lookup.window = min(context, own.window ?? context)
            unsafe lookup.queryStride = own.isGated ? 2 * model.headSize : model.headSize
            unsafe lookup.sinks = weights.vector(own.sinks)
            unsafe lookup.isGated = own.isGated
            cacheIndex += 1
        case .latent(let latent):
            unsafe attention = .latent(LatentHeads(latent, arithmetic, weights))
            cacheIndex += 1
        case .convolution, .deltaNet:
            unsafe attention = .none
        }
    }
}

extension LayerAttention {
    /// The matrix that the layer begins with.
    var first: Matrix? {
        switch unsafe self {
        case .none: nil
        case .heads(let heads): unsafe heads.query
        case .latent(let latent): unsafe latent.queryDown ?? latent.query
        }
    }
}
