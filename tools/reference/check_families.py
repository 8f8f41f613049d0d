#!/usr/bin/env python3
"""Compares Sluice with what tiny_models.py wrote, on every model, by every route.

usage: check_families.py SLUICE OUT [--families a,b] [--llama-cpp] [--quick]

SLUICE is the program, OUT the folder with index.json (or Tests/Fixtures/families). `SLUICE logits --math f32` is
given the prompt and the reference's greedy continuation; the logits after the prompt's tokens must be the reference's
to within 2e-3 of their range, and every token of the continuation must be the likeliest one, which is the same as
finding it by decoding. So it is checked, for each file,

  whole       GGUF, the sequence in one chunk
  chunk 3     GGUF, three tokens at a time
  streamed    GGUF, token by token, with a cache as large as the experts that one token uses
  hf          the checkpoint in Hugging Face's layout, in one chunk; how far it is from `whole` is told
  hf streamed the same, token by token with the small cache
  llama.cpp   with --llama-cpp: KL(llama.cpp || ours) on the GGUF below 1e-3, where llama.cpp computes the same thing;
              only told for formats of blocks, for which it rounds the activations, too

--quick leaves out all but whole, streamed and hf. The last line is "N passed, N failed"; status 1 if any failed.

Needs: pip install numpy     (--llama-cpp: llama-cpp-python)
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np

import compare_logits

TOLERANCE = 2e-3
LARGEST_KL = 1e-3
STREAMED = ["--chunk", "1", "--cache", "1x"]


class Refusal(Exception):
    """Sluice did not compute anything; its own words."""


def sluice_logits(sluice, model, ids, options):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "logits.npy"
        command = [sluice, "logits", str(model), "--math", "f32", "--ids", ",".join(map(str, ids)), "-o", str(path)]
        done = subprocess.run(command + options, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            words = (done.stderr or done.stdout).strip().splitlines() or ["nothing said"]
            raise Refusal(f"status {done.returncode}: {words[-1]}")
        return np.load(path)


class Check:
    """One model's reference, and the tally of what was compared with it."""

    tally = {True: 0, False: 0}

    def __init__(self, entry, folder):
        self.entry = entry
        self.ids = np.load(folder / entry["ids"]).tolist()
        self.logits = np.load(folder / entry["logits"])
        self.greedy = np.load(folder / entry["greedy"]).tolist()
        self.sequence = self.ids + self.greedy[:-1]
        self.range = float(self.logits.max() - self.logits.min())

    def report(self, passed, name, route, text):
        Check.tally[passed] += 1
        print(f"{'ok    ' if passed else 'FAILED'} {name:28} {route:12} {text}", flush=True)

    def against_reference(self, name, route, compute, same_as=None):
        """Runs one route; its logits, or None where there are none."""
        try:
            ours = compute()
        except (Refusal, subprocess.TimeoutExpired) as refusal:
            self.report(False, name, route, str(refusal))
            return None
        if ours.shape != (len(self.sequence), self.logits.shape[1]) or not np.isfinite(ours).all():
            self.report(False, name, route, f"shape {ours.shape}, or values that are no numbers")
            return None
        worst = float(np.abs(ours[:len(self.ids)] - self.logits).max()) / self.range
        found = ours[len(self.ids) - 1:].argmax(-1).tolist()
        wrong = next((step for step, pair in enumerate(zip(found, self.greedy)) if pair[0] != pair[1]), None)
        text = f"{worst:.1e} of the range"
        if same_as is not None:
            text += ", same bits" if np.array_equal(ours, same_as) else (
                f", {float(np.abs(ours - same_as).max()) / self.range:.1e} from whole")
        if wrong is not None:
            text += f"; token {wrong} of the continuation is {found[wrong]}, not {self.greedy[wrong]}"
        self.report(worst <= TOLERANCE and wrong is None, name, route, text)
        return ours

    def against_llama_cpp(self, name, path, ours):
        if self.entry["llama_cpp_differs"]:
            print(f"skipped {name:27} llama.cpp    {self.entry['llama_cpp_differs']}")
            return
        import make_model_fixtures
        try:
            theirs = make_model_fixtures.llama_cpp_logits(path, self.sequence, context=256)
        except ValueError as error:
            print(f"skipped {name:27} llama.cpp    does not load it: {error}")
            return
        p, q = compare_logits.log_softmax(theirs), compare_logits.log_softmax(ours)
        kl = float((np.exp(p) * (p - q)).sum(-1).mean())
        if self.entry["format"] not in ("f32", "f16", "bf16"):
            print(f"told    {name:27} llama.cpp    KL {kl:.1e}; it rounds activations to 8 bits for such weights")
            return
        self.report(kl < LARGEST_KL, name, "llama.cpp", f"KL {kl:.1e}")


def check(entry, arguments):
    this = Check(entry, arguments.out)

    def run(model, *options):
        return lambda: sluice_logits(arguments.sluice, arguments.out / model, this.sequence, list(options))

    first = None
    for model in entry["gguf"]:
        name = pathlib.Path(model).name
        whole = this.against_reference(name, "whole", run(model))
        first = whole if first is None else first
        if not arguments.quick:
            this.against_reference(name, "chunk 3", run(model, "--chunk", "3"), whole)
        this.against_reference(name, "streamed", run(model, *STREAMED), whole)
        if arguments.llama_cpp and whole is not None:
            this.against_llama_cpp(name, arguments.out / model, whole)
    if entry["hf"]:
        this.against_reference(entry["hf"], "hf", run(entry["hf"]), first)
        if not arguments.quick:
            this.against_reference(entry["hf"], "hf streamed", run(entry["hf"], *STREAMED), first)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sluice")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--families", help="names, separated by commas; default: all of index.json")
    parser.add_argument("--llama-cpp", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    entries = json.loads((arguments.out / "index.json").read_text())
    if arguments.families:
        wanted = arguments.families.split(",")
        if unknown := set(wanted) - {entry["name"] for entry in entries}:
            parser.error(f"not in {arguments.out}/index.json: {', '.join(sorted(unknown))}")
        entries = [entry for entry in entries if entry["name"] in wanted]
    for entry in entries:
        check(entry, arguments)
    print(f"{Check.tally[True]} passed, {Check.tally[False]} failed")
    sys.exit(1 if Check.tally[False] or not Check.tally[True] else 0)


if __name__ == "__main__":
    main()
