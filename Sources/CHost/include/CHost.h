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

// Nanoseconds of the monotonic clock.
uint64_t host_nanoseconds(void);

#endif
