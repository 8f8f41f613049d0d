"""Qwen3 MoE: RMS norm of each query and key head, gates renormalised where config.json says so."""

import moe_gguf

from . import base


class Qwen3Moe(base.Family):
    name = "qwen3moe"
    architecture = "qwen3moe"
    transformers_name = "Qwen3Moe"

    def config(self, rng, random_dimensions):
        members = dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
                       num_experts=16, num_experts_per_tok=4, moe_intermediate_size=32, intermediate_size=96)
        if random_dimensions:
            kv_heads = base.draw(rng, 1, 2, 3)
            experts = base.draw(rng, 5, 7, 12, 16)
            members.update(
                hidden_size=base.draw(rng, 40, 64, 88), num_hidden_layers=base.draw(rng, 2, 3, 4),
                num_attention_heads=kv_heads * base.draw(rng, 1, 2, 3), num_key_value_heads=kv_heads,
                head_dim=base.draw(rng, 18, 24, 40, 48), num_experts=experts,
                num_experts_per_tok=base.draw(rng, 1, 2, 3, 5), moe_intermediate_size=base.draw(rng, 20, 36, 64),
                rope_parameters=base.draw_rotary(rng, "default", "linear", "yarn"))
        return self.make_config(norm_topk_prob=True, rms_norm_eps=1e-6, decoder_sparse_step=1, tie_word_embeddings=False,
                          **members)

    def tensors(self, config, state):
        return moe_gguf.gguf_tensors(self.architecture, config.to_dict(), state)

    def write_hyperparameters(self, writer, config):
        base.common_hyperparameters(writer, config)
        base.write_head_size(writer, config)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)


FAMILIES = [Qwen3Moe()]
