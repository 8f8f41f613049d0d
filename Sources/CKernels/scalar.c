// The definition of every operation, in plain C: what CKernels.h says, one rounding per line of
// thought.
//
// The other tables are tested against this one bit for bit. It is also what runs where no faster
// table can, so it stays free of tricks that only pay elsewhere. Intervals of the integer sums are
// stated where they are formed: quants of activations lie in [-127 .. 127], so none can leave 32
// bits.
#include <float.h>
#include <math.h>

#include "blocks.h"
#include "tables.h"

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

static const int8_t mxfp4_values[16] = {SLUICE_MXFP4_VALUES};
static const int8_t iq4_values[16] = {SLUICE_IQ4_VALUES};

// MARK: Dot products

// a[l] += a[l + count / 2], then a quarter, and so on down to one.
static float fold(float *a, int count) {
    for (int half = count / 2; half > 0; half /= 2) {
        for (int l = 0; l < half; l++) a[l] += a[l + half];
    }
    return a[0];
}

static float dot_f32(const uint8_t *row, const void *x, uint32_t n) {
    const float *v = (const float *)x;
    float a[32] = {0};
    for (uint32_t i = 0; i < n; i++) {
        float w;
        memcpy(&w, row + (size_t)i * 4, 4);
        a[i % 32] += w * v[i];
    }
    return fold(a, 32);
}

static float dot_f16(const uint8_t *row, const void *x, uint32_t n) {
    const float *v = (const float *)x;
    float a[32] = {0};
    for (uint32_t i = 0; i < n; i++) {
        uint16_t w;
        memcpy(&w, row + (size_t)i * 2, 2);
        a[i % 32] += half_to_float(w) * v[i];
    }
    return fold(a, 32);
}

static float dot_bf16(const uint8_t *row, const void *x, uint32_t n) {
    const float *v = (const float *)x;
    float a[32] = {0};
    for (uint32_t i = 0; i < n; i++) {
        uint16_t w;
        memcpy(&w, row + (size_t)i * 2, 2);
        a[i % 32] += bf16_to_float(w) * v[i];
    }
    return fold(a, 32);
}

static float dot_q4_0(const uint8_t *row, const void *record, uint32_t n) {
    const block_q4_0 *w = (const block_q4_0 *)(const void *)row;
    record_a32 x = as_a32(record, n);
    float a[8] = {0};
    for (uint32_t b = 0; b < n / 32; b++) {
        const int8_t *q = x.q + (size_t)b * 32;
        int32_t s = 0;  // [-32 * 8 * 127 .. 32 * 8 * 127]
        for (int i = 0; i < 16; i++) {
            s += ((w[b].qs[i] & 15) - 8) * q[i] + ((w[b].qs[i] >> 4) - 8) * q[i + 16];
        }
        a[b % 8] += (half_to_float(w[b].d) * x.scale[b]) * (float)s;
    }
    return fold(a, 8);
}

static float dot_q8_0(const uint8_t *row, const void *record, uint32_t n) {
    const block_q8_0 *w = (const block_q8_0 *)(const void *)row;
    record_a32 x = as_a32(record, n);
    float a[8] = {0};
    for (uint32_t b = 0; b < n / 32; b++) {
        const int8_t *q = x.q + (size_t)b * 32;
        int32_t s = 0;  // magnitude at most 32 * 128 * 127
        for (int i = 0; i < 32; i++) s += w[b].qs[i] * q[i];
        a[b % 8] += (half_to_float(w[b].d) * x.scale[b]) * (float)s;
    }
    return fold(a, 8);
}

static float dot_mxfp4(const uint8_t *row, const void *record, uint32_t n) {
    const block_mxfp4 *w = (const block_mxfp4 *)(const void *)row;
    record_a32 x = as_a32(record, n);
    float a[8] = {0};
    for (uint32_t b = 0; b < n / 32; b++) {
        const int8_t *q = x.q + (size_t)b * 32;
        int32_t s = 0;  // magnitude at most 32 * 12 * 127
        for (int i = 0; i < 16; i++) {
            s += mxfp4_values[w[b].qs[i] & 15] * q[i] + mxfp4_values[w[b].qs[i] >> 4] * q[i + 16];
        }
        a[b % 8] += (e8m0_half_to_float(w[b].e) * x.scale[b]) * (float)s;
    }
    return fold(a, 8);
}

