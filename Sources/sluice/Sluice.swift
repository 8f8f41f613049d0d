import ArgumentParser

/// The command. It parses arguments, calls the rooms below, and prints; nothing is computed here.
@main
struct Sluice: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sluice",
        abstract: "Runs Mixture-of-Experts language models in less memory than they need.",
        discussion: """
            MODEL is a GGUF file (of a split one, any part) or a package that `sluice pack` made. Without \
            MODEL, or with the word demo, the bundled demo model is used.

            Exit status: 0 done, 64 wrong usage, 65 the model file is bad, 66 a file cannot be opened, 69 no answer from \
            the server, 73 a file cannot be created, 74 the disk failed, 78 the configuration or the memory allowed will \
            not do.
            """,
        version: Versions.text,
        subcommands: [
            RunCommand.self, ChatCommand.self, ServeCommand.self, InspectCommand.self,
            PlanCommand.self,
            LogitsCommand.self,
            PackCommand.self, VerifyCommand.self, TokenizeCommand.self, DetokenizeCommand.self,
            TemplateCommand.self,
            TraceCommand.self, ReplayCommand.self, ProfileCommand.self, TrainPredictorCommand.self,
            BenchCommand.self, DoctorCommand.self,
        ])
}
