// The arithmetic of Sluice: one table of function pointers per instruction set.
//
// Every instruction set computes *the same bits*. That is a definition, not a hope: each operation below
// states the order of its roundings, and the scalar table is that statement as plain C. Products and sums
// of integers are exact in 32 bits, so their order is free; floating-point operations are single
// multiplications, additions and divisions rounded to nearest even (no fused multiply-add), in the stated
// order. A model therefore answers with the same logits on a Raspberry Pi and on a server.
//
// Typed pointers are aligned as their type is, activation records to 4 bytes (64 is best), weights not at
// all. Inputs and outputs do not overlap unless said so. Lengths are in elements unless a name says bytes.
// Nothing here allocates, locks or fails; callers validate (row lengths are multiples of the block, formats
// have a kernel). Weights may hold any bit pattern; records are as the quantisers below made them.
#ifndef CKERNELS_H
#define CKERNELS_H

#include <stddef.h>
#include <stdint.h>

// Weight formats that have a dot-product kernel. The numbers index `sluice_kernels.gemm`.
enum {
    SLUICE_F32 = 0,
    SLUICE_F16,
    SLUICE_BF16,
    SLUICE_Q4_0,
    SLUICE_Q8_0,
    SLUICE_MXFP4,
    SLUICE_Q4_K,
    SLUICE_Q5_K,
    SLUICE_Q6_K,
    SLUICE_IQ4_XS,
    SLUICE_FORMAT_COUNT
};

// Quantised activations.
//
// A row of n float activations becomes, in one contiguous record:
//
//   A32  (for Q4_0, Q8_0, MXFP4; n a multiple of 32)
//     int8  q[n]           then  float scale[n / 32]
//   A256 (for Q4_K, Q5_K, Q6_K, IQ4_XS; n a multiple of 256)
//     int8  q[n]           then  float scale[n / 256]   then  int16 sum[n / 16]
//
// Per block: a = max |x|. If a is NaN or infinite, scale = NaN and q = 0. If a < 1e-30, scale = 0 and q = 0.
// Otherwise scale = a / 127 and q = x * (127 / a), rounded to nearest even (always within [-127, 127]).
// `sum` holds the sum of q over each run of 16. The record's size is rounded up to a multiple of 64 bytes.
static inline size_t sluice_a32_bytes(size_t n) { return (n + n / 32 * 4 + 63) / 64 * 64; }
static inline size_t sluice_a256_bytes(size_t n) { return (n + n / 256 * 4 + n / 16 * 2 + 63) / 64 * 64; }

// y[t * y_stride + r] = dot(weights row r, activations t) for r < rows, t < tokens. What a dot gives does not
// depend on how many rows or tokens are asked for at once.
//
// `weights` has rows of `row_bytes` bytes, n elements each. `x` points at activation records `x_stride_bytes`
// apart: float[n] for F32, F16, BF16; A32 or A256 records for the others. `y_stride` is in floats.
//
// Definition of dot, with x's scales dx and quants q:
//   F32, F16, BF16  32 accumulators; element i is widened to float, multiplied by x[i] and added to
//                   accumulator i % 32 in order of i. The accumulators are then folded in halves:
//                   a[l] += a[l + 16] for l < 16, then 8, 4, 2, 1.
//   Q4_0, Q8_0, MXFP4 (blocks of 32)
//                   8 accumulators; block b gives S = sum of w * q, an exact integer (w is the stored integer,
//                   with the offset 8 already taken off for Q4_0; for MXFP4 the *doubled* E2M1 value
//                   0,1,2,3,4,6,8,12 with sign, its scale halved to match);
//                   accumulator[b % 8] += (d * dx) * (float)S. Folded in halves: 4, 2, 1.
//   Q4_K, Q5_K      one accumulator; block b gives S = sum over its 8 sub-blocks of sc * (sum of w * q) and
//                   M = sum of m * (sum of q), exact integers;
//                   accumulator += (d * dx) * (float)S - (dmin * dx) * (float)M.
//   Q6_K            S = sum over 16 sub-blocks of sc * (sum of (w - 32) * q);
//                   accumulator += (d * dx) * (float)S.
//   IQ4_XS          S = sum over 8 sub-blocks of (ls - 32) * (sum of table[w] * q); same as Q6_K.
// d and dmin are the block's half-precision (MXFP4: E8M0) scales widened exactly to float.
typedef void (*sluice_gemm)(
    const void *weights, size_t row_bytes, uint32_t rows, const void *x, size_t x_stride_bytes,
    uint32_t tokens, uint32_t n, float *y, size_t y_stride);

