// Masked reductions and the pooling of token states. Included by fastloss.h.

#ifndef FASTLOSS_POOLING_H
#define FASTLOSS_POOLING_H

#include "common.h"

#ifdef __cplusplus
extern "C" {
#endif

// -----------------------------------------------------------------------------------------------------------
// Reductions and pooling
// -----------------------------------------------------------------------------------------------------------

/// Sums or means of B rows under K masks. All rows share the masks.
///
///     sum_bk = sum_l m_kl x_bl        mean_bk = sum_bk / sum_l m_kl
///
/// `when_empty` applies to each empty mask, for sums and for means. B = 0 or K = 0 is valid and writes
/// nothing.
///
/// \param rows, columns, mask_count  B, L and K; L and K below 2^31.
/// \param values                     B x L.
/// \param masks                      K x L; not NULL unless it has no elements.
/// \param options                    NULL: mean, error for an empty mask.
/// \param outputs                    receives B x K.
/// \param workspace                  NULL: the calling thread's own.
/// \return EMPTY_SELECTION (the message gives the mask as a row), INVALID_SHAPE, DIMENSION_TOO_LARGE,
///         OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_masked_reductions(
    int64_t rows, int64_t columns, int64_t mask_count, const float *values, int64_t values_stride,
    const bool *masks, int64_t masks_stride, const fastloss_masked_options *options, float *outputs,
    int64_t outputs_stride, fastloss_workspace *workspace);

/// The backward pass of `fastloss_masked_reductions`.
///
///     sums   gradient_bl = scale sum_k m_kl g_bk
///     means  gradient_bl = scale sum_k m_kl g_bk / sum_j m_kj
///
/// \param output_gradient  g, B x K.
/// \param gradient         B x L; not NULL.
/// Other parameters and statuses as `fastloss_masked_reductions`; also INVALID_PARAMETER (scale not finite).
FASTLOSS_API fastloss_status fastloss_masked_reductions_gradient(
    int64_t rows, int64_t columns, int64_t mask_count, const float *output_gradient,
    int64_t output_gradient_stride, const bool *masks, int64_t masks_stride,
    const fastloss_masked_options *options, const fastloss_gradient *gradient, fastloss_workspace *workspace);

/// How token states are reduced to one embedding per cell.
typedef int32_t fastloss_pooling;
enum {
    FASTLOSS_POOLING_CLS = 0,      ///< the state of the first token (scGPT: `cls`)
    FASTLOSS_POOLING_AVERAGE = 1,  ///< the mean over all tokens, padding included (scGPT: `avg-pool`)
};

/// Pools token states h (B, L, D) into one embedding of D numbers per cell.
///
///     cls      e_b = h_b0            average  e_b = sum_l h_bl / L
///
/// State (b, l, d) is at b * cell_stride + l * token_stride + d. If token_stride == D and cell_stride == L *
/// D, nothing is copied. Otherwise cls packs the first tokens only.
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

/// The backward pass of `fastloss_token_pooling`.
///
///     cls      gradient_b0 = scale g_b, and 0 for all other tokens
///     average  gradient_bl = scale g_b / L
///
/// \param embedding_gradient  g, B x D.
/// \param gradient            B x L x D, with its strides (FASTLOSS_STATES_GRADIENT); not NULL.
/// Other parameters and statuses as `fastloss_token_pooling`; also INVALID_PARAMETER (scale not finite).
FASTLOSS_API fastloss_status fastloss_token_pooling_gradient(
    fastloss_pooling pooling, int64_t cells, int64_t tokens, int64_t width, const float *embedding_gradient,
    int64_t embedding_gradient_stride, const fastloss_gradient *gradient, fastloss_workspace *workspace);

/// Pools token states into K weighted sums per cell.
///
///     u_bk = sum_l v_bkl h_bl
///
/// Weights multiply; they do not select. If L is 0, the sums are 0.
///
/// \param cells, tokens, width, weightings  B, L, D and K; L, D and K below 2^31.
/// \param states      B x L x D, with strides as in `fastloss_token_pooling`.
/// \param weights     (B K) x L: the K rows of each cell are consecutive.
/// \param embeddings  receives (B K) x D.
/// \param workspace   NULL: the calling thread's own.
/// \return INVALID_SHAPE, DIMENSION_TOO_LARGE, OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_weighted_token_pooling(
    int64_t cells, int64_t tokens, int64_t width, int64_t weightings, const float *states,
    int64_t states_token_stride, int64_t states_cell_stride, const float *weights, int64_t weights_stride,
    float *embeddings, int64_t embeddings_stride, fastloss_workspace *workspace);

