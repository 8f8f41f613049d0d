#define _GNU_SOURCE
#include "CHost.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
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

// Between fork and exec of a process with threads: nothing but system calls.
static void become(const char *path, char *const *arguments, int output, pid_t parent) {
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0);
    // A parent that ended before the call will not be noticed by it.
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) || getppid() != parent) return;
    int input = open("/dev/null", O_RDONLY);
    if (input < 0 || dup2(input, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0) return;
    if (input > 2) close(input);
    signal(SIGPIPE, SIG_DFL);
    if (sigprocmask(SIG_SETMASK, &none, NULL)) return;
    execv(path, arguments);
}

int host_start_child(const char *path, char *const *arguments, int output) {
    int report[2];
    if (pipe2(report, O_CLOEXEC)) return -errno;
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        become(path, arguments, output, parent);
        int error = errno ? errno : ECANCELED;
        (void)!write(report[1], &error, sizeof error);
        _exit(127);
    }
    int error = child < 0 ? errno : 0;
    close(report[1]);
    // Ends without a byte when exec closes the other side.
    if (!error && read(report[0], &error, sizeof error) != sizeof error) error = 0;
    close(report[0]);
    return error ? -error : child;
}
