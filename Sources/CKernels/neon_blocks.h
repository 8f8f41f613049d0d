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

// The numbers, or exactly half of them.
SLUICE_INLINE float32x4_t as_floats(int32x4_t v, int halved) {
    return halved ? vcvtq_n_f32_s32(v, 1) : vcvtq_f32_s32(v);
}

SLUICE_INLINE uint16_t half_at(const uint8_t *p) {
    uint16_t half;
    memcpy(&half, p, 2);
    return half;
}

SLUICE_INLINE float32x4_t four_halves(
    const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d) {
    uint16x4_t halves = vdup_n_u16(half_at(a));
    halves = vset_lane_u16(half_at(b), halves, 1);
    halves = vset_lane_u16(half_at(c), halves, 2);
    halves = vset_lane_u16(half_at(d), halves, 3);
    return vcvt_f32_f16(vreinterpret_f16_u16(halves));
}

// MARK: Planes

SLUICE_INLINE uint8x16_t shift_right(uint8x16_t v, uint32_t by) {
    return by == 0 ? v : vshlq_u8(v, vdupq_n_s8((int8_t)-(int)by));
}

// v in the low `bits` bits, and u above them.
SLUICE_INLINE uint8x16_t append_bits(uint8x16_t u, uint8x16_t v, uint32_t bits) {
    return bits == 1 ? vsliq_n_u8(v, u, 1) : bits == 2 ? vsliq_n_u8(v, u, 2) : vsliq_n_u8(v, u, 4);
}

// Where bytes of two planes have fields of `bits` bits, and `mask` every second of them: the masked
// fields of both as fields of twice as many bits, or those that are not.
SLUICE_INLINE uint8x16_t merge_bits(
    uint8x16_t high, uint8x16_t low, int bits, uint8_t mask, int masked) {
    uint8x16_t second = vdupq_n_u8(mask);
    if (!masked) return vbslq_u8(second, shift_right(low, (uint32_t)bits), high);
    return vbslq_u8(second, low, vshlq_u8(high, vdupq_n_s8((int8_t)bits)));
}

// The integers of runs c, c + 4, c + 8 and c + 12 of a unit of row r, which share bytes: every
// plane has them in 16 bytes or, of four bits, in twice as many. Of two bits alone all but the last
// are left in their place, as multiples of 4 and 16: see `planar_places`. Eight bits are centred on
// 0.
SLUICE_INLINE void planar_weights(
    const tile_planes *planes, uint32_t shape, int r, uint32_t unit, uint32_t c, int8x16_t w[4]) {
    uint8x16_t u[4];
    uint32_t first = planes_to_merge(shape);
    const uint8_t *two = planes->row[0][r] + ((size_t)unit * 4 + c) * 16;
    if (shape == 0x2) {
        uint8x16_t v = vld1q_u8(two);
        u[0] = vandq_u8(v, vdupq_n_u8(3));
        u[1] = vandq_u8(v, vdupq_n_u8(3 << 2));
        u[2] = vandq_u8(v, vdupq_n_u8(3 << 4));
        u[3] = vshrq_n_u8(v, 6);
    } else if (first != 0) {
        uint8x16_t low;
        if (first == 2) {
            low = vld1q_u8(planes->row[1][r] + ((size_t)unit * 4 + c) * 16);
        } else {
            size_t at = ((size_t)unit * 2 + c % 2) * 16;
            low = merge_bits(
                vld1q_u8(planes->row[1][r] + at), vld1q_u8(planes->row[2][r] + at), 1, 0x55,
                c < 2);
        }
        for (int i = 0; i < 2; i++) {
            uint8x16_t pair = merge_bits(vld1q_u8(two), low, 2, 0x33, i == 0);
            u[i] = vandq_u8(pair, vdupq_n_u8(15));
            u[i + 2] = vshrq_n_u8(pair, 4);
        }
    } else if (shape == 0x44) {
        for (int i = 0; i < 2; i++) {
            size_t at = (size_t)unit * 128 + 16 * c + 64 * (size_t)i;
            uint8x16_t high = veorq_u8(vld1q_u8(planes->row[0][r] + at), vdupq_n_u8(0x88));
            uint8x16_t low = vld1q_u8(planes->row[1][r] + at);
            u[i] = vsliq_n_u8(low, high, 4);
            u[i + 2] = vsriq_n_u8(high, low, 4);
        }
        for (int i = 0; i < 4; i++) w[i] = vreinterpretq_s8_u8(u[i]);
        return;
    }
    uint32_t total = first == 0 ? 0 : 4;
    SLUICE_FOR_PLANES(shape == 0x2 ? 0 : shape, first, p, bits) {
        const uint8_t *plane = planes->row[p][r] + (size_t)unit * 32 * bits;
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t from = bits == 1 ? c % 2 : bits == 2 ? c : c + i % 2 * 4;
            uint32_t field = bits == 1 ? c / 2 + 2 * i : bits == 2 ? i : i / 2;
            uint8x16_t v = shift_right(vld1q_u8(plane + 16 * (size_t)from), field * bits);
            if (p == 0) {
                u[i] = vandq_u8(v, vdupq_n_u8((uint8_t)((1 << bits) - 1)));
            } else {
                u[i] = append_bits(u[i], v, bits);
            }
        }
        total += bits;
    }
    for (int i = 0; i < 4; i++) {
        w[i] = vreinterpretq_s8_u8(total == 8 ? veorq_u8(u[i], vdupq_n_u8(128)) : u[i]);
    }
}

