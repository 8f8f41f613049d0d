#!/usr/bin/env python3
"""Checks that llama-peer.py forces a recorded routing on llama.cpp, on the tiny models of Tests/Fixtures/families.

usage: check_llama_peer.py [--sluice BINARY]

For each model: the experts that llama.cpp chooses by itself, forced on it, change no bit of the logits; others do; a
prompt computed together and token by token takes the same rows of the recording; it begins again at its end. And with
--sluice: Sluice, given the same foreign experts with the gate weights that llama.cpp gave them, continues a text with
the same tokens. The last line is "N passed, N failed"; status 1 if any failed.

Needs: pip install numpy llama-cpp-python
"""

import argparse
import ctypes
import importlib.util
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
FAMILIES = HERE.parent / "Tests/Fixtures/families"
# Without and with weights that are scaled to a sum of 1; with a dense first layer; with shared experts.
MODELS = ["olmoe", "qwen3moe", "qwen2moe", "glm4moe", "deepseek2-v3", "lfm2moe"]

# Arithmetic a little different decides the same.
CLEAR_LEAD = 4e-3

specification = importlib.util.spec_from_file_location("llama_peer", HERE / "llama-peer.py")
peer = importlib.util.module_from_spec(specification)
specification.loader.exec_module(peer)


class Watch:
    """In place of a Routing: forces one, or none, and keeps the experts and gate weights that were used."""

    def __init__(self, forced=None):
        self.forced, self.experts, self.weights = forced, [], []

    def check(self, engine):
        if self.forced:
            self.forced.check(engine)

    def begin(self, count):
        self.count = count
        self.experts.append({})
        self.weights.append({})
        if self.forced:
            self.forced.begin(count)

    def end(self):
        if self.forced:
            self.forced.end()

    def callback(self):
        from llama_cpp._ggml import libggml

        get_name, get_data = libggml.ggml_get_name, libggml.ggml_get_data
        for function in (get_name, get_data):
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
        force = self.forced.callback() if self.forced else None

        def rows(pointer):
            tensor = peer.Routing.Tensor.from_address(pointer)
            # The weights are one to a row of one, or k to a row.
            k, count, stride = (tensor.ne[1], tensor.ne[2], tensor.nb[2]) if tensor.ne[0] == 1 else (tensor.ne[0], tensor.ne[1], tensor.nb[1])
            return [ctypes.string_at(get_data(pointer) + row * stride, 4 * k) for row in range(count)]

        def call(pointer, ask, user):
            name, _, layer = ctypes.string_at(get_name(pointer)).decode().rpartition("-")
            chosen = name == "ffn_moe_topk"
            # The last of them is what the outputs are multiplied with; reshaped ones have more than a number behind.
            weighed = name in ("ffn_moe_weights", "ffn_moe_weights_norm", "ffn_moe_weights_scaled") and layer.isdigit()
            if ask:
                return chosen or weighed
            if chosen and force and not force(pointer, ask, user):
                return False
            if chosen:
                self.experts[-1][int(layer)] = [np.frombuffer(row, np.int32) for row in rows(pointer)]
            else:
                self.weights[-1][int(layer)] = [np.frombuffer(row, np.float32) for row in rows(pointer)]
            return True

        return call

    def table(self, kept):
        """(tokens, layers, k) of `experts` or `weights`, each token decoded alone."""
        return np.array([[step[layer][0] for layer in sorted(step)] for step in kept])


def engine_of(model, routing=None):
    return peer.Llama(FAMILIES / model / f"{model}.gguf", context=64, threads=1, routing=routing)


def logits(engine, ids, together=1):
    for first in range(0, len(ids), together):
        engine.decode(ids[first:first + together])
    return engine.logits().copy()


def routing_of(experts, engine):
    return peer.Routing("a recording", experts, int(engine.metadata(f"{engine.metadata('general.architecture')}.expert_count")), False)


def continuation(engine, text, count):
    """(ids of the prompt, bytes of what follows, least lead of a token over the next one as a share of the logits' range)"""
    ids = engine.tokenize(text, 64)
    for token in ids:
        engine.decode([token])
    piece, spoken, leads = ctypes.create_string_buffer(64), b"", []
    for step in range(count):
        found, second = (int(i) for i in engine.logits().argsort()[:-3:-1])
        leads.append((engine.logits()[found] - engine.logits()[second]) / np.ptp(engine.logits()))
        length = engine.llama.llama_token_to_piece(engine.vocabulary, found, piece, len(piece), 0, True)
        spoken += piece.raw[:length]
        if step < count - 1:
            engine.decode([found])
    return ids, spoken, min(leads)


