// The vectors that vectors.h is written in, for NEON, and everything built on them. Included by
// neon.c, neon_dotprod.c and neon_i8mm.c, which differ in SLUICE_DOTPROD and SLUICE_I8MM: whether
// the dot-product instructions may be used, and the matrix ones.

typedef float32x4_t vf;
typedef uint32x4_t vu;
#define LANES 4
#define FLOAT_ROWS 2
#define FLOAT_TOKENS 1
#define WIDEN_ABOVE 1
#define MIX_ROWS 4
#define MIX_BAND 4

SLUICE_INLINE vf vf_load(const float *p) { return vld1q_f32(p); }
SLUICE_INLINE void vf_store(float *p, vf v) { vst1q_f32(p, v); }
SLUICE_INLINE vf vf_set1(float x) { return vdupq_n_f32(x); }
SLUICE_INLINE vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
SLUICE_INLINE vf vf_sub(vf a, vf b) { return vsubq_f32(a, b); }
SLUICE_INLINE vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
SLUICE_INLINE vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }

// Not FMAX and FMIN, which give NaN when either is.
SLUICE_INLINE vf vf_larger(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
SLUICE_INLINE vf vf_smaller(vf a, vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }

SLUICE_INLINE vf vf_load_f16(const uint16_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

SLUICE_INLINE vf vf_load_bf16(const uint16_t *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

SLUICE_INLINE vf vf_load_i8(const int8_t *p) {
    int32_t four;
    memcpy(&four, p, 4);
    int16x8_t words = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(words)));
}

SLUICE_INLINE vf vf_set1_f16(uint16_t bits) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits)));
}

SLUICE_INLINE void vf_store_f16(uint16_t *p, vf v) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v)));
}

SLUICE_INLINE vf vf_drop_below(vf x, float limit, vf v) {
    uint32x4_t below = vcltq_f32(x, vdupq_n_f32(limit));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), below));
}

SLUICE_INLINE vf vf_round(vf x, vf *power) {
    int32x4_t k = vcvtnq_s32_f32(x);
    uint32x4_t biased = vaddq_u32(vreinterpretq_u32_s32(k), vdupq_n_u32(127));
    *power = vreinterpretq_f32_u32(vshlq_n_u32(biased, 23));
    return vcvtq_f32_s32(k);
}

SLUICE_INLINE float vf_fold(vf v) {
    float32x2_t a = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(a, 0) + vget_lane_f32(a, 1);
}

SLUICE_INLINE void vf_fold_rows(const vf *v, int rows, float *out) {
    for (int r = 0; r < rows; r++) out[r] = vf_fold(v[r]);
}

SLUICE_INLINE vu vf_magnitude(vf v) {
    return vandq_u32(vreinterpretq_u32_f32(v), vdupq_n_u32(0x7fffffff));
}

SLUICE_INLINE vu vu_larger(vu a, vu b) { return vmaxq_u32(a, b); }
SLUICE_INLINE uint32_t vu_largest(vu v) { return vmaxvq_u32(v); }

SLUICE_INLINE void vf_store_i8(int8_t *p, vf v) {
    int16x4_t words = vmovn_s32(vcvtnq_s32_f32(v));
    int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
    uint32_t four = vget_lane_u32(vreinterpret_u32_s8(bytes), 0);
    memcpy(p, &four, 4);
}

SLUICE_INLINE int sum_of_16(const int8_t *q) { return vaddlvq_s8(vld1q_s8(q)); }

#include "vectors.h"

#include "neon_blocks.h"
