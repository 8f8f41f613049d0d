internal import Constraints
public import Inference
public import Tokenization
internal import CHost
internal import Synchronization

/// Answers requests of many clients with one engine: continuous batching over slots.
///
/// ```
///   submit ---> queue (fair between users, bounded)
///                 |  a slot comes free                          engine's own thread
///                 v                                             -------------------
///   slot 0: prompt, slice by slice ... | token token token     one slice of one prompt,
///   slot 1: token token token token ...                        then steps of all sequences
///   slot 2: (free; remembers what it computed)                 together, and so on
///                 |
///                 v
///   Generation: events, as they come
/// ```
/// A slot is one of the engine's sequences. When its text has ended it keeps the computed positions:
/// the next request with the same beginning takes them over, from a free slot in place, from any
/// other as a copy, or from a file. Since results depend neither on batching nor on slicing, no bit
/// of an answer changes by any of it under an exact miss policy.
///
/// The engine is made and used by a thread that does nothing else. It sleeps while there is no work.
public final class Scheduler: Sendable {
    private let core: SchedulerCore
    private let tokenizer: Tokenizer
    private let vocabularyCount: Int
    private let context: Int
    private let vocabularies: Mutex<Vocabularies>

    /// Vocabularies for constraints, made when one is wanted first: without and with control tokens
    /// spelled out.
    private struct Vocabularies {
        var plain: ConstraintVocabulary?
        var special: ConstraintVocabulary?
    }

    /// Starts the engine's thread, which loads the model; see `ready`.
    ///
    /// - Parameters:
    ///   - plan: Made from the same model and options. Its sequences are the slots.
    ///   - tokenizer: The model's.
    public init(
        model: ModelDescription, options: EngineOptions, plan: MemoryPlan, tokenizer: Tokenizer,
        settings: SchedulerSettings
    ) {
        self.tokenizer = tokenizer
        vocabularyCount = model.vocabularyCount
        context = plan.context
        vocabularies = Mutex(Vocabularies())
        core = SchedulerCore(settings: settings, plan: plan)
        var options = options
        options.reactsToPressure = settings.reactsToPressure
        EngineThread.start(
            EngineThread(
                core: core, model: model, options: options, plan: plan, tokenizer: tokenizer))
    }

    deinit { core.stop(at: 0) }

    public var state: SchedulerState { core.inbox.withLock { $0.snapshot.state } }

    /// Returns when the model is loaded and has answered one token.
    ///
    /// - Throws: `SchedulingError.failed` with what the engine could not be made for, `stopping`
    ///   when it was stopped before.
    public func ready() async throws {
        try await core.wait { inbox, waiter in inbox.wait(forReady: waiter) }
    }

    /// Queues a request.
    ///
    /// - Throws: before any work: `notReady`, `stopping` or `failed`, by the state; `empty`,
    ///   `promptTooLong` or `invalid`, by the request; `queueFull`.
    public func submit(_ request: GenerationRequest) throws(SchedulingError) -> Generation {
        try core.admits()
        if request.prompt.isEmpty { throw .empty }
        if request.prompt.count > context {
            throw .promptTooLong(tokens: request.prompt.count, context: context)
        }
        if let problem = request.problem(vocabularyCount: vocabularyCount) {
            throw .invalid(problem)
        }
        let vocabulary =
            request.constraint == nil ? nil : vocabulary(special: request.rendersSpecial)
        return try core.submit(request, vocabulary)
    }

    /// The counters now, without stopping the engine.
    public func snapshot() -> SchedulerSnapshot { core.snapshot() }

    /// Gives the engine another budget, between two tokens.
    ///
    /// - Throws: `EngineError` naming the shortfall, `StreamingError` when the system has no memory
    ///   to grow into: then nothing has changed. `SchedulingError` where there is no engine any
    ///   more.
    public func resize(memoryBytes: Int) async throws {
        try await core.wait { inbox, waiter in
            inbox.order(.resize(memoryBytes: memoryBytes), waiter)
        }
    }

    /// Gives back the expert cache until the next request.
    ///
    /// - Throws: as `resize`.
    public func releaseCache() async throws {
        try await core.wait { inbox, waiter in inbox.order(.releaseCache, waiter) }
    }

    /// Takes no more requests, finishes those it has, and stops; returns when the engine is gone.
    /// What is not finished after `seconds` is cancelled.
    ///
    /// An engine that does not get to the end of a token is not waited for longer than two seconds
    /// more.
    public func drain(deadline seconds: Double) async {
        let seconds = max(0, min(seconds, 1e6))
        core.stop(at: host_nanoseconds() + UInt64(seconds * 1e9))
        let core = core
        let watch = Task {
            try await Task.sleep(for: .seconds(seconds + 2))
            core.giveUp()
        }
        try? await core.wait { inbox, waiter in inbox.wait(forEnd: waiter) }
        watch.cancel()
    }

    /// Rises with every step while there is work.
    public var heartbeat: UInt64 { core.heartbeat.load(ordering: .relaxed) }

    /// Nothing runs and nothing waits.
    public var isIdle: Bool { core.inbox.withLock { $0.isIdle } }

    private func vocabulary(special: Bool) -> ConstraintVocabulary {
        vocabularies.withLock { made in
            if let vocabulary = special ? made.special : made.plain { return vocabulary }
            let ids = (0..<Int32(vocabularyCount))
            let control = special ? [] : Set(ids.filter { tokenizer.isControl($0) })
            let vocabulary = ConstraintVocabulary(
                tokens: ids.map { tokenizer.bytes(of: $0, renderSpecial: special) },
                special: control, endOfGeneration: tokenizer.endOfGeneration)
            if special { made.special = vocabulary } else { made.plain = vocabulary }
            return vocabulary
        }
    }
}
