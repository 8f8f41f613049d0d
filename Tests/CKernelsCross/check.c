// Every kernel table of this machine against the scalar one, bit for bit.
//
// The Swift tests do the same for the machine they run on; this program needs only a C compiler, so
// it can be built for another architecture and run under an emulator (tools/test-kernels-arm).
// Inputs come from a seeded generator and are the same everywhere: the digest printed at the end,
// taken over the scalar results, must therefore be the same on every machine too. Buffers end at an
// inaccessible page, so a read or a write too far is a crash; what lies around the results inside
// their buffer is checked.
//
//     check [TABLE ...]      fails if one of the named tables cannot run here

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "CKernels.h"

// MARK: Deterministic inputs

static uint64_t state;

static uint32_t random_bits(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

// In (-1, 1), a multiple of 2^-23.
static float random_unit(void) { return (float)((int32_t)random_bits() >> 8) * 0x1p-23f; }

static float float_from(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

// MARK: Buffers that end at a guard page

enum { BUFFER_BYTES = 1 << 19, BUFFERS = 10 };
static uint8_t *buffer_ends[BUFFERS];

static void make_buffers(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < BUFFERS; i++) {
        uint8_t *base = mmap(
            NULL, BUFFER_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED || mprotect(base + BUFFER_BYTES, page, PROT_NONE) != 0) {
            perror("check: no memory for guarded buffers");
            exit(1);
        }
        buffer_ends[i] = base + BUFFER_BYTES;
    }
}

// The last `bytes` bytes before the guard page of buffer i.
static void *buffer(int i, size_t bytes) {
    if (bytes > BUFFER_BYTES) {
        fprintf(stderr, "check: a case of %zu bytes does not fit its buffer\n", bytes);
        exit(1);
    }
    return buffer_ends[i] - bytes;
}

// MARK: Comparing

static const sluice_kernels *table, *scalar;
static uint64_t digest = 14695981039346656037u;
static long cases;
static char where[256];

static void check_floats(const float *got, const float *expected, size_t count) {
    cases++;
    for (size_t i = 0; i < count; i++) {
        if (isnan(got[i]) && isnan(expected[i])) continue;
        if (memcmp(&got[i], &expected[i], 4) == 0) continue;
        printf(
            "FAILED %s %s: value %zu is %a, scalar has %a\n", table->name, where, i, (double)got[i],
            (double)expected[i]);
        exit(1);
    }
}

static void check_bytes(const void *got, const void *expected, size_t count) {
    cases++;
    for (size_t i = 0; i < count; i++) {
        if (((const uint8_t *)got)[i] == ((const uint8_t *)expected)[i]) continue;
        printf(
            "FAILED %s %s: byte %zu is %d, scalar has %d\n", table->name, where, i,
            ((const uint8_t *)got)[i], ((const uint8_t *)expected)[i]);
        exit(1);
    }
}

static void digest_floats(const float *x, size_t count) {
    if (table != scalar) return;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = 0x7fc00000;
        if (!isnan(x[i])) memcpy(&bits, &x[i], 4);
        digest = (digest ^ bits) * 1099511628211u;
    }
}

// MARK: Blocks

static const struct {
    const char *name;
    uint32_t elements, bytes;
    int half_scales[2];  // where a block has half-precision scales, -1 for none
    int a256;
} formats[SLUICE_FORMAT_COUNT] = {
    [SLUICE_F32] = {"F32", 1, 4, {-1, -1}, 0},
    [SLUICE_F16] = {"F16", 1, 2, {-1, -1}, 0},
    [SLUICE_BF16] = {"BF16", 1, 2, {-1, -1}, 0},
    [SLUICE_Q4_0] = {"Q4_0", 32, 18, {0, -1}, 0},
    [SLUICE_Q8_0] = {"Q8_0", 32, 34, {0, -1}, 0},
    [SLUICE_MXFP4] = {"MXFP4", 32, 17, {-1, -1}, 0},
    [SLUICE_Q4_K] = {"Q4_K", 256, 144, {0, 2}, 1},
    [SLUICE_Q5_K] = {"Q5_K", 256, 176, {0, 2}, 1},
    [SLUICE_Q6_K] = {"Q6_K", 256, 210, {208, -1}, 1},
    [SLUICE_IQ4_XS] = {"IQ4_XS", 256, 136, {0, -1}, 1},
};

static const uint16_t extreme_halves[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x7bff,
                                          0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xffff};
