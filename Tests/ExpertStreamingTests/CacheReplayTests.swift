import Testing

@testable import ExpertStreaming

/// A cache in the plainest words: what is in it is a list, and every question goes through the whole
/// trace again. Decoded tokens only, one layer after the other, the current experts protected.
private struct PlainCache {
    var held: [Int] = []
    var hits = 0
    var missedBytes = 0
    /// (token, layer, expert) in the order in which they were asked for.
    var past: [(token: Int, layer: Int, expert: Int)] = []

    static func replay(
        _ trace: RoutingTrace, policy: ReplayPolicy, capacity: Int, sizes: [Int],
        protects: Bool = true
    ) -> PlainCache {
        var cache = PlainCache()
        let experts = trace.shape.expertsPerLayer
        for token in 0..<trace.tokenCount {
            for layer in 0..<trace.shape.layerCount {
                let wanted = trace.experts(token: token, layer: layer).map {
                    layer * experts + Int($0)
                }
                for (rank, expert) in wanted.enumerated() {
                    if cache.held.contains(expert) {
                        cache.hits += 1
                    } else {
                        cache.missedBytes += sizes[layer]
                        while cache.held.reduce(0, { $0 + sizes[$1 / experts] }) + sizes[layer]
                            > capacity
                        {
                            let free = cache.held.filter { !protects || !wanted.contains($0) }
                            let order = free.sorted().map { candidate in
                                (
                                    cache.worth(
                                        candidate, policy, trace, token: token, layer: layer,
                                        rank: rank), candidate
                                )
                            }
                            let victim = order.min { $0.0 < $1.0 }!.1
                            cache.held.removeAll { $0 == victim }
                        }
                        cache.held.append(expert)
                    }
                    cache.past.append((token, layer, expert))
                }
            }
        }
        return cache
    }

    func worth(
        _ expert: Int, _ policy: ReplayPolicy, _ trace: RoutingTrace, token: Int, layer: Int,
        rank: Int
    ) -> Double {
        let ownLayer = expert / trace.shape.expertsPerLayer
        let id = UInt16(expert % trace.shape.expertsPerLayer)
        let lastUse = past.lastIndex { $0.expert == expert } ?? -1
        let uses = past.count { $0.expert == expert }
        switch policy {
        case .online(.lru): return Double(lastUse)
        case .online(.lfu(halfLife: nil)): return Double(uses) * 1e6 + Double(lastUse)
        case .online(.edgemoe):
            let layers = trace.shape.layerCount
            return Double(uses) / Double(1 + (ownLayer - layer + layers) % layers)
        case .belady:
            // Steps until the next use, counting layers of tokens; what this layer still wants is
            // next.
            let layers = trace.shape.layerCount
            for step in (token * layers + layer)..<(trace.tokenCount * layers)
            where step % layers == ownLayer {
                let wanted = trace.experts(token: step / layers, layer: ownLayer)
                let left = step == token * layers + layer ? wanted.dropFirst(rank) : wanted
                if left.contains(id) { return -Double(step) }
            }
            return -.infinity
        case .lookahead(let tokens):
            var ahead = 0
            for future in token..<min(token + tokens, trace.tokenCount) {
                ahead += trace.experts(token: future, layer: ownLayer).count { $0 == id }
            }
            ahead -= past.count { $0.token == token && $0.expert == expert }
            return Double(ahead) * 1e6 + Double(lastUse)
        default: preconditionFailure("no plain version of \(policy)")
        }
    }
}

@Suite struct CacheReplayTests {

    /// One layer, room for two; hits in brackets:
    ///
    ///     asked for   0   1   2   0   1   2   0   1   2
    ///     LRU         .   .   .   .   .   .   .   .   .
    ///     Belady      .   .   .  [0]  .  [2]  .  [1]  .
    @Test func aHandWorkedCase() throws {
        let trace = try RoutingTrace.of(
            [0, 1, 2, 0, 1, 2, 0, 1, 2].map { [[$0]] }, experts: 4, bytes: [10])
        let lru = try CacheReplay.run(
            trace, ReplaySettings(capacity: .experts(2), policy: .online(.lru)))
        #expect(lru.lookups == 9 && lru.hits == 0 && lru.tokens == 9)
        #expect(lru.missedBytes == 90 && lru.evictions == 7 && lru.largestCount == 2)
        let belady = try CacheReplay.run(
            trace, ReplaySettings(capacity: .experts(2), policy: .belady))
        #expect(belady.hits == 3 && belady.missedBytes == 60 && belady.evictions == 4)
        // 29 bytes hold two experts of ten.
        let sized = try CacheReplay.run(
            trace, ReplaySettings(capacity: .bytes(29), policy: .belady))
        #expect(sized.hits == 3 && sized.largestCount == 2)
    }

