internal import CHost
internal import ExpertStreaming
internal import Glibc
internal import Inference
internal import Synchronization
internal import Tokenization

/// The engine at work: what each of its sequences holds and computes, and what is done next.
///
/// Between two steps it looks once, under the lock, whether there are requests, cancellations or
/// orders. The rules:
///   - Prompts take turns, a slice each. While nothing else runs, a slice is the plan's chunk.
///   - While other sequences generate, their steps get as much time after a slice as
///     `prefillShare` leaves them. A slice is then 64 tokens if all experts are in memory; if not, it
///     is the chunk still, because then a slice costs reading nearly all experts once, however
///     short it is.
///   - All sequences that generate take a step together.
final class EngineLoop {
    let core: SchedulerCore
    var engine: Engine
    let tokenizer: Tokenizer
    var slots: [Slot]
    var store: PrefixStore?
    /// The sequence being written to a file, while there is nothing else to do.
    var saving: PrefixSaving?

    /// Requests that have a slot or wait for one more, by number.
    private var requests: [UInt64: RequestRun] = [:]
    private var steps: [DecodeStep] = []
    /// The slot whose prompt had its turn last.
    private var lastPrompt = 0
    /// Nanoseconds of steps that come before the next slice of a prompt.
    private var owedNanoseconds = 0.0
    private var failuresInARow = 0
    private var isCacheReleased = false
    /// When there was work last.
    private(set) var lastWork = host_nanoseconds()
    /// What has changed since the counters were told.
    private var counters = Counters()

    struct Counters {
        var promptTokens = 0
        var cachedTokens = 0
        var generated = 0
        var finished: [StopReason] = []
        var failed = 0
        var requestSeconds: [Double] = []
    }

    /// One of the engine's sequences.
    struct Slot {
        /// The ids whose keys and values the sequence holds.
        var tokens: [Int32]
        /// What it computes; nil while it is free.
        var run: ChoiceRun?
        /// The request that used it last.
        var owner: UInt64 = 0
        /// Nanoseconds; 0 before the first use.
        var lastUse: UInt64 = 0
        /// Nothing is to be written of what it holds now.
        var isSettled = false
    }

    init(
        core: SchedulerCore, engine: consuming Engine, tokenizer: Tokenizer, store: PrefixStore?
    ) {
        let context = engine.contextCapacity
        slots = (0..<engine.sequenceCapacity).map { _ in
            var tokens: [Int32] = []
            tokens.reserveCapacity(context)
            return Slot(tokens: tokens)
        }
        steps.reserveCapacity(engine.sequenceCapacity)
        self.core = core
        self.engine = engine
        self.tokenizer = tokenizer
        self.store = store
    }

    /// Works until the scheduler is stopped and nothing is left to do.
    ///
    /// - Throws: what made the engine useless.
    func run() throws {
        do {
            while takeNews() {
                if slots.contains(where: { $0.run != nil }) {
                    try step()
                    lastWork = host_nanoseconds()
                } else if !saveBlock() {
                    rest()
                }
            }
        } catch {
            for index in slots.indices { fail(index, "\(error)") }
            publish()
            throw error
        }
        saveBeforeEnd()
        publish()
    }

    // MARK: News

    private struct News {
        var orders: [(SchedulerCore.Order, SchedulerCore.Waiter)] = []
        var cancelled: [RequestQueue.Choice] = []
        var admitted: [RequestQueue.Choice] = []
        var mustEnd = false
        var isOver = false
    }

    /// Tells the counters, and takes what has come: orders, cancellations, and requests for free
    /// slots.
    ///
    /// - Returns: false when there is no work and will be none.
    private func takeNews() -> Bool {
        let now = host_nanoseconds()
        let statistics = engine.statistics
        let running = slots.count { $0.run != nil }
        let free = slots.count - running
        let news = core.inbox.withLock { inbox in
            publish(&inbox, statistics, now)
            var news = News()
            if !inbox.orders.isEmpty { swap(&news.orders, &inbox.orders) }
            news.mustEnd = inbox.end.map { $0 <= now } ?? false
            if inbox.hasCancellations || news.mustEnd {
                inbox.hasCancellations = false
                let all = news.mustEnd
                news.cancelled = inbox.queue.remove { all || $0.isCancelled }
            }
            if free > 0, !inbox.queue.isEmpty {
                var held: [String: Int] = [:]
                for slot in slots {
                    if let run = slot.run { held[run.request.ticket.user, default: 0] += 1 }
                }
                while news.admitted.count < free, let choice = inbox.queue.next(held: held) {
                    held[choice.ticket.user, default: 0] += 1
                    news.admitted.append(choice)
                }
            }
            inbox.snapshot.running = running + news.admitted.count
            news.isOver = inbox.end != nil && inbox.isIdle
            return news
        }
        for (order, waiter) in news.orders { carryOut(order, waiter) }
        for choice in news.cancelled { endUnstarted(choice) }
        if news.mustEnd {
            for index in slots.indices { end(index, .cancelled, stop: nil) }
        }
        for choice in news.admitted { admit(choice) }
        return !news.isOver
    }

