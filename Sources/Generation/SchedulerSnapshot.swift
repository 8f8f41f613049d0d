public import Inference

/// What a scheduler is doing.
public enum SchedulerState: Sendable, Equatable {
    /// The model is being loaded: the share of its resident weights read, 0 ... 1.
    case loading(Double)
    case ready
    /// What runs is being finished, and nothing new is taken.
    case draining
    case stopped
    /// For good; why.
    case failed(String)
}

/// A scheduler's counters at one moment. All but the gauges only rise.
public struct SchedulerSnapshot: Sendable {
    public var state = SchedulerState.loading(0)
    /// Gauges: requests that wait, sequences that are computed, and how many could be.
    public var queued = 0
    public var running = 0
    public var slots = 0
    /// Gauge: tokens generated per second, over the last ten.
    public var tokensPerSecond = 0.0
    /// Tokens of prompts: all, and those that need not be computed.
    public var promptTokens: UInt64 = 0
    public var cachedTokens: UInt64 = 0
    /// Tokens generated.
    public var generatedTokens: UInt64 = 0
    /// Choices by how they ended.
    public var finished: [StopReason: UInt64] = [:]
    /// Requests that were submitted, that failed by an error, and that were refused.
    public var requests: UInt64 = 0
    public var failed: UInt64 = 0
    public var refused: UInt64 = 0
    public var statistics = EngineStatistics()
    public var plan: MemoryPlan
    /// Gauge: memory for expert slots now.
    public var cacheBytes = 0
    /// Gauge: the expert cache has been given back until there is work.
    public var isCacheReleased = false
    public var prefixCache = PrefixCacheCounters()
}

/// What became of computed prompts on disk.
public struct PrefixCacheCounters: Sendable, Equatable {
    /// Gauges: files, and their bytes.
    public var files = 0
    public var bytes = 0
    /// Files written, read into a slot, and removed: to keep the size, or as damaged.
    public var written: UInt64 = 0
    public var restored: UInt64 = 0
    public var evicted: UInt64 = 0
    public var damaged: UInt64 = 0

    public init() {}
}