    @Test(arguments: 0..<4) func agreesWithAPlainSimulation(seed: Int) throws {
        var generator = SplitMix(seed: UInt64(seed))
        let layers = Int.random(in: 1...3, using: &generator)
        let experts = Int.random(in: 4...9, using: &generator)
        let perToken = Int.random(in: 1...3, using: &generator)
        let sizes = (0..<layers).map { _ in Int.random(in: 2...5, using: &generator) }
        let trace = try RoutingTrace.random(
            seed: seed, tokens: 22, layers: layers, experts: experts, perToken: perToken,
            bytes: sizes)
        let policies: [ReplayPolicy] = [
            .online(.lru), .online(.lfu(halfLife: nil)), .online(.edgemoe), .belady,
            .lookahead(tokens: 1), .lookahead(tokens: 5),
        ]
        for policy in policies {
            for capacity in [perToken, perToken * layers, 2 * perToken * layers] {
                for evictsOwn in [false, true] {
                    var settings = ReplaySettings(capacity: .experts(capacity), policy: policy)
                    settings.evictsOwn = evictsOwn
                    let replayed = try CacheReplay.run(trace, settings)
                    let plain = PlainCache.replay(
                        trace, policy: policy, capacity: capacity,
                        sizes: sizes.map { _ in 1 }, protects: !evictsOwn)
                    #expect(replayed.hits == plain.hits, "\(policy), \(capacity), \(evictsOwn)")
                    #expect(replayed.lookups == plain.past.count)
                }
                let bytes = capacity * 5
                let replayed = try CacheReplay.run(
                    trace, ReplaySettings(capacity: .bytes(bytes), policy: policy))
                let plain = PlainCache.replay(
                    trace, policy: policy, capacity: bytes, sizes: sizes)
                #expect(replayed.hits == plain.hits, "\(policy), \(bytes) bytes")
                #expect(replayed.missedBytes == plain.missedBytes, "\(policy), \(bytes) bytes")
            }
        }
    }

    /// A cache that is shared by layer is as many caches as there are layers.
    @Test(arguments: 0..<6) func layersWithSharesOfTheirOwnDoNotMeet(seed: Int) throws {
        let trace = try RoutingTrace.random(
            seed: seed, tokens: 50, layers: 3, experts: 8, perToken: 2)
        var settings = ReplaySettings(capacity: .experts(9), policy: .online(.lru))
        settings.perLayer = true
        let whole = try CacheReplay.run(trace, settings)
        var sum = 0
        for layer in 0..<3 {
            let one = try RoutingTrace.of(
                (0..<50).map { [Array(trace.experts(token: $0, layer: layer))] }, experts: 8)
            sum += PlainCache.replay(one, policy: .online(.lru), capacity: 3, sizes: [1]).hits
        }
        #expect(whole.hits == sum)
    }

    /// Prefill of two tokens and one decoded, one layer: {0, 1}, {1, 2}, then {1, 3}.
    @Test func whatThePromptDoesIsASetting() throws {
        let trace = try RoutingTrace.of(
            [[[0, 1]], [[1, 2]], [[1, 3]]], experts: 4, bytes: [7], prefill: 2)
        var settings = ReplaySettings(capacity: .experts(2), policy: .online(.lru))
        let warm = try CacheReplay.run(trace, settings)
        #expect(warm.tokens == 1 && warm.lookups == 2 && warm.hits == 1 && warm.missedBytes == 7)
        settings.prefill = .skipped
        let cold = try CacheReplay.run(trace, settings)
        #expect(cold.lookups == 2 && cold.hits == 0)
        settings.prefill = .tokens
        settings.countsPrefill = true
        let counted = try CacheReplay.run(trace, settings)
        // Of six, the 1 of the second and of the third token are hits.
        #expect(counted.tokens == 3 && counted.lookups == 6 && counted.hits == 2)
        settings.prefill = .together
        // 0, 1 and 2 at once in a cache of two: five requests; which of them stays is LRU's choice.
        let together = try CacheReplay.run(trace, settings)
        #expect(together.tokens == 3 && together.lookups == 5 && together.hits == 1)
        settings.evictsAfterwards = true
        let afterwards = try CacheReplay.run(trace, settings)
        #expect(afterwards.largestCount == 4 && afterwards.lookups == 5 && afterwards.hits == 1)
    }

