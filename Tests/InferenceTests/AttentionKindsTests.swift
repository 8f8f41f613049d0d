import CAllocationCounter
import ExpertStreaming
import Glibc
import ModelFormats
import Testing

@testable import Inference

/// Every kind of attention, in models that are drawn for it.
@Suite struct AttentionKindsTests {
    /// How latents are brought up, and back.
    static let latents: [(DrawnModel.Kind, BlockFormat)] = [
        (.latent, .f32), (.latent, .f16), (.latent, .q8_0), (.joinedLatent, .f32),
        (.joinedLatent, .f16), (.joinedLatent, .bf16), (.joinedLatent, .q8_0),
        (.joinedLatent, .q4_0), (.latentOfManyHeads, .f32),
    ]
    static let all: [(DrawnModel.Kind, BlockFormat)] =
        DrawnModel.Kind.allCases.filter { !$0.isLatent }.map { ($0, .f32) } + latents

    /// What the only layer mixes, against softmax(scale x q . K) V of everything from the embedding
    /// on, in double precision, with keys and values of every head: over one span and two, in a
    /// chunk and for one token, before a window and in it.
    @Test(
        .enabled(
            if: thread_sanitizer_watches() == 0,
            "nearly all of it is the definition, on one thread"),
        arguments: all)
    func resultsAreThoseOfTheDefinition(kind: DrawnModel.Kind, format: BlockFormat) throws {
        let model = try DrawnModel(kind, layers: 1, format: format)
        let counts = kind == .latentOfManyHeads ? [1, 256] : [1, 256, 400]
        let ids = model.ids(counts.last! + 1)
        let expected = MixedByDefinition(model, ids)
        for (arithmetic, limit) in [(Arithmetic.f32, 2e-5), (.int8, 0.02)] {
            var engine = try model.engine {
                $0.arithmetic = arithmetic
                $0.threads = 2
                $0.chunk = 24
            }
            for count in counts {
                func check(_ tokens: Range<Int>) {
                    let found = unsafe Self.mixed(engine.state.pointee)
                    let error = expected.worstDifference(found, tokens: tokens)
                    #expect(error < limit, "\(arithmetic), tokens \(tokens): \(error)")
                }
                try engine.prefill(Array(ids[..<count]), from: 0)
                check((count - 1) / 24 * 24..<count)
                try engine.decode(ids[count], at: count)
                check(count..<(count + 1))
            }
        }
    }

    private static func mixed(_ state: EngineState) -> [Double] {
        (0..<(unsafe state.tokens * state.mixed.length)).map {
            unsafe Double(state.mixed.floats[$0])
        }
    }

