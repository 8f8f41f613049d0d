// One token, where memory is the limit and every instruction counts: what the instruction sets that
// have kernels of their own for it share.
//
// A tile is 16 rows, in groups of four. What is done once per block of activations, and the last
// steps of the reductions, are shared by all of them.
//
// Rows are short (1 to 8 KB) for the hardware's prefetchers, which follow streams: 16 of them end
// before they are recognised. So a kernel asks for the next tile, which lies behind this one in one
// piece, in order of address, each line once, and evenly: with too many requests at once the
// processor drops some. Two cores of an EPYC 9005 read Q4_K from DRAM 2.5 times as fast as without,
// and 8% faster than with the requests for four rows in one place. Nearer or further ahead, or into
// the second-level cache alone, was no faster.
#ifndef SLUICE_NARROW_H
#define SLUICE_NARROW_H

#include "tile.h"

enum { narrow_rows = 16 };

// Sixteen rows of one piece of memory; beyond the last row of the matrix, that row again.
typedef struct {
    const uint8_t *row[narrow_rows];
    const uint8_t *next;  // what to ask for next
} narrow_stream;

SLUICE_INLINE narrow_stream
stream_at(const uint8_t *matrix, size_t row_bytes, uint32_t r, uint32_t rows) {
    narrow_stream stream;
    const uint8_t *at = matrix + r * row_bytes;
    for (uint32_t i = 0; i < narrow_rows; i++) {
        stream.row[i] = at;
        if (r + i + 1 < rows) at += row_bytes;
    }
    stream.next = at;
    return stream;
}

// Asks for row r's part of what the next tile has in the place of these four rows, `bytes` of each.
SLUICE_INLINE void ask(const narrow_stream *stream, size_t bytes, int r) {
    size_t lines = (4 * bytes + 63) / 64;
    for (size_t i = lines * (size_t)r / 4; i < lines * ((size_t)r + 1) / 4; i++) {
        __builtin_prefetch((const void *)((uintptr_t)stream->next + 64 * i), 0, 3);
    }
}

// Goes on to the next four rows.
SLUICE_INLINE void ask_on(narrow_stream *stream, size_t bytes) { stream->next += 4 * bytes; }

// A tile's rows: blocks, or the scales and the planes.
typedef struct {
    narrow_stream blocks, planes[4];
    tile_planes of_group[4];
    uint32_t groups, live;  // of four rows; rows
    int asks;               // whether a tile follows
} narrow_tile;

SLUICE_INLINE void tile_at(
    narrow_tile *tile, const uint8_t *blocks, size_t row_bytes, const sluice_planes *weights,
    uint32_t r, uint32_t rows) {
    tile->live = rows - r < narrow_rows ? rows - r : narrow_rows;
    tile->groups = (tile->live + 3) / 4;
    tile->asks = rows - r > narrow_rows;
    tile->blocks = stream_at(blocks, row_bytes, r, rows);
    if (weights == NULL) return;
    for (int p = 0; p < weights->count; p++) {
        tile->planes[p] = stream_at(weights->plane[p], weights->plane_bytes[p], r, rows);
        for (int i = 0; i < narrow_rows; i++) {
            tile->of_group[i / 4].row[p][i % 4] = tile->planes[p].row[i];
        }
    }
}

SLUICE_INLINE void ask_planes(const narrow_tile *tile, uint32_t shape, int r) {
    SLUICE_FOR_PLANES(shape, 0, p, bits) ask(&tile->planes[p], 32 * bits, r);
}

SLUICE_INLINE void ask_on_planes(narrow_tile *tile, uint32_t shape) {
    SLUICE_FOR_PLANES(shape, 0, p, bits) ask_on(&tile->planes[p], 32 * bits);
}

// Calls tile(format, w, row_bytes, planes, shape, rows, x, n, y) for planes of a shape that is known
// to the compiler, if it is one of the usual ones.
#define SLUICE_NARROW_SHAPE(kernel, format, known)                                              \
    if (shape == known) {                                                                       \
        kernel(                                                                                 \
            format, weights->scales, weights->scale_bytes, weights, known, rows, x, n, y);      \
        return 1;                                                                               \
    }

#define SLUICE_NARROW_PLANAR(name, kernel, format, twos, fours)                                 \
    static int narrow_planar_##name(                                                            \
        const sluice_planes *weights, uint32_t rows, const void *x, uint32_t n, float *y) {     \
        uint32_t shape = planes_of(weights).shape;                                              \
        SLUICE_NARROW_SHAPE(kernel, format, 0x2)                                                \
        SLUICE_NARROW_SHAPE(kernel, format, 0x22)                                               \
        SLUICE_NARROW_SHAPE(kernel, format, 0x12)                                               \
        SLUICE_NARROW_SHAPE(kernel, format, 0x112)                                              \
        SLUICE_NARROW_SHAPE(kernel, format, twos)                                               \
        SLUICE_NARROW_SHAPE(kernel, format, 0x4)                                                \
        SLUICE_NARROW_SHAPE(kernel, format, fours)                                              \
        kernel(format, weights->scales, weights->scale_bytes, weights, shape, rows, x, n, y);   \
        return 1;                                                                               \
    }

#define SLUICE_NARROW_BLOCKS(format, kernel, kind)                                          \
    static int narrow_##format(                                                             \
        const void *weights, size_t row_bytes, uint32_t rows, const void *x, uint32_t n,    \
        float *y) {                                                                         \
        kernel(kind##_##format, weights, row_bytes, NULL, 0, rows, x, n, y);                \
        return 1;                                                                           \
    }

#endif
