// The vectors that vectors.h is written in, for AVX2, and everything built on them: 8 floats or 32
// int8 at a time. Included by avx2.c and avx2_vnni.c, which differ in SLUICE_VNNI: whether the
// dot-product instructions may be used. avx2_blocks.h has the quantised formats, avx2_narrow.h
// those of one token.

typedef __m256 vf;
typedef __m256i vu;
#define LANES 8
#define FLOAT_ROWS 2
#define FLOAT_TOKENS 1
#define WIDEN_ABOVE 1
#define MIX_ROWS 2
#define MIX_BAND 4

SLUICE_INLINE vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
SLUICE_INLINE void vf_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
SLUICE_INLINE vf vf_set1(float x) { return _mm256_set1_ps(x); }
SLUICE_INLINE vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
SLUICE_INLINE vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
SLUICE_INLINE vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
SLUICE_INLINE vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
SLUICE_INLINE vf vf_larger(vf a, vf b) { return _mm256_max_ps(a, b); }
SLUICE_INLINE vf vf_smaller(vf a, vf b) { return _mm256_min_ps(a, b); }

SLUICE_INLINE vf vf_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

SLUICE_INLINE vf vf_load_bf16(const uint16_t *p) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

SLUICE_INLINE vf vf_load_i8(const int8_t *p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}

SLUICE_INLINE vf vf_set1_f16(uint16_t bits) {
    return _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
}

SLUICE_INLINE void vf_store_f16(uint16_t *p, vf v) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

SLUICE_INLINE vf vf_drop_below(vf x, float limit, vf v) {
    return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(limit), _CMP_LT_OQ), v);
}

SLUICE_INLINE vf vf_round(vf x, vf *power) {
    __m256i k = _mm256_cvtps_epi32(x);
    __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(k, _mm256_set1_epi32(127)), 23);
    *power = _mm256_castsi256_ps(bits);
    return _mm256_cvtepi32_ps(k);
}

SLUICE_INLINE float vf_fold(vf v) {
    __m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}

SLUICE_INLINE void vf_fold_rows(const vf *v, int rows, float *out) {
    for (int r = 0; r < rows; r++) out[r] = vf_fold(v[r]);
}

SLUICE_INLINE vu vf_magnitude(vf v) {
    return _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff));
}

SLUICE_INLINE vu vu_larger(vu a, vu b) { return _mm256_max_epu32(a, b); }

SLUICE_INLINE uint32_t vu_largest(vu v) {
    __m128i a = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    a = _mm_max_epu32(a, _mm_shuffle_epi32(a, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(a, _mm_shuffle_epi32(a, 0xb1)));
}

SLUICE_INLINE void vf_store_i8(int8_t *p, vf v) {
    __m256i wide = _mm256_cvtps_epi32(v);
    __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packs_epi16(words, words));
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

#include "avx2_blocks.h"
