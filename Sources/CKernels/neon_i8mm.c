// The table for 64-bit ARM with the matrix instructions for bytes (Neoverse V1 and N2, Cortex-A710
// onwards) besides the dot-product ones. With one token there is nothing to gain from
// them, so those kernels are the dot-product table's.
//
// There is no table for SVE: no small board has it, and where it is 128 bits wide, as on Neoverse
// N2 and V2, these instructions do as much.
#if defined(__aarch64__)

#include <arm_neon.h>
#include <math.h>

#include "tables.h"
#include "tile.h"

#define SLUICE_TARGET "arch=armv8.2-a+dotprod+i8mm"
#include "target_begin.h"

#define SLUICE_DOTPROD 1
#define SLUICE_I8MM 1
#include "neon.h"

SLUICE_TABLE(sluice_neon_i8mm, "neon-i8mm")

#include "target_end.h"

#endif
