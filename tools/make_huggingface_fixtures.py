#!/usr/bin/env python3
"""Makes Tests/Fixtures/huggingface: tiny random checkpoints in Hugging Face's layout, and tokenizers of every kind.

usage: make_huggingface_fixtures.py [OUT]     (OUT: Tests/Fixtures/huggingface)

models/NAME/       config.json, safetensors, tokenizer files, as transformers saves them
models/NAME.gguf   the same weights as a GGUF file, written without Sluice
models/NAME.ids.npy, NAME.logits.npy    token ids, and the logits of the checkpoint as transformers loads it
tokenizers/NAME.json, NAME.ids    a tokenizer.json, and what the tokenizers package makes of ../tokenizers/texts.hex
tokenizers/special.json    which tokens begin and end texts, by settings, as the gguf package's SpecialVocab has it
tokenizers/config.json, model.safetensors    as little of a model as it takes to hold a tokenizer

As in make_model_fixtures.py, a seed is searched for which no router decision is close.

Needs: pip install numpy gguf torch 'transformers>=5' safetensors tokenizers sentencepiece
"""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile

import gguf
import numpy as np
import tokenizers
from gguf import GGMLQuantizationType as Kind
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

import make_model_fixtures as fixtures
import make_tokenizer_fixtures as texts
import moe_gguf

COMMON = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=128)
# name, architecture, transformers configuration, element type, size of a file
MODELS = [
    ("qwen3moe-f32", "qwen3moe",
     dict(num_key_value_heads=1, head_dim=24, num_experts=6, num_experts_per_tok=2, norm_topk_prob=True,
          moe_intermediate_size=16, intermediate_size=48, tie_word_embeddings=True, rms_norm_eps=1e-6), "float32", "60KB"),
    ("qwen3moe-yarn-f16", "qwen3moe",
     dict(num_key_value_heads=2, head_dim=16, num_experts=4, num_experts_per_tok=2, norm_topk_prob=False,
          moe_intermediate_size=16, intermediate_size=48, tie_word_embeddings=True, rms_norm_eps=1e-6,
          rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
                           "original_max_position_embeddings": 32}), "float16", "1GB"),
    ("olmoe-bf16", "olmoe",
     dict(num_key_value_heads=2, intermediate_size=16, num_experts=6, num_experts_per_tok=3, norm_topk_prob=False,
          tie_word_embeddings=False, rms_norm_eps=1e-5), "bfloat16", "1GB"),
    ("mixtral-f32", "llama",
     dict(num_key_value_heads=1, intermediate_size=16, num_local_experts=4, num_experts_per_tok=2,
          tie_word_embeddings=False, sliding_window=None, rms_norm_eps=1e-5), "float32", "1GB"),
]
KINDS = {"float32": Kind.F32, "float16": Kind.F16, "bfloat16": Kind.BF16}
CHAT_TEMPLATE = "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}"


# ------------------------------------------------------------------------------------------------- models


PRE_TOKENIZER = {"qwen3moe": "qwen2", "olmoe": "gpt-2", "llama": "llama-bpe"}


def save_tokenizer(folder, pre_tokenizer):
    """The vocabulary of the model fixtures as a tokenizer.json, with the settings beside it."""
    vocabulary, types, merges = fixtures.vocabulary()
    count = len(fixtures.byte_alphabet()) + len(fixtures.MERGED)
    tokenizer = tokenizers.Tokenizer(models.BPE(
        vocab={token: number for number, token in enumerate(vocabulary[:count])},
        merges=[tuple(merge.split(" ")) for merge in merges], ignore_merges=pre_tokenizer == "llama-bpe"))
    stages, _ = texts.PRE_TOKENIZERS[pre_tokenizer]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(stages)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "add_bos_token": False, "bos_token": "<|endoftext|>", "eos_token": {"content": "<|endoftext|>"},
        "chat_template": CHAT_TEMPLATE, "model_max_length": 128}, indent=1) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({
        "eos_token_id": [vocabulary.index("<|im_end|>"), vocabulary.index("<|endoftext|>")]}, indent=1) + "\n")


