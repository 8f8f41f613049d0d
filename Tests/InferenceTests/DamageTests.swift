import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Inference

/// A bit of an expert that flipped on disk costs the requests that need it, and no others.
@Suite struct DamageTests {
    private static let name = "qwen3moe-q8_0"

    /// A text whose first use of an expert is known, and one that does without that expert.
    private struct Case {
        var text: [Int32]
        var other: [Int32]
        var layer: Int
        var expert: Int
        /// Position in `text` of the first token that is routed to the expert.
        var position: Int
    }

    /// By layer, the experts of each token of a text.
    private static func choices(_ ids: [Int32]) throws -> [[[Int32]]] {
        let packed = try PackedModel(name, .gguf)
        var engine = try packed.engine()
        let k = engine.model.expertsPerToken
        var found = [[[Int32]]](repeating: [], count: engine.model.layerCount)
        engine.observe { layer in
            found[layer.layer].append(
                unsafe Array(UnsafeBufferPointer(start: layer.chosen, count: k)))
        }
        for (position, id) in ids.enumerated() { try engine.decode(id, at: position) }
        return found
    }

    private static func findCase() throws -> Case {
        let ids = try Fixture.ids(name)
        let (text, other) = (Array(ids[..<10]), Array(ids[17..<20]))
        let (ours, theirs) = (try choices(text), try choices(other))
        var best: Case?
        for layer in ours.indices {
            let used = Set(theirs[layer].joined())
            for (position, chosen) in ours[layer].enumerated() {
                for expert in chosen where !used.contains(expert) {
                    let first = ours[layer].firstIndex { $0.contains(expert) }!
                    if first == position, position > best?.position ?? 0 {
                        best = Case(
                            text: text, other: other, layer: layer, expert: Int(expert),
                            position: position)
                    }
                }
            }
        }
        return try #require(best, "both texts use the same experts")
    }

    /// Decodes `ids` from position `first` on; the bits of the logits, up to an error.
    private static func decode(
        _ ids: [Int32], from first: Int = 0, _ engine: inout Engine
    ) -> (bits: [UInt32], failure: StreamingError?, position: Int) {
        var bits: [UInt32] = []
        for position in first..<ids.count {
            do {
                try engine.decode(ids[position], at: position)
            } catch {
                return (bits, error, position)
            }
            bits += unsafe engine.logits.map(\.bitPattern)
        }
        return (bits, nil, ids.count)
    }

    @Test(arguments: Packaging.packages, IOMode.allCases)
    func aDamagedPlaneFailsTheRequestsThatNeedItAndNoOthers(
        packaging: Packaging, mode: IOMode
    ) throws {
        let damage = try Self.findCase()
        let expected = try Fixture.compute(Self.name, damage.text).map(\.bitPattern)
        let others = try Fixture.compute(Self.name, damage.other).map(\.bitPattern)
        let packed = try PackedModel(Self.name, packaging)
        let model = try packed.description()
        for plane in 0..<model.planesPerExpert {
            let extent = model.extent(
                layer: damage.layer, expert: damage.expert, plane: plane, part: 0)
            // The coarse version that stands beside the full one is not read where all is exact.
            let isNeeded = model.planesNest || plane == model.planesPerExpert - 1
            for ahead in [0, 4] {
                try packed.flip(at: extent.offset + UInt64(extent.byteCount / 2))
                var engine: Engine
                do {
                    engine = try packed.engine {
                        $0.io = mode
                        $0.cache = .multiple(1)
                        $0.predictor = ahead > 0 ? .nextGate(layers: 1) : .none
                        $0.prefetchRanks = ahead
                    }
                } catch let error as StreamingError where error.kind == .modeRefused {
                    print("skipped \(mode) of a damaged package: \(error)")
                    return
                }
                let vocabulary = engine.vocabularyCount
                let first = Self.decode(damage.text, &engine)
                if !isNeeded {
                    #expect(first.failure == nil && first.bits == expected)
                    try packed.flip(at: extent.offset + UInt64(extent.byteCount / 2))
                    continue
                }
                #expect(first.failure?.kind == .damagedRecord)
                #expect(first.position == damage.position)
                #expect(first.bits == Array(expected[..<(damage.position * vocabulary)]))
                let text = first.failure?.description ?? ""
                let name =
                    (model.planesPerExpert > 1 ? "plane \(plane) of " : "")
                    + "expert \(damage.expert) of MoE layer \(damage.layer)"
                #expect(text.hasPrefix("\(packed.path): \(name): its "), "\(text)")
                #expect(text.contains("read twice"))
                #expect(engine.statistics.streaming.rereads > 0)

                let other = Self.decode(damage.other, &engine)
                #expect(other.failure == nil && other.bits == others, "plane \(plane)")
                let prompt = #expect(throws: StreamingError.self) {
                    try engine.prefill(damage.text, from: 0)
                }
                #expect(prompt == first.failure)
                try engine.prefill(damage.other, from: 0)
                #expect(
                    unsafe engine.logits.map(\.bitPattern) == Array(others.suffix(vocabulary)))

                // The request can go on where it failed, once the byte is right again.
                let again = Self.decode(damage.text, &engine)
                #expect(again.failure == first.failure && again.position == damage.position)
                try packed.flip(at: extent.offset + UInt64(extent.byteCount / 2))
                let rest = Self.decode(damage.text, from: damage.position, &engine)
                #expect(rest.failure == nil)
                #expect(rest.bits == Array(expected[(damage.position * vocabulary)...]))
            }
        }
    }

    /// One of two sequences computed together fails with the other: a step is one request. The step
    /// can be computed again without the sequence that asks for what is damaged.
    @Test func aSequenceGoesOnWithoutTheOneThatFailed() throws {
        let damage = try Self.findCase()
        let others = try Fixture.compute(Self.name, damage.other).map(\.bitPattern)
        let packed = try PackedModel(Self.name, .twoTwo)
        let model = try packed.description()
        let extent = model.extent(layer: damage.layer, expert: damage.expert, plane: 1, part: 2)
        try packed.flip(at: extent.offset)
        var engine = try packed.engine {
            $0.cache = .multiple(1)
            $0.sequences = 2
        }
        let vocabulary = engine.vocabularyCount
        try engine.prefill(Array(damage.text[..<damage.position]), from: 0, sequence: 1)
        for position in damage.other.indices {
            let mine = DecodeStep(sequence: 0, id: damage.other[position], position: position)
            let steps = [
                mine,
                DecodeStep(
                    sequence: 1, id: damage.text[damage.position], position: damage.position),
            ]
            let error = #expect(throws: StreamingError.self) { try engine.decode(steps.span) }
            #expect(error?.kind == .damagedRecord)
            try engine.decode([mine].span)
            let row = others[(position * vocabulary)..<((position + 1) * vocabulary)]
            #expect(unsafe engine.logits(step: 0).map(\.bitPattern) == Array(row))
        }
    }
}
