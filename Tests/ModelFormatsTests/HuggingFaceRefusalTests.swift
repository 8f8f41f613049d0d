// Model directories that cannot be computed, or are damaged: the line each ends in.

import ModelFormats
import Testing

@Suite struct HuggingFaceRefusalTests {
    typealias Files = [String: [UInt8]]

    func refuses(
        _ files: Files, path: String, field: String?, _ words: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        do {
            _ = try HuggingFaceModel(files: files, name: "dir")
            Issue.record("was accepted", sourceLocation: sourceLocation)
        } catch {
            #expect(error.path == path, "\(error)", sourceLocation: sourceLocation)
            #expect(error.field == field, "\(error)", sourceLocation: sourceLocation)
            #expect(error.message.contains(words), "\(error)", sourceLocation: sourceLocation)
            #expect(!error.description.contains("\n"), sourceLocation: sourceLocation)
        }
    }

    // config.json

    @Test func configurationsThatAskForOtherArithmetic() throws {
        let olmoe = try HuggingFaceFixture.files("olmoe-bf16")
        let qwen = try HuggingFaceFixture.files("qwen3moe-f32")
        let mixtral = try HuggingFaceFixture.files("mixtral-f32")
        let rope = "\"rope_type\": \"default\""
        let cases: [(Files, String, String, String, String)] = [
            (olmoe, "OlmoeForCausalLM", "Olmo2ForCausalLM", "architectures", "supported are Qwen3"),
            (olmoe, "\"clip_qkv\": null", "\"clip_qkv\": 8.0", "clip_qkv", "8.0"),
            (olmoe, "\"silu\"", "\"gelu\"", "hidden_act", "'gelu'"),
            (
                mixtral, "\"sliding_window\": null", "\"sliding_window\": 64", "sliding_window",
                "last 64"
            ),
            (
                qwen, "\"mlp_only_layers\": []",
                "\"mlp_only_layers\": [], \"quantization_config\": {\"quant_method\": \"fp8\"}",
                "quantization_config", "(fp8)"
            ),
            (olmoe, rope, "\"rope_type\": \"dynamic\"", "rope_parameters.rope_type", "'dynamic'"),
            (olmoe, rope, "\"type\": \"ntk\"", "rope_parameters.type", "'ntk'"),
            (
                olmoe, rope, "\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4",
                "rope_parameters.high_freq_factor", "more than 'low_freq_factor'"
            ),
            (
                olmoe, rope,
                "\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4",
                "rope_parameters.original_max_position_embeddings", "missing"
            ),
            (
                olmoe, rope,
                "\"rope_type\": \"longrope\", \"original_max_position_embeddings\": 32, \"long_factor\": [1, 2]",
                "rope_parameters.long_factor", "one for each pair"
            ),
            (olmoe, rope, "\"rope_type\": \"yarn\"", "rope_parameters.factor", "missing"),
            (
                olmoe, rope, "\"rope_type\": \"yarn\", \"factor\": 4, \"beta_fast\": -16",
                "rope_parameters.beta_fast", "-16.0"
            ),
            (
                olmoe, rope, "\"rope_type\": \"yarn\", \"factor\": 4, \"attention_factor\": 0",
                "rope_parameters.attention_factor", "0.0"
            ),
            (
                olmoe, rope, "\(rope), \"partial_rotary_factor\": 0.5",
                "rope_parameters.partial_rotary_factor", "0.5"
            ),
            (olmoe, "\"vocab_size\": 272", "\"vocab_size\": 271", "vocab_size", "[272, 32]"),
            (olmoe, "\"num_experts\": 6", "\"num_experts\": 0", "num_experts", "not between"),
            (olmoe, "\"num_experts\": 6", "\"num_experts\": 6.5", "num_experts", "an integer"),
            (olmoe, "\"num_experts\": 6,", "", "num_local_experts", "missing"),
            (
                olmoe, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4097",
                "num_hidden_layers", "not between"
            ),
            (olmoe, "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": null", "rms_norm_eps", "missing"),
            (
                olmoe, "\"rope_theta\": 10000.0", "\"rope_theta\": null", "rope_theta",
                "missing"
            ),
        ]
        for (files, old, new, field, words) in cases {
            refuses(
                files.replacing(old, with: new, in: "config.json"), path: "dir/config.json",
                field: "'\(field)'", words)
        }
        // A window as long as the context, and one that is switched off, hide nothing.
        for (files, new) in [
            (mixtral, "\"sliding_window\": 128"),
            (mixtral, "\"use_sliding_window\": false, \"sliding_window\": 64"),
        ] {
            let changed = files.replacing(
                "\"sliding_window\": null", with: new, in: "config.json")
            #expect(throws: Never.self) { try HuggingFaceModel(files: changed) }
        }
    }

    @Test func filesThatAreMissing() throws {
        let files = try HuggingFaceFixture.files("olmoe-bf16")
        var changed = files
        changed["config.json"] = nil
        refuses(changed, path: "dir", field: nil, "config.json is missing")
        changed = files
        changed["model.safetensors"] = nil
        refuses(changed, path: "dir", field: nil, "neither model.safetensors nor")
        do {
            _ = try HuggingFaceModel(directory: "/nonexistent/\u{7}")
            Issue.record("was accepted")
        } catch {
            #expect(error.description.hasPrefix("/nonexistent/\\u{7}: config.json is missing"))
        }
    }

    // Weights

    @Test func tensorsThatAreMissingOrTooMany() throws {
        let files = try HuggingFaceFixture.files("olmoe-bf16")
        let weights = "model.safetensors"
        refuses(
            files.replacing("\"model.norm.weight\"", with: "\"model.norm.wight_\"", in: weights),
            path: "dir", field: "tensor 'model.norm.weight'", "missing")
        // Names of the same length, so that the header's length stays true.
        let name = "model.layers.1.self_attn.q_norm.weight"
        refuses(
            files.replacing(name, with: "model.layers.1.self_attn.q_proj.bias__", in: weights),
            path: "dir", field: "tensor '\(name)'", "missing")
        refuses(
            files.replacing("\"num_experts\": 6", with: "\"num_experts\": 5", in: "config.json"),
            path: "dir/\(weights)",
            field: "tensor 'model.layers.0.mlp.experts.5.down_proj.weight'", "no place")
        refuses(
            files.replacing(
                "\"num_hidden_layers\": 2", with: "\"num_hidden_layers\": 3", in: "config.json"),
            path: "dir", field: "tensor 'model.layers.2.input_layernorm.weight'",
            "3 layers of 6 experts")
        refuses(
            files.replacing("BF16", with: "I16\u{20}", in: weights), path: "dir/\(weights)",
            field: "tensor 'lm_head.weight'", "'I16 ' is not a known dtype")
        refuses(
            files.replacing("\"dtype\":\"BF16\"", with: "\"dtype\":\"U16\" ", in: weights),
            path: "dir/\(weights)", field: "tensor 'model.embed_tokens.weight'",
            "U16 is not supported; use weights in F32, F16 or BF16")
    }

    @Test func biasesAreRefusedByName() throws {
        let folder = HuggingFaceFixture.directory + "/tokenizers/"
        var files: Files = [
            "config.json": try readFile(folder + "config.json"),
            "model.safetensors": try readFile(folder + "model.safetensors"),
        ]
        #expect(throws: Never.self) { try HuggingFaceModel(files: files) }
        // A tensor more, at the end.
        let bytes = try #require(files["model.safetensors"])
        let length = bytes[..<8].enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
        let header = String(decoding: bytes[8..<8 + length], as: UTF8.self)
        let data = bytes.count - 8 - length
        let brace = try #require(header.lastIndex(of: "}"))
        let bias = "model.layers.0.self_attn.q_proj.bias"
        var builder = SafetensorsBuilder(
            header[..<brace]
                + ",\"\(bias)\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[\(data),\(data + 4)]}}"
        )
        builder.data = bytes[(8 + length)...] + [0, 0, 0, 0]
        files["model.safetensors"] = builder.bytes
        refuses(
            files, path: "dir/model.safetensors", field: "tensor '\(bias)'", "biases are not")
        // What old checkpoints saved of the rotary embedding is left out.
        builder.header = builder.header.replacing(
            bias, with: "model.layers.0.self_attn.rotary_emb.inv_freq")
        files["model.safetensors"] = builder.bytes
        #expect(throws: Never.self) { try HuggingFaceModel(files: files) }
    }

    @Test func indexesThatMislead() throws {
        let files = try HuggingFaceFixture.files("qwen3moe-f32")
        let index = "model.safetensors.index.json"
        for wrong in [
            "../model.safetensors", "/etc/passwd", "", "config.json", "a/b.safetensors",
            String(repeating: "a", count: 250) + ".safetensors",
        ] {
            refuses(
                files.replacing("model-00003-of-00003.safetensors", with: wrong, in: index),
                path: "dir/\(index)", field: "tensor 'model.layers.1.mlp.experts.0.up_proj.weight'",
                "in this directory")
        }
        refuses(
            files.replacing("model-00003", with: "model-00004", in: index),
            path: "dir/model-00004-of-00003.safetensors", field: nil, "no such file")
        refuses(
            files.replacing("model.norm.weight", with: "model.norm.width", in: index),
            path: "dir/model-00003-of-00003.safetensors", field: "tensor 'model.norm.weight'",
            "no file")
        refuses(
            files.replacing(
                "\"model.norm.weight\"", with: "\"model.norn.weight\"",
                in: "model-00003-of-00003.safetensors"),
            path: "dir/model-00003-of-00003.safetensors", field: "tensor 'model.norn.weight'",
            "no file")
        refuses(
            files.adding("\"weight_map\": {}", to: index), path: "dir/\(index)",
            field: "the document", "appears twice")
        var empty = files
        empty[index] = Array("{\"metadata\": {}}".utf8)
        refuses(empty, path: "dir/\(index)", field: "'weight_map'", "found none")
        var twice = files
        twice["model-00002-of-00003.safetensors"] = files["model-00001-of-00003.safetensors"]
        refuses(
            twice, path: "dir/model-00002-of-00003.safetensors",
            field: "tensor 'model.embed_tokens.weight'", "model-00001-of-00003.safetensors")
    }

    // tokenizer.json

    @Test func tokenizersThatAreNotKnown() throws {
        let files = try HuggingFaceFixture.files("olmoe-bf16")
        let name = "tokenizer.json"
        let path = "dir/\(name)"
        func with(_ member: String, _ value: String) -> Files {
            files.replacing(
                "\"\(member)\": null", with: "\"\(member)\": \(value)", in: name)
        }
        refuses(
            files.replacing("\"type\": \"BPE\"", with: "\"type\": \"Unigram\"", in: name),
            path: path, field: "'model.type'", "'Unigram'")
        refuses(
            with("normalizer", "{\"type\": \"Lowercase\"}"), path: path, field: "normalizer",
            "Lowercase")
        #expect(throws: Never.self) {
            try HuggingFaceModel(files: with("normalizer", "{\"type\": \"NFC\"}"))
        }
        refuses(
            with("dropout", "0.1"), path: path, field: "'model.dropout'", "0.1")
        refuses(
            with("end_of_word_suffix", "\"</w>\""), path: path,
            field: "'model.end_of_word_suffix'", "</w>")
        refuses(
            files.replacing("\"use_regex\": true", with: "\"use_regex\": false", in: name),
            path: path, field: "'pre_tokenizer'", "not known: {type:")
        refuses(
            files.replacing(
                "\"add_prefix_space\": false", with: "\"add_prefix_space\": true", in: name),
            path: path, field: "'pre_tokenizer'", "a space put before")
        refuses(
            files.replacing("\"ignore_merges\": false", with: "\"ignore_merges\": true", in: name),
            path: path, field: "'pre_tokenizer'", "ignore_merges")
        refuses(
            files.replacing("\"lstrip\": false", with: "\"lstrip\": true", in: name),
            path: path, field: "added token 0", "lstrip")
        refuses(
            files.replacing("\"id\": 268", with: "\"id\": 272", in: name), path: path,
            field: "added token 0", "272 rows")
        refuses(
            files.replacing("\"id\": 268", with: "\"id\": 0", in: name), path: path,
            field: "added token '<|endoftext|>'", "is that of 'Ā'")
        refuses(
            files.replacing("\"id\": 268", with: "\"id\": 269", in: name), path: path,
            field: "added token '<|im_end|>'", "another added token's")
        refuses(
            files.replacing("\"Ā\": 0", with: "\"Ā\": 1", in: name), path: path,
            field: "token 'ā'", "another token's")
        refuses(
            files.replacing("\"Ā\": 0", with: "\"Ā\": -1", in: name), path: path,
            field: "token 'Ā'", "272 rows")
        refuses(
            with("post_processor", template("<|im_end|>")), path: path,
            field: "post_processor", "beginning-of-sequence")
    }

