"""gpt-oss: attention sinks, every other layer in a window, biases everywhere, clamped SwiGLU, YaRN, MXFP4 experts."""

import json
import math

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

import moe_gguf

from . import base

EXPERTS = ("gate_up_proj", "down_proj")


class GptOss(base.Family):
    name = "gpt-oss"
    architecture = "gpt-oss"
    transformers_name = "GptOss"
    clear_margin = 0.005
    llama_cpp_differs = "YaRN's ramp between whole pairs, whatever config.json says of truncation"
    fixed = dict(rope_parameters=dict(
        rope_type="yarn", rope_theta=150000.0, factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
        original_max_position_embeddings=4096))
    default_members = dict(
        hidden_size=96, intermediate_size=64, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2,
        head_dim=32, num_local_experts=8, num_experts_per_tok=4, sliding_window=8)
    fixture_members = dict(
        hidden_size=20, intermediate_size=12, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        head_dim=12, num_local_experts=4, num_experts_per_tok=2, sliding_window=5)

    def random_members(self, rng):
        kv_heads = base.draw(rng, 1, 2, 3)
        rope = self.fixed["rope_parameters"]
        return dict(
            # Rows of experts are whole blocks of MXFP4.
            hidden_size=32 * base.draw(rng, 1, 2, 3), intermediate_size=32 * base.draw(rng, 1, 2, 3),
            num_hidden_layers=base.draw(rng, 3, 4, 5), num_attention_heads=kv_heads * base.draw(rng, 1, 2, 3),
            num_key_value_heads=kv_heads, head_dim=base.draw(rng, 12, 20, 24, 40),
            num_local_experts=base.draw(rng, 5, 7, 9), num_experts_per_tok=base.draw(rng, 1, 2, 3),
            sliding_window=base.draw(rng, 1, 5, 12),
            rope_parameters={**rope, "factor": base.draw(rng, 4.0, 32.0),
                             "original_max_position_embeddings": base.draw(rng, 32, 512, 4096)})

    def random_weight(self, name, shape, rng):
        if name.endswith("sinks"):
            return rng.standard_normal(shape).astype(np.float32) * np.float32(1.5)
        if name.endswith(EXPERTS):
            # (experts, inputs, outputs). Gates and ups are large enough to be cut off at 7 now and then.
            gain = 4 if name.endswith("gate_up_proj") else 0.3
            return rng.standard_normal(shape).astype(np.float32) * np.float32(gain / shape[1] ** 0.5)
        return super().random_weight(name, shape, rng)

    def rounded(self, name, array, kind):
        if name.endswith(EXPERTS):
            return super().rounded(name, array.swapaxes(1, 2), kind).swapaxes(1, 2)
        return super().rounded(name, array, kind)

    def stays_float(self, name, array):
        return super().stays_float(name, array) or name.endswith(".bias")

    def older_config(self, members):
        members = super().older_config(members)
        members["rope_scaling"]["rope_type"] = members["rope_scaling"].pop("type")
        return members

    def decisions(self, router, hidden, config):
        return [(hidden @ router.weight.T + router.bias, config.num_experts_per_tok)]

    def imitate_llama_cpp(self, model):
        rotary = model.model.rotary_emb
        rotary.config.rope_parameters["truncate"] = True
        model.model.rotary_emb = type(rotary)(rotary.config)

    def tensors(self, config, state):
        out = base.top_tensors(config, state)
        for layer in range(config.num_hidden_layers):
            ours, theirs = f"blk.{layer}.", f"model.layers.{layer}."
            out |= base.renamed(state, theirs, ours, {
                "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
                "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
                "post_attention_norm": "post_attention_layernorm", "ffn_gate_inp": "mlp.router"})
            out[f"{ours}attn_sinks.weight"] = state[theirs + "self_attn.sinks"]
            experts = theirs + "mlp.experts."
            # transformers: (experts, inputs, outputs), gates and ups by turns along the outputs.
            gate_up = state[experts + "gate_up_proj"].swapaxes(1, 2)
            bias = state[experts + "gate_up_proj_bias"]
            for offset, part in enumerate(("gate", "up")):
                out[f"{ours}ffn_{part}_exps.weight"] = gate_up[:, offset::2]
                out[f"{ours}ffn_{part}_exps.bias"] = bias[:, offset::2]
            out[f"{ours}ffn_down_exps.weight"] = state[experts + "down_proj"].swapaxes(1, 2)
            out[f"{ours}ffn_down_exps.bias"] = state[experts + "down_proj_bias"]
        return out

    def write_hyperparameters(self, writer, config):
        base.common_hyperparameters(writer, config)
        base.write_head_size(writer, config)
        writer.add_sliding_window(config.sliding_window)
        writer.add_expert_feed_forward_length(config.intermediate_size)