static float dot_q4_K(const uint8_t *row, const void *record, uint32_t n) {
    const block_q4_K *w = (const block_q4_K *)(const void *)row;
    record_a256 x = as_a256(record, n);
    float a = 0;
    for (uint32_t b = 0; b < n / 256; b++) {
        const int8_t *q = x.q + (size_t)b * 256;
        const int16_t *sum = x.sum + (size_t)b * 16;
        uint8_t sc[8], m[8];
        k_scales(w[b].scales, sc, m);
        int32_t s = 0, minimum = 0;  // at most 8 * 63 * 32 * 15 * 127 and 8 * 63 * 32 * 127
        for (int j = 0; j < 8; j++) {
            int32_t sub = 0;
            for (int i = 0; i < 32; i++) {
                sub += (w[b].qs[j / 2 * 32 + i] >> 4 * (j % 2) & 15) * q[j * 32 + i];
            }
            s += sc[j] * sub;
            minimum += m[j] * (sum[2 * j] + sum[2 * j + 1]);
        }
        a += (half_to_float(w[b].d) * x.scale[b]) * (float)s
             - (half_to_float(w[b].dmin) * x.scale[b]) * (float)minimum;
    }
    return a;
}

static float dot_q5_K(const uint8_t *row, const void *record, uint32_t n) {
    const block_q5_K *w = (const block_q5_K *)(const void *)row;
    record_a256 x = as_a256(record, n);
    float a = 0;
    for (uint32_t b = 0; b < n / 256; b++) {
        const int8_t *q = x.q + (size_t)b * 256;
        const int16_t *sum = x.sum + (size_t)b * 16;
        uint8_t sc[8], m[8];
        k_scales(w[b].scales, sc, m);
        int32_t s = 0, minimum = 0;  // at most 8 * 63 * 32 * 31 * 127 and 8 * 63 * 32 * 127
        for (int j = 0; j < 8; j++) {
            int32_t sub = 0;
            for (int i = 0; i < 32; i++) {
                int low = w[b].qs[j / 2 * 32 + i] >> 4 * (j % 2) & 15, high = w[b].qh[i] >> j & 1;
                sub += (low | high << 4) * q[j * 32 + i];
            }
            s += sc[j] * sub;
            minimum += m[j] * (sum[2 * j] + sum[2 * j + 1]);
        }
        a += (half_to_float(w[b].d) * x.scale[b]) * (float)s
             - (half_to_float(w[b].dmin) * x.scale[b]) * (float)minimum;
    }
    return a;
}

static float dot_q6_K(const uint8_t *row, const void *record, uint32_t n) {
    const block_q6_K *w = (const block_q6_K *)(const void *)row;
    record_a256 x = as_a256(record, n);
    float a = 0;
    for (uint32_t b = 0; b < n / 256; b++) {
        const int8_t *q = x.q + (size_t)b * 256;
        int32_t s = 0;  // magnitude at most 256 * 128 * 32 * 127
        for (int j = 0; j < 16; j++) {
            int32_t sub = 0;
            for (int i = 0; i < 16; i++) {
                int half = j / 8, run = j % 8 / 2, l = j % 2 * 16 + i;
                int low = w[b].ql[64 * half + run % 2 * 32 + l] >> run / 2 * 4 & 15;
                int high = w[b].qh[32 * half + l] >> 2 * run & 3;
                sub += ((low | high << 4) - 32) * q[j * 16 + i];
            }
            s += w[b].scales[j] * sub;
        }
        a += (half_to_float(w[b].d) * x.scale[b]) * (float)s;
    }
    return a;
}

