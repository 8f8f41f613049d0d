import ArgumentParser
import Benchmarking
import ExpertStreaming
import FoundationEssentials
import Glibc
import Inference
import Measuring
import ModelFormats

struct BenchSweepCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sweep",
        abstract:
            "Measures cache sizes and settings, each cold and in limited memory; writes a report.",
        discussion: """
            Every point runs in a fresh process, in a control group of its own that limits memory (page cache \
            included) and, if asked for, the disk; the model's pages are dropped from the page cache before, and \
            shown to be gone. Rounds go over all points in turn; figures are medians with least and greatest. Each \
            process measures memory and disk beside the tokens, and its speed is given as a share of what they \
            allow.

            The folder of -o gets report.html, report.json, report.csv, and runs.jsonl, where every finished run \
            is kept at once: after an interruption 'bench report' makes the report of what is there, and --resume \
            goes on. Limits need root, or a control group of one's own (systemd-run --scope -p Delegate=yes).
            """)

    @Argument(help: "Models as of 'run'; none means the demo model.")
    var models: [String] = []

    @OptionGroup var swept: SweepArguments
    @OptionGroup var tokens: MeasuredTokens
    @OptionGroup var peers: PeerArguments

    @Option(
        parsing: .singleValue,
        help: ArgumentHelp(
            """
            Take experts from this recording instead of the routers; one for each model in their order, or none \
            for a model that keeps its own.
            """,
            valueName: "trace"))
    var replayRouting: [String] = []

    @Option(
        parsing: .singleValue,
        help: ArgumentHelp(
            """
            Limits of a board: memory, threads and settings of its profile, its drive's rate; may be given several \
            times, all means every board. What computes stays this machine.
            """,
            valueName: "name"))
    var board: [String] = []

    @Option(
        help: ArgumentHelp("Of the boards' drives only this one.", valueName: "name"))
    var link: String?

    @Flag(help: "This is the board: its profile's settings and memory, and its own drive.")
    var real = false

    @Option(
        parsing: .singleValue,
        help: ArgumentHelp(
            "Text for quality: what the settings cost against exact; may be given several times.",
            valueName: "file"))
    var qualityText: [String] = []

    @Option(help: ArgumentHelp("Tokens of each text.", valueName: "tokens"))
    var qualityTokens = 256

    @Option(
        name: .customLong("repeat"),
        help: ArgumentHelp("Rounds over all points.", valueName: "count"))
    var repeats = 3

    @Option(
        help: ArgumentHelp("Most that one run may take.", valueName: "seconds"))
    var timeout = 900.0

    @Flag(help: "Go on with what the folder of -o holds.")
    var resume = false

    @Option(name: .shortAndLong, help: ArgumentHelp("Folder of the report.", valueName: "folder"))
    var output: String

    func validate() throws {
        if repeats < 1 { throw ValidationError("--repeat \(repeats) measures nothing.") }
        if peers.searchTokens < 1 {
            throw ValidationError("--search-tokens \(peers.searchTokens) measures nothing.")
        }
        if !(timeout > 0) { throw ValidationError("--timeout \(timeout) leaves no time.") }
        if !board.isEmpty, swept.memoryLimit != nil || swept.diskLimit != nil {
            throw ValidationError("--board has limits of its own; leave the others out.")
        }
        if real, board.count != 1 || board == ["all"] {
            throw ValidationError("--real needs the one --board that this is.")
        }
        if link != nil, board.isEmpty { throw ValidationError("--link is of a --board.") }
        if !replayRouting.isEmpty, replayRouting.count != max(1, models.count) {
            throw ValidationError(
                "\(replayRouting.count) of --replay-routing for \(max(1, models.count)) models; "
                    + "give one for each, or none in its place.")
        }
        if peers.llamaCpp, swept.memoryLimit == nil, board.isEmpty {
            throw ValidationError(
                "--llama-cpp needs --memory-limit: a plan says nothing of what it takes.")
        }
    }

    func run() throws {
        try Failure.reporting {
            // Before anything is changed that it would have to put back.
            let guardian = try Guardian(
                executable: "/proc/self/exe", arguments: ["bench", "guard"])
            defer { guardian.close() }
            let models = try models(named: self.models.isEmpty ? ["demo"] : self.models)
            let groups = try groups(models)
            var points: [PlannedPoint] = []
            var remarks = remarks(groups)
            let (caches, settings) = try swept.settings()
            let tokens = tokensOfAll
            for group in groups {
                for setting in settings {
                    for cache in caches {
                        let (point, problem) = try SweepPlan.point(
                            group, cache: cache, setting: setting, tokens: tokens, repeats: repeats)
                        if let point { points.append(point) }
                        if let problem { remarks.append(problem) }
                    }
                }
            }
            try confine(&points, &remarks, guardian)
            var store = try SweepStore(
                folder: output, head: try head(models, guardian), resumes: resume)
            for remark in remarks {
                Console.error("sluice: \(remark)")
                try store.remark(remark)
            }
            let runner = SweepRunner(guardian: guardian, timeoutSeconds: timeout)
            if peers.llamaCpp { points += try peerPoints(groups, tokens, runner, &store) }
            guard !points.isEmpty else {
                throw InputError("no point of the sweep fits its memory; see the reasons above")
            }
            try measure(points, runner, &store)
            if !qualityText.isEmpty, store.head.quality.isEmpty {
                for model in models {
                    try store.add(quality(model, caches, settings, guardian))
                }
            }
            try store.writeReport()
            Console.error("sluice: \(output)/report.html, report.json and report.csv are written")
        }
    }

    /// Peers and recordings need tokens that do not depend on who computes them.
    private var tokensOfAll: MeasuredTokens {
        var tokens = tokens
        if tokens.text == "drawn", peers.llamaCpp || !replayRouting.isEmpty {
            tokens.text = "fixed"
        }
        return tokens
    }

    private func models(named names: [String]) throws -> [SweptModel] {
        try names.enumerated().map { index, name in
            let trace = replayRouting.isEmpty ? "none" : replayRouting[index]
            return try SweptModel(name, trace: trace == "none" ? nil : trace)
        }
    }

    private func groups(_ models: [SweptModel]) throws -> [SweepPlan.Group] {
        let threads = try MeasuringProcessors.chosen(swept.threads).count
        var groups: [SweepPlan.Group] = []
        let boards = try (board == ["all"] ? BoardLimits.names() : board).map {
            try BoardLimits($0)
        }
        for model in models {
            for board in boards {
                let drives = real ? [nil] : board.drives.map(Optional.some)
                for drive in drives where link == nil || drive?.link == link {
                    groups.append(
                        SweepPlan.Group(
                            model: model, memoryBytes: board.memoryBytes,
                            diskBytesPerSecond: drive?.bytesPerSecond, board: board,
                            isReal: real,
                            link: drive?.link,
                            threads: swept.threads ?? min(board.threads ?? threads, threads)))
                }
            }
            guard boards.isEmpty else { continue }
            let limits = try swept.memoryLimits()
            for disk in try swept.diskLimits() {
                var group = SweepPlan.Group(
                    model: model, diskBytesPerSecond: disk, threads: threads)
                if limits.isEmpty { groups.append(group) }
                for limit in limits {
                    group.memoryBytes = limit
                    group.isUnlimited = limit == nil
                    groups.append(group)
                }
            }
        }
        guard !groups.isEmpty else {
            throw InputError("--link '\(link ?? "")' is no drive of the board; see its board.toml")
        }
        return groups
    }

    private func remarks(_ groups: [SweepPlan.Group]) -> [String] {
        var remarks: [String] = []
        for board in groups.compactMap(\.board) where !real {
            let remark =
                "\(board.name) is emulated: this machine's processors and memory, \(board.title)'s limits "
                + "of memory and disk. Its own processors and DRAM are slower or faster than these; on the "
                + "board run: sluice bench sweep MODEL --board \(board.name) --real -o NAME"
            if !remarks.contains(remark) { remarks.append(remark) }
        }
        if real, let board = groups.first?.board {
            remarks.append("Measured on the board itself: \(board.title), on its own drive.")
        }
        if swept.memoryLimit == nil, board.isEmpty {
            remarks.append("Every point had as much memory as its plan takes, and no more.")
        }
        for group in groups where group.model.trace != nil {
            let remark =
                "\(group.model.name): experts are those of the recording \(group.model.traceName ?? ""), whatever "
                + "the routers say."
            if !remarks.contains(remark) { remarks.append(remark) }
        }
        return remarks
    }

    /// Without the right to set limits, those that were asked for are refused, and those that were
    /// not are left out, which the report says.
    private func confine(
        _ points: inout [PlannedPoint], _ remarks: inout [String], _ guardian: Guardian
    ) throws {
        guard let limits = points.compactMap(\.limits).first,
            let obstacle = Confinement.obstacle(limits, guardian: guardian)
        else { return }
        guard swept.memoryLimit == nil, swept.diskLimit == nil, board.isEmpty else {
            throw InputError(obstacle, code: Failure.configuration)
        }
        for index in points.indices { points[index].limits = nil }
        remarks.removeAll { $0.hasPrefix("Every point had") }
        remarks.append("Memory is not limited by the kernel, only planned: \(obstacle)")
    }

    private func head(
        _ models: [SweptModel], _ guardian: Guardian
    ) throws -> BenchmarkReport {
        let host = HostFacts()
        let drive = DriveFacts(path: try models[0].description.largestFile())
        let machine = BenchmarkReport.Machine(
            processor: host.processor ?? host.machine ?? "unknown",
            processors: host.processors, memoryBytes: host.memoryTotalBytes, kernel: host.kernel,
            drive: drive.map {
                [$0.kind.rawValue, $0.model].compactMap { $0 }.joined(separator: ", ")
            }
                ?? "unknown",
            instructionSet: host.instructionSets.first ?? "scalar")
        var report = BenchmarkReport(
            date: Today.text, command: command, sluice: Versions.number, machine: machine, rows: [])
        report.commit = try commit(guardian)
        return report
    }

    /// Of the checkout that the program lies in; nil without one.
    private func commit(_ guardian: Guardian) throws -> String? {
        guard let checkout = ModelLocation.besideExecutable(".git", installed: nil) else {
            return nil
        }
        let outcome = try? MeasuredProcess.run(
            [
                "git", "--git-dir", checkout, "--work-tree", "\(checkout)/..", "describe",
                "--always", "--dirty", "--abbrev=12",
            ],
            limits: nil, guardian: guardian, timeoutSeconds: 20)
        guard let outcome, outcome.status == 0 else { return nil }
        return String(decoding: outcome.output, as: UTF8.self).split(separator: "\n").first.map(
            String.init)
    }

    /// As it was given, without folders.
    private var command: String {
        let words = CommandLine.arguments.dropFirst().map { word in
            quoted(word.contains("/") && !word.contains("=") ? lastPart(word) : word)
        }
        return (["sluice"] + words).joined(separator: " ")
    }

    /// The defaults, and the best of the settings that are searched, once for each model and memory:
    /// what is best depends on what fits, and hardly on how fast the rest comes.
    private func peerPoints(
        _ groups: [SweepPlan.Group], _ tokens: MeasuredTokens, _ runner: SweepRunner,
        _ store: inout SweepStore
    ) throws -> [PlannedPoint] {
        let plan = try PeerPlan(python: peers.python, seconds: peers.peerSeconds)
        var found: [String: PeerPlan.Setting] = [:]
        var points: [PlannedPoint] = []
        for group in groups {
            let memory = "\(group.model.path) \(group.memoryBytes ?? 0)"
            if found[memory] == nil {
                found[memory] = try bestSetting(group, plan, tokens, runner, &store)
            }
            guard let best = found[memory] else { continue }
            for (setting, role) in [(PeerPlan.Setting.defaults, "defaults"), (best, "best")] {
                points.append(
                    try plan.point(group, setting, role: role, tokens: tokens, repeats: repeats))
            }
        }
        return points
    }

    /// The fastest of a peer's settings in short runs; nil where none runs.
    private func bestSetting(
        _ group: SweepPlan.Group, _ plan: PeerPlan, _ tokens: MeasuredTokens,
        _ runner: SweepRunner, _ store: inout SweepStore
    ) throws -> PeerPlan.Setting? {
        var short = tokens
        short.count = peers.searchTokens
        short.warmUp = min(short.warmUp, 2)
        let fits = (group.memoryBytes ?? .max) > group.model.fileBytes
        var best: (setting: PeerPlan.Setting, rate: Double)?
        for setting in PeerPlan.Setting.searched(fitsInMemory: fits) {
            let planned = try plan.point(
                group, setting, role: "searched", tokens: short, repeats: 1)
            do {
                if store.rounds(of: planned.point) == 0 {
                    Console.error("sluice: searching: \(group.name): \(setting.words)")
                    try store.append(
                        SweepStore.Entry(
                            point: planned.point, command: planned.command,
                            run: try runner.run(planned, round: 1, heat: 0)))
                }
            } catch let error as InputError {
                try store.remark("\(group.name): \(error)")
                continue
            }
            let rate = store.entries.last { $0.point == planned.point }?.run.decodeTokensPerSecond
            if let rate, rate > best?.rate ?? 0 { best = (setting, rate) }
        }
        return best?.setting
    }

    private func measure(
        _ points: [PlannedPoint], _ runner: SweepRunner, _ store: inout SweepStore
    ) throws {
        var failed = Set<BenchmarkPoint>()
        for round in 1...repeats {
            for (index, planned) in points.enumerated() where !failed.contains(planned.point) {
                guard store.rounds(of: planned.point) < round else { continue }
                let name = "\(planned.point.engine.rawValue) \(planned.point.setting)"
                Console.error(
                    "sluice: round \(round) of \(repeats), \(index + 1) of \(points.count): "
                        + "\(planned.group): \(name)")
                do {
                    let heat = round == repeats ? BenchPointCommand.heatTokens : 0
                    let run = try runner.run(planned, round: round, heat: heat)
                    try store.append(
                        SweepStore.Entry(point: planned.point, command: planned.command, run: run))
                } catch let error as InputError {
                    Console.error("sluice: \(error)")
                    try store.remark("\(planned.group): \(error)")
                    failed.insert(planned.point)
                }
            }
            try store.writeReport()
        }
        guard failed.count < points.count else {
            throw InputError("every point of the sweep has failed", code: Failure.unavailable)
        }
    }

    /// By `bench quality` in a process of its own.
    private func quality(
        _ model: SweptModel, _ caches: [String], _ settings: [String], _ guardian: Guardian
    ) throws -> [BenchmarkReport.Quality] {
        struct Rows: Decodable {
            struct Row: Decodable {
                struct Figures: Decodable {
                    var tokens: Int
                    var perplexity: Double
                    var exactPerplexity: Double
                    var meanKl: Double
                    var agreement: Double
                }
                var setting: String
                var quality: Figures
                var bytesReadPerToken: Double
            }
            var rows: [Row]
        }
        Console.error("sluice: quality of \(model.name)")
        var arguments = ["/proc/self/exe", "bench", "quality", model.path] + qualityText
        arguments += ["--tokens", "\(qualityTokens)", "--caches", caches.joined(separator: ",")]
        for setting in settings where !setting.isEmpty { arguments += ["--setting", setting] }
        let outcome = try MeasuredProcess.run(
            arguments + ["--json"], limits: nil, guardian: guardian, timeoutSeconds: timeout)
        guard outcome.status == 0 else {
            let lines = String(decoding: outcome.errors, as: UTF8.self)
            throw InputError(
                lines.split(whereSeparator: \.isNewline).last.map(String.init)
                    ?? "bench quality ended with status \(outcome.status)",
                code: Failure.unavailable)
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Rows.self, from: Data(outcome.output)).rows.map { row in
            BenchmarkReport.Quality(
                model: model.name, setting: row.setting, perplexity: row.quality.perplexity,
                exactPerplexity: row.quality.exactPerplexity, meanDivergence: row.quality.meanKl,
                agreement: row.quality.agreement, bytesReadPerToken: row.bytesReadPerToken,
                tokens: row.quality.tokens)
        }
    }
}

/// The day, as 2026-11-21.
enum Today {
    static var text: String {
        var now = time(nil)
        var parts = unsafe tm()
        unsafe gmtime_r(&now, &parts)
        func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
        let (year, month, day) = unsafe (parts.tm_year, parts.tm_mon, parts.tm_mday)
        return "\(year + 1900)-\(two(month + 1))-\(two(day))"
    }
}
