// A tiny model of every family, as GGUF and as the checkpoint that transformers saved, against the logits
// and the continuation that transformers computes from it; made by tools/reference/tiny_models.py.

import CAllocationCounter
import Foundation
import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Inference

/// One of them.
struct FamilyFixture: Codable, Sendable, CustomTestStringConvertible {
    var name: String
    var architecture: String
    var hf: String?
    var gguf: [String]
    var ids: String
    var logits: String
    var greedy: String

    static let folder = "../families/"

    static let all: [FamilyFixture] = {
        let index = FileManager.default.contents(atPath: Fixture.path(folder + "index.json"))
        return index.flatMap { try? JSONDecoder().decode([FamilyFixture].self, from: $0) } ?? []
    }()

    /// Those that compute on several threads what no other does: dense layers and sparse ones, shared
    /// experts with and without a gate; attention, with sinks, with windows, by latents, in turn with
    /// convolutions and with delta nets.
    private static let kinds: Set<String> = [
        "qwen3", "olmoe", "qwen2moe", "deepseek2-v3", "glm4moe", "gpt-oss-mxfp4", "lfm2moe",
        "qwen3next", "smallthinker-window",
    ]

    /// Under the thread sanitizer one of each kind: the rest runs the same code on other figures.
    static let parallel: [FamilyFixture] = {
        guard thread_sanitizer_watches() != 0 else { return all }
        let chosen = all.filter { kinds.contains($0.name) }
        precondition(chosen.count == kinds.count, "a family's fixture is not there, or renamed")
        print("skipped \(all.count - chosen.count) families: other figures, but no other threads")
        return chosen
    }()

    var testDescription: String { name }

    /// The model by every route there is: each GGUF, and the checkpoint.
    func models() throws -> [(route: String, model: ModelDescription)] {
        var models: [(String, ModelDescription)] = []
        for file in gguf {
            let path = Fixture.path(Self.folder + file)
            models.append((file, try ModelDescription(file: GGUFFile(path: path))))
        }
        if let hf {
            let file = try HuggingFaceModel(directory: Fixture.path(Self.folder + hf))
            models.append((hf, try ModelDescription(file: ModelFile(file))))
        }
        return models
    }

    func prompt() throws -> [Int32] { try Fixture.ids(Self.folder + "\(name)/\(name)") }

    func continuation() throws -> [Int32] {
        let array = try NumPyArray(Fixture.path(Self.folder + greedy))
        return unsafe array.bytes.withUnsafeBytes { raw in
            (0..<array.shape[0]).map {
                unsafe raw.loadUnaligned(fromByteOffset: $0 * 4, as: Int32.self)
            }
        }
    }

    func reference() throws -> [Float] { try Fixture.logits(Self.folder + "\(name)/\(name)") }
}

@Suite struct FamiliesTests {
    static let isUnwatched = thread_sanitizer_watches() == 0

    private func engine(
        _ model: ModelDescription, _ change: (inout EngineOptions) -> Void = { _ in }
    ) throws -> Engine {
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 64
        options.threads = 1
        options.arithmetic = .f32
        options.cache = .multiple(1)
        change(&options)
        let plan = try MemoryPlan(model: model, options: options)
        return try Engine(model: model, options: options, plan: plan)
    }

    private func logits(
        _ model: ModelDescription, _ ids: [Int32],
        _ change: (inout EngineOptions) -> Void = { _ in }
    ) throws -> [Float] {
        var engine = try engine(model, change)
        var all: [Float] = []
        try unsafe engine.everyLogit(of: ids) { row in all += unsafe Array(row) }
        return all
    }

    private func relativeDifference(_ ours: [Float], _ reference: [Float]) -> Float {
        let range = reference.max()! - reference.min()!
        return zip(ours, reference).map { $0.isFinite ? abs($0 - $1) : .infinity }.max()! / range
    }

