// The inner loops of FastLoss, as one table of functions per instruction set.
//
// Every kernel is one plain C loop nest, compiled several times: for the baseline of the architecture and, on
// x86-64, for AVX2+FMA and for AVX-512. A caller asks once for the table of an instruction set and calls
// through it; nothing here allocates, locks, spawns threads or keeps state.
//
// Shared conventions
//   - all matrices are row-major, all pointers may be unaligned, a count of 0 is allowed everywhere;
//   - sums are formed in float lanes inside short blocks and carried in double;
//   - `mask` selects: an element whose mask is false never enters any sum, whatever its value (NaN and Inf
//   included),
//     and its gradient is 0;
//   - outputs are written as `fastloss_write_mode` says.

#ifndef FASTLOSS_KERNELS_H
#define FASTLOSS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// The instruction sets a kernel is compiled for, from the least to the most capable.
typedef enum {
    FASTLOSS_ISA_BASELINE = 0,
    FASTLOSS_ISA_AVX2 = 1,
    FASTLOSS_ISA_AVX512 = 2,
} fastloss_isa;

/// What a kernel or a product does with its output: a gradient, a scaled row, a tile.
typedef enum {
    FASTLOSS_NO_OUTPUT = 0,   ///< computes the value alone; the output's pointer is not touched
    FASTLOSS_OVERWRITE = 1,   ///< output[i]  = …
    FASTLOSS_ACCUMULATE = 2,  ///< output[i] += …
} fastloss_write_mode;

/// What an elementwise masked kernel found in one chunk.
typedef struct {
    double sum;      ///< Σ of the loss elements over the selected elements
    size_t invalid;  ///< not 0 where a selected prediction lies outside the kernel's domain
} fastloss_partial;

/// An elementwise masked loss over one chunk of `count` elements, with gradient `scale`·∂element/∂prediction.
/// `gradient` may not overlap any input. With `prefetches`, inputs and gradient are asked for ahead of their
/// use: for arrays that are not in the first caches.
typedef fastloss_partial (*fastloss_masked_kernel)(
    const float *_Nonnull predictions, const float *_Nonnull targets, const bool *_Nonnull mask, size_t count,
    float scale, float *_Nullable gradient, fastloss_write_mode mode, bool prefetches);

/// The kernels of one instruction set.
typedef struct {
    /// How many of `count` mask elements are true.
    size_t (*_Nonnull count_selected)(const bool *_Nonnull mask, size_t count);

    /// (x − t)²; gradient 2(x − t).
    fastloss_masked_kernel _Nonnull masked_mse;

    /// −log(z ? p̃ : 1 − p̃) with z = (t > 0), p̃ = clamp(p, ε, 1 − ε), ε = 2⁻²³; gradient (p − z)/(p(1 − p))
    /// for ε ≤ p ≤ 1 − ε, 0 outside. `invalid` tells of a p that is NaN or outside [0, 1].
    fastloss_masked_kernel _Nonnull bernoulli_nll;

    /// softplus(w) with w = z ? −y : y and z = (t > 0), the same loss of a logit y; gradient σ(y) − z.
    fastloss_masked_kernel _Nonnull bernoulli_nll_logits;

    /// |x − t| / (t + 10⁻⁶). A metric: `scale`, `gradient` and `mode` are ignored.
    fastloss_masked_kernel _Nonnull masked_relative_error;

    /// Cross-entropy of one row: logsumexp(z/τ) − z[label]/τ with 1/τ = `inverse_temperature`; the gradient
    /// is `scale`·(softmax(z/τ) − onehot(label)). `gradient` may be `logits` itself. Requires label <
    /// classes.
    double (*_Nonnull softmax_cross_entropy)(
        const float *_Nonnull logits, size_t classes, size_t label, float inverse_temperature, float scale,
        float *_Nullable gradient, fastloss_write_mode mode);

    /// Σ of that at τ = 1 over the rows of a rows × classes matrix, and the gradient of every row. A row
    /// whose label is `ignored_label` is not read, and its gradient is 0. Every other label must lie in
    /// 0..<classes. `gradient` may not overlap an input.
    double (*_Nonnull softmax_cross_entropy_rows)(
        const float *_Nonnull logits, const int32_t *_Nonnull labels, size_t rows, size_t classes,
        int32_t ignored_label, float scale, float *_Nullable gradient, fastloss_write_mode mode);

    /// Σ x², in double.
    double (*_Nonnull sum_of_squares)(const float *_Nonnull x, size_t count);

    /// Σ a·b, in double.
    double (*_Nonnull dot)(const float *_Nonnull a, const float *_Nonnull b, size_t count);

    /// y = factor·x (or y += factor·x), each product formed in double and rounded once. `y` may be `x`
    /// itself.
    void (*_Nonnull scale)(
        const float *_Nonnull x, size_t count, double factor, float *_Nonnull y, fastloss_write_mode mode);

    /// The backward pass of y = x/‖x‖ for one row: gradient = (g − along·y)·inverse_norm with along = y·g
    /// (pass 0 where the norm was floored and so does not depend on x). `gradient` may be `upstream` itself.
    void (*_Nonnull project_out)(
        const float *_Nonnull upstream, const float *_Nonnull unit, size_t count, double along,
        double inverse_norm, float *_Nonnull gradient, fastloss_write_mode mode);

    /// A tile of elastic cell similarity, rows × columns with `stride` elements between rows: returns
    /// Σ (relu(s) − threshold)² and, unless `mode` is NONE, replaces s by s > 0 ? s − threshold : 0, half the
    /// derivative of its term. NaN stays NaN.
    double (*_Nonnull elastic_cell_similarity)(
        float *_Nonnull similarities, size_t rows, size_t columns, size_t stride, float threshold,
        fastloss_write_mode mode);

    /// target[j][i] = source[i][j] for a rows × columns source; strides count elements between rows.
    void (*_Nonnull transpose)(
        const float *_Nonnull source, size_t rows, size_t columns, size_t source_stride,
        float *_Nonnull target, size_t target_stride);

    /// Σ x over the selected elements.
    double (*_Nonnull masked_sum)(const float *_Nonnull x, const bool *_Nonnull mask, size_t count);

    /// indicators[i] = mask[i] ? 1 : 0, for masks that are multiplied as a matrix.
    void (*_Nonnull mask_indicators)(const bool *_Nonnull mask, size_t count, float *_Nonnull indicators);

    /// sums[d] = factor·Σₗ weights[l]·rows[l][d] over `count` rows, formed in double and rounded once.
    /// Without `weights` every row has weight 1.
    void (*_Nonnull weighted_row_sum)(
        const float *_Nonnull rows, size_t count, size_t width, const float *_Nullable weights, double factor,
        float *_Nonnull sums);

    /// gradient[l][d] = weights[l]·x[d] for `count` rows, the backward pass of `weighted_row_sum`. With
    /// `streaming`, an overwritten gradient goes to memory past the caches. `gradient` may not overlap `x`.
    void (*_Nonnull weighted_row_sum_gradient)(
        const float *_Nonnull x, size_t width, const float *_Nullable weights, size_t count,
        float *_Nonnull gradient, fastloss_write_mode mode, bool streaming);
} fastloss_kernels;

/// The most capable instruction set that this build has kernels for and this processor and operating system
/// can run.
fastloss_isa fastloss_best_isa(void);

/// The kernels compiled for `isa`, or NULL where `isa` is above `fastloss_best_isa()`.
const fastloss_kernels *_Nullable fastloss_kernels_for(fastloss_isa isa);

#ifdef __cplusplus
}
#endif

#endif
