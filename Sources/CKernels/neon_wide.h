// Many tokens at once with the dot-product or the matrix instructions.
//
// A block of 256 elements (or eight of 32) of eight rows is unpacked once to signed bytes, in an
// order that lets a product stay in the lane of its row, and then meets four tokens at a time: no
// sum across lanes is ever taken. With the dot-product instructions a vector holds four elements of
// four rows and SDOT takes the token's four from a lane of its activations, which are read as they
// are. With those of i8mm it holds eight elements of two rows, and SMMLA multiplies them by eight
// of two tokens. Either way the eight rows and four tokens of a step have their sums in eight
// vectors, their scaled sums in eight more, and the rest of the registers holds what is multiplied.
//
// Floating-point accumulators wait in memory, so a block is unpacked once for WIDE_TOKENS tokens,
// whose activations (128 KB at 2048 columns) stay in the second-level cache from rows to rows.

enum { WIDE_ROWS = 8, WIDE_TOKENS = 64 };

// From how many tokens on unpacking eight rows takes fewer instructions than tiles do: with two, 28
// cycles' worth for 256 weights of Q8_0 and 29 of Q4_K against 23 and 24; with three, 23 and 24
// against 25 and 27 (counted for two vector pipes).
enum { WIDE_FROM = 3 };

// 256 elements of eight rows, the first four of them at [0], the others at [1].
typedef struct {
    int8_t weights[16][2][64] __attribute__((aligned(64)));  // by run of 16 elements
    // Of super-blocks, by run of 16 or sub-block of 32: its scale less the next one's, and its
    // minimum. Sums are not cleared from one sub-block to the next: multiplied by the differences,
    // sums of everything so far give the sum of scaled sums, never beyond twice what that can be.
    int16_t steps[2][16][4];
    int16_t minima[2][8][4];
    float d[2][8][4], dmin[2][4];  // d by block of 32; a super-block has the first
} wide_block;

// The activations of tokens, from some block on.
typedef struct {
    const int8_t *q;
    const float *scale;
    const int16_t *sum;  // of A256, else NULL
    size_t stride;       // from token to token, in bytes
} wide_tokens;

SLUICE_INLINE const int8_t *wide_q(wide_tokens x, int t) { return x.q + (size_t)t * x.stride; }

SLUICE_INLINE const float *wide_scales(wide_tokens x, int t) {
    return (const float *)(const void *)((const uint8_t *)x.scale + (size_t)t * x.stride);
}

SLUICE_INLINE const int16_t *wide_sums(wide_tokens x, int t) {
    return (const int16_t *)(const void *)((const uint8_t *)x.sum + (size_t)t * x.stride);
}

SLUICE_INLINE wide_tokens wide_from(wide_tokens x, uint32_t t) {
    const int16_t *sum = x.sum == NULL ? NULL : wide_sums(x, (int)t);
    return (wide_tokens){wide_q(x, (int)t), wide_scales(x, (int)t), sum, x.stride};
}

// Puts 16 elements of four rows where `wide_products` wants them.
SLUICE_INLINE void store_rows(int8_t *to, int8x16_t a, int8x16_t b, int8x16_t c, int8x16_t d) {
#if SLUICE_I8MM
    int64x2_t ab[2] = {vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)};
    int64x2_t cd[2] = {vreinterpretq_s64_s8(c), vreinterpretq_s64_s8(d)};
    vst1q_s8(to, vreinterpretq_s8_s64(vtrn1q_s64(ab[0], ab[1])));
    vst1q_s8(to + 16, vreinterpretq_s8_s64(vtrn1q_s64(cd[0], cd[1])));
    vst1q_s8(to + 32, vreinterpretq_s8_s64(vtrn2q_s64(ab[0], ab[1])));
    vst1q_s8(to + 48, vreinterpretq_s8_s64(vtrn2q_s64(cd[0], cd[1])));
