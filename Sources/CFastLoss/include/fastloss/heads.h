// The task heads of scGPT: outputs, gradients, and heads fused with their losses. Included by fastloss.h.
//
// A head is a struct of sizes and of pointers to its parameters, which have PyTorch's layout: the weight of a
// linear layer is outputs x inputs, row-major and contiguous. The members have the names of scGPT's modules.
// Parameters are neither copied nor kept.
//
// Each head has three functions. `_predict` (of the encoder, `_embed`) computes the outputs. `_gradient`
// takes the gradients of the outputs, runs the forward pass again, and computes the gradients of inputs and
// parameters: the backward pass of an automatic differentiation. `_loss` computes the losses of the outputs
// and, if they are wanted, all gradients, in one pass that stores neither outputs nor activations of all
// tokens.
//
// A gradients struct parallels the inputs and parameters. A NULL pointer in it means that this gradient is
// not wanted. `scale` multiplies all gradients, but not the losses. `update` applies to all gradients.
//
// States and embeddings may be 16-bit, each of its own type: `..._type` says what their pointer, and that of
// their gradient, really points to. They are widened as they are read; a gradient is rounded once.
// Parameters, their gradients, targets and outputs are float.
//
// Symbols: B cells, L tokens of each, D width, H hidden width, C classes, K batches, G genes.

#ifndef FASTLOSS_HEADS_H
#define FASTLOSS_HEADS_H

#include "common.h"
#include "losses.h"

