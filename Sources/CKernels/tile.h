// From tiles to a gemm.
//
// A tile is four weight rows against a few tokens: an instruction set unpacks each block once for
// all tokens, loads the activations once for all rows, and reduces four sums in one tree. Rows that do not
// fill a tile repeat its last row and throw the copies away.
//
// A tile is an always-inlined function
//     tile(w[4], x, x_stride_bytes, n, tokens, out[tokens][4])
// whose `tokens` is a constant at each call, so that its loops unroll and its accumulators live in registers.
#ifndef SLUICE_TILE_H
#define SLUICE_TILE_H

#include "blocks.h"

SLUICE_INLINE void store_tile(
    const float (*out)[4], uint32_t tokens, uint32_t live, float *y, size_t y_stride) {
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t r = 0; r < live; r++) y[t * y_stride + r] = out[t][r];
    }
}

#define SLUICE_TILES(tile, at_once)                                                   \
    for (; t + at_once <= tokens; t += at_once) {                                     \
        tile(w, (const uint8_t *)x + t * x_stride_bytes, x_stride_bytes, n, at_once, out); \
        store_tile((const float(*)[4])out, at_once, live, y + t * y_stride + r, y_stride); \
    }

// Defines gemm_<format> from tile_<format>, taking up to `most` (1, 2 or 4) tokens at once.
#define SLUICE_TILED_GEMM(format, most)                                                        \
    static void gemm_##format(                                                                 \
        const void *weights, size_t row_bytes, uint32_t rows, const void *x,                   \
        size_t x_stride_bytes, uint32_t tokens, uint32_t n, float *y, size_t y_stride) {       \
        for (uint32_t r = 0; r < rows; r += 4) {                                               \
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

#endif
