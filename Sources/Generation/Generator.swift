public import Inference
public import Tokenization
internal import CHost

/// Why a generation ended.
public enum StopReason: String, Sendable, Codable {
    /// The model said so, with an end-of-text token.
    case endOfText = "end_of_text"
    /// A stop string appeared.
    case stopString = "stop_string"
    /// As many tokens as were asked for.
    case length
    /// No position left in the context.
    case context
    /// The caller asked for it.
    case cancelled
}

/// What a generation made, and how long it took.
public struct GenerationResult: Sendable {
    public var text = ""
    public var promptTokens: [Int32] = []
    public var tokens: [Int32] = []
    public var stopReason = StopReason.length
    /// Seconds from the first prompt token to the first logits after it.
    public var prefillSeconds = 0.0
    /// Seconds of the decode steps, one for each token after the first.
    public var decodeSeconds = 0.0
    /// Decode steps that were computed; one fewer than the tokens, since prefill gave the first
    /// one's logits.
    public var decodeSteps = 0
    /// The engine's counters over prefill, and over decode.
    public var prefillStatistics = EngineStatistics()
    public var decodeStatistics = EngineStatistics()
}

/// One request, from prompt to text, on an engine of one sequence.
public struct Generator: Sendable {
    public var sampler: SamplerSettings
    public var stops: [String]
    /// Most tokens to generate.
    public var maximumTokens: Int
    /// Goes on past end-of-text tokens: for measuring.
    public var ignoresEndOfText = false

    public init(sampler: SamplerSettings, stops: [String], maximumTokens: Int) {
        self.sampler = sampler
        self.stops = stops
        self.maximumTokens = maximumTokens
    }

    /// Runs the request from position 0.
    ///
    /// - Parameters:
    ///   - prompt: At least one id, fewer than the engine's context; the caller checks.
    ///   - afterPrompt: Called between the prompt and the first token; its time counts as the
    ///     prompt's.
    ///   - receive: Called with each piece of text as it becomes certain; false cancels.
    /// - Throws: What the engine failed with (a disk error).
    public func run(
        engine: inout Engine, tokenizer: Tokenizer, prompt: [Int32],
        afterPrompt: (inout Engine) throws -> Void = { _ in },
        receive: (String) -> Bool
    ) throws -> GenerationResult {
        precondition(
            !prompt.isEmpty && prompt.count <= engine.contextCapacity, "prompt does not fit")
        var result = GenerationResult()
        result.promptTokens = prompt
        result.tokens.reserveCapacity(maximumTokens)
        var sampler = Sampler(settings: sampler, vocabularyCount: engine.vocabularyCount)
        var stream = TextStream(stops: stops)
        for id in prompt { sampler.accept(id) }

        let before = engine.statistics
        let start = host_nanoseconds()
        try engine.prefill(prompt, from: 0)
        try afterPrompt(&engine)
        result.prefillSeconds = Double(host_nanoseconds() - start) / 1e9
        let afterPrefill = engine.statistics
        result.prefillStatistics = afterPrefill - before

        var position = prompt.count
        let decodeStart = host_nanoseconds()
        var bytes: [UInt8] = []
        result.stopReason = .length
        while result.tokens.count < maximumTokens {
            let id = unsafe sampler.draw(engine.logits)
            if !ignoresEndOfText, tokenizer.endOfGeneration.contains(id) {
                result.stopReason = .endOfText
                break
            }
            sampler.accept(id)
            result.tokens.append(id)
            bytes.removeAll(keepingCapacity: true)
            tokenizer.appendBytes(of: id, renderSpecial: false, to: &bytes)
            let text = stream.append(bytes)
            if !text.isEmpty {
                result.text += text
                if !receive(text) {
                    result.stopReason = .cancelled
                    break
                }
            }
            if stream.matchedStop != nil {
                result.stopReason = .stopString
                break
            }
            if result.tokens.count == maximumTokens { break }
            if position == engine.contextCapacity {
                result.stopReason = .context
                break
            }
            try engine.decode(id, at: position)
            position += 1
            result.decodeSteps += 1
        }
        let rest = stream.finish()
        if !rest.isEmpty, result.stopReason != .cancelled {
            result.text += rest
            _ = receive(rest)
        }
        result.decodeSeconds = Double(host_nanoseconds() - decodeStart) / 1e9
        result.decodeStatistics = engine.statistics - afterPrefill
        return result
    }
}
