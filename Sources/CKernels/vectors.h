// Everything that works on floating-point vectors, written once for any width.
//
// An instruction set defines, and then includes this file:
//
//     vf, LANES            a vector of LANES floats; LANES divides 32
//     vu                   the same lanes as 32-bit integers
//     FLOAT_ROWS           weight rows whose accumulators fit the registers together: 1, 2 or 4
//     FLOAT_TOKENS         tokens to take with them: 1, 2 or 4
//     WIDEN_ABOVE          queries up to which cached keys are widened for each of them
//     MIX_ROWS, MIX_BAND   queries, and vectors of each, whose sums fit the registers together
//     vf_load, vf_store    at any alignment; with _f16 or _bf16 widening or narrowing
//     vf_set1, vf_add, vf_sub, vf_mul, vf_div
//     vf_larger(a, b)      a > b ? a : b, so a NaN in a gives b
//     vf_smaller(a, b)     a < b ? a : b, so a NaN in b gives b
//     vf_drop_below(x, limit, v)   0 where x < limit, else v
//     vf_round(x, &power)  x to the nearest even integer k, |k| < 2^22, and power = 2^k; anything
//                          for NaN
//     vf_fold(v)           sum of the lanes, folded in halves
//     vf_fold_rows(v, rows, out)   the same of FLOAT_ROWS vectors at once
//     vf_magnitude(v)      the bits of |v|
//     vu_larger, vu_largest    maximum lane by lane, and over the lanes
//     vf_load_i8(p)        LANES int8, widened
//     vf_set1_f16(bits)    a half-precision number, widened
//     vf_store_i8(p, v)    LANES values in [-127 .. 127], rounded to nearest even
//     sum_of_16(q)         sum of 16 int8
//
// The accumulators that CKernels.h speaks of, 32 of them, are ACCUMULATORS vectors. The ends of
// rows go through a buffer padded with zeros: an accumulator starts at +0 and can never become -0,
// so adding 0 * 0 leaves it as it is. Nothing is read or written beyond the stated lengths.
#ifndef SLUICE_VECTORS_H
#define SLUICE_VECTORS_H

#include <float.h>
#include <math.h>

#include "tile.h"

#define ACCUMULATORS (32 / LANES)

SLUICE_INLINE vf vf_zero(void) { return vf_set1(0.0f); }

// Elements i ..< i + LANES of a row; in Q8_0 they are of one block.
SLUICE_INLINE vf elements_f32(const uint8_t *row, size_t i) {
    return vf_load((const float *)(const void *)(row + i * 4));
}
SLUICE_INLINE vf elements_f16(const uint8_t *row, size_t i) {
    return vf_load_f16((const uint16_t *)(const void *)(row + i * 2));
}
SLUICE_INLINE vf elements_bf16(const uint8_t *row, size_t i) {
    return vf_load_bf16((const uint16_t *)(const void *)(row + i * 2));
}
SLUICE_INLINE vf elements_q8_0(const uint8_t *row, size_t i) {
    const block_q8_0 *block = (const block_q8_0 *)(const void *)row + i / 32;
    return vf_mul(vf_set1_f16(block->d), vf_load_i8(block->qs + i % 32));
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

SLUICE_INLINE vf fold_to_vector(vf *a) {
    for (int half = ACCUMULATORS / 2; half > 0; half /= 2) {
        for (int k = 0; k < half; k++) a[k] = vf_add(a[k], a[k + half]);
    }
    return a[0];
}

SLUICE_INLINE float fold(vf *a) { return vf_fold(fold_to_vector(a)); }

// MARK: Dot products

// Rows of `rows` weight pointers against `tokens` activations of n floats; out[t][r]. Of a
// row 32 elements take `size` bytes.
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
                    v[t] = elements_f32(x + (size_t)t * x_stride_bytes, at);                    \
                }                                                                               \
                for (int r = 0; r < rows; r++) {                                                \
                    if (tokens == 1 && k * LANES * size % (32 * 64) == 0) {                     \
                        prefetch(w[r] + i / 32 * size + k * LANES * size / 32, ahead, 64);      \
                    }                                                                           \
                    vf weight = elements_##format(w[r], at);                                    \
                    for (int t = 0; t < tokens; t++) {                                          \
                        a[r][t][k] = vf_add(a[r][t][k], vf_mul(weight, v[t]));                  \
                    }                                                                           \
                }                                                                               \
            }                                                                                   \
        }                                                                                       \
        if (i < n) {                                                                            \
            uint8_t row[size];                                                                  \
            float activation[32];                                                               \
            for (int t = 0; t < tokens; t++) {                                                  \
                memset(activation, 0, sizeof activation);                                       \
                memcpy(                                                                         \
                    activation, x + (size_t)t * x_stride_bytes + (size_t)i * 4,                 \
                    (size_t)(n - i) * 4);                                                       \
                for (int r = 0; r < rows; r++) {                                                \
                    memset(row, 0, sizeof row);                                                 \
                    memcpy(row, w[r] + (size_t)i / 32 * size, (size_t)(n - i) * size / 32);     \
                    for (int k = 0; k < ACCUMULATORS; k++) {                                    \
                        vf product = vf_mul(                                                    \
                            elements_##format(row, (size_t)k * LANES),                          \
                            vf_load(activation + k * LANES));                                   \
                        a[r][t][k] = vf_add(a[r][t][k], product);                               \
                    }                                                                           \
                }                                                                               \
            }                                                                                   \
        }                                                                                       \
        for (int t = 0; t < tokens; t++) {                                                      \
            vf sums[4];                                                                         \
            for (int r = 0; r < rows; r++) sums[r] = fold_to_vector(a[r][t]);                   \
            vf_fold_rows(sums, rows, out[t]);                                                   \
        }                                                                                       \
    }

