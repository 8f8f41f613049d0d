// Dot products of the quantised formats with NEON, with or without the dot-product instructions.
//
// Weights are made signed bytes. Products of bytes, at most 128 * 127 each, are added in pairs in
// 16 bits and then in 32, or by SDOT in 32 at once: exact either way. Pairwise additions reduce
// four vectors in three instructions.

// Adds 16 products to `sum`, in some lanes or other. Pairs stay within 2 * 128 * 127 = 32512.
SLUICE_INLINE int32x4_t add_products(int32x4_t sum, int8x16_t w, int8x16_t q) {
#if SLUICE_DOTPROD
    return vdotq_s32(sum, w, q);
#else
    int16x8_t pairs = vmull_s8(vget_low_s8(w), vget_low_s8(q));
    return vpadalq_s16(sum, vmlal_s8(pairs, vget_high_s8(w), vget_high_s8(q)));
#endif
}

// The sums of the lanes of a, b, c and d.
SLUICE_INLINE int32x4_t add_lanes(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d) {
    return vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
}

SLUICE_INLINE int8x16_t low_nibbles(uint8x16_t v) {
    return vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15)));
}

SLUICE_INLINE int8x16_t high_nibbles(uint8x16_t v) { return vreinterpretq_s8_u8(vshrq_n_u8(v, 4)); }

SLUICE_INLINE float32x4_t four_halves_of(const uint16_t halves[4]) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves)));
}

// MARK: Planes

// The integers of elements 32b ..< 32b + 32 of a unit of row r, less the centre: plane after plane
// moves up to make room for the next one's bits. Those of block b are in bytes 32 (b % bits) on.
SLUICE_INLINE void planar_weights(
    const tile_planes *planes, uint32_t shape, int r, uint32_t unit, uint32_t b, int32_t centre,
    int8x16_t w[2]) {
    uint8x16_t u[2] = {vdupq_n_u8(0), vdupq_n_u8(0)};
    SLUICE_FOR_PLANES(shape, 0, p, bits) {
        uint32_t shift = b / bits * bits;
        const uint8_t *plane = planes->row[p][r] + ((size_t)unit * bits + b % bits) * 32;
        for (int h = 0; h < 2; h++) {
            uint8x16_t v = vshlq_u8(vld1q_u8(plane + 16 * h), vdupq_n_s8((int8_t)-(int)shift));
            v = vandq_u8(v, vdupq_n_u8((uint8_t)((1 << bits) - 1)));
            u[h] = vorrq_u8(vshlq_u8(u[h], vdupq_n_s8((int8_t)bits)), v);
        }
    }
    for (int h = 0; h < 2; h++) {
        w[h] = vreinterpretq_s8_u8(vsubq_u8(u[h], vdupq_n_u8((uint8_t)centre)));
    }
}

// MARK: Blocks of 32: Q4_0, Q8_0, MXFP4

enum { eight_q4_0, eight_q8_0, eight_mxfp4, eight_planar };

// Of planes only the scales are in one piece with those of the next block.
SLUICE_INLINE size_t eight_stride(int format) {
    return format == eight_q4_0     ? 18
           : format == eight_q8_0   ? 34
           : format == eight_planar ? 2
                                    : 17;
}

// The 32 weights of a block.
SLUICE_INLINE void eight_weights(int format, const uint8_t *block, int8x16_t w[2]) {
    if (format == eight_q8_0) {
        w[0] = vreinterpretq_s8_u8(vld1q_u8(block + 2));
        w[1] = vreinterpretq_s8_u8(vld1q_u8(block + 18));
    } else if (format == eight_q4_0) {
        uint8x16_t v = vld1q_u8(block + 2);
        w[0] = vsubq_s8(low_nibbles(v), vdupq_n_s8(8));  // [-8 .. 7]
        w[1] = vsubq_s8(high_nibbles(v), vdupq_n_s8(8));
    } else {
        static const int8_t values[16] = {SLUICE_MXFP4_VALUES};
        int8x16_t table = vld1q_s8(values);
        uint8x16_t v = vld1q_u8(block + 1);
        w[0] = vqtbl1q_s8(table, vreinterpretq_u8_s8(low_nibbles(v)));  // [-12 .. 12]
        w[1] = vqtbl1q_s8(table, vreinterpretq_u8_s8(high_nibbles(v)));
    }
}

// The scales of four blocks.
SLUICE_INLINE float32x4_t eight_scales(int format, const uint8_t *w) {
    size_t stride = eight_stride(format);
    if (format == eight_mxfp4) {
        float d[4];
        for (int b = 0; b < 4; b++) d[b] = e8m0_half_to_float(w[b * stride]);
        return vld1q_f32(d);
    }
    uint16_t d[4];
    for (int b = 0; b < 4; b++) memcpy(&d[b], w + b * stride, 2);
    return four_halves_of(d);
}