#ifdef __cplusplus
extern "C" {
#endif

// -----------------------------------------------------------------------------------------------------------
// Layers
// -----------------------------------------------------------------------------------------------------------

/// The parameters of a linear layer, y = W x + b, or of a layer normalization with epsilon 1e-5. This struct
/// never changes.
typedef struct fastloss_layer {
    const float *weight;  ///< outputs x inputs; of a layer normalization, one element per column
    const float *bias;    ///< one element per output
} fastloss_layer;

/// The memory that receives the gradients of a layer's parameters; NULL: not wanted. This struct never
/// changes.
typedef struct fastloss_layer_gradient {
    float *weight;  ///< as many elements as the weight
    float *bias;    ///< as many elements as the bias
} fastloss_layer_gradient;

/// The losses of a decoder's outputs over the masked tokens, M.
typedef struct fastloss_decoder_losses {
    size_t size;           ///< sizeof(fastloss_decoder_losses), set by the caller
    double squared_error;  ///< mean squared error, as fastloss_masked_mse
    double nonzero;  ///< negative log-likelihood of "this gene is expressed"; NaN without explicit zeros
    double relative_error;   ///< mean relative error, as fastloss_masked_relative_error; no gradient
    int64_t selected_count;  ///< M
} fastloss_decoder_losses;

/// An empty result.
#define FASTLOSS_DECODER_LOSSES {sizeof(fastloss_decoder_losses), 0.0, 0.0, 0.0, 0}

/// The targets of a decoder's outputs, and the factors of the losses in the gradient:
/// squared_error_weight * MSE + nonzero_weight * NLL.
typedef struct fastloss_decoder_targets {
    size_t size;                 ///< sizeof(fastloss_decoder_targets)
    fastloss_view values;        ///< B x L; not read outside the mask
    float squared_error_weight;  ///< 1; finite
    float nonzero_weight;        ///< 1; finite
} fastloss_decoder_targets;

/// Targets with both factors 1.
#define FASTLOSS_DECODER_TARGETS(values, stride)                         \
    {sizeof(fastloss_decoder_targets), {(values), (stride)}, 1.0f, 1.0f}

// -----------------------------------------------------------------------------------------------------------
// The decoder of expression values from token states
// -----------------------------------------------------------------------------------------------------------

/// A perceptron with one output: Linear, LeakyReLU, Linear, LeakyReLU, Linear. This struct never changes.
typedef struct fastloss_perceptron {
    fastloss_layer first;   ///< scGPT: `0`; D x D, or D x 2D with batch embeddings; D
    fastloss_layer second;  ///< scGPT: `2`; D x D; D
    fastloss_layer third;   ///< scGPT: `4`; 1 x D; 1
} fastloss_perceptron;

/// The memory that receives the gradients of a perceptron's parameters. This struct never changes.
typedef struct fastloss_perceptron_gradient {
    fastloss_layer_gradient first;
    fastloss_layer_gradient second;
    fastloss_layer_gradient third;
} fastloss_perceptron_gradient;

/// The decoder of expression values from token states (scGPT: ExprDecoder; MLM, MGM, GEP).
///
///     x = h, or [h; e] with the embedding e of the cell's batch
///     prediction = fc(x)        logit of a value that is not zero = zero_logit(x)
typedef struct fastloss_expression_decoder {
    size_t size;                         ///< sizeof(fastloss_expression_decoder)
    int64_t width;                       ///< D, from 0 to 2^28
    bool explicit_zeros;                 ///< false; whether there is `zero_logit` and the output `nonzero`
    bool batch_embeddings;               ///< false; whether the first layers read [h; e]
    fastloss_nonzero_form nonzero_form;  ///< logits; the form of `nonzero`: probabilities have scGPT's clamp
    fastloss_empty_rule when_empty;      ///< error; the losses if no token is masked
    int32_t reserved;                    ///< 0
    fastloss_perceptron fc;
    fastloss_perceptron zero_logit;  ///< ignored without explicit zeros
} fastloss_expression_decoder;

/// A decoder of states of `width` elements, without explicit zeros and batch embeddings; no parameters yet.
#define FASTLOSS_EXPRESSION_DECODER(width)                                                   \
    {                                                                                        \
        sizeof(fastloss_expression_decoder), (width), false, false, FASTLOSS_NONZERO_LOGITS, \
            FASTLOSS_EMPTY_ERROR, 0, {{NULL, NULL}, {NULL, NULL}, {NULL, NULL}}, {           \
            {NULL, NULL}, {NULL, NULL}, { NULL, NULL }                                       \
        }                                                                                    \
    }

/// The inputs of an expression decoder. Only masked tokens are computed.
typedef struct fastloss_expression_decoder_inputs {
    size_t size;                                  ///< sizeof(fastloss_expression_decoder_inputs)
    int64_t cells;                                ///< B
    int64_t tokens;                               ///< L
    int64_t batch_count;                          ///< K; ignored without batch embeddings
    const float *states;                          ///< B x L x D, h; not read outside the mask
    int64_t states_token_stride;                  ///< at least D
    int64_t states_cell_stride;                   ///< at least (L - 1) * token_stride + D
    fastloss_mask_view mask;                      ///< B x L; NULL: all tokens
    fastloss_view batch_embeddings;               ///< K x D, e; one row for each batch, not for each cell
    const int32_t *batch_labels;                  ///< B rows of batch_embeddings, from 0 to K - 1
    fastloss_element_type states_type;            ///< float32; what `states` really points to
    fastloss_element_type batch_embeddings_type;  ///< float32; what `batch_embeddings` really points to
} fastloss_expression_decoder_inputs;

/// No inputs yet.
#define FASTLOSS_EXPRESSION_DECODER_INPUTS       \
    {sizeof(fastloss_expression_decoder_inputs), \
     0,                                          \
     0,                                          \
     0,                                          \
     NULL,                                       \
     0,                                          \
     0,                                          \
     {NULL, 0},                                  \
     {NULL, 0},                                  \
     NULL,                                       \
     FASTLOSS_ELEMENT_FLOAT32,                   \
     FASTLOSS_ELEMENT_FLOAT32}

/// The memory that receives the gradients of an expression decoder.
typedef struct fastloss_expression_decoder_gradients {
    size_t size;                             ///< sizeof(fastloss_expression_decoder_gradients)
    float scale;                             ///< 1; a finite factor of all gradients
    fastloss_update update;                  ///< overwrite
    float *states;                           ///< B x L x D; 0 outside the mask
    int64_t states_token_stride;             ///< as of the states
    int64_t states_cell_stride;              ///< as of the states
    fastloss_mutable_view batch_embeddings;  ///< K x D
    fastloss_perceptron_gradient fc;
    fastloss_perceptron_gradient zero_logit;  ///< NULL without explicit zeros
} fastloss_expression_decoder_gradients;

/// No gradients yet; scale 1, overwrite.
#define FASTLOSS_EXPRESSION_DECODER_GRADIENTS                                                       \
    {                                                                                               \
        sizeof(fastloss_expression_decoder_gradients), 1.0f, FASTLOSS_UPDATE_OVERWRITE, NULL, 0, 0, \
            {NULL, 0}, {{NULL, NULL}, {NULL, NULL}, {NULL, NULL}}, {                                \
            {NULL, NULL}, {NULL, NULL}, { NULL, NULL }                                              \
        }                                                                                           \
    }

/// Computes the outputs of the masked tokens. Outputs of other tokens keep their contents.
///
/// Time O(M D^2), scratch memory of some copies of the weights and of 48 tokens per worker.
///
/// \param decoder      the sizes and parameters.
/// \param inputs       the states, the mask and the batch embeddings.
/// \param predictions  receives B x L values.
/// \param nonzero      receives B x L logits or probabilities, as `nonzero_form` says. NULL: not wanted. Must
/// be
///                     NULL without explicit zeros.
/// \param workspace    NULL: the calling thread's own.
/// \return INVALID_SHAPE, INVALID_PARAMETER (a size out of range; `nonzero` without explicit zeros),
///         LABEL_OUT_OF_RANGE (a batch label), OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_expression_decoder_predict(
    const fastloss_expression_decoder *decoder, const fastloss_expression_decoder_inputs *inputs,
    float *predictions, int64_t predictions_stride, float *nonzero, int64_t nonzero_stride,
    fastloss_workspace *workspace);

