// How tensors may lie in a checkpoint, and what becomes of them: worked out on checkpoints that are made
// up here, tensor by tensor.

import Glibc
import ModelFormats
import Testing

@Suite struct HuggingFaceLayoutTests {
    static let common = [
        "hidden_size": "8", "intermediate_size": "6", "num_hidden_layers": "1",
        "num_attention_heads": "2", "num_key_value_heads": "1", "max_position_embeddings": "64",
        "vocab_size": "5", "rms_norm_eps": "1e-6", "rope_theta": "10000",
        "tie_word_embeddings": "true",
    ]

    static let experts = [
        "num_experts": "3", "num_experts_per_tok": "2", "moe_intermediate_size": "6",
    ]

    /// What is outside the layers, and the norms and attention of one.
    static func begun(_ className: String, _ config: [String: String]) -> CheckpointBuilder {
        var builder = CheckpointBuilder(className, common.merging(config) { _, new in new })
        builder.add("model.embed_tokens.weight", [5, 8])
        builder.add("model.norm.weight", [8])
        let layer = "model.layers.0."
        builder.add(
            ["input_layernorm", "post_attention_layernorm"].map { "\(layer)\($0).weight" }, [8])
        builder.add(["q_proj", "o_proj"].map { "\(layer)self_attn.\($0).weight" }, [8, 8])
        builder.add(["k_proj", "v_proj"].map { "\(layer)self_attn.\($0).weight" }, [4, 8])
        return builder
    }

    func tensor(_ name: String, of model: HuggingFaceModel) throws -> GGUFTensor {
        try #require(model.tensors.first { $0.name == name }, "\(name)")
    }

    func bytes(_ name: String, of model: HuggingFaceModel) throws -> [UInt8] {
        try model.bytes(of: tensor(name, of: model))
    }

    /// Rows of `count` bytes in another order.
    func rows(_ order: [Int], of bytes: [UInt8], rowBytes: Int) -> [UInt8] {
        order.flatMap { bytes[($0 * rowBytes)...].prefix(rowBytes) }
    }

    // Experts

    /// Names of router and stacked experts of families that also have them one by one.
    static let stackedLayouts: [(className: String, router: String, gateUp: String, down: String)] =
        [
            (
                "Qwen3MoeForCausalLM", "mlp.gate", "mlp.experts.gate_up_proj",
                "mlp.experts.down_proj"
            ),
            ("MixtralForCausalLM", "mlp.gate", "mlp.experts.gate_up_proj", "mlp.experts.down_proj"),
            (
                "PhiMoEForCausalLM", "mlp.router", "mlp.experts.gate_up_proj",
                "mlp.experts.down_proj"
            ),
            (
                "GraniteMoeForCausalLM", "block_sparse_moe.router",
                "block_sparse_moe.experts.gate_up_proj", "block_sparse_moe.experts.down_proj"
            ),
            (
                "GraniteMoeForCausalLM", "block_sparse_moe.router.layer",
                "block_sparse_moe.input_linear.weight", "block_sparse_moe.output_linear.weight"
            ),
        ]