// The sums of four blocks of activations.
SLUICE_INLINE int32x4_t four_sums(const int8_t *q) {
    int32x4_t sums[4];
    for (int b = 0; b < 4; b++) {
        sums[b] = add_products(vdupq_n_s32(0), vdupq_n_s8(1), vld1q_s8(q + 32 * b));
        sums[b] = add_products(sums[b], vdupq_n_s8(1), vld1q_s8(q + 32 * b + 16));
    }
    return add_lanes(sums[0], sums[1], sums[2], sums[3]);
}

// Adds four blocks of four rows against `tokens` activations to accumulators 0 to 3 or 4 to 7. They
// are the first or the last four of their unit.
SLUICE_INLINE void four_add(
    int format, const uint8_t *const w[4], const tile_planes *planes, uint32_t shape, uint32_t unit,
    int last, const int8_t *q, const float *scale, size_t x_stride, int tokens, size_t ahead,
    float32x4_t a[4][4]) {
    size_t stride = eight_stride(format);
    for (int r = 0; r < 4; r++) {
        int8x16_t weights[4][2];
        if (tokens == 1) prefetch(w[r], ahead, 4 * stride);
        if (format == eight_planar && tokens == 1 && !last) prefetch_planes(planes, shape, r, unit);
        for (int b = 0; b < 4; b++) {
            if (format == eight_planar) {
                planar_weights(
                    planes, shape, r, unit, (uint32_t)(b + 4 * last), planes->centre, weights[b]);
            } else {
                eight_weights(format, w[r] + b * stride, weights[b]);
            }
        }
        float32x4_t d = eight_scales(format, w[r]);
        for (int t = 0; t < tokens; t++) {
            const int8_t *qt = q + (size_t)t * x_stride;
            int32x4_t products[4];
            for (int b = 0; b < 4; b++) {
                products[b] = add_products(vdupq_n_s32(0), weights[b][0], vld1q_s8(qt + 32 * b));
                products[b] = add_products(products[b], weights[b][1], vld1q_s8(qt + 32 * b + 16));
            }
            int32x4_t total = add_lanes(products[0], products[1], products[2], products[3]);
            if (format == eight_planar) {
                total = vshlq_s32(total, vdupq_n_s32(planes->shift));
                if (planes->middle != 0) {
                    total = vmlaq_n_s32(total, four_sums(qt), planes->middle);
                }
            }
            float32x4_t s = vcvtq_f32_s32(total);
            if (format == eight_planar) s = vmulq_n_f32(s, 0.5f);
            float32x4_t dx = vld1q_f32(
                (const float *)(const void *)((const uint8_t *)scale + (size_t)t * x_stride));
            a[t][r] = vaddq_f32(a[t][r], vmulq_f32(vmulq_f32(d, dx), s));
        }
    }
}

SLUICE_INLINE void eight_tile(
    int format, const uint8_t *const w[4], const tile_planes *planes, uint32_t shape,
    const uint8_t *x, size_t x_stride, uint32_t n, int tokens, size_t ahead, float (*out)[4]) {
    size_t stride = eight_stride(format);
    record_a32 record = as_a32(x, n);
    uint32_t blocks = n / 32, b = 0;
    float32x4_t a[2][4][4];
    for (int h = 0; h < 2; h++) {
        for (int t = 0; t < tokens; t++) {
            for (int r = 0; r < 4; r++) a[h][t][r] = vdupq_n_f32(0);
        }
    }
    for (; b + 8 <= blocks; b += 8) {
        for (int h = 0; h < 2; h++) {
            uint32_t first = b + 4 * (uint32_t)h;
            const uint8_t *at[4];
            for (int r = 0; r < 4; r++) at[r] = w[r] + first * stride;
            four_add(
                format, at, planes, shape, b / 8, h, record.q + (size_t)first * 32,
                record.scale + first, x_stride, tokens, ahead, a[h]);
        }
    }
    if (b < blocks) {
        // The last blocks, padded to eight with zeros: those add +0, which changes nothing.
        uint8_t rows[4][8 * 34] = {{0}};
        struct {
            int8_t q[256];
            float scale[8];
        } rest[4];
        memset(rest, 0, sizeof rest);
        for (int r = 0; r < 4; r++) memcpy(rows[r], w[r] + b * stride, (blocks - b) * stride);
        for (int t = 0; t < tokens; t++) {
            memcpy(rest[t].q, record.q + (size_t)t * x_stride + (size_t)b * 32, (blocks - b) * 32);
            memcpy(
                rest[t].scale, (const uint8_t *)(record.scale + b) + (size_t)t * x_stride,
                (blocks - b) * sizeof(float));
        }
        for (int h = 0; h < 2; h++) {
            const uint8_t *at[4];
            for (int r = 0; r < 4; r++) at[r] = rows[r] + 4 * (size_t)h * stride;
            four_add(
                format, at, planes, shape, b / 8, h, rest[0].q + 128 * h, rest[0].scale + 4 * h,
                sizeof rest[0], tokens, 0, a[h]);
        }
    }
    for (int t = 0; t < tokens; t++) {
        for (int r = 0; r < 4; r++) out[t][r] = vf_fold(vaddq_f32(a[0][t][r], a[1][t][r]));
    }
}