/// Computes the gradients of a loss of the caller's, from the gradients of the outputs.
///
/// Time O(M D^2), scratch memory of some copies of the weights and of 1,536 tokens.
///
/// \param predictions_gradient  B x L; not read outside the mask.
/// \param nonzero_gradient      B x L, with respect to the logits or probabilities, as `nonzero_form` says;
///                              NULL without explicit zeros.
/// \param gradients             the gradients that are wanted; not NULL.
/// Other parameters and statuses as `fastloss_expression_decoder_predict`; also GRADIENT_WITHOUT_INPUT (of a
/// part that the decoder lacks), INVALID_PARAMETER (scale not finite; `nonzero_gradient` without explicit
/// zeros).
FASTLOSS_API fastloss_status fastloss_expression_decoder_gradient(
    const fastloss_expression_decoder *decoder, const fastloss_expression_decoder_inputs *inputs,
    const float *predictions_gradient, int64_t predictions_gradient_stride, const float *nonzero_gradient,
    int64_t nonzero_gradient_stride, const fastloss_expression_decoder_gradients *gradients,
    fastloss_workspace *workspace);

/// Computes the losses of the masked tokens and their gradients.
///
/// \param targets    the targets and the factors of the losses in the gradient.
/// \param gradients  the gradients that are wanted; NULL: none.
/// \param losses     receives the losses. The caller sets its `size` (FASTLOSS_DECODER_LOSSES).
/// Other parameters and statuses as `fastloss_expression_decoder_gradient`; also EMPTY_SELECTION,
/// INVALID_PARAMETER (a factor not finite), and PROBABILITY_OUT_OF_RANGE if a probability is NaN.
FASTLOSS_API fastloss_status fastloss_expression_decoder_loss(
    const fastloss_expression_decoder *decoder, const fastloss_expression_decoder_inputs *inputs,
    const fastloss_decoder_targets *targets, const fastloss_expression_decoder_gradients *gradients,
    fastloss_workspace *workspace, fastloss_decoder_losses *losses);

// -----------------------------------------------------------------------------------------------------------
// The decoder of expression values from the cell embedding
// -----------------------------------------------------------------------------------------------------------

