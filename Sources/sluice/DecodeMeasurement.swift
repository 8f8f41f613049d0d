import CHost
import Generation
import Inference

/// A prompt, tokens that fill the cache, and tokens that count: what is measured of an engine.
struct DecodeMeasurement {
    /// Which tokens are computed.
    enum Tokens {
        /// From all over the vocabulary, and always the same.
        case fixed
        /// By the model itself at temperature 1 with a fixed seed, after a prompt that is fixed.
        case drawn
        /// As many as there are positions.
        case given([Int32])
    }

    var prompt: Int
    var warmUp: Int
    var count: Int
    var tokens: Tokens

    /// Positions that it takes.
    var total: Int { prompt + warmUp + count }

    struct Result {
        /// Filling the cache from the prompt included.
        var promptSeconds: Double
        /// Of each token that counts.
        var tokenSeconds: [Double]
        /// Of those tokens.
        var statistics: EngineStatistics

        var seconds: Double { tokenSeconds.reduce(0, +) }
    }

    /// Measures an engine from an empty context on.
    func run(_ engine: inout Engine) throws -> Result {
        let vocabulary = engine.vocabularyCount
        var settings = SamplerSettings()
        settings.temperature = 1
        settings.seed = 1
        var sampler = Sampler(settings: settings, vocabularyCount: vocabulary)
        var isDrawn = false
        if case .drawn = tokens { isDrawn = true }
        var drawn: Int32 = 0
        let start = host_nanoseconds()
        if prompt > 0 {
            try engine.prefill((0..<prompt).map { id($0, vocabulary) ?? 0 }, from: 0)
            if isDrawn { drawn = unsafe sampler.draw(engine.logits) }
        }
        let promptSeconds = Double(host_nanoseconds() - start) / 1e9
        var before = engine.statistics
        var tokenSeconds: [Double] = []
        tokenSeconds.reserveCapacity(count)
        var last = host_nanoseconds()
        for position in prompt..<total {
            if position == prompt + warmUp {
                before = engine.statistics
                last = host_nanoseconds()
            }
            let next = isDrawn && position >= prompt ? drawn : id(position, vocabulary) ?? 0
            try engine.decode(next, at: position)
            if isDrawn { drawn = unsafe sampler.draw(engine.logits) }
            guard position >= prompt + warmUp else { continue }
            let now = host_nanoseconds()
            tokenSeconds.append(Double(now - last) / 1e9)
            last = now
        }
        return Result(
            promptSeconds: promptSeconds, tokenSeconds: tokenSeconds,
            statistics: engine.statistics - before)
    }

    /// The token at a position, where it does not depend on the model.
    func id(_ position: Int, _ vocabulary: Int) -> Int32? {
        switch tokens {
        case .given(let ids): ids[position]
        case .fixed: Int32((position + 1) * 7919 % vocabulary)
        // The prompt alone.
        case .drawn: position < prompt ? Int32((position + 1) * 7919 % vocabulary) : nil
        }
    }
}
