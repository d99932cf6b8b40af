// Counts allocations. An executable that defines malloc replaces the C library's in every library it loads.
// Each function here counts the call, and then refuses it or calls the function that glibc exports under
// another name.
//
// A sanitizer replaces malloc itself, and its memory must not be mixed with the C library's. In a build with
// a sanitizer this file defines no allocator.

#include "allocation_counter.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#if defined(__linux__)
#include <malloc.h>
#endif

static atomic_bool counting = false;
static atomic_long allocations = 0;

/// Allocations of this thread that still succeed; below 0 all of them.
static _Thread_local long accepted = -1;

void allocation_counter_start(void) {
    atomic_store(&allocations, 0);
    atomic_store(&counting, true);
}

long allocation_counter_stop(void) {
    atomic_store(&counting, false);
    return atomic_load(&allocations);
}

size_t allocation_counter_bytes(void) {
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
    const struct mallinfo2 usage = mallinfo2();
    return usage.uordblks + usage.hblkhd;
#else
    return 0;
#endif
}

void allocation_counter_refuse_after(long count) { accepted = count; }

void allocation_counter_accept(void) { accepted = -1; }

#if !defined(__has_feature)
#define __has_feature(name) 0  // gcc defines macros instead
#endif

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)

const char *allocation_counter_obstacle(void) { return "AddressSanitizer has replaced malloc"; }

#elif defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)

const char *allocation_counter_obstacle(void) { return "ThreadSanitizer has replaced malloc"; }

#elif defined(__GLIBC__) || defined(__linux__)

const char *allocation_counter_obstacle(void) { return NULL; }

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

/// Counts an allocation, and returns whether it may succeed.
static inline bool admit(void) {
    if (atomic_load_explicit(&counting, memory_order_relaxed))
        atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    if (accepted < 0) return true;
    if (accepted == 0) return false;
    --accepted;
    return true;
}

void *malloc(size_t size) { return admit() ? __libc_malloc(size) : NULL; }

void *calloc(size_t count, size_t size) { return admit() ? __libc_calloc(count, size) : NULL; }

void *realloc(void *memory, size_t size) { return admit() ? __libc_realloc(memory, size) : NULL; }

void *aligned_alloc(size_t alignment, size_t size) {
    return admit() ? __libc_memalign(alignment, size) : NULL;
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
    void *result = admit() ? __libc_memalign(alignment, size) : NULL;
    if (!result) return 12;  // ENOMEM
    *memory = result;
    return 0;
}

#else

const char *allocation_counter_obstacle(void) {
    return "only glibc's malloc can be replaced and still be reached";
}

#endif
