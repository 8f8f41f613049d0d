/// Rows that may be compared: one model under the same limits.
struct ReportGroup {
    let model: String
    let memoryLimitBytes: Int?
    let diskLimitBytesPerSecond: Double?
    let board: String?
    fileprivate(set) var rows: [RowFigures] = []

    /// Rows of one setting over the sizes of the cache.
    struct Series {
        let name: String
        /// By size, each with its place among them.
        var points: [(x: Double, row: RowFigures)]
    }

    /// What the curves are drawn over.
    struct Curves {
        var series: [Series]
        /// Labels of an ordinal axis, by place; empty where sizes are multiples.
        var names: [String]
        /// Rows without a size: levels across the drawing.
        var levels: [RowFigures]
    }

    /// Groups in the order in which their first rows stand.
    static func groups(_ rows: [BenchmarkReport.Row]) -> [ReportGroup] {
        struct Key: Hashable {
            var model: String
            var memory: Int?
            var disk: Double?
            var board: String?
        }
        var places: [Key: Int] = [:]
        var groups: [ReportGroup] = []
        for row in rows {
            let point = row.point
            let key = Key(
                model: point.model, memory: point.memoryLimitBytes,
                disk: point.diskLimitBytesPerSecond, board: point.board)
            let place = places[key] ?? groups.count
            if place == groups.count {
                places[key] = place
                groups.append(
                    ReportGroup(
                        model: point.model, memoryLimitBytes: point.memoryLimitBytes,
                        diskLimitBytesPerSecond: point.diskLimitBytesPerSecond, board: point.board))
            }
            groups[place].rows.append(RowFigures(row))
        }
        return groups
    }

    /// "3 GiB of memory, disk at 1.60 GB/s".
    var limits: String {
        let memory = memoryLimitBytes.map { "\(Figure.memory($0)) of memory" }
        let disk = diskLimitBytesPerSecond.map { "disk at \(Figure.rate($0))" }
        let words = [memory, disk].compactMap { $0 }
        return words.isEmpty ? "no limits on memory or disk" : words.joined(separator: ", ")
    }

    var heading: String { board.map { "\($0): \(limits)" } ?? limits }

    /// Curves over cache sizes; nil unless there are two sizes to draw a curve over. Sizes are
    /// multiples of what one token uses where every run tells it, else names in the order given.
    var curves: Curves? {
        let sized = rows.filter { $0.point.engine == .sluice && ($0.multiple ?? 0) > 0 }
        let named = rows.filter { $0.point.engine == .sluice && $0.point.cache != nil }
        if Set(sized.map(\.multiple)).count > 1, sized.count >= named.count {
            return curves(sized, names: []) { $0.multiple ?? 0 }
        }
        var names: [String] = []
        for row in named where !names.contains(row.point.cache ?? "") {
            names.append(row.point.cache ?? "")
        }
        guard names.count > 1 else { return nil }
        return curves(named, names: names) { row in
            Double(names.firstIndex(of: row.point.cache ?? "") ?? 0)
        }
    }

    private func curves(
        _ placed: [RowFigures], names: [String], x: (RowFigures) -> Double
    ) -> Curves {
        var series: [Series] = []
        var places: [String: Int] = [:]
        for row in placed {
            let place = places[row.seriesName] ?? series.count
            if place == series.count {
                places[row.seriesName] = place
                series.append(Series(name: row.seriesName, points: []))
            }
            series[place].points.append((x(row), row))
        }
        for place in series.indices {
            series[place].points = series[place].points.enumerated()
                .sorted { ($0.element.x, $0.offset) < ($1.element.x, $1.offset) }.map(\.element)
        }
        let isPlaced: (RowFigures) -> Bool = { row in
            row.point.engine == .sluice
                && (names.isEmpty ? (row.multiple ?? 0) > 0 : row.point.cache != nil)
        }
        return Curves(series: series, names: names, levels: rows.filter { !isPlaced($0) })
    }

    /// The fastest row of each setting.
    var fastestOfEachSetting: [RowFigures] {
        var places: [String: Int] = [:]
        var fastest: [RowFigures] = []
        for row in rows where row.point.engine == .sluice {
            let place = places[row.seriesName] ?? fastest.count
            if place == fastest.count {
                places[row.seriesName] = place
                fastest.append(row)
            } else if (row.decode?.median ?? 0) > (fastest[place].decode?.median ?? 0) {
                fastest[place] = row
            }
        }
        return fastest
    }

    /// The fastest of the peer's rows of a role, nil for any.
    func fastestPeer(role: String?) -> RowFigures? {
        rows.filter { $0.point.engine != .sluice && (role == nil || $0.point.role == role) }
            .max { ($0.decode?.median ?? 0) < ($1.decode?.median ?? 0) }
    }
}