static float dot_iq4_xs(const uint8_t *row, const void *record, uint32_t n) {
    const block_iq4_xs *w = (const block_iq4_xs *)(const void *)row;
    record_a256 x = as_a256(record, n);
    float a = 0;
    for (uint32_t b = 0; b < n / 256; b++) {
        const int8_t *q = x.q + (size_t)b * 256;
        int32_t s = 0;  // magnitude at most 256 * 32 * 127 * 127
        for (int j = 0; j < 8; j++) {
            int32_t sub = 0;
            for (int i = 0; i < 16; i++) {
                uint8_t pair = w[b].qs[j * 16 + i];
                sub += iq4_values[pair & 15] * q[j * 32 + i];
                sub += iq4_values[pair >> 4] * q[j * 32 + i + 16];
            }
            s += iq4_scale(&w[b], j) * sub;
        }
        a += (half_to_float(w[b].d) * x.scale[b]) * (float)s;
    }
    return a;
}

// One kernel per format: every row against every token.
#define GEMM(format)                                                                     \
    static void gemm_##format(                                                           \
        const void *weights, size_t row_bytes, uint32_t rows, const void *x,             \
        size_t x_stride_bytes, uint32_t tokens, uint32_t n, float *y, size_t y_stride) { \
        for (uint32_t r = 0; r < rows; r++) {                                            \
            const uint8_t *row = (const uint8_t *)weights + r * row_bytes;               \
            for (uint32_t t = 0; t < tokens; t++) {                                      \
                y[t * y_stride + r] =                                                    \
                    dot_##format(row, (const uint8_t *)x + t * x_stride_bytes, n);       \
            }                                                                            \
        }                                                                                \
    }

GEMM(f32)
GEMM(f16)
GEMM(bf16)
GEMM(q4_0)
GEMM(q8_0)
GEMM(mxfp4)
GEMM(q4_K)
GEMM(q5_K)
GEMM(q6_K)
GEMM(iq4_xs)

// MARK: Dot products of planes

// The weights of a unit, doubled: 2 (u 2^r - offset) + 2^r - 1, within [-256 .. 255], or to 63
// where there is no offset.
static void planar_weights(
    const sluice_planes *planes, uint32_t row, uint32_t unit, int offset, int32_t w[256]) {
    memset(w, 0, 256 * sizeof w[0]);
    for (int p = 0; p < planes->count; p++) {
        uint32_t bits = planes->bits[p], stride = 32 * bits;
        const uint8_t *plane = planes->plane[p] + row * planes->plane_bytes[p] + unit * stride;
        for (uint32_t i = 0; i < 256; i++) {
            int field = plane[i % stride] >> i / stride * bits & ((1 << bits) - 1);
            w[i] = w[i] << bits | field;
        }
    }
    int step = 1 << planes->missing_bits;
    for (int i = 0; i < 256; i++) w[i] = 2 * (w[i] * step - offset) + step - 1;
}

// Q4_0 and Q8_0. The stored integers begin at minus half their range.
static float planar_dot_32(
    const sluice_planes *planes, uint32_t row, const void *record, uint32_t n) {
    const uint8_t *d = planes->scales + row * planes->scale_bytes;
    record_a32 x = as_a32(record, n);
    int32_t w[256];
    float a[8] = {0};
    for (uint32_t b = 0; b < n / 32; b++) {
        if (b % 8 == 0) planar_weights(planes, row, b / 8, integer_range(planes) / 2, w);
        int32_t s = 0;  // magnitude at most 32 * 256 * 127
        for (int i = 0; i < 32; i++) s += w[b % 8 * 32 + i] * x.q[(size_t)b * 32 + i];
        uint16_t half;
        memcpy(&half, d + (size_t)b * 2, 2);
        a[b % 8] += (half_to_float(half) * x.scale[b]) * (0.5f * (float)s);
    }
    return fold(a, 8);
}

