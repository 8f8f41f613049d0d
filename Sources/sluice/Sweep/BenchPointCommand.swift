import ArgumentParser
import Benchmarking
import CHost
import ExpertStreaming
import Inference
import Measuring
import ModelFormats
import Tokenization

/// One point of a sweep in this process, as `bench sweep` starts it.
struct BenchPointCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "point", abstract: "Measures one point; 'bench sweep' starts it.",
        shouldDisplay: false)

    @OptionGroup var model: ModelArgument
    @OptionGroup var engine: EngineArguments
    @OptionGroup var replay: ReplayArgument
    @OptionGroup var measured: MeasuredTokens

    @Option var setting = ""

    /// What a sweep asks for.
    static let heatTokens = 16

    /// Tokens more, which do not count in the time, for the map of experts.
    @Option var heat = 0

    func run() throws {
        try Failure.reporting {
            let description = try ModelLocation.open(model.model)
            let setting = try EngineSetting(setting)
            var arguments = engine
            try setting.apply(to: &arguments)
            var options = try arguments.options(for: description, replaying: replay.isGiven)
            try setting.apply(to: &options)
            let measurement = try measured.measurement(of: description)
            let total = measurement.total + heat
            options.context = options.context ?? min(description.contextLength, total + 1)
            let plan = try MemoryPlan(model: description, options: options)
            guard plan.context >= total else {
                throw InputError("\(total) tokens do not fit --ctx \(plan.context)")
            }
            // Before the engine takes its memory, and without it.
            let memoryRate = try MachineRates.memory(threads: plan.threads, plan: plan)
            let before = try MachineRates.disk(description, mode: options.io)
            var run = try run(description, options, plan, measurement)
            let after = try MachineRates.disk(description, mode: options.io)
            run.memoryBytesPerSecond = memoryRate
            run.diskBytesPerSecond = (before + after) / 2
            run.setRooflineShare()
            Console.out(try JSONOutput.line(run))
        }
    }

    private func run(
        _ description: ModelDescription, _ options: EngineOptions, _ plan: MemoryPlan,
        _ measurement: DecodeMeasurement
    ) throws -> BenchmarkRun {
        let start = host_nanoseconds()
        var engine = try Engine(model: description, options: options, plan: plan)
        let loadSeconds = Double(host_nanoseconds() - start) / 1e9
        try engine.forceRouting(
            replay.load(model: description, promptTokens: measurement.prompt))
        let faults = ProcessMemory.peak()?.majorFaults ?? 0
        let result = try measurement.run(&engine)
        var run = BenchmarkRun(
            engine: "sluice \(Versions.number)",
            decodeTokensPerSecond: Double(result.tokenSeconds.count) / result.seconds,
            tokenSeconds: result.tokenSeconds)
        run.loadSeconds = loadSeconds
        if measurement.prompt > 0 {
            run.prefillTokensPerSecond = Double(measurement.prompt) / result.promptSeconds
        }
        let peak = ProcessMemory.peak()
        run.majorFaults = (peak?.majorFaults ?? 0) - faults
        run.peakMemoryBytes = peak?.residentBytes
        run.add(result.statistics, tokens: result.tokenSeconds.count, engine)
        let work = TokenWork(
            description, planes: options.expertPlanes, arithmetic: options.arithmetic)
        run.bytesTouchedPerToken = Double(
            work.bytesPerToken + engine.bytesPerPosition
                * (measurement.total - measurement.count / 2))
        if heat > 0 { run.heat = try heatMap(&engine, from: measurement.total) }
        return run
    }

    /// Which experts are used in the tokens after those that counted, and which are in memory then.
    private func heatMap(_ engine: inout Engine, from position: Int) throws -> ExpertHeat? {
        let layers = engine.model.expertLayerCount
        let experts = engine.model.expertCount
        guard !engine.model.isDense else { return nil }
        let uses = UseCounts(layers: layers, experts: experts)
        engine.observe { uses.count($0) }
        let fixed = DecodeMeasurement(prompt: 0, warmUp: 0, count: 0, tokens: .fixed)
        for place in position..<position + heat {
            try engine.decode(fixed.id(place, engine.vocabularyCount) ?? 0, at: place)
        }
        engine.observe(nil)
        var planes: [Int] = []
        for layer in 0..<layers {
            for expert in 0..<experts {
                planes.append(engine.residentPlanes(layer: layer, expert: expert))
            }
        }
        return ExpertHeat(
            layers: layers, experts: experts, uses: uses.counts, residentPlanes: planes,
            planes: engine.planesPerExpert)
    }
}

/// Counts the experts that routers choose.
private final class UseCounts {
    private(set) var counts: [Int]
    private let experts: Int

    init(layers: Int, experts: Int) {
        counts = [Int](repeating: 0, count: layers * experts)
        self.experts = experts
    }

    func count(_ observation: LayerObservation) {
        for rank in unsafe 0..<Int(observation.rankCounts[0]) {
            counts[observation.layer * experts + Int(unsafe observation.chosen[rank])] += 1
        }
    }
}

