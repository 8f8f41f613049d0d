public import Inference

/// Settings of the miss policy `fallback` that were found to cost no more than a bound on a text:
/// of those tried, the ones that read least.
public struct CalibratedFallback: Sendable, Equatable, Codable {
    /// T1 and T2 of the policy.
    public var full: Double
    public var prefix: Double
    /// W of the policy.
    public var planes: Int
    /// Planes of the model's experts: for another number the settings say nothing.
    public var planesPerExpert: Int
    /// Perplexity over exact perplexity on the text, less 1.
    public var perplexityIncrease: Double
    /// Bytes read from disk per token, and by exact with the same cache.
    public var bytesReadPerToken: Double
    public var exactBytesReadPerToken: Double
    /// Tokens of the text.
    public var tokens: Int

    private enum CodingKeys: String, CodingKey {
        case planes, tokens
        case full = "t1"
        case prefix = "t2"
        case planesPerExpert = "planes_per_expert"
        case perplexityIncrease = "perplexity_increase"
        case bytesReadPerToken = "bytes_read_per_token"
        case exactBytesReadPerToken = "exact_bytes_read_per_token"
    }

    public init(
        full: Double, prefix: Double, planes: Int, planesPerExpert: Int,
        perplexityIncrease: Double, bytesReadPerToken: Double, exactBytesReadPerToken: Double,
        tokens: Int
    ) {
        self.full = full
        self.prefix = prefix
        self.planes = planes
        self.planesPerExpert = planesPerExpert
        self.perplexityIncrease = perplexityIncrease
        self.bytesReadPerToken = bytesReadPerToken
        self.exactBytesReadPerToken = exactBytesReadPerToken
        self.tokens = tokens
    }

    public var policy: MissPolicy { .fallback(full: full, prefix: prefix, planes: planes) }

    /// What makes settings read from a file unusable.
    var problem: String? {
        guard full >= 0, full <= prefix, prefix <= 1 else {
            return "T1 = \(full) and T2 = \(prefix) are not 0 <= T1 <= T2 <= 1"
        }
        return (1...4).contains(planes) ? nil : "\(planes) planes are not 1 to 4"
    }
}
