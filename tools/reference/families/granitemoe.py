"""Granite MoE: multipliers on embeddings, residuals, attention and logits; softmax over the chosen experts."""

import numpy as np

from . import base


class GraniteMoe(base.Family):
    name = "granitemoe"
    architecture = "granitemoe"
    transformers_name = "GraniteMoe"
    fixture_format = "f16"
    pre_tokenizer = "llama-bpe"
    fixed = dict(rms_norm_eps=1e-6, embedding_multiplier=6.0, attention_multiplier=0.4, residual_multiplier=0.5,
                 logits_scaling=1.5)
    default_members = dict(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=32,
        num_local_experts=16, num_experts_per_tok=4, tie_word_embeddings=False)
    fixture_members = dict(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=12,
        num_local_experts=5, num_experts_per_tok=2, tie_word_embeddings=True, logits_scaling=0.2)

    def random_members(self, rng):
        return base.draw_heads(rng) | dict(
            num_hidden_layers=base.draw(rng, 2, 3, 4), num_local_experts=base.draw(rng, 3, 5, 12),
            num_experts_per_tok=base.draw(rng, 1, 2, 3), intermediate_size=base.draw(rng, 20, 36, 64),
            embedding_multiplier=base.draw(rng, 1.5, 12.0), attention_multiplier=base.draw(rng, 0.09, 0.3),
            residual_multiplier=base.draw(rng, 0.22, 0.7), logits_scaling=base.draw(rng, 0.5, 6.0),
            rope_parameters=base.draw_rotary(rng, "default", theta=70000.0))

    def random_state(self, model, rng):
        """Embeddings as large, after their multiplier, as what a layer adds."""
        state = super().random_state(model, rng)
        state["model.embed_tokens.weight"] /= np.float32(model.config.embedding_multiplier)
        return state

    def tensors(self, config, state):
        out = base.top_tensors(config, state)
        for layer in range(config.num_hidden_layers):
            theirs, ours = f"model.layers.{layer}.", f"blk.{layer}."
            out |= base.renamed(state, theirs, ours, base.ATTENTION)
            out |= base.renamed(state, theirs, ours, {"ffn_gate_inp": "block_sparse_moe.router"})
            out |= base.stacked_experts(state, theirs + "block_sparse_moe.experts.", ours)
            if theirs + "shared_mlp.input_linear.weight" in state:
                gate, up = np.split(state[theirs + "shared_mlp.input_linear.weight"], 2)
                out[f"{ours}ffn_gate_shexp.weight"], out[f"{ours}ffn_up_shexp.weight"] = gate, up
                out[f"{ours}ffn_down_shexp.weight"] = state[theirs + "shared_mlp.output_linear.weight"]
        return base.interleave_heads(out, config)

    def write_hyperparameters(self, writer, config):
        base.common_hyperparameters(writer, config)
        writer.add_vocab_size(config.vocab_size)
        writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
        if (width := base.member(config, "shared_intermediate_size")) is not None:
            writer.add_expert_shared_feed_forward_length(width)


class GraniteMoeShared(GraniteMoe):
    """The same with a shared expert."""
    name = "granitemoe-shared"
    transformers_name = "GraniteMoeShared"
    default_members = GraniteMoe.default_members | dict(shared_intermediate_size=64)
    fixture_members = GraniteMoe.fixture_members | dict(shared_intermediate_size=20)


FAMILIES = [GraniteMoe(), GraniteMoeShared()]
