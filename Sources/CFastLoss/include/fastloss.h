// The C interface of FastLoss: the training losses of scGPT and scFormer on the CPU, value and gradient.
//
// C99 and C++. Link with `pkg-config --cflags --libs fastloss`.
//
//     enum { B = 64, L = 1201 };
//     static float predictions[B * L], targets[B * L], gradient[B * L];
//     static bool mask[B * L];
//     ...
//     fastloss_gradient output = FASTLOSS_GRADIENT(gradient, L);
//     fastloss_loss_value loss;
//     fastloss_status status = fastloss_masked_mse(
//         B, L, predictions, L, targets, L, mask, L, NULL, &output, NULL, &loss);
//     if (status != FASTLOSS_OK) fprintf(stderr, "%s\n", fastloss_last_error());
//
// Conventions, which hold for every function:
//
//   Matrices    are float32 (masks: bool) in row-major order. Their sides are given once, and each matrix has
//               a row stride: the number of elements from the start of one row to the start of the next, at
//               least the number of columns. Where stride == columns nothing is copied. A matrix with gaps
//               between its rows is packed into the workspace first, and a result unpacked from it: one more
//               pass over that matrix, and as much scratch memory as its elements take. What lies in the gaps
//               is neither read nor written.
//   Pointers    have the alignment of their type. A matrix or array without elements may be NULL; NULL where
//               there are elements is FASTLOSS_ERROR_NULL_POINTER, except where it is said to mean something.
//               The caller owns all memory; nothing is kept after the call.
//   Masks       select, they never multiply: an element whose mask is false has no effect, NaN and infinity
//               included; inside a mask both propagate as IEEE arithmetic says. A mask of NULL selects
//               everything. Each byte of a mask has to be 0 or 1; another value is undefined behaviour.
//   Options     of NULL are the defaults, which are upstream's.
//   Gradients   are asked for by a `fastloss_gradient` that says where they go, with which factor, and
//               whether they replace what is there or are added to it; NULL asks for none. No output may
//               share memory with an input or another output; rows of two matrices may interleave in one
//               buffer.
//   Errors      are the returned status, whose prefix FASTLOSS_ERROR_ is left out below;
//               `fastloss_last_error` has the message. A call that fails has written to no output. There is
//               one exception: after PROBABILITY_OUT_OF_RANGE all outputs hold unspecified values. Every
//               function can return what only C can get wrong (the codes from 100 on), and OUT_OF_MEMORY
//               where it uses a workspace. Given valid pointers and sizes, no function ends the process
//               because of its arguments. Messages name arguments as FastLoss's Swift API does:
//               `genePredictions` for `gene_predictions`.
//   Threads     All functions may be called from any number of threads at once. A `fastloss_workspace` serves
//               one call at a time; a call that finds it in use returns WORKSPACE_BUSY and has done nothing.
//               A workspace of NULL is the calling thread's own, made by its first such call and freed when
//               the thread ends. Results are bitwise the same for any number of workers, on one processor and
//               OpenBLAS build.
//   Fork        A child may call any function, whatever its parent has called. It must not use a workspace
//   that
//               another thread of the parent was using at the time of fork().
//   Rounding    Every worker of a call computes in the floating-point environment of the calling thread: its
//               rounding, its treatment of subnormal numbers, its exceptions. Accuracy is promised for the
//               default environment.
//   Memory      Once a workspace has seen a shape, calls with it allocate nothing. Where memory is needed and
//   there
//               is none, a call returns OUT_OF_MEMORY. Two things are beyond this library: OpenBLAS maps a
//               buffer in a thread's first product and ends the process without one; the Swift runtime and
//               the dynamic linker may do the same in the first call of a function. The library's helper
//               threads live as long as the process: it is never unloaded, dlclose() has no effect.
//   ABI         Every struct that may grow begins with its size, which the initialisers here fill in. A later
//               library takes the structs of an earlier header. An earlier library takes those of a later
//               header as long as what it does not know is zero, which will always mean "the default".
//               Functions, constants, terms and fields may be added; what exists keeps its meaning while
//               FASTLOSS_ABI_VERSION is the same. Enumerations are int32_t with named constants, so that
//               their size is certain.
//
// In what follows: B cells (rows), L genes or tokens, D embedding columns, C classes, K masks or weightings;
// m the mask, M the number of selected elements, x predictions, t targets. All counts and strides are in
// elements.

#ifndef FASTLOSS_H
#define FASTLOSS_H

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

/// The ABI that this header describes; compare with `fastloss_abi_version()`. The library's soname ends with
/// it.
#define FASTLOSS_ABI_VERSION 1

/// The ABI of the library in use.
FASTLOSS_API int32_t fastloss_abi_version(void);

/// The version of the library in use, as "0.1.0". Never NULL, never freed.
FASTLOSS_API const char *fastloss_version(void);

/// Describes what this process computes with, as a JSON object in UTF-8:
///
///     version                  string   as fastloss_version()
///     abiVersion               number   as fastloss_abi_version()
///     instructionSet           string   "baseline", "avx2" or "avx512": FastLoss's own kernels
///     requestedInstructionSet  string   what FASTLOSS_ISA asked for, or null
///     workers                  number   of a workspace that is made without saying how many
///     blasConfiguration        string   OpenBLAS's description of its build
///     blasCore                 string   the processor that OpenBLAS chose its kernels for
///     blasThreads              number   OpenBLAS's threads per call
///     blasLibrary              string   the file that BLAS was loaded from
///
/// Keys may be added. Writes at most `capacity` bytes, the last of them 0, and returns the length of the
/// whole text without that 0, as snprintf does: what is not below `capacity` did not fit. Where `buffer` is
/// NULL or `capacity` 0, nothing is written.
FASTLOSS_API size_t fastloss_describe(char *buffer, size_t capacity);

// -----------------------------------------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------------------------------------

/// What became of a call. 0 is success. More codes may be added: treat an unknown one as an error.
typedef int32_t fastloss_status;

enum {
    FASTLOSS_OK = 0,

    // The errors of FastLoss itself.

