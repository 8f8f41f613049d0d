internal import ExpertStreaming
public import Inference
internal import ModelFormats

/// How fast a model can be on a machine, from the bytes that a token touches and the rates at which
/// memory and disk give them.
///
/// A token is never faster than its bytes come from memory, nor than its missing experts come from
/// the disk; the two go on side by side, so the slower one sets the pace:
///
///     seconds per token = max(bytes touched / memory rate, bytes missed / disk rate)
///
/// That is a ceiling for short contexts: keys and values, arithmetic and waiting come on top.
public struct SpeedPrediction: Sendable, Equatable, Encodable {
    /// What decides the speed at one hit rate.
    public enum Bound: String, Sendable, Encodable {
        case disk, memory
    }

    public struct Row: Sendable, Equatable, Encodable {
        /// Share of the chosen experts' bytes that are in the cache, 0 ... 1.
        public var hitRate: Double
        public var missedBytesPerToken: Int
        public var tokensPerSecond: Double
        public var bound: Bound
    }

    /// Hit rates that published routing traces had with a cache of this many times a token's
    /// experts: the least and the greatest over OLMoE, Qwen3-30B-A3B, Gemma 4, Kimi-Linear and
    /// gpt-oss, under LRU or LFU, whichever was better.
    static let publishedHitRates: [(multiple: Double, least: Double, greatest: Double)] = [
        (1, 0.155, 0.319), (2, 0.31, 0.60), (4, 0.51, 0.806), (6, 0.591, 0.936), (8, 0.645, 0.975),
    ]

    /// Weights that every token is multiplied with, experts apart.
    public var residentBytesPerToken: Int
    /// Experts that one token uses.
    public var activeSetBytes: Int
    public var memoryBytesPerSecond: Double
    public var diskBytesPerSecond: Double
    /// At hit rates from 0 to 1.
    public var rows: [Row]
    /// The expert cache of the plan, as a multiple of the active set.
    public var cacheMultiple: Double
    /// What may be expected of that cache: between the two. Equal where it holds everything, or so
    /// little that nothing is ever found in it.
    public var least: Row
    public var greatest: Row

    /// - Parameters:
    ///   - memoryBytesPerSecond: Plain reads by as many threads as compute.
    ///   - diskBytesPerSecond: Reads as the streamer makes them.
    public init(
        model: ModelDescription, plan: MemoryPlan, memoryBytesPerSecond: Double,
        diskBytesPerSecond: Double
    ) {
        // Of the embedding a token takes one row, unless the head is made of it.
        let embedding = model.tokenEmbedding.byteCount
        let resident =
            model.residentTensors.reduce(0) { $0 + $1.byteCount }
            - (model.tiesEmbeddings ? 0 : embedding - embedding / max(1, model.vocabularyCount))
        self.init(
            residentBytesPerToken: resident, activeSetBytes: model.activeSetBytes,
            cacheMultiple: plan.streaming.multipleOfActiveSet,
            holdsEverything: plan.streaming.holdsEverything, isDense: model.isDense,
            memoryBytesPerSecond: memoryBytesPerSecond, diskBytesPerSecond: diskBytesPerSecond)
    }

    init(
        residentBytesPerToken: Int, activeSetBytes: Int, cacheMultiple: Double,
        holdsEverything: Bool, isDense: Bool = false, memoryBytesPerSecond: Double,
        diskBytesPerSecond: Double
    ) {
        func row(_ hitRate: Double) -> Row {
            let missed = Double(activeSetBytes) * (1 - hitRate)
            let memory = Double(residentBytesPerToken + activeSetBytes) / memoryBytesPerSecond
            let disk = missed / diskBytesPerSecond
            return Row(
                hitRate: hitRate, missedBytesPerToken: Int(missed),
                tokensPerSecond: 1 / max(memory, disk), bound: disk > memory ? .disk : .memory)
        }
        let range = SpeedPrediction.hitRates(
            multiple: cacheMultiple, holdsEverything: holdsEverything, isDense: isDense)
        self.residentBytesPerToken = residentBytesPerToken
        self.activeSetBytes = activeSetBytes
        self.memoryBytesPerSecond = memoryBytesPerSecond
        self.diskBytesPerSecond = diskBytesPerSecond
        self.cacheMultiple = cacheMultiple
        rows = [0, 0.5, 0.7, 0.85, 0.95, 1].map { row($0) }
        least = row(range.least)
        greatest = row(range.greatest)
    }

    /// The range of hit rates of a cache, between the published multiples on a straight line.
    static func hitRates(
        multiple: Double, holdsEverything: Bool, isDense: Bool = false
    ) -> (least: Double, greatest: Double) {
        let known = publishedHitRates
        if holdsEverything { return (1, 1) }
        // Every token uses all of it in turn, and what fits stays.
        if isDense { return (min(1, multiple), min(1, multiple)) }
        // Less than a token's experts: they push each other out before the next token comes.
        guard multiple >= known[0].multiple else { return (0, 0) }
        guard let next = known.firstIndex(where: { $0.multiple > multiple }) else {
            return (known[known.count - 1].least, known[known.count - 1].greatest)
        }
        let (low, high) = (known[next - 1], known[next])
        let share = (multiple - low.multiple) / (high.multiple - low.multiple)
        return (
            low.least + (high.least - low.least) * share,
            low.greatest + (high.greatest - low.greatest) * share
        )
    }
}
