import ArgumentParser
import ExpertStreaming
import Inference
import ModelFormats
import Profiling

struct TrainPredictorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "train-predictor",
        abstract: "Trains a predictor of the experts to come, and measures it beside others.",
        discussion: """
            The text is computed in windows of --ctx tokens; a --trace with router inputs takes its place, cut \
            into such windows. The recall is measured on the texts --held-out, or without them on every tenth \
            window, which is then not trained on.
            """)

    enum Kind: String, ExpressibleByArgument, CaseIterable {
        case learned, path
    }

    @Argument(
        help:
            "GGUF file, package or directory, as for run; the word demo means the demo model.")
    var model: String

    @Argument(help: "Files with text to train on; - reads standard input.")
    var texts: [String] = []

    @Option(
        help: ArgumentHelp(
            "Train on what 'sluice trace --inputs' recorded of the model.", valueName: "file"))
    var trace: String?

    @OptionGroup var engine: EngineArguments

    @Option(name: .shortAndLong, help: ArgumentHelp("The file to write.", valueName: "file"))
    var output: String?

    @Option(help: "What to write: learned (linear maps) or path (a table).")
    var kind: Kind = .learned

    @Option(help: "How many layers ahead the linear maps look: 1 or 2.")
    var ahead = 1

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("Files with text to measure on.", valueName: "file"))
    var heldOut: [String] = []

    @Option(
        help: ArgumentHelp("Most tokens to take of each text; default: all.", valueName: "count"))
    var tokens: Int?

    @Option(
        help: ArgumentHelp(
            "Memory for the sums of the training, beside --memory; with less, the text is run more often.",
            valueName: "size"))
    var trainingMemory = ByteSize(bytes: 1 << 30)

    @Flag(help: "Print JSON.")
    var json = false

    func validate() throws {
        if texts.isEmpty == (trace == nil) {
            throw ValidationError("Give texts to train on, or --trace, and not both.")
        }
        if !(1...2).contains(ahead) { throw ValidationError("--ahead \(ahead) is not 1 or 2.") }
        if kind == .path, ahead != 1 { throw ValidationError("A path looks 1 layer ahead.") }
        if let tokens, tokens < 2 { throw ValidationError("--tokens \(tokens) trains nothing.") }
    }

    func run() throws {
        try Failure.reporting {
            let description = try ModelLocation.open(model)
            try description.requireRouters()
            let options = try engine.options(for: description)
            let plan = try MemoryPlan(model: description, options: options)
            var training = PredictorTraining()
            training.ahead = ahead
            training.memoryBytes = trainingMemory.bytes
            let held = try TextInput.windows(
                heldOut, model: description, length: plan.context, limit: tokens)
            let loaded = try Loading.engine(description, options, plan)
            let result: PredictorTraining.Result
            let tables: [RecallTable]
            let measuredTokens: Int
            if let trace {
                let routers = (0..<description.expertLayerCount).map {
                    loaded.routerWeights(layer: $0)
                }
                func recorded(_ takes: @escaping @Sendable (Int) -> Bool) throws -> TraceRouting {
                    try TraceRouting(
                        path: trace, model: description, routers: routers,
                        pieceTokens: plan.context, takes: takes)
                }
                let isMeasured = Self.isMeasured
                var source = try recorded { !held.isEmpty || !isMeasured($0) }
                result = try train(training, on: &source)
                if held.isEmpty {
                    var measured = try recorded(isMeasured)
                    try require(measured.sequenceCount, of: plan.context)
                    tables = try PredictorTraining.recall(
                        of: result, routers: routers, on: &measured)
                    measuredTokens = measured.tokenCount
                } else {
                    var measured = TextRouting(engine: loaded, windows: held)
                    tables = try PredictorTraining.recall(
                        of: result, routers: routers, on: &measured)
                    measuredTokens = held.reduce(0) { $0 + $1.ids.count }
                }
            } else {
                var windows = try TextInput.windows(
                    texts, model: description, length: plan.context, limit: tokens)
                var measured = held
                if held.isEmpty {
                    measured = windows.indices.filter(Self.isMeasured).map { windows[$0] }
                    windows = windows.indices.filter { !Self.isMeasured($0) }.map { windows[$0] }
                }
                try require(measured.count, of: plan.context)
                var source = TextRouting(engine: loaded, windows: windows)
                result = try train(training, on: &source)
                source.windows = measured
                let routers = source.routers()
                tables = try PredictorTraining.recall(of: result, routers: routers, on: &source)
                measuredTokens = measured.reduce(0) { $0 + $1.ids.count }
            }
            if let output {
                let file: PredictorFile =
                    kind == .learned ? .learned(result.learned) : .path(result.path)
                try Console.writeFile(output, file.encoded(for: ModelFingerprint(description)))
            }
            let figures = PredictorFigures(
                result, tables, measuredTokens: measuredTokens, k: description.expertsPerToken)
            Console.out(json ? try JSONOutput.text(figures) : figures.table)
        }
    }

    /// Whether a window is measured on, where no texts are held out.
    @Sendable private static func isMeasured(_ window: Int) -> Bool { window % 10 == 9 }

    private func require(_ measuredWindows: Int, of length: Int) throws {
        guard measuredWindows > 0 else {
            throw InputError(
                "fewer than 10 windows of \(length) tokens leave none to measure on; give more text, "
                    + "--held-out, or a smaller --ctx", code: Failure.badData)
        }
    }

    private func train<Source: RoutingSource & ~Copyable>(
        _ training: PredictorTraining, on source: inout Source
    ) throws -> PredictorTraining.Result {
        var bar = ProgressBar("training")
        defer { bar.end() }
        return try training.train(on: &source) { bar.show($0) }
    }
}

/// What a training came to.
struct PredictorFigures: Encodable {
    struct Row: Encodable {
        var predictor: String
        /// Share of the trials in which each rank was right.
        var recallByRank: [Double]
        /// Share of the chosen experts among the first k predicted, and the first 2k.
        var recallAtK: Double
        var recallAtTwiceK: Double
    }

    struct Layer: Encodable {
        var layer: Int
        var penalty: Double
        var recall: Double
    }

    var trainingTokens: Int
    var measuredTokens: Int
    var ahead: Int
    var rows: [Row]
    var layers: [Layer]

    init(
        _ result: PredictorTraining.Result, _ tables: [RecallTable], measuredTokens: Int, k: Int
    ) {
        trainingTokens = result.trainingTokens
        self.measuredTokens = measuredTokens
        ahead = result.learned.ahead
        rows = tables.map {
            Row(
                predictor: $0.name, recallByRank: $0.byRank, recallAtK: $0.recall(at: k),
                recallAtTwiceK: $0.recall(at: 2 * k))
        }
        layers = result.fits.map {
            Layer(layer: $0.layer, penalty: $0.penalty, recall: $0.recall)
        }
    }

    var table: String {
        let percent = { (share: Double) in fixed(share * 100, 1) }
        let rows = rows.map { row in
            (
                row.predictor,
                "\(percent(row.recallAtK)) % at k, \(percent(row.recallAtTwiceK)) % at 2k; by rank "
                    + row.recallByRank.map(percent).joined(separator: " ")
            )
        }
        return
            "recall \(ahead) ahead on \(measuredTokens) tokens, trained on \(trainingTokens)\n"
            + TextTable.twoColumns(rows)
    }
}