    /// A buffer does not have the number of elements that the other arguments ask of it. (As sizes are given
    /// once here, no function of this version returns it.)
    FASTLOSS_ERROR_SHAPE_MISMATCH = 1,
    /// A side is negative, or there are more elements than memory has addresses.
    FASTLOSS_ERROR_INVALID_SHAPE = 2,
    /// A side is larger than what BLAS takes, 2^31 - 1.
    FASTLOSS_ERROR_DIMENSION_TOO_LARGE = 3,
    /// A hyper-parameter, weight or scale is outside its range.
    FASTLOSS_ERROR_INVALID_PARAMETER = 4,
    /// Nothing is selected: an empty mask, only ignored labels, no rows (see `fastloss_empty_rule`).
    FASTLOSS_ERROR_EMPTY_SELECTION = 5,
    /// A label is neither a class nor the ignored label.
    FASTLOSS_ERROR_LABEL_OUT_OF_RANGE = 6,
    /// A selected probability is NaN or outside [0, 1]. Outputs hold unspecified values.
    FASTLOSS_ERROR_PROBABILITY_OUT_OF_RANGE = 7,
    /// An output shares memory with an input or another output.
    FASTLOSS_ERROR_OVERLAPPING_BUFFERS = 8,
    /// The objective has a term on whose input was not given.
    FASTLOSS_ERROR_MISSING_INPUT = 9,
    /// A gradient was asked of an input that was not given.
    FASTLOSS_ERROR_GRADIENT_WITHOUT_INPUT = 10,
    /// An input holds NaN or an infinity where only finite numbers have a result. (Of the Swift API's
    /// diagnostics; no function of this version returns it.)
    FASTLOSS_ERROR_NOT_FINITE = 11,
    /// LAPACK could not finish. (As before.)
    FASTLOSS_ERROR_FACTORIZATION_FAILED = 12,
    /// The system did not give the scratch memory that the call needs. The workspace can be used again.
    FASTLOSS_ERROR_OUT_OF_MEMORY = 13,

    // What only C can get wrong.

    /// A pointer is NULL that may not be.
    FASTLOSS_ERROR_NULL_POINTER = 100,
    /// A pointer does not have the alignment of its type.
    FASTLOSS_ERROR_MISALIGNED_POINTER = 101,
    /// A stride is smaller than what it has to step over.
    FASTLOSS_ERROR_INVALID_STRIDE = 102,
    /// A value is none of its enumeration's.
    FASTLOSS_ERROR_INVALID_ENUMERATION = 103,
    /// A struct's `size` is not that of any version, or a field is set that this library does not know.
    FASTLOSS_ERROR_INVALID_STRUCT = 104,
    /// The workspace is being used by another call.
    FASTLOSS_ERROR_WORKSPACE_BUSY = 105,
};

/// The name of a status, as "FASTLOSS_ERROR_NULL_POINTER"; "unknown status" for other numbers. Never NULL,
/// never freed.
FASTLOSS_API const char *fastloss_status_name(fastloss_status status);

/// What was wrong with the last call of this thread that failed: a sentence that names the argument, what was
/// expected and what came, in UTF-8. Empty before the first, and where there was no memory to keep a message
/// in. Never NULL; valid until a call of this thread fails again or the thread ends. Calls that succeed leave
/// it as it is.
FASTLOSS_API const char *fastloss_last_error(void);

// -----------------------------------------------------------------------------------------------------------
// Workspaces
// -----------------------------------------------------------------------------------------------------------

/// Scratch memory that calls reuse, and the number of workers (threads) they may use. Memory grows to what
/// the largest call needs and stays. One per thread; one call at a time.
typedef struct fastloss_workspace fastloss_workspace;

/// Makes a workspace.
///
/// \param workers    how many threads a call may use, the calling one among them, at most 4096; 0 is the
///                   environment variable FASTLOSS_THREADS, where that is from 1 to 4096, or else the number
///                   of processors that the process may use. Results do not depend on it.
/// \param workspace  receives the handle, to be given to `fastloss_workspace_destroy`.
/// \return NULL_POINTER; INVALID_PARAMETER for workers out of range; OUT_OF_MEMORY. Nothing is written then.
FASTLOSS_API fastloss_status fastloss_workspace_create(int64_t workers, fastloss_workspace **workspace);

/// Frees a workspace, which no call may be using. NULL is ignored.
FASTLOSS_API void fastloss_workspace_destroy(fastloss_workspace *workspace);

/// Bytes of scratch memory that the workspace holds; no call may be using it. NULL: the calling thread's own.
FASTLOSS_API size_t fastloss_workspace_byte_count(const fastloss_workspace *workspace);

/// How many workers a call with this workspace may use. NULL: the calling thread's own.
FASTLOSS_API int64_t fastloss_workspace_workers(const fastloss_workspace *workspace);

// -----------------------------------------------------------------------------------------------------------
// What the losses share
// -----------------------------------------------------------------------------------------------------------

/// How selected elements become one number.
typedef int32_t fastloss_reduction;
enum {
    FASTLOSS_REDUCTION_MEAN = 0,  ///< sum / number of selected elements: upstream's
    FASTLOSS_REDUCTION_SUM = 1,
};

/// What a loss does when nothing is selected: an empty mask, only ignored labels, no rows.
typedef int32_t fastloss_empty_rule;
enum {
    FASTLOSS_EMPTY_ERROR = 0,  ///< FASTLOSS_ERROR_EMPTY_SELECTION
    FASTLOSS_EMPTY_ZERO = 1,   ///< value and gradient 0
    FASTLOSS_EMPTY_NAN = 2,    ///< upstream's: value NaN; gradient NaN for the masked losses, 0 for others
};

/// What is done with a gradient's memory.
typedef int32_t fastloss_update;
enum {
    FASTLOSS_UPDATE_OVERWRITE = 0,   ///< it receives the gradient, whatever it held
    FASTLOSS_UPDATE_ACCUMULATE = 1,  ///< the gradient is added to what it holds
};

/// A loss and how many elements (for cross-entropy: rows) it was computed from. This struct never changes.
typedef struct fastloss_loss_value {
    double value;
    int64_t selected_count;
} fastloss_loss_value;

/// Where a gradient goes, which has the shape of what it is the gradient of. An element outside the mask
/// receives 0 (or keeps what it holds, when accumulating).
typedef struct fastloss_gradient {
    size_t size;             ///< sizeof(fastloss_gradient)
    float *data;             ///< the first element
    int64_t stride;          ///< elements between rows; for token states between tokens
    int64_t cell_stride;     ///< for token states: elements between cells; 0 for matrices
    float scale;             ///< a finite factor: a term's weight, 1 / accumulation steps, loss scaling
    fastloss_update update;  ///< overwrite or accumulate
} fastloss_gradient;

/// A gradient matrix that is overwritten, with factor 1.
#define FASTLOSS_GRADIENT(data, stride)                                               \
    {sizeof(fastloss_gradient), (data), (stride), 0, 1.0f, FASTLOSS_UPDATE_OVERWRITE}

/// A gradient of token states (B, L, D) that is overwritten, with factor 1.
#define FASTLOSS_STATES_GRADIENT(data, token_stride, cell_stride)                                       \
    {sizeof(fastloss_gradient), (data), (token_stride), (cell_stride), 1.0f, FASTLOSS_UPDATE_OVERWRITE}

// -----------------------------------------------------------------------------------------------------------
// Masked value losses
// -----------------------------------------------------------------------------------------------------------

