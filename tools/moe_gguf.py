"""GGUF files of Mixture-of-Experts models on one side, transformers models on the other.

The Python oracles share this module: the makers of fixtures and of the demo model write GGUF files with it,
`reference_logits.py` reads any GGUF of these architectures back into a transformers model. It knows three:

  GGUF architecture   transformers          particulars
  qwen3moe            Qwen3MoeForCausalLM   RMS norm of each query and key head, gates renormalised over the top k
  olmoe               OlmoeForCausalLM      RMS norm over the whole query and key projection, gates not renormalised
  llama (experts)     MixtralForCausalLM    rotary pairs interleaved in the file, so rows of q and k are permuted

Arrays are in NumPy order: a matrix is (rows, columns) = (outputs, inputs), stacked experts are (experts, rows,
columns). GGUF writes the same bytes and lists the dimensions in reverse.

Needs: pip install numpy gguf torch 'transformers>=5'
"""

import pathlib
import re

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

ARCHITECTURES = {
    "qwen3moe": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM"),
    "olmoe": ("OlmoeConfig", "OlmoeForCausalLM"),
    "llama": ("MixtralConfig", "MixtralForCausalLM"),
}

# GGUF name inside a block -> name inside a transformers layer. The experts are handled apart: transformers keeps
# gate and up in one array, (experts, 2 * width, hidden), GGUF in two.
BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate_inp": "mlp.gate",
}
TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


class UnsupportedModel(Exception):
    """The file is no model of these three architectures, or it uses something the oracle does not compute."""