    @Test(arguments: stackedLayouts.indices)
    func stackedExpertsAreUsedInPlace(index: Int) throws {
        let layout = Self.stackedLayouts[index]
        var builder = Self.begun(layout.className, Self.experts)
        let layer = "model.layers.0."
        if layout.className.hasPrefix("Qwen3") {
            builder.add(["q_norm", "k_norm"].map { "\(layer)self_attn.\($0).weight" }, [4])
        }
        builder.add("\(layer)\(layout.router).weight", [3, 8])
        builder.add(layer + layout.gateUp, [3, 12, 8], "BF16")
        builder.add(layer + layout.down, [3, 8, 6], "BF16")
        let model = try HuggingFaceModel(files: builder.files)
        let gateUp = builder.bytes(layer + layout.gateUp)
        let matrix = 6 * 8 * 2
        for expert in 0..<3 {
            for (half, role) in ["gate", "up"].enumerated() {
                let name = "blk.0.ffn_\(role).\(expert).weight"
                let found = try tensor(name, of: model)
                #expect(found.shape == [8, 6] && found.format == .bf16 && found.fileIndex == 0)
                #expect(
                    try bytes(name, of: model).elementsEqual(
                        gateUp[((2 * expert + half) * matrix)...].prefix(matrix)))
            }
        }
        let down = try tensor("blk.0.ffn_down_exps.weight", of: model)
        #expect(down.shape == [6, 8, 3] && down.fileIndex == 0)
        #expect(try model.bytes(of: down) == builder.bytes(layer + layout.down))
    }

    static func gptOss(_ config: [String: String] = [:]) -> CheckpointBuilder {
        var builder = begun(
            "GptOssForCausalLM",
            [
                "hidden_size": "32", "intermediate_size": "64", "num_local_experts": "2",
                "num_experts_per_tok": "1", "sliding_window": "16",
            ].merging(config) { _, new in new })
        builder = CheckpointBuilder("GptOssForCausalLM", builder.config)
        let layer = "model.layers.0."
        builder.add("model.embed_tokens.weight", [5, 32], "BF16")
        builder.add("model.norm.weight", [32])
        builder.add(
            ["input_layernorm", "post_attention_layernorm"].map { "\(layer)\($0).weight" }, [32])
        for (name, rows) in [("q", 32), ("k", 16), ("v", 16), ("o", 32)] {
            builder.add("\(layer)self_attn.\(name)_proj.weight", [rows, 32], "BF16")
            builder.add("\(layer)self_attn.\(name)_proj.bias", [rows], "BF16")
        }
        builder.add("\(layer)self_attn.sinks", [2], "BF16")
        builder.add("\(layer)mlp.router.weight", [2, 32], "BF16")
        builder.add("\(layer)mlp.router.bias", [2], "BF16")
        builder.add("\(layer)mlp.experts.gate_up_proj_bias", [2, 128], "BF16")
        builder.add("\(layer)mlp.experts.down_proj_bias", [2, 32], "BF16")
        return builder
    }

    @Test func gptOssInMicroscalingIsRepacked() throws {
        var builder = Self.gptOss(["quantization_config": "{\"quant_method\": \"mxfp4\"}"])
        let experts = "model.layers.0.mlp.experts."
        builder.add("\(experts)gate_up_proj_blocks", [2, 128, 1, 16], "U8")
        builder.add("\(experts)gate_up_proj_scales", [2, 128, 1], "U8")
        builder.add("\(experts)down_proj_blocks", [2, 32, 2, 16], "U8")
        builder.add("\(experts)down_proj_scales", [2, 32, 2], "U8")
        let model = try HuggingFaceModel(files: builder.files)
        for (name, source, rows, columns, first, step) in [
            ("gate", "gate_up", 64, 32, 0, 2), ("up", "gate_up", 64, 32, 1, 2),
            ("down", "down", 32, 64, 0, 1),
        ] {
            let found = try tensor("blk.0.ffn_\(name)_exps.weight", of: model)
            #expect(found.format == .mxfp4 && found.shape == [columns, rows, 2])
            #expect(found.fileOffset % 4096 == 0)
            let bytes = try model.bytes(of: found)
            #expect(bytes.count == 2 * rows * columns / 32 * 17)
            let blocks = builder.bytes("\(experts)\(source)_proj_blocks")
            let scales = builder.bytes("\(experts)\(source)_proj_scales")
            for row in 0..<2 * rows {
                let sourceRow = row / rows * rows * step + row % rows * step + first
                for column in 0..<columns {
                    let block = row * columns / 32 + column / 32
                    let sourceBlock = sourceRow * columns / 32 + column / 32
                    let stored = blocks[sourceBlock * 16 + column % 32 / 2]
                    let place = column % 32
                    let now = bytes[block * 17 + 1 + place % 16]
                    #expect(
                        (place < 16 ? now & 15 : now >> 4)
                            == (column % 2 == 0 ? stored & 15 : stored >> 4))
                    #expect(bytes[block * 17] == scales[sourceBlock])
                }
            }
        }
        // Biases lie in turns as well.
        let joined = builder.bytes("\(experts)gate_up_proj_bias")
        for (part, name) in ["gate", "up"].enumerated() {
            let bias = try tensor("blk.0.ffn_\(name)_exps.bias", of: model)
            #expect(bias.shape == [64, 2] && bias.format == .bf16)
            let order = (0..<128).map { 2 * $0 + part }
            #expect(try model.bytes(of: bias) == rows(order, of: joined, rowBytes: 2))
        }
        #expect(try tensor("blk.0.attn_sinks.weight", of: model).shape == [2])
    }

    @Test func gptOssInNumbersIsTransposed() throws {
        var builder = Self.gptOss()
        let experts = "model.layers.0.mlp.experts."
        builder.add("\(experts)gate_up_proj", [2, 32, 128], "BF16")
        builder.add("\(experts)down_proj", [2, 64, 32], "BF16")
        let model = try HuggingFaceModel(files: builder.files)
        for (name, source, rows, columns, first, step) in [
            ("gate", "gate_up", 64, 32, 0, 2), ("up", "gate_up", 64, 32, 1, 2),
            ("down", "down", 32, 64, 0, 1),
        ] {
            let found = try tensor("blk.0.ffn_\(name)_exps.weight", of: model)
            #expect(found.format == .bf16 && found.shape == [columns, rows, 2])
            let stored = builder.bytes("\(experts)\(source)_proj")
            var expected: [UInt8] = []
            for expert in 0..<2 {
                for row in 0..<rows {
                    for column in 0..<columns {
                        let element = (expert * columns + column) * rows * step + row * step + first
                        expected += stored[(2 * element)...].prefix(2)
                    }
                }
            }
            #expect(try model.bytes(of: found) == expected)
        }
    }

    // Rotation

    static func deepSeek(_ config: [String: String]) -> CheckpointBuilder {
        var builder = CheckpointBuilder(
            "DeepseekV3ForCausalLM",
            common.merging(
                [
                    "n_routed_experts": "2", "num_experts_per_tok": "1",
                    "moe_intermediate_size": "6",
                    "n_shared_experts": "1", "first_k_dense_replace": "1", "n_group": "1",
                    "topk_group": "1", "kv_lora_rank": "6", "q_lora_rank": "null",
                    "qk_nope_head_dim": "3", "qk_rope_head_dim": "4", "v_head_dim": "2",
                    "num_nextn_predict_layers": "1",
                ].merging(config) { _, new in new }
            ) { _, new in new })
        builder.add("model.embed_tokens.weight", [5, 8])
        builder.add("model.norm.weight", [8])
        let layer = "model.layers.0."
        builder.add(
            ["input_layernorm", "post_attention_layernorm"].map { "\(layer)\($0).weight" }, [8])
        builder.add("\(layer)self_attn.q_proj.weight", [14, 8])
        builder.add("\(layer)self_attn.kv_a_proj_with_mqa.weight", [10, 8])
        builder.add("\(layer)self_attn.kv_a_layernorm.weight", [6])
        builder.add("\(layer)self_attn.kv_b_proj.weight", [10, 6])
        builder.add("\(layer)self_attn.o_proj.weight", [8, 4])
        builder.add(["gate_proj", "up_proj"].map { "\(layer)mlp.\($0).weight" }, [6, 8])
        builder.add("\(layer)mlp.down_proj.weight", [8, 6])
        return builder
    }

    @Test func latentAttentionRotatesNeighbours() throws {
        for interleaves in [true, false] {
            let builder = Self.deepSeek(["rope_interleave": "\(interleaves)"])
            let model = try HuggingFaceModel(files: builder.files)
            #expect(model.paths.count == (interleaves ? 1 : 2))
            let query = builder.bytes("model.layers.0.self_attn.q_proj.weight")
            let down = builder.bytes("model.layers.0.self_attn.kv_a_proj_with_mqa.weight")
            // Pairs of the rotated rows are 2 apart: (3, 5) and (4, 6) of a head of 7.
            let head = interleaves ? Array(0..<7) : [0, 1, 2, 3, 5, 4, 6]
            #expect(
                try bytes("blk.0.attn_q.weight", of: model)
                    == rows(head + head.map { $0 + 7 }, of: query, rowBytes: 32))
            let latent = Array(0..<6) + (interleaves ? [6, 7, 8, 9] : [6, 8, 7, 9])
            #expect(
                try bytes("blk.0.attn_kv_a_mqa.weight", of: model)
                    == rows(latent, of: down, rowBytes: 32))
        }
    }

    @Test func graniteRotatesNeighbours() throws {
        var builder = Self.begun("GraniteMoeForCausalLM", Self.experts)
        let layer = "model.layers.0.block_sparse_moe."
        builder.add("\(layer)router.layer.weight", [3, 8])
        builder.add("\(layer)input_linear.weight", [3, 12, 8])
        builder.add("\(layer)output_linear.weight", [3, 8, 6])
        let model = try HuggingFaceModel(files: builder.files)
        let query = builder.bytes("model.layers.0.self_attn.q_proj.weight")
        #expect(
            try bytes("blk.0.attn_q.weight", of: model)
                == rows([0, 2, 1, 3, 4, 6, 5, 7], of: query, rowBytes: 32))
        #expect(try model.metadata.integer("granitemoe.expert_gating_func") == 3)
        #expect(try model.metadata.number("granitemoe.attention.scale") == 1)
        #expect(try model.metadata.bool("sluice.rope.halves") == nil)
    }

    // What is left out

    @Test func furtherPredictorsAreLeftOutKnowingly() throws {
        for (layers, isKnown) in [("1", true), ("0", false)] {
            var builder = Self.deepSeek(["num_nextn_predict_layers": layers])
            builder.add("model.layers.1.eh_proj.weight", [8, 16])
            builder.add("model.layers.1.mlp.experts.0.gate_proj.weight", [6, 8])
            if isKnown {
                let model = try HuggingFaceModel(files: builder.files)
                #expect(!model.tensors.contains { $0.name.hasPrefix("blk.1.") })
                #expect(try model.metadata.integer("deepseek2.block_count") == 1)
            } else {
                refuses(builder, "tensor 'model.layers.1.eh_proj.weight'", "no place")
            }
        }
        var builder = Self.deepSeek([:])
        builder.add("model.layers.2.eh_proj.weight", [8, 16])
        refuses(builder, "tensor 'model.layers.2.eh_proj.weight'", "no place")
    }

    // Rotary scaling

    @Test func stretchedRotaryEmbeddingsBecomeKeysAndTensors() throws {
        func model(_ rope: String) throws -> HuggingFaceModel {
            var builder = Self.begun("LlamaForCausalLM", ["rope_scaling": rope])
            let layer = "model.layers.0.mlp."
            builder.add(["gate_proj", "up_proj"].map { "\(layer)\($0).weight" }, [6, 8])
            builder.add("\(layer)down_proj.weight", [8, 6])
            return try HuggingFaceModel(files: builder.files)
        }
        func floats(_ name: String, _ model: HuggingFaceModel) throws -> [Float] {
            let bytes = try bytes(name, of: model)
            return (0..<bytes.count / 4).map { index in
                Float(
                    bitPattern: (0..<4).reduce(0) {
                        $0 | UInt32(bytes[index * 4 + $1]) << UInt32(8 * $1)
                    })
            }
        }
        // A head of 4 has pairs with frequencies 1 and 1/100: waves of 6.28 and 628 positions.
        let llama3 = try model(
            """
            {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
             "original_max_position_embeddings": 1000}
            """)
        // 1000 / 628.3 turns, of which 1 is slow and 4 is fast.
        let smooth = (1000 / (2 * Float.pi * 100) - 1) / 3
        let expected = [1, 1 / ((1 - smooth) / 8 + smooth)]
        for (found, wanted) in zip(try floats("rope_freqs.weight", llama3), expected) {
            #expect(abs(found - wanted) < 1e-5 * wanted)
        }
        #expect(try llama3.metadata.string("llama.rope.scaling.type") == nil)

        let longRoPE = try model(
            """
            {"type": "longrope", "long_factor": [2, 3], "short_factor": [1, 1.5],
             "original_max_position_embeddings": 16}
            """)
        #expect(try floats("rope_factors_long.weight", longRoPE) == [2, 3])
        #expect(try floats("rope_factors_short.weight", longRoPE) == [1, 1.5])
        // A context of 64 is 4 times that of 16, and ln 4 / ln 16 is a half.
        let factor = try #require(try longRoPE.metadata.number("llama.rope.scaling.attn_factor"))
        #expect(abs(factor - 1.5.squareRoot()) < 1e-6)
        #expect(try longRoPE.metadata.string("llama.rope.scaling.type") == "longrope")

        let yarn = try model(
            """
            {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 16,
             "beta_fast": 16, "truncate": false, "mscale": 1, "mscale_all_dim": 0.5}
            """
        ).metadata
        #expect(try yarn.number("llama.rope.scaling.yarn_beta_fast") == 16)
        #expect(try yarn.number("llama.rope.scaling.yarn_beta_slow") == nil)
        #expect(try yarn.bool("sluice.rope.rounds_ramp") == false)
        // Only DeepSeek's models scale attention by it; elsewhere it is a part of the factor, of which
        // the key is what is multiplied with 1 + 0.1 ln 4.
        #expect(try yarn.number("llama.rope.scaling.yarn_log_multiplier") == nil)
        let magnitude = try #require(try yarn.number("llama.rope.scaling.yarn_attn_factor"))
        #expect(abs(magnitude - 1 / (1 + 0.05 * log(4))) < 1e-6)

        let latent = try HuggingFaceModel(
            files: Self.deepSeek([
                "rope_scaling": """
                {"type": "yarn", "factor": 4, "original_max_position_embeddings": 16,
                 "mscale": 0.707, "mscale_all_dim": 0.707}
                """
            ]).files
        ).metadata
        let log = try #require(try latent.number("deepseek2.rope.scaling.yarn_log_multiplier"))
        #expect(abs(log - 0.0707) < 1e-6)
        #expect(try latent.number("deepseek2.rope.scaling.yarn_attn_factor") == nil)
    }

    // Refusals

    func refuses(
        _ builder: CheckpointBuilder, _ field: String, _ words: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        do {
            _ = try HuggingFaceModel(files: builder.files, name: "dir")
            Issue.record("was accepted", sourceLocation: sourceLocation)
        } catch {
            #expect(error.field == field, "\(error)", sourceLocation: sourceLocation)
            #expect(error.message.contains(words), "\(error)", sourceLocation: sourceLocation)
            #expect(!error.description.contains("\n"), sourceLocation: sourceLocation)
        }
    }

    @Test func membersThatAskForOtherArithmetic() {
        let scaled =
            "{\"rope_type\": \"default\", \"rope_theta\": 1e4, \"partial_rotary_factor\": 0.5}"
        for (className, name, value, words) in [
            ("DeepseekV3ForCausalLM", "scoring_func", "\"softmax\"", "only sigmoid"),
            ("DeepseekV3ForCausalLM", "topk_method", "\"greedy\"", "only noaux_tc"),
            ("DeepseekV3ForCausalLM", "n_group", "4", "not between 1 and 3"),
            ("DeepseekV3ForCausalLM", "topk_group", "2", "not between 1 and 1"),
            ("DeepseekV3ForCausalLM", "moe_layer_freq", "2", "only 1"),
            ("DeepseekV3ForCausalLM", "qk_rope_head_dim", "3", "odd"),
            ("DeepseekV3ForCausalLM", "kv_lora_rank", "0", "not between"),
            ("DeepseekV3ForCausalLM", "n_routed_experts", "65537", "not between"),
            (
                "DeepseekV3ForCausalLM", "quantization_config", "{\"quant_method\": \"fp8\"}",
                "(fp8)"
            ),
            ("DeepseekV2ForCausalLM", "norm_topk_prob", "true", "add up to 1"),
            ("DeepseekV2ForCausalLM", "topk_method", "\"noaux_tc\"", "greedy and"),
            ("GptOssForCausalLM", "swiglu_limit", "5", "only 7.0"),
            ("GptOssForCausalLM", "layer_types", "[\"full_attention\"]", "'sliding_attention'"),
            ("GptOssForCausalLM", "layer_types", "[]", "expected 1 elements"),
            ("GptOssForCausalLM", "sliding_window", "null", "missing"),
            ("GptOssForCausalLM", "quantization_config", "{\"quant_method\": \"awq\"}", "(awq)"),
            ("GraniteMoeForCausalLM", "residual_multiplier", "0", "not above 0"),
            ("GraniteMoeForCausalLM", "embedding_multiplier", "1e39", "too large"),
            ("PhimoeForCausalLM", "num_experts_per_tok", "1", "only 2.0"),
            ("PhimoeForCausalLM", "router_jitter_noise", "-1", "not above 0"),
            ("Lfm2MoeForCausalLM", "layer_types", "[\"mamba\"]", "neither 'conv'"),
            ("Lfm2MoeForCausalLM", "conv_bias", "true", "a bias of convolutions"),
            ("Glm4MoeForCausalLM", "n_group", "2", "cannot share 3 experts"),
            ("Glm4MoeForCausalLM", "partial_rotary_factor", "1.5", "not between 0 and 1"),
            ("Glm4MoeForCausalLM", "partial_rotary_factor", "0.3", "no pairs"),
            ("Qwen3NextForCausalLM", "layer_types", "[\"conv\"]", "every 4 layers"),
            ("Qwen3NextForCausalLM", "linear_num_value_heads", "3", "multiple of 2"),
            ("SmallThinkerForCausalLM", "rope_layout", "[0]", "only 1"),
            ("SmallThinkerForCausalLM", "sliding_window_layout", "[1]", "only 0"),
            ("SmallThinkerForCausalLM", "use_qk_norm", "true", "a norm of queries"),
            ("SmallThinkerForCausalLM", "moe_layer_layout", "[0]", "only 1"),
            ("LlamaForCausalLM", "num_attention_heads", "3", "cannot share 8"),
            ("LlamaForCausalLM", "rope_theta", "1", "not between"),
            ("Ernie4_5_MoeForCausalLM", "moe_k", "0", "not between"),
            ("Qwen2MoeForCausalLM", "shared_expert_intermediate_size", "null", "missing"),
        ] {
            var builder = CheckpointBuilder(className, Self.members)
            // So that a quarter of a head is a pair.
            if className.hasPrefix("Qwen3Next") { builder.config["head_dim"] = "8" }
            builder.config[name] = value
            refuses(builder, "'\(name)'", words)
        }
        var builder = CheckpointBuilder("LlamaForCausalLM", Self.members)
        builder.config["rope_parameters"] = scaled
        refuses(builder, "'rope_parameters.partial_rotary_factor'", "0.5")
        // Each can be, both together cannot.
        builder = CheckpointBuilder("Ernie4_5_MoeForCausalLM", Self.members)
        builder.config["moe_intermediate_size"] = "16777216"
        refuses(builder, "'moe_num_shared_experts'", "33554432 elements")
        builder = CheckpointBuilder("Qwen3NextForCausalLM", Self.members)
        builder.config["head_dim"] = "8"
        builder.config["linear_num_value_heads"] = "65536"
        builder.config["linear_value_head_dim"] = "65536"
        refuses(builder, "'linear_value_head_dim'", "too many")
        builder = CheckpointBuilder("Lfm2MoeForCausalLM", Self.members)
        builder.config["layer_types"] = nil
        refuses(builder, "'layer_types'", "missing")
    }

    /// Sound members of any family.
    static let members = common.merging(experts) { _, new in new }.merging([
        "num_local_experts": "3", "n_routed_experts": "3", "n_group": "1", "topk_group": "1",
        "kv_lora_rank": "6", "qk_nope_head_dim": "3", "qk_rope_head_dim": "4", "v_head_dim": "2",
        "sliding_window": "16", "use_sliding_window": "false", "norm_eps": "1e-6",
        "conv_L_cache": "3", "layer_types": "null", "moe_num_experts": "3", "moe_k": "2",
        "moe_num_shared_experts": "2",
        "linear_num_key_heads": "2", "linear_num_value_heads": "4", "linear_key_head_dim": "2",
        "linear_value_head_dim": "2", "linear_conv_kernel_dim": "3",
        "shared_expert_intermediate_size": "6", "moe_ffn_hidden_size": "6",
        "moe_num_primary_experts": "3", "moe_num_active_primary_experts": "2",
        "sliding_window_size": "16",
    ]) { _, new in new }

    @Test func tensorsOfOtherShapes() {
        let experts = "model.layers.0.mlp.experts."
        for (name, shape, type, words) in [
            ("gate_up_proj_blocks", [2, 128, 1, 8], "U8", "[2, 128, 1, 16] is expected"),
            ("gate_up_proj_blocks", [2, 128, 1, 16], "I8", "U8 is expected"),
            ("gate_up_proj_scales", [2, 128], "U8", "[2, 128, 1] is expected"),
            ("gate_up_proj", [2, 32, 127], "BF16", "[2, 32, 128] is expected"),
            ("gate_up_proj", [2, 32, 128], "U8", "use weights in F32"),
            ("down_proj", [2, 32, 64], "BF16", "[2, 64, 32] is expected"),
        ] {
            var builder = Self.gptOss()
            let isBlocks = name.contains("_blocks") || name.contains("_scales")
            if isBlocks {
                builder.add("\(experts)\(name)", shape, type)
                for (other, size) in [("blocks", [2, 128, 1, 16]), ("scales", [2, 128, 1])]
                where !name.hasSuffix(other) {
                    builder.add("\(experts)gate_up_proj_\(other)", size, "U8")
                }
            } else {
                if name == "down_proj" {
                    builder.add("\(experts)gate_up_proj", [2, 32, 128], "BF16")
                }
                builder.add("\(experts)\(name)", shape, type)
            }
            refuses(builder, "tensor '\(experts)\(name)'", words)
        }
        var builder = Self.begun("GraniteMoeForCausalLM", Self.experts)
        builder.config["num_attention_heads"] = "4"
        builder.config["num_key_value_heads"] = "3"
        refuses(builder, "tensor 'model.layers.0.self_attn.k_proj.weight'", "[6, 8] is expected")
        builder = Self.begun("MixtralForCausalLM", Self.experts)
        builder.add("model.layers.0.mlp.gate.weight", [3, 8])
        builder.add("model.layers.0.mlp.experts.gate_up_proj", [3, 11, 8])
        refuses(
            builder, "tensor 'model.layers.0.mlp.experts.gate_up_proj'", "[3, 2 x width, 8]")
        builder = Self.gptOss()
        builder.config["intermediate_size"] = "24"
        refuses(builder, "tensor '\(experts)gate_up_proj'", "missing")
    }

    @Test func tensorsOfEveryFamilyAreMissed() {
        for name in ["q_proj", "kv_a_proj_with_mqa", "kv_b_proj", "kv_a_layernorm"] {
            let sound = Self.deepSeek([:])
            var builder = CheckpointBuilder(sound.className, sound.config)
            let absent = "model.layers.0.self_attn.\(name).weight"
            for tensor in sound.tensors where tensor.name != absent {
                builder.add(tensor.name, tensor.shape, tensor.type, bytes: tensor.bytes)
            }
            refuses(builder, "tensor '\(absent)'", "1 layers of 2 experts")
        }
    }
}
