import Generation
import Logging
import OpenAIAPI
import Synchronization

/// What all requests of a service share.
final class ServiceContext: Sendable {
    let logger: Logger
    let model: ServedModel
    let scheduler: Scheduler
    let metrics = RequestMetrics()
    /// Of a request, beside what a token says about itself.
    let requestLimits = RequestLimits()
    private let settings: Mutex<LiveSettings>
    /// Requests that wait for the model to be loaded.
    private let waiting = Atomic(0)
    private let queueLimit: Int

    init(
        logger: Logger, model: ServedModel, scheduler: Scheduler, live: LiveSettings,
        queueLimit: Int
    ) {
        self.logger = logger
        self.model = model
        self.scheduler = scheduler
        self.queueLimit = queueLimit
        settings = Mutex(live)
    }

    /// What a reload may change; a request sees one state of it.
    var live: LiveSettings {
        get { settings.withLock { $0 } }
        set { settings.withLock { $0 = newValue } }
    }

    /// Hands a request to the engine. While the model is being loaded it waits: the first client of
    /// a service that systemd started for it has done nothing wrong.
    func submit(
        _ request: GenerationRequest, promptField: String
    ) async throws(APIError) -> Generation {
        do {
            if case .loading = scheduler.state {
                let number = waiting.add(1, ordering: .relaxed).newValue
                defer { waiting.subtract(1, ordering: .relaxed) }
                guard number <= queueLimit else {
                    throw APIError.unavailable("The model is being loaded.", retryAfterSeconds: 5)
                }
                try await scheduler.ready()
            }
            return try scheduler.submit(request)
        } catch let error as SchedulingError {
            throw APIError(error, promptField: promptField)
        } catch let error as APIError {
            throw error
        } catch {
            throw .failed("\(error)")
        }
    }
}

extension APIError {
    /// What a client is told of a request that the engine did not take or finish.
    init(_ error: SchedulingError, promptField: String) {
        switch error {
        case .queueFull(let seconds): self = .busy(retryAfterSeconds: seconds)
        case .promptTooLong(let tokens, let context):
            self = .contextExceeded(tokens: tokens, context: context, param: promptField)
        case .empty:
            self = .invalid(
                "The prompt has no tokens.", param: promptField, code: "empty_string")
        case .invalid(let problem): self = .invalid("\(problem).")
        case .stopping:
            self = .unavailable("The service is being stopped.", retryAfterSeconds: 5)
        case .notReady: self = .unavailable("The model is being loaded.", retryAfterSeconds: 5)
        case .failed(let reason): self = .failed(reason)
        }
    }
}
