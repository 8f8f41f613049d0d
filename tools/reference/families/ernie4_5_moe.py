"""ERNIE 4.5 MoE: experts in every n-th layer from some layer on, a bias that corrects the choice, shared experts."""

from . import base


class Ernie(base.Family):
    name = "ernie4_5-moe"
    architecture = "ernie4_5-moe"
    transformers_name = "Ernie4_5_Moe"
    clear_margin = 0.002  # of probabilities
    fixed = dict(rms_norm_eps=1e-5, tie_word_embeddings=True, use_bias=False)
    default_members = dict(
        hidden_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, intermediate_size=128,
        moe_num_experts=8, moe_k=2, moe_intermediate_size=32, moe_num_shared_experts=2, moe_layer_start_index=1,
        moe_layer_interval=1)
    fixture_members = dict(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, intermediate_size=12,
        moe_num_experts=4, moe_k=2, moe_intermediate_size=12, moe_num_shared_experts=1, moe_layer_start_index=1,
        moe_layer_interval=2)

    def random_members(self, rng):
        found = base.draw_heads(rng) | dict(
            num_hidden_layers=base.draw(rng, 3, 4, 5), moe_num_experts=base.draw(rng, 5, 7, 12),
            moe_k=base.draw(rng, 1, 2, 3, 5), moe_intermediate_size=base.draw(rng, 20, 36),
            moe_num_shared_experts=base.draw(rng, 1, 2), moe_layer_start_index=base.draw(rng, 0, 1, 2),
            moe_layer_interval=base.draw(rng, 1, 2), rope_parameters=base.draw_rotary(rng, "default"))
        # The converter takes this for the width of the shared experts times the number of key-value heads.
        found["intermediate_size"] = (
            found["moe_intermediate_size"] * found["moe_num_shared_experts"] * found["num_key_value_heads"])
        return found

    def random_weight(self, name, shape, rng):
        values = super().random_weight(name, shape, rng)
        # Probabilities of a softmax are smaller than those of sigmoids, and so is what corrects them.
        return values / 2 if "correction" in name else values

    def decisions(self, router, hidden, config):
        scores = (hidden @ router.weight.T).softmax(-1)
        return [(scores + router.moe_statics.e_score_correction_bias.squeeze(), config.moe_k)]

    def other_decisions(self, router, hidden, config):
        return [hidden @ router.weight.T]

    def llama_cpp_refuses(self, config):
        everywhere = config.moe_layer_interval == 1
        return None if everywhere else "it wants experts in every layer after the leading dense ones"

    def tensors(self, config, state):
        out = base.top_tensors(config, state)
        for layer in range(config.num_hidden_layers):
            theirs, ours = f"model.layers.{layer}.", f"blk.{layer}."
            out |= base.renamed(state, theirs, ours, base.ATTENTION)
            if theirs + "mlp.gate.weight" not in state:
                out |= base.renamed(state, theirs, ours, base.DENSE)
                continue
            out |= base.renamed(state, theirs, ours, {"ffn_gate_inp": "mlp.gate"})
            out[f"{ours}exp_probs_b.bias"] = state[theirs + "mlp.gate.moe_statics.e_score_correction_bias"][0]
            out |= base.stacked_experts(state, theirs + "mlp.experts.", ours)
            out |= base.renamed(state, theirs, ours, base.shared_expert("mlp.shared_experts"))
        return out

    def write_hyperparameters(self, writer, config):
        base.common_hyperparameters(writer, config)
        writer.add_expert_count(config.moe_num_experts)
        writer.add_expert_used_count(config.moe_k)
        writer.add_interleave_moe_layer_step(config.moe_layer_interval)
        writer.add_leading_dense_block_count(config.moe_layer_start_index)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        writer.add_expert_shared_count(config.moe_num_shared_experts)
        writer.add_expert_shared_feed_forward_length(config.intermediate_size // config.num_key_value_heads)


FAMILIES = [Ernie()]
