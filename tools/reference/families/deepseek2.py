"""DeepSeek V2 and V3: multi-head latent attention, leading dense layers, shared experts, experts in groups.

llama.cpp's converter writes the matrix from the latent to keys and values in two parts, the keys' transposed
(attn_k_b, attn_v_b), and describes the attention as one key-value head as wide as the latent; files made before it
did have the matrix whole (attn_kv_b) and as many key-value heads as heads. Both are written here.
"""

import copy
import functools

import torch

from . import base

LATENT = {"attn_norm": "input_layernorm", "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
          "attn_kv_a_norm": "self_attn.kv_a_layernorm", "attn_output": "self_attn.o_proj",
          "ffn_norm": "post_attention_layernorm"}
QUERY = {"attn_q": "self_attn.q_proj"}
LOW_RANK_QUERY = {"attn_q_a": "self_attn.q_a_proj", "attn_q_a_norm": "self_attn.q_a_layernorm",
                  "attn_q_b": "self_attn.q_b_proj"}


def yarn(mscale):
    return {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32,
            "beta_fast": 32, "beta_slow": 1, "mscale": mscale, "mscale_all_dim": mscale}


class Deepseek(base.Family):
    architecture = "deepseek2"
    # The norm of the latent has an epsilon of its own in transformers, 1e-6; in the file there is one for all.
    fixed = dict(rms_norm_eps=1e-6, tie_word_embeddings=False, first_k_dense_replace=1)
    default_members = dict(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4, n_routed_experts=16,
        num_experts_per_tok=4, n_shared_experts=2, moe_intermediate_size=32, intermediate_size=96, kv_lora_rank=32,
        qk_rope_head_dim=16, qk_nope_head_dim=32, v_head_dim=32)
    fixture_members = dict(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, n_routed_experts=6,
        num_experts_per_tok=2, n_shared_experts=1, moe_intermediate_size=8, intermediate_size=24, kv_lora_rank=16,
        qk_rope_head_dim=6, qk_nope_head_dim=10, v_head_dim=12, tie_word_embeddings=True)
    groups = 1

    def random_members(self, rng):
        heads, groups = base.draw(rng, 1, 2, 3, 5), self.groups
        found = dict(
            hidden_size=base.draw(rng, 36, 40, 88), num_hidden_layers=base.draw(rng, 2, 3, 4),
            num_attention_heads=heads, num_key_value_heads=heads,
            n_routed_experts=base.draw(rng, 5, 7, 12) if groups == 1 else groups * base.draw(rng, 3, 5),
            num_experts_per_tok=base.draw(rng, 1, 2, 3), n_shared_experts=base.draw(rng, 1, 2),
            moe_intermediate_size=base.draw(rng, 20, 36), intermediate_size=base.draw(rng, 44, 100),
            kv_lora_rank=base.draw(rng, 20, 36, 48), qk_rope_head_dim=base.draw(rng, 6, 10, 12),
            qk_nope_head_dim=base.draw(rng, 14, 18, 24), v_head_dim=base.draw(rng, 10, 22, 28),
            first_k_dense_replace=base.draw(rng, 0, 1, 2),
            rope_parameters=base.draw(rng, base.draw_rotary(rng, "default"), yarn(1.0), yarn(0.707)))
        found["first_k_dense_replace"] = min(found["first_k_dense_replace"], found["num_hidden_layers"] - 1)
        return found

    def tensors(self, config, state, whole=False):
        out = base.top_tensors(config, state)
        query = QUERY if config.q_lora_rank is None else LOW_RANK_QUERY
        for layer in range(config.num_hidden_layers):
            theirs, ours = f"model.layers.{layer}.", f"blk.{layer}."
            out |= base.renamed(state, theirs, ours, LATENT | query)
            up = state[theirs + "self_attn.kv_b_proj.weight"]  # (heads x (nope + value), rank)
            if whole:
                out[f"{ours}attn_kv_b.weight"] = up
            else:
                up = up.reshape(config.num_attention_heads, -1, config.kv_lora_rank)
                out[f"{ours}attn_k_b.weight"] = up[:, :config.qk_nope_head_dim].transpose(0, 2, 1)
                out[f"{ours}attn_v_b.weight"] = up[:, config.qk_nope_head_dim:]
            if layer < config.first_k_dense_replace:
                out |= base.renamed(state, theirs, ours, base.DENSE)
                continue
            out |= base.renamed(state, theirs, ours, {"ffn_gate_inp": "mlp.gate"})
            bias = theirs + "mlp.gate.e_score_correction_bias"
            if bias in state:
                out[f"{ours}exp_probs_b.bias"] = state[bias]
            out |= base.stacked_experts(state, theirs + "mlp.experts.", ours)
            out |= base.renamed(state, theirs, ours, base.shared_expert("mlp.shared_experts"))
        return out

    def write_hyperparameters(self, writer, config, whole=False):
        base.common_hyperparameters(writer, config, key_value_heads=config.num_attention_heads if whole else 1)
        writer.add_leading_dense_block_count(config.first_k_dense_replace)
        writer.add_vocab_size(config.vocab_size)
        if config.q_lora_rank is not None:
            writer.add_q_lora_rank(config.q_lora_rank)
        writer.add_kv_lora_rank(config.kv_lora_rank)
        keys = config.qk_nope_head_dim + config.qk_rope_head_dim
        if whole:
            writer.add_key_length(keys)
            writer.add_value_length(config.v_head_dim)
        else:
            writer.add_key_length(config.kv_lora_rank + config.qk_rope_head_dim)
            writer.add_value_length(config.kv_lora_rank)
            writer.add_key_length_mla(keys)
            writer.add_value_length_mla(config.v_head_dim)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        writer.add_expert_shared_count(config.n_shared_experts)
        writer.add_expert_weights_scale(config.routed_scaling_factor)
        if config.norm_topk_prob:
            writer.add_expert_weights_norm(True)
        writer.add_rope_dimension_count(config.qk_rope_head_dim)
        if (all_dimensions := config.rope_parameters.get("mscale_all_dim")) is not None:
            writer.add_rope_scaling_yarn_log_mul(0.1 * all_dimensions)

    def forms(self):
        def tensors(config, state):
            return self.tensors(config, state, whole=True)

        def write_hyperparameters(writer, config):
            self.write_hyperparameters(writer, config, whole=True)

        return super().forms() | {"-legacy": (tensors, write_hyperparameters)}