#else
    int32x4_t rows[4] = {
        vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b), vreinterpretq_s32_s8(c),
        vreinterpretq_s32_s8(d)};
    int64x2_t ab[2] = {
        vreinterpretq_s64_s32(vtrn1q_s32(rows[0], rows[1])),
        vreinterpretq_s64_s32(vtrn2q_s32(rows[0], rows[1]))};
    int64x2_t cd[2] = {
        vreinterpretq_s64_s32(vtrn1q_s32(rows[2], rows[3])),
        vreinterpretq_s64_s32(vtrn2q_s32(rows[2], rows[3]))};
    vst1q_s8(to, vreinterpretq_s8_s64(vtrn1q_s64(ab[0], cd[0])));
    vst1q_s8(to + 16, vreinterpretq_s8_s64(vtrn1q_s64(ab[1], cd[1])));
    vst1q_s8(to + 32, vreinterpretq_s8_s64(vtrn2q_s64(ab[0], cd[0])));
    vst1q_s8(to + 48, vreinterpretq_s8_s64(vtrn2q_s64(ab[1], cd[1])));
#endif
}

// Adds the products of 16 elements of eight rows and up to four tokens.
SLUICE_INLINE void wide_products(
    int32x4_t p[8], const int8_t (*weights)[64], wide_tokens from, size_t at, int tokens) {
    int8x16_t x[4];
    for (int t = 0; t < tokens; t++) x[t] = vld1q_s8(wide_q(from, t) + at);
#if SLUICE_I8MM
    int8x16_t pair[2][2];  // by pair of tokens: its first eight elements, and the others
    for (int u = 0; 2 * u < tokens; u++) {
        int64x2_t a = vreinterpretq_s64_s8(x[2 * u]);
        int64x2_t b = vreinterpretq_s64_s8(x[2 * u + 1 < tokens ? 2 * u + 1 : 2 * u]);
        pair[u][0] = vreinterpretq_s8_s64(vtrn1q_s64(a, b));
        pair[u][1] = vreinterpretq_s8_s64(vtrn2q_s64(a, b));
    }
    for (int h = 0; h < 2; h++) {
        for (int e = 0; e < 2; e++) {
            for (int i = 0; i < 2; i++) {
                int8x16_t w = vld1q_s8(weights[h] + 32 * e + 16 * i);
                for (int u = 0; 2 * u < tokens; u++) {
                    int at_sum = 4 * h + 2 * u + i;
                    p[at_sum] = vmmlaq_s32(p[at_sum], w, pair[u][e]);
                }
            }
        }
    }
#else
    for (int h = 0; h < 2; h++) {
        int8x16_t w[4];
        for (int i = 0; i < 4; i++) w[i] = vld1q_s8(weights[h] + 16 * i);
        for (int t = 0; t < tokens; t++) {
            int32x4_t sum = vdotq_laneq_s32(p[4 * h + t], w[0], x[t], 0);
            sum = vdotq_laneq_s32(sum, w[1], x[t], 1);
            sum = vdotq_laneq_s32(sum, w[2], x[t], 2);
            p[4 * h + t] = vdotq_laneq_s32(sum, w[3], x[t], 3);
        }
    }
#endif
}

// The sums of rows 4h ..< 4h + 4 and token t.
SLUICE_INLINE int32x4_t wide_rows(const int32x4_t p[8], int h, int t) {
#if SLUICE_I8MM
    int32x4_t a = p[4 * h + t / 2 * 2], b = p[4 * h + t / 2 * 2 + 1];  // row by token, twice
    return t % 2 == 0 ? vuzp1q_s32(a, b) : vuzp2q_s32(a, b);
#else
    return p[4 * h + t];
#endif
}

// s += p * steps, in the lanes of each row.
SLUICE_INLINE void wide_scale(
    int32x4_t s[8], const int32x4_t p[8], int h, const int16_t steps[4], int tokens) {
    int16x4_t four = vld1_s16(steps);
#if SLUICE_I8MM
    int16x8_t twice = vzip1q_s16(vcombine_s16(four, four), vcombine_s16(four, four));
    int32x4_t by[2] = {vmovl_s16(vget_low_s16(twice)), vmovl_s16(vget_high_s16(twice))};
    for (int i = 0; i < (tokens + 1) / 2 * 2; i++) {
        s[4 * h + i] = vmlaq_s32(s[4 * h + i], p[4 * h + i], by[i % 2]);
    }
#else
    int32x4_t by = vmovl_s16(four);
    for (int t = 0; t < tokens; t++) s[4 * h + t] = vmlaq_s32(s[4 * h + t], p[4 * h + t], by);
#endif
}

// MARK: Planes

