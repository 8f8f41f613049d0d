// What Swift cannot call by itself: thread affinity, futexes, direct file access, NUMA placement.
//
// Only integers and pointers cross this border; no kernel header is visible from Swift.
#ifndef CHOST_H
#define CHOST_H

#include <stddef.h>
#include <stdint.h>

// Threads ------------------------------------------------------------------------------------------

// Starts a joinable thread named `name` (at most 15 bytes) running body(context). `cpu` >= 0 pins it to
// that processor; a refused pin is not an error. Returns 0, or an errno value and leaves *handle alone.
int host_thread_start(uint64_t *handle, void (*body)(void *), void *context, const char *name, int cpu);
void host_thread_join(uint64_t handle);

// Pins the calling thread; returns 0 or an errno value.
int host_pin_current_thread(int cpu);

// Processors this process may run on, in order; writes at most `capacity`, returns how many there are.
uint32_t host_allowed_cpus(int32_t *cpus, uint32_t capacity);

// Sleeps while *word == expected; may wake early. Wakes up to `count` sleepers.
void host_futex_wait(const uint32_t *word, uint32_t expected);
void host_futex_wake(const uint32_t *word, uint32_t count);

// One spin-loop hint to the processor.
void host_relax(void);

// Asks the second-level cache for `bytes` bytes that lie `offset` behind p. No address is wrong: asking is not
// touching.
static inline void host_prefetch(const void *p, size_t offset, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch((const void *)((uintptr_t)p + offset + i), 0, 2);
}

// Nanoseconds of the monotonic clock.
uint64_t host_nanoseconds(void);

// Files --------------------------------------------------------------------------------------------

// Opens a regular file for reading, past the page cache if `direct`. Returns a descriptor or a negative errno
// value; -EISDIR for anything that is not a regular file.
int host_open_file(const char *path, int direct);
void host_close_file(int descriptor);

// Size in bytes, or a negative errno value.
int64_t host_file_size(int descriptor);

// The alignment that offsets and lengths of direct reads need, as the file system states it (STATX_DIOALIGN,
// Linux 6.1): 0 if it does not say.
uint32_t host_direct_alignment(int descriptor);

// One pread: the bytes read, or a negative errno value.
int64_t host_read(int descriptor, void *into, size_t length, uint64_t offset);

// Reads a small text file (of /proc, /sys) from its start. Returns the bytes read or a negative errno value.
int64_t host_read_text(const char *path, char *into, size_t capacity);

// A file in `folder` that has no name, open for reading and writing; a negative errno value where there can
// be none. It is gone when it is closed.
int host_unnamed_file(const char *folder);

// Takes room for a file of `size` bytes: 0 or an errno value, EOPNOTSUPP where the file system cannot say.
int host_allocate(int descriptor, uint64_t size);

// Drops the pages of a range from the page cache, if nobody else uses them.
void host_drop_cached(int descriptor, uint64_t offset, uint64_t length);

// Tells the kernel not to read ahead of this descriptor's reads.
void host_expect_random_reads(int descriptor);

// Number of the device that holds a file. Returns 0 or an errno value.
int host_device_of_file(const char *path, uint32_t *major, uint32_t *minor);

// Bytes of a range that are in the page cache, or -1 where the kernel will not say.
int64_t host_cached_bytes(int descriptor, uint64_t offset, uint64_t length);

// Reader threads -----------------------------------------------------------------------------------
//
// The stand-in for io_uring where that is refused: a few threads that pread. One producer pushes jobs and reaps
// completions; no job allocates or takes a lock.

typedef struct host_readers host_readers;

typedef struct {
    uint64_t tag;
    int64_t result;  // bytes read, or a negative errno value
} host_completion;

// `capacity` jobs may be pushed and not yet reaped; it is rounded up to a power of two. With `drop_cached`
// the pages of each read are dropped from the page cache after it. NULL: *error is an errno value.
host_readers *host_readers_create(uint32_t threads, uint32_t capacity, int drop_cached, int *error);
// Ends the threads, after the reads that are in their hands; jobs not yet begun are forgotten.
void host_readers_destroy(host_readers *);

void host_readers_push(host_readers *, int descriptor, void *into, uint32_t length, uint64_t offset, uint64_t tag);
void host_readers_submit(host_readers *);
// Takes completions, waiting until there is one if `wait`. Returns how many.
uint32_t host_readers_reap(host_readers *, int wait, host_completion *out, uint32_t capacity);

