#!/usr/bin/env python3
"""Whole tokens and prompts by llama.cpp, in a process of its own: what `sluice bench decode` and `prefill` measure of ours.

usage: llama-tokens.py MODEL TASK ... [-n 32] [--warm-up 4] [--rounds 2] [--threads T] [--no-repack]

A task is prompt:LENGTH:FLASH or decode:POSITION:FLASH, as prompt:512:on and decode:4096:off, where FLASH says whether
llama.cpp's flash attention is used: for prompts it is the faster one, behind a long context it may not be.

The same token ids at the same positions as there (position p has (p + 1) 7919 modulo the vocabulary), no sampling, logits
of the last token of a prompt only. Weights are read into memory and repacked for llama.cpp's fastest kernels, or mapped
as they lie in the file with --no-repack. Batches of 512, keys and values in half precision; threads are pinned through
OpenMP's environment by who calls this. Every measurement is made once before it counts. Prints one JSON object.

Needs: pip install llama-cpp-python
"""

import argparse
import json
import os
import sys
import time


def task(text):
    kind, count, flash = text.split(":")
    if kind not in ("prompt", "decode") or flash not in ("on", "off"):
        raise ValueError(text)
    return kind, int(count), flash


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("tasks", nargs="+", type=task, metavar="TASK")
parser.add_argument("-n", type=int, default=32)
parser.add_argument("--warm-up", type=int, default=4)
parser.add_argument("--rounds", type=int, default=2)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--no-repack", action="store_true")
arguments = parser.parse_args()

import llama_cpp as llama  # noqa: E402  (after the arguments, so that --help needs no package)

quiet = llama.llama_log_callback(lambda level, text, data: None)
llama.llama_log_set(quiet, None)
llama.llama_backend_init()

settings = llama.llama_model_default_params()
settings.load_mode = llama.LLAMA_LOAD_MODE_MMAP if arguments.no_repack else llama.LLAMA_LOAD_MODE_NONE
settings.use_extra_bufts = not arguments.no_repack
settings.n_gpu_layers = 0
model = llama.llama_model_load_from_file(arguments.model.encode(), settings)
if not model:
    sys.exit(f"{arguments.model}: llama.cpp cannot load it")
vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))


def ids(first, count):
    return (llama.llama_token * count)(*((position + 1) * 7919 % vocabulary for position in range(first, first + count)))


def context_for(tasks, flash):
    positions = max(count + (0 if kind == "prompt" else max(arguments.n, arguments.warm_up)) for kind, count, _ in tasks)
    settings = llama.llama_context_default_params()
    settings.n_ctx = settings.n_batch = (positions + 255) // 256 * 256
    settings.n_ubatch = 512
    settings.n_threads = settings.n_threads_batch = arguments.threads
    settings.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash == "on" else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama.llama_init_from_model(model, settings)
    if not context:
        sys.exit("llama.cpp cannot make a context")
    return context


def decode(tokens):
    if llama.llama_decode(context, llama.llama_batch_get_one(tokens, len(tokens))) != 0:
        sys.exit("llama_decode failed")
    llama.llama_synchronize(context)


def prompt(length):
    """Tokens per second of a prompt from an empty context."""
    tokens = ids(0, length)
    llama.llama_memory_clear(llama.llama_get_memory(context), True)
    start = time.perf_counter()
    decode(tokens)
    return length / (time.perf_counter() - start)


def single_tokens(at, count):
    """Tokens per second of `count` tokens, one after the other, behind the `at` first ones, which are there."""
    llama.llama_memory_seq_rm(llama.llama_get_memory(context), 0, at, -1)
    steps = [ids(position, 1) for position in range(at, at + count)]
    start = time.perf_counter()
    for step in steps:
        decode(step)
    return count / (time.perf_counter() - start)


rows = []
for flash in ("on", "off"):
    tasks = [task for task in arguments.tasks if task[2] == flash]
    if not tasks:
        continue
    context = context_for(tasks, flash)
    for kind, count, _ in tasks:
        if kind == "prompt":
            prompt(count)
            rates = [prompt(count) for _ in range(arguments.rounds)]
        else:
            llama.llama_memory_clear(llama.llama_get_memory(context), True)
            if count > 0:
                decode(ids(0, count))
            if arguments.warm_up > 0:
                single_tokens(count, arguments.warm_up)
            rates = [single_tokens(count, arguments.n) for _ in range(arguments.rounds)]
        rows.append(dict(task=kind, count=count, flash_attention=flash, tokens_per_second=rates))
    llama.llama_free(context)
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps(dict(
    engine=f"llama-cpp-python {llama.__version__}", system_info=llama.llama_print_system_info().decode(),
    repacked=not arguments.no_repack, n_ubatch=512, cache_type="f16",
    threads=arguments.threads, pinning=os.environ.get("OMP_PROC_BIND", "no"), peak_memory_bytes=peak,
    rows=rows)))
