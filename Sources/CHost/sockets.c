// Listening sockets, datagrams to systemd, and who is at the other end.
#define _GNU_SOURCE
#include "CHost.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

// Fills an address; a name that starts with '@' is one of the abstract namespace. 0 or -ENAMETOOLONG.
static int64_t unix_address(const char *path, struct sockaddr_un *address) {
    size_t length = strlen(path);
    if (length >= sizeof address->sun_path) return -ENAMETOOLONG;
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, length);
    if (path[0] == '@') address->sun_path[0] = 0;
    return (int64_t)(offsetof(struct sockaddr_un, sun_path) + length + (path[0] != '@'));
}

int host_lock_file(const char *path) {
    int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (descriptor < 0) return -errno;
    if (flock(descriptor, LOCK_EX | LOCK_NB)) {
        int error = errno;
        close(descriptor);
        return -error;
    }
    return descriptor;
}

int host_listen_unix(const char *path, uint32_t mode, int64_t group, uint64_t identity[2]) {
    struct sockaddr_un address;
    int64_t length = unix_address(path, &address);
    if (length < 0) return (int)length;
    struct stat status;
    if (lstat(path, &status) == 0) {
        if (!S_ISSOCK(status.st_mode)) return -EEXIST;
        if (unlink(path)) return -errno;
    }
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) return -errno;
    // Nobody can connect before listen(), and nobody whom the mode shuts out gets that far: the file is made
    // without any rights, then given to its group, then opened as far as it is meant to be.
    mode_t before = umask(0777);
    int failed = bind(descriptor, (struct sockaddr *)&address, (socklen_t)length);
    int error = errno;
    umask(before);
    if (!failed && group >= 0) failed = chown(path, (uid_t)-1, (gid_t)group), error = errno;
    if (!failed) failed = chmod(path, mode), error = errno;
    if (!failed) failed = listen(descriptor, 1024), error = errno;
    if (!failed) failed = stat(path, &status), error = errno;
    if (failed) {
        close(descriptor);
        return -error;
    }
    identity[0] = status.st_dev;
    identity[1] = status.st_ino;
    return descriptor;
}

void host_remove_socket(const char *path, const uint64_t identity[2]) {
    struct stat status;
    if (lstat(path, &status) == 0 && status.st_dev == identity[0] && status.st_ino == identity[1]) unlink(path);
}

int host_listen_tcp(const char *address, uint16_t port, uint16_t *bound) {
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    memset(&four, 0, sizeof four);
    memset(&six, 0, sizeof six);
    struct sockaddr *any;
    socklen_t length;
    if (inet_pton(AF_INET, address, &four.sin_addr) == 1) {
        four.sin_family = AF_INET;
        four.sin_port = htons(port);
        any = (struct sockaddr *)&four, length = sizeof four;
    } else if (inet_pton(AF_INET6, address, &six.sin6_addr) == 1) {
        six.sin6_family = AF_INET6;
        six.sin6_port = htons(port);
        any = (struct sockaddr *)&six, length = sizeof six;
    } else {
        return -EINVAL;
    }
    int descriptor = socket(any->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) return -errno;
    int on = 1;
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(descriptor, any, length) || listen(descriptor, 1024) || getsockname(descriptor, any, &length)) {
        int error = errno;
        close(descriptor);
        return -error;
    }
    *bound = ntohs(any->sa_family == AF_INET ? four.sin_port : six.sin6_port);
    return descriptor;
}

int host_is_loopback(const char *address) {
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, address, &four) == 1) return (ntohl(four.s_addr) >> 24) == 127;
    if (inet_pton(AF_INET6, address, &six) == 1) return IN6_IS_ADDR_LOOPBACK(&six);
    return -1;
}

