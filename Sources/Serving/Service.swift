import CHost
import ExpertStreaming
import Generation
import Glibc
public import Inference
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
    private let model: ServedModel
    private let live: LiveSettings
    private let notifier: ServiceNotifier
    private let logger: Logger
    private let output: LogOutput
    private let limits: ServiceLimits

    /// - Parameters:
    ///   - model: What `configuration.model` names.
    ///   - options: Of the engine; the number of sequences is the configuration's.
    ///   - environment: As getenv.
    ///   - reread: Makes the configuration again, for a reload.
    /// - Throws: `ServiceError` for what the configuration names and cannot be had, `EngineError`
    ///   where memory does not suffice, `ModelFileError` for a model without a vocabulary.
    public convenience init(
        configuration: ServiceConfiguration, model: ModelDescription, options: EngineOptions,
        environment: @escaping @Sendable (String) -> String?,
        reread: @escaping @Sendable () throws -> ServiceConfiguration
    ) throws {
        try self.init(
            configuration: configuration, model: model, options: options, limits: ServiceLimits(),
            environment: environment, reread: reread)
    }

    init(
        configuration: ServiceConfiguration, model: ModelDescription, options: EngineOptions,
        limits: ServiceLimits, environment: @escaping @Sendable (String) -> String?,
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
        live = try LiveSettings(configuration, environment: environment)
        self.model = try ServedModel(
            model, options: options, configuration: configuration, created: WallClock.seconds())
        var limits = limits
        if let bytes = configuration.bodyLimit?.bytes { limits.bodyBytes = bytes }
        if let connections = configuration.connections { limits.connections = connections }
        self.limits = limits
        self.configuration = Mutex(configuration)
    }

    /// Looks at what a configuration names, without starting anything: files, users, addresses.
    ///
    /// - Throws: `ServiceError` for the first thing that will not do.
    public static func check(
        _ configuration: ServiceConfiguration, environment: (String) -> String?
    ) throws(ServiceError) {
        let live = try LiveSettings(configuration, environment: environment)
        try ServiceSockets.check(configuration, hasKeys: !live.keys.isEmpty)
    }

    /// What happens to a service.
    private enum Event: Sendable {
        case signal(ServiceSignal)
        case ready
        case failed(String)
        case idleForLong
    }

    /// Runs until it is told to stop, or its engine fails.
    ///
    /// - Throws: `ServiceError` for a socket that cannot be had, and for an engine that cannot be
    ///   made or went wrong.
    public func run(signals: AsyncStream<ServiceSignal>) async throws {
        let configuration = configuration.withLock { $0 }
        let sockets = try ServiceSockets(
            configuration, environment: environment, hasKeys: !live.keys.isEmpty)
        defer { sockets.removeFiles() }
        for warning in model.plan.warnings { logger.warning("\(warning)") }
        if let problem = model.templateProblem {
            logger.warning("no chat: the model's template cannot be used: \(problem)")
        }
        let context = ServiceContext(
            logger: logger, model: model,
            scheduler: Scheduler(
                model: model.description, options: model.options, plan: model.plan,
                tokenizer: model.tokenizer, settings: schedulerSettings(configuration)),
            live: live, queueLimit: configuration.queue ?? 32)
        let listener = makeListener(context)
        let (events, continuation) = AsyncStream.makeStream(of: Event.self)
        let tasks = tasks(
            context, sockets, idleExit: configuration.idleExit, signals: signals, continuation)
        defer { for task in tasks { task.cancel() } }
        do {
            for socket in sockets.all {
                try await listener.listen(on: socket)
                logger.info("listening on \(socket.address)")
            }
        } catch {
            await listener.close()
            throw ServiceError("a socket cannot be listened on: \(error)")
        }
        let problem = await follow(events, context)
        notifier.stopping()
        notifier.show("stopping")
        let drainSeconds = context.live.drainSeconds
        notifier.extendTimeout(seconds: Int(drainSeconds) + 10)
        logger.notice("stopping")
        await listener.stopAccepting()
        await context.scheduler.drain(deadline: drainSeconds)
        // The engine is done; what it said is still on its way to the clients.
        for _ in 0..<100 where listener.connectionCount > 0 {
            try? await Task.sleep(for: .milliseconds(20))
        }
        await listener.close()
        if let problem { throw ServiceError(problem) }
    }

    /// Handles events until the service has to end; returns why, if something went wrong.
    private func follow(_ events: AsyncStream<Event>, _ context: ServiceContext) async -> String? {
        for await event in events {
            switch event {
            case .ready:
                notifier.ready()
                logger.notice(
                    "ready: \(model.id), \(model.plan.sequences) slots with a context of \(model.plan.context)"
                )
            case .failed(let reason): return reason
            case .idleForLong:
                logger.notice("nothing to do: ending until the next request")
                return nil
            case .signal(.stop): return nil
            case .signal(.reload): await reload(context)
            }
        }
        return nil
    }

    private func makeListener(_ context: ServiceContext) -> HTTPListener {
        // The endpoints tell the number of connections, which the listener counts.
        let counter = ConnectionCounter()
        let endpoints = Endpoints(context: context, connectionCount: { counter.count })
        return HTTPListener(
            limits: limits, logger: logger, counter: counter,
            isRefused: { !context.live.peers.allows($0) },
            respond: { await endpoints.respond($0, $1) })
    }

    private func schedulerSettings(_ configuration: ServiceConfiguration) -> SchedulerSettings {
        var settings = SchedulerSettings()
        settings.queueLimit = configuration.queue ?? 32
        settings.idleSeconds = configuration.idleRelease.flatMap { $0 > 0 ? $0 : nil }
        let state = environment("STATE_DIRECTORY")?.split(separator: ":").first
        let cache = configuration.prefixCache
        settings.prefixCacheDirectory = cache.directory ?? state.map { "\($0)/prefix-cache" }
        if let size = cache.size?.bytes { settings.prefixCacheBytes = size }
        if settings.prefixCacheBytes == 0 { settings.prefixCacheDirectory = nil }
        settings.wedgeAfterTokens = environment("SLUICE_WEDGE_AFTER").flatMap { Int($0) }
        settings.log = { [logger] line in logger.notice("\(line)") }
        return settings
    }

    // MARK: While it runs

    private func tasks(
        _ context: ServiceContext, _ sockets: ServiceSockets, idleExit: Double?,
        signals: AsyncStream<ServiceSignal>, _ events: AsyncStream<Event>.Continuation
    ) -> [Task<Void, any Error>] {
        var tasks = [
            Task { for await signal in signals { events.yield(.signal(signal)) } },
            Task {
                do {
                    try await context.scheduler.ready()
                    events.yield(.ready)
                } catch let error as SchedulingError {
                    if case .stopping = error { return }
                    events.yield(.failed("\(error)"))
                }
            },
            Task { [notifier] in
                var reporter = StatusReporter(notifier)
                let exit = sockets.areActivated ? idleExit ?? 0 : 0
                var idleSince = host_nanoseconds()
                while true {
                    let snapshot = context.scheduler.snapshot()
                    reporter.report(snapshot)
                    if case .failed(let reason) = snapshot.state {
                        events.yield(.failed(reason))
                    }
                    if !context.scheduler.isIdle { idleSince = host_nanoseconds() }
                    let idleSeconds = Double(host_nanoseconds() - idleSince) / 1e9
                    if exit > 0, snapshot.state == .ready, idleSeconds >= exit {
                        events.yield(.idleForLong)
                    }
                    try await Task.sleep(for: .seconds(exit > 0 ? min(exit / 4, 2) : 2))
                }
            },
        ]
        if let watchdog = Watchdog(environment: environment) {
            tasks.append(Task { try await self.feed(watchdog, context.scheduler) })
        }
        return tasks
    }

    private func feed(_ watchdog: Watchdog, _ scheduler: Scheduler) async throws {
        var watchdog = watchdog
        while true {
            try await Task.sleep(for: .seconds(watchdog.intervalSeconds))
            if watchdog.isFed(heartbeat: scheduler.heartbeat, isIdle: scheduler.isIdle) {
                notifier.alive()
            } else if watchdog.missedFeeds == 1 {
                logger.error(
                    "the engine has done nothing for \(watchdog.intervalSeconds) s; the watchdog is not fed"
                )
            }
        }
    }

    /// Puts a new configuration into force as far as that goes without a new start. One that is
    /// wrong changes nothing.
    private func reload(_ context: ServiceContext) async {
        notifier.reloading()
        defer { notifier.ready() }
        do {
            let new = try reread()
            let live = try LiveSettings(new, environment: environment)
            let old = configuration.withLock { $0 }
            if let size = new.engineOption("memory").flatMap({ ByteSize($0) }),
                new.engineOption("memory") != old.engineOption("memory")
            {
                try await context.scheduler.resize(memoryBytes: size.bytes)
            }
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

/// The line that `systemctl status` shows of a service, and the time it asks for while it loads.
private struct StatusReporter {
    private let notifier: ServiceNotifier
    private var last = EngineStatistics()
    private var lastShare = -1.0

    init(_ notifier: ServiceNotifier) { self.notifier = notifier }

    mutating func report(_ snapshot: SchedulerSnapshot) {
        switch snapshot.state {
        case .loading(let share):
            notifier.show("loading, \(Int(share * 100)) %")
            // Asked for only while it gets on: loading that hangs is to be noticed.
            if share > lastShare { notifier.extendTimeout(seconds: 60) }
            lastShare = share
        case .ready where snapshot.running + snapshot.queued > 0:
            let streaming = (snapshot.statistics - last).streaming
            last = snapshot.statistics
            let rate = (snapshot.tokensPerSecond * 10).rounded() / 10
            notifier.show(
                "\(snapshot.running) running, \(snapshot.queued) queued, \(rate) tok/s, "
                    + "\(Int((streaming.hitRate * 100).rounded())) % hits")
        case .ready:
            notifier.show(snapshot.isCacheReleased ? "idle, expert cache given back" : "idle")
        case .draining, .stopped: break
        case .failed(let reason): notifier.show("failed: \(reason)")
        }
    }
}
