// The inner loops of FastLoss, as one table of functions per instruction set.
//
// Every kernel is one plain C loop nest that is compiled several times: for the baseline of the architecture
// and, on x86-64, for AVX2 with FMA and for AVX-512. A caller asks once for the table of an instruction set
// and calls through it. Nothing here allocates, locks, spawns threads or keeps state.
//
// Shared conventions
//   - Matrices are row-major. Pointers may be unaligned. A count of 0 is allowed everywhere.
//   - Sums are formed in float lanes inside short blocks, and in double across blocks.
//   - `mask` selects: an element whose mask is false never enters a sum, whatever its value (NaN and Inf
//     included), and its gradient is 0.
//   - `fastloss_write_mode` says how outputs are written.

#ifndef FASTLOSS_KERNELS_H
#define FASTLOSS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// The instruction sets that kernels are compiled for, from the least to the most capable.
typedef enum {
    FASTLOSS_ISA_BASELINE = 0,
    FASTLOSS_ISA_AVX2 = 1,
    FASTLOSS_ISA_AVX512 = 2,
    FASTLOSS_ISA_AMX = 3,  ///< AVX-512 with the tiles of AMX, which multiply bfloat16
} fastloss_isa;

/// How a kernel or a product writes its output: a gradient, a scaled row, a tile.
typedef enum {
    FASTLOSS_NO_OUTPUT = 0,   ///< computes the value alone; the output's pointer is not used
    FASTLOSS_OVERWRITE = 1,   ///< output[i]  = …
    FASTLOSS_ACCUMULATE = 2,  ///< output[i] += …
} fastloss_write_mode;

/// The type of a model's outputs and of their gradients; see elements.h.
typedef enum {
    FASTLOSS_FLOAT32 = 0,
    FASTLOSS_BFLOAT16 = 1,
    FASTLOSS_FLOAT16 = 2,
} fastloss_element;

/// The function between two layers of a task head; see activations.c.
typedef enum {
    FASTLOSS_IDENTITY = 0,
    FASTLOSS_RELU = 1,
    FASTLOSS_LEAKY_RELU = 2,  ///< with PyTorch's slope of 0.01
    FASTLOSS_SIGMOID = 3,
} fastloss_activation;

/// The result of an elementwise masked kernel over one chunk.
typedef struct {
    double sum;      ///< Σ of the loss elements over the selected elements
    size_t invalid;  ///< not 0 if a selected prediction lies outside the kernel's domain
} fastloss_partial;

/// An elementwise masked loss over one chunk of `count` elements, with gradient `scale`·∂element/∂prediction.
/// Predictions and gradient have the type `element`. `gradient` may not overlap any input. `prefetches`
/// prefetches inputs and gradient, which pays for arrays that are not in the first two levels of cache.
typedef fastloss_partial (*fastloss_masked_kernel)(
    const void *_Nonnull predictions, const float *_Nonnull targets, const bool *_Nonnull mask, size_t count,
    float scale, void *_Nullable gradient, fastloss_write_mode mode, fastloss_element element,
    bool prefetches);

