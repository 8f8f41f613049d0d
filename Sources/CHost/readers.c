// Threads that pread, for machines that refuse io_uring.
//
//   leader                             readers
//   jobs[pushed++ % capacity] = job    number = taken++ if below `posted`; jobs[number % capacity]
//   submit: posted = pushed, wake      results[finished++ % capacity] = result, mark it, wake
//   reap: results[reaped++ % capacity]
//
// pushed - reaped never passes `capacity`, so neither ring is overwritten while someone may look at
// it. All counters only grow (and wrap, by 2^32, together).
#define _GNU_SOURCE
#include "CHost.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct {
    void *into;
    uint64_t offset;
    uint64_t tag;
    uint32_t length;
    int descriptor;
} job;

typedef struct {
    host_completion completion;
    _Atomic uint32_t mark;  // number of the result it holds, plus one
} result_slot;

struct host_readers {
    uint32_t mask;
    uint32_t thread_count;
    int drop_cached;
    job *jobs;
    result_slot *results;
    uint64_t *threads;
    uint32_t pushed;  // leader only
    uint32_t reaped;  // leader only
    _Alignas(64) _Atomic uint32_t posted;
    _Atomic uint32_t sleepers;
    _Alignas(64) _Atomic uint32_t taken;
    _Atomic uint32_t stopping;
    _Alignas(64) _Atomic uint32_t finished;
    _Alignas(64) _Atomic uint32_t landed;  // counts published results: the leader sleeps on it
    _Atomic uint32_t leader_sleeps;
};

static void serve(host_readers *self, job work) {
    int64_t result = host_read(work.descriptor, work.into, work.length, work.offset);
    if (self->drop_cached) host_drop_cached(work.descriptor, work.offset, work.length);
    uint32_t number = atomic_fetch_add(&self->finished, 1);
    result_slot *slot = &self->results[number & self->mask];
    slot->completion.tag = work.tag;
    slot->completion.result = result;
    atomic_store(&slot->mark, number + 1);
    atomic_fetch_add(&self->landed, 1);
    if (atomic_load(&self->leader_sleeps)) host_futex_wake((const uint32_t *)&self->landed, 1);
}

static void reader(void *raw) {
    host_readers *self = raw;
    for (;;) {
        uint32_t posted = atomic_load(&self->posted);
        if (atomic_load(&self->stopping)) return;
        uint32_t taken = atomic_load(&self->taken);
        if (taken != posted) {
            // Once the number is ours, the leader cannot reuse the job's place before we finish it.
            if (atomic_compare_exchange_strong(&self->taken, &taken, taken + 1)) {
                serve(self, self->jobs[taken & self->mask]);
            }
            continue;
        }
        atomic_fetch_add(&self->sleepers, 1);
        if (!atomic_load(&self->stopping)) host_futex_wait((const uint32_t *)&self->posted, posted);
        atomic_fetch_sub(&self->sleepers, 1);
    }
}

host_readers *host_readers_create(uint32_t threads, uint32_t capacity, int drop_cached,
                                  int *error) {
    uint32_t size = 1;
    while (size < capacity) size *= 2;
    host_readers *self = aligned_alloc(64, (sizeof *self + 63) / 64 * 64);
    if (!self) {
        *error = ENOMEM;
        return NULL;
    }
    *self = (host_readers){.mask = size - 1, .drop_cached = drop_cached};
    self->jobs = calloc(size, sizeof *self->jobs);
    self->results = calloc(size, sizeof *self->results);
    self->threads = calloc(threads, sizeof *self->threads);
    *error = self->jobs && self->results && self->threads ? 0 : ENOMEM;
    while (!*error && self->thread_count < threads) {
        uint64_t *thread = &self->threads[self->thread_count];
        *error = host_thread_start(thread, reader, self, "sluice-reader", -1);
        if (!*error) self->thread_count++;
    }
    // Fewer threads than asked for still read.
    if (*error && self->thread_count == 0) {
        host_readers_destroy(self);
        return NULL;
    }
    *error = 0;
    return self;
}

void host_readers_destroy(host_readers *self) {
    if (!self) return;
    atomic_store(&self->stopping, 1);
    // `posted` moves after `stopping`: a reader that has seen the new value, or would sleep on the
    // old one, stops.
    atomic_fetch_add(&self->posted, 1);
    host_futex_wake((const uint32_t *)&self->posted, self->thread_count);
    for (uint32_t i = 0; i < self->thread_count; i++) host_thread_join(self->threads[i]);
    free(self->jobs);
    free(self->results);
    free(self->threads);
    free(self);
}

void host_readers_push(host_readers *self, int descriptor, void *into, uint32_t length,
                       uint64_t offset, uint64_t tag) {
    self->jobs[self->pushed++ & self->mask] = (job){into, offset, tag, length, descriptor};
}

void host_readers_submit(host_readers *self) {
    uint32_t posted = atomic_load(&self->posted);
    if (posted == self->pushed) return;
    uint32_t count = self->pushed - posted;
    atomic_store(&self->posted, self->pushed);
    if (atomic_load(&self->sleepers)) {
        uint32_t useful = count < self->thread_count ? count : self->thread_count;
        host_futex_wake((const uint32_t *)&self->posted, useful);
    }
}

uint32_t host_readers_reap(host_readers *self, int wait, host_completion *out, uint32_t capacity) {
    for (;;) {
        uint32_t landed = atomic_load(&self->landed);
        uint32_t count = 0;
        while (count < capacity) {
            result_slot *slot = &self->results[self->reaped & self->mask];
            if (atomic_load(&slot->mark) != self->reaped + 1) break;
            out[count++] = slot->completion;
            self->reaped++;
        }
        if (count || !wait || self->reaped == self->pushed) return count;
        atomic_store(&self->leader_sleeps, 1);
        host_futex_wait((const uint32_t *)&self->landed, landed);
        atomic_store(&self->leader_sleeps, 0);
    }
}
