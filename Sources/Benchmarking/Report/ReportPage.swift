/// The whole page, from the heading to the tables.
///
/// Everything is in the one file: styles, and drawings as inline SVG. There is no script, nothing
/// is fetched, and the same report always gives the same bytes.
struct ReportPage {
    private let report: BenchmarkReport
    private let groups: [ReportGroup]

    init(_ report: BenchmarkReport) {
        self.report = report
        groups = ReportGroup.groups(report.rows)
    }

    var text: String {
        var page = Markup()
        page.append(literal: "<!DOCTYPE html>\n")
        page.element("html", ["lang": "en"]) {
            $0.element("head") { head(&$0) }
            $0.append(literal: "\n")
            $0.element("body") {
                $0.element("header") { header(&$0) }
                $0.element("main") { content in
                    glance(&content)
                    for model in models { section(&content, model: model) }
                    if report.rows.isEmpty && report.quality.isEmpty {
                        content.element("p", ["class": "empty"], text: "No points were measured.")
                    }
                }
                $0.element("footer") { footer(&$0) }
            }
        }
        page.append(literal: "\n")
        return page.text
    }

    /// In the order in which they appear; those of which only quality is known come last.
    private var models: [String] {
        var models: [String] = []
        for model in groups.map(\.model) + report.quality.map(\.model)
        where !models.contains(model) {
            models.append(model)
        }
        return models
    }

    private func head(_ head: inout Markup) {
        head.empty("meta", ["charset": "utf-8"])
        head.empty("meta", ["name": "viewport", "content": "width=device-width, initial-scale=1"])
        head.empty("meta", ["name": "color-scheme", "content": "light dark"])
        head.empty("meta", ["name": "referrer", "content": "no-referrer"])
        // Even a browser that was talked into it would fetch and run nothing.
        head.empty(
            "meta",
            [
                "http-equiv": "Content-Security-Policy",
                "content": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
            ])
        // An empty icon, or browsers ask the server for one.
        head.empty("link", ["rel": "icon", "href": "data:,"])
        head.element("title", text: "Sluice benchmark, \(report.date), \(report.machine.processor)")
        head.element("style") { $0.append(literal: ReportStyle.sheet) }
    }

    // Heading
    // --------------------------------------------------------------------------------------

    private func header(_ header: inout Markup) {
        header.element("p", ["class": "kind"], text: "Sluice benchmark")
        header.element(
            "h1", text: models.isEmpty ? "No model" : models.prefix(4).joined(separator: ", "))
        let machine = report.machine
        let facts = [
            ("Date", report.date),
            (
                "Sluice",
                [report.sluice, report.commit.map { "commit \($0)" }].compactMap { $0 }
                    .joined(separator: ", ")
            ),
            ("Processor", "\(machine.processor), \(Figure.count(machine.processors)) in use"),
            ("Kernels", machine.instructionSet),
            ("Memory", Figure.size(Double(machine.memoryBytes))),
            ("Drive", machine.drive),
            ("Linux", machine.kernel),
            ("Measured", "\(Figure.count(report.rows.count)) points, \(Figure.count(runs)) runs"),
        ]
        header.element("dl", ["class": "facts"]) { list in
            for (name, value) in facts {
                list.element("div") {
                    $0.element("dt", text: name)
                    $0.element("dd", text: value.isEmpty ? Figure.missing : value)
                }
            }
        }
        if !report.command.isEmpty {
            header.element("pre", ["class": "command"], text: report.command)
        }
        if !report.remarks.isEmpty {
            header.element("ul", ["class": "remarks"]) { list in
                for remark in report.remarks { list.element("li", text: remark) }
            }
        }
    }

    private var runs: Int { report.rows.reduce(0) { $0 + $1.runs.count } }