static const uint32_t extreme_floats[] = {
    0x00000000, 0x80000000, 0x00000001, 0x807fffff, 0x00800000, 0x7f7fffff, 0xff7fffff, 0x7f800000,
    0xff800000, 0x7fc00000, 0x7f800001, 0x006ce3ee, 0x0da24260, 0x8da24260, 0x42b00000, 0xc2ae0000};

// The quants random, all bits clear, all set, or only the sign (-128 in Q8_0 and in Q6_K's scales),
// under a usual scale; random ones under an extreme scale, or under the smallest scales; and blocks
// whose every byte is random, clear or set.
enum {
    plain,
    lowest,
    highest,
    negative,
    extreme_scales,
    tiny_scales,
    random_bytes,
    zeros,
    ones,
    weight_modes
};

static void fill_weights(int format, int mode, uint8_t *w, size_t blocks) {
    size_t size = formats[format].bytes;
    for (size_t i = 0; i < blocks * size; i++) {
        uint8_t any = (uint8_t)random_bits();
        w[i] = mode == zeros || mode == lowest   ? 0
               : mode == ones || mode == highest ? 0xff
               : mode == negative                ? 0x80
                                                 : any;
    }
    if (mode >= random_bytes) return;
    for (size_t b = 0; b < blocks; b++) {
        uint8_t *block = w + b * size;
        if (format == SLUICE_F32) {
            float x = mode != extreme_scales ? random_unit()
                                             : float_from(extreme_floats[random_bits() % 16]);
            memcpy(block, &x, 4);
        } else if (format == SLUICE_F16 || format == SLUICE_BF16) {
            // Exponents near 1, or anything extreme.
            uint32_t sign = random_bits() & 0x8000, bits;
            bits = format == SLUICE_F16 ? 0x2c00 + random_bits() % 0x1000
                                        : 0x3d80 + random_bits() % 0x200;
            if (mode == extreme_scales) {
                bits = format == SLUICE_F16 ? extreme_halves[random_bits() % 12]
                                            : extreme_floats[random_bits() % 16] >> 16;
            }
            uint16_t half = (uint16_t)(sign | bits);
            memcpy(block, &half, 2);
        } else if (format == SLUICE_MXFP4) {
            block[0] = (uint8_t)(mode != extreme_scales ? 120 + random_bits() % 8
                                                        : random_bits() % 6 * 51);
            if (mode == tiny_scales) block[0] = (uint8_t)(random_bits() % 3);
        } else {
            for (int i = 0; i < 2; i++) {
                int at = formats[format].half_scales[i];
                uint16_t half = (uint16_t)(0x1c00 + random_bits() % 0x0800);
                if (mode == extreme_scales) half = extreme_halves[random_bits() % 12];
                if (mode == tiny_scales) half = (uint16_t)(random_bits() % 3);
                if (at >= 0) memcpy(block + at, &half, 2);
            }
        }
    }
}

enum {
    usual,
    nothing,
    alternating,
    constant,
    tiny,
    huge,
    with_nan,
    with_infinity,
    mixed,
    activation_modes
};

static void fill_floats(int mode, float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = random_bits();
        float u = random_unit();
        x[i] = mode == nothing       ? 0.0f
               : mode == alternating ? (bits & 1 ? 3.0f : -3.0f)
               : mode == constant    ? -5.0f
               : mode == tiny        ? u * 1e-38f
               : mode == huge        ? u * 3e38f
               : mode == mixed       ? (bits % 3 ? u : float_from(extreme_floats[bits % 16]))
                                     : u * 4;
        if (mode == with_nan && bits % 61 == 0) x[i] = float_from(0x7fc00000);
        if (mode == with_infinity && bits % 61 == 0) x[i] = bits & 64 ? INFINITY : -INFINITY;
    }
}

// MARK: The operations

