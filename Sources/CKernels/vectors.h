// Everything that works on floating-point vectors, written once for any width.
//
// An instruction set defines, and then includes this file:
//
//     vf, LANES            a vector of LANES floats; LANES divides 32
//     vu                   the same lanes as 32-bit integers
//     FLOAT_ROWS           weight rows whose accumulators fit the registers together: 1, 2 or 4
//     FLOAT_TOKENS         tokens to take with them: 1, 2 or 4
//     vf_load, vf_store    at any alignment; with _f16 or _bf16 widening or narrowing
//     vf_set1, vf_add, vf_sub, vf_mul, vf_div
//     vf_larger(a, b)      a > b ? a : b, so a NaN in a gives b
//     vf_smaller(a, b)     a < b ? a : b, so a NaN in b gives b
//     vf_drop_below(x, limit, v)   0 where x < limit, else v
//     vf_round(x, &power)  x to the nearest even integer k, |k| < 2^22, and power = 2^k; anything
//                          for NaN
//     vf_fold(v)           sum of the lanes, folded in halves
//     vf_magnitude(v)      the bits of |v|
//     vu_larger, vu_largest    maximum lane by lane, and over the lanes
//     vf_store_i8(p, v)    LANES values in [-127 .. 127], rounded to nearest even
//     sum_of_16(q)         sum of 16 int8
//
// The accumulators that CKernels.h speaks of, 32 of them, are ACCUMULATORS vectors. The ends of
// rows go through a buffer padded with zeros: an accumulator starts at +0 and can never become -0,
// so adding 0 * 0 leaves it as it is. Nothing is read or written beyond the stated lengths.
#ifndef SLUICE_VECTORS_H
#define SLUICE_VECTORS_H

#include <math.h>

#include "tile.h"

#define ACCUMULATORS (32 / LANES)

SLUICE_INLINE vf vf_zero(void) { return vf_set1(0.0f); }

SLUICE_INLINE vf load_f32(const uint8_t *p) { return vf_load((const float *)(const void *)p); }
SLUICE_INLINE vf load_f16(const uint8_t *p) {
    return vf_load_f16((const uint16_t *)(const void *)p);
}
SLUICE_INLINE vf load_bf16(const uint8_t *p) {
    return vf_load_bf16((const uint16_t *)(const void *)p);
}

// The first `count` < LANES floats, the rest 0.
SLUICE_INLINE vf load_some(const float *p, uint32_t count) {
    float padded[LANES] = {0};
    memcpy(padded, p, count * sizeof(float));
    return vf_load(padded);
}

SLUICE_INLINE void store_some(float *p, vf v, uint32_t count) {
    float padded[LANES];
    vf_store(padded, v);
    memcpy(p, padded, count * sizeof(float));
}

SLUICE_INLINE float fold(vf *a) {
    for (int half = ACCUMULATORS / 2; half > 0; half /= 2) {
        for (int k = 0; k < half; k++) a[k] = vf_add(a[k], a[k + half]);
    }
    return vf_fold(a[0]);
}

// MARK: Dot products

