#!/usr/bin/env python3
"""Writes Tests/Fixtures/kernels/*.bin: quantised rows and what the `gguf` package decodes them to.

The kernels' scalar reference is tested against these, so that it rests on something this project
did not write. Each file: uint32 rows, uint32 columns, the rows' blocks, then rows x columns
float32, all little-endian. The first rows have usual scales, the last one the smallest a block can
have. Needs `gguf` and numpy; installs them into .venv if they are missing.
"""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

try:
    import numpy as np
    from gguf import GGMLQuantizationType as Type
    from gguf.quants import dequantize
except ImportError:
    python = ROOT / ".venv" / "bin" / "python"
    if pathlib.Path(sys.prefix) == python.parent.parent:
        raise
    if not python.exists():
        subprocess.check_call([sys.executable, "-m", "venv", str(ROOT / ".venv")])
    subprocess.check_call([str(python), "-m", "pip", "install", "-q", "gguf", "numpy"])
    sys.exit(subprocess.call([str(python), *sys.argv]))

ROWS, COLUMNS = 3, 512

# Elements and bytes of a block, and where in it half-precision scales are.
BLOCKS = {
    Type.F16: (1, 2, []),
    Type.BF16: (1, 2, []),
    Type.Q4_0: (32, 18, [0]),
    Type.Q8_0: (32, 34, [0]),
    Type.MXFP4: (32, 17, []),
    Type.Q4_K: (256, 144, [0, 2]),
    Type.Q5_K: (256, 176, [0, 2]),
    Type.Q6_K: (256, 210, [208]),
    Type.IQ4_XS: (256, 136, [0]),
}


def make_blocks(kind, generator):
    elements, size, scales = BLOCKS[kind]
    blocks = generator.integers(0, 256, (ROWS, COLUMNS // elements, size), dtype=np.uint8)
    shape = blocks.shape[:2]
    tiny = np.arange(ROWS)[:, None] == ROWS - 1
    for at in scales:
        usual = generator.uniform(0.001, 0.05, shape).astype(np.float16).view(np.uint16)
        small = generator.integers(0, 3, shape, dtype=np.uint16)
        halves = np.where(tiny, small, usual).astype("<u2")
        blocks[:, :, at : at + 2] = halves[:, :, None].view(np.uint8)
    if kind == Type.MXFP4:
        usual = generator.integers(118, 130, shape)
        small = generator.integers(0, 3, shape)
        blocks[:, :, 0] = np.where(tiny, small, usual)
    if kind in (Type.F16, Type.BF16):
        values = generator.standard_normal(shape).astype(np.float32)
        if kind == Type.F16:
            bits = np.where(tiny, values * 1e-7, values).astype("<f2").view(np.uint16)
        else:
            bits = np.where(tiny, values * 1e-38, values).astype("<f4").view(np.uint32) >> 16
        bits = bits.astype("<u2")
        blocks = bits[:, :, None].view(np.uint8)
    return blocks.reshape(ROWS, -1)


def main():
    folder = ROOT / "Tests" / "Fixtures" / "kernels"
    folder.mkdir(parents=True, exist_ok=True)
    for kind in BLOCKS:
        rows = make_blocks(kind, np.random.default_rng(20 + int(kind)))
        decoded = dequantize(rows, kind).astype("<f4").reshape(ROWS, COLUMNS)
        assert np.isfinite(decoded).all(), kind
        with open(folder / f"{kind.name}.bin", "wb") as file:
            file.write(np.array([ROWS, COLUMNS], "<u4").tobytes())
            file.write(rows.tobytes())
            file.write(decoded.tobytes())


if __name__ == "__main__":
    main()
