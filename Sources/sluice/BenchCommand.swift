import ArgumentParser

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measures a model, or the kernels, on this machine.",
        subcommands: [
            BenchSpeedCommand.self, BenchDecodeCommand.self, BenchPrefillCommand.self,
            BenchKernelsCommand.self, BenchQualityCommand.self, BenchResizeCommand.self,
            BenchPointCommand.self,
        ],
        defaultSubcommand: BenchSpeedCommand.self)
}