def make_model(out, name, arch, shape, dtype, shard):
    import torch
    import transformers

    config_class, model_class = moe_gguf.ARCHITECTURES[arch]
    vocabulary = len(fixtures.vocabulary()[0])
    shape = {**COMMON, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, **shape}
    config = getattr(transformers, config_class)(
        vocab_size=vocabulary, bos_token_id=None, eos_token_id=None, pad_token_id=None, **shape)
    model = moe_gguf.build_model(moe_gguf.prepared(config))
    element = getattr(torch, dtype)
    for seed in range(1, 5000):
        ids = np.random.default_rng(seed).integers(0, 256 + len(fixtures.MERGED), fixtures.TOKENS).tolist()
        state = {key: torch.from_numpy(value).to(element).float().numpy()
                 for key, value in fixtures.random_state(model, seed).items()}
        fixtures.set_state(model, state)
        margin = fixtures.routing_margin(model, ids, shape["num_experts_per_tok"])
        if margin >= fixtures.CLEAR_MARGIN:
            break
    else:
        sys.exit(f"{name}: no seed with a routing margin of {fixtures.CLEAR_MARGIN}")
    logits = moe_gguf.logits(model, ids)

    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    model.to(element).save_pretrained(folder, max_shard_size=shard)
    for file in folder.iterdir():
        file.chmod(0o644)
    save_tokenizer(folder, PRE_TOKENIZER[arch])
    loaded = getattr(transformers, model_class).from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager").eval()
    again = moe_gguf.logits(loaded, ids)
    if not np.array_equal(logits, again):
        sys.exit(f"{name}: the checkpoint read back differs by {np.abs(logits - again).max()}")

    plain = {**config.to_dict(), **shape, "vocab_size": vocabulary}
    tensors = moe_gguf.gguf_tensors(arch, plain, state)
    kinds = {key: Kind.F32 if array.ndim == 1 or "ffn_gate_inp" in key else KINDS[dtype]
             for key, array in tensors.items()}
    if shape["rope_parameters"]["rope_type"] == "default":
        fixtures.write(out / f"{name}.gguf", name, arch, plain, tensors, kinds)
    np.save(out / f"{name}.ids.npy", np.array(ids, dtype=np.int32))
    np.save(out / f"{name}.logits.npy", again.astype(np.float32))
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name}: {size / 1000:.0f} kB, seed {seed}, margin {margin:.3f}, logit deviation {logits.std():.2f}", flush=True)


# ------------------------------------------------------------------------------------------- tokenizers

VOCABULARY = 1024  # rows of the model that the tokenizers come with


def literal_class(ranges):
    """A character class with the characters themselves, as DeepSeek's file has it."""
    parts = []
    for entry in ranges.split():
        first, _, last = entry.partition("-")
        first, last = int(first, 16), int(last or first, 16)
        parts.append(chr(first) + ("-" if last > first + 1 else "") + (chr(last) if last > first else ""))
    return "[" + "".join(parts) + "]"


def stages_of(name):
    stages, ignores_merges = texts.PRE_TOKENIZERS[name]
    if name == "deepseek-llm":
        letters = texts.split(r"\s?" + literal_class(texts.DEEPSEEK_LETTERS) + "+")
        # Real files have line ends written out.
        stages = texts.split("[\r\n]") + letters + stages[2:]
    if name == "deepseek-v3":
        # Nor has the real file a backslash before the quotation mark.
        stages = stages[:2] + texts.split(texts.DEEPSEEK_V3.replace('\\"', '"')) + stages[3:]
    return stages, ignores_merges


def byte_level(out, lines):
    vocabulary, merges = texts.trained_bpe(seed=0)
    for name in ["gpt-2", "starcoder", "llama-bpe", "qwen2", "qwen35", "gpt-4o", "tekken", "deepseek-llm",
                 "deepseek-coder", "deepseek-v3"]:
        stages, ignores_merges = stages_of(name)
        tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=ignores_merges))
        tokenizer.pre_tokenizer = stages[0] if len(stages) == 1 else pre_tokenizers.Sequence(stages)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(texts.SPECIAL)
        tokenizer.add_tokens([tokenizers.AddedToken("<tool>", normalized=False), tokenizers.AddedToken("    ")])
        finish(out, name, tokenizer, lines)