    /// Every architecture that is offered has a tiny model, and the list is there at all.
    @Test func everyArchitectureIsTested() {
        #expect(
            Set(FamilyFixture.all.map(\.architecture)) == Set(Architecture.all.map(\.name)))
    }

    @Test(.enabled(if: isUnwatched, "one thread races with none"), arguments: FamilyFixture.all)
    func logitsAreThoseOfTransformers(family: FamilyFixture) throws {
        let reference = try family.reference()
        for (route, model) in try family.models() {
            #expect(model.architecture.name == family.architecture, "\(route)")
            let ours = try logits(model, family.prompt())
            #expect(ours.count == reference.count, "\(route)")
            let difference = relativeDifference(ours, reference)
            #expect(difference < 1e-4, "\(route): \(difference)")
        }
    }

    @Test(.enabled(if: isUnwatched, "one thread races with none"), arguments: FamilyFixture.all)
    func theContinuationIsThatOfTransformers(family: FamilyFixture) throws {
        let expected = try family.continuation()
        for (route, model) in try family.models() {
            var engine = try engine(model)
            let prompt = try family.prompt()
            try engine.prefill(prompt, from: 0)
            var found: [Int32] = []
            while found.count < expected.count {
                let best = unsafe engine.logits.indices.max {
                    unsafe engine.logits[$0] < engine.logits[$1]
                }
                found.append(Int32(try #require(best)))
                if found.count < expected.count {
                    try engine.decode(found.last!, at: prompt.count + found.count - 1)
                }
            }
            #expect(found == expected, "\(route)")
        }
    }

    /// What must never change an answer, in both arithmetics.
    @Test(arguments: FamilyFixture.parallel, Arithmetic.allCases)
    func cacheThreadsAndChunksChangeNoBit(family: FamilyFixture, arithmetic: Arithmetic) throws {
        let ids = try family.prompt()
        let (_, model) = try #require(try family.models().first)
        func run(_ change: (inout EngineOptions) -> Void) throws -> [UInt32] {
            try logits(model, ids) {
                $0.arithmetic = arithmetic
                change(&$0)
            }.map(\.bitPattern)
        }
        let plain = try run { $0.cache = .percent(100) }
        for (chunk, threads) in [(1, 1), (3, 2), (64, 3)] {
            let found = try run {
                $0.chunk = chunk
                $0.threads = threads
            }
            #expect(found == plain, "chunks of \(chunk), \(threads) threads")
        }
        var engine = try engine(model) { $0.arithmetic = arithmetic }
        var decoded: [UInt32] = []
        for (position, id) in ids.enumerated() {
            try engine.decode(id, at: position)
            decoded += unsafe engine.logits.map(\.bitPattern)
        }
        #expect(decoded == plain, "token by token")
    }

    /// Activations of 8 bits change a tiny random model's logits more than a trained one's.
    @Test(.enabled(if: isUnwatched, "one thread races with none"), arguments: FamilyFixture.all)
    func int8ArithmeticStaysNear(family: FamilyFixture) throws {
        let (_, model) = try #require(try family.models().first)
        let ours = try logits(model, family.prompt()) { $0.arithmetic = .int8 }
        #expect(relativeDifference(ours, try family.reference()) < 0.05)
    }

    /// Guesses and reads ahead of time change no bit either, whatever the layers are.
    @Test(arguments: FamilyFixture.parallel)
    func guessesChangeNoBit(family: FamilyFixture) throws {
        let (_, model) = try #require(try family.models().first)
        let ids = try family.prompt()
        func decode(_ change: (inout EngineOptions) -> Void) throws -> [UInt32] {
            var engine = try engine(model, change)
            var bits: [UInt32] = []
            for (position, id) in ids.enumerated() {
                try engine.decode(id, at: position)
                bits += unsafe engine.logits.map(\.bitPattern)
            }
            return bits
        }
        let plain = try decode { _ in }
        let guessed = try decode {
            $0.predictor = .nextGate(layers: 1)
            $0.prefetchRanks = 1
        }
        #expect(guessed == plain)
    }
}
