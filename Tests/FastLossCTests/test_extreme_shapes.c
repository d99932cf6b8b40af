// Sides from 0 to the largest number, in all combinations, without any memory behind them: every call comes
// back at once, with an error or with the result of nothing.

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "support.h"

static const int64_t sides[] = {
    0, 1, 3, (int64_t)1 << 31, (int64_t)1 << 40, (int64_t)1 << 62, INT64_MAX - 1, INT64_MAX};
enum { SIDES = 8 };

/// What is written where there are no elements: nothing.
static fastloss_loss_value loss;

static void outcome(fastloss_status status) {
    CHECK(
        status == FASTLOSS_OK || status == FASTLOSS_ERROR_INVALID_SHAPE
        || status == FASTLOSS_ERROR_NULL_POINTER || status == FASTLOSS_ERROR_DIMENSION_TOO_LARGE
        || status == FASTLOSS_ERROR_INVALID_PARAMETER || status == FASTLOSS_ERROR_OUT_OF_MEMORY
        || status == FASTLOSS_ERROR_INVALID_STRIDE);
}

static void call_losses(int64_t rows, int64_t columns, int64_t stride) {
    fastloss_masked_options masked = FASTLOSS_MASKED_OPTIONS;
    masked.when_empty = FASTLOSS_EMPTY_ZERO;
    fastloss_gradient gradient = FASTLOSS_GRADIENT(NULL, stride);
    outcome(fastloss_masked_mse(
        rows, columns, NULL, stride, NULL, stride, NULL, stride, &masked, &gradient, NULL, &loss));
    outcome(fastloss_bernoulli_nll_per_cell(
        rows, columns, NULL, stride, NULL, stride, NULL, stride, &masked, &gradient, NULL, NULL, NULL));
    fastloss_cross_entropy_options cross = FASTLOSS_CROSS_ENTROPY_OPTIONS;
    cross.when_empty = FASTLOSS_EMPTY_ZERO;
    outcome(fastloss_cross_entropy(rows, columns, NULL, stride, NULL, &cross, &gradient, NULL, &loss));
    outcome(fastloss_gradient_reversal(rows, columns, NULL, stride, 1, &gradient, NULL));
    fastloss_domain_adversarial_options adversarial = FASTLOSS_DOMAIN_ADVERSARIAL_OPTIONS;
    adversarial.when_empty = FASTLOSS_EMPTY_ZERO;
    outcome(fastloss_domain_adversarial(
        rows, columns, NULL, stride, NULL, &adversarial, &gradient, &gradient, NULL, &loss));
    fastloss_elastic_options elastic = FASTLOSS_ELASTIC_OPTIONS;
    elastic.when_empty = FASTLOSS_EMPTY_ZERO;
    outcome(fastloss_elastic_cell_similarity(rows, columns, NULL, stride, &elastic, &gradient, NULL, &loss));
    fastloss_contrastive_options contrastive = FASTLOSS_CONTRASTIVE_OPTIONS;
    contrastive.when_empty = FASTLOSS_EMPTY_ZERO;
    outcome(fastloss_contrastive_cell_embedding(
        rows, columns, NULL, stride, NULL, stride, &contrastive, &gradient, &gradient, NULL, &loss));
    outcome(fastloss_cosine_similarity(rows, columns, NULL, stride, NULL, rows, NULL));
}

static void call_reductions(int64_t rows, int64_t columns, int64_t masks, int64_t stride) {
    fastloss_masked_options options = FASTLOSS_MASKED_OPTIONS;
    options.when_empty = FASTLOSS_EMPTY_ZERO;
    fastloss_gradient gradient = FASTLOSS_GRADIENT(NULL, stride);
    outcome(fastloss_masked_reductions(
        rows, columns, masks, NULL, stride, NULL, stride, &options, NULL, stride, NULL));
    outcome(fastloss_masked_reductions_gradient(
        rows, columns, masks, NULL, stride, NULL, stride, &options, &gradient, NULL));
}