/// How a masked loss, or a masked reduction, reduces.
typedef struct fastloss_masked_options {
    size_t size;                     ///< sizeof(fastloss_masked_options)
    fastloss_reduction reduction;    ///< mean
    fastloss_empty_rule when_empty;  ///< error
} fastloss_masked_options;

/// The defaults.
#define FASTLOSS_MASKED_OPTIONS                                                      \
    {sizeof(fastloss_masked_options), FASTLOSS_REDUCTION_MEAN, FASTLOSS_EMPTY_ERROR}

/// Mean squared error over a mask (scGPT: masked_mse_loss; MLM, MGM, GEP, MVC, GEPC).
///
///     L = sum m (x - t)^2 / M        dL/dx = 2 m (x - t) / M
///
/// O(B L) time; scratch memory of 16 bytes per 4,096 elements.
///
/// \param rows, columns  B and L, at least 0.
/// \param predictions    B x L.
/// \param targets        B x L.
/// \param mask           B x L, or NULL to select everything (`mask_stride` is not looked at then).
/// \param options        NULL: mean, error when empty.
/// \param gradient       B x L; NULL: none.
/// \param workspace      NULL: the calling thread's own.
/// \param loss           receives the value and M.
/// \return EMPTY_SELECTION, INVALID_SHAPE, INVALID_PARAMETER (scale not finite), OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_masked_mse(
    int64_t rows, int64_t columns, const float *predictions, int64_t predictions_stride, const float *targets,
    int64_t targets_stride, const bool *mask, int64_t mask_stride, const fastloss_masked_options *options,
    const fastloss_gradient *gradient, fastloss_workspace *workspace, fastloss_loss_value *loss);

/// `fastloss_masked_mse` of each cell by itself: the mean over its selected elements, or their sum.
///
/// Row b of the gradient is scale * d(value of cell b) / d(predictions of cell b); `when_empty` decides about
/// each row.
///
/// \param values          receives B values.
/// \param selected_count  receives the number of selected elements of all cells together; NULL: not wanted.
/// \return as `fastloss_masked_mse`.
FASTLOSS_API fastloss_status fastloss_masked_mse_per_cell(
    int64_t rows, int64_t columns, const float *predictions, int64_t predictions_stride, const float *targets,
    int64_t targets_stride, const bool *mask, int64_t mask_stride, const fastloss_masked_options *options,
    const fastloss_gradient *gradient, fastloss_workspace *workspace, float *values, int64_t *selected_count);

/// Bernoulli negative log-likelihood of "this gene is expressed", from probabilities (scGPT:
/// criterion_neg_log_bernoulli, explicit zero probability, `zero_probs`).
///
///     z = 1 where t > 0, else 0 (also for a NaN target);  q = p clamped to [e, 1 - e], e = 2^-23
///     L = -sum m (z log q + (1 - z) log(1 - q)) / M
///     dL/dp = (m / M) (p - z) / (p (1 - p)) for e <= p <= 1 - e, else 0
///
/// \param predictions  B x L probabilities of a value above zero, in [0, 1] where selected.
/// The other parameters are those of `fastloss_masked_mse`.
/// \return as `fastloss_masked_mse`; PROBABILITY_OUT_OF_RANGE.
FASTLOSS_API fastloss_status fastloss_bernoulli_nll(
    int64_t rows, int64_t columns, const float *predictions, int64_t predictions_stride, const float *targets,
    int64_t targets_stride, const bool *mask, int64_t mask_stride, const fastloss_masked_options *options,
    const fastloss_gradient *gradient, fastloss_workspace *workspace, fastloss_loss_value *loss);

/// `fastloss_bernoulli_nll` of each cell by itself; parameters as `fastloss_masked_mse_per_cell`.
FASTLOSS_API fastloss_status fastloss_bernoulli_nll_per_cell(
    int64_t rows, int64_t columns, const float *predictions, int64_t predictions_stride, const float *targets,
    int64_t targets_stride, const bool *mask, int64_t mask_stride, const fastloss_masked_options *options,
    const fastloss_gradient *gradient, fastloss_workspace *workspace, float *values, int64_t *selected_count);

/// Bernoulli negative log-likelihood from logits: stable, without the clamp, and with the gradient of the
/// logits.
///
///     L = sum m (log(1 + exp y) - z y) / M        dL/dy = (m / M) (sigmoid(y) - z)
///
/// Agrees with `fastloss_bernoulli_nll` of p = sigmoid(y) for |y| <= 15.94, where that is not clamped.
///
/// \param predictions  B x L logits; NaN propagates.
/// The other parameters are those of `fastloss_masked_mse`.
/// \return as `fastloss_masked_mse`.
FASTLOSS_API fastloss_status fastloss_bernoulli_nll_logits(
    int64_t rows, int64_t columns, const float *predictions, int64_t predictions_stride, const float *targets,
    int64_t targets_stride, const bool *mask, int64_t mask_stride, const fastloss_masked_options *options,
    const fastloss_gradient *gradient, fastloss_workspace *workspace, fastloss_loss_value *loss);

/// `fastloss_bernoulli_nll_logits` of each cell by itself; parameters as `fastloss_masked_mse_per_cell`.
FASTLOSS_API fastloss_status fastloss_bernoulli_nll_logits_per_cell(
    int64_t rows, int64_t columns, const float *predictions, int64_t predictions_stride, const float *targets,
    int64_t targets_stride, const bool *mask, int64_t mask_stride, const fastloss_masked_options *options,
    const fastloss_gradient *gradient, fastloss_workspace *workspace, float *values, int64_t *selected_count);

/// Masked relative error, a metric without a gradient (scGPT: masked_relative_error, `mre`).
///
///     E = sum m |x - t| / (t + 1e-6) / M
///
/// The parameters are those of `fastloss_masked_mse`, without a gradient.
/// \return as `fastloss_masked_mse`.
FASTLOSS_API fastloss_status fastloss_masked_relative_error(
    int64_t rows, int64_t columns, const float *predictions, int64_t predictions_stride, const float *targets,
    int64_t targets_stride, const bool *mask, int64_t mask_stride, const fastloss_masked_options *options,
    fastloss_workspace *workspace, fastloss_loss_value *loss);

/// `fastloss_masked_relative_error` of each cell by itself.
FASTLOSS_API fastloss_status fastloss_masked_relative_error_per_cell(
    int64_t rows, int64_t columns, const float *predictions, int64_t predictions_stride, const float *targets,
    int64_t targets_stride, const bool *mask, int64_t mask_stride, const fastloss_masked_options *options,
    fastloss_workspace *workspace, float *values, int64_t *selected_count);

// -----------------------------------------------------------------------------------------------------------
// Classification
// -----------------------------------------------------------------------------------------------------------

