#!/usr/bin/env python3
"""Computes what each board can be expected to do, and keeps the tables in boards/ equal to it.

usage: expected.py [--check]

Without --check the tables between the "computed" markers of boards/README.md and of every board's README.md are
written anew; with it nothing is written, and the status is 1 if one of them is out of date. Standard library only.

Nothing here is measured. A token takes the longer of two times, which go on side by side:

    seconds = max(bytes touched / DRAM rate, bytes missed / NVMe rate)

Rates come from the board's board.toml, bytes from the models' shapes and formats, memory for experts from the board's
profile, hits from published routing traces replayed at that cache size. What the arithmetic itself takes, contexts, and heat come on top.
"""

import pathlib
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
GIB, MIB = 1 << 30, 1 << 20

# Bytes of 256 weights.
Q4_K, Q6_K, F32 = 144, 210, 1024

# Hit rates on published traces by the multiple of one token's experts that the cache holds, the better one of LRU and LFU;
# with everything in memory all are hits. In between on a straight line, below one token's experts none.
MODELS = {
    "OLMoE-1B-7B Q4_K_M": {
        "layers": 16, "embedding": 2048, "heads": 16, "kv_heads": 16, "head": 128, "experts": 64, "used": 8,
        "width": 1024, "vocabulary": 50304,
        "hits": [(1, 0.319), (2, 0.60), (4, 0.806), (6, 0.936), (8, 1.0)],
    },
    "Qwen3-30B-A3B Q4_K_M": {
        "layers": 48, "embedding": 2048, "heads": 32, "kv_heads": 4, "head": 128, "experts": 128, "used": 8,
        "width": 768, "vocabulary": 151936,
        "hits": [(1, 0.277), (2, 0.56), (4, 0.741), (6, 0.865), (8, 0.930), (16, 1.0)],
    },
}


def matrix(rows, columns, block):
    return rows * columns // 256 * block


