import ExpertStreaming
import Generation
import Inference

/// What is true of an engine whatever it computed, as `--stats` writes it. Bytes, seconds, shares
/// of 1.
struct EngineFigures: Encodable {
    var model: String
    var architecture: String
    var threads: Int
    var instructionSet: String
    var math: String
    var context: Int
    var ioMode: String
    var ioModeReason: String
    var memoryBudgetBytes: Int
    var plannedBytes: Int
    var peakMemoryBytes: Int
    var cgroupPeakMemoryBytes: Int?
    var cacheBytes: Int
    var cacheSlots: Int
    var cacheMultiple: Double
    var hitRate: Double
    var hits: UInt64
    var misses: UInt64
    var bytesRead: UInt64
    /// Bytes of predicted experts among them.
    var bytesReadAhead: UInt64
    var reads: UInt64
    var submits: UInt64
    var stallSeconds: Double
    var diskBusySeconds: Double
    var majorFaults: Int

    init(_ engine: borrowing Engine) {
        let statistics = engine.statistics.streaming
        model = engine.model.name
        architecture = engine.model.architecture.name
        threads = engine.plan.threads
        instructionSet = engine.instructionSet
        math = engine.arithmetic.rawValue
        context = engine.plan.context
        ioMode = engine.ioMode.rawValue
        ioModeReason = engine.ioModeReason
        memoryBudgetBytes = engine.plan.budgetBytes
        plannedBytes = engine.plan.totalBytes
        let peak = ProcessMemory.peak()
        peakMemoryBytes = peak?.residentBytes ?? 0
        cgroupPeakMemoryBytes = peak?.groupBytes
        cacheBytes = engine.plan.cacheBytes
        cacheSlots = engine.plan.streaming.slotCount
        cacheMultiple = engine.plan.streaming.multipleOfActiveSet
        hitRate = statistics.hitRate
        hits = statistics.hits
        misses = statistics.misses
        bytesRead = statistics.bytesRead
        bytesReadAhead = statistics.speculativeBytes
        reads = statistics.reads
        submits = statistics.submits
        stallSeconds = Double(statistics.stallNanoseconds) / 1e9
        diskBusySeconds = Double(statistics.diskBusyNanoseconds) / 1e9
        majorFaults = peak?.majorFaults ?? 0
    }
}

/// What a miss policy did in decode: shares of the router's gate mass, which add up to 1.
struct MissFigures: Encodable {
    var policy: String
    /// Computed as chosen with so many planes, by their number from 1 on.
    var massByPlanes: [Double]
    var skippedMass: Double
    var swappedMass: Double
    var deferredMass: Double
    /// Experts that the router chose, and of those the ones that the policy touched.
    var choices: UInt64
    var narrowed: UInt64
    var skipped: UInt64
    var swapped: UInt64
    var deferred: UInt64

    init(_ misses: MissAccounting, policy: MissPolicy, planes: Int) {
        let whole = max(misses.mass, .leastNormalMagnitude)
        self.policy = policy.description
        massByPlanes = (1...planes).map { misses.widthMass[$0] / whole }
        skippedMass = misses.skippedMass / whole
        swappedMass = misses.swappedMass / whole
        deferredMass = misses.deferredMass / whole
        choices = misses.choices
        narrowed = (1..<planes).reduce(0) { $0 + misses.widthCount[$1] }
        skipped = misses.skippedCount
        swapped = misses.swappedCount
        deferred = misses.deferredCount
    }

    /// For people; nil where every expert was computed as chosen, at full width.
    var summary: String? {
        let parts = [
            ("at a prefix", massByPlanes.dropLast().reduce(0, +)), ("skipped", skippedMass),
            ("swapped", swappedMass), ("a layer late", deferredMass),
        ].filter { $0.1 > 0 }.map { "\(fixed($0.1 * 100, 2)) % \($0.0)" }
        return parts.isEmpty ? nil : "gate mass " + parts.joined(separator: ", ")
    }
}

/// How good guesses of experts were in decode.
struct PredictionFigures: Encodable {
    /// By layers ahead, then by rank of the guess: share that was chosen.
    var recallByRank: [[Double]]
    var seconds: Double

    /// Nil without guesses.
    init?(_ statistics: EngineStatistics) {
        let prediction = statistics.prediction
        guard prediction.guesses.contains(where: { $0 > 0 }) else { return nil }
        recallByRank = prediction.guesses.indices.map { ahead in
            (0..<prediction.ranks).map { prediction.recall(ahead: ahead + 1, rank: $0) ?? 0 }
        }
        seconds = Double(statistics.predictionNanoseconds) / 1e9
    }
}

