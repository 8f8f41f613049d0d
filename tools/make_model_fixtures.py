#!/usr/bin/env python3
"""Makes Tests/Fixtures/models: tiny random models in GGUF with logits that transformers computed.

usage: make_model_fixtures.py [--check-llama-cpp] [OUT]     (OUT: Tests/Fixtures/models)

For each model: NAME.gguf, NAME.ids.npy (int32 [tokens]) and NAME.logits.npy (float32 [tokens, vocabulary]), both
NumPy format 1.0; index.json lists them with their shapes. The weights are what the file's block formats decode to,
so the logits are exact for the file and not for some model before rounding. The logits come from a transformers
model that never saw the file; that the file says the same is checked by reading it back (`load_model`), and, with
--check-llama-cpp, by llama.cpp.

A seed is searched for which no router decision is close: the k-th expert leads the next one by a clear margin,
so that arithmetic a little different from transformers' still picks the same experts.

Needs: pip install numpy gguf torch 'transformers>=5'     (the check: llama-cpp-python)
"""

import argparse
import json
import pathlib
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

import moe_gguf

TOKENS = 24
# What the rows of a token's routing must show: logit of the last expert taken less that of the first one left out.
CLEAR_MARGIN = 0.04

# name, architecture, transformers configuration, block format by the name of a tensor (None: F32)
MODELS = [
    ("qwen3moe-f32", "qwen3moe",
     dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, head_dim=48,
          num_experts=8, num_experts_per_tok=3, norm_topk_prob=True, moe_intermediate_size=20, intermediate_size=60,
          tie_word_embeddings=True), {}),
    ("qwen3moe-bf16", "qwen3moe",
     dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
          num_experts=8, num_experts_per_tok=2, norm_topk_prob=True, moe_intermediate_size=32, intermediate_size=64,
          tie_word_embeddings=False),
     {"attn": Kind.BF16, "exps": Kind.BF16, "token_embd": Kind.BF16, "output": Kind.BF16}),
    ("qwen3moe-q8_0", "qwen3moe",
     dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=48,
          num_experts=8, num_experts_per_tok=2, norm_topk_prob=True, moe_intermediate_size=32, intermediate_size=64,
          tie_word_embeddings=True),
     {"attn": Kind.Q8_0, "exps": Kind.Q8_0, "token_embd": Kind.Q8_0}),
    ("qwen3moe-k-quants", "qwen3moe",
     dict(hidden_size=256, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
          num_experts=3, num_experts_per_tok=2, norm_topk_prob=True, moe_intermediate_size=256, intermediate_size=256,
          tie_word_embeddings=True),
     {"attn_q": Kind.Q4_K, "attn_k": Kind.Q4_K, "attn_v": Kind.Q6_K, "attn_output": Kind.Q8_0,
      "gate_exps": Kind.Q4_K, "up_exps": Kind.Q4_K, "down_exps": Kind.Q6_K, "token_embd": Kind.Q6_K}),
    # Ternary experts, one of them for each token, between full-precision weights (MoTE, arXiv 2506.14435).
    ("qwen3moe-ternary", "qwen3moe",
     dict(hidden_size=256, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
          num_experts=3, num_experts_per_tok=1, norm_topk_prob=True, moe_intermediate_size=256, intermediate_size=256,
          tie_word_embeddings=True),
     {"attn": Kind.Q8_0, "gate_exps": Kind.TQ1_0, "up_exps": Kind.TQ2_0, "down_exps": Kind.TQ2_0,
      "token_embd": Kind.Q8_0}),
    ("olmoe-f16", "olmoe",
     dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, intermediate_size=24,
          num_experts=8, num_experts_per_tok=3, norm_topk_prob=False, tie_word_embeddings=False),
     {"exps": Kind.F16, "attn_v": Kind.F16, "attn_output": Kind.F16}),
    ("llama-moe-f32", "llama",
     dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=24,
          num_local_experts=4, num_experts_per_tok=2, tie_word_embeddings=False, sliding_window=None), {}),
]
PRE_TOKENIZER = {"qwen3moe": "qwen2", "olmoe": "olmo", "llama": "llama-bpe"}
MERGED = ["Ġt", "he", "in", "Ġa", "re", "on", "Ġthe", "er", "an", "st", "ing", "or"]
MERGES = ["Ġ t", "h e", "i n", "Ġ a", "r e", "o n", "Ġt he", "e r", "a n", "s t", "in g", "o r"]