    @Test func aCacheOfEverythingMissesEachExpertOnce() throws {
        let trace = try RoutingTrace.random(
            seed: 5, tokens: 60, layers: 2, experts: 6, perToken: 2)
        var distinct = Set<[Int]>()
        for token in 0..<60 {
            for layer in 0..<2 {
                for expert in trace.experts(token: token, layer: layer) {
                    distinct.insert([layer, Int(expert)])
                }
            }
        }
        for policy in EvictionPolicy.all {
            let result = try CacheReplay.run(
                trace, ReplaySettings(capacity: .experts(12), policy: .online(policy)))
            #expect(result.misses == distinct.count && result.evictions == 0, "\(policy)")
        }
    }

    @Test func belowOneTokensExpertsLRUHitsNothing() throws {
        // Every token uses the same experts, and LRU evicts each just before it is used again.
        let trace = try RoutingTrace.of(
            [[[UInt16]]](repeating: [[0, 1], [2, 3], [4, 5]], count: 20), experts: 6)
        let below = try CacheReplay.run(
            trace, ReplaySettings(capacity: .experts(4), policy: .online(.lru)))
        #expect(below.hits == 0)
        // One slot more: as long as a layer's own experts are protected, it finds one of them.
        var settings = ReplaySettings(capacity: .experts(5), policy: .online(.lru))
        #expect(try CacheReplay.run(trace, settings).hits > 0)
        settings.evictsOwn = true
        #expect(try CacheReplay.run(trace, settings).hits == 0)
        let enough = try CacheReplay.run(
            trace, ReplaySettings(capacity: .experts(6), policy: .online(.lru)))
        #expect(enough.misses == 6)
    }

    @Test func predictorsReadAhead() throws {
        // Layers of one expert each, cache of one: nothing is ever hit without a predictor.
        let trace = try RoutingTrace.of(
            [[[0], [1]], [[0], [2]], [[0], [2]], [[3], [2]]], experts: 4, bytes: [10, 20])
        func run(_ predictor: ReplayPredictor) throws -> ReplayResult {
            var settings = ReplaySettings(capacity: .experts(1), policy: .online(.lru))
            settings.predictor = predictor
            return try CacheReplay.run(trace, settings)
        }
        #expect(try run(.none).hits == 0)
        let oracle = try run(.oracle(1))
        #expect(oracle.hits == 8 && oracle.readAhead == 8 && oracle.readAheadUsed == 8)
        #expect(oracle.readAheadBytes == 120 && oracle.missedBytes == 0)
        let previous = try run(.previous)
        // Right: 0 at the second and third token, 2 at the third and fourth.
        #expect(previous.predicted == 6 && previous.predictedRight == 4 && previous.hits == 4)
        #expect(previous.readAhead == 6 && previous.missedBytes == 10 + 20 + 20 + 10)
        let frequent = try run(.frequent(1))
        // 0, 0, 0 of the first layer and 1, 1 (of equals the lower), 2 of the second.
        #expect(frequent.predicted == 6 && frequent.predictedRight == 3)
    }

    @Test func sizesMeanWhatTheySay() throws {
        var shape = TraceShape(layerCount: 2, expertsPerLayer: 10, expertsPerToken: 3)
        func capacity(_ text: String, _ inBytes: Bool) throws -> ReplaySettings.Capacity {
            try ReplaySettings.capacity(
                try #require(CacheSize(text)), for: shape, inBytes: inBytes)
        }
        #expect(try capacity("2x", false) == .experts(12))
        #expect(try capacity("1.5x", false) == .experts(9))
        #expect(try capacity("50%", false) == .experts(10))
        #expect(try capacity("100x", false) == .experts(20))
        for (text, inBytes) in [("4000M", false), ("2x", true), ("auto", false)] {
            let error = #expect(throws: TraceError.self) { try capacity(text, inBytes) }
            #expect(error?.kind == .unsuitable)
        }
        shape.planeBytes = [[100, 10], [50, 0]]
        #expect(try capacity("2x", true) == .bytes(2 * 3 * 160))
        #expect(try capacity("50%", true) == .bytes(800))
        #expect(try capacity("1K", false) == .bytes(1024))
        let trace = try RoutingTrace.of([[[0]]], experts: 2, bytes: [100])
        let tooSmall = #expect(throws: TraceError.self) {
            try CacheReplay.run(
                trace, ReplaySettings(capacity: .bytes(99), policy: .online(.lru)))
        }
        #expect(tooSmall?.description.contains("does not hold one expert") == true)
    }

