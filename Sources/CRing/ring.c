// See CRing.h for the contract.
#define _GNU_SOURCE
#include "CRing.h"

#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// Kernel flags newer than some headers we build with.
#ifndef IORING_SETUP_COOP_TASKRUN
#define IORING_SETUP_COOP_TASKRUN (1U << 8)
#endif
#ifndef IORING_SETUP_TASKRUN_FLAG
#define IORING_SETUP_TASKRUN_FLAG (1U << 9)
#endif
#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

struct ring {
    struct io_uring uring;
    const char *setup;
    int32_t *descriptors;
    uint32_t descriptor_count;
    int enabled;  // a ring made with R_DISABLED is enabled by its first submit, by the leader
    int fixed_files;
    int fixed_buffers;
    // Entry of the kernel's table that holds a chunk of memory, -1 for none, -2 - entry for one that was
    // dropped.
    int32_t *buffer_of_chunk;
    uint32_t chunk_count;
};

static const struct {
    const char *name;
    uint32_t flags;
} setups[] = {
    // R_DISABLED: the kernel remembers the thread that enables the ring as the single issuer.
    {"DEFER_TASKRUN", IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER
                          | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG},
    {"COOP_TASKRUN", IORING_SETUP_CLAMP | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG},
    {"plain", IORING_SETUP_CLAMP},
};

ring *ring_create(uint32_t entries, int *error) {
    ring *self = calloc(1, sizeof *self);
    if (!self) {
        *error = ENOMEM;
        return NULL;
    }
    int result = -EINVAL;
    for (size_t i = 0; i < sizeof setups / sizeof setups[0] && result == -EINVAL; i++) {
        struct io_uring_params parameters = {.flags = setups[i].flags};
        result = io_uring_queue_init_params(entries, &self->uring, &parameters);
        self->setup = setups[i].name;
        self->enabled = !(setups[i].flags & IORING_SETUP_R_DISABLED);
    }
    if (result < 0) {
        free(self);
        *error = -result;
        return NULL;
    }
    return self;
}

void ring_destroy(ring *self) {
    if (!self) return;
    // Unpins at once; closing the ring alone would do it some time later.
    if (self->fixed_buffers) io_uring_unregister_buffers(&self->uring);
    io_uring_queue_exit(&self->uring);
    free(self->descriptors);
    free(self->buffer_of_chunk);
    free(self);
}

const char *ring_setup_name(const ring *self) { return self->setup; }

int ring_set_files(ring *self, const int32_t *descriptors, uint32_t count) {
    self->descriptors = malloc((count ? count : 1) * sizeof *descriptors);
    if (!self->descriptors) return ENOMEM;
    memcpy(self->descriptors, descriptors, count * sizeof *descriptors);
    self->descriptor_count = count;
    self->fixed_files = io_uring_register_files(&self->uring, self->descriptors, count) == 0;
    return 0;
}

static int update_buffer(ring *self, int32_t entry, void *base, uint64_t length) {
    struct iovec vector = {base, length};
    return io_uring_register_buffers_update_tag(&self->uring, (unsigned)entry, &vector, NULL, 1) == 1;
}

static void drop_all_buffers(ring *self) {
    if (self->fixed_buffers) io_uring_unregister_buffers(&self->uring);
    self->fixed_buffers = 0;
}

// Fills entries that were dropped; whether all chunks are registered then.
static int refill_buffers(ring *self, void *const *bases, const uint64_t *lengths, uint32_t count) {
    if (!self->fixed_buffers || count != self->chunk_count) return 0;
    for (uint32_t i = 0; i < count; i++) {
        int32_t entry = self->buffer_of_chunk[i];
        if (entry >= 0 || !lengths[i]) continue;
        if (entry == -1 || !update_buffer(self, -2 - entry, bases[i], lengths[i])) return 0;
        self->buffer_of_chunk[i] = -2 - entry;
    }
    return 1;
}

int ring_set_buffers(ring *self, void *const *bases, const uint64_t *lengths, uint32_t count) {
    if (refill_buffers(self, bases, lengths, count)) return 0;
    drop_all_buffers(self);
    struct iovec *vectors = calloc(count ? count : 1, sizeof *vectors);
    int32_t *map = realloc(self->buffer_of_chunk, (count ? count : 1) * sizeof *map);
    if (map) self->buffer_of_chunk = map;
    if (!vectors || !map) {
        free(vectors);
        return ENOMEM;
    }
    self->chunk_count = count;
    // Kernels before 5.13 take no empty entries.
    uint32_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        map[i] = -1;
        if (!lengths[i]) continue;
        vectors[used].iov_base = bases[i];
        vectors[used].iov_len = lengths[i];
        map[i] = (int32_t)used++;
    }
    int result = io_uring_register_buffers(&self->uring, vectors, used);
    free(vectors);
    self->fixed_buffers = result == 0;
    return -result;
}

