#!/usr/bin/env python3
"""Decode with everything in memory: sluice against llama.cpp, same file, same threads, interleaved.

usage: decode_vs_llamacpp.py MODEL [--sluice BINARY] [-n 128] [--threads 2] [--pairs 3] [--realtime] [-o REPORT.json]

llama.cpp runs at its best: weights read into memory and repacked for its fastest kernels, threads pinned; its plain
mapped mode is measured once beside it. sluice gets a cache that holds every expert, filled before the first token.
The order is A-B-A-B; printed are medians with the range, the ratio pair by pair, and what sluice's bytes per token
make of the memory bandwidth that was measured between the runs.

The file: make_synthetic_gguf.py --preset olmoe-1b-7b --out olmoe.gguf (random weights: only speed means anything).
Needs: pip install numpy llama-cpp-python
"""

import argparse
import json
import statistics

import measuring


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measuring.add_common_arguments(parser, count=128)
    parser.add_argument("--fail-below", type=float, help="status 1 if sluice / llama.cpp is below this")
    arguments = parser.parse_args()
    report = measuring.open_report(arguments)

    ours, theirs, bandwidths = [], [], []
    for _ in range(arguments.pairs):
        bandwidths.append(measuring.memory_bandwidth(arguments.threads, arguments.realtime))
        theirs.append(measuring.run_llama(arguments.model, arguments, load="none", repack=True))
        if not arguments.peer_only:
            ours.append(measuring.run_sluice(arguments.model, arguments, ["--cache", "100%", "--preload"]))
    mapped = measuring.run_llama(arguments.model, arguments, load="mmap", repack=False)
    report.update(sluice=ours, llama_cpp=theirs, llama_cpp_mapped=mapped, memory_bandwidth=bandwidths)
    bandwidths = [value for value in bandwidths if value]
    if bandwidths:
        print(f"memory, {arguments.threads} threads     {measuring.spread(bandwidths)} GB/s")

    rates = measuring.decode_rates
    print(f"llama.cpp, repacked   {measuring.spread(rates(theirs))} tok/s   [{theirs[0]['engine']}]")
    print(f"llama.cpp, mapped     {mapped['decode_tokens_per_second']:.2f} tok/s")
    if ours:
        if any(run["hit_rate"] < 1 for run in ours):
            print("warning: sluice did not have every expert in memory; the comparison is unfair to it")
        ratios = measuring.paired_ratios(ours, theirs)
        report["ratio"] = statistics.median(ratios)
        print(f"sluice                {measuring.spread(rates(ours))} tok/s")
        print(f"sluice / llama.cpp    {measuring.spread(ratios)}, pair by pair")
        touched = bytes_per_token(arguments)
        if touched and bandwidths:
            report["bytes_per_token"] = touched
            share = touched * statistics.median(rates(ours)) / 1e9 / statistics.median(bandwidths)
            print(f"sluice reads {touched / 1e6:.0f} MB of weights per token: {share:.0%} of the memory's bandwidth")
    measuring.close_report(arguments, report)
    if arguments.fail_below and ours and report["ratio"] < arguments.fail_below:
        raise SystemExit(1)


def bytes_per_token(arguments):
    """Weights that one token touches: the active experts and all of the rest but the embedding's table."""
    out, _ = measuring.measured([str(arguments.sluice), "inspect", str(arguments.model), "--json"])
    facts = json.loads(out)
    embedding = sum(role["bytes"] for role in facts["tensors"] if role["role"] == "token embedding")
    tied = facts.get("tied_embeddings", False)
    return facts["active_set_bytes"] + facts["resident_bytes"] - (0 if tied else embedding)


if __name__ == "__main__":
    main()
