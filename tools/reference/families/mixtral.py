"""Mixtral: `llama` with experts; rows of queries and keys reordered for rotary pairs that lie side by side."""

import moe_gguf

from . import base


class Mixtral(base.Family):
    name = "mixtral"
    architecture = "llama"
    transformers_name = "Mixtral"
    pre_tokenizer = "llama-bpe"
    fixed = dict(rms_norm_eps=1e-5, tie_word_embeddings=False, sliding_window=None)
    default_members = dict(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        num_local_experts=8, num_experts_per_tok=2)
    fixture_members = dict(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=12,
        num_local_experts=4, num_experts_per_tok=2, tie_word_embeddings=True)

    def random_members(self, rng):
        # The head size is named where it follows from the width, too: transformers computes YaRN from what is named.
        heads = base.draw_heads(rng, apart=bool(base.draw(rng, 0, 1)))
        heads.setdefault("head_dim", heads["hidden_size"] // heads["num_attention_heads"])
        return heads | dict(
            num_hidden_layers=base.draw(rng, 2, 3, 4), num_local_experts=base.draw(rng, 3, 5, 8),
            num_experts_per_tok=base.draw(rng, 1, 2, 3), intermediate_size=base.draw(rng, 20, 36, 64),
            rope_parameters=base.draw_rotary(rng, "default", "linear", "yarn"))

    def tensors(self, config, state):
        return moe_gguf.gguf_tensors(self.architecture, config.to_dict(), state)

    def write_hyperparameters(self, writer, config):
        base.common_hyperparameters(writer, config)
        base.write_head_size(writer, config)
        writer.add_vocab_size(config.vocab_size)
        writer.add_rope_dimension_count(base.head_size(config))


FAMILIES = [Mixtral()]
