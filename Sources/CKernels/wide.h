// Products with many tokens, written once for any width.
//
// The tiles of tile.h add up across a vector at the end of every block, which many tokens cannot
// share. Here a lane is a row: a panel of WIDE_GROUPS * WIDE_LANES rows is unpacked, 256 elements
// at a time, into vectors whose 32-bit lane r holds four consecutive elements of row r. Against
// them stand four activations, the same in every lane, and nothing is ever added across lanes:
//
//     block.q[j][g]    lane r: elements 4j ... 4j + 3 of row g * WIDE_LANES + r    (8 KB or 4 KB)
//     sum[t][g]        += four products in every lane, for WIDE_TOKENS tokens in registers
//
// An unpacked block serves up to `wide_most_tokens` tokens while it is in the first cache. The
// floating-point accumulators are on the stack, by token and row, and are added to in the order
// that CKernels.h defines. A panel that would go beyond the last row starts earlier instead, and
// computes some rows twice, to the same bits. All of it takes about 100 KB of stack.
//
// An instruction set defines, and then includes this file:
//
//     wi, wf              WIDE_LANES 32-bit integers, and as many floats
//     WIDE_GROUPS         vectors of rows in a panel
//     WIDE_TOKENS         tokens whose sums fit the registers together with them
//     WIDE_FEWEST_TOKENS_OF_32    from which on panels are faster than tiles for blocks of 32; for
//                         super-blocks that is 2
//     WIDE_DOTS           1 if four products of unsigned by signed bytes add into 32 bits at once
//                         (wi_add_dots); 0 if they add in pairs into 16 bits, saturating
//                         (wi_unsigned_pairs, wi_signed_pairs, wi_add_words, wi_sub_bytes)
//     wi_add_pairs        adds a pair of products of 16-bit numbers to every lane
//     wide_columns        16 bytes of every row as four vectors: dword i of row r in lane r of
//                         vector i; wide_eight_columns is the same for 32 bytes
//     WIDE_PIN(v)         v is in a register here: without it Clang moves the products of one token
//                         behind those of the others, and all the weights to the stack
//     wi_..., wf_...      loads and stores at the alignment of a vector, arithmetic by lanes;
//                         wf_of_halves widens the lower 16 bits of every lane
#ifndef SLUICE_WIDE_H
#define SLUICE_WIDE_H

#include "tile.h"

enum {
    wide_rows = WIDE_GROUPS * WIDE_LANES,
    wide_most_tokens = 48,  // of 24, 32 and 48 the fastest with every format
    wide_most_sums = 8192,  // 32 KB
    wide_units_ahead = 8,   // so that a panel's share of them stays within the second cache
};

#define WIDE_ALIGNED _Alignas(4 * WIDE_LANES)

// 256 elements of a panel's rows.
typedef struct {
    WIDE_ALIGNED uint32_t q[64][WIDE_GROUPS][WIDE_LANES];
    // Of super-blocks: the scale of every sub-block; pairs of 16-bit factors for the 16 sums of
    // activations, which make up for an offset of the weights; and pairs that make up M.
    WIDE_ALIGNED int32_t scale[16][WIDE_GROUPS][WIDE_LANES];
    WIDE_ALIGNED int32_t offset[8][WIDE_GROUPS][WIDE_LANES];
    WIDE_ALIGNED int32_t minimum[8][WIDE_GROUPS][WIDE_LANES];
    WIDE_ALIGNED float d[8][WIDE_GROUPS][WIDE_LANES];
    WIDE_ALIGNED float dmin[WIDE_GROUPS][WIDE_LANES];
} wide_block;

// Where a panel's rows are: the blocks, or the scales and the planes.
typedef struct {
    const uint8_t *row, *plane[4];
    size_t stride, plane_stride[4];
    uint32_t shape;
    int32_t shift, centre, middle;
} wide_panel;

SLUICE_INLINE wi wide_broadcast(const void *p) {
    int32_t bits;
    memcpy(&bits, p, 4);
    return wi_set1(bits);
}

SLUICE_INLINE wf wide_broadcast_float(const void *p) {
    float x;
    memcpy(&x, p, 4);
    return wf_set1(x);
}

// The lower halves of two vectors of lanes as pairs of 16-bit numbers.
SLUICE_INLINE wi wide_pairs(wi low, wi high) {
    return wi_or(wi_and(low, wi_set1(0xffff)), wi_left(high, 16));
}

// Byte i of every lane.
SLUICE_INLINE wi wide_byte(wi v, int i) { return wi_and(wi_right(v, 8 * i), wi_set1(255)); }

SLUICE_INLINE wi wide_signed_byte(wi v, int i) {
    return wi_signed_right(wi_left(v, 24 - 8 * i), 24);
}