/// How a cell embedding answers the query of a gene; scGPT's `arch_style`.
typedef int32_t fastloss_query_style;
enum {
    FASTLOSS_QUERY_INNER_PRODUCT = 0,           ///< "inner product"
    FASTLOSS_QUERY_INNER_PRODUCT_DETACHED = 1,  ///< "inner product, detach": no gradient of the genes
    FASTLOSS_QUERY_CONCAT = 2,                  ///< "concat query"
    FASTLOSS_QUERY_SUM = 3,                     ///< "sum query"
};

/// The decoder of expression values from the cell embedding and the genes' queries (scGPT: MVCDecoder; MVC,
/// GEPC).
///
///     q = sigmoid(gene2query(g)) of a gene's embedding g
///     inner product  prediction = (w q) . c        logit of a value that is not zero = w_zero_logit(q) . c
///     concat query   prediction = fc2(PReLU(fc1([c; q])))
///     sum query      prediction = fc2(PReLU(fc1(c + q)))
///
/// With batch embeddings e, [c; e] takes the place of c. The inner products alone have those and explicit
/// zeros. The style decides which parameters are read; others are ignored.
typedef struct fastloss_masked_value_decoder {
    size_t size;                         ///< sizeof(fastloss_masked_value_decoder)
    int64_t width;                       ///< D, from 0 to 2^28
    int64_t hidden_width;                ///< 64; H of the query styles, from 0 to 2^28
    fastloss_query_style style;          ///< inner product
    bool explicit_zeros;                 ///< false; whether there is `w_zero_logit` and the output `nonzero`
    bool batch_embeddings;               ///< false; whether the cell embedding is [c; e]
    fastloss_nonzero_form nonzero_form;  ///< logits; the form of `nonzero`: probabilities have scGPT's clamp
    fastloss_empty_rule when_empty;      ///< error; the losses if no token is masked
    fastloss_layer gene2query;           ///< D x D; D; of the concat query H x D; H
    const float *w_weight;               ///< D x D, or 2D x D with batch embeddings; no bias
    fastloss_layer w_zero_logit;         ///< the same shape as w_weight; D, or 2D
    fastloss_layer fc1;                  ///< concat query H x (D + H), sum query H x D; H
    const float *hidden_activation;      ///< 1, the slope of PReLU
    fastloss_layer fc2;                  ///< 1 x H; 1
} fastloss_masked_value_decoder;

/// An inner product without explicit zeros and batch embeddings; no parameters yet.
#define FASTLOSS_MASKED_VALUE_DECODER(width)                                                               \
    {                                                                                                      \
        sizeof(fastloss_masked_value_decoder), (width), 64, FASTLOSS_QUERY_INNER_PRODUCT, false, false,    \
            FASTLOSS_NONZERO_LOGITS, FASTLOSS_EMPTY_ERROR, {NULL, NULL}, NULL, {NULL, NULL}, {NULL, NULL}, \
            NULL, {                                                                                        \
            NULL, NULL                                                                                     \
        }                                                                                                  \
    }

/// The inputs of a masked-value decoder. Each distinct gene and batch has one embedding; scGPT repeats them
/// for every token.
typedef struct fastloss_masked_value_inputs {
    size_t size;                     ///< sizeof(fastloss_masked_value_inputs)
    int64_t cells;                   ///< B
    int64_t tokens;                  ///< L
    int64_t gene_count;              ///< G
    int64_t batch_count;             ///< K; ignored without batch embeddings
    fastloss_view cell_embeddings;   ///< B x D, c
    fastloss_view gene_embeddings;   ///< G x D, g
    const int32_t *genes;            ///< B x L rows of gene_embeddings, from 0 to G - 1
    int64_t genes_stride;            ///< elements between cells; 0: all cells share one list of L genes
    fastloss_mask_view mask;         ///< B x L; NULL: all tokens
    fastloss_view batch_embeddings;  ///< K x D, e
    const int32_t *batch_labels;     ///< B rows of batch_embeddings, from 0 to K - 1
    fastloss_element_type cell_embeddings_type;   ///< float32; what `cell_embeddings` really points to
    fastloss_element_type gene_embeddings_type;   ///< float32; what `gene_embeddings` really points to
    fastloss_element_type batch_embeddings_type;  ///< float32; what `batch_embeddings` really points to
    int32_t reserved;                             ///< 0
} fastloss_masked_value_inputs;