// Rows of `rows` weight pointers against `tokens` activations of n floats; out[t][r].
#define SLUICE_FLOAT_DOTS(format, size)                                                         \
    SLUICE_INLINE void dots_##format(                                                           \
        const uint8_t *const *w, int rows, const uint8_t *x, size_t x_stride_bytes, int tokens, \
        uint32_t n, size_t ahead, float (*out)[4]) {                                            \
        vf a[4][4][ACCUMULATORS];                                                               \
        for (int r = 0; r < rows; r++) {                                                        \
            for (int t = 0; t < tokens; t++) {                                                  \
                for (int k = 0; k < ACCUMULATORS; k++) a[r][t][k] = vf_zero();                  \
            }                                                                                   \
        }                                                                                       \
        uint32_t i = 0;                                                                         \
        for (; n - i >= 32; i += 32) {                                                          \
            for (int k = 0; k < ACCUMULATORS; k++) {                                            \
                size_t at = (size_t)i + (size_t)k * LANES;                                      \
                vf v[4];                                                                        \
                for (int t = 0; t < tokens; t++) {                                              \
                    v[t] = load_f32(x + (size_t)t * x_stride_bytes + at * 4);                   \
                }                                                                               \
                for (int r = 0; r < rows; r++) {                                                \
                    if (tokens == 1 && k * LANES * size % 64 == 0) {                            \
                        prefetch(w[r] + at * size, ahead, 64);                                  \
                    }                                                                           \
                    vf weight = load_##format(w[r] + at * size);                                \
                    for (int t = 0; t < tokens; t++) {                                          \
                        a[r][t][k] = vf_add(a[r][t][k], vf_mul(weight, v[t]));                  \
                    }                                                                           \
                }                                                                               \
            }                                                                                   \
        }                                                                                       \
        if (i < n) {                                                                            \
            uint8_t row[32 * size];                                                             \
            float activation[32];                                                               \
            for (int t = 0; t < tokens; t++) {                                                  \
                memset(activation, 0, sizeof activation);                                       \
                memcpy(                                                                         \
                    activation, x + (size_t)t * x_stride_bytes + (size_t)i * 4,                 \
                    (size_t)(n - i) * 4);                                                       \
                for (int r = 0; r < rows; r++) {                                                \
                    memset(row, 0, sizeof row);                                                 \
                    memcpy(row, w[r] + (size_t)i * size, (size_t)(n - i) * size);               \
                    for (int k = 0; k < ACCUMULATORS; k++) {                                    \
                        vf product = vf_mul(                                                    \
                            load_##format(row + k * LANES * size),                              \
                            vf_load(activation + k * LANES));                                   \
                        a[r][t][k] = vf_add(a[r][t][k], product);                               \
                    }                                                                           \
                }                                                                               \
            }                                                                                   \
        }                                                                                       \
        for (int r = 0; r < rows; r++) {                                                        \
            for (int t = 0; t < tokens; t++) out[t][r] = fold(a[r][t]);                         \
        }                                                                                       \
    }                                                                                           \
                                                                                                \
    SLUICE_INLINE void tile_##format(                                                           \
        const uint8_t *const w[4], const uint8_t *x, size_t x_stride_bytes, uint32_t n,         \
        int tokens, size_t ahead, float (*out)[4]) {                                            \
        for (int r = 0; r < 4; r += FLOAT_ROWS) {                                               \
            float part[4][4];                                                                   \
            dots_##format(w + r, FLOAT_ROWS, x, x_stride_bytes, tokens, n, ahead, part);        \
            for (int t = 0; t < tokens; t++) {                                                  \
                for (int i = 0; i < FLOAT_ROWS; i++) out[t][r + i] = part[t][i];                \
            }                                                                                   \
        }                                                                                       \
    }                                                                                           \
                                                                                                \
    SLUICE_TILED_GEMM(format, FLOAT_TOKENS)

SLUICE_FLOAT_DOTS(f32, 4)
SLUICE_FLOAT_DOTS(f16, 2)
SLUICE_FLOAT_DOTS(bf16, 2)

// MARK: Activations

SLUICE_INLINE float quantize(const float *x, int n, int8_t *q) {
    vu largest_lanes = vf_magnitude(vf_load(x));
    for (int i = LANES; i < n; i += LANES) {
        largest_lanes = vu_larger(largest_lanes, vf_magnitude(vf_load(x + i)));
    }
    // As integers the bits order NaN > infinity > every finite value.
    uint32_t largest = vu_largest(largest_lanes);
    float a = float_of(largest);
    if (largest >= 0x7f800000 || a < 1e-30f) {
        memset(q, 0, (size_t)n);
        return largest >= 0x7f800000 ? float_of(0x7fc00000) : 0.0f;
    }
    vf inverse = vf_set1(127.0f / a);
    for (int i = 0; i < n; i += LANES) vf_store_i8(q + i, vf_mul(vf_load(x + i), inverse));
    return a / 127.0f;
}

static void quantize_a32(const float *x, uint32_t n, void *record) {
    int8_t *q = (int8_t *)record;
    float *scale = (float *)(void *)(q + n);
    for (uint32_t b = 0; b < n / 32; b++) {
        scale[b] = quantize(x + (size_t)b * 32, 32, q + (size_t)b * 32);
    }
}

static void quantize_a256(const float *x, uint32_t n, void *record) {
    int8_t *q = (int8_t *)record;
    float *scale = (float *)(void *)(q + n);
    int16_t *sum = (int16_t *)(void *)(scale + n / 256);
    for (uint32_t b = 0; b < n / 256; b++) {
        scale[b] = quantize(x + (size_t)b * 256, 256, q + (size_t)b * 256);
    }
    for (uint32_t run = 0; run < n / 16; run++) sum[run] = (int16_t)sum_of_16(q + (size_t)run * 16);
}

// MARK: Element by element

SLUICE_INLINE vf exponential(vf x) {
    vf capped = vf_smaller(vf_set1(88.0f), x), power;
    vf k = vf_round(vf_mul(capped, vf_set1(1.44269504f)), &power);
    vf r = vf_sub(
        vf_sub(capped, vf_mul(k, vf_set1(0.693359375f))), vf_mul(k, vf_set1(-2.12194440e-4f)));
    vf p = vf_set1(1.9875691500e-4f);
    p = vf_add(vf_mul(p, r), vf_set1(1.3981999507e-3f));
    p = vf_add(vf_mul(p, r), vf_set1(8.3334519073e-3f));
    p = vf_add(vf_mul(p, r), vf_set1(4.1665795894e-2f));
    p = vf_add(vf_mul(p, r), vf_set1(1.6666665459e-1f));
    p = vf_add(vf_mul(p, r), vf_set1(5.0000001201e-1f));
    p = vf_add(vf_add(vf_mul(p, vf_mul(r, r)), r), vf_set1(1.0f));
    return vf_drop_below(x, -87.0f, vf_mul(p, power));
}

