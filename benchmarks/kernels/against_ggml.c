// Our kernels beside those of llama.cpp's ggml: the same sizes and threads, one after the other in one process, with a
// plain read of memory before each. Prints JSON.
//
// usage: against_ggml LIBRARY [THREADS] [ROUNDS]       LIBRARY: .../llama_cpp/lib/libggml-cpu.so
// build: clang -O3 -ffp-contract=off -I Sources/CKernels/include -I Sources/CHost/include benchmarks/kernels/against_ggml.c
//              Sources/CKernels/*.c Sources/CHost/reading.c -o against_ggml -ldl -lm -pthread
//        (clang, as Swift compiles our kernels with it; speed_vs_llamacpp.py does all of this)
//
// Of ggml the dot product of one row is measured as llama.cpp calls it for weights that lie as in their file
// (vec_dot), and the products of eight interleaved rows that it uses for weights it has rearranged in memory
// (repacked: gemv for one token, gemm for several), where it has them for this processor. Both get activations that are
// quantised already, as ours do. Weights are any bits with scales of ordinary size, in 256 MiB for each thread; a pass
// goes on where the last one ended.

#define _GNU_SOURCE
#include <CHost.h>
#include <CKernels.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { columns = 2048, tokens_max = 32, threads_max = 64, rounds_max = 64, block_rows = 512, cached_rows = 64 };
static const size_t region_bytes = (size_t)256 << 20;
static const double pass_seconds = 6e-3;

// Of ggml's interface, as its headers have it.
typedef void (*from_float)(const float *x, void *y, int64_t count);
typedef void (*vec_dot)(int n, float *s, size_t bs, const void *x, size_t bx, const void *y, size_t by, int nrc);
typedef void (*product)(int n, float *s, size_t bs, const void *x, const void *y, int nr, int nc);
typedef struct {
    from_float from_float;
    vec_dot vec_dot;
    int vec_dot_type;
    int64_t nrows;
} traits;
enum { ggml_q8_0 = 8, ggml_q8_K = 15 };

static const struct {
    const char *name;
    int ours, theirs;
    size_t block, bytes;
    const char *gemv, *gemm;  // of repacked weights; NULL where x86 has none
} formats[] = {
    {"Q4_K", SLUICE_Q4_K, 12, 256, 144, "ggml_gemv_q4_K_8x8_q8_K", "ggml_gemm_q4_K_8x8_q8_K"},
    {"Q6_K", SLUICE_Q6_K, 14, 256, 210, NULL, NULL},
    {"Q8_0", SLUICE_Q8_0, 8, 32, 34, NULL, NULL},
    {"Q4_0", SLUICE_Q4_0, 2, 32, 18, "ggml_gemv_q4_0_8x8_q8_0", "ggml_gemm_q4_0_8x8_q8_0"},
    {"Q5_K", SLUICE_Q5_K, 13, 256, 176, NULL, NULL},
    {"IQ4_XS", SLUICE_IQ4_XS, 23, 256, 136, NULL, NULL},
    {"MXFP4", SLUICE_MXFP4, 39, 32, 17, "ggml_gemv_mxfp4_8x8_q8_0", "ggml_gemm_mxfp4_8x8_q8_0"},
};
enum { format_count = sizeof formats / sizeof *formats };

// What a pass measures.
enum { read_memory, ours, dots, repacked, kind_count };
static const char *kind_names[] = {"read", "sluice", "ggml_vec_dot", "ggml_repacked"};

static struct {
    int kind, format, tokens, cached;
    long count;
} job;
static long threads = 2;
static void *library;
static const sluice_kernels *kernels;
static uint8_t *memory[threads_max];
static size_t cursor[threads_max];
static float *results[threads_max];
static uint64_t sums[threads_max];
static double begins[threads_max], ends[threads_max];
static pthread_barrier_t barrier;
static float x[tokens_max * columns];
static uint8_t our_rows[2][tokens_max * 4096], their_rows[2][tokens_max * 4096], their_mats[2][tokens_max * 4096];
static size_t their_row_bytes[2];
static const traits *(*traits_of)(int type);

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void *needed(const char *symbol) {
    void *found = dlsym(library, symbol);
    if (found == NULL) {
        fprintf(stderr, "against_ggml: the library has no %s; is it another version of llama.cpp?\n", symbol);
        exit(69);
    }
    return found;
}

