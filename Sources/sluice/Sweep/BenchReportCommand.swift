import ArgumentParser
import Benchmarking

struct BenchReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Writes the report of a sweep anew, of as much as has finished.")

    @Argument(help: "Folder that -o of 'bench sweep' named.")
    var folder: String

    func run() throws {
        try Failure.reporting {
            let store = try SweepStore(folder: folder)
            try store.writeReport()
            Console.error(
                "sluice: \(folder)/report.html, report.json and report.csv: \(store.entries.count) runs"
            )
        }
    }
}

/// What a sweep leaves its clean-up to, should it be killed.
struct BenchGuardCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "guard", abstract: "Cleans up after a sweep that was killed.",
        shouldDisplay: false)

    func run() { Guardian.serve(descriptor: 0) }
}
