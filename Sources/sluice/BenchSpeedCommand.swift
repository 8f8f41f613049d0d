import ArgumentParser
import Benchmarking
import ExpertStreaming
import Inference
import ModelFormats
import Tokenization

struct BenchSpeedCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "speed",
        abstract: "Measures decode under several settings, interleaved.",
        discussion: """
            Every round runs every setting once, with a new engine and a cold cache, so that slow drifts of the \
            machine meet all of them alike. Figures are medians over the rounds with least and greatest. The \
            tokens are the text's; without one they are drawn at temperature 1 with a fixed seed. Besides \
            options, a setting knows governor=on|off (of --prefetch) and warm-up=none|prompt (with --prompt).
            """)

    @OptionGroup var model: ModelArgument
    @OptionGroup var engine: EngineArguments
    @OptionGroup var replay: ReplayArgument

    @OptionGroup var compared: SettingArguments

    @Option(
        name: .customShort("n"), help: ArgumentHelp("Tokens measured per run.", valueName: "tokens")
    )
    var count: Int = 64

    @Option(help: ArgumentHelp("Tokens decoded before, to fill the cache.", valueName: "tokens"))
    var warmUp: Int = 16

    @Option(
        help: ArgumentHelp("Tokens computed as a prompt before those.", valueName: "tokens"))
    var prompt: Int = 0

    @OptionGroup var repeated: RoundsArgument

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("File with the text to decode, token by token.", valueName: "file"))
    var file: String?

    @OptionGroup var report: ReportArguments

    func validate() throws {
        if count < 1 { throw ValidationError("-n \(count) measures nothing.") }
        if warmUp < 0 { throw ValidationError("--warm-up \(warmUp) is negative.") }
        if prompt < 0 { throw ValidationError("--prompt \(prompt) is negative.") }
    }

    func run() throws {
        try Failure.reporting {
            let description = try ModelLocation.open(model.model)
            let settings = try compared.settings()
            let tokens = try tokens(description)
            let routing = try replay.load(model: description, promptTokens: prompt)
            var runs = settings.map { _ in [SpeedRun]() }
            for round in 0..<repeated.rounds {
                for (index, setting) in settings.enumerated() {
                    Console.progress("round \(round + 1) of \(repeated.rounds): \(setting.text)")
                    runs[index].append(try measure(setting, description, tokens, routing))
                }
            }
            let rows = zip(settings, runs).map { SpeedRow(setting: $0.text, runs: $1) }
            Console.out(report.json ? try JSONOutput.text(["rows": rows]) : SpeedRow.table(rows))
        }
    }

    private func measurement(_ tokens: [Int32]?) -> DecodeMeasurement {
        DecodeMeasurement(
            prompt: prompt, warmUp: warmUp, count: count,
            tokens: tokens.map { .given($0) } ?? .drawn)
    }

    /// Tokens of a run: prompt, those that fill the cache, those measured.
    private var total: Int { measurement(nil).total }

    /// The ids of prompt and decode; nil to draw them.
    private func tokens(_ description: ModelDescription) throws -> [Int32]? {
        guard let file else { return nil }
        let tokenizer = try Tokenizer(metadata: description.file.metadata)
        let ids = tokenizer.encode(
            try Console.readFile(file), addSpecial: true, parseSpecial: false)
        guard ids.count >= total else {
            throw InputError(
                "\(file): \(ids.count) tokens, but --prompt, --warm-up and -n ask for \(total)")
        }
        return ids
    }

    private func measure(
        _ setting: EngineSetting, _ description: ModelDescription, _ tokens: [Int32]?,
        _ routing: RoutingReplay?
    ) throws -> SpeedRun {
        var arguments = engine
        try setting.apply(to: &arguments)
        var options = try arguments.options(for: description, replaying: replay.isGiven)
        try setting.apply(to: &options)
        guard options.warmUp == .none || prompt > 0 else {
            throw InputError(
                "--setting '\(setting.text)': there is no prompt to warm up from; give --prompt")
        }
        options.context = options.context ?? min(description.contextLength, total + 1)
        let plan = try MemoryPlan(model: description, options: options)
        guard plan.context >= total else {
            throw InputError("\(total) tokens do not fit --ctx \(plan.context)")
        }
        var engine = try Engine(model: description, options: options, plan: plan)
        try engine.forceRouting(routing)
        let measured = try measurement(tokens).run(&engine)
        let statistics = measured.statistics
        return SpeedRun(
            promptSeconds: measured.promptSeconds, seconds: measured.seconds, tokens: count,
            statistics: statistics,
            misses: MissFigures(
                statistics.misses, policy: engine.missPolicy, planes: engine.planesPerExpert),
            engine: EngineFigures(engine))
    }
}

