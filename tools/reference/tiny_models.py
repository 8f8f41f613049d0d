#!/usr/bin/env python3
"""Makes tiny random models of every family, with the logits and the continuation that transformers computes.

usage: tiny_models.py OUT [--seed N] [--families a,b] [--random-dimensions] [--format f32|f16|bf16|q8_0|...]
                      [--tokens N] [--check-llama-cpp]
       tiny_models.py --fixtures [OUT] [--families a,b]      (OUT: Tests/Fixtures/families)
       tiny_models.py --list

For each model, in OUT/NAME:

  hf/                 config.json, safetensors, tokenizer, as transformers saves them
  NAME.gguf           the same weights as llama.cpp's converter writes them, made without Sluice; a family may have
                      more than one form of it (NAME-legacy.gguf)
  NAME.ids.npy        int32 (tokens), the prompt
  NAME.logits.npy     float32 (tokens, vocabulary), the logits after every token of the prompt
  NAME.greedy.npy     int32 (32), the likeliest tokens after it, each found by computing the whole sequence anew

--fixtures writes small ones in 16 bits, with 16 tokens and 16 more, and no tokenizer beside the checkpoint.

OUT/index.json lists them. The logits are exact for the file: its weights are rounded to its block format before
anything is computed. A seed is searched for which no decision is close: every expert chosen leads the first one left
out, every group too, and every token of the continuation leads the next one, all over prompt and continuation, so
that arithmetic a little different from transformers' decides the same.

--check-llama-cpp compares with llama.cpp as well. check_families.py compares Sluice with what is written here.

Needs: pip install numpy gguf torch 'transformers>=5' safetensors tokenizers sentencepiece
(the check: llama-cpp-python)
"""

import argparse
import copy
import json
import pathlib
import shutil
import sys
import tempfile
import zlib

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np
from gguf import GGMLQuantizationType as Kind

import compare_logits
import families
import make_huggingface_fixtures as huggingface
import make_model_fixtures as fixtures
import moe_gguf
from families import base

TOKENS, STEPS = 48, 32
FIXTURE_TOKENS, FIXTURE_STEPS = 16, 16
# Fixtures are for tests of arithmetic in 8 bits, too: their decisions are clearer by so much.
FIXTURE_CLARITY = 3
ATTEMPTS = 4000
# A weight is drawn for so many prompts before the next one is.
PROMPTS_PER_MODEL = 12
# The least lead of a token of the continuation, as a share of the range of its logits.
CLEAR_LEAD = 2e-3
# A GGUF file's pre-tokenizer, and the same as tokenizer.json has it.
STAGES = {"qwen2": "qwen2", "llama-bpe": "llama-bpe", "olmo": "gpt-2"}


def element_of(format):
    """How a checkpoint in Hugging Face's layout holds weights whose GGUF has `format`."""
    return {"f16": "float16", "bf16": "bfloat16"}.get(format, "float32")


def rounded(family, state, format):
    """The weights as both files can hold them."""
    import torch

    element = getattr(torch, element_of(format))
    if element != torch.float32:
        return {name: torch.from_numpy(array).to(element).float().numpy() for name, array in state.items()}
    if format == "f32":
        return state
    return {name: family.rounded(name, array, base.kinds()[format]) for name, array in state.items()}


def formats_of(family, tensors, format):
    """The block format of each tensor: the wanted one where it changes no value, else F32."""
    kind = base.kinds()[format]
    found = {}
    for name, array in tensors.items():
        plain = family.stays_float(name, array) or not base.fits(array, kind)
        found[name] = Kind.F32 if plain or not np.array_equal(base.trip(array, kind), array) else kind
    return found


def logits(model, ids):
    """Logits, float32 (tokens, vocabulary), of one sequence computed at once, without a cache."""
    import torch

    with torch.no_grad():
        return model(torch.tensor([list(ids)]), use_cache=False).logits[0].float().numpy()


def continued(model, ids, steps, clear_lead):
    """(the likeliest tokens that follow, the smallest lead among them as a share of the range of the logits), or
    fewer tokens than asked for when a lead is below `clear_lead`."""
    found, lead = [], np.inf
    for _ in range(steps):
        row = logits(model, ids + found)[-1]
        second, first = np.partition(row, -2)[-2:]
        lead = min(lead, float(first - second) / float(row.max() - row.min()))
        if lead < clear_lead:
            break
        found.append(int(row.argmax()))
    return found, lead


