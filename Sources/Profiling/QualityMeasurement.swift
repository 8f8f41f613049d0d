internal import ExpertStreaming
import Glibc
public import Inference

/// Measures what an approximation costs: the model reads given texts token by token, and each
/// token's logits are compared with those of the exact computation.
///
/// First `exactLogits` on an engine that approximates nothing, then `figures` on one engine after
/// the other. Only one engine and two rows of logits are in memory at a time.
public struct QualityMeasurement: Sendable {
    /// What is read, each from an empty context; the cache stays as it is from one to the next.
    public let windows: [TextWindow]
    /// Decode steps at the start whose cost does not count, because the cache is still cold; their
    /// logits do. At most half of all steps.
    public let warmUp: Int

    public init(windows: [TextWindow], warmUp: Int) {
        self.windows = windows
        let steps = windows.reduce(0) { $0 + $1.ids.count - 1 }
        self.warmUp = min(warmUp, steps / 2)
    }

    /// Computes the logits against which others are measured, in chunks.
    ///
    /// - Parameters:
    ///   - folder: Where they are kept meanwhile, in a file without a name.
    ///   - progress: Called with the share done, 0 ... 1.
    /// - Throws: `StreamingError` for the model's disk, `ProfilingError` for the temporary file.
    public func exactLogits(
        engine: inout Engine, folder: String, progress: (Double) -> Void = { _ in }
    ) throws -> ReferenceLogits {
        var exact = try ReferenceLogits(vocabularyCount: engine.vocabularyCount, folder: folder)
        for (index, window) in windows.enumerated() {
            // The last token's logits predict nothing that is in the window.
            try unsafe engine.everyLogit(of: window.ids.dropLast()) { try unsafe exact.append($0) }
            progress(Double(index + 1) / Double(windows.count))
        }
        return exact
    }

    /// Reads the windows on `engine`, one decode step per token.
    ///
    /// - Throws: `StreamingError` for the model's disk, `ProfilingError` for the temporary file.
    public func figures(
        engine: inout Engine, exact: borrowing ReferenceLogits,
        progress: (Double) -> Void = { _ in }
    ) throws -> QualityFigures {
        var figures = QualityFigures(texts: (windows.map(\.text).max() ?? 0) + 1)
        var row = [Float](repeating: 0, count: exact.vocabularyCount)
        var before = engine.statistics
        var step = 0
        for window in windows {
            for (position, next) in window.ids.dropFirst().enumerated() {
                if step == warmUp { before = engine.statistics }
                try engine.decode(window.ids[position], at: position)
                try exact.read(step, into: &row)
                let token = unsafe row.withUnsafeBufferPointer {
                    unsafe TokenDivergence(exact: $0, logits: engine.logits, next: next)
                }
                figures.add(token, text: window.text)
                step += 1
                progress(Double(step) / Double(exact.count))
            }
        }
        figures.steps = step - warmUp
        figures.statistics = engine.statistics - before
        return figures
    }
}

/// What a quality measurement came to.
public struct QualityFigures: Sendable {
    /// Sums over predicted tokens.
    public struct Sums: Sendable {
        public fileprivate(set) var tokens = 0
        fileprivate var negativeLogLikelihood = 0.0
        fileprivate var exactNegativeLogLikelihood = 0.0
        fileprivate var divergence = 0.0
        fileprivate var agreements = 0
        /// Greatest KL(exact || this) of a token, in nats.
        public fileprivate(set) var greatestDivergence = 0.0

        /// exp of the mean negative log-likelihood.
        public var perplexity: Double { exp(negativeLogLikelihood / Double(tokens)) }
        /// That of the exact logits on the same tokens.
        public var exactPerplexity: Double {
            exp(exactNegativeLogLikelihood / Double(tokens))
        }
        /// Mean KL(exact || this) per token, in nats.
        public var meanDivergence: Double { divergence / Double(tokens) }
        /// Share of the tokens whose likeliest successor is the exact one.
        public var agreement: Double { Double(agreements) / Double(tokens) }

        fileprivate mutating func add(_ token: TokenDivergence) {
            tokens += 1
            negativeLogLikelihood += token.negativeLogLikelihood
            exactNegativeLogLikelihood += token.exactNegativeLogLikelihood
            divergence += token.divergence
            // A NaN counts as the worst.
            if !(token.divergence <= greatestDivergence) { greatestDivergence = token.divergence }
            agreements += token.agrees ? 1 : 0
        }
    }

    /// Over all texts.
    public private(set) var all = Sums()
    /// By text.
    public private(set) var texts: [Sums]
    /// Decode steps after the warm-up, and what the engine did in them.
    public fileprivate(set) var steps = 0
    public fileprivate(set) var statistics = EngineStatistics()

    init(texts: Int) { self.texts = [Sums](repeating: Sums(), count: texts) }

    /// Bytes read from disk per decode step after the warm-up.
    public var bytesReadPerToken: Double {
        Double(statistics.streaming.bytesRead) / Double(max(1, steps))
    }

    mutating func add(_ token: TokenDivergence, text: Int) {
        all.add(token)
        texts[text].add(token)
    }
}
