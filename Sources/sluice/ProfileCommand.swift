import ArgumentParser
import Glibc
import Inference
import ModelFormats
import Profiling

struct ProfileCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "profile",
        abstract:
            "Finds out from a text how a model uses its experts, and which must never be cut.",
        discussion: """
            The text is computed in windows of --ctx tokens. A profile holds several tasks: the one called \
            --task is added or replaced. Super experts are found over the texts of all tasks. Layers are \
            counted from 0 among those that have experts.
            """)

    @Argument(
        help:
            "GGUF file, package or directory, as for run; the word demo means the demo model.")
    var model: String

    @Argument(help: "File with calibration text; - reads standard input.")
    var text: String

    @OptionGroup var engine: EngineArguments

    @Option(help: ArgumentHelp("What kind of text this is.", valueName: "name"))
    var task = "general"

    @Option(help: ArgumentHelp("Most tokens to compute; default: all.", valueName: "count"))
    var tokens: Int?

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp(
            """
            The profile to write or to extend; default: the package's own, or MODEL.profile.json beside the \
            model.
            """,
            valueName: "file"))
    var output: String?

    @Flag(help: "Print JSON.")
    var json = false

    func validate() throws {
        if let tokens, tokens < 2 { throw ValidationError("--tokens \(tokens) profiles nothing.") }
    }

    func run() throws {
        try Failure.reporting {
            let description = try ModelLocation.open(model)
            try description.requireRouters()
            let fingerprint = ModelFingerprint(description)
            var profile = ModelProfile(model: fingerprint)
            if output.map({ unsafe access($0, F_OK) == 0 }) ?? true,
                let existing = try ModelLocation.profile(output, of: description)
            {
                profile = existing
            }
            var options = try engine.options(for: description)
            options.expertPlanes = nil
            options.expertTopP = nil
            let plan = try MemoryPlan(model: description, options: options)
            let windows = try TextInput.windows(
                [text], model: description, length: plan.context, limit: tokens)
            var loaded = try Loading.engine(description, options, plan)
            var bar = ProgressBar("profiling")
            let tally = try ExpertTally.over(windows, engine: &loaded) { bar.show($0) }
            bar.end()
            let pattern = try TaskPattern(name: task, tally: tally)
            try profile.set(pattern)
            let path = try ModelLocation.write(profile, to: output, of: description)
            let figures = ProfileFigures(pattern, profile, path: path)
            Console.out(json ? try JSONOutput.text(figures) : figures.table)
        }
    }
}

/// What a profile came to.
struct ProfileFigures: Encodable {
    var file: String
    var task: String
    var tokens: Int
    var tasks: [String]
    var superExperts: [SuperExpert]
    /// Share of the choices that fall on the most used experts, as many as a cache of so many times
    /// the active set holds: what a static cache would hit on the text it was made from.
    var shareOfMostUsed: [String: Double]
    /// Experts that no token chose.
    var unusedExperts: Int

    init(_ pattern: TaskPattern, _ profile: ModelProfile, path: String) {
        file = path
        task = pattern.name
        tokens = pattern.tokens
        tasks = profile.tasks.map(\.name)
        superExperts = profile.superExperts
        let counts = pattern.ranking().map { pattern.activations[$0.layer][$0.expert] }
        let all = counts.reduce(0, +)
        let active = profile.model.layers * profile.model.expertsPerToken
        shareOfMostUsed = [:]
        for multiple in [1, 2, 4] where multiple * active < counts.count {
            let most = counts.prefix(multiple * active).reduce(0, +)
            shareOfMostUsed["\(multiple)x"] = Double(most) / Double(all)
        }
        unusedExperts = counts.count { $0 == 0 }
    }

    var table: String {
        var rows = [
            ("task", "\(task): \(tokens) tokens"),
            ("profile", "\(file) with \(tasks.joined(separator: ", "))"),
            (
                "super experts",
                superExperts.isEmpty
                    ? "none"
                    : superExperts.map {
                        "\($0.layer)/\($0.expert) (\(fixed(Double($0.largestOutput), 1)))"
                    }.joined(separator: ", ")
            ),
            ("unused experts", "\(unusedExperts)"),
        ]
        for (size, share) in shareOfMostUsed.sorted(by: { $0.key < $1.key }) {
            rows.append(("most used \(size)", "\(fixed(share * 100, 1)) % of all choices"))
        }
        return TextTable.twoColumns(rows)
    }
}