// Nested planes: a matrix whose integers are stored by significance, so that its first planes alone are a
// coarser version of it. The integer w of an element counts from 0: the stored one, 0 ... 15 for Q4_0 and Q4_K,
// 0 ... 31 for Q5_K, 0 ... 63 for Q6_K, and q + 128 for Q8_0. The first plane holds its most significant bits.
//
// Bytes of a row, in units of 256 elements:
//
//   scales    what the format stores per block besides its integers, block after block as in the file:
//             Q4_0, Q5_0, Q8_0: d; Q4_1, Q5_1: d, m; Q4_K, Q5_K: d, dmin, scales[12]; Q6_K: scales[16], d
//   plane p   s = 32 * bits[p] bytes per unit: byte i holds the bits of elements i, i + s, i + 2s, ... of the unit,
//             from its lowest bits up. (One vector of 64 bytes, shifted by 0, 2, 4 and 6, is a unit of two-bit
//             integers in order.) A row's last unit is padded to its full size, with anything.
typedef struct sluice_planes {
    const uint8_t *scales;
    size_t scale_bytes;       // from row to row
    const uint8_t *plane[4];  // `count` of them are read
    size_t plane_bytes[4];    // from row to row
    uint8_t bits[4];          // 1, 2 or 4; together with the missing ones those of the format
    uint8_t count;            // planes given, 1 ... 4
    uint8_t missing_bits;     // of the integer, below the planes given; 0 with all planes
} sluice_planes;

// As sluice_gemm, for planes. With r missing bits, every weight is taken from the middle of the interval that its
// prefix u leaves open: w = u * 2^r + (2^r - 1) / 2. Its double is an integer, and dot is the format's with
// (float)S replaced by 0.5f * (float)S2, where S2 is S with (w - offset) replaced by
// 2 * (u * 2^r - offset) + (2^r - 1), still exact in 32 bits. With all planes S2 = 2 S, and dot is the format's to
// the bit.
typedef void (*sluice_planar_gemm)(
    const sluice_planes *weights, uint32_t rows, const void *x, size_t x_stride_bytes, uint32_t tokens, uint32_t n,
    float *y, size_t y_stride);

// Attention over cached positions, by spans.
//
// One query attends to positions 0 ..< n of a cache of keys and of values, rows of one of these formats:
//   F32, F16   head_size elements
//   Q8_0       head_size / 32 blocks of GGUF's Q8_0 (34 bytes: d in half precision, then q), for head sizes that
//              are multiples of 32: with a, q and scale as for A32 records above, d = scale rounded to half
//              precision. An element is d * (float)q.
enum { SLUICE_CACHE_F32 = 0, SLUICE_CACHE_F16, SLUICE_CACHE_Q8_0, SLUICE_CACHE_COUNT };

// Positions are taken in spans of SLUICE_SPAN, from 0 on, whoever computes them and however many queries and
// positions are computed at once; so the answer has the same bits for one token and for many, on one thread and on
// several. Each span gives a partial result, head_size + 2 floats: o, m and l, with
//   e[t] = exp(score[t] - m), m = the largest score, l = sum of e, o[i] = sum of e[t] * value[t][i];
// partial results are merged in order of their spans, and the answer is o / l. (Online softmax: Milakov and
// Gimelshein, arXiv 1805.02867, section 3; by blocks: FlashAttention, arXiv 2205.14135, section 3.1; split over
// positions: Flash-Decoding.)
#define SLUICE_SPAN 256

typedef struct sluice_cache_kernels {
    // Puts n elements into a row.
    void (*store)(const float *x, uint32_t n, void *row);

    // out[r * out_stride + t] = dot(query r, key t) * scale for r < rows, t < count. Queries are rows of head_size
    // floats, `query_stride` floats apart; keys rows of the cache, `row_bytes` bytes apart. dot as for F32 above.
    void (*scores)(
        const float *queries, size_t query_stride, uint32_t rows, const void *keys, size_t row_bytes,
        uint32_t count, uint32_t head_size, float scale, float *out, size_t out_stride);

    // out[r * out_stride + i] += weights[r * weight_stride + t] * values[t][i] for r < rows, i < head_size, and
    // t < count in this order (the product rounded first).
    void (*mix)(
        const float *weights, size_t weight_stride, uint32_t rows, const void *values, size_t row_bytes,
        uint32_t count, uint32_t head_size, float *out, size_t out_stride);
} sluice_cache_kernels;