    /// A post-processor that puts `token` before a text.
    private func template(_ token: String) -> String {
        "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"\(token)\"}}, "
            + "{\"Sequence\": {\"id\": \"A\"}}]}"
    }

    @Test func regularExpressionsAreShownWhereTheyAreNotKnown() throws {
        let files = try HuggingFaceFixture.files("qwen3moe-f32")
        refuses(
            files.replacing("{L}+|", with: "{L}*|", in: "tokenizer.json"),
            path: "dir/tokenizer.json", field: "'pre_tokenizer'", #"[^\r\n\p{L}\p{N}]?\p{L}*|"#)
    }

    @Test func sentencePieceVocabulariesAreWhole() throws {
        let folder = HuggingFaceFixture.directory + "/tokenizers/"
        let files: Files = [
            "config.json": try readFile(folder + "config.json"),
            "model.safetensors": try readFile(folder + "model.safetensors"),
            "tokenizer.json": try readFile(folder + "sentencepiece-prepend.json"),
        ]
        let path = "dir/tokenizer.json"
        func with(_ old: String, _ new: String) -> Files {
            files.replacing(old, with: new, in: "tokenizer.json")
        }
        refuses(
            with("\"<0x41>\"", "\"<0x4l>\""), path: path, field: "model.vocab", "'<0x41>'")
        refuses(
            with("\"byte_fallback\":true", "\"byte_fallback\":false"), path: path,
            field: "model.byte_fallback", "not supported")
        refuses(
            with("\"ignore_merges\":false", "\"ignore_merges\":true"), path: path,
            field: "model.ignore_merges", "not supported")
        refuses(
            with("\"prepend\":\"▁\"", "\"prepend\":\"_\""), path: path, field: "normalizer",
            "expected spaces to become")
        refuses(
            with("\"pre_tokenizer\":null", "\"pre_tokenizer\":{\"type\":\"Whitespace\"}"),
            path: path, field: "pre_tokenizer", "together")
        var metaspace = files
        metaspace["tokenizer.json"] = try readFile(folder + "metaspace-first.json")
        refuses(
            metaspace.replacing(
                "\"split\":false", with: "\"split\":true", in: "tokenizer.json"), path: path,
            field: "pre_tokenizer", "does not split")
    }

    // Damage of any kind

    @Test(arguments: ["qwen3moe-f32", "mixtral-f32"])
    func damagedDocumentsAreReadOrRefused(name: String) throws {
        let sound = try HuggingFaceFixture.files(name)
        let documents = sound.keys.filter { $0.hasSuffix(".json") }.sorted()
        var random = SplitMix64(seed: 8)
        let alphabet = Array("0123456789[]{},:\"-e.tfn".utf8)
        var refused = 0
        for round in 0..<600 {
            let document = documents[round % documents.count]
            var bytes = sound[document]!
            for _ in 0...Int.random(in: 0..<3, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                switch round / documents.count % 4 {
                case 0: bytes[at] = alphabet.randomElement(using: &random)!
                case 1: bytes.remove(at: at)
                case 2: bytes.insert(contentsOf: bytes[at...].prefix(40), at: at)
                default: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                }
            }
            var files = sound
            files[document] = bytes
            do {
                let model = try HuggingFaceModel(files: files, name: "dir")
                for tensor in model.tensors {
                    let end = tensor.fileOffset + UInt64(tensor.byteCount)
                    #expect(end <= model.fileSizes[tensor.fileIndex])
                }
                for key in model.metadata.keys { #expect(model.metadata[key] != nil) }
            } catch {
                refused += 1
                #expect(error.path.hasPrefix("dir"))
                #expect(!error.description.unicodeScalars.contains { $0.value < 32 })
            }
        }
        #expect(refused > 200)
    }
}
