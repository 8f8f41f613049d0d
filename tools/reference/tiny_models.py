#!/usr/bin/env python3
"""Makes tiny random models of every family, with the logits and the continuation that transformers computes.

usage: tiny_models.py OUT [--seed N] [--families a,b] [--random-dimensions] [--format f32|f16|bf16|q8_0|...]
                      [--tokens N] [--older-config] [--check-llama-cpp]
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
import safetensors.torch
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
# Random dimensions drawn until some leave every decision clear: many experts of few groups often leave one close.
DRAWS = 6
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
    found = {}
    for name, array in tensors.items():
        kind = family.kind(name, base.kinds()[format])
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
    """Weights and a prompt that leave no decision close: (state, ids, greedy, margin, lead, attempt); None if there
    are none to be found."""
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
    return None


def add_predicting_layer(folder, config):
    """Adds a layer that predicts the token after the next one, a copy of the last with the tensors it has besides.
    transformers leaves it out."""
    path = folder / "config.json"
    members = json.loads(path.read_text()) | {"num_nextn_predict_layers": 1}
    path.write_text(json.dumps(members, indent=2, sort_keys=True) + "\n")
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    last, extra = (f"model.layers.{config.num_hidden_layers - 1 + more}." for more in (0, 1))
    for name in list(tensors):
        if name.startswith(last):
            tensors[name.replace(last, extra)] = tensors[name].clone()
    embedding, norm = tensors["model.embed_tokens.weight"], tensors["model.norm.weight"]
    tensors[extra + "eh_proj.weight"] = embedding.repeat(1, 2)[:config.hidden_size].contiguous()
    for name in ("enorm", "hnorm", "shared_head.norm"):
        tensors[f"{extra}{name}.weight"] = norm.clone()
    if not config.tie_word_embeddings:
        tensors[extra + "embed_tokens.weight"] = embedding.clone()
        tensors[extra + "shared_head.head.weight"] = tensors["lm_head.weight"].clone()
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})


def save_checkpoint(folder, family, config, model, format, ids, expected, older_config, bare):
    """The directory as transformers saves it, loaded again to see that it says the same. A bare one holds
    configuration and weights only."""
    import torch

    shutil.rmtree(folder, ignore_errors=True)
    model.config = config
    family.save(model, folder, getattr(torch, element_of(format)))
    if older_config:
        path = folder / "config.json"
        path.write_text(json.dumps(family.older_config(json.loads(path.read_text())), indent=2, sort_keys=True) + "\n")
    if family.predicts_further:
        add_predicting_layer(folder, config)
    if bare:
        (folder / "generation_config.json").unlink(missing_ok=True)
    else:
        huggingface.save_tokenizer(folder, STAGES[family.pre_tokenizer])
    for file in folder.iterdir():
        file.chmod(0o644)
    loaded = family.load(folder, config)
    again = logits(loaded, ids)
    if not np.array_equal(expected, again):
        sys.exit(f"{family.name}: the checkpoint read back differs by {np.abs(expected - again).max()}")


def write_gguf(path, name, family, config, state, format, tensors, write_hyperparameters):
    """Writes the file, all F32 where `format` is None, and says whether some tensor is not F32."""
    arrays = tensors(config, state)
    kinds = formats_of(family, arrays, format) if format else dict.fromkeys(arrays, Kind.F32)
    fixtures.write_file(
        path, name, family.architecture, family.pre_tokenizer, lambda writer: write_hyperparameters(writer, config),
        arrays, kinds)
    return any(kind != Kind.F32 for kind in kinds.values())


def difference(ours, theirs):
    """{relative, kl}: the largest difference as a share of the range of ours, and the mean divergence."""
    p, q = compare_logits.log_softmax(ours), compare_logits.log_softmax(theirs)
    return dict(relative=float(np.abs(theirs - ours).max() / (ours.max() - ours.min())),
                kl=float((np.exp(p) * (p - q)).sum(-1).mean()))


def compare_with_llama_cpp(family, config, model, state, format, suffix, form, ids, expected):
    """How far llama.cpp is from transformers on a form of the file, and, where it computes something else by design,
    from transformers made to compute that. It rounds what it multiplies with weights in fewer than 32 bits, so that
    it has to agree closely on the same weights as F32."""
    if refusal := family.llama_cpp_refuses(config):
        print(f"  {family.name}{suffix}.gguf: llama.cpp does not load it: {refusal}", flush=True)
        return dict(refuses=refusal)
    padded = family.padded_for_llama_cpp(config, state)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.gguf"
        rounding = write_gguf(path, family.name, family, *padded, format, *form)
        theirs = fixtures.llama_cpp_logits(path, ids, context=256)
        plain = theirs
        if rounding:
            write_gguf(path, family.name, family, *padded, None, *form)
            plain = fixtures.llama_cpp_logits(path, ids, context=256)
    found = difference(expected, theirs)
    if rounding:
        found["f32"] = difference(expected, plain)
    line = (f"  {family.name}{suffix}.gguf: llama.cpp differs by {found['relative']:.1e} of the range,"
            f" KL {found['kl']:.1e}")
    if family.llama_cpp_differs:
        imitation = copy.deepcopy(model)
        family.imitate_llama_cpp(imitation)
        found["imitated"] = difference(logits(imitation, ids), plain)
        line += (f": {family.llama_cpp_differs}; with that imitated {found['imitated']['relative']:.1e},"
                 f" KL {found['imitated']['kl']:.1e}")
    elif rounding:
        line += f"; as F32 by {found['f32']['relative']:.1e}, KL {found['f32']['kl']:.1e}"
    print(line, flush=True)
    if found.get("imitated", found.get("f32", found))["kl"] > 1e-6:
        sys.exit(f"{family.name}: TOO MUCH")
    return found


def make(family, out, arguments):
    seed, format, fixtures_wanted = arguments.seed, arguments.format, arguments.fixtures
    tokens, steps, clarity, older_config = arguments.tokens, STEPS, 1, arguments.older_config
    rng = np.random.default_rng([seed, zlib.crc32(family.name.encode())])
    if fixtures_wanted:
        config, format = family.fixture_config(rng), family.fixture_format
        tokens, steps, clarity = FIXTURE_TOKENS, FIXTURE_STEPS, FIXTURE_CLARITY
        older_config = family.fixture_older_config
    for _ in range(DRAWS if arguments.random_dimensions else 1):
        if not fixtures_wanted:
            config = family.config(rng, arguments.random_dimensions)
        model = family.model(config)
        found = search(family, config, model, seed, format, tokens, steps, clarity)
        if found:
            break
    else:
        sys.exit(f"{family.name}: no seed in {ATTEMPTS} leaves every decision clear")
    state, ids, greedy, margin, lead, attempt = found

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
        save_checkpoint(folder / "hf", family, config, model, format, ids, expected, older_config,
                        fixtures_wanted)
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
    parser.add_argument("--older-config", action="store_true", help="write config.json as transformers before 5 did")
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