def compare_with_sluice(sluice, model, watch, prompt_count, text, count, expected):
    experts, weights = watch.table(watch.experts), watch.table(watch.weights)
    tokens, layers, k = experts.shape
    names = [b"tiny", b"tiny"]
    header = struct.pack("<9I", 48 + sum(map(len, names)), layers, watch.forced.expert_count, k, 0, 1, 0, *map(len, names))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "routing"
        with path.open("wb") as file:
            file.write(b"SLUICERT" + struct.pack("<I", 1) + header + b"".join(names))
            for token in range(tokens):
                file.write(struct.pack("<IIi", 0, int(token >= prompt_count), -1))
                for layer in range(layers):
                    file.write(experts[token, layer].astype("<u2").tobytes() + weights[token, layer].astype("<f4").tobytes())
        read = peer.read_routing(path, prompt_count)
        if not np.array_equal(read.experts, experts):
            return "read_routing gives other experts than were written"
        done = subprocess.run(
            [sluice, "run", FAMILIES / model / f"{model}.gguf", "-p", text, "-n", str(count), "--temp", "0", "--ignore-eos",
             "--ctx", "64", "--threads", "1", "--math", "f32", "--replay-routing", path], capture_output=True)
        if done.returncode:
            return done.stderr.decode(errors="replace").strip()
        # Bytes at random are no UTF-8: both have the same replaced.
        found, expected = done.stdout.decode(), expected.decode(errors="replace")
        return "" if found.rstrip("\n") == expected.rstrip("\n") else f"{found!r}, where llama.cpp says {expected!r}"


def checks(model, sluice):
    random = np.random.default_rng(1)
    ids = [int(i) for i in np.load(FAMILIES / model / f"{model}.ids.npy").ravel()]
    plain = engine_of(model)
    alone, together = logits(plain, ids), logits(engine_of(model), ids, len(ids))
    watch = Watch()
    yield "being watched changes no bit", np.array_equal(logits(engine_of(model, watch), ids), alone)
    own = watch.table(watch.experts)
    routing = routing_of(own, plain)
    yield "its own experts, forced, change no bit", np.array_equal(logits(engine_of(model, routing), ids), alone)
    yield "and the recording has begun again", routing.next == 0
    yield "nor together", np.array_equal(logits(engine_of(model, routing_of(own, plain)), ids, len(ids)), together)

    def draw():
        return np.array([[random.permutation(routing.expert_count)[:own.shape[2]] for _ in token] for token in own])

    foreign = draw()
    watch = Watch(routing_of(foreign, plain))
    forced = logits(engine_of(model, watch), ids)
    yield "others are the ones used", np.array_equal(watch.table(watch.experts), foreign)
    yield "and change the logits", not np.allclose(forced, alone, rtol=0, atol=1e-3 * np.ptp(alone))
    near = dict(rtol=0, atol=1e-4 * np.ptp(forced))
    yield "a prompt takes the same rows together", np.allclose(logits(engine_of(model, routing_of(foreign, plain)), ids, 5), forced, **near)
    short = logits(engine_of(model, routing_of(foreign[:7], plain)), ids)
    around = foreign[np.arange(len(ids)) % 7]
    yield "and begins again at the end", np.array_equal(short, logits(engine_of(model, routing_of(around, plain)), ids))
    if sluice:
        text, count = "Once upon", 12
        lead = 0
        while lead < CLEAR_LEAD:
            watch = Watch(routing_of(draw(), plain))
            prompt, spoken, lead = continuation(engine_of(model, watch), text, count)
        yield "Sluice says the same with them", compare_with_sluice(sluice, model, watch, len(prompt), text, count, spoken) or True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sluice", type=pathlib.Path)
    arguments = parser.parse_args()
    results = []
    for model in MODELS:
        for name, result in checks(model, arguments.sluice):
            results.append(result is True or isinstance(result, np.bool_) and bool(result))
            print(f"ok      {model}: {name}" if results[-1] else f"FAILED  {model}: {name}: {result}")
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
