// The block layouts of GGUF's quantised formats, and small exact conversions for every table.
//
// The structs mirror the bytes of a file. They are packed because a row may start at any address;
// multi-byte fields are little-endian, as both supported architectures are. Every bit pattern is a
// valid block, so nothing here can fail: a hostile scale is at worst NaN or infinite.
#ifndef SLUICE_BLOCKS_H
#define SLUICE_BLOCKS_H

#include <stdint.h>
#include <string.h>

#include "CKernels.h"

#define SLUICE_INLINE static inline __attribute__((always_inline, unused))
#define SLUICE_NOINLINE __attribute__((noinline))
#define SLUICE_PACKED __attribute__((packed))

// Element i < 16 is the low half of qs[i], element i + 16 the high half; value d * (q - 8).
typedef struct SLUICE_PACKED {
    uint16_t d;
    uint8_t qs[16];
} block_q4_0;

// Value d * qs[i].
typedef struct SLUICE_PACKED {
    uint16_t d;
    int8_t qs[32];
} block_q8_0;

// Nibbles as in Q4_0; value 2^(e - 127) * E2M1(q).
typedef struct SLUICE_PACKED {
    uint8_t e;
    uint8_t qs[16];
} block_mxfp4;

// 8 sub-blocks of 32; 2c and 2c + 1 are the low and the high halves of the 32 bytes from qs[32c].
// Value d * sc * q - dmin * m, with six-bit sc and m packed in `scales` (see `k_scales`).
typedef struct SLUICE_PACKED {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qs[128];
} block_q4_K;

// As Q4_K, with a fifth bit: bit j of qh[l] belongs to element l of sub-block j.
typedef struct SLUICE_PACKED {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
} block_q5_K;

// 16 sub-blocks of 16, in two halves of 128 elements. In half h, run j of 32 elements takes its low
// four bits from ql[64h + 32(j % 2) ...] (low half of the byte if j < 2, else high) and its upper
// two from bits 2j, 2j + 1 of qh[32h ...]. Value d * scales * (q - 32).
typedef struct SLUICE_PACKED {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
} block_q6_K;

// 8 sub-blocks of 32, nibbles in each as in Q4_0. Value d * (ls - 32) * iq4_values[q]; the low four
// bits of ls are a nibble of scales_l, the upper two a bit pair of scales_h.
typedef struct SLUICE_PACKED {
    uint16_t d, scales_h;
    uint8_t scales_l[4];
    uint8_t qs[128];
} block_iq4_xs;

_Static_assert(sizeof(block_q4_0) == 18, "Q4_0 is 18 bytes");
_Static_assert(sizeof(block_q8_0) == 34, "Q8_0 is 34 bytes");
_Static_assert(sizeof(block_mxfp4) == 17, "MXFP4 is 17 bytes");
_Static_assert(sizeof(block_q4_K) == 144, "Q4_K is 144 bytes");
_Static_assert(sizeof(block_q5_K) == 176, "Q5_K is 176 bytes");
_Static_assert(sizeof(block_q6_K) == 210, "Q6_K is 210 bytes");
_Static_assert(sizeof(block_iq4_xs) == 136, "IQ4_XS is 136 bytes");

// Twice the E2M1 values, so that they are integers; the block's scale is halved to match.
#define SLUICE_MXFP4_VALUES 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12

// The non-linear grid of the IQ4 formats.
#define SLUICE_IQ4_VALUES -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113

// The activation records of CKernels.h, taken apart.
typedef struct {
    const int8_t *q;
    const float *scale;
} record_a32;

typedef struct {
    const int8_t *q;
    const float *scale;
    const int16_t *sum;
} record_a256;

SLUICE_INLINE record_a32 as_a32(const void *record, uint32_t n) {
    const int8_t *q = (const int8_t *)record;
    return (record_a32){q, (const float *)(const void *)(q + n)};
}