def grouped(scores, groups, used, score_of_group):
    """Choices between groups, and what the experts outside of the chosen ones are left with."""
    by_group = score_of_group(scores.reshape(scores.shape[0], groups, -1))
    chosen = by_group.topk(used, dim=-1).indices
    mask = torch.zeros_like(by_group).scatter_(1, chosen, 1).repeat_interleave(scores.shape[1] // groups, dim=1)
    return by_group, scores.masked_fill(mask == 0, -torch.inf)


def best(scores):
    return scores.amax(-1)


def two_best(scores):
    return scores.topk(2, dim=-1).values.sum(-1)


class DeepseekV2(Deepseek):
    transformers_name = "DeepseekV2"
    fixed = Deepseek.fixed | dict(norm_topk_prob=False, scoring_func="softmax")

    def decisions(self, router, hidden, config):
        scores = hidden @ router.weight.T
        if config.topk_method == "greedy":
            return [(scores, config.num_experts_per_tok)]
        groups, scores = grouped(scores, config.n_group, config.topk_group, best)
        return [(groups, config.topk_group), (scores, config.num_experts_per_tok)]


class DeepseekV2Lite(DeepseekV2):
    """Queries straight from the hidden state, no groups."""
    fixture_forms = ("", "-legacy")
    llama_cpp_layers = 27  # as many as the released one has, which is how llama.cpp knows it

    def padded_for_llama_cpp(self, config, state):
        """Layers that add nothing follow."""
        config, state = copy.deepcopy(config), dict(state)
        last = config.num_hidden_layers - 1
        of_last = {name: array for name, array in state.items() if name.startswith(f"model.layers.{last}.")}
        for layer in range(last + 1, self.llama_cpp_layers):
            for name, array in of_last.items():
                adds = name.endswith(("o_proj.weight", "down_proj.weight", "down_proj"))
                state[name.replace(f"layers.{last}.", f"layers.{layer}.")] = array * 0 if adds else array
        config.num_hidden_layers = self.llama_cpp_layers
        return config, state


class DeepseekV2Grouped(DeepseekV2):
    """Queries by way of a low rank; of a group counts its best expert."""
    fixture_older_config = True
    groups = 4
    llama_cpp_differs = "it scores a group by its two best experts, not by the best one"

    fixed = DeepseekV2.fixed | dict(
        n_group=4, topk_group=2, topk_method="group_limited_greedy", routed_scaling_factor=4.0,
        rope_parameters=yarn(0.707))
    default_members = Deepseek.default_members | dict(q_lora_rank=64)
    fixture_members = Deepseek.fixture_members | dict(
        q_lora_rank=20, n_routed_experts=9, n_group=3, topk_group=1, num_experts_per_tok=2)

    def random_members(self, rng):
        return super().random_members(rng) | dict(q_lora_rank=base.draw(rng, 20, 28, 44))

    def other_decisions(self, router, hidden, config):
        probabilities = (hidden @ router.weight.T).softmax(-1)
        return [grouped(probabilities, config.n_group, config.topk_group, two_best)[1]]

    def imitate_llama_cpp(self, model):
        def forward(router, hidden):
            hidden = hidden.view(-1, hidden.shape[-1])
            logits = hidden @ router.weight.T
            probabilities = logits.softmax(-1)
            _, scores = grouped(probabilities, router.num_group, router.topk_group, two_best)
            experts = scores.topk(router.top_k, dim=-1).indices
            return logits, probabilities.gather(1, experts) * router.routed_scaling_factor, experts

        for router in self.routers(model):
            router.forward = functools.partial(forward, router)


class DeepseekV3(Deepseek):
    """Sigmoid gates, a bias that corrects the choice, groups scored by their two best experts."""
    name = "deepseek2-v3"
    predicts_further = True
    transformers_name = "DeepseekV3"
    groups = 4
    clear_margin = 0.002  # of probabilities
    fixed = Deepseek.fixed | dict(
        n_group=4, topk_group=2, norm_topk_prob=True, routed_scaling_factor=2.5, scoring_func="sigmoid",
        topk_method="noaux_tc", num_nextn_predict_layers=0)
    default_members = Deepseek.default_members | dict(q_lora_rank=64, n_shared_experts=1)
    fixture_members = Deepseek.fixture_members | dict(
        q_lora_rank=20, n_routed_experts=9, n_group=3, topk_group=1, num_experts_per_tok=2)

    def random_members(self, rng):
        return super().random_members(rng) | dict(
            q_lora_rank=base.draw(rng, 20, 28, 44), topk_group=base.draw(rng, 1, 2, 3))

    def decisions(self, router, hidden, config):
        scores = (hidden @ router.weight.T).sigmoid() + router.e_score_correction_bias
        groups, scores = grouped(scores, config.n_group, config.topk_group, two_best)
        return [(groups, config.topk_group), (scores, config.num_experts_per_tok)]

    def other_decisions(self, router, hidden, config):
        scores = (hidden @ router.weight.T).sigmoid()
        uncorrected = grouped(scores, config.n_group, config.topk_group, two_best)[1]
        scores = scores + router.e_score_correction_bias
        return [uncorrected, scores, grouped(scores, config.n_group, config.topk_group, best)[1]]


FAMILIES = [
    DeepseekV2Lite("deepseek2-lite", q_lora_rank=None, n_group=1, topk_group=1, topk_method="greedy",
                   routed_scaling_factor=1.0),
    DeepseekV2Grouped("deepseek2-v2"),
    DeepseekV3(),
]
