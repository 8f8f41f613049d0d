#!/usr/bin/env python3
"""One measurement of llama.cpp, in a process of its own, printed as one JSON object.

usage: llama-peer.py MODEL [-p TEXT] [-n N] [--threads T] [--load mmap|none|dio] [--repack] [--seconds S]
       llama-peer.py MODEL --point [-n N] [--warm-up W] [--prompt P] [--threads T] [--load mmap|none|dio]
                     [--repack] [--pin] [--replay-routing TRACE] [--ctx C]

Without --point it continues a text: greedy, past the end of text, one sequence; keys are those of `sluice run --stats`
where both have them. --seconds ends a slow run early, after a whole token.

With --point it measures one point of `sluice bench sweep`; keys are those of that report's runs. Both engines are fed
the same ids: the token at position p, from 0 on, is (p + 1) * 7919 modulo the vocabulary, first P of them as a prompt,
then W that do not count, then N that do. Nothing is sampled; logits are computed, as llama.cpp always does for the last
token. Times are of llama_decode alone, up to where the logits are there.

--replay-routing takes the experts of every token from a recording, as `sluice bench --replay-routing` does, so that
both move the same experts: the formats, the tokens chosen, and the beginning again at the end are the same. The ids are
written over those that llama.cpp chose, by its eval callback, as soon as it has chosen them. Gate weights stay its own:
its probabilities of the forced experts, where Sluice takes the recorded weights; the bytes are the same, the text is
not. The callback is Python, asked of every node of the graph: 1.2 ms a token with 16 layers in memory (4 % of 33 ms,
one thread, A-B-A-B), so some 3.5 ms with 48, which a reader may add to what is measured; where a token waits for the
disk it is below 1 %. check_llama_peer.py shows that the forced experts are the ones computed.

What can be set at all, with which a best setting is searched:

    --load mmap    the file is mapped, and read whole while it is loaded (MAP_POPULATE, then MADV_WILLNEED), even where
                   it is larger than the memory: no parameter switches that off, and load_seconds has it. llama.cpp's
                   default
    --load none    read into memory of its own: needs the whole model in memory
    --load dio     the same, past the page cache
    --repack       rearrange weights for faster kernels: llama.cpp's default, but it copies the experts, and so needs
                   the whole model in memory, besides the mapped file. With less memory the kernel ends it
    --pin          OpenMP puts each thread on a processor of its own; not llama.cpp's default
    --threads      one for each core, as for Sluice; llama.cpp's own default is 4
    read_ahead_kb  of the disk, set by the caller: what a page fault reads around it; matters to --load mmap only
    mlock          not offered: what does not fit into memory cannot be locked there

Needs: pip install numpy llama-cpp-python
"""

import argparse
import ctypes
import json
import os
import pathlib
import resource
import struct
import sys
import time

import numpy as np

LOAD_NAMES = {"mmap": "mmap", "none": "read into memory", "dio": "direct I/O"}