    /// Tells the counters, at the end.
    private func publish() {
        let (statistics, now) = (engine.statistics, host_nanoseconds())
        core.inbox.withLock { publish(&$0, statistics, now) }
    }

    private func publish(
        _ inbox: inout SchedulerCore.Inbox, _ statistics: EngineStatistics, _ now: UInt64
    ) {
        inbox.snapshot.promptTokens += UInt64(counters.promptTokens)
        inbox.snapshot.cachedTokens += UInt64(counters.cachedTokens)
        inbox.snapshot.generatedTokens += UInt64(counters.generated)
        for reason in counters.finished { inbox.snapshot.finished[reason, default: 0] += 1 }
        inbox.snapshot.failed += UInt64(counters.failed)
        for seconds in counters.requestSeconds {
            let average = inbox.requestSeconds
            inbox.requestSeconds = average == 0 ? seconds : average * 0.8 + seconds * 0.2
        }
        if counters.generated > 0 { inbox.rate.add(counters.generated, at: now) }
        inbox.snapshot.statistics = statistics
        inbox.snapshot.cacheBytes = engine.cacheBytes
        inbox.snapshot.isCacheReleased = isCacheReleased
        if let store { inbox.snapshot.prefixCache = store.counters }
        counters.promptTokens = 0
        counters.cachedTokens = 0
        counters.generated = 0
        counters.finished.removeAll(keepingCapacity: true)
        counters.failed = 0
        counters.requestSeconds.removeAll(keepingCapacity: true)
    }

    private func carryOut(_ order: SchedulerCore.Order, _ waiter: SchedulerCore.Waiter) {
        do {
            switch order {
            case .resize(let memoryBytes):
                try engine.resize(memoryBytes: memoryBytes)
                isCacheReleased = false
                let plan = engine.plan
                core.inbox.withLock { $0.snapshot.plan = plan }
            case .releaseCache:
                try engine.releaseCache()
                isCacheReleased = true
            }
        } catch {
            waiter.resume(throwing: error)
            return
        }
        let cacheBytes = engine.cacheBytes
        let isReleased = isCacheReleased
        core.inbox.withLock {
            $0.snapshot.cacheBytes = cacheBytes
            $0.snapshot.isCacheReleased = isReleased
        }
        waiter.resume()
    }

    /// Waits for news, and gives the cache back when there are none for long.
    private func rest() {
        var due: UInt64?
        if let idleSeconds = core.settings.idleSeconds, !isCacheReleased {
            due = lastWork + UInt64(max(0, min(idleSeconds, 1e9)) * 1e9)
        }
        if let due, due <= host_nanoseconds() {
            do {
                try engine.releaseCache()
            } catch {
                core.settings.log("the expert cache cannot be given back: \(error)")
            }
            isCacheReleased = true
            return
        }
        let wakes = [due, timeOfNextSave].compactMap { $0 }.min()
        core.inbox.wait(until: wakes) { $0.isQuiet }
    }

    // MARK: Beginning

    /// A choice that will never have a slot.
    private func endUnstarted(_ choice: RequestQueue.Choice) {
        let ticket = choice.ticket
        if let request = requests[ticket.number] {
            finish(request, choice.index, .cancelled, stop: nil)
            return
        }
        finish(RequestRun(ticket, statistics: engine.statistics), 0, .cancelled, stop: nil)
    }

    /// Gives a choice a free slot; there is one.
    private func admit(_ choice: RequestQueue.Choice) {
        let ticket = choice.ticket
        if ticket.isCancelled { return endUnstarted(choice) }
        restoreCache()
        let request = requests[ticket.number] ?? RequestRun(ticket, statistics: engine.statistics)
        requests[ticket.number] = request
        let run = ChoiceRun(
            request, index: choice.index, tokenizer: tokenizer,
            vocabularyCount: engine.vocabularyCount)
        let prompt = ticket.request.prompt
        let place = SlotPlace(slots, for: ticket) { common, slot in
            engine.reusablePositions(common: common, of: slot)
        }
        if saving?.slot == place.slot { abandonSaving() }
        if place.source != place.slot, place.count > 0 {
            engine.copySequence(from: place.source, to: place.slot, count: place.count)
            slots[place.slot].tokens.removeAll(keepingCapacity: true)
            slots[place.slot].tokens.append(contentsOf: prompt[..<place.count])
        } else {
            slots[place.slot].tokens.removeSubrange(place.count...)
        }
        if ticket.request.usesPrefixCache, !ticket.request.echoLogprobs {
            run.restoration = store?.restoration(for: prompt, knowing: place.count)
        }
        slots[place.slot].run = run
        slots[place.slot].owner = ticket.number
        slots[place.slot].isSettled = false
    }

