// What all functions share: version, statuses, workspaces, loss values, gradients. Included by fastloss.h.

#ifndef FASTLOSS_COMMON_H
#define FASTLOSS_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define FASTLOSS_API __attribute__((visibility("default")))
#else
#define FASTLOSS_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

// -----------------------------------------------------------------------------------------------------------
// Version and run time
// -----------------------------------------------------------------------------------------------------------

/// The ABI that these headers describe. `fastloss_abi_version()` returns the library's, and its soname ends
/// with it.
#define FASTLOSS_ABI_VERSION 1

/// The ABI of the loaded library.
FASTLOSS_API int32_t fastloss_abi_version(void);

/// The version of the loaded library, for example "0.1.0". Never NULL, never freed.
FASTLOSS_API const char *fastloss_version(void);

/// Describes what this process computes with, as a JSON object in UTF-8:
///
///     version                  string   as fastloss_version()
///     abiVersion               number   as fastloss_abi_version()
///     instructionSet           string   "baseline", "avx2", "avx512" or "amx"
///     requestedInstructionSet  string   the value of FASTLOSS_ISA, or null
///     workers                  number   the default number of workers
///     threads                  string   who works beside a caller: "helpers" or a "pool"
///     blasConfiguration        string   OpenBLAS's description of its build
///     blasCore                 string   whose kernels OpenBLAS selected
///     blasThreads              number   OpenBLAS's threads per call
///     blasLibrary              string   the file that BLAS was loaded from
///
/// Later versions may add keys. Writes at most `capacity` bytes, including the terminating 0, and returns the
/// length of the complete text without the 0, as snprintf does. A result of `capacity` or more means that the
/// text was truncated. Writes nothing if `buffer` is NULL or `capacity` is 0.
FASTLOSS_API size_t fastloss_describe(char *buffer, size_t capacity);

// -----------------------------------------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------------------------------------

/// The outcome of a call: 0 for success. Later versions may add values; treat an unknown one as an error.
typedef int32_t fastloss_status;
enum {
    FASTLOSS_OK = 0,

    // Errors of every language's interface.

    /// A buffer's size does not match the other arguments. The C functions take each size once and never
    /// return it.
    FASTLOSS_ERROR_SHAPE_MISMATCH = 1,
    /// A side is negative, or the matrix is larger than the address space.
    FASTLOSS_ERROR_INVALID_SHAPE = 2,
    /// A side is larger than BLAS's limit, 2^31 - 1.
    FASTLOSS_ERROR_DIMENSION_TOO_LARGE = 3,
    /// A hyper-parameter, weight or scale is out of range.
    FASTLOSS_ERROR_INVALID_PARAMETER = 4,
    /// No element is selected: an empty mask, only ignored labels, no rows. See `fastloss_empty_rule`.
    FASTLOSS_ERROR_EMPTY_SELECTION = 5,
    /// A label is neither a class nor the ignored label.
    FASTLOSS_ERROR_LABEL_OUT_OF_RANGE = 6,
    /// A selected probability is NaN or outside [0, 1]. Outputs hold unspecified values.
    FASTLOSS_ERROR_PROBABILITY_OUT_OF_RANGE = 7,
    /// An output shares memory with an input or another output.
    FASTLOSS_ERROR_OVERLAPPING_BUFFERS = 8,
    /// The objective has an enabled term whose input is missing.
    FASTLOSS_ERROR_MISSING_INPUT = 9,
    /// A gradient has a buffer, but the input that it belongs to is missing.
    FASTLOSS_ERROR_GRADIENT_WITHOUT_INPUT = 10,
    /// An input holds NaN or an infinity. Reserved for the Swift API's diagnostics.
    FASTLOSS_ERROR_NOT_FINITE = 11,
    /// LAPACK did not converge. Reserved for the Swift API's diagnostics.
    FASTLOSS_ERROR_FACTORIZATION_FAILED = 12,
    /// The scratch memory for the call is not available. The workspace stays usable.
    FASTLOSS_ERROR_OUT_OF_MEMORY = 13,
    /// A rank has another argument than rank 0; see ranks.h.
    FASTLOSS_ERROR_RANKS_DISAGREE = 14,
    /// A rank failed or did not answer in time. Outputs hold unspecified values.
    FASTLOSS_ERROR_RANK_FAILED = 15,

    // Errors of the C interface.