def arguments_of(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("-p", "--text", default="Once upon a time")
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ctx", type=int, help="positions (512; of a point, as many as it has tokens)")
    parser.add_argument("--load", choices=list(LOAD_NAMES), default="mmap")
    parser.add_argument("--repack", action="store_true")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--point", action="store_true")
    parser.add_argument("--prompt", type=int, default=0, help="tokens of a point's prompt")
    parser.add_argument("--warm-up", type=int, default=0, help="tokens of a point decoded before any counts")
    parser.add_argument("--pin", action="store_true", help="of a point: each thread on a processor of its own")
    parser.add_argument("--replay-routing", metavar="TRACE")
    arguments = parser.parse_args(words)
    if min(arguments.n, arguments.threads) < 1 or min(arguments.prompt, arguments.warm_up) < 0:
        parser.error("-n and --threads are at least 1, --prompt and --warm-up at least 0")
    if not arguments.point and (arguments.prompt or arguments.warm_up or arguments.pin or arguments.replay_routing):
        parser.error("--prompt, --warm-up, --pin and --replay-routing are for --point")
    return arguments


# ------------------------------------------------------------------------------------------- engine


class Llama:
    """A model and one sequence, through llama.cpp's C interface: no Python but the caller's between two tokens."""

    def __init__(self, path, *, context, threads, load="mmap", repack=False, routing=None):
        import llama_cpp as llama  # not at the top: OpenMP reads its environment when this is loaded

        self.llama = llama
        # The library keeps pointers to both callbacks.
        self.quiet = llama.llama_log_callback(lambda level, text, data: None)
        llama.llama_log_set(self.quiet, None)
        llama.llama_backend_init()
        started = time.perf_counter()
        settings = llama.llama_model_default_params()
        settings.load_mode = {"mmap": llama.LLAMA_LOAD_MODE_MMAP, "none": llama.LLAMA_LOAD_MODE_NONE,
                              "dio": llama.LLAMA_LOAD_MODE_DIRECT_IO}[load]
        settings.use_extra_bufts = repack
        settings.n_gpu_layers = 0
        self.model = llama.llama_model_load_from_file(os.fsencode(path), settings)
        if not self.model:
            sys.exit(f"{path}: llama.cpp cannot load it")
        if routing:
            routing.check(self)
        settings = llama.llama_context_default_params()
        settings.n_ctx = context
        settings.n_batch = context
        settings.n_threads = settings.n_threads_batch = threads
        self.routing = routing
        if routing:
            self.callback = llama.ggml_backend_sched_eval_callback(routing.callback())
            settings.cb_eval = self.callback
        self.context = llama.llama_init_from_model(self.model, settings)
        if not self.context:
            sys.exit("llama.cpp cannot make a context")
        # Tokens that it computes together.
        self.chunk = llama.llama_n_ubatch(self.context)
        self.load_seconds = time.perf_counter() - started
        self.vocabulary = llama.llama_model_get_vocab(self.model)
        self.vocabulary_count = llama.llama_vocab_n_tokens(self.vocabulary)

    def metadata(self, key):
        """A value of the file as text; None if there is none."""
        text = ctypes.create_string_buffer(256)
        length = self.llama.llama_model_meta_val_str(self.model, key.encode(), text, len(text))
        return text.value.decode() if length >= 0 else None

    def tokenize(self, text, most):
        text, tokens = text.encode(), (self.llama.llama_token * most)()
        count = self.llama.llama_tokenize(self.vocabulary, text, len(text), tokens, most, True, False)
        return list(tokens[:count]) if count > 0 else []

    def decode(self, ids):
        """Computes the next tokens of the sequence; with routing at most `chunk` of them at once."""
        tokens = (self.llama.llama_token * len(ids))(*ids)
        if self.routing:
            self.routing.begin(len(ids))
        status = self.llama.llama_decode(self.context, self.llama.llama_batch_get_one(tokens, len(ids)))
        if self.routing:
            self.routing.end()
        if status != 0:
            sys.exit("llama_decode failed")
        self.llama.llama_synchronize(self.context)

    def logits(self):
        """Of the last token; valid until the next one."""
        logits = self.llama.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(logits, shape=(self.vocabulary_count,))


def peak_memory_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def major_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt


# ------------------------------------------------------------------------------------------ routing


class Routing:
    """A recorded choice of experts, (tokens, layers, k), forced on llama.cpp."""

    # What ggml names the ids of the chosen experts, with the layer's number behind it: int32 (k, tokens), a view of the
    # first k of every row of a sorted (experts, tokens).
    NAME = b"ffn_moe_topk-"
    INT32 = 26

    class Tensor(ctypes.Structure):
        """The beginning of struct ggml_tensor."""

        _fields_ = [("type", ctypes.c_int), ("buffer", ctypes.c_void_p), ("ne", ctypes.c_int64 * 4),
                    ("nb", ctypes.c_size_t * 4)]

    def __init__(self, name, experts, expert_count, anonymous):
        self.name, self.expert_count, self.anonymous = name, expert_count, anonymous
        self.experts = np.ascontiguousarray(experts, dtype=np.int32)
        self.token_count, self.layer_count, self.k = self.experts.shape
        self.next, self.count, self.place, self.problem = 0, 0, 0, None

    def check(self, engine):
        """Ends the program for a model of another shape."""
        architecture = engine.metadata("general.architecture")
        experts, used = (int(engine.metadata(f"{architecture}.{key}") or 0) for key in ("expert_count", "expert_used_count"))
        if used != self.k or (self.expert_count > experts if self.anonymous else self.expert_count != experts):
            sys.exit(f"{self.name} chooses {self.k} of {self.expert_count} experts, but the model chooses {used} of {experts}; "
                     "record one on a model of that shape")

    def begin(self, count):
        """`count` tokens are computed next."""
        self.count, self.place = count, 0

    def end(self):
        """They are computed."""
        if not self.problem and self.place != self.layer_count:
            self.problem = f"{self.layer_count} layers were recorded, but the model has {self.place} with experts"
        if self.problem:
            sys.exit(f"{self.name}: {self.problem}")
        self.next = (self.next + self.count) % self.token_count

    def callback(self):
        """For ggml_backend_sched_eval_callback: asked of every node whether it wants to see it, then told that those it
        wants are computed."""
        from llama_cpp._ggml import libggml

        def accessor(name, result):
            function = getattr(libggml, name)
            function.argtypes, function.restype = [ctypes.c_void_p], result
            return function

        get_name, get_data = accessor("ggml_get_name", ctypes.c_void_p), accessor("ggml_get_data", ctypes.c_void_p)
        elements, element_size = accessor("ggml_nelements", ctypes.c_int64), accessor("ggml_element_size", ctypes.c_size_t)
        name, name_length, text_at = self.NAME, len(self.NAME), ctypes.string_at
        name_offset = None

        def force(pointer):
            tensor = self.Tensor.from_address(pointer)
            k, rows = tensor.ne[0], tensor.ne[1]
            if (tensor.type, k, tensor.nb[0]) != (self.INT32, self.k, 4) or (elements(pointer), element_size(pointer)) != (k * rows, 4):
                self.problem = "this llama.cpp lays out the ids of experts in another way than llama-peer.py knows"
            elif self.place >= self.layer_count or rows > self.count:
                self.problem = f"{self.layer_count} layers were recorded, but the model has more with experts"
            else:
                # The last layer computes only tokens whose logits are wanted: the last ones.
                data, first = get_data(pointer), self.next + self.count - rows
                for row in range(rows):
                    recorded = self.experts[(first + row) % self.token_count, self.place]
                    ctypes.memmove(data + row * tensor.nb[1], recorded.ctypes.data, 4 * k)
                self.place += 1
            return self.problem is None

        def call(pointer, ask, _):
            nonlocal name_offset
            if not ask:
                return force(pointer)
            if name_offset is None:
                name_offset = get_name(pointer) - pointer
            return text_at(pointer + name_offset, name_length) == name

        return call


def read_routing(path, prompt):
    """A recording that `sluice replay` reads, as Sluice forces it: the tokens that were decoded, and before them the end
    of the prompt that they followed, if that many tokens of it were recorded, and whole. Where nothing was decoded, all."""
    try:
        data = pathlib.Path(path).read_bytes()
        if data.startswith(b"SLUICERT"):
            experts, decoded, expert_count, anonymous = own_trace(data)
        elif data.startswith(b"# route_trace v1"):
            experts, decoded, expert_count, anonymous = table_trace(data.decode())
        elif data.lstrip().startswith(b"{"):
            experts, decoded, expert_count, anonymous = lines_trace(data)
        else:
            sys.exit(f"{path}: not a trace")
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}")
    except (ValueError, KeyError, IndexError, TypeError, struct.error):
        sys.exit(f"{path}: cannot be read as a trace; 'sluice replay {path}' says where")
    whole = (experts >= 0).all(axis=(1, 2))
    chosen = np.flatnonzero(decoded)
    if not len(chosen):
        chosen = np.arange(len(experts))
    elif prompt and chosen[0] >= prompt and whole[chosen[0] - prompt:chosen[0]].all():
        chosen = np.concatenate([np.arange(chosen[0] - prompt, chosen[0]), chosen])
    experts = experts[chosen]
    if not len(experts) or not whole[chosen].all():
        sys.exit(f"{path}: of a token not all experts of all layers were recorded")
    ordered = np.sort(experts, axis=2)
    if ordered.max() >= expert_count or (ordered[:, :, 1:] == ordered[:, :, :-1]).any():
        sys.exit(f"{path}: an expert is chosen twice, or is none of the model's {expert_count}")
    return Routing(path, experts, expert_count, anonymous)