// Q4_K and Q5_K.
static float planar_dot_k(
    const sluice_planes *planes, uint32_t row, const void *record, uint32_t n) {
    record_a256 x = as_a256(record, n);
    int32_t w[256];
    float a = 0;
    for (uint32_t b = 0; b < n / 256; b++) {
        const uint8_t *head = planes->scales + row * planes->scale_bytes + (size_t)b * 16;
        const int8_t *q = x.q + (size_t)b * 256;
        const int16_t *sum = x.sum + (size_t)b * 16;
        uint16_t d, dmin;
        uint8_t sc[8], m[8];
        memcpy(&d, head, 2);
        memcpy(&dmin, head + 2, 2);
        k_scales(head + 4, sc, m);
        planar_weights(planes, row, b, 0, w);
        int32_t s = 0, minimum = 0;  // at most 8 * 63 * 32 * 62 * 127 and 8 * 63 * 32 * 127
        for (int j = 0; j < 8; j++) {
            int32_t sub = 0;
            for (int i = 0; i < 32; i++) sub += w[j * 32 + i] * q[j * 32 + i];
            s += sc[j] * sub;
            minimum += m[j] * (sum[2 * j] + sum[2 * j + 1]);
        }
        a += (half_to_float(d) * x.scale[b]) * (0.5f * (float)s)
             - (half_to_float(dmin) * x.scale[b]) * (float)minimum;
    }
    return a;
}

static float planar_dot_q6_K(
    const sluice_planes *planes, uint32_t row, const void *record, uint32_t n) {
    record_a256 x = as_a256(record, n);
    int32_t w[256];
    float a = 0;
    for (uint32_t b = 0; b < n / 256; b++) {
        const uint8_t *head = planes->scales + row * planes->scale_bytes + (size_t)b * 18;
        const int8_t *q = x.q + (size_t)b * 256;
        uint16_t d;
        memcpy(&d, head + 16, 2);
        planar_weights(planes, row, b, 32, w);
        int32_t s = 0;  // magnitude at most 256 * 128 * 64 * 127
        for (int j = 0; j < 16; j++) {
            int32_t sub = 0;
            for (int i = 0; i < 16; i++) sub += w[j * 16 + i] * q[j * 16 + i];
            s += (int8_t)head[j] * sub;
        }
        a += (half_to_float(d) * x.scale[b]) * (0.5f * (float)s);
    }
    return a;
}

#define PLANAR(kind)                                                                           \
    static void planar_##kind(                                                                 \
        const sluice_planes *weights, uint32_t rows, const void *x, size_t x_stride_bytes,     \
        uint32_t tokens, uint32_t n, float *y, size_t y_stride) {                              \
        for (uint32_t r = 0; r < rows; r++) {                                                  \
            for (uint32_t t = 0; t < tokens; t++) {                                            \
                y[t * y_stride + r] =                                                          \
                    planar_dot_##kind(weights, r, (const uint8_t *)x + t * x_stride_bytes, n); \
            }                                                                                  \
        }                                                                                      \
    }

PLANAR(32)
PLANAR(k)
PLANAR(q6_K)

// MARK: Activations

// Quantises one block and returns its scale.
static float quantize(const float *x, int n, int8_t *q) {
    uint32_t largest = 0;  // the bits of max |x|; as integers NaN > infinity > every finite value
    for (int i = 0; i < n; i++) {
        uint32_t magnitude = bits_of(x[i]) & 0x7fffffff;
        if (magnitude > largest) largest = magnitude;
    }
    float a = float_of(largest);
    if (largest >= 0x7f800000 || a < 1e-30f) {
        memset(q, 0, (size_t)n);
        return largest >= 0x7f800000 ? float_of(0x7fc00000) : 0.0f;
    }
    float inverse = 127.0f / a;
    for (int i = 0; i < n; i++) {
        // Adding 1.5 * 2^23 rounds to an integer, to nearest even, and leaves it in the low bits.
        uint32_t rounded = bits_of(x[i] * inverse + 12582912.0f);
        q[i] = (int8_t)((int32_t)(rounded & 0x7fffff) - 0x400000);
    }
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
    for (uint32_t run = 0; run < n / 16; run++) {
        int s = 0;  // [-2032 .. 2032]
        for (int i = 0; i < 16; i++) s += q[(size_t)run * 16 + i];
        sum[run] = (int16_t)s;
    }
}

