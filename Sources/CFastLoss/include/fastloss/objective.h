// The total objective: all terms of a training step in one call. Included by fastloss.h.

#ifndef FASTLOSS_OBJECTIVE_H
#define FASTLOSS_OBJECTIVE_H

#include "common.h"

#ifdef __cplusplus
extern "C" {
#endif

// -----------------------------------------------------------------------------------------------------------
// The total objective
// -----------------------------------------------------------------------------------------------------------

/// A term of the total objective: an index into `weights`, `values`, `weighted` and `logged`, and a bit of
/// `terms`.
typedef int32_t fastloss_term;
enum {
    FASTLOSS_TERM_MASKED_GENE = 0,       ///< masked MSE of the decoder's output (MLM, MGM, GEP)
    FASTLOSS_TERM_MASKED_GENE_ZERO = 1,  ///< Bernoulli NLL of the decoder's nonzero probability
    FASTLOSS_TERM_CELL_GENE = 2,         ///< masked MSE predicted from the cell embedding (MVC, GEPC)
    FASTLOSS_TERM_CELL_GENE_ZERO = 3,    ///< Bernoulli NLL predicted from the cell embedding
    FASTLOSS_TERM_GENERATION = 4,        ///< masked MSE generated from the detached cell embedding
    FASTLOSS_TERM_CELL_TYPE = 5,         ///< cross-entropy of the cell types (CLS)
    FASTLOSS_TERM_CONTRASTIVE = 6,       ///< contrastive cell embedding (CCE)
    FASTLOSS_TERM_ELASTIC = 7,           ///< elastic cell similarity (ECS)
    FASTLOSS_TERM_BATCH = 8,             ///< domain-adversarial loss of the batch labels (DAB)
    FASTLOSS_TERM_COUNT = 9,             ///< the number of terms in this version
    FASTLOSS_TERM_CAPACITY = 16,         ///< the length of arrays over the terms, with room for more
};

/// The bit of a term in `terms`.
#define FASTLOSS_TERM_BIT(term) (UINT32_C(1) << (term))

/// The name under which upstream logs a term: "mse", "nzlp", "mvc", "mvc_nzlp", "gen", "cls", "cce", "ecs",
/// "dab". NULL for other numbers. Never freed.
FASTLOSS_API const char *fastloss_term_name(fastloss_term term);

/// The terms of a task and their weights: total = sum over the enabled terms of weight * value.
///
/// Start with FASTLOSS_OBJECTIVE, then call a preset, or `fastloss_objective_enable` for each term. The
/// members may also be set directly.
typedef struct fastloss_objective {
    size_t size;                                 ///< sizeof(fastloss_objective)
    uint32_t terms;                              ///< bits of the enabled terms
    fastloss_nonzero_form nonzero_form;          ///< probabilities
    float weights[FASTLOSS_TERM_CAPACITY];       ///< finite; disabled terms ignore theirs
    fastloss_empty_rule mask_when_empty;         ///< error; of the value terms
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
    float batch_lambda;                          ///< 1; the factor of the gradient reversal
    fastloss_certificate elastic_certificate;    ///< automatic
    int32_t reserved;                            ///< 0
} fastloss_objective;

/// No terms; all other members have their defaults.
#define FASTLOSS_OBJECTIVE                                    \
    {sizeof(fastloss_objective),     0,                       \
     FASTLOSS_NONZERO_PROBABILITIES, {0.0f},                  \
     FASTLOSS_EMPTY_ERROR,           0.8f,                    \
     FASTLOSS_EMPTY_ERROR,           0.5f,                    \
     FASTLOSS_EMPTY_ERROR,           FASTLOSS_REDUCTION_MEAN, \
     FASTLOSS_EMPTY_ERROR,           FASTLOSS_IGNORED_LABEL,  \
     FASTLOSS_REDUCTION_MEAN,        FASTLOSS_EMPTY_ERROR,    \
     FASTLOSS_IGNORED_LABEL,         1.0f,                    \
     FASTLOSS_CERTIFICATE_AUTOMATIC, 0}

/// Enables a term, or changes its weight. `fastloss_total_objective` checks the weight.
/// \return NULL_POINTER, INVALID_STRUCT, INVALID_ENUMERATION (unknown term).
FASTLOSS_API fastloss_status
fastloss_objective_enable(fastloss_objective *objective, fastloss_term term, float weight);

/// Disables a term. Statuses as `fastloss_objective_enable`.
FASTLOSS_API fastloss_status fastloss_objective_disable(fastloss_objective *objective, fastloss_term term);

/// scGPT's integration of batches (finetune_integration.py):
/// MSE + [zero] NLL + [GEPC] MSE + [both] NLL + 10 ECS + batch_weight DAB.
///
/// Like every preset, this replaces all members except `size`. All presets return the same statuses.
///
/// \param explicit_zero_probability  upstream's `explicit_zero_prob`; its default is true.
/// \param cell_embedding_prediction  upstream's `GEPC`; true.
/// \param elastic_threshold          upstream's `ecs_thres`; 0.8. As upstream, 0 or less disables ECS.
/// \param batch_weight               upstream's `dab_weight`; 1.
/// \return NULL_POINTER, INVALID_STRUCT.
FASTLOSS_API fastloss_status fastloss_objective_integration(
    fastloss_objective *objective, bool explicit_zero_probability, bool cell_embedding_prediction,
    float elastic_threshold, float batch_weight);

/// Cell-type annotation: CLS.
FASTLOSS_API fastloss_status fastloss_objective_annotation(fastloss_objective *objective);

/// Perturbation: MSE. Upstream's mask is all ones, so pass no mask.
FASTLOSS_API fastloss_status fastloss_objective_perturbation(fastloss_objective *objective);

/// Multi-omics: MSE + MVC + DAB.
FASTLOSS_API fastloss_status fastloss_objective_multi_omics(fastloss_objective *objective);

/// Generative pretraining: MSE + MVC, and GEN if `from_cell_embedding`.
FASTLOSS_API fastloss_status
fastloss_objective_generative_pretraining(fastloss_objective *objective, bool from_cell_embedding);

/// Masked pretraining with cell types: MSE + CLS + 10 CCE + MVC.
FASTLOSS_API fastloss_status fastloss_objective_masked_pretraining(fastloss_objective *objective);

/// scFormer's integration: `fastloss_objective_integration` with beta 0.5, and optionally CLS and 10 CCE.
FASTLOSS_API fastloss_status
fastloss_objective_scformer(fastloss_objective *objective, bool cell_types, bool contrastive);

/// A model's outputs for one batch and their targets. Each enabled term requires its inputs; other inputs are
/// ignored. If B is 0, any pointer other than NULL marks an input as present.
typedef struct fastloss_objective_inputs {
    size_t size;                          ///< sizeof(fastloss_objective_inputs)
    int64_t cells;                        ///< B
    int64_t genes;                        ///< L
    int64_t width;                        ///< D of both cell embeddings
    int64_t cell_type_count;              ///< C of the cell types
    int64_t batch_count;                  ///< C of the batch labels
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
    const int32_t *cell_type_labels;      ///< B labels: CELL_TYPE; required with the logits
    const int32_t *batch_labels;          ///< B labels: BATCH; required with the logits
    /// The types of the model's outputs, each also that of its gradients. float32.
    fastloss_element_type gene_predictions_type;
    fastloss_element_type gene_nonzero_type;
    fastloss_element_type cell_predictions_type;
    fastloss_element_type cell_nonzero_type;
    fastloss_element_type generated_predictions_type;
    fastloss_element_type cell_embedding_type;
    fastloss_element_type second_cell_embedding_type;
    fastloss_element_type cell_type_logits_type;
    fastloss_element_type batch_logits_type;
    int32_t reserved;  ///< 0
} fastloss_objective_inputs;

/// No inputs.
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
     NULL,                              \
     FASTLOSS_ELEMENT_FLOAT32,          \
     FASTLOSS_ELEMENT_FLOAT32,          \
     FASTLOSS_ELEMENT_FLOAT32,          \
     FASTLOSS_ELEMENT_FLOAT32,          \
     FASTLOSS_ELEMENT_FLOAT32,          \
     FASTLOSS_ELEMENT_FLOAT32,          \
     FASTLOSS_ELEMENT_FLOAT32,          \
     FASTLOSS_ELEMENT_FLOAT32,          \
     FASTLOSS_ELEMENT_FLOAT32,          \
     0}

