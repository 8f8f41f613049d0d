internal import CHost
internal import Constraints
internal import Inference
internal import Synchronization

/// What the engine's thread and everybody else share.
final class SchedulerCore: Sendable {
    typealias Waiter = CheckedContinuation<Void, any Error>

    let settings: SchedulerSettings
    let inbox: Monitor<Inbox>
    let heartbeat = Atomic<UInt64>(0)

    /// Something to be done by the engine between two tokens.
    enum Order {
        case resize(memoryBytes: Int)
        case releaseCache
    }

    /// Everything under the lock.
    struct Inbox {
        var queue = RequestQueue()
        var orders: [(Order, Waiter)] = []
        /// Some request has been cancelled since the engine looked.
        var hasCancellations = false
        /// When everything is to have ended; nil while requests are taken.
        var end: UInt64?
        /// The engine is gone.
        var hasEnded = false
        var readyWaiters: [Waiter] = []
        var endWaiters: [Waiter] = []
        var snapshot: SchedulerSnapshot
        var numbers: UInt64 = 0
        /// What a request has taken in a slot lately, on average; 0 before the first.
        var requestSeconds = 0.0
        var rate = TokenRate()

        /// Nothing runs and nothing waits.
        var isIdle: Bool { queue.isEmpty && snapshot.running == 0 }

        /// Whether the engine has nothing new to look at.
        var isQuiet: Bool {
            queue.isEmpty && orders.isEmpty && !hasCancellations && end == nil
        }

        /// The error for a request in this state; nil if requests are taken.
        var refusal: SchedulingError? {
            switch snapshot.state {
            case .failed(let reason): .failed(reason)
            case .draining, .stopped: .stopping
            case .loading: end == nil ? .notReady : .stopping
            case .ready: end == nil ? nil : .stopping
            }
        }

        /// Keeps the waiter, unless what it waits for has come or never will.
        mutating func wait(forReady waiter: Waiter) {
            switch (snapshot.state, refusal) {
            case (.loading, .notReady): readyWaiters.append(waiter)
            case (_, let refusal?): waiter.resume(throwing: refusal)
            case (_, nil): waiter.resume()
            }
        }

        mutating func wait(forEnd waiter: Waiter) {
            if hasEnded { waiter.resume() } else { endWaiters.append(waiter) }
        }

        /// Keeps an order for the engine; while it is loaded, too.
        mutating func order(_ order: Order, _ waiter: Waiter) {
            switch refusal {
            case nil, .notReady: orders.append((order, waiter))
            case let refusal?: waiter.resume(throwing: refusal)
            }
        }
    }

    init(settings: SchedulerSettings, plan: MemoryPlan) {
        self.settings = settings
        var snapshot = SchedulerSnapshot(plan: plan)
        snapshot.slots = plan.sequences
        inbox = Monitor(Inbox(snapshot: snapshot))
    }

    func snapshot() -> SchedulerSnapshot {
        inbox.withLock { inbox in
            var snapshot = inbox.snapshot
            snapshot.queued = inbox.queue.count
            snapshot.tokensPerSecond = inbox.rate.perSecond(at: host_nanoseconds())
            return snapshot
        }
    }

    // MARK: For clients

    /// - Throws: why no request is taken now.
    func admits() throws(SchedulingError) {
        try inbox.withLock { inbox throws(SchedulingError) in
            if let refusal = inbox.refusal {
                inbox.snapshot.refused += 1
                throw refusal
            }
        }
    }

    func submit(
        _ request: GenerationRequest, _ vocabulary: ConstraintVocabulary?
    ) throws(SchedulingError) -> Generation {
        let (events, continuation) = Ticket.Events.makeStream(bufferingPolicy: .unbounded)
        let ticket = try inbox.withLock { inbox throws(SchedulingError) in
            if let refusal = inbox.refusal {
                inbox.snapshot.refused += 1
                throw refusal
            }
            guard inbox.queue.requestCount < settings.queueLimit else {
                inbox.snapshot.refused += 1
                throw .queueFull(retryAfterSeconds: retryAfter(inbox))
            }
            inbox.numbers += 1
            inbox.snapshot.requests += 1
            let ticket = Ticket(
                number: inbox.numbers, request: request, vocabulary: vocabulary,
                submitted: host_nanoseconds(), events: continuation,
                wake: { [weak self] in self?.noteCancellation() })
            inbox.queue.append(ticket)
            return ticket
        }
        inbox.signal()
        return Generation(ticket: ticket, events: events)
    }

    /// When a slot will have come free for everybody who waits, by what requests took lately.
    private func retryAfter(_ inbox: Inbox) -> Int {
        let rounds = Double(inbox.queue.count) / Double(max(1, inbox.snapshot.slots))
        return max(1, min(120, Int((rounds * max(1, inbox.requestSeconds)).rounded(.up))))
    }

    private func noteCancellation() {
        inbox.withLock { $0.hasCancellations = true }
        inbox.signal()
    }

    /// Waits for what `ask` asks of the inbox.
    func wait(_ ask: (inout Inbox, Waiter) -> Void) async throws {
        try await withCheckedThrowingContinuation { (waiter: Waiter) in
            inbox.withLock { ask(&$0, waiter) }
            inbox.signal()
        }
    }

    /// Takes no more requests, and ends when there are none any more, at the latest at a time of the
    /// monotonic clock.
    func stop(at end: UInt64) {
        let waiters = inbox.withLock { inbox -> [Waiter] in
            inbox.end = min(inbox.end ?? .max, end)
            if inbox.snapshot.state == .ready { inbox.snapshot.state = .draining }
            defer { inbox.readyWaiters = [] }
            return inbox.readyWaiters
        }
        for waiter in waiters { waiter.resume(throwing: SchedulingError.stopping) }
        inbox.signal()
    }

    // MARK: For the engine's thread

    func setProgress(_ share: Double) {
        inbox.withLock { $0.snapshot.state = .loading(share) }
    }

    /// Requests are taken from now on.
    func setReady() {
        let waiters = inbox.withLock { inbox -> [Waiter] in
            inbox.snapshot.state = inbox.end == nil ? .ready : .draining
            defer { inbox.readyWaiters = [] }
            return inbox.readyWaiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// No request will be answered any more; those that wait are told why.
    func close(_ error: SchedulingError) {
        let (choices, waiters) = inbox.withLock { inbox in
            if case .failed(let reason) = error {
                inbox.snapshot.state = .failed(reason)
            } else {
                inbox.snapshot.state = .stopped
            }
            inbox.snapshot.running = 0
            let waiters = inbox.readyWaiters + inbox.orders.map(\.1)
            inbox.readyWaiters = []
            inbox.orders = []
            let choices = inbox.queue.remove { _ in true }
            inbox.snapshot.failed += UInt64(choices.count { $0.index == 0 })
            return (choices, waiters)
        }
        for choice in choices { choice.ticket.finish(error) }
        for waiter in waiters { waiter.resume(throwing: error) }
    }

    /// Nobody waits for the end any more.
    func giveUp() {
        let waiters = inbox.withLock { inbox -> [Waiter] in
            inbox.hasEnded = true
            defer { inbox.endWaiters = [] }
            return inbox.endWaiters
        }
        for waiter in waiters { waiter.resume() }
    }
}