class GptOssPacked(GptOss):
    """Experts in MXFP4 on both sides, as OpenAI publishes them, and a ramp that begins and ends so near to whole pairs
    that truncation changes nothing that counts."""
    name = "gpt-oss-mxfp4"
    llama_cpp_differs = None
    fixture_older_config = True
    fixture_members = {
        **GptOss.fixture_members, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}

    def make_config(self, **members):
        config = super().make_config(**members)
        rope = config.rope_parameters
        # The ramp is between the pairs that turn 32 times and once in the original context: here pairs `width` and
        # 2 x `width`, but a little inwards, so that rounding outwards moves it by that little.
        width, little = round(0.18 * config.head_dim), 3e-4
        rope["rope_theta"] = 32 ** (config.head_dim / 2 / (width - 2 * little))
        rope["original_max_position_embeddings"] = round(
            2 * math.pi * 32 ** (1 + (width + little) / (width - 2 * little)))
        return config

    def random_state(self, model, rng):
        state = super().random_state(model, rng)
        return {name: self.rounded(name, array, Kind.MXFP4) if name.endswith(EXPERTS) else array
                for name, array in state.items()}

    def kind(self, name, wanted):
        return Kind.MXFP4 if name.endswith("_exps.weight") else wanted

    def save(self, model, folder, element):
        import torch
        from safetensors.torch import save_file

        tensors = {}
        for name, tensor in base.trained(model).items():
            if not name.endswith(EXPERTS):
                tensors[name] = tensor.detach().to(element).contiguous()
                continue
            blocks, scales = packed(tensor.detach().float().numpy().swapaxes(1, 2))
            tensors[name + "_blocks"], tensors[name + "_scales"] = torch.from_numpy(blocks), torch.from_numpy(scales)
        model.config.save_pretrained(folder)
        path = folder / "config.json"
        members = json.loads(path.read_text()) | dict(
            architectures=["GptOssForCausalLM"], dtype=str(element).removeprefix("torch."), quantization_config=dict(
                quant_method="mxfp4", modules_to_not_convert=[
                    "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]))
        path.write_text(json.dumps(members, indent=2, sort_keys=True) + "\n")
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    def load(self, folder, config):
        import torch
        import transformers

        unpacked = transformers.Mxfp4Config(dequantize=True)
        return transformers.GptOssForCausalLM.from_pretrained(
            folder, quantization_config=unpacked, dtype=torch.float32, attn_implementation="eager",
            experts_implementation="eager").float().eval()


def packed(array):
    """(blocks (..., inputs / 32, 16), scales (..., inputs / 32)) of an array (..., inputs) that MXFP4 holds exactly.

    Two inputs that follow one another share a byte there, first the low half; in GGUF those 16 apart do.
    """
    rows = moe_gguf.encode(array, Kind.MXFP4).reshape(*array.shape[:-1], -1, gguf.GGML_QUANT_SIZES[Kind.MXFP4][1])
    halves = rows[..., 1:]
    codes = np.concatenate([halves & 15, halves >> 4], axis=-1)
    return codes[..., ::2] | codes[..., 1::2] << 4, np.ascontiguousarray(rows[..., 0])


FAMILIES = [GptOss(), GptOssPacked()]
