"""What the measuring scripts share: a described machine, a limited cgroup, a cold page cache, one run of each engine.

Everything that changes the machine (cgroup, read-ahead) is undone on the way out, also after an error.
Needs root for cgroups, page cache, read-ahead and --realtime.
"""

import contextlib
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent


# ------------------------------------------------------------------------------------------ machine


def first_match(path, pattern, default="?"):
    try:
        match = re.search(pattern, pathlib.Path(path).read_text(), re.M)
    except OSError:
        return default
    return match[1].strip() if match else default


def machine():
    """Processor, memory, kernel and load, as the report's first lines."""
    memory = int(first_match("/proc/meminfo", r"^MemTotal:\s+(\d+)", "0")) * 1024
    model = first_match("/proc/cpuinfo", r"^model name\s*: (.*)$", platform.machine())
    return dict(processor=model, cpus=len(os.sched_getaffinity(0)), memory_bytes=memory, kernel=platform.release(),
                load_1min=os.getloadavg()[0])


def build_of(sluice):
    """Version line of the binary and the commit of the checkout."""
    def line(*command):
        result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
        return result.stdout.strip().splitlines()[0] if result.returncode == 0 and result.stdout.strip() else "?"
    return dict(sluice=line(str(sluice), "--version"), commit=line("git", "describe", "--always", "--dirty"),
                swift=line("swift", "--version"))


def block_device(path):
    """Directory in /sys/block of the whole disk that holds a file."""
    number = os.stat(path).st_dev
    node = pathlib.Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    if not node.exists():
        sys.exit(f"{path} is on no block device (tmpfs, overlay?); put the model on a disk")
    return node.parent if (node / "partition").exists() else node


@contextlib.contextmanager
def read_ahead(path):
    """Yields a function that sets the disk's read_ahead_kb; the old value comes back at the end."""
    setting = block_device(path) / "queue/read_ahead_kb"
    before = setting.read_text().strip()
    try:
        yield lambda kilobytes: setting.write_text(str(kilobytes))
    finally:
        setting.write_text(before)


def read_ahead_now(path):
    return int((block_device(path) / "queue/read_ahead_kb").read_text())


def drop_page_cache():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def fio(path, block="1M", depth=8, seconds=4, realtime=False, disk=None):
    """Random O_DIRECT reads of the same file in GB/s, by fio; None without fio. `disk` is a DiskLimit."""
    if not shutil.which("fio"):
        return None
    result = subprocess.run(
        (["chrt", "--rr", "10"] if realtime else []) + ["fio", "--name=read", f"--filename={path}", "--readonly", "--direct=1", "--rw=randread", f"--bs={block}",
         f"--iodepth={depth}", "--ioengine=io_uring", f"--runtime={seconds}", "--time_based", "--output-format=json"],
        capture_output=True, text=True, preexec_fn=disk.enter if disk else None)
    try:
        return json.loads(result.stdout[result.stdout.index("{"):])["jobs"][0]["read"]["bw_bytes"] / 1e9
    except (ValueError, KeyError):
        return None


# ------------------------------------------------------------------------------------------- cgroup