// The planes of eight rows, and how their integers become signed bytes: (u << left) - offset, which
// is the doubled weight that CKernels.h defines. Only Q8_0's has nine bits. Its byte is half the
// doubled weight or, if bits are missing, half of one more than it: what a block's activations
// amount to is then too much, twice over, and `half_sums` takes it off.
typedef struct {
    tile_planes four[2];
    int8_t left;
    int8_t offset;
    int half_sums;
    float unit;  // what a sum of products counts
} wide_planes;

SLUICE_INLINE wide_planes wide_planes_of(const sluice_planes *weights, int has_centre) {
    wide_planes planes;
    planes.four[0] = planes.four[1] = planes_of(weights);
    int missing = weights->missing_bits, middle = (1 << missing) - 1;
    int range = integer_range(weights), offset = has_centre ? range / 2 : 0;
    if (range < 256) {
        planes.left = (int8_t)(missing + 1);
        planes.offset = (int8_t)(2 * offset - middle);
        planes.half_sums = 0;
        planes.unit = 0.5f;
    } else {
        planes.left = (int8_t)missing;
        // With all planes `planar_weights` centres them itself.
        planes.offset = (int8_t)(missing == 0 ? 0 : offset - (middle + 1) / 2);
        planes.half_sums = missing != 0;
        planes.unit = 1.0f;
    }
    return planes;
}

// Runs c, c + 4, c + 8 and c + 12 of a unit of row 4h + r.
SLUICE_INLINE void wide_planar_weights(
    const wide_planes *planes, int h, int r, uint32_t unit, int c, int8x16_t w[4]) {
    const tile_planes *four = &planes->four[h];
    if (four->shape == 0x22) {
        planar_weights(four, 0x22, r, unit, (uint32_t)c, w);
    } else if (four->shape == 0x2) {
        planar_weights(four, 0x2, r, unit, (uint32_t)c, w);
    } else if (four->shape == 0x4) {
        planar_weights(four, 0x4, r, unit, (uint32_t)c, w);
    } else {
        planar_weights(four, four->shape, r, unit, (uint32_t)c, w);
    }
    for (int i = 0; i < 4; i++) {
        int place = four->shape == 0x2 && i < 3 ? 2 * i : 0;
        w[i] = vshlq_s8(w[i], vdupq_n_s8((int8_t)(planes->left - place)));
        w[i] = vsubq_s8(w[i], vdupq_n_s8(planes->offset));
    }
}

// MARK: Super-blocks

// Adds a super-block of eight rows to the accumulators of `tokens` tokens. `unit` is what a sum of
// products counts, 1 or, where weights are doubled, 0.5.
SLUICE_INLINE void super_wide_add(
    int minimum, int runs_of_16, const wide_block *block, wide_tokens x, float unit, int tokens,
    float (*a)[2][4]) {
    int32x4_t p[8], s[8];
    for (int i = 0; i < 8; i++) p[i] = s[i] = vdupq_n_s32(0);
    for (int j = 0; j < 8; j++) {
        for (int i = 0; i < 2; i++) {
            size_t run = 2 * (size_t)j + (size_t)i;
            wide_products(p, block->weights[run], x, 16 * run, tokens);
            for (int h = 0; h < 2 && (runs_of_16 || i == 1); h++) {
                wide_scale(s, p, h, block->steps[h][runs_of_16 ? 2 * j + i : j], tokens);
            }
        }
    }
    for (int t = 0; t < tokens; t++) {
        int16x8_t sums = vdupq_n_s16(0);  // by sub-block of 32: [-4064 .. 4064]
        if (minimum) sums = vpaddq_s16(vld1q_s16(wide_sums(x, t)), vld1q_s16(wide_sums(x, t) + 8));
        for (int h = 0; h < 2; h++) {
            float32x4_t value = vmulq_n_f32(vcvtq_f32_s32(wide_rows(s, h, t)), unit);
            float32x4_t d = vld1q_f32(block->d[h][0]);
            float32x4_t term = vmulq_f32(vmulq_n_f32(d, wide_scales(x, t)[0]), value);
            if (minimum) {
                const int16_t(*m)[4] = block->minima[h];
                int32x4_t total = vmull_laneq_s16(vld1_s16(m[0]), sums, 0);
                total = vmlal_laneq_s16(total, vld1_s16(m[1]), sums, 1);
                total = vmlal_laneq_s16(total, vld1_s16(m[2]), sums, 2);
                total = vmlal_laneq_s16(total, vld1_s16(m[3]), sums, 3);
                total = vmlal_laneq_s16(total, vld1_s16(m[4]), sums, 4);
                total = vmlal_laneq_s16(total, vld1_s16(m[5]), sums, 5);
                total = vmlal_laneq_s16(total, vld1_s16(m[6]), sums, 6);
                total = vmlal_laneq_s16(total, vld1_s16(m[7]), sums, 7);
                float32x4_t dmin = vmulq_n_f32(vld1q_f32(block->dmin[h]), wide_scales(x, t)[0]);
                term = vsubq_f32(term, vmulq_f32(dmin, vcvtq_f32_s32(total)));
            }
            vst1q_f32(a[t][h], vaddq_f32(vld1q_f32(a[t][h]), term));
        }
    }
}