def own_trace(data):
    """`sluice trace`'s, see TraceHeader.swift."""
    length, layers, count, k, _, flags, inputs, model, architecture = struct.unpack_from("<9I", data, 12)
    layer = [("experts", "<u2", k)] + ([("weights", "<f4", k)] if flags & 1 else [])
    if inputs:
        layer.append(("input", "<u2" if flags & 4 else "<u4", inputs))
    records = np.frombuffer(data, np.dtype([("sequence", "<u4"), ("phase", "<u4"), ("id", "<i4"), ("layers", layer, layers)]), offset=length)
    experts = records["layers"]["experts"].astype(np.int32)
    experts[experts == 65535] = -1
    return experts, records["phase"] == 1, count, model + architecture == 0


def lines_trace(data):
    """Objects of tok and layers, all decoded; the model is not named."""
    experts = np.array([json.loads(line)["layers"] for line in data.splitlines() if line.strip()], dtype=np.int32)
    return experts, np.ones(len(experts), dtype=bool), int(experts.max()) + 1, True


def table_trace(text):
    """Rows of turn, phase, step, layer, slot, expert, ...; the shape is in comments before them."""
    facts, layers, tokens, rows = {}, [], {}, []
    for line in text.splitlines():
        if line.startswith("#"):
            words = dict(word.split("=", 1) for word in line.split() if "=" in word)
            layers += [int(words["layer"])] if "expert_bytes" in words and "layer" in words else []
            facts.update(words)
        elif line and not line.startswith("turn,"):
            turn, phase, step, *place = map(int, line.split(",")[:6])
            tokens.setdefault((turn, step), phase)
            rows.append(((turn, step), *place))
    place = {layer: index for index, layer in enumerate(sorted(layers) or range(int(facts["n_layer"])))}
    order = {token: index for index, token in enumerate(sorted(tokens))}
    experts = np.full((len(order), len(place), int(facts["n_expert_used"])), -1, dtype=np.int32)
    for token, layer, slot, expert in rows:
        experts[order[token], place[layer], slot] = expert
    decoded = np.array([tokens[token] == 1 for token in order])
    return experts, decoded, int(facts["n_expert"]), not (facts.get("model") or facts.get("arch"))