/// The label that counts for nothing, unless another is chosen: PyTorch's.
#define FASTLOSS_IGNORED_LABEL (-100)

/// How cross-entropy reduces and what it ignores.
typedef struct fastloss_cross_entropy_options {
    size_t size;                     ///< sizeof(fastloss_cross_entropy_options)
    fastloss_reduction reduction;    ///< mean
    fastloss_empty_rule when_empty;  ///< error
    int32_t ignored_label;           ///< -100: rows with this label count for nothing
    int32_t reserved;                ///< 0
} fastloss_cross_entropy_options;

/// The defaults.
#define FASTLOSS_CROSS_ENTROPY_OPTIONS                                                      \
    {sizeof(fastloss_cross_entropy_options), FASTLOSS_REDUCTION_MEAN, FASTLOSS_EMPTY_ERROR, \
     FASTLOSS_IGNORED_LABEL, 0}

/// Cross-entropy of logits against labels (scGPT: criterion_cls, criterion_dab; CLS).
///
///     L = sum over rows with y_i != ignored of (log sum_j exp z_ij - z_i,y_i) / N,  N = number of such rows
///     dL/dz = (softmax(z) - onehot(y)) / N, and 0 in ignored rows
///
/// Ignored rows are not read. -Inf is a class of probability 0; NaN and +Inf make the row's loss and gradient
/// NaN.
///
/// \param rows, classes  B and C; C at least 1 where there are rows.
/// \param logits         B x C.
/// \param labels         B labels in 0 ... C - 1 or the ignored one, without gaps.
/// \param options        NULL: mean, error when empty, -100 ignored.
/// \param gradient       B x C; NULL: none.
/// \param workspace      NULL: the calling thread's own.
/// \param loss           receives the value and N.
/// \return LABEL_OUT_OF_RANGE, EMPTY_SELECTION, INVALID_SHAPE, INVALID_PARAMETER (scale not finite),
///         OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_cross_entropy(
    int64_t rows, int64_t classes, const float *logits, int64_t logits_stride, const int32_t *labels,
    const fastloss_cross_entropy_options *options, const fastloss_gradient *gradient,
    fastloss_workspace *workspace, fastloss_loss_value *loss);

/// The backward pass of gradient reversal, whose forward pass is the identity (scGPT: grad_reverse).
///
///     reversed = -lambda * scale * gradient
///
/// \param rows, columns  any shape.
/// \param gradient       rows x columns: what came back through the discriminator.
/// \param lambda         finite; upstream's is 1.
/// \param reversed       rows x columns, with its scale and update; not NULL.
/// \param workspace      NULL: the calling thread's own. It is only used where a matrix has gaps.
/// \return INVALID_PARAMETER (lambda or scale not finite), INVALID_SHAPE, OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_gradient_reversal(
    int64_t rows, int64_t columns, const float *gradient, int64_t gradient_stride, float lambda,
    const fastloss_gradient *reversed, fastloss_workspace *workspace);

/// How the domain-adversarial loss reduces, ignores and reverses.
typedef struct fastloss_domain_adversarial_options {
    size_t size;                     ///< sizeof(fastloss_domain_adversarial_options)
    fastloss_reduction reduction;    ///< mean
    fastloss_empty_rule when_empty;  ///< error
    int32_t ignored_label;           ///< -100
    float lambda;                    ///< 1, finite
} fastloss_domain_adversarial_options;

/// The defaults.
#define FASTLOSS_DOMAIN_ADVERSARIAL_OPTIONS                                                      \
    {sizeof(fastloss_domain_adversarial_options), FASTLOSS_REDUCTION_MEAN, FASTLOSS_EMPTY_ERROR, \
     FASTLOSS_IGNORED_LABEL, 1.0f}

/// Cross-entropy of batch labels behind a gradient reversal (DAB, DAR).
///
///     discriminator_gradient = +scale dL/dz            for the discriminator's own parameters
///     embedding_gradient     = -lambda scale dL/dz     for everything before the reversal
///
/// with L as in `fastloss_cross_entropy`, and each gradient's own scale.
///
/// \param rows, classes           B cells, C batches.
/// \param logits                  B x C logits of the discriminator.
/// \param labels                  B batch labels, without gaps.
/// \param options                 NULL: as cross-entropy, lambda 1.
/// \param discriminator_gradient  B x C; NULL: none.
/// \param embedding_gradient      B x C; NULL: none.
/// \param workspace               NULL: the calling thread's own.
/// \param loss                    receives the value and the number of rows that count.
/// \return as `fastloss_cross_entropy`; INVALID_PARAMETER for a lambda that is not finite.
FASTLOSS_API fastloss_status fastloss_domain_adversarial(
    int64_t rows, int64_t classes, const float *logits, int64_t logits_stride, const int32_t *labels,
    const fastloss_domain_adversarial_options *options, const fastloss_gradient *discriminator_gradient,
    const fastloss_gradient *embedding_gradient, fastloss_workspace *workspace, fastloss_loss_value *loss);

// -----------------------------------------------------------------------------------------------------------
// Cell embeddings
// -----------------------------------------------------------------------------------------------------------

/// The parameters of elastic cell similarity.
typedef struct fastloss_elastic_options {
    size_t size;                     ///< sizeof(fastloss_elastic_options)
    float threshold;                 ///< beta, in [-1, 1]; 0.8, as scGPT's integration
    fastloss_empty_rule when_empty;  ///< error; concerns B = 0
} fastloss_elastic_options;

/// The defaults.
#define FASTLOSS_ELASTIC_OPTIONS {sizeof(fastloss_elastic_options), 0.8f, FASTLOSS_EMPTY_ERROR}

/// Elastic cell similarity (scGPT: ECS; scFormer: ESC).
///
///     N = E / max(|E|, 1e-12) row by row,  S = N N^T,  C = relu(S) with C_ii = 0
///     L = sum_ij [1 - (C_ij - beta)^2] / B^2
///     G_ij = -(2 / B^2) (C_ij - beta) for i != j and S_ij > 0, else 0;  dN = 2 G N
///     dE_i = (dN_i - N_i (N_i . dN_i)) / |E_i|
///
/// Where |E_i| < 1e-12, the value divides the row by 1e-12, N_i = E_i / 1e-12, and dE_i = dN_i / 1e-12: the
/// raised norm is a constant, as in PyTorch's normalize. A zero row has no positive similarity, hence
/// gradient 0. The denominator counts the diagonal, as upstream's does.
/// The B x B matrix is stored up to 1,024 rows only. Scratch memory is about B (2 D + B) floats up to there,
/// B D beyond, 2 B D where the gradient accumulates then.
///
/// \param rows, columns  B cells of D columns, both below 2^31.
/// \param embeddings     B x D.
/// \param options        NULL: beta 0.8, error when empty.
/// \param gradient       B x D; NULL: none.
/// \param workspace      NULL: the calling thread's own.
/// \param loss           receives the value and B.
/// \return INVALID_PARAMETER (threshold, scale), EMPTY_SELECTION (B = 0), INVALID_SHAPE, DIMENSION_TOO_LARGE,
///         OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_elastic_cell_similarity(
    int64_t rows, int64_t columns, const float *embeddings, int64_t embeddings_stride,
    const fastloss_elastic_options *options, const fastloss_gradient *gradient, fastloss_workspace *workspace,
    fastloss_loss_value *loss);