// MARK: Super-blocks of 256: Q4_K, Q5_K, Q6_K, IQ4_XS

// Elements 64c ..< 64c + 64, which are the sub-blocks 2c and 2c + 1 where those have 32.
SLUICE_INLINE void super_weights(int format, const uint8_t *block, int c, int8x16_t w[4]) {
    for (int h = 0; h < 2; h++) {
        if (has_minimum(format)) {
            uint8x16_t v = vld1q_u8(block + (format == super_q4_K ? 16 : 48) + 32 * c + 16 * h);
            w[h] = low_nibbles(v);
            w[2 + h] = high_nibbles(v);  // [0 .. 15]
            if (format == super_q5_K) {
                uint8x16_t fifth = vld1q_u8(block + 16 + 16 * h);
                for (int i = 0; i < 2; i++) {
                    uint8x16_t set = vtstq_u8(fifth, vdupq_n_u8((uint8_t)(1 << (2 * c + i))));
                    int8x16_t bit = vreinterpretq_s8_u8(vandq_u8(set, vdupq_n_u8(16)));
                    w[2 * i + h] = vorrq_s8(w[2 * i + h], bit);  // [0 .. 31]
                }
            }
        } else if (format == super_q6_K) {
            uint8x16_t high = vld1q_u8(block + 128 + 32 * (c / 2) + 16 * h);
            for (int i = 0; i < 2; i++) {
                uint8x16_t v = vld1q_u8(block + 64 * (c / 2) + 32 * i + 16 * h);
                int8x16_t low = c % 2 == 0 ? low_nibbles(v) : high_nibbles(v);
                int8_t run = (int8_t)(2 * (c % 2) + i);
                uint8x16_t upper =
                    vandq_u8(vshlq_u8(high, vdupq_n_s8((int8_t)(4 - 2 * run))), vdupq_n_u8(48));
                low = vorrq_s8(low, vreinterpretq_s8_u8(upper));
                w[2 * i + h] = vsubq_s8(low, vdupq_n_s8(32));  // [-32 .. 31]
            }
        } else {
            static const int8_t values[16] = {SLUICE_IQ4_VALUES};
            int8x16_t table = vld1q_s8(values);
            uint8x16_t v = vld1q_u8(block + 8 + 32 * c + 16 * h);  // sub-block 2c + h
            w[2 * h] = vqtbl1q_s8(table, vreinterpretq_u8_s8(low_nibbles(v)));
            w[2 * h + 1] = vqtbl1q_s8(table, vreinterpretq_u8_s8(high_nibbles(v)));
        }
    }
}

// `k_scales` of blocks.h four bytes at a time: eight scales, then eight minima.
SLUICE_INLINE void k_scale_bytes(const uint8_t *packed, uint8_t scales[16]) {
    uint32_t a, b, c;
    memcpy(&a, packed, 4);
    memcpy(&b, packed + 4, 4);
    memcpy(&c, packed + 8, 4);
    uint32_t four[4] = {
        a & 0x3f3f3f3f, (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030), b & 0x3f3f3f3f,
        (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030)};
    memcpy(scales, four, 16);
}

// The scales and the minima of a Q4_K or Q5_K block.
SLUICE_INLINE void k_scale_vectors(const uint8_t *packed, int16x8_t *scales, int16x8_t *minima) {
    uint8_t bytes[16];
    k_scale_bytes(packed, bytes);
    *scales = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(bytes)));
    *minima = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(bytes + 8)));
}

