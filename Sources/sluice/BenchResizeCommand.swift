import ArgumentParser
import CHost
import ExpertStreaming
import Generation
import Inference
import ModelFormats
import Tokenization

struct BenchResizeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resize",
        abstract: "Changes the memory of a model while it generates, and holds it to that.",
        discussion: """
            Generates greedily under --memory, after a third of the tokens under --to, and for the last third \
            under --memory again; then the same without a change. Prints what the kernel counted in each phase. \
            Status 1 if a token differs, or if the process held more than a phase allows.
            """)

    @OptionGroup var model: ModelArgument
    @OptionGroup var engine: EngineArguments

    @Option(
        help: ArgumentHelp("Memory of the second third, as in 2G.", valueName: "size"))
    var to: ByteSize

    @Option(
        name: .customShort("n"), help: ArgumentHelp("Tokens to generate.", valueName: "tokens"))
    var count: Int = 96

    @Option(
        name: .shortAndLong,
        help: "The prompt; without one, the model's first token.")
    var prompt: String?

    @OptionGroup var report: ReportArguments

    func validate() throws {
        if count < 3 { throw ValidationError("-n \(count): each of three phases wants a token.") }
        if engine.memory == nil {
            throw ValidationError("--memory is missing: from what to shrink to --to.")
        }
    }

    func run() throws {
        try Failure.reporting {
            let description = try ModelLocation.open(model.model)
            let ids = try promptIDs(description)
            var options = try engine.options(for: description)
            options.context =
                options.context ?? min(description.contextLength, ids.count + count + 1)
            let plan = try MemoryPlan(model: description, options: options)
            guard plan.context >= ids.count + count else {
                throw InputError("\(ids.count + count) tokens do not fit --ctx \(plan.context)")
            }
            var resized = try generate(
                description, options, plan, ids,
                budgets: [
                    plan.budgetBytes, to.bytes, plan.budgetBytes,
                ])
            let steady = try generate(
                description, options, plan, ids, budgets: [plan.budgetBytes])
            resized.compare(with: steady)
            Console.out(report.json ? try JSONOutput.text(resized) : resized.table)
            if !resized.holds { throw ExitCode(1) }
        }
    }

    private func promptIDs(_ description: ModelDescription) throws -> [Int32] {
        guard let prompt else { return [0] }
        let tokenizer = try Tokenizer(metadata: description.file.metadata)
        let ids = tokenizer.encode(Array(prompt.utf8), addSpecial: true, parseSpecial: false)
        if ids.isEmpty { throw InputError("--prompt: the prompt has no tokens") }
        return ids
    }

    /// Generates under each of the budgets in turn, with as many tokens under one as another.
    private func generate(
        _ description: ModelDescription, _ options: EngineOptions, _ plan: MemoryPlan,
        _ prompt: [Int32], budgets: [Int]
    ) throws -> ResizeRun {
        var engine = try Loading.engine(description, options, plan)
        var settings = SamplerSettings()
        settings.temperature = 0
        var sampler = Sampler(settings: settings, vocabularyCount: description.vocabularyCount)
        var run = ResizeRun()
        try engine.prefill(prompt, from: 0)
        var position = prompt.count
        for (index, budget) in budgets.enumerated() {
            var phase = ResizeRun.Phase(budgetBytes: budget)
            if index > 0 {
                let start = host_nanoseconds()
                try engine.resize(memoryBytes: budget)
                phase.resizeSeconds = Double(host_nanoseconds() - start) / 1e9
            }
            phase.cacheBytes = engine.cacheBytes
            let before = engine.statistics
            let start = host_nanoseconds()
            while run.tokenIds.count < count * (index + 1) / budgets.count {
                let id = unsafe sampler.draw(engine.logits)
                run.tokenIds.append(id)
                try engine.decode(id, at: position)
                position += 1
                phase.note(ProcessMemory.current())
            }
            let statistics = engine.statistics - before
            phase.tokensPerSecond =
                Double(statistics.tokens) / (Double(host_nanoseconds() - start) / 1e9)
            phase.hitRate = statistics.streaming.hitRate
            run.phases.append(phase)
        }
        let peak = ProcessMemory.peak()
        run.peakMemoryBytes = peak?.residentBytes ?? 0
        run.cgroupPeakMemoryBytes = peak?.groupBytes
        return run
    }
}

/// What one generation held and made. Bytes, seconds, shares of 1.
struct ResizeRun: Encodable {
    struct Phase: Encodable {
        var budgetBytes: Int
        var cacheBytes = 0
        var resizeSeconds = 0.0
        /// Most that the process held after any of the phase's tokens (VmRSS), and its control
        /// group.
        var residentBytes = 0
        var cgroupBytes: Int?
        var tokensPerSecond = 0.0
        var hitRate = 1.0

        init(budgetBytes: Int) { self.budgetBytes = budgetBytes }

        mutating func note(_ memory: ProcessMemory?) {
            guard let memory else { return }
            residentBytes = max(residentBytes, memory.residentBytes)
            if let group = memory.groupBytes { cgroupBytes = max(cgroupBytes ?? 0, group) }
        }
    }

    var phases: [Phase] = []
    var tokenIds: [Int32] = []
    /// As the kernel counts peaks: of the process until then (VmHWM), and of its control group.
    var peakMemoryBytes = 0
    var cgroupPeakMemoryBytes: Int?
    /// Index of the first token that is another one without a change of memory; nil if none is.
    var firstDifference: Int?

    /// Whether no token differs and no phase held more than it may.
    var holds: Bool {
        firstDifference == nil && phases.allSatisfy { $0.residentBytes <= $0.budgetBytes }
            && phases.contains { peakMemoryBytes <= $0.budgetBytes }
    }

    mutating func compare(with steady: ResizeRun) {
        firstDifference = tokenIds.indices.first { tokenIds[$0] != steady.tokenIds[$0] }
    }

    var table: String {
        var lines = phases.map { phase in
            [
                "memory \(ByteSize(bytes: phase.budgetBytes))",
                "cache \(ByteSize(bytes: phase.cacheBytes))",
                "resident \(ByteSize(bytes: phase.residentBytes))"
                    + (phase.residentBytes > phase.budgetBytes ? ", MORE THAN ALLOWED" : ""),
                phase.cgroupBytes.map { "control group \(ByteSize(bytes: $0))" },
                "resized in \(fixed(phase.resizeSeconds * 1000, 1)) ms",
                "\(fixed(phase.tokensPerSecond, 2)) tok/s",
                "hit rate \(fixed(phase.hitRate * 100, 1)) %",
            ].compactMap { $0 }.joined(separator: " | ")
        }
        lines.append(
            "peak memory \(ByteSize(bytes: peakMemoryBytes))"
                + (cgroupPeakMemoryBytes.map { ", of the control group \(ByteSize(bytes: $0))" }
                    ?? ""))
        lines.append(
            firstDifference.map {
                "token \($0 + 1) of \(tokenIds.count) DIFFERS from that of a run without a change"
            } ?? "all \(tokenIds.count) tokens are those of a run without a change")
        return lines.joined(separator: "\n") + "\n"
    }
}
