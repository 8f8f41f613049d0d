#!/usr/bin/env python3
"""Makes the demo model, one GGUF file, from a checkpoint directory in Hugging Face layout.

usage: make.py CHECKPOINT [-o sluice-demo.gguf] [--recipe NAME] [--held-out DIR] [--compare-recipes]

CHECKPOINT holds config.json, model.safetensors and tokenizer.json of a Qwen3-MoE (README.md beside this file says
how ours was trained). Two steps: the unquantised GGUF by the gguf package, then llama.cpp's own quantiser with a
block format per tensor (see RECIPES). The result is loaded in llama.cpp and must write a few tokens, else no file
is left. --held-out DIR prints the loss on each DIR/*.txt before and after quantisation; --compare-recipes does so
for every recipe and keeps none.

Needs: pip install numpy gguf safetensors torch tokenizers llama-cpp-python     (cmake and a C++ compiler for the last)
"""

import argparse
import ctypes
import importlib.util
import json
import math
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

NEEDED = {"numpy": "numpy", "gguf": "gguf", "safetensors": "safetensors", "torch": "torch",
          "tokenizers": "tokenizers", "llama_cpp": "llama-cpp-python"}
SIZE_LIMIT = 36_000_000  # bytes; what the repository carries per version of the model

# Block format by pattern of the tensor's name; the first that matches counts. The routers and norms stay F32.
# The experts are 93 % of the weights: they decide the size. The rest is cheap to keep precise. Of the three matrices
# of an expert, the way down gains most from more bits; README.md has the figures.
RECIPES = {
    "q4": [("_exps", "Q4_K"), ("attn_", "Q8_0"), ("token_embd", "Q6_K")],
    "q4-down5": [("ffn_down_exps", "Q5_K"), ("_exps", "Q4_K"), ("attn_", "Q8_0"), ("token_embd", "Q8_0")],
    "q4-down6": [(r"blk\.[0-4]\.ffn_down_exps", "Q6_K"), ("_exps", "Q4_K"), ("attn_", "Q8_0"), ("token_embd", "Q8_0")],
    "q4-plain": [("_exps", "Q4_K"), ("attn_", "Q4_K"), ("token_embd", "Q6_K")],
    "q8": [("", "Q8_0")],  # over the limit, for comparison
}
DEFAULT_RECIPE = "q4-down6"
DESCRIPTION = ("Small Mixture-of-Experts model that comes with Sluice to try it on: it writes plausible-looking stories, "
               "plays, Python, Swift and C, and knows nothing. Trained from scratch on public-domain prose and plays and "
               "permissively licensed source code.")
quiet_log = []


