#include "CHost.h"

// Two streams of whole vectors, four vectors from each in turn, and a sum of its own for every second one: the most
// that one core of a Zen 5 read from memory (one stream 5 to 8 % less, four and eight no more, and half of the vector's
// width 10 % less). Sums, so that no read can be left out.
#define SLUICE_READER(name, bytes)                                                                \
    static uint64_t name(const void *base, size_t length) {                                       \
        typedef uint64_t vector __attribute__((vector_size(bytes), aligned(8), may_alias));       \
        enum { words = (bytes) / 8 };                                                             \
        const vector *first = base;                                                               \
        size_t half = length / (bytes) / 2;                                                       \
        const vector *second = first + half;                                                      \
        vector a = {0}, b = {0}, c = {0}, d = {0};                                                \
        size_t i = 0;                                                                             \
        for (; i + 4 <= half; i += 4) {                                                           \
            a += first[i], b += first[i + 1], c += second[i], d += second[i + 1];                 \
            a += first[i + 2], b += first[i + 3], c += second[i + 2], d += second[i + 3];         \
        }                                                                                         \
        for (; i < half; i++) a += first[i], c += second[i];                                      \
        a += b + c + d;                                                                           \
        uint64_t sum = 0;                                                                         \
        for (int w = 0; w < words; w++) sum += a[w];                                              \
        const uint64_t *rest = (const uint64_t *)base + half * 2 * words;                         \
        for (size_t left = length / 8 - half * 2 * words; left > 0; left--) sum += *rest++;       \
        return sum;                                                                               \
    }

#if defined(__x86_64__)
#define SLUICE_TARGET(features) __attribute__((target(features)))
SLUICE_TARGET("avx512f") SLUICE_READER(read_64, 64)
SLUICE_TARGET("avx2") SLUICE_READER(read_32, 32)
#endif
SLUICE_READER(read_16, 16)

uint64_t host_read_memory(const void *base, size_t length) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) return read_64(base, length);
    if (__builtin_cpu_supports("avx2")) return read_32(base, length);
#endif
    return read_16(base, length);
}