/// The figures of one generation. `hitRate` and `bytesReadPerToken` are decode's; the prompt's
/// carry `prefill`.
struct RunFigures: Encodable {
    var text: String?
    var promptTokenIds: [Int32]?
    var tokenIds: [Int32]?
    var stopReason: String
    var seed: UInt64
    var promptTokens: Int
    var generatedTokens: Int
    var prefillSeconds: Double
    var prefillTokensPerSecond: Double
    var prefillHitRate: Double
    var prefillBytesReadPerToken: Double
    var decodeSeconds: Double
    var decodeTokensPerSecond: Double
    var hitRate: Double
    var bytesReadPerToken: Double
    var stallShare: Double
    var stallSeconds: Double
    var computeSeconds: Double
    /// What `--expert-top-p` says.
    var expertTopP: Float?
    /// Experts that the router chose for a decoded token, per layer.
    var expertsPerLayer: Double
    /// Experts computed per decoded token with 1 ... 4 planes.
    var expertsPerTokenByPlanes: [Double]
    var attentionSeconds: Double
    var routerSeconds: Double
    var expertSeconds: Double
    var headSeconds: Double
    var misses: MissFigures
    var prediction: PredictionFigures?
    var peakMemoryBytes: Int
    var ioMode: String
    var engine: EngineFigures

    init(_ result: GenerationResult, _ engine: borrowing Engine, seed: UInt64) {
        let figures = EngineFigures(engine)
        let decode = result.decodeStatistics
        let prefill = result.prefillStatistics
        let steps = Double(max(1, result.decodeSteps))
        text = result.text
        promptTokenIds = result.promptTokens
        tokenIds = result.tokens
        stopReason = result.stopReason.rawValue
        self.seed = seed
        promptTokens = result.promptTokens.count
        generatedTokens = result.tokens.count
        prefillSeconds = result.prefillSeconds
        prefillTokensPerSecond = Double(promptTokens) / result.prefillSeconds
        prefillHitRate = prefill.streaming.hitRate
        prefillBytesReadPerToken = Double(prefill.streaming.bytesRead) / Double(promptTokens)
        decodeSeconds = result.decodeSeconds
        decodeTokensPerSecond =
            result.decodeSteps == 0 ? 0 : Double(result.decodeSteps) / result.decodeSeconds
        hitRate = decode.streaming.hitRate
        bytesReadPerToken = Double(decode.streaming.bytesRead) / steps
        stallShare =
            result.decodeSteps == 0
            ? 0 : Double(decode.streaming.stallNanoseconds) / 1e9 / result.decodeSeconds
        stallSeconds = Double(decode.streaming.stallNanoseconds) / 1e9
        computeSeconds = Double(decode.computeNanoseconds) / 1e9
        expertTopP = engine.routing.topP
        expertsPerLayer =
            Double(decode.misses.choices) / (steps * Double(engine.model.expertLayerCount))
        expertsPerTokenByPlanes = decode.perToken.expertsByPlanes
        attentionSeconds = Double(decode.attentionNanoseconds) / 1e9
        routerSeconds = Double(decode.routerNanoseconds) / 1e9
        expertSeconds = Double(decode.expertNanoseconds) / 1e9
        headSeconds = Double(decode.headNanoseconds) / 1e9
        misses = MissFigures(
            decode.misses, policy: engine.missPolicy, planes: engine.planesPerExpert)
        prediction = PredictionFigures(decode)
        peakMemoryBytes = figures.peakMemoryBytes
        ioMode = figures.ioMode
        self.engine = figures
    }

    /// The figures alone.
    var withoutText: RunFigures {
        var figures = self
        figures.text = nil
        figures.promptTokenIds = nil
        figures.tokenIds = nil
        return figures
    }

    /// One line for people.
    var summary: String {
        let peak = ByteSize(bytes: peakMemoryBytes)
        let budget = ByteSize(bytes: engine.memoryBudgetBytes)
        return [
            "prefill \(fixed(prefillTokensPerSecond, 1)) tok/s (\(promptTokens) tokens)",
            "decode \(fixed(decodeTokensPerSecond, 1)) tok/s (\(generatedTokens) tokens)",
            "hit rate \(fixed(hitRate * 100, 1)) % with a cache of \(fixed(engine.cacheMultiple, 2))x",
            "\(ByteSize(bytes: Int(bytesReadPerToken))) read per token",
            "stall \(fixed(stallShare * 100, 1)) %",
            expertTopP.map { "top-p \($0): \(fixed(expertsPerLayer, 2)) experts per layer" },
            misses.summary,
            "peak memory \(peak) of \(budget)",
            "I/O \(ioMode)",
            "seed \(seed)",
        ].compactMap { $0 }.joined(separator: " | ")
    }
}

/// `value` with so many decimals.
func fixed(_ value: Double, _ decimals: Int) -> String {
    guard value.isFinite, value.magnitude < 1e15 else { return "\(value)" }
    var scale = 1
    for _ in 0..<decimals { scale *= 10 }
    let rounded = Int((value * Double(scale)).rounded())
    guard decimals > 0 else { return "\(rounded)" }
    let fraction = "\(rounded.magnitude % UInt(scale))"
    return (rounded < 0 ? "-" : "") + "\(rounded.magnitude / UInt(scale))."
        + String(repeating: "0", count: decimals - fraction.count) + fraction
}
