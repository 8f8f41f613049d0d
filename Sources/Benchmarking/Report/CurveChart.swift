/// Throughput, or the hit rate, against the size of the cache: a curve per setting.
struct CurveChart {
    let curves: ReportGroup.Curves
    private let series: [ReportGroup.Series]
    private let levels: [RowFigures]

    init(_ curves: ReportGroup.Curves) {
        self.curves = curves
        series = Array(curves.series.prefix(SeriesStyle.most))
        levels = Array(curves.levels.filter { $0.decode != nil }.prefix(SeriesStyle.most))
        speeds =
            series.flatMap { $0.points.map(\.row) }
            .flatMap { [$0.decode?.greatest ?? 0, $0.bound ?? 0] }
            + levels.map { $0.decode?.greatest ?? 0 }
        left = max(Axis.fromZero(speeds, start: 0, end: 1).labelWidth() + 8, 34)
    }

    /// Speeds that must find room.
    private let speeds: [Double]
    /// Where both drawings begin, so that one can stand below the other.
    private let left: Double
    private static let right = Drawing.width - 10
    private static let top = 10.0

    private var horizontal: Axis {
        // Room at both ends, so that no marker and no label is cut.
        let start = left + 12
        let end = CurveChart.right - 10
        let values = series.flatMap { $0.points.map(\.x) }
        if curves.names.isEmpty {
            return .logarithmic(values, start: start, end: end)
        }
        return Axis(
            kind: .linear, low: 0, high: Double(max(curves.names.count - 1, 1)), start: start,
            end: end)
    }

    /// Decode with min-max bars, the bound of each point dotted above, and peers as levels.
    func throughput() -> Markup {
        let height = 236.0
        let bottom = height - 40
        let vertical = Axis.fromZero(speeds, start: bottom, end: CurveChart.top)
        var drawing = Drawing(
            height: height, title: "Decode speed against cache size", summary: summary)
        frame(&drawing, vertical, bottom: bottom)
        for (place, level) in levels.enumerated() {
            guard let decode = level.decode else { continue }
            let y = vertical.place(decode.median)
            drawing.line(
                left, y, CurveChart.right, y, class: "level l\(place % 3)")
        }
        for (place, one) in series.enumerated() {
            let style = SeriesStyle(index: place)
            let bounds = one.points.compactMap { point in
                point.row.bound.map { (horizontal.place(point.x), vertical.place($0)) }
            }
            drawing.path(bounds, class: "bound \(style.colorClass)")
            if bounds.count == 1, let only = bounds.first {
                drawing.line(
                    only.0 - 8, only.1, only.0 + 8, only.1, class: "bound \(style.colorClass)")
            }
        }
        for (place, one) in series.enumerated() {
            let style = SeriesStyle(index: place)
            let points = one.points.filter { $0.row.decode != nil }
            drawing.path(
                points.map { (horizontal.place($0.x), vertical.place($0.row.decode?.median ?? 0)) },
                class: "curve \(style.colorClass) \(style.dashClass)")
            for point in points {
                guard let decode = point.row.decode else { continue }
                let x = horizontal.place(point.x)
                whisker(&drawing, x, vertical, decode, style)
                drawing.marker(
                    style, x, vertical.place(decode.median),
                    hint: "\(label(point.x)), \(one.name): \(point.row.decodeWords)")
            }
        }
        return drawing.svg
    }