// The scales of an IQ4_XS block.
SLUICE_INLINE int16x8_t iq4_scale_vector(const uint8_t *block) {
    static const int16_t to_bits_4[8] = {4, 2, 0, -2, -4, -6, -8, -10};
    uint32_t packed;
    uint16_t high;
    memcpy(&high, block + 2, 2);
    memcpy(&packed, block + 4, 4);
    uint8x8_t low = vreinterpret_u8_u32(vdup_n_u32(packed));
    low = vzip1_u8(vand_u8(low, vdup_n_u8(15)), vshr_n_u8(low, 4));
    uint16x8_t upper = vandq_u16(vshlq_u16(vdupq_n_u16(high), vld1q_s16(to_bits_4)), vdupq_n_u16(48));
    return vsubq_s16(vreinterpretq_s16_u16(vorrq_u16(vmovl_u8(low), upper)), vdupq_n_s16(32));
}

// Four half-precision numbers, `at` bytes into each row.
SLUICE_INLINE float32x4_t four_halves(const uint8_t *const w[4], size_t at) {
    uint16_t d[4];
    for (int r = 0; r < 4; r++) memcpy(&d[r], w[r] + at, 2);
    return four_halves_of(d);
}

// Products in four lanes, two in each.
SLUICE_INLINE int32x4_t multiply(int16x8_t a, int16x8_t b) {
    return vmlal_s16(
        vmull_s16(vget_low_s16(a), vget_low_s16(b)), vget_high_s16(a), vget_high_s16(b));
}

// Adds one block of four rows against `tokens` activations.
SLUICE_INLINE void super_add(
    int format, const uint8_t *const w[4], const tile_planes *planes, uint32_t shape, uint32_t unit,
    const int8_t *q, const float *scale, const int16_t *sum, size_t x_stride, int tokens,
    size_t ahead, float32x4_t a[4]) {
    int32x4_t middle[4][4];  // of planes, what the middle of the interval adds to S
    int middle_factor = is_planar(format) ? planes->middle : 0;
    int32x4_t s[4][4], m[4][4];  // by token and row; lanes that add up to S and to M
    for (int r = 0; r < 4; r++) {
        int32_t scales[16];  // by run of 16 for Q6_K, by sub-block of 32 for the others
        if (tokens == 1) {
            prefetch(w[r], ahead, super_bytes(format));
            if (is_planar(format)) prefetch_planes(planes, shape, r, unit);
        }
        for (int t = 0; t < tokens; t++) s[t][r] = vdupq_n_s32(0);
        if (has_minimum(format)) {
            uint8_t bytes[16];
            k_scale_bytes(w[r] + 4, bytes);
            for (int j = 0; j < 8; j++) scales[j] = bytes[j];
            int16x8_t factors = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(bytes)));
            int16x8_t minima = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(bytes + 8)));
            for (int t = 0; t < tokens; t++) {
                // Neighbouring runs of 16 make a sub-block: [-4064 .. 4064].
                const int16_t *st =
                    (const int16_t *)(const void *)((const uint8_t *)sum + (size_t)t * x_stride);
                int16x8_t sums = vpaddq_s16(vld1q_s16(st), vld1q_s16(st + 8));
                m[t][r] = multiply(minima, sums);
                if (middle_factor != 0) middle[t][r] = multiply(factors, sums);
            }
        } else if (has_scales_of_16(format)) {
            const uint8_t *bytes = w[r] + (is_planar(format) ? 0 : 192);
            for (int j = 0; j < 16; j++) scales[j] = (int8_t)bytes[j];
            for (int t = 0; t < tokens && middle_factor != 0; t++) {
                int8x16_t factors = vreinterpretq_s8_u8(vld1q_u8(bytes));
                const int16_t *st =
                    (const int16_t *)(const void *)((const uint8_t *)sum + (size_t)t * x_stride);
                middle[t][r] = vaddq_s32(
                    multiply(vmovl_s8(vget_low_s8(factors)), vld1q_s16(st)),
                    multiply(vmovl_s8(vget_high_s8(factors)), vld1q_s16(st + 8)));
            }
        } else {
            const block_iq4_xs *block = (const block_iq4_xs *)(const void *)w[r];
            for (int j = 0; j < 8; j++) scales[j] = iq4_scale(block, j);
        }
        for (int c = 0; c < 4; c++) {
            int8x16_t weights[4];
            if (is_planar(format)) {
                int32_t centre = has_minimum(format) ? 0 : planes->centre;
                planar_weights(planes, shape, r, unit, 2 * (uint32_t)c, centre, weights);
                planar_weights(planes, shape, r, unit, 2 * (uint32_t)c + 1, centre, weights + 2);
            } else {
                super_weights(format, w[r], c, weights);
            }
            for (int t = 0; t < tokens; t++) {
                const int8_t *qt = q + (size_t)t * x_stride + 64 * c;
                for (int i = 0; i < 2; i++) {
                    int32x4_t p =
                        add_products(vdupq_n_s32(0), weights[2 * i], vld1q_s8(qt + 32 * i));
                    int8x16_t rest = vld1q_s8(qt + 32 * i + 16);
                    if (has_scales_of_16(format)) {
                        s[t][r] = vmlaq_n_s32(s[t][r], p, scales[4 * c + 2 * i]);
                        p = add_products(vdupq_n_s32(0), weights[2 * i + 1], rest);
                        s[t][r] = vmlaq_n_s32(s[t][r], p, scales[4 * c + 2 * i + 1]);
                    } else {
                        p = add_products(p, weights[2 * i + 1], rest);
                        s[t][r] = vmlaq_n_s32(s[t][r], p, scales[2 * c + i]);
                    }
                }
            }
        }
    }
    float32x4_t d = four_halves(w, super_d_offset(format));
    for (int t = 0; t < tokens; t++) {
        float dx;
        memcpy(&dx, (const uint8_t *)scale + (size_t)t * x_stride, 4);
        int32x4_t total = add_lanes(s[t][0], s[t][1], s[t][2], s[t][3]);
        if (is_planar(format)) total = vshlq_s32(total, vdupq_n_s32(planes->shift));
        if (middle_factor != 0) {
            int32x4_t sums = add_lanes(middle[t][0], middle[t][1], middle[t][2], middle[t][3]);
            total = vmlaq_n_s32(total, sums, middle_factor);
        }
        float32x4_t s_value = vcvtq_f32_s32(total);
        if (is_planar(format)) s_value = vmulq_n_f32(s_value, 0.5f);
        float32x4_t term = vmulq_f32(vmulq_n_f32(d, dx), s_value);
        if (has_minimum(format)) {
            int32x4_t minimum = add_lanes(m[t][0], m[t][1], m[t][2], m[t][3]);
            float32x4_t dmin = four_halves(w, 2);
            term = vsubq_f32(term, vmulq_f32(vmulq_n_f32(dmin, dx), vcvtq_f32_s32(minimum)));
        }
        a[t] = vaddq_f32(a[t], term);
    }
}

