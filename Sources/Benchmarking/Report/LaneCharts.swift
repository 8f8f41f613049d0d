/// Charts with one lane per row: its name above, then what is drawn of it.
struct LaneChart {
    private let rows: [RowFigures]
    private let hidden: Int
    /// Words that all settings of an engine share here, and that lanes therefore leave out.
    private let shared: [BenchmarkPoint.Engine: [Substring]]

    /// Lanes of one drawing; the table has the rest.
    static let most = 16

    init(_ rows: [RowFigures]) {
        self.rows = Array(rows.prefix(LaneChart.most))
        hidden = rows.count - self.rows.count
        var shared: [BenchmarkPoint.Engine: [Substring]] = [:]
        for row in self.rows {
            let words = row.point.setting.split(separator: " ")
            shared[row.point.engine] = (shared[row.point.engine] ?? words).filter(words.contains)
        }
        self.shared = shared
    }

    /// What tells a row from its neighbours.
    private func name(_ row: RowFigures) -> String {
        let shared = shared[row.point.engine] ?? []
        let words = row.point.setting.split(separator: " ").filter { !shared.contains($0) }
            .map(String.init)
        guard !words.isEmpty else { return row.name }
        let engine = row.point.engine == .sluice ? [] : [row.point.engine.rawValue]
        let role = row.point.role.map { ["(\($0))"] } ?? []
        return (engine + role + words).joined(separator: " ")
    }

    private static let right = Drawing.width - 8

    private func note(_ legend: inout Legend) {
        if hidden > 0 { legend.note("\(Figure.count(hidden)) more rows in the table only") }
    }

    /// Name of a row on the left, figures on the right of the same line.
    private func caption(
        _ drawing: inout Drawing, _ row: RowFigures, _ y: Double, figures: String
    ) {
        let room = Drawing.width - Double(figures.count) * Drawing.letterWidth - 14
        drawing.text(Drawing.fitted(name(row), width: room), 0, y)
        drawing.text(figures, LaneChart.right, y, .end, class: "dim")
    }

    private func horizontalAxis(
        _ drawing: inout Drawing, _ axis: Axis, top: Double, bottom: Double, title: String
    ) {
        var free = 0.0
        for tick in axis.ticks {
            let x = axis.place(tick.value)
            drawing.line(x, top, x, bottom, class: "grid")
            let half = Double(tick.label.count) * Drawing.letterWidth / 2
            // A label at the left edge would be cut, as its line begins the drawing.
            let shifted = max(x, half)
            guard shifted - half >= free, shifted + half <= Drawing.width else { continue }
            drawing.text(tick.label, shifted, bottom + 15, .middle)
            free = shifted + half + 5
        }
        drawing.line(0, bottom, LaneChart.right, bottom, class: "axis")
        drawing.text(title, LaneChart.right / 2, bottom + 32, .middle, class: "dim")
    }

    // Speeds
    // ---------------------------------------------------------------------------------------

    /// Decode as bars with least and greatest, and the bound of each: for groups without a curve.
    func speeds() -> Markup {
        let pitch = 36.0
        let bottom = Double(rows.count) * pitch + 2
        let axis = Axis.fromZero(
            rows.flatMap { [$0.decode?.greatest ?? 0, $0.bound ?? 0] }, start: 0,
            end: LaneChart.right)
        var drawing = Drawing(
            height: bottom + 38, title: "Decode speed",
            summary: rows.map { "\($0.name): \($0.decodeWords)." }.joined(separator: " "))
        horizontalAxis(&drawing, axis, top: 0, bottom: bottom, title: "tok/s")
        for (place, row) in rows.enumerated() {
            let top = Double(place) * pitch
            caption(&drawing, row, top + 12, figures: Figure.number(row.decode?.median))
            guard let decode = row.decode else { continue }
            drawing.rectangle(
                x: 0, y: top + 18, width: axis.place(decode.median), height: 12,
                class: row.point.engine == .sluice ? "bar" : "bar peer",
                hint: "\(row.name): \(row.decodeWords)")
            if decode.least < decode.greatest {
                let (low, high) = (axis.place(decode.least), axis.place(decode.greatest))
                drawing.line(low, top + 24, high, top + 24, class: "spread")
                drawing.line(low, top + 20, low, top + 28, class: "spread")
                drawing.line(high, top + 20, high, top + 28, class: "spread")
            }
            if let bound = row.bound {
                let x = axis.place(bound)
                drawing.line(x, top + 15, x, top + 33, class: "bound ink")
            }
        }
        return drawing.svg
    }

    func speedsLegend() -> Markup {
        var legend = Legend()
        if rows.contains(where: { $0.point.engine == .sluice }) {
            legend.area(class: "bar", "sluice, median with least and greatest")
        }
        if rows.contains(where: { $0.point.engine != .sluice }) {
            legend.area(class: "bar peer", "llama.cpp, same file and limits")
        }
        if rows.contains(where: { $0.bound != nil }) {
            legend.line(class: "bound ink", "roofline: the bound at the measured rates and hits")
        }
        note(&legend)
        return legend.markup
    }

    // Latency
    // --------------------------------------------------------------------------------------

