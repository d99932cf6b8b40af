// Services of the host's C library that Swift cannot call directly: GNU extensions, functions with variable
// arguments, and state of the process and of its threads. That state survives fork(), and making it does not
// end the process if there is no memory.

#ifndef FASTLOSS_HOST_H
#define FASTLOSS_HOST_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/// The number of processors that this process may use, at least 1.
int fastloss_available_processors(void);

/// The file of the library or executable that contains `address`, or NULL if that is unknown.
const char *_Nullable fastloss_library_of(const void *_Nonnull address);

/// The steps that a process takes once.
typedef enum {
    FASTLOSS_ONCE_PROCESS,  ///< the choice of kernels, the settings of the environment
    FASTLOSS_ONCE_BLAS,     ///< the settings of OpenBLAS
    FASTLOSS_ONCE_COUNT,
} fastloss_once_step;

/// Calls `make` in the first call with `step`. Later calls return after that one has.
///
/// Unlike a lazy static of Swift, this works in a child after fork(). Swift's runtime caches the system's
/// number of a thread, and the cache survives fork(). In the child a contended lazy static then stays locked
/// for ever.
void fastloss_once(fastloss_once_step step, void (*_Nonnull make)(void));

/// The calling thread's block of memory, or NULL before `fastloss_make_thread_memory`.
void *_Nullable fastloss_thread_memory(void);

/// Makes the calling thread's block of `size` zero bytes. When the thread ends, the block is passed to
/// `release` and freed. Returns NULL if there is no memory. A process has one kind of block, so every call
/// must have the same arguments.
void *_Nullable fastloss_make_thread_memory(size_t size, void (*_Nonnull release)(void *_Nonnull));

/// The bytes of one of OpenBLAS's buffers on x86-64, the largest of any processor.
enum { FASTLOSS_BLAS_BUFFER_SIZE = 128 << 20 };

/// Has OpenBLAS allocate the buffers of `count` products that run at the same time, which it then keeps.
/// Where its allocator is not exported, checks in every call that there is room for them. Returns false if
/// there is no memory.
///
/// OpenBLAS allocates a buffer in the first product that needs it. If there is no memory, it tries again for
/// ever; newer versions try ten times, and then end the process.
bool fastloss_reserve_blas_buffers(int count);

/// The most bytes that a formatted number takes, with the 0 at its end.
enum { FASTLOSS_NUMBER_CAPACITY = 32 };

/// Writes the fewest digits that read back as the number: "0.8", "-1", "1e+60", "nan", "-inf". Returns the
/// length. Allocates nothing.
size_t fastloss_format_double(double number, char *_Nonnull text);
size_t fastloss_format_float(float number, char *_Nonnull text);

#ifdef __cplusplus
}
#endif

#endif