/// The memory that receives the gradients of the total. Each buffer has the shape and the element type of the
/// input of the same name, and requires that input. If no enabled term reads the input, the buffer receives
/// 0, or keeps its values when accumulating.
typedef struct fastloss_objective_gradients {
    size_t size;                                  ///< sizeof(fastloss_objective_gradients)
    float scale;                                  ///< a finite factor of all gradients
    fastloss_update update;                       ///< overwrite or accumulate, for all gradients
    fastloss_mutable_view gene_predictions;       ///< B x L
    fastloss_mutable_view gene_nonzero;           ///< B x L
    fastloss_mutable_view cell_predictions;       ///< B x L
    fastloss_mutable_view cell_nonzero;           ///< B x L
    fastloss_mutable_view generated_predictions;  ///< B x L
    fastloss_mutable_view cell_embedding;         ///< B x D: the sum over ECS and CCE
    fastloss_mutable_view second_cell_embedding;  ///< B x D
    fastloss_mutable_view cell_type_logits;       ///< B x cell_type_count
    fastloss_mutable_view batch_logits;           ///< B x batch_count: for the discriminator's parameters
    fastloss_mutable_view reversed_batch_logits;  ///< B x batch_count: for everything before the reversal
} fastloss_objective_gradients;

/// No gradients yet; scale 1, overwrite.
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

