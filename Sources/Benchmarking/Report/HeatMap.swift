/// Layers by experts: how often each was used, and how much of it was in memory at the end.
///
/// Neighbours of one shade are drawn as one stroke and a shade is one path, so that 48 layers of
/// 128 experts take some tens of kilobytes. Models with more experts than the drawing has room for
/// are drawn with several to a cell.
struct HeatMap {
    private let layers: Int
    private let experts: Int
    private let columns: Int
    private let lines: Int
    private let heat: ExpertHeat

    private static let mostColumns = 288
    private static let mostLines = 192
    /// Shades above none.
    private static let shades = 8

    /// Nil where the counts are not those of `layers * experts`.
    init?(_ heat: ExpertHeat) {
        guard heat.layers > 0, heat.experts > 0,
            case let (count, overflow) = heat.layers.multipliedReportingOverflow(by: heat.experts),
            !overflow, heat.uses.count == count, heat.residentPlanes.count == count
        else { return nil }
        self.heat = heat
        layers = heat.layers
        experts = heat.experts
        columns = min(experts, HeatMap.mostColumns)
        lines = min(layers, HeatMap.mostLines)
    }

    /// Shade by the square root of the uses: routing is skewed, and a linear scale would be all
    /// pale.
    func uses() -> Markup {
        let cells = means(heat.uses)
        let most = cells.max() ?? 0
        let used = heat.uses.count { $0 > 0 }
        return map(
            title: "How often experts were used",
            summary:
                "\(layers) layers of \(experts) experts; \(used) of \(heat.uses.count) were used.",
            class: "uses",
            levels: cells.map {
                HeatMap.level(most > 0 ? (max($0, 0) / most).squareRoot() : 0)
            })
    }

    /// Shade by the planes in memory.
    func residency() -> Markup {
        let planes = Double(max(heat.planes, 1))
        let resident = heat.residentPlanes.count { $0 > 0 }
        return map(
            title: "Experts in memory, by width",
            summary:
                "\(resident) of \(heat.residentPlanes.count) experts were in memory at the end.",
            class: "resident",
            levels: means(heat.residentPlanes).map { HeatMap.level(max($0, 0) / planes) })
    }

    func usesLegend() -> Markup {
        let most = means(heat.uses).max() ?? 0
        var legend = Legend()
        legend.area(class: "uses", opacity: "0", "never")
        for level in [2, 5, HeatMap.shades] {
            let share = Double(level) / Double(HeatMap.shades)
            let words = level == HeatMap.shades ? "" : "to "
            legend.area(
                class: "uses", opacity: HeatMap.opacity(level),
                words + "\(Figure.number(most * share * share)) times")
        }
        return legend.markup
    }

    func residencyLegend() -> Markup {
        var legend = Legend()
        legend.area(class: "resident", opacity: "0", "not in memory")
        let most = min(max(heat.planes, 1), HeatMap.shades)
        for planes in 1...most {
            let level = HeatMap.level(Double(planes) / Double(most))
            legend.area(
                class: "resident", opacity: HeatMap.opacity(level),
                planes == most
                    ? "full width" : "\(planes) of \(most) planes")
        }
        return legend.markup
    }

    /// 0 for none, else 1 ... shades.
    private static func level(_ share: Double) -> Int {
        share > 0 ? max(Int((min(share, 1) * Double(shades)).rounded(.up)), 1) : 0
    }

    private static func opacity(_ level: Int) -> String {
        Drawing.decimals(0.12 + 0.88 * Double(level) / Double(shades), 2)
    }

    /// Means of `values` by cell.
    private func means(_ values: [Int]) -> [Double] {
        var sums = [Double](repeating: 0, count: columns * lines)
        var counts = [Double](repeating: 0, count: columns * lines)
        for layer in 0..<layers {
            let line = layer * lines / layers
            for expert in 0..<experts {
                let cell = line * columns + expert * columns / experts
                sums[cell] += Double(values[layer * experts + expert])
                counts[cell] += 1
            }
        }
        return zip(sums, counts).map { $1 > 0 ? $0 / $1 : 0 }
    }

    private func map(title: String, summary: String, class name: String, levels: [Int]) -> Markup {
        let left = 26.0
        let top = 18.0
        let cellWidth = (Drawing.width - left) / Double(columns)
        let cellHeight = min(max((190 / Double(lines)).rounded(.down), 1), 14)
        let bottom = top + cellHeight * Double(lines)
        var drawing = Drawing(height: bottom + 22, title: title, summary: summary)
        drawing.text("expert", left, 12, class: "dim")
        drawing.text("\(experts - 1)", Drawing.width, 12, .end, class: "dim")
        drawing.text("0", left - 5, top + max(cellHeight / 2 + 4, 10), .end, class: "dim")
        if layers > 1 {
            drawing.text(
                "\(layers - 1)", left - 5, bottom - max(cellHeight / 2 - 4, 0), .end, class: "dim")
        }
        drawing.text("layers from top to bottom", left, bottom + 15, class: "dim")
        drawing.rectangle(
            x: left, y: top, width: Drawing.width - left, height: bottom - top, class: "well")
        // In units of cells: a stroke of width 1 along the middle of a line of cells.
        drawing.markup.element(
            "g",
            [
                "class": "cells \(name)",
                "transform":
                    "translate(\(Drawing.unit(left)) \(Drawing.unit(top + cellHeight / 2))) "
                    + "scale(\(Drawing.decimals(cellWidth, 4)) \(Drawing.unit(cellHeight)))",
            ]
        ) { group in
            for (level, data) in strokes(levels) {
                group.empty("path", ["stroke-opacity": HeatMap.opacity(level), "d": data])
            }
        }
        return drawing.svg
    }

    /// Paths by shade, each of its runs along the lines.
    private func strokes(_ levels: [Int]) -> [(level: Int, data: String)] {
        var paths = [String](repeating: "", count: HeatMap.shades + 1)
        for line in 0..<lines {
            var start = 0
            while start < columns {
                let level = levels[line * columns + start]
                var end = start + 1
                while end < columns, levels[line * columns + end] == level { end += 1 }
                if level > 0 { paths[level] += "M\(start) \(line)h\(end - start)" }
                start = end
            }
        }
        return paths.enumerated().filter { !$0.element.isEmpty }.map { ($0.offset, $0.element) }
    }
}

extension BenchmarkReport {
    /// Per model the row whose heat is shown, the one of the middle cache size, and its last run's
    /// heat.
    func heatByModel() -> [(row: RowFigures, heat: ExpertHeat)] {
        var models: [String] = []
        var rowsByModel: [String: [RowFigures]] = [:]
        for row in rows where row.runs.contains(where: { $0.heat != nil }) {
            if rowsByModel[row.point.model] == nil { models.append(row.point.model) }
            rowsByModel[row.point.model, default: []].append(RowFigures(row))
        }
        return models.compactMap { model in
            let sorted = (rowsByModel[model] ?? []).enumerated().sorted {
                ($0.element.multiple ?? 0, $0.offset) < ($1.element.multiple ?? 0, $1.offset)
            }
            let row = sorted[sorted.count / 2].element
            return row.row.runs.last { $0.heat != nil }?.heat.map { (row, $0) }
        }
    }
}
