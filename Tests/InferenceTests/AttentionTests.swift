import CAllocationCounter
import CKernels
import Glibc
import ModelFormats
import Testing

@testable import Inference

/// Attention over several spans. The fixtures say that they are for 256 positions, so they are
/// copied with another length of context: their answers mean nothing, but have to be the same.
@Suite struct AttentionTests {
    /// A fixture for up to 1024 positions, removed at the end.
    private final class LongModel {
        let description: ModelDescription
        private let path: String

        init(_ name: String) throws {
            var bytes = try Self.bytes(Fixture.path(name + ".gguf"))
            let key = Array(".context_length".utf8)
            let place = try #require(
                bytes.indices.first { bytes[$0...].starts(with: key) }, "\(name) has no length")
            // After the key: the type of the value, then the value, 4 bytes each.
            let value = place + key.count + 4
            try #require(bytes[value..<(value + 4)] == [0, 1, 0, 0])
            bytes[value + 1] = 4
            var template = Array("/tmp/sluice-long-XXXXXX".utf8CString)
            let descriptor = unsafe mkstemp(&template)
            try #require(descriptor >= 0)
            path = unsafe template.withUnsafeBufferPointer {
                unsafe String(cString: $0.baseAddress!)
            }
            let written = unsafe bytes.withUnsafeBytes {
                unsafe write(descriptor, $0.baseAddress!, $0.count)
            }
            close(descriptor)
            try #require(written == bytes.count)
            description = try ModelDescription(file: GGUFFile(path: path))
        }

        deinit { unsafe unlink(path) }

        private static func bytes(_ path: String) throws -> [UInt8] {
            let file = try unsafe #require(unsafe fopen(path, "rb"), "\(path) is missing")
            defer { unsafe fclose(file) }
            var bytes = [UInt8](repeating: 0, count: 1 << 21)
            let count = unsafe fread(&bytes, 1, bytes.count, file)
            return Array(bytes[..<count])
        }

        func engine(_ change: (inout EngineOptions) -> Void) throws -> Engine {
            var options = EngineOptions()
            options.memoryBytes = 512 << 20
            options.context = 640
            options.threads = 1
            change(&options)
            return try Engine(
                model: description, options: options,
                plan: MemoryPlan(model: description, options: options))
        }