static void check_gemm(
    int format, uint32_t n, uint32_t rows, uint32_t tokens, int weights, int activations) {
    state = ((uint64_t)format << 40) ^ ((uint64_t)n << 24) ^ (rows << 16) ^ (tokens << 8)
            ^ (uint32_t)(weights * 16 + activations);
    snprintf(
        where, sizeof where, "gemm %s n=%u rows=%u tokens=%u weights=%d activations=%d",
        formats[format].name, n, rows, tokens, weights, activations);
    size_t blocks = n / formats[format].elements, row_bytes = blocks * formats[format].bytes;
    uint8_t *w = buffer(0, rows * row_bytes);
    fill_weights(format, weights, w, rows * blocks);
    size_t record = formats[format].a256            ? sluice_a256_bytes(n)
                    : formats[format].elements == 1 ? n * sizeof(float)
                                                    : sluice_a32_bytes(n);
    uint8_t *x = buffer(1, tokens * record);
    for (uint32_t t = 0; t < tokens; t++) {
        float *v = buffer(2, n * sizeof(float));
        fill_floats(activations, v, n);
        if (formats[format].elements == 1) {
            memcpy(x + t * record, v, record);
        } else {
            (formats[format].a256 ? scalar->quantize_a256 : scalar->quantize_a32)(
                v, n, x + t * record);
        }
    }
    size_t y_stride = rows + 3, size = ((tokens - 1) * y_stride + rows) * sizeof(float);
    // 16 floats before the results, and the gaps between those of two tokens, must stay as they
    // are.
    float *got = buffer(3, size + 64), *expected = buffer(4, size + 64);
    memset(got, 0x5a, size + 64);
    memset(expected, 0x5a, size + 64);
    scalar->gemm[format](w, row_bytes, rows, x, record, tokens, n, expected + 16, y_stride);
    table->gemm[format](w, row_bytes, rows, x, record, tokens, n, got + 16, y_stride);
    check_floats(got, expected, size / sizeof(float) + 16);
    digest_floats(expected, size / sizeof(float) + 16);
}

// Row counts around those that a kernel for one token takes together.
static const uint32_t narrow_rows[] = {8, 15, 16, 17, 31, 32, 33, 37};

static void check_gemms(int format) {
    int is_float = formats[format].elements == 1;
    static const uint32_t counts[] = {1, 2, 3, 5, 7, 8, 9, 11, 16, 17, 19};
    uint32_t lengths = is_float ? 100 : (uint32_t)(sizeof counts / sizeof counts[0]);
    for (uint32_t i = 0; i < lengths; i++) {
        uint32_t n = is_float ? i + 1 : counts[i] * formats[format].elements;
        check_gemm(format, n, 1 + i % 5, 1 + i % 9, plain, usual);
        check_gemm(format, n, 5 - i % 5, 9 - i % 9, random_bytes, mixed);
    }
    check_gemm(format, 4096, 4, 1, plain, usual);
    check_gemm(format, 4096, 3, 5, random_bytes, alternating);
    uint32_t n = is_float ? 77 : formats[format].a256 ? 512 : 9 * 32;
    for (uint32_t rows = 1; rows <= 5; rows++) {
        for (uint32_t tokens = 1; tokens <= 9; tokens++)
            check_gemm(format, n, rows, tokens, plain, usual);
    }
    // One token takes 16 rows at a time.
    for (uint32_t i = 0; i < sizeof narrow_rows / sizeof narrow_rows[0]; i++) {
        check_gemm(format, n, narrow_rows[i], 1, plain, usual);
        check_gemm(format, 3 * n, narrow_rows[i], 1, random_bytes, mixed);
    }
    for (int weights = 0; weights < weight_modes; weights++) {
        for (int activations = 0; activations < activation_modes; activations++) {
            for (uint32_t tokens = 1; tokens <= 4; tokens++) {
                check_gemm(format, n, 5, tokens, weights, activations);
            }
        }
    }
}

// Rows and tokens that some tables take in panels: around every size of a panel, of what it leaves
// over, and of the tokens that go through it at once.
static const uint32_t panel_rows[] = {33, 16, 65, 31, 40, 17, 32, 41, 15, 24};
static const uint32_t panel_tokens[] = {2, 3, 4, 5, 6, 7, 8, 12, 13, 17, 31, 33, 65};
enum { panel_rows_count = 10, panel_tokens_count = 13 };

static void check_panels(int format) {
    static const uint32_t counts[] = {1, 2, 7, 8, 9, 17};
    int is_float = formats[format].elements == 1;
    uint32_t n = is_float ? 77 : formats[format].a256 ? 512 : 9 * 32;
    for (uint32_t i = 0; i < panel_tokens_count; i++) {
        uint32_t rows = panel_rows[i % panel_rows_count];
        check_gemm(format, n, rows, panel_tokens[i], plain, usual);
        check_gemm(format, n, 33 + i % 2 * 32, panel_tokens[i], random_bytes, mixed);
    }
    for (uint32_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        n = counts[i] * (is_float ? 13 : formats[format].elements);
        check_gemm(format, n, panel_rows[i], 9, plain, usual);
    }
    for (int weights = 0; weights < weight_modes; weights++) {
        for (int activations = 0; activations < activation_modes; activations++) {
            check_gemm(format, is_float ? 77 : 256, 33, 5, weights, activations);
        }
    }
}

