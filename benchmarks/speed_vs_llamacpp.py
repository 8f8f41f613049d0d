#!/usr/bin/env python3
"""The speed of kernels, decode, prompts and planes beside llama.cpp's, as one table.

usage: speed_vs_llamacpp.py [MODEL ...] [--planes MODEL] [--packages DIR] [--only kernels,tokens,planes] [--pairs 3] [-n 32]
                            [--at 4096] [--length 512] [--rounds 2] [--threads 2] [--realtime] [-o REPORT.json]

kernels  `sluice bench kernels` for one token in memory, and kernels/against_ggml.c: ours and ggml's in one process, in turns.
tokens   For each MODEL and the demo model, everything in memory: decode at the start and at position --at (or as far as the
         model's context goes), and prompts of --length tokens. A process of llama.cpp and ours in turn (A-B-A-B); llama.cpp
         with its weights as they lie in the file is measured once.
planes   --planes MODEL packed with --planes 2+2 (into --packages, where the package stays): decode of the file, of the
         package at full width and of its first two bits, in turn.

Printed are medians over all rounds with least and greatest, the median of the ratios pair by pair, and the share of the
roofline that ours reaches: of a plain read just before, or of the kernels' own rate in the cache where that is less. A
model that does not fit into the memory that is free is skipped aloud.

llama.cpp at its best: weights in memory and repacked for its fastest kernels, batches of 512, keys and values in half
precision, threads pinned; ids without tokenizer or sampler. The first pair measures it with flash attention and without, and
each row is of the faster. Ours: every default, all of the experts read before the first token.

Needs: pip install numpy gguf llama-cpp-python (built for this machine: CMAKE_ARGS=-DGGML_NATIVE=ON), clang or cc.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

import measuring

DEMO = measuring.REPOSITORY / "tools/demo-model/sluice-demo.gguf"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=pathlib.Path, metavar="MODEL")
    parser.add_argument("--planes", type=pathlib.Path, metavar="MODEL", help="pack this one (the first MODEL, or the demo model)")
    parser.add_argument("--packages", type=pathlib.Path, metavar="DIR", help="keep the package here (a temporary directory)")
    parser.add_argument("--only", default="kernels,tokens,planes", help="parts, separated by commas")
    parser.add_argument("--sluice", type=pathlib.Path, default=measuring.REPOSITORY / ".build/release/sluice")
    parser.add_argument("--pairs", type=int, default=3, help="processes of each, in turn (3)")
    parser.add_argument("--rounds", type=int, default=2, help="measurements in each process (2)")
    parser.add_argument("-n", type=int, default=32, help="tokens decoded in each (32)")
    parser.add_argument("--at", type=int, default=4096, help="position of the long context (4096)")
    parser.add_argument("--length", type=int, default=512, help="tokens of the prompt (512)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--realtime", action="store_true", help="run everything under SCHED_RR")
    parser.add_argument("-o", "--out", type=pathlib.Path, help="write everything as JSON")
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    if unknown := set(parts) - {"kernels", "tokens", "planes"}:
        parser.error(f"--only: {', '.join(sorted(unknown))}: the parts are kernels, tokens and planes")
    for path in [arguments.sluice, *arguments.models, *([arguments.planes] if arguments.planes else [])]:
        if not path.exists():
            sys.exit(f"{path}: not there")

    facts = measuring.machine()
    report = dict(machine=facts, build=measuring.build_of(arguments.sluice), threads=arguments.threads,
                  realtime=arguments.realtime, tables=[])
    print(f"{facts['processor']}, {facts['cpus']} CPUs, {facts['memory_bytes'] / 1e9:.1f} GB, Linux {facts['kernel']}, "
          f"{arguments.threads} threads, load {facts['load_1min']:.1f}{', all under SCHED_RR' if arguments.realtime else ''}")
    if facts["load_1min"] > 0.5 and not arguments.realtime:
        print("warning: the machine is busy; expect a wide spread", file=sys.stderr)
    if "kernels" in parts:
        kernels(arguments, report)
    if "tokens" in parts:
        for model in [*arguments.models, DEMO]:
            tokens(model, arguments, report)
    if "planes" in parts:
        planes(arguments.planes or (arguments.models or [DEMO])[0], arguments, report)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


# ------------------------------------------------------------------------------------------- tables


class Table:
    """Rows of one part, printed as they come and kept for the report."""

    def __init__(self, report, title, columns):
        self.rows = []
        report["tables"].append(dict(title=title, rows=self.rows))
        self.widths = [max(len(column), 24) for column in columns]
        self.widths[0] = 35
        print(f"\n{title}")
        self.write(columns)

    def write(self, cells):
        print("  ".join(cell.ljust(width) if index == 0 else cell.rjust(width)
                        for index, (cell, width) in enumerate(zip(cells, self.widths))), flush=True)

    def row(self, cells, figures):
        self.write(cells)
        self.rows.append(figures)


def spread(values, digits=2):
    """'median (min-max)'."""
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def spread_of(figure, digits=1):
    return f"{figure['median']:.{digits}f} ({figure['least']:.{digits}f}-{figure['greatest']:.{digits}f})"


def paired(ours, theirs):
    """Ratios of the medians of each pair of processes."""
    return [statistics.median(a) / statistics.median(b) for a, b in zip(ours, theirs)]


# ------------------------------------------------------------------------------------------ kernels


def kernels(arguments, report):
    ours = bench(arguments, "kernels", "--formats", "Q4_K,Q6_K,Q8_0,Q4_0", "--tokens", "1", "--places", "memory,experts",
                 "--rounds", "7", "--isa", best_instruction_set(arguments))
    report["kernels"] = ours
    table = Table(report, f"Kernels, one token; a plain read gives {spread_of(ours['read_gigabytes_per_second'])} GB/s with "
                  f"{ours['threads']} threads, {spread_of(ours['read_gigabytes_per_second_one_thread'])} with one",
                  ["", "place", "GB/s", "plain read", "of roofline"])
    for row in ours["rows"]:
        share = row["roofline_share"]
        table.row([row["kernel"], row["place"], spread_of(row["gigabytes_per_second"]),
                   spread_of(row["read_gigabytes_per_second"]), f"{share['median']:.0%} ({share['least']:.0%}-{share['greatest']:.0%})"],
                  row)

    library = ggml_library()
    if not library:
        print("skipped: no llama_cpp/lib/libggml-cpu.so to compare kernels with")
        return
    compiler = next((path for path in (swift_clang(), shutil.which("clang"), shutil.which("cc")) if path), None)
    if not compiler:
        print("skipped: no C compiler for kernels/against_ggml.c")
        return
    sources = measuring.REPOSITORY / "Sources"
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/against_ggml"
        subprocess.run([compiler, "-O3", "-ffp-contract=off", f"-I{sources}/CKernels/include", f"-I{sources}/CHost/include",
                        str(measuring.HERE / "kernels/against_ggml.c"), *map(str, sorted((sources / "CKernels").glob("*.c"))),
                        str(sources / "CHost/reading.c"), "-o", program, "-ldl", "-lm", "-pthread"], check=True)
        out, _ = measuring.measured([program, str(library), str(arguments.threads), "7"], realtime=arguments.realtime)
    theirs = json.loads(out)
    report["against_ggml"] = theirs
    table = Table(report, "Kernels beside ggml's, in one process; GB/s of weights",
                  ["", "sluice", "ggml, one row", "ggml, repacked", "ratio to the better", "of plain read"])
    for row in theirs["rows"]:
        figures = [row.get(f"{kind}_gigabytes_per_second") for kind in ("sluice", "ggml_vec_dot", "ggml_repacked")]
        table.row([f"{row['format']}, {row['tokens']} token{'s' if row['tokens'] > 1 else ''}, {row['place']}",
                   *(spread_of(figure) if figure else "" for figure in figures), spread_of(row["ratio_to_better"], 2),
                   f"{row['share_of_read']['median']:.0%}" if "share_of_read" in row and row["tokens"] == 1 else ""], row)


def best_instruction_set(arguments):
    """The first of the kernels that `sluice --version` lists."""
    out, _ = measuring.measured([str(arguments.sluice), "--version"])
    return re.search(r"kernels: (\S+?)(?:,|\s|$)", out)[1]


def ggml_library():
    """libggml-cpu.so of the llama-cpp-python of this Python, without loading it."""
    import importlib.util
    package = importlib.util.find_spec("llama_cpp")
    library = pathlib.Path(package.origin).parent / "lib/libggml-cpu.so" if package else None
    return library if library and library.exists() else None


def swift_clang():
    """The clang that compiles our kernels: Swift's own."""
    swift = shutil.which("swift")
    clang = pathlib.Path(swift).resolve().parent / "clang" if swift else None
    return str(clang) if clang and clang.exists() else None


