import Constraints
import ExpertStreaming
import Generation
import Inference
import JSONTree
import NIOHTTP1
import OpenAIAPI
import Tokenization

/// `POST /v1/completions`. Several prompts are answered one after the other; the choices of each
/// together.
struct CompletionEndpoint: Sendable {
    let context: ServiceContext

    /// Most tokens of an answer where neither request nor configuration says: OpenAI's figure.
    private static let standardTokens = 16

    func answer(_ exchange: Exchange) async throws {
        let json = try JSON(body: exchange.request.body)
        let request = try CompletionRequest(json, limits: context.requestLimits)
        try context.model.check(request.model)
        let constraint = try Constraint.of(request.responseFormat)
        // All prompts are looked at before any is computed: a list fails as a whole.
        let prompts = request.prompts.map { prompt in
            switch prompt {
            case .text(let text):
                context.model.tokenizer.encode(text, addSpecial: true, parseSpecial: true)
            case .tokens(let ids): ids
            }
        }
        for prompt in prompts where prompt.count > context.model.plan.context {
            throw APIError.contextExceeded(
                tokens: prompt.count, context: context.model.plan.context, param: "prompt")
        }
        let header = context.header("cmpl-")
        var total = GenerationUsage()
        var collected: [Completion.Choice] = []
        for (number, prompt) in prompts.enumerated() {
            var wanted = context.generationRequest(
                prompt: prompt, sampling: request.sampling,
                maximumTokens: request.maximumTokens
                    ?? context.live.sampling.maxTokens ?? Self.standardTokens,
                stops: request.stops, choices: request.choices, topLogprobs: request.topLogprobs,
                user: request.user, of: exchange)
            wanted.ignoresEndOfText = request.ignoresEndOfText
            wanted.usesPrefixCache = request.usesPrefixCache
            wanted.constraint = constraint
            wanted.echoLogprobs = request.echoes && request.topLogprobs != nil
            let first = number * request.choices
            var choices = (0..<request.choices).map { choice in
                CompletionChoice(index: first + choice, tellsLogprobs: request.topLogprobs != nil)
            }
            let generation = try await context.submit(wanted, promptField: "prompt")
            let usage = try await context.events(of: generation, exchange) { event in
                var pieces: [Completion.Choice] = []
                switch event {
                case .started:
                    if request.streams, exchange.status == nil { try await exchange.beginEvents() }
                    if request.echoes, !wanted.echoLogprobs {
                        let text = self.text(of: prompt, request.prompts[number])
                        pieces = choices.indices.map { choices[$0].append(text, []) }
                    }
                case .promptLogprobs(let entries):
                    let text = self.text(of: prompt, request.prompts[number])
                    pieces = choices.indices.map {
                        choices[$0].append(echo: text, prompt, entries, context.model.tokenizer)
                    }
                case .text(let choice, let text, let entries, _):
                    pieces = [choices[choice].append(text, entries)]
                case .finished(let choice, let reason, _):
                    pieces = [choices[choice].finish(try FinishReason(reason))]
                case .done: break
                }
                if request.streams {
                    pieces = pieces.filter { !$0.text.isEmpty || $0.finishReason != nil }
                    guard !pieces.isEmpty else { return }
                    try await exchange.sendEvents(
                        pieces.flatMap {
                            ServerSentEvent.data(Completion(header: header, choices: [$0]).json)
                        })
                }
            }
            collected += choices.map(\.whole)
            total.add(usage)
        }
        var answer = Completion(header: header, choices: request.streams ? [] : collected)
        answer.usage = Usage(total)
        answer.timings = Timings(total)
        answer.experts = context.experts(total)
        guard request.streams else {
            return try await exchange.send(HTTPAnswer(.ok, json: answer.json))
        }
        let last = request.includesUsage ? ServerSentEvent.data(answer.json) : []
        try await exchange.sendEvents(last + ServerSentEvent.done)
        try await exchange.endEvents()
    }

    /// The prompt as it was given, or what its tokens stand for.
    private func text(of ids: [Int32], _ prompt: CompletionRequest.Prompt) -> String {
        if case .text(let text) = prompt { return text }
        let tokenizer = context.model.tokenizer
        return String(
            decoding: ids.flatMap { tokenizer.bytes(of: $0, renderSpecial: true) }, as: UTF8.self)
    }
}

/// A choice of a text completion, as a whole and piece by piece.
struct CompletionChoice {
    private(set) var whole: Completion.Choice
    private let tellsLogprobs: Bool
    private var entries: [(bytes: [UInt8], entry: LogprobEntry?)] = []
    /// Of tokens whose text has not been certain yet.
    private var pending: [(bytes: [UInt8], entry: LogprobEntry?)] = []
    private var characters = 0

    init(index: Int, tellsLogprobs: Bool) {
        whole = Completion.Choice(index: index, text: "")
        self.tellsLogprobs = tellsLogprobs
    }

    /// Adds text and returns the piece to stream; one without text only collects.
    mutating func append(_ text: String, _ tokens: [TokenLogprob]) -> Completion.Choice {
        add(text, tokens.map { ($0.bytes, LogprobEntry($0)) })
    }

    /// Adds the prompt with its tokens' logprobs.
    mutating func append(
        echo text: String, _ prompt: [Int32], _ logprobs: [TokenLogprob?], _ tokenizer: Tokenizer
    ) -> Completion.Choice {
        add(
            text,
            zip(prompt, logprobs).map { id, logprob in
                (
                    logprob?.bytes ?? tokenizer.bytes(of: id, renderSpecial: true),
                    logprob.map { LogprobEntry($0) }
                )
            })
    }

    mutating func finish(_ reason: FinishReason) -> Completion.Choice {
        var piece = add("", [], isLast: true)
        piece.finishReason = reason
        whole.finishReason = reason
        if tellsLogprobs { whole.logprobs = CompletionLogprobs(entries) }
        return piece
    }

    private mutating func add(
        _ text: String, _ tokens: [(bytes: [UInt8], entry: LogprobEntry?)], isLast: Bool = false
    ) -> Completion.Choice {
        var piece = Completion.Choice(index: whole.index, text: text)
        if tellsLogprobs {
            pending += tokens
            if !text.isEmpty || isLast {
                piece.logprobs = CompletionLogprobs(pending, offset: characters)
                entries += pending
                pending = []
                characters += text.unicodeScalars.count
            }
        }
        whole.text += text
        return piece
    }
}

extension GenerationUsage {
    mutating func add(_ other: GenerationUsage) {
        promptTokens += other.promptTokens
        cachedTokens += other.cachedTokens
        completionTokens += other.completionTokens
        queueSeconds += other.queueSeconds
        promptSeconds += other.promptSeconds
        decodeSeconds += other.decodeSeconds
        misses.add(other.misses)
        for index in expertsByPlanes.indices {
            expertsByPlanes[index] += other.expertsByPlanes[index]
        }
    }
}

extension MissAccounting {
    fileprivate mutating func add(_ other: MissAccounting) {
        choices += other.choices
        mass += other.mass
        for planes in 1...4 {
            widthMass[planes] += other.widthMass[planes]
            widthCount[planes] += other.widthCount[planes]
        }
        skippedMass += other.skippedMass
        skippedCount += other.skippedCount
        swappedMass += other.swappedMass
        swappedCount += other.swappedCount
        deferredMass += other.deferredMass
        deferredCount += other.deferredCount
    }
}
