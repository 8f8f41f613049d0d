// The table for x86 with AVX2 and F16C.
#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>

#include "narrow.h"
#include "tables.h"

#define SLUICE_TARGET "avx2,f16c"
#include "target_begin.h"

#define SLUICE_VNNI 0
#include "avx2.h"

SLUICE_TABLE(sluice_avx2, "avx2")

#include "target_end.h"

#endif
