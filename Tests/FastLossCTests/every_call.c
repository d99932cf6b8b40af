// Every function of the header that computes, at shapes that are worth sharing among workers.

#include "every_call.h"

#include <stdlib.h>
#include <string.h>

enum {
    rows = 301,     // cells
    columns = 207,  // genes or tokens
    classes = 70,   // computed row by row; fewer classes are computed sixteen rows at a time
    width = 96,     // of embeddings
    masks = 7,
    few = 40,  // cells of token states
    tokens = 61,
    weightings = 3,
};

/// Values between -1 and 1, times the factor.
static float values[2][rows * columns];
static float probabilities[rows * columns];
static bool mask[rows * columns];
static int32_t labels[rows];
static double norms[few * weightings];

static void fill(float factor) {
    uint32_t state = 7;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < rows * columns; i++) {
            state = state * 1664525u + 1013904223u;
            values[k][i] = ((float)(state >> 8) / 8388608.0f - 1.0f) * factor;
        }
    for (int i = 0; i < rows * columns; i++) {
        probabilities[i] = (float)(i % 101) / 100.0f;
        mask[i] = i % 5 < 2;
    }
    for (int i = 0; i < rows; i++) labels[i] = i % 11 == 0 ? FASTLOSS_IGNORED_LABEL : i % classes;
    for (int i = 0; i < few * weightings; i++) norms[i] = (0.5 + i % 3) * factor;
}

void scale_inputs(float factor) { fill(factor); }

// ---- Value losses

#define MASKED_LOSS(name, predictions)                                                               \
    static fastloss_status name(fastloss_workspace *workspace, call_results *results) {              \
        fastloss_gradient gradient = FASTLOSS_GRADIENT(results->outputs, columns);                   \
        fastloss_loss_value loss;                                                                    \
        fastloss_status status = fastloss_##name(                                                    \
            rows, columns, predictions, columns, values[1], columns, mask, columns, NULL, &gradient, \
            workspace, &loss);                                                                       \
        if (status == FASTLOSS_OK) results->value = loss.value;                                      \
        return status;                                                                               \
    }                                                                                                \
    static fastloss_status name##_per_cell(fastloss_workspace *workspace, call_results *results) {   \
        fastloss_gradient gradient = FASTLOSS_GRADIENT(results->outputs + rows, columns);            \
        return fastloss_##name##_per_cell(                                                           \
            rows, columns, predictions, columns, values[1], columns, mask, columns, NULL, &gradient, \
            workspace, results->outputs, NULL);                                                      \
    }

MASKED_LOSS(masked_mse, values[0])
MASKED_LOSS(bernoulli_nll, probabilities)
MASKED_LOSS(bernoulli_nll_logits, values[0])

static fastloss_status masked_relative_error(fastloss_workspace *workspace, call_results *results) {
    fastloss_loss_value loss;
    fastloss_status status = fastloss_masked_relative_error(
        rows, columns, values[0], columns, values[1], columns, mask, columns, NULL, workspace, &loss);
    if (status == FASTLOSS_OK) results->value = loss.value;
    return status;
}

static fastloss_status masked_relative_error_per_cell(fastloss_workspace *workspace, call_results *results) {
    return fastloss_masked_relative_error_per_cell(
        rows, columns, values[0], columns, values[1], columns, mask, columns, NULL, workspace,
        results->outputs, NULL);
}

// ---- Classification

static fastloss_status cross_entropy(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient gradient = FASTLOSS_GRADIENT(results->outputs, classes);
    fastloss_loss_value loss;
    fastloss_status status =
        fastloss_cross_entropy(rows, classes, values[0], classes, labels, NULL, &gradient, workspace, &loss);
    if (status == FASTLOSS_OK) results->value = loss.value;
    return status;
}

static fastloss_status gradient_reversal(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient reversed = FASTLOSS_GRADIENT(results->outputs, columns);
    return fastloss_gradient_reversal(rows, columns, values[0], columns, 0.3f, &reversed, workspace);
}

static fastloss_status domain_adversarial(fastloss_workspace *workspace, call_results *results) {
    fastloss_domain_adversarial_options options = FASTLOSS_DOMAIN_ADVERSARIAL_OPTIONS;
    options.lambda = 0.3f;
    fastloss_gradient discriminator = FASTLOSS_GRADIENT(results->outputs, classes);
    fastloss_gradient embedding = FASTLOSS_GRADIENT(results->outputs + rows * classes, classes);
    discriminator.update = FASTLOSS_UPDATE_ACCUMULATE;
    fastloss_loss_value loss;
    fastloss_status status = fastloss_domain_adversarial(
        rows, classes, values[0], classes, labels, &options, &discriminator, &embedding, workspace, &loss);
    if (status == FASTLOSS_OK) results->value = loss.value;
    return status;
}