// MARK: Floating-point vectors

static float exponential(float x) {
    if (x < -87.0f) return 0.0f;
    if (x > 88.0f) x = 88.0f;
    float shifted = x * 1.44269504f + 12582912.0f;  // k in the low bits, as in `quantize`
    float k = shifted - 12582912.0f;                // [-126 .. 127]
    float r = (x - k * 0.693359375f) - k * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    float power = float_of(((bits_of(shifted) & 0x7fffff) - 0x400000 + 127) << 23);
    return ((p * (r * r) + r) + 1.0f) * power;
}

static void rms_norm(const float *x, const float *weight, uint32_t n, float epsilon, float *y) {
    float s = dot_f32((const uint8_t *)x, x, n);
    float inverse = 1.0f / sqrtf(s / (float)n + epsilon);
    for (uint32_t i = 0; i < n; i++) y[i] = (x[i] * inverse) * weight[i];
}

static void swiglu(const float *gate, const float *up, uint32_t n, float *y) {
    for (uint32_t i = 0; i < n; i++) {
        y[i] = (gate[i] / (1.0f + exponential(-gate[i]))) * up[i];
    }
}

static void reglu(const float *gate, const float *up, uint32_t n, float *y) {
    for (uint32_t i = 0; i < n; i++) y[i] = (0.0f > gate[i] ? 0.0f : gate[i]) * up[i];
}

static void clamped_swiglu(
    const float *gate, const float *up, uint32_t n, float alpha, float limit, float *y) {
    for (uint32_t i = 0; i < n; i++) {
        float g = limit < gate[i] ? limit : gate[i];
        float u = limit < up[i] ? limit : up[i];
        u = -limit > u ? -limit : u;
        y[i] = (g / (1.0f + exponential(-(alpha * g)))) * (u + 1.0f);
    }
}

static float span_exp(float *x, uint32_t n, float *maximum) {
    float largest = -FLT_MAX;
    for (uint32_t i = 0; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    float a[32] = {0};
    for (uint32_t i = 0; i < n; i++) {
        x[i] = exponential(x[i] - largest);
        a[i % 32] += x[i];
    }
    *maximum = largest;
    return fold(a, 32);
}

static float softmax_exp(float *x, uint32_t n) {
    float maximum;
    return span_exp(x, n, &maximum);
}

static void add_scaled(const float *x, float scale, uint32_t n, float *y) {
    for (uint32_t i = 0; i < n; i++) y[i] = y[i] + scale * x[i];
}

// MARK: Attention

static float element_f32(const uint8_t *row, uint32_t i) {
    float x;
    memcpy(&x, row + (size_t)i * 4, 4);
    return x;
}

static float element_f16(const uint8_t *row, uint32_t i) {
    uint16_t x;
    memcpy(&x, row + (size_t)i * 2, 2);
    return half_to_float(x);
}

static float element_q8_0(const uint8_t *row, uint32_t i) {
    const block_q8_0 *block = (const block_q8_0 *)(const void *)row + i / 32;
    return half_to_float(block->d) * (float)block->qs[i % 32];
}

#define CACHE(format)                                                                          \
    static void scores_##format(                                                               \
        const float *queries, size_t query_stride, uint32_t rows, const void *keys,            \
        size_t row_bytes, uint32_t count, uint32_t head_size, float scale, float *out,         \
        size_t out_stride) {                                                                   \
        for (uint32_t r = 0; r < rows; r++) {                                                  \
            const float *query = queries + r * query_stride;                                   \
            for (uint32_t t = 0; t < count; t++) {                                             \
                const uint8_t *key = (const uint8_t *)keys + t * row_bytes;                    \
                float a[32] = {0};                                                             \
                for (uint32_t i = 0; i < head_size; i++) {                                     \
                    a[i % 32] += element_##format(key, i) * query[i];                          \
                }                                                                              \
                out[r * out_stride + t] = fold(a, 32) * scale;                                 \
            }                                                                                  \
        }                                                                                      \
    }                                                                                          \
                                                                                               \
    static void mix_##format(                                                                  \
        const float *weights, size_t weight_stride, uint32_t rows, const void *values,         \
        size_t row_bytes, uint32_t count, uint32_t head_size, float *out, size_t out_stride) { \
        for (uint32_t r = 0; r < rows; r++) {                                                  \
            for (uint32_t t = 0; t < count; t++) {                                             \
                const uint8_t *value = (const uint8_t *)values + t * row_bytes;                \
                for (uint32_t i = 0; i < head_size; i++) {                                     \
                    out[r * out_stride + i] +=                                                 \
                        weights[r * weight_stride + t] * element_##format(value, i);           \
                }                                                                              \
            }                                                                                  \
        }                                                                                      \
    }

