import ArgumentParser
import ExpertStreaming
import Inference

struct PlanCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan",
        abstract: "Prints the memory a run would take, without loading anything.")

    @OptionGroup var model: ModelArgument
    @OptionGroup var engine: EngineArguments

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        try Failure.reporting {
            let description = try ModelLocation.open(model.model, reads: false)
            let plan = try MemoryPlan(model: description, options: engine.options(for: description))
            let figures = PlanFigures(plan)
            Console.out(json ? try JSONOutput.text(figures) : figures.table)
            for warning in plan.warnings { Console.error("sluice: \(warning)") }
        }
    }
}

/// A memory plan in figures, bytes unless named otherwise.
struct PlanFigures: Encodable {
    var budgetBytes: Int
    var budgetSource: String
    var residentBytes: Int
    var keyValueBytes: Int
    /// Of models whose sequences have a state; 0 for others.
    var stateBytes: Int
    var scratchBytes: Int
    var processBytes: Int
    var cacheBytes: Int
    var cacheTableBytes: Int
    var totalBytes: Int
    var floorBytes: Int
    var activeSetBytes: Int
    var allExpertsBytes: Int
    /// How many times the active set the cache is.
    var cacheMultiple: Double
    var cacheSlots: Int
    var holdsEverything: Bool
    var context: Int
    var threads: Int
    /// Most tokens of a prompt that are computed together.
    var chunk: Int

    init(_ plan: MemoryPlan) {
        budgetBytes = plan.budgetBytes
        budgetSource = plan.budgetSource
        residentBytes = plan.residentBytes
        keyValueBytes = plan.keyValueBytes
        stateBytes = plan.stateBytes
        scratchBytes = plan.scratchBytes
        processBytes = plan.processBytes
        cacheBytes = plan.cacheBytes
        cacheTableBytes = plan.streaming.fixedBytes
        totalBytes = plan.totalBytes
        floorBytes = plan.floorBytes
        activeSetBytes = plan.streaming.needs.activeSetBytes
        allExpertsBytes = plan.streaming.needs.fullBytes
        cacheMultiple = plan.streaming.multipleOfActiveSet
        cacheSlots = plan.streaming.slotCount
        holdsEverything = plan.streaming.holdsEverything
        context = plan.context
        threads = plan.threads
        chunk = plan.chunk
    }

    var table: String {
        let size = { (bytes: Int) in ByteSize(bytes: bytes).description }
        var rows = [
            ("resident weights", size(residentBytes)),
            ("key-value cache", "\(size(keyValueBytes)) for \(context) positions"),
            ("scratch", "\(size(scratchBytes)) for \(threads) threads and \(chunk) tokens at once"),
            (
                "expert cache",
                "\(size(cacheBytes)) in \(cacheSlots) slots: "
                    + (holdsEverything
                        ? "every expert" : "\(fixed(cacheMultiple, 2))x the active set")
            ),
            ("its tables", size(cacheTableBytes)),
            ("process", size(processBytes)),
            ("total", size(totalBytes)),
            ("budget", "\(size(budgetBytes)) (\(budgetSource))"),
            ("floor", "\(size(floorBytes)), the smallest budget that works"),
            (
                "active set",
                "\(size(activeSetBytes)) of experts per token, \(size(allExpertsBytes)) in all"
            ),
        ]
        if stateBytes > 0 {
            rows.insert(("states", "\(size(stateBytes)) for any number of positions"), at: 2)
        }
        return TextTable.twoColumns(rows)
    }
}
