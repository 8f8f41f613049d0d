import ExpertStreaming
import Glibc
import Inference
import ModelFormats
import Profiling

/// Finds out from a text what a package's prefixes cost, and the cheapest settings of `--miss
/// fallback` that cost no more than a bound; keeps them in the package's profile.
struct Calibration {
    let model: ModelDescription
    let windows: [TextWindow]

    /// What a setting may add to the perplexity of the text, as a share of it.
    static let bound = 0.01
    /// The cache under which settings are compared.
    static let cache = CacheSize("2x")!
    /// The task under which the profile keeps the text.
    static let task = "calibration"
    /// Steps that the cache is given to fill.
    private static let warmUp = 64
    /// Thresholds tried, T1 <= T2: fine near 1, where quality is lost and won.
    private static let full = [0, 0.3, 0.5, 0.7, 0.85]
    private static let prefix = [0.5, 0.7, 0.85, 0.95, 1]

    /// The text as pieces of at most 512 tokens.
    static func windows(
        _ path: String, model: ModelDescription, tokens: Int
    ) throws -> [TextWindow] {
        try TextInput.windows(
            [path], model: model, length: min(model.contextLength, 512), limit: tokens)
    }

    func run() throws -> CalibrationFigures {
        let profile = try profile()
        let measurement = QualityMeasurement(windows: windows, warmUp: Calibration.warmUp)
        let exact = try exactLogits(measurement)
        var figures = CalibrationFigures(
            tokens: windows.reduce(0) { $0 + $1.ids.count - 1 },
            bound: Calibration.bound, superExperts: profile.superExperts)
        var bar = ProgressBar("calibrating", showsTimeLeft: true)
        defer { bar.end() }
        let trials = policies
        let all = Double(model.planesPerExpert + trials.count)
        var done = 0.0

        func measure(_ change: (inout EngineOptions) -> Void) throws -> QualityFigures {
            var options = options
            change(&options)
            var engine = try engine(options)
            let figures = try measurement.figures(engine: &engine, exact: exact) {
                bar.show((done + $0) / all)
            }
            done += 1
            return figures
        }
        for planes in 1..<max(1, model.planesPerExpert) {
            let quality = try measure { $0.expertPlanes = planes }
            figures.widths.append(
                .init(planes: planes, ofPlanes: model.planesPerExpert, quality.all))
        }
        let reference = try measure { $0.cache = Calibration.cache }.bytesReadPerToken
        let protected = Set(
            profile.superExperts.map { LayerExpert(layer: $0.layer, expert: $0.expert) })
        for policy in trials {
            let quality = try measure {
                $0.cache = Calibration.cache
                $0.protectedExperts = protected
                $0.missPolicy = policy
            }
            guard case .fallback(let full, let prefix, let planes) = policy else { continue }
            figures.consider(
                CalibratedFallback(
                    full: full, prefix: prefix, planes: planes,
                    planesPerExpert: model.planesPerExpert,
                    perplexityIncrease: quality.all.perplexity / quality.all.exactPerplexity - 1,
                    bytesReadPerToken: quality.bytesReadPerToken, exactBytesReadPerToken: reference,
                    tokens: figures.tokens))
        }
        var kept = profile
        kept.fallback = figures.fallback
        _ = try ModelLocation.write(kept, to: nil, of: model)
        return figures
    }

    private var options: EngineOptions {
        var options = EngineOptions()
        options.context = windows.map(\.ids.count).max()
        return options
    }

    /// Every pair of thresholds, with every width that is not the full one.
    private var policies: [MissPolicy] {
        (1...max(1, model.planesPerExpert - 1)).flatMap { planes in
            Calibration.full.flatMap { full in
                Calibration.prefix.filter { $0 >= full }.map {
                    .fallback(full: full, prefix: $0, planes: planes)
                }
            }
        }
    }

    private func engine(_ options: EngineOptions) throws -> Engine {
        try Engine(
            model: model, options: options, plan: MemoryPlan(model: model, options: options))
    }

