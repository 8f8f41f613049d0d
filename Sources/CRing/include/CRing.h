// One io_uring for file reads, behind an opaque handle: no kernel header is visible from Swift.
//
// The ring belongs to the thread that first submits on it ("the leader"); it may be created, given
// its files and buffers, and destroyed on another. Where the kernel has them it uses SINGLE_ISSUER
// and DEFER_TASKRUN (6.1): completions are then processed only when the leader asks for them, and
// never interrupt its arithmetic. Older kernels get COOP_TASKRUN (5.19) or no flags (5.6).
#ifndef CRING_H
#define CRING_H

#include <stddef.h>
#include <stdint.h>

typedef struct ring ring;

// What one read came to: the tag it was pushed with, and the bytes read or a negative errno value.
typedef struct {
    uint64_t tag;
    int64_t result;
} ring_completion;

// Makes a ring with room for `entries` reads waiting for submission. NULL: *error is an errno
// value.
ring *ring_create(uint32_t entries, int *error);
void ring_destroy(ring *);

// "DEFER_TASKRUN", "COOP_TASKRUN" or "plain": the set-up the kernel granted.
const char *ring_setup_name(const ring *);

// Registers the files that `ring_push_read` names by index. Call once. A kernel that refuses gets
// the plain descriptors with every read: not an error. Returns 0 or ENOMEM.
int ring_set_files(ring *, const int32_t *descriptors, uint32_t count);

// Registers chunks of memory that reads may go to with less work per read; those of the last call that
// were not dropped since stay as they are, with their lengths. A chunk of length 0 is left out; none may be longer than 1 GiB. No read may be
// in flight. Returns 0, or an errno value (ENOMEM: RLIMIT_MEMLOCK) and the ring works without.
int ring_set_buffers(ring *, void *const *bases, const uint64_t *lengths, uint32_t count);

// Unregisters one chunk (or all, where the kernel cannot do that): its pages are pinned no more. No read
// may be in flight.
void ring_drop_buffer(ring *, uint32_t chunk);

// Limits the kernel threads that serve reads which would block (buffered reads). Best effort.
void ring_limit_workers(ring *, uint32_t count);

// Queues a read, without a system call. `chunk` is the index of the chunk that holds all of `into`, or
// -1. `deferred` hands the read to a kernel thread at once, so that a read through
// the page cache cannot block the leader. Returns 1, or 0 if the ring has no room until the next
// submit.
int ring_push_read(ring *, uint32_t file, int32_t chunk, void *into, uint32_t length,
                   uint64_t offset, uint64_t tag, int deferred);

// Submits what was pushed (the kernel is entered once) and waits until `wait` completions are
// there. Returns 0 or an errno value; EINTR, EAGAIN and EBUSY are retried inside. EEXIST: another
// thread is the leader.
int ring_submit(ring *, uint32_t wait);

// Takes completions that are there; does not wait. Returns how many.
uint32_t ring_reap(ring *, ring_completion *out, uint32_t capacity);

// Version of the liburing in use, "2.3" for instance; empty if unknown.
const char *ring_library_version(void);

#endif
