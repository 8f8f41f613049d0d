public import ExpertStreaming

/// Where an engine's time went, and what its streamer did. Subtract two snapshots for the figures
/// of a span.
public struct EngineStatistics: Sendable, Equatable {
    /// Tokens computed.
    public var tokens: UInt64 = 0
    public var attentionNanoseconds: UInt64 = 0
    public var routerNanoseconds: UInt64 = 0
    /// Experts, waiting for them included.
    public var expertNanoseconds: UInt64 = 0
    /// Final norm and logits.
    public var headNanoseconds: UInt64 = 0
    /// Guessing the next layers' experts; part of `expertNanoseconds`.
    public var predictionNanoseconds: UInt64 = 0
    /// What the miss policy did.
    public var misses = MissAccounting()
    /// How good the guesses were.
    public var prediction = PredictionStatistics()
    public var streaming = ExpertStreamerStatistics()

    public init() {}

    public static func - (later: Self, earlier: Self) -> Self {
        var difference = Self()
        difference.tokens = later.tokens - earlier.tokens
        difference.attentionNanoseconds = later.attentionNanoseconds - earlier.attentionNanoseconds
        difference.routerNanoseconds = later.routerNanoseconds - earlier.routerNanoseconds
        difference.expertNanoseconds = later.expertNanoseconds - earlier.expertNanoseconds
        difference.headNanoseconds = later.headNanoseconds - earlier.headNanoseconds
        difference.predictionNanoseconds =
            later.predictionNanoseconds - earlier.predictionNanoseconds
        difference.misses = later.misses - earlier.misses
        difference.prediction = later.prediction - earlier.prediction
        difference.streaming = later.streaming - earlier.streaming
        return difference
    }
}
