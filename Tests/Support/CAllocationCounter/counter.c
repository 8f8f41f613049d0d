// See CAllocationCounter.h.
#include "CAllocationCounter.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#if __has_feature(thread_sanitizer)
#define WATCHES_THREADS 1
#endif
#endif

#ifdef WATCHES_THREADS
int thread_sanitizer_watches(void) { return 1; }
#else
int thread_sanitizer_watches(void) { return 0; }
#endif

static _Thread_local uint64_t of_this_thread;
static _Atomic uint64_t of_all_threads;

uint64_t allocations_of_this_thread(void) { return of_this_thread; }
uint64_t allocations_of_all_threads(void) { return atomic_load(&of_all_threads); }

#ifdef SANITIZED
int allocation_counter_works(void) { return 0; }
#else
int allocation_counter_works(void) { return 1; }

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static void count(void) {
    of_this_thread++;
    atomic_fetch_add_explicit(&of_all_threads, 1, memory_order_relaxed);
}

void *malloc(size_t bytes) {
    count();
    return __libc_malloc(bytes);
}

void *calloc(size_t items, size_t bytes) {
    count();
    return __libc_calloc(items, bytes);
}

void *realloc(void *old, size_t bytes) {
    count();
    return __libc_realloc(old, bytes);
}

void *memalign(size_t alignment, size_t bytes) {
    count();
    return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

int posix_memalign(void **result, size_t alignment, size_t bytes) {
    if (alignment % sizeof(void *) || (alignment & (alignment - 1)) || !alignment) return EINVAL;
    void *memory = memalign(alignment, bytes);
    if (!memory) return ENOMEM;
    *result = memory;
    return 0;
}
#endif