/// The total and all values that upstream logs. Entries of disabled terms are 0.
typedef struct fastloss_objective_value {
    size_t size;                              ///< sizeof(fastloss_objective_value), set by the caller
    double total;                             ///< sum of weight * value
    double relative_error;                    ///< not in the total; NaN if MASKED_GENE is disabled
    int64_t selected_count;                   ///< the number of selected elements; 0 without value terms
    uint32_t terms;                           ///< bits of the enabled terms
    uint32_t reserved;                        ///< 0
    double values[FASTLOSS_TERM_CAPACITY];    ///< the terms without their weights
    double weighted[FASTLOSS_TERM_CAPACITY];  ///< the terms with their weights
    double logged[FASTLOSS_TERM_CAPACITY];    ///< as upstream logs them: weighted, except the batch term
    int64_t certified_pairs;                  ///< of ELASTIC: pairs of cells summed in closed form
} fastloss_objective_value;

/// An empty result.
#define FASTLOSS_OBJECTIVE_VALUE {sizeof(fastloss_objective_value), 0.0, 0.0, 0, 0, 0, {0.0}, {0.0}, {0.0}, 0}

/// Computes the total, every term, the relative error, and the gradient of the total with respect to every
/// input that has a buffer. The value terms run in one fused pass over targets and mask.
///
/// The gradient of the cell embedding is the sum over ECS and CCE, which read it directly. The model's
/// backward pass adds the gradients that arrive through a decoder, a classifier or the reversed
/// discriminator.
///
/// 16-bit inputs are read in place if their rows have no gaps. A gradient is rounded once: that of the cell
/// embedding as the sum over both terms, with what was there before when accumulating.
///
/// \param objective  the terms and their weights.
/// \param inputs     the inputs of the terms.
/// \param gradients  the gradient buffers; NULL: none.
/// \param workspace  NULL: the calling thread's own.
/// \param value      receives the result. The caller sets its `size` (FASTLOSS_OBJECTIVE_VALUE).
/// \return MISSING_INPUT, GRADIENT_WITHOUT_INPUT, and the statuses of the terms' losses.
FASTLOSS_API fastloss_status fastloss_total_objective(
    const fastloss_objective *objective, const fastloss_objective_inputs *inputs,
    const fastloss_objective_gradients *gradients, fastloss_workspace *workspace,
    fastloss_objective_value *value);

#ifdef __cplusplus
}
#endif

#endif
