#!/usr/bin/env python3
"""How much of the disk exact streaming gets, against fio's random reads of the same size at the same depth.

usage: streaming_vs_fio.py MODEL [--replay-routing TRACE] [--cache 1x] [-n 16] [--rounds 3] [--bandwidth GB/s] [--realtime] [-o REPORT.json]

fio, sluice, fio, sluice, ..., fio: each run of sluice, with a cold and small cache so that the disk never rests, is held
against the mean of the fio runs before and after it. Both read with io_uring and O_DIRECT from the same file.

  bandwidth   bytes read / time with reads in flight, over fio's bandwidth
  stall       time the token's thread waited for the disk, over (bytes read / fio's bandwidth - hidden), where hidden is the
              time with reads in flight during which that thread computed (disk busy - stall)

--bandwidth holds the disk to so much with a cgroup, for both. Needs root; apt install fio
"""

import argparse
import json
import pathlib
import statistics

import measuring

# Bytes that exact mode keeps in flight (Disk.directWindowBytes).
WINDOW_BYTES = 8 << 20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--replay-routing", type=pathlib.Path)
    parser.add_argument("--sluice", type=pathlib.Path, default=measuring.REPOSITORY / ".build/release/sluice")
    parser.add_argument("--cache", default="1x")
    parser.add_argument("-n", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bandwidth", type=float)
    parser.add_argument("--seconds", type=int, default=4, help="of each fio run (4)")
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("-o", "--out", type=pathlib.Path)
    arguments = parser.parse_args()

    command = [str(arguments.sluice), "bench", "speed", str(arguments.model), "-n", str(arguments.n), "--warm-up", "0",
               "--rounds", "1", "--setting", f"cache={arguments.cache} io=direct", "--json"]
    if arguments.replay_routing:
        command += ["--replay-routing", str(arguments.replay_routing)]
    report = dict(machine=measuring.machine(), model=arguments.model.name, build=measuring.build_of(arguments.sluice),
                  cache=arguments.cache, tokens=arguments.n, disk_limit=arguments.bandwidth, fio=[], runs=[])
    with measuring.disk_limit(arguments.model, arguments.bandwidth) as disk:
        def sluice():
            out, _ = measuring.measured(command, realtime=arguments.realtime, cold=True, disk=disk)
            return json.loads(out)["rows"][0]["runs"][0]

        first = sluice()["engine"]  # what fio shall do, and nothing else
        piece = round(first["bytes_read"] / first["reads"] / 4096) * 4096
        depth = max(1, round(WINDOW_BYTES / piece))
        report.update(piece_bytes=piece, depth=depth)

        def fio():
            return measuring.fio(arguments.model, block=str(piece), depth=depth, seconds=arguments.seconds,
                                 realtime=arguments.realtime, disk=disk)

        report["fio"].append(fio())
        for _ in range(arguments.rounds):
            report["runs"].append(sluice())
            report["fio"].append(fio())

    shares, stalls = [], []
    for run, before, after in zip(report["runs"], report["fio"], report["fio"][1:]):
        figures, bandwidth = run["engine"], (before + after) / 2 * 1e9
        busy, stall = figures["disk_busy_seconds"], figures["stall_seconds"]
        shares.append(figures["bytes_read"] / busy / bandwidth)
        stalls.append(stall / (figures["bytes_read"] / bandwidth - (busy - stall)))
    report.update(bandwidth_shares=shares, stall_ratios=stalls)
    runs = report["runs"]
    print(f"{arguments.model.name}: {report['piece_bytes'] / 1024:.0f} KiB pieces, {depth} in flight; cache {arguments.cache}"
          + (f"; disk held to {arguments.bandwidth} GB/s" if arguments.bandwidth else ""))
    print(f"  fio        {measuring.spread(report['fio'])} GB/s")
    print(f"  sluice     {measuring.spread([run['engine']['bytes_read'] / run['engine']['disk_busy_seconds'] / 1e9 for run in runs])} "
          f"GB/s while reading; {measuring.spread([run['tokens_per_second'] for run in runs])} tok/s, "
          f"hit rate {statistics.median(run['hit_rate'] for run in runs) * 100:.0f} %")
    print(f"  bandwidth  {measuring.spread(shares)} of fio's")
    print(f"  stall      {measuring.spread(stalls)} of what bytes, bandwidth and hidden time make")
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
