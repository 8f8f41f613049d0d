extension BenchmarkReport {
    /// Every run on a line of its own, in base units (bytes, seconds, shares of 1), as RFC 4180 has
    /// it: lines end in CR LF, and a field with a comma, a quote or a line end stands in quotes.
    /// Lists are parted by spaces; what was not measured is empty. A row without runs has one line.
    public func csv() -> String {
        var text = CSVColumn.all.map(\.name).joined(separator: ",") + "\r\n"
        for row in rows {
            let runs: [BenchmarkRun?] = row.runs.isEmpty ? [nil] : row.runs
            for run in runs {
                text += CSVColumn.all.map { CSVColumn.field($0.value(row, run) ?? "") }
                    .joined(separator: ",")
                text += "\r\n"
            }
        }
        return text
    }
}

/// A column, and how its field is come to.
private struct CSVColumn: Sendable {
    let name: String
    let value: @Sendable (BenchmarkReport.Row, BenchmarkRun?) -> String?

    static let all: [CSVColumn] =
        points
        + [
            text("engine_version") { $0.engine },
            count("round") { $0.round },
            number("prefill_tokens_per_second") { $0.prefillTokensPerSecond },
            number("decode_tokens_per_second") { $0.decodeTokensPerSecond },
            percentile("token_seconds_p50", 0.5),
            percentile("token_seconds_p90", 0.9),
            percentile("token_seconds_p99", 0.99),
            number("load_seconds") { $0.loadSeconds },
            number("hit_rate") { $0.hitRate },
            list("hits_by_planes") { $0.hitsByPlanes },
            count("cache_bytes") { $0.cacheBytes },
            number("cache_multiple") { $0.cacheMultiple },
            number("demand_bytes_per_token") { $0.demandBytesPerToken },
            number("upgrade_bytes_per_token") { $0.upgradeBytesPerToken },
            number("useful_ahead_bytes_per_token") { $0.usefulAheadBytesPerToken },
            number("wasted_ahead_bytes_per_token") { $0.wastedAheadBytesPerToken },
            number("stall_seconds_per_token") { $0.stallSecondsPerToken },
            number("compute_seconds_per_token") { $0.computeSecondsPerToken },
            list("gate_mass_by_planes") { $0.gateMassByPlanes },
            number("approximated_gate_mass") { $0.approximatedGateMass },
            count("major_faults") { $0.majorFaults },
            count("peak_memory_bytes") { $0.peakMemoryBytes },
            count("group_peak_bytes") { $0.groupPeakBytes },
            text("io_mode") { $0.ioMode },
            number("bytes_touched_per_token") { $0.bytesTouchedPerToken },
            number("memory_bytes_per_second") { $0.memoryBytesPerSecond },
            number("disk_bytes_per_second") { $0.diskBytesPerSecond },
            number("roofline_share") { $0.rooflineShare },
            count("cached_bytes_before") { $0.cachedBytesBefore },
            CSVColumn(name: "command") { row, _ in row.command },
        ]

    private static let points: [CSVColumn] = [
        point("engine") { $0.engine.rawValue },
        point("model") { $0.model },
        point("setting") { $0.setting },
        point("role") { $0.role },
        point("cache") { $0.cache },
        point("memory_limit_bytes") { $0.memoryLimitBytes.map(String.init) },
        point("disk_limit_bytes_per_second") { $0.diskLimitBytesPerSecond.flatMap(plain) },
        point("board") { $0.board },
        point("threads") { "\($0.threads)" },
        point("prompt_tokens") { "\($0.promptTokens)" },
        point("warm_up_tokens") { "\($0.warmUpTokens)" },
        point("tokens") { "\($0.tokens)" },
        point("routing") { $0.routing },
    ]

    private static func point(
        _ name: String, _ value: @escaping @Sendable (BenchmarkPoint) -> String?
    ) -> CSVColumn {
        CSVColumn(name: name) { row, _ in value(row.point) }
    }

    private static func text(
        _ name: String, _ value: @escaping @Sendable (BenchmarkRun) -> String?
    ) -> CSVColumn {
        CSVColumn(name: name) { _, run in run.flatMap(value) }
    }

    private static func count(
        _ name: String, _ value: @escaping @Sendable (BenchmarkRun) -> Int?
    ) -> CSVColumn {
        text(name) { value($0).map(String.init) }
    }

    private static func number(
        _ name: String, _ value: @escaping @Sendable (BenchmarkRun) -> Double?
    ) -> CSVColumn {
        text(name) { value($0).flatMap(plain) }
    }

    private static func list(
        _ name: String, _ value: @escaping @Sendable (BenchmarkRun) -> [Double]?
    ) -> CSVColumn {
        text(name) { value($0).map { $0.map { plain($0) ?? "" }.joined(separator: " ") } }
    }

    private static func percentile(_ name: String, _ share: Double) -> CSVColumn {
        CSVColumn(name: name) { row, run in
            guard let run else { return nil }
            let alone = BenchmarkReport.Row(point: row.point, command: "", runs: [run])
            return RowFigures(alone).seconds(percentile: share).flatMap(plain)
        }
    }

    /// All digits, so that reading gives the same number; nil for what is none.
    private static func plain(_ value: Double) -> String? { value.isFinite ? "\(value)" : nil }

    static func field(_ words: String) -> String {
        let marks: Set<UInt8> = [UInt8(ascii: ","), UInt8(ascii: "\""), 10, 13]
        guard words.utf8.contains(where: marks.contains) else { return words }
        var quoted = "\""
        for scalar in words.unicodeScalars {
            if scalar == "\"" { quoted += "\"" }
            quoted.unicodeScalars.append(scalar)
        }
        return quoted + "\""
    }
}
