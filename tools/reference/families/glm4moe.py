"""GLM 4.5 MoE: half of each head rotates, sigmoid gates with a bias that corrects the choice, shared experts."""

import gguf

from . import base

NORM = {"post_attention_norm": "post_attention_layernorm"}


class Glm4Moe(base.Family):
    name = "glm4moe"
    architecture = "glm4moe"
    transformers_name = "Glm4Moe"
    clear_margin = 0.002  # of probabilities
    fixture_older_config = True
    predicts_further = True
    fixture_forms = ("", "-nextn")
    fixed = dict(rms_norm_eps=1e-5, tie_word_embeddings=False, norm_topk_prob=True, routed_scaling_factor=1.5,
                 n_group=1, topk_group=1, first_k_dense_replace=1, attention_bias=True, num_nextn_predict_layers=0,
                 rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5})
    default_members = dict(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        intermediate_size=96, n_routed_experts=16, num_experts_per_tok=4, moe_intermediate_size=32,
        n_shared_experts=1, use_qk_norm=True)
    fixture_members = dict(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=20,
        intermediate_size=24, n_routed_experts=5, num_experts_per_tok=2, moe_intermediate_size=8, n_shared_experts=1,
        use_qk_norm=True, tie_word_embeddings=True)

    def random_members(self, rng):
        found = base.draw_heads(rng, apart=True) | dict(
            num_hidden_layers=base.draw(rng, 2, 3, 4), intermediate_size=base.draw(rng, 44, 100),
            n_routed_experts=base.draw(rng, 5, 7, 12), num_experts_per_tok=base.draw(rng, 1, 2, 3),
            moe_intermediate_size=base.draw(rng, 20, 36), n_shared_experts=base.draw(rng, 1, 2),
            use_qk_norm=bool(base.draw(rng, 0, 1)), first_k_dense_replace=base.draw(rng, 0, 1),
            routed_scaling_factor=base.draw(rng, 1.0, 2.5), head_dim=base.draw(rng, 20, 24, 40))
        partial = {"partial_rotary_factor": base.draw(rng, 0.5, 1.0)}
        return found | dict(rope_parameters=base.draw_rotary(rng, "default") | partial)

    def decisions(self, router, hidden, config):
        scores = (hidden @ router.weight.T).sigmoid() + router.e_score_correction_bias
        return [(scores, config.num_experts_per_tok)]

    def other_decisions(self, router, hidden, config):
        return [hidden @ router.weight.T]

    def tensors(self, config, state):
        out = base.top_tensors(config, state)
        attention = {ours: theirs for ours, theirs in base.ATTENTION.items() if ours != "ffn_norm"} | NORM
        for layer in range(config.num_hidden_layers):
            theirs, ours = f"model.layers.{layer}.", f"blk.{layer}."
            out |= base.renamed(state, theirs, ours, attention)
            if config.use_qk_norm:
                out |= base.renamed(state, theirs, ours, base.HEAD_NORMS)
            if layer < config.first_k_dense_replace:
                out |= base.renamed(state, theirs, ours, base.DENSE)
                continue
            out |= base.renamed(state, theirs, ours, {"ffn_gate_inp": "mlp.gate"})
            out[f"{ours}exp_probs_b.bias"] = state[theirs + "mlp.gate.e_score_correction_bias"]
            out |= base.stacked_experts(state, theirs + "mlp.experts.", ours)
            out |= base.renamed(state, theirs, ours, base.shared_expert("mlp.shared_experts"))
        return out

    def write_hyperparameters(self, writer, config, predicting=0):
        base.common_hyperparameters(writer, config, predicting=predicting)
        base.write_head_size(writer, config)
        writer.add_rope_dimension_count(int(config.head_dim * config.rope_parameters["partial_rotary_factor"]))
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        writer.add_expert_shared_count(config.n_shared_experts)
        writer.add_leading_dense_block_count(config.first_k_dense_replace)
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
        writer.add_expert_weights_scale(config.routed_scaling_factor)
        writer.add_expert_weights_norm(config.norm_topk_prob)
        writer.add_nextn_predict_layers(predicting)

    def forms(self):
        """Real files go on with a block that predicts the token after the next one, which llama.cpp skips."""
        def tensors(config, state):
            out = self.tensors(config, state)
            last, extra = config.num_hidden_layers - 1, config.num_hidden_layers
            width = config.hidden_size
            for name, array in list(out.items()):
                if name.startswith(f"blk.{last}."):
                    out[name.replace(f"blk.{last}.", f"blk.{extra}.")] = array
            embedding = out["token_embd.weight"]
            out[f"blk.{extra}.nextn.eh_proj.weight"] = embedding.repeat(2, axis=1)[:width]
            for norm in ("enorm", "hnorm", "shared_head_norm"):
                out[f"blk.{extra}.nextn.{norm}.weight"] = out["output_norm.weight"]
            if not config.tie_word_embeddings:
                out[f"blk.{extra}.nextn.embed_tokens.weight"] = embedding
                out[f"blk.{extra}.nextn.shared_head_head.weight"] = out["output.weight"]
            return out

        def write_hyperparameters(writer, config):
            self.write_hyperparameters(writer, config, predicting=1)

        return super().forms() | {"-nextn": (tensors, write_hyperparameters)}


FAMILIES = [Glm4Moe()]