    @Test(arguments: [
        ("belady", ReplayPolicy.belady), ("sch16", .lookahead(tokens: 16)),
        ("SCH4", .lookahead(tokens: 4)), ("lru", .online(.lru)),
        ("segment:4", .online(.segment(tokens: 4))),
    ])
    func policiesOfReplayAreReadAsWritten(text: String, policy: ReplayPolicy) throws {
        #expect(try ReplayPolicy(text) == policy)
        #expect(try ReplayPolicy(policy.description) == policy)
    }

    @Test func textThatIsNoPolicyOfReplayNamesAllOfThem() {
        for text in ["best", "sch", "sch0", "sch1.5", "sch-1"] {
            let error = #expect(throws: EvictionPolicyError.self) { try ReplayPolicy(text) }
            #expect(error?.description.contains("sch16") == true)
        }
        #expect(throws: EvictionPolicyError.self) {
            try ReplayPredictor("oracle:0", expertsPerToken: 2)
        }
    }
}

/// The figures that others published for these traces, and the hit rates that a device recorded.
@Suite(.enabled(if: SharedTraces.areHere, "\(SharedTraces.absence)")) struct RecordedTraceTests {

    /// Hit rates of decoded tokens, the cache counted in experts and warm from the prompt, computed
    /// token by token; at 1x as published, where a miss could evict what the same token uses.
    @Test(arguments: [
        ("qwen.route.csv", 0.277, [0.48, 0.720, 0.865, 0.930], [0.56, 0.741, 0.853, 0.919], 0.74),
        (
            "gemma.route.csv", 0.256, [0.48, 0.709, 0.828, 0.918], [0.57, 0.748, 0.842, 0.909], 0.73
        ),
        ("trace_olmoe_299.jsonl", 0.319, [0.57, 0.785, 0.936, 0.975], [0.60, 0.806, 0.934], 0.77),
    ])
    func publishedHitRatesAreReproduced(
        name: String, once: Double, lru: [Double], lfu: [Double], belady: Double
    ) throws {
        let trace = try RoutingTrace(path: SharedTraces.path(name))
        func rate(_ size: Double, _ policy: ReplayPolicy, perLayer: Bool, own: Bool) throws
            -> Double
        {
            var settings = ReplaySettings(
                capacity: try ReplaySettings.capacity(
                    .multiple(size), for: trace.shape, inBytes: false), policy: policy)
            settings.perLayer = perLayer
            settings.evictsOwn = own
            return try CacheReplay.run(trace, settings).hitRate
        }
        let atOne = try rate(1, .online(.lru), perLayer: false, own: true)
        #expect(abs(atOne - once) <= 0.001)
        for (size, published) in zip([2.0, 4, 6, 8], lru) {
            // A debug build takes seconds for each of the larger caches of the larger models.
            if size > 4, trace.shape.layerCount > 16 { continue }
            let measured = try rate(size, .online(.lru), perLayer: false, own: false)
            #expect(abs(measured - published) <= 0.005, "LRU at \(size)x: \(measured)")
        }
        for (size, published) in zip([2.0, 4, 6, 8], lfu) {
            let measured = try rate(
                size, .online(.lfu(halfLife: nil)), perLayer: true, own: false)
            #expect(abs(measured - published) <= 0.005, "LFU at \(size)x: \(measured)")
        }
        let bound = try rate(2, .belady, perLayer: false, own: false)
        #expect(abs(bound - belady) <= 0.01, "Belady at 2x: \(bound)")
    }

    @Test(arguments: [("qwen.route.csv", 74.9), ("gemma.route.csv", 76.8)])
    func hitRatesRecordedOnADeviceAreReproduced(name: String, percent: Double) throws {
        let trace = try RoutingTrace(path: SharedTraces.path(name))
        var settings = ReplaySettings(capacity: .bytes(4000 << 20), policy: .online(.lru))
        settings.prefill = .together
        settings.countsPrefill = true
        settings.evictsAfterwards = true
        let result = try CacheReplay.run(trace, settings)
        #expect(abs(result.hitRate * 100 - percent) < 0.05)
    }
}