static void call_poolings(int64_t cells, int64_t tokens, int64_t width, int64_t weightings, int64_t stride) {
    fastloss_gradient gradient = FASTLOSS_GRADIENT(NULL, stride);
    fastloss_gradient states = FASTLOSS_STATES_GRADIENT(NULL, stride, stride);
    for (fastloss_pooling pooling = FASTLOSS_POOLING_CLS; pooling <= FASTLOSS_POOLING_AVERAGE; pooling++) {
        outcome(
            fastloss_token_pooling(pooling, cells, tokens, width, NULL, stride, stride, NULL, stride, NULL));
        outcome(fastloss_token_pooling_gradient(pooling, cells, tokens, width, NULL, stride, &states, NULL));
    }
    outcome(fastloss_weighted_token_pooling(
        cells, tokens, width, weightings, NULL, stride, stride, NULL, stride, NULL, stride, NULL));
    outcome(fastloss_weighted_token_pooling_states_gradient(
        cells, tokens, width, weightings, NULL, stride, NULL, stride, &states, NULL));
    outcome(fastloss_weighted_token_pooling_weights_gradient(
        cells, tokens, width, weightings, NULL, stride, NULL, stride, stride, &gradient, NULL));
    outcome(fastloss_normalized_weighted_token_pooling(
        cells, tokens, width, weightings, NULL, stride, stride, NULL, stride, NULL, stride, NULL, NULL));
    outcome(fastloss_normalized_weighted_token_pooling_states_gradient(
        cells, tokens, width, weightings, NULL, stride, NULL, stride, NULL, NULL, stride, &states, NULL));
    outcome(fastloss_normalized_weighted_token_pooling_weights_gradient(
        cells, tokens, width, weightings, NULL, stride, NULL, stride, NULL, NULL, stride, stride, &gradient,
        NULL));
}

static void call_objective(int64_t cells, int64_t genes, int64_t width) {
    fastloss_objective objective = FASTLOSS_OBJECTIVE;
    CHECK_OK(fastloss_objective_scformer(&objective, true, true));
    objective.mask_when_empty = objective.cell_type_when_empty = objective.batch_when_empty =
        FASTLOSS_EMPTY_ZERO;
    objective.elastic_when_empty = objective.contrastive_when_empty = FASTLOSS_EMPTY_ZERO;
    fastloss_objective_inputs inputs = FASTLOSS_OBJECTIVE_INPUTS;
    inputs.cells = cells, inputs.genes = genes, inputs.width = width;
    inputs.cell_type_count = inputs.batch_count = width;
    // Memory that may not be touched: there are no elements, or too many of them.
    static const float nowhere[1] = {0};
    static const int32_t no_labels[1] = {0};
    fastloss_view *const views[8] = {
        &inputs.targets,      &inputs.gene_predictions, &inputs.gene_nonzero,     &inputs.cell_predictions,
        &inputs.cell_nonzero, &inputs.cell_embedding,   &inputs.cell_type_logits, &inputs.batch_logits};
    if (cells != 0) return;
    for (int i = 0; i < 8; i++) {
        views[i]->data = nowhere;
        views[i]->stride = INT64_MAX;
    }
    inputs.second_cell_embedding = inputs.cell_embedding;
    inputs.cell_type_labels = inputs.batch_labels = no_labels;
    fastloss_objective_value value = FASTLOSS_OBJECTIVE_VALUE;
    outcome(fastloss_total_objective(&objective, &inputs, NULL, NULL, &value));
}

void test_extreme_shapes(void) {
    now_testing("extreme shapes");
    alarm(120);
    const clock_t start = clock();
    for (int a = 0; a < SIDES; a++)
        for (int b = 0; b < SIDES; b++)
            for (int wide = 0; wide < 2; wide++) {
                const int64_t rows = sides[a], columns = sides[b];
                call_losses(rows, columns, wide ? INT64_MAX : columns);
                for (int c = 0; c < SIDES; c++) {
                    call_reductions(rows, columns, sides[c], wide ? INT64_MAX : columns);
                    call_objective(rows, columns, sides[c]);
                    for (int d = 0; d < SIDES; d++)
                        call_poolings(rows, columns, sides[c], sides[d], wide ? INT64_MAX : columns);
                }
            }
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    check(seconds < 30, __FILE__, __LINE__, "it took %.1f s", seconds);
    alarm(0);
}
