// One-shot zstd frames; the context is kept, since making one costs more than a small frame.
#include "CHost.h"

#include <stdlib.h>
#include <zstd.h>

struct host_zstd {
    ZSTD_CCtx *compression;
    ZSTD_DCtx *decompression;
};

host_zstd *host_zstd_create(void) { return calloc(1, sizeof(host_zstd)); }

void host_zstd_destroy(host_zstd *zstd) {
    if (!zstd) return;
    ZSTD_freeCCtx(zstd->compression);
    ZSTD_freeDCtx(zstd->decompression);
    free(zstd);
}

size_t host_zstd_bound(size_t length) { return ZSTD_compressBound(length); }

int64_t host_zstd_compress(
    host_zstd *zstd, void *into, size_t capacity, const void *bytes, size_t length, int level) {
    if (!zstd->compression && !(zstd->compression = ZSTD_createCCtx())) return -1;
    size_t size = ZSTD_compressCCtx(zstd->compression, into, capacity, bytes, length, level);
    return ZSTD_isError(size) ? -1 : (int64_t)size;
}

int64_t host_zstd_decompress(
    host_zstd *zstd, void *into, size_t capacity, const void *bytes, size_t length) {
    if (!zstd->decompression && !(zstd->decompression = ZSTD_createDCtx())) return -1;
    size_t size = ZSTD_decompressDCtx(zstd->decompression, into, capacity, bytes, length);
    return ZSTD_isError(size) ? -1 : (int64_t)size;
}

const char *host_zstd_version(void) { return ZSTD_versionString(); }
