// Counts the heap allocations during some code, made by Swift, OpenBLAS or the C library, or makes them fail.

#ifndef ALLOCATION_COUNTER_H
#define ALLOCATION_COUNTER_H

#include <stddef.h>

/// The reason why allocations are not counted: a sanitizer has replaced malloc, or the platform does not let
/// a program replace it. NULL if they are counted.
const char *allocation_counter_obstacle(void);

/// Sets the count to 0 and starts counting, on all threads.
void allocation_counter_start(void);

/// Stops counting and returns how many allocations were made since the start.
long allocation_counter_stop(void);

/// The bytes that the allocator has handed out and not got back, of all threads; 0 where it does not tell.
size_t allocation_counter_bytes(void);

/// Lets the next `count` allocations of the calling thread succeed, and all after them fail.
void allocation_counter_refuse_after(long count);

/// Lets the calling thread's allocations succeed again.
void allocation_counter_accept(void);

#endif
