// The memory that OpenBLAS takes for each product that runs at the same time.

#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>

#include "fastloss_host.h"

#if defined(__ELF__)
// OpenBLAS's allocator. Another BLAS does not have it.
extern void *blas_memory_alloc(int position) __attribute__((weak));
extern void blas_memory_free(void *buffer) __attribute__((weak));
#else
static void *(*const blas_memory_alloc)(int) = NULL;
static void (*const blas_memory_free)(void *) = NULL;
#endif

/// The most buffers that are reserved. OpenBLAS has places for two per core of the largest machine that it
/// was built for, at least this many.
enum { MOST_BUFFERS = 16 };

/// The buffers that OpenBLAS has and keeps.
static atomic_int reserved = 0;

bool fastloss_reserve_blas_buffers(int count) {
    if (count > MOST_BUFFERS) count = MOST_BUFFERS;
    const int known = atomic_load_explicit(&reserved, memory_order_acquire);
    if (count <= known || !blas_memory_alloc || !blas_memory_free) return true;
    // The memory is given back at once, and OpenBLAS maps it next.
    const size_t missing = (size_t)(count - known) * FASTLOSS_BLAS_BUFFER_SIZE + (1 << 16);
    void *const probe = mmap(NULL, missing, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (probe == MAP_FAILED) return false;
    munmap(probe, missing);
    void *buffers[MOST_BUFFERS];
    for (int i = 0; i < count; i++) buffers[i] = blas_memory_alloc(0);
    for (int i = 0; i < count; i++) blas_memory_free(buffers[i]);
    int current = known;
    while (current < count && !atomic_compare_exchange_weak(&reserved, &current, count)) {}
    return true;
}
