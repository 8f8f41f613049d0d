"""LFM2-MoE: short convolutions between attention layers, dense leading layers, sigmoid gates with a correction bias."""

import gguf
import numpy as np

from . import base


class Lfm2Moe(base.Family):
    name = "lfm2moe"
    architecture = "lfm2moe"
    transformers_name = "Lfm2Moe"
    clear_margin = 0.001  # of sigmoids
    fixture_older_config = True
    # There is no place for an output of its own in llama.cpp's files.
    fixed = dict(tie_word_embeddings=True)
    default_members = dict(
        hidden_size=128, intermediate_size=192, moe_intermediate_size=96, num_hidden_layers=5, num_dense_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_experts=8, num_experts_per_tok=2,
        layer_types=["conv", "conv", "full_attention", "conv", "full_attention"])
    fixture_members = dict(
        hidden_size=24, intermediate_size=36, moe_intermediate_size=12, num_hidden_layers=4, num_dense_layers=1,
        num_attention_heads=2, num_key_value_heads=1, num_experts=5, num_experts_per_tok=2,
        layer_types=["conv", "full_attention", "conv", "conv"])

    def random_members(self, rng):
        kv_heads = base.draw(rng, 1, 2, 3)
        heads = kv_heads * base.draw(rng, 1, 2, 3)
        layers = base.draw(rng, 3, 4, 5)
        kinds = [base.draw(rng, "conv", "full_attention") for _ in range(layers)]
        at = int(rng.integers(layers))
        kinds[at], kinds[(at + 1) % layers] = "conv", "full_attention"
        return dict(
            hidden_size=heads * base.draw(rng, 12, 20, 24), intermediate_size=base.draw(rng, 44, 76),
            moe_intermediate_size=base.draw(rng, 20, 28, 36), num_hidden_layers=layers,
            num_dense_layers=base.draw(rng, 0, 1, 2), num_attention_heads=heads, num_key_value_heads=kv_heads,
            num_experts=base.draw(rng, 5, 7, 9), num_experts_per_tok=base.draw(rng, 1, 2, 3),
            conv_L_cache=base.draw(rng, 3, 4), layer_types=kinds)

    def stays_float(self, name, array):
        return super().stays_float(name, array) or "shortconv.conv" in name

    def routers(self, model):
        blocks = [module for module in model.modules() if hasattr(module, "expert_bias")]
        self.biases = {id(block.gate): block.expert_bias for block in blocks}
        return [block.gate for block in blocks]

    def decisions(self, router, hidden, config):
        return [((hidden @ router.weight.T).sigmoid() + self.biases[id(router)], config.num_experts_per_tok)]

    def tensors(self, config, state):
        out = {"token_embd.weight": state["model.embed_tokens.weight"],
               # The norm before the output, whatever its name says.
               "token_embd_norm.weight": state["model.embedding_norm.weight"]}
        for layer, kind in enumerate(config.layer_types):
            ours, theirs = f"blk.{layer}.", f"model.layers.{layer}."
            names = {"attn_norm": "operator_norm", "ffn_norm": "ffn_norm"}
            if kind == "conv":
                names |= {"shortconv.in_proj": "conv.in_proj", "shortconv.out_proj": "conv.out_proj"}
                out[f"{ours}shortconv.conv.weight"] = np.squeeze(state[theirs + "conv.conv.weight"], 1)
            else:
                names |= {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
                          "attn_output": "self_attn.out_proj", "attn_q_norm": "self_attn.q_layernorm",
                          "attn_k_norm": "self_attn.k_layernorm"}
            if layer < config.num_dense_layers:
                names |= {"ffn_gate": "feed_forward.w1", "ffn_down": "feed_forward.w2", "ffn_up": "feed_forward.w3"}
            else:
                names["ffn_gate_inp"] = "feed_forward.gate"
                out[f"{ours}exp_probs_b.bias"] = state[theirs + "feed_forward.expert_bias"]
                out |= base.stacked_experts(state, theirs + "feed_forward.experts.", ours)
            out |= base.renamed(state, theirs, ours, names)
        return out

    def write_hyperparameters(self, writer, config):
        # A layer without key-value heads is how the file says that it is a convolution.
        base.common_hyperparameters(writer, config, [
            config.num_key_value_heads if kind == "full_attention" else 0 for kind in config.layer_types])
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        writer.add_leading_dense_block_count(config.num_dense_layers)
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
        writer.add_vocab_size(config.vocab_size)
        writer.add_shortconv_l_cache(config.conv_L_cache)


FAMILIES = [Lfm2Moe()]