SLUICE_INLINE record_a256 as_a256(const void *record, uint32_t n) {
    const int8_t *q = (const int8_t *)record;
    const int8_t *scale = q + n, *sum = scale + (size_t)n / 256 * 4;
    return (record_a256){q, (const float *)(const void *)scale, (const int16_t *)(const void *)sum};
}

// How many values the integers of planes have with those that are missing: 2^4, 2^5, 2^6 or 2^8.
SLUICE_INLINE int integer_range(const sluice_planes *planes) {
    int bits = planes->missing_bits;
    for (int p = 0; p < planes->count; p++) bits += planes->bits[p];
    return 1 << bits;
}

SLUICE_INLINE uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

SLUICE_INLINE float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

SLUICE_INLINE float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 0x3ff;
    if (exponent == 31) return float_of(sign | 0x7f800000 | mantissa << 13);
    if (exponent != 0) return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
    return float_of(sign | bits_of((float)mantissa * 0x1p-24f));
}

SLUICE_INLINE uint16_t float_to_half(float x) {
    uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00);  // from 65520 on: infinity
    if (magnitude < 0x38800000) {
        // Below 2^-14: a multiple of 2^-24, [0 .. 1024]; adding 2^23 leaves it in the mantissa.
        float scaled = float_of(magnitude) * 0x1p24f + 0x1p23f;
        return (uint16_t)(sign | (bits_of(scaled) & 0x7fffff));
    }
    magnitude += 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (magnitude - 0x38000000) >> 13);
}

SLUICE_INLINE float bf16_to_float(uint16_t b) { return float_of((uint32_t)b << 16); }

// 2^(e - 128), half of what E8M0 says; exact down to the denormal 2^-128. No NaN: 255 is 2^127.
SLUICE_INLINE float e8m0_half_to_float(uint8_t e) {
    return float_of(e < 2 ? (uint32_t)0x00200000 << e : (uint32_t)(e - 1) << 23);
}

// The eight six-bit scales and minima of a Q4_K or Q5_K block, [0 .. 63] each.
SLUICE_INLINE void k_scales(const uint8_t packed[12], uint8_t sc[8], uint8_t m[8]) {
    for (int j = 0; j < 4; j++) {
        sc[j] = packed[j] & 63;
        m[j] = packed[j + 4] & 63;
        sc[j + 4] = (uint8_t)((packed[j + 8] & 15) | packed[j] >> 6 << 4);
        m[j + 4] = (uint8_t)(packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4);
    }
}

// The scale of sub-block j of an IQ4_XS block, [-32 .. 31].
SLUICE_INLINE int iq4_scale(const block_iq4_xs *block, int j) {
    int low = block->scales_l[j / 2] >> 4 * (j % 2) & 15, high = block->scales_h >> 2 * j & 3;
    return (low | high << 4) - 32;
}

// The kinds of blocks of 256. A constant at each call, so that only one way of taking them apart is
// compiled. Those of planes are a block's scales alone.
enum { super_q4_K, super_q5_K, super_q6_K, super_iq4_xs, super_planar_k, super_planar_q6_K };

SLUICE_INLINE int is_planar(int format) {
    return format == super_planar_k || format == super_planar_q6_K;
}

SLUICE_INLINE int has_minimum(int format) {
    return format == super_q4_K || format == super_q5_K || format == super_planar_k;
}

SLUICE_INLINE int has_scales_of_16(int format) {
    return format == super_q6_K || format == super_planar_q6_K;
}

// Of planes, the bytes of a block's scales.
SLUICE_INLINE size_t super_bytes(int format) {
    return format == super_q4_K          ? sizeof(block_q4_K)
           : format == super_q5_K        ? sizeof(block_q5_K)
           : format == super_q6_K        ? sizeof(block_q6_K)
           : format == super_iq4_xs      ? sizeof(block_iq4_xs)
           : format == super_planar_k    ? 16
                                         : 18;
}

// Where d is in a block, or in the scales of one.
SLUICE_INLINE size_t super_d_offset(int format) {
    return format == super_q6_K ? offsetof(block_q6_K, d) : format == super_planar_q6_K ? 16 : 0;
}

#endif