    /// A required pointer is NULL.
    FASTLOSS_ERROR_NULL_POINTER = 100,
    /// A pointer does not have the alignment of its type.
    FASTLOSS_ERROR_MISALIGNED_POINTER = 101,
    /// A stride is smaller than the row or cell that it steps over.
    FASTLOSS_ERROR_INVALID_STRIDE = 102,
    /// A value is not a constant of its enumeration.
    FASTLOSS_ERROR_INVALID_ENUMERATION = 103,
    /// A struct's `size` matches no version, or a member that this library does not know is not zero.
    FASTLOSS_ERROR_INVALID_STRUCT = 104,
    /// Another call is using the workspace.
    FASTLOSS_ERROR_WORKSPACE_BUSY = 105,
};

/// The name of a status, for example "FASTLOSS_ERROR_NULL_POINTER"; "unknown status" for other numbers. Never
/// NULL, never freed.
FASTLOSS_API const char *fastloss_status_name(fastloss_status status);

/// The message of this thread's last failed call, in UTF-8: a sentence with the parameter, the expected value
/// and the actual one. Empty before the first failure, or if no memory was available for it. Never NULL. The
/// text stays valid until a call of this thread fails again or the thread ends; successful calls keep it.
FASTLOSS_API const char *fastloss_last_error(void);

// -----------------------------------------------------------------------------------------------------------
// Workspaces
// -----------------------------------------------------------------------------------------------------------

/// Scratch memory that calls reuse, and the number of worker threads they may use. The memory grows to the
/// largest call and stays allocated. Use one workspace per thread.
typedef struct fastloss_workspace fastloss_workspace;

/// Creates a workspace.
///
/// \param workers    the number of threads of a call, including the calling one, at most 4096. 0 takes the
///                   environment variable FASTLOSS_THREADS if it holds a number from 1 to 4096, and otherwise
///                   the number of processors available to the process. Results do not depend on it.
/// \param workspace  receives the handle; release it with `fastloss_workspace_destroy`.
/// \return NULL_POINTER; INVALID_PARAMETER (workers out of range); OUT_OF_MEMORY.
FASTLOSS_API fastloss_status fastloss_workspace_create(int64_t workers, fastloss_workspace **workspace);

/// Frees a workspace that no call is using. Ignores NULL.
FASTLOSS_API void fastloss_workspace_destroy(fastloss_workspace *workspace);

/// The bytes of scratch memory in a workspace that no call is using. NULL: the calling thread's own.
FASTLOSS_API size_t fastloss_workspace_byte_count(const fastloss_workspace *workspace);

/// The number of workers of a workspace. NULL: the calling thread's own.
FASTLOSS_API int64_t fastloss_workspace_workers(const fastloss_workspace *workspace);

// -----------------------------------------------------------------------------------------------------------
// Threads of the program
// -----------------------------------------------------------------------------------------------------------

/// The work of one thread.
typedef void (*fastloss_pool_work)(void *work_context);

/// \return the number of threads that a `fastloss_pool_run` by this thread would use now, itself included.
typedef int32_t (*fastloss_pool_threads)(void *context);

/// Calls `work(work_context)` on the calling thread, and on other threads at the same time, at most once on
/// each. Returns when none of them executes it. A thread that is busy elsewhere may be left out.
typedef void (*fastloss_pool_run)(fastloss_pool_work work, void *work_context, void *context);

/// A pool of threads that belongs to the program, such as OpenMP's.
typedef struct fastloss_thread_pool {
    size_t size;                    ///< sizeof(fastloss_thread_pool)
    void *context;                  ///< passed to the functions
    fastloss_pool_threads threads;  ///< not NULL
    fastloss_pool_run run;          ///< not NULL
} fastloss_thread_pool;

/// Has the calls of this process use the threads of a pool in place of the library's own helpers. So the two
/// do not compete for the processors. A call whose workspace has more workers than the pool has threads still
/// uses the helpers. One call at a time uses other threads; those that run at the same time work alone.
/// Results do not depend on it.
///
/// Takes effect from the next call on, and waits for one that is using other threads. The functions must work
/// until another pool is set. After fork() the child has no pool.
///
/// \param pool  is copied; NULL for the library's helpers.
/// \return NULL_POINTER, INVALID_STRUCT.
FASTLOSS_API fastloss_status fastloss_set_thread_pool(const fastloss_thread_pool *pool);

// -----------------------------------------------------------------------------------------------------------
// Values and gradients
// -----------------------------------------------------------------------------------------------------------