#define SLUICE_FLOAT_GEMM(format)                                                        \
    SLUICE_INLINE void tile_##format(                                                    \
        const uint8_t *const w[4], const uint8_t *x, size_t x_stride_bytes, uint32_t n,  \
        int tokens, size_t ahead, float (*out)[4]) {                                     \
        for (int r = 0; r < 4; r += FLOAT_ROWS) {                                        \
            float part[4][4];                                                            \
            dots_##format(w + r, FLOAT_ROWS, x, x_stride_bytes, tokens, n, ahead, part); \
            for (int t = 0; t < tokens; t++) {                                           \
                for (int i = 0; i < FLOAT_ROWS; i++) out[t][r + i] = part[t][i];         \
            }                                                                            \
        }                                                                                \
    }                                                                                    \
                                                                                         \
    SLUICE_TILED_GEMM(format, FLOAT_TOKENS)

SLUICE_FLOAT_DOTS(f32, 128)
SLUICE_FLOAT_DOTS(f16, 64)
SLUICE_FLOAT_DOTS(bf16, 64)
SLUICE_FLOAT_DOTS(q8_0, sizeof(block_q8_0))

SLUICE_FLOAT_GEMM(f32)
SLUICE_FLOAT_GEMM(f16)
SLUICE_FLOAT_GEMM(bf16)

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

SLUICE_INLINE vf relu_times(vf gate, vf up) { return vf_mul(vf_larger(vf_zero(), gate), up); }

static void reglu(const float *gate, const float *up, uint32_t n, float *y) {
    uint32_t i = 0;
    for (; n - i >= LANES; i += LANES)
        vf_store(y + i, relu_times(vf_load(gate + i), vf_load(up + i)));
    if (i < n) {
        vf v = relu_times(load_some(gate + i, n - i), load_some(up + i, n - i));
        store_some(y + i, v, n - i);
    }
}

SLUICE_INLINE vf clamped_silu_times(vf gate, vf up, float alpha, float limit) {
    vf g = vf_smaller(vf_set1(limit), gate);
    vf u = vf_larger(vf_set1(-limit), vf_smaller(vf_set1(limit), up));
    vf e = exponential(vf_sub(vf_zero(), vf_mul(vf_set1(alpha), g)));
    return vf_mul(vf_div(g, vf_add(vf_set1(1.0f), e)), vf_add(u, vf_set1(1.0f)));
}

