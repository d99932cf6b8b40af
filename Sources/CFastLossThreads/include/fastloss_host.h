// What Swift cannot ask of the host's C library: GNU extensions, functions with variable arguments, and state
// of the process and of its threads that survives fork() and is made without ending the process where there
// is no memory.

#ifndef FASTLOSS_HOST_H
#define FASTLOSS_HOST_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/// The number of processors that this process may use, at least 1.
int fastloss_available_processors(void);

/// The file of the library or executable that holds `address`, or NULL where that is unknown.
const char *_Nullable fastloss_library_of(const void *_Nonnull address);

/// What a process makes once.
typedef enum {
    FASTLOSS_ONCE_PROCESS,  ///< the choice of kernels, the settings of the environment
    FASTLOSS_ONCE_BLAS,     ///< the settings of OpenBLAS
    FASTLOSS_ONCE_COUNT,
} fastloss_once_step;

/// Calls `make` in the first call with `step`; later calls return once that has returned.
///
/// Unlike a lazy static of Swift this works in a child after fork(). Swift's runtime keeps the system's
/// number of a thread in a cache that survives fork(), and takes a contended static with it: in the child the
/// static then stays locked for ever.
void fastloss_once(fastloss_once_step step, void (*_Nonnull make)(void));

/// The calling thread's block of memory; NULL before `fastloss_make_thread_memory`.
void *_Nullable fastloss_thread_memory(void);

/// Makes the calling thread's block of `size` bytes, all 0, which is given to `release` and freed when the
/// thread ends. NULL where there is no memory. There is one kind of block in a process: every call has the
/// same arguments.
void *_Nullable fastloss_make_thread_memory(size_t size, void (*_Nonnull release)(void *_Nonnull));

/// Bytes that a formatted number takes at most, with the 0 at its end.
enum { FASTLOSS_NUMBER_CAPACITY = 32 };

/// Writes the fewest digits that give the number back, as Swift does: "0.8", "-1.0", "1e+60", "nan", "-inf".
/// Returns the length. Allocates nothing.
size_t fastloss_format_double(double number, char *_Nonnull text);
size_t fastloss_format_float(float number, char *_Nonnull text);

#ifdef __cplusplus
}
#endif

#endif