// Stores what four rows have of sub-blocks' scales, or of minima: four rows by sub-block.
SLUICE_INLINE void store_columns(int16_t *to, const int16x8_t rows[4]) {
    vst4q_s16(to, ((int16x8x4_t){{rows[0], rows[1], rows[2], rows[3]}}));
}

// Unpacks rows 4h ..< 4h + 4 of a super-block; of planes, `w` is the scales and `unit` the unit.
SLUICE_INLINE void super_unpack(
    int format, const uint8_t *const w[4], const wide_planes *planes, uint32_t unit, int h,
    wide_block *block) {
    int16x8_t steps[2][4], minima[4], none = vdupq_n_s16(0);
    for (int r = 0; r < 4; r++) {
        if (has_scales_of_16(format)) {
            int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(w[r] + (is_planar(format) ? 0 : 192)));
            int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
            steps[0][r] = vsubq_s16(low, vextq_s16(low, high, 1));
            steps[1][r] = vsubq_s16(high, vextq_s16(high, none, 1));
        } else {
            int16x8_t scales;
            if (has_minimum(format)) {
                k_scale_vectors(w[r] + 4, &scales, &minima[r]);
            } else {
                scales = iq4_scale_vector(w[r]);
            }
            steps[0][r] = vsubq_s16(scales, vextq_s16(scales, none, 1));
        }
    }
    store_columns(block->steps[h][0], steps[0]);
    if (has_scales_of_16(format)) store_columns(block->steps[h][8], steps[1]);
    if (has_minimum(format)) {
        store_columns(block->minima[h][0], minima);
        vst1q_f32(block->dmin[h], four_halves(w[0] + 2, w[1] + 2, w[2] + 2, w[3] + 2));
    }
    size_t at = super_d_offset(format);
    vst1q_f32(block->d[h][0], four_halves(w[0] + at, w[1] + at, w[2] + at, w[3] + at));
    for (int c = 0; c < 4; c++) {
        int8x16_t v[4][4];  // by row, then by run of 16
        for (int r = 0; r < 4; r++) {
            if (is_planar(format)) {
                wide_planar_weights(planes, h, r, unit, c, v[r]);
            } else {
                super_weights(format, w[r], c, v[r]);
            }
            for (int i = 0; i < 4 && format == super_q6_K; i++) {
                v[r][i] = vsubq_s8(v[r][i], vdupq_n_s8(32));
            }
        }
        for (int i = 0; i < 4; i++) {
            int run = is_planar(format) ? c + 4 * i : 4 * c + i;
            store_rows(block->weights[run][h], v[0][i], v[1][i], v[2][i], v[3][i]);
        }
    }
}

SLUICE_INLINE void super_wide_all(
    int minimum, int runs_of_16, const wide_block *block, wide_tokens x, float unit,
    uint32_t tokens, float (*a)[2][4]) {
    uint32_t t = 0;
    for (; t + 4 <= tokens; t += 4) {
        super_wide_add(minimum, runs_of_16, block, wide_from(x, t), unit, 4, a + t);
    }
    if (t + 2 <= tokens) {
        super_wide_add(minimum, runs_of_16, block, wide_from(x, t), unit, 2, a + t);
        t += 2;
    }
    if (t < tokens) super_wide_add(minimum, runs_of_16, block, wide_from(x, t), unit, 1, a + t);
}

static SLUICE_NOINLINE void super_wide_minimum(
    const wide_block *block, wide_tokens x, float unit, uint32_t tokens, float (*a)[2][4]) {
    super_wide_all(1, 0, block, x, unit, tokens, a);
}

