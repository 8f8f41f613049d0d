/// Quality against bytes: what a setting saves, and what it costs.
struct QualityChart {
    let settings: [BenchmarkReport.Quality]

    private struct Point {
        var number: Int
        var x: Double
        var y: Double
        var quality: BenchmarkReport.Quality
    }

    private struct Box {
        var left: Double
        var top: Double
        var right: Double
        var bottom: Double

        func overlaps(_ other: Box) -> Bool {
            left < other.right && other.left < right && top < other.bottom && other.top < bottom
        }
    }

    /// The rise of perplexity over exact, as a share of 1.
    static func rise(_ quality: BenchmarkReport.Quality) -> Double? {
        let rise = quality.perplexity / quality.exactPerplexity - 1
        return rise.isFinite ? rise : nil
    }

    /// Points with numbers, which the table below explains.
    func scatter() -> Markup {
        let height = 250.0
        let (right, top, bottom) = (Drawing.width - 12, 12.0, height - 42)
        let drawn = settings.enumerated().filter {
            QualityChart.rise($0.element) != nil && $0.element.bytesReadPerToken.isFinite
        }
        // Replaced experts can lower the perplexity of a short text: the axis then goes below 0.
        let vertical = Axis.fromZero(
            drawn.map { (QualityChart.rise($0.element) ?? 0) * 100 }, start: bottom, end: top)
        let left = vertical.labelWidth(suffix: " %") + 8
        let horizontal = Axis.fromZero(
            drawn.map { $0.element.bytesReadPerToken / 1e6 }, start: left, end: right)
        var drawing = Drawing(
            height: height, title: "Quality against bytes read",
            summary: drawn.map {
                "\($0.element.setting): \(Figure.megabytes($0.element.bytesReadPerToken)) "
                    + "MB per token, perplexity "
                    + "\(Figure.percent(QualityChart.rise($0.element))) above exact."
            }.joined(separator: " "))
        for tick in vertical.ticks {
            let y = vertical.place(tick.value)
            drawing.line(left, y, right, y, class: tick.value == 0 ? "axis" : "grid")
            drawing.text("\(tick.label) %", left - 5, y + 4, .end)
        }
        for tick in horizontal.ticks {
            let x = horizontal.place(tick.value)
            drawing.line(x, bottom, x, bottom + 4, class: "axis")
            drawing.text(tick.label, x, bottom + 18, .middle)
        }
        drawing.line(left, bottom, right, bottom, class: "axis")
        drawing.text("MB per token", (left + right) / 2, bottom + 36, .middle, class: "dim")
        let points = drawn.map {
            Point(
                number: $0.offset + 1, x: horizontal.place($0.element.bytesReadPerToken / 1e6),
                y: vertical.place((QualityChart.rise($0.element) ?? 0) * 100), quality: $0.element)
        }
        draw(points, in: Box(left: left, top: 0, right: Drawing.width, bottom: bottom), &drawing)
        return drawing.svg
    }

    /// Each number goes to the first place beside its point that is free.
    private func draw(_ points: [Point], in frame: Box, _ drawing: inout Drawing) {
        var taken = points.map {
            Box(left: $0.x - 5, top: $0.y - 5, right: $0.x + 5, bottom: $0.y + 5)
        }
        for point in points {
            let width = Double("\(point.number)".count) * Drawing.letterWidth + 2
            let candidates = [
                (7.0, -6.0), (7, 6), (-7 - width, -6), (-7 - width, 6), (-width / 2, -19),
                (-width / 2, 7), (16, -6), (-16 - width, -6), (-width / 2, -32), (-width / 2, 20),
            ].map { dx, dy in
                Box(
                    left: point.x + dx, top: point.y + dy, right: point.x + dx + width,
                    bottom: point.y + dy + 12)
            }
            let place =
                candidates.first { box in
                    box.left >= frame.left && box.right <= frame.right && box.top >= frame.top
                        && box.bottom <= frame.bottom && !taken.contains { $0.overlaps(box) }
                } ?? candidates[0]
            taken.append(place)
            drawing.marker(
                SeriesStyle(index: point.number - 1), point.x, point.y,
                hint: "\(point.quality.setting): "
                    + "\(Figure.percent(QualityChart.rise(point.quality))) above exact at "
                    + "\(Figure.megabytes(point.quality.bytesReadPerToken)) MB per token")
            drawing.text("\(point.number)", place.left + 1, place.top + 11)
        }
    }

    /// Every figure of every setting, numbered as in the drawing.
    func table() -> Markup {
        var table = ReportTable(
            caption: "Quality of each setting against exact",
            columns: [
                "Setting", "MB per token", "Perplexity", "Rise", "Mean KL", "Same top token",
                "Tokens",
            ])
        for (place, quality) in settings.enumerated() {
            table.add([
                .init("\(place + 1). \(quality.setting)"),
                .init(Figure.megabytes(quality.bytesReadPerToken)),
                .init(
                    Figure.number(quality.perplexity),
                    "exact \(Figure.number(quality.exactPerplexity))"),
                .init(Figure.percent(QualityChart.rise(quality))),
                .init(Figure.number(quality.meanDivergence)),
                .init(Figure.percent(quality.agreement)),
                .init(Figure.count(quality.tokens)),
            ])
        }
        return table.markup
    }
}
