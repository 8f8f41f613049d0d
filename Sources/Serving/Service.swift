import CHost
import ExpertStreaming
import Glibc
import Logging
import Synchronization

/// What somebody outside wants of a running service.
public enum ServiceSignal: Sendable {
    /// Finish what runs, and end (SIGTERM, SIGINT). The second one ends at once.
    case stop
    /// Read the configuration again (SIGHUP).
    case reload
}

/// `sluice serve`: sockets, engine, endpoints, and what systemd wants to know about them.
///
/// ```
///   sockets ── HTTPListener ── Endpoints ── ServiceContext ── Scheduler (the engine's own thread)
///                                                  │
///   signals ── Service.run ── ServiceNotifier ─────┘  READY=1, STATUS=, WATCHDOG=1, STOPPING=1
/// ```
/// A process has one; a test may have several, each with an environment of its own.
public final class Service: Sendable {
    private let configuration: Mutex<ServiceConfiguration>
    private let environment: @Sendable (String) -> String?
    private let reread: @Sendable () throws -> ServiceConfiguration
    private let context: ServiceContext
    private let notifier: ServiceNotifier
    private let logger: Logger
    private let output: LogOutput
    private let limits: ServiceLimits

    /// - Parameters:
    ///   - environment: As getenv.
    ///   - reread: Makes the configuration again, for a reload.
    /// - Throws: `ServiceError` for what the configuration names and cannot be had.
    public init(
        configuration: ServiceConfiguration,
        environment: @escaping @Sendable (String) -> String?,
        reread: @escaping @Sendable () throws -> ServiceConfiguration
    ) throws {
        self.environment = environment
        self.reread = reread
        output = LogOutput(
            form: LogOutput.form(environment: environment),
            level: (configuration.logLevel ?? .info).level)
        let handler = ServiceLogHandler(output)
        logger = Logger(label: "sluice") { _ in handler }
        notifier = ServiceNotifier(environment: environment)
        context = ServiceContext(
            logger: logger, live: try LiveSettings(configuration, environment: environment))
        var limits = ServiceLimits()
        if let bytes = configuration.bodyLimit?.bytes { limits.bodyBytes = bytes }
        if let connections = configuration.connections { limits.connections = connections }
        self.limits = limits
        self.configuration = Mutex(configuration)
    }

    /// Runs until it is told to stop, or its engine fails.
    ///
    /// - Throws: `ServiceError` for a socket that cannot be had, and for an engine that cannot be
    ///   made or went wrong.
    public func run(signals: AsyncStream<ServiceSignal>) async throws {
        let configuration = configuration.withLock { $0 }
        let sockets = try ServiceSockets(
            configuration, environment: environment, hasKeys: !context.live.keys.isEmpty)
        defer { sockets.removeFiles() }
        let endpoints = Endpoints(context: context)
        let listener = HTTPListener(
            limits: limits, logger: logger,
            isRefused: { [context] in !context.live.peers.allows($0) },
            respond: { await endpoints.respond($0, $1) })
        for socket in sockets.all {
            try await listener.listen(on: socket)
            logger.info("listening on \(socket.address)")
        }
        notifier.ready()
        notifier.show("idle")
        loop: for await signal in signals {
            switch signal {
            case .stop: break loop
            case .reload: reload()
            }
        }
        notifier.stopping()
        await listener.stopAccepting()
        await listener.close()
    }

    /// Puts a new configuration into force as far as that goes without a new start. One that is
    /// wrong changes nothing.
    private func reload() {
        notifier.reloading()
        defer { notifier.ready() }
        do {
            let new = try reread()
            let live = try LiveSettings(new, environment: environment)
            let old = configuration.withLock { $0 }
            context.live = live
            output.level = (new.logLevel ?? .info).level
            let waiting = new.needingRestart(since: old)
            if waiting.isEmpty {
                logger.notice("configuration read again")
            } else {
                logger.warning(
                    """
                    configuration read again; \(waiting.joined(separator: ", ")) changed, which takes effect with \
                    a restart
                    """)
            }
            configuration.withLock { $0 = new }
        } catch {
            logger.error("configuration not changed: \(error)")
        }
    }
}