    private func profile() throws -> ModelProfile {
        var engine = try engine(options)
        var bar = ProgressBar("profiling")
        defer { bar.end() }
        let tally = try ExpertTally.over(windows, engine: &engine) { bar.show($0) }
        var profile = ModelProfile(model: ModelFingerprint(model))
        try profile.set(TaskPattern(name: Calibration.task, tally: tally))
        return profile
    }

    private func exactLogits(_ measurement: QualityMeasurement) throws -> ReferenceLogits {
        var options = options
        options.headRows = 8
        var engine = try engine(options)
        var bar = ProgressBar("exact logits")
        defer { bar.end() }
        let folder = unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? "/tmp"
        return try measurement.exactLogits(engine: &engine, folder: folder) { bar.show($0) }
    }
}

/// What a calibration came to.
struct CalibrationFigures: Encodable {
    /// All experts computed with their first planes only.
    struct Width: Encodable {
        var planes: Int
        var ofPlanes: Int
        var perplexity: Double
        var exactPerplexity: Double
        /// Perplexity over exact perplexity, less 1.
        var perplexityIncrease: Double
        var meanKL: Double

        private enum CodingKeys: String, CodingKey {
            case planes, ofPlanes, perplexity, exactPerplexity, perplexityIncrease
            case meanKL = "meanKl"
        }

        init(planes: Int, ofPlanes: Int, _ sums: QualityFigures.Sums) {
            self.planes = planes
            self.ofPlanes = ofPlanes
            perplexity = sums.perplexity
            exactPerplexity = sums.exactPerplexity
            perplexityIncrease = sums.perplexity / sums.exactPerplexity - 1
            meanKL = sums.meanDivergence
        }
    }

    /// Tokens predicted.
    var tokens: Int
    /// What the settings may add to the perplexity, as a share of it.
    var bound: Double
    var superExperts: [SuperExpert]
    var widths: [Width] = []
    /// The settings that read least of those within the bound; nil where none is.
    var fallback: CalibratedFallback?

    init(tokens: Int, bound: Double, superExperts: [SuperExpert]) {
        self.tokens = tokens
        self.bound = bound
        self.superExperts = superExperts
    }

    /// Keeps a setting if it is within the bound and reads less than the one kept; of equals, the
    /// one that costs less.
    mutating func consider(_ setting: CalibratedFallback) {
        guard setting.perplexityIncrease <= bound,
            setting.bytesReadPerToken <= setting.exactBytesReadPerToken
        else { return }
        if let best = fallback,
            (best.bytesReadPerToken, best.perplexityIncrease)
                <= (setting.bytesReadPerToken, setting.perplexityIncrease)
        {
            return
        }
        fallback = setting
    }

    /// Lines of a table.
    var rows: [(String, String)] {
        func percent(_ share: Double) -> String {
            "\(share < 0 ? "" : "+")\(fixed(share * 100, 2)) %"
        }
        var rows = [
            (
                "calibrated",
                "on \(tokens) tokens; super experts "
                    + (superExperts.isEmpty
                        ? "none"
                        : superExperts.map { "\($0.layer)/\($0.expert)" }.joined(separator: ", "))
            )
        ]
        rows += widths.map {
            (
                "\($0.planes) of \($0.ofPlanes) planes",
                "perplexity \(fixed($0.perplexity, 3)) (\(percent($0.perplexityIncrease))), "
                    + "KL mean \(fixed($0.meanKL, 5))"
            )
        }
        guard let fallback else {
            rows.append(
                (
                    "--miss fallback",
                    "no setting tried adds at most \(fixed(bound * 100, 0)) % to the perplexity"
                ))
            return rows
        }
        let share = fallback.bytesReadPerToken / max(1, fallback.exactBytesReadPerToken)
        rows.append(
            (
                "--miss \(fallback.policy)",
                "perplexity \(percent(fallback.perplexityIncrease)), "
                    + "\(fixed(share * 100, 0)) % of the bytes that exact reads at \(Calibration.cache)"
            ))
        return rows
    }
}
