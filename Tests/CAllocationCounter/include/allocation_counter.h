// Counts the heap allocations of a stretch of code, whoever makes them: Swift, OpenBLAS or the C library. Or
// lets them fail.

#ifndef ALLOCATION_COUNTER_H
#define ALLOCATION_COUNTER_H

/// Why nothing is counted: a sanitizer or this platform does not let the counter stand in for the allocator.
/// NULL where it counts.
const char *allocation_counter_obstacle(void);

/// Sets the count to 0 and starts counting, on all threads.
void allocation_counter_start(void);

/// Stops counting and returns how many allocations were made since the start.
long allocation_counter_stop(void);

/// Lets the next `count` allocations of the calling thread succeed, and all after them fail.
void allocation_counter_refuse_after(long count);

/// Lets the calling thread's allocations succeed again.
void allocation_counter_accept(void);

#endif