def byte_alphabet():
    """The printable stand-ins of the 256 byte values in byte-level BPE, by byte value."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, spare = {}, 256
    for byte in range(256):
        table[byte] = chr(byte) if byte in plain else chr(spare)
        spare += byte not in plain
    return [table[byte] for byte in range(256)]


def vocabulary():
    """(tokens, types, merges): 256 bytes, a dozen merges, two control tokens, padding to a multiple of 16."""
    tokens = byte_alphabet() + MERGED
    types = [gguf.TokenType.NORMAL] * len(tokens)
    for control in ("<|endoftext|>", "<|im_end|>"):
        tokens.append(control)
        types.append(gguf.TokenType.CONTROL)
    while len(tokens) % 16:
        types.append(gguf.TokenType.UNUSED)
        tokens.append(f"[PAD{len(tokens)}]")
    return tokens, types, MERGES


def kind_of(name, array, kinds):
    """The block format of a tensor: vectors and routers stay F32, as llama.cpp's converter has it."""
    if array.ndim == 1 or "ffn_gate_inp" in name:
        return Kind.F32
    return next((kind for key, kind in kinds.items() if key in name), Kind.F32)


def random_state(model, seed):
    """Random weights by parameter name: matrices keep the size of what passes through, routers are sharpened."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        values = rng.standard_normal(shape).astype(np.float32)
        if "norm" in name:
            values = 1 + 0.2 * values
        elif "embed_tokens" in name:
            values *= 3 / shape[-1] ** 0.5
        else:
            values *= (2.5 if "mlp.gate." in name or "lm_head" in name else 1.2) / shape[-1] ** 0.5
        state[name] = values.astype(np.float32)
    return state


def set_state(model, state):
    """Puts weights by name into a model's parameters, and into its buffers where `state` has them."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(state[name]))
        for name, buffer in model.named_buffers():
            if name in state:
                buffer.copy_(torch.from_numpy(state[name]))


def rounded(arch, config, state, kinds):
    """(state after a trip through the file's block formats, tensors of the file)."""
    tensors = moe_gguf.gguf_tensors(arch, config, state)
    kinds = {name: kind_of(name, array, kinds) for name, array in tensors.items()}
    state = dict(state)

    def trip(array, kind):
        return moe_gguf.decode(moe_gguf.encode(array, kind), kind).reshape(array.shape)

    for short, long in moe_gguf.TOP_NAMES.items():
        if f"{short}.weight" in tensors:
            state[f"{long}.weight"] = trip(state[f"{long}.weight"], kinds[f"{short}.weight"])
    for layer in range(config["num_hidden_layers"]):
        ours, theirs = f"blk.{layer}.", f"model.layers.{layer}."
        for short, long in moe_gguf.BLOCK_NAMES.items():
            if theirs + long + ".weight" in state:
                name = theirs + long + ".weight"
                state[name] = trip(state[name], kinds[f"{ours}{short}.weight"])
        gate, up = np.split(state[theirs + "mlp.experts.gate_up_proj"], 2, axis=1)
        state[theirs + "mlp.experts.gate_up_proj"] = np.concatenate(
            [trip(gate, kinds[f"{ours}ffn_gate_exps.weight"]), trip(up, kinds[f"{ours}ffn_up_exps.weight"])], axis=1)
        name = theirs + "mlp.experts.down_proj"
        state[name] = trip(state[name], kinds[f"{ours}ffn_down_exps.weight"])
    return state, tensors, kinds


def routing_margin(model, ids, used):
    """The smallest lead, over all tokens and layers, of the last expert taken over the first one left out."""
    import torch

    margins = []
    hooks = [
        layer.mlp.gate.register_forward_hook(
            lambda gate, inputs, _: margins.append(
                (inputs[0].reshape(-1, inputs[0].shape[-1]) @ gate.weight.T).sort(-1, descending=True).values))
        for layer in model.model.layers]
    with torch.no_grad():
        model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return min(float((rows[:, used - 1] - rows[:, used]).min()) for rows in margins)