// The stored integer of element e of a block, counted from 0.
static int integer_of(int format, const uint8_t *block, uint32_t e) {
    uint32_t run = e / 32, i = e % 32;
    if (format == SLUICE_Q4_0) return block[2 + e % 16] >> 4 * (e / 16) & 15;
    if (format == SLUICE_Q8_0) return (int8_t)block[2 + e] + 128;
    if (format == SLUICE_Q4_K) return block[16 + run / 2 * 32 + i] >> 4 * (run % 2) & 15;
    if (format == SLUICE_Q5_K) {
        int low = block[48 + run / 2 * 32 + i] >> 4 * (run % 2) & 15;
        return low + 16 * (block[16 + i] >> run & 1);
    }
    int low = block[e / 128 * 64 + run % 2 * 32 + i] >> 4 * (run % 4 / 2) & 15;
    return low + 16 * (block[128 + e / 128 * 32 + i] >> 2 * (run % 4) & 3);
}

static const struct {
    int format;
    uint32_t bits, scales_at, scale_bytes;
} planar_formats[] = {
    {SLUICE_Q4_0, 4, 0, 2},  {SLUICE_Q8_0, 8, 0, 2},    {SLUICE_Q4_K, 4, 0, 16},
    {SLUICE_Q5_K, 5, 0, 16}, {SLUICE_Q6_K, 6, 192, 18},
};

// Planes of random blocks: any table against the scalar one, and with no bits missing against the
// packed kernel.
static void check_planar(
    int which, const uint8_t *bits, uint32_t count, uint32_t n, uint32_t rows, uint32_t tokens,
    int weights, int activations) {
    int format = planar_formats[which].format;
    uint32_t elements = formats[format].elements, size = formats[format].bytes;
    uint32_t blocks = n / elements, units = (n + 255) / 256, missing = planar_formats[which].bits;
    for (uint32_t p = 0; p < count; p++) missing -= bits[p];
    state = ((uint64_t)format << 40) ^ ((uint64_t)n << 24) ^ (rows << 16) ^ (tokens << 8)
            ^ (uint32_t)(weights * 16 + activations);
    snprintf(
        where, sizeof where,
        "planar %s %u planes %u+%u+%u+%u missing %u n=%u rows=%u tokens=%u weights=%d "
        "activations=%d",
        formats[format].name, count, bits[0], bits[1], bits[2], bits[3], missing, n, rows, tokens,
        weights, activations);

    uint8_t *w = buffer(0, rows * blocks * size);
    fill_weights(format, weights, w, rows * blocks);
    sluice_planes planes = {.count = (uint8_t)count, .missing_bits = (uint8_t)missing};
    planes.scale_bytes = blocks * planar_formats[which].scale_bytes;
    uint8_t *scales = buffer(5, rows * planes.scale_bytes);
    planes.scales = scales;
    for (uint32_t b = 0; b < rows * blocks; b++) {
        memcpy(
            scales + b * planar_formats[which].scale_bytes,
            w + b * size + planar_formats[which].scales_at, planar_formats[which].scale_bytes);
    }
    uint32_t below = planar_formats[which].bits;
    for (uint32_t p = 0; p < count; p++) {
        uint32_t stride = 32 * bits[p];
        below -= bits[p];
        planes.bits[p] = bits[p];
        planes.plane_bytes[p] = units * stride;
        uint8_t *plane = buffer(6 + (int)p, rows * units * stride);
        planes.plane[p] = plane;
        memset(plane, 0, rows * units * stride);
        for (uint32_t r = 0; r < rows; r++) {
            for (uint32_t i = 0; i < units * 256; i++) {
                // Padding is anything.
                const uint8_t *block = w + (r * blocks + i / elements) * size;
                int field = i < n ? integer_of(format, block, i % elements) >> below : (int)i * 7;
                field &= (1 << bits[p]) - 1;
                plane[(r * units + i / 256) * stride + i % 256 % stride] |=
                    (uint8_t)(field << i % 256 / stride * bits[p]);
            }
        }
    }

    size_t record = formats[format].a256 ? sluice_a256_bytes(n) : sluice_a32_bytes(n);
    uint8_t *x = buffer(1, tokens * record);
    for (uint32_t t = 0; t < tokens; t++) {
        float *v = buffer(2, n * sizeof(float));
        fill_floats(activations, v, n);
        (formats[format].a256 ? scalar->quantize_a256 : scalar->quantize_a32)(v, n, x + t * record);
    }
    size_t y_stride = rows + 3, bytes = ((tokens - 1) * y_stride + rows) * sizeof(float);
    float *got = buffer(3, bytes + 64), *expected = buffer(4, bytes + 64);
    memset(got, 0x5a, bytes + 64);
    memset(expected, 0x5a, bytes + 64);
    scalar->planar[format](&planes, rows, x, record, tokens, n, expected + 16, y_stride);
    table->planar[format](&planes, rows, x, record, tokens, n, got + 16, y_stride);
    check_floats(got, expected, bytes / sizeof(float) + 16);
    digest_floats(expected, bytes / sizeof(float) + 16);
    if (missing == 0) {
        table->gemm[format](w, blocks * size, rows, x, record, tokens, n, got + 16, y_stride);
        check_floats(got, expected, bytes / sizeof(float) + 16);
    }
}

