#include "CHost.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

// CRC-32C (Castagnoli): polynomial 0x1EDC6F41, reflected, initial and final inversion (RFC 3720, appendix B.4).

typedef uint32_t (*crc_function)(uint32_t, const uint8_t *, size_t);

static uint32_t portable(uint32_t crc, const uint8_t *bytes, size_t length) {
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return crc;
}

#if defined(__x86_64__)
#define CRC_TARGET __attribute__((target("sse4.2")))
#define CRC_WORD(crc, word) (uint32_t) _mm_crc32_u64(crc, word)
#define CRC_BYTE(crc, byte) _mm_crc32_u8(crc, byte)
#elif defined(__aarch64__)
#ifdef __clang__
#define CRC_TARGET __attribute__((target("crc")))
#else
#define CRC_TARGET __attribute__((target("+crc")))
#endif
#define CRC_WORD(crc, word) __crc32cd(crc, word)
#define CRC_BYTE(crc, byte) __crc32cb(crc, byte)
#endif

#ifdef CRC_TARGET
CRC_TARGET static uint32_t accelerated(uint32_t crc, const uint8_t *bytes, size_t length) {
    for (; length >= 8; length -= 8, bytes += 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        crc = CRC_WORD(crc, word);
    }
    for (; length; length--) crc = CRC_BYTE(crc, *bytes++);
    return crc;
}

static int has_instructions(void) {
#if defined(__x86_64__)
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_2);
#else
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#endif
}
#endif

uint32_t host_crc32c(uint32_t crc, const void *bytes, size_t length) {
#ifdef CRC_TARGET
    static _Atomic int known;  // 0: not asked yet, 1: none, 2: there
    int state = atomic_load_explicit(&known, memory_order_relaxed);
    if (!state) {
        state = has_instructions() ? 2 : 1;
        atomic_store_explicit(&known, state, memory_order_relaxed);
    }
    if (state == 2) return ~accelerated(~crc, bytes, length);
#endif
    return ~portable(~crc, bytes, length);
}

uint32_t host_crc32c_portable(uint32_t crc, const void *bytes, size_t length) {
    return ~portable(~crc, bytes, length);
}