# ------------------------------------------------------------------------------------------- tokens


def tokens(model, arguments, report):
    facts = inspected(model, arguments)
    # Both engines together never run; llama.cpp needs the most, with weights read and repacked.
    needed = model.stat().st_size * 1.03 + 2e9
    free = int(measuring.first_match("/proc/meminfo", r"^MemAvailable:\s+(\d+)", "0")) * 1024
    if free < needed:
        print(f"\nskipped: {model.name} needs {needed / 1e9:.1f} GB of free memory, and {free / 1e9:.1f} GB are free")
        return
    far = min(arguments.at, facts["context_length"] - arguments.n)
    length = min(arguments.length, facts["context_length"])
    wanted = [("decode", 0), ("decode", far), ("prompt", length)]
    faster = {task: ("on", "off") for task in wanted}
    ours, theirs = [], []
    for pair in range(arguments.pairs):
        print(f"{model.name}: pair {pair + 1} of {arguments.pairs}", file=sys.stderr)
        theirs.append(llama(model, arguments, [(*task, flash) for task in wanted for flash in faster[task]]))
        if pair == 0:
            for task in wanted:
                faster[task] = (max(("on", "off"), key=lambda flash: statistics.median(rates_of(theirs[0], task, flash))),)
        common = ["--rounds", str(arguments.rounds), "--ctx", str(max(far + arguments.n, length)), "--cache", "all"]
        decode = bench(arguments, "decode", str(model), "--at", f"0,{far}", "-n", str(arguments.n), *common)
        prefill = bench(arguments, "prefill", str(model), "--lengths", str(length), *common)
        ours.append(dict(decode=decode, prefill=prefill))
    mapped = llama(model, arguments, [("decode", 0, *faster["decode", 0])], "--no-repack")
    report.setdefault("tokens", []).append(dict(model=model.name, facts=facts, sluice=ours, llama_cpp=theirs, llama_cpp_mapped=mapped))
    table = Table(report, f"{facts['name']}, {model.stat().st_size / 1e9:.2f} GB, all in memory; tok/s   [{theirs[0]['engine']}]",
                  ["", "llama.cpp", "its flash attention", "sluice", "ratio, by pairs", "of roofline"])
    for task, part, index in zip(wanted, ("decode", "decode", "prefill"), (0, 1, 0)):
        flash, = faster[task]
        name = f"prompt of {length}" if part == "prefill" else f"decode at {task[1]}"
        rates = [[run["tokens_per_second"] for run in one[part]["rows"][index]["runs"]] for one in ours]
        peer = [rates_of(one, task, flash) for one in theirs]
        shares = [one[part]["rows"][index]["roofline_share"]["median"] for one in ours]
        ratios = paired(rates, peer)
        table.row([name, spread(sum(peer, [])), flash, spread(sum(rates, [])), spread(ratios), f"{statistics.median(shares):.0%}"],
                  dict(what=name, llama_cpp=peer, flash_attention=flash, sluice=rates, ratios=ratios,
                       ratio=statistics.median(ratios), roofline_shares=shares))
    table.write(["decode at 0, weights not repacked", spread(mapped["rows"][0]["tokens_per_second"]),
                 mapped["rows"][0]["flash_attention"], "", "", ""])
    split = ours[-1]["decode"]["rows"][0]["split_shares"]
    print("a token of ours: " + ", ".join(f"{name} {share:.0%}" for name, share in split.items()))
    if any(row["hit_rate"] < 1 for one in ours for part in one.values() for row in part["rows"]):
        print("warning: sluice did not have every expert in memory; the comparison is unfair to it")


