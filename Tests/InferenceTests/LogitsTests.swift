import Glibc
import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Inference

@Suite struct LogitsTests {
    /// Largest difference over the range of the reference.
    private func relativeDifference(_ ours: [Float], _ reference: [Float]) -> Float {
        let range = reference.max()! - reference.min()!
        return zip(ours, reference).map { abs($0 - $1) }.max()! / range
    }

    /// Mean over positions of KL(reference || ours), nats.
    private func divergence(_ ours: [Float], _ reference: [Float], vocabulary: Int) -> Double {
        func logSoftmax(_ row: ArraySlice<Float>) -> [Double] {
            let largest = Double(row.max()!)
            let sum = row.reduce(0.0) { $0 + exp(Double($1) - largest) }
            return row.map { Double($0) - largest - log(sum) }
        }
        var total = 0.0
        for start in stride(from: 0, to: ours.count, by: vocabulary) {
            let p = logSoftmax(reference[start..<(start + vocabulary)])
            let q = logSoftmax(ours[start..<(start + vocabulary)])
            total += zip(p, q).reduce(0) { $0 + exp($1.0) * ($1.0 - $1.1) }
        }
        return total / Double(ours.count / vocabulary)
    }

    @Test(arguments: Fixture.names)
    func floatArithmeticGivesTheLogitsOfTransformers(name: String) throws {
        let ours = try Fixture.compute(name, Fixture.ids(name)) { $0.arithmetic = .f32 }
        let reference = try Fixture.logits(name)
        #expect(ours.count == reference.count)
        #expect(relativeDifference(ours, reference) < 1e-5)
    }

    /// Random weights with peaked attention amplify the rounding of activations far more than a
    /// trained model's do: the bound here is looser than the 1e-3 that trained models are held to.
    @Test(arguments: Fixture.names)
    func int8ArithmeticStaysNearTransformers(name: String) throws {
        let ours = try Fixture.compute(name, Fixture.ids(name))
        let reference = try Fixture.logits(name)
        let vocabulary = try Fixture.model(name).vocabularyCount
        #expect(divergence(ours, reference, vocabulary: vocabulary) < 5e-3)
        #expect(relativeDifference(ours, reference) < 0.03)
    }

    /// What must never change an answer, each against the plainest run of the same arithmetic.
    @Test(arguments: Fixture.names, Arithmetic.allCases)
    func cacheThreadsChunksAndReadersChangeNoBit(name: String, arithmetic: Arithmetic) throws {
        let ids = try Fixture.ids(name)
        func run(_ change: (inout EngineOptions) -> Void) throws -> [UInt32] {
            try Fixture.compute(name, ids) {
                $0.arithmetic = arithmetic
                change(&$0)
            }.map(\.bitPattern)
        }
        let plain = try run { $0.cache = .percent(100) }
        for cache in ["1x", "2x", "50%", "100%", "auto"] {
            for threads in [1, 2, 3] {
                let found = try run {
                    $0.cache = CacheSize(cache)!
                    $0.threads = threads
                }
                #expect(found == plain, "cache \(cache), \(threads) threads")
            }
        }
        for chunk in [1, 2, 7, 64] {
            let found = try run {
                $0.chunk = chunk
                $0.headRows = 3
                $0.cache = .multiple(1)
            }
            #expect(found == plain, "chunks of \(chunk)")
        }
        for io in [IOMode.direct, .buffered, .pread] {
            do {
                let found = try run {
                    $0.io = io
                    $0.cache = .multiple(1)
                }
                #expect(found == plain, "read by \(io)")
            } catch let error as StreamingError where error.kind == .modeRefused && io != .pread {
                print("skipped for \(io): \(error)")
            }
        }
    }

    @Test(arguments: Fixture.names)
    func everyInstructionSetGivesTheSameBits(name: String) throws {
        let ids = try Fixture.ids(name)
        let all = try InstructionSet.available.map { set in
            try Fixture.compute(name, ids) { $0.instructionSet = set }.map(\.bitPattern)
        }
        #expect(!all.isEmpty)
        for (set, bits) in zip(InstructionSet.available, all) {
            #expect(bits == all[0], "\(set) differs from \(InstructionSet.available[0])")
        }
    }

    @Test func decodingContinuesPrefill() throws {
        let name = "qwen3moe-k-quants"
        let ids = try Fixture.ids(name)
        let every = try Fixture.compute(name, ids)
        let model = try Fixture.model(name)
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.threads = 1
        let plan = try MemoryPlan(model: model, options: options)
        var engine = try Engine(model: model, options: options, plan: plan)
        try engine.prefill(Array(ids[..<10]), from: 0)
        for position in 10..<ids.count {
            let expected = every[
                ((position - 1) * model.vocabularyCount)..<(position * model.vocabularyCount)]
            #expect(unsafe engine.logits.elementsEqual(expected), "after token \(position - 1)")
            try engine.decode(ids[position], at: position)
        }
        // A second sequence in the same engine sees nothing of the first.
        try engine.prefill(ids, from: 0)
        #expect(unsafe engine.logits.elementsEqual(every.suffix(model.vocabularyCount)))
        #expect(engine.statistics.tokens == UInt64(2 * ids.count))
    }

    @Test func preloadingFillsTheCacheAndChangesNothing() throws {
        let name = "olmoe-f16"
        let ids = try Fixture.ids(name)
        let model = try Fixture.model(name)
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.threads = 1
        options.cache = .percent(100)
        let plan = try MemoryPlan(model: model, options: options)
        #expect(plan.streaming.holdsEverything)
        var engine = try Engine(model: model, options: options, plan: plan)
        var shown: [Double] = []
        try engine.preload { shown.append($0) }
        #expect(shown.last == 1)
        let afterLoading = engine.statistics
        try engine.prefill(ids, from: 0)
        let prefill = engine.statistics - afterLoading
        #expect(prefill.streaming.misses == 0 && prefill.streaming.hits > 0)
        let expected = try Fixture.compute(name, ids).suffix(model.vocabularyCount)
        #expect(unsafe engine.logits.elementsEqual(expected))
    }
}