// A scale as `wide_multiply` takes it.
SLUICE_INLINE void wide_store_scale(int32_t *p, wi v) {
    wi_store(p, WIDE_DOTS ? v : wide_pairs(v, v));
}

// MARK: Unpacking

// Four bits and four bits more of every byte.
SLUICE_INLINE wi wide_low(wi v) { return wi_and(v, wi_set1(0x0f0f0f0f)); }
SLUICE_INLINE wi wide_high(wi v) { return wide_low(wi_right(v, 4)); }

#define WIDE_PLANE(bits)                                                                          \
    for (uint32_t c = 0; c < bits; c++) {                                                         \
        wi columns[8];                                                                            \
        wide_eight_columns(plane + (size_t)g * WIDE_LANES * stride + 32 * c, stride, columns);    \
        for (uint32_t i = 0; i < 8; i++) {                                                        \
            for (int k = 0; k < 8 / bits; k++) {                                                  \
                uint32_t *q = block->q[8 * c + i + 8 * bits * (uint32_t)k][g];                    \
                wi v = wi_and(                                                                    \
                    wi_right(columns[i], bits * k), wi_set1(((1 << bits) - 1) * 0x01010101));     \
                if (p > 0) v = wi_or(v, wi_left(wi_load(q), bits));                               \
                wi_store(q, v);                                                                   \
            }                                                                                     \
        }                                                                                         \
    }

// The integers of a unit of planes: plane after plane moves up to make room for the next one's
// bits.
SLUICE_INLINE void wide_unpack_planes(const wide_panel *panel, uint32_t unit, wide_block *block) {
    for (int g = 0; g < WIDE_GROUPS; g++) {
        SLUICE_FOR_PLANES(panel->shape, 0, p, bits) {
            const uint8_t *plane = panel->plane[p] + (size_t)unit * 32 * bits;
            size_t stride = panel->plane_stride[p];
            if (bits == 4) {
                WIDE_PLANE(4)
            } else if (bits == 2) {
                WIDE_PLANE(2)
            } else {
                WIDE_PLANE(1)
            }
        }
    }
}

// Twice the value of an MXFP4 element plus 12, by its four bits; of an IQ4_XS element, plus 128
// where products are unsigned.
#define WIDE_MXFP4_TABLE _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0)
#define WIDE_IQ4_TABLE \
    _mm_xor_si128(_mm_setr_epi8(SLUICE_IQ4_VALUES), _mm_set1_epi8(WIDE_DOTS ? -128 : 0))

// Eight blocks of 32.
SLUICE_INLINE void wide_unpack_eight(
    int format, const wide_panel *panel, const uint8_t *rows, size_t stride, uint32_t unit,
    wide_block *block) {
    size_t size = eight_stride(format);
    if (format == eight_planar) {
        wide_unpack_planes(panel, unit, block);
#if !WIDE_DOTS
        // Signed, as up to eight bits are too many for pairs of unsigned products.
        wi centre = wi_set1((int)((uint32_t)panel->centre * 0x01010101u));
        for (int j = 0; j < 64; j++) {
            for (int g = 0; g < WIDE_GROUPS; g++) {
                wi_store(block->q[j][g], wi_sub_bytes(wi_load(block->q[j][g]), centre));
            }
        }
#endif
    }
    for (int g = 0; g < WIDE_GROUPS; g++) {
        const uint8_t *w = rows + (size_t)g * WIDE_LANES * stride;
        WIDE_ALIGNED float d[WIDE_LANES][8];
        wi v[8];
        for (size_t r = 0; r < WIDE_LANES; r++) {
            _mm256_store_ps(d[r], eight_scales(format, w + r * stride));
        }
        wide_eight_columns((const uint8_t *)d, sizeof d[0], v);
        for (int b = 0; b < 8; b++) wi_store(block->d[b][g], v[b]);
        if (format == eight_planar) continue;
        for (size_t b = 0; b < 8; b++) {
            if (format == eight_q8_0) {
                wide_eight_columns(w + b * size + 2, stride, v);
                for (size_t i = 0; i < 8; i++) {
                    if (WIDE_DOTS) v[i] = wi_xor(v[i], wi_set1((int)0x80808080));  // [0 .. 255]
                    wi_store(block->q[8 * b + i][g], v[i]);
                }
                continue;
            }
            wide_columns(w + b * size + (format == eight_q4_0 ? 2 : 1), stride, v);
            for (size_t i = 0; i < 4; i++) {
                wi low = wide_low(v[i]), high = wide_high(v[i]);
                if (format == eight_mxfp4) {
                    low = wi_look_up(WIDE_MXFP4_TABLE, low);  // [0 .. 24]
                    high = wi_look_up(WIDE_MXFP4_TABLE, high);
                }
                wi_store(block->q[8 * b + i][g], low);
                wi_store(block->q[8 * b + i + 4][g], high);
            }
        }
    }
}