static void clamped_swiglu(
    const float *gate, const float *up, uint32_t n, float alpha, float limit, float *y) {
    uint32_t i = 0;
    for (; n - i >= LANES; i += LANES) {
        vf v = clamped_silu_times(vf_load(gate + i), vf_load(up + i), alpha, limit);
        vf_store(y + i, v);
    }
    if (i < n) {
        vf v = clamped_silu_times(
            load_some(gate + i, n - i), load_some(up + i, n - i), alpha, limit);
        store_some(y + i, v, n - i);
    }
}

static float span_exp(float *x, uint32_t n, float *maximum) {
    float lanes[LANES], largest = -FLT_MAX;
    vf larger = vf_set1(-FLT_MAX);
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
    *maximum = largest;
    return fold(a);
}

static float softmax_exp(float *x, uint32_t n) {
    float maximum;
    return span_exp(x, n, &maximum);
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

SLUICE_INLINE float element_f32(const uint8_t *row, size_t i) {
    float x;
    memcpy(&x, row + i * 4, 4);
    return x;
}
SLUICE_INLINE float element_f16(const uint8_t *row, size_t i) {
    uint16_t x;
    memcpy(&x, row + i * 2, 2);
    return half_to_float(x);
}
SLUICE_INLINE float element_q8_0(const uint8_t *row, size_t i) {
    const block_q8_0 *block = (const block_q8_0 *)(const void *)row + i / 32;
    return half_to_float(block->d) * (float)block->qs[i % 32];
}

enum { MOST_WIDENED = 256, MIX_POSITIONS = 32 };

// FLOAT_ROWS keys at a time. Many queries meet them widened, in the nearest cache.
#define SLUICE_SCORES(format)                                                                   \
    static void scores_##format(                                                                \
        const float *queries, size_t query_stride, uint32_t rows, const void *keys,             \
        size_t row_bytes, uint32_t count, uint32_t head_size, float scale, float *out,          \
        size_t out_stride) {                                                                    \
        float widened[FLOAT_ROWS][MOST_WIDENED];                                                \
        int widens = head_size % LANES == 0 && head_size <= MOST_WIDENED && rows > WIDEN_ABOVE; \
        for (uint32_t t = 0; t < count; t += FLOAT_ROWS) {                                      \
            uint32_t live = count - t < FLOAT_ROWS ? count - t : FLOAT_ROWS, r = 0;             \
            const uint8_t *w[FLOAT_ROWS];                                                       \
            float part[4][4];                                                                   \
            for (uint32_t i = 0; i < FLOAT_ROWS; i++) {                                         \
                w[i] = (const uint8_t *)keys + (t + (i < live ? i : live - 1)) * row_bytes;     \
                if (!widens) continue;                                                          \
                for (uint32_t e = 0; e < head_size; e += LANES) {                               \
                    vf_store(widened[i] + e, elements_##format(w[i], e));                       \
                }                                                                               \
                w[i] = (const uint8_t *)widened[i];                                             \
            }                                                                                   \
            while (r < rows) {                                                                  \
                const uint8_t *query = (const uint8_t *)(queries + r * query_stride);           \
                size_t stride = query_stride * sizeof(float);                                   \
                size_t ahead = prefetch_distance(row_bytes);                                    \
                uint32_t some = FLOAT_TOKENS >= 2 && rows - r >= 2 ? 2 : 1;                     \
                if (widens && some == 2) {                                                      \
                    dots_f32(w, FLOAT_ROWS, query, stride, 2, head_size, 0, part);              \
                } else if (widens) {                                                            \
                    dots_f32(w, FLOAT_ROWS, query, stride, 1, head_size, 0, part);              \
                } else if (some == 2) {                                                         \
                    dots_##format(w, FLOAT_ROWS, query, stride, 2, head_size, 0, part);         \
                } else {                                                                        \
                    dots_##format(w, FLOAT_ROWS, query, stride, 1, head_size, ahead, part);     \
                }                                                                               \
                for (uint32_t j = 0; j < some; j++, r++) {                                      \
                    for (uint32_t i = 0; i < live; i++) {                                       \
                        out[r * out_stride + t + i] = part[j][i] * scale;                       \
                    }                                                                           \
                }                                                                               \
            }                                                                                   \
        }                                                                                       \
    }

SLUICE_SCORES(f16)
SLUICE_SCORES(f32)
SLUICE_SCORES(q8_0)

// A band of columns of some queries is summed over all positions in registers.
#define SLUICE_MIX(format)                                                                      \
    SLUICE_INLINE void mix_band_##format(                                                       \
        const float *weights, size_t weight_stride, int rows, const uint8_t *values,            \
        size_t row_bytes, uint32_t count, size_t column, int width, float *out,                 \
        size_t out_stride) {                                                                    \
        vf a[4][8];                                                                             \
        for (int r = 0; r < rows; r++) {                                                        \
            for (int k = 0; k < width; k++) {                                                   \
                a[r][k] = vf_load(out + (size_t)r * out_stride + column + (size_t)k * LANES);   \
            }                                                                                   \
        }                                                                                       \
        for (uint32_t t = 0; t < count; t++) {                                                  \
            const uint8_t *row = values + t * row_bytes;                                        \
            vf v[8];                                                                            \
            for (int k = 0; k < width; k++) {                                                   \
                v[k] = elements_##format(row, column + (size_t)k * LANES);                      \
            }                                                                                   \
            for (int r = 0; r < rows; r++) {                                                    \
                vf weight = vf_set1(weights[(size_t)r * weight_stride + t]);                    \
                for (int k = 0; k < width; k++) {                                               \
                    a[r][k] = vf_add(a[r][k], vf_mul(weight, v[k]));                            \
                }                                                                               \
            }                                                                                   \
        }                                                                                       \
        for (int r = 0; r < rows; r++) {                                                        \
            for (int k = 0; k < width; k++) {                                                   \
                vf_store(out + (size_t)r * out_stride + column + (size_t)k * LANES, a[r][k]);   \
            }                                                                                   \
        }                                                                                       \
    }                                                                                           \
                                                                                                \
    SLUICE_INLINE void mix_rows_##format(                                                       \
        const float *weights, size_t weight_stride, int rows, const uint8_t *values,            \
        size_t row_bytes, uint32_t count, uint32_t head_size, int width, float *out,            \
        size_t out_stride) {                                                                    \
        size_t i = 0;                                                                           \
        for (; head_size - i >= (size_t)width * LANES; i += (size_t)width * LANES) {            \
            mix_band_##format(                                                                  \
                weights, weight_stride, rows, values, row_bytes, count, i, width, out,          \
                out_stride);                                                                    \
        }                                                                                       \
        for (; head_size - i >= LANES; i += LANES) {                                            \
            mix_band_##format(                                                                  \
                weights, weight_stride, rows, values, row_bytes, count, i, 1, out, out_stride); \
        }                                                                                       \
        for (; i < head_size; i++) {                                                            \
            for (int r = 0; r < rows; r++) {                                                    \
                float a = out[(size_t)r * out_stride + i];                                      \
                for (uint32_t t = 0; t < count; t++) {                                          \
                    a += weights[(size_t)r * weight_stride + t]                                 \
                         * element_##format(values + t * row_bytes, i);                         \
                }                                                                               \
                out[(size_t)r * out_stride + i] = a;                                            \
            }                                                                                   \
        }                                                                                       \
    }                                                                                           \
                                                                                                \
    static void mix_##format(                                                                   \
        const float *weights, size_t weight_stride, uint32_t rows, const void *values,          \
        size_t row_bytes, uint32_t count, uint32_t head_size, float *out, size_t out_stride) {  \
        float widened[MIX_POSITIONS * MOST_WIDENED];                                            \
        int widens = head_size % LANES == 0 && head_size <= MOST_WIDENED && rows > MIX_ROWS;    \
        for (uint32_t t = 0; t < count; t += MIX_POSITIONS) {                                   \
            uint32_t some = count - t < MIX_POSITIONS ? count - t : MIX_POSITIONS, r = 0;       \
            const uint8_t *v = (const uint8_t *)values + t * row_bytes;                         \
            for (uint32_t p = 0; widens && p < some; p++) {                                     \
                for (uint32_t e = 0; e < head_size; e += LANES) {                               \
                    vf_store(                                                                   \
                        widened + p * head_size + e, elements_##format(v + p * row_bytes, e));  \
                }                                                                               \
            }                                                                                   \
            for (; widens && r + MIX_ROWS <= rows; r += MIX_ROWS) {                             \
                mix_rows_f32(                                                                   \
                    weights + r * weight_stride + t, weight_stride, MIX_ROWS,                   \
                    (const uint8_t *)widened, head_size * sizeof(float), some, head_size,       \
                    MIX_BAND, out + r * out_stride, out_stride);                                \
            }                                                                                   \
            for (; r + MIX_ROWS <= rows; r += MIX_ROWS) {                                       \
                mix_rows_##format(                                                              \
                    weights + r * weight_stride + t, weight_stride, MIX_ROWS, v, row_bytes,     \
                    some, head_size, MIX_BAND, out + r * out_stride, out_stride);               \
            }                                                                                   \
            for (; r < rows; r++) {                                                             \
                mix_rows_##format(                                                              \
                    weights + r * weight_stride + t, weight_stride, 1, v, row_bytes, some,      \
                    head_size, 8, out + r * out_stride, out_stride);                            \
            }                                                                                   \
        }                                                                                       \
    }

