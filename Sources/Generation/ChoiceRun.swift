internal import CHost
internal import Constraints
internal import ExpertStreaming
internal import Inference
internal import Tokenization

/// A request that has left the queue. Only the engine's thread knows it.
final class RequestRun {
    let ticket: Ticket
    var usage = GenerationUsage()
    /// Choices that have not ended.
    var remaining: Int
    /// Nanoseconds: when it left the queue, and when its prompt was computed.
    let started: UInt64
    var prompted: UInt64?
    /// The choices after the first have been queued.
    var hasQueuedOthers = false
    /// The engine's counters when it started.
    let before: EngineStatistics

    init(_ ticket: Ticket, statistics: EngineStatistics) {
        self.ticket = ticket
        remaining = ticket.request.choices
        started = host_nanoseconds()
        before = statistics
        usage.promptTokens = ticket.request.prompt.count
        usage.queueSeconds = Double(started - min(started, ticket.submitted)) / 1e9
    }

    /// A choice has ended; with the last one the request has.
    func end(_ choice: Int, _ reason: StopReason, stop: String?, _ statistics: EngineStatistics) {
        ticket.send(.finished(choice: choice, reason, stop: stop))
        remaining -= 1
        guard remaining == 0 else { return }
        let now = host_nanoseconds()
        let prompted = prompted ?? now
        usage.promptSeconds = Double(prompted - started) / 1e9
        usage.decodeSeconds = Double(now - prompted) / 1e9
        let span = statistics - before
        usage.misses = span.misses
        usage.expertsByPlanes = (1...4).map { span.experts[$0] }
        ticket.send(.done(usage))
        ticket.finish()
    }
}

/// One text of a request, in a slot.
final class ChoiceRun {
    let request: RequestRun
    let index: Int
    private var sampler: Sampler
    private var stream: TextStream
    private var matcher: ConstraintMatcher?
    /// (vocabulary / 64); empty without a constraint.
    private var mask: [UInt64]
    /// Tokens drawn, and most of them.
    private(set) var generated = 0
    private let maximum: Int
    /// Tokens that no text event has told of.
    private var untold = 0
    /// Bytes drawn, and logprobs of tokens not yet told, with the count of bytes after them.
    private var byteCount = 0
    private var logprobs: [(logprob: TokenLogprob, end: Int)] = []
    private var bytes: [UInt8] = []
    private let spelling: Logprobs
    /// The token drawn last, to be computed next; none while the prompt is.
    var next: Int32?
    var promptLogprobs: [TokenLogprob?] = []
    /// Where the rest of the prompt's beginning comes from.
    var restoration: PrefixRestoration?
    var hasStarted = false

    private var wanted: GenerationRequest { request.ticket.request }

    init(_ request: RequestRun, index: Int, tokenizer: Tokenizer, vocabularyCount: Int) {
        let wanted = request.ticket.request
        self.request = request
        self.index = index
        var settings = wanted.sampler
        settings.seed &+= UInt64(index)
        let isMasked = wanted.constraint != nil
        sampler = Sampler(
            settings: settings, vocabularyCount: vocabularyCount, isMasked: isMasked)
        for id in wanted.prompt { sampler.accept(id) }
        stream = TextStream(stops: wanted.stops)
        if let constraint = wanted.constraint, let vocabulary = request.ticket.vocabulary {
            matcher = ConstraintMatcher(constraint, vocabulary: vocabulary)
        }
        mask = Array(repeating: 0, count: isMasked ? (vocabularyCount + 63) / 64 : 0)
        maximum = wanted.maximumTokens ?? .max
        spelling = Logprobs(tokenizer: tokenizer, rendersSpecial: wanted.rendersSpecial)
    }

    /// How a token ended the text, or that it goes on with `next`.
    enum Outcome {
        case goesOn
        case ended(StopReason, stop: String?)
        /// No token may follow, though the text is not whole.
        case deadEnd
    }

    /// Draws a token and tells of the text that it makes certain.
    ///
    /// - Parameter room: positions left in the context.
    func draw(_ logits: UnsafeBufferPointer<Float>, room: Int) -> Outcome {
        guard generated < maximum else { return .ended(.length, stop: nil) }
        if matcher != nil {
            for index in mask.indices { mask[index] = 0 }
            matcher!.mask(remainingTokens: min(maximum - generated, room + 1), into: &mask)
            guard mask.contains(where: { $0 != 0 }) else {
                return matcher!.isComplete ? .ended(.endOfText, stop: nil) : .deadEnd
            }
        }
        let id = unsafe sampler.draw(logits, mask: mask)
        if spelling.tokenizer.endOfGeneration.contains(id),
            !wanted.ignoresEndOfText || matcher != nil
        {
            return .ended(.endOfText, stop: nil)
        }
        sampler.accept(id)
        matcher?.accept(id)
        generated += 1
        untold += 1
        next = id
        bytes.removeAll(keepingCapacity: true)
        spelling.tokenizer.appendBytes(
            of: id, renderSpecial: spelling.rendersSpecial, to: &bytes)
        byteCount += bytes.count
        if let top = wanted.topLogprobs {
            logprobs.append((unsafe spelling.of(id, top: top, logits), byteCount))
        }
        let text = stream.append(bytes)
        if !text.isEmpty { tell(text) }
        if let stop = stream.matchedStop { return .ended(.stopString, stop: stop) }
        if generated == maximum { return .ended(.length, stop: nil) }
        return room == 0 ? .ended(.context, stop: nil) : .goesOn
    }

    /// Tells of the rest of the text, at its end.
    func finishText() {
        let text = stream.finish()
        if !text.isEmpty || untold > 0 { tell(text) }
    }

    /// Sends text that is certain, and the logprobs of the tokens that end in it.
    private func tell(_ text: String) {
        let ended = logprobs.prefix { $0.end <= stream.releasedCount }.count
        request.ticket.send(
            .text(choice: index, text, logprobs[..<ended].map(\.logprob), tokens: untold))
        logprobs.removeFirst(ended)
        untold = 0
    }

    /// Notes the logprob of a prompt's token, whose predecessor's logits these are.
    func notePrompt(_ id: Int32, _ logits: UnsafeBufferPointer<Float>) {
        promptLogprobs.append(unsafe spelling.of(id, top: wanted.topLogprobs ?? 0, logits))
    }
}