/// The parameters of contrastive cell embedding.
typedef struct fastloss_contrastive_options {
    size_t size;                     ///< sizeof(fastloss_contrastive_options)
    float temperature;               ///< tau, finite and at least FLT_MIN; 0.5, as upstream
    fastloss_empty_rule when_empty;  ///< error; concerns B = 0
} fastloss_contrastive_options;

/// The defaults.
#define FASTLOSS_CONTRASTIVE_OPTIONS {sizeof(fastloss_contrastive_options), 0.5f, FASTLOSS_EMPTY_ERROR}

/// Contrastive loss between two encodings of the same cells (scGPT, scFormer: CCE).
///
///     N = E / max(|E|, 1e-8) row by row, of both;  A = N1 N2^T / tau
///     L = mean over i of (log sum_j exp A_ij - A_ii)
///     dA = (softmax of each row of A - I) / B;  dN1 = dA N2 / tau;  dN2 = dA^T N1 / tau
///     dE_i = (dN_i - N_i (N_i . dN_i)) / |E_i| on both sides
///
/// Where |E_i| < 1e-8, the value divides the row by 1e-8, N_i = E_i / 1e-8, and
/// dE_i = (dN_i - u_i (N_i . dN_i)) / 1e-8 with u_i = E_i / |E_i|: the gradient projects as if the norm had
/// not been raised, as that of PyTorch's cosine_similarity does. A zero row has N_i = 0 and
/// dE_i = dN_i / 1e-8, which need not be 0.
///
/// Only rows of A are normalised, so the loss is not symmetric in its arguments. The B x B matrix is never
/// stored: scratch memory is about (3 D + 256) B floats, and D B for each gradient that accumulates.
///
/// \param rows, columns    B cells of D columns, both below 2^31.
/// \param first            B x D.
/// \param second           B x D; row i encodes the same cell as row i of `first`.
/// \param options          NULL: tau 0.5, error when empty.
/// \param first_gradient   B x D; NULL: none.
/// \param second_gradient  B x D; NULL: none.
/// \param workspace        NULL: the calling thread's own.
/// \param loss             receives the value and B.
/// \return INVALID_PARAMETER (temperature, scale), EMPTY_SELECTION (B = 0), INVALID_SHAPE,
///         DIMENSION_TOO_LARGE, OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_contrastive_cell_embedding(
    int64_t rows, int64_t columns, const float *first, int64_t first_stride, const float *second,
    int64_t second_stride, const fastloss_contrastive_options *options,
    const fastloss_gradient *first_gradient, const fastloss_gradient *second_gradient,
    fastloss_workspace *workspace, fastloss_loss_value *loss);

/// The matrix of cosine similarities S = N N^T that elastic cell similarity streams, to look at. Exactly
/// symmetric; a zero row is similar to nothing, itself included.
///
/// \param rows, columns  B rows of D columns, both below 2^31.
/// \param embeddings     B x D.
/// \param similarities   receives B x B.
/// \param workspace      NULL: the calling thread's own.
/// \return INVALID_SHAPE, DIMENSION_TOO_LARGE, OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_cosine_similarity(
    int64_t rows, int64_t columns, const float *embeddings, int64_t embeddings_stride, float *similarities,
    int64_t similarities_stride, fastloss_workspace *workspace);

// -----------------------------------------------------------------------------------------------------------
// Reductions and pooling
// -----------------------------------------------------------------------------------------------------------

/// Sums or means of B rows under K masks of L positions that all rows share.
///
///     sum_bk = sum_l m_kl x_bl        mean_bk = sum_bk / sum_l m_kl
///
/// An empty mask follows `when_empty`, for sums as for means. No rows or no masks are no error: there is no
/// output.
///
/// \param rows, columns, mask_count  B, L and K; L and K below 2^31.
/// \param values                     B x L.
/// \param masks                      K x L; not NULL where it has elements.
/// \param options                    NULL: mean, error when a mask is empty.
/// \param outputs                    receives B x K.
/// \param workspace                  NULL: the calling thread's own.
/// \return EMPTY_SELECTION (which names the mask as a row), INVALID_SHAPE, DIMENSION_TOO_LARGE,
///         OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_masked_reductions(
    int64_t rows, int64_t columns, int64_t mask_count, const float *values, int64_t values_stride,
    const bool *masks, int64_t masks_stride, const fastloss_masked_options *options, float *outputs,
    int64_t outputs_stride, fastloss_workspace *workspace);

/// Carries a gradient of the outputs of `fastloss_masked_reductions` back to the values.
///
///     gradient_bl = scale sum_k m_kl g_bk, for means divided by the mask's count
///
/// \param output_gradient  g, B x K.
/// \param gradient         B x L; not NULL.
/// The other parameters are those of `fastloss_masked_reductions`.
/// \return as `fastloss_masked_reductions`; INVALID_PARAMETER (scale not finite).
FASTLOSS_API fastloss_status fastloss_masked_reductions_gradient(
    int64_t rows, int64_t columns, int64_t mask_count, const float *output_gradient,
    int64_t output_gradient_stride, const bool *masks, int64_t masks_stride,
    const fastloss_masked_options *options, const fastloss_gradient *gradient, fastloss_workspace *workspace);

/// How token states become one embedding per cell.
typedef int32_t fastloss_pooling;
enum {
    FASTLOSS_POOLING_CLS = 0,      ///< the states of the token at position 0 (scGPT: `cls`)
    FASTLOSS_POOLING_AVERAGE = 1,  ///< the mean over all tokens, padding included (scGPT: `avg-pool`)
};

/// Pools token states h (B, L, D) into one embedding of D numbers per cell.
///
///     cls      e_b = h_b0            average  e_b = sum_l h_bl / L
///
/// State (b, l, d) stands at b * cell_stride + l * token_stride + d. Where token_stride == D and cell_stride
/// == L * D nothing is copied; cls copies the first tokens at most.
///
/// \param pooling               cls or average.
/// \param cells, tokens, width  B, L at least 1, D.
/// \param states                B x L x D.
/// \param states_token_stride   at least D.
/// \param states_cell_stride    at least (L - 1) * token_stride + D.
/// \param embeddings            receives B x D.
/// \param workspace             NULL: the calling thread's own.
/// \return INVALID_PARAMETER (no tokens), INVALID_SHAPE, OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_token_pooling(
    fastloss_pooling pooling, int64_t cells, int64_t tokens, int64_t width, const float *states,
    int64_t states_token_stride, int64_t states_cell_stride, float *embeddings, int64_t embeddings_stride,
    fastloss_workspace *workspace);