/// No inputs yet.
#define FASTLOSS_MASKED_VALUE_INPUTS       \
    {sizeof(fastloss_masked_value_inputs), \
     0,                                    \
     0,                                    \
     0,                                    \
     0,                                    \
     {NULL, 0},                            \
     {NULL, 0},                            \
     NULL,                                 \
     0,                                    \
     {NULL, 0},                            \
     {NULL, 0},                            \
     NULL,                                 \
     FASTLOSS_ELEMENT_FLOAT32,             \
     FASTLOSS_ELEMENT_FLOAT32,             \
     FASTLOSS_ELEMENT_FLOAT32,             \
     0}

/// The memory that receives the gradients of a masked-value decoder.
typedef struct fastloss_masked_value_gradients {
    size_t size;                             ///< sizeof(fastloss_masked_value_gradients)
    float scale;                             ///< 1; a finite factor of all gradients
    fastloss_update update;                  ///< overwrite
    fastloss_mutable_view cell_embeddings;   ///< B x D
    fastloss_mutable_view gene_embeddings;   ///< G x D, the sums over each gene's tokens; 0 if detached
    fastloss_mutable_view batch_embeddings;  ///< K x D
    fastloss_layer_gradient gene2query;
    float *w_weight;
    fastloss_layer_gradient w_zero_logit;
    fastloss_layer_gradient fc1;
    float *hidden_activation;
    fastloss_layer_gradient fc2;
} fastloss_masked_value_gradients;

/// No gradients yet; scale 1, overwrite.
#define FASTLOSS_MASKED_VALUE_GRADIENTS                                                                 \
    {                                                                                                   \
        sizeof(fastloss_masked_value_gradients), 1.0f, FASTLOSS_UPDATE_OVERWRITE, {NULL, 0}, {NULL, 0}, \
            {NULL, 0}, {NULL, NULL}, NULL, {NULL, NULL}, {NULL, NULL}, NULL, {                          \
            NULL, NULL                                                                                  \
        }                                                                                               \
    }

/// Computes the outputs of the masked tokens. Outputs of other tokens keep their contents.
///
/// Time O((G + B) D^2 + G B D) for the inner products, O((G + B) D H + M H) for the query styles.
///
/// \param decoder      the sizes and parameters.
/// \param inputs       the embeddings of cells, genes and batches, and the mask.
/// \param predictions  receives B x L values.
/// \param nonzero      receives B x L logits or probabilities, as `nonzero_form` says. NULL: not wanted. Must
/// be
///                     NULL without explicit zeros.
/// \param workspace    NULL: the calling thread's own.
/// \return INVALID_SHAPE, INVALID_PARAMETER (a size out of range; explicit zeros or batch embeddings with a
///         query style; `nonzero` without explicit zeros), LABEL_OUT_OF_RANGE (a gene or batch label),
///         OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_masked_value_decoder_predict(
    const fastloss_masked_value_decoder *decoder, const fastloss_masked_value_inputs *inputs,
    float *predictions, int64_t predictions_stride, float *nonzero, int64_t nonzero_stride,
    fastloss_workspace *workspace);

