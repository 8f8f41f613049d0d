"""Qwen3 MoE: RMS norm of each query and key head, head size apart from the width, gates renormalised."""

import moe_gguf

from . import base


class Qwen3Moe(base.Family):
    name = "qwen3moe"
    architecture = "qwen3moe"
    transformers_name = "Qwen3Moe"
    fixed = dict(norm_topk_prob=True, rms_norm_eps=1e-6, decoder_sparse_step=1, tie_word_embeddings=False)
    default_members = dict(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        num_experts=16, num_experts_per_tok=4, moe_intermediate_size=32, intermediate_size=96)
    fixture_members = dict(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=20, num_experts=5,
        num_experts_per_tok=2, moe_intermediate_size=12, intermediate_size=48, tie_word_embeddings=True)

    def random_members(self, rng):
        return base.draw_heads(rng, apart=True) | dict(
            num_hidden_layers=base.draw(rng, 2, 3, 4), num_experts=base.draw(rng, 5, 7, 12, 16),
            num_experts_per_tok=base.draw(rng, 1, 2, 3, 5), moe_intermediate_size=base.draw(rng, 20, 36, 64),
            rope_parameters=base.draw_rotary(rng, "default", "linear", "yarn"))

    def tensors(self, config, state):
        return moe_gguf.gguf_tensors(self.architecture, config.to_dict(), state)

    def write_hyperparameters(self, writer, config):
        base.common_hyperparameters(writer, config)
        base.write_head_size(writer, config)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)


FAMILIES = [Qwen3Moe()]
