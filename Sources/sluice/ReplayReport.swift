import ExpertStreaming

/// What a trace holds.
struct TraceFigures: Encodable {
    var trace: String
    var model: String
    var architecture: String
    var layers: Int
    var expertsPerLayer: Int
    var expertsPerToken: Int
    /// Of all layers' experts that one token uses; nil where sizes are not known.
    var activeSetBytes: Int?
    var promptTokens: Int
    var decodedTokens: Int
    var previousTokenOverlap: Double

    init(_ path: String, _ trace: RoutingTrace) {
        let shape = trace.shape
        self.trace = path
        model = shape.model
        architecture = shape.architecture
        layers = shape.layerCount
        expertsPerLayer = shape.expertsPerLayer
        expertsPerToken = shape.expertsPerToken
        activeSetBytes = shape.expertBytes.map { $0.reduce(0, +) * shape.expertsPerToken }
        decodedTokens = trace.decodedTokenCount
        promptTokens = trace.tokenCount - decodedTokens
        previousTokenOverlap = trace.previousTokenOverlap
    }

    var summary: String {
        let name = model.isEmpty ? trace : model
        let size = activeSetBytes.map { ", \(ByteSize(bytes: $0)) per token" } ?? ""
        return "\(name): \(layers) layers, \(expertsPerToken) of \(expertsPerLayer) experts"
            + "\(size); \(promptTokens) tokens of prompt, \(decodedTokens) decoded; "
            + "\(fixed(previousTokenOverlap * 100, 1)) % of a token's experts are those of the "
            + "token before\n"
    }
}

/// What `sluice replay` prints.
struct ReplayReport: Encodable {

    /// One cache. Shares of 1, bytes.
    struct Row: Encodable {
        var trace: String
        var cache: String
        var policy: String
        var predictor: String
        /// Capacity; one of the two.
        var cacheExperts: Int?
        var cacheBytes: Int?
        var tokens: Int
        var lookups: Int
        var hits: Int
        var misses: Int
        var hitRate: Double
        var missedExpertsPerToken: Double
        var missedBytesPerToken: Double?
        var evictions: Int
        var mostExperts: Int
        /// Of what was asked for: the share the predictor had named.
        var predictorRecall: Double?
        var readAhead: Int
        var readAheadUsed: Int
        var readAheadBytesPerToken: Double?

        init(trace: String, size: CacheSize, settings: ReplaySettings, result: ReplayResult) {
            self.trace = trace
            cache = size.shortText
            policy = settings.policy.description
            predictor = settings.predictor.description
            switch settings.capacity {
            case .experts(let count): cacheExperts = count
            case .bytes(let bytes): cacheBytes = bytes
            }
            tokens = result.tokens
            lookups = result.lookups
            hits = result.hits
            misses = result.misses
            hitRate = result.hitRate
            missedExpertsPerToken = result.missesPerToken
            missedBytesPerToken = result.missedBytesPerToken
            evictions = result.evictions
            mostExperts = result.largestCount
            readAhead = result.readAhead
            readAheadUsed = result.readAheadUsed
            if settings.predictor != .none {
                predictorRecall =
                    result.lookups == 0
                    ? 0 : Double(result.predictedRight) / Double(result.lookups)
                readAheadBytesPerToken = result.readAheadBytesPerToken
            }
        }
    }

    var traces: [TraceFigures]
    var rows: [Row]

    /// For every trace a line about it, the hit rates, and what is missed per token.
    var tables: String {
        var text = ""
        for trace in traces {
            let rows = rows.filter { $0.trace == trace.trace }
            text += trace.summary + "\n"
            text += Self.table("hit rate", rows) { fixed($0.hitRate, 3) }
            if rows.contains(where: { $0.missedBytesPerToken != nil }) {
                text += Self.table("MiB missed per token", rows) {
                    fixed(($0.missedBytesPerToken ?? 0) / 1_048_576, 1)
                }
            } else {
                text += Self.table("experts missed per token", rows) {
                    fixed($0.missedExpertsPerToken, 1)
                }
            }
            if rows.contains(where: { $0.predictorRecall != nil }) {
                text += Self.table("recall of the predictor", rows) {
                    fixed($0.predictorRecall ?? 0, 3)
                }
                text += Self.table("experts read ahead per token", rows) {
                    fixed(Double($0.readAhead) / Double(max(1, $0.tokens)), 1)
                }
            }
        }
        return text
    }

    /// Caches down, policies across.
    private static func table(_ title: String, _ rows: [Row], _ cell: (Row) -> String) -> String {
        var policies: [String] = []
        var caches: [String] = []
        for row in rows {
            if !policies.contains(row.policy) { policies.append(row.policy) }
            if !caches.contains(row.cache) { caches.append(row.cache) }
        }
        var lines = [[title] + policies]
        for cache in caches {
            lines.append(
                [cache]
                    + policies.map { policy in
                        rows.first { $0.cache == cache && $0.policy == policy }.map(cell) ?? ""
                    })
        }
        return TextTable.aligned(lines) + "\n"
    }
}

extension CacheSize {
    /// As people write it: "2x", not "2.0x".
    var shortText: String {
        switch self {
        case .multiple(let factor) where factor == factor.rounded() && factor < 1e9:
            "\(Int(factor))x"
        case .percent(let percent) where percent == percent.rounded() && percent < 1e9:
            "\(Int(percent))%"
        case .bytes(let bytes) where bytes % (1 << 20) == 0: "\(bytes >> 20)M"
        default: description
        }
    }
}