    /// Threads, chunks, several sequences at once, one token after the other, instruction sets.
    @Test(arguments: all.filter { $0.1 != .f16 && $0.1 != .q4_0 })
    func nothingThatMustNotChangesABit(kind: DrawnModel.Kind, format: BlockFormat) throws {
        let model = try DrawnModel(kind, layers: 2, format: format)
        let ids = model.ids(390)
        var whole = try model.engine { $0.chunk = 390 }
        var expected: [[UInt32]] = []
        try unsafe whole.everyLogit(of: ids) { row in
            expected.append(unsafe row.map(\.bitPattern))
        }
        #expect(expected[389].allSatisfy { Float(bitPattern: $0).isFinite })
        // Kernels know of no threads: to see what races, those of one instruction set will do.
        let sets = InstructionSet.available.prefix(thread_sanitizer_watches() == 0 ? .max : 1)
        for (index, set) in sets.enumerated() {
            let (threads, chunk, count) = [(3, 7, 380), (2, 128, 380), (1, 1, 270)][index % 3]
            var engine = try model.engine {
                $0.instructionSet = set
                $0.threads = threads
                $0.chunk = chunk
                $0.sequences = 3
            }
            var found: [[UInt32]] = []
            try unsafe engine.everyLogit(of: Array(ids[..<count])) { row in
                found.append(unsafe row.map(\.bitPattern))
            }
            let wrong = found.indices.first { found[$0] != expected[$0] }
            #expect(wrong == nil, "\(set), \(threads) threads, chunks of \(chunk)")
            // Sequences of several lengths step together.
            engine.copySequence(from: 0, to: 1, count: 254)
            engine.copySequence(from: 0, to: 2, count: 30)
            for turn in 0..<4 {
                let steps = [count, 254, 30].enumerated().map {
                    DecodeStep(sequence: $0, id: ids[$1 + turn], position: $1 + turn)
                }
                try engine.decode(steps.span)
                for step in steps.indices {
                    #expect(
                        unsafe engine.logits(step: step).map(\.bitPattern)
                            == expected[steps[step].position],
                        "\(set), position \(steps[step].position)")
                }
            }
        }
    }

    @Test(
        .enabled(
            if: allocation_counter_works() != 0, "a sanitizer owns malloc, nothing can be counted"),
        arguments: DrawnModel.Kind.allCases)
    func promptsAndTokensAllocateNothing(kind: DrawnModel.Kind) throws {
        let model = try DrawnModel(kind, layers: 2, format: .q8_0)
        let ids = model.ids(24)
        var engine = try model.engine {
            $0.chunk = 8
            $0.cache = .percent(100)
        }
        var before = 0
        // The language runtime makes its tables at first use.
        for _ in 0..<2 {
            before = Int(allocations_of_this_thread())
            try engine.prefill(ids, from: 0)
            for position in 24..<28 { try engine.decode(3, at: position) }
        }
        #expect(Int(allocations_of_this_thread()) == before)
    }

    /// A position beyond the window changes nothing, however far its values are from any other's.
    @Test func nothingBeforeTheWindowIsSeen() throws {
        let model = try DrawnModel(.sinks, layers: 1)
        let ids = model.ids(400)
        func answers(_ first: Int32, _ chunk: Int) throws -> [[UInt32]] {
            var engine = try model.engine { $0.chunk = chunk }
            var rows: [[UInt32]] = []
            try unsafe engine.everyLogit(of: [first] + ids) { row in
                rows.append(unsafe row.map(\.bitPattern))
            }
            return rows
        }
        let (one, other) = (try answers(1, 64), try answers(2, 33))
        for position in 1..<DrawnModel.window { #expect(one[position] != other[position]) }
        #expect(one[DrawnModel.window...] == other[DrawnModel.window...])
    }

    /// One row for each position of a layer serves all heads as key and value.
    @Test func latentsTakeHalfAsMuchAsKeysAndValues() throws {
        let model = try DrawnModel(.latent, layers: 2)
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 640
        let plan = try MemoryPlan(model: model.description, options: options)
        #expect(plan.keyValueBytes == 2 * 640 * (64 + 12) * 2)
        let engine = try model.engine()
        #expect(engine.bytesPerPosition == 2 * (64 + 12) * 2)
    }

    /// Rows of keys and values that differ in size, and rows that are both, survive being read and
    /// written.
    @Test(arguments: [DrawnModel.Kind.biased, .latent])
    func positionsAreWhole(kind: DrawnModel.Kind) throws {
        let model = try DrawnModel(kind, layers: 2)
        let ids = model.ids(301)
        var engine = try model.engine { $0.sequences = 2 }
        try engine.prefill(Array(ids[..<300]), from: 0)
        var bytes = [UInt8](repeating: 0, count: 300 * engine.bytesPerPosition)
        unsafe bytes.withUnsafeMutableBytes {
            unsafe engine.readPositions(0..<300, of: 0, into: $0)
        }
        try engine.decode(ids[300], at: 300)
        let expected = unsafe engine.logits.map(\.bitPattern)
        unsafe bytes.withUnsafeBytes { unsafe engine.writePositions(0..<300, of: 1, from: $0) }
        let step = [DecodeStep(sequence: 1, id: ids[300], position: 300)]
        try engine.decode(step.span)
        #expect(unsafe engine.logits.map(\.bitPattern) == expected)
    }

    @Test func gatesThatAreNoneOfTheResultsAreRefused() throws {
        let error = try #require(
            throws: ModelFileError.self,
            performing: { _ = try DrawnModel(.gated, layers: 1, valueSize: 20) })
        #expect(error.description.contains("qwen3next.attention.value_length"))
        #expect(error.description.contains("as many gates"))
    }

    /// Blocks of 32 have to fit the latent and the whole row.
    @Test func latentsThatBlocksDoNotFitAreRefused() throws {
        let model = try DrawnModel(.latent, layers: 1)
        let error = try #require(
            throws: EngineError.self, performing: { _ = try model.engine { $0.keyValues = .q8_0 } })
        #expect(error.description.contains("latents have 76 elements; give --kv f16"))
        let fitting = try DrawnModel(.latent, layers: 1, rank: 52)
        #expect(throws: EngineError.self) { _ = try fitting.engine { $0.keyValues = .q8_0 } }
    }
}

