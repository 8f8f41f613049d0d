import ArgumentParser
import Benchmarking
import ExpertStreaming
import Inference
import ModelFormats

/// The points of a sweep.
struct SweepPlan {
    /// What points share that are compared with each other.
    struct Group {
        var model: SweptModel
        /// Nil where every point has as much as its plan takes.
        var memoryBytes: Int?
        /// Without a limit on memory.
        var isUnlimited = false
        var diskBytesPerSecond: Double?
        var board: BoardLimits?
        /// This machine is the board.
        var isReal = false
        var link: String?
        var threads: Int

        /// Of the group, in the words of the command's options.
        var options: [String] {
            var words: [String] = []
            if let board { words += ["--board", board.name] + (isReal ? ["--real"] : []) }
            if board == nil {
                if isUnlimited { words += ["--memory-limit", "none"] }
                if let memoryBytes { words += ["--memory-limit", ByteSize.short(memoryBytes)] }
                if let diskBytesPerSecond {
                    words += ["--disk-limit", rateText(diskBytesPerSecond)]
                }
            } else if let link {
                words += ["--link", quoted(link)]
            }
            if let trace = model.traceName { words += ["--replay-routing", trace] }
            return words + ["--threads", "\(threads)"]
        }

        var name: String { ([model.name] + options).joined(separator: " ") }

        /// A point of the group.
        func point(
            _ engine: BenchmarkPoint.Engine, setting: String, threads: Int, tokens: MeasuredTokens
        ) -> BenchmarkPoint {
            var point = BenchmarkPoint(
                engine: engine, model: model.name, setting: setting, threads: threads,
                promptTokens: tokens.prompt, warmUpTokens: tokens.warmUp, tokens: tokens.count)
            point.memoryLimitBytes = memoryBytes
            point.diskLimitBytesPerSecond = diskBytesPerSecond
            point.board = board?.name
            point.routing = model.traceName
            return point
        }

        /// The command that measures points of the group again, with what `words` say of them.
        func command(_ words: [String], tokens: MeasuredTokens, repeats: Int) -> String {
            let all =
                ["sluice", "bench", "sweep", model.name] + words + options + tokens.shownWords
                + ["--repeat", "\(repeats)", "-o", "NAME"]
            return all.joined(separator: " ")
        }

        func limits() throws -> Limits? {
            guard memoryBytes != nil || diskBytesPerSecond != nil else { return nil }
            return Limits(
                memoryBytes: memoryBytes, diskBytesPerSecond: diskBytesPerSecond,
                diskPath: try model.description.largestFile())
        }
    }

    /// The point of one setting in a group; nil where its memory does not suffice, with the reason.
    static func point(
        _ group: Group, cache: String, setting: String, tokens: MeasuredTokens, repeats: Int
    ) throws -> (point: PlannedPoint?, problem: String?) {
        let description = group.model.description
        // A model may have been trained for fewer positions than the profile keeps.
        let context = group.board?.context.map { "ctx=\(min($0, description.contextLength))" }
        let words = ["cache=\(cache)", context ?? "", group.board?.setting ?? "", setting]
            .filter { !$0.isEmpty }.joined(separator: " ")
        var arguments = try EngineArguments.parse([])
        let parsed = try EngineSetting(words)
        try parsed.apply(to: &arguments)
        var options = try arguments.options(for: description, replaying: group.model.trace != nil)
        try parsed.apply(to: &options)
        options.threads = options.threads ?? group.threads
        options.context =
            options.context
            ?? min(description.contextLength, tokens.total + 1 + BenchPointCommand.heatTokens)
        options.memoryBytes = options.memoryBytes ?? group.memoryBytes
        let plan: MemoryPlan
        do { plan = try MemoryPlan(model: description, options: options) } catch {
            return (nil, "\(group.name): \(words) is left out: \(error)")
        }
        var limits = try group.limits()
        if group.memoryBytes == nil, !group.isUnlimited {
            limits = try limits ?? Limits(diskPath: description.largestFile())
            limits?.memoryBytes = plan.totalBytes + spareBytes
        }
        var point = group.point(
            .sluice, setting: words, threads: plan.threads, tokens: tokens)
        point.cache = cache
        var process =
            ["/proc/self/exe", "bench", "point", group.model.path, "--threads", "\(plan.threads)"]
            + ["--ctx", "\(plan.context)"] + tokens.words
        process += ["--setting", words]
        if let trace = group.model.trace { process += ["--replay-routing", trace] }
        let command = group.command(
            ["--cache", cache] + (setting.isEmpty ? [] : ["--setting", quoted(setting)]),
            tokens: tokens, repeats: repeats)
        return (
            PlannedPoint(
                point: point, command: command, process: process,
                limits: limits, files: description.file.paths, group: group.name), nil
        )
    }

    /// What a process takes before anything is planned: its code, and the plan itself.
    private static let spareBytes = 16 << 20
}

extension ByteSize {
    /// As options take it, in the largest unit that it is a whole number of: "3G".
    static func short(_ bytes: Int) -> String {
        for (shift, unit) in [(30, "G"), (20, "M"), (10, "K")] where bytes % (1 << shift) == 0 {
            return "\(bytes >> shift)\(unit)"
        }
        return "\(bytes)"
    }
}

/// A rate as `--disk-limit` takes it.
func rateText(_ bytesPerSecond: Double) -> String {
    let gigabytes = bytesPerSecond / 1e9
    let text = gigabytes >= 1 ? "\(gigabytes)G" : "\(bytesPerSecond / 1e6)M"
    return text.replacing(".0G", with: "G").replacing(".0M", with: "M")
}

/// A word as a shell takes it.
func quoted(_ word: String) -> String {
    let plain = word.utf8.allSatisfy { byte in
        byte > 0x2A && byte < 0x7F && !"\\;<>?[]^`{|}~".utf8.contains(byte)
    }
    return plain && !word.isEmpty ? word : "'" + word.replacing("'", with: "'\\''") + "'"
}
