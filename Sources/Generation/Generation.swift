internal import Constraints
internal import Synchronization

/// A submitted request: the events of its answer, for one consumer.
///
/// Events wait for the consumer as long as it takes, none is dropped. When the consumer ends before
/// they do (its task is cancelled, its loop is left, the value goes away), the request is cancelled.
public struct Generation: AsyncSequence, Sendable {
    public typealias Element = GenerationEvent
    public typealias Failure = SchedulingError

    let ticket: Ticket
    private let events: Ticket.Events

    init(ticket: Ticket, events: Ticket.Events) {
        self.ticket = ticket
        self.events = events
    }

    /// Ends the request: within one token, or within one slice of its prompt. Its choices still
    /// finish with `StopReason.cancelled`, and `done` comes.
    public func cancel() { ticket.cancel() }

    public func makeAsyncIterator() -> Iterator {
        Iterator(base: events.makeAsyncIterator(), end: Iterator.End(ticket))
    }

    public struct Iterator: AsyncIteratorProtocol {
        /// Cancels the request when the iterator goes away, which is when nobody listens any more.
        final class End {
            private let ticket: Ticket

            init(_ ticket: Ticket) { self.ticket = ticket }

            deinit { ticket.cancel() }
        }

        var base: Ticket.Events.Iterator
        let end: End

        public mutating func next() async throws(SchedulingError) -> GenerationEvent? {
            try await next(isolation: nil)
        }

        public mutating func next(
            isolation actor: isolated (any Actor)?
        ) async throws(SchedulingError) -> GenerationEvent? {
            try await base.next(isolation: actor)?.get()
        }
    }
}

/// What scheduler and consumer share of a request.
final class Ticket: Sendable {
    typealias Events = AsyncStream<Result<GenerationEvent, SchedulingError>>

    let number: UInt64
    let request: GenerationRequest
    /// Where the request has a constraint.
    let vocabulary: ConstraintVocabulary?
    /// Nanoseconds of the monotonic clock.
    let submitted: UInt64
    private let events: Events.Continuation
    private let cancelled = Atomic(false)
    private let wake: @Sendable () -> Void

    /// - Parameter wake: tells the engine that a request has been cancelled.
    init(
        number: UInt64, request: GenerationRequest, vocabulary: ConstraintVocabulary?,
        submitted: UInt64, events: Events.Continuation, wake: @escaping @Sendable () -> Void
    ) {
        self.number = number
        self.request = request
        self.vocabulary = vocabulary
        self.submitted = submitted
        self.events = events
        self.wake = wake
        events.onTermination = { [weak self] _ in self?.cancel() }
    }

    /// The user that the slot counts for.
    var user: String { request.user ?? "" }

    var isCancelled: Bool { cancelled.load(ordering: .relaxed) }

    func cancel() {
        if !cancelled.exchange(true, ordering: .relaxed) { wake() }
    }

    func send(_ event: GenerationEvent) { events.yield(.success(event)) }

    /// Ends the events, with an error if there is one.
    func finish(_ error: SchedulingError? = nil) {
        // Nobody is told that it is over by being cancelled.
        _ = cancelled.exchange(true, ordering: .relaxed)
        if let error { events.yield(.failure(error)) }
        events.finish()
    }
}
