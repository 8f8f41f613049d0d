#define _GNU_SOURCE
#include "CHost.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    void (*body)(void *);
    void *context;
    char name[16];
    int cpu;
} start_record;

static void *run(void *raw) {
    start_record record = *(start_record *)raw;
    free(raw);
    pthread_setname_np(pthread_self(), record.name);
    if (record.cpu >= 0) host_pin_current_thread(record.cpu);
    record.body(record.context);
    return NULL;
}

int host_thread_start(uint64_t *handle, void (*body)(void *), void *context, const char *name, int cpu) {
    start_record *record = calloc(1, sizeof *record);
    if (!record) return ENOMEM;
    record->body = body;
    record->context = context;
    record->cpu = cpu;
    strncpy(record->name, name, sizeof record->name - 1);
    pthread_t thread;
    int error = pthread_create(&thread, NULL, run, record);
    if (error) {
        free(record);
        return error;
    }
    *handle = (uint64_t)thread;
    return 0;
}

void host_thread_join(uint64_t handle) { pthread_join((pthread_t)handle, NULL); }

int host_pin_current_thread(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

uint32_t host_allowed_cpus(int32_t *cpus, uint32_t capacity) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) return 0;
    uint32_t count = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set)) continue;
        if (count < capacity) cpus[count] = cpu;
        count++;
    }
    return count;
}

void host_futex_wait(const uint32_t *word, uint32_t expected) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

void host_futex_wake(const uint32_t *word, uint32_t count) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

void host_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#endif
}

uint64_t host_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
