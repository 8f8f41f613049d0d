#!/usr/bin/env python3
"""One measured generation by llama.cpp, in a process of its own, printed as one JSON object.

usage: llama-peer.py MODEL [-p PROMPT] [-n N] [--threads T] [--load mmap|none|dio] [--repack] [--seconds S]

Greedy, past the end of text, one sequence. It talks to llama.cpp's C interface, so that the only Python between two
tokens is an argmax (some 30 microseconds). Keys are those of `sluice run --stats` where both have them. --repack lets
llama.cpp rearrange weights in memory for its faster kernels (which needs the whole model in memory); without it a
mapped file is used in place. --seconds ends a slow run early, after a whole token.

Needs: pip install numpy llama-cpp-python
"""

import argparse
import ctypes
import json
import os
import resource
import sys
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("-p", "--prompt", default="Once upon a time")
parser.add_argument("-n", type=int, default=64)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--ctx", type=int, default=512)
parser.add_argument("--load", choices=["mmap", "none", "dio"], default="mmap")
parser.add_argument("--repack", action="store_true")
parser.add_argument("--seconds", type=float, default=1e9)
arguments = parser.parse_args()

import llama_cpp as llama  # noqa: E402  (after the arguments, so that --help needs no package)
import numpy as np  # noqa: E402

quiet = llama.llama_log_callback(lambda level, text, data: None)
llama.llama_log_set(quiet, None)
llama.llama_backend_init()

started = time.perf_counter()
settings = llama.llama_model_default_params()
settings.load_mode = {"mmap": llama.LLAMA_LOAD_MODE_MMAP, "none": llama.LLAMA_LOAD_MODE_NONE,
                      "dio": llama.LLAMA_LOAD_MODE_DIRECT_IO}[arguments.load]
settings.use_extra_bufts = arguments.repack
settings.n_gpu_layers = 0
model = llama.llama_model_load_from_file(arguments.model.encode(), settings)
if not model:
    sys.exit(f"{arguments.model}: llama.cpp cannot load it")
context_settings = llama.llama_context_default_params()
context_settings.n_ctx = arguments.ctx
context_settings.n_batch = arguments.ctx
context_settings.n_threads = context_settings.n_threads_batch = arguments.threads
context = llama.llama_init_from_model(model, context_settings)
if not context:
    sys.exit("llama.cpp cannot make a context")
load_seconds = time.perf_counter() - started

vocabulary = llama.llama_model_get_vocab(model)
size = llama.llama_vocab_n_tokens(vocabulary)
text = arguments.prompt.encode()
prompt = (llama.llama_token * (len(text) + 8))()
count = llama.llama_tokenize(vocabulary, text, len(text), prompt, len(prompt), True, False)
if count <= 0 or count + arguments.n > arguments.ctx:
    sys.exit(f"{count} prompt tokens and -n {arguments.n} do not fit into --ctx {arguments.ctx}")


def decode(tokens, length):
    if llama.llama_decode(context, llama.llama_batch_get_one(tokens, length)) != 0:
        sys.exit("llama_decode failed")
    logits = llama.llama_get_logits_ith(context, -1)
    return int(np.ctypeslib.as_array(logits, shape=(size,)).argmax())


def major_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt


started = time.perf_counter()
token = decode(prompt, count)
prefill_seconds = time.perf_counter() - started
tokens, one, faults = [token], (llama.llama_token * 1)(), major_faults()
moments = [time.perf_counter()]
while len(tokens) < arguments.n and moments[-1] - moments[0] < arguments.seconds:
    one[0] = tokens[-1]
    tokens.append(decode(one, 1))
    moments.append(time.perf_counter())
steps, decode_seconds = len(tokens) - 1, moments[-1] - moments[0]
times = sorted(b - a for a, b in zip(moments, moments[1:]))
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps(dict(
    engine=f"llama-cpp-python {llama.__version__}", system_info=llama.llama_print_system_info().decode(),
    load=arguments.load, repack=arguments.repack, threads=arguments.threads, pinning=os.environ.get("OMP_PROC_BIND", "no"),
    load_seconds=load_seconds, prompt_tokens=count, prefill_seconds=prefill_seconds,
    prefill_tokens_per_second=count / prefill_seconds, generated_tokens=len(tokens), distinct_tokens=len(set(tokens)),
    decode_seconds=decode_seconds, decode_tokens_per_second=steps / decode_seconds if steps else 0,
    median_token_seconds=times[len(times) // 2] if times else 0, slowest_token_seconds=times[-1] if times else 0,
    major_faults=major_faults() - faults, peak_memory_bytes=peak, token_ids=tokens)))