/// Computes the gradients of a loss of the caller's, from the gradients of the outputs.
///
/// \param predictions_gradient  B x L; not read outside the mask.
/// \param nonzero_gradient      B x L, with respect to the logits or probabilities, as `nonzero_form` says;
///                              NULL without explicit zeros.
/// \param gradients             the gradients that are wanted; not NULL.
/// Other parameters and statuses as `fastloss_masked_value_decoder_predict`; also GRADIENT_WITHOUT_INPUT (of
/// a part that the decoder lacks), INVALID_PARAMETER (scale not finite; `nonzero_gradient` without explicit
/// zeros).
FASTLOSS_API fastloss_status fastloss_masked_value_decoder_gradient(
    const fastloss_masked_value_decoder *decoder, const fastloss_masked_value_inputs *inputs,
    const float *predictions_gradient, int64_t predictions_gradient_stride, const float *nonzero_gradient,
    int64_t nonzero_gradient_stride, const fastloss_masked_value_gradients *gradients,
    fastloss_workspace *workspace);

/// Computes the losses of the masked tokens and their gradients.
///
/// \param targets    the targets and the factors of the losses in the gradient.
/// \param gradients  the gradients that are wanted; NULL: none.
/// \param losses     receives the losses. The caller sets its `size` (FASTLOSS_DECODER_LOSSES).
/// Other parameters and statuses as `fastloss_masked_value_decoder_gradient`; also EMPTY_SELECTION,
/// INVALID_PARAMETER (a factor not finite), and PROBABILITY_OUT_OF_RANGE if a probability is NaN.
FASTLOSS_API fastloss_status fastloss_masked_value_decoder_loss(
    const fastloss_masked_value_decoder *decoder, const fastloss_masked_value_inputs *inputs,
    const fastloss_decoder_targets *targets, const fastloss_masked_value_gradients *gradients,
    fastloss_workspace *workspace, fastloss_decoder_losses *losses);

// -----------------------------------------------------------------------------------------------------------
// Classifiers of cell embeddings
// -----------------------------------------------------------------------------------------------------------

/// A block of a classifier: Linear, activation, LayerNorm. This struct never changes.
typedef struct fastloss_classifier_block {
    fastloss_layer linear;  ///< scGPT: `_decoder.(3i)`; D x D; D
    fastloss_layer norm;    ///< scGPT: `_decoder.(3i + 2)`; D; D
} fastloss_classifier_block;

/// The memory that receives the gradients of a block's parameters. This struct never changes.
typedef struct fastloss_classifier_block_gradient {
    fastloss_layer_gradient linear;
    fastloss_layer_gradient norm;
} fastloss_classifier_block_gradient;

/// The most blocks of a classifier. scGPT uses 2.
#define FASTLOSS_CLASSIFIER_BLOCK_CAPACITY 16

/// A classifier of cell embeddings, with either of two activations: a decoder of cell types (scGPT:
/// ClsDecoder; CLS) has ReLU, a discriminator of batches (scGPT: AdversarialDiscriminator; DAB, DAR) has
/// LeakyReLU.
///
///     logits = out_layer(block_n(... block_1(c)))        block(x) = LayerNorm(activation(Linear(x)))
typedef struct fastloss_classifier {
    size_t size;                                 ///< sizeof(fastloss_classifier)
    int64_t width;                               ///< D, from 0 to 2^28
    int64_t classes;                             ///< C, from 0 to 2^28
    int64_t block_count;                         ///< from 0 to FASTLOSS_CLASSIFIER_BLOCK_CAPACITY
    const fastloss_classifier_block *blocks;     ///< block_count blocks
    fastloss_layer out_layer;                    ///< C x D; C
    fastloss_element_type cell_embeddings_type;  ///< float32; what `cell_embeddings` really points to
    int32_t reserved;                            ///< 0
} fastloss_classifier;

/// A classifier of cell embeddings of `width` elements without blocks; no parameters yet.
#define FASTLOSS_CLASSIFIER(width, classes)                                                               \
    {sizeof(fastloss_classifier), (width), (classes), 0, NULL, {NULL, NULL}, FASTLOSS_ELEMENT_FLOAT32, 0}

/// The memory that receives the gradients of a classifier.
typedef struct fastloss_classifier_gradients {
    size_t size;                                       ///< sizeof(fastloss_classifier_gradients)
    float scale;                                       ///< 1; a finite factor of all gradients
    fastloss_update update;                            ///< overwrite
    fastloss_mutable_view cell_embeddings;             ///< B x D
    const fastloss_classifier_block_gradient *blocks;  ///< block_count blocks; NULL: none wanted
    fastloss_layer_gradient out_layer;
} fastloss_classifier_gradients;

