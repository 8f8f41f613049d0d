public import ExpertStreaming

/// Where an engine's time went, and what its streamer did. Subtract two snapshots for the figures
/// of a span.
public struct EngineStatistics: Sendable, Equatable {
    /// Tokens computed.
    public var tokens: UInt64 = 0
    public var attentionNanoseconds: UInt64 = 0
    public var routerNanoseconds: UInt64 = 0
    /// Experts, waiting for them included, and dense layers.
    public var expertNanoseconds: UInt64 = 0
    /// Final norm and logits.
    public var headNanoseconds: UInt64 = 0
    /// Experts computed, once per layer and chunk, by the planes used of them.
    public var experts = PlaneCounts()
    /// Guessing the next layers' experts; part of `expertNanoseconds`.
    public var predictionNanoseconds: UInt64 = 0
    /// What the miss policy did.
    public var misses = MissAccounting()
    /// How good the guesses were.
    public var prediction = PredictionStatistics()
    /// Times the cache gave memory back, and took some again, because memory was short.
    public var pressureShrinks: UInt64 = 0
    public var pressureGrowths: UInt64 = 0
    public var streaming = ExpertStreamerStatistics()

    public init() {}

    /// Time with something to compute: all of it but the wait for the disk.
    public var computeNanoseconds: UInt64 {
        let all = attentionNanoseconds + routerNanoseconds + expertNanoseconds + headNanoseconds
        return all - min(all, streaming.stallNanoseconds)
    }

    /// The span's figures for one token.
    public var perToken: TokenFigures { TokenFigures(self) }

    public static func - (later: Self, earlier: Self) -> Self {
        var difference = Self()
        difference.tokens = later.tokens - earlier.tokens
        difference.attentionNanoseconds = later.attentionNanoseconds - earlier.attentionNanoseconds
        difference.routerNanoseconds = later.routerNanoseconds - earlier.routerNanoseconds
        difference.expertNanoseconds = later.expertNanoseconds - earlier.expertNanoseconds
        difference.headNanoseconds = later.headNanoseconds - earlier.headNanoseconds
        difference.experts = later.experts - earlier.experts
        difference.predictionNanoseconds =
            later.predictionNanoseconds - earlier.predictionNanoseconds
        difference.misses = later.misses - earlier.misses
        difference.prediction = later.prediction - earlier.prediction
        difference.pressureShrinks = later.pressureShrinks - earlier.pressureShrinks
        difference.pressureGrowths = later.pressureGrowths - earlier.pressureGrowths
        difference.streaming = later.streaming - earlier.streaming
        return difference
    }
}

/// What one token took on average over a span.
public struct TokenFigures: Sendable, Equatable {
    /// Bytes read because a token waited for them.
    public var demandBytes = 0.0
    /// Seconds waited for the disk with nothing to compute.
    public var stallSeconds = 0.0
    public var computeSeconds = 0.0
    /// Experts in memory per expert asked for, 0 to 1.
    public var hitRate = 1.0
    /// Experts computed with so many planes, 1 ... 4 at indices 0 ... 3. One that several tokens
    /// of a chunk share counts once.
    public var expertsByPlanes = [0.0, 0.0, 0.0, 0.0]

    init(_ span: EngineStatistics) {
        let tokens = Double(max(1, span.tokens))
        demandBytes = Double(span.streaming.bytesRead) / tokens
        stallSeconds = Double(span.streaming.stallNanoseconds) / 1e9 / tokens
        computeSeconds = Double(span.computeNanoseconds) / 1e9 / tokens
        hitRate = span.streaming.hitRate
        expertsByPlanes = (1...4).map { Double(span.experts[$0]) / tokens }
    }
}
