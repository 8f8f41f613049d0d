// From tiles to a gemm.
//
// A tile is four weight rows against a few tokens: an instruction set unpacks each block once for
// all tokens, loads the activations once for all rows, and reduces four sums in one tree. Rows that
// do not fill a tile repeat its last row and throw the copies away.
//
// A tile is an always-inlined function
//     tile(w[4], x, x_stride_bytes, n, tokens, ahead, out[tokens][4])
// whose `tokens` is a constant at each call, so that its loops unroll and its accumulators live in
// registers.
//
// Rows are short (1 to 8 KB) for the hardware's prefetchers: four streams that end before they are
// recognised. So with one token, where memory is the limit, a tile asks for the tile to come,
// `ahead` bytes on, while it works. On a matrix in DRAM that took one core of an EPYC 9005 from 11
// to 35 GB/s (Q6_K, 2048 columns).
#ifndef SLUICE_TILE_H
#define SLUICE_TILE_H

#include "blocks.h"

SLUICE_INLINE void store_tile(
    const float (*out)[4], uint32_t tokens, uint32_t live, float *y, size_t y_stride) {
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t r = 0; r < live; r++) y[t * y_stride + r] = out[t][r];
    }
}

// Asks for `bytes` bytes that lie `ahead` of p. The address may be beyond the matrix: asking is not
// touching.
SLUICE_INLINE void prefetch(const uint8_t *p, size_t ahead, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch((const void *)((uintptr_t)p + ahead + i), 0, 3);
    }
}

// The fewest whole tiles that make 8 KB, the best of 4, 8, 12 and 16 where that was measured.
SLUICE_INLINE size_t prefetch_distance(size_t row_bytes) {
    size_t tile = 4 * row_bytes;
    return tile == 0 ? 0 : (8191 / tile + 1) * tile;
}

// How many rows, from the first on, an instruction set multiplies in its own way before tiles take
// the rest; `gemm` is the format, or planar_<kind>, then come its arguments. An instruction set
// that has such a way redefines this before it makes its gemms (wide.h does).
#define SLUICE_WIDE(gemm, ...) 0

#define SLUICE_TILES(tile, at_once)                                                               \
    for (; t + at_once <= tokens; t += at_once) {                                                 \
        tile(w, (const uint8_t *)x + t * x_stride_bytes, x_stride_bytes, n, at_once, ahead, out); \
        store_tile((const float (*)[4])out, at_once, live, y + t * y_stride + r, y_stride);       \
    }