// Every prefix of every way to cut a format's bits into at most four planes: `bits` has `count` of
// them, and this adds one.
static void check_planars(int which, uint8_t bits[4], uint32_t count, uint32_t left) {
    int is_a256 = formats[planar_formats[which].format].a256;
    for (uint32_t width = 1; width <= 4; width *= 2) {
        if (width > left || count == 4) continue;
        bits[count] = (uint8_t)width;
        check_planar(which, bits, count + 1, is_a256 ? 512 : 288, 5, 1, plain, usual);
        check_planar(which, bits, count + 1, 256, 3, 7, random_bytes, mixed);
        check_planar(which, bits, count + 1, is_a256 ? 512 : 288, 33, 5, random_bytes, mixed);
        for (int mode = lowest; mode <= tiny_scales; mode++) {
            check_planar(which, bits, count + 1, is_a256 ? 256 : 224, 4, 2, mode, alternating);
        }
        check_planars(which, bits, count + 1, left - width);
        bits[count] = 0;
    }
}

static void check_all_planars(int which) {
    uint8_t none[4] = {0}, two[4] = {2, 2, 0, 0}, four[4] = {4, 0, 0, 0};
    check_planars(which, none, 0, planar_formats[which].bits);
    uint32_t block = formats[planar_formats[which].format].elements;
    for (uint32_t rows = 1; rows <= 5; rows++) {
        for (uint32_t tokens = 1; tokens <= 9; tokens++) {
            check_planar(which, two, 1 + rows % 2, 512, rows, tokens, plain, usual);
        }
    }
    for (uint32_t i = 0; i < sizeof narrow_rows / sizeof narrow_rows[0]; i++) {
        check_planar(which, two, 1 + i % 2, 512 + block, narrow_rows[i], 1, plain, usual);
        check_planar(which, four, 1, 256, narrow_rows[i], 1, random_bytes, mixed);
    }
    for (uint32_t i = 1; i <= 19; i++) {
        check_planar(which, two, 1 + i % 2, i * block, 1 + i % 5, 1 + i % 4, plain, usual);
        check_planar(which, four, 1, i * block, 1 + i % 5, 1 + i % 4, random_bytes, mixed);
    }
    for (uint32_t i = 0; i < panel_tokens_count; i++) {
        uint32_t n = (1 + i) * block, rows = panel_rows[i % panel_rows_count];
        check_planar(
            which, i % 2 ? two : four, 1 + i % 4 / 3, n, rows, panel_tokens[i], plain, usual);
    }
    for (int weights = 0; weights < weight_modes; weights++) {
        for (int activations = 0; activations < activation_modes; activations++) {
            check_planar(which, two, 2, 256, 33, 5, weights, activations);
            for (uint32_t tokens = 1; tokens <= 4; tokens *= 2) {
                check_planar(which, two, 2, 512, 5, tokens, weights, activations);
                check_planar(which, four, 1, 256, 5, tokens, weights, activations);
            }
        }
    }
}