typedef struct sluice_kernels {
    const char *name;  // "scalar", "avx2", "avx2-vnni", "avx512", "neon", "neon-dotprod", "neon-i8mm"

    // Every format has a kernel in every table.
    sluice_gemm gemm[SLUICE_FORMAT_COUNT];

    // Q4_0, Q8_0, Q4_K, Q5_K and Q6_K have one; the others are NULL.
    sluice_planar_gemm planar[SLUICE_FORMAT_COUNT];

    void (*quantize_a32)(const float *x, uint32_t n, void *record);
    void (*quantize_a256)(const float *x, uint32_t n, void *record);

    // Root-mean-square norm: s = sum of x*x with the 32 accumulators of the F32 dot;
    // y[i] = (x[i] * (1 / sqrt(s / n + epsilon))) * weight[i].  y may be x.
    void (*rms_norm)(const float *x, const float *weight, uint32_t n, float epsilon, float *y);

    // y[i] = silu(gate[i]) * up[i], silu(g) = g / (1 + exp(-g)), with `exp` as defined below. y may be either.
    void (*swiglu)(const float *gate, const float *up, uint32_t n, float *y);

    // y[i] = (0 > gate[i] ? 0 : gate[i]) * up[i], so a NaN stays one. y may be either.
    void (*reglu)(const float *gate, const float *up, uint32_t n, float *y);

    // SwiGLU of gpt-oss: with g = limit < gate[i] ? limit : gate[i], v = limit < up[i] ? limit : up[i] and
    // u = -limit > v ? -limit : v, y[i] = (g / (1 + exp(-(alpha * g)))) * (u + 1). y may be either.
    void (*clamped_swiglu)(const float *gate, const float *up, uint32_t n, float alpha, float limit, float *y);

    // x[i] = exp(x[i] - max x) in place; returns the sum, taken with 32 accumulators (i % 32) folded in halves.
    // The maximum passes over NaNs, which stay NaN themselves and make the sum NaN, and is -FLT_MAX at least, so that
    // minus infinity gives 0 even alone; no elements sum to 0.
    float (*softmax_exp)(float *x, uint32_t n);

    // The same, giving the maximum, too.
    float (*span_exp)(float *x, uint32_t n, float *maximum);

    // Merges the partial result of the next span into that of those before: with M = the larger m,
    // a = exp(before m - M), b = exp(next m - M), o[i] = o[i] * a + next o[i] * b, and l likewise; m = M.
    void (*merge_span)(const float *next, uint32_t head_size, float *partial);

    // The answer of a partial result: out[i] = o[i] / l.
    void (*finish_spans)(const float *partial, uint32_t head_size, float *out);

    // y[i] = y[i] + scale * x[i] (the product rounded first).
    void (*add_scaled)(const float *x, float scale, uint32_t n, float *y);

    // Attention, by format of the cache.
    sluice_cache_kernels cache[SLUICE_CACHE_COUNT];

    // Half precision <-> single precision, round to nearest even; NaN stays NaN (its payload is not defined).
    void (*to_f16)(const float *x, uint32_t n, uint16_t *y);
    void (*from_f16)(const uint16_t *x, uint32_t n, float *y);
} sluice_kernels;

// exp, the same bits everywhere:
//   x < -87 gives 0; x > 88 is taken as 88; NaN gives NaN;
//   k = x * 1.44269504 rounded to nearest even; r = (x - k * 0.693359375) - k * -2.12194440e-4;
//   p = ((((1.9875691500e-4 r + 1.3981999507e-3) r + 8.3334519073e-3) r + 4.1665795894e-2) r
//        + 1.6666665459e-1) r + 5.0000001201e-1;  result = ((p * (r * r) + r) + 1) * 2^k.
// (Polynomial and constants: Cephes expf. Largest error under 2 ulps.)

// The tables this machine can run, best first; the last is always "scalar". `count` receives how many.
const sluice_kernels *const *sluice_kernels_available(uint32_t *count);

// The table named `name` if this machine can run it, the best one if `name` is NULL or empty, else NULL.
const sluice_kernels *sluice_kernels_named(const char *name);

#endif