// Takes sums of products of those four runs, a lane each, to the same scale.
SLUICE_INLINE int32x4_t planar_places(uint32_t shape, int32x4_t sums) {
    static const int32_t places[4] = {0, -2, -4, 0};
    return shape == 0x2 ? vshlq_s32(sums, vld1q_s32(places)) : sums;
}

// What a block's activations amount to in its sum, where the planes' integers are as above.
SLUICE_INLINE int32_t planar_factor(const tile_planes *planes, int has_centre) {
    if (!has_centre) return planes->middle;
    return planes->centre == 128 ? 0 : planes->middle - (planes->centre << planes->shift);
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

// The 32 weights of a block. Those of Q4_0 are as stored: [0 .. 15].
SLUICE_INLINE void eight_weights(int format, const uint8_t *block, int8x16_t w[2]) {
    if (format == eight_q8_0) {
        w[0] = vreinterpretq_s8_u8(vld1q_u8(block + 2));
        w[1] = vreinterpretq_s8_u8(vld1q_u8(block + 18));
    } else {
        uint8x16_t v = vld1q_u8(block + (format == eight_q4_0 ? 2 : 1));
        w[0] = low_nibbles(v);
        w[1] = high_nibbles(v);
        if (format == eight_mxfp4) {
            static const int8_t values[16] = {SLUICE_MXFP4_VALUES};
            int8x16_t table = vld1q_s8(values);
            w[0] = vqtbl1q_s8(table, vreinterpretq_u8_s8(w[0]));  // [-12 .. 12]
            w[1] = vqtbl1q_s8(table, vreinterpretq_u8_s8(w[1]));
        }
    }
}

// The scales of every `step`-th block of four.
SLUICE_INLINE float32x4_t eight_scales(int format, const uint8_t *w, size_t step) {
    size_t stride = step * eight_stride(format);
    if (format == eight_mxfp4) {
        // As e8m0_half_to_float.
        uint32_t bytes = w[0] | (uint32_t)w[stride] << 8 | (uint32_t)w[2 * stride] << 16
                         | (uint32_t)w[3 * stride] << 24;
        uint32x4_t e = vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes))));
        uint32x4_t normal = vshlq_n_u32(vsubq_u32(e, vdupq_n_u32(1)), 23);
        uint32x4_t denormal = vshlq_u32(vdupq_n_u32(0x00200000), vreinterpretq_s32_u32(e));
        return vreinterpretq_f32_u32(vbslq_u32(vcltq_u32(e, vdupq_n_u32(2)), denormal, normal));
    }
    return four_halves(w, w + stride, w + 2 * stride, w + 3 * stride);
}

// The sums of every second block of activations.
SLUICE_INLINE int32x4_t four_sums(const int8_t *q) {
    int32x4_t sums[4];
    for (int i = 0; i < 4; i++) {
        const int8_t *at = q + 64 * i;
        sums[i] = add_products(vdupq_n_s32(0), vdupq_n_s8(1), vld1q_s8(at));
        sums[i] = add_products(sums[i], vdupq_n_s8(1), vld1q_s8(at + 16));
    }
    return add_lanes(sums[0], sums[1], sums[2], sums[3]);
}

