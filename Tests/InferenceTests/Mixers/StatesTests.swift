import CAllocationCounter
import Glibc
import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Inference

/// Models whose sequences have a state, in the engine.
@Suite(.enabled(if: !StateModels.names.isEmpty, "no model with a state is here and is computed"))
struct StatesTests {
    private static func engine(
        _ name: String, _ change: (inout EngineOptions) throws -> Void = { _ in }
    ) throws -> Engine {
        try Fixture.engine(name) {
            $0.cache = .multiple(1)
            try change(&$0)
        }
    }

    /// The bits of the logits after every id, in chunks, where nothing is in the way.
    private static func plain(_ name: String, _ ids: [Int32], _ arithmetic: Arithmetic) throws
        -> [UInt32]
    {
        try Fixture.compute(name, ids) { $0.arithmetic = arithmetic }.map(\.bitPattern)
    }

    private static func row(_ bits: [UInt32], _ position: Int, _ vocabulary: Int) -> [UInt32] {
        Array(bits[(position * vocabulary)..<((position + 1) * vocabulary)])
    }

    @Test(arguments: StateModels.names) func theLogitsAreTransformers(name: String) throws {
        let ours = try Fixture.compute(name, Fixture.ids(name)) { $0.arithmetic = .f32 }
        let reference = try Fixture.logits(name)
        #expect(ours.count == reference.count)
        let range = reference.max()! - reference.min()!
        let difference = zip(ours, reference).map { abs($0 - $1) }.max()!
        #expect(difference < 1e-5 * range)
    }

    @Test(arguments: StateModels.names, Arithmetic.allCases)
    func chunksThreadsAndInstructionSetsChangeNoBit(name: String, arithmetic: Arithmetic) throws {
        let ids = try Fixture.ids(name)
        let expected = try Self.plain(name, ids, arithmetic)
        for (index, set) in InstructionSet.available.enumerated() {
            for chunk in [1, 2, 3, 7, 64] {
                let found = try Fixture.compute(name, ids) {
                    $0.arithmetic = arithmetic
                    $0.chunk = chunk
                    $0.threads = 1 + (chunk + index) % 4
                    $0.instructionSet = set
                    $0.headRows = 3
                }
                #expect(found.map(\.bitPattern) == expected, "\(set), chunks of \(chunk)")
            }
        }
    }

