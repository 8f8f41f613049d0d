import CAllocationCounter
import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Inference

/// Whatever decides when an expert is read, from what and by which way: with the miss policy
/// `exact` no logit differs by a bit from those of the GGUF file with all experts in memory.
@Suite struct ExactnessMatrixTests {
    enum Guesses: CaseIterable {
        case none, nextGate1, nextGate2, nextGate3, path, learned

        func predictor(_ model: ModelDescription) throws -> Predictor {
            switch self {
            case .none: .none
            case .nextGate1: .nextGate(layers: 1)
            case .nextGate2: .nextGate(layers: 2)
            case .nextGate3: .nextGate(layers: 3)
            case .path: try .somePaths(model)
            case .learned: try .someGates(model)
            }
        }
    }

    enum Cache: CaseIterable {
        /// As little as an engine runs with: less than the experts one token uses.
        case floor
        case once, twice, all

        var size: CacheSize {
            switch self {
            case .floor: .multiple(0.1)
            case .once: .multiple(1)
            case .twice: .multiple(2)
            case .all: .percent(100)
            }
        }
    }

    struct Setting {
        var policy: EvictionPolicy
        var guesses: Guesses
        var io: IOMode
        var cache: Cache
        var threads: Int
    }

    /// Every policy with every predictor; ways of reading and cache sizes in turn, so that over
    /// all packagings any two values of any two columns meet.
    static func settings(_ packaging: Packaging) -> [Setting] {
        let k = Packaging.allCases.firstIndex(of: packaging)!
        return EvictionPolicy.all.enumerated().flatMap { p, policy in
            Guesses.allCases.enumerated().map { g, guesses in
                Setting(
                    policy: policy, guesses: guesses, io: IOMode.allCases[(p + g + k) % 3],
                    cache: Cache.allCases[(p + 3 * g + k + g / 2) % 4], threads: 1 + (p + k) % 2)
            }
        }
    }

    @Test func anyTwoValuesMeet() {
        var met: Set<[Int]> = []
        for (k, packaging) in Packaging.allCases.enumerated() {
            for setting in Self.settings(packaging) {
                let row = [
                    EvictionPolicy.all.firstIndex(of: setting.policy)!,
                    Guesses.allCases.firstIndex(of: setting.guesses)!, k,
                    IOMode.allCases.firstIndex(of: setting.io)!,
                    Cache.allCases.firstIndex(of: setting.cache)!,
                ]
                for one in row.indices {
                    for other in 0..<one { met.insert([one, row[one], other, row[other]]) }
                }
            }
        }
        let sizes = [
            EvictionPolicy.all.count, Guesses.allCases.count, Packaging.allCases.count,
            IOMode.allCases.count, Cache.allCases.count,
        ]
        var pairs = 0
        for one in sizes.indices {
            for other in 0..<one { pairs += sizes[one] * sizes[other] }
        }
        #expect(met.count == pairs)
    }

    @Test(arguments: Packaging.allCases, ["qwen3moe-q8_0", "qwen3moe-k-quants"])
    func exactIsExact(packaging: Packaging, name: String) throws {
        let ids = try Fixture.ids(name)
        let expected = try Fixture.compute(name, ids) { $0.cache = .percent(100) }
            .map(\.bitPattern)
        let packed = try PackedModel(name, packaging)
        let model = try packed.description()
        let predictors = try Guesses.allCases.map { try $0.predictor(model) }
        var refused: Set<IOMode> = []
        /// What was read ahead with each cache, and what of it was asked for.
        var issued: [Cache: UInt64] = [:]
        var met: UInt64 = 0
        // A sanitizer, which is much slower, looks for races, not for bits: a part will do.
        let step = allocation_counter_works() != 0 ? 1 : 5
        let settings = Self.settings(packaging)
        for index in stride(from: 0, to: settings.count, by: step) {
            let setting = settings[index]
            // There is nothing to guess in the only layer of a model.
            if refused.contains(setting.io) || model.layerCount == 1 && setting.guesses != .none {
                continue
            }
            var engine: Engine
            do {
                engine = try packed.engine {
                    $0.policy = setting.policy
                    $0.predictor = predictors[Guesses.allCases.firstIndex(of: setting.guesses)!]
                    $0.prefetchRanks = setting.guesses == .none ? 0 : 3
                    $0.io = setting.io
                    $0.cache = setting.cache.size
                    $0.threads = setting.threads
                    $0.chunk = 5
                }
            } catch let error as StreamingError where error.kind == .modeRefused {
                print("skipped \(setting.io) of \(name) as \(packaging.rawValue): \(error)")
                refused.insert(setting.io)
                continue
            }
            if setting.cache == .floor, model.layerCount > 1 {
                let needs = engine.plan.streaming.needs
                #expect(engine.cacheBytes == needs.floorBytes)
                #expect(engine.cacheBytes < needs.activeSetBytes)
            }
            let vocabulary = engine.vocabularyCount
            try engine.prefill(Array(ids[..<7]), from: 0)
            for position in 7..<ids.count {
                try engine.decode(ids[position], at: position)
                let row = expected[(position * vocabulary)..<((position + 1) * vocabulary)]
                guard unsafe engine.logits.lazy.map(\.bitPattern).elementsEqual(row) else {
                    Issue.record("\(setting): other bits after token \(position)")
                    break
                }
            }
            let streaming = engine.statistics.streaming
            issued[setting.cache, default: 0] += streaming.prefetchIssued
            met += streaming.prefetchUseful + streaming.prefetchLate
            if setting.guesses == .none { #expect(streaming.prefetchIssued == 0) }
        }
        #expect(!refused.contains(.pread))
        guard model.layerCount > 1 else { return }
        // Without these there was no race to be lost.
        #expect(met > 0)
        for cache in [Cache.once, .twice] { #expect(issued[cache, default: 0] > 0, "\(cache)") }
    }
}
