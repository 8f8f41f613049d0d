// One token, where memory is the limit and every instruction counts: what the instruction sets that
// have kernels of their own for it share.
//
// A tile is 16 rows, in groups of four. What is done once per block of activations, and the last
// steps of the reductions, are shared by all of them.
//
// Rows are short (1 to 8 KB) for the hardware's prefetchers, which follow streams: 16 of them end
// before they are recognised. So a kernel asks for the next tile, which lies behind this one in one
// piece, in order of address, each line once, and evenly: what is asked for while too much is under
// way the processor forgets. Two cores of an EPYC 9005 reading Q4_K from DRAM were 2 to 3 times as
// fast as without, and 5 to 8% faster than with the requests of four rows in one place. Nearer or
// further ahead was no faster, and into the second-level cache only, slower. The last tile asks, too:
// a matrix is multiplied some rows at a time, and what lies behind these rows comes next. Without that
// calls of 48 rows of Q4_K reached 72% of a plain read instead of 98%.
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
    stream.next = matrix + (r + narrow_rows) * row_bytes;
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
    int asks;               // whether to ask for what follows
} narrow_tile;

SLUICE_INLINE void tile_at(
    narrow_tile *tile, const uint8_t *blocks, size_t row_bytes, const sluice_planes *weights,
    uint32_t r, uint32_t rows) {
    tile->live = rows - r < narrow_rows ? rows - r : narrow_rows;
    tile->groups = (tile->live + 3) / 4;
    tile->asks = 1;
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

// The last blocks of 32, padded to eight with zeros: those add +0, which changes nothing.
typedef struct {
    uint8_t rows[narrow_rows][8 * 34];
    int8_t q[256];
    float scale[8];
} narrow_rest;

// Makes the tile's rows begin with their blocks from b on.
SLUICE_INLINE void narrow_pad(
    narrow_rest *rest, narrow_tile *tile, record_a32 x, uint32_t b, uint32_t blocks,
    size_t stride) {
    memset(rest, 0, sizeof *rest);
    for (uint32_t i = 0; i < narrow_rows; i++) {
        memcpy(rest->rows[i], tile->blocks.row[i] + b * stride, (blocks - b) * stride);
        tile->blocks.row[i] = rest->rows[i];
    }
    memcpy(rest->q, x.q + (size_t)b * 32, (blocks - b) * 32);
    memcpy(rest->scale, x.scale + b, (blocks - b) * sizeof(float));
    tile->asks = 0;
}

// Defines narrow_<format> and narrow_planar_<kind> from an instruction set's
//     narrow_eight, narrow_super(format, blocks, row_bytes, planes, shape, rows, x, n, y)
// for blocks of 32 and of 256; without planes, `planes` is NULL. They return 1: it is done.
#define SLUICE_NARROW_BLOCKS(format, kind)                                                         \
    static int narrow_##format(                                                                    \
        const void *weights, size_t row_bytes, uint32_t rows, const void *x, uint32_t n,           \
        float *y) {                                                                                \
        narrow_##kind(kind##_##format, weights, row_bytes, NULL, 0, rows, x, n, y);                \
        return 1;                                                                                  \
    }

// The usual shapes are constants to the compiler, as for the tiles.
#define SLUICE_NARROW_SHAPE(kind, format, known)                                                   \
    if (shape == known) {                                                                          \
        narrow_##kind(                                                                             \
            format, weights->scales, weights->scale_bytes, weights, known, rows, x, n, y);         \
        return 1;                                                                                  \
    }

#define SLUICE_NARROW_PLANAR(name, kind, format, twos, fours)                                      \
    static int narrow_planar_##name(                                                               \
        const sluice_planes *weights, uint32_t rows, const void *x, uint32_t n, float *y) {        \
        uint32_t shape = planes_of(weights).shape;                                                 \
        SLUICE_NARROW_SHAPE(kind, format, 0x2)                                                     \
        SLUICE_NARROW_SHAPE(kind, format, 0x22)                                                    \
        SLUICE_NARROW_SHAPE(kind, format, 0x12)                                                    \
        SLUICE_NARROW_SHAPE(kind, format, 0x112)                                                   \
        SLUICE_NARROW_SHAPE(kind, format, twos)                                                    \
        SLUICE_NARROW_SHAPE(kind, format, 0x4)                                                     \
        SLUICE_NARROW_SHAPE(kind, format, fours)                                                   \
        narrow_##kind(                                                                             \
            format, weights->scales, weights->scale_bytes, weights, shape, rows, x, n, y);         \
        return 1;                                                                                  \
    }

#define SLUICE_NARROW_KERNELS                                       \
    SLUICE_NARROW_BLOCKS(q4_0, eight)                               \
    SLUICE_NARROW_BLOCKS(q8_0, eight)                               \
    SLUICE_NARROW_BLOCKS(mxfp4, eight)                              \
    SLUICE_NARROW_BLOCKS(q4_K, super)                               \
    SLUICE_NARROW_BLOCKS(q5_K, super)                               \
    SLUICE_NARROW_BLOCKS(q6_K, super)                               \
    SLUICE_NARROW_BLOCKS(iq4_xs, super)                             \
    SLUICE_NARROW_PLANAR(32, eight, eight_planar, 0x422, 0x44)      \
    SLUICE_NARROW_PLANAR(k, super, super_planar_k, 0x122, 0x14)     \
    SLUICE_NARROW_PLANAR(q6_K, super, super_planar_q6_K, 0x222, 0x24)

#endif
