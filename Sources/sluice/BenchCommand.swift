import ArgumentParser

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measures a model, or this machine's kernels, memory and disk.",
        subcommands: [
            BenchSpeedCommand.self, BenchDecodeCommand.self, BenchPrefillCommand.self,
            BenchKernelsCommand.self, BenchQualityCommand.self, BenchResizeCommand.self,
            BenchSweepCommand.self, BenchReportCommand.self, BenchDiskCommand.self,
            BenchMemoryCommand.self,
            BenchPointCommand.self, BenchGuardCommand.self,
        ],
        defaultSubcommand: BenchSpeedCommand.self)
}