// The scales and minima of Q4_K and Q5_K, from the first 16 bytes of the blocks.
SLUICE_INLINE void wide_unpack_k_scales(
    int format, const wide_panel *panel, const wi head[4], int g, wide_block *block) {
    const wi low = wi_set1(0x0f0f0f0f), six = wi_set1(0x3f3f3f3f), high = wi_set1(0x30303030);
    wf_store(block->d[0][g], wf_of_halves(head[0]));
    wf_store(block->dmin[g], wf_of_halves(wi_right(head[0], 16)));
    wi scales[2] = {
        wi_and(head[1], six), wi_or(wi_and(head[3], low), wi_and(wi_right(head[1], 2), high))};
    wi minima[2] = {
        wi_and(head[2], six),
        wi_or(wi_and(wi_right(head[3], 4), low), wi_and(wi_right(head[2], 2), high))};
    for (int j = 0; j < 8; j++) {
        wi scale = wide_byte(scales[j / 4], j % 4), m = wide_byte(minima[j / 4], j % 4);
        wi_store(block->minimum[j][g], wide_pairs(m, m));
        if (is_planar(format)) {
            wi middle = wi_multiply(scale, wi_set1(panel->middle));  // at most 63 * 31
            wi_store(block->offset[j][g], wide_pairs(middle, middle));
            scale = wi_left(scale, panel->shift);
        }
        wide_store_scale(block->scale[j][g], scale);
    }
}

SLUICE_INLINE void wide_unpack_super(
    int format, const wide_panel *panel, uint32_t unit, wide_block *block) {
    size_t stride = panel->stride;
    if (is_planar(format)) wide_unpack_planes(panel, unit, block);
    for (int g = 0; g < WIDE_GROUPS; g++) {
        const uint8_t *w =
            panel->row + (size_t)g * WIDE_LANES * stride + unit * super_bytes(format);
        wi head[4], v[8];
        wide_columns(w + (format == super_q6_K ? 192 : 0), stride, head);
        if (has_minimum(format)) wide_unpack_k_scales(format, panel, head, g, block);
        if (has_scales_of_16(format)) {
            int factor = is_planar(format) ? panel->middle - (panel->centre << panel->shift) : -32;
            wi scale[16];
            for (int j = 0; j < 16; j++) scale[j] = wide_signed_byte(head[j / 4], j % 4);
            for (int j = 0; j < 16; j++) {
                wi shifted = is_planar(format) ? wi_left(scale[j], panel->shift) : scale[j];
                wide_store_scale(block->scale[j][g], shifted);
                if (j % 2 == 0) continue;
                wi pair[2];  // within 128 * 64
                for (int i = 0; i < 2; i++) {
                    pair[i] = wi_multiply(scale[j - 1 + i], wi_set1(factor));
                }
                wi_store(block->offset[j / 2][g], wide_pairs(pair[0], pair[1]));
            }
            // d is in the last two bytes.
            wide_columns(w + super_d_offset(format) - 14, stride, v);
            wf_store(block->d[0][g], wf_of_halves(wi_right(v[3], 16)));
        }
        if (format == super_iq4_xs) {
            wf_store(block->d[0][g], wf_of_halves(head[0]));
            for (int j = 0; j < 8; j++) {
                wi low = wi_and(wi_right(head[1], 4 * j), wi_set1(15));
                wi high = wi_and(wi_right(head[0], 16 + 2 * j), wi_set1(3));
                wi scale = wi_add(wi_or(low, wi_left(high, 4)), wi_set1(-32));
                wide_store_scale(block->scale[j][g], scale);
                if (WIDE_DOTS) {
                    wi over = wi_multiply(scale, wi_set1(-128));
                    wi_store(block->offset[j][g], wide_pairs(over, over));
                }
            }
        }
        if (format == super_q4_K || format == super_q5_K) {
            wi fifth[8];
            if (format == super_q5_K) {
                wide_eight_columns(w + 16, stride, fifth);
            }
            for (uint32_t c = 0; c < 4; c++) {
                wide_eight_columns(w + (format == super_q4_K ? 16 : 48) + 32 * c, stride, v);
                for (uint32_t i = 0; i < 8; i++) {
                    uint32_t j = 16 * c + i;
                    wi low = wide_low(v[i]), high = wide_high(v[i]);
                    if (format == super_q5_K) {
                        wi bits = wi_right(fifth[i], (int)(2 * c));
                        const wi first = wi_set1(0x01010101);
                        low = wi_or(low, wi_left(wi_and(bits, first), 4));
                        high = wi_or(high, wi_left(wi_and(wi_right(bits, 1), first), 4));
                    }
                    wi_store(block->q[j][g], low);
                    wi_store(block->q[j + 8][g], high);
                }
            }
        }
        if (format == super_q6_K) {
            for (uint32_t half = 0; half < 2; half++) {
                wi even[8], odd[8];
                wide_eight_columns(w + 64 * half, stride, even);
                wide_eight_columns(w + 64 * half + 32, stride, odd);
                wide_eight_columns(w + 128 + 32 * half, stride, v);
                const wi upper = wi_set1(0x30303030);
                for (uint32_t i = 0; i < 8; i++) {
                    uint32_t j = 32 * half + i;
                    wi_store(
                        block->q[j][g],
                        wi_or(wide_low(even[i]), wi_and(wi_left(v[i], 4), upper)));
                    wi_store(
                        block->q[j + 8][g],
                        wi_or(wide_low(odd[i]), wi_and(wi_left(v[i], 2), upper)));
                    wi_store(
                        block->q[j + 16][g], wi_or(wide_high(even[i]), wi_and(v[i], upper)));
                    wi_store(
                        block->q[j + 24][g],
                        wi_or(wide_high(odd[i]), wi_and(wi_right(v[i], 2), upper)));
                }
            }
        }
        if (format == super_iq4_xs) {
            for (uint32_t c = 0; c < 4; c++) {
                wide_eight_columns(w + 8 + 32 * c, stride, v);
                for (uint32_t i = 0; i < 8; i++) {
                    uint32_t j = 16 * c + i / 4 * 8 + i % 4;
                    wi_store(block->q[j][g], wi_look_up(WIDE_IQ4_TABLE, wide_low(v[i])));
                    wi_store(block->q[j + 4][g], wi_look_up(WIDE_IQ4_TABLE, wide_high(v[i])));
                }
            }
        }
    }
}