static SLUICE_NOINLINE void super_wide_runs_of_16(
    const wide_block *block, wide_tokens x, float unit, uint32_t tokens, float (*a)[2][4]) {
    super_wide_all(0, 1, block, x, unit, tokens, a);
}

static SLUICE_NOINLINE void super_wide_runs_of_32(
    const wide_block *block, wide_tokens x, float unit, uint32_t tokens, float (*a)[2][4]) {
    super_wide_all(0, 0, block, x, unit, tokens, a);
}

// MARK: Blocks of 32

// Adds `blocks` blocks of eight rows to the accumulators of `tokens` tokens. A block's sum starts
// with the bits of 1.5 * 2^23 or 1.5 * 2^22, the floats whose last bit is worth 1 or 0.5: with the
// sum, at most 2^20 either way, added as an integer they are those of the float so much above it,
// and a subtraction leaves the sum, exact.
SLUICE_INLINE void eight_wide_add(
    const wide_block *block, uint32_t blocks, wide_tokens x, const float (*half_sums)[8],
    float unit, int tokens, float (*a)[8][2][4]) {
    float32x4_t base = vdupq_n_f32(unit * 12582912.0f);
    for (uint32_t b = 0; b < blocks; b++) {
        int32x4_t p[8];
        for (int i = 0; i < 8; i++) p[i] = vreinterpretq_s32_f32(base);
        for (uint32_t i = 2 * b; i < 2 * b + 2; i++) {
            wide_products(p, block->weights[i], x, 16 * (size_t)i, tokens);
        }
        for (int t = 0; t < tokens; t++) {
            for (int h = 0; h < 2; h++) {
                float32x4_t s = vsubq_f32(vreinterpretq_f32_s32(wide_rows(p, h, t)), base);
                if (half_sums != NULL) s = vsubq_f32(s, vdupq_n_f32(half_sums[t][b]));
                float32x4_t scale = vmulq_n_f32(vld1q_f32(block->d[h][b]), wide_scales(x, t)[b]);
                float *at = a[t][b][h];
                vst1q_f32(at, vaddq_f32(vld1q_f32(at), vmulq_f32(scale, s)));
            }
        }
    }
}

static SLUICE_NOINLINE void eight_wide(
    const wide_block *block, uint32_t blocks, wide_tokens x, const float (*half_sums)[8],
    float unit, uint32_t tokens, float (*a)[8][2][4]) {
    uint32_t t = 0;
    for (; t + 4 <= tokens; t += 4) {
        const float(*sums)[8] = half_sums == NULL ? NULL : half_sums + t;
        eight_wide_add(block, blocks, wide_from(x, t), sums, unit, 4, a + t);
    }
    for (; t < tokens; t++) {
        const float(*sums)[8] = half_sums == NULL ? NULL : half_sums + t;
        eight_wide_add(block, blocks, wide_from(x, t), sums, unit, 1, a + t);
    }
}

// Half the sums of the activations of `blocks` blocks.
static SLUICE_NOINLINE void wide_half_sums(
    wide_tokens x, uint32_t blocks, uint32_t tokens, float (*sums)[8]) {
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t b = 0; b < blocks; b++) {
            const int8_t *q = wide_q(x, (int)t) + 32 * (size_t)b;
            int16x8_t pairs = vpadalq_s8(vpaddlq_s8(vld1q_s8(q)), vld1q_s8(q + 16));
            sums[t][b] = 0.5f * (float)vaddlvq_s16(pairs);
        }
    }
}

// Unpacks rows 4h ..< 4h + 4 of eight blocks, or of a unit of planes with the scales `w`.
SLUICE_INLINE void eight_unpack(
    int format, const uint8_t *const w[4], const wide_planes *planes, uint32_t unit, int h,
    wide_block *block) {
    size_t stride = eight_stride(format);
    for (int half = 0; half < 2; half++) {
        float32x4_t d[4];
        size_t at = 4 * (size_t)half * stride;
        for (int r = 0; r < 4; r++) d[r] = eight_scales(format, w[r] + at, 1);
        vst4q_f32(block->d[h][4 * half], ((float32x4x4_t){{d[0], d[1], d[2], d[3]}}));
    }
    for (int c = 0; c < 4; c++) {
        int8x16_t v[4][4];
        for (int r = 0; r < 4; r++) {
            if (format == eight_planar) {
                wide_planar_weights(planes, h, r, unit, c, v[r]);
            } else {
                eight_weights(format, w[r] + 2 * (size_t)c * stride, v[r]);
                eight_weights(format, w[r] + (2 * (size_t)c + 1) * stride, v[r] + 2);
            }
            for (int i = 0; i < 4 && format == eight_q4_0; i++) {
                v[r][i] = vsubq_s8(v[r][i], vdupq_n_s8(8));
            }
        }
        for (int i = 0; i < 4; i++) {
            int run = format == eight_planar ? c + 4 * i : 4 * c + i;
            store_rows(block->weights[run][h], v[0][i], v[1][i], v[2][i], v[3][i]);
        }
    }
}