def check_packages():
    missing = [pip for module, pip in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        sys.exit(f"missing Python packages; install them with\n  pip install {' '.join(missing)}")


def write_unquantised(checkpoint, out):
    """The checkpoint as a GGUF: matrices in BF16, as they were saved; norms and routers in F32."""
    import gguf
    import safetensors.torch
    from gguf import GGMLQuantizationType as Kind

    import moe_gguf

    config = json.loads((checkpoint / "config.json").read_text())
    if config.get("architectures") != ["Qwen3MoeForCausalLM"]:
        sys.exit(f"{checkpoint}/config.json: architectures is {config.get('architectures')}, expected Qwen3MoeForCausalLM")
    state = {}
    for part in sorted(checkpoint.glob("*.safetensors")):
        state.update((name, tensor.float().numpy()) for name, tensor in safetensors.torch.load_file(part).items())

    writer = gguf.GGUFWriter(out, "qwen3moe")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name("Sluice demo")
    writer.add_description(DESCRIPTION)
    writer.add_license("apache-2.0")
    writer.add_author("The Sluice authors")
    writer.add_languages(["en"])
    writer.add_tags(["mixture-of-experts", "demo", "text-generation"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    moe_gguf.write_hyperparameters(writer, "qwen3moe", config)
    write_tokenizer(writer, json.loads((checkpoint / "tokenizer.json").read_text()), config)
    for name, array in moe_gguf.gguf_tensors("qwen3moe", config, state).items():
        plain = array.ndim == 1 or "ffn_gate_inp" in name
        moe_gguf.add_tensor(writer, name, array, Kind.F32 if plain else Kind.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_tokenizer(writer, tokenizer, config):
    """Byte-level BPE with Qwen2's pre-tokeniser; the added tokens are control tokens."""
    import gguf

    size = config["vocab_size"]
    tokens = [f"[PAD{i}]" for i in range(size)]
    types = [gguf.TokenType.UNUSED] * size
    for token, number in tokenizer["model"]["vocab"].items():
        tokens[number], types[number] = token, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_pad_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)


def quantise(source, out, recipe):
    """llama.cpp's quantiser with one block format per tensor-name pattern."""
    import llama_cpp
    from gguf import GGMLQuantizationType as Kind

    class Override(ctypes.Structure):  # llama.h: struct llama_model_tensor_override
        _fields_ = [("pattern", ctypes.c_char_p), ("type", ctypes.c_int)]

    rules = RECIPES[recipe]
    overrides = (Override * (len(rules) + 1))(*[Override(p.encode(), int(Kind[k])) for p, k in rules])
    if not quiet_log:  # the library keeps the pointer: the callback must outlive this function
        quiet_log.append(llama_cpp.llama_log_callback(lambda level, text, data: None))
        llama_cpp.llama_log_set(quiet_log[0], None)
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.nthread = 2
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0 if recipe == "q8" else llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
    embedding = next(k for p, k in rules if p in "token_embd.weight")
    settings.token_embedding_type = settings.output_tensor_type = int(Kind[embedding])
    settings.tt_overrides = ctypes.cast(overrides, type(settings.tt_overrides))
    if llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(settings)) != 0:
        sys.exit("llama.cpp could not quantise the file")


def open_model(path):
    import llama_cpp

    return llama_cpp.Llama(str(path), n_ctx=512, n_batch=512, n_threads=2, n_threads_batch=2, logits_all=True, verbose=False)


def held_out_loss(path, checkpoint, directory, windows):
    """{domain: loss in nats per token} over the first `windows` windows of 512 tokens of each text."""
    import numpy as np
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    model, losses = open_model(path), {}
    for text in sorted(directory.glob("*.txt")):
        ids = tokenizer.encode(text.read_text()).ids[:windows * 512 + 1]
        total = count = 0
        for start in range(0, len(ids) - 512, 512):
            model.reset()
            model.eval(ids[start:start + 512])
            logits = np.array(model.scores[:512], dtype=np.float64)
            logits -= logits.max(-1, keepdims=True)
            wanted = logits[np.arange(512), ids[start + 1:start + 513]]
            total += float((np.log(np.exp(logits).sum(-1)) - wanted).sum())
            count += 512
        losses[text.stem] = total / count
    return losses


def report(name, size, losses, base=None):
    mean = sum(losses.values()) / len(losses)
    line = f"{name:10} {size / 1e6:7.2f} MB  " + "  ".join(f"{k} {v:.4f}" for k, v in losses.items()) + f"  mean {mean:.4f}"
    if base:
        line += f"  ({mean - sum(base.values()) / len(base):+.4f})"
    print(line, flush=True)


def check_generation(path):
    """The file loads in llama.cpp, has its tokenizer right, and writes text."""
    model = open_model(path)
    sample = "fn main() {\n  let x = 42; // naïve\n}<|endoftext|>"
    ids = model.tokenize(sample.encode(), add_bos=False, special=False)
    if model.detokenize(ids).decode() != sample:
        sys.exit("llama.cpp does not give back the text that it tokenised")
    if len(model.tokenize(b"<|endoftext|>", add_bos=False, special=True)) != 1:
        sys.exit("<|endoftext|> is no control token")
    text = model.create_completion("Once upon a time", max_tokens=40, temperature=0.7, seed=1)["choices"][0]["text"]
    if not text.strip():
        sys.exit("llama.cpp loads the file, but it writes nothing")
    print("llama.cpp writes: Once upon a time" + text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("-o", "--out", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent / "sluice-demo.gguf")
    parser.add_argument("--recipe", choices=RECIPES, default=DEFAULT_RECIPE)
    parser.add_argument("--held-out", type=pathlib.Path, help="directory of held-out *.txt")
    parser.add_argument("--windows", type=int, default=16, help="windows of 512 tokens per text (16)")
    parser.add_argument("--compare-recipes", action="store_true")
    arguments = parser.parse_args()
    check_packages()
    if arguments.compare_recipes and not arguments.held_out:
        sys.exit("--compare-recipes needs --held-out")

    with tempfile.TemporaryDirectory() as folder:
        plain = pathlib.Path(folder) / "bf16.gguf"
        write_unquantised(arguments.checkpoint, plain)
        base = None
        if arguments.held_out:
            base = held_out_loss(plain, arguments.checkpoint, arguments.held_out, arguments.windows)
            report("bf16", plain.stat().st_size, base)
        for recipe in RECIPES if arguments.compare_recipes else [arguments.recipe]:
            quantised = pathlib.Path(folder) / f"{recipe}.gguf"
            quantise(plain, quantised, recipe)
            size = quantised.stat().st_size
            if arguments.held_out:
                report(recipe, size, held_out_loss(quantised, arguments.checkpoint, arguments.held_out, arguments.windows), base)
            if arguments.compare_recipes:
                continue
            if size > SIZE_LIMIT:
                sys.exit(f"recipe {recipe} makes {size} bytes, over the limit of {SIZE_LIMIT}")
            check_generation(quantised)
            unfinished = arguments.out.with_suffix(".part")
            unfinished.write_bytes(quantised.read_bytes())
            unfinished.rename(arguments.out)
            print(f"wrote {arguments.out}: {size} bytes")


if __name__ == "__main__":
    main()
