import Benchmarking
import Inference
import ModelFormats

/// llama.cpp as a peer: what can be set about it, and its points.
struct PeerPlan {
    /// One way of running it.
    struct Setting: Hashable {
        var load = "mmap"
        var repacks = false
        /// Each thread on a processor of its own.
        var pins = false
        /// Nil for the machine's own.
        var readAheadKilobytes: Int?

        static let defaults = Setting()

        /// What is searched: how far the kernel reads ahead of a page that is missing, which decides
        /// everything where the file does not fit, and, where it does, how it is loaded.
        static func searched(fitsInMemory: Bool) -> [Setting] {
            var settings = [64, 128, 256, 512].map { Setting(pins: true, readAheadKilobytes: $0) }
            settings.append(Setting(pins: true))
            guard fitsInMemory else { return settings }
            settings.append(Setting(load: "none", repacks: true, pins: true))
            settings.append(Setting(load: "dio", repacks: true, pins: true))
            return settings
        }

        var words: String {
            var words = ["load=\(load)"]
            if repacks { words.append("repack") }
            if pins { words.append("pinned") }
            words.append("read-ahead=\(readAheadKilobytes.map { "\($0)k" } ?? "own")")
            return words.joined(separator: " ")
        }
    }

    let python: String
    let script: String
    /// A run ends after so long, with the tokens that it has.
    let seconds: Double

    init(python: String, seconds: Double) throws {
        guard
            let script = ModelLocation.besideExecutable(
                "benchmarks/llama-peer.py", installed: nil)
        else {
            throw InputError(
                "--llama-cpp: benchmarks/llama-peer.py is not there; run the program of a checkout",
                code: Failure.noInput)
        }
        self.python = python
        self.seconds = seconds
        self.script = script
    }

    func point(
        _ group: SweepPlan.Group, _ setting: Setting, role: String?, tokens: MeasuredTokens,
        repeats: Int
    ) throws -> PlannedPoint {
        var point = group.point(
            .llamaCpp, setting: setting.words, threads: group.threads, tokens: tokens)
        point.role = role
        var process = [
            python, script, group.model.description.file.paths[0], "--point", "-n",
            "\(tokens.count)", "--warm-up", "\(tokens.warmUp)", "--prompt", "\(tokens.prompt)",
            "--threads", "\(group.threads)", "--load", setting.load, "--seconds", "\(seconds)",
        ]
        if setting.repacks { process.append("--repack") }
        if setting.pins { process.append("--pin") }
        if let trace = group.model.trace { process += ["--replay-routing", trace] }
        let command = group.command(
            ["--cache", "auto", "--llama-cpp", "--peer-seconds", "\(seconds)"], tokens: tokens,
            repeats: repeats)
        return PlannedPoint(
            point: point, command: command, process: process,
            limits: try group.limits(), readAheadKilobytes: setting.readAheadKilobytes,
            files: group.model.description.file.paths, group: group.name)
    }
}