static void rms_norm(const float *x, const float *weight, uint32_t n, float epsilon, float *y) {
    vf a[ACCUMULATORS];
    for (int k = 0; k < ACCUMULATORS; k++) a[k] = vf_zero();
    uint32_t i = 0;
    for (; n - i >= 32; i += 32) {
        for (int k = 0; k < ACCUMULATORS; k++) {
            vf v = vf_load(x + i + k * LANES);
            a[k] = vf_add(a[k], vf_mul(v, v));
        }
    }
    float rest[32] = {0};
    memcpy(rest, x + i, (size_t)(n - i) * sizeof(float));
    for (int k = 0; k < ACCUMULATORS; k++) {
        vf v = vf_load(rest + k * LANES);
        a[k] = vf_add(a[k], vf_mul(v, v));
    }
    float inverse = 1.0f / sqrtf(fold(a) / (float)n + epsilon);
    vf factor = vf_set1(inverse);
    for (i = 0; n - i >= LANES; i += LANES) {
        vf_store(y + i, vf_mul(vf_mul(vf_load(x + i), factor), vf_load(weight + i)));
    }
    for (; i < n; i++) y[i] = (x[i] * inverse) * weight[i];
}

SLUICE_INLINE vf silu_times(vf gate, vf up) {
    vf e = exponential(vf_sub(vf_zero(), gate));
    return vf_mul(vf_div(gate, vf_add(vf_set1(1.0f), e)), up);
}

static void swiglu(const float *gate, const float *up, uint32_t n, float *y) {
    uint32_t i = 0;
    for (; n - i >= LANES; i += LANES)
        vf_store(y + i, silu_times(vf_load(gate + i), vf_load(up + i)));
    if (i < n) {
        vf v = silu_times(load_some(gate + i, n - i), load_some(up + i, n - i));
        store_some(y + i, v, n - i);
    }
}

static float softmax_exp(float *x, uint32_t n) {
    float lanes[LANES], largest = -INFINITY;
    vf larger = vf_set1(-INFINITY);
    uint32_t i = 0;
    for (; n - i >= LANES; i += LANES) larger = vf_larger(vf_load(x + i), larger);
    vf_store(lanes, larger);
    for (int l = 0; l < LANES; l++) largest = lanes[l] > largest ? lanes[l] : largest;
    for (; i < n; i++) largest = x[i] > largest ? x[i] : largest;

    vf top = vf_set1(largest), a[ACCUMULATORS];
    for (int k = 0; k < ACCUMULATORS; k++) a[k] = vf_zero();
    for (i = 0; n - i >= 32; i += 32) {
        for (int k = 0; k < ACCUMULATORS; k++) {
            vf v = exponential(vf_sub(vf_load(x + i + k * LANES), top));
            vf_store(x + i + k * LANES, v);
            a[k] = vf_add(a[k], v);
        }
    }
    for (int k = 0; i < n; k++) {
        uint32_t some = n - i < LANES ? n - i : LANES;
        store_some(x + i, exponential(vf_sub(load_some(x + i, some), top)), some);
        a[k] = vf_add(a[k], load_some(x + i, some));
        i += some;
    }
    return fold(a);
}

static void add_scaled(const float *x, float scale, uint32_t n, float *y) {
    vf s = vf_set1(scale);
    uint32_t i = 0;
    for (; n - i >= LANES; i += LANES) {
        vf_store(y + i, vf_add(vf_load(y + i), vf_mul(s, vf_load(x + i))));
    }
    for (; i < n; i++) y[i] = y[i] + scale * x[i];
}

// MARK: Attention

#define SLUICE_SCORES(format, element)                                                     \
    static void scores_##format(                                                           \
        const float *query, const element *keys, size_t stride, uint32_t count,            \
        uint32_t head_size, float scale, float *out) {                                     \
        for (uint32_t t = 0; t < count; t += FLOAT_ROWS) {                                 \
            uint32_t live = count - t < FLOAT_ROWS ? count - t : FLOAT_ROWS;               \
            const uint8_t *w[FLOAT_ROWS];                                                  \
            float part[4][4];                                                              \
            for (uint32_t i = 0; i < FLOAT_ROWS; i++) {                                    \
                w[i] = (const uint8_t *)(keys + (t + (i < live ? i : live - 1)) * stride); \
            }                                                                              \
            dots_##format(                                                                 \
                w, FLOAT_ROWS, (const uint8_t *)query, 0, 1, head_size,                    \
                FLOAT_ROWS * stride * sizeof(element), part);                              \
            for (uint32_t i = 0; i < live; i++) out[t + i] = part[0][i] * scale;           \
        }                                                                                  \
    }

