// The vectors of wide.h with AVX2: 8 rows to a vector. Bytes multiply in pairs that have 16 bits to
// add up in, or with AVX-VNNI (SLUICE_VNNI) four at a time.

typedef __m256i wi;
typedef __m256 wf;
#define WIDE_LANES 8
#define WIDE_GROUPS 2
#define WIDE_TOKENS 3
#define WIDE_FEWEST_TOKENS_OF_32 2
#define WIDE_PIN(v) __asm__ volatile("" : "+x"(v))
#if SLUICE_VNNI
#define WIDE_DOTS 1
#else
#define WIDE_DOTS 0
#endif

SLUICE_INLINE wi wi_load(const void *p) { return _mm256_load_si256((const __m256i *)p); }
SLUICE_INLINE void wi_store(void *p, wi v) { _mm256_store_si256((__m256i *)p, v); }
SLUICE_INLINE wi wi_set1(int x) { return _mm256_set1_epi32(x); }
SLUICE_INLINE wi wi_and(wi a, wi b) { return _mm256_and_si256(a, b); }
SLUICE_INLINE wi wi_or(wi a, wi b) { return _mm256_or_si256(a, b); }
SLUICE_INLINE wi wi_xor(wi a, wi b) { return _mm256_xor_si256(a, b); }
SLUICE_INLINE wi wi_add(wi a, wi b) { return _mm256_add_epi32(a, b); }
SLUICE_INLINE wi wi_multiply(wi a, wi b) { return _mm256_mullo_epi32(a, b); }
SLUICE_INLINE wi wi_left(wi v, int bits) { return _mm256_sll_epi32(v, _mm_cvtsi32_si128(bits)); }
SLUICE_INLINE wi wi_right(wi v, int bits) { return _mm256_srl_epi32(v, _mm_cvtsi32_si128(bits)); }
SLUICE_INLINE wi wi_signed_right(wi v, int bits) {
    return _mm256_sra_epi32(v, _mm_cvtsi32_si128(bits));
}
SLUICE_INLINE wi wi_look_up(__m128i table, wi indices) {
    return _mm256_shuffle_epi8(both(table), indices);
}

#if SLUICE_VNNI
SLUICE_INLINE wi wi_add_pairs(wi sum, wi a, wi b) { return _mm256_dpwssd_avx_epi32(sum, a, b); }
SLUICE_INLINE wi wi_add_dots(wi sum, wi w, wi q) { return _mm256_dpbusd_avx_epi32(sum, w, q); }
#else
SLUICE_INLINE wi wi_add_pairs(wi sum, wi a, wi b) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}
SLUICE_INLINE wi wi_sub_bytes(wi a, wi b) { return _mm256_sub_epi8(a, b); }
SLUICE_INLINE wi wi_add_words(wi a, wi b) { return _mm256_add_epi16(a, b); }
SLUICE_INLINE wi wi_unsigned_pairs(wi w, wi q) { return _mm256_maddubs_epi16(w, q); }
SLUICE_INLINE wi wi_signed_pairs(wi w, wi q) { return signed_pairs(w, q); }
#endif

SLUICE_INLINE wf wf_load(const float *p) { return _mm256_load_ps(p); }
SLUICE_INLINE void wf_store(float *p, wf v) { _mm256_store_ps(p, v); }
SLUICE_INLINE void wf_store_anywhere(float *p, wf v) { _mm256_storeu_ps(p, v); }
SLUICE_INLINE wf wf_set1(float x) { return _mm256_set1_ps(x); }
SLUICE_INLINE wf wf_add(wf a, wf b) { return _mm256_add_ps(a, b); }
SLUICE_INLINE wf wf_sub(wf a, wf b) { return _mm256_sub_ps(a, b); }
SLUICE_INLINE wf wf_mul(wf a, wf b) { return _mm256_mul_ps(a, b); }
SLUICE_INLINE wf wf_of_integers(wi v) { return _mm256_cvtepi32_ps(v); }

SLUICE_INLINE wf wf_of_halves(wi v) {
    v = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
    __m128i halves =
        _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    return _mm256_cvtph_ps(halves);
}

// Halves i of the vectors hold rows i and i + 4, so that transposing within halves leaves the rows
// in order.
SLUICE_INLINE void wide_columns(const uint8_t *w, size_t stride, wi columns[4]) {
    wi rows[4];
    const uint8_t *fourth = w + 4 * stride;
    for (size_t i = 0; i < 4; i++) {
        rows[i] = _mm256_inserti128_si256(
            _mm256_castsi128_si256(load_128(w + i * stride)), load_128(fourth + i * stride), 1);
    }
    wi a = _mm256_unpacklo_epi32(rows[0], rows[1]), b = _mm256_unpackhi_epi32(rows[0], rows[1]);
    wi c = _mm256_unpacklo_epi32(rows[2], rows[3]), d = _mm256_unpackhi_epi32(rows[2], rows[3]);
    columns[0] = _mm256_unpacklo_epi64(a, c);
    columns[1] = _mm256_unpackhi_epi64(a, c);
    columns[2] = _mm256_unpacklo_epi64(b, d);
    columns[3] = _mm256_unpackhi_epi64(b, d);
}

SLUICE_INLINE void wide_eight_columns(const uint8_t *w, size_t stride, wi columns[8]) {
    wide_columns(w, stride, columns);
    wide_columns(w + 16, stride, columns + 4);
}

#include "wide.h"