/// What the only layer of a drawn model mixes, by the formulas of the papers, in double precision:
/// keys and values of every head and position are made, nothing is taken apart or brought together.
private struct MixedByDefinition {
    private let model: DrawnModel
    private let inputs: [[Double]]  // (positions, embedding)
    private let keys: [[[Double]]]  // (heads, positions, key size)
    private let values: [[[Double]]]  // (heads, positions, value size)

    init(_ model: DrawnModel, _ ids: [Int32]) {
        self.model = model
        let multiplier = Double(model.description.multipliers.embedding)
        let inputs = ids.map { id in
            Self.norm(
                model.row("token_embd.weight", Int(id), DrawnModel.embedding).map {
                    $0 * multiplier
                }, "blk.0.attn_norm", model)
        }
        self.inputs = inputs
        let heads = model.description.headCount
        var keys = [[[Double]]](repeating: [], count: heads)
        var values = keys
        for (position, x) in inputs.enumerated() {
            switch model.description.layers[0].mixer {
            case .attention(let attention):
                let kinds = (
                    model.description.headSize, model.description.valueSize,
                    heads / model.description.keyValueHeadCount
                )
                let key = Self.project("attn_k", x, model)
                let value = Self.project("attn_v", x, model)
                for head in 0..<heads {
                    let from = head / kinds.2
                    var own = Array(key[(from * kinds.0)..<((from + 1) * kinds.0)])
                    own = Self.normed(own, "blk.0.attn_k_norm", model)
                    if attention.rotates { Self.turn(&own, 0, position, model) }
                    keys[head].append(own)
                    values[head].append(Array(value[(from * kinds.1)..<((from + 1) * kinds.1)]))
                }
            case .latent(let latent):
                let down = Self.project("attn_kv_a_mqa", x, model)
                let kept = Self.normed(
                    Array(down[..<latent.rank]), "blk.0.attn_kv_a_norm", model)
                var turned = Array(down[latent.rank...])
                Self.turn(&turned, 0, position, model)
                for head in 0..<heads {
                    let (key, value) = Self.up(kept, head, latent, model)
                    keys[head].append(key + turned)
                    values[head].append(value)
                }
            default: break
            }
        }
        (self.keys, self.values) = (keys, values)
    }

    /// Of `found`, (tokens, heads x value size), the largest difference over the largest value.
    func worstDifference(_ found: [Double], tokens: Range<Int>) -> Double {
        let expected = tokens.flatMap(mixed)
        #expect(expected.count == found.count)
        let worst = zip(expected, found).map { $1.isFinite ? abs($0 - $1) : .infinity }.max()!
        return worst / expected.map(abs).max()!
    }

    private func mixed(_ token: Int) -> [Double] {
        let description = model.description
        let heads = description.headCount
        let x = inputs[token]
        var (window, sinks, isGated): (Int?, [Double]?, Bool) = (nil, nil, false)
        var queries: [[Double]] = []
        var gates: [Double] = []
        switch description.layers[0].mixer {
        case .attention(let attention):
            (window, isGated) = (attention.window, attention.isGated)
            sinks = model.values["blk.0.attn_sinks.weight"]
            let query = Self.project("attn_q", x, model)
            let stride = query.count / heads
            for head in 0..<heads {
                let own = Array(query[(head * stride)..<(head * stride + stride)])
                var first = Array(own[..<description.headSize])
                first = Self.normed(first, "blk.0.attn_q_norm", model)
                if attention.rotates { Self.turn(&first, 0, token, model) }
                queries.append(first)
                gates += own[description.headSize...]
            }
        case .latent(let latent):
            var query = x
            if latent.queryDown != nil {
                query = Self.normed(
                    Self.project("attn_q_a", x, model), "blk.0.attn_q_a_norm", model)
                query = Self.project("attn_q_b", query, model)
            } else {
                query = Self.project("attn_q", x, model)
            }
            let size = latent.plainSize + latent.turnedSize
            for head in 0..<heads {
                var own = Array(query[(head * size)..<((head + 1) * size)])
                Self.turn(&own, latent.plainSize, token, model)
                queries.append(own)
            }
        default: break
        }
        let scale =
            description.multipliers.attention.map(Double.init)
            ?? 1 / Double(queries[0].count).squareRoot()
        var answer: [Double] = []
        for head in 0..<heads {
            let first = max(0, token + 1 - (window ?? token + 1))
            let scores = (first...token).map {
                Self.dot(queries[head], keys[head][$0][...]) * scale
            }
            let top = max(scores.max()!, sinks?[head] ?? -.infinity)
            let weights = scores.map { exp($0 - top) }
            let sum = weights.reduce(0, +) + (sinks.map { exp($0[head] - top) } ?? 0)
            var own = [Double](repeating: 0, count: values[head][0].count)
            for (weight, value) in zip(weights, values[head][first...token]) {
                for index in own.indices { own[index] += weight / sum * value[index] }
            }
            if isGated {
                for index in own.indices { own[index] /= 1 + exp(-gates[head * own.count + index]) }
            }
            answer += own
        }
        return answer
    }