/// Carries a gradient of the embeddings of `fastloss_token_pooling` back to the states.
///
///     cls      gradient_b0 = scale g_b, 0 for the other tokens
///     average  gradient_bl = scale g_b / L
///
/// \param embedding_gradient  g, B x D.
/// \param gradient            B x L x D, with its strides (FASTLOSS_STATES_GRADIENT); not NULL.
/// The other parameters are those of `fastloss_token_pooling`.
/// \return as `fastloss_token_pooling`; INVALID_PARAMETER (scale not finite).
FASTLOSS_API fastloss_status fastloss_token_pooling_gradient(
    fastloss_pooling pooling, int64_t cells, int64_t tokens, int64_t width, const float *embedding_gradient,
    int64_t embedding_gradient_stride, const fastloss_gradient *gradient, fastloss_workspace *workspace);

/// Pools token states into K weighted sums per cell.
///
///     u_bk = sum_l v_bkl h_bl
///
/// Weights multiply, they do not select. Without tokens the sums are 0.
///
/// \param cells, tokens, width, weightings  B, L, D and K; L, D and K below 2^31.
/// \param states      B x L x D, with strides as in `fastloss_token_pooling`.
/// \param weights     (B K) x L: the K weightings of the first cell first.
/// \param embeddings  receives (B K) x D.
/// \param workspace   NULL: the calling thread's own.
/// \return INVALID_SHAPE, DIMENSION_TOO_LARGE, OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_weighted_token_pooling(
    int64_t cells, int64_t tokens, int64_t width, int64_t weightings, const float *states,
    int64_t states_token_stride, int64_t states_cell_stride, const float *weights, int64_t weights_stride,
    float *embeddings, int64_t embeddings_stride, fastloss_workspace *workspace);

/// Carries a gradient of the sums back to the states:  gradient_bl = scale sum_k v_bkl g_bk.
///
/// \param embedding_gradient  g, (B K) x D.
/// \param gradient            B x L x D, with its strides (FASTLOSS_STATES_GRADIENT); not NULL.
/// The other parameters are those of `fastloss_weighted_token_pooling`.
/// \return as `fastloss_weighted_token_pooling`; INVALID_PARAMETER (scale not finite).
FASTLOSS_API fastloss_status fastloss_weighted_token_pooling_states_gradient(
    int64_t cells, int64_t tokens, int64_t width, int64_t weightings, const float *embedding_gradient,
    int64_t embedding_gradient_stride, const float *weights, int64_t weights_stride,
    const fastloss_gradient *gradient, fastloss_workspace *workspace);

/// Carries a gradient of the sums back to the weights:  gradient_bkl = scale h_bl . g_bk.
///
/// \param embedding_gradient  g, (B K) x D.
/// \param gradient            (B K) x L; not NULL.
/// The other parameters are those of `fastloss_weighted_token_pooling`.
/// \return as `fastloss_weighted_token_pooling`; INVALID_PARAMETER (scale not finite).
FASTLOSS_API fastloss_status fastloss_weighted_token_pooling_weights_gradient(
    int64_t cells, int64_t tokens, int64_t width, int64_t weightings, const float *embedding_gradient,
    int64_t embedding_gradient_stride, const float *states, int64_t states_token_stride,
    int64_t states_cell_stride, const fastloss_gradient *gradient, fastloss_workspace *workspace);

/// Pools token states into K weighted sums per cell, each normalised to length 1 (scGPT: `w-pool`, K = 1).
///
///     u_bk = sum_l v_bkl h_bl        e_bk = u_bk / max(|u_bk|, 1e-12)
///
/// \param embeddings  receives (B K) x D.
/// \param norms       receives the B K lengths |u|, before the floor, without gaps: the gradients need them.
/// The other parameters, and what is returned, are those of `fastloss_weighted_token_pooling`.
FASTLOSS_API fastloss_status fastloss_normalized_weighted_token_pooling(
    int64_t cells, int64_t tokens, int64_t width, int64_t weightings, const float *states,
    int64_t states_token_stride, int64_t states_cell_stride, const float *weights, int64_t weights_stride,
    float *embeddings, int64_t embeddings_stride, double *norms, fastloss_workspace *workspace);

/// Carries a gradient of the normalised sums back to the states.
///
///     du_bk = (g_bk - e_bk (e_bk . g_bk)) / |u_bk|, and g_bk / 1e-12 where |u_bk| < 1e-12
///     gradient_bl = scale sum_k v_bkl du_bk
///
/// \param embedding_gradient  g, (B K) x D.
/// \param embeddings          the (B K) x D embeddings that the value gave.
/// \param norms               the B K norms that the value gave.
/// \param gradient            B x L x D, with its strides (FASTLOSS_STATES_GRADIENT); not NULL.
/// The other parameters are those of `fastloss_weighted_token_pooling`.
/// \return as `fastloss_weighted_token_pooling`; INVALID_PARAMETER (scale not finite).
FASTLOSS_API fastloss_status fastloss_normalized_weighted_token_pooling_states_gradient(
    int64_t cells, int64_t tokens, int64_t width, int64_t weightings, const float *embedding_gradient,
    int64_t embedding_gradient_stride, const float *embeddings, int64_t embeddings_stride,
    const double *norms, const float *weights, int64_t weights_stride, const fastloss_gradient *gradient,
    fastloss_workspace *workspace);

/// Carries a gradient of the normalised sums back to the weights:  gradient_bkl = scale h_bl . du_bk, with du
/// as above.
///
/// \param gradient  (B K) x L; not NULL.
/// The other parameters, and what is returned, are those of
/// `fastloss_normalized_weighted_token_pooling_states_gradient`.
FASTLOSS_API fastloss_status fastloss_normalized_weighted_token_pooling_weights_gradient(
    int64_t cells, int64_t tokens, int64_t width, int64_t weightings, const float *embedding_gradient,
    int64_t embedding_gradient_stride, const float *embeddings, int64_t embeddings_stride,
    const double *norms, const float *states, int64_t states_token_stride, int64_t states_cell_stride,
    const fastloss_gradient *gradient, fastloss_workspace *workspace);

// -----------------------------------------------------------------------------------------------------------
// The total objective
// -----------------------------------------------------------------------------------------------------------