static void check_quantize(uint32_t n, int mode, int a256) {
    state = ((uint64_t)n << 20) ^ (uint32_t)(mode * 2 + a256);
    snprintf(where, sizeof where, "quantize_%s n=%u mode=%d", a256 ? "a256" : "a32", n, mode);
    size_t record = a256 ? sluice_a256_bytes(n) : sluice_a32_bytes(n);
    float *x = buffer(0, n * sizeof(float));
    fill_floats(mode, x, n);
    uint8_t *got = buffer(1, record), *expected = buffer(2, record);
    memset(got, 0x5a, record);
    memset(expected, 0x5a, record);
    (a256 ? scalar->quantize_a256 : scalar->quantize_a32)(x, n, expected);
    (a256 ? table->quantize_a256 : table->quantize_a32)(x, n, got);
    size_t scales = n / (a256 ? 256 : 32), after = n + scales * sizeof(float);
    check_bytes(got, expected, n);
    check_floats((const float *)(got + n), (const float *)(expected + n), scales);
    check_bytes(got + after, expected + after, record - after);
    digest_floats((const float *)(expected + n), scales);
}

// Everything on vectors of any length n.
static void check_vectors(uint32_t n, int mode) {
    state = ((uint64_t)n << 8) ^ (uint32_t)mode ^ 0x1234567890;
    size_t size = n * sizeof(float);
    float *a = buffer(0, size), *b = buffer(1, size), *got = buffer(2, size),
          *expected = buffer(3, size);
    fill_floats(mode, a, n);
    fill_floats(mode == mixed ? mixed : usual, b, n);

    snprintf(where, sizeof where, "rms_norm n=%u mode=%d", n, mode);
    scalar->rms_norm(a, b, n, 1e-6f, expected);
    table->rms_norm(a, b, n, 1e-6f, got);
    check_floats(got, expected, n);
    digest_floats(expected, n);
    memcpy(got, a, size);
    table->rms_norm(got, b, n, 1e-6f, got);
    check_floats(got, expected, n);

    snprintf(where, sizeof where, "swiglu n=%u mode=%d", n, mode);
    scalar->swiglu(a, b, n, expected);
    table->swiglu(a, b, n, got);
    check_floats(got, expected, n);
    digest_floats(expected, n);
    memcpy(got, b, size);
    table->swiglu(a, got, n, got);
    check_floats(got, expected, n);

    snprintf(where, sizeof where, "reglu n=%u mode=%d", n, mode);
    scalar->reglu(a, b, n, expected);
    table->reglu(a, b, n, got);
    check_floats(got, expected, n);
    digest_floats(expected, n);
    memcpy(got, b, size);
    table->reglu(a, got, n, got);
    check_floats(got, expected, n);

    // A limit of 1 cuts some elements off, 7 is the one of real models.
    for (float limit = 1.0f; limit <= 7.0f; limit += 6.0f) {
        snprintf(where, sizeof where, "clamped_swiglu n=%u mode=%d limit=%g", n, mode, (double)limit);
        scalar->clamped_swiglu(a, b, n, 1.702f, limit, expected);
        table->clamped_swiglu(a, b, n, 1.702f, limit, got);
        check_floats(got, expected, n);
        digest_floats(expected, n);
        memcpy(got, b, size);
        table->clamped_swiglu(a, got, n, 1.702f, limit, got);
        check_floats(got, expected, n);
    }

    snprintf(where, sizeof where, "add_scaled n=%u mode=%d", n, mode);
    memcpy(got, b, size);
    memcpy(expected, b, size);
    scalar->add_scaled(a, 0.3f, n, expected);
    table->add_scaled(a, 0.3f, n, got);
    check_floats(got, expected, n);
    digest_floats(expected, n);

    snprintf(where, sizeof where, "softmax_exp n=%u mode=%d", n, mode);
    memcpy(got, a, size);
    memcpy(expected, a, size);
    float sum_expected = scalar->softmax_exp(expected, n), sum_got = table->softmax_exp(got, n);
    check_floats(got, expected, n);
    check_floats(&sum_got, &sum_expected, 1);
    digest_floats(expected, n);
    digest_floats(&sum_expected, 1);

    snprintf(where, sizeof where, "half precision n=%u mode=%d", n, mode);
    uint16_t *half_got = buffer(4, n * 2), *half_expected = buffer(5, n * 2);
    table->to_f16(a, n, half_got);
    scalar->to_f16(a, n, half_expected);
    scalar->from_f16(half_expected, n, expected);
    table->from_f16(half_expected, n, got);
    check_floats(got, expected, n);
    digest_floats(expected, n);
    scalar->from_f16(half_got, n, got);  // so that NaNs compare as such; widening is exact
    check_floats(got, expected, n);
}

