import Testing

@testable import ExpertStreaming

/// The definitions once more, in the plainest way: windows are counted one by one, and every
/// question to a cache goes through the whole sequence.
private enum Plainly {
    /// F1 of "uses it at least `threshold` times" over all windows of all layers, by threshold.
    static func scores(_ trace: RoutingTrace, layers: Range<Int>, segment: Int) -> [Double] {
        (0...segment).map { threshold in
            var matches = 0
            var foretold = 0
            var all = 0
            for layer in layers {
                for first in 0...(trace.tokenCount - segment) {
                    for expert in 0..<trace.shape.expertsPerLayer {
                        let uses = (first..<first + segment).count {
                            trace.experts(token: $0, layer: layer).contains(UInt16(expert))
                        }
                        all += uses
                        if uses >= threshold {
                            matches += uses
                            foretold += segment
                        }
                    }
                }
            }
            return 2 * Double(matches) / Double(foretold + all)
        }
    }

    static func hits(
        _ tokens: [[Int]], capacity: Int, rule: BoundedCache.Rule, pinned: Bool
    ) -> Int {
        let all = tokens.flatMap { $0 }
        var held: [Int] = []
        var hits = 0
        var position = 0
        for (token, demands) in tokens.enumerated() {
            let before = held
            for (rank, expert) in demands.enumerated() {
                let earlier = all[..<(position + rank)]
                let isFirst = !earlier.contains(expert)
                if before.contains(expert) || isFirst && Set(earlier).count < capacity {
                    hits += 1
                }
            }
            for expert in demands {
                let past = all[..<position]
                let future = all[position...]
                func worth(_ candidate: Int) -> (Int, Int) {
                    let lastUse = past.lastIndex(of: candidate) ?? -1
                    switch rule {
                    case .lru: return (lastUse, 0)
                    case .lfu: return (past.count { $0 == candidate }, lastUse)
                    case .belady: return (-(future.firstIndex(of: candidate) ?? Int.max), 0)
                    case .lookahead(let count):
                        let end = min(token + count, tokens.count)
                        let total = tokens[token..<end].joined().count { $0 == candidate }
                        let start = tokens[..<token].reduce(0) { $0 + $1.count }
                        let served = all[start..<position].count { $0 == candidate }
                        return (total - served, lastUse)
                    }
                }
                if !held.contains(expert) {
                    if held.count == capacity {
                        let free = held.filter { !pinned || !demands.contains($0) }
                        let victim = free.min { worth($0) < worth($1) }!
                        held.removeAll { $0 == victim }
                    }
                    held.append(expert)
                }
                position += 1
            }
        }
        return hits
    }
}

@Suite struct RoutingStatisticsTests {