// MARK: Multiplying

// Adds to sum[t][g] the products of the weights q[0 ... steps - 1] with the activations of `tokens`
// tokens from x on, times a scale by row if there is one. Of products in pairs `run` vectors fit 16
// bits.
SLUICE_INLINE void wide_multiply(
    const uint32_t (*q)[WIDE_GROUPS][WIDE_LANES], const int8_t *x, size_t x_stride, int steps,
    int run, int is_signed, const int32_t (*scale)[WIDE_LANES], int tokens,
    wi sum[WIDE_TOKENS][WIDE_GROUPS]) {
    wi part[WIDE_TOKENS][WIDE_GROUPS];
    for (int t = 0; t < tokens; t++) {
        for (int g = 0; g < WIDE_GROUPS; g++) part[t][g] = wi_set1(0);
    }
    if (WIDE_DOTS) run = steps;
    for (int i = 0; i < steps; i++) {
        wi w[WIDE_GROUPS];
        for (int g = 0; g < WIDE_GROUPS; g++) w[g] = wi_load(q[i][g]);
        for (int t = 0; t < tokens; t++) {
            wi activations = wide_broadcast(x + (size_t)t * x_stride + 4 * i);
            for (int g = 0; g < WIDE_GROUPS; g++) {
#if WIDE_DOTS
                if (scale == NULL) {
                    sum[t][g] = wi_add_dots(sum[t][g], w[g], activations);
                    WIDE_PIN(sum[t][g]);
                } else {
                    part[t][g] = wi_add_dots(part[t][g], w[g], activations);
                    WIDE_PIN(part[t][g]);
                }
#else
                wi products = is_signed ? wi_signed_pairs(w[g], activations)
                                        : wi_unsigned_pairs(w[g], activations);
                part[t][g] = wi_add_words(part[t][g], products);
                WIDE_PIN(part[t][g]);
#endif
            }
        }
        if ((i + 1) % run != 0) continue;
        for (int t = 0; t < tokens; t++) {
            for (int g = 0; g < WIDE_GROUPS; g++) {
#if WIDE_DOTS
                if (scale != NULL) {
                    wi scaled = wi_multiply(part[t][g], wi_load(scale[g]));
                    sum[t][g] = wi_add(sum[t][g], scaled);
                }
#else
                wi factor = scale == NULL ? wi_set1(0x00010001) : wi_load(scale[g]);
                sum[t][g] = wi_add_pairs(sum[t][g], part[t][g], factor);
                part[t][g] = wi_set1(0);
#endif
            }
        }
    }
    (void)is_signed;
}

// Adds to sum[t][g] the 16 sums of the activations times pairs of factors.
SLUICE_INLINE void wide_multiply_sums(
    const int32_t (*factors)[WIDE_GROUPS][WIDE_LANES], const int16_t *sums, size_t x_stride,
    int tokens, wi sum[WIDE_TOKENS][WIDE_GROUPS]) {
    for (int i = 0; i < 8; i++) {
        wi w[WIDE_GROUPS];
        for (int g = 0; g < WIDE_GROUPS; g++) w[g] = wi_load(factors[i][g]);
        for (int t = 0; t < tokens; t++) {
            wi pair = wide_broadcast((const uint8_t *)(sums + 2 * i) + (size_t)t * x_stride);
            for (int g = 0; g < WIDE_GROUPS; g++) {
                sum[t][g] = wi_add_pairs(sum[t][g], w[g], pair);
                WIDE_PIN(sum[t][g]);
            }
        }
    }
}

