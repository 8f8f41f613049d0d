// Files past the page cache, and what the kernel tells about them.
#define _GNU_SOURCE
#include "CHost.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

int host_open_file(const char *path, int direct) {
    int descriptor;
    do {
        // O_NONBLOCK: opening a pipe by mistake must not hang; it means nothing for a regular file.
        descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | (direct ? O_DIRECT : 0));
    } while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0) return -errno;
    struct stat status;
    int error = fstat(descriptor, &status) ? errno : S_ISREG(status.st_mode) ? 0 : EISDIR;
    if (error) {
        close(descriptor);
        return -error;
    }
    return descriptor;
}

void host_close_file(int descriptor) { close(descriptor); }

int64_t host_file_size(int descriptor) {
    struct stat status;
    return fstat(descriptor, &status) ? -errno : status.st_size;
}

uint32_t host_direct_alignment(int descriptor) {
#ifdef STATX_DIOALIGN
    struct statx status;
    memset(&status, 0, sizeof status);
    if (syscall(SYS_statx, descriptor, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status)) return 0;
    if (!(status.stx_mask & STATX_DIOALIGN)) return 0;
    uint32_t offsets = status.stx_dio_offset_align, memory = status.stx_dio_mem_align;
    return offsets > memory ? offsets : memory;
#else
    (void)descriptor;
    return 0;
#endif
}

int64_t host_read(int descriptor, void *into, size_t length, uint64_t offset) {
    ssize_t result = pread(descriptor, into, length, (off_t)offset);
    return result < 0 ? -errno : result;
}

int64_t host_read_text(const char *path, char *into, size_t capacity) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return -errno;
    size_t filled = 0;
    while (filled < capacity) {
        ssize_t result = read(descriptor, into + filled, capacity - filled);
        if (result < 0 && errno == EINTR) continue;
        if (result < 0) {
            int error = errno;
            close(descriptor);
            return -error;
        }
        if (result == 0) break;
        filled += (size_t)result;
    }
    close(descriptor);
    return (int64_t)filled;
}

int host_unnamed_file(const char *folder) {
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/sluice-XXXXXX", folder);
    if (length < 0 || (size_t)length >= sizeof path) return -ENAMETOOLONG;
    // Not O_TMPFILE, which not every file system has.
    int descriptor = mkostemp(path, O_CLOEXEC);
    if (descriptor < 0) return -errno;
    unlink(path);
    return descriptor;
}

int host_allocate(int descriptor, uint64_t size) {
    // Not posix_fallocate, which writes all of it where the file system cannot do better.
    return fallocate(descriptor, 0, 0, (off_t)size) == 0 ? 0 : errno;
}

void host_drop_cached(int descriptor, uint64_t offset, uint64_t length) {
    // The kernel keeps pages that a range covers only in part: widen it to whole pages.
    uint64_t page = host_page_bytes();
    uint64_t start = offset / page * page;
    uint64_t end = (offset + length + page - 1) / page * page;
    posix_fadvise(descriptor, (off_t)start, (off_t)(end - start), POSIX_FADV_DONTNEED);
}

void host_expect_random_reads(int descriptor) {
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_RANDOM);
}

int host_device_of_file(const char *path, uint32_t *major_number, uint32_t *minor_number) {
    struct stat status;
    if (stat(path, &status)) return errno;
    *major_number = major(status.st_dev);
    *minor_number = minor(status.st_dev);
    return 0;
}

int64_t host_cached_bytes(int descriptor, uint64_t offset, uint64_t length) {
    uint64_t page = host_page_bytes();
    uint64_t start = offset / page * page;
    size_t bytes = (size_t)((offset + length + page - 1) / page * page - start);
    size_t pages = bytes / page;
    unsigned char *resident = malloc(pages ? pages : 1);
    if (!resident) return -1;
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, descriptor, (off_t)start);
    int64_t cached = -1;
    if (map != MAP_FAILED) {
        if (mincore(map, bytes, resident) == 0) {
            cached = 0;
            for (size_t i = 0; i < pages; i++) cached += resident[i] & 1 ? (int64_t)page : 0;
        }
        munmap(map, bytes);
    }
    free(resident);
    return cached;
}
