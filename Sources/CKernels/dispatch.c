// Which kernel tables this machine can run.
//
// Tables are listed best first, and what a machine can run is always a tail of a list: there is
// nothing to initialise and no state to share between threads. AVX-VNNI is the exception, as there
// are machines with AVX-512 and without it: so x86 has two lists.
#include <string.h>

#include "tables.h"

typedef const sluice_kernels *const *table_list;

#if defined(__x86_64__)

#include <cpuid.h>

static const sluice_kernels *const tables[] = {
    &sluice_avx512, &sluice_avx2_vnni, &sluice_avx2, &sluice_scalar};
static const sluice_kernels *const without_avx_vnni[] = {
    &sluice_avx512, &sluice_avx2, &sluice_scalar};

// Not every compiler's library knows the name of this one.
static int has_avx_vnni(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

// The builtins ask CPUID, and for the wide registers also whether the operating system saves them.
static table_list usable(uint32_t *count) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("f16c")) {
        *count = 1;
        return tables + 3;
    }
    int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
                 && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
                 && __builtin_cpu_supports("avx512vnni");
    if (has_avx_vnni()) {
        *count = avx512 ? 4 : 3;
        return tables + !avx512;
    }
    *count = avx512 ? 3 : 2;
    return without_avx_vnni + !avx512;
}

#elif defined(__aarch64__)

#include <sys/auxv.h>

static const sluice_kernels *const tables[] = {
    &sluice_neon_i8mm, &sluice_neon_dotprod, &sluice_neon, &sluice_scalar};

// NEON belongs to the architecture. The kernel lists the dot-product instructions as bit 20 of the
// first word (HWCAP_ASIMDDP), the matrix ones as bit 13 of the second (HWCAP2_I8MM).
static table_list usable(uint32_t *count) {
    int dot_products = getauxval(AT_HWCAP) >> 20 & 1;
    int matrices = dot_products && (getauxval(AT_HWCAP2) >> 13 & 1);
    *count = 2 + (uint32_t)(dot_products + matrices);
    return tables + (2 - dot_products - matrices);
}

#else

static const sluice_kernels *const tables[] = {&sluice_scalar};

static table_list usable(uint32_t *count) {
    *count = 1;
    return tables;
}

#endif

const sluice_kernels *const *sluice_kernels_available(uint32_t *count) { return usable(count); }

const sluice_kernels *sluice_kernels_named(const char *name) {
    uint32_t count;
    const sluice_kernels *const *available = sluice_kernels_available(&count);
    if (name == NULL || name[0] == 0) return available[0];
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(available[i]->name, name) == 0) return available[i];
    }
    return NULL;
}