/// No gradients yet; scale 1, overwrite.
#define FASTLOSS_CLASSIFIER_GRADIENTS                                                              \
    {                                                                                              \
        sizeof(fastloss_classifier_gradients), 1.0f, FASTLOSS_UPDATE_OVERWRITE, {NULL, 0}, NULL, { \
            NULL, NULL                                                                             \
        }                                                                                          \
    }

/// Computes the logits of a cell's type.
///
/// Time O(B D (D blocks + C)).
///
/// \param decoder          the sizes and parameters.
/// \param cells            B.
/// \param cell_embeddings  B x D, c.
/// \param logits           receives B x C.
/// \param workspace        NULL: the calling thread's own.
/// \return INVALID_SHAPE, INVALID_PARAMETER (a size out of range), OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_cell_type_decoder_predict(
    const fastloss_classifier *decoder, int64_t cells, const float *cell_embeddings,
    int64_t cell_embeddings_stride, float *logits, int64_t logits_stride, fastloss_workspace *workspace);

/// Computes the gradients of a loss of the caller's, from the gradient of the logits.
///
/// \param logits_gradient  B x C.
/// \param gradients        the gradients that are wanted; not NULL.
/// Other parameters and statuses as `fastloss_cell_type_decoder_predict`; also INVALID_PARAMETER (scale not
/// finite).
FASTLOSS_API fastloss_status fastloss_cell_type_decoder_gradient(
    const fastloss_classifier *decoder, int64_t cells, const float *cell_embeddings,
    int64_t cell_embeddings_stride, const float *logits_gradient, int64_t logits_gradient_stride,
    const fastloss_classifier_gradients *gradients, fastloss_workspace *workspace);

/// Computes the cross-entropy of the logits, as `fastloss_cross_entropy`, and its gradients.
///
/// \param labels     B labels, from 0 to C - 1 or the ignored label.
/// \param options    NULL: mean, error when empty, ignored label -100.
/// \param gradients  the gradients that are wanted; NULL: none.
/// \param loss       receives the value and the number of cells whose label is not ignored.
/// Other parameters and statuses as `fastloss_cell_type_decoder_gradient`; also LABEL_OUT_OF_RANGE,
/// EMPTY_SELECTION.
FASTLOSS_API fastloss_status fastloss_cell_type_decoder_loss(
    const fastloss_classifier *decoder, int64_t cells, const float *cell_embeddings,
    int64_t cell_embeddings_stride, const int32_t *labels, const fastloss_cross_entropy_options *options,
    const fastloss_classifier_gradients *gradients, fastloss_workspace *workspace, fastloss_loss_value *loss);

/// Computes the logits of a cell's batch; as `fastloss_cell_type_decoder_predict`.
FASTLOSS_API fastloss_status fastloss_adversarial_discriminator_predict(
    const fastloss_classifier *discriminator, int64_t cells, const float *cell_embeddings,
    int64_t cell_embeddings_stride, float *logits, int64_t logits_stride, fastloss_workspace *workspace);

/// Computes the gradients of a loss of the caller's, from the gradient of the logits. The gradient of the
/// cell embeddings is reversed: it is -lambda times that of the loss. Those of the parameters are not.
///
/// \param lambda  a finite number; upstream's is 1.
/// Other parameters and statuses as `fastloss_cell_type_decoder_gradient`; also INVALID_PARAMETER (lambda not
/// finite).
FASTLOSS_API fastloss_status fastloss_adversarial_discriminator_gradient(
    const fastloss_classifier *discriminator, float lambda, int64_t cells, const float *cell_embeddings,
    int64_t cell_embeddings_stride, const float *logits_gradient, int64_t logits_gradient_stride,
    const fastloss_classifier_gradients *gradients, fastloss_workspace *workspace);