    @Test(arguments: StateModels.names, Arithmetic.allCases)
    func oneByOneAndAmongOthersIsTheSame(name: String, arithmetic: Arithmetic) throws {
        let ids = try Fixture.ids(name)
        let texts = [ids, ids.reversed(), Array(ids.dropFirst(5)), [ids[3]] + ids]
        let alone = try texts.map { try Self.plain(name, $0, arithmetic) }
        var engine = try Self.engine(name) {
            $0.arithmetic = arithmetic
            $0.sequences = texts.count
            $0.threads = 3
        }
        let vocabulary = engine.vocabularyCount
        // One has no prompt at all.
        let starts = texts.indices.map { 4 * $0 }
        for (sequence, text) in texts.enumerated() where starts[sequence] > 0 {
            try engine.prefill(Array(text[..<starts[sequence]]), from: 0, sequence: sequence)
        }
        for turn in 0..<ids.count {
            // Backwards, so that a step's index is not its sequence; not always all of them.
            let steps = texts.indices.reversed().compactMap { sequence -> DecodeStep? in
                let position = Int(engine.statePositions(of: sequence))
                guard position < texts[sequence].count, turn % 3 != sequence else { return nil }
                return DecodeStep(
                    sequence: sequence, id: texts[sequence][position], position: position)
            }
            if steps.isEmpty { continue }
            try engine.decode(steps.span)
            for (index, step) in steps.enumerated() {
                let expected = Self.row(alone[step.sequence], step.position, vocabulary)
                #expect(
                    unsafe engine.logits(step: index).map(\.bitPattern) == expected,
                    "sequence \(step.sequence), position \(step.position)")
            }
        }
    }

    @Test(arguments: StateModels.names) func position0BeginsAnew(name: String) throws {
        let ids = try Fixture.ids(name)
        let expected = try Self.plain(name, ids, .int8)
        var engine = try Self.engine(name)
        let vocabulary = engine.vocabularyCount
        try engine.prefill(Array(ids.reversed().prefix(20)), from: 0)
        for position in 0..<5 {
            try engine.decode(ids[position], at: position)
            #expect(engine.statePositions(of: 0) == position + 1)
            #expect(
                unsafe engine.logits.map(\.bitPattern)
                    == Self.row(expected, position, vocabulary))
        }
        try engine.prefill(Array(ids[..<9]), from: 0)
        #expect(
            unsafe engine.logits.map(\.bitPattern) == Self.row(expected, 8, vocabulary))
    }

    /// A file that is cut short while a chunk of it is computed, and made whole again.
    @Test(arguments: StateModels.names) func afterAFailedReadTheTextIsComputedAgain(name: String)
        throws
    {
        let ids = try Fixture.ids(name)
        let expected = try Self.plain(name, ids, .int8)
        let copy = try CopiedModel(name)
        let model = try ModelDescription(file: GGUFFile(path: copy.path))
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 64
        options.sequences = 2
        options.threads = 2
        options.cache = .multiple(0.1)
        var engine = try Engine(
            model: model, options: options, plan: MemoryPlan(model: model, options: options))
        let vocabulary = engine.vocabularyCount
        try engine.prefill(Array(ids[..<6]), from: 0)
        try engine.prefill(Array(ids[..<8]), from: 0, sequence: 1)
        #expect(engine.reusablePositions(common: 6, of: 0) == 6)
        copy.cut()
        #expect(throws: StreamingError.self) {
            try engine.prefill(Array(ids[6...]), from: 6)
        }
        try copy.restore()
        #expect(engine.statePositions(of: 0) == 0)
        #expect(engine.reusablePositions(common: 6, of: 0) == 0)
        // Another sequence goes on.
        try engine.decode(ids[8], at: 8, sequence: 1)
        #expect(unsafe engine.logits.map(\.bitPattern) == Self.row(expected, 8, vocabulary))
        try engine.prefill(ids, from: 0)
        #expect(
            unsafe engine.logits.map(\.bitPattern)
                == Self.row(expected, ids.count - 1, vocabulary))
    }

    @Test(arguments: StateModels.names, Arithmetic.allCases)
    func aCopyIsAsGoodAsTheComputedOne(name: String, arithmetic: Arithmetic) throws {
        let ids = try Fixture.ids(name)
        let expected = try Self.plain(name, ids, arithmetic)
        var engine = try Self.engine(name) {
            $0.arithmetic = arithmetic
            $0.sequences = 3
        }
        let vocabulary = engine.vocabularyCount
        try engine.prefill(ids.reversed(), from: 0, sequence: 0)
        try engine.prefill(Array(ids[..<9]), from: 0, sequence: 2)
        // Neither a part of a state nor more than it covers.
        for (common, reusable) in [(0, 0), (1, 0), (8, 0), (9, 9), (10, 0)] {
            #expect(engine.reusablePositions(common: common, of: 2) == reusable)
        }
        engine.copySequence(from: 2, to: 0, count: 9)
        #expect(engine.statePositions(of: 0) == 9)
        // What happens to the source afterwards does not matter.
        try engine.prefill(ids.reversed(), from: 0, sequence: 2)
        try engine.prefill(Array(ids[9...]), from: 9, sequence: 0)
        #expect(
            unsafe engine.logits.map(\.bitPattern)
                == Self.row(expected, ids.count - 1, vocabulary))
        engine.copySequence(from: 2, to: 0, count: 0)
        #expect(engine.statePositions(of: 0) == 0)
    }

    /// As bytes and back in parts, in an engine that has computed something else there.
    @Test(arguments: StateModels.names, Arithmetic.allCases)
    func aStateThatWasReadIsAsGoodAsAComputedOne(name: String, arithmetic: Arithmetic) throws {
        let ids = try Fixture.ids(name)
        let expected = try Self.plain(name, ids, arithmetic)
        var first = try Self.engine(name) {
            $0.arithmetic = arithmetic
            $0.sequences = 2
        }
        try first.prefill(Array(ids[..<13]), from: 0, sequence: 1)
        var second = try Self.engine(name) {
            $0.arithmetic = arithmetic
            $0.sequences = 3
            $0.context = 48
        }
        #expect(first.stateByteCount > 0 && first.stateByteCount == second.stateByteCount)
        try second.prefill(ids.reversed(), from: 0, sequence: 2)
        for positions in [0..<5, 5..<13] {
            var bytes = [UInt8](repeating: 0xAA, count: positions.count * first.bytesPerPosition)
            unsafe bytes.withUnsafeMutableBytes {
                unsafe first.readPositions(positions, of: 1, into: $0)
            }
            unsafe bytes.withUnsafeBytes {
                unsafe second.writePositions(positions, of: 2, from: $0)
            }
        }
        #expect(second.statePositions(of: 2) == 0)
        let whole = first.stateByteCount
        for range in [0..<100, 100..<whole] {
            var bytes = [UInt8](repeating: 0xAA, count: range.count)
            unsafe bytes.withUnsafeMutableBytes {
                unsafe first.readState(range, of: 1, into: $0)
            }
            unsafe bytes.withUnsafeBytes {
                unsafe second.writeState(range, of: 2, from: $0, covering: 13)
            }
            #expect(second.statePositions(of: 2) == (range.upperBound == whole ? 13 : 0))
        }
        var rows: [UInt32] = []
        try unsafe second.everyLogit(of: Array(ids[13...]), from: 13, sequence: 2) { row in
            rows += unsafe row.map(\.bitPattern)
        }
        #expect(rows == Array(expected.dropFirst(13 * second.vocabularyCount)))
    }

    @Test(arguments: StateModels.names) func thePlanCountsAStateForEverySequence(name: String)
        throws
    {
        let model = try Fixture.model(name)
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 48
        let one = try MemoryPlan(model: model, options: options)
        options.sequences = 5
        let five = try MemoryPlan(model: model, options: options)
        #expect(one.stateBytes > 0 && five.stateBytes == 5 * one.stateBytes)
        #expect(five.floorBytes >= one.floorBytes + 4 * (one.stateBytes + one.keyValueBytes))
        options.context = 24
        #expect(try MemoryPlan(model: model, options: options).stateBytes == five.stateBytes)
    }

    @Test(arguments: ["qwen3moe-q8_0", "llama-moe-f32"])
    func otherModelsHaveNone(name: String) throws {
        var engine = try Self.engine(name)
        #expect(!engine.keepsState && engine.plan.stateBytes == 0 && engine.stateByteCount == 0)
        try engine.prefill(Fixture.ids(name), from: 0)
        #expect(engine.reusablePositions(common: 7, of: 0) == 7)
        // They can go back.
        try engine.decode(3, at: 5)
    }

    @Test func aPositionThatTheStateDoesNotReachStopsTheProgram() async {
        await #expect(processExitsWith: .failure) {
            var engine = try Fixture.engine(StateModels.names[0])
            try engine.prefill([1, 2, 3], from: 0)
            try engine.decode(4, at: 2)
        }
        await #expect(processExitsWith: .failure) {
            var engine = try Fixture.engine(StateModels.names[0]) { $0.sequences = 2 }
            try engine.prefill([1, 2, 3], from: 0)
            engine.copySequence(from: 0, to: 1, count: 2)
        }
    }

    @Test(
        .enabled(
            if: allocation_counter_works() != 0, "a sanitizer owns malloc, nothing can be counted"),
        arguments: StateModels.names)
    func aTokenAllocatesNothing(name: String) throws {
        var engine = try Self.engine(name)
        var before = allocations_of_this_thread()
        for position in 0..<40 {
            // The language runtime makes its tables at first use.
            if position == 2 { before = allocations_of_this_thread() }
            try engine.decode(Int32(7 * position % 50), at: position)
        }
        #expect(allocations_of_this_thread() == before)
    }
}