/// A term of the total objective: an index of `weights`, `values`, `weighted` and `logged`, and a bit of
/// `terms`.
typedef int32_t fastloss_term;
enum {
    FASTLOSS_TERM_MASKED_GENE = 0,       ///< masked MSE of the decoder's output (MLM, MGM, GEP)
    FASTLOSS_TERM_MASKED_GENE_ZERO = 1,  ///< Bernoulli NLL of the decoder's probability of a non-zero value
    FASTLOSS_TERM_CELL_GENE = 2,         ///< masked MSE of what the cell embedding predicts (MVC, GEPC)
    FASTLOSS_TERM_CELL_GENE_ZERO = 3,    ///< Bernoulli NLL of the probability that it predicts
    FASTLOSS_TERM_GENERATION = 4,        ///< masked MSE of what the detached cell embedding generates
    FASTLOSS_TERM_CELL_TYPE = 5,         ///< cross-entropy of the cell types (CLS)
    FASTLOSS_TERM_CONTRASTIVE = 6,       ///< contrastive cell embedding (CCE)
    FASTLOSS_TERM_ELASTIC = 7,           ///< elastic cell similarity (ECS)
    FASTLOSS_TERM_BATCH = 8,             ///< domain-adversarial loss of the batch labels (DAB)
    FASTLOSS_TERM_COUNT = 9,             ///< terms that this header knows
    FASTLOSS_TERM_CAPACITY = 16,         ///< length of arrays over the terms, with room for later ones
};

/// The bit of a term in `terms`.
#define FASTLOSS_TERM_BIT(term) (UINT32_C(1) << (term))

/// The name under which upstream logs a term: "mse", "nzlp", "mvc", "mvc_nzlp", "gen", "cls", "cce", "ecs",
/// "dab". NULL for a number that is no term. Never freed.
FASTLOSS_API const char *fastloss_term_name(fastloss_term term);

/// What the explicit-zero predictions are.
typedef int32_t fastloss_nonzero_form;
enum {
    FASTLOSS_NONZERO_PROBABILITIES = 0,  ///< in [0, 1], after the sigmoid: upstream's
    FASTLOSS_NONZERO_LOGITS = 1,         ///< before the sigmoid
};

/// Which terms a task adds up, with which weights: total = sum over the terms that are on of weight * value.
///
/// Start with FASTLOSS_OBJECTIVE, then either a preset below, or `fastloss_objective_enable` for each term.
/// The fields may also be set by hand.
typedef struct fastloss_objective {
    size_t size;                                 ///< sizeof(fastloss_objective)
    uint32_t terms;                              ///< bits of the terms that are on
    fastloss_nonzero_form nonzero_form;          ///< probabilities
    float weights[FASTLOSS_TERM_CAPACITY];       ///< finite; those of terms that are off are not looked at
    fastloss_empty_rule mask_when_empty;         ///< error; for the value terms
    float elastic_threshold;                     ///< 0.8
    fastloss_empty_rule elastic_when_empty;      ///< error
    float contrastive_temperature;               ///< 0.5
    fastloss_empty_rule contrastive_when_empty;  ///< error
    fastloss_reduction cell_type_reduction;      ///< mean
    fastloss_empty_rule cell_type_when_empty;    ///< error
    int32_t cell_type_ignored_label;             ///< -100
    fastloss_reduction batch_reduction;          ///< mean
    fastloss_empty_rule batch_when_empty;        ///< error
    int32_t batch_ignored_label;                 ///< -100
    float batch_lambda;                          ///< 1: the factor of the gradient reversal
} fastloss_objective;

/// No term is on; everything else is the default.
#define FASTLOSS_OBJECTIVE                                    \
    {sizeof(fastloss_objective),     0,                       \
     FASTLOSS_NONZERO_PROBABILITIES, {0.0f},                  \
     FASTLOSS_EMPTY_ERROR,           0.8f,                    \
     FASTLOSS_EMPTY_ERROR,           0.5f,                    \
     FASTLOSS_EMPTY_ERROR,           FASTLOSS_REDUCTION_MEAN, \
     FASTLOSS_EMPTY_ERROR,           FASTLOSS_IGNORED_LABEL,  \
     FASTLOSS_REDUCTION_MEAN,        FASTLOSS_EMPTY_ERROR,    \
     FASTLOSS_IGNORED_LABEL,         1.0f}

/// Switches a term on, or changes its weight.
/// \return NULL_POINTER, INVALID_STRUCT, INVALID_ENUMERATION (no such term). The weight is checked when it is
///         used.
FASTLOSS_API fastloss_status
fastloss_objective_enable(fastloss_objective *objective, fastloss_term term, float weight);

/// Switches a term off. Errors as `fastloss_objective_enable`.
FASTLOSS_API fastloss_status fastloss_objective_disable(fastloss_objective *objective, fastloss_term term);

/// scGPT's integration of batches (finetune_integration.py):
/// MSE + [zero] NLL + [GEPC] MSE + [both] NLL + 10 ECS + batch_weight DAB. Replaces all fields but `size`, as
/// every preset does; all of them return the same errors.
///
/// \param explicit_zero_probability  upstream's `explicit_zero_prob`; its default is true.
/// \param cell_embedding_prediction  upstream's `GEPC`; true.
/// \param elastic_threshold          upstream's `ecs_thres`; 0.8; 0 or less switches ECS off, as there.
/// \param batch_weight               upstream's `dab_weight`; 1.
/// \return NULL_POINTER, INVALID_STRUCT.
FASTLOSS_API fastloss_status fastloss_objective_integration(
    fastloss_objective *objective, bool explicit_zero_probability, bool cell_embedding_prediction,
    float elastic_threshold, float batch_weight);

/// Cell-type annotation: CLS alone.
FASTLOSS_API fastloss_status fastloss_objective_annotation(fastloss_objective *objective);

/// Perturbation: MSE alone. Upstream's mask is all ones: give none.
FASTLOSS_API fastloss_status fastloss_objective_perturbation(fastloss_objective *objective);

/// Multi-omics: MSE + MVC + DAB.
FASTLOSS_API fastloss_status fastloss_objective_multi_omics(fastloss_objective *objective);

/// Generative pretraining: MSE + MVC, and with `from_cell_embedding` the MSE of the generated values.
FASTLOSS_API fastloss_status
fastloss_objective_generative_pretraining(fastloss_objective *objective, bool from_cell_embedding);

/// Pretraining on masked values with cell types: MSE + CLS + 10 CCE + MVC.
FASTLOSS_API fastloss_status fastloss_objective_masked_pretraining(fastloss_objective *objective);

/// scFormer's integration: as `fastloss_objective_integration` with beta 0.5, optionally with CLS and 10 CCE.
FASTLOSS_API fastloss_status
fastloss_objective_scformer(fastloss_objective *objective, bool cell_types, bool contrastive);

