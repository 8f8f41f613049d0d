"""Phi 3.5 MoE: layer norms, biases all over but in experts, two experts by the sparse mixer, long rotary factors."""

import functools
import math

import numpy as np
import torch

from . import base


class Phimoe(base.Family):
    name = "phimoe"
    architecture = "phimoe"
    transformers_name = "Phimoe"
    clear_margin = 0.0015  # of distances relative to a logit
    llama_cpp_differs = "RMS norms for layer norms, gates renormalised over the two best instead of the sparse mixer's"
    fixed = dict(rms_norm_eps=1e-5, tie_word_embeddings=False, attention_bias=True, lm_head_bias=True,
                 num_experts_per_tok=2, router_jitter_noise=0.1, sliding_window=None)
    default_members = dict(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        num_local_experts=8)
    fixture_members = dict(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=12,
        num_local_experts=4)

    fixture_older_config = True

    def older_config(self, members):
        return super().older_config(members) | dict(architectures=["PhiMoEForCausalLM"])

    def random_members(self, rng):
        return base.draw_heads(rng) | dict(
            num_hidden_layers=base.draw(rng, 2, 3, 4), num_local_experts=base.draw(rng, 3, 5, 8),
            intermediate_size=base.draw(rng, 20, 36, 64))

    def decisions(self, router, hidden, config):
        """The two experts; and which others come near enough to the leading one to weigh in its softmax."""
        scores = hidden @ router.weight.T
        found = [(scores, 2)]
        for _ in range(2):
            lead, expert = scores.max(-1, keepdim=True)
            # A sure share is far from the threshold, on either side of it; the leader itself has a distance of 0.
            distance = (lead - scores) / scores.abs().clamp(min=lead)
            doubt = (distance - 2 * config.router_jitter_noise).abs().nan_to_num(torch.inf).amin(-1, keepdim=True)
            found.append((torch.cat([doubt, torch.zeros_like(doubt)], -1), 1))
            scores = scores.scatter(-1, expert, -torch.inf)
        return found

    def tensors(self, config, state):
        out = base.top_tensors(config, state)
        for layer in range(config.num_hidden_layers):
            theirs, ours = f"model.layers.{layer}.", f"blk.{layer}."
            out |= base.renamed(state, theirs, ours, base.ATTENTION | {"ffn_gate_inp": "mlp.router"})
            out |= base.stacked_experts(state, theirs + "mlp.experts.", ours)
        rope = config.rope_parameters
        if rope["rope_type"] == "longrope":
            out["rope_factors_long.weight"] = np.array(rope["long_factor"], dtype=np.float32)
            out["rope_factors_short.weight"] = np.array(rope["short_factor"], dtype=np.float32)
        return out

    def write_hyperparameters(self, writer, config):
        """As for Phi 3, which does not write what all others do: no `rope.scaling.type`, no head size."""
        rope = config.rope_parameters
        trained = rope.get("original_max_position_embeddings", config.max_position_embeddings)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_rope_scaling_orig_ctx_len(trained)
        writer.add_embedding_length(config.hidden_size)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
        writer.add_rope_freq_base(rope["rope_theta"])
        writer.add_sliding_window(config.sliding_window or 0)
        if rope["rope_type"] == "longrope":
            writer.add_rope_scaling_attn_factors(attention_factor(config.max_position_embeddings, trained))
        # Which the released models have at 0.01, and the converter leaves out.
        writer.add_float32("sluice.router_jitter", config.router_jitter_noise)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_count(config.num_local_experts)

    def imitate_llama_cpp(self, model):
        def forward(router, hidden):
            logits = hidden @ router.weight.T
            weights, experts = logits.softmax(-1).topk(2, dim=-1)
            return logits, weights / weights.sum(-1, keepdim=True), experts

        def norm(layer, hidden):
            return torch.nn.functional.rms_norm(hidden, layer.normalized_shape, layer.weight, layer.eps) + layer.bias

        for router in self.routers(model):
            router.forward = functools.partial(forward, router)
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.forward = functools.partial(norm, module)


def attention_factor(positions, trained):
    """What cosine and sine are multiplied by, as the converter computes it."""
    return math.sqrt(1 + math.log(positions / trained) / math.log(trained))


class PhimoeLongRope(Phimoe):
    """Rotary frequencies divided one by one. `trained` is the context they were first trained on: where the context
    in use is longer the long factors count, else the short ones.

    In transformers the rotary embedding of this model computes with the short factors whatever the length; so the
    model that computes the reference gets, where the long ones are due, those as its short ones.
    """

    def __init__(self, name, trained):
        super().__init__(name)
        self.trained = trained
        self.in_fixtures = self.takes_long_factors = trained < 48

    def make_config(self, **members):
        pairs = members["hidden_size"] // members["num_attention_heads"] // 2
        factor = attention_factor(512, self.trained)
        rope = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": self.trained,
                "short_factor": [1 + 0.1 * pair for pair in range(pairs)],
                "long_factor": [1 + 0.7 * pair for pair in range(pairs)],
                "short_mscale": factor, "long_mscale": factor}
        return super().make_config(**members | dict(rope_parameters=rope, max_position_embeddings=512))

    def reference_config(self, config):
        config = super().reference_config(config)
        if self.takes_long_factors:
            config.rope_parameters["short_factor"] = config.rope_parameters["long_factor"]
        return config


FAMILIES = [Phimoe(), PhimoeLongRope("phimoe-short-rope", 256), PhimoeLongRope("phimoe-long-rope", 8)]