SLUICE_MIX(f32)
SLUICE_MIX(f16)
SLUICE_MIX(q8_0)

static void store_f32(const float *x, uint32_t n, void *row) {
    memcpy(row, x, (size_t)n * sizeof(float));
}

static void store_q8_0(const float *x, uint32_t n, void *row) {
    block_q8_0 *block = (block_q8_0 *)row;
    for (uint32_t b = 0; b < n / 32; b++) {
        block[b].d = float_to_half(quantize(x + (size_t)b * 32, 32, block[b].qs));
    }
}

SLUICE_INLINE float exponential_of(float x) {
    float lanes[LANES];
    vf_store(lanes, exponential(vf_set1(x)));
    return lanes[0];
}

static void merge_span(const float *next, uint32_t head_size, float *partial) {
    float *m = partial + head_size, *l = m + 1;
    float largest = next[head_size] > *m ? next[head_size] : *m;
    float before = exponential_of(*m - largest), after = exponential_of(next[head_size] - largest);
    vf a = vf_set1(before), b = vf_set1(after);
    uint32_t i = 0;
    for (; head_size - i >= LANES; i += LANES) {
        vf_store(
            partial + i, vf_add(vf_mul(vf_load(partial + i), a), vf_mul(vf_load(next + i), b)));
    }
    for (; i < head_size; i++) partial[i] = partial[i] * before + next[i] * after;
    *l = *l * before + next[head_size + 1] * after;
    *m = largest;
}

static void finish_spans(const float *partial, uint32_t head_size, float *out) {
    float sum = partial[head_size + 1];
    uint32_t i = 0;
    for (; head_size - i >= LANES; i += LANES) {
        vf_store(out + i, vf_div(vf_load(partial + i), vf_set1(sum)));
    }
    for (; i < head_size; i++) out[i] = partial[i] / sum;
}

// MARK: Half precision

static void to_f16(const float *x, uint32_t n, uint16_t *y) {
    uint32_t i = 0;
    for (; n - i >= LANES; i += LANES) vf_store_f16(y + i, vf_load(x + i));
    for (; i < n; i++) y[i] = float_to_half(x[i]);
}

static void store_f16(const float *x, uint32_t n, void *row) { to_f16(x, n, (uint16_t *)row); }

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
        .reglu = reglu,                        \
        .clamped_swiglu = clamped_swiglu,      \
        .softmax_exp = softmax_exp,            \
        .add_scaled = add_scaled,              \
        .span_exp = span_exp,                  \
        .merge_span = merge_span,              \
        .finish_spans = finish_spans,          \
        .cache = SLUICE_CACHE_TABLE,           \
        .to_f16 = to_f16,                      \
        .from_f16 = from_f16,                  \
    };

#endif