// Processes and signals ----------------------------------------------------------------------------

// Keeps these signals from the calling thread and those it starts from now on. Returns a descriptor that is readable
// while one of them waits, or a negative errno value.
int host_take_signals(const int *signals, uint32_t count);
// The number of a signal that waited, or 0.
int host_next_signal(int descriptor);

// Starts a program in a process group of its own, where the terminal's signals do not reach it, with no input and both
// outputs in `output`. `arguments` ends with NULL. It gets SIGTERM when the calling thread ends first. Returns its
// process id or a negative errno value.
int host_start_child(const char *path, char *const *arguments, int output);

// As the above, for a program that is measured: with an environment of its own, its outputs apart, and killed when
// the calling thread ends first. Before it begins it writes itself into each of `groups`, open cgroup.procs files. If
// that is what failed, *group is the index of the one that refused, otherwise -1.
int host_start_measured(const char *path, char *const *arguments, char *const *environment, const int *groups,
                        uint32_t count, int output, int errors, int *group);

// The environment of this process, NULL behind the last; it must not be changed meanwhile.
char *const *host_environment(void);

// Starts a program in a session of its own, deaf to SIGINT, SIGTERM and SIGHUP, with `input` as its input and no
// output: it outlives the caller. Returns its process id or a negative errno value.
int host_start_guard(const char *path, char *const *arguments, int input);

// Two ends of a pipe, closed on exec; reading from ends[0] does not wait. Returns 0 or an errno value.
int host_make_pipe(int ends[2]);
// Two ends of a connection both ways, closed on exec. Returns 0 or an errno value.
int host_make_channel(int ends[2]);
// Sends bytes and raises no signal where nobody listens. Returns the bytes sent or a negative errno value.
int64_t host_send(int descriptor, const void *bytes, size_t length);

typedef struct {
    int32_t status;            // exit code, or 128 + the signal
    uint64_t major_faults;     // of it and of the processes it waited for
    uint64_t peak_bytes;       // resident; no less than the caller had when it started the process
} host_end;

// Takes note of a child's end, waiting for it if `wait`. Returns 1, 0 if it still runs, or a negative errno value.
int host_end_of_child(int child, int wait, host_end *end);

// Memory -------------------------------------------------------------------------------------------

size_t host_page_bytes(void);

// Anonymous memory, not yet backed. With `huge` it starts on a 2 MiB boundary and asks for huge pages. NULL: *error
// is an errno value.
void *host_map_memory(size_t bytes, int huge, int *error);
void host_unmap_memory(void *base, size_t bytes);

// As the above, but only reserves addresses, on a 2 MiB boundary: what is to be used is asked for with
// host_prefer_huge_pages and host_populate_memory.
void *host_reserve_memory(size_t bytes, int *error);
// Asks for huge pages in a range that starts on a 2 MiB boundary, and in no byte behind it.
void host_prefer_huge_pages(void *base, size_t bytes);
// Gives the pages of a range back to the kernel at once; the addresses stay reserved. Returns 0 or an errno value.
int host_give_back_memory(void *base, size_t bytes);

// Places memory on the NUMA node of the calling thread. Returns the node, or -1 if there is only one (or no
// NUMA support): then nothing is done.
int host_bind_to_local_node(void *base, size_t bytes);

// Backs memory with pages now. Returns 0 or an errno value.
int host_populate_memory(void *base, size_t bytes);

// Keeps memory from being swapped out. Returns 0 or an errno value (ENOMEM, EPERM: RLIMIT_MEMLOCK).
int host_lock_memory(void *base, size_t bytes);

// RLIMIT_MEMLOCK in bytes; UINT64_MAX for no limit.
uint64_t host_memory_lock_limit(void);

// Asks a pressure file (/proc/pressure/memory, a control group's memory.pressure) to mark the descriptor whenever
// `trigger` holds: "some 300000 2000000" for 300 ms of waiting in 2 s. Returns it or a negative errno value.
int host_open_trigger(const char *path, const char *trigger);
// 1 if the trigger has held since it was asked last, 0 if not, a negative errno value if the group is gone.
int host_trigger_fired(int descriptor);

