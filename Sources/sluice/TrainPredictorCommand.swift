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
            The text is computed in windows of --ctx tokens. The recall is measured on the texts --held-out, or \
            without them on every tenth window, which is then not trained on.
            """)

    enum Kind: String, ExpressibleByArgument, CaseIterable {
        case learned, path
    }

    @Argument(help: "GGUF file, or any part of a split one; the word demo means the demo model.")
    var model: String

    @Argument(help: "Files with text to train on; - reads standard input.")
    var texts: [String]

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
        if !(1...2).contains(ahead) { throw ValidationError("--ahead \(ahead) is not 1 or 2.") }
        if kind == .path, ahead != 1 { throw ValidationError("A path looks 1 layer ahead.") }
        if let tokens, tokens < 2 { throw ValidationError("--tokens \(tokens) trains nothing.") }
    }

    func run() throws {
        try Failure.reporting {
            let description = try ModelLocation.open(model)
            let fingerprint = ModelFingerprint(description)
            let options = try engine.options()
            let plan = try MemoryPlan(model: description, options: options)
            var windows = try TextInput.windows(
                texts, model: description, length: plan.context, limit: tokens)
            var measured = try TextInput.windows(
                heldOut, model: description, length: plan.context, limit: tokens)
            if heldOut.isEmpty {
                let apart = { (index: Int) in index % 10 == 9 }
                measured = windows.indices.filter(apart).map { windows[$0] }
                windows = windows.indices.filter { !apart($0) }.map { windows[$0] }
            }
            guard !measured.isEmpty else {
                throw InputError(
                    "\(windows.count) windows of \(plan.context) tokens leave none to measure on; give more "
                        + "text, --held-out, or a smaller --ctx", code: Failure.badData)
            }
            var training = PredictorTraining()
            training.ahead = ahead
            training.memoryBytes = trainingMemory.bytes
            let result = try trained(training, windows, description, options, plan)
            if let output {
                let file: PredictorFile =
                    kind == .learned ? .learned(result.learned) : .path(result.path)
                try Console.writeFile(output, file.encoded(for: fingerprint))
            }
            let loaded = try Loading.engine(description, options, plan)
            var source = TextRouting(engine: loaded, windows: measured)
            let tables = try PredictorTraining.recall(
                of: result, routers: source.routers(), on: &source)
            let figures = PredictorFigures(
                result, tables, measured: measured, k: description.expertsPerToken)
            Console.out(json ? try JSONOutput.text(figures) : figures.table)
        }
    }

    private func trained(
        _ training: PredictorTraining, _ windows: [TextWindow], _ description: ModelDescription,
        _ options: EngineOptions, _ plan: MemoryPlan
    ) throws -> PredictorTraining.Result {
        let loaded = try Loading.engine(description, options, plan)
        var source = TextRouting(engine: loaded, windows: windows)
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
        _ result: PredictorTraining.Result, _ tables: [RecallTable], measured: [TextWindow], k: Int
    ) {
        trainingTokens = result.trainingTokens
        measuredTokens = measured.reduce(0) { $0 + $1.ids.count }
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