def rates_of(peer, task, flash):
    """What llama.cpp reached in a task with or without flash attention."""
    return next(row["tokens_per_second"] for row in peer["rows"]
                if (row["task"], row["count"]) == task and row["flash_attention"] == flash)


def inspected(model, arguments):
    """What `sluice inspect` says of a model, but for the machine's own path of it and the list of its tensors."""
    out, _ = measuring.measured([str(arguments.sluice), "inspect", str(model), "--json"])
    facts = json.loads(out)
    return {name: value for name, value in facts.items() if name not in ("path", "tensors")}


def bench(arguments, what, *options):
    """One run of `sluice bench`; its JSON."""
    command = [str(arguments.sluice), "bench", what, *options, "--threads", str(arguments.threads), "--json"]
    out, _ = measuring.measured(command, realtime=arguments.realtime)
    return json.loads(out)


def llama(model, arguments, tasks, *options):
    """One process of llama.cpp, with tasks as (kind, count, flash attention); its JSON."""
    command = [sys.executable, str(measuring.HERE / "llama-tokens.py"), str(model), *(f"{kind}:{count}:{flash}" for kind, count, flash in tasks),
               "-n", str(arguments.n), "--rounds", str(arguments.rounds), "--threads", str(arguments.threads), *options]
    out, _ = measuring.measured(command, realtime=arguments.realtime, environment=measuring.pinned(arguments.threads))
    return json.loads(out)


