// The losses: masked values, classification, cell embeddings. Included by fastloss.h.

#ifndef FASTLOSS_LOSSES_H
#define FASTLOSS_LOSSES_H

#include "common.h"

#ifdef __cplusplus
extern "C" {
#endif

// -----------------------------------------------------------------------------------------------------------
// Masked value losses
// -----------------------------------------------------------------------------------------------------------

/// The options of a masked loss or masked reduction.
typedef struct fastloss_masked_options {
    size_t size;                        ///< sizeof(fastloss_masked_options)
    fastloss_reduction reduction;       ///< mean
    fastloss_empty_rule when_empty;     ///< error
    fastloss_element_type predictions;  ///< float32; the type of predictions and gradient, for losses alone
    int32_t reserved;                   ///< 0
} fastloss_masked_options;

/// The defaults.
#define FASTLOSS_MASKED_OPTIONS                                                      \
    {sizeof(fastloss_masked_options), FASTLOSS_REDUCTION_MEAN, FASTLOSS_EMPTY_ERROR, \
     FASTLOSS_ELEMENT_FLOAT32, 0}

/// Mean squared error over a mask (scGPT: masked_mse_loss; MLM, MGM, GEP, MVC, GEPC).
///
///     L = sum m (x - t)^2 / M        dL/dx = 2 m (x - t) / M
///
/// Time O(B L); scratch memory of 16 bytes per 4,096 elements.
///
/// \param rows, columns  B and L, at least 0.
/// \param predictions    B x L elements of the type `options->predictions`.
/// \param targets        B x L.
/// \param mask           B x L, or NULL to select every element and ignore `mask_stride`.
/// \param options        NULL: mean, error when empty, float32 predictions.
/// \param gradient       B x L elements of the predictions' type; NULL: none.
/// \param workspace      NULL: the calling thread's own.
/// \param loss           receives the value and M.
/// \return EMPTY_SELECTION, INVALID_SHAPE, INVALID_PARAMETER (scale not finite), OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_masked_mse(
    int64_t rows, int64_t columns, const float *predictions, int64_t predictions_stride, const float *targets,
    int64_t targets_stride, const bool *mask, int64_t mask_stride, const fastloss_masked_options *options,
    const fastloss_gradient *gradient, fastloss_workspace *workspace, fastloss_loss_value *loss);

/// `fastloss_masked_mse` per cell: one mean or sum for each row.
///
/// Row b of the gradient is scale * d(value of cell b) / d(predictions of cell b). `when_empty` applies to
/// each row.
///
/// \param values          receives B values.
/// \param selected_count  receives the number of selected elements of all cells; may be NULL.
/// Other parameters and statuses as `fastloss_masked_mse`.
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
/// Other parameters and statuses as `fastloss_masked_mse`; also PROBABILITY_OUT_OF_RANGE.
FASTLOSS_API fastloss_status fastloss_bernoulli_nll(
    int64_t rows, int64_t columns, const float *predictions, int64_t predictions_stride, const float *targets,
    int64_t targets_stride, const bool *mask, int64_t mask_stride, const fastloss_masked_options *options,
    const fastloss_gradient *gradient, fastloss_workspace *workspace, fastloss_loss_value *loss);

/// `fastloss_bernoulli_nll` per cell; parameters as `fastloss_masked_mse_per_cell`.
FASTLOSS_API fastloss_status fastloss_bernoulli_nll_per_cell(
    int64_t rows, int64_t columns, const float *predictions, int64_t predictions_stride, const float *targets,
    int64_t targets_stride, const bool *mask, int64_t mask_stride, const fastloss_masked_options *options,
    const fastloss_gradient *gradient, fastloss_workspace *workspace, float *values, int64_t *selected_count);

/// Bernoulli negative log-likelihood from logits: numerically stable, without the clamp. The gradient is that
/// of the logits.
///
///     L = sum m (log(1 + exp y) - z y) / M        dL/dy = (m / M) (sigmoid(y) - z)
///
/// Equals `fastloss_bernoulli_nll` of p = sigmoid(y) for |y| <= 15.94; beyond, that function clamps.
///
/// \param predictions  B x L logits; NaN propagates.
/// Other parameters and statuses as `fastloss_masked_mse`.
FASTLOSS_API fastloss_status fastloss_bernoulli_nll_logits(
    int64_t rows, int64_t columns, const float *predictions, int64_t predictions_stride, const float *targets,
    int64_t targets_stride, const bool *mask, int64_t mask_stride, const fastloss_masked_options *options,
    const fastloss_gradient *gradient, fastloss_workspace *workspace, fastloss_loss_value *loss);

