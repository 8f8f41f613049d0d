import ArgumentParser
import ExpertStreaming
import Glibc
import Inference
import ModelFormats
import Profiling

struct BenchQualityCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quality",
        abstract: "Measures what settings cost in quality: perplexity, and divergence from exact.",
        discussion: """
            The texts are read token by token in windows of --ctx tokens, each from an empty context. Every \
            setting is compared with the exact logits of the same arithmetic options as given; these are kept in \
            a temporary file in TMPDIR, four bytes per token and logit. KL is that of the next-token \
            distribution from the exact one, in nats.
            """)

    @Argument(help: "GGUF file, or any part of a split one; the word demo means the demo model.")
    var model: String

    @Argument(help: "Files with text the model was not trained on; - reads standard input.")
    var texts: [String]

    @OptionGroup var engine: EngineArguments

    @OptionGroup var compared: SettingArguments

    @Option(
        help: ArgumentHelp("Most tokens to read of each text; default: all.", valueName: "count"))
    var tokens: Int?

    @Option(
        help: ArgumentHelp(
            "Steps at the start whose cost is not counted, while the cache fills; their logits count.",
            valueName: "tokens"))
    var warmUp = 64

    @OptionGroup var report: ReportArguments

    func validate() throws {
        if let tokens, tokens < 2 { throw ValidationError("--tokens \(tokens) predicts nothing.") }
        if warmUp < 0 { throw ValidationError("--warm-up \(warmUp) is negative.") }
    }

    func run() throws {
        try Failure.reporting {
            let description = try ModelLocation.open(model)
            let settings = try compared.settings()
            let base = try engine.options(for: description)
            let length = try MemoryPlan(model: description, options: base).context
            let measurement = QualityMeasurement(
                windows: try TextInput.windows(
                    texts, model: description, length: length, limit: tokens), warmUp: warmUp)
            let exact = try exactLogits(measurement, description, base)
            var rows: [QualityRow] = []
            for setting in settings {
                var arguments = engine
                try setting.apply(to: &arguments)
                let options = try arguments.options(for: description)
                let plan = try MemoryPlan(model: description, options: options)
                guard plan.context >= length else {
                    throw InputError(
                        "--setting '\(setting.text)': \(plan.context) positions are fewer than the others' \(length)"
                    )
                }
                var loaded = try Loading.engine(description, options, plan)
                var bar = ProgressBar(setting.text.isEmpty ? "measuring" : setting.text)
                let figures = try measurement.figures(engine: &loaded, exact: exact) {
                    bar.show($0)
                }
                bar.end()
                rows.append(QualityRow(setting.text, figures, texts, EngineFigures(loaded)))
            }
            Console.out(report.json ? try JSONOutput.text(["rows": rows]) : QualityRow.table(rows))
        }
    }

    private func exactLogits(
        _ measurement: QualityMeasurement, _ description: ModelDescription, _ base: EngineOptions
    ) throws -> ReferenceLogits {
        var options = base
        options.headRows = 8
        options.expertPlanes = nil
        options.expertTopP = nil
        let plan = try MemoryPlan(model: description, options: options)
        var loaded = try Loading.engine(description, options, plan)
        var bar = ProgressBar("exact logits")
        defer { bar.end() }
        let folder = unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? "/tmp"
        return try measurement.exactLogits(engine: &loaded, folder: folder) { bar.show($0) }
    }
}

/// The quality of one setting, in figures.
struct QualityRow: Encodable {
    struct Quality: Encodable {
        /// The file; nil for all of them.
        var text: String?
        var tokens: Int
        var perplexity: Double
        var exactPerplexity: Double
        /// Perplexity over exact perplexity, less 1.
        var perplexityIncrease: Double
        var meanKL: Double
        var greatestKL: Double
        var agreement: Double

        private enum CodingKeys: String, CodingKey {
            case text, tokens, perplexity, exactPerplexity, perplexityIncrease, agreement
            case meanKL = "meanKl"
            case greatestKL = "greatestKl"
        }

        init(_ sums: QualityFigures.Sums, text: String?) {
            self.text = text
            tokens = sums.tokens
            perplexity = sums.perplexity
            exactPerplexity = sums.exactPerplexity
            perplexityIncrease = sums.perplexity / sums.exactPerplexity - 1
            meanKL = sums.meanDivergence
            greatestKL = sums.greatestDivergence
            agreement = sums.agreement
        }
    }

    var setting: String
    var quality: Quality
    var texts: [Quality]
    var hitRate: Double
    var bytesReadPerToken: Double
    var stallSecondsPerToken: Double
    var engine: EngineFigures

    init(
        _ setting: String, _ figures: QualityFigures, _ names: [String], _ engine: EngineFigures
    ) {
        self.setting = setting
        quality = Quality(figures.all, text: nil)
        texts = zip(figures.texts, names).map { Quality($0, text: $1) }
        let streaming = figures.statistics.streaming
        hitRate = streaming.hitRate
        bytesReadPerToken = figures.bytesReadPerToken
        stallSecondsPerToken =
            Double(streaming.stallNanoseconds) / 1e9 / Double(max(1, figures.steps))
        self.engine = engine
    }

    static func table(_ rows: [QualityRow]) -> String {
        rows.map { row in
            [
                row.setting.isEmpty ? "as given" : row.setting,
                "perplexity \(fixed(row.quality.perplexity, 4)) "
                    + "(\(row.quality.perplexityIncrease < 0 ? "" : "+")"
                    + "\(fixed(row.quality.perplexityIncrease * 100, 3)) %)",
                "KL mean \(fixed(row.quality.meanKL, 6)), max \(fixed(row.quality.greatestKL, 4))",
                "same choice \(fixed(row.quality.agreement * 100, 2)) %",
                "hit rate \(fixed(row.hitRate * 100, 1)) %",
                "\(ByteSize(bytes: Int(row.bytesReadPerToken))) read per token",
            ].joined(separator: " | ") + "\n"
        }.joined()
    }
}