    /// A head's key, but for its turned part, and value.
    private static func up(
        _ latent: [Double], _ head: Int, _ shape: LatentAttention, _ model: DrawnModel
    ) -> (key: [Double], value: [Double]) {
        let (plain, size, rank) = (shape.plainSize, shape.valueSize, shape.rank)
        if case .joined = shape.keyValueUp {
            let rows = (0..<(plain + size)).map {
                dot(latent, model.row("blk.0.attn_kv_b.weight", head * (plain + size) + $0, rank))
            }
            return (Array(rows[..<plain]), Array(rows[plain...]))
        }
        var key = [Double](repeating: 0, count: plain)
        let matrix = model.row("blk.0.attn_k_b.weight", head, rank * plain)
        unsafe matrix.withUnsafeBufferPointer { matrix in
            var place = 0
            while place < plain {
                var index = 0
                while index < rank {
                    unsafe key[place] += matrix[index * plain + place] * latent[index]
                    index += 1
                }
                place += 1
            }
        }
        let value = (0..<size).map {
            dot(latent, model.row("blk.0.attn_v_b.weight", head * size + $0, rank))
        }
        return (key, value)
    }

    private static func project(_ name: String, _ x: [Double], _ model: DrawnModel) -> [Double] {
        let matrix = "blk.0.\(name).weight"
        let bias = model.values["blk.0.\(name).bias"]
        return (0..<(model.values[matrix]!.count / x.count)).map {
            dot(x, model.row(matrix, $0, x.count)) + (bias?[$0] ?? 0)
        }
    }

    /// The norm of the residual stream.
    private static func norm(_ x: [Double], _ name: String, _ model: DrawnModel) -> [Double] {
        guard let bias = model.values[name + ".bias"] else { return normed(x, name, model) }
        let mean = x.reduce(0, +) / Double(x.count)
        return zip(normed(x.map { $0 - mean }, name, model), bias).map { $0 + $1 }
    }

    /// The root-mean-square norm, where the model has it.
    private static func normed(_ x: [Double], _ name: String, _ model: DrawnModel) -> [Double] {
        guard let weight = model.values[name + ".weight"] else { return x }
        let mean = x.reduce(0) { $0 + $1 * $1 } / Double(x.count)
        let scale = 1 / (mean + 1e-5).squareRoot()
        return zip(x, weight).map { $0 * scale * $1 }
    }

    private static func turn(
        _ x: inout [Double], _ start: Int, _ position: Int, _ model: DrawnModel
    ) {
        let count = model.description.rotary.dimensionCount
        for pair in 0..<(count / 2) {
            let angle = Double(position) * pow(1000, -2 * Double(pair) / Double(count))
            let neighbours = model.description.rotatesNeighbours
            let (low, high) =
                neighbours
                ? (start + 2 * pair, start + 2 * pair + 1)
                : (start + pair, start + pair + count / 2)
            let (a, b) = (x[low], x[high])
            x[low] = a * cos(angle) - b * sin(angle)
            x[high] = b * cos(angle) + a * sin(angle)
        }
    }

    /// By pointers, because tests are not optimised.
    private static func dot(_ x: [Double], _ y: ArraySlice<Double>) -> Double {
        precondition(x.count == y.count)
        return unsafe x.withUnsafeBufferPointer { x in
            unsafe y.withUnsafeBufferPointer { y in
                var (sum, index) = (0.0, 0)
                while index < x.count {
                    unsafe sum += x[index] * y[index]
                    index += 1
                }
                return sum
            }
        }
    }
}