/// The kernels of one instruction set.
typedef struct {
    /// How many of `count` mask elements are true.
    size_t (*_Nonnull count_selected)(const bool *_Nonnull mask, size_t count);

    /// (x − t)²; gradient 2(x − t).
    fastloss_masked_kernel _Nonnull masked_mse;

    /// −log(z ? p̃ : 1 − p̃) with z = (t > 0), p̃ = clamp(p, ε, 1 − ε), ε = 2⁻²³; gradient (p − z)/(p(1 − p))
    /// for ε ≤ p ≤ 1 − ε, 0 outside. `invalid` counts p that are NaN or outside [0, 1].
    fastloss_masked_kernel _Nonnull bernoulli_nll;

    /// The same loss of a logit y: softplus(w) with w = z ? −y : y and z = (t > 0); gradient σ(y) − z.
    fastloss_masked_kernel _Nonnull bernoulli_nll_logits;

    /// |x − t| / (t + 10⁻⁶). A metric: `scale`, `gradient` and `mode` are ignored.
    fastloss_masked_kernel _Nonnull masked_relative_error;

    /// Cross-entropy of one row: logsumexp(z/τ) − z[label]/τ with 1/τ = `inverse_temperature`; the gradient
    /// is `scale`·(softmax(z/τ) − onehot(label)). `gradient` may be `logits` itself. `label` must be below
    /// `classes`.
    double (*_Nonnull softmax_cross_entropy)(
        const float *_Nonnull logits, size_t classes, size_t label, float inverse_temperature, float scale,
        float *_Nullable gradient, fastloss_write_mode mode);

    /// The sum of that loss at τ = 1 over the rows of a rows × classes matrix, and the gradient of every row.
    /// A row whose label is `ignored_label` is not read, and its gradient is 0. Every other label must lie in
    /// 0..<classes. `gradient` may not overlap an input.
    double (*_Nonnull softmax_cross_entropy_rows)(
        const float *_Nonnull logits, const int32_t *_Nonnull labels, size_t rows, size_t classes,
        int32_t ignored_label, float scale, float *_Nullable gradient, fastloss_write_mode mode);

    /// Σ x² in double.
    double (*_Nonnull sum_of_squares)(const float *_Nonnull x, size_t count);

    /// Σ a·b in double.
    double (*_Nonnull dot)(const float *_Nonnull a, const float *_Nonnull b, size_t count);

    /// y = factor·x (or y += factor·x). Each product is formed in double and rounded once. `y` may be `x`.
    void (*_Nonnull scale)(
        const float *_Nonnull x, size_t count, double factor, float *_Nonnull y, fastloss_write_mode mode);

    /// The backward pass of y = x/‖x‖ for one row: gradient = (g − along·y)·inverse_norm with along = y·g. If
    /// the norm was raised to a floor and so does not depend on x, `along` is 0. `gradient` may be
    /// `upstream`.
    void (*_Nonnull project_out)(
        const float *_Nonnull upstream, const float *_Nonnull unit, size_t count, double along,
        double inverse_norm, float *_Nonnull gradient, fastloss_write_mode mode);

    /// A block of elastic cell similarity, rows × columns with `stride` elements between rows. Returns
    /// Σ (relu(s) − threshold)². Unless `mode` is FASTLOSS_NO_OUTPUT, replaces s by s > 0 ? s − threshold :
    /// 0, half the derivative of its term. NaN stays NaN.
    double (*_Nonnull elastic_cell_similarity)(
        float *_Nonnull similarities, size_t rows, size_t columns, size_t stride, float threshold,
        fastloss_write_mode mode);

    /// target[j][i] = source[i][j] for a rows × columns source. Strides count elements between rows.
    void (*_Nonnull transpose)(
        const float *_Nonnull source, size_t rows, size_t columns, size_t source_stride,
        float *_Nonnull target, size_t target_stride);

    /// Copies rows × columns elements side by side: target[i·columns + j] = source[i][j]. Rows to come are
    /// prefetched, for sources whose rows are far apart.
    void (*_Nonnull copy_rows)(
        const float *_Nonnull source, size_t rows, size_t columns, size_t source_stride,
        float *_Nonnull target);

    /// target[i][j] = source[i][j] − row[j], and zeros from `columns` to `target_stride`. Rows to come are
    /// prefetched.
    void (*_Nonnull subtract_row)(
        const float *_Nonnull source, size_t rows, size_t columns, size_t source_stride,
        const float *_Nonnull row, float *_Nonnull target, size_t target_stride);

    /// Σ x over the selected elements.
    double (*_Nonnull masked_sum)(const float *_Nonnull x, const bool *_Nonnull mask, size_t count);

    /// indicators[i] = mask[i] ? 1 : 0, for products with masks.
    void (*_Nonnull mask_indicators)(const bool *_Nonnull mask, size_t count, float *_Nonnull indicators);

    /// target[l][k] = masks[k][l] ? 1 : 0 for `count` masks of `length` elements each, one after the other.
    /// A row of `target` holds `target_stride` elements, a multiple of 16; those beyond `count` become 0.
    void (*_Nonnull transposed_mask_indicators)(
        const bool *_Nonnull masks, size_t count, size_t length, float *_Nonnull target,
        size_t target_stride);

    /// sums[d] = factor·Σₗ weights[l]·rows[l][d] over `count` rows. Sums are formed in double and rounded
    /// once. Without `weights` every row has weight 1.
    void (*_Nonnull weighted_row_sum)(
        const float *_Nonnull rows, size_t count, size_t width, const float *_Nullable weights, double factor,
        float *_Nonnull sums);

    /// gradient[l][d] = weights[l]·x[d] for `count` rows, the backward pass of `weighted_row_sum`. With
    /// `streaming`, an overwritten gradient bypasses the caches. `gradient` may not overlap `x`.
    void (*_Nonnull weighted_row_sum_gradient)(
        const float *_Nonnull x, size_t width, const float *_Nullable weights, size_t count,
        float *_Nonnull gradient, fastloss_write_mode mode, bool streaming);

    /// values = f(values + bias), one row of a layer in place; without a bias f(values).
    void (*_Nonnull activate)(
        float *_Nonnull values, const float *_Nullable bias, size_t count, fastloss_activation activation);

    /// gradients *= f′, with f′ from the `outputs` of the activation.
    void (*_Nonnull activation_gradient)(
        float *_Nonnull gradients, const float *_Nonnull outputs, size_t count,
        fastloss_activation activation);

    /// The backward pass of y_r = weights·f(x_r) for rows whose f(x) is in `outputs`: replaces them by the
    /// gradient dy_r·weights·f′, and overwrites weight_gradient with Σ_r dy_r·f(x_r), in float, so for at
    /// most some dozens of rows.
    void (*_Nonnull output_row_gradient)(
        float *_Nonnull outputs, size_t rows, size_t width, size_t stride, const float *_Nonnull weights,
        const float *_Nonnull row_gradients, fastloss_activation activation, float *_Nonnull weight_gradient);

    /// sums[i] += Σ rows[r][i] over `count` rows that begin `stride` elements apart.
    void (*_Nonnull add_rows)(
        const float *_Nonnull rows, size_t count, size_t width, size_t stride, double *_Nonnull sums);

    /// Σ weights·f(cell + gene), with f(x) = x > 0 ? x : slope·x: see hidden_query.c.
    double (*_Nonnull hidden_query)(
        const float *_Nonnull cell, const float *_Nonnull gene, const float *_Nonnull weights, size_t count,
        float slope);

    /// Its backward pass for one token: adds the gradient of cell + gene to `sums`, and that of the weights
    /// to `weight_sums`, unless NULL. Returns the token's share of the slope's gradient.
    double (*_Nonnull hidden_query_gradient)(
        const float *_Nonnull cell, const float *_Nonnull gene, const float *_Nonnull weights, size_t count,
        float slope, float gradient, double *_Nonnull sums, double *_Nullable weight_sums);

    /// Layer normalisation of one row (see layer_norm.c): writes n and y, and returns 1/√(s² + ε). `count`
    /// is not 0, and nothing overlaps.
    float (*_Nonnull layer_norm)(
        const float *_Nonnull x, size_t count, const float *_Nonnull weight, const float *_Nonnull bias,
        float *_Nonnull normalised, float *_Nonnull y);

    /// The backward pass of `layer_norm`: dx, and the row's share of the parameters' gradients.
    void (*_Nonnull layer_norm_gradient)(
        const float *_Nonnull dy, const float *_Nonnull normalised, size_t count, float inverse,
        const float *_Nonnull weight, double *_Nonnull weight_sums, double *_Nonnull bias_sums,
        float *_Nonnull dx);

    /// values[i] = elements[i] as floats.
    void (*_Nonnull widen)(
        const void *_Nonnull elements, size_t count, float *_Nonnull values, fastloss_element element);

    /// elements[i] = values[i] (or += values[i]), each sum rounded to the type once more.
    void (*_Nonnull narrow)(
        const float *_Nonnull values, size_t count, void *_Nonnull elements, fastloss_write_mode mode,
        fastloss_element element);

    /// Writes or adds one value to `count` elements.
    void (*_Nonnull fill)(
        float value, size_t count, void *_Nonnull elements, fastloss_write_mode mode,
        fastloss_element element);
} fastloss_kernels;

/// The most capable instruction set that this build has kernels for and that this processor and operating
/// system run without a request: AVX-512 at most.
fastloss_isa fastloss_best_isa(void);

/// Whether this build has kernels for `isa` that this processor and operating system run. For AMX, the first
/// call asks Linux to let this process use its tiles. The permission holds for every thread and for forked
/// processes, and signal handlers then need larger stacks.
bool fastloss_runs(fastloss_isa isa);

/// The kernels of `isa`, or NULL if it does not run.
const fastloss_kernels *_Nullable fastloss_kernels_for(fastloss_isa isa);

#ifdef __cplusplus
}
#endif

#endif