    /// The fastest row of each setting beside the best peer under the same limits.
    private func glance(_ content: inout Markup) {
        guard !groups.isEmpty else { return }
        var table = ReportTable(
            caption: "The fastest row of each setting, under each limit",
            columns: [
                "Limits", "Setting", "Decode, tok/s", "Of the roofline", "Hits", "llama.cpp, tok/s",
                "Ratio",
            ])
        var count = 0
        for group in groups {
            let best = group.fastestPeer(role: "best") ?? group.fastestPeer(role: nil)
            let defaults = group.fastestPeer(role: "defaults")
            for row in group.fastestOfEachSetting.prefix(SeriesStyle.most) {
                count += 1
                let ratio = row.decode.flatMap { ours in
                    best?.decode.flatMap { $0.median > 0 ? ours.median / $0.median : nil }
                }
                table.add([
                    .init(group.heading, models.count > 1 ? group.model : nil),
                    .init(row.point.setting.isEmpty ? Figure.missing : row.point.setting),
                    .init(Figure.number(row.decode?.median), Figure.range(row.decode)),
                    .init(Figure.percent(row.share)),
                    .init(Figure.percent(row.hitRate)),
                    .init(
                        Figure.number(best?.decode?.median),
                        defaults.map { "defaults \(Figure.number($0.decode?.median))" }),
                    .init(ratio.map { "\(Figure.number($0))\u{d7}" } ?? Figure.missing),
                ])
            }
        }
        guard count > 0 else { return }
        content.element("section", ["class": "glance"]) {
            $0.element("h2", text: "At a glance")
            $0.append(table.markup)
        }
    }

    // Models
    // ---------------------------------------------------------------------------------------

    private func section(_ content: inout Markup, model: String) {
        content.element("section") { section in
            section.element("h2", text: model)
            for group in groups where group.model == model { self.group(&section, group) }
            heat(&section, model: model)
            quality(&section, model: model)
        }
    }

    private func group(_ section: inout Markup, _ group: ReportGroup) {
        section.element("article") { article in
            article.element("h3", text: group.heading)
            if let board = group.board {
                article.element("p", ["class": "remark"], text: remark(board))
            }
            article.element("div", ["class": "charts"]) { charts in
                let lanes = LaneChart(group.rows)
                if let curves = group.curves {
                    let chart = CurveChart(curves)
                    figure(
                        &charts, "Decode against cache size",
                        "tok/s, median with least and greatest",
                        [chart.throughput(), chart.legend()])
                    if let hits = chart.hitRate() {
                        figure(
                            &charts, "Hit rate against cache size",
                            "% of the experts asked for that were in memory at full width", [hits])
                    }
                } else {
                    figure(
                        &charts, "Decode", "tok/s, median with least and greatest",
                        [lanes.speeds(), lanes.speedsLegend()])
                }
                if let latency = lanes.latency() {
                    figure(
                        &charts, "Time of a token", "p50 \u{b7} p90 \u{b7} p99 in ms",
                        [latency, lanes.latencyLegend()])
                }
                if let bytes = lanes.bytes() {
                    figure(
                        &charts, "Bytes read per token", "MB from the disk, by what they were for",
                        [bytes, lanes.bytesLegend()])
                }
            }
            article.append(table(group))
        }
    }

    /// What a board's limits on another machine do not tell.
    private func remark(_ board: String) -> String {
        let set = report.machine.instructionSet.lowercased()
        let isX86 = ["avx", "sse", "x86"].contains { set.contains($0) }
        return
            "The memory and disk limits of \(board), on this machine's \(isX86 ? "x86 " : "")cores "
            + "(\(report.machine.processor), \(report.machine.instructionSet)). Hits and bytes are "
            + "the board's; tok/s is not, where the cores or the memory bandwidth are the limit. "
            + "A row's command, run on the board without what sets these limits, fills in "
            + "its own figures."
    }

    private func figure(
        _ charts: inout Markup, _ title: String, _ note: String, _ parts: [Markup]
    ) {
        charts.element("figure") { figure in
            figure.element("figcaption") {
                $0.element("strong", text: title)
                $0.element("span", text: note)
            }
            for part in parts { figure.append(part) }
        }
        charts.append(literal: "\n")
    }