def more_bits(layer, layers):
    """Whether a layer of a Q4_K_M file has its value and down matrices in Q6_K, by llama.cpp's rule."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


class Model:
    def __init__(self, name):
        self.name = name
        shape = MODELS[name]
        self.shape = shape
        embedding, layers = shape["embedding"], shape["layers"]
        queries, keys = shape["heads"] * shape["head"], shape["kv_heads"] * shape["head"]
        self.active_bytes = 0
        attention = 0
        for layer in range(layers):
            wide = Q6_K if more_bits(layer, layers) else Q4_K
            expert = 2 * matrix(shape["width"], embedding, Q4_K) + matrix(embedding, shape["width"], wide)
            self.active_bytes += expert * shape["used"]
            attention += 2 * matrix(queries, embedding, Q4_K) + matrix(keys, embedding, Q4_K) + matrix(keys, embedding, wide)
            attention += matrix(shape["experts"], embedding, F32) + 2 * 4 * embedding
        self.full_bytes = self.active_bytes * shape["experts"] // shape["used"]
        head = matrix(shape["vocabulary"], embedding, Q6_K)
        # Of the embedding a token takes one row.
        self.touched_bytes = attention + head + self.active_bytes
        self.resident_bytes = attention + head + matrix(shape["vocabulary"], embedding, Q4_K)
        assert (layers, embedding) != (48, 2048) or self.active_bytes == 8 * 24 * (2654208 + 3059712), "Qwen3's experts"

    def hits(self, multiple):
        points = self.shape["hits"]
        if multiple < points[0][0]:
            return 0.0
        for (low, a), (high, b) in zip(points, points[1:]):
            if multiple <= high:
                return a + (b - a) * (multiple - low) / (high - low)
        return points[-1][1]

    def cache_bytes(self, profile):
        """What a profile's memory leaves for experts, as `sluice plan` reckons, to some percent."""
        memory = size(profile["memory"])
        positions = profile["ctx"] * profile["slots"]
        element = {"f16": 2, "q8_0": 34 / 32}[profile["kv"]]
        keys = int(2 * self.shape["layers"] * self.shape["kv_heads"] * self.shape["head"] * positions * element)
        # Buffers of a prompt's chunk take a 32nd at most, and 136 MiB for the longest one; vocabulary and program some
        # 50 MiB; the tables of the cache and the kernel's a percent of it.
        left = memory - self.resident_bytes - keys - min(memory // 32, 136 * MIB) - 50 * MIB
        return max(0, min(self.full_bytes, int(left * 0.99)))


def size(text):
    return int(float(text[:-1]) * {"M": MIB, "G": GIB}[text[-1]])


def speed(model, profile, dram, nvme):
    """(cache multiple, hit rate, tokens per second, what bounds it); None if the model does not fit."""
    cache = model.cache_bytes(profile)
    multiple = cache / model.active_bytes
    if cache < model.active_bytes / model.shape["layers"]:
        return None
    hits = 1.0 if cache >= model.full_bytes else model.hits(multiple)
    memory = model.touched_bytes / (dram * 1e9)
    disk = model.active_bytes * (1 - hits) / (nvme * 1e9)
    return multiple, hits, 1 / max(memory, disk), "NVMe" if disk > memory else "DRAM"


class Board:
    """A folder: board.toml is what the board has, profile what Sluice is given of it."""

    def __init__(self, folder):
        self.folder = folder
        facts = tomllib.loads((folder / "board.toml").read_text())
        self.profile = tomllib.loads((folder / "profile").read_text())
        self.name, self.memory_bytes = facts["name"], facts["memory_bytes"]
        self.peak, self.rate = facts["dram_gbs"], facts["dram_gbs"] * facts["dram_share"]
        self.slots = [(drive["link"], drive["gbs"]) for drive in facts["nvme"]]


def boards():
    """All of them, the slowest memory first."""
    return sorted((Board(path.parent) for path in HERE.glob("*/board.toml")), key=lambda board: (board.peak, board.memory_bytes))


def rows(board):
    for name in MODELS:
        model = Model(name)
        for slot, nvme in board.slots:
            found = speed(model, board.profile, board.rate, nvme)
            if found is None:
                yield [board.name, slot, name, "does not fit", "", "", ""]
                continue
            multiple, hits, tokens, bound = found
            held = "all" if hits == 1 else f"{multiple:.1f}x"
            yield [board.name, slot, name, held, f"{hits * 100:.0f} %", f"{tokens:.1f}", bound]


def table(heads, lines):
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, ["---"] * len(heads), *lines])


def summary():
    heads = ["board", "NVMe", "model", "expert cache", "hits", "tok/s at most", "bound by"]
    return table(heads, [row for board in boards() for row in rows(board)])


def of_board(board):
    profile = board.profile
    lines = [row[1:] for row in rows(board)]
    rates = ", ".join(f"{rate:g} GB/s ({slot})" for slot, rate in board.slots)
    return (
        f"Computed by `boards/expected.py`, not measured: DRAM {board.peak:g} GB/s, of which {board.rate:.1f} are taken to be "
        f"reached; NVMe {rates}; memory {profile['memory']}, {profile['slots']} x {profile['ctx']} positions in "
        f"{profile['kv']}. Ceilings: the slower of all bytes of a token from DRAM and of its missing experts from NVMe.\n\n"
        + table(["NVMe", "model", "expert cache", "hits", "tok/s at most", "bound by"], lines)
    )


BEGIN, END = "<!-- computed: boards/expected.py -->", "<!-- end of computed -->"


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__.strip())
    stale = []
    for path, text in [(HERE / "README.md", summary())] + [(board.folder / "README.md", of_board(board)) for board in boards()]:
        old = path.read_text()
        start, end = old.index(BEGIN) + len(BEGIN), old.index(END)
        new = f"{old[:start]}\n{text}\n{old[end:]}"
        if new != old:
            stale.append(path)
            if not sys.argv[1:]:
                path.write_text(new)
    for path in stale:
        print(f"{path.relative_to(HERE.parent)}: {'out of date; run boards/expected.py' if sys.argv[1:] else 'written'}")
    sys.exit(1 if stale and sys.argv[1:] else 0)


if __name__ == "__main__":
    main()