extension BenchmarkRun {
    /// Adds what an engine counted over so many tokens.
    fileprivate mutating func add(
        _ statistics: EngineStatistics, tokens: Int, _ engine: borrowing Engine
    ) {
        let streaming = statistics.streaming
        func perToken(_ bytes: UInt64) -> Double { Double(bytes) / Double(tokens) }
        hitRate = streaming.hitRate
        let asked = Double(max(1, streaming.hits + streaming.misses))
        // With more than two planes it is not known which of the narrower ones it was.
        switch engine.planesPerExpert {
        case 1: hitsByPlanes = [Double(streaming.hits) / asked]
        case 2:
            hitsByPlanes = [
                Double(streaming.partialHits) / asked, Double(streaming.hits) / asked,
            ]
        default: break
        }
        cacheBytes = engine.plan.cacheBytes
        cacheMultiple = engine.plan.streaming.multipleOfActiveSet
        let apart = min(
            streaming.bytesRead, streaming.upgradeBytes + streaming.speculativeBytes)
        demandBytesPerToken = perToken(streaming.bytesRead - apart)
        upgradeBytesPerToken = perToken(streaming.upgradeBytes)
        // What is not decided about yet was not of use until now.
        usefulAheadBytesPerToken = perToken(streaming.usefulSpeculativeBytes)
        wastedAheadBytesPerToken = perToken(
            streaming.speculativeBytes
                - min(streaming.speculativeBytes, streaming.usefulSpeculativeBytes))
        stallSecondsPerToken = statistics.perToken.stallSeconds
        computeSecondsPerToken = statistics.perToken.computeSeconds
        let misses = MissFigures(
            statistics.misses, policy: engine.missPolicy, planes: engine.planesPerExpert)
        if statistics.misses.mass > 0 {
            gateMassByPlanes = misses.massByPlanes
            approximatedGateMass = 1 - (misses.massByPlanes.last ?? 1)
        }
        ioMode = engine.ioMode.rawValue
    }

    /// The share of the bound that the speed reached: a token takes at least as long as its bytes take
    /// from memory, and as what was read takes from the disk, each at the rate measured beside it.
    fileprivate mutating func setRooflineShare() {
        guard let touched = bytesTouchedPerToken, let memory = memoryBytesPerSecond else { return }
        let read = [demandBytesPerToken, upgradeBytesPerToken, usefulAheadBytesPerToken]
            .compactMap { $0 }.reduce(0, +)
        let least = max(touched / memory, read / max(diskBytesPerSecond ?? 1, 1))
        rooflineShare = least * decodeTokensPerSecond
    }
}

/// The tokens that every point of a sweep computes.
struct MeasuredTokens: ParsableArguments {
    @Option(
        name: .customShort("n"), help: ArgumentHelp("Tokens measured per run.", valueName: "tokens")
    )
    var count: Int = 32

    @Option(help: ArgumentHelp("Tokens decoded before, to fill the cache.", valueName: "tokens"))
    var warmUp: Int = 8

    @Option(
        help: ArgumentHelp("Tokens computed as a prompt before those.", valueName: "tokens"))
    var prompt: Int = 0

    @Option(
        help: ArgumentHelp(
            """
            What is decoded: a text file, drawn (by the model itself, at temperature 1 with a fixed seed) or \
            fixed (ids from all over the vocabulary, which peers can be given, too).
            """,
            valueName: "file"))
    var text = "drawn"

    func validate() throws {
        if count < 1 { throw ValidationError("-n \(count) measures nothing.") }
        if warmUp < 0 { throw ValidationError("--warm-up \(warmUp) is negative.") }
        if prompt < 0 { throw ValidationError("--prompt \(prompt) is negative.") }
    }

    /// Positions that a run takes.
    var total: Int { prompt + warmUp + count }

    /// As options.
    var words: [String] {
        ["-n", "\(count)", "--warm-up", "\(warmUp)", "--prompt", "\(prompt)", "--text", text]
    }

    /// As options for people: a text without its folder.
    var shownWords: [String] {
        Array(words.dropLast()) + [
            text == "drawn" || text == "fixed" ? text : quoted(lastPart(text))
        ]
    }

    func measurement(of model: ModelDescription) throws -> DecodeMeasurement {
        var measurement = DecodeMeasurement(
            prompt: prompt, warmUp: warmUp, count: count, tokens: .fixed)
        switch text {
        case "fixed": break
        case "drawn": measurement.tokens = .drawn
        default:
            let tokenizer = try Tokenizer(metadata: model.file.metadata)
            let ids = tokenizer.encode(
                try Console.readFile(text), addSpecial: true, parseSpecial: false)
            guard ids.count >= measurement.total else {
                throw InputError(
                    "\(text): \(ids.count) tokens, but --prompt, --warm-up and -n ask for "
                        + "\(measurement.total)")
            }
            measurement.tokens = .given(ids)
        }
        return measurement
    }
}