/// Computes the cross-entropy of the logits and its gradients, that of the cell embeddings reversed.
///
/// \param options  NULL: mean, error when empty, ignored label -100, lambda 1.
/// Other parameters and statuses as `fastloss_cell_type_decoder_loss`; also INVALID_PARAMETER (lambda not
/// finite).
FASTLOSS_API fastloss_status fastloss_adversarial_discriminator_loss(
    const fastloss_classifier *discriminator, int64_t cells, const float *cell_embeddings,
    int64_t cell_embeddings_stride, const int32_t *labels, const fastloss_domain_adversarial_options *options,
    const fastloss_classifier_gradients *gradients, fastloss_workspace *workspace, fastloss_loss_value *loss);

// -----------------------------------------------------------------------------------------------------------
// Embeddings of labels
// -----------------------------------------------------------------------------------------------------------

/// The embedding of batch labels (scGPT: BatchLabelEncoder), and of genes (GeneEncoder, without a padding
/// index).
///
///     embedding = LayerNorm(row of the table)
typedef struct fastloss_batch_label_encoder {
    size_t size;              ///< sizeof(fastloss_batch_label_encoder)
    int64_t label_count;      ///< the rows of the table, from 0 to 2^28
    int64_t width;            ///< D, from 0 to 2^28
    const float *embedding;   ///< label_count x D
    fastloss_layer enc_norm;  ///< D; D
} fastloss_batch_label_encoder;

/// An encoder without parameters yet.
#define FASTLOSS_BATCH_LABEL_ENCODER(label_count, width)                                   \
    {                                                                                      \
        sizeof(fastloss_batch_label_encoder), (label_count), (width), NULL, { NULL, NULL } \
    }

/// The memory that receives the gradients of an encoder.
typedef struct fastloss_batch_label_encoder_gradients {
    size_t size;                       ///< sizeof(fastloss_batch_label_encoder_gradients)
    float scale;                       ///< 1; a finite factor of all gradients
    fastloss_update update;            ///< overwrite
    float *embedding;                  ///< label_count x D; 0 in rows of labels that do not occur
    fastloss_layer_gradient enc_norm;  ///< D; D
} fastloss_batch_label_encoder_gradients;

/// No gradients yet; scale 1, overwrite.
#define FASTLOSS_BATCH_LABEL_ENCODER_GRADIENTS                                                   \
    {                                                                                            \
        sizeof(fastloss_batch_label_encoder_gradients), 1.0f, FASTLOSS_UPDATE_OVERWRITE, NULL, { \
            NULL, NULL                                                                           \
        }                                                                                        \
    }

/// Computes the embedding of each label.
///
/// Time O(rows D).
///
/// \param encoder     the sizes and parameters.
/// \param rows        the number of labels.
/// \param labels      from 0 to label_count - 1; labels may repeat.
/// \param embeddings  receives rows x D.
/// \param workspace   NULL: the calling thread's own.
/// \return INVALID_SHAPE, INVALID_PARAMETER (a size out of range), LABEL_OUT_OF_RANGE, OVERLAPPING_BUFFERS.
FASTLOSS_API fastloss_status fastloss_batch_label_encoder_embed(
    const fastloss_batch_label_encoder *encoder, int64_t rows, const int32_t *labels, float *embeddings,
    int64_t embeddings_stride, fastloss_workspace *workspace);

/// Computes the gradients of the parameters, from the gradient of the embeddings.
///
/// \param embeddings_gradient  rows x D.
/// \param gradients            the gradients that are wanted; not NULL.
/// Other parameters and statuses as `fastloss_batch_label_encoder_embed`; also INVALID_PARAMETER (scale not
/// finite).
FASTLOSS_API fastloss_status fastloss_batch_label_encoder_gradient(
    const fastloss_batch_label_encoder *encoder, int64_t rows, const int32_t *labels,
    const float *embeddings_gradient, int64_t embeddings_gradient_stride,
    const fastloss_batch_label_encoder_gradients *gradients, fastloss_workspace *workspace);

#ifdef __cplusplus
}
#endif

#endif