def search(family, config, model, seed, format, tokens, steps, clarity):
    """Weights and a prompt that leave no decision close: (state, ids, greedy, margin, lead, attempt)."""
    clear_margin, clear_lead = clarity * family.clear_margin, clarity * CLEAR_LEAD
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed, zlib.crc32(family.name.encode()), attempt])
        if attempt % PROMPTS_PER_MODEL == 0:
            state = rounded(family, family.random_state(model, rng), format)
            fixtures.set_state(model, state)
        ids = rng.integers(0, 256 + len(fixtures.MERGED), tokens).tolist()
        if family.margin(model, config, ids) < clear_margin:
            continue
        greedy, lead = continued(model, ids, steps, clear_lead)
        if lead < clear_lead:
            continue
        margin = family.margin(model, config, ids + greedy)
        if margin >= clear_margin:
            return state, ids, greedy, margin, lead, attempt
    sys.exit(f"{family.name}: no seed in {ATTEMPTS} leaves every decision clear")


def save_checkpoint(folder, family, config, model, format, ids, expected, bare):
    """The directory as transformers saves it, loaded again to see that it says the same. A bare one holds
    configuration and weights only."""
    import torch
    import transformers

    shutil.rmtree(folder, ignore_errors=True)
    model.config = config
    model.to(getattr(torch, element_of(format))).save_pretrained(folder)
    if bare:
        (folder / "generation_config.json").unlink()
    else:
        huggingface.save_tokenizer(folder, STAGES[family.pre_tokenizer])
    for file in folder.iterdir():
        file.chmod(0o644)
    loaded = getattr(transformers, family.transformers_name + "ForCausalLM").from_pretrained(
        folder, config=family.reference_config(type(config).from_pretrained(folder)), dtype=torch.float32,
        attn_implementation="eager", experts_implementation="eager").eval()
    again = logits(loaded, ids)
    if not np.array_equal(expected, again):
        sys.exit(f"{family.name}: the checkpoint read back differs by {np.abs(expected - again).max()}")


def write_gguf(path, name, family, config, state, format, tensors, write_hyperparameters):
    arrays = tensors(config, state)
    fixtures.write_file(
        path, name, family.architecture, family.pre_tokenizer, lambda writer: write_hyperparameters(writer, config),
        arrays, formats_of(family, arrays, format))


def difference(ours, theirs):
    """{relative, kl}: the largest difference as a share of the range of ours, and the mean divergence."""
    p, q = compare_logits.log_softmax(ours), compare_logits.log_softmax(theirs)
    return dict(relative=float(np.abs(theirs - ours).max() / (ours.max() - ours.min())),
                kl=float((np.exp(p) * (p - q)).sum(-1).mean()))


def compare_with_llama_cpp(family, config, model, state, format, suffix, form, ids, expected):
    """How far llama.cpp is from transformers on a form of the file, and, where it computes something else by design,
    from transformers made to compute that."""
    if refusal := family.llama_cpp_refuses(config):
        print(f"  {family.name}{suffix}.gguf: llama.cpp does not load it: {refusal}", flush=True)
        return dict(refuses=refusal)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.gguf"
        write_gguf(path, family.name, family, *family.padded_for_llama_cpp(config, state), format, *form)
        theirs = fixtures.llama_cpp_logits(path, ids, context=256)
    found = difference(expected, theirs)
    line = f"  {family.name}{suffix}.gguf: llama.cpp differs by {found['relative']:.1e} of the range, KL {found['kl']:.1e}"
    if family.llama_cpp_differs:
        imitation = copy.deepcopy(model)
        family.imitate_llama_cpp(imitation)
        found["imitated"] = difference(logits(imitation, ids), theirs)
        line += (f": {family.llama_cpp_differs}; with that imitated {found['imitated']['relative']:.1e},"
                 f" KL {found['imitated']['kl']:.1e}")
    print(line, flush=True)
    if found.get("imitated", found)["kl"] > (1e-6 if format == "f32" else 1e-2):
        sys.exit(f"{family.name}: TOO MUCH")
    return found