/// `fastloss_bernoulli_nll_logits` per cell; parameters as `fastloss_masked_mse_per_cell`.
FASTLOSS_API fastloss_status fastloss_bernoulli_nll_logits_per_cell(
    int64_t rows, int64_t columns, const float *predictions, int64_t predictions_stride, const float *targets,
    int64_t targets_stride, const bool *mask, int64_t mask_stride, const fastloss_masked_options *options,
    const fastloss_gradient *gradient, fastloss_workspace *workspace, float *values, int64_t *selected_count);

/// Masked relative error, a metric without a gradient (scGPT: masked_relative_error, `mre`).
///
///     E = sum m |x - t| / (t + 1e-6) / M
///
/// Parameters and statuses as `fastloss_masked_mse`, without a gradient.
FASTLOSS_API fastloss_status fastloss_masked_relative_error(
    int64_t rows, int64_t columns, const float *predictions, int64_t predictions_stride, const float *targets,
    int64_t targets_stride, const bool *mask, int64_t mask_stride, const fastloss_masked_options *options,
    fastloss_workspace *workspace, fastloss_loss_value *loss);

/// `fastloss_masked_relative_error` per cell; parameters as `fastloss_masked_mse_per_cell`.
FASTLOSS_API fastloss_status fastloss_masked_relative_error_per_cell(
    int64_t rows, int64_t columns, const float *predictions, int64_t predictions_stride, const float *targets,
    int64_t targets_stride, const bool *mask, int64_t mask_stride, const fastloss_masked_options *options,
    fastloss_workspace *workspace, float *values, int64_t *selected_count);

// -----------------------------------------------------------------------------------------------------------
// Classification
// -----------------------------------------------------------------------------------------------------------

/// The default ignored label, the same as PyTorch's.
#define FASTLOSS_IGNORED_LABEL (-100)

/// The options of cross-entropy.
typedef struct fastloss_cross_entropy_options {
    size_t size;                     ///< sizeof(fastloss_cross_entropy_options)
    fastloss_reduction reduction;    ///< mean
    fastloss_empty_rule when_empty;  ///< error
    int32_t ignored_label;           ///< -100; the loss skips rows with this label
    int32_t reserved;                ///< 0
    fastloss_element_type logits;    ///< float32; the type of logits and gradient
    int32_t reserved_last;           ///< 0
} fastloss_cross_entropy_options;

/// The defaults.
#define FASTLOSS_CROSS_ENTROPY_OPTIONS       \
    {sizeof(fastloss_cross_entropy_options), \
     FASTLOSS_REDUCTION_MEAN,                \
     FASTLOSS_EMPTY_ERROR,                   \
     FASTLOSS_IGNORED_LABEL,                 \
     0,                                      \
     FASTLOSS_ELEMENT_FLOAT32,               \
     0}

/// Cross-entropy of logits against labels (scGPT: criterion_cls, criterion_dab; CLS).
///
///     L = sum over rows with y_i != ignored of (log sum_j exp z_ij - z_i,y_i) / N,  N = number of such rows
///     dL/dz = (softmax(z) - onehot(y)) / N, and 0 in ignored rows
///
/// Ignored rows are not read. A logit of -Inf has probability 0. A NaN or +Inf makes the row's loss and
/// gradient NaN.
///
/// \param rows, classes  B and C; C at least 1 unless B is 0.
/// \param logits         B x C elements of the type `options->logits`.
/// \param labels         B labels, each in 0 ... C - 1 or the ignored label, contiguous.
/// \param options        NULL: mean, error when empty, -100 ignored, float32 logits.
/// \param gradient       B x C elements of the logits' type; NULL: none.
/// \param workspace      NULL: the calling thread's own.
/// \param loss           receives the value and N.
/// \return LABEL_OUT_OF_RANGE, EMPTY_SELECTION, INVALID_SHAPE, INVALID_PARAMETER (scale not finite),
///         OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_cross_entropy(
    int64_t rows, int64_t classes, const float *logits, int64_t logits_stride, const int32_t *labels,
    const fastloss_cross_entropy_options *options, const fastloss_gradient *gradient,
    fastloss_workspace *workspace, fastloss_loss_value *loss);

