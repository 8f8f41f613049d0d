public import Inference

/// A token, and the logarithm of its probability: the log softmax of the logits as the model gives
/// them, before bias, penalties, mask and temperature.
public struct TokenLogprob: Sendable, Equatable {
    /// A token that could have stood in the same place.
    public struct Alternative: Sendable, Equatable {
        public var id: Int32
        public var bytes: [UInt8]
        public var logprob: Float

        public init(id: Int32, bytes: [UInt8], logprob: Float) {
            self.id = id
            self.bytes = bytes
            self.logprob = logprob
        }
    }

    public var id: Int32
    /// What it stands for; not always whole characters.
    public var bytes: [UInt8]
    public var logprob: Float
    /// The likeliest tokens in its place, the likeliest first.
    public var top: [Alternative]

    public init(id: Int32, bytes: [UInt8], logprob: Float, top: [Alternative]) {
        self.id = id
        self.bytes = bytes
        self.logprob = logprob
        self.top = top
    }
}

/// What becomes of a request, in this order: `started`, `promptLogprobs` if they were asked for,
/// each choice's texts and its end, `done`.
public enum GenerationEvent: Sendable {
    /// It has left the queue.
    ///
    /// - Parameter cachedTokens: tokens of the prompt that need not be computed.
    case started(cachedTokens: Int)
    /// One for each token of the prompt; nil for the first, which nothing precedes.
    case promptLogprobs([TokenLogprob?])
    /// Text that is certain now, and the logprobs of the tokens that end in it.
    ///
    /// - Parameter tokens: how many more tokens it took. They add up to the tokens of the choice,
    ///   those of a stop string included, which have no text and no logprobs.
    case text(choice: Int, String, [TokenLogprob], tokens: Int)
    /// A choice has ended; `stop` is the stop string that ended it.
    case finished(choice: Int, StopReason, stop: String?)
    /// All choices have ended. Nothing comes after it.
    case done(GenerationUsage)
}

/// What a request took.
public struct GenerationUsage: Sendable {
    public var promptTokens = 0
    /// Tokens of the prompt that were not computed, because an earlier request had.
    public var cachedTokens = 0
    /// Tokens of all choices, without end-of-text tokens.
    public var completionTokens = 0
    /// From `submit` until the request left the queue.
    public var queueSeconds = 0.0
    /// From then until the first token.
    public var promptSeconds = 0.0
    /// From then until the end of the last choice.
    public var decodeSeconds = 0.0
    /// What the miss policy did in decode steps while the request ran. A step computes all running
    /// sequences together, so those of other requests are included.
    public var misses = MissAccounting()
    /// Experts computed with 1 ... 4 planes while the request ran, at indices 0 ... 3.
    public var expertsByPlanes: [UInt64] = [0, 0, 0, 0]

    public init() {}
}

/// Why a request is not, or not wholly, answered.
public enum SchedulingError: Error, Sendable, Equatable, CustomStringConvertible {
    /// As many wait as may.
    case queueFull(retryAfterSeconds: Int)
    /// The prompt does not fit the context.
    case promptTooLong(tokens: Int, context: Int)
    /// A prompt of no tokens.
    case empty
    /// The request contradicts itself or the model: names the field.
    case invalid(String)
    /// The scheduler takes no more requests.
    case stopping
    /// The model is not loaded yet.
    case notReady
    /// The engine has failed: a disk error, for instance.
    case failed(String)

    public var description: String {
        switch self {
        case .queueFull(let seconds):
            "as many requests wait as may; try again in \(seconds) s"
        case .promptTooLong(let tokens, let context):
            "the prompt has \(tokens) tokens, the context \(context); shorten the prompt, or start "
                + "the service with a longer context"
        case .empty: "the prompt is empty"
        case .invalid(let problem): problem
        case .stopping: "the service is stopping"
        case .notReady: "the model is being loaded"
        case .failed(let reason): reason
        }
    }
}