def write(path, name, arch, config, tensors, kinds):
    def hyperparameters(writer):
        moe_gguf.write_hyperparameters(writer, arch, config)

    write_file(path, name, arch, PRE_TOKENIZER[arch], hyperparameters, tensors, kinds)


def write_file(path, name, arch, pre_tokenizer, hyperparameters, tensors, kinds):
    """A GGUF file with the vocabulary of all fixtures; `hyperparameters` adds the architecture's keys to the writer."""
    tokens, types, merges = vocabulary()
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name(f"Sluice fixture {name}")
    writer.add_description("tiny random model for tests; produces noise")
    writer.add_license("Apache-2.0")
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    hyperparameters(writer)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokens.index("<|endoftext|>"))
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    for tensor, array in tensors.items():
        moe_gguf.add_tensor(writer, tensor, array, kinds[tensor])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_cpp_logits(path, ids, context=64):
    import llama_cpp

    model = llama_cpp.Llama(
        str(path), n_ctx=context, n_threads=1, logits_all=True, verbose=False, flash_attn=False,
        type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32)
    model.eval(list(map(int, ids)))
    return np.array(model.scores[:len(ids)], dtype=np.float32)


def make(out, name, arch, shape, kinds, check_llama_cpp):
    import transformers

    vocabulary_size = len(vocabulary()[0])
    config = getattr(transformers, moe_gguf.ARCHITECTURES[arch][0])(
        vocab_size=vocabulary_size, max_position_embeddings=256, rms_norm_eps=1e-5 if arch != "qwen3moe" else 1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0 if arch != "llama" else 1e6},
        bos_token_id=None, eos_token_id=None, pad_token_id=None, **shape)
    model = moe_gguf.build_model(moe_gguf.prepared(config))
    plain = {**config.to_dict(), **shape, "vocab_size": vocabulary_size}
    for seed in range(1, 2000):
        ids = np.random.default_rng(seed).integers(0, 256 + len(MERGED), TOKENS).tolist()
        state, tensors, by_name = rounded(arch, plain, random_state(model, seed), kinds)
        set_state(model, state)
        margin = routing_margin(model, ids, plain["num_experts_per_tok"])
        if margin >= CLEAR_MARGIN:
            break
    else:
        sys.exit(f"{name}: no seed with a routing margin of {CLEAR_MARGIN}")
    path = out / f"{name}.gguf"
    write(path, name, arch, plain, tensors, by_name)
    logits = moe_gguf.logits(model, ids)
    np.save(out / f"{name}.ids.npy", np.array(ids, dtype=np.int32))
    np.save(out / f"{name}.logits.npy", logits.astype(np.float32))
    again = moe_gguf.logits(moe_gguf.load_model(path), ids)
    if not np.array_equal(logits, again):
        sys.exit(f"{name}: the file read back differs from the model by {np.abs(logits - again).max()}")
    line = f"{name}: {path.stat().st_size / 1000:.0f} kB, seed {seed}, margin {margin:.3f}, logit deviation {logits.std():.2f}"
    if check_llama_cpp:
        theirs = llama_cpp_logits(path, ids)
        worst = np.abs(theirs - logits).max() / (logits.max() - logits.min())
        line += f", llama.cpp differs by {worst:.1e} of the range"
        # llama.cpp rounds the activations to the weights' format (f16, bf16) or to int8; with F32 there is no excuse.
        if worst > (1e-5 if set(by_name.values()) == {Kind.F32} else 3e-2):
            sys.exit(line + ": TOO MUCH")
    print(line, flush=True)
    return dict(name=name, architecture=arch, tokens=TOKENS, vocabulary=vocabulary_size, seed=seed,
                routing_margin=round(margin, 4), **shape,
                formats={tensor: kind.name for tensor, kind in by_name.items() if "blk." not in tensor or "blk.0." in tensor})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("out", nargs="?", type=pathlib.Path, default=here.parent / "Tests/Fixtures/models")
    parser.add_argument("--check-llama-cpp", action="store_true", help="compare with llama.cpp as well")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    index = [make(arguments.out, *model, arguments.check_llama_cpp) for model in MODELS]
    (arguments.out / "index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()
