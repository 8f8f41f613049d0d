// The vectors of wide.h with AVX-512: 16 rows to a vector, four products and their sum in one
// instruction.

typedef __m512i wi;
typedef __m512 wf;
#define WIDE_LANES 16
#define WIDE_GROUPS 2
#define WIDE_TOKENS 6
#define WIDE_FEWEST_TOKENS_OF_32 4
#define WIDE_PIN(v) __asm__ volatile("" : "+v"(v))
#define WIDE_DOTS 1

SLUICE_INLINE wi wi_load(const void *p) { return _mm512_load_si512(p); }
SLUICE_INLINE void wi_store(void *p, wi v) { _mm512_store_si512(p, v); }
SLUICE_INLINE wi wi_set1(int x) { return _mm512_set1_epi32(x); }
SLUICE_INLINE wi wi_and(wi a, wi b) { return _mm512_and_si512(a, b); }
SLUICE_INLINE wi wi_or(wi a, wi b) { return _mm512_or_si512(a, b); }
SLUICE_INLINE wi wi_xor(wi a, wi b) { return _mm512_xor_si512(a, b); }
SLUICE_INLINE wi wi_add(wi a, wi b) { return _mm512_add_epi32(a, b); }
SLUICE_INLINE wi wi_multiply(wi a, wi b) { return _mm512_mullo_epi32(a, b); }
SLUICE_INLINE wi wi_left(wi v, int bits) { return _mm512_sll_epi32(v, _mm_cvtsi32_si128(bits)); }
SLUICE_INLINE wi wi_right(wi v, int bits) { return _mm512_srl_epi32(v, _mm_cvtsi32_si128(bits)); }
SLUICE_INLINE wi wi_signed_right(wi v, int bits) {
    return _mm512_sra_epi32(v, _mm_cvtsi32_si128(bits));
}
SLUICE_INLINE wi wi_look_up(__m128i table, wi indices) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), indices);
}

SLUICE_INLINE wi wi_add_pairs(wi sum, wi a, wi b) { return _mm512_dpwssd_epi32(sum, a, b); }
SLUICE_INLINE wi wi_add_dots(wi sum, wi w, wi q) { return _mm512_dpbusd_epi32(sum, w, q); }

SLUICE_INLINE wf wf_load(const float *p) { return _mm512_load_ps(p); }
SLUICE_INLINE void wf_store(float *p, wf v) { _mm512_store_ps(p, v); }
SLUICE_INLINE void wf_store_anywhere(float *p, wf v) { _mm512_storeu_ps(p, v); }
SLUICE_INLINE wf wf_set1(float x) { return _mm512_set1_ps(x); }
SLUICE_INLINE wf wf_add(wf a, wf b) { return _mm512_add_ps(a, b); }
SLUICE_INLINE wf wf_sub(wf a, wf b) { return _mm512_sub_ps(a, b); }
SLUICE_INLINE wf wf_mul(wf a, wf b) { return _mm512_mul_ps(a, b); }
SLUICE_INLINE wf wf_of_integers(wi v) { return _mm512_cvtepi32_ps(v); }
SLUICE_INLINE wf wf_of_halves(wi v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }

// Parts i of the vectors hold rows i, i + 4, i + 8 and i + 12, so that transposing within parts
// leaves the rows in order.
SLUICE_INLINE void wide_columns(const uint8_t *w, size_t stride, wi columns[4]) {
    wi rows[4];
    const uint8_t *fourth = w + 4 * stride, *eighth = w + 8 * stride, *twelfth = w + 12 * stride;
    for (size_t i = 0; i < 4; i++) {
        rows[i] = _mm512_castsi128_si512(load_128(w + i * stride));
        rows[i] = _mm512_mask_broadcast_i32x4(rows[i], 0x00f0, load_128(fourth + i * stride));
        rows[i] = _mm512_mask_broadcast_i32x4(rows[i], 0x0f00, load_128(eighth + i * stride));
        rows[i] = _mm512_mask_broadcast_i32x4(rows[i], 0xf000, load_128(twelfth + i * stride));
    }
    wi a = _mm512_unpacklo_epi32(rows[0], rows[1]), b = _mm512_unpackhi_epi32(rows[0], rows[1]);
    wi c = _mm512_unpacklo_epi32(rows[2], rows[3]), d = _mm512_unpackhi_epi32(rows[2], rows[3]);
    columns[0] = _mm512_unpacklo_epi64(a, c);
    columns[1] = _mm512_unpackhi_epi64(a, c);
    columns[2] = _mm512_unpacklo_epi64(b, d);
    columns[3] = _mm512_unpackhi_epi64(b, d);
}

// Vector i < 8 holds rows i and i + 8, so that after transposing parts of four rows are together,
// and the second four of each eight come from another vector.
SLUICE_INLINE void wide_eight_columns(const uint8_t *w, size_t stride, wi columns[8]) {
    wi part[2][4];
    const uint8_t *at = w;
    for (int half = 0; half < 2; half++) {
        wi rows[4];
        for (size_t i = 0; i < 4; i++) {
            rows[i] = _mm512_castsi256_si512(load_256(at + i * stride));
            const uint8_t *eighth = at + 8 * stride + i * stride;
            rows[i] = _mm512_mask_broadcast_i64x4(rows[i], 0xf0, load_256(eighth));
        }
        wi a = _mm512_unpacklo_epi32(rows[0], rows[1]), b = _mm512_unpackhi_epi32(rows[0], rows[1]);
        wi c = _mm512_unpacklo_epi32(rows[2], rows[3]), d = _mm512_unpackhi_epi32(rows[2], rows[3]);
        part[half][0] = _mm512_unpacklo_epi64(a, c);
        part[half][1] = _mm512_unpackhi_epi64(a, c);
        part[half][2] = _mm512_unpacklo_epi64(b, d);
        part[half][3] = _mm512_unpackhi_epi64(b, d);
        at += 4 * stride;
    }
    const wi first = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    const wi second = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    for (int i = 0; i < 4; i++) {
        columns[i] = _mm512_permutex2var_epi64(part[0][i], first, part[1][i]);
        columns[4 + i] = _mm512_permutex2var_epi64(part[0][i], second, part[1][i]);
    }
}

#include "wide.h"