// One block of 256 against `tokens` tokens.
SLUICE_INLINE void wide_add_super(
    int format, const wide_block *block, int has_offset, const int8_t *q, const float *scale,
    const int16_t *sums, size_t x_stride, int tokens, float (*a)[WIDE_GROUPS][WIDE_LANES]) {
    int sub_blocks = has_scales_of_16(format) ? 16 : 8, steps = 64 / sub_blocks;
    // Pairs are within 2 * 127 times 15, 31, 63 or 127.
    int run = format == super_q4_K        ? 8
              : has_minimum(format)       ? 4
              : has_scales_of_16(format)  ? 2
                                          : 1;
    wi sum[WIDE_TOKENS][WIDE_GROUPS], minimum[WIDE_TOKENS][WIDE_GROUPS];
    for (int t = 0; t < tokens; t++) {
        for (int g = 0; g < WIDE_GROUPS; g++) sum[t][g] = minimum[t][g] = wi_set1(0);
    }
    if (has_offset) wide_multiply_sums(block->offset, sums, x_stride, tokens, sum);
    for (int j = 0; j < sub_blocks; j++) {
        wide_multiply(
            block->q + j * steps, q + j * steps * 4, x_stride, steps, run,
            format == super_iq4_xs, block->scale[j], tokens, sum);
    }
    if (has_minimum(format)) {
        wide_multiply_sums(block->minimum, sums, x_stride, tokens, minimum);
    }
    for (int t = 0; t < tokens; t++) {
        wf dx = wide_broadcast_float((const uint8_t *)scale + (size_t)t * x_stride);
        for (int g = 0; g < WIDE_GROUPS; g++) {
            wf s = wf_of_integers(sum[t][g]);
            if (is_planar(format)) s = wf_mul(s, wf_set1(0.5f));
            wf term = wf_mul(wf_mul(wf_load(block->d[0][g]), dx), s);
            if (has_minimum(format)) {
                wf m = wf_of_integers(minimum[t][g]);
                term = wf_sub(term, wf_mul(wf_mul(wf_load(block->dmin[g]), dx), m));
            }
            wf_store(a[t][g], wf_add(wf_load(a[t][g]), term));
        }
    }
}

// What is added to the sum of activations times weights, per activation: the weights' offset.
SLUICE_INLINE int wide_eight_factor(int format, const wide_panel *panel) {
    if (format == eight_planar) {
        return WIDE_DOTS ? panel->middle - (panel->centre << panel->shift) : panel->middle;
    }
    return format == eight_q4_0    ? -8
           : format == eight_mxfp4 ? -12
           : WIDE_DOTS             ? -128
                                   : 0;
}

// Up to eight blocks of 32 against `tokens` tokens. sums[t * sums_stride + b] is what
// the offset adds.
SLUICE_INLINE void wide_add_eight(
    int format, const wide_block *block, int shift, uint32_t blocks, const int8_t *q,
    const float *scale, size_t x_stride, const int32_t *sums, size_t sums_stride, int tokens,
    float (*a)[wide_most_tokens][WIDE_GROUPS][WIDE_LANES]) {
    int planar = format == eight_planar, is_signed = planar || format == eight_q8_0;
    // Pairs are within 2 * 127 times 15, 24 or 128.
    int run = format == eight_q4_0 ? 8 : format == eight_mxfp4 ? 4 : 1;
    for (uint32_t b = 0; b < blocks; b++) {
        wi sum[WIDE_TOKENS][WIDE_GROUPS];
        for (int t = 0; t < tokens; t++) {
            wi offset = wi_set1(sums[(size_t)t * sums_stride + b]);
            for (int g = 0; g < WIDE_GROUPS; g++) sum[t][g] = planar ? wi_set1(0) : offset;
        }
        wide_multiply(
            block->q + 8 * b, q + 32 * b, x_stride, 8, run, is_signed, NULL, tokens, sum);
        for (int t = 0; t < tokens; t++) {
            wf dx = wide_broadcast_float((const uint8_t *)(scale + b) + (size_t)t * x_stride);
            for (int g = 0; g < WIDE_GROUPS; g++) {
                wf s;
                if (planar) {
                    wi offset = wi_set1(sums[(size_t)t * sums_stride + b]);
                    s = wf_of_integers(wi_add(wi_left(sum[t][g], shift), offset));
                    s = wf_mul(s, wf_set1(0.5f));
                } else {
                    s = wf_of_integers(sum[t][g]);
                }
                wf term = wf_mul(wf_mul(wf_load(block->d[b][g]), dx), s);
                wf_store(a[b][t][g], wf_add(wf_load(a[b][t][g]), term));
            }
        }
    }
}