def interleave_rotary(rows, heads):
    """Rows of a q or k projection from transformers' order (pairs half a head apart) to GGUF's `llama` order
    (pairs side by side)."""
    dim = rows.shape[0] // heads
    return rows.reshape(heads, 2, dim // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def deinterleave_rotary(rows, heads):
    """The inverse of `interleave_rotary`."""
    dim = rows.shape[0] // heads
    return rows.reshape(heads, dim // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


# ---------------------------------------------------------------------------------------------- writing


def gguf_tensors(arch, config, state):
    """GGUF tensors, {name: float32 array}, of a transformers state dict {name: float32 array}.

    `state` may hold the experts stacked (a model in memory) or one by one (a checkpoint on disk).
    `config` is the transformers configuration as a dictionary.
    """
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    experts = config.get("num_experts") or config["num_local_experts"]
    out = {"token_embd.weight": state["model.embed_tokens.weight"]}
    for layer in range(config["num_hidden_layers"]):
        ours, theirs = f"blk.{layer}.", f"model.layers.{layer}."
        for short, long in BLOCK_NAMES.items():
            name = theirs + long + ".weight"
            if name not in state:
                if short in ("attn_q_norm", "attn_k_norm") and arch == "llama":
                    continue
                raise UnsupportedModel(f"{name} is missing from the checkpoint")
            array = state[name]
            if arch == "llama" and short == "attn_q":
                array = interleave_rotary(array, heads)
            if arch == "llama" and short == "attn_k":
                array = interleave_rotary(array, kv_heads)
            out[f"{ours}{short}.weight"] = array
        if theirs + "mlp.experts.gate_up_proj" in state:
            gate, up = np.split(state[theirs + "mlp.experts.gate_up_proj"], 2, axis=1)
            down = state[theirs + "mlp.experts.down_proj"]
        else:
            gate, up, down = (
                np.stack([state[f"{theirs}mlp.experts.{e}.{part}_proj.weight"] for e in range(experts)])
                for part in ("gate", "up", "down"))
        out[f"{ours}ffn_gate_exps.weight"] = gate
        out[f"{ours}ffn_up_exps.weight"] = up
        out[f"{ours}ffn_down_exps.weight"] = down
    out["output_norm.weight"] = state["model.norm.weight"]
    if not config.get("tie_word_embeddings"):
        out["output.weight"] = state["lm_head.weight"]
    return out


def write_hyperparameters(writer, arch, config):
    """The `{arch}.*` keys, those and only those that llama.cpp's own converter writes for each architecture."""
    heads = config["num_attention_heads"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    writer.add_rope_freq_base(theta)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_expert_count(config.get("num_experts") or config["num_local_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    if arch == "qwen3moe":
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    if arch == "llama":
        writer.add_vocab_size(config["vocab_size"])
        writer.add_rope_dimension_count(config["hidden_size"] // heads)


def encode(array, kind):
    """Array in the bytes of a block format. K-quants are written by `simple_k_quants`: the gguf package has none."""
    array = np.ascontiguousarray(array, dtype=np.float32)
    if kind in (Kind.Q4_K, Kind.Q6_K):
        import simple_k_quants
        return simple_k_quants.quantize(array, kind)
    return gguf.quants.quantize(array, kind)


def decode(data, kind):
    """The float32 values a block-format array stands for, as the gguf package decodes them."""
    return np.array(gguf.quants.dequantize(data, kind), dtype=np.float32)


def add_tensor(writer, name, array, kind):
    """Encodes one array and queues it for writing."""
    data = encode(array, kind)
    if kind in (Kind.F32, Kind.F16):
        writer.add_tensor(name, data)
    else:
        writer.add_tensor(name, data, raw_dtype=kind)


# ---------------------------------------------------------------------------------------------- reading


def file_parts(path):
    """All files of a split model, in order, given the first one; else the file alone."""
    path = pathlib.Path(path)
    match = re.fullmatch(r"(.*)-00001-of-(\d{5})\.gguf", path.name)
    if not match:
        return [path]
    count = int(match[2])
    return [path.with_name(f"{match[1]}-{i:05d}-of-{count:05d}.gguf") for i in range(1, count + 1)]


def read_gguf(path):
    """(metadata {key: value}, tensors {name: reader tensor}) of a GGUF file, split or not."""
    metadata, tensors = {}, {}
    for number, part in enumerate(file_parts(path)):
        reader = gguf.GGUFReader(part)
        if number == 0:
            metadata = {key: field.contents() for key, field in reader.fields.items()
                        if not key.startswith(("tokenizer.ggml.tokens", "tokenizer.ggml.merges",
                                               "tokenizer.ggml.scores", "tokenizer.ggml.token_type"))}
        tensors.update((tensor.name, tensor) for tensor in reader.tensors)
    return metadata, tensors


def transformers_config(metadata, tensors):
    """The transformers configuration that a GGUF's metadata describes."""
    import transformers

    arch = metadata["general.architecture"]
    if arch not in ARCHITECTURES:
        raise UnsupportedModel(f"general.architecture is {arch!r}; known: {', '.join(ARCHITECTURES)}")

    def get(key, default=None):
        return metadata.get(f"{arch}.{key}", default)

    if not get("expert_count"):
        raise UnsupportedModel(f"{arch}.expert_count is missing: not a Mixture-of-Experts model")
    if get("rope.scaling.type", "none") != "none" or "rope_freqs.weight" in tensors:
        raise UnsupportedModel("rotary scaling is not computed by this oracle")
    if get("expert_weights_scale", 1.0) not in (0.0, 1.0):
        raise UnsupportedModel(f"{arch}.expert_weights_scale is not computed by this oracle")
    heads, hidden = get("attention.head_count"), get("embedding_length")
    head_dim = get("attention.key_length", hidden // heads)
    if get("attention.value_length", head_dim) != head_dim:
        raise UnsupportedModel("key and value heads of different length")
    if get("rope.dimension_count", head_dim) != head_dim:
        raise UnsupportedModel("partial rotary dimensions")

    # (experts, width, hidden): the tensor says the width of an expert more surely than the metadata does.
    gate = tensors.get("blk.0.ffn_gate_exps.weight") or tensors.get("blk.0.ffn_gate.0.weight")
    if gate is None:
        raise UnsupportedModel("blk.0 has no expert tensors")
    width = int(gate.shape[1])
    vocabulary = int(tensors["token_embd.weight"].shape[1])
    common = dict(
        vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=get("block_count"),
        num_attention_heads=heads, num_key_value_heads=get("attention.head_count_kv", heads),
        num_experts_per_tok=get("expert_used_count"), rms_norm_eps=get("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": float(get("rope.freq_base", 10000.0))},
        max_position_embeddings=get("context_length"), tie_word_embeddings="output.weight" not in tensors,
        bos_token_id=None, eos_token_id=None, pad_token_id=None)
    if arch == "qwen3moe":
        own = dict(num_experts=get("expert_count"), moe_intermediate_size=width, head_dim=head_dim,
                   intermediate_size=get("feed_forward_length", width), norm_topk_prob=True,
                   decoder_sparse_step=1, mlp_only_layers=[])
    elif arch == "olmoe":
        own = dict(num_experts=get("expert_count"), intermediate_size=width, norm_topk_prob=False,
                   clip_qkv=get("attention.clamp_kqv"))
    else:
        own = dict(num_local_experts=get("expert_count"), intermediate_size=width, head_dim=head_dim,
                   sliding_window=None)
    if head_dim != hidden // heads and arch == "olmoe":
        raise UnsupportedModel("olmoe with heads that do not make up the hidden size")
    config = getattr(transformers, ARCHITECTURES[arch][0])(**common, **own)
    return prepared(config)


def prepared(config):
    """The configuration with the plain implementations chosen: no fused attention, no grouped products."""
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    return config


def build_model(config):
    """A float32 transformers model, weights still at random, of a configuration."""
    import torch
    import transformers

    name = type(config).__name__.replace("Config", "ForCausalLM")
    torch.set_default_dtype(torch.float32)
    return getattr(transformers, name)(config).eval().float()


def load_model(path):
    """A transformers model, float32, whose weights are the decoded tensors of a GGUF file.

    Every parameter of the model is set from the file, and every tensor of the file is used, or this raises.
    """
    import torch

    metadata, tensors = read_gguf(path)
    config = transformers_config(metadata, tensors)
    arch = metadata["general.architecture"]
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    experts = config.num_local_experts if arch == "llama" else config.num_experts
    model = build_model(config)
    parameters = dict(model.named_parameters())
    unset, unused = set(parameters), set(tensors)

    def read(name):
        if name not in tensors:
            raise UnsupportedModel(f"tensor {name} is missing")
        unused.discard(name)
        return decode(tensors[name].data, tensors[name].tensor_type)

    def read_experts(prefix, part):
        if f"{prefix}ffn_{part}_exps.weight" in tensors:
            return read(f"{prefix}ffn_{part}_exps.weight")
        return np.stack([read(f"{prefix}ffn_{part}.{e}.weight") for e in range(experts)])

    def put(name, array):
        target = parameters[name]
        array = torch.from_numpy(np.ascontiguousarray(array))
        if tuple(target.shape) != tuple(array.shape):
            raise UnsupportedModel(f"{name}: the model wants {tuple(target.shape)}, the file has {tuple(array.shape)}")
        with torch.no_grad():
            target.copy_(array)
        unset.discard(name)

    for short, long in TOP_NAMES.items():
        if f"{short}.weight" in tensors:
            put(f"{long}.weight", read(f"{short}.weight"))
    for layer in range(config.num_hidden_layers):
        ours, theirs = f"blk.{layer}.", f"model.layers.{layer}."
        for short, long in BLOCK_NAMES.items():
            if theirs + long + ".weight" not in parameters:
                continue
            array = read(f"{ours}{short}.weight")
            if arch == "llama" and short == "attn_q":
                array = deinterleave_rotary(array, heads)
            if arch == "llama" and short == "attn_k":
                array = deinterleave_rotary(array, kv_heads)
            put(theirs + long + ".weight", array)
        gate_up = np.concatenate([read_experts(ours, "gate"), read_experts(ours, "up")], axis=1)
        put(theirs + "mlp.experts.gate_up_proj", gate_up)
        put(theirs + "mlp.experts.down_proj", read_experts(ours, "down"))
    if unset:
        raise UnsupportedModel(f"not set from the file: {', '.join(sorted(unset)[:4])}")
    if unused:
        raise UnsupportedModel(f"in the file but not in the model: {', '.join(sorted(unused)[:4])}")
    return model


def logits(model, ids):
    """Logits, float32 (tokens, vocabulary), of one sequence from position 0."""
    import torch

    with torch.no_grad():
        return model(torch.tensor([list(ids)])).logits[0].float().numpy()