    /// How the times of tokens are spread, on a logarithmic axis; nil where nobody told them.
    func latency() -> Markup? {
        let timed = rows.filter { !$0.times.isEmpty }
        guard !timed.isEmpty else { return nil }
        // Names that do not fit beside the figures get a line of their own.
        let isTight = timed.contains {
            name($0).count + percentiles($0).count + 2 > Int(Drawing.width / Drawing.letterWidth)
        }
        let pitch = isTight ? 62.0 : 48
        let bottom = Double(timed.count) * pitch + 2
        let axis = Axis.logarithmic(
            timed.flatMap { [$0.times.first ?? 1, $0.times.last ?? 1].map { $0 * 1e3 } },
            start: 2, end: LaneChart.right - 2)
        var drawing = Drawing(
            height: bottom + 38, title: "Time of a token",
            summary: timed.map { "\($0.name): \(percentiles($0)) ms." }.joined(separator: " "))
        horizontalAxis(&drawing, axis, top: 0, bottom: bottom, title: "ms, logarithmic")
        for (place, row) in timed.enumerated() {
            let top = Double(place) * pitch
            if isTight {
                caption(&drawing, row, top + 12, figures: "")
                drawing.text(percentiles(row), 0, top + 27, class: "dim")
            } else {
                caption(&drawing, row, top + 12, figures: percentiles(row))
            }
            let bottom = top + pitch - 4
            histogram(&drawing, row, axis, top: bottom - 26, bottom: bottom)
            for (percentile, name) in [(0.5, "p50"), (0.9, "p90"), (0.99, "p99")] {
                guard let seconds = row.seconds(percentile: percentile) else { continue }
                let x = axis.place(seconds * 1e3)
                drawing.line(x, bottom - 27, x, bottom + 1, class: "percentile \(name)")
            }
        }
        return drawing.svg
    }

    func latencyLegend() -> Markup {
        var legend = Legend()
        legend.area(class: "bar soft", "tokens, height by how many took as long")
        legend.line(class: "percentile p50", "p50, half of the tokens were faster")
        legend.line(class: "percentile p90", "p90")
        legend.line(class: "percentile p99", "p99")
        note(&legend)
        return legend.markup
    }

    private func percentiles(_ row: RowFigures) -> String {
        [0.5, 0.9, 0.99].map { Figure.milliseconds(row.seconds(percentile: $0)) }
            .joined(separator: " \u{b7} ")
    }

    private func histogram(
        _ drawing: inout Drawing, _ row: RowFigures, _ axis: Axis, top: Double, bottom: Double
    ) {
        let width = 4.0
        var counts: [Int: Int] = [:]
        for time in row.times { counts[Int(axis.place(time * 1e3) / width), default: 0] += 1 }
        let most = Double(counts.values.max() ?? 1)
        for (bin, count) in counts.sorted(by: { $0.key < $1.key }) {
            // Rare and slow tokens matter most, so that they are never less than a visible line.
            let height = max((bottom - top) * Double(count) / most, 1.5)
            drawing.rectangle(
                x: Double(bin) * width, y: bottom - height, width: width - 0.5, height: height,
                class: "bar soft")
        }
    }

    // Bytes
    // ----------------------------------------------------------------------------------------

    /// Bytes that a token reads, stacked by kind; nil where nobody told them.
    func bytes() -> Markup? {
        let known = rows.filter { $0.totalBytes != nil }
        guard !known.isEmpty else { return nil }
        let pitch = 36.0
        let bottom = Double(known.count) * pitch + 2
        let axis = Axis.fromZero(
            known.map { ($0.totalBytes ?? 0) / 1e6 }, start: 0, end: LaneChart.right)
        var drawing = Drawing(
            height: bottom + 38, title: "Bytes read per token",
            summary: known.map { "\($0.name): \(Figure.megabytes($0.totalBytes)) MB." }
                .joined(separator: " "))
        horizontalAxis(&drawing, axis, top: 0, bottom: bottom, title: "MB per token")
        for (place, row) in known.enumerated() {
            let top = Double(place) * pitch
            caption(&drawing, row, top + 12, figures: Figure.megabytes(row.totalBytes))
            var sum = 0.0
            for kind in ByteKind.allCases {
                guard let bytes = row.bytes[kind], bytes > 0 else { continue }
                let from = axis.place(sum / 1e6)
                sum += bytes
                drawing.rectangle(
                    x: from, y: top + 18, width: max(axis.place(sum / 1e6) - from - 0.8, 0.6),
                    height: 12, class: kind.className,
                    hint: "\(kind.name): \(Figure.megabytes(bytes)) MB")
            }
        }
        return drawing.svg
    }

    func bytesLegend() -> Markup {
        var legend = Legend()
        let words: [(ByteKind, String)] = [
            (.demand, "on demand: a token waited"), (.upgrade, "upgrades: the rest of an expert"),
            (.usefulAhead, "ahead of time, useful"), (.wastedAhead, "ahead of time, wasted"),
        ]
        for (kind, text) in words where rows.contains(where: { $0.bytes[kind] != nil }) {
            legend.area(class: kind.className, text)
        }
        note(&legend)
        return legend.markup
    }
}