// MARK: Panels

// Defines a loop over `tokens` tokens, as many at once as there are registers for.
#define WIDE_FOR_TOKENS(call)                                                       \
    uint32_t t = 0;                                                                 \
    for (; t + WIDE_TOKENS <= tokens; t += WIDE_TOKENS) call(WIDE_TOKENS);          \
    if (WIDE_TOKENS > 4 && t + 4 <= tokens) { call(4); t += 4; }                    \
    if (WIDE_TOKENS > 2 && t + 2 <= tokens) { call(2); t += 2; }                    \
    if (t < tokens) call(1);

// Tokens to take with every unpacked block: the fewest passes, of about the same size.
SLUICE_INLINE uint32_t wide_tokens_at_once(uint32_t tokens, uint32_t most) {
    uint32_t passes = (tokens + most - 1) / most, each = (tokens + passes - 1) / passes;
    each = (each + WIDE_TOKENS - 1) / WIDE_TOKENS * WIDE_TOKENS;
    return each < most ? each : most;
}

// The rows that panels take: all, unless the last panel would have but a few of its own, which are
// cheaper as tiles.
SLUICE_INLINE uint32_t wide_rows_of(uint32_t rows) {
    return rows % wide_rows <= wide_rows / 4 ? rows / wide_rows * wide_rows : rows;
}

SLUICE_INLINE void wide_store(
    float (*a)[WIDE_GROUPS][WIDE_LANES], uint32_t tokens, float *y, size_t y_stride) {
    for (uint32_t t = 0; t < tokens; t++) {
        for (int g = 0; g < WIDE_GROUPS; g++) {
            wf_store_anywhere(y + t * y_stride + g * WIDE_LANES, wf_load(a[t][g]));
        }
    }
}

// Reads `bytes` bytes of every row, a line at a time. A panel takes a few lines of every row in
// turn, which no hardware's prefetcher recognises, and asking for them ahead fills the queue of
// misses; reading the rows one after the other first took Q4_K in DRAM from 160 to 320 GOP/s (8
// tokens).
SLUICE_INLINE void wide_read_ahead(const uint8_t *rows, size_t stride, size_t bytes) {
    for (uint32_t r = 0; r < wide_rows; r++) {
        const volatile uint8_t *row = rows + r * stride;
        for (size_t i = 0; i < bytes; i += 64) (void)row[i];
    }
}

// Reads ahead what units `unit` up to `end` have of the panel's rows, of blocks or of scales.
SLUICE_INLINE void wide_read_units_ahead(
    const wide_panel *panel, uint32_t unit, uint32_t end, size_t unit_bytes) {
    uint32_t units = end - unit < wide_units_ahead ? end - unit : wide_units_ahead;
    if (unit % wide_units_ahead != 0) return;
    wide_read_ahead(panel->row + unit * unit_bytes, panel->stride, units * unit_bytes);
    SLUICE_FOR_PLANES(panel->shape, 0, p, bits) {
        const uint8_t *plane = panel->plane[p] + (size_t)unit * 32 * bits;
        wide_read_ahead(plane, panel->plane_stride[p], units * 32 * bits);
    }
}

// The panel from row r on of a matrix, given its first panel.
SLUICE_INLINE wide_panel wide_panel_at(const wide_panel *first, uint32_t r) {
    wide_panel panel = *first;
    panel.row += r * panel.stride;
    for (int p = 0; p < 4; p++) {
        if (panel.plane[p] != NULL) panel.plane[p] += r * panel.plane_stride[p];
    }
    return panel;
}

typedef void (*wide_super_adder)(
    const wide_block *block, int has_offset, const int8_t *q, const float *scale,
    const int16_t *sums, size_t x_stride, uint32_t tokens, float (*a)[WIDE_GROUPS][WIDE_LANES]);

// Multiplies as many rows as are worth it, and returns how many.
SLUICE_INLINE uint32_t wide_super(
    int format, wide_super_adder add, const wide_panel *first, uint32_t rows, const uint8_t *x,
    size_t x_stride, uint32_t tokens, uint32_t n, float *y, size_t y_stride) {
    // With two tokens tiles are as fast in the first cache, but half as fast in DRAM. Planes take
    // longer to unpack.
    if (tokens < (is_planar(format) ? 5 : 2) || rows < wide_rows) return 0;
    WIDE_ALIGNED float a[wide_most_tokens][WIDE_GROUPS][WIDE_LANES];
    wide_block block;
    uint32_t taken = wide_rows_of(rows), step = wide_tokens_at_once(tokens, wide_most_tokens);
    int has_offset = format == super_planar_k ? first->middle != 0
                                              : !has_minimum(format)
                                                    && (WIDE_DOTS || format != super_iq4_xs);
    for (uint32_t t = 0; t < tokens; t += step) {
        uint32_t count = tokens - t < step ? tokens - t : step;
        record_a256 record = as_a256(x + t * x_stride, n);
        for (uint32_t r = 0; r < taken; r += wide_rows) {
            uint32_t start = taken - r < wide_rows ? taken - wide_rows : r;
            wide_panel panel = wide_panel_at(first, start);
            memset(a, 0, count * sizeof a[0]);
            for (uint32_t b = 0; b < n / 256; b++) {
                wide_read_units_ahead(&panel, b, n / 256, super_bytes(format));
                wide_unpack_super(format, &panel, b, &block);
                add(&block, has_offset, record.q + (size_t)b * 256, record.scale + b,
                    record.sum + (size_t)b * 16, x_stride, count, a);
            }
            wide_store(a, count, y + t * y_stride + start, y_stride);
        }
    }
    return taken;
}