static uint8_t *step(int worker, size_t bytes) {
    if (cursor[worker] + bytes > region_bytes) cursor[worker] = 0;
    cursor[worker] += bytes;
    return memory[worker] + cursor[worker] - bytes;
}

static void work(int worker) {
    int f = job.format, large = formats[f].block == 256;
    size_t row_bytes = columns / formats[f].block * formats[f].bytes;
    int rows = job.cached ? cached_rows : block_rows;
    float *y = results[worker];
    vec_dot dot = job.kind == dots ? traits_of(formats[f].theirs)->vec_dot : NULL;
    product multiply = job.kind != repacked ? NULL : (product)needed(job.tokens == 1 ? formats[f].gemv : formats[f].gemm);
    for (long i = 0; i < job.count; i++) {
        size_t bytes = (size_t)rows * row_bytes;
        const uint8_t *w = job.cached ? memory[worker] : step(worker, bytes);
        switch (job.kind) {
        case read_memory: sums[worker] += host_read_memory(w, bytes / 8 * 8); break;
        case ours:
            kernels->gemm[formats[f].ours](
                w, row_bytes, (uint32_t)rows, our_rows[large], large ? sluice_a256_bytes(columns) : sluice_a32_bytes(columns),
                (uint32_t)job.tokens, columns, y, (size_t)rows);
            break;
        case dots:
            // 16 rows for all tokens, as llama.cpp's loop over tiles does.
            for (int first = 0; first < rows; first += 16)
                for (int t = 0; t < job.tokens; t++)
                    for (int r = first; r < first + 16; r++)
                        dot(columns, y + (size_t)t * (size_t)rows + r, 0, w + (size_t)r * row_bytes, 0,
                            their_rows[large] + (size_t)t * their_row_bytes[large], 0, 1);
            break;
        default:
            multiply(columns, y, (size_t)rows, w, job.tokens == 1 ? their_rows[large] : their_mats[large], job.tokens, rows);
        }
    }
}

static void *thread(void *argument) {
    int worker = (int)(size_t)argument;
    cpu_set_t allowed, one;
    sched_getaffinity(0, sizeof allowed, &allowed);
    for (int cpu = 0, index = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || index++ != worker) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        break;
    }
    memory[worker] = mmap(NULL, region_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory[worker] == MAP_FAILED) exit(71);
    madvise(memory[worker], region_bytes, MADV_HUGEPAGE);
    uint64_t bits = (uint64_t)worker;
    for (size_t i = 0; i < region_bytes; i += 8) {
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        uint64_t word = bits & 0x37ff37ff37ff37ffu;
        memcpy(memory[worker] + i, &word, 8);
    }
    results[worker] = calloc((size_t)tokens_max * block_rows, sizeof(float));
    while (1) {
        pthread_barrier_wait(&barrier);
        if (job.count == 0) return NULL;
        begins[worker] = seconds();
        work(worker);
        ends[worker] = seconds();
        pthread_barrier_wait(&barrier);
    }
}

// Seconds from the first beginning to the last end.
static double pass(int kind, int format, int tokens, int cached, long count) {
    job.kind = kind, job.format = format, job.tokens = tokens, job.cached = cached, job.count = count;
    pthread_barrier_wait(&barrier);
    if (count == 0) return 0;
    pthread_barrier_wait(&barrier);
    double begin = begins[0], end = ends[0];
    for (long i = 1; i < threads; i++) {
        if (begins[i] < begin) begin = begins[i];
        if (ends[i] > end) end = ends[i];
    }
    return end - begin;
}