# ------------------------------------------------------------------------------------------- planes


def planes(model, arguments, report):
    with tempfile.TemporaryDirectory() as temporary:
        package = (arguments.packages or pathlib.Path(temporary)) / f"{model.stem}-2+2.sluice"
        if not package.exists():
            if shutil.disk_usage(package.parent).free < model.stat().st_size * 1.1:
                print(f"\nskipped: no room for a package of {model.name} in {package.parent}; give --packages")
                return
            measuring.measured([str(arguments.sluice), "pack", str(model), "-o", str(package), "--planes", "2+2"], timeout=3600)
        variants = [("the file as it is", [str(model)]), ("2+2, full width", [str(package)]),
                    ("2 of 2+2", [str(package), "--expert-planes", "1"])]
        runs = [[] for _ in variants]
        for pair in range(arguments.pairs):
            print(f"planes: round {pair + 1} of {arguments.pairs}", file=sys.stderr)
            for index, (_, options) in enumerate(variants):
                runs[index].append(bench(arguments, "decode", *options, "-n", str(arguments.n), "--cache", "all",
                                         "--rounds", str(arguments.rounds)))
    report["planes"] = dict(model=model.name, variants=[name for name, _ in variants], runs=runs)
    table = Table(report, f"Planes of {model.name}, decode at 0, all in memory",
                  ["", "tok/s", "ratio to the row above", "ms in experts", "ratio to the row above", "of roofline"])
    rates = [[[run["tokens_per_second"] for run in one["rows"][0]["runs"]] for one in variant] for variant in runs]
    experts = [[[run["split"]["experts"] * 1000 for run in one["rows"][0]["runs"]] for one in variant] for variant in runs]
    for index, (name, _) in enumerate(variants):
        ratios = paired(rates[index], rates[index - 1]) if index else []
        faster = paired(experts[index - 1], experts[index]) if index else []
        shares = [one["rows"][0]["roofline_share"]["median"] for one in runs[index]]
        table.row([name, spread(sum(rates[index], [])), spread(ratios) if ratios else "", spread(sum(experts[index], [])),
                   spread(faster) if faster else "", f"{statistics.median(shares):.0%}"],
                  dict(what=name, tokens_per_second=rates[index], ratios=ratios, expert_ratios=faster, roofline_shares=shares))


if __name__ == "__main__":
    main()