/// The backward pass of gradient reversal (scGPT: grad_reverse). Its forward pass is the identity.
///
///     reversed = -lambda * scale * gradient
///
/// \param rows, columns  any shape.
/// \param gradient       rows x columns: the gradient from the discriminator.
/// \param lambda         finite; upstream uses 1.
/// \param reversed       rows x columns, with its scale and update; not NULL.
/// \param workspace      NULL: the calling thread's own. Used only for a matrix with gaps between rows.
/// \return INVALID_PARAMETER (lambda or scale not finite), INVALID_SHAPE, OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_gradient_reversal(
    int64_t rows, int64_t columns, const float *gradient, int64_t gradient_stride, float lambda,
    const fastloss_gradient *reversed, fastloss_workspace *workspace);

/// The options of the domain-adversarial loss.
typedef struct fastloss_domain_adversarial_options {
    size_t size;                     ///< sizeof(fastloss_domain_adversarial_options)
    fastloss_reduction reduction;    ///< mean
    fastloss_empty_rule when_empty;  ///< error
    int32_t ignored_label;           ///< -100
    float lambda;                    ///< 1; finite
    fastloss_element_type logits;    ///< float32; the type of logits and gradients
    int32_t reserved;                ///< 0
} fastloss_domain_adversarial_options;

/// The defaults.
#define FASTLOSS_DOMAIN_ADVERSARIAL_OPTIONS       \
    {sizeof(fastloss_domain_adversarial_options), \
     FASTLOSS_REDUCTION_MEAN,                     \
     FASTLOSS_EMPTY_ERROR,                        \
     FASTLOSS_IGNORED_LABEL,                      \
     1.0f,                                        \
     FASTLOSS_ELEMENT_FLOAT32,                    \
     0}

/// Cross-entropy of batch labels behind a gradient reversal (DAB, DAR).
///
///     discriminator_gradient = +scale dL/dz            for the discriminator's parameters
///     embedding_gradient     = -lambda scale dL/dz     for everything before the reversal
///
/// L is that of `fastloss_cross_entropy`. Each gradient has its own scale.
///
/// \param rows, classes           B cells, C batches.
/// \param logits                  B x C logits of the discriminator, of the type `options->logits`.
/// \param labels                  B batch labels, contiguous.
/// \param options                 NULL: as cross-entropy, lambda 1.
/// \param discriminator_gradient  B x C elements of the logits' type; NULL: none.
/// \param embedding_gradient      B x C; NULL: none.
/// \param workspace               NULL: the calling thread's own.
/// \param loss                    receives the value and the number of rows without the ignored label.
/// \return as `fastloss_cross_entropy`; INVALID_PARAMETER (lambda not finite).
FASTLOSS_API fastloss_status fastloss_domain_adversarial(
    int64_t rows, int64_t classes, const float *logits, int64_t logits_stride, const int32_t *labels,
    const fastloss_domain_adversarial_options *options, const fastloss_gradient *discriminator_gradient,
    const fastloss_gradient *embedding_gradient, fastloss_workspace *workspace, fastloss_loss_value *loss);

// -----------------------------------------------------------------------------------------------------------
// Cell embeddings
// -----------------------------------------------------------------------------------------------------------

/// The options of elastic cell similarity.
typedef struct fastloss_elastic_options {
    size_t size;                       ///< sizeof(fastloss_elastic_options)
    float threshold;                   ///< beta in [-1, 1]; 0.8, as in scGPT's integration
    fastloss_empty_rule when_empty;    ///< error; applies to B = 0
    fastloss_element_type embeddings;  ///< float32; the type of embeddings and gradient
    int32_t reserved;                  ///< 0
    fastloss_certificate certificate;  ///< automatic
    int32_t reserved_last;             ///< 0
    /// NULL, or receives how many of the B^2 pairs were summed in closed form. A failed call does not write
    /// it. Threads that share the options would write to the same place.
    int64_t *certified_pairs;
} fastloss_elastic_options;

/// The defaults.
#define FASTLOSS_ELASTIC_OPTIONS       \
    {sizeof(fastloss_elastic_options), \
     0.8f,                             \
     FASTLOSS_EMPTY_ERROR,             \
     FASTLOSS_ELEMENT_FLOAT32,         \
     0,                                \
     FASTLOSS_CERTIFICATE_AUTOMATIC,   \
     0,                                \
     NULL}