static int larger(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void print_spread(const char *name, const double *values, int count) {
    double sorted[rounds_max];
    memcpy(sorted, values, (size_t)count * sizeof *values);
    qsort(sorted, (size_t)count, sizeof *sorted, larger);
    printf(", \"%s\": {\"median\": %.4g, \"least\": %.4g, \"greatest\": %.4g}", name,
           (sorted[(count - 1) / 2] + sorted[count / 2]) / 2, sorted[0], sorted[count - 1]);
}

static void measure(int format, int tokens, int cached, int rounds, int first) {
    int kinds = formats[format].gemv ? kind_count : repacked;
    int from = cached ? ours : read_memory;
    double rates[kind_count][rounds_max];
    long counts[kind_count];
    double bytes = (cached ? cached_rows : block_rows) * (double)(columns / formats[format].block * formats[format].bytes);
    for (int kind = from; kind < kinds; kind++) {
        double took = 0;
        for (long count = 1;; count *= 4) {
            double one = pass(kind, format, tokens, cached, count), other = pass(kind, format, tokens, cached, count);
            took = (one < other ? one : other) / (double)count;
            if (took * (double)count > pass_seconds / 10) break;
        }
        counts[kind] = (long)(pass_seconds / took);
        if (counts[kind] < 1) counts[kind] = 1;
    }
    for (int round = 0; round < rounds; round++)
        for (int kind = from; kind < kinds; kind++)
            rates[kind][round] =
                bytes * (double)(threads * counts[kind]) / pass(kind, format, tokens, cached, counts[kind]) / 1e9;
    printf("%s\n  {\"format\": \"%s\", \"place\": \"%s\", \"tokens\": %d", first ? "" : ",", formats[format].name,
           cached ? "cache" : "memory", tokens);
    double ratios[rounds_max];
    for (int kind = from; kind < kinds; kind++) {
        char name[64];
        snprintf(name, sizeof name, "%s_gigabytes_per_second", kind_names[kind]);
        print_spread(name, rates[kind], rounds);
    }
    for (int round = 0; round < rounds; round++) {
        double best = rates[dots][round];
        if (kinds > repacked && rates[repacked][round] > best) best = rates[repacked][round];
        ratios[round] = rates[ours][round] / best;
    }
    print_spread("ratio_to_better", ratios, rounds);
    if (!cached) {
        for (int round = 0; round < rounds; round++) ratios[round] = rates[ours][round] / rates[read_memory][round];
        print_spread("share_of_read", ratios, rounds);
    }
    printf("}");
}

int main(int count, char **arguments) {
    if (count > 2) threads = strtol(arguments[2], NULL, 10);
    long rounds = count > 3 ? strtol(arguments[3], NULL, 10) : 7;
    if (count < 2 || threads < 1 || threads > threads_max || rounds < 1 || rounds > rounds_max) {
        fprintf(stderr, "usage: against_ggml LIBRARY [THREADS, 1 to %d] [ROUNDS, 1 to %d]\n", threads_max, rounds_max);
        return 64;
    }
    library = dlopen(arguments[1], RTLD_NOW | RTLD_GLOBAL);
    if (library == NULL) {
        fprintf(stderr, "against_ggml: %s\n", dlerror());
        return 66;
    }
    ((void (*)(void))needed("ggml_cpu_init"))();
    *(void **)&traits_of = needed("ggml_get_type_traits_cpu");
    kernels = sluice_kernels_named(NULL);
    for (int i = 0; i < tokens_max * columns; i++) x[i] = (float)(i * 7919 % 2000 - 1000) / 1000;
    from_float quantize[2] = {traits_of(ggml_q8_0)->from_float, traits_of(ggml_q8_K)->from_float};
    from_float interleave[2];
    *(void **)&interleave[0] = needed("ggml_quantize_mat_q8_0_4x8");
    *(void **)&interleave[1] = needed("ggml_quantize_mat_q8_K_4x8");
    their_row_bytes[0] = columns / 32 * 34;
    their_row_bytes[1] = columns / 256 * 292;
    for (int t = 0; t < tokens_max; t++) {
        const float *row = x + t * columns;
        kernels->quantize_a32(row, columns, our_rows[0] + (size_t)t * sluice_a32_bytes(columns));
        kernels->quantize_a256(row, columns, our_rows[1] + (size_t)t * sluice_a256_bytes(columns));
        for (int large = 0; large < 2; large++) {
            quantize[large](row, their_rows[large] + (size_t)t * their_row_bytes[large], columns);
            if (t % 4 == 0) interleave[large](row, their_mats[large] + (size_t)t * their_row_bytes[large], columns);
        }
    }
    pthread_t handles[threads_max];
    pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
    for (long i = 0; i < threads; i++)
        if (pthread_create(&handles[i], NULL, thread, (void *)i) != 0) return 71;
    printf("{\"instruction_set\": \"%s\", \"threads\": %ld, \"rounds\": %ld, \"rows\": [", kernels->name, threads, rounds);
    int first = 1;
    for (int format = 0; format < format_count; format++)
        for (int tokens = 1; tokens <= tokens_max; tokens *= 32)
            for (int cached = 0; cached < 2; cached++, first = 0) measure(format, tokens, cached, (int)rounds, first);
    printf("\n]}\n");
    pass(0, 0, 0, 0, 0);
    for (long i = 0; i < threads; i++) pthread_join(handles[i], NULL);
    return 0;
}
