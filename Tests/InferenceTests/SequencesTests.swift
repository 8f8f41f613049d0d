import CAllocationCounter
import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Inference

@Suite struct SequencesTests {
    private static func engine(
        _ name: String, sequences: Int, _ change: (inout EngineOptions) -> Void = { _ in }
    ) throws -> Engine {
        let model = try Fixture.model(name)
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 48
        options.sequences = sequences
        options.threads = 2
        options.cache = .multiple(1)
        change(&options)
        return try Engine(
            model: model, options: options, plan: MemoryPlan(model: model, options: options))
    }

    /// Texts of different lengths, so that a step holds different positions.
    private static func texts(_ name: String) throws -> [[Int32]] {
        let ids = try Fixture.ids(name)
        let vocabulary = Int32(try Fixture.model(name).vocabularyCount)
        return [
            ids, Array(ids.reversed().prefix(17)), ids.map { ($0 * 7 + 3) % vocabulary },
            Array(ids.dropFirst(5)),
        ]
    }

    @Test(arguments: Fixture.names, Arithmetic.allCases)
    func aSequenceIsAnsweredAlikeAloneAndAmongOthers(name: String, arithmetic: Arithmetic) throws {
        let texts = try Self.texts(name)
        let alone = try texts.map { text in
            try Fixture.compute(name, text) { $0.arithmetic = arithmetic }.map(\.bitPattern)
        }
        var engine = try Self.engine(name, sequences: texts.count) {
            $0.arithmetic = arithmetic
            // Guesses change no answer, of any sequence.
            $0.predictor = .nextGate(layers: 2)
            $0.prefetchRanks = 3
        }
        let vocabulary = engine.vocabularyCount
        // Prompts of 1, 4, 7 and 10 ids, then all sequences step together until each has ended.
        let starts = texts.indices.map { 1 + 3 * $0 }
        for (sequence, text) in texts.enumerated() {
            let prompt = Array(text[..<starts[sequence]])
            try engine.prefill(prompt, from: 0, sequence: sequence)
            let row = alone[sequence][
                ((prompt.count - 1) * vocabulary)..<(prompt.count * vocabulary)]
            #expect(unsafe engine.logits.map(\.bitPattern) == Array(row), "prompt \(sequence)")
        }
        for turn in 0..<texts[0].count {
            var steps: [DecodeStep] = []
            // Backwards, so that a step's index is not its sequence.
            for sequence in texts.indices.reversed() {
                let position = starts[sequence] + turn
                guard position < texts[sequence].count else { continue }
                steps.append(
                    DecodeStep(
                        sequence: sequence, id: texts[sequence][position], position: position))
            }
            if steps.isEmpty { break }
            try engine.decode(steps.span)
            for (index, step) in steps.enumerated() {
                let first = step.position * vocabulary
                let row = alone[step.sequence][first..<(first + vocabulary)]
                #expect(
                    unsafe engine.logits(step: index).map(\.bitPattern) == Array(row),
                    "sequence \(step.sequence), position \(step.position)")
            }
        }
    }

    /// Steps of several sequences decoded together after a prompt of one id each, and the bits of
    /// all their logits.
    private static func decode(_ engine: inout Engine, _ texts: [[Int32]]) throws -> [UInt32] {
        for (sequence, text) in texts.enumerated() {
            try engine.prefill([text[0]], from: 0, sequence: sequence)
        }
        var bits: [UInt32] = []
        for position in 1..<texts.map(\.count).min()! {
            let steps = texts.enumerated().map {
                DecodeStep(sequence: $0, id: $1[position], position: position)
            }
            try engine.decode(steps.span)
            for step in steps.indices {
                bits += unsafe engine.logits(step: step).map(\.bitPattern)
            }
        }
        return bits
    }

    @Test(arguments: Packaging.allCases)
    func guessesChangeNoAnswerOfSeveralSequences(packaging: Packaging) throws {
        let name = "qwen3moe-q8_0"
        let texts = try Self.texts(name)
        let expected = try {
            var engine = try Self.engine(name, sequences: texts.count) { $0.cache = .percent(100) }
            return try Self.decode(&engine, texts)
        }()
        let packed = try PackedModel(name, packaging)
        let model = try packed.description()
        for predictor: Predictor in [
            .nextGate(layers: 3), try .somePaths(model), try .someGates(model),
        ] {
            var engine = try packed.engine {
                $0.sequences = texts.count
                $0.threads = 2
                $0.cache = .multiple(2)
                $0.predictor = predictor
                $0.prefetchRanks = 3
            }
            #expect(try Self.decode(&engine, texts) == expected, "\(predictor)")
            #expect(engine.statistics.streaming.prefetchIssued > 0)
        }
    }

    /// `defer` computes one sequence at a time, and says so.
    @Test(arguments: MissPolicy.names.filter { $0 != "defer" })
    func policiesAccountForEveryChoiceOfEverySequence(policy: String) throws {
        let name = "qwen3moe-q8_0"
        let texts = try Self.texts(name)
        let packed = try PackedModel(name, .twoTwo)
        var engine = try packed.engine {
            $0.sequences = texts.count
            $0.threads = 2
            $0.cache = .multiple(1)
            $0.missPolicy = try MissPolicy(policy)
            $0.predictor = .nextGate(layers: 1)
            $0.prefetchRanks = 2
        }
        let (layers, k) = (engine.model.layerCount, engine.model.expertsPerToken)
        var tokens = 0
        var computed = 0
        engine.observe { layer in
            tokens += layer.tokens
            for pair in 0..<(layer.tokens * k) where unsafe layer.outputRow[pair] >= 0 {
                computed += 1
            }
        }
        _ = try Self.decode(&engine, texts)
        let misses = engine.statistics.misses
        let prompts = texts.count * layers * k
        #expect(misses.choices == UInt64(tokens * k - prompts))
        let widths = (1...4).map { misses.widthCount[$0] }
        let masses = (1...4).map { misses.widthMass[$0] }
        let count = widths.reduce(0, +) + misses.skippedCount + misses.swappedCount
        #expect(count + misses.deferredCount == misses.choices)
        let mass = masses.reduce(0, +) + misses.skippedMass + misses.swappedMass
        #expect(abs(mass + misses.deferredMass - misses.mass) < 1e-9 * misses.mass)
        // What the layers themselves computed.
        if misses.swappedCount == 0 {
            #expect(widths.reduce(0, +) == UInt64(computed - prompts))
        }
    }

    @Test func aSharedExpertIsAskedForOnce() throws {
        let name = "qwen3moe-k-quants"
        let ids = try Fixture.ids(name)
        func asked(_ steps: [DecodeStep]) throws -> UInt64 {
            var engine = try Self.engine(name, sequences: 3)
            for sequence in 0..<3 { try engine.prefill([ids[0]], from: 0, sequence: sequence) }
            let before = engine.statistics.streaming
            try engine.decode(steps.span)
            let span = engine.statistics.streaming - before
            return span.hits + span.misses
        }
        let one = try asked([DecodeStep(sequence: 0, id: ids[1], position: 1)])
        // Three sequences at the same point choose the same experts.
        let three = try asked(
            (0..<3).map { DecodeStep(sequence: $0, id: ids[1], position: 1) })
        #expect(one > 0 && three == one)
    }

    @Test(arguments: Arithmetic.allCases)
    func aCopiedBeginningIsAsGoodAsAComputedOne(arithmetic: Arithmetic) throws {
        let name = "olmoe-f16"
        let ids = try Fixture.ids(name)
        let every = try Fixture.compute(name, ids) { $0.arithmetic = arithmetic }
        var engine = try Self.engine(name, sequences: 3) { $0.arithmetic = arithmetic }
        try engine.prefill(Array(ids[..<9]), from: 0, sequence: 2)
        engine.copySequence(from: 2, to: 0, count: 9)
        // What happens to the source afterwards does not matter.
        try engine.prefill(ids.reversed(), from: 0, sequence: 2)
        try engine.prefill(Array(ids[9...]), from: 9, sequence: 0)
        #expect(unsafe engine.logits.elementsEqual(every.suffix(engine.vocabularyCount)))
    }

    /// As bytes and back, in an engine that has computed nothing and holds another sequence there.
    @Test(arguments: Fixture.names, Arithmetic.allCases)
    func positionsThatWereReadAreAsGoodAsComputedOnes(name: String, arithmetic: Arithmetic) throws {
        let ids = try Fixture.ids(name)
        let every = try Fixture.compute(name, ids) { $0.arithmetic = arithmetic }
        var first = try Self.engine(name, sequences: 2) { $0.arithmetic = arithmetic }
        try first.prefill(Array(ids[..<13]), from: 0, sequence: 1)
        var second = try Self.engine(name, sequences: 3) {
            $0.arithmetic = arithmetic
            // Where positions lie depends on the context, what they hold does not.
            $0.context = 40
        }
        #expect(first.bytesPerPosition == second.bytesPerPosition)
        #expect(first.residentChecksum() == second.residentChecksum())
        try second.prefill(ids.reversed(), from: 0, sequence: 2)
        for positions in [0..<5, 5..<5, 5..<13] {
            var bytes = [UInt8](repeating: 0xAA, count: positions.count * first.bytesPerPosition)
            unsafe bytes.withUnsafeMutableBytes {
                unsafe first.readPositions(positions, of: 1, into: $0)
            }
            unsafe bytes.withUnsafeBytes {
                unsafe second.writePositions(positions, of: 2, from: $0)
            }
        }
        var rows: [Float] = []
        try unsafe second.everyLogit(of: Array(ids[13...]), from: 13, sequence: 2) { row in
            rows += unsafe Array(row)
        }
        #expect(rows == Array(every.dropFirst(13 * second.vocabularyCount)))
    }

    /// A prompt in parts, of which only the last gives logits.
    @Test func aPromptMayComeInParts() throws {
        let name = "qwen3moe-k-quants"
        let ids = try Fixture.ids(name)
        let every = try Fixture.compute(name, ids)
        var engine = try Self.engine(name, sequences: 2)
        try engine.prefill([ids[3]], from: 0, sequence: 0)
        let untouched = unsafe Array(engine.logits)
        try engine.prefill(ids[..<6], from: 0, sequence: 1, givesLogits: false)
        try engine.prefill(ids[6..<14], from: 6, sequence: 1, givesLogits: false)
        #expect(unsafe engine.logits.elementsEqual(untouched))
        try engine.prefill(ids[14...], from: 14, sequence: 1, givesLogits: true)
        #expect(unsafe engine.logits.elementsEqual(every.suffix(engine.vocabularyCount)))
    }

    @Test func thePlanCountsEverySequence() throws {
        let model = try Fixture.model("qwen3moe-f32")
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 48
        let one = try MemoryPlan(model: model, options: options)
        options.sequences = 5
        let five = try MemoryPlan(model: model, options: options)
        #expect(five.keyValueBytes == 5 * one.keyValueBytes)
        #expect(five.floorBytes >= one.floorBytes + 4 * one.keyValueBytes)
        options.memoryBytes = five.floorBytes - 1
        let error = #expect(throws: EngineError.self) {
            try MemoryPlan(model: model, options: options)
        }
        #expect(error?.description.contains("for each of 5 sequences") == true)
        options.sequences = 0
        let none = #expect(throws: EngineError.self) {
            try MemoryPlan(model: model, options: options)
        }
        #expect(none?.description.hasPrefix("--sequences 0") == true)
    }

    /// A chunk smaller than the sequences is grown to hold one step of each.
    @Test func aSmallChunkStillHoldsAStepOfEverySequence() throws {
        let name = "qwen3moe-q8_0"
        let ids = try Fixture.ids(name)
        let every = try Fixture.compute(name, Array(ids[..<2]))
        var engine = try Self.engine(name, sequences: 4) { $0.chunk = 1 }
        for sequence in 0..<4 { try engine.prefill([ids[0]], from: 0, sequence: sequence) }
        let steps = (0..<4).map { DecodeStep(sequence: $0, id: ids[1], position: 1) }
        try engine.decode(steps.span)
        for step in 0..<4 {
            #expect(
                unsafe engine.logits(step: step).elementsEqual(
                    every.suffix(engine.vocabularyCount)))
        }
    }

    @Test(
        .enabled(
            if: allocation_counter_works() != 0, "a sanitizer owns malloc, nothing can be counted"))
    func aStepOfSeveralSequencesAllocatesNothing() throws {
        var engine = try Self.engine("qwen3moe-k-quants", sequences: 4) { $0.threads = 1 }
        var steps = (0..<4).map { DecodeStep(sequence: $0, id: 0, position: 0) }
        var before = allocations_of_this_thread()
        for position in 0..<40 {
            // The language runtime makes its tables at first use.
            if position == 2 { before = allocations_of_this_thread() }
            for index in steps.indices {
                steps[index].position = position
                steps[index].id = Int32((7 * position + index) % 50)
            }
            try engine.decode(steps.span)
        }
        #expect(allocations_of_this_thread() == before)
    }
}
