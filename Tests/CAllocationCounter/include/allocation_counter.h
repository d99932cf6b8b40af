// Counts the heap allocations of a stretch of code, whoever makes them: Swift, OpenBLAS or the C library.

#ifndef ALLOCATION_COUNTER_H
#define ALLOCATION_COUNTER_H

#include <stdbool.h>

/// Whether this platform lets the counter stand in for the allocator (glibc does).
bool allocation_counter_is_available(void);

/// Sets the count to 0 and starts counting, on all threads.
void allocation_counter_start(void);

/// Stops counting and returns how many allocations were made since the start.
long allocation_counter_stop(void);

#endif