// MARK: Matrices

// Rows of blocks, or of scales with planes.
typedef struct {
    const uint8_t *rows;
    size_t row_bytes;
    uint32_t count;
    const sluice_planes *planes;
} wide_matrix;

// Rows r ..< r + 8; the last one stands in for those that there are not.
SLUICE_INLINE void wide_take(
    const wide_matrix *m, uint32_t r, const uint8_t *w[8], wide_planes *planes) {
    for (uint32_t i = 0; i < WIDE_ROWS; i++) {
        size_t row = r + i < m->count ? r + i : m->count - 1;
        w[i] = m->rows + row * m->row_bytes;
        for (uint32_t p = 0; m->planes != NULL && p < m->planes->count; p++) {
            planes->four[i / 4].row[p][i % 4] =
                m->planes->plane[p] + row * m->planes->plane_bytes[p];
        }
    }
}

SLUICE_INLINE void wide_store(
    const float a[2][4], uint32_t live, float *y) {
    if (live >= WIDE_ROWS) {
        memcpy(y, a, WIDE_ROWS * sizeof(float));
    } else {
        for (uint32_t i = 0; i < live; i++) y[i] = a[i / 4][i % 4];
    }
}


SLUICE_INLINE void super_wide_matrix(
    int format, const wide_matrix *m, const uint8_t *x, size_t x_stride, uint32_t tokens,
    uint32_t n, float *y, size_t y_stride) {
    wide_planes planes;
    if (is_planar(format)) planes = wide_planes_of(m->planes, !has_minimum(format));
    float unit = is_planar(format) ? planes.unit : 1.0f;
    record_a256 record = as_a256(x, n);
    for (uint32_t first = 0; first < tokens; first += WIDE_TOKENS) {
        uint32_t some = tokens - first < WIDE_TOKENS ? tokens - first : WIDE_TOKENS;
        wide_tokens start =
            wide_from((wide_tokens){record.q, record.scale, record.sum, x_stride}, first);
        for (uint32_t r = 0; r < m->count; r += WIDE_ROWS) {
            const uint8_t *w[WIDE_ROWS];
            wide_block block;
            float a[WIDE_TOKENS][2][4];
            memset(a, 0, some * sizeof a[0]);
            wide_take(m, r, w, &planes);
            for (uint32_t b = 0; b < n / 256; b++) {
                wide_tokens at = {
                    start.q + (size_t)b * 256, start.scale + b, start.sum + (size_t)b * 16,
                    x_stride};
                for (int h = 0; h < 2; h++) super_unpack(format, w + 4 * h, &planes, b, h, &block);
                if (has_minimum(format)) {
                    super_wide_minimum(&block, at, unit, some, a);
                } else if (has_scales_of_16(format)) {
                    super_wide_runs_of_16(&block, at, unit, some, a);
                } else {
                    super_wide_runs_of_32(&block, at, unit, some, a);
                }
                for (int i = 0; i < WIDE_ROWS; i++) w[i] += super_bytes(format);
            }
            for (uint32_t t = 0; t < some; t++) {
                wide_store(a[t], m->count - r, y + (first + t) * y_stride + r);
            }
        }
    }
}

