import Constraints
import ExpertStreaming
import Generation
import Inference
import OpenAIAPI

// What chat and text completions have in common.
extension ServiceContext {
    /// The part of a request to the engine that both kinds have.
    func generationRequest(
        prompt: [Int32], sampling: SamplingFields, maximumTokens: Int?, stops: [String],
        choices: Int, topLogprobs: Int?, user: String?, of exchange: Exchange
    ) -> GenerationRequest {
        let live = live
        var request = GenerationRequest(prompt: prompt)
        request.sampler = live.sampler(sampling)
        request.stops = stops
        request.maximumTokens = maximumTokens ?? live.sampling.maxTokens
        request.topLogprobs = topLogprobs
        request.choices = choices
        request.user = user ?? exchange.request.peer.fairnessName
        return request
    }

    func header(_ prefix: String) -> ResponseHeader {
        ResponseHeader(
            id: ResponseHeader.newID(prefix), created: WallClock.seconds(), model: model.id)
    }

    func experts(_ usage: GenerationUsage) -> ExpertAccounting {
        let misses = usage.misses
        let planes = model.description.planesPerExpert
        func share(_ mass: Double) -> Double { misses.mass > 0 ? mass / misses.mass : 0 }
        return ExpertAccounting(
            policy: "\(model.options.missPolicy)",
            massByPlanes: (1...planes).map { share(misses.widthMass[$0]) },
            skippedMass: share(misses.skippedMass), swappedMass: share(misses.swappedMass),
            deferredMass: share(misses.deferredMass), choices: Int(misses.choices),
            narrowed: Int(misses.widthCount.total - misses.widthCount[planes]),
            skipped: Int(misses.skippedCount), swapped: Int(misses.swappedCount),
            deferred: Int(misses.deferredCount),
            expertsByPlanes: usage.expertsByPlanes.prefix(planes).map { Int($0) })
    }
}

extension Usage {
    init(_ usage: GenerationUsage) {
        self.init(
            promptTokens: usage.promptTokens, completionTokens: usage.completionTokens,
            cachedTokens: usage.cachedTokens)
    }
}

extension Timings {
    init(_ usage: GenerationUsage) {
        self.init(
            cachedTokens: usage.cachedTokens, promptTokens: usage.promptTokens - usage.cachedTokens,
            promptSeconds: usage.promptSeconds, predictedTokens: usage.completionTokens,
            predictedSeconds: usage.decodeSeconds, queueSeconds: usage.queueSeconds)
    }
}

extension LogprobEntry {
    init(_ token: TokenLogprob) {
        self.init(
            bytes: token.bytes, logprob: Double(token.logprob),
            top: token.top.map { Alternative(bytes: $0.bytes, logprob: Double($0.logprob)) })
    }
}

extension FinishReason {
    /// - Throws: for an answer that was broken off, because the service is being stopped: half of
    ///   one is not to be taken for a whole.
    init(_ reason: StopReason) throws(APIError) {
        switch reason {
        case .endOfText, .stopString: self = .stop
        case .length, .context: self = .length
        case .cancelled:
            throw .unavailable("The service is being stopped.", retryAfterSeconds: 5)
        }
    }
}

extension Peer {
    /// Who shares the slots with the others where a request names no user.
    var fairnessName: String {
        switch self {
        case .process(let user, _, _): "uid:\(user)"
        case .address(let text):
            "ip:" + String(text[..<(text.lastIndex(of: ":") ?? text.endIndex)])
        }
    }
}

extension Exchange {
    /// Notes for the log what a generation took.
    func note(_ usage: GenerationUsage) {
        var sum = self.usage ?? ExchangeUsage()
        sum.promptTokens += usage.promptTokens
        sum.cachedTokens += usage.cachedTokens
        sum.completionTokens += usage.completionTokens
        sum.decodeSeconds += usage.decodeSeconds
        self.usage = sum
    }
}

extension Constraint {
    /// What a text completion is held to; nil for free text.
    ///
    /// - Throws: `APIError` with status 400 where a schema, expression or grammar cannot be kept.
    static func of(_ format: ResponseFormat) throws(APIError) -> Constraint? {
        do {
            switch format {
            case .text: return nil
            case .jsonObject: return .jsonObject()
            case .jsonSchema(_, let schema, _): return try Constraint(schema: schema)
            case .regex(let pattern): return try Constraint(regex: pattern)
            case .grammar(let rules): return try Constraint(grammar: rules)
            }
        } catch {
            throw .invalid(
                "Invalid format for response_format: \(error).", param: "response_format",
                code: "invalid_response_format")
        }
    }
}

extension ServiceContext {
    /// Hands the events of a generation to `receive`, up to its end.
    ///
    /// - Returns: What it took.
    /// - Throws: `APIError` for what went wrong on the way; `CancellationError` when the client is
    ///   gone.
    func events(
        of generation: Generation, _ exchange: Exchange,
        _ receive: (GenerationEvent) async throws -> Void
    ) async throws -> GenerationUsage {
        var hasText = false
        do {
            for try await event in generation {
                if case .text(_, let text, _, _) = event, !hasText, !text.isEmpty {
                    hasText = true
                    metrics.add(firstTokenSeconds: exchange.seconds)
                }
                try await receive(event)
                if case .done(let usage) = event {
                    exchange.note(usage)
                    return usage
                }
            }
        } catch let error as SchedulingError {
            throw APIError(error, promptField: "")
        }
        // The events end early for one reason: nobody waits for them any more.
        throw CancellationError()
    }
}
