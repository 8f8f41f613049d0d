/// A row's figures as the page shows them: medians over its runs, of what is a number.
struct RowFigures {
    let row: BenchmarkReport.Row
    let decode: Spread?
    let prefill: Spread?
    let share: Double?
    let hitRate: Double?
    let multiple: Double?
    let bytes: [ByteKind: Double]
    /// Times of all tokens, ascending, above 0.
    let times: [Double]

    init(_ row: BenchmarkReport.Row) {
        self.row = row
        decode = row.finite(\.decodeTokensPerSecond)
        prefill = row.finite(\.prefillTokensPerSecond)
        share = row.finite(\.rooflineShare)?.median
        hitRate = row.finite(\.hitRate)?.median
        multiple = row.finite(\.cacheMultiple)?.median
        times = row.runs.flatMap(\.tokenSeconds).filter { $0.isFinite && $0 > 0 }.sorted()
        var bytes: [ByteKind: Double] = [:]
        for kind in ByteKind.allCases { bytes[kind] = row.finite(kind.figure)?.median }
        self.bytes = bytes
    }

    var point: BenchmarkPoint { row.point }

    func median(_ figure: (BenchmarkRun) -> Double?) -> Double? { row.finite(figure)?.median }

    /// The speed that the measured rates allow with the hits that were measured: the median over
    /// the runs of each run's speed over its share of the roofline.
    var bound: Double? {
        median { run in
            guard let share = run.rooflineShare, share > 0 else { return nil }
            return run.decodeTokensPerSecond / share
        }
    }

    /// A percentile, 0 ... 1, of the time of a token.
    func seconds(percentile: Double) -> Double? {
        guard !times.isEmpty else { return nil }
        let place = Int((Double(times.count) * percentile).rounded(.up)) - 1
        return times[min(max(place, 0), times.count - 1)]
    }

    var totalBytes: Double? { bytes.isEmpty ? nil : bytes.values.reduce(0, +) }

    /// Shares of the hits by width, widest first: "2 planes 61.0 %"; none where there is one width.
    var hitsByWidth: [String] {
        guard let planes = row.runs.compactMap(\.hitsByPlanes).map(\.count).max(), planes > 1 else {
            return []
        }
        return (0..<planes).reversed().compactMap { plane -> String? in
            let share = median { run in
                run.hitsByPlanes.flatMap { plane < $0.count ? $0[plane] : nil }
            }
            return share.map { "\(plane + 1) plane\(plane == 0 ? "" : "s") \(Figure.percent($0))" }
        }
    }

    /// What is compared: engine, the peer's role, and the setting.
    var name: String {
        var words: [String] = []
        if point.engine != .sluice { words.append(point.engine.rawValue) }
        if let role = point.role { words.append("(\(role))") }
        words.append(point.setting)
        return words.filter { !$0.isEmpty }.joined(separator: " ")
    }

    /// The setting without the word on the cache's size: what the points of one curve share.
    var seriesName: String {
        let words = point.setting.split(separator: " ").filter { !$0.hasPrefix("cache=") }
        return words.isEmpty ? "all settings at their defaults" : words.joined(separator: " ")
    }

    /// How it was measured, in a line.
    var conditions: String {
        let versions = Set(row.runs.map(\.engine)).sorted().joined(separator: ", ")
        let ways = Set(row.runs.compactMap(\.ioMode)).sorted().joined(separator: ", ")
        return [
            versions, ways,
            "\(point.threads) \(point.threads == 1 ? "thread" : "threads")",
            "\(Figure.count(point.promptTokens)) tokens of prompt, "
                + "\(Figure.count(point.warmUpTokens)) to warm up, "
                + "\(Figure.count(point.tokens)) counted",
            "\(row.runs.count) \(row.runs.count == 1 ? "run" : "runs")",
            point.routing.map { "routing of \($0)" } ?? "",
        ].filter { !$0.isEmpty }.joined(separator: " \u{b7} ")
    }

    /// "8.48 tok/s (8.08–8.58)".
    var decodeWords: String {
        guard let decode else { return "not measured" }
        let range = Figure.range(decode).map { " (\($0))" } ?? ""
        return "\(Figure.number(decode.median)) tok/s\(range)"
    }
}

/// What the bytes that a token reads are read for.
enum ByteKind: CaseIterable {
    case demand, upgrade, usefulAhead, wastedAhead

    var name: String {
        switch self {
        case .demand: "demand"
        case .upgrade: "upgrade"
        case .usefulAhead: "ahead, useful"
        case .wastedAhead: "ahead, wasted"
        }
    }

    /// Name of its style.
    var className: String {
        switch self {
        case .demand: "b0"
        case .upgrade: "b1"
        case .usefulAhead: "b2"
        case .wastedAhead: "b3"
        }
    }

    var figure: (BenchmarkRun) -> Double? {
        switch self {
        case .demand: { $0.demandBytesPerToken }
        case .upgrade: { $0.upgradeBytesPerToken }
        case .usefulAhead: { $0.usefulAheadBytesPerToken }
        case .wastedAhead: { $0.wastedAheadBytesPerToken }
        }
    }
}

extension BenchmarkReport.Row {
    /// As `spread`, of what is a finite number.
    func finite(_ figure: (BenchmarkRun) -> Double?) -> Spread? {
        spread { run in figure(run).flatMap { $0.isFinite ? $0 : nil } }
    }
}
