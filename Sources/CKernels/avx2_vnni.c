// The table for x86 with AVX2, F16C and the dot-product instructions in their 256-bit form
// (AVX-VNNI: Intel's Alder Lake and the small processors since then, AMD's Zen 5).
#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>

#include "narrow.h"
#include "tables.h"

#define SLUICE_TARGET "avx2,f16c,avxvnni"
#include "target_begin.h"

#define SLUICE_VNNI 1
#include "avx2.h"

SLUICE_TABLE(sluice_avx2_vnni, "avx2-vnni")

#include "target_end.h"

#endif
