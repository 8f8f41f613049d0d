"""Qwen2 MoE: biases on queries, keys and values, and a shared expert behind a gate of its own."""

from . import base


class Qwen2Moe(base.Family):
    name = "qwen2moe"
    architecture = "qwen2moe"
    transformers_name = "Qwen2Moe"
    fixture_format = "f16"

    fixed = dict(norm_topk_prob=False, rms_norm_eps=1e-6, decoder_sparse_step=1, tie_word_embeddings=False)
    default_members = dict(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, num_experts=12,
        num_experts_per_tok=3, moe_intermediate_size=32, shared_expert_intermediate_size=64, intermediate_size=96)
    fixture_members = dict(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, num_experts=4,
        num_experts_per_tok=2, moe_intermediate_size=12, shared_expert_intermediate_size=20, intermediate_size=48,
        tie_word_embeddings=False)

    def random_members(self, rng):
        return base.draw_heads(rng) | dict(
            num_hidden_layers=base.draw(rng, 2, 3, 4), num_experts=base.draw(rng, 5, 7, 12),
            num_experts_per_tok=base.draw(rng, 1, 2, 3, 5), moe_intermediate_size=base.draw(rng, 20, 36, 64),
            shared_expert_intermediate_size=base.draw(rng, 28, 44, 72),
            rope_parameters=base.draw_rotary(rng, "default", "linear", "yarn"))

    def tensors(self, config, state):
        out = base.top_tensors(config, state)
        for layer in range(config.num_hidden_layers):
            theirs, ours = f"model.layers.{layer}.", f"blk.{layer}."
            out |= base.renamed(state, theirs, ours, base.ATTENTION)
            if layer in config.mlp_only_layers:
                out |= base.renamed(state, theirs, ours, base.DENSE)
                continue
            out |= base.renamed(state, theirs, ours, {"ffn_gate_inp": "mlp.gate"})
            out |= base.stacked_experts(state, theirs + "mlp.experts.", ours)
            out |= base.renamed(state, theirs, ours, base.shared_expert("mlp.shared_expert"))
            out[f"{ours}ffn_gate_inp_shexp.weight"] = state[theirs + "mlp.shared_expert_gate.weight"][0]
        return out

    def write_hyperparameters(self, writer, config):
        base.common_hyperparameters(writer, config)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)


class MixedQwen2Moe(Qwen2Moe):
    """A layer without experts between others, which llama.cpp's converter has no form for; in a format that packages
    cut into planes."""
    saves_checkpoint = False
    fixture_format = "q8_0"
    fixture_members = Qwen2Moe.fixture_members | dict(
        hidden_size=32, num_hidden_layers=3, mlp_only_layers=[1], moe_intermediate_size=32, intermediate_size=96,
        shared_expert_intermediate_size=64, tie_word_embeddings=True)


FAMILIES = [Qwen2Moe(), MixedQwen2Moe("qwen2moe-mixed", qkv_bias=False)]
