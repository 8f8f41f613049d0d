import ArgumentParser
import Inference

struct LogitsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "logits",
        abstract: "Writes the logits after every token of a sequence, as a NumPy file.",
        discussion: """
            The file holds float32 (tokens, vocabulary); row t is what follows token t. With --chunk 1 tokens \
            are decoded one by one, where --miss and --predict act.
            """)

    @OptionGroup var model: ModelArgument
    @OptionGroup var engine: EngineArguments

    @Option(help: ArgumentHelp("Token ids, separated by commas.", valueName: "1,2,3"))
    var ids: String

    @Option(name: .shortAndLong, help: ArgumentHelp("The file to write.", valueName: "file.npy"))
    var output: String

    @Option(help: ArgumentHelp("Write all figures of the run as JSON.", valueName: "file"))
    var stats: String?

    func run() throws {
        try Failure.reporting {
            let description = try ModelLocation.open(model.model)
            let ids = try TokenIDs.parse([ids], vocabularyCount: description.vocabularyCount)
            guard !ids.isEmpty else { throw InputError("--ids names no token") }
            var options = try engine.options(for: description)
            options.headRows = min(8, ids.count)
            options.context = options.context ?? ids.count
            guard options.context! >= ids.count else {
                throw InputError("\(ids.count) ids do not fit --ctx \(options.context!)")
            }
            let plan = try MemoryPlan(model: description, options: options)
            var loaded = try Loading.engine(description, options, plan)
            let file = try NumPyFile(
                path: output, rows: ids.count, columns: description.vocabularyCount)
            if engine.chunk == 1 {
                for (position, id) in ids.enumerated() {
                    try loaded.decode(id, at: position)
                    try unsafe file.append(loaded.logits)
                }
            } else {
                try unsafe loaded.everyLogit(of: ids) { row in try unsafe file.append(row) }
            }
            try file.close()
            if let stats {
                try Console.writeFile(stats, Array(JSONOutput.text(EngineFigures(loaded)).utf8))
            }
        }
    }
}