SLUICE_INLINE void eight_wide_matrix(
    int format, const wide_matrix *m, const uint8_t *x, size_t x_stride, uint32_t tokens,
    uint32_t n, float *y, size_t y_stride) {
    size_t stride = eight_stride(format);
    wide_planes planes;
    if (format == eight_planar) planes = wide_planes_of(m->planes, 1);
    record_a32 record = as_a32(x, n);
    for (uint32_t first = 0; first < tokens; first += WIDE_TOKENS) {
        uint32_t some = tokens - first < WIDE_TOKENS ? tokens - first : WIDE_TOKENS;
        wide_tokens start = wide_from((wide_tokens){record.q, record.scale, NULL, x_stride}, first);
        for (uint32_t r = 0; r < m->count; r += WIDE_ROWS) {
            const uint8_t *w[WIDE_ROWS];
            uint8_t rest[WIDE_ROWS][8 * 34];
            wide_block block;
            float a[WIDE_TOKENS][8][2][4], half_sums[WIDE_TOKENS][8];
            memset(a, 0, some * sizeof a[0]);
            wide_take(m, r, w, &planes);
            for (uint32_t b = 0; b < n / 32; b += 8) {
                uint32_t blocks = n / 32 - b < 8 ? n / 32 - b : 8;
                wide_tokens at = {
                    start.q + (size_t)b * 32, start.scale + b, NULL, x_stride};
                for (int i = 0; i < WIDE_ROWS && blocks < 8; i++) {
                    memset(rest[i], 0, 8 * stride);
                    w[i] = memcpy(rest[i], w[i], blocks * stride);
                }
                for (int h = 0; h < 2; h++) {
                    eight_unpack(format, w + 4 * h, &planes, b / 8, h, &block);
                }
                int take_off = format == eight_planar && planes.half_sums;
                if (take_off) wide_half_sums(at, blocks, some, half_sums);
                eight_wide(
                    &block, blocks, at, take_off ? half_sums : NULL,
                    format == eight_planar ? planes.unit : 1.0f, some, a);
                for (int i = 0; i < WIDE_ROWS; i++) w[i] += 8 * stride;
            }
            for (uint32_t t = 0; t < some; t++) {
                float sums[2][4];
                for (int h = 0; h < 2; h++) {
                    float32x4_t v[8];
                    for (int b = 0; b < 8; b++) v[b] = vld1q_f32(a[t][b][h]);
                    for (int half = 4; half > 0; half /= 2) {
                        for (int b = 0; b < half; b++) v[b] = vaddq_f32(v[b], v[b + half]);
                    }
                    vst1q_f32(sums[h], v[0]);
                }
                wide_store((const float(*)[4])sums, m->count - r, y + (first + t) * y_stride + r);
            }
        }
    }
}

// MARK: Matrix products

// What SLUICE_WIDE calls; returns how many rows are done, all or none.
#define SLUICE_WIDE_GEMM(format, kind)                                                       \
    static uint32_t wide_##format(                                                           \
        const void *weights, size_t row_bytes, uint32_t rows, const void *x,                 \
        size_t x_stride, uint32_t tokens, uint32_t n, float *y, size_t y_stride) {           \
        if (tokens < WIDE_FROM) return 0;                                                    \
        wide_matrix m = {(const uint8_t *)weights, row_bytes, rows, NULL};                   \
        kind##_wide_matrix(                                                                  \
            kind##_##format, &m, (const uint8_t *)x, x_stride, tokens, n, y, y_stride);      \
        return rows;                                                                         \
    }

#define SLUICE_WIDE_PLANES(name, kind, format)                                               \
    static uint32_t wide_planar_##name(                                                      \
        const sluice_planes *weights, uint32_t rows, const void *x, size_t x_stride,         \
        uint32_t tokens, uint32_t n, float *y, size_t y_stride) {                            \
        if (tokens < WIDE_FROM) return 0;                                                    \
        wide_matrix m = {weights->scales, weights->scale_bytes, rows, weights};              \
        kind##_wide_matrix(                                                                  \
            format, &m, (const uint8_t *)x, x_stride, tokens, n, y, y_stride);               \
        return rows;                                                                         \
    }

SLUICE_WIDE_GEMM(q4_0, eight)
SLUICE_WIDE_GEMM(q8_0, eight)
SLUICE_WIDE_GEMM(mxfp4, eight)
SLUICE_WIDE_GEMM(q4_K, super)
SLUICE_WIDE_GEMM(q5_K, super)
SLUICE_WIDE_GEMM(q6_K, super)
SLUICE_WIDE_GEMM(iq4_xs, super)

SLUICE_WIDE_PLANES(32, eight, eight_planar)
SLUICE_WIDE_PLANES(k, super, super_planar_k)
SLUICE_WIDE_PLANES(q6_K, super, super_planar_q6_K)