def sentencepiece_like(out, lines):
    """Merges over characters as tokenizer.json has them, in the three ways of putting a space first."""
    sample = texts.Texts(7)
    alphabet = sorted({c for _ in range(400) for c in sample.text(30, kinds=10) if c.isprintable() and c != " "})[:160]
    # Without what looks like a byte token: real vocabularies have no merges to those.
    training = ["▁" + sample.text(30, kinds=10).replace(" ", "▁").replace("<", "") for _ in range(1500)]
    trained = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    trained.train_from_iterator(training, trainers.BpeTrainer(
        vocab_size=600, show_progress=False, special_tokens=["<unk>"], initial_alphabet=alphabet + ["▁"], limit_alphabet=170))
    model = json.loads(trained.to_str())["model"]
    fixed = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    words = [word for word, _ in sorted(model["vocab"].items(), key=lambda item: item[1]) if word not in fixed]
    vocabulary = {token: number for number, token in enumerate(fixed + words)}
    merges = [tuple(merge) for merge in model["merges"]]
    spaces = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    for name, normalizer, cut in [
            ("sentencepiece-prepend", normalizers.Sequence(spaces), None),
            ("sentencepiece-plain", spaces[1], None),
            ("metaspace-first", None, pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)),
            ("metaspace-always", None, pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=False))]:
        tokenizer = tokenizers.Tokenizer(models.BPE(
            vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        if normalizer:
            tokenizer.normalizer = normalizer
        if cut:
            tokenizer.pre_tokenizer = cut
        tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
        tokenizer.add_tokens([tokenizers.AddedToken("<tool>", normalized=False)])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
        finish(out, name, tokenizer, lines)


def finish(out, name, tokenizer, lines):
    """Writes a tokenizer and its ids: special tokens are matched in the text, as the package always does."""
    (out / f"{name}.json").write_text(tokenizer.to_str() + "\n")
    texts.write_numbers(out / f"{name}.ids", (tokenizer.encode(text).ids for text in lines))


def template(before, after):
    """A post-processor that puts tokens before and after a text."""
    def special(token):
        return {"SpecialToken": {"id": token, "type_id": 0}}

    text = [{"Sequence": {"id": "A", "type_id": 0}}]
    return {"type": "TemplateProcessing", "single": [*map(special, before), *text, *map(special, after)], "pair": [],
            "special_tokens": {token: {"id": token, "ids": [0], "tokens": [token]} for token in before + after}}


def special_tokens(out):
    added = ["<s>", "</s>", "<end>", "<pad>"]
    tokenizer = {
        "added_tokens": [{"id": 2 + number, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for number, token in enumerate(added)],
        "normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}
    # tokenizer_config.json, members of config.json, post-processor
    cases = [
        ({}, {}, None),
        ({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "pad_token": "<pad>"}, {}, None),
        ({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True, "add_eos_token": False}, {}, None),
        ({"bos_token": None, "eos_token": "</s>"}, {"bos_token_id": 5, "eos_token_id": 4, "pad_token_id": 99999}, None),
        ({"bos_token": "<absent>"}, {"bos_token_id": 2, "eos_token_id": 3}, None),
        ({"bos_token": "<s>", "eos_token": "</s>"}, {}, template(["<s>"], [])),
        ({"bos_token": "<s>", "eos_token": "</s>"}, {},
         {"type": "Sequence", "processors": [{"type": "ByteLevel", "trim_offsets": False}, template(["<s>"], ["</s>"])]}),
        ({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": False}, {}, template(["<s>"], [])),
        ({"bos_token": "<s>", "eos_token": "</s>"}, {}, template(["<s>"], ["<end>"])),
        ({"bos_token": "<s>", "eos_token": "</s>", "chat_template": "{{ 'ä' }}"}, {}, template([], ["</s>"])),
        ({"chat_template": [{"name": "tools", "template": "T"}, {"name": "default", "template": "D"}]}, {}, None),
    ]
    base = json.loads((out / "config.json").read_text())
    base = {key: value for key, value in base.items() if not key.endswith("token_id")}
    found = []
    for settings, members, processor in cases:
        files = {"tokenizer.json": json.dumps({**tokenizer, "post_processor": processor}),
                 "config.json": json.dumps({**base, **members}), "tokenizer_config.json": json.dumps(settings)}
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                (pathlib.Path(folder) / name).write_text(text)
            special = gguf.SpecialVocab(folder, n_vocab=VOCABULARY)
        templates = special.chat_template
        if isinstance(templates, list):
            templates = next(entry["template"] for entry in templates if entry["name"] == "default")
        found.append({"files": files, "ids": {
            key: number for key, number in special.special_token_ids.items() if key not in ("sep", "cls", "mask")},
            "adds": {key: special.add_special_token.get(key, False) for key in ("bos", "eos")}, "template": templates})
    (out / "special.json").write_text(json.dumps(found, indent=1) + "\n")


def smallest_model(out):
    """One layer of one expert, two columns wide: what a directory with a tokenizer needs beside it."""
    import safetensors.numpy

    layer, one = "model.layers.0.", np.ones(2, dtype=np.float16)
    square = np.ones((2, 2), dtype=np.float16)
    names = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "block_sparse_moe.experts.0.w1",
             "block_sparse_moe.experts.0.w2", "block_sparse_moe.experts.0.w3"]
    tensors = {f"{layer}{name}.weight": square for name in names}
    tensors |= {f"{layer}{name}.weight": one for name in ["input_layernorm", "post_attention_layernorm"]}
    tensors |= {f"{layer}block_sparse_moe.gate.weight": np.ones((1, 2), dtype=np.float16), "model.norm.weight": one,
                "model.embed_tokens.weight": np.ones((VOCABULARY, 2), dtype=np.float16)}
    safetensors.numpy.save_file(tensors, out / "model.safetensors")
    (out / "model.safetensors").chmod(0o644)
    (out / "config.json").write_text(json.dumps({
        "architectures": ["MixtralForCausalLM"], "hidden_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1,
        "num_key_value_heads": 1, "intermediate_size": 2, "num_local_experts": 1, "num_experts_per_tok": 1,
        "max_position_embeddings": 16, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "vocab_size": VOCABULARY,
        "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2}, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = pathlib.Path(__file__).resolve().parent.parent / "Tests/Fixtures"
    parser.add_argument("out", nargs="?", type=pathlib.Path, default=here / "huggingface")
    arguments = parser.parse_args()
    for folder in ("models", "tokenizers"):
        (arguments.out / folder).mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        make_model(arguments.out / "models", *model)
    lines = [bytes.fromhex(line).decode() for line in (here / "tokenizers/texts.hex").read_text().splitlines()]
    byte_level(arguments.out / "tokenizers", lines)
    sentencepiece_like(arguments.out / "tokenizers", lines)
    smallest_model(arguments.out / "tokenizers")
    special_tokens(arguments.out / "tokenizers")


if __name__ == "__main__":
    main()