def make(family, out, arguments):
    seed, format, fixtures_wanted = arguments.seed, arguments.format, arguments.fixtures
    tokens, steps, clarity = arguments.tokens, STEPS, 1
    rng = np.random.default_rng([seed, zlib.crc32(family.name.encode())])
    if fixtures_wanted:
        config, format = family.fixture_config(rng), family.fixture_format
        tokens, steps, clarity = FIXTURE_TOKENS, FIXTURE_STEPS, FIXTURE_CLARITY
    else:
        config = family.config(rng, arguments.random_dimensions)
    model = family.model(config)
    state, ids, greedy, margin, lead, attempt = search(
        family, config, model, seed, format, tokens, steps, clarity)

    folder = out / family.name
    folder.mkdir(parents=True, exist_ok=True)
    expected = logits(model, ids)
    entry = dict(
        name=family.name, architecture=family.architecture, format=format, tokens=tokens, seed=seed, attempt=attempt,
        margin=None if np.isinf(margin) else round(margin, 5), lead=round(lead, 5), hf=None, gguf=[],
        llama_cpp_differs=family.llama_cpp_differs)
    for part, array in [("ids", np.array(ids, dtype=np.int32)), ("logits", expected.astype(np.float32)),
                        ("greedy", np.array(greedy, dtype=np.int32))]:
        entry[part] = f"{family.name}/{family.name}.{part}.npy"
        np.save(out / entry[part], array)
    print(f"{family.name}: attempt {attempt}, margin {margin:.3f}, lead {lead:.4f}, logits {expected.std():.2f}",
          flush=True)
    for suffix, form in family.forms().items():
        if fixtures_wanted and suffix not in family.fixture_forms:
            continue
        path = folder / f"{family.name}{suffix}.gguf"
        write_gguf(path, path.stem, family, config, state, format, *form)
        entry["gguf"].append(f"{family.name}/{path.name}")
        if arguments.check_llama_cpp:
            entry.setdefault("llama_cpp", {})[path.name] = compare_with_llama_cpp(
                family, config, model, state, format, suffix, form, ids, expected)
    if family.saves_checkpoint:
        save_checkpoint(folder / "hf", family, config, model, format, ids, expected, fixtures_wanted)
        entry["hf"] = f"{family.name}/hf"
    return entry


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--families", help="names, separated by commas; default: all")
    parser.add_argument("--random-dimensions", action="store_true", help="draw sizes, counts and scalings")
    parser.add_argument("--format", default="f32", choices=list(base.kinds()), help="of the matrices in the GGUF")
    parser.add_argument("--tokens", type=int, default=TOKENS, help=f"tokens of the prompt ({TOKENS})")
    parser.add_argument("--check-llama-cpp", action="store_true", help="compare with llama.cpp as well")
    parser.add_argument("--fixtures", action="store_true", help="the small models for tests")
    parser.add_argument("--list", action="store_true", help="print the families and stop")
    arguments = parser.parse_args()
    known = families.every()
    if arguments.list:
        for family in known.values():
            print(f"{family.name:20} {family.architecture:14} {family.transformers_name}")
        return
    if arguments.fixtures and arguments.out is None:
        arguments.out = HERE.parent.parent / "Tests/Fixtures/families"
    if arguments.out is None:
        parser.error("OUT is missing")
    every = [name for name, family in known.items() if family.in_fixtures or not arguments.fixtures]
    names = arguments.families.split(",") if arguments.families else every
    for name in names:
        if name not in known:
            parser.error(f"no family is called {name}; known: {', '.join(known)}")
    import torch

    torch.set_num_threads(1)  # The models are too small for more to help.
    arguments.out.mkdir(parents=True, exist_ok=True)
    index = arguments.out / "index.json"
    entries = {entry["name"]: entry for entry in json.loads(index.read_text())} if index.exists() else {}
    for name in names:
        entries[name] = make(known[name], arguments.out, arguments)
        index.write_text(json.dumps([entries[name] for name in sorted(entries)], indent=1) + "\n")


if __name__ == "__main__":
    main()
