// Counts heap allocations, so that "this allocates nothing" can be an ordinary test.
//
// Linking this target replaces malloc and its kin by versions that count and forward to glibc's.
#ifndef CALLOCATIONCOUNTER_H
#define CALLOCATIONCOUNTER_H

#include <stdint.h>

// 0 where a sanitizer owns malloc: then nothing is counted, and a test should be skipped aloud.
int allocation_counter_works(void);

// 1 under the thread sanitizer, to which a test without a second thread shows nothing, many times slower:
// such a test, if it is a long one, should be skipped aloud.
int thread_sanitizer_watches(void);

// Allocations (and reallocations) made so far by the calling thread, and by all threads.
uint64_t allocations_of_this_thread(void);
uint64_t allocations_of_all_threads(void);

#endif