// Adds eight blocks of four rows against `tokens` activations. The accumulators are
// those of blocks 0, 2, 4 and 6, then of 1, 3, 5 and 7.
SLUICE_INLINE void eight_add(
    int format, const uint8_t *const w[4], const tile_planes *planes, uint32_t shape, uint32_t unit,
    const int8_t *q, const float *scale, size_t x_stride, int tokens, size_t ahead,
    float32x4_t a[2][4][4]) {
    size_t stride = eight_stride(format);
    int32_t factor = format == eight_q4_0     ? -8
                     : format == eight_planar ? planar_factor(planes, 1)
                                              : 0;
    int32x4_t offsets[2][4];
    float32x4_t dx[2][4];
    for (int t = 0; t < tokens; t++) {
        const float *scales =
            (const float *)(const void *)((const uint8_t *)scale + (size_t)t * x_stride);
        dx[0][t] = vuzp1q_f32(vld1q_f32(scales), vld1q_f32(scales + 4));
        dx[1][t] = vuzp2q_f32(vld1q_f32(scales), vld1q_f32(scales + 4));
        for (int h = 0; h < 2 && factor != 0; h++) {
            const int8_t *qt = q + (size_t)t * x_stride + 32 * h;
            offsets[h][t] = vmulq_n_s32(four_sums(qt), factor);
        }
    }
    for (int r = 0; r < 4; r++) {
        if (tokens == 1) prefetch(w[r], ahead, 8 * stride);
        if (format == eight_planar && tokens == 1) prefetch_planes(planes, shape, r, unit);
        for (int h = 0; h < 2; h++) {
            int8x16_t weights[4][2];  // by block
            for (int i = 0; i < 4 && format != eight_planar; i++) {
                eight_weights(format, w[r] + (size_t)(2 * i + h) * stride, weights[i]);
            }
            for (uint32_t i = 0; i < 2 && format == eight_planar; i++) {
                int8x16_t runs[4];
                planar_weights(planes, shape, r, unit, 2 * (uint32_t)h + i, runs);
                for (int j = 0; j < 4; j++) weights[j][i] = runs[j];
            }
            float32x4_t d;
            if (format == eight_planar) {
                uint16x8_t halves = vreinterpretq_u16_u8(vld1q_u8(w[r]));
                halves = h == 0 ? vuzp1q_u16(halves, halves) : vuzp2q_u16(halves, halves);
                d = vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(halves)));
            } else {
                d = eight_scales(format, w[r] + (size_t)h * stride, 2);
            }
            for (int t = 0; t < tokens; t++) {
                const int8_t *qt = q + (size_t)t * x_stride + 32 * h;
                int32x4_t products[4];
                for (int i = 0; i < 4; i++) {
                    products[i] =
                        add_products(vdupq_n_s32(0), weights[i][0], vld1q_s8(qt + 64 * i));
                    products[i] =
                        add_products(products[i], weights[i][1], vld1q_s8(qt + 64 * i + 16));
                }
                int32x4_t total = add_lanes(products[0], products[1], products[2], products[3]);
                if (format == eight_planar) {
                    total = vshlq_s32(planar_places(shape, total), vdupq_n_s32(planes->shift));
                }
                if (factor != 0) total = vaddq_s32(total, offsets[h][t]);
                float32x4_t s = as_floats(total, format == eight_planar);
                a[h][t][r] = vaddq_f32(a[h][t][r], vmulq_f32(vmulq_f32(d, dx[h][t]), s));
            }
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
        const uint8_t *at[4];
        for (int r = 0; r < 4; r++) at[r] = w[r] + b * stride;
        eight_add(
            format, at, planes, shape, b / 8, record.q + (size_t)b * 32, record.scale + b, x_stride,
            tokens, ahead, a);
    }
    if (b < blocks) {
        // The last blocks, padded to eight with zeros: those add +0, which changes nothing.
        uint8_t rows[4][8 * 34] = {{0}};
        struct {
            int8_t q[256];
            float scale[8];
        } rest[4];
        memset(rest, 0, sizeof rest);
        const uint8_t *at[4];
        for (int r = 0; r < 4; r++) {
            at[r] = memcpy(rows[r], w[r] + b * stride, (blocks - b) * stride);
        }
        for (int t = 0; t < tokens; t++) {
            memcpy(rest[t].q, record.q + (size_t)t * x_stride + (size_t)b * 32, (blocks - b) * 32);
            memcpy(
                rest[t].scale, (const uint8_t *)(record.scale + b) + (size_t)t * x_stride,
                (blocks - b) * sizeof(float));
        }
        eight_add(
            format, at, planes, shape, b / 8, rest[0].q, rest[0].scale, sizeof rest[0], tokens, 0,
            a);
    }
    for (int t = 0; t < tokens; t++) {
        for (int r = 0; r < 4; r++) out[t][r] = vf_fold(a[0][t][r]) + vf_fold(a[1][t][r]);
    }
}