static const char *const cache_names[SLUICE_CACHE_COUNT] = {"F32", "F16", "Q8_0"};

static size_t cache_row_bytes(int format, uint32_t n) {
    return format == SLUICE_CACHE_F32 ? (size_t)n * 4
           : format == SLUICE_CACHE_F16 ? (size_t)n * 2
                                        : (size_t)n / 32 * 34;
}

static void check_attention(
    int format, uint32_t head_size, uint32_t rows, uint32_t count, size_t gap, int mode) {
    if (format == SLUICE_CACHE_Q8_0 && head_size % 32 != 0) return;
    state = ((uint64_t)head_size << 32) ^ (count << 8) ^ (uint32_t)mode ^ gap ^ (rows << 20);
    snprintf(
        where, sizeof where, "attention %s head_size=%u rows=%u count=%u gap=%zu mode=%d",
        cache_names[format], head_size, rows, count, gap, mode);
    size_t row_bytes = cache_row_bytes(format, head_size), stride = row_bytes + gap * 2;
    size_t bytes = count == 0 ? 0 : (count - 1) * stride + row_bytes;
    size_t query_stride = head_size + gap, out_stride = count + gap;
    float *queries = buffer(0, ((rows - 1) * query_stride + head_size) * sizeof(float));
    float *weights = buffer(1, ((rows - 1) * out_stride + count) * sizeof(float));
    uint8_t *cached = buffer(2, bytes), *stored = buffer(3, bytes);
    fill_floats(usual, queries, (rows - 1) * query_stride + head_size);
    fill_floats(usual, weights, (rows - 1) * out_stride + count);
    memset(cached, 0, bytes);
    memset(stored, 0, bytes);
    for (uint32_t t = 0; t < count; t++) {
        float *row = buffer(4, head_size * sizeof(float));
        fill_floats(mode, row, head_size);
        scalar->cache[format].store(row, head_size, cached + t * stride);
        table->cache[format].store(row, head_size, stored + t * stride);
    }
    if (mode != mixed) check_bytes(stored, cached, bytes);  // a NaN's payload is not defined
    for (int operation = 0; operation < 2; operation++) {
        uint32_t length = operation == 0 ? count : head_size;
        size_t size = (rows - 1) * (length + gap) + length;
        float *got = buffer(4, size * sizeof(float)), *expected = buffer(5, size * sizeof(float));
        fill_floats(usual, expected, size);
        memcpy(got, expected, size * sizeof(float));
        for (int which = 0; which < 2; which++) {
            const sluice_cache_kernels *k = &(which == 0 ? scalar : table)->cache[format];
            float *out = which == 0 ? expected : got;
            if (operation == 0) {
                k->scores(
                    queries, query_stride, rows, cached, stride, count, head_size, 0.125f, out,
                    out_stride);
            } else {
                k->mix(
                    weights, out_stride, rows, cached, stride, count, head_size, out,
                    head_size + gap);
            }
        }
        check_floats(got, expected, size);
        digest_floats(expected, size);
    }
}

static void check_merge(uint32_t head_size, int mode) {
    state = ((uint64_t)head_size << 16) ^ (uint32_t)mode;
    snprintf(where, sizeof where, "merge head_size=%u mode=%d", head_size, mode);
    size_t size = (head_size + 2) * sizeof(float);
    float *next = buffer(0, size), *got = buffer(1, size), *expected = buffer(2, size);
    fill_floats(mode, next, head_size + 2);
    fill_floats(mode, expected, head_size + 2);
    memcpy(got, expected, size);
    scalar->merge_span(next, head_size, expected);
    table->merge_span(next, head_size, got);
    check_floats(got, expected, head_size + 2);
    digest_floats(expected, head_size + 2);
    scalar->finish_spans(next, head_size, expected);
    table->finish_spans(next, head_size, got);
    check_floats(got, expected, head_size);
    digest_floats(expected, head_size);
}