int host_adopt_listener(int descriptor, char *name, size_t capacity, uint16_t *port) {
    int value = 0;
    socklen_t size = sizeof value;
    if (getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &value, &size)) return -errno;
    if (value != SOCK_STREAM) return -ESOCKTNOSUPPORT;
    size = sizeof value;
    if (getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &value, &size)) return -errno;
    if (!value) return -EINVAL;
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    memset(&address, 0, sizeof address);
    if (getsockname(descriptor, (struct sockaddr *)&address, &length)) return -errno;
    int flags = fcntl(descriptor, F_GETFL);
    if (flags < 0 || fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) || fcntl(descriptor, F_SETFD, FD_CLOEXEC)) return -errno;
    *port = 0;
    if (address.ss_family == AF_UNIX) {
        struct sockaddr_un *at = (struct sockaddr_un *)&address;
        size_t bytes = length - offsetof(struct sockaddr_un, sun_path);
        if (bytes >= capacity) return -ENAMETOOLONG;
        memcpy(name, at->sun_path, bytes);
        name[bytes] = 0;
        if (bytes && name[0] == 0) name[0] = '@';
        return 0;
    }
    if (address.ss_family == AF_INET) {
        struct sockaddr_in *at = (struct sockaddr_in *)&address;
        *port = ntohs(at->sin_port);
        return inet_ntop(AF_INET, &at->sin_addr, name, (socklen_t)capacity) ? 1 : -errno;
    }
    if (address.ss_family == AF_INET6) {
        struct sockaddr_in6 *at = (struct sockaddr_in6 *)&address;
        *port = ntohs(at->sin6_port);
        return inet_ntop(AF_INET6, &at->sin6_addr, name, (socklen_t)capacity) ? 1 : -errno;
    }
    return -EAFNOSUPPORT;
}

int host_datagram_socket(void) {
    int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return descriptor < 0 ? -errno : descriptor;
}

int host_send_datagram(int descriptor, const char *path, const void *bytes, size_t length) {
    struct sockaddr_un address;
    int64_t size = unix_address(path, &address);
    if (size < 0) return (int)-size;
    ssize_t sent;
    do {
        sent = sendto(descriptor, bytes, length, MSG_NOSIGNAL, (struct sockaddr *)&address, (socklen_t)size);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? errno : 0;
}

int64_t host_user_id(const char *name) {
    struct passwd entry, *found = NULL;
    char buffer[16384];
    return getpwnam_r(name, &entry, buffer, sizeof buffer, &found) == 0 && found ? (int64_t)found->pw_uid : -1;
}

int64_t host_group_id(const char *name) {
    struct group entry, *found = NULL;
    char buffer[65536];
    return getgrnam_r(name, &entry, buffer, sizeof buffer, &found) == 0 && found ? (int64_t)found->gr_gid : -1;
}

int32_t host_groups_of_user(uint32_t user, uint32_t *groups, int32_t capacity) {
    struct passwd entry, *found = NULL;
    char buffer[16384];
    if (getpwuid_r(user, &entry, buffer, sizeof buffer, &found) || !found) return 0;
    int count = capacity;
    // -1: more groups than there is room for; `count` of those that fit are written all the same.
    if (getgrouplist(found->pw_name, found->pw_gid, groups, &count) < 0 && count > capacity) count = capacity;
    return count;
}

int64_t host_file_mode(const char *path) {
    struct stat status;
    return stat(path, &status) ? -errno : (int64_t)status.st_mode;
}

void host_block_signals(const int *signals, uint32_t count) {
    sigset_t set;
    sigemptyset(&set);
    for (uint32_t i = 0; i < count; i++) sigaddset(&set, signals[i]);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int host_wait_for_signal(const int *signals, uint32_t count) {
    sigset_t set;
    sigemptyset(&set);
    for (uint32_t i = 0; i < count; i++) sigaddset(&set, signals[i]);
    int number;
    do {
        number = sigwaitinfo(&set, NULL);
    } while (number < 0 && errno == EINTR);
    return number < 0 ? -errno : number;
}