/// How a loss reduces its selected elements to one number.
typedef int32_t fastloss_reduction;
enum {
    FASTLOSS_REDUCTION_MEAN = 0,  ///< sum / number of selected elements, as upstream
    FASTLOSS_REDUCTION_SUM = 1,
};

/// The type of a model's output in memory, and of its gradient. A pointer to 16-bit elements is cast to the
/// parameter's type, `float *`, and needs an alignment of 2 bytes only; strides count elements. Kernels read
/// the elements as they are and compute in float and double. A gradient is rounded once, to nearest: beyond
/// the range of the type it is infinite, below it is 0.
typedef int32_t fastloss_element_type;
enum {
    FASTLOSS_ELEMENT_FLOAT32 = 0,
    FASTLOSS_ELEMENT_BFLOAT16 = 1,  ///< the upper half of a float: 8 significant bits
    FASTLOSS_ELEMENT_FLOAT16 = 2,   ///< IEEE binary16: 11 significant bits, up to 65504
};

/// The result of a loss without selected elements: an empty mask, only ignored labels, no rows.
typedef int32_t fastloss_empty_rule;
enum {
    FASTLOSS_EMPTY_ERROR = 0,  ///< FASTLOSS_ERROR_EMPTY_SELECTION
    FASTLOSS_EMPTY_ZERO = 1,   ///< value and gradient 0
    FASTLOSS_EMPTY_NAN = 2,    ///< as upstream: value NaN; gradient NaN for masked losses, 0 for others
};

/// Whether elastic cell similarity looks for pairs of row blocks whose similarities are proved to be all
/// positive, or all negative. Such pairs need no similarities; value and gradient are the same up to
/// rounding.
typedef int32_t fastloss_certificate;
enum {
    FASTLOSS_CERTIFICATE_AUTOMATIC = 0,  ///< where it saves time: beyond 1,024 rows, with B >= 2 D
    FASTLOSS_CERTIFICATE_NEVER = 1,      ///< computes every pair
};

/// What a call does to a gradient's memory.
typedef int32_t fastloss_update;
enum {
    FASTLOSS_UPDATE_OVERWRITE = 0,   ///< stores the gradient
    FASTLOSS_UPDATE_ACCUMULATE = 1,  ///< adds the gradient
};

/// A loss and the number of elements (for cross-entropy, rows) that it reduces. This struct never changes.
typedef struct fastloss_loss_value {
    double value;
    int64_t selected_count;
} fastloss_loss_value;

/// The memory that receives a gradient. It has the shape and the element type of the input. Elements outside
/// the mask receive 0, or keep their value when accumulating.
typedef struct fastloss_gradient {
    size_t size;             ///< sizeof(fastloss_gradient)
    float *data;             ///< the first element
    int64_t stride;          ///< elements between rows; for token states, between tokens
    int64_t cell_stride;     ///< for token states, elements between cells; 0 for matrices
    float scale;             ///< a finite factor: a term's weight, 1 / accumulation steps, loss scaling
    fastloss_update update;  ///< overwrite or accumulate
} fastloss_gradient;

/// A gradient matrix, overwritten, with factor 1.
#define FASTLOSS_GRADIENT(data, stride)                                               \
    {sizeof(fastloss_gradient), (data), (stride), 0, 1.0f, FASTLOSS_UPDATE_OVERWRITE}

/// A gradient of token states (B, L, D), overwritten, with factor 1.
#define FASTLOSS_STATES_GRADIENT(data, token_stride, cell_stride)                                       \
    {sizeof(fastloss_gradient), (data), (token_stride), (cell_stride), 1.0f, FASTLOSS_UPDATE_OVERWRITE}

/// The form of the explicit-zero predictions.
typedef int32_t fastloss_nonzero_form;
enum {
    FASTLOSS_NONZERO_PROBABILITIES = 0,  ///< in [0, 1], after the sigmoid, as upstream
    FASTLOSS_NONZERO_LOGITS = 1,         ///< before the sigmoid
};

/// An input matrix; absent if `data` is NULL.
typedef struct fastloss_view {
    const float *data;
    int64_t stride;  ///< elements between rows
} fastloss_view;

/// An input mask; if `data` is NULL, every element is selected.
typedef struct fastloss_mask_view {
    const bool *data;
    int64_t stride;  ///< elements between rows
} fastloss_mask_view;

/// An output matrix; not computed if `data` is NULL.
typedef struct fastloss_mutable_view {
    float *data;
    int64_t stride;  ///< elements between rows
} fastloss_mutable_view;

#ifdef __cplusplus
}
#endif

#endif
