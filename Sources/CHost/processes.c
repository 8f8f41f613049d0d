#define _GNU_SOURCE
#include "CHost.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int host_take_signals(const int *signals, uint32_t count) {
    sigset_t set;
    sigemptyset(&set);
    for (uint32_t i = 0; i < count; i++) sigaddset(&set, signals[i]);
    int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (error) return -error;
    int descriptor = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return descriptor < 0 ? -errno : descriptor;
}

int host_next_signal(int descriptor) {
    struct signalfd_siginfo info;
    return read(descriptor, &info, sizeof info) == sizeof info ? (int)info.ssi_signo : 0;
}

// What a child says of itself through a pipe when it could not become another program.
typedef struct {
    int error;
    int group;  // that refused it, or -1
} failure;

static void report(int descriptor, int group) {
    failure said = {errno ? errno : ECANCELED, group};
    (void)!write(descriptor, &said, sizeof said);
    _exit(127);
}

// Waits until a child has become another program, or has said why not. Its process id or a negative errno value.
static int started(pid_t child, int ends[2], int *group) {
    failure said = {child < 0 ? errno : 0, -1};
    close(ends[1]);
    if (child > 0) {
        ssize_t got;
        do got = read(ends[0], &said, sizeof said);
        while (got < 0 && errno == EINTR);
        // Ends without a byte when exec closes the other side.
        if (got != sizeof said) said = (failure){0, -1};
        if (said.error) waitpid(child, NULL, 0);
    }
    close(ends[0]);
    if (group) *group = said.group;
    return said.error ? -said.error : child;
}

// What follows runs between fork and exec of a process with threads: nothing but system calls.

// In a process group of its own, with no input, sent `end` when the parent ends. 0 if that could not be had.
static int set_apart(pid_t parent, int end, int output, int errors) {
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0);
    // A parent that ended before the call will not be noticed by it.
    if (prctl(PR_SET_PDEATHSIG, end) || getppid() != parent) return 0;
    int input = open("/dev/null", O_RDONLY);
    if (input < 0 || dup2(input, 0) < 0 || dup2(output, 1) < 0 || dup2(errors, 2) < 0) return 0;
    if (input > 2) close(input);
    signal(SIGPIPE, SIG_DFL);
    return !sigprocmask(SIG_SETMASK, &none, NULL);
}

int host_start_child(const char *path, char *const *arguments, int output) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return -errno;
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        if (set_apart(parent, SIGTERM, output, output)) execv(path, arguments);
        report(ends[1], -1);
    }
    return started(child, ends, NULL);
}

int host_start_measured(const char *path, char *const *arguments, char *const *environment, const int *groups,
                        uint32_t count, int output, int errors, int *group) {
    int ends[2];
    *group = -1;
    if (pipe2(ends, O_CLOEXEC)) return -errno;
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        // 0 is whoever writes it.
        for (uint32_t i = 0; i < count; i++) {
            if (write(groups[i], "0", 1) != 1) report(ends[1], (int)i);
        }
        if (set_apart(parent, SIGKILL, output, errors)) execve(path, arguments, environment);
        report(ends[1], -1);
    }
    return started(child, ends, group);
}

char *const *host_environment(void) { return environ; }

int host_start_guard(const char *path, char *const *arguments, int input) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return -errno;
    pid_t child = fork();
    if (child == 0) {
        const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
        sigset_t none;
        sigemptyset(&none);
        for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) signal(ignored[i], SIG_IGN);
        int output = open("/dev/null", O_WRONLY);
        if (setsid() >= 0 && output >= 0 && dup2(input, 0) >= 0 && dup2(output, 1) >= 0 &&
            !sigprocmask(SIG_SETMASK, &none, NULL)) {
            if (output > 2) close(output);
            execv(path, arguments);
        }
        report(ends[1], -1);
    }
    return started(child, ends, NULL);
}

int host_make_pipe(int ends[2]) {
    if (pipe2(ends, O_CLOEXEC)) return errno;
    int error = fcntl(ends[0], F_SETFL, O_NONBLOCK) ? errno : 0;
    if (error) {
        close(ends[0]);
        close(ends[1]);
    }
    return error;
}

int host_make_channel(int ends[2]) { return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) ? errno : 0; }

int64_t host_send(int descriptor, const void *bytes, size_t length) {
    ssize_t sent;
    do sent = send(descriptor, bytes, length, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

int host_end_of_child(int child, int wait, host_end *end) {
    struct rusage usage;
    int status;
    pid_t ended;
    do ended = wait4(child, &status, wait ? 0 : WNOHANG, &usage);
    while (ended < 0 && errno == EINTR);
    if (ended < 0) return -errno;
    if (ended == 0) return 0;
    end->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    end->major_faults = (uint64_t)usage.ru_majflt;
    end->peak_bytes = (uint64_t)usage.ru_maxrss * 1024;
    return 1;
}
