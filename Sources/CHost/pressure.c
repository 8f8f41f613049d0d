// Pressure-stall triggers: a descriptor that the kernel marks when tasks waited for memory too long.
#define _GNU_SOURCE
#include "CHost.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

int host_open_trigger(const char *path, const char *trigger) {
    int descriptor = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) return -errno;
    // The kernel wants the terminating zero with the text.
    if (write(descriptor, trigger, strlen(trigger) + 1) < 0) {
        int error = errno;
        close(descriptor);
        return -error;
    }
    return descriptor;
}

int host_trigger_fired(int descriptor) {
    struct pollfd wanted = {.fd = descriptor, .events = POLLPRI};
    int count = poll(&wanted, 1, 0);
    if (count < 0) return errno == EINTR ? 0 : -errno;
    if (count == 0) return 0;
    if (wanted.revents & (POLLERR | POLLNVAL)) return -ENODEV;
    return (wanted.revents & POLLPRI) != 0;
}
