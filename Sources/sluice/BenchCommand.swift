import ArgumentParser

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measures a model on this machine.",
        subcommands: [BenchSpeedCommand.self, BenchQualityCommand.self, BenchResizeCommand.self],
        defaultSubcommand: BenchSpeedCommand.self)
}