# --------------------------------------------------------------------------------------------- runs


def pin(threads, wanted):
    """Starts this program anew if OpenMP, which reads its settings once, was told otherwise."""
    settings = {"OMP_PROC_BIND": "true", "OMP_PLACES": "threads", "OMP_NUM_THREADS": str(threads)} if wanted else {}
    others = {key: value for key, value in os.environ.items() if key not in ("OMP_PROC_BIND", "OMP_PLACES", "OMP_NUM_THREADS")}
    if os.environ != {**others, **settings}:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**others, **settings})


def point(arguments):
    total = arguments.prompt + arguments.warm_up + arguments.n
    context = arguments.ctx or total
    if total > context:
        sys.exit(f"{total} tokens do not fit into --ctx {context}")
    pin(arguments.threads, arguments.pin)
    routing = read_routing(arguments.replay_routing, arguments.prompt) if arguments.replay_routing else None
    engine = Llama(arguments.model, context=context, threads=arguments.threads, load=arguments.load, repack=arguments.repack,
                   routing=routing)
    ids = [(position + 1) * 7919 % engine.vocabulary_count for position in range(total)]
    started = time.perf_counter()
    for first in range(0, arguments.prompt, engine.chunk):
        engine.decode(ids[first:min(first + engine.chunk, arguments.prompt)])
    prefill_seconds = time.perf_counter() - started
    began, position = time.perf_counter(), arguments.prompt
    # Where a token takes seconds, half of the time is for filling the page cache, and two tokens are the least that counts.
    while position < arguments.prompt + arguments.warm_up and time.perf_counter() - began < arguments.seconds / 2:
        engine.decode(ids[position:position + 1])
        position += 1
    faults, seconds = major_faults(), []
    while len(seconds) < arguments.n and (len(seconds) < 2 or time.perf_counter() - began < arguments.seconds):
        started = time.perf_counter()
        engine.decode(ids[position:position + 1])
        seconds.append(time.perf_counter() - started)
        position += 1
    io_mode = [LOAD_NAMES[arguments.load]] + ["repacked"] * arguments.repack + ["threads pinned"] * arguments.pin
    result = dict(
        engine=f"llama.cpp (llama-cpp-python {engine.llama.__version__})", decode_tokens_per_second=len(seconds) / sum(seconds),
        token_seconds=seconds, load_seconds=engine.load_seconds, major_faults=major_faults() - faults,
        peak_memory_bytes=peak_memory_bytes(), io_mode=", ".join(io_mode))
    if arguments.prompt:
        result["prefill_tokens_per_second"] = arguments.prompt / prefill_seconds
    return result