typedef void (*wide_eight_adder)(
    const wide_block *block, int shift, uint32_t blocks, const int8_t *q, const float *scale,
    size_t x_stride, const int32_t *sums, size_t sums_stride, uint32_t tokens,
    float (*a)[wide_most_tokens][WIDE_GROUPS][WIDE_LANES]);

// The same for blocks of 32.
SLUICE_INLINE uint32_t wide_eight(
    int format, wide_eight_adder add, const wide_panel *first, uint32_t rows, const uint8_t *x,
    size_t x_stride, uint32_t tokens, uint32_t n, float *y, size_t y_stride) {
    uint32_t blocks = n / 32, most = wide_most_tokens;
    if (blocks > wide_most_sums / wide_most_tokens) most = wide_most_sums / blocks;
    if (tokens < WIDE_FEWEST_TOKENS_OF_32 || most < 8 || rows < wide_rows) return 0;
    WIDE_ALIGNED float a[8][wide_most_tokens][WIDE_GROUPS][WIDE_LANES];
    wide_block block;
    int32_t sums[wide_most_sums];
    uint8_t rest[wide_rows * 8 * 34];
    uint32_t taken = wide_rows_of(rows), step = wide_tokens_at_once(tokens, most);
    size_t size = eight_stride(format);
    int factor = wide_eight_factor(format, first);
    for (uint32_t t = 0; t < tokens; t += step) {
        uint32_t count = tokens - t < step ? tokens - t : step;
        record_a32 record = as_a32(x + t * x_stride, n);
        for (uint32_t i = 0; i < count; i++) {
            for (uint32_t b = 0; b < blocks; b++) {
                const int8_t *q = record.q + i * x_stride + (size_t)b * 32;
                int32_t sum = 0;
                for (int k = 0; k < 32; k++) sum += q[k];
                sums[i * blocks + b] = factor * sum;
            }
        }
        for (uint32_t r = 0; r < taken; r += wide_rows) {
            uint32_t start = taken - r < wide_rows ? taken - wide_rows : r;
            wide_panel panel = wide_panel_at(first, start);
            for (int l = 0; l < 8; l++) memset(a[l], 0, count * sizeof a[l][0]);
            for (uint32_t b = 0; b < blocks; b += 8) {
                uint32_t live = blocks - b < 8 ? blocks - b : 8;
                const uint8_t *unit = panel.row + b * size;
                size_t stride = panel.stride;
                wide_read_units_ahead(&panel, b / 8, blocks / 8, 8 * size);
                if (live < 8) {
                    // The last blocks, padded to eight.
                    memset(rest, 0, wide_rows * 8 * size);
                    for (uint32_t i = 0; i < wide_rows; i++) {
                        memcpy(rest + i * 8 * size, unit + i * stride, live * size);
                    }
                    unit = rest;
                    stride = 8 * size;
                }
                wide_unpack_eight(format, &panel, unit, stride, b / 8, &block);
                add(&block, panel.shift, live, record.q + (size_t)b * 32, record.scale + b,
                    x_stride, sums + b, blocks, count, a);
            }
            for (uint32_t i = 0; i < count; i++) {
                for (int g = 0; g < WIDE_GROUPS; g++) {
                    for (int half = 4; half > 0; half /= 2) {
                        for (int l = 0; l < half; l++) {
                            wf sum = wf_add(wf_load(a[l][i][g]), wf_load(a[l + half][i][g]));
                            wf_store(a[l][i][g], sum);
                        }
                    }
                }
            }
            wide_store(a[0], count, y + t * y_stride + start, y_stride);
        }
    }
    return taken;
}

#define WIDE_SUPER_ADD(count)                                                                 \
    wide_add_super(                                                                           \
        format, block, has_offset, q + t * x_stride,                                          \
        (const float *)(const void *)((const uint8_t *)scale + t * x_stride),                 \
        (const int16_t *)(const void *)((const uint8_t *)sums + t * x_stride), x_stride,      \
        count, a + t)