/// What one run of one setting came to.
struct SpeedRun: Encodable {
    /// The prompt's time, filling the cache after it included.
    var promptSeconds: Double
    var tokensPerSecond: Double
    var hitRate: Double
    var bytesReadPerToken: Double
    var stallSecondsPerToken: Double
    var computeSecondsPerToken: Double
    /// With reads in flight that a token waits for, or will.
    var diskBusySecondsPerToken: Double
    /// What was read ahead, by what became of it so far; part of `bytesReadPerToken`.
    var usefulAheadBytesPerToken: Double
    var wastedAheadBytesPerToken: Double
    var prefetchLevel: Int
    var misses: MissFigures
    var prediction: PredictionFigures?
    var engine: EngineFigures

    init(
        promptSeconds: Double, seconds: Double, tokens: Int, statistics: EngineStatistics,
        misses: MissFigures,
        engine: EngineFigures
    ) {
        self.promptSeconds = promptSeconds
        tokensPerSecond = Double(tokens) / seconds
        let streaming = statistics.streaming
        diskBusySecondsPerToken = Double(streaming.diskBusyNanoseconds) / 1e9 / Double(tokens)
        usefulAheadBytesPerToken = Double(streaming.usefulSpeculativeBytes) / Double(tokens)
        wastedAheadBytesPerToken = Double(streaming.wastedSpeculativeBytes) / Double(tokens)
        prefetchLevel = streaming.prefetchLevel
        let figures = statistics.perToken
        hitRate = figures.hitRate
        bytesReadPerToken = figures.demandBytes
        stallSecondsPerToken = figures.stallSeconds
        computeSecondsPerToken = figures.computeSeconds
        self.misses = misses
        prediction = PredictionFigures(statistics)
        self.engine = engine
    }
}

/// The runs of one setting.
struct SpeedRow: Encodable {
    var setting: String
    var tokensPerSecond: Spread
    var hitRate: Spread
    var bytesReadPerToken: Spread
    var stallSecondsPerToken: Spread
    var computeSecondsPerToken: Spread
    var runs: [SpeedRun]

    init(setting: String, runs: [SpeedRun]) {
        self.setting = setting
        self.runs = runs
        tokensPerSecond = Spread(runs.map(\.tokensPerSecond))
        hitRate = Spread(runs.map(\.hitRate))
        bytesReadPerToken = Spread(runs.map(\.bytesReadPerToken))
        stallSecondsPerToken = Spread(runs.map(\.stallSecondsPerToken))
        computeSecondsPerToken = Spread(runs.map(\.computeSecondsPerToken))
    }

    static func table(_ rows: [SpeedRow]) -> String {
        rows.map { row in
            [
                row.setting.isEmpty ? "as given" : row.setting,
                "\(row.tokensPerSecond.text(2)) tok/s",
                "hit rate \(fixed(row.hitRate.median * 100, 1)) %",
                "\(ByteSize(bytes: Int(row.bytesReadPerToken.median))) read per token",
                "stall \(fixed(row.stallSecondsPerToken.median * 1000, 1)) ms per token",
            ].joined(separator: " | ") + "\n"
        }.joined()
    }
}
