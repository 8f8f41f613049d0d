"""Qwen3-Next: gated delta net layers, gated attention with a partial rotary embedding, a gated shared expert."""

import numpy as np

from . import base


class Qwen3Next(base.Family):
    name = "qwen3next"
    architecture = "qwen3next"
    transformers_name = "Qwen3Next"
    clear_margin = 0.005
    fixture_older_config = True
    fixture_forms = ("", "-legacy")
    fixed = dict(tie_word_embeddings=False)
    default_members = dict(
        hidden_size=128, intermediate_size=256, moe_intermediate_size=64, shared_expert_intermediate_size=64,
        num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=64, num_experts=16,
        num_experts_per_tok=4, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=32,
        linear_value_head_dim=32)
    fixture_members = dict(
        hidden_size=20, intermediate_size=40, moe_intermediate_size=12, shared_expert_intermediate_size=12,
        num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, head_dim=16, num_experts=4,
        num_experts_per_tok=2, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=6,
        linear_value_head_dim=6, interval=2, tie_word_embeddings=True)

    def random_members(self, rng):
        kv_heads, key_heads = base.draw(rng, 1, 2, 3), base.draw(rng, 1, 2, 3)
        # llama.cpp has one size for the heads of keys and of values.
        size = base.draw(rng, 12, 20, 24)
        head_size, rotated = base.draw(rng, (24, 0.25), (40, 0.25), (20, 0.5), (12, 0.5))
        interval = base.draw(rng, 2, 3, 4)
        return dict(
            hidden_size=4 * base.draw(rng, 11, 15, 18), moe_intermediate_size=base.draw(rng, 20, 28),
            shared_expert_intermediate_size=base.draw(rng, 12, 36), num_hidden_layers=interval + base.draw(rng, 0, 1),
            num_attention_heads=kv_heads * base.draw(rng, 1, 2, 3), num_key_value_heads=kv_heads, head_dim=head_size,
            num_experts=base.draw(rng, 5, 7, 9), num_experts_per_tok=base.draw(rng, 1, 2, 3),
            linear_num_key_heads=key_heads, linear_num_value_heads=key_heads * base.draw(rng, 1, 2, 3),
            linear_key_head_dim=size, linear_value_head_dim=size, linear_conv_kernel_dim=base.draw(rng, 3, 4),
            interval=interval, rotated=rotated)

    def make_config(self, interval=4, rotated=0.25, **members):
        layers = ["full_attention" if (layer + 1) % interval == 0 else "linear_attention"
                  for layer in range(members["num_hidden_layers"])]
        rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": rotated}
        # As published; transformers makes up layer_types from the interval, but does not keep it.
        return super().make_config(layer_types=layers, rope_parameters=rope, full_attention_interval=interval,
                                   partial_rotary_factor=rotated, **members)

    def older_config(self, members):
        members = super().older_config(members)
        del members["layer_types"]  # follow from the interval
        return members

    def random_weight(self, name, shape, rng):
        if name.endswith("A_log"):
            return np.log(rng.uniform(0.05, 3, shape)).astype(np.float32)
        values = super().random_weight(name, shape, rng)
        # All norms but the delta nets' own hold what is added to 1.
        return values - 1 if "norm" in name and "linear_attn.norm" not in name else values

    def stays_float(self, name, array):
        return super().stays_float(name, array) or "ssm_conv1d" in name

    def tensors(self, config, state):
        state = {name: array + 1 if name.endswith("norm.weight") and "linear_attn.norm" not in name else array
                 for name, array in state.items()}
        out = base.top_tensors(config, state)
        for layer, kind in enumerate(config.layer_types):
            ours, theirs = f"blk.{layer}.", f"model.layers.{layer}."
            names = {"attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
                     "ffn_gate_inp": "mlp.gate", "ffn_gate_inp_shexp": "mlp.shared_expert_gate"}
            names |= base.shared_expert("mlp.shared_expert")
            if kind == "full_attention":
                names |= {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
                          "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
                          "attn_k_norm": "self_attn.k_norm"}
            else:
                mixer = theirs + "linear_attn."
                names |= {"ssm_ba": "linear_attn.in_proj_ba", "ssm_norm": "linear_attn.norm",
                          "ssm_out": "linear_attn.out_proj"}
                joined, gate = ungrouped(config, state[mixer + "in_proj_qkvz.weight"])
                out[f"{ours}attn_qkv.weight"], out[f"{ours}attn_gate.weight"] = joined, gate
                out[f"{ours}ssm_conv1d.weight"] = np.squeeze(state[mixer + "conv1d.weight"], 1)
                out[f"{ours}ssm_dt.bias"] = state[mixer + "dt_bias"]
                out[f"{ours}ssm_a"] = -np.exp(state[mixer + "A_log"])
            out |= base.renamed(state, theirs, ours, names)
            out |= base.stacked_experts(state, theirs + "mlp.experts.", ours)
        return out

    def legacy_tensors(self, config, state):
        """Older versions of the converter left the projection of a delta net in transformers' order."""
        out = self.tensors(config, state)
        for layer, kind in enumerate(config.layer_types):
            if kind == "linear_attention":
                del out[f"blk.{layer}.attn_qkv.weight"], out[f"blk.{layer}.attn_gate.weight"]
                out[f"blk.{layer}.ssm_in.weight"] = state[f"model.layers.{layer}.linear_attn.in_proj_qkvz.weight"]
        return out

    def forms(self):
        return {"": (self.tensors, self.write_hyperparameters),
                "-legacy": (self.legacy_tensors, self.write_hyperparameters)}

    def write_hyperparameters(self, writer, config):
        base.common_hyperparameters(writer, config)
        base.write_head_size(writer, config)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)
        writer.add_ssm_conv_kernel(config.linear_conv_kernel_dim)
        writer.add_ssm_state_size(config.linear_key_head_dim)
        writer.add_ssm_group_count(config.linear_num_key_heads)
        writer.add_ssm_time_step_rank(config.linear_num_value_heads)
        writer.add_ssm_inner_size(config.linear_value_head_dim * config.linear_num_value_heads)
        writer.add_full_attention_interval(config.full_attention_interval)
        writer.add_rope_dimension_count(int(config.head_dim * config.rope_parameters["partial_rotary_factor"]))


def ungrouped(config, weight):
    """(queries, keys and values; gates) of a projection whose rows go key head by key head: q, k, its v's, its z's."""
    keys, size = config.linear_num_key_heads, config.linear_key_head_dim
    values = config.linear_num_value_heads // keys * config.linear_value_head_dim
    groups = weight.reshape(keys, 2 * size + 2 * values, -1)
    parts = np.split(groups, [size, 2 * size, 2 * size + values], axis=1)
    q, k, v, z = (part.reshape(-1, weight.shape[-1]) for part in parts)
    return np.concatenate([q, k, v]), z


FAMILIES = [Qwen3Next()]