    private func restoreCache() {
        guard isCacheReleased else { return }
        do {
            try engine.restoreCache()
        } catch {
            core.settings.log("the expert cache stays small: \(error)")
        }
        isCacheReleased = false
    }

    // MARK: A step

    private func step() throws {
        core.settings.beforeStep()
        for index in slots.indices {
            if let run = slots[index].run, run.request.ticket.isCancelled {
                end(index, .cancelled, stop: nil)
            }
        }
        let generates = slots.contains { $0.run?.next != nil }
        if !generates { owedNanoseconds = 0 }
        if owedNanoseconds <= 0, let index = nextPrompt() {
            let start = host_nanoseconds()
            do throws(StreamingError) {
                try slice(index, beside: generates)
                failuresInARow = 0
            } catch {
                fail(index, error.description)
                try count(error)
            }
            let share = max(0.05, min(0.95, core.settings.prefillShare))
            owedNanoseconds = Double(host_nanoseconds() - start) * (1 - share) / share
            core.heartbeat.add(1, ordering: .relaxed)
        }
        steps.removeAll(keepingCapacity: true)
        for index in slots.indices {
            guard let id = slots[index].run?.next else { continue }
            steps.append(
                DecodeStep(sequence: index, id: id, position: slots[index].tokens.count))
        }
        guard !steps.isEmpty else { return }
        let start = host_nanoseconds()
        do throws(StreamingError) {
            try engine.decode(steps.span)
            failuresInARow = 0
            for (row, step) in steps.enumerated() {
                slots[step.sequence].tokens.append(step.id)
                let logits = unsafe engine.logits(step: row)
                unsafe draw(step.sequence, logits)
            }
        } catch {
            for step in steps { fail(step.sequence, error.description) }
            try count(error)
        }
        owedNanoseconds -= Double(host_nanoseconds() - start)
        core.heartbeat.add(1, ordering: .relaxed)
    }

    /// A disk that fails a second time in a row is not asked again. A damaged expert is no such
    /// failure: requests that do not need it are answered.
    private func count(_ error: StreamingError) throws {
        core.settings.log("requests failed: \(error)")
        if error.kind == .damagedRecord { return }
        failuresInARow += 1
        if failuresInARow > 1 { throw error }
    }

    /// The slot whose prompt is next, in turn.
    private func nextPrompt() -> Int? {
        for offset in 1...slots.count {
            let index = (lastPrompt + offset) % slots.count
            if let run = slots[index].run, run.next == nil { return index }
        }
        return nil
    }

    /// Slices of prompts beside sequences that generate, where all experts are in memory.
    private static let shortSlice = 64

    /// Computes some of a slot's prompt, and draws the first token when it is complete; or reads some
    /// of it from a file.
    private func slice(_ index: Int, beside generates: Bool) throws(StreamingError) {
        lastPrompt = index
        guard let run = slots[index].run else { return }
        if restoreBlock(index, run) { return }
        let request = run.request
        let prompt = request.ticket.request.prompt
        let done = slots[index].tokens.count
        if !run.hasStarted { start(run, cachedTokens: done) }
        // A state is shared as it is or not at all, so the other choices are called while it covers
        // what they need: all but the token whose logits each of them computes.
        let shared = engine.keepsState && queuesOthers(run) && !request.ticket.request.echoLogprobs
        if shared, done == prompt.count - 1 { return queueOthers(request) }
        let isResident = engine.cacheBytes >= engine.plan.streaming.needs.fullBytes
        let length =
            generates && isResident
            ? min(EngineLoop.shortSlice, engine.plan.chunk) : engine.plan.chunk
        let part = done..<min(shared ? prompt.count - 1 : prompt.count, done + length)
        let isLast = part.upperBound == prompt.count
        var lastLogits: [Float] = []
        if request.ticket.request.echoLogprobs, run.index == 0 {
            var position = done
            try unsafe everyLogit(prompt[part], from: done, sequence: index) { logits in
                position += 1
                if position < prompt.count {
                    unsafe run.notePrompt(prompt[position], logits)
                } else {
                    unsafe lastLogits = Array(logits)
                }
            }
        } else {
            try engine.prefill(
                prompt[part], from: done, sequence: index, givesLogits: isLast)
        }
        slots[index].tokens.append(contentsOf: prompt[part])
        counters.promptTokens += part.count
        guard isLast else { return }
        if request.prompted == nil { request.prompted = host_nanoseconds() }
        if run.index == 0 {
            if request.ticket.request.echoLogprobs {
                request.ticket.send(.promptLogprobs([nil] + run.promptLogprobs))
            }
        }
        if queuesOthers(run) { queueOthers(request) }
        if lastLogits.isEmpty {
            let logits = unsafe engine.logits
            unsafe draw(index, logits)
        } else {
            unsafe lastLogits.withUnsafeBufferPointer { unsafe draw(index, $0) }
        }
    }

