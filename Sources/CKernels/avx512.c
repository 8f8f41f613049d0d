// The table for x86 with AVX-512 F, BW, DQ, VL and VNNI: 16 floats or 64 int8 at a time.
//
// This file defines the vectors that vectors.h is written in; avx512_blocks.h has the quantised
// formats.
#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>

#include "narrow.h"
#include "tables.h"

#define SLUICE_TARGET "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
#include "target_begin.h"

typedef __m512 vf;
typedef __m512i vu;
#define LANES 16
#define FLOAT_ROWS 4
#define FLOAT_TOKENS 2
#define WIDEN_ABOVE 2
#define MIX_ROWS 4
#define MIX_BAND 4

SLUICE_INLINE vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
SLUICE_INLINE void vf_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
SLUICE_INLINE vf vf_set1(float x) { return _mm512_set1_ps(x); }
SLUICE_INLINE vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
SLUICE_INLINE vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
SLUICE_INLINE vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
SLUICE_INLINE vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
SLUICE_INLINE vf vf_larger(vf a, vf b) { return _mm512_max_ps(a, b); }
SLUICE_INLINE vf vf_smaller(vf a, vf b) { return _mm512_min_ps(a, b); }

SLUICE_INLINE vf vf_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

SLUICE_INLINE vf vf_load_bf16(const uint16_t *p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

SLUICE_INLINE vf vf_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}

SLUICE_INLINE vf vf_set1_f16(uint16_t bits) {
    return _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
}

SLUICE_INLINE void vf_store_f16(uint16_t *p, vf v) {
    __m256i half = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_storeu_si256((__m256i *)(void *)p, half);
}

SLUICE_INLINE vf vf_drop_below(vf x, float limit, vf v) {
    __mmask16 below = _mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_LT_OQ);
    return _mm512_maskz_mov_ps((__mmask16)~below, v);
}

SLUICE_INLINE vf vf_round(vf x, vf *power) {
    __m512i k = _mm512_cvtps_epi32(x);
    __m512i bits = _mm512_slli_epi32(_mm512_add_epi32(k, _mm512_set1_epi32(127)), 23);
    *power = _mm512_castsi512_ps(bits);
    return _mm512_cvtepi32_ps(k);
}

SLUICE_INLINE float vf_fold(vf v) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

// Halves of two vectors at once, then quarters of four, and the rest in their 128-bit parts.
SLUICE_INLINE void vf_fold_rows(const vf *v, int rows, float *out) {
    if (rows != 4) {
        for (int r = 0; r < rows; r++) out[r] = vf_fold(v[r]);
        return;
    }
    vf ab = _mm512_add_ps(
        _mm512_shuffle_f32x4(v[0], v[1], 0x44), _mm512_shuffle_f32x4(v[0], v[1], 0xee));
    vf cd = _mm512_add_ps(
        _mm512_shuffle_f32x4(v[2], v[3], 0x44), _mm512_shuffle_f32x4(v[2], v[3], 0xee));
    vf s =
        _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x4e));
    s = _mm512_add_ps(s, _mm512_permute_ps(s, 0xb1));
    const __m512i first = _mm512_castsi128_si512(_mm_setr_epi32(0, 4, 8, 12));
    _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(first, s)));
}

SLUICE_INLINE vu vf_magnitude(vf v) {
    return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff));
}

SLUICE_INLINE vu vu_larger(vu a, vu b) { return _mm512_max_epu32(a, b); }
SLUICE_INLINE uint32_t vu_largest(vu v) { return _mm512_reduce_max_epu32(v); }

SLUICE_INLINE void vf_store_i8(int8_t *p, vf v) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}

// Biased by 128 the bytes are unsigned, and their sum in [0 .. 16 * 255] comes from one instruction
// per half.
SLUICE_INLINE int sum_of_16(const int8_t *q) {
    __m128i v =
        _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)q), _mm_set1_epi8(-128));
    __m128i sum = _mm_sad_epu8(v, _mm_setzero_si128());
    return _mm_cvtsi128_si32(sum) + _mm_extract_epi16(sum, 4) - 16 * 128;
}

#include "vectors.h"

#include "avx512_blocks.h"

SLUICE_TABLE(sluice_avx512, "avx512")

#include "target_end.h"

#endif