def generation(arguments):
    context = arguments.ctx or 512
    engine = Llama(arguments.model, context=context, threads=arguments.threads, load=arguments.load, repack=arguments.repack)
    prompt = engine.tokenize(arguments.text, len(arguments.text.encode()) + 8)
    if not prompt or len(prompt) + arguments.n > context:
        sys.exit(f"{len(prompt)} prompt tokens and -n {arguments.n} do not fit into --ctx {context}")
    started = time.perf_counter()
    engine.decode(prompt)
    tokens = [int(engine.logits().argmax())]
    prefill_seconds = time.perf_counter() - started
    faults, moments = major_faults(), [time.perf_counter()]
    while len(tokens) < arguments.n and moments[-1] - moments[0] < arguments.seconds:
        engine.decode(tokens[-1:])
        tokens.append(int(engine.logits().argmax()))
        moments.append(time.perf_counter())
    steps, decode_seconds = len(tokens) - 1, moments[-1] - moments[0]
    times = sorted(b - a for a, b in zip(moments, moments[1:]))
    return dict(
        engine=f"llama-cpp-python {engine.llama.__version__}", system_info=engine.llama.llama_print_system_info().decode(),
        load=arguments.load, repack=arguments.repack, threads=arguments.threads, pinning=os.environ.get("OMP_PROC_BIND", "no"),
        load_seconds=engine.load_seconds, prompt_tokens=len(prompt), prefill_seconds=prefill_seconds,
        prefill_tokens_per_second=len(prompt) / prefill_seconds, generated_tokens=len(tokens), distinct_tokens=len(set(tokens)),
        decode_seconds=decode_seconds, decode_tokens_per_second=steps / decode_seconds if steps else 0,
        median_token_seconds=times[len(times) // 2] if times else 0, slowest_token_seconds=times[-1] if times else 0,
        major_faults=major_faults() - faults, peak_memory_bytes=peak_memory_bytes(), token_ids=tokens)


if __name__ == "__main__":
    given = arguments_of(sys.argv[1:])
    print(json.dumps(point(given) if given.point else generation(given)))