SLUICE_SCORES(f16, uint16_t)
SLUICE_SCORES(f32, float)

// A band of columns is summed over all positions in registers; the last columns one by one.
#define SLUICE_MIX(format, element, widened)                                                   \
    SLUICE_INLINE void mix_band_##format(                                                      \
        const float *weights, const element *values, size_t stride, uint32_t count, int width, \
        float *out) {                                                                          \
        vf a[8];                                                                               \
        for (int k = 0; k < width; k++) a[k] = vf_zero();                                      \
        for (uint32_t t = 0; t < count; t++) {                                                 \
            const uint8_t *row = (const uint8_t *)(values + t * stride);                       \
            vf weight = vf_set1(weights[t]);                                                   \
            for (int k = 0; k < width; k++) {                                                  \
                vf v = load_##format(row + (size_t)k * LANES * sizeof(element));               \
                a[k] = vf_add(a[k], vf_mul(weight, v));                                        \
            }                                                                                  \
        }                                                                                      \
        for (int k = 0; k < width; k++) vf_store(out + k * LANES, a[k]);                       \
    }                                                                                          \
                                                                                               \
    static void mix_##format(                                                                  \
        const float *weights, const element *values, size_t stride, uint32_t count,            \
        uint32_t head_size, float *out) {                                                      \
        uint32_t i = 0;                                                                        \
        for (; head_size - i >= 8 * LANES; i += 8 * LANES) {                                   \
            mix_band_##format(weights, values + i, stride, count, 8, out + i);                 \
        }                                                                                      \
        for (; head_size - i >= 2 * LANES; i += 2 * LANES) {                                   \
            mix_band_##format(weights, values + i, stride, count, 2, out + i);                 \
        }                                                                                      \
        for (; i < head_size; i++) {                                                           \
            float a = 0;                                                                       \
            for (uint32_t t = 0; t < count; t++) {                                             \
                a += weights[t] * widened(values[t * stride + i]);                             \
            }                                                                                  \
            out[i] = a;                                                                        \
        }                                                                                      \
    }

SLUICE_MIX(f16, uint16_t, half_to_float)
SLUICE_MIX(f32, float, (float))

// MARK: Half precision

static void to_f16(const float *x, uint32_t n, uint16_t *y) {
    uint32_t i = 0;
    for (; n - i >= LANES; i += LANES) vf_store_f16(y + i, vf_load(x + i));
    for (; i < n; i++) y[i] = float_to_half(x[i]);
}

static void from_f16(const uint16_t *x, uint32_t n, float *y) {
    uint32_t i = 0;
    for (; n - i >= LANES; i += LANES) vf_store(y + i, vf_load_f16(x + i));
    for (; i < n; i++) y[i] = half_to_float(x[i]);
}

// The table itself; the instruction set's file has the quantised formats under these names.
#define SLUICE_TABLE(symbol, title)            \
    const sluice_kernels symbol = {            \
        .name = title,                         \
        .gemm =                                \
            {                                  \
                [SLUICE_F32] = gemm_f32,       \
                [SLUICE_F16] = gemm_f16,       \
                [SLUICE_BF16] = gemm_bf16,     \
                [SLUICE_Q4_0] = gemm_q4_0,     \
                [SLUICE_Q8_0] = gemm_q8_0,     \
                [SLUICE_MXFP4] = gemm_mxfp4,   \
                [SLUICE_Q4_K] = gemm_q4_K,     \
                [SLUICE_Q5_K] = gemm_q5_K,     \
                [SLUICE_Q6_K] = gemm_q6_K,     \
                [SLUICE_IQ4_XS] = gemm_iq4_xs, \
            },                                 \
        .planar = SLUICE_PLANAR_TABLE,         \
        .quantize_a32 = quantize_a32,          \
        .quantize_a256 = quantize_a256,        \
        .rms_norm = rms_norm,                  \
        .swiglu = swiglu,                      \
        .softmax_exp = softmax_exp,            \
        .add_scaled = add_scaled,              \
        .scores_f16 = scores_f16,              \
        .mix_f16 = mix_f16,                    \
        .scores_f32 = scores_f32,              \
        .mix_f32 = mix_f32,                    \
        .to_f16 = to_f16,                      \
        .from_f16 = from_f16,                  \
    };

#endif
