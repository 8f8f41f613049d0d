// Model directories: what comes out is what a GGUF file of the same model holds, and what cannot be
// computed is refused by name.

import Foundation
import ModelFormats
import Testing

@Suite struct HuggingFaceModelTests {
    static let twins = ["qwen3moe-f32", "olmoe-bf16", "mixtral-f32"]

    // Against GGUF files that the gguf package wrote

    @Test(arguments: twins)
    func metadataAreThoseOfTheGGUF(name: String) throws {
        let model = try HuggingFaceModel(directory: HuggingFaceFixture.path(name))
        let file = try GGUFFile(path: HuggingFaceFixture.path(name) + ".gguf")
        let architecture = try #require(try file.metadata.string("general.architecture"))
        #expect(try model.metadata.string("general.architecture") == architecture)
        #expect(try model.metadata.string("general.name") == name)
        // Of which the package knows nothing.
        let own = [
            "\(architecture).expert_weights_norm", "\(architecture).expert_gating_func",
            "sluice.rope.halves", "general.type",
            "tokenizer.chat_template", "tokenizer.ggml.add_eos_token",
            "tokenizer.ggml.eot_token_id",
        ]
        let theirs = [
            "general.description", "general.license", "general.quantization_version",
        ]
        #expect(
            Set(model.metadata.keys).subtracting(own)
                == Set(file.metadata.keys).subtracting(theirs))
        for key in file.metadata.keys where model.metadata.keys.contains(key) {
            if key == "general.name" { continue }
            if let ours = try? model.metadata.array(key), let array = try file.metadata.array(key) {
                #expect(ours.count == array.count, "\(key)")
                for index in 0..<min(ours.count, array.count) {
                    #expect(ours.string(at: index) == array.string(at: index), "\(key) \(index)")
                    #expect(ours.integer(at: index) == array.integer(at: index), "\(key) \(index)")
                }
            } else {
                let (ours, expected) = (model.metadata[key], file.metadata[key])
                #expect(ours?.number == expected?.number, "\(key)")
                #expect(ours?.type == expected?.type, "\(key)")
                let flag = try? model.metadata.bool(key)
                #expect(flag == (try? file.metadata.bool(key)), "\(key)")
            }
        }
        #expect(try model.metadata.string("tokenizer.chat_template")?.hasPrefix("{% for") == true)
    }

    /// Byte for byte, stacked experts one after the other.
    @Test func tensorsAreThoseOfTheGGUF() throws {
        let name = "qwen3moe-f32"
        let model = try HuggingFaceModel(directory: HuggingFaceFixture.path(name))
        let path = HuggingFaceFixture.path(name) + ".gguf"
        let file = try GGUFFile(path: path)
        #expect(model.paths.count == 3)
        let shards = try model.paths.map { try readFile($0) }
        #expect(shards.map { UInt64($0.count) } == model.fileSizes)
        let whole = try readFile(path)
        func bytes(_ tensor: GGUFTensor, _ files: [[UInt8]]) -> ArraySlice<UInt8> {
            files[tensor.fileIndex][Int(tensor.fileOffset)...].prefix(tensor.byteCount)
        }
        let ours = Dictionary(uniqueKeysWithValues: model.tensors.map { ($0.name, $0) })
        var used = 0
        for tensor in file.tensors {
            let parts: [GGUFTensor]
            if let same = ours[tensor.name] {
                #expect(same.shape == tensor.shape, "\(tensor.name)")
                parts = [same]
            } else {
                let base = tensor.name.replacing("_exps.weight", with: ".")
                parts = try (0..<tensor.shape[2]).map {
                    try #require(ours["\(base)\($0).weight"])
                }
                #expect(parts.allSatisfy { $0.shape == Array(tensor.shape.dropLast()) })
            }
            used += parts.count
            #expect(parts.allSatisfy { $0.format == tensor.format })
            #expect(parts.reduce(0) { $0 + $1.elementCount } == tensor.elementCount)
            let joined = parts.flatMap { bytes($0, shards) }
            #expect(joined.elementsEqual(bytes(tensor, [whole])), "\(tensor.name)")
        }
        #expect(used == model.tensors.count)
    }

    struct SpecialTokensCase: Decodable {
        var files: [String: String]
        var ids: [String: Int]
        var adds: [String: Bool]
        var template: String?
    }

    @Test func specialTokensAreThoseOfTheGGUFPackage() throws {
        let folder = HuggingFaceFixture.directory + "/tokenizers/"
        let cases = try JSONDecoder().decode(
            [SpecialTokensCase].self, from: Data(readFile(folder + "special.json")))
        #expect(cases.count == 11)
        for (number, one) in cases.enumerated() {
            var files = one.files.mapValues { Array($0.utf8) }
            files["model.safetensors"] = try readFile(folder + "model.safetensors")
            let metadata = try HuggingFaceModel(files: files).metadata
            for (name, key) in [("bos", "bos"), ("eos", "eos"), ("pad", "padding")] {
                let found = try metadata.integer("tokenizer.ggml.\(key)_token_id")
                #expect(found == one.ids[name], "case \(number): \(name)")
            }
            if let turn = one.ids["eot"] {
                #expect(try metadata.integer("tokenizer.ggml.eot_token_id") == turn)
            }
            for name in ["bos", "eos"] {
                let found = try metadata.bool("tokenizer.ggml.add_\(name)_token")
                #expect(found == one.adds[name], "case \(number): add \(name)")
            }
            #expect(try metadata.string("tokenizer.chat_template") == one.template)
        }
    }

    @Test func furtherEndsComeFromTheGenerationConfig() throws {
        let metadata = try HuggingFaceModel(directory: HuggingFaceFixture.path("olmoe-bf16"))
            .metadata
        let end = try #require(try metadata.integer("tokenizer.ggml.eos_token_id"))
        #expect(try metadata.integer("tokenizer.ggml.eot_token_id") == end + 1)
        #expect(try metadata.integer("tokenizer.ggml.eom_token_id") == nil)
    }

    // Forms that mean the same

    @Test func olderSpellingsOfTheConfigurationAreRead() throws {
        let files = try HuggingFaceFixture.files("olmoe-bf16")
        let config = try #require(files["config.json"].map { String(decoding: $0, as: UTF8.self) })
        let first = try #require(config.range(of: "\"rope_parameters\": {"))
        let last = try #require(config.range(of: "}", range: first.upperBound..<config.endIndex))
        let older = config.replacingCharacters(
            in: first.lowerBound..<last.upperBound,
            with: """
                "rope_theta": 500000, "rope_scaling": {"type": "linear", "factor": 2}
                """)
        var changed = files
        changed["config.json"] = Array(older.utf8)
        let metadata = try HuggingFaceModel(files: changed).metadata
        #expect(try metadata.number("olmoe.rope.freq_base") == 500_000)
        #expect(try metadata.string("olmoe.rope.scaling.type") == "linear")
        #expect(try metadata.number("olmoe.rope.scaling.factor") == 2)
    }

    @Test func aDirectoryWithoutTokenizerIsAModel() throws {
        var files = try HuggingFaceFixture.files("mixtral-f32")
        for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
            files[name] = nil
        }
        let model = try HuggingFaceModel(files: files)
        #expect(try model.metadata.string("tokenizer.ggml.model") == nil)
        #expect(try model.metadata.integer("llama.expert_count") == 4)
    }

    @Test func mergesArePairsOrTexts() throws {
        let files = try HuggingFaceFixture.files("olmoe-bf16")
        let tokenizer = String(decoding: files["tokenizer.json"]!, as: UTF8.self)
        // "[ "Ġ", "t" ]" with any white space becomes "Ġ t".
        let texts = tokenizer.replacing(
            #/\[\s*"(?<left>[^" ]+)",\s*"(?<right>[^" ]+)"\s*\]/#
        ) { "\"\($0.left) \($0.right)\"" }
        #expect(texts != tokenizer)
        var changed = files
        changed["tokenizer.json"] = Array(texts.utf8)
        let key = "tokenizer.ggml.merges"
        let pairs = try #require(try HuggingFaceModel(files: files).metadata.array(key))
        let lines = try #require(try HuggingFaceModel(files: changed).metadata.array(key))
        #expect(pairs.count == 12 && lines.count == 12)
        for index in 0..<12 { #expect(pairs.string(at: index) == lines.string(at: index)) }
        #expect(pairs.string(at: 0) == "Ġ t")
    }

    @Test func modelsAreCalledAfterTheirDirectory() throws {
        let path = HuggingFaceFixture.path("olmoe-bf16")
        for spelling in [path, path + "/", path + "/../olmoe-bf16//"] {
            let metadata = try HuggingFaceModel(directory: spelling).metadata
            #expect(try metadata.string("general.name") == "olmoe-bf16")
        }
    }

    /// The demo model's file was made from this checkpoint's tokenizer by tools/demo-model/make.py.
    static let demo: String? = {
        let shared =
            ProcessInfo.processInfo.environment["SLUICE_SHARED"]
            ?? Fixture.directory + "/../../../../shared"
        let path = shared + "/demo-model/v0"
        return FileManager.default.fileExists(atPath: path + "/config.json") ? path : nil
    }()

    @Test(.enabled(if: demo != nil, "no demo checkpoint in ../shared or $SLUICE_SHARED"))
    func theDemoCheckpointHasTheDemoModelsTokenizer() throws {
        let ours = try HuggingFaceModel(directory: #require(Self.demo)).metadata
        let path = Fixture.directory + "/../../../tools/demo-model/sluice-demo.gguf"
        let file = try GGUFFile(path: path).metadata
        for key in ["tokens", "merges", "token_type"].map({ "tokenizer.ggml.\($0)" }) {
            let found = try #require(try ours.array(key))
            let expected = try #require(try file.array(key))
            #expect(found.count == expected.count, "\(key)")
            #expect(
                (0..<expected.count).allSatisfy {
                    found.string(at: $0) == expected.string(at: $0)
                        && found.integer(at: $0) == expected.integer(at: $0)
                }, "\(key)")
        }
        #expect(try ours.string("tokenizer.ggml.pre") == file.string("tokenizer.ggml.pre"))
        for key in ["bos", "eos", "padding"].map({ "tokenizer.ggml.\($0)_token_id" }) {
            #expect(try ours.integer(key) == file.integer(key), "\(key)")
        }
    }
}