// Defines gemm_<format> from tile_<format>, taking up to `most` (1, 2 or 4) tokens at once.
#define SLUICE_TILED_GEMM(format, most)                                                        \
    static void gemm_##format(                                                                 \
        const void *weights, size_t row_bytes, uint32_t rows, const void *x,                   \
        size_t x_stride_bytes, uint32_t tokens, uint32_t n, float *y, size_t y_stride) {       \
        size_t ahead = prefetch_distance(row_bytes);                                           \
        uint32_t first = SLUICE_WIDE(                                                          \
            format, weights, row_bytes, rows, x, x_stride_bytes, tokens, n, y, y_stride);      \
        for (uint32_t r = first; r < rows; r += 4) {                                           \
            uint32_t live = rows - r < 4 ? rows - r : 4, t = 0;                                \
            const uint8_t *w[4];                                                               \
            float out[4][4];                                                                   \
            for (uint32_t i = 0; i < 4; i++) {                                                 \
                w[i] = (const uint8_t *)weights + (r + (i < live ? i : live - 1)) * row_bytes; \
            }                                                                                  \
            if (most >= 4) SLUICE_TILES(tile_##format, 4)                                      \
            if (most >= 2) SLUICE_TILES(tile_##format, 2)                                      \
            SLUICE_TILES(tile_##format, 1)                                                     \
        }                                                                                      \
    }

// The planes of a tile's rows. Each row's scales stand where its blocks do otherwise.
typedef struct {
    const uint8_t *row[4][4];  // by plane, then by row
    size_t ahead[4];           // by plane, as of the blocks
    // Bits of the planes in order, a hexadecimal digit for each from the lowest on: 0x22 for 2+2.
    // A constant where a kernel is compiled for certain planes.
    uint32_t shape;
    // A doubled weight is 2^shift (u - centre) + middle, where u is the integer in the planes;
    // Q4_K and Q5_K have no centre.
    int32_t shift, centre, middle;
} tile_planes;

SLUICE_INLINE tile_planes planes_of(const sluice_planes *weights) {
    tile_planes planes;
    memset(&planes, 0, sizeof planes);
    for (int p = 0; p < weights->count; p++) {
        planes.ahead[p] = prefetch_distance(weights->plane_bytes[p]);
        planes.shape |= (uint32_t)weights->bits[p] << 4 * p;
    }
    planes.shift = weights->missing_bits + 1;
    planes.centre = integer_range(weights) >> planes.shift;
    planes.middle = (1 << weights->missing_bits) - 1;
    return planes;
}

// For each plane p of a shape from `first` on, with its bits. The number of turns is left open
// where the shape is: unrolled for four planes, the tiles of several tokens took up to 1.5 times as
// long.
#define SLUICE_FOR_PLANES(shape, first, p, bits)                             \
    for (uint32_t p = first, left_##p = (shape) >> 4 * (first), bits;        \
         (bits = left_##p & 15) != 0; left_##p >>= 4, p++)

// Planes merge: two of two bits are a plane of four, as a byte of either has elements i, i + 64,
// i + 128 and i + 192, and bytes i and 64 + i of the plane of four have the first and third of
// them and the second and fourth. Two of one bit are likewise a plane of two. So the first planes
// of 2+2 and of 2+1+1 take fewer steps than one by one. Returns how many planes that is, or 0.
SLUICE_INLINE uint32_t planes_to_merge(uint32_t shape) {
    return (shape & 0xff) == 0x22 ? 2 : (shape & 0xfff) == 0x112 ? 3 : 0;
}

// Asks for the planes of a unit of row r that is `ahead`.
SLUICE_INLINE void prefetch_planes(
    const tile_planes *planes, uint32_t shape, int r, uint32_t unit) {
    SLUICE_FOR_PLANES(shape, 0, p, bits) {
        const uint8_t *plane = planes->row[p][r] + (size_t)unit * 32 * bits;
        prefetch(plane, planes->ahead[p], 64);
        if (bits == 4) prefetch(plane + 64, planes->ahead[p], 64);
    }
}

#define SLUICE_PLANAR_TILES(tile, shape, at_once)                                             \
    for (; t + at_once <= tokens; t += at_once) {                                             \
        tile(                                                                                 \
            w, &planes, shape, (const uint8_t *)x + t * x_stride_bytes, x_stride_bytes, n,    \
            at_once, ahead, out);                                                             \
        store_tile((const float (*)[4])out, at_once, live, y + t * y_stride + r, y_stride);   \
    }

// One token, where unpacking weighs most, has a tile of its own for the usual planes: with AVX-512
// it took Q4_K in 2+2 from 16 to 28 million rows of 2048 a second in cache.
#define SLUICE_SHAPED_TILE(tile, known) \
    if (planes.shape == known) SLUICE_PLANAR_TILES(tile, known, 1)

// Defines planar_<kind> from planar_tile_<kind>, taking up to `most` (2 or 4) tokens at once;
// `twos` and `fours` are its formats' widest shapes after 2+2 and 4.
#define SLUICE_PLANAR_GEMM(kind, most, twos, fours)                                           \
    static void planar_##kind(                                                                \
        const sluice_planes *weights, uint32_t rows, const void *x, size_t x_stride_bytes,    \
        uint32_t tokens, uint32_t n, float *y, size_t y_stride) {                             \
        size_t ahead = prefetch_distance(weights->scale_bytes);                               \
        tile_planes planes = planes_of(weights);                                              \
        uint32_t first = SLUICE_WIDE(                                                         \
            planar_##kind, weights, rows, x, x_stride_bytes, tokens, n, y, y_stride);         \
        for (uint32_t r = first; r < rows; r += 4) {                                          \
            uint32_t live = rows - r < 4 ? rows - r : 4, t = 0;                               \
            const uint8_t *w[4];                                                              \
            float out[4][4];                                                                  \
            for (uint32_t i = 0; i < 4; i++) {                                                \
                size_t row = r + (i < live ? i : live - 1);                                   \
                w[i] = weights->scales + row * weights->scale_bytes;                          \
                for (uint32_t p = 0; p < weights->count; p++) {                               \
                    planes.row[p][i] = weights->plane[p] + row * weights->plane_bytes[p];     \
                }                                                                             \
            }                                                                                 \
            if (most >= 4) SLUICE_PLANAR_TILES(planar_tile_##kind, planes.shape, 4)           \
            SLUICE_PLANAR_TILES(planar_tile_##kind, planes.shape, 2)                          \
            SLUICE_SHAPED_TILE(planar_tile_##kind, 0x2)                                       \
            SLUICE_SHAPED_TILE(planar_tile_##kind, 0x22)                                      \
            SLUICE_SHAPED_TILE(planar_tile_##kind, 0x12)                                      \
            SLUICE_SHAPED_TILE(planar_tile_##kind, 0x112)                                     \
            SLUICE_SHAPED_TILE(planar_tile_##kind, twos)                                      \
            SLUICE_SHAPED_TILE(planar_tile_##kind, 0x4)                                       \
            SLUICE_SHAPED_TILE(planar_tile_##kind, fours)                                     \
            SLUICE_PLANAR_TILES(planar_tile_##kind, planes.shape, 1)                          \
        }                                                                                     \
    }

// Defines planar_tile_<name> from <kind>_tile for blocks of `format`, and the gemm of it. An instruction
// set has one <kind>_tile for every kind of block, packed or in planes.
#define SLUICE_PLANAR_KERNEL(name, kind, format, most, twos, fours)                             \
    SLUICE_INLINE void planar_tile_##name(                                                      \
        const uint8_t *const w[4], const tile_planes *planes, uint32_t shape, const uint8_t *x, \
        size_t x_stride, uint32_t n, int tokens, size_t ahead, float (*out)[4]) {               \
        kind##_tile(format, w, planes, shape, x, x_stride, n, tokens, ahead, out);              \
    }                                                                                           \
    SLUICE_PLANAR_GEMM(name, most, twos, fours)

#endif