// The sum of a range's 64-bit words: a plain read at the speed of memory, to measure by. `base` is a multiple of 8, and
// so is `length`.
uint64_t host_read_memory(const void *base, size_t length);

// Sockets and signals --------------------------------------------------------------------------------

// Opens or makes a file and takes its lock, which ends with the descriptor. A descriptor or a negative errno value;
// -EWOULDBLOCK: somebody holds it.
int host_lock_file(const char *path);

// A listening stream socket at `path`, which replaces a socket file and nothing else (-EEXIST). Its file has `mode` and,
// from 0, the group `group`. `identity` tells it from another file of that name. A descriptor or a negative errno value.
int host_listen_unix(const char *path, uint32_t mode, int64_t group, uint64_t identity[3]);
// Removes the socket's file unless another one has taken its place.
void host_remove_socket(const char *path, const uint64_t identity[3]);

// A listening socket at a numeric address of IPv4 or IPv6 (-EINVAL: it is none). Port 0 takes any; *bound tells which.
int host_listen_tcp(const char *address, uint16_t port, uint16_t *bound);
// 1 for an address of this machine only, 0 for another, -1 for what is no address.
int host_is_loopback(const char *address);

// Makes a listening socket that somebody else opened ours: non-blocking, closed on exec. Returns 0 for a Unix socket
// with its path in `name`, 1 for TCP with its address and port, or a negative errno value: -ESOCKTNOSUPPORT where it is no
// stream socket, -EINVAL where it does not listen.
int host_adopt_listener(int descriptor, char *name, size_t capacity, uint16_t *port);

// A Unix datagram socket, or a negative errno value.
int host_datagram_socket(void);
// Sends one datagram to the socket at `path`; '@' begins a name of the abstract namespace. Returns 0 or an errno value.
int host_send_datagram(int descriptor, const char *path, const void *bytes, size_t length);

// The number of a user or group, or -1 if there is none of that name.
int64_t host_user_id(const char *name);
int64_t host_group_id(const char *name);
// All groups of a user, as at a login. Writes at most `capacity` and returns how many it wrote; 0 for an unknown user.
int32_t host_groups_of_user(uint32_t user, uint32_t *groups, int32_t capacity);

// st_mode of a file, or a negative errno value.
int64_t host_file_mode(const char *path);

// Blocks signals in the calling thread and those it starts, so that host_wait_for_signal gets them.
void host_block_signals(const int *signals, uint32_t count);
// Waits for one of the signals, which are blocked, and returns its number or a negative errno value.
int host_wait_for_signal(const int *signals, uint32_t count);

// Checksums ----------------------------------------------------------------------------------------

// Continues a CRC-32C over more bytes; starts from 0. With the processor's instruction where it has one; the
// portable way is for tests.
uint32_t host_crc32c(uint32_t crc, const void *bytes, size_t length);
uint32_t host_crc32c_portable(uint32_t crc, const void *bytes, size_t length);

// SHA-256 of bytes given in pieces: begin, add any number of times, end. With the processor's instructions where it
// has them, unless `portable` is set, which is for tests.
typedef struct {
    uint32_t state[8];
    uint64_t length;  // bytes so far; those that do not fill a block are pending
    uint8_t pending[64];
    int accelerated;
} host_sha256;

void host_sha256_begin(host_sha256 *hash, int portable);
void host_sha256_add(host_sha256 *hash, const void *bytes, size_t length);
void host_sha256_end(host_sha256 *hash, uint8_t digest[32]);

// Compression --------------------------------------------------------------------------------------

// Working memory of zstd, for one thread at a time. NULL if there is no memory.
typedef struct host_zstd host_zstd;
host_zstd *host_zstd_create(void);
void host_zstd_destroy(host_zstd *);

// Room that a frame of `length` bytes may need.
size_t host_zstd_bound(size_t length);

// One whole frame; `level` is 1 ... 19. Bytes written, or -1.
int64_t host_zstd_compress(
    host_zstd *, void *into, size_t capacity, const void *bytes, size_t length, int level);
// -1 too for bytes that are no frame, or one of more than `capacity`.
int64_t host_zstd_decompress(
    host_zstd *, void *into, size_t capacity, const void *bytes, size_t length);

// Versions of the libraries in use; empty if unknown. libnuma tells only the version in its file name.
const char *host_zstd_version(void);
const char *host_numa_version(void);

#endif
