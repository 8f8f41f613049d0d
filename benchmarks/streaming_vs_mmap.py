#!/usr/bin/env python3
"""Decode with half of the model's size as memory: sluice with O_DIRECT against llama.cpp on a memory map.

usage: streaming_vs_mmap.py MODEL [--sluice BINARY] [--limit BYTES] [-n 96] [--pairs 3] [--realtime] [-o REPORT.json]

Each run starts with a cold page cache in a fresh cgroup (v1 or v2) of `--limit` bytes (half of the file), in which
page cache counts like any other memory. llama.cpp maps the file with its threads pinned; the disk's read_ahead_kb
decides how it fares, so 64, 128, 256 and the machine's own setting are tried first, and the best takes part in the
interleaved runs. Its figure at the machine's own setting is printed too. Recorded beside: the kernel's own peak of
each cgroup, and fio's figure for random reads of the same file. The old read-ahead is restored at the end.

sluice's figures include its cold start: its cache is empty before the prompt. So do llama.cpp's.
Needs root; pip install numpy llama-cpp-python; apt install fio
"""

import argparse
import statistics

import measuring

READ_AHEAD_KB = (64, 128, 256)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measuring.add_common_arguments(parser, count=96)
    parser.add_argument("--limit", type=int, help="bytes of the cgroup (half of the file)")
    parser.add_argument("--search-n", type=int, default=32, help="tokens of each run of the search (32)")
    parser.add_argument("--fail-below", type=float, help="status 1 if sluice / llama.cpp is below this")
    arguments = parser.parse_args()
    report = measuring.open_report(arguments)
    limit = arguments.limit or arguments.model.stat().st_size // 2
    measuring.drop_page_cache()
    report.update(limit_bytes=limit, fio_before=measuring.fio(arguments.model, realtime=arguments.realtime), search={}, sluice=[], llama_cpp=[])
    print(f"memory {limit / 1e9:.2f} GB; fio, 1 MB random reads at depth 8: {figure(report['fio_before'])} GB/s")

    own = measuring.read_ahead_now(arguments.model)
    with measuring.read_ahead(arguments.model) as set_read_ahead:

        def llama(kilobytes, count=None):
            set_read_ahead(kilobytes)
            try:
                return measuring.run_llama(arguments.model, arguments, load="mmap", repack=False, count=count,
                                           limit=limit, cold=True)
            finally:
                set_read_ahead(own)

        for kilobytes in (*READ_AHEAD_KB, own):
            run = llama(kilobytes, arguments.search_n)
            report["search"][kilobytes] = run
            print(f"  llama.cpp, read_ahead_kb {kilobytes:5}: {run['decode_tokens_per_second']:6.2f} tok/s, "
                  f"{run['major_faults']} major faults, peak {run['cgroup_peak_bytes'] / 1e9:.2f} GB", flush=True)
        best = max(report["search"], key=lambda k: report["search"][k]["decode_tokens_per_second"])
        for _ in range(arguments.pairs):
            report["llama_cpp"].append(llama(best))
            if not arguments.peer_only:
                report["sluice"].append(measuring.run_sluice(
                    arguments.model, arguments, ["--memory", str(limit), "--cache", "auto", "--io", "auto"],
                    limit=limit, cold=True))
    report["fio_after"] = measuring.fio(arguments.model, realtime=arguments.realtime)
    print(f"fio again: {figure(report['fio_after'])} GB/s")

    rates = measuring.decode_rates
    theirs, ours = report["llama_cpp"], report["sluice"]
    print(f"llama.cpp, mapped, read_ahead_kb {best}: {measuring.spread(rates(theirs))} tok/s")
    print(f"llama.cpp, mapped, read_ahead_kb {own} (this machine's own): "
          f"{report['search'][own]['decode_tokens_per_second']:.2f} tok/s")
    if ours:
        peak = max(run["cgroup_peak_bytes"] for run in ours)
        print(f"sluice, {ours[0]['io_mode']}: {measuring.spread(rates(ours))} tok/s, hit rate {ours[0]['hit_rate']:.1%}, "
              f"{ours[0]['bytes_read_per_token'] / 1e6:.0f} MB read per token, peak {peak / 1e9:.3f} of {limit / 1e9:.3f} GB")
        ratios = measuring.paired_ratios(ours, theirs)
        report["ratio"] = statistics.median(ratios)
        print(f"sluice / llama.cpp    {measuring.spread(ratios)}, pair by pair")
    measuring.close_report(arguments, report)
    if arguments.fail_below and ours and report["ratio"] < arguments.fail_below:
        raise SystemExit(1)


def figure(value):
    return "?" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
