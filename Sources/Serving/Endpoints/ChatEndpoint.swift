import Chat
import Generation
import JSONTree
import NIOHTTP1
import OpenAIAPI
import Tokenization

/// `POST /v1/chat/completions`.
struct ChatEndpoint: Sendable {
    let context: ServiceContext

    func answer(_ exchange: Exchange) async throws {
        let json = try JSON(body: exchange.request.body)
        let request = try ChatCompletionRequest(json, limits: context.requestLimits)
        try context.model.check(request.model)
        let chat = try usableChat()
        let prepared = try chat.prepare(request, now: WallClock.now())
        var wanted = context.generationRequest(
            prompt: context.model.tokenizer.encode(
                prepared.prompt, addSpecial: false, parseSpecial: true),
            sampling: request.sampling, maximumTokens: request.maximumTokens,
            stops: request.stops + chat.stops, choices: request.choices,
            topLogprobs: request.topLogprobs, user: request.user, of: exchange)
        wanted.ignoresEndOfText = request.ignoresEndOfText
        wanted.usesPrefixCache = request.usesPrefixCache
        wanted.constraint = prepared.constraint
        wanted.rendersSpecial = chat.rendersSpecial
        let generation = try await context.submit(wanted, promptField: "messages")
        let choices = (0..<request.choices).map { _ in
            ChatChoice(parser: prepared.parser, tellsLogprobs: request.topLogprobs != nil)
        }
        if request.streams {
            try await stream(request, generation, choices, exchange)
        } else {
            try await collect(generation, choices, exchange)
        }
    }

    /// The chat of the model, if its template can be used.
    func usableChat() throws(APIError) -> ChatModel {
        if let chat = context.model.chat { return chat }
        throw .failed(
            "The model's chat template cannot be used: \(context.model.templateProblem ?? "there is none"). "
                + "The service needs another, by --chat-template.")
    }

    // MARK: Whole

    private func collect(
        _ generation: Generation, _ choices: [ChatChoice], _ exchange: Exchange
    ) async throws {
        var choices = choices
        var messages = choices.map { _ in ChatCompletion.Message() }
        var logprobs = choices.map { _ in [LogprobEntry]() }
        var reasons = choices.map { _ in FinishReason.stop }
        func add(_ pieces: [ChatPiece], to index: Int) {
            for piece in pieces {
                messages[index].append(piece.delta)
                logprobs[index] += piece.logprobs ?? []
            }
        }
        let usage = try await context.events(of: generation, exchange) { event in
            switch event {
            case .text(let index, let text, let entries, _):
                add(choices[index].append(text, entries), to: index)
            case .finished(let index, let reason, _):
                add(choices[index].finish(), to: index)
                reasons[index] = try choices[index].reason(reason)
            default: break
            }
        }
        let answer = ChatCompletion(
            header: context.header("chatcmpl-"),
            choices: choices.indices.map { index in
                ChatCompletion.Choice(
                    index: index, message: messages[index].withoutNothing,
                    finishReason: reasons[index],
                    logprobs: choices[index].tellsLogprobs ? logprobs[index] : nil)
            }, usage: Usage(usage), timings: Timings(usage), experts: context.experts(usage))
        try await exchange.send(HTTPAnswer(.ok, json: answer.json))
    }

    // MARK: Streamed

    private func stream(
        _ request: ChatCompletionRequest, _ generation: Generation, _ choices: [ChatChoice],
        _ exchange: Exchange
    ) async throws {
        var choices = choices
        let writer = ChatChunkWriter(
            header: context.header("chatcmpl-"), includesUsage: request.includesUsage)
        let usage = try await context.events(of: generation, exchange) { event in
            var chunks: [ChatChunk] = []
            switch event {
            case .started:
                try await exchange.beginEvents()
                chunks = choices.indices.map { writer.start(choice: $0) }
            case .text(let index, let text, let entries, _):
                chunks = choices[index].append(text, entries).map {
                    writer.piece(choice: index, $0.delta, logprobs: $0.logprobs)
                }
            case .finished(let index, let reason, _):
                chunks = choices[index].finish().map {
                    writer.piece(choice: index, $0.delta, logprobs: $0.logprobs)
                }
                let reason = try choices[index].reason(reason)
                chunks.append(writer.finish(choice: index, reason))
            case .promptLogprobs, .done: break
            }
            if chunks.isEmpty { return }
            try await exchange.sendEvents(chunks.flatMap { ServerSentEvent.data($0.json) })
        }
        var end: [UInt8] = []
        if let chunk = writer.usage(
            Usage(usage), timings: Timings(usage), experts: context.experts(usage))
        {
            end += ServerSentEvent.data(chunk.json)
        }
        try await exchange.sendEvents(end + ServerSentEvent.done)
        try await exchange.endEvents()
    }
}

/// One piece of a choice, and the logprobs of the tokens that end in it.
struct ChatPiece {
    var delta: ChatChunk.Delta
    /// Nil where they were not asked for.
    var logprobs: [LogprobEntry]?
}

/// What a choice's text becomes.
struct ChatChoice {
    private var parser: ChatOutputParser
    let tellsLogprobs: Bool
    /// Of tokens whose text the parser has not let out yet.
    private var pending: [LogprobEntry] = []

    init(parser: ChatOutputParser, tellsLogprobs: Bool) {
        self.parser = parser
        self.tellsLogprobs = tellsLogprobs
    }

    mutating func append(_ text: String, _ tokens: [TokenLogprob]) -> [ChatPiece] {
        if tellsLogprobs { pending += tokens.map { LogprobEntry($0) } }
        return pieces(parser.append(text))
    }

    mutating func finish() -> [ChatPiece] {
        var pieces = pieces(parser.finish())
        if !pending.isEmpty {
            pieces.append(ChatPiece(delta: .init(content: ""), logprobs: takePending()))
        }
        return pieces
    }

    func reason(_ reason: StopReason) throws(APIError) -> FinishReason {
        let reason = try FinishReason(reason)
        return reason == .stop && parser.hasToolCalls ? .toolCalls : reason
    }

    private mutating func pieces(_ deltas: [ChatDelta]) -> [ChatPiece] {
        deltas.map { delta in
            ChatPiece(
                delta: ChatChunk.Delta(delta), logprobs: tellsLogprobs ? takePending() : nil)
        }
    }

    private mutating func takePending() -> [LogprobEntry] {
        defer { pending = [] }
        return pending
    }
}

extension ChatChunk.Delta {
    init(_ delta: ChatDelta) {
        switch delta {
        case .content(let text): self.init(content: text)
        case .reasoning(let text): self.init(reasoningContent: text)
        case .toolCall(let index, let id, let name):
            self.init(toolCalls: [.init(index: index, id: id, name: name, arguments: "")])
        case .toolArguments(let index, let text):
            self.init(toolCalls: [.init(index: index, arguments: text)])
        }
    }
}

extension ChatCompletion.Message {
    /// An answer of no text is an empty one, unless it calls tools.
    var withoutNothing: Self {
        var message = self
        if message.toolCalls.isEmpty, message.content == nil { message.content = "" }
        return message
    }
}
