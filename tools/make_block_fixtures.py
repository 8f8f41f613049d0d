#!/usr/bin/env python3
"""Makes Tests/Fixtures/blocks: blocks of every weight format and the floats they mean.

The floats are those of the dequantisers of the `gguf` Python package, in their bits. Run it where numpy
and gguf are installed (pip install "gguf==0.19.0"); the files it writes are committed and it always
writes the same ones.

Each file, NAME.bin, is little-endian:
    8 bytes "BLOCKS1\\n" | u32 format number | u32 count of blocks | u32 bytes of a block | u32 elements of a block
    the blocks | the floats
"""
import argparse
import struct
from pathlib import Path

import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

# Format and the offsets of its half-precision numbers within a block.
FORMATS = {
    T.F32: (), T.F16: (0,), T.BF16: (), T.Q4_0: (0,), T.Q4_1: (0, 2), T.Q5_0: (0,), T.Q5_1: (0, 2),
    T.Q8_0: (0,), T.Q2_K: (80, 82), T.Q3_K: (108,), T.Q4_K: (0, 2), T.Q5_K: (0, 2), T.Q6_K: (208,),
    T.IQ4_NL: (0,), T.IQ4_XS: (0,), T.MXFP4: (), T.TQ1_0: (52,), T.TQ2_0: (64,),
}

# Zero and its negative, subnormals, the smallest and largest normals, 1, infinities, NaNs.
EXTREME_HALVES = [
    0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x83FF, 0x0400, 0x8400, 0x7BFF, 0xFBFF, 0x3C00, 0xBC00,
    0x7C00, 0xFC00, 0x7E00, 0xFE00,
]
EXTREME_FLOATS = [
    0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000,
    0xFF800000, 0x7FC00000, 0x3F800000, 0x3F800001,
]


def plain(kind, random):
    """Blocks of one element: extremes, then random bits."""
    if kind == T.F32:
        tail = random.integers(0, 1 << 32, 500, dtype=np.uint64)
        return np.array(EXTREME_FLOATS + list(tail), dtype="<u4").view(np.uint8).reshape(-1, 4)
    if kind == T.BF16:
        tail = random.integers(0, 1 << 16, 500, dtype=np.uint64)
        head = [bits >> 16 for bits in EXTREME_FLOATS]
        return np.array(head + list(tail), dtype="<u2").view(np.uint8).reshape(-1, 2)
    # The special ones, the smallest, and every 37th: every exponent with many fractions.
    bits = sorted(set(EXTREME_HALVES) | set(range(0, 1 << 16, 37)) | set(range(0, 64)))
    return np.array(bits, dtype="<u2").view(np.uint8).reshape(-1, 2)


def blocks_of(kind, halves, random):
    size = GGML_QUANT_SIZES[kind][1]
    rows = []
    # Sensible scales under random quants.
    for _ in range(8):
        block = random.integers(0, 256, size, dtype=np.uint8)
        for at in halves:
            scale = np.float16(random.uniform(-0.1, 0.1))
            block[at:at + 2] = np.frombuffer(scale.tobytes(), dtype=np.uint8)
        rows.append(block)
    # Extreme scales; with two of them, each against an ordinary other and both together.
    for at in halves:
        for bits in EXTREME_HALVES:
            block = random.integers(0, 256, size, dtype=np.uint8)
            for other in halves:
                block[other:other + 2] = np.frombuffer(struct.pack("<e", 0.0371), dtype=np.uint8)
            block[at:at + 2] = np.frombuffer(struct.pack("<H", bits), dtype=np.uint8)
            rows.append(block)
    # All quants and sub-scales at either end.
    for fill in (0x00, 0xFF, 0x55, 0xAA):
        block = np.full(size, fill, dtype=np.uint8)
        for at in halves:
            block[at:at + 2] = np.frombuffer(struct.pack("<e", -0.0123), dtype=np.uint8)
        rows.append(block)
    # Every exponent that is special.
    if kind == T.MXFP4:
        for exponent in (0, 1, 2, 3, 126, 127, 128, 252, 253, 254, 255):
            block = random.integers(0, 256, size, dtype=np.uint8)
            block[0] = exponent
            rows.append(block)
    return np.stack(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "Tests" / "Fixtures" / "blocks"
    parser.add_argument("--output", type=Path, default=default)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    np.seterr(all="ignore")
    for kind, halves in FORMATS.items():
        random = np.random.default_rng(int(kind) + 1)
        elements, size = GGML_QUANT_SIZES[kind]
        blocks = plain(kind, random) if elements == 1 else blocks_of(kind, halves, random)
        assert blocks.shape[1] == size
        floats = quants.dequantize(blocks, kind).astype("<f4", copy=False)
        assert floats.size == blocks.shape[0] * elements
        header = b"BLOCKS1\n" + struct.pack("<IIII", int(kind), blocks.shape[0], size, elements)
        (arguments.output / f"{kind.name}.bin").write_bytes(header + blocks.tobytes() + floats.tobytes())


if __name__ == "__main__":
    main()