    private func heat(_ section: inout Markup, model: String) {
        for (row, heat) in report.heatByModel() where row.point.model == model {
            guard let map = HeatMap(heat) else { continue }
            section.element("article") { article in
                article.element("h3", text: "Layers by experts")
                article.element("p", ["class": "remark"], text: "The last run of \(row.name).")
                article.element("div", ["class": "charts"]) {
                    figure(&$0, "Use", "times chosen", [map.uses(), map.usesLegend()])
                    figure(
                        &$0, "In memory at the end", "by width",
                        [map.residency(), map.residencyLegend()])
                }
            }
        }
    }

    private func quality(_ section: inout Markup, model: String) {
        let settings = report.quality.filter { $0.model == model }
        guard !settings.isEmpty else { return }
        let chart = QualityChart(settings: settings)
        section.element("article") { article in
            article.element("h3", text: "Quality against bytes")
            article.element("div", ["class": "beside"]) {
                figure(
                    &$0, "Perplexity against bytes read",
                    "rise over exact, numbers as in the table",
                    [chart.scatter()])
                $0.append(chart.table())
            }
        }
    }

    // Tables
    // ---------------------------------------------------------------------------------------

    private func table(_ group: ReportGroup) -> Markup {
        var table = ReportTable(
            caption: "Every row, \(group.heading)",
            columns: [
                "Setting", "Decode, tok/s", "Prefill, tok/s", "Token p50, ms", "Hits",
                "MB per token", "Stall, ms", "Major faults", "Peak memory", "Of the roofline",
                "Disk read at", "Cached before",
            ])
        for row in group.rows {
            table.add(cells(row), note: row.conditions, command: row.row.command)
        }
        return table.markup
    }

    private func cells(_ row: RowFigures) -> [ReportTable.Cell] {
        let parts = ByteKind.allCases.compactMap { kind in
            row.bytes[kind].map { "\(kind.name) \(Figure.megabytes($0))" }
        }
        let cached = row.median { $0.cachedBytesBefore.map(Double.init) }
        return [
            .init(row.name),
            .init(Figure.number(row.decode?.median), Figure.range(row.decode)),
            .init(Figure.number(row.prefill?.median), Figure.range(row.prefill)),
            .init(
                Figure.milliseconds(row.seconds(percentile: 0.5)),
                row.seconds(percentile: 0.99).map { "p99 \(Figure.milliseconds($0))" }),
            .init(Figure.percent(row.hitRate), parts: row.hitsByWidth),
            .init(Figure.megabytes(row.totalBytes), parts: parts),
            .init(
                Figure.milliseconds(row.median(\.stallSecondsPerToken)),
                row.median(\.computeSecondsPerToken).map {
                    "compute \(Figure.milliseconds($0))"
                }),
            .init(
                row.median { $0.majorFaults.map(Double.init) }.map { Figure.fixed($0, 0) }
                    ?? Figure.missing),
            .init(
                Figure.size(
                    row.median { ($0.groupPeakBytes ?? $0.peakMemoryBytes).map(Double.init) }),
                row.row.runs.contains { $0.groupPeakBytes != nil }
                    ? "process "
                        + Figure.size(row.median { $0.peakMemoryBytes.map(Double.init) })
                    : nil),
            .init(
                Figure.percent(row.share), row.bound.map { "of \(Figure.number($0)) tok/s" }),
            .init(
                Figure.rate(row.median(\.diskBytesPerSecond)),
                row.median(\.memoryBytesPerSecond).map { "memory \(Figure.rate($0))" }),
            .init(Figure.size(cached)),
        ]
    }

    private func footer(_ footer: inout Markup) {
        footer.element(
            "p",
            text:
                "Medians over the runs of a row, with least and greatest. Each run is a process of "
                + "its own, started with none of the model in the page cache where \u{201c}cached "
                + "before\u{201d} says 0. The roofline is what the rates measured in the same run "
                + "allow, with the hits that were measured. MB and GB are powers of ten, MiB and "
                + "GiB of two."
        )
    }
}

extension BenchmarkReport {
    /// A page that needs nothing but itself: no network, no script, no clock.
    public func html() -> String { ReportPage(self).text }
}
