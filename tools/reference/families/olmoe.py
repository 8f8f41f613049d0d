"""OLMoE: RMS norm over the whole query and key projection, gates not renormalised."""

import moe_gguf

from . import base


class Olmoe(base.Family):
    name = "olmoe"
    architecture = "olmoe"
    transformers_name = "Olmoe"
    pre_tokenizer = "olmo"
    fixed = dict(norm_topk_prob=False, rms_norm_eps=1e-5, tie_word_embeddings=False)
    default_members = dict(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4, intermediate_size=32,
        num_experts=16, num_experts_per_tok=4)
    fixture_members = dict(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, intermediate_size=12,
        num_experts=5, num_experts_per_tok=2, tie_word_embeddings=False)

    def random_members(self, rng):
        return base.draw_heads(rng) | dict(
            num_hidden_layers=base.draw(rng, 2, 3, 4), num_experts=base.draw(rng, 5, 7, 12, 16),
            num_experts_per_tok=base.draw(rng, 1, 2, 3, 5), intermediate_size=base.draw(rng, 20, 36, 64),
            rope_parameters=base.draw_rotary(rng, "default", "linear", "yarn"))

    def llama_cpp_refuses(self, config):
        as_wide = config.num_key_value_heads == config.num_attention_heads
        return None if as_wide else "it wants keys to be as wide as queries"

    def tensors(self, config, state):
        return moe_gguf.gguf_tensors(self.architecture, config.to_dict(), state)

    def write_hyperparameters(self, writer, config):
        base.common_hyperparameters(writer, config)


FAMILIES = [Olmoe()]
