import ArgumentParser

/// How a measurement is printed.
struct ReportArguments: ParsableArguments {
    @Flag(help: "Print JSON.")
    var json = false
}

/// How often everything is measured.
struct RoundsArgument: ParsableArguments {
    @Option(help: "Rounds; figures are medians over them, with least and greatest.")
    var rounds: Int = 3

    func validate() throws {
        if rounds < 1 { throw ValidationError("--rounds \(rounds) measures nothing.") }
    }
}

/// What `bench` compares.
struct SettingArguments: ParsableArguments {
    @Option(
        parsing: .singleValue,
        help: ArgumentHelp(
            "A setting to measure, as 'cache=2x io=pread'; may be given several times.",
            valueName: "words"))
    var setting: [String] = []

    @Option(
        help: ArgumentHelp(
            "Cache sizes to sweep, as 1x,2x,4x; with settings, every combination.",
            valueName: "sizes"))
    var caches: String?

    func settings() throws -> [EngineSetting] { try EngineSetting.all(setting, caches: caches) }
}

/// Numbers separated by commas, as options take them.
struct CountList: ExpressibleByArgument, CustomStringConvertible {
    var counts: [Int]

    init(_ counts: [Int]) { self.counts = counts }

    init?(argument: String) {
        counts = []
        for word in argument.split(separator: ",", omittingEmptySubsequences: false) {
            guard let count = Int(word), count >= 0, count <= 1 << 24 else { return nil }
            counts.append(count)
        }
    }

    var description: String { counts.map(String.init).joined(separator: ",") }
    var defaultValueDescription: String { description }
}
