import Testing

@testable import ExpertStreaming
@testable import Inference

@Suite struct WarmingTests {
    /// An engine that caches one active set.
    private static func engine(
        _ name: String, _ change: (inout EngineOptions) -> Void = { _ in }
    ) throws -> Engine {
        try Fixture.engine(name) {
            $0.cache = .multiple(1)
            // By recency, the cache holds what was warmed last, whatever was used before.
            $0.policy = .lru
            change(&$0)
        }
    }

    private static func resident(_ engine: borrowing Engine) -> Set<LayerExpert> {
        var found: Set<LayerExpert> = []
        for layer in 0..<engine.model.layerCount {
            for expert in 0..<engine.model.expertCount
            where engine.streamer.residentPlanes(layer: layer, expert: expert) > 0 {
                found.insert(LayerExpert(layer: layer, expert: expert))
            }
        }
        return found
    }

    @Test func useIsGateWeightHalvedByDistance() {
        var use = PromptUse(layerCount: 2, expertCount: 3)
        func add(_ layer: Int, _ chosen: [Int32], _ weights: [Float]) {
            unsafe chosen.withUnsafeBufferPointer { chosen in
                unsafe weights.withUnsafeBufferPointer { weights in
                    unsafe use.add(
                        layer: layer, tokens: weights.count / 2, chosen: chosen, weights: weights)
                }
            }
        }
        // Expert 0 has 0.6 at the beginning; 128 tokens later 0.3 is left, and 1 has 0.4.
        add(0, [0, 2], [0.6, 0])
        for _ in 0..<127 { add(0, [2, 0], [0, 0]) }
        add(0, [1, 0], [0.4, 0])
        add(1, [2, 0, 2, 1], [0.35, 0.01, 0, 0])
        #expect(
            use.ranking == [
                LayerExpert(layer: 0, expert: 1), LayerExpert(layer: 1, expert: 2),
                LayerExpert(layer: 0, expert: 0), LayerExpert(layer: 1, expert: 0),
            ])
        use.begin()
        #expect(use.ranking.isEmpty)
    }

    @Test func theCacheHoldsTheHeadOfTheList() throws {
        var engine = try Self.engine("qwen3moe-f32")
        let slots = engine.plan.streaming.slotCount
        #expect(slots == 6 && engine.plan.streaming.classes.count == 1)
        let list = [(1, 4), (0, 2), (1, 0), (1, 1), (1, 2), (0, 7), (0, 0), (1, 7)].map {
            LayerExpert(layer: $0, expert: $1)
        }
        try engine.warm(list)
        #expect(Self.resident(engine) == Set(list[..<slots]))
        #expect(engine.statistics.streaming.misses == UInt64(slots))
        // What is here is not read again, whatever else has to be.
        try engine.warm(list)
        #expect(engine.statistics.streaming.misses == UInt64(slots))
        let other = Array(list[4...]) + list[..<4]
        try engine.warm(other)
        #expect(Self.resident(engine) == Set(other[..<slots]))
        #expect(engine.statistics.streaming.misses == UInt64(slots + 2))
        // The tail leaves first: the last two of the six.
        try engine.warm([LayerExpert(layer: 0, expert: 4), LayerExpert(layer: 0, expert: 5)])
        #expect(Set(other[..<4]).isSubset(of: Self.resident(engine)))
        try engine.warm([])
    }

    /// The prompt's own use decides, not what prefill happened to leave; and no logit changes.
    @Test(arguments: Fixture.names)
    func thePromptFillsTheCache(name: String) throws {
        let ids = try Fixture.ids(name)
        func run(_ warmUp: WarmUp) throws -> ([UInt32], Set<LayerExpert>, [LayerExpert]) {
            var engine = try Self.engine(name) {
                $0.warmUp = warmUp
                $0.chunk = 5
            }
            try engine.prefill(Array(ids[..<12]), from: 0)
            let here = Self.resident(engine)
            let ranking = engine.promptUse?.ranking ?? []
            var bits = unsafe engine.logits.map(\.bitPattern)
            for position in 12..<ids.count {
                try engine.decode(ids[position], at: position)
                bits += unsafe engine.logits.map(\.bitPattern)
            }
            return (bits, here, ranking)
        }
        let (plain, _, none) = try run(.none)
        let (warm, here, ranking) = try run(.prompt)
        #expect(none.isEmpty)
        #expect(warm == plain)
        let engine = try Self.engine(name)
        var left = engine.plan.streaming.classes.map(\.slotCount)
        for name in ranking {
            let index = engine.plan.streaming.classOfLayer[name.layer]
            left[index] -= 1
            if left[index] >= 0 { #expect(here.contains(name)) }
        }
    }
}
