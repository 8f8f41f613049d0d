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

    @Flag(
        help: """
            Instead, say how well the routing suits a cache: SRP, SCH and bounds as in arXiv 2505.16056, for \
            the multiples that --cache names.
            """)
    var statistics = false

    @Option(help: ArgumentHelp("Length of a segment of SRP and SCH.", valueName: "tokens"))
    var segment: Int = 16

    @Flag(help: "Print one JSON object and nothing else.")
    var json = false

    func validate() throws {
        if !(1...4096).contains(segment) {
            throw ValidationError("--segment is from 1 to 4096 tokens.")
        }
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
            let loaded = try traces.map {
                ($0, try RoutingTrace(path: $0, expertBytes: expertBytes?.bytes))
            }
            if statistics {
                let report = try StatisticsReport(loaded, segment: segment, sizes: sizes)
                Console.out(json ? try JSONOutput.text(report) : report.tables)
            } else {
                let report = try replay(loaded, sizes)
                Console.out(json ? try JSONOutput.text(report) : report.tables)
            }
        }
    }

    private func replay(
        _ traces: [(String, RoutingTrace)], _ sizes: [CacheSize]
    ) throws -> ReplayReport {
        let policies = try Self.words(policy).map { try ReplayPolicy($0) }
        guard !sizes.isEmpty, !policies.isEmpty else {
            throw InputError("--cache and --policy name at least one each")
        }
        var report = ReplayReport(traces: [], rows: [])
        for (path, trace) in traces {
            report.traces.append(TraceFigures(path, trace))
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
        return report
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