void ring_drop_buffer(ring *self, uint32_t chunk) {
    if (!self->fixed_buffers || chunk >= self->chunk_count || self->buffer_of_chunk[chunk] < 0) return;
    // Before Linux 5.13 an entry cannot be emptied: then all go, and the next registration is of all.
    if (!update_buffer(self, self->buffer_of_chunk[chunk], NULL, 0)) {
        drop_all_buffers(self);
        return;
    }
    self->buffer_of_chunk[chunk] = -2 - self->buffer_of_chunk[chunk];
}

void ring_limit_workers(ring *self, uint32_t count) {
    unsigned limits[2] = {count, count};
    io_uring_register_iowq_max_workers(&self->uring, limits);
}

int ring_push_read(ring *self, uint32_t file, int32_t chunk, void *into, uint32_t length,
                   uint64_t offset, uint64_t tag, int deferred) {
    struct io_uring_sqe *entry = io_uring_get_sqe(&self->uring);
    if (!entry) return 0;
    int descriptor = self->fixed_files ? (int)file : self->descriptors[file];
    int known = chunk >= 0 && (uint32_t)chunk < self->chunk_count && self->fixed_buffers;
    int32_t buffer = known ? self->buffer_of_chunk[chunk] : -1;
    if (buffer >= 0) {
        io_uring_prep_read_fixed(entry, descriptor, into, length, offset, buffer);
    } else {
        io_uring_prep_read(entry, descriptor, into, length, offset);
    }
    unsigned flags = (self->fixed_files ? IOSQE_FIXED_FILE : 0) | (deferred ? IOSQE_ASYNC : 0);
    io_uring_sqe_set_flags(entry, flags);
    io_uring_sqe_set_data64(entry, tag);
    return 1;
}

int ring_submit(ring *self, uint32_t wait) {
    if (!self->enabled) {
        // liburing 2.3 declares io_uring_enable_rings, but its library does not export it.
        int descriptor = self->uring.ring_fd;
        if (syscall(SYS_io_uring_register, descriptor, IORING_REGISTER_ENABLE_RINGS, NULL, 0)) {
            return errno;
        }
        self->enabled = 1;
    }
    for (;;) {
        int result = io_uring_submit_and_wait(&self->uring, wait);
        // A call that submitted some of the entries reports how many: the rest go with the next
        // round.
        if (result >= 0 && io_uring_sq_ready(&self->uring) == 0) return 0;
        if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY) return -result;
    }
}

uint32_t ring_reap(ring *self, ring_completion *out, uint32_t capacity) {
    struct io_uring_cqe *entries[32];
    uint32_t taken = 0;
    if (!self->enabled) return 0;
    while (taken < capacity) {
        uint32_t want = capacity - taken < 32 ? capacity - taken : 32;
        unsigned count = io_uring_peek_batch_cqe(&self->uring, entries, want);
        for (unsigned i = 0; i < count; i++) {
            out[taken + i].tag = io_uring_cqe_get_data64(entries[i]);
            out[taken + i].result = entries[i]->res;
        }
        io_uring_cq_advance(&self->uring, count);
        taken += count;
        if (count < want) break;
    }
    return taken;
}

// liburing 2.3 cannot tell its version; its file name can (liburing.so.2.3.0).
const char *ring_library_version(void) {
#if defined(IO_URING_VERSION_MAJOR) && defined(IO_URING_VERSION_MINOR)
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
    return TEXT(IO_URING_VERSION_MAJOR) "." TEXT(IO_URING_VERSION_MINOR);
#else
    static char version[32];
    char path[PATH_MAX];
    Dl_info info;
    if (!dladdr((void *)io_uring_queue_init_params, &info) || !info.dli_fname) return "";
    if (!realpath(info.dli_fname, path)) return "";
    char *found = strstr(path, ".so.");
    if (!found || strlen(found + 4) >= sizeof version) return "";
    strcpy(version, found + 4);
    return version;
#endif
}