SLUICE_INLINE void super_tile(
    int format, const uint8_t *const w[4], const tile_planes *planes, uint32_t shape,
    const uint8_t *x, size_t x_stride, uint32_t n, int tokens, size_t ahead, float (*out)[4]) {
    record_a256 record = as_a256(x, n);
    float32x4_t a[4];
    for (int t = 0; t < tokens; t++) a[t] = vdupq_n_f32(0);
    for (uint32_t b = 0; b < n / 256; b++) {
        const uint8_t *at[4];
        for (int r = 0; r < 4; r++) at[r] = w[r] + b * super_bytes(format);
        super_add(
            format, at, planes, shape, b, record.q + (size_t)b * 256, record.scale + b,
            record.sum + (size_t)b * 16, x_stride, tokens, ahead, a);
    }
    for (int t = 0; t < tokens; t++) vst1q_f32(out[t], a[t]);
}

#if SLUICE_DOTPROD
#include "neon_wide.h"
#undef SLUICE_WIDE
#define SLUICE_WIDE(gemm, ...) wide_##gemm(__VA_ARGS__)
#endif

#define SLUICE_BLOCK_GEMM(format, kind, most)                                                 \
    SLUICE_INLINE void tile_##format(                                                         \
        const uint8_t *const w[4], const uint8_t *x, size_t x_stride, uint32_t n, int tokens, \
        size_t ahead, float (*out)[4]) {                                                      \
        kind##_tile(kind##_##format, w, NULL, 0, x, x_stride, n, tokens, ahead, out);         \
    }                                                                                         \
    SLUICE_TILED_GEMM(format, most)

// Two tokens fill the registers with accumulators where there are eight for each.
SLUICE_BLOCK_GEMM(q4_0, eight, 2)
SLUICE_BLOCK_GEMM(q8_0, eight, 2)
SLUICE_BLOCK_GEMM(mxfp4, eight, 2)
SLUICE_BLOCK_GEMM(q4_K, super, 4)
SLUICE_BLOCK_GEMM(q5_K, super, 4)
SLUICE_BLOCK_GEMM(q6_K, super, 4)
SLUICE_BLOCK_GEMM(iq4_xs, super, 4)

SLUICE_PLANAR_KERNEL(32, eight, eight_planar, 2, 0x422, 0x44)
SLUICE_PLANAR_KERNEL(k, super, super_planar_k, 4, 0x122, 0x14)
SLUICE_PLANAR_KERNEL(q6_K, super, super_planar_q6_K, 4, 0x222, 0x24)