        func ids(_ count: Int) -> [Int32] {
            (0..<count).map { Int32(($0 * $0 * 7 + $0 * 13 + 5) % description.vocabularyCount) }
        }
    }

    /// A model with one, two and three heads to a key-value head, by kind of cache.
    enum Setup: CaseIterable {
        case halves1, halves2, halves3, floats3, quants2

        var name: String {
            switch self {
            case .halves1: "olmoe-f16"
            case .halves2, .quants2: "qwen3moe-bf16"
            case .halves3, .floats3: "qwen3moe-f32"
            }
        }

        func apply(to options: inout EngineOptions) {
            if self == .floats3 { options.arithmetic = .f32 }
            if self == .quants2 { options.keyValues = .q8_0 }
        }
    }

    private static func rows(_ engine: inout Engine, _ ids: [Int32]) throws -> [[UInt32]] {
        var rows: [[UInt32]] = []
        try unsafe engine.everyLogit(of: ids) { row in rows.append(unsafe row.map(\.bitPattern)) }
        return rows
    }

    /// Whole tiles and parts of them, spans that end within a tile, one worker and several; token by
    /// token in the end.
    @Test(arguments: Setup.allCases)
    func answersDoNotDependOnChunksAndThreads(setup: Setup) throws {
        let model = try LongModel(setup.name)
        let ids = model.ids(524)
        var whole = try model.engine {
            setup.apply(to: &$0)
            $0.chunk = 524
        }
        let expected = try Self.rows(&whole, ids)
        for (threads, chunk) in [(1, 1), (2, 7), (3, 128)] {
            var engine = try model.engine {
                setup.apply(to: &$0)
                $0.threads = threads
                $0.chunk = chunk
            }
            let found = try Self.rows(&engine, Array(ids[..<514]))
            let wrong = found.indices.first { found[$0] != expected[$0] }
            #expect(wrong == nil, "\(threads) threads, chunks of \(chunk)")
            for position in 508..<524 {
                try engine.decode(ids[position], at: position)
                #expect(
                    unsafe engine.logits.map(\.bitPattern) == expected[position],
                    "\(threads) threads, position \(position)")
            }
        }
    }

    /// Sequences of one, two and three spans step together, over the border of a span; with more of
    /// them than there is room for partial results, too.
    @Test(arguments: Setup.allCases)
    func aSequenceIsAnsweredAlikeAmongOthersOfAnyLength(setup: Setup) throws {
        let model = try LongModel(setup.name)
        let ids = model.ids(524)
        var alone = try model.engine { setup.apply(to: &$0) }
        let expected = try Self.rows(&alone, ids)
        for lengths in [[250, 3], [509, 254, 30], [516, 516, 515, 514, 510, 100]] {
            var engine = try model.engine {
                setup.apply(to: &$0)
                $0.threads = 3
                $0.sequences = lengths.count
            }
            for (sequence, length) in lengths.enumerated() {
                try engine.prefill(Array(ids[..<length]), from: 0, sequence: sequence)
            }
            for turn in 0..<8 {
                let steps = lengths.enumerated().map {
                    DecodeStep(sequence: $0, id: ids[$1 + turn], position: $1 + turn)
                }
                try engine.decode(steps.span)
                for step in steps.indices {
                    #expect(
                        unsafe engine.logits(step: step).map(\.bitPattern)
                            == expected[steps[step].position],
                        "position \(steps[step].position) of \(lengths)")
                }
            }
        }
    }

    /// The last layer's attention after a chunk and after a token, against softmax(q . K / sqrt(head
    /// size)) V of the queries, keys and values that the engine has then, in double precision.
    @Test(
        .enabled(
            if: thread_sanitizer_watches() == 0,
            "nearly all of it is the definition, on one thread"),
        arguments: [Setup.halves1, .halves2, .halves3, .floats3])
    func resultsAreThoseOfTheDefinition(setup: Setup) throws {
        let model = try LongModel(setup.name)
        var engine = try model.engine {
            setup.apply(to: &$0)
            $0.threads = 2
            $0.chunk = 40
        }
        for count in [1, 255, 256, 530] {
            try engine.prefill(model.ids(count), from: 0)
            let chunk = unsafe Self.worstDifference(engine.state.pointee)
            #expect(chunk < 2e-6, "\(count) positions")
            try engine.decode(3, at: count)
            let token = unsafe Self.worstDifference(engine.state.pointee)
            #expect(token < 2e-6, "position \(count)")
        }
    }

    private static func worstDifference(_ state: EngineState) -> Double {
        let (size, heads) = unsafe (state.headSize, state.headCount)
        let halves = unsafe state.keyRowBytes == size * 2
        func row(_ cache: UnsafeMutableRawPointer, _ head: Int, _ position: Int) -> [Double] {
            let row = unsafe state.cacheRow(sequence: 0, layer: state.layer, head: head)
            let place = unsafe cache + (row + position) * state.keyRowBytes
            return (0..<size).map { i in
                guard halves else {
                    return unsafe Double(place.load(fromByteOffset: i * 4, as: Float.self))
                }
                let bits = unsafe [place.load(fromByteOffset: i * 2, as: UInt16.self)]
                var wide: Float = 0
                unsafe state.kernels.table.pointee.from_f16(bits, 1, &wide)
                return Double(wide)
            }
        }
        var worst = 0.0
        for token in unsafe 0..<state.tokens {
            let positions = unsafe Int(state.positions[token]) + 1
            for head in 0..<heads {
                let keyHead = unsafe head / (heads / state.keyValueHeadCount)
                let task = token * heads + head
                let query = (0..<size).map { unsafe Double(state.query[task * size + $0]) }
                let scores = (0..<positions).map { position in
                    zip(query, unsafe row(state.keyCache, keyHead, position))
                        .reduce(0) { $0 + $1.0 * $1.1 } / Double(size).squareRoot()
                }
                let weights = scores.map { exp($0 - scores.max()!) }
                var answer = [Double](repeating: 0, count: size)
                for position in 0..<positions {
                    let value = unsafe row(state.valueCache, keyHead, position)
                    for i in 0..<size { answer[i] += weights[position] * value[i] }
                }
                let sum = weights.reduce(0, +)
                for i in 0..<size {
                    let found = unsafe Double(state.mixed.floats[task * size + i])
                    worst = max(worst, abs(found - answer[i] / sum))
                }
            }
        }
        return worst
    }

    /// The int8 cache moves these random models' logits by 2 % of their size.
    @Test func quantisedKeysAndValuesAnswerNearlyAlike() throws {
        let model = try LongModel("qwen3moe-bf16")
        let ids = model.ids(400)
        func logits(_ format: KeyValueFormat) throws -> [Float] {
            var engine = try model.engine { $0.keyValues = format }
            var all: [Float] = []
            try unsafe engine.everyLogit(of: ids) { row in all += unsafe Array(row) }
            return all
        }
        let (exact, coarse) = (try logits(.f16), try logits(.q8_0))
        func power(_ x: some Sequence<Float>) -> Double {
            x.reduce(0) { $0 + Double($1) * Double($1) }
        }
        let error = power(zip(exact, coarse).lazy.map { $0 - $1 }) / power(exact)
        #expect(error > 0 && error < 1e-3, "\(error)")
    }

    @Test func aCopyOfQuantisedPositionsIsWhole() throws {
        let model = try LongModel("qwen3moe-bf16")
        let ids = model.ids(300)
        var engine = try model.engine {
            $0.keyValues = .q8_0
            $0.sequences = 2
        }
        try engine.prefill(ids, from: 0)
        try engine.decode(7, at: 300)
        let expected = unsafe engine.logits.map(\.bitPattern)
        engine.copySequence(from: 0, to: 1, count: 300)
        let step = [DecodeStep(sequence: 1, id: 7, position: 300)]
        try engine.decode(step.span)
        #expect(unsafe engine.logits.map(\.bitPattern) == expected)
    }

    @Test func headsThatBlocksDoNotFitAreRefused() throws {
        let model = try LongModel("olmoe-f16")
        let error = try #require(
            throws: EngineError.self,
            performing: { _ = try model.engine { $0.keyValues = .q8_0 } })
        #expect(error.description.contains("--kv q8_0") && error.description.contains("--kv f16"))
        #expect(error.description.contains("16 elements"))
        // Floats are kept under f32 whatever is asked for.
        _ = try model.engine {
            $0.keyValues = .q8_0
            $0.arithmetic = .f32
        }
    }

    @Test func quantsTakeAboutHalfTheMemory() throws {
        let model = try LongModel("qwen3moe-bf16")
        func bytes(_ format: KeyValueFormat) throws -> Int {
            var options = EngineOptions()
            options.memoryBytes = 512 << 20
            options.keyValues = format
            return try MemoryPlan(model: model.description, options: options).keyValueBytes
        }
        let (coarse, exact) = (try bytes(.q8_0), try bytes(.f16))
        #expect(coarse * 32 == exact * 17)
    }

    /// Whatever the tasks cost, each is one worker's, and no worker has more than its share and
    /// half a task.
    @Test func dealingIsCompleteAndEven() {
        var random = Seeded()
        for workers in 1...5 {
            for count in [1, 2, 7, 64] {
                let costs = (0..<count).map { _ in Int(random.next() % 256) + 1 }
                let total = costs.reduce(0, +)
                var takers = [Int](repeating: 0, count: count)
                for worker in 0..<workers {
                    var deal = Deal(total: total, to: worker, of: workers)
                    var own = 0
                    for (task, cost) in costs.enumerated() where deal.takes(cost) {
                        takers[task] += 1
                        own += cost
                    }
                    #expect(own <= total / workers + costs.max()! + 1)
                }
                #expect(takers.allSatisfy { $0 == 1 }, "\(workers) workers, \(costs)")
            }
        }
    }

    private struct Seeded {
        private var state: UInt64 = 1

        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state >> 33
        }
    }
}
