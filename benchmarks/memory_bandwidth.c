// Reads memory with every thread at once and prints GB/s: the roof under which decoding stands.
//
// usage: memory_bandwidth [THREADS]      build: cc -O3 -march=native -pthread memory_bandwidth.c
// Each thread sums 512 MB of its own, in huge pages where the kernel gives them; best of five passes.

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { maximum_threads = 64, passes = 5 };
static const size_t size = (size_t)512 << 20;
static uint64_t *memory[maximum_threads], sums[maximum_threads];
static pthread_barrier_t barrier;
static double best;

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void *read_all(void *argument) {
    size_t index = (size_t)argument;
    memset(memory[index], 1, size);
    for (int pass = 0; pass < passes; pass++) {
        pthread_barrier_wait(&barrier);
        double start = seconds();
        // Eight sums, so that the additions do not wait for each other.
        uint64_t sum[8] = {0};
        for (size_t i = 0; i < size / sizeof(uint64_t); i += 8)
            for (size_t lane = 0; lane < 8; lane++) sum[lane] += memory[index][i + lane];
        for (size_t lane = 0; lane < 8; lane++) sums[index] += sum[lane];
        pthread_barrier_wait(&barrier);
        double elapsed = seconds() - start;
        if (index == 0 && (best == 0 || elapsed < best)) best = elapsed;
    }
    return NULL;
}

int main(int count, char **arguments) {
    long threads = count > 1 ? strtol(arguments[1], NULL, 10) : 2;
    if (threads < 1 || threads > maximum_threads) return 64;
    pthread_t handles[maximum_threads];
    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    for (long i = 0; i < threads; i++) {
        memory[i] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory[i] == MAP_FAILED) return 71;
        madvise(memory[i], size, MADV_HUGEPAGE);
        if (pthread_create(&handles[i], NULL, read_all, (void *)i) != 0) return 71;
    }
    uint64_t total = 0;
    for (long i = 0; i < threads; i++) pthread_join(handles[i], NULL), total += sums[i];
    printf("%.2f\n", (double)size * (double)threads / best / 1e9);
    return total == 0;  // and the sums are needed, so nothing is optimised away
}
