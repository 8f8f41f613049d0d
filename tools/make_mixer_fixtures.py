#!/usr/bin/env python3
"""Writes Tests/Fixtures/mixers/*.json: what transformers computes for the mixers that are not attention.

short-convolution.json   LFM2's gated short convolution (Lfm2ShortConv, torch path)
gated-delta-rule.json    Qwen3-Next's recurrence alone: the recurrent and the chunked form
gated-delta-net.json     Qwen3-Next's linear attention layer, projections to output projection

Every array is {"shape": [...], "values": [...]}, row-major float32 in the fewest digits that give the
same bits back. The weights are in the shapes and the order of GGUF (as llama.cpp's converter writes
them); where transformers keeps them otherwise, its own arrays stand beside them under "huggingface".
A sequence is given as chunks that follow one another, each with its inputs, its outputs and the state
after it; the first chunk starts from nothing unless the case has an "initialState".
Needs torch and transformers; always writes the same files on one machine (and the same to a few units
in the last place elsewhere).
"""

import json
import pathlib

import numpy as np
import torch
import transformers
from transformers.models.lfm2.modeling_lfm2 import Lfm2ShortConv
from transformers.models.qwen3_next import modeling_qwen3_next as qwen3next

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "Tests" / "Fixtures" / "mixers"


def array(values):
    values = np.ascontiguousarray(values.detach().numpy(), dtype=np.float32)
    flat = [float(str(value)) for value in values.ravel()]
    assert np.array_equal(np.array(flat, np.float32), values.ravel())
    return {"shape": list(values.shape), "values": flat}


def randomise(module, generator, scale=1.0):
    """Matrices that keep the size of what passes through them; vectors around what they start as."""
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.copy_(noise * scale / parameter.shape[-1] ** 0.5)
            else:
                parameter.add_(noise * 0.3)


def write(name, content):
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, separators=(",", ":"))
    (FOLDER / name).write_text(text.replace('{"name"', '\n{"name"') + "\n")


# LFM2's short convolution


def convolution_case(name, channels, taps, lengths, generator):
    config = transformers.Lfm2Config(
        hidden_size=channels, num_attention_heads=1, num_key_value_heads=1, num_hidden_layers=2,
        layer_types=["conv", "full_attention"], conv_L_cache=taps)
    layer = Lfm2ShortConv(config, 0).eval()
    randomise(layer, generator, 1.5)
    inputs = torch.randn(1, sum(lengths), channels, generator=generator)
    with torch.no_grad():
        whole = layer(inputs)[0]
        cache = transformers.DynamicCache(config=config)
        chunks, at = [], 0
        for length in lengths:
            part = inputs[:, at:at + length]
            outputs = layer(part, past_key_values=cache)[0]
            assert torch.allclose(outputs, whole[at:at + length], atol=1e-5)
            # transformers keeps `taps` columns; the oldest of them is never read again.
            state = cache.get_conv_state(0, state_idx=0)[0, :, 1:].T
            chunks.append({"inputs": array(part[0]), "outputs": array(outputs), "state": array(state)})
            at += length
    return {
        "name": name, "channels": channels, "taps": taps,
        "weights": {
            "shortconv.in_proj": array(layer.in_proj.weight),   # (3 channels, channels): B, C, x
            "shortconv.conv": array(layer.conv.weight[:, 0]),   # (channels, taps), newest position last
            "shortconv.out_proj": array(layer.out_proj.weight),  # (channels, channels)
        },
        "chunks": chunks,
    }


# Qwen3-Next's recurrence


def rule_case(name, keys, values, key_size, value_size, lengths, generator, initial=False):
    """(positions, heads, size) each; decay is g, the logarithm of what the state is multiplied by."""
    length = sum(lengths)

    def normal(*shape):
        return torch.randn(1, *shape, generator=generator)

    query, key = normal(length, keys, key_size), normal(length, keys, key_size)
    value = normal(length, values, value_size)
    decay = -torch.nn.functional.softplus(normal(length, values)) * 0.7
    beta = normal(length, values).sigmoid()
    start = normal(values, key_size, value_size) if initial else None
    options = dict(initial_state=start, output_final_state=True, use_qk_l2norm_in_kernel=True)
    whole, last = qwen3next.torch_chunk_gated_delta_rule(
        query, key, value, g=decay, beta=beta, **options)
    state, chunks, at = start, [], 0
    for count in lengths:
        part = [x[:, at:at + count] for x in (query, key, value, decay, beta)]
        options["initial_state"] = state
        outputs, state = qwen3next.torch_recurrent_gated_delta_rule(
            *part[:3], g=part[3], beta=part[4], **options)
        chunks.append({
            "query": array(part[0][0]), "key": array(part[1][0]), "value": array(part[2][0]),
            "decay": array(part[3][0]), "beta": array(part[4][0]), "outputs": array(outputs[0]),
            "outputsChunked": array(whole[0, at:at + count]),
            # (value heads, key size, value size)
            "state": array(state[0]),
        })
        assert torch.allclose(outputs, whole[:, at:at + count], atol=2e-5)
        at += count
    assert torch.allclose(state, last, atol=2e-5)
    case = {
        "name": name, "keyHeads": keys, "valueHeads": values, "keySize": key_size,
        "valueSize": value_size, "epsilon": 1e-6,
    }
    if initial:
        case["initialState"] = array(start[0])
    return {**case, "chunks": chunks}