    /// Whether the request has other choices, which this one is to call.
    private func queuesOthers(_ run: ChoiceRun) -> Bool {
        run.index == 0 && run.request.ticket.request.choices > 1 && !run.request.hasQueuedOthers
    }

    private func queueOthers(_ request: RequestRun) {
        request.hasQueuedOthers = true
        core.inbox.withLock { $0.queue.appendOthers(of: request.ticket) }
    }

    /// As the engine's, which throws nothing else if `receive` throws nothing.
    private func everyLogit(
        _ ids: ArraySlice<Int32>, from position: Int, sequence: Int,
        _ receive: (UnsafeBufferPointer<Float>) -> Void
    ) throws(StreamingError) {
        do {
            try unsafe engine.everyLogit(
                of: Array(ids), from: position, sequence: sequence, receive)
        } catch let error as StreamingError {
            throw error
        } catch {
            preconditionFailure("\(error)")
        }
    }

    /// The prompt begins to be computed, except for its first tokens.
    private func start(_ run: ChoiceRun, cachedTokens: Int) {
        run.hasStarted = true
        guard run.index == 0 else { return }
        run.request.usage.cachedTokens = cachedTokens
        counters.promptTokens += cachedTokens
        counters.cachedTokens += cachedTokens
        run.request.ticket.send(.started(cachedTokens: cachedTokens))
    }

    // MARK: Ending

    /// Draws a slot's next token.
    private func draw(_ index: Int, _ logits: UnsafeBufferPointer<Float>) {
        guard let run = slots[index].run else { return }
        let before = run.generated
        let outcome = unsafe run.draw(
            logits, room: engine.contextCapacity - slots[index].tokens.count)
        counters.generated += run.generated - before
        run.request.usage.completionTokens += run.generated - before
        switch outcome {
        case .goesOn: break
        case .ended(let reason, let stop): end(index, reason, stop: stop)
        case .deadEnd:
            fail(
                index,
                "the constraint allows none of this model's tokens after what has been generated")
        }
        if run.generated > before { wedgeIfAsked() }
    }

    /// Ends a slot's text, if it has one, and frees the slot.
    private func end(_ index: Int, _ reason: StopReason, stop: String?) {
        guard let run = free(index) else { return }
        if !run.hasStarted { start(run, cachedTokens: 0) }
        run.finishText()
        finish(run.request, run.index, reason, stop: stop)
    }

    private func finish(
        _ request: RequestRun, _ choice: Int, _ reason: StopReason, stop: String?
    ) {
        counters.finished.append(reason)
        // The choices that wait for the prompt will not come any more.
        if !request.hasQueuedOthers, reason == .cancelled, request.remaining > 1, choice == 0 {
            for other in 1..<request.ticket.request.choices {
                counters.finished.append(reason)
                request.end(other, reason, stop: nil, engine.statistics)
            }
        }
        request.end(choice, reason, stop: stop, engine.statistics)
        if request.remaining == 0 {
            requests[request.ticket.number] = nil
            if reason != .cancelled {
                let seconds = request.usage.promptSeconds + request.usage.decodeSeconds
                counters.requestSeconds.append(seconds)
            }
        }
    }

    /// Ends a slot's whole request with an error.
    private func fail(_ index: Int, _ reason: String) {
        guard let run = free(index) else { return }
        // What was computed last may be half done.
        slots[index].tokens.removeAll(keepingCapacity: true)
        let number = run.request.ticket.number
        requests[number] = nil
        counters.failed += 1
        run.request.ticket.finish(.failed(reason))
        for other in slots.indices where slots[other].run?.request.ticket.number == number {
            _ = free(other)
        }
        _ = core.inbox.withLock { inbox in
            inbox.queue.remove { $0.number == number }
        }
    }

    private func free(_ index: Int) -> ChoiceRun? {
        defer {
            slots[index].run = nil
            slots[index].lastUse = host_nanoseconds()
        }
        return slots[index].run
    }

    /// For testing what guards against an engine that does not go on.
    private func wedgeIfAsked() {
        guard let limit = core.settings.wedgeAfterTokens else { return }
        let generated = core.inbox.withLock { $0.snapshot.generatedTokens }
        guard generated + UInt64(counters.generated) >= UInt64(max(0, limit)) else { return }
        core.settings.log("the engine stops for ever after \(limit) tokens, as it was told to")
        while true { pause() }
    }
}
