import ArgumentParser
import ExpertStreaming

struct ReplayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay",
        abstract: "Simulates expert caches over recorded routing, without a model.",
        discussion: """
            TRACE is a file of 'sluice trace', a CSV that begins with '# route_trace v1', or JSON lines of \
            tok and layers. Counted are the experts that decoded tokens ask for; the cache is warm from the \
            prompt, where the trace has one, and never evicts what the same token uses in the same layer.

            Policies: lru, slru, lfu, lfru, hobbit, edgemoe, segment, with settings as in lfu:64, lfu:none, \
            slru:0.5, hobbit:0.4,0.2,0.2,0.2, segment:16; and, knowing the future, belady and sch16.
            """)

    @Argument(help: ArgumentHelp("Recorded routing.", valueName: "trace"))
    var traces: [String]

    @Option(
        help: ArgumentHelp(
            "Sizes, separated by commas: 2x the experts one token uses, 4000M, or 10% of all.",
            valueName: "sizes"))
    var cache: String = "1x,2x,4x,6x,8x"

    @Option(help: ArgumentHelp("Policies, separated by commas.", valueName: "names"))
    var policy: String = "lru,lfu,hobbit,sch16,belady"

    @Option(
        help: ArgumentHelp(
            """
            What is read ahead of every layer: none, previous (token), frequent, or oracle, the last two \
            with a number of experts as in oracle:4.
            """, valueName: "name"))
    var predictor: String = "none"

    @Option(
        help: """
            What 2x and 10% are shares of: experts, each of which counts as one, or bytes. A size in bytes is \
            in bytes either way.
            """)
    var unit: ReplayUnit = .experts

    @Flag(help: "Begin decoding with the cache warm from the prompt, or cold.")
    var start: ReplayStart = .warm

    @Flag(help: "Compute a prompt's tokens together, so that a layer asks for an expert once.")
    var promptTogether = false

    @Flag(help: "Count what the prompt asks for, too.")
    var countPrompt = false

    @Flag(help: "Give each layer the same share of the cache for itself.")
    var perLayer = false

    @Flag(help: "Let a miss evict what the same token uses in the same layer.")
    var evictOwn = false

    @Flag(
        help: "Make room only when a layer has everything, so that the cache is over for a moment.")
    var evictAfterwards = false

    @Option(
        help: ArgumentHelp(
            "Bytes of one expert, for a trace that does not say.", valueName: "size"))
    var expertBytes: ByteSize?

    @Flag(help: "Print one JSON object and nothing else.")
    var json = false

    func validate() throws {
        if traces.isEmpty { throw ValidationError("No trace given.") }
        if start == .cold, promptTogether || countPrompt {
            throw ValidationError("--cold leaves the prompt out; it cannot be computed or counted.")
        }
        if let expertBytes, !(1...1 << 30).contains(expertBytes.bytes) {
            throw ValidationError("--expert-bytes is from 1 to 1G.")
        }
    }

    func run() throws {
        try Failure.reporting {
            let sizes = try cache.split(separator: ",").map { text in
                guard let size = CacheSize(String(text)) else {
                    throw InputError("--cache: '\(text)' is no cache size")
                }
                return size
            }
            let policies = try Self.words(policy).map { try ReplayPolicy($0) }
            guard !sizes.isEmpty, !policies.isEmpty else {
                throw InputError("--cache and --policy name at least one each")
            }
            var report = ReplayReport(traces: [], rows: [])
            for path in traces {
                let trace = try RoutingTrace(path: path, expertBytes: expertBytes?.bytes)
                report.traces.append(ReplayReport.Trace(path, trace))
                for size in sizes {
                    for policy in policies {
                        let settings = try settings(size, policy, trace.shape)
                        report.rows.append(
                            ReplayReport.Row(
                                trace: path, size: size, settings: settings,
                                result: try CacheReplay.run(trace, settings)))
                    }
                }
            }
            Console.out(json ? try JSONOutput.text(report) : report.tables)
        }
    }

    private func settings(
        _ size: CacheSize, _ policy: ReplayPolicy, _ shape: TraceShape
    ) throws -> ReplaySettings {
        var settings = ReplaySettings(
            capacity: try ReplaySettings.capacity(size, for: shape, inBytes: unit == .bytes),
            policy: policy)
        settings.prefill = start == .cold ? .skipped : promptTogether ? .together : .tokens
        settings.countsPrefill = countPrompt
        settings.perLayer = perLayer
        settings.evictsOwn = evictOwn
        settings.evictsAfterwards = evictAfterwards
        settings.predictor = try ReplayPredictor(
            predictor, expertsPerToken: shape.expertsPerToken)
        return settings
    }

    /// Words between commas; one that begins with a digit or a point belongs to the one before, as
    /// in "lru,hobbit:0.4,0.2,0.2,0.2".
    private static func words(_ text: String) -> [String] {
        var words: [String] = []
        for piece in text.split(separator: ",", omittingEmptySubsequences: false) {
            if let first = piece.first, first.isNumber || first == ".", !words.isEmpty {
                words[words.count - 1] += ",\(piece)"
            } else {
                words.append(String(piece))
            }
        }
        return words
    }
}

enum ReplayUnit: String, ExpressibleByArgument, CaseIterable {
    case experts, bytes
}

enum ReplayStart: String, EnumerableFlag {
    case warm, cold
}

/// What `sluice replay` prints.
struct ReplayReport: Encodable {

    struct Trace: Encodable {
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
            cache = ReplayReport.text(size)
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

    var traces: [Trace]
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

    /// As people write it: "2x", not "2.0x".
    private static func text(_ size: CacheSize) -> String {
        switch size {
        case .multiple(let factor) where factor == factor.rounded() && factor < 1e9:
            "\(Int(factor))x"
        case .percent(let percent) where percent == percent.rounded() && percent < 1e9:
            "\(Int(percent))%"
        case .bytes(let bytes) where bytes % (1 << 20) == 0: "\(bytes >> 20)M"
        default: size.description
        }
    }
}

/// Columns of text: the first to the left, the others to the right.
extension TextTable {
    static func aligned(_ lines: [[String]]) -> String {
        var widths: [Int] = []
        for line in lines {
            for (column, cell) in line.enumerated() {
                if column == widths.count { widths.append(0) }
                widths[column] = max(widths[column], cell.count)
            }
        }
        return lines.map { line in
            line.enumerated().map { column, cell in
                let space = String(repeating: " ", count: widths[column] - cell.count)
                return column == 0 ? cell + space : space + cell
            }.joined(separator: "  ") + "\n"
        }.joined()
    }
}