/// A matrix that is read; NULL data: it is not given.
typedef struct fastloss_view {
    const float *data;
    int64_t stride;  ///< elements between rows
} fastloss_view;

/// A mask that is read; NULL data: everything is selected.
typedef struct fastloss_mask_view {
    const bool *data;
    int64_t stride;  ///< elements between rows
} fastloss_mask_view;

/// A matrix that is written; NULL data: it is not wanted.
typedef struct fastloss_mutable_view {
    float *data;
    int64_t stride;  ///< elements between rows
} fastloss_mutable_view;

/// The outputs of a model for one batch, and what they are to match. An input is needed if a term that reads
/// it is on; others may be given and are not looked at. Where B is 0, a pointer that is not NULL says that
/// the input is given.
typedef struct fastloss_objective_inputs {
    size_t size;                          ///< sizeof(fastloss_objective_inputs)
    int64_t cells;                        ///< B
    int64_t genes;                        ///< L
    int64_t width;                        ///< D, of both cell embeddings
    int64_t cell_type_count;              ///< C of the cell types
    int64_t batch_count;                  ///< C of the batches
    fastloss_view targets;                ///< B x L: all value terms
    fastloss_mask_view mask;              ///< B x L: all value terms
    fastloss_view gene_predictions;       ///< B x L: MASKED_GENE
    fastloss_view gene_nonzero;           ///< B x L: MASKED_GENE_ZERO
    fastloss_view cell_predictions;       ///< B x L: CELL_GENE
    fastloss_view cell_nonzero;           ///< B x L: CELL_GENE_ZERO
    fastloss_view generated_predictions;  ///< B x L: GENERATION
    fastloss_view cell_embedding;         ///< B x D: ELASTIC, CONTRASTIVE
    fastloss_view second_cell_embedding;  ///< B x D: CONTRASTIVE
    fastloss_view cell_type_logits;       ///< B x cell_type_count: CELL_TYPE
    fastloss_view batch_logits;           ///< B x batch_count: BATCH
    const int32_t *cell_type_labels;      ///< B labels: CELL_TYPE; needed with its logits
    const int32_t *batch_labels;          ///< B labels: BATCH; needed with its logits
} fastloss_objective_inputs;

/// Nothing is given.
#define FASTLOSS_OBJECTIVE_INPUTS       \
    {sizeof(fastloss_objective_inputs), \
     0,                                 \
     0,                                 \
     0,                                 \
     0,                                 \
     0,                                 \
     {NULL, 0},                         \
     {NULL, 0},                         \
     {NULL, 0},                         \
     {NULL, 0},                         \
     {NULL, 0},                         \
     {NULL, 0},                         \
     {NULL, 0},                         \
     {NULL, 0},                         \
     {NULL, 0},                         \
     {NULL, 0},                         \
     {NULL, 0},                         \
     NULL,                              \
     NULL}

/// Where the gradients of the total go: a buffer for each that is wanted, of the shape of the input of the
/// same name, which has to be given. Where the terms that read the input are off, it receives 0 (or keeps
/// what it holds, when accumulating).
typedef struct fastloss_objective_gradients {
    size_t size;                                  ///< sizeof(fastloss_objective_gradients)
    float scale;                                  ///< a finite factor of all gradients
    fastloss_update update;                       ///< of all gradients
    fastloss_mutable_view gene_predictions;       ///< B x L
    fastloss_mutable_view gene_nonzero;           ///< B x L
    fastloss_mutable_view cell_predictions;       ///< B x L
    fastloss_mutable_view cell_nonzero;           ///< B x L
    fastloss_mutable_view generated_predictions;  ///< B x L
    fastloss_mutable_view cell_embedding;         ///< B x D: the sum over ECS and CCE
    fastloss_mutable_view second_cell_embedding;  ///< B x D
    fastloss_mutable_view cell_type_logits;       ///< B x cell_type_count
    fastloss_mutable_view batch_logits;           ///< B x batch_count: for the discriminator's own parameters
    fastloss_mutable_view reversed_batch_logits;  ///< B x batch_count: for all before the reversal
} fastloss_objective_gradients;

/// No gradient is wanted yet; scale 1, overwritten.
#define FASTLOSS_OBJECTIVE_GRADIENTS       \
    {sizeof(fastloss_objective_gradients), \
     1.0f,                                 \
     FASTLOSS_UPDATE_OVERWRITE,            \
     {NULL, 0},                            \
     {NULL, 0},                            \
     {NULL, 0},                            \
     {NULL, 0},                            \
     {NULL, 0},                            \
     {NULL, 0},                            \
     {NULL, 0},                            \
     {NULL, 0},                            \
     {NULL, 0},                            \
     {NULL, 0}}

/// The total with everything that upstream logs beside it. Entries of terms that are off are 0.
typedef struct fastloss_objective_value {
    size_t size;                              ///< sizeof(fastloss_objective_value), set by the caller
    double total;                             ///< sum of weight * value
    double relative_error;                    ///< not in the total; NaN where MASKED_GENE is off
    int64_t selected_count;                   ///< how many elements the mask selected; 0 without value terms
    uint32_t terms;                           ///< bits of the terms that were on
    uint32_t reserved;                        ///< 0
    double values[FASTLOSS_TERM_CAPACITY];    ///< every term before its weight
    double weighted[FASTLOSS_TERM_CAPACITY];  ///< every term after its weight
    double logged[FASTLOSS_TERM_CAPACITY];    ///< as upstream logs it: weighted, but the batch term not
} fastloss_objective_value;

/// A place for the result.
#define FASTLOSS_OBJECTIVE_VALUE {sizeof(fastloss_objective_value), 0.0, 0.0, 0, 0, 0, {0.0}, {0.0}, {0.0}}

/// The total objective: the total, every term, the relative error, and the total's gradient with respect to
/// every input that has a buffer. The value terms run in one fused pass over targets and mask.
///
/// The gradient of the cell embedding is the sum over ECS and CCE, which read it directly; what reaches it
/// through a decoder, a classifier or the reversed discriminator comes from the model's own backward pass.
///
/// \param objective  the terms and their weights.
/// \param inputs     what the terms read.
/// \param gradients  where the gradients go; NULL: none.
/// \param workspace  NULL: the calling thread's own.
/// \param value      receives the result; its `size` has to be set (FASTLOSS_OBJECTIVE_VALUE).
/// \return MISSING_INPUT, GRADIENT_WITHOUT_INPUT, whatever the terms' own losses return.
FASTLOSS_API fastloss_status fastloss_total_objective(
    const fastloss_objective *objective, const fastloss_objective_inputs *inputs,
    const fastloss_objective_gradients *gradients, fastloss_workspace *workspace,
    fastloss_objective_value *value);

#ifdef __cplusplus
}
#endif

#endif