# Qwen3-Next's layer


def delta_net_case(name, hidden, keys, values, size, taps, lengths, generator):
    config = transformers.Qwen3NextConfig(
        hidden_size=hidden, linear_num_key_heads=keys, linear_num_value_heads=values,
        linear_key_head_dim=size, linear_value_head_dim=size, linear_conv_kernel_dim=taps,
        num_hidden_layers=2, layer_types=["linear_attention", "full_attention"])
    layer = qwen3next.Qwen3NextGatedDeltaNet(config, 0).eval()
    with torch.no_grad():
        # Drawn anew, so that it does not hang on torch's global generator.
        layer.A_log.copy_(torch.log(torch.rand(values, generator=generator) * 3 + 0.05))
    randomise(layer, generator, 1.5)
    inputs = torch.randn(1, sum(lengths), hidden, generator=generator)
    with torch.no_grad():
        whole = layer(inputs)[0]
        cache = transformers.DynamicCache(config=config)
        chunks, at = [], 0
        for length in lengths:
            part = inputs[:, at:at + length]
            outputs = layer(part, cache_params=cache)[0]
            assert torch.allclose(outputs, whole[at:at + length], atol=2e-5)
            chunks.append({
                "inputs": array(part[0]), "outputs": array(outputs),
                # (taps - 1, channels), oldest first; channels are query, key, value.
                "convolutionState": array(cache.get_conv_state(0, state_idx=0)[0, :, 1:].T),
                # (value heads, key size, value size)
                "state": array(cache.get_recurrent_state(0, state_idx=0)[0]),
            })
            at += length
        per_key = values // keys
        grouped = layer.in_proj_qkvz.weight.view(keys, 2 * size + 2 * per_key * size, hidden)
        query, key, value, gate = torch.split(
            grouped, [size, size, per_key * size, per_key * size], dim=1)
        joined = torch.cat([x.reshape(-1, hidden) for x in (query, key, value)])
    return {
        "name": name, "embedding": hidden, "keyHeads": keys, "valueHeads": values, "headSize": size,
        "taps": taps, "normEpsilon": config.rms_norm_eps,
        "weights": {
            "attn_qkv": array(joined),  # (2 x key heads x size + value heads x size, embedding)
            "attn_gate": array(gate.reshape(-1, hidden)),  # (value heads x size, embedding)
            "ssm_ba": array(layer.in_proj_ba.weight),  # per key head: its betas, then its alphas
            "ssm_conv1d": array(layer.conv1d.weight[:, 0]),  # (channels, taps)
            "ssm_dt": array(layer.dt_bias), "ssm_a": array(-torch.exp(layer.A_log)),
            "ssm_norm": array(layer.norm.weight), "ssm_out": array(layer.out_proj.weight),
        },
        "huggingface": {"in_proj_qkvz": array(layer.in_proj_qkvz.weight), "A_log": array(layer.A_log)},
        "chunks": chunks,
    }


def main():
    generator = torch.Generator().manual_seed(40)
    write("short-convolution.json", {"cases": [
        convolution_case("three taps, one position", 6, 3, [1], generator),
        convolution_case("three taps, fewer positions than taps, then one by one", 6, 3,
                         [2, 1, 1, 1], generator),
        convolution_case("three taps, in chunks", 7, 3, [5, 1, 4], generator),
        convolution_case("four taps, one by one, then a chunk", 5, 4, [1, 1, 6], generator),
    ]})
    write("gated-delta-rule.json", {"cases": [
        rule_case("one position", 1, 1, 4, 4, [1], generator),
        rule_case("two value heads to a key head, in chunks", 2, 4, 6, 6, [5, 1, 3], generator),
        rule_case("from a state; keys and values of different sizes", 1, 3, 5, 7, [1, 4], generator,
                  initial=True),
        rule_case("past a chunk of 64", 1, 2, 4, 4, [70], generator),
    ]})
    write("gated-delta-net.json", {"cases": [
        delta_net_case("two value heads to a key head", 12, 2, 4, 6, 4, [5, 1, 3], generator),
        delta_net_case("as many key heads as value heads", 8, 2, 2, 5, 3, [1, 2, 1], generator),
    ]})


if __name__ == "__main__":
    main()
