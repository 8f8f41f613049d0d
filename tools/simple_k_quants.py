"""Q4_K and Q6_K encoders, plain and without any search for the best scales.

They exist to make test files: the gguf package decodes K-quants but does not write them. Blocks are legal and
sensible, their values are a little worse than llama.cpp's own. Layouts (256 weights per block):

  Q4_K  d f16 | dmin f16 | 12 bytes: eight 6-bit scales and mins | 128 bytes: 4-bit q     w = d*sc*q - dmin*m
  Q6_K  128 bytes: low 4 bits | 64 bytes: high 2 bits | 16 int8 scales | d f16            w = d*sc*(q - 32)
"""

import numpy as np
from gguf import GGMLQuantizationType as Kind


def quantize(array, kind):
    """uint8 (..., bytes per row) of a float32 array whose rows are multiples of 256."""
    if array.shape[-1] % 256:
        raise ValueError(f"rows of {array.shape[-1]} weights are no multiple of 256")
    blocks = array.reshape(-1, 256).astype(np.float32)
    packed = {Kind.Q4_K: q4_k, Kind.Q6_K: q6_k}[kind](blocks)
    return packed.reshape(*array.shape[:-1], -1)


def half_bytes(values):
    """Bytes (n, 2) and float32 values of numbers rounded to f16."""
    half = values.astype(np.float16)
    return half.view(np.uint8).reshape(-1, 2), half.astype(np.float32)


def safe_inverse(values):
    return np.where(values == 0, 0, 1 / np.where(values == 0, 1, values))


def q4_k(blocks):
    groups = blocks.reshape(-1, 8, 32)
    low = np.minimum(groups.min(-1), 0)
    scale, offset = (groups.max(-1) - low) / 15, -low
    d_bytes, d = half_bytes(scale.max(-1) / 63)
    m_bytes, dmin = half_bytes(offset.max(-1) / 63)
    sc = np.clip(np.rint(scale * safe_inverse(d)[:, None]), 0, 63).astype(np.uint8)
    m = np.clip(np.rint(offset * safe_inverse(dmin)[:, None]), 0, 63).astype(np.uint8)
    step, base = d[:, None] * sc, dmin[:, None] * m
    q = np.rint((groups + base[..., None]) * safe_inverse(step)[..., None])
    q = np.clip(q, 0, 15).astype(np.uint8)
    scales = np.concatenate([
        sc[:, :4] | (sc[:, 4:] >> 4) << 6, m[:, :4] | (m[:, 4:] >> 4) << 6,
        (sc[:, 4:] & 15) | (m[:, 4:] & 15) << 4], axis=1)
    # A run of 32 bytes holds two groups: the first in the low nibbles, the second in the high ones.
    pairs = q.reshape(-1, 4, 2, 32)
    nibbles = (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128)
    return np.concatenate([d_bytes, m_bytes, scales, nibbles], axis=1)


def q6_k(blocks):
    groups = blocks.reshape(-1, 16, 16)
    peak = np.take_along_axis(groups, np.abs(groups).argmax(-1)[..., None], -1)[..., 0]
    scale = peak / -32
    widest = np.take_along_axis(scale, np.abs(scale).argmax(-1)[:, None], -1)[:, 0]
    d_bytes, d = half_bytes(widest / -128)
    sc = np.clip(np.rint(scale * safe_inverse(d)[:, None]), -128, 127).astype(np.int8)
    q = np.rint(groups * safe_inverse(d[:, None] * sc)[..., None])
    q = (np.clip(q, -32, 31) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    # Each half of a block: four runs of 32 weights, whose high pairs of bits share 32 bytes.
    low = np.concatenate([q[:, :, 0] & 15 | (q[:, :, 2] & 15) << 4, q[:, :, 1] & 15 | (q[:, :, 3] & 15) << 4], axis=-1)
    high = q[:, :, 0] >> 4 | q[:, :, 1] >> 4 << 2 | q[:, :, 2] >> 4 << 4 | q[:, :, 3] >> 4 << 6
    return np.concatenate([low.reshape(-1, 128), high.reshape(-1, 64), sc.view(np.uint8), d_bytes], axis=1)