/// The gradient of weighted sums with respect to the states:  gradient_bl = scale sum_k v_bkl g_bk.
///
/// \param embedding_gradient  g, (B K) x D.
/// \param gradient            B x L x D, with its strides (FASTLOSS_STATES_GRADIENT); not NULL.
/// Other parameters and statuses as `fastloss_weighted_token_pooling`; also INVALID_PARAMETER (scale not
/// finite).
FASTLOSS_API fastloss_status fastloss_weighted_token_pooling_states_gradient(
    int64_t cells, int64_t tokens, int64_t width, int64_t weightings, const float *embedding_gradient,
    int64_t embedding_gradient_stride, const float *weights, int64_t weights_stride,
    const fastloss_gradient *gradient, fastloss_workspace *workspace);

/// The gradient of weighted sums with respect to the weights:  gradient_bkl = scale h_bl . g_bk.
///
/// \param embedding_gradient  g, (B K) x D.
/// \param gradient            (B K) x L; not NULL.
/// Other parameters and statuses as `fastloss_weighted_token_pooling`; also INVALID_PARAMETER (scale not
/// finite).
FASTLOSS_API fastloss_status fastloss_weighted_token_pooling_weights_gradient(
    int64_t cells, int64_t tokens, int64_t width, int64_t weightings, const float *embedding_gradient,
    int64_t embedding_gradient_stride, const float *states, int64_t states_token_stride,
    int64_t states_cell_stride, const fastloss_gradient *gradient, fastloss_workspace *workspace);

/// Pools token states into K weighted sums per cell, each normalized to length 1 (scGPT: `w-pool`, K = 1).
///
///     u_bk = sum_l v_bkl h_bl        e_bk = u_bk / max(|u_bk|, 1e-12)
///
/// \param embeddings  receives (B K) x D.
/// \param norms       receives the B K lengths |u|, contiguous and before the floor, for the backward passes.
/// Other parameters and statuses as `fastloss_weighted_token_pooling`.
FASTLOSS_API fastloss_status fastloss_normalized_weighted_token_pooling(
    int64_t cells, int64_t tokens, int64_t width, int64_t weightings, const float *states,
    int64_t states_token_stride, int64_t states_cell_stride, const float *weights, int64_t weights_stride,
    float *embeddings, int64_t embeddings_stride, double *norms, fastloss_workspace *workspace);

/// The gradient of normalized sums with respect to the states.
///
///     du_bk = (g_bk - e_bk (e_bk . g_bk)) / |u_bk|, or g_bk / 1e-12 if |u_bk| < 1e-12
///     gradient_bl = scale sum_k v_bkl du_bk
///
/// \param embedding_gradient  g, (B K) x D.
/// \param embeddings          the (B K) x D embeddings of the forward pass.
/// \param norms               the B K norms of the forward pass.
/// \param gradient            B x L x D, with its strides (FASTLOSS_STATES_GRADIENT); not NULL.
/// Other parameters and statuses as `fastloss_weighted_token_pooling`; also INVALID_PARAMETER (scale not
/// finite).
FASTLOSS_API fastloss_status fastloss_normalized_weighted_token_pooling_states_gradient(
    int64_t cells, int64_t tokens, int64_t width, int64_t weightings, const float *embedding_gradient,
    int64_t embedding_gradient_stride, const float *embeddings, int64_t embeddings_stride,
    const double *norms, const float *weights, int64_t weights_stride, const fastloss_gradient *gradient,
    fastloss_workspace *workspace);

/// The gradient of normalized sums with respect to the weights:  gradient_bkl = scale h_bl . du_bk, with du
/// as in `fastloss_normalized_weighted_token_pooling_states_gradient`.
///
/// \param gradient  (B K) x L; not NULL.
/// Other parameters and statuses as `fastloss_normalized_weighted_token_pooling_states_gradient`.
FASTLOSS_API fastloss_status fastloss_normalized_weighted_token_pooling_weights_gradient(
    int64_t cells, int64_t tokens, int64_t width, int64_t weightings, const float *embedding_gradient,
    int64_t embedding_gradient_stride, const float *embeddings, int64_t embeddings_stride,
    const double *norms, const float *states, int64_t states_token_stride, int64_t states_cell_stride,
    const fastloss_gradient *gradient, fastloss_workspace *workspace);

#ifdef __cplusplus
}
#endif

#endif
