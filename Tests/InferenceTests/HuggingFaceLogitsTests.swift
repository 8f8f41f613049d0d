// Checkpoints as transformers saves them, against the logits it computes from them and against the same
// weights as a GGUF file; made by tools/make_huggingface_fixtures.py.

import Glibc
import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Inference

@Suite struct HuggingFaceLogitsTests {
    static let names = ["qwen3moe-f32", "qwen3moe-yarn-f16", "olmoe-bf16", "mixtral-f32"]
    /// Those of which a GGUF file holds the same numbers in the same order.
    static let twins = ["qwen3moe-f32", "olmoe-bf16"]

    private func path(_ name: String) -> String { Fixture.path("../huggingface/models/\(name)") }

    private func model(directory: String) throws -> ModelDescription {
        try ModelDescription(file: GGUFFile(HuggingFaceModel(directory: directory)))
    }

    private func ids(_ name: String) throws -> [Int32] {
        try Fixture.ids("../huggingface/models/\(name)")
    }

    private func logits(
        _ model: ModelDescription, _ ids: [Int32], _ arithmetic: Arithmetic
    ) throws -> [Float] {
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 64
        options.threads = 1
        options.arithmetic = arithmetic
        options.cache = .multiple(1)
        let plan = try MemoryPlan(model: model, options: options)
        var engine = try Engine(model: model, options: options, plan: plan)
        var all: [Float] = []
        try unsafe engine.everyLogit(of: ids) { row in all += unsafe Array(row) }
        return all
    }

    /// Largest difference over the range of the reference.
    private func relativeDifference(_ ours: [Float], _ reference: [Float]) -> Float {
        let range = reference.max()! - reference.min()!
        return zip(ours, reference).map { abs($0 - $1) }.max()! / range
    }

    @Test(arguments: names)
    func aCheckpointGivesTheLogitsOfTransformers(name: String) throws {
        let ours = try logits(try model(directory: path(name)), ids(name), .f32)
        let reference = try Fixture.logits("../huggingface/models/\(name)")
        #expect(ours.count == reference.count)
        let difference = relativeDifference(ours, reference)
        #expect(difference < 1e-5, "\(difference)")
    }

    @Test(arguments: twins, Arithmetic.allCases)
    func aCheckpointAndItsGGUFGiveTheSameBits(name: String, arithmetic: Arithmetic) throws {
        let ids = try ids(name)
        let file = try ModelDescription(file: GGUFFile(path: path(name) + ".gguf"))
        let ours = try logits(model(directory: path(name)), ids, arithmetic)
        #expect(try ours.map(\.bitPattern) == logits(file, ids, arithmetic).map(\.bitPattern))
    }

    /// The rows of this file's queries and keys were reordered, so their products are summed in another
    /// order; the last bits may differ, and no others.
    @Test func aReorderedGGUFGivesTheSameLogits() throws {
        let ids = try ids("mixtral-f32")
        let file = try ModelDescription(file: GGUFFile(path: path("mixtral-f32.gguf")))
        let checkpoint = try model(directory: path("mixtral-f32"))
        #expect(file.rotatesNeighbours && !checkpoint.rotatesNeighbours)
        let difference = try relativeDifference(
            logits(checkpoint, ids, .f32), logits(file, ids, .f32))
        #expect(difference < 1e-6, "\(difference)")
    }

    /// Their norms are stored in half the width, which the plan must not take for their size in memory.
    @Test(arguments: names)
    func vectorsTakeFourBytesAnElementWhateverTheyAreStoredAs(name: String) throws {
        let model = try model(directory: path(name))
        let expected = model.residentTensors.reduce(0) { sum, tensor in
            let bytes = tensor.shape.count == 1 ? tensor.elementCount * 4 : tensor.byteCount
            return sum + (bytes + 127) / 128 * 128
        }
        #expect(ResidentWeights.byteCount(of: model) == expected)
        let norms = Set(model.layers.map(\.attentionNorm.weight.format))
        #expect(norms == [["qwen3moe-yarn-f16": .f16, "olmoe-bf16": .bf16][name] ?? .f32])
    }

    /// The checkpoint of the demo model, where the project's data are beside the checkout.
    static let demo: String? = {
        let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
        let shared =
            unsafe getenv("SLUICE_SHARED").map { unsafe String(cString: $0) }
            ?? root.joined(separator: "/") + "/../shared"
        let path = shared + "/demo-model/v0"
        return unsafe access(path + "/config.json", R_OK) == 0 ? path : nil
    }()

    @Test(.enabled(if: demo != nil, "no demo checkpoint in ../shared or $SLUICE_SHARED"))
    func theDemoCheckpointPredictsText() throws {
        let model = try model(directory: #require(Self.demo))
        #expect(
            model.layers.allSatisfy {
                $0.experts?.parts.allSatisfy { $0.tensors.count == 32 } == true
            })
        // "Once upon a time, 123", from its tokenizer.json by the tokenizers package.
        let ids: [Int32] = [46, 1541, 801, 260, 717, 11, 220, 16, 17, 18]
        let all = try logits(model, ids, .f32)
        var loss = 0.0
        for (position, next) in ids.dropFirst().enumerated() {
            let row = all[position * model.vocabularyCount..<(position + 1) * model.vocabularyCount]
            let largest = Double(row.max()!)
            let sum = row.reduce(0.0) { $0 + exp(Double($1) - largest) }
            loss += largest + log(sum) - Double(row[row.startIndex + Int(next)])
        }
        // Chance is ln 8192 = 9.0 nats per token.
        #expect(loss / Double(ids.count - 1) < 6)
    }
}
