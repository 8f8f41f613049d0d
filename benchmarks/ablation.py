#!/usr/bin/env python3
"""Every mechanism on and off, with a recorded routing on a slowed-down disk.

usage: ablation.py MODEL --trace TRACE [--bandwidth 0.86,3] [--cache 2x] [-n 64] [--rounds 3] [--realtime] [-o REPORT.json]

The trace's routing is forced onto the model, so that a model of the right shape with random weights moves the bytes a
real one would. In each round every setting runs once, from a cold cache, the baseline first and again last (A-B-A); a cgroup
(v1 or v2) holds the disk to the bandwidth, in GB/s. A mechanism pays if the least of its ratios to the two baselines
of its round is above 1 in the median of the rounds.
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
    ("prefetch of 2, recall 0.886", "predict=recorded:0.886 prefetch=2"),
    ("prefetch of 4, recall 0.886", "predict=recorded:0.886 prefetch=4"),
    ("prefetch of 4, recall 0.6", "predict=recorded:0.6 prefetch=4"),
    ("warm-up from the prompt", "warm-up=prompt"),
]
# What needs nested planes, measured on a package.
PLANES = [("fallback", "miss=fallback"), ("drop", "miss=drop")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--trace", type=pathlib.Path, required=True)
    parser.add_argument("--sluice", type=pathlib.Path, default=measuring.REPOSITORY / ".build/release/sluice")
    parser.add_argument("--bandwidth", default="0.86,3", help="GB/s, several with commas (0.86,3)")
    parser.add_argument("--cache", default="2x")
    parser.add_argument("--only", help="settings whose name contains this")
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--warm-up", type=int, default=16, help="tokens before measuring (16)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("-o", "--out", type=pathlib.Path)
    arguments = parser.parse_args()

    mechanisms = MECHANISMS + (PLANES if arguments.model.suffix == ".sluice" else [])
    mechanisms = [(name, words) for name, words in mechanisms if not arguments.only or arguments.only in name]
    base = f"cache={arguments.cache}"
    settings = [base] + [f"{base} {words}" for _, words in mechanisms] + [base]
    report = dict(machine=measuring.machine(), model=arguments.model.name, trace=arguments.trace.name,
                  build=measuring.build_of(arguments.sluice), settings=settings, tokens=arguments.n, bandwidths={})
    for bandwidth in map(float, arguments.bandwidth.split(",")):
        with measuring.DiskLimit(arguments.model, bandwidth * 1e9) as disk:
            attained = measuring.fio(arguments.model, disk=disk, realtime=arguments.realtime)
            command = [str(arguments.sluice), "bench", "speed", str(arguments.model), "--replay-routing", str(arguments.trace),
                       "-n", str(arguments.n), "--warm-up", str(arguments.warm_up), "--rounds", str(arguments.rounds), "--json"]
            for setting in settings:
                command += ["--setting", setting]
            out, _ = measuring.measured(command, realtime=arguments.realtime, cold=True, timeout=7200, disk=disk)
        rows = json.loads(out)["rows"]
        report["bandwidths"][bandwidth] = dict(fio=attained, rows=rows)
        print(f"\ndisk held to {bandwidth} GB/s (fio reads {attained:.2f}); cache {arguments.cache}")
        rates = [[run["tokens_per_second"] for run in row["runs"]] for row in rows]
        for index, (name, row) in enumerate(zip(["baseline", *(name for name, _ in mechanisms), "baseline again"], rows)):
            ratios = [min(rate / first, rate / last) for rate, first, last in zip(rates[index], rates[0], rates[-1])]
            print(f"  {name:28} {measuring.spread(rates[index])} tok/s, at least {statistics.median(ratios):.3f} x; "
                  f"hit rate {row['hit_rate']['median'] * 100:.1f} %, {row['bytes_read_per_token']['median'] / 1e6:.1f} MB and "
                  f"{row['stall_seconds_per_token']['median'] * 1e3:.1f} ms of stall per token", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