// The exponential through the softmax of a vector whose maximum is 0: its limits, and a sweep.
static void check_exponential(void) {
    enum { n = 4096 };
    snprintf(where, sizeof where, "exponential");
    static const uint32_t edges[] = {0x00000000, 0xc2adffff, 0xc2ae0000, 0xc2ae0001,
                                     0xc2aeac50, 0xff7fffff, 0xff800000, 0x80000001,
                                     0xb3800000, 0xbeb17218, 0xbf851592, 0x7fc00000};
    float *got = buffer(0, n * sizeof(float)), *expected = buffer(1, n * sizeof(float));
    for (uint32_t i = 0; i < n; i++) {
        expected[i] = i < 12 ? float_from(edges[i]) : (float)i * (-90.0f / n);
    }
    memcpy(got, expected, n * sizeof(float));
    float sum_expected = scalar->softmax_exp(expected, n), sum_got = table->softmax_exp(got, n);
    check_floats(got, expected, n);
    check_floats(&sum_got, &sum_expected, 1);
    digest_floats(expected, n);
}

// Every half-precision number, and single-precision ones around every rounding.
static void check_all_halves(void) {
    enum { at_once = 4096 };
    for (uint32_t first = 0; first < 65536; first += at_once) {
        snprintf(where, sizeof where, "halves from %u", first);
        uint16_t *halves = buffer(0, at_once * 2), *half_got = buffer(1, at_once * 2),
                 *half_expected = buffer(2, at_once * 2);
        float *got = buffer(3, at_once * 4), *expected = buffer(4, at_once * 4);
        for (uint32_t i = 0; i < at_once; i++) halves[i] = (uint16_t)(first + i);
        scalar->from_f16(halves, at_once, expected);
        table->from_f16(halves, at_once, got);
        check_floats(got, expected, at_once);
        digest_floats(expected, at_once);
        for (int step = -1; step <= 1; step++) {
            for (uint32_t i = 0; i < at_once; i++) {
                uint32_t bits;
                memcpy(&bits, &expected[i], 4);
                if (isnan(expected[i])) continue;
                got[i] =
                    float_from(bits + 0x1000 + (uint32_t)step);  // half-way to the next, and beside
            }
            scalar->to_f16(got, at_once, half_expected);
            table->to_f16(got, at_once, half_got);
            for (uint32_t i = 0; i < at_once; i++) {
                if (isnan(got[i])) half_got[i] = half_expected[i] = 0x7e00;
            }
            check_bytes(half_got, half_expected, at_once * 2);
        }
    }
}

static void check_table(void) {
    cases = 0;
    for (int format = 0; format < SLUICE_FORMAT_COUNT; format++) {
        check_gemms(format);
        check_panels(format);
    }
    for (int i = 0; i < (int)(sizeof planar_formats / sizeof planar_formats[0]); i++) {
        check_all_planars(i);
    }
    for (int mode = 0; mode < activation_modes; mode++) {
        for (uint32_t n = 32; n <= 32 * 9; n += 32) check_quantize(n, mode, 0);
        for (uint32_t n = 256; n <= 256 * 3; n += 256) check_quantize(n, mode, 1);
        for (uint32_t n = 1; n <= 100; n++) check_vectors(n, mode);
    }
    static const uint32_t heads[] = {1,  2,  7,  8,   15,  16,  31,  33,
                                     64, 80, 96, 127, 128, 129, 192, 256};
    for (uint32_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        for (uint32_t count = 0; count <= 9; count++) {
            for (int format = 0; format < SLUICE_CACHE_COUNT; format++) {
                check_attention(
                    format, heads[i], 1 + (i + count) % 7, count, count % 2 * 24,
                    count % 3 == 2 ? mixed : usual);
            }
        }
        for (int mode = 0; mode < activation_modes; mode++) check_merge(heads[i], mode);
    }
    check_exponential();
    check_all_halves();
    printf("%-14s %ld comparisons passed\n", table->name, cases);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    make_buffers();
    uint32_t count;
    const sluice_kernels *const *available = sluice_kernels_available(&count);
    scalar = available[count - 1];
    for (int i = 1; i < argc; i++) {
        if (sluice_kernels_named(argv[i]) == NULL) {
            printf("FAILED: table %s cannot run here\n", argv[i]);
            return 1;
        }
    }
    if (argc > 1 && count != (uint32_t)argc - 1) {
        printf("FAILED: %u tables can run here, %d were named\n", count, argc - 1);
        return 1;
    }
    for (uint32_t i = 0; i < count; i++) {
        table = available[i];
        check_table();
    }
    printf("digest         %016llx\n", (unsigned long long)digest);
    return 0;
}
