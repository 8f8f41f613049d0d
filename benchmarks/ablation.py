#!/usr/bin/env python3
"""Every mechanism on and off, with a recorded routing on a slowed-down disk.

usage: ablation.py MODEL --trace TRACE [--bandwidth 0.86,3] [--cache 2x] [-n 32] [--rounds 3] [--realtime] [-o REPORT.json]

The trace's routing is forced onto the model, so that a model of the right shape with random weights moves the bytes a
real one would. In each round every setting runs once, from a cold cache, the baseline first and again last (A-B-A); a cgroup
(v1 or v2) holds the disk to the bandwidth, in GB/s. A mechanism pays if the least of its ratios to the two baselines
of its round is above 1 in the median of the rounds.

Guesses are the recorded choices with so many of them right ("recall"): a model with random weights has none of its own. The
governor of prefetching compares with and without in windows of 16 tokens, which a short run feels; hence also without it.
Filling the cache from the prompt is measured after one, and takes time before the first token: its rate counts the prompt's
time and that of the tokens after it.
Needs root; apt install fio
"""

import argparse
import json
import pathlib
import statistics

import measuring

MECHANISMS = [
    ("policy lfu", "policy=lfu"),
    ("policy slru", "policy=slru"),
    ("policy hobbit", "policy=hobbit"),
    ("prefetch of 2, recall 0.886, no governor", "predict=recorded:0.886 prefetch=2 governor=off"),
    ("prefetch of 4, recall 0.886, no governor", "predict=recorded:0.886 prefetch=4 governor=off"),
    ("prefetch of 4, recall 0.886", "predict=recorded:0.886 prefetch=4"),
    ("prefetch of 4, recall 0.6", "predict=recorded:0.6 prefetch=4"),
]
AFTER_A_PROMPT = [("warm-up from the prompt", "warm-up=prompt")]
# What needs nested planes, measured on a package.
PLANES = [("fallback", "miss=fallback"), ("drop", "miss=drop")]


def block(arguments, disk, mechanisms, warm_up, prompt=0):
    """One run of bench: the rows of the baseline, each mechanism, and the baseline again."""
    base = f"cache={arguments.cache} policy=lru"
    command = [str(arguments.sluice), "bench", "speed", str(arguments.model), "--replay-routing", str(arguments.trace),
               "-n", str(arguments.n), "--warm-up", str(warm_up), "--prompt", str(prompt), "--rounds", str(arguments.rounds), "--json"]
    for setting in [base, *(f"{base} {words}" for _, words in mechanisms), base]:
        command += ["--setting", setting]
    out, _ = measuring.measured(command, realtime=arguments.realtime, cold=True, timeout=7200, disk=disk)
    return json.loads(out)["rows"]


def show(mechanisms, rows, tokens):
    """A line per row; returns name and least ratio to the baselines around it."""
    def rate(run):
        return tokens / (run["prompt_seconds"] + tokens / run["tokens_per_second"])

    rates = [[rate(run) for run in row["runs"]] for row in rows]
    found = []
    for index, (name, row) in enumerate(zip(["baseline", *(name for name, _ in mechanisms), "baseline again"], rows)):
        ratio = statistics.median(min(rate / first, rate / last) for rate, first, last in zip(rates[index], rates[0], rates[-1]))
        ahead = {key: statistics.median(run[f"{key}_ahead_bytes_per_token"] for run in row["runs"]) / 1e6 for key in ("useful", "wasted")}
        print(f"  {name:42} {measuring.spread(rates[index])} tok/s, at least {ratio:.3f} x; hit rate "
              f"{row['hit_rate']['median'] * 100:.1f} %, {row['bytes_read_per_token']['median'] / 1e6:.1f} MB "
              f"(ahead: {ahead['useful']:.1f} useful, {ahead['wasted']:.1f} wasted) and "
              f"{row['stall_seconds_per_token']['median'] * 1e3:.1f} ms of stall per token", flush=True)
        found.append(dict(name=name, rates=rates[index], least_ratio=ratio))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--trace", type=pathlib.Path, required=True)
    parser.add_argument("--sluice", type=pathlib.Path, default=measuring.REPOSITORY / ".build/release/sluice")
    parser.add_argument("--bandwidth", default="0.86,3", help="GB/s, several with commas (0.86,3)")
    parser.add_argument("--cache", default="2x")
    parser.add_argument("--only", help="settings whose name contains this")
    parser.add_argument("-n", type=int, default=32)
    parser.add_argument("--warm-up", type=int, default=8, help="tokens before measuring (8)")
    parser.add_argument("--prompt", type=int, default=16, help="tokens of prompt for what needs one (16)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("-o", "--out", type=pathlib.Path)
    arguments = parser.parse_args()

    def chosen(mechanisms):
        return [(name, words) for name, words in mechanisms if not arguments.only or arguments.only in name]

    report = dict(machine=measuring.machine(), model=arguments.model.name, trace=arguments.trace.name, cache=arguments.cache,
                  build=measuring.build_of(arguments.sluice), tokens=arguments.n, bandwidths={})
    blocks = [(chosen(MECHANISMS + (PLANES if arguments.model.suffix == ".sluice" else [])), arguments.warm_up, 0),
              (chosen(AFTER_A_PROMPT), 0, arguments.prompt)]
    for bandwidth in map(float, arguments.bandwidth.split(",")):
        found = report["bandwidths"][bandwidth] = dict(fio=[], blocks=[])
        with measuring.DiskLimit(arguments.model, bandwidth * 1e9) as disk:
            for mechanisms, warm_up, prompt in blocks:
                if not mechanisms:
                    continue
                found["fio"].append(measuring.fio(arguments.model, disk=disk, realtime=arguments.realtime))
                rows = block(arguments, disk, mechanisms, warm_up, prompt)
                found["fio"].append(measuring.fio(arguments.model, disk=disk, realtime=arguments.realtime))
                fio = " and ".join(f"{figure:.2f}" for figure in found["fio"][-2:])
                print(f"\ndisk held to {bandwidth} GB/s (fio reads {fio} before and after); cache {arguments.cache}"
                      + (f"; after a prompt of {prompt} tokens, its time included" if prompt else ""))
                found["blocks"].append(dict(prompt=prompt, warm_up=warm_up, rows=rows, table=show(mechanisms, rows, arguments.n)))
                if arguments.out:
                    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