    /// The share of experts found in memory; nil where nobody told it.
    func hitRate() -> Markup? {
        let rows = series.flatMap { $0.points.map(\.row) }
        guard rows.contains(where: { $0.hitRate != nil }) else { return nil }
        let height = 156.0
        let bottom = height - 40
        let vertical = Axis(kind: .linear, low: 0, high: 100, start: bottom, end: CurveChart.top)
        let known = rows.compactMap(\.hitRate)
        var drawing = Drawing(
            height: height, title: "Hit rate against cache size",
            summary: "From \(Figure.percent(known.min())) to \(Figure.percent(known.max())).")
        frame(&drawing, vertical, bottom: bottom)
        for (place, one) in series.enumerated() {
            let style = SeriesStyle(index: place)
            let points = one.points.compactMap { point in
                point.row.hitRate.map { (x: point.x, share: $0) }
            }
            drawing.path(
                points.map { (horizontal.place($0.x), vertical.place($0.share * 100)) },
                class: "curve \(style.colorClass) \(style.dashClass)")
            for point in points {
                drawing.marker(
                    style, horizontal.place(point.x), vertical.place(point.share * 100),
                    hint: "\(label(point.x)), \(one.name): \(Figure.percent(point.share))")
            }
        }
        return drawing.svg
    }

    /// What the lines are, with the levels' figures.
    func legend() -> Markup {
        var legend = Legend()
        for (place, one) in series.enumerated() {
            legend.curve(SeriesStyle(index: place), one.name)
        }
        if series.contains(where: { $0.points.contains { $0.row.bound != nil } }) {
            legend.line(class: "bound ink", "roofline: the bound at the measured rates and hits")
        }
        for (place, level) in levels.enumerated() {
            legend.line(class: "level l\(place % 3)", "\(level.name): \(level.decodeWords)")
        }
        let hidden = curves.series.count - series.count + curves.levels.count - levels.count
        if hidden > 0 { legend.note("\(Figure.count(hidden)) more in the table only") }
        return legend.markup
    }

    private var summary: String {
        let all = series.flatMap(\.points).filter { $0.row.decode != nil }
        guard
            let best = all.max(by: {
                ($0.row.decode?.median ?? 0) < ($1.row.decode?.median ?? 0)
            })
        else { return "No speeds were measured." }
        let places = series.flatMap { $0.points.map(\.x) }
        let peers = levels.map { " \($0.name): \($0.decodeWords)." }.joined()
        return "\(series.count) settings from \(label(places.min() ?? 0)) to "
            + "\(label(places.max() ?? 0)); fastest \(best.row.decodeWords) at \(label(best.x))."
            + peers
    }

    private func label(_ x: Double) -> String {
        guard !curves.names.isEmpty else { return Figure.multiple(x) }
        return curves.names[min(max(Int(x), 0), curves.names.count - 1)]
    }

    private func frame(_ drawing: inout Drawing, _ vertical: Axis, bottom: Double) {
        for tick in vertical.ticks {
            let y = vertical.place(tick.value)
            drawing.line(left, y, CurveChart.right, y, class: "grid")
            drawing.text(tick.label, left - 5, y + 4, .end)
        }
        drawing.line(left, bottom, CurveChart.right, bottom, class: "axis")
        var free = 0.0
        let places = Set(series.flatMap { $0.points.map(\.x) }).sorted()
        for x in places {
            let place = horizontal.place(x)
            drawing.line(place, bottom, place, bottom + 4, class: "axis")
            let words = Drawing.fitted(label(x), width: 60)
            let half = Double(words.count) * Drawing.letterWidth / 2
            guard place - half >= free else { continue }
            drawing.text(words, place, bottom + 17, .middle)
            free = place + half + 4
        }
        drawing.text(
            curves.names.isEmpty ? "cache, times the experts of one token" : "cache",
            (left + CurveChart.right) / 2, bottom + 35, .middle, class: "dim")
    }

    private func whisker(
        _ drawing: inout Drawing, _ x: Double, _ vertical: Axis, _ spread: Spread,
        _ style: SeriesStyle
    ) {
        let low = vertical.place(spread.least)
        let high = vertical.place(spread.greatest)
        guard low - high > 0.5 else { return }
        let name = "whisker \(style.colorClass)"
        drawing.line(x, low, x, high, class: name)
        drawing.line(x - 3.5, low, x + 3.5, low, class: name)
        drawing.line(x - 3.5, high, x + 3.5, high, class: name)
    }
}
