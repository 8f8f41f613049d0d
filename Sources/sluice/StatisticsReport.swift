import ExpertStreaming

/// What `sluice replay --statistics` prints. Shares of 1.
struct StatisticsReport: Encodable {

    struct Predictability: Encodable {
        var srp: Double
        var threshold: Int
        var segmentRatio: Double

        init(_ measured: RoutingStatistics.Predictability) {
            srp = measured.srp
            threshold = measured.threshold
            segmentRatio = measured.segmentRatio
        }
    }

    struct Bounds: Encodable {
        var cache: String
        var lru: Double
        var lfu: Double
        var sch: Double
        var belady: Double
        var beladyPinned: Double

        init(_ bounds: RoutingStatistics.Bounds) {
            cache = CacheSize.multiple(bounds.rho).shortText
            lru = bounds.lru
            lfu = bounds.lfu
            sch = bounds.sch
            belady = bounds.belady
            beladyPinned = bounds.pinnedBelady
        }

        var cells: [String] {
            [cache] + [lru, lfu, sch, belady, beladyPinned].map { fixed($0, 3) }
        }
    }

    struct Statistics: Encodable {
        var segment: Int
        var tokens: Int
        var srp: Double
        var threshold: Int
        var segmentRatio: Double
        var layers: [Predictability]
        /// One cache for all layers, and one for each.
        var bounds: [Bounds]
        var boundsPerLayer: [Bounds]
        var knee: String?
        var verdict: String
    }

    var traces: [TraceFigures] = []
    var statistics: [Statistics] = []

    init(
        _ traces: [(String, RoutingTrace)], segment: Int, sizes: [CacheSize]
    ) throws {
        let rhos = try sizes.map { size in
            guard case .multiple(let rho) = size, rho >= 1 else {
                throw InputError(
                    "--statistics: '\(size.shortText)' is no multiple from 1x on of what a token uses"
                )
            }
            return rho
        }
        for (path, trace) in traces {
            let measured = try RoutingStatistics(trace, segment: segment, rhos: rhos.sorted())
            self.traces.append(TraceFigures(path, trace))
            statistics.append(
                Statistics(
                    segment: segment, tokens: measured.tokenCount, srp: measured.model.srp,
                    threshold: measured.model.threshold,
                    segmentRatio: measured.model.segmentRatio,
                    layers: measured.layers.map(Predictability.init),
                    bounds: measured.modelBounds.map(Bounds.init),
                    boundsPerLayer: measured.layerBounds.map(Bounds.init),
                    knee: measured.knee.map { CacheSize.multiple($0).shortText },
                    verdict: Self.verdict(measured)))
        }
    }

    /// What it means for the size of a cache, in one line.
    private static func verdict(_ measured: RoutingStatistics) -> String {
        let srp = "SRP \(fixed(measured.model.srp, 3))"
        guard let knee = measured.knee,
            let bounds = measured.modelBounds.first(where: { $0.rho == knee })
        else {
            return
                "\(srp), and no knee in the sizes looked at: hits grow with the cache all along, "
                + "so give it what there is"
        }
        let text = CacheSize.multiple(knee).shortText
        return "\(srp), knee at \(text): start with --cache \(text), where LRU hits "
            + "\(fixed(bounds.lru * 100, 0)) % and foresight of \(measured.segment) tokens "
            + "\(fixed(bounds.sch * 100, 0)) %; more memory gains less than it did up to there"
    }

    /// For every trace a line about it, SRP, the bounds, and the verdict.
    var tables: String {
        var text = ""
        for (trace, figures) in zip(traces, statistics) {
            let least = figures.layers.map(\.srp).min() ?? 0
            let most = figures.layers.map(\.srp).max() ?? 0
            text += trace.summary + "\n"
            text += "SRP(\(figures.segment)) \(fixed(figures.srp, 3)) (layers "
            text += "\(fixed(least, 3)) to \(fixed(most, 3))), threshold \(figures.threshold) of "
            text += "\(figures.segment), segment ratio \(fixed(figures.segmentRatio, 2)), "
            text += "\(figures.tokens) decoded tokens\n\n"
            let names = ["lru", "lfu", "sch\(figures.segment)", "belady", "belady, pinned"]
            text += TextTable.aligned(
                [["one cache"] + names] + figures.bounds.map(\.cells))
            text += "\n"
            text += TextTable.aligned(
                [["per layer"] + names] + figures.boundsPerLayer.map(\.cells))
            text += "\n\(figures.verdict)\n\n"
        }
        return text
    }
}
