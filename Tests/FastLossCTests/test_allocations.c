// A workspace that has seen a shape allocates no more, with gaps between the rows or without.

#include <string.h>

#include "every_call.h"

#ifdef __cplusplus
extern "C" {
#endif
#include "allocation_counter.h"
#ifdef __cplusplus
}
#endif

enum { cells = 160, genes = 600, width = 128, batches = 3 };

static float predictions[cells * (genes + 1)], nonzero[cells * genes], targets[cells * (genes + 2)];
static float embedding[cells * (width + 3)], logits[cells * batches];
static float gradient_memory[4][cells * (genes + 1)];
static bool mask[cells * genes];
static int32_t batch_labels[cells];

static void fill(void) {
    for (int i = 0; i < cells * genes; i++) {
        nonzero[i] = (float)(i % 7) / 8.0f;
        mask[i] = i % 3 == 0;
    }
    for (int i = 0; i < cells * (genes + 1); i++) predictions[i] = (float)(i % 11);
    for (int i = 0; i < cells * (genes + 2); i++) targets[i] = (float)(i % 5);
    for (int i = 0; i < cells * (width + 3); i++) embedding[i] = (float)(i % 13) - 5;
    for (int i = 0; i < cells * batches; i++) logits[i] = (float)(i % 4);
    for (int i = 0; i < cells; i++) batch_labels[i] = i % batches;
}

static fastloss_status step(fastloss_workspace *workspace, int64_t gap) {
    fastloss_objective objective = FASTLOSS_OBJECTIVE;
    fastloss_status status = fastloss_objective_integration(&objective, true, false, 0.8f, 1);
    if (status != FASTLOSS_OK) return status;
    fastloss_objective_inputs inputs = FASTLOSS_OBJECTIVE_INPUTS;
    inputs.cells = cells;
    inputs.genes = genes;
    inputs.width = width;
    inputs.batch_count = batches;
    fastloss_view all[5] = {
        {targets, genes + 2 * gap},
        {predictions, genes + gap},
        {nonzero, genes},
        {embedding, width + 3 * gap},
        {logits, batches}};
    inputs.targets = all[0];
    inputs.gene_predictions = all[1];
    inputs.gene_nonzero = all[2];
    inputs.cell_embedding = all[3];
    inputs.batch_logits = all[4];
    inputs.mask.data = mask;
    inputs.mask.stride = genes;
    inputs.batch_labels = batch_labels;
    fastloss_objective_gradients gradients = FASTLOSS_OBJECTIVE_GRADIENTS;
    fastloss_mutable_view outputs[4] = {
        {gradient_memory[0], genes + gap},
        {gradient_memory[1], genes},
        {gradient_memory[2], width + gap},
        {gradient_memory[3], batches}};
    gradients.gene_predictions = outputs[0];
    gradients.gene_nonzero = outputs[1];
    gradients.cell_embedding = outputs[2];
    gradients.batch_logits = outputs[3];
    fastloss_objective_value value = FASTLOSS_OBJECTIVE_VALUE;
    status = fastloss_total_objective(&objective, &inputs, &gradients, workspace, &value);
    if (status != FASTLOSS_OK) return status;

    fastloss_loss_value loss;
    fastloss_gradient gradient = FASTLOSS_GRADIENT(gradient_memory[0], genes + gap);
    return fastloss_masked_mse(
        cells, genes, predictions, genes + gap, targets, genes + 2 * gap, mask, genes, NULL, &gradient,
        workspace, &loss);
}

/// Every function that computes, without gaps.
static void test_every_call(void) {
    fastloss_workspace *workspace = NULL;
    CHECK_OK(fastloss_workspace_create(2, &workspace));
    call_results *const results = (call_results *)remember(sizeof *results);
    scale_inputs(1);
    for (int i = 0; i < every_call_count; i++) {
        now_testing("allocations of %s", every_calls[i].name);
        CHECK_OK(run_call(&every_calls[i], workspace, results));
        CHECK_OK(run_call(&every_calls[i], workspace, results));
        allocation_counter_start();
        const fastloss_status status = run_call(&every_calls[i], workspace, results);
        const long made = allocation_counter_stop();
        CHECK_OK(status);
        check(made == 0, __FILE__, __LINE__, "%ld allocations", made);
    }
    fastloss_workspace_destroy(workspace);
    forget();
}

void test_allocations(void) {
    now_testing("allocations");
    if (allocation_counter_obstacle() != NULL) {
        skip("allocations are not counted: %s", allocation_counter_obstacle());
        return;
    }
#ifdef FASTLOSS_TESTS_A_DEBUG_LIBRARY
    skip("only an optimised library keeps its closures on the stack, so that there is nothing to be counted");
    return;
#endif
    test_every_call();
    now_testing("allocations");
    fill();
    for (int64_t gap = 0; gap <= 1; gap++) {
        fastloss_workspace *workspace = NULL;
        CHECK_OK(fastloss_workspace_create(2, &workspace));
        // The first call with a shape grows the workspace; the second is for whatever else is made once.
        CHECK_OK(step(workspace, gap));
        CHECK_OK(step(workspace, gap));
        allocation_counter_start();
        fastloss_status status = step(workspace, gap);
        long made = allocation_counter_stop();
        CHECK_OK(status);
        check(made == 0, __FILE__, __LINE__, "%ld allocations with gaps of %d", made, (int)gap);
        // The thread's own workspace is no different.
        CHECK_OK(step(NULL, gap));
        CHECK_OK(step(NULL, gap));
        allocation_counter_start();
        status = step(NULL, gap);
        made = allocation_counter_stop();
        CHECK_OK(status);
        check(made == 0, __FILE__, __LINE__, "%ld allocations in the thread's own workspace", made);
        fastloss_workspace_destroy(workspace);
    }
}