/// Elastic cell similarity (scGPT: ECS; scFormer: ESC).
///
///     N = E / max(|E|, 1e-12) row by row,  S = N N^T,  C = relu(S) with C_ii = 0
///     L = sum_ij [1 - (C_ij - beta)^2] / B^2
///     G_ij = -(2 / B^2) (C_ij - beta) for i != j and S_ij > 0, else 0;  dN = 2 G N
///     dE_i = (dN_i - N_i (N_i . dN_i)) / |E_i|
///
/// If |E_i| < 1e-12, then N_i = E_i / 1e-12 and dE_i = dN_i / 1e-12: the clamped norm is a constant, as in
/// PyTorch's normalize. A zero row has no positive similarity, so its gradient is 0. The denominator counts
/// the diagonal, as upstream's does.
///
/// Up to 1,024 rows the B x B matrix is stored, and scratch memory is about B (2 D + B) floats. Beyond, it is
/// streamed, and scratch memory is about B D floats, or 2 B D if the gradient accumulates or is 16-bit.
/// There, `options->certificate` lets blocks of rows whose similarities are proved to have one sign be summed
/// in closed form, without their similarities: 3 B D^2 flops for a batch in one cone, instead of 3 B^2 D.
///
/// \param rows, columns  B cells of D columns, both below 2^31.
/// \param embeddings     B x D elements of the type `options->embeddings`.
/// \param options        NULL: beta 0.8, error when empty, float32 embeddings.
/// \param gradient       B x D elements of the embeddings' type; NULL: none.
/// \param workspace      NULL: the calling thread's own.
/// \param loss           receives the value and B.
/// \return INVALID_PARAMETER (threshold, scale), EMPTY_SELECTION (B = 0), INVALID_SHAPE, DIMENSION_TOO_LARGE,
///         OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_elastic_cell_similarity(
    int64_t rows, int64_t columns, const float *embeddings, int64_t embeddings_stride,
    const fastloss_elastic_options *options, const fastloss_gradient *gradient, fastloss_workspace *workspace,
    fastloss_loss_value *loss);

/// The options of contrastive cell embedding.
typedef struct fastloss_contrastive_options {
    size_t size;                       ///< sizeof(fastloss_contrastive_options)
    float temperature;                 ///< tau, finite and at least FLT_MIN; 0.5, as upstream
    fastloss_empty_rule when_empty;    ///< error; applies to B = 0
    fastloss_element_type embeddings;  ///< float32; the type of both embeddings and gradients
    int32_t reserved;                  ///< 0
} fastloss_contrastive_options;

/// The defaults.
#define FASTLOSS_CONTRASTIVE_OPTIONS                                                                \
    {sizeof(fastloss_contrastive_options), 0.5f, FASTLOSS_EMPTY_ERROR, FASTLOSS_ELEMENT_FLOAT32, 0}

/// Contrastive loss between two encodings of the same cells (scGPT, scFormer: CCE).
///
///     N = E / max(|E|, 1e-8) row by row, of both;  A = N1 N2^T / tau
///     L = mean over i of (log sum_j exp A_ij - A_ii)
///     dA = (softmax of each row of A - I) / B;  dN1 = dA N2 / tau;  dN2 = dA^T N1 / tau
///     dE_i = (dN_i - N_i (N_i . dN_i)) / |E_i| on both sides
///
/// If |E_i| < 1e-8, then N_i = E_i / 1e-8 and dE_i = (dN_i - u_i (N_i . dN_i)) / 1e-8 with u_i = E_i / |E_i|:
/// the gradient projects with the unclamped norm, as PyTorch's cosine_similarity does. A zero row has N_i = 0
/// and dE_i = dN_i / 1e-8, which may be nonzero.
///
/// The softmax normalises the rows of A only, so the loss is not symmetric in its arguments. The B x B matrix
/// is never stored: scratch memory is about (3 D + 256) B floats, and B D more for each gradient that
/// accumulates or is 16-bit.
///
/// \param rows, columns    B cells of D columns, both below 2^31.
/// \param first            B x D elements of the type `options->embeddings`.
/// \param second           B x D; row i encodes the same cell as row i of `first`.
/// \param options          NULL: tau 0.5, error when empty, float32 embeddings.
/// \param first_gradient   B x D elements of the embeddings' type; NULL: none.
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

/// The cosine similarities S = N N^T of elastic cell similarity, for inspection. S is exactly symmetric. A
/// zero row has similarity 0 to every row, including itself.
///
/// \param rows, columns  B rows of D columns, both below 2^31.
/// \param embeddings     B x D.
/// \param similarities   receives B x B.
/// \param workspace      NULL: the calling thread's own.
/// \return INVALID_SHAPE, DIMENSION_TOO_LARGE, OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_cosine_similarity(
    int64_t rows, int64_t columns, const float *embeddings, int64_t embeddings_stride, float *similarities,
    int64_t similarities_stride, fastloss_workspace *workspace);

#ifdef __cplusplus
}
#endif

#endif