    /// Windows of two of the tokens {0}, {0}, {1}, {0}: (0,0), (0,1), (1,0).
    ///
    ///     uses       0   1   2     over 3 experts
    ///     window 1   2       1     expert 0 twice
    ///     window 2   1   2         0 and 1 once each
    ///     window 3   1   2
    ///
    /// A = 6. Threshold 2: M = 2, P = 2, F1 = 4 / 8. Threshold 1: M = 6, P = 10, F1 = 12 / 16.
    @Test func aHandWorkedSRP() throws {
        let trace = try RoutingTrace.of([0, 0, 1, 0].map { [[$0]] }, experts: 3)
        let measured = try RoutingStatistics(trace, segment: 2, rhos: [1])
        #expect(
            measured.model
                == RoutingStatistics.Predictability(
                    srp: 0.75, threshold: 1, segmentRatio: 10.0 / 6))
        #expect(measured.layers == [measured.model])
    }

    /// One expert per token, room for two, hits in brackets; (x) counts because the cache is not yet
    /// full.
    ///
    ///     asked for   0   1   0   2   1   2   0   0
    ///     LRU        (.) (.) [0]  .   .  [2]  .  [0]    2 evicts 1, 1 evicts 0, 0 evicts 1
    ///     LFU        (.) (.) [0]  .   .   .   .  [0]    0 has two uses, then 1 too, and 2 evicts 0
    ///     Belady     (.) (.) [0]  .  [1] [2]  .  [0]    2 evicts 0, 0 evicts 1
    ///     SCH(2)     (.) (.) [0]  .  [1] [2]  .  [0]    next after 2 comes 1: 0 leaves
    @Test func handWorkedBounds() throws {
        let trace = try RoutingTrace.of([0, 1, 0, 2, 1, 2, 0, 0].map { [[$0]] }, experts: 4)
        let bounds = try RoutingStatistics(trace, segment: 2, rhos: [2]).modelBounds[0]
        #expect(bounds.lru == 5.0 / 8)
        #expect(bounds.lfu == 4.0 / 8)
        #expect(bounds.belady == 6.0 / 8)
        #expect(bounds.sch == 6.0 / 8)
        #expect(bounds.pinnedBelady == bounds.belady)
    }

    @Test(arguments: 0..<5) func srpIsTheBestOfAllThresholds(seed: Int) throws {
        let trace = try RoutingTrace.random(
            seed: seed, tokens: 30, layers: 3, experts: 7, perToken: 2)
        for segment in [1, 4, 9] {
            let measured = try RoutingStatistics(trace, segment: segment, rhos: [1])
            for layer in 0..<4 {
                let part = layer == 3 ? 0..<3 : layer..<layer + 1
                let scores = Plainly.scores(trace, layers: part, segment: segment)
                let found = layer == 3 ? measured.model : measured.layers[layer]
                #expect(abs(found.srp - scores.max()!) < 1e-12)
                #expect(abs(scores[found.threshold] - found.srp) < 1e-12)
                // The paper's closed form of the threshold, which may lie between two that are as
                // good.
                let closed = Int((Double(segment) / 2 * found.srp).rounded(.up))
                #expect(abs(scores[closed] - found.srp) < 1e-12)
            }
        }
    }

    @Test(arguments: 0..<5) func boundsAgreeWithAPlainSimulation(seed: Int) throws {
        let trace = try RoutingTrace.random(
            seed: seed, tokens: 24, layers: 2, experts: 6, perToken: 2)
        let measured = try RoutingStatistics(trace, segment: 4, rhos: [1, 1.5, 2, 3])
        let layers = (0..<2).map { layer in
            (0..<24).map { token in
                trace.experts(token: token, layer: layer).map { layer * 6 + Int($0) }
            }
        }
        let whole = zip(layers[0], layers[1]).map { $0 + $1 }
        for index in 0..<4 {
            let rho = measured.modelBounds[index].rho
            func together(_ rule: BoundedCache.Rule, _ pinned: Bool) -> Double {
                let capacity = Int(rho * 4)
                let hits = Plainly.hits(whole, capacity: capacity, rule: rule, pinned: pinned)
                return Double(hits) / 96
            }
            func each(_ rule: BoundedCache.Rule, _ pinned: Bool) -> Double {
                let capacity = Int(rho * 2)
                let hits = layers.reduce(0) {
                    $0 + Plainly.hits($1, capacity: capacity, rule: rule, pinned: pinned)
                }
                return Double(hits) / 96
            }
            let model = measured.modelBounds[index]
            #expect(model.lru == together(.lru, false))
            #expect(model.lfu == together(.lfu, false))
            #expect(model.sch == together(.lookahead(4), false))
            #expect(model.belady == together(.belady, false))
            #expect(model.pinnedBelady == together(.belady, true))
            let layer = measured.layerBounds[index]
            #expect(layer.lru == each(.lru, false))
            #expect(layer.lfu == each(.lfu, false))
            #expect(layer.sch == each(.lookahead(4), false))
            #expect(layer.belady == each(.belady, false))
            #expect(layer.pinnedBelady == each(.belady, true))
        }
    }

    @Test func sequencesHaveWindowsAndCachesOfTheirOwn() throws {
        let trace = try RoutingTrace.of(
            [0, 0, 0, 1, 1, 1].map { [[$0]] }, experts: 2, sequences: [4, 4, 4, 9, 9, 9])
        let measured = try RoutingStatistics(trace, segment: 3, rhos: [1])
        // Both windows use one expert three times; a window across would use two.
        #expect(measured.model.srp == 1 && measured.model.threshold == 3)
        // The first use in each sequence fills an empty cache.
        #expect(measured.modelBounds[0].lru == 1)
        #expect(throws: TraceError.self) {
            try RoutingStatistics(trace, segment: 4, rhos: [1])
        }
    }

    @Test func promptsAreLeftOut() throws {
        let trace = try RoutingTrace.of(
            [5, 5, 0, 0, 0].map { [[$0]] }, experts: 6, prefill: 2)
        let measured = try RoutingStatistics(trace, segment: 3, rhos: [1])
        #expect(measured.tokenCount == 3 && measured.model.srp == 1)
    }

    @Test func aKneeIsWhereTheCurveBends() throws {
        // Two experts per token out of sixteen, from a set of four that changes every 40 tokens: 2x
        // holds the set.
        var generator = SplitMix(seed: 1)
        let steady = try RoutingTrace.of(
            (0..<160).map { token in
                let first = UInt16.random(in: 0..<4, using: &generator)
                let base = UInt16(token / 40 * 4)
                let second = (first + UInt16.random(in: 1...3, using: &generator)) % 4
                return [[base + first, base + second]]
            }, experts: 16)
        let knee = try RoutingStatistics(steady, segment: 16, rhos: [1, 2, 3, 4, 6, 8]).knee
        #expect(knee == 2)
        // Routing without any habit: hits grow with the cache.
        let even = try RoutingTrace.of(
            (0..<400).map { _ in
                let first = UInt16.random(in: 0..<16, using: &generator)
                return [[first, (first + UInt16.random(in: 1...15, using: &generator)) % 16]]
            }, experts: 16)
        let none = try RoutingStatistics(even, segment: 1, rhos: [1, 2, 3, 4, 6, 8]).knee
        #expect(none == nil)
    }
}
