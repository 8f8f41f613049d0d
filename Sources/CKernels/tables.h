// The kernel tables, one per instruction set; which of them a machine can run is dispatch.c's
// business.
#ifndef SLUICE_TABLES_H
#define SLUICE_TABLES_H

#include "CKernels.h"

// Formats that differ only in the number of bits share a kernel.
#define SLUICE_PLANAR_TABLE                                   \
    {                                                         \
        [SLUICE_Q4_0] = planar_32, [SLUICE_Q8_0] = planar_32, \
        [SLUICE_Q4_K] = planar_k, [SLUICE_Q5_K] = planar_k,   \
        [SLUICE_Q6_K] = planar_q6_K,                          \
    }

#define SLUICE_CACHE_TABLE                                         \
    {                                                              \
        [SLUICE_CACHE_F32] = {store_f32, scores_f32, mix_f32},     \
        [SLUICE_CACHE_F16] = {store_f16, scores_f16, mix_f16},     \
        [SLUICE_CACHE_Q8_0] = {store_q8_0, scores_q8_0, mix_q8_0}, \
    }

extern const sluice_kernels sluice_scalar;

#if defined(__x86_64__)
extern const sluice_kernels sluice_avx2;
extern const sluice_kernels sluice_avx2_vnni;
extern const sluice_kernels sluice_avx512;
#elif defined(__aarch64__)
extern const sluice_kernels sluice_neon;
extern const sluice_kernels sluice_neon_dotprod;
extern const sluice_kernels sluice_neon_i8mm;
#endif

#endif