// MARK: Super-blocks of 256: Q4_K, Q5_K, Q6_K, IQ4_XS

// The low nibbles of v with `bits` bits of `high`, from bit `at` on, above them.
SLUICE_INLINE int8x16_t low_nibbles_and(uint8x16_t v, uint8x16_t high, int at, int bits) {
    uint8x16_t field = shift_right(high, (uint32_t)at);
    if (at + bits < 8) field = vandq_u8(field, vdupq_n_u8((uint8_t)((1 << bits) - 1)));
    return vreinterpretq_s8_u8(vsliq_n_u8(v, field, 4));
}

// The same for the high nibbles.
SLUICE_INLINE int8x16_t high_nibbles_and(uint8x16_t v, uint8x16_t high, int at, int bits) {
    uint8x16_t field = at == 4 ? high : vshlq_u8(high, vdupq_n_s8((int8_t)(4 - at)));
    field = vandq_u8(field, vdupq_n_u8((uint8_t)(((1 << bits) - 1) << 4)));
    return vreinterpretq_s8_u8(vsriq_n_u8(field, v, 4));
}

// Elements 64c ..< 64c + 64, which are the sub-blocks 2c and 2c + 1 where those have 32.
SLUICE_INLINE void super_weights(int format, const uint8_t *block, int c, int8x16_t w[4]) {
    for (int h = 0; h < 2; h++) {
        if (has_minimum(format)) {
            uint8x16_t v = vld1q_u8(block + (format == super_q4_K ? 16 : 48) + 32 * c + 16 * h);
            if (format == super_q4_K) {
                w[h] = low_nibbles(v);
                w[2 + h] = high_nibbles(v);  // [0 .. 15]
            } else {
                uint8x16_t fifth = vld1q_u8(block + 16 + 16 * h);
                w[h] = low_nibbles_and(v, fifth, 2 * c, 1);
                w[2 + h] = high_nibbles_and(v, fifth, 2 * c + 1, 1);  // [0 .. 31]
            }
        } else if (format == super_q6_K) {
            uint8x16_t high = vld1q_u8(block + 128 + 32 * (c / 2) + 16 * h);
            for (int i = 0; i < 2; i++) {
                uint8x16_t v = vld1q_u8(block + 64 * (c / 2) + 32 * i + 16 * h);
                w[2 * i + h] = c % 2 == 0 ? low_nibbles_and(v, high, 2 * i, 2)
                                          : high_nibbles_and(v, high, 4 + 2 * i, 2);  // [0 .. 63]
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

// The scales and the minima of a Q4_K or Q5_K block, as `k_scales` of blocks.h.
SLUICE_INLINE void k_scale_vectors(const uint8_t *packed, int16x8_t *scales, int16x8_t *minima) {
    uint64_t low;  // four scales, four minima
    uint32_t rest;
    memcpy(&low, packed, 8);
    memcpy(&rest, packed + 8, 4);
    uint64_t high = (rest & 0x0f0f0f0f) | (uint64_t)(rest >> 4 & 0x0f0f0f0f) << 32;
    high |= low >> 2 & 0x3030303030303030;
    low &= 0x3f3f3f3f3f3f3f3f;
    int64x2_t first = vreinterpretq_s64_u16(vmovl_u8(vcreate_u8(low)));
    int64x2_t second = vreinterpretq_s64_u16(vmovl_u8(vcreate_u8(high)));
    *scales = vreinterpretq_s16_s64(vtrn1q_s64(first, second));
    *minima = vreinterpretq_s16_s64(vtrn2q_s64(first, second));
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
    uint16x8_t upper = vshlq_u16(vdupq_n_u16(high), vld1q_s16(to_bits_4));
    upper = vandq_u16(upper, vdupq_n_u16(48));
    return vsubq_s16(vreinterpretq_s16_u16(vorrq_u16(vmovl_u8(low), upper)), vdupq_n_s16(32));
}

// Products in four lanes, two in each.
SLUICE_INLINE int32x4_t multiply(int16x8_t a, int16x8_t b) {
    return vmlal_s16(
        vmull_s16(vget_low_s16(a), vget_low_s16(b)), vget_high_s16(a), vget_high_s16(b));
}

// A block's scales: of runs of 16 in their order in `runs`, of sub-blocks of 32 in `runs[0]`; and
// four by four as their sums come, from `super_weights` or `planar_weights`, less the next four.
// Sums are not cleared after the first four: multiplied by these differences, sums of everything so
// far give the sum of scaled sums. It stays within twice what S can be, so in 32 bits.
SLUICE_INLINE void super_scales(
    int format, const uint8_t *block, int16x8_t runs[2], int16x8_t *minima, int32x4_t fours[4]) {
    if (has_scales_of_16(format)) {
        uint8x16_t bytes = vld1q_u8(block + (is_planar(format) ? 0 : 192));
        runs[0] = vmovl_s8(vget_low_s8(vreinterpretq_s8_u8(bytes)));
        runs[1] = vmovl_s8(vget_high_s8(vreinterpretq_s8_u8(bytes)));
        if (is_planar(format)) {
            int32x4_t lanes = vreinterpretq_s32_u8(bytes);
            fours[0] = vshrq_n_s32(vshlq_n_s32(lanes, 24), 24);
            fours[1] = vshrq_n_s32(vshlq_n_s32(lanes, 16), 24);
            fours[2] = vshrq_n_s32(vshlq_n_s32(lanes, 8), 24);
            fours[3] = vshrq_n_s32(lanes, 24);
            for (int i = 0; i < 3; i++) fours[i] = vsubq_s32(fours[i], fours[i + 1]);
        } else {
            fours[0] = vsubl_s16(vget_low_s16(runs[0]), vget_high_s16(runs[0]));
            fours[1] = vsubl_s16(vget_high_s16(runs[0]), vget_low_s16(runs[1]));
            fours[2] = vsubl_s16(vget_low_s16(runs[1]), vget_high_s16(runs[1]));
            fours[3] = vmovl_s16(vget_high_s16(runs[1]));
        }
        return;
    }
    if (has_minimum(format)) {
        k_scale_vectors(block + 4, &runs[0], minima);
    } else {
        runs[0] = iq4_scale_vector(block);
    }
    if (is_planar(format)) {
        uint32x4_t pairs = vreinterpretq_u32_s16(runs[0]);
        fours[1] = vreinterpretq_s32_u32(vshrq_n_u32(pairs, 16));
        fours[0] = vreinterpretq_s32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff)));
        fours[0] = vsubq_s32(fours[0], fours[1]);
    } else {
        fours[0] = vsubl_s16(vget_low_s16(runs[0]), vget_high_s16(runs[0]));
        fours[1] = vmovl_s16(vget_high_s16(runs[0]));
    }
}

// Adds one block of four rows against `tokens` activations.
SLUICE_INLINE void super_add(
    int format, const uint8_t *const w[4], const tile_planes *planes, uint32_t shape, uint32_t unit,
    const int8_t *q, const float *scale, const int16_t *sum, size_t x_stride, int tokens,
    size_t ahead, float32x4_t a[4]) {
    // Of weights that are not centred yet, what their scaled activations amount to in S.
    int32_t factor = format == super_q6_K  ? -32
                     : is_planar(format) ? planar_factor(planes, !has_minimum(format))
                                         : 0;
    int32x4_t s[4][4], m[4][4], offset[4][4];  // by token and row; lanes that add up
    for (int r = 0; r < 4; r++) {
        if (tokens == 1) {
            prefetch(w[r], ahead, super_bytes(format));
            if (is_planar(format)) prefetch_planes(planes, shape, r, unit);
        }
        int16x8_t runs[2], minima;
        int32x4_t fours[4];
        super_scales(format, w[r], runs, &minima, fours);
        for (int t = 0; t < tokens; t++) {
            const int16_t *st =
                (const int16_t *)(const void *)((const uint8_t *)sum + (size_t)t * x_stride);
            if (has_scales_of_16(format) && factor != 0) {
                offset[t][r] = vaddq_s32(
                    multiply(runs[0], vld1q_s16(st)), multiply(runs[1], vld1q_s16(st + 8)));
            } else if (has_minimum(format)) {
                // Neighbouring runs of 16 make a sub-block: [-4064 .. 4064].
                int16x8_t sums = vpaddq_s16(vld1q_s16(st), vld1q_s16(st + 8));
                m[t][r] = multiply(minima, sums);
                if (factor != 0) offset[t][r] = multiply(runs[0], sums);
            }
        }
        int32x4_t p[4][4];  // by token
        for (uint32_t c = 0; c < 4; c++) {
            int8x16_t weights[4];
            if (is_planar(format)) {
                planar_weights(planes, shape, r, unit, c, weights);
            } else {
                super_weights(format, w[r], (int)c, weights);
            }
            uint32_t four = has_scales_of_16(format) ? c : c / 2;
            int ends = has_scales_of_16(format) || c % 2 == 1;
            for (int t = 0; t < tokens; t++) {
                const int8_t *qt = q + (size_t)t * x_stride;
                for (int i = 0; i < 4 && c == 0; i++) p[t][i] = vdupq_n_s32(0);
                for (uint32_t i = 0; i < 4; i++) {
                    uint32_t run = is_planar(format) ? c + 4 * i : 4 * c + i;
                    uint32_t at = is_planar(format) || has_scales_of_16(format)
                                      ? i
                                      : 2 * (c % 2) + i / 2;
                    p[t][at] = add_products(p[t][at], weights[i], vld1q_s8(qt + 16 * run));
                }
                if (!ends) continue;
                int32x4_t sums = add_lanes(p[t][0], p[t][1], p[t][2], p[t][3]);
                if (is_planar(format)) sums = planar_places(shape, sums);
                s[t][r] = four == 0 ? vmulq_s32(sums, fours[0])
                                    : vmlaq_s32(s[t][r], sums, fours[four]);
            }
        }
    }
    size_t at = super_d_offset(format);
    float32x4_t d = four_halves(w[0] + at, w[1] + at, w[2] + at, w[3] + at);
    for (int t = 0; t < tokens; t++) {
        float dx;
        memcpy(&dx, (const uint8_t *)scale + (size_t)t * x_stride, 4);
        int32x4_t total = add_lanes(s[t][0], s[t][1], s[t][2], s[t][3]);
        if (is_planar(format)) total = vshlq_s32(total, vdupq_n_s32(planes->shift));
        if (factor != 0) {
            int32x4_t sums = add_lanes(offset[t][0], offset[t][1], offset[t][2], offset[t][3]);
            total = vmlaq_n_s32(total, sums, factor);
        }
        float32x4_t term = vmulq_f32(vmulq_n_f32(d, dx), as_floats(total, is_planar(format)));
        if (has_minimum(format)) {
            int32x4_t minimum = add_lanes(m[t][0], m[t][1], m[t][2], m[t][3]);
            float32x4_t dmin = four_halves(w[0] + 2, w[1] + 2, w[2] + 2, w[3] + 2);
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

// How many tokens' accumulators fit the registers; where there is a wide way, three take that.
#define SLUICE_MOST_TOKENS (SLUICE_DOTPROD ? 2 : 4)

SLUICE_BLOCK_GEMM(q4_0, eight, 2)
SLUICE_BLOCK_GEMM(q8_0, eight, 2)
SLUICE_BLOCK_GEMM(mxfp4, eight, 2)
SLUICE_BLOCK_GEMM(q4_K, super, 2)
SLUICE_BLOCK_GEMM(q5_K, super, SLUICE_MOST_TOKENS)
SLUICE_BLOCK_GEMM(q6_K, super, SLUICE_MOST_TOKENS)
SLUICE_BLOCK_GEMM(iq4_xs, super, 2)

SLUICE_PLANAR_KERNEL(32, eight, eight_planar, 2, 0x422, 0x44)
SLUICE_PLANAR_KERNEL(k, super, super_planar_k, SLUICE_MOST_TOKENS, 0x122, 0x14)
SLUICE_PLANAR_KERNEL(q6_K, super, super_planar_q6_K, SLUICE_MOST_TOKENS, 0x222, 0x24)
