// The table for 64-bit ARM with the dot-product instructions of ARMv8.2 (Cortex-A55 and A76
// onwards).
#if defined(__aarch64__)

#include <arm_neon.h>
#include <math.h>

#include "tables.h"
#include "tile.h"

#define SLUICE_TARGET "arch=armv8.2-a+dotprod"
#include "target_begin.h"

#define SLUICE_DOTPROD 1
#define SLUICE_I8MM 0
#include "neon.h"

SLUICE_TABLE(sluice_neon_dotprod, "neon-dotprod")

#include "target_end.h"

#endif