/// Families whose sequences have a state.
enum StateModels {
    static let names = ["qwen3next", "lfm2moe", "qwen3delta"].map { "../families/\($0)/\($0)" }
        .filter { name in
            guard let model = try? Fixture.model(name) else { return false }
            return (try? MemoryPlan(model: model, options: EngineOptions())) != nil
        }
}

/// A model's file of our own, that can lose its end.
final class CopiedModel {
    let path: String
    private let bytes: [UInt8]

    init(_ name: String) throws {
        let source = try unsafe #require(unsafe fopen(Fixture.path(name + ".gguf"), "rb"))
        defer { unsafe fclose(source) }
        var bytes = [UInt8](repeating: 0, count: 1 << 21)
        let count = unsafe fread(&bytes, 1, bytes.count, source)
        self.bytes = Array(bytes[..<count])
        var template = Array("/tmp/sluice-model-XXXXXX.gguf".utf8CString)
        close(unsafe mkstemps(&template, 5))
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        try restore()
    }

    deinit { _ = unsafe unlink(path) }

    func cut() { _ = unsafe truncate(path, 4096) }

    func restore() throws {
        let file = try unsafe #require(unsafe fopen(path, "wb"))
        defer { unsafe fclose(file) }
        try #require(unsafe fwrite(bytes, 1, bytes.count, file) == bytes.count)
    }
}
