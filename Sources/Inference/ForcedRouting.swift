/// A routing copied to where threads can read it without counting references.
@safe struct FlatRouting: ~Copyable {
    private let experts: UnsafeMutablePointer<Int32>
    private let weights: UnsafeMutablePointer<Float>
    private let layerCount: Int
    private let expertsPerToken: Int
    private let tokenCount: Int

    init(_ replay: RoutingReplay) {
        unsafe experts = .allocate(capacity: replay.experts.count)
        unsafe weights = .allocate(capacity: replay.weights.count)
        for index in replay.experts.indices {
            unsafe (experts + index).initialize(to: replay.experts[index])
            unsafe (weights + index).initialize(to: replay.weights[index])
        }
        layerCount = replay.layerCount
        expertsPerToken = replay.expertsPerToken
        tokenCount = replay.tokenCount
    }

    deinit {
        unsafe experts.deallocate()
        unsafe weights.deallocate()
    }

    /// The routing from its first token on; valid as long as this value.
    var start: ForcedRouting {
        unsafe ForcedRouting(
            experts: experts, weights: weights, layerCount: layerCount,
            expertsPerToken: expertsPerToken, tokenCount: tokenCount)
    }
}

/// What is left of a forced routing. Does not own its memory.
@unsafe struct ForcedRouting {
    let experts: UnsafePointer<Int32>
    let weights: UnsafePointer<Float>
    let layerCount: Int
    let expertsPerToken: Int
    let tokenCount: Int
    /// Recorded token of the running chunk's first.
    var next = 0

    init(
        experts: UnsafePointer<Int32>, weights: UnsafePointer<Float>, layerCount: Int,
        expertsPerToken: Int, tokenCount: Int
    ) {
        unsafe self.experts = experts
        unsafe self.weights = weights
        unsafe self.layerCount = layerCount
        unsafe self.expertsPerToken = expertsPerToken
        unsafe self.tokenCount = tokenCount
    }

    /// The choice for token `token` of the running chunk.
    func copy(
        token: Int, layer: Int, experts target: UnsafeMutablePointer<Int32>,
        weights targetWeights: UnsafeMutablePointer<Float>
    ) {
        let place = unsafe (recordedToken(token) * layerCount + layer) * expertsPerToken
        unsafe target.update(from: experts + place, count: expertsPerToken)
        unsafe targetWeights.update(from: weights + place, count: expertsPerToken)
    }

    /// Number of a running chunk's token in the recording.
    func recordedToken(_ token: Int) -> Int { unsafe (next + token) % tokenCount }

    /// The expert of a rank that token `token` of the running chunk will choose.
    func expert(token: Int, layer: Int, rank: Int) -> Int {
        let place = unsafe (recordedToken(token) * layerCount + layer) * expertsPerToken
        return unsafe Int(experts[place + rank])
    }

    /// The chunk of `tokens` is done.
    mutating func advance(_ tokens: Int) {
        unsafe next = (next + tokens) % tokenCount
    }
}
