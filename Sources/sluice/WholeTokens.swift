import ArgumentParser
import Benchmarking
import CHost
import ExpertStreaming
import Glibc
import Inference
import Measuring
import ModelFormats

/// The options of `bench decode` and `bench prefill`.
struct WholeTokenArguments: ParsableArguments {
    @OptionGroup var model: ModelArgument
    @OptionGroup var engine: EngineArguments

    @Option(
        help: ArgumentHelp(
            "Instruction set of the kernels; default: the best of this machine.",
            valueName: "name"))
    var isa: String?

    @Flag(inversion: .prefixedNo, help: "Fill the expert cache before anything is measured.")
    var preload = true

    @OptionGroup var repeated: RoundsArgument
    @OptionGroup var report: ReportArguments
}

/// An engine that is measured, and the memory that it is measured by.
struct MeasuredEngine: ~Copyable {
    var engine: Engine
    let bench: KernelBench
    let work: TokenWork
    let chunk: Int
    private let vocabulary: Int
    private let allocations: AllocationCounter?
    /// What every thread sweeps to measure the memory: enough to leave the caches, and little beside
    /// a model.
    private static let arenaBytesPerThread = 64 << 20

    /// - Parameter positions: What the key-value cache must hold.
    init(_ arguments: WholeTokenArguments, positions: Int) throws {
        let description = try ModelLocation.open(arguments.model.model)
        var options = try arguments.engine.options(for: description)
        if let isa = arguments.isa { options.instructionSet = isa }
        options.context = options.context ?? min(description.contextLength, max(positions, 1))
        let processors = try MeasuringProcessors.chosen(options.threads)
        let bench = try KernelBench(
            processors: processors,
            arenaBytes: processors.count * MeasuredEngine.arenaBytesPerThread)
        // The ceiling is one on all memory of the process.
        options.memoryBytes = options.memoryBytes.map { $0 - bench.arenaBytes }
        let plan = try MemoryPlan(model: description, options: options)
        guard plan.context >= positions else {
            throw InputError("\(positions) positions do not fit --ctx \(plan.context)")
        }
        let work = TokenWork(
            description, planes: options.expertPlanes, arithmetic: options.arithmetic)
        let chunk = plan.chunk
        var engine = try Loading.engine(description, options, plan)
        if arguments.preload { try Loading.preload(&engine) }
        self.init(
            engine: engine, bench: bench, work: work, chunk: chunk,
            vocabulary: description.vocabularyCount)
    }

    /// Apart from the above, because Swift 6.2 takes fields for initialized when an initializer of a
    /// noncopyable type throws.
    private init(
        engine: consuming Engine, bench: KernelBench, work: TokenWork, chunk: Int, vocabulary: Int
    ) {
        self.engine = engine
        self.bench = bench
        self.work = work
        self.chunk = chunk
        self.vocabulary = vocabulary
        allocations = AllocationCounter()
    }

    /// The tokens at some positions: from all over the vocabulary, and always the same.
    func ids(_ positions: Range<Int>) -> [Int32] {
        let vocabulary = self.vocabulary
        return positions.map { Int32(($0 + 1) * 7919 % vocabulary) }
    }

    /// A plain read of all threads, in bytes per second: the median of three passes.
    func readRate() -> Double {
        Spread((0..<3).map { _ in bench.readRate(threads: bench.threads) }).median
    }

    /// Bytes of keys and values that a token reads behind `positions` others.
    func keyValueBytes(positions: Int) -> Int {
        engine.plan.keyValueBytes / (engine.plan.context * engine.plan.sequences) * (positions + 1)
    }

    /// Runs `body`, which computes `tokens` tokens.
    mutating func measure(
        tokens: Int, _ body: (inout Engine) throws -> Void
    ) throws -> WholeTokenRun {
        let before = engine.statistics
        let allocated = allocations?.count ?? 0
        let start = host_nanoseconds()
        try body(&engine)
        let seconds = Double(host_nanoseconds() - start) / 1e9
        let made = allocations.map { Double($0.count - allocated) / Double(tokens) }
        return WholeTokenRun(
            tokens: tokens, seconds: seconds, statistics: engine.statistics - before,
            allocationsPerToken: made)
    }
}

/// Allocations of this process, where the library that counts them was loaded before it
/// (benchmarks/README.md): the command itself counts nothing.
struct AllocationCounter {
    private typealias Count = @convention(c) () -> UInt64
    private let counter: Count

    /// Nil where nothing counts.
    init?() {
        guard let symbol = unsafe dlsym(nil, "allocations_of_all_threads") else { return nil }
        counter = unsafe unsafeBitCast(symbol, to: Count.self)
    }

    /// Since the process began.
    var count: UInt64 { counter() }
}

/// One measured span. Times are seconds of one token.
struct WholeTokenRun: Encodable {
    /// Where the time of a token goes. The parts add up to all of it.
    struct Split: Encodable {
        var attention: Double
        var router: Double
        /// Experts, without waiting for them.
        var experts: Double
        var head: Double
        /// Waiting for the disk with nothing to compute.
        var stall: Double
        /// Between the stages.
        var other: Double

        init(_ seconds: Double, tokens: Int, _ statistics: EngineStatistics) {
            let perToken = { (nanoseconds: UInt64) in Double(nanoseconds) / 1e9 / Double(tokens) }
            attention = perToken(statistics.attentionNanoseconds)
            router = perToken(statistics.routerNanoseconds)
            stall = perToken(statistics.streaming.stallNanoseconds)
            experts = max(0, perToken(statistics.expertNanoseconds) - stall)
            head = perToken(statistics.headNanoseconds)
            other = max(
                0, seconds / Double(tokens) - attention - router - experts - head - stall)
        }