#define WIDE_EIGHT_ADD(count)                                                                 \
    wide_add_eight(                                                                           \
        format, block, shift, blocks, q + t * x_stride,                                       \
        (const float *)(const void *)((const uint8_t *)scale + t * x_stride), x_stride,       \
        sums + t * sums_stride, sums_stride, count,                                           \
        (float (*)[wide_most_tokens][WIDE_GROUPS][WIDE_LANES])(a[0] + t))

// Kernels of their own, so that each is compiled once for every number of tokens.
#define WIDE_SUPER(name, kind)                                                                \
    static __attribute__((noinline)) void wide_add_##name(                                    \
        const wide_block *block, int has_offset, const int8_t *q, const float *scale,         \
        const int16_t *sums, size_t x_stride, uint32_t tokens,                                \
        float (*a)[WIDE_GROUPS][WIDE_LANES]) {                                                \
        const int format = kind;                                                              \
        WIDE_FOR_TOKENS(WIDE_SUPER_ADD)                                                       \
    }

#define WIDE_EIGHT(name, kind)                                                                \
    static __attribute__((noinline)) void wide_add_##name(                                    \
        const wide_block *block, int shift, uint32_t blocks, const int8_t *q,                 \
        const float *scale, size_t x_stride, const int32_t *sums, size_t sums_stride,         \
        uint32_t tokens, float (*a)[wide_most_tokens][WIDE_GROUPS][WIDE_LANES]) {             \
        const int format = kind;                                                              \
        WIDE_FOR_TOKENS(WIDE_EIGHT_ADD)                                                       \
    }

#define WIDE_GEMM(format, kind)                                                               \
    static uint32_t wide_##format(                                                            \
        const void *weights, size_t row_bytes, uint32_t rows, const void *x,                  \
        size_t x_stride_bytes, uint32_t tokens, uint32_t n, float *y, size_t y_stride) {      \
        wide_panel first;                                                                     \
        memset(&first, 0, sizeof first);                                                      \
        first.row = (const uint8_t *)weights;                                                 \
        first.stride = row_bytes;                                                             \
        return wide_##kind(                                                                   \
            kind##_##format, wide_add_##format, &first, rows, (const uint8_t *)x,             \
            x_stride_bytes, tokens, n, y, y_stride);                                          \
    }

#define WIDE_PLANAR_GEMM(name, kind, format)                                                  \
    static uint32_t wide_planar_##name(                                                       \
        const sluice_planes *weights, uint32_t rows, const void *x, size_t x_stride_bytes,    \
        uint32_t tokens, uint32_t n, float *y, size_t y_stride) {                             \
        tile_planes planes = planes_of(weights);                                              \
        wide_panel first;                                                                     \
        memset(&first, 0, sizeof first);                                                      \
        first.row = weights->scales;                                                          \
        first.stride = weights->scale_bytes;                                                  \
        for (int p = 0; p < weights->count; p++) {                                            \
            first.plane[p] = weights->plane[p];                                               \
            first.plane_stride[p] = weights->plane_bytes[p];                                  \
        }                                                                                     \
        first.shape = planes.shape;                                                           \
        first.shift = planes.shift;                                                           \
        first.centre = planes.centre;                                                         \
        first.middle = planes.middle;                                                         \
        return wide_##kind(                                                                   \
            format, wide_add_planar_##name, &first, rows, (const uint8_t *)x,                 \
            x_stride_bytes, tokens, n, y, y_stride);                                          \
    }

WIDE_SUPER(q4_K, super_q4_K)
WIDE_SUPER(q5_K, super_q5_K)
WIDE_SUPER(q6_K, super_q6_K)
WIDE_SUPER(iq4_xs, super_iq4_xs)
WIDE_SUPER(planar_k, super_planar_k)
WIDE_SUPER(planar_q6_K, super_planar_q6_K)
WIDE_EIGHT(q4_0, eight_q4_0)
WIDE_EIGHT(q8_0, eight_q8_0)
WIDE_EIGHT(mxfp4, eight_mxfp4)
WIDE_EIGHT(planar_32, eight_planar)

WIDE_GEMM(q4_0, eight)
WIDE_GEMM(q8_0, eight)
WIDE_GEMM(mxfp4, eight)
WIDE_GEMM(q4_K, super)
WIDE_GEMM(q5_K, super)
WIDE_GEMM(q6_K, super)
WIDE_GEMM(iq4_xs, super)
WIDE_PLANAR_GEMM(32, eight, eight_planar)
WIDE_PLANAR_GEMM(k, super, super_planar_k)
WIDE_PLANAR_GEMM(q6_K, super, super_planar_q6_K)

#undef SLUICE_WIDE
#define SLUICE_WIDE(gemm, ...) wide_##gemm(__VA_ARGS__)

#endif
