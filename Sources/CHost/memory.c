// Large anonymous memory: placement, huge pages, population; and library versions.
#define _GNU_SOURCE
#include "CHost.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <numa.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define HUGE_PAGE ((size_t)2 << 20)

size_t host_page_bytes(void) {
    long bytes = sysconf(_SC_PAGESIZE);
    return bytes > 0 ? (size_t)bytes : 4096;
}

// Anonymous memory on a multiple of `boundary` (0: of a page).
static void *map_aligned(size_t bytes, size_t boundary, int *error) {
    size_t slack = boundary;
    size_t page = host_page_bytes();
    bytes = (bytes + page - 1) / page * page;
    char *base = mmap(NULL, bytes + slack, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        *error = errno;
        return NULL;
    }
    if (!boundary) return base;
    char *aligned = (char *)(((uintptr_t)base + boundary - 1) / boundary * boundary);
    if (aligned > base) munmap(base, (size_t)(aligned - base));
    size_t rest = (size_t)(base + bytes + slack - (aligned + bytes));
    if (rest) munmap(aligned + bytes, rest);
    return aligned;
}

void *host_map_memory(size_t bytes, int huge, int *error) {
    void *base = map_aligned(bytes, huge ? HUGE_PAGE : 0, error);
    if (base && huge) madvise(base, bytes, MADV_HUGEPAGE);
    return base;
}

void *host_reserve_memory(size_t bytes, int *error) { return map_aligned(bytes, HUGE_PAGE, error); }

// The advice also makes a mapping of its own of the range, so that no huge page reaches past its end.
void host_prefer_huge_pages(void *base, size_t bytes) { madvise(base, bytes, MADV_HUGEPAGE); }

int host_give_back_memory(void *base, size_t bytes) {
    munlock(base, bytes);
    if (madvise(base, bytes, MADV_DONTNEED)) return errno;
    madvise(base, bytes, MADV_NOHUGEPAGE);
    return 0;
}

void host_unmap_memory(void *base, size_t bytes) {
    size_t page = host_page_bytes();
    munmap(base, (bytes + page - 1) / page * page);
}

int host_bind_to_local_node(void *base, size_t bytes) {
    if (numa_available() < 0 || numa_num_configured_nodes() < 2) return -1;
    int cpu = sched_getcpu();
    int node = cpu < 0 ? -1 : numa_node_of_cpu(cpu);
    if (node < 0) return -1;
    numa_tonode_memory(base, bytes, node);
    return node;
}

int host_populate_memory(void *base, size_t bytes) {
    if (madvise(base, bytes, MADV_POPULATE_WRITE) == 0) return 0;
    if (errno != EINVAL) return errno;
    // Before Linux 5.14: touch every page.
    size_t page = host_page_bytes();
    for (size_t at = 0; at < bytes; at += page) ((volatile char *)base)[at] = 0;
    return 0;
}

int host_lock_memory(void *base, size_t bytes) { return mlock(base, bytes) ? errno : 0; }

uint64_t host_memory_lock_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit)) return 0;
    return limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : (uint64_t)limit.rlim_cur;
}

const char *host_numa_version(void) {
    static char version[32];
    char path[PATH_MAX];
    Dl_info info;
    if (!dladdr((void *)numa_available, &info) || !info.dli_fname) return "";
    if (!realpath(info.dli_fname, path)) return "";
    char *found = strstr(path, ".so.");
    if (!found || strlen(found + 4) >= sizeof version) return "";
    strcpy(version, found + 4);
    return version;
}