// ---- Cell embeddings

static fastloss_status elastic_cell_similarity(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient gradient = FASTLOSS_GRADIENT(results->outputs, width);
    fastloss_loss_value loss;
    fastloss_status status =
        fastloss_elastic_cell_similarity(rows, width, values[0], width, NULL, &gradient, workspace, &loss);
    if (status == FASTLOSS_OK) results->value = loss.value;
    return status;
}

/// More rows than the whole matrix of similarities is kept for.
static fastloss_status elastic_cell_similarity_in_tiles(
    fastloss_workspace *workspace, call_results *results) {
    enum { many = 1100, narrow = 32 };
    fastloss_gradient gradient = FASTLOSS_GRADIENT(results->outputs, narrow);
    fastloss_loss_value loss;
    fastloss_status status =
        fastloss_elastic_cell_similarity(many, narrow, values[0], narrow, NULL, &gradient, workspace, &loss);
    if (status == FASTLOSS_OK) results->value = loss.value;
    return status;
}

static fastloss_status contrastive_cell_embedding(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient first = FASTLOSS_GRADIENT(results->outputs, width);
    fastloss_gradient second = FASTLOSS_GRADIENT(results->outputs + rows * width, width);
    fastloss_loss_value loss;
    fastloss_status status = fastloss_contrastive_cell_embedding(
        rows, width, values[0], width, values[1], width, NULL, &first, &second, workspace, &loss);
    if (status == FASTLOSS_OK) results->value = loss.value;
    return status;
}

static fastloss_status cosine_similarity(fastloss_workspace *workspace, call_results *results) {
    return fastloss_cosine_similarity(rows, width, values[0], width, results->outputs, rows, workspace);
}

// ---- Reductions and pooling

static fastloss_status masked_reductions(fastloss_workspace *workspace, call_results *results) {
    return fastloss_masked_reductions(
        rows, columns, masks, values[0], columns, mask, columns, NULL, results->outputs, masks, workspace);
}

static fastloss_status masked_reductions_gradient(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient gradient = FASTLOSS_GRADIENT(results->outputs, columns);
    return fastloss_masked_reductions_gradient(
        rows, columns, masks, values[0], masks, mask, columns, NULL, &gradient, workspace);
}

/// Token states in `values`: `few` cells fit.
enum { narrow_width = 20, cell_stride = tokens * narrow_width };

static fastloss_status token_pooling(fastloss_workspace *workspace, call_results *results) {
    return fastloss_token_pooling(
        FASTLOSS_POOLING_AVERAGE, few, tokens, narrow_width, values[0], narrow_width, cell_stride,
        results->outputs, narrow_width, workspace);
}

static fastloss_status token_pooling_gradient(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient gradient = FASTLOSS_STATES_GRADIENT(results->outputs, narrow_width, cell_stride);
    return fastloss_token_pooling_gradient(
        FASTLOSS_POOLING_AVERAGE, few, tokens, narrow_width, values[0], narrow_width, &gradient, workspace);
}

static fastloss_status weighted_token_pooling(fastloss_workspace *workspace, call_results *results) {
    return fastloss_weighted_token_pooling(
        few, tokens, narrow_width, weightings, values[0], narrow_width, cell_stride, values[1], tokens,
        results->outputs, narrow_width, workspace);
}

static fastloss_status weighted_states_gradient(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient gradient = FASTLOSS_STATES_GRADIENT(results->outputs, narrow_width, cell_stride);
    return fastloss_weighted_token_pooling_states_gradient(
        few, tokens, narrow_width, weightings, values[0], narrow_width, values[1], tokens, &gradient,
        workspace);
}

static fastloss_status weighted_weights_gradient(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient gradient = FASTLOSS_GRADIENT(results->outputs, tokens);
    return fastloss_weighted_token_pooling_weights_gradient(
        few, tokens, narrow_width, weightings, values[1], narrow_width, values[0], narrow_width, cell_stride,
        &gradient, workspace);
}

static fastloss_status normalized_token_pooling(fastloss_workspace *workspace, call_results *results) {
    static double lengths[few * weightings];
    return fastloss_normalized_weighted_token_pooling(
        few, tokens, narrow_width, weightings, values[0], narrow_width, cell_stride, values[1], tokens,
        results->outputs, narrow_width, lengths, workspace);
}

static fastloss_status normalized_states_gradient(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient gradient = FASTLOSS_STATES_GRADIENT(results->outputs, narrow_width, cell_stride);
    return fastloss_normalized_weighted_token_pooling_states_gradient(
        few, tokens, narrow_width, weightings, values[0], narrow_width, values[1], narrow_width, norms,
        values[1], tokens, &gradient, workspace);
}

