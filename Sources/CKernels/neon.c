// The table for any 64-bit ARM: 4 floats or 16 int8 at a time.
#if defined(__aarch64__)

#include <arm_neon.h>
#include <math.h>

#include "tables.h"
#include "tile.h"

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#define SLUICE_DOTPROD 0
#include "neon.h"

SLUICE_TABLE(sluice_neon, "neon")

#endif