class MemoryLimit:
    """A fresh cgroup with a memory limit and no swap, v1 or v2. A run's page cache counts in it."""

    def __init__(self, limit):
        name = f"sluice-bench-{os.getpid()}-{time.monotonic_ns()}"
        first = pathlib.Path("/sys/fs/cgroup/memory")
        self.version = 1 if (first / "memory.limit_in_bytes").exists() else 2
        if self.version == 1:
            self.path = first / name
            self.path.mkdir()
            (self.path / "memory.limit_in_bytes").write_text(str(limit))
            self.peak_file, self.fail_file = "memory.max_usage_in_bytes", "memory.failcnt"
        else:
            root = pathlib.Path("/sys/fs/cgroup")
            if "memory" not in (root / "cgroup.controllers").read_text():
                sys.exit("no memory controller for cgroups here: the comparison would mean nothing")
            (root / "cgroup.subtree_control").write_text("+memory")
            self.path = root / name
            self.path.mkdir()
            (self.path / "memory.max").write_text(str(limit))
            if (self.path / "memory.swap.max").exists():
                (self.path / "memory.swap.max").write_text("0")
            self.peak_file, self.fail_file = "memory.peak", "memory.events"

    def enter(self):
        """Called in the child, before it becomes the measured program."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def figures(self):
        peak = self.path / self.peak_file
        return dict(cgroup_version=self.version,
                    cgroup_peak_bytes=int(peak.read_text()) if peak.exists() else None,
                    cgroup_limit_hits=(self.path / self.fail_file).read_text().split()[-1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        drop_page_cache()  # the cache charged to it would keep the group alive
        for _ in range(50):
            try:
                return self.path.rmdir()
            except OSError:
                time.sleep(0.1)
        print(f"left behind: {self.path}", file=sys.stderr)


class DiskLimit:
    """A fresh cgroup, v1 or v2, that reads a file's disk with at most so many bytes per second."""

    def __init__(self, path, bytes_per_second):
        device = (block_device(path) / "dev").read_text().strip()
        name = f"sluice-disk-{os.getpid()}-{time.monotonic_ns()}"
        first = pathlib.Path("/sys/fs/cgroup/blkio")
        if (first / "blkio.throttle.read_bps_device").exists():
            self.path = first / name
            self.path.mkdir()
            (self.path / "blkio.throttle.read_bps_device").write_text(f"{device} {int(bytes_per_second)}")
            return
        root = pathlib.Path("/sys/fs/cgroup")
        if "io" not in (root / "cgroup.controllers").read_text():
            sys.exit("no io controller for cgroups here: the disk cannot be slowed down")
        (root / "cgroup.subtree_control").write_text("+io")
        self.path = root / name
        self.path.mkdir()
        (self.path / "io.max").write_text(f"{device} rbps={int(bytes_per_second)}")

    def enter(self):
        """Called in the child, before it becomes the measured program."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _ in range(50):
            try:
                return self.path.rmdir()
            except OSError:
                time.sleep(0.1)
        print(f"left behind: {self.path}", file=sys.stderr)


def disk_limit(path, gigabytes_per_second):
    """A DiskLimit; without a figure, nothing, as a context."""
    return DiskLimit(path, gigabytes_per_second * 1e9) if gigabytes_per_second else contextlib.nullcontext()


# --------------------------------------------------------------------------------------------- runs


def measured(command, limit=None, realtime=False, cold=False, timeout=1200, environment=None, disk=None):
    """Runs a command; (its stdout, figures of its cgroup). Ends the script if the command fails.

    `disk` is a DiskLimit, and is left for the next run."""
    if realtime:
        command = ["chrt", "--rr", "10", *command]
    if cold:
        drop_page_cache()
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(MemoryLimit(limit)) if limit else None
        groups = [entered for entered in (group, disk) if entered]

        def enter():
            for entered in groups:
                entered.enter()

        result = subprocess.run(command, capture_output=True, text=True, timeout=timeout,
                                env={**os.environ, **(environment or {})}, preexec_fn=enter if groups else None)
        if result.returncode != 0:
            sys.exit(f"status {result.returncode} of: {' '.join(map(str, command))}\n{result.stderr[-2000:]}")
        return result.stdout, group.figures() if group else {}


def pinned(threads):
    """What makes OpenMP, and so llama.cpp, put each thread on a processor of its own."""
    return {"OMP_PROC_BIND": "true", "OMP_PLACES": "threads", "OMP_NUM_THREADS": str(threads)}


def run_llama(model, arguments, *, load, repack, count=None, **how):
    """One run of llama.cpp; its figures."""
    command = [sys.executable, str(HERE / "llama-peer.py"), str(model), "-p", arguments.prompt, "-n", str(count or arguments.n),
               "--threads", str(arguments.threads), "--load", load, "--seconds", str(arguments.seconds)]
    out, group = measured(command + (["--repack"] if repack else []), environment=pinned(arguments.threads),
                          realtime=arguments.realtime, **how)
    return {**json.loads(out), **group}


def run_sluice(model, arguments, options, **how):
    """One run of sluice; its figures."""
    with tempfile.NamedTemporaryFile(suffix=".json") as stats:
        command = [str(arguments.sluice), "run", str(model), "-p", arguments.prompt, "-n", str(arguments.n), "--temp", "0",
                   "--ignore-eos", "--ctx", "512", "--threads", str(arguments.threads), "--stats", stats.name, *options]
        _, group = measured(command, realtime=arguments.realtime, **how)
        return {**json.loads(pathlib.Path(stats.name).read_text()), **group}


def add_common_arguments(parser, count):
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--sluice", type=pathlib.Path, default=REPOSITORY / ".build/release/sluice", help="the release binary")
    parser.add_argument("-p", "--prompt", default="Once upon a time")
    parser.add_argument("-n", type=int, default=count, help=f"tokens per run ({count})")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3, help="runs of each, interleaved (3)")
    parser.add_argument("--seconds", type=float, default=1e9, help="end a decode of llama.cpp after so long")
    parser.add_argument("--realtime", action="store_true",
                        help="run both engines under SCHED_RR, so that other work on the machine does not disturb them")
    parser.add_argument("--peer-only", action="store_true", help="measure llama.cpp alone")
    parser.add_argument("--tag", default="", help="free text for the report")
    parser.add_argument("-o", "--out", type=pathlib.Path, help="write everything as JSON")


def spread(values):
    """'median (min-max)'."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def decode_rates(runs):
    return [run["decode_tokens_per_second"] for run in runs]


def paired_ratios(ours, theirs):
    """The ratio of each pair of neighbouring runs: the machine's own drift is mostly outside them."""
    return [a / b for a, b in zip(decode_rates(ours), decode_rates(theirs))]


def open_report(arguments):
    """Checks the binary, prints what is measured on what, and returns the report to fill."""
    if not arguments.peer_only and not arguments.sluice.exists():
        sys.exit(f"{arguments.sluice}: not there; build it with: swift build -c release")
    facts = machine()
    report = dict(machine=facts, model=arguments.model.name, model_bytes=arguments.model.stat().st_size, tag=arguments.tag,
                  tokens=arguments.n, threads=arguments.threads, prompt=arguments.prompt, realtime=arguments.realtime,
                  build={} if arguments.peer_only else build_of(arguments.sluice))
    print(f"{facts['processor']}, {facts['cpus']} CPUs, {facts['memory_bytes'] / 1e9:.1f} GB, Linux {facts['kernel']}, "
          f"load {facts['load_1min']:.1f}{', both under SCHED_RR' if arguments.realtime else ''}")
    if facts["load_1min"] > 0.5 and not arguments.realtime:
        print("warning: the machine is busy; expect a wide spread", file=sys.stderr)
    print(f"{arguments.model.name}, {report['model_bytes'] / 1e9:.2f} GB; {arguments.n} tokens, {arguments.threads} threads, greedy; "
          f"{report['build'].get('sluice', '')} {report['build'].get('commit', '')}")
    return report


def close_report(arguments, report):
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")