static fastloss_status normalized_weights_gradient(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient gradient = FASTLOSS_GRADIENT(results->outputs, tokens);
    return fastloss_normalized_weighted_token_pooling_weights_gradient(
        few, tokens, narrow_width, weightings, values[1], narrow_width, values[1], narrow_width, norms,
        values[0], narrow_width, cell_stride, &gradient, workspace);
}

// ---- The objective

static fastloss_status total_objective(fastloss_workspace *workspace, call_results *results) {
    fastloss_objective objective = FASTLOSS_OBJECTIVE;
    fastloss_status status = fastloss_objective_scformer(&objective, true, true);
    if (status != FASTLOSS_OK) return status;
    fastloss_objective_inputs inputs = FASTLOSS_OBJECTIVE_INPUTS;
    inputs.cells = rows, inputs.genes = columns, inputs.width = width;
    inputs.cell_type_count = classes, inputs.batch_count = classes;
    inputs.targets.data = values[1], inputs.targets.stride = columns;
    inputs.mask.data = mask, inputs.mask.stride = columns;
    inputs.gene_predictions.data = values[0], inputs.gene_predictions.stride = columns;
    inputs.gene_nonzero.data = probabilities, inputs.gene_nonzero.stride = columns;
    inputs.cell_predictions.data = values[0], inputs.cell_predictions.stride = columns;
    inputs.cell_nonzero.data = probabilities, inputs.cell_nonzero.stride = columns;
    inputs.cell_embedding.data = values[0], inputs.cell_embedding.stride = width;
    inputs.second_cell_embedding.data = values[1], inputs.second_cell_embedding.stride = width;
    inputs.cell_type_logits.data = values[0], inputs.cell_type_logits.stride = classes;
    inputs.cell_type_labels = labels;
    inputs.batch_logits.data = values[1], inputs.batch_logits.stride = classes;
    inputs.batch_labels = labels;
    fastloss_objective_gradients gradients = FASTLOSS_OBJECTIVE_GRADIENTS;
    gradients.gene_predictions.data = results->outputs, gradients.gene_predictions.stride = columns;
    gradients.gene_nonzero.data = results->outputs + rows * columns, gradients.gene_nonzero.stride = columns;
    float *const rest = results->outputs + 2 * rows * columns;
    gradients.cell_embedding.data = rest, gradients.cell_embedding.stride = width;
    gradients.second_cell_embedding.data = rest + rows * width,
    gradients.second_cell_embedding.stride = width;
    gradients.batch_logits.data = rest + 2 * rows * width, gradients.batch_logits.stride = classes;
    gradients.reversed_batch_logits.data = rest + 2 * rows * width + rows * classes;
    gradients.reversed_batch_logits.stride = classes;
    fastloss_objective_value value = FASTLOSS_OBJECTIVE_VALUE;
    status = fastloss_total_objective(&objective, &inputs, &gradients, workspace, &value);
    if (status == FASTLOSS_OK) results->value = value.total;
    return status;
}

// ---- The list

#define CALL(name) {#name, name}
const every_call every_calls[] = {
    CALL(masked_mse),
    CALL(masked_mse_per_cell),
    CALL(bernoulli_nll),
    CALL(bernoulli_nll_per_cell),
    CALL(bernoulli_nll_logits),
    CALL(bernoulli_nll_logits_per_cell),
    CALL(masked_relative_error),
    CALL(masked_relative_error_per_cell),
    CALL(cross_entropy),
    CALL(gradient_reversal),
    CALL(domain_adversarial),
    CALL(elastic_cell_similarity),
    CALL(elastic_cell_similarity_in_tiles),
    CALL(contrastive_cell_embedding),
    CALL(cosine_similarity),
    CALL(masked_reductions),
    CALL(masked_reductions_gradient),
    CALL(token_pooling),
    CALL(token_pooling_gradient),
    CALL(weighted_token_pooling),
    CALL(weighted_states_gradient),
    CALL(weighted_weights_gradient),
    CALL(normalized_token_pooling),
    CALL(normalized_states_gradient),
    CALL(normalized_weights_gradient),
    CALL(total_objective),
};
const int every_call_count = (int)(sizeof every_calls / sizeof every_calls[0]);

fastloss_status run_call(const every_call *call, fastloss_workspace *workspace, call_results *results) {
    memset(results, 0, sizeof *results);
    return call->run(workspace, results);
}

int same_results(const call_results *a, const call_results *b) { return memcmp(a, b, sizeof *a) == 0; }