CACHE(f32)
CACHE(f16)
CACHE(q8_0)

static void store_f32(const float *x, uint32_t n, void *row) { memcpy(row, x, (size_t)n * 4); }

static void store_f16(const float *x, uint32_t n, void *row) {
    for (uint32_t i = 0; i < n; i++) {
        uint16_t half = float_to_half(x[i]);
        memcpy((uint8_t *)row + (size_t)i * 2, &half, 2);
    }
}

static void store_q8_0(const float *x, uint32_t n, void *row) {
    block_q8_0 *block = (block_q8_0 *)row;
    for (uint32_t b = 0; b < n / 32; b++) {
        block[b].d = float_to_half(quantize(x + (size_t)b * 32, 32, block[b].qs));
    }
}

static void merge_span(const float *next, uint32_t head_size, float *partial) {
    float *m = partial + head_size, *l = m + 1;
    float largest = next[head_size] > *m ? next[head_size] : *m;
    float a = exponential(*m - largest), b = exponential(next[head_size] - largest);
    for (uint32_t i = 0; i < head_size; i++) partial[i] = partial[i] * a + next[i] * b;
    *l = *l * a + next[head_size + 1] * b;
    *m = largest;
}

static void finish_spans(const float *partial, uint32_t head_size, float *out) {
    for (uint32_t i = 0; i < head_size; i++) out[i] = partial[i] / partial[head_size + 1];
}

// MARK: Half precision

static void to_f16(const float *x, uint32_t n, uint16_t *y) {
    for (uint32_t i = 0; i < n; i++) y[i] = float_to_half(x[i]);
}

static void from_f16(const uint16_t *x, uint32_t n, float *y) {
    for (uint32_t i = 0; i < n; i++) y[i] = half_to_float(x[i]);
}

const sluice_kernels sluice_scalar = {
    .name = "scalar",
    .gemm =
        {
            [SLUICE_F32] = gemm_f32,
            [SLUICE_F16] = gemm_f16,
            [SLUICE_BF16] = gemm_bf16,
            [SLUICE_Q4_0] = gemm_q4_0,
            [SLUICE_Q8_0] = gemm_q8_0,
            [SLUICE_MXFP4] = gemm_mxfp4,
            [SLUICE_Q4_K] = gemm_q4_K,
            [SLUICE_Q5_K] = gemm_q5_K,
            [SLUICE_Q6_K] = gemm_q6_K,
            [SLUICE_IQ4_XS] = gemm_iq4_xs,
        },
    .planar = SLUICE_PLANAR_TABLE,
    .quantize_a32 = quantize_a32,
    .quantize_a256 = quantize_a256,
    .rms_norm = rms_norm,
    .swiglu = swiglu,
    .reglu = reglu,
    .clamped_swiglu = clamped_swiglu,
    .softmax_exp = softmax_exp,
    .add_scaled = add_scaled,
    .span_exp = span_exp,
    .merge_span = merge_span,
    .finish_spans = finish_spans,
    .cache = SLUICE_CACHE_TABLE,
    .to_f16 = to_f16,
    .from_f16 = from_f16,
};
