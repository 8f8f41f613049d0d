import ArgumentParser
import Glibc
import SluiceClient

struct ChatCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "chat",
        abstract: "Talks with a model.",
        discussion: """
            Asks the service, or with MODEL a server that runs as long as the conversation; arguments behind \
            -- are those of 'sluice serve', as in: sluice chat demo -- --memory 2G --ctx 4096

            A line is a turn. One that ends in a backslash goes on with the next; text of several lines stands \
            between lines of \"\"\", or is pasted. A terminal takes lines of at most 4095 bytes; from a file \
            or a pipe, where they may be longer, each turn is answered in order. /help lists the commands.

            Ctrl-C ends an answer and keeps what there is of it; at the prompt, twice, it leaves, as Ctrl-D does.

            $SLUICE_API_KEY is the key of a server that asks for one.
            """)

    @Argument(
        help: "Model to talk with, as of 'sluice serve'; without one, the service is asked.")
    var model: String?

    @OptionGroup var service: ServiceArguments

    @Option(help: ArgumentHelp("The system message.", valueName: "text"))
    var system: String?

    @OptionGroup var sampling: SamplingArguments

    @Flag(help: "Ask the model not to think before it answers, where its template knows how.")
    var noThinking = false

    @Flag(help: "Print the figures of each answer, also where standard error is no terminal.")
    var stats = false

    @Argument(parsing: .postTerminator, help: .hidden)
    var serverArguments: [String] = []

    func validate() throws {
        if model != nil, service.address != nil {
            throw ValidationError(
                "A server has its own model; give MODEL, or --socket or --connect.")
        }
        if model == nil, !serverArguments.isEmpty {
            throw ValidationError("Arguments behind -- are for the server of a MODEL; give one.")
        }
    }

    func run() throws {
        try Failure.reporting {
            let signals = try Signals([SIGINT, SIGTERM, SIGHUP])
            if let model {
                var server = try PrivateServer(model, serverArguments)
                Console.progress("sluice: starting a server for \(model)")
                let client = ServiceArguments.client(server.address)
                let signal = try ServerWait.untilReady(client, signals, isStarting: true) {
                    try server.requireAlive()
                }
                try talk(client, signals, already: signal)
            } else {
                let client = ServiceArguments.client(try address())
                try talk(
                    client, signals, already: try ServerWait.untilReady(client, signals))
            }
        }
    }

    private func address() throws -> SluiceClient.Address {
        if let address = service.address { return address }
        guard case .socket(let path) = SluiceClient.Address.standard, unsafe access(path, F_OK) == 0
        else {
            throw InputError(
                "\(SluiceClient.Address.systemSocket): no such socket; start the service (systemctl "
                    + "start sluice.socket), name another with --socket, or name a MODEL (sluice "
                    + "chat demo)", code: Failure.unavailable)
        }
        return .socket(path)
    }

    private func talk(_ client: SluiceClient, _ signals: Signals, already signal: Int32?) throws {
        if let signal { throw ExitCode(128 + signal) }
        var request = ChatCompletionRequest(messages: [])
        request.sampling = sampling.fields
        request.maximumTokens = sampling.count
        request.stops = sampling.stop
        request.includesUsage = true
        if noThinking { request.templateVariables["enable_thinking"] = false }
        let session = ChatSession(
            client: client, request: request, system: system, input: ChatInput(signals),
            showsFigures: stats || Console.errorIsTerminal)
        let status = try session.run()
        if status != 0 { throw ExitCode(status) }
    }
}
