public import ArgumentParser
import ExpertStreaming
import Glibc
public import Serving

extension SocketMode: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}

extension TimeSpan: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}

extension ListeningSocket.Address: ExpressibleByArgument {
    public init?(argument: String) { self.init(hostAndPort: argument) }
}

extension LogLevel: ExpressibleByArgument {}

struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serves a model to other programs, with OpenAI's API.",
        discussion: """
            Listens on a Unix socket: --socket, else sluice.sock in $RUNTIME_DIRECTORY, /run/sluice or \
            $XDG_RUNTIME_DIR; or on the sockets that systemd passes. TCP only with --listen. Every option can \
            stand in the configuration file, with underscores in its name; the command line wins. SIGHUP reads \
            the file again, SIGTERM finishes what runs and ends.
            """)

    @OptionGroup var model: ModelArgument

    @Option(help: ArgumentHelp("Configuration, in TOML.", valueName: "file"))
    var config: String?

    @Flag(help: "Read the configuration, say what is wrong with it, and end.")
    var checkConfig = false

    @Option(help: ArgumentHelp("The Unix socket.", valueName: "path"))
    var socket: String?

    @Option(
        help: ArgumentHelp(
            "Permissions of the socket file; default: 0660.", valueName: "octal"))
    var mode: SocketMode?

    @Option(help: ArgumentHelp("Group of the socket file.", valueName: "name"))
    var group: String?

    @Option(
        help: ArgumentHelp(
            "Listen by TCP, too, at a numeric address or localhost; may be given several times.",
            valueName: "host:port"))
    var listen: [ListeningSocket.Address] = []

    @Flag(help: "The address of --listen may be one that other machines can reach.")
    var listenAnywhere = false

    @Option(
        help: ArgumentHelp(
            "File with API keys, one per line, that only its owner can read.", valueName: "file"))
    var apiKeysFile: String?

    @Option(
        name: .customLong("alias"),
        help: ArgumentHelp("The model's name in the API.", valueName: "name"))
    var name: String?

    @Option(
        help: ArgumentHelp(
            "Jinja template of conversations in place of the model's own.", valueName: "file"))
    var chatTemplate: String?

    @Option(help: ArgumentHelp("Requests computed at the same time; default: 4.", valueName: "n"))
    var slots: Int?

    @Option(help: ArgumentHelp("Requests that may wait; default: 32.", valueName: "n"))
    var queue: Int?

    @Option(
        help: ArgumentHelp(
            "Give the expert cache back after so long without work, as 10min.", valueName: "time"))
    var idleRelease: TimeSpan?

    @Option(
        help: ArgumentHelp(
            "End after so long without work, if systemd can start the service again.",
            valueName: "time"))
    var idleExit: TimeSpan?

    @Option(
        help: ArgumentHelp(
            "Time that running requests have when the service is stopped; default: 30s.",
            valueName: "time"))
    var drainTimeout: TimeSpan?

    @Option(
        help: ArgumentHelp(
            "Least important log entries: trace, debug, info, notice, warning, error.",
            valueName: "level"))
    var logLevel: LogLevel?

    @OptionGroup var engine: EngineArguments

    func validate() throws {
        if let slots, !(1...256).contains(slots) {
            throw ValidationError("--slots \(slots) is not between 1 and 256.")
        }
        if let queue, !(1...65_536).contains(queue) {
            throw ValidationError("--queue \(queue) is not between 1 and 65536.")
        }
    }

    func run() throws {
        ProcessSignals.hold()
        try Failure.reporting {
            let configuration = try merged()
            let engine = try engine(configuration)
            if checkConfig {
                try Service.check(configuration, environment: variable)
                Console.out("\(config ?? "configuration"): ok\n")
                return
            }
            let description = try ModelLocation.open(configuration.model)
            let service = try Service(
                configuration: configuration, model: description,
                options: try engine.options(for: description),
                environment: variable,
                reread: {
                    let configuration = try merged()
                    _ = try self.engine(configuration)
                    return configuration
                })
            try ProcessSignals.withSignals { try await service.run(signals: $0) }
        }
    }

    /// A variable of the environment.
    private var variable: @Sendable (String) -> String? {
        { name in unsafe getenv(name).map { unsafe String(cString: $0) } }
    }

    /// The file's configuration with the command line's in front.
    private func merged() throws -> ServiceConfiguration {
        let file = try config.map { try ServiceConfiguration(path: $0) } ?? ServiceConfiguration()
        return file.overridden(by: flags)
    }

    /// The engine's options: those of the file as if they stood in the command line before all
    /// others, of which the last one counts.
    private func engine(_ configuration: ServiceConfiguration) throws -> EngineArguments {
        let words = configuration.engine.map { "--\($0.name)=\($0.value)" }
        let given = CommandLine.arguments.drop { $0 != "serve" }.dropFirst()
        do {
            return try ServeCommand.parse(words + given).engine
        } catch {
            let line = ServeCommand.message(for: error).split(separator: "\n").first ?? ""
            throw ServiceError("\(config ?? "command line"): \(line)")
        }
    }

    private var flags: ServiceConfiguration {
        var flags = ServiceConfiguration()
        flags.model = model.model
        flags.alias = name
        flags.chatTemplate = chatTemplate
        flags.socket = socket
        flags.mode = mode?.bits
        flags.group = group
        flags.listen = listen.isEmpty ? nil : listen
        flags.listenAnywhere = listenAnywhere ? true : nil
        flags.apiKeysFile = apiKeysFile
        flags.slots = slots
        flags.queue = queue
        flags.idleRelease = idleRelease?.seconds
        flags.idleExit = idleExit?.seconds
        flags.drainTimeout = drainTimeout?.seconds
        flags.logLevel = logLevel
        if let memory = engine.memory {
            // The one that a reload may change; a file does not, if the command line says it.
            flags.engine = [.init(name: "memory", value: "\(memory.bytes)")]
        }
        return flags
    }
}
