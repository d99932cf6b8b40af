// The memory that OpenBLAS takes for each product that runs at the same time.

#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>

#include "fastloss_host.h"

#if defined(__ELF__)
// OpenBLAS's allocator. Some builds do not export it, as the one in the wheel.
extern void *blas_memory_alloc(int position) __attribute__((weak));
extern void blas_memory_free(void *buffer) __attribute__((weak));
#else
static void *(*const blas_memory_alloc)(int) = NULL;
static void (*const blas_memory_free)(void *) = NULL;
#endif

/// The most buffers that are reserved. OpenBLAS has places for two per core of the largest machine that it
/// was built for, at least this many.
enum { MOST_BUFFERS = 16 };

/// The buffers that OpenBLAS has and keeps, as far as is known.
static atomic_int reserved = 0;

/// Room beside the buffers of products whose memory cannot be reserved: a stack for each worker, whose thread
/// may start between the check and its product.
enum { ROOM_FOR_A_WORKER = 16 << 20 };

/// Whether the process may map so many bytes.
static bool has_room(size_t bytes) {
    void *const probe = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return probe != MAP_FAILED && munmap(probe, bytes) == 0;
}

bool fastloss_reserve_blas_buffers(int count) {
    if (count > MOST_BUFFERS) count = MOST_BUFFERS;
    // What OpenBLAS has is unknown, and it maps what it needs in the products.
    if (!blas_memory_alloc || !blas_memory_free)
        return has_room((size_t)count * (FASTLOSS_BLAS_BUFFER_SIZE + ROOM_FOR_A_WORKER));
    const int known = atomic_load_explicit(&reserved, memory_order_acquire);
    if (count <= known) return true;
    if (!has_room((size_t)(count - known) * FASTLOSS_BLAS_BUFFER_SIZE + (1 << 16))) return false;
    void *buffers[MOST_BUFFERS];
    for (int i = 0; i < count; i++) buffers[i] = blas_memory_alloc(0);
    for (int i = 0; i < count; i++) blas_memory_free(buffers[i]);
    int current = known;
    while (current < count && !atomic_compare_exchange_weak(&reserved, &current, count)) {}
    return true;
}
