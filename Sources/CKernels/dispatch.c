// Which kernel tables this machine can run.
//
// Tables are listed best first, and each needs everything the next one needs, so what a machine can
// run is always a tail of the list: there is nothing to initialise and no state to share between
// threads.
#include <string.h>

#include "tables.h"

#if defined(__x86_64__)

static const sluice_kernels *const tables[] = {&sluice_avx512, &sluice_avx2, &sluice_scalar};

// The builtins ask CPUID, and for the wide registers also whether the operating system saves them.
static uint32_t unusable(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("f16c")) return 2;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw")
        || !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")
        || !__builtin_cpu_supports("avx512vnni")) {
        return 1;
    }
    return 0;
}

#elif defined(__aarch64__)

#include <sys/auxv.h>

static const sluice_kernels *const tables[] = {
    &sluice_neon_i8mm, &sluice_neon_dotprod, &sluice_neon, &sluice_scalar};

// NEON belongs to the architecture. The kernel lists the dot-product instructions as bit 20 of the
// first word (HWCAP_ASIMDDP), the matrix ones as bit 13 of the second (HWCAP2_I8MM).
static uint32_t unusable(void) {
    if ((getauxval(AT_HWCAP) >> 20 & 1) == 0) return 2;
    return (getauxval(AT_HWCAP2) >> 13 & 1) ? 0 : 1;
}

#else

static const sluice_kernels *const tables[] = {&sluice_scalar};

static uint32_t unusable(void) { return 0; }

#endif

const sluice_kernels *const *sluice_kernels_available(uint32_t *count) {
    uint32_t skipped = unusable();
    *count = (uint32_t)(sizeof tables / sizeof tables[0]) - skipped;
    return tables + skipped;
}

const sluice_kernels *sluice_kernels_named(const char *name) {
    uint32_t count;
    const sluice_kernels *const *available = sluice_kernels_available(&count);
    if (name == NULL || name[0] == 0) return available[0];
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(available[i]->name, name) == 0) return available[i];
    }
    return NULL;
}