        init(shares split: Split) {
            self = split
            let all = split.parts.reduce(0) { $0 + $1.seconds }
            attention /= all
            router /= all
            experts /= all
            head /= all
            stall /= all
            other /= all
        }

        init(medians splits: [Split]) {
            self = splits[0]
            let median = { (part: KeyPath<Split, Double>) in
                Spread(splits.map { $0[keyPath: part] }).median
            }
            attention = median(\.attention)
            router = median(\.router)
            experts = median(\.experts)
            head = median(\.head)
            stall = median(\.stall)
            other = median(\.other)
        }

        var parts: [(name: String, seconds: Double)] {
            [
                ("attention", attention), ("router", router), ("experts", experts), ("head", head),
                ("stall", stall), ("other", other),
            ]
        }
    }

    var tokensPerSecond: Double
    var secondsPerToken: Double
    var split: Split
    var hitRate: Double
    var allocationsPerToken: Double?

    init(
        tokens: Int, seconds: Double, statistics: EngineStatistics, allocationsPerToken: Double?
    ) {
        tokensPerSecond = Double(tokens) / seconds
        secondsPerToken = seconds / Double(tokens)
        split = Split(seconds, tokens: tokens, statistics)
        hitRate = statistics.streaming.hitRate
        self.allocationsPerToken = allocationsPerToken
    }
}

/// The rounds of one measurement of whole tokens. Times are seconds of one token, rates per second.
struct WholeTokenRow: Encodable {
    /// Positions before the first token that is measured.
    var at: Int
    /// Computed in each round.
    var tokens: Int
    var tokensPerSecond: Spread
    /// Medians over the rounds, each part for itself.
    var split: WholeTokenRun.Split
    /// Of the split's sum.
    var splitShares: WholeTokenRun.Split
    /// What a token touches: weights, and keys and values.
    var bytesPerToken: Int
    /// Two for each multiplication of weights with its addition.
    var gigaflopsPerSecond: Double
    /// Of the time that the memory, or the kernels in the cache, would need at least.
    var rooflineShare: Spread
    /// The plain reads before each round.
    var readGigabytesPerSecond: Spread
    /// Most of any round; nil where nothing counts them.
    var allocationsPerToken: Double?
    var hitRate: Double
    var runs: [WholeTokenRun]

    /// - Parameter leastSeconds: Of all the tokens of a round, by the round's rate of reading.
    init(
        at: Int, tokens: Int, bytesPerToken: Int, products: Int, runs: [WholeTokenRun],
        readRates: [Double], leastSeconds: [Double]
    ) {
        self.at = at
        self.tokens = tokens
        self.bytesPerToken = bytesPerToken
        self.runs = runs
        tokensPerSecond = Spread(runs.map(\.tokensPerSecond))
        split = .init(medians: runs.map(\.split))
        splitShares = .init(shares: split)
        gigaflopsPerSecond =
            2 * Double(products) / Double(tokens) * tokensPerSecond.median / 1e9
        rooflineShare = Spread(
            zip(runs, leastSeconds).map { $1 / ($0.secondsPerToken * Double(tokens)) })
        readGigabytesPerSecond = Spread(readRates.map { $0 / 1e9 })
        allocationsPerToken = runs.compactMap(\.allocationsPerToken).max()
        hitRate = runs.map(\.hitRate).min() ?? 1
    }

    static func table(_ first: String, _ rows: [WholeTokenRow]) -> String {
        var lines = [
            [first, "tok/s"] + rows[0].split.parts.map(\.name)
                + ["ms per token", "roofline", "GFLOP/s", "read GB/s"]
        ]
        let counted = rows.contains { $0.allocationsPerToken != nil }
        if counted { lines[0].append("allocations") }
        for row in rows {
            var line = ["\(first == "prompt" ? row.tokens : row.at)", row.tokensPerSecond.text(2)]
            line += zip(row.split.parts, row.splitShares.parts).map {
                "\(fixed($0.seconds * 1000, 2)) (\(fixed($1.seconds * 100, 0)) %)"
            }
            line += [
                fixed(1000 / row.tokensPerSecond.median, 2),
                "\(fixed(row.rooflineShare.median * 100, 0)) %", fixed(row.gigaflopsPerSecond, 0),
                row.readGigabytesPerSecond.text(1),
            ]
            if counted { line.append(fixed(row.allocationsPerToken ?? 0, 2)) }
            lines.append(line)
        }
        return TextTable.aligned(lines)
            + rows.filter { $0.hitRate < 1 }.prefix(1).map {
                "not every expert was in memory (hit rate \(fixed($0.hitRate * 100, 1)) %); the "
                    + "roofline is the memory's, without the disk\n"
            }.joined()
    }
}

/// What `bench decode` and `bench prefill` measured.
struct WholeTokenReport: Encodable {
    var engine: EngineFigures
    var chunk: Int
    /// Of the whole process so far; nil where nothing counts them.
    var allocations: UInt64?
    var rows: [WholeTokenRow]

    init(_ measured: borrowing MeasuredEngine, rows: [WholeTokenRow]) {
        engine = EngineFigures(measured.engine)
        chunk = measured.chunk
        allocations = AllocationCounter()?.count
        self.rows = rows
    }
}
