// The kernel tables, one per instruction set; which of them a machine can run is dispatch.c's
// business.
#ifndef SLUICE_TABLES_H
#define SLUICE_TABLES_H

#include "CKernels.h"

extern const sluice_kernels sluice_scalar;

#if defined(__x86_64__)
extern const sluice_kernels sluice_avx2;
extern const sluice_kernels sluice_avx512;
#elif defined(__aarch64__)
extern const sluice_kernels sluice_neon;
extern const sluice_kernels sluice_neon_dotprod;
#endif

#endif
