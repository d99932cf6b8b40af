// The README's example, compiled and run: one step of a training loop's losses, and what they come to.

#include <stdio.h>

// example:begin BatchLoss
#include <fastloss.h>

/// MSE + 10 ECS of B cells, L genes and D columns, and the gradients of both outputs.
fastloss_status batch_loss(
    int64_t B, int64_t L, int64_t D, const float *targets, const bool *mask, const float *genes,
    const float *embedding, float *genes_gradient, float *embedding_gradient, double *total) {
    fastloss_objective objective = FASTLOSS_OBJECTIVE;
    fastloss_objective_enable(&objective, FASTLOSS_TERM_MASKED_GENE, 1);
    fastloss_objective_enable(&objective, FASTLOSS_TERM_ELASTIC, 10);
    fastloss_objective_inputs inputs = FASTLOSS_OBJECTIVE_INPUTS;
    inputs.cells = B, inputs.genes = L, inputs.width = D;
    inputs.targets.data = targets, inputs.targets.stride = L;
    inputs.mask.data = mask, inputs.mask.stride = L;
    inputs.gene_predictions.data = genes, inputs.gene_predictions.stride = L;
    inputs.cell_embedding.data = embedding, inputs.cell_embedding.stride = D;
    fastloss_objective_gradients gradients = FASTLOSS_OBJECTIVE_GRADIENTS;
    gradients.gene_predictions.data = genes_gradient, gradients.gene_predictions.stride = L;
    gradients.cell_embedding.data = embedding_gradient, gradients.cell_embedding.stride = D;
    fastloss_objective_value value = FASTLOSS_OBJECTIVE_VALUE;
    fastloss_status status = fastloss_total_objective(&objective, &inputs, &gradients, NULL, &value);
    *total = value.total;  // each term, as upstream logs it: value.logged[FASTLOSS_TERM_ELASTIC]
    return status;         // if not FASTLOSS_OK, fastloss_last_error() has the message
}
// example:end

enum { cells = 8, genes = 30, width = 6, steps = 20 };

/// A stand-in for a model: its outputs are its parameters, so that a step down the gradient is all of its
/// backward pass.
int main(void) {
    static float targets[cells * genes], predictions[cells * genes], genes_gradient[cells * genes];
    static float embedding[cells * width], embedding_gradient[cells * width];
    static bool mask[cells * genes];
    for (int i = 0; i < cells * genes; i++) {
        targets[i] = (float)(i % 7);
        mask[i] = i % 3 != 0;
    }
    for (int i = 0; i < cells * width; i++) embedding[i] = (float)(i * 37 % 11) - 5;
    double last = 1e30;
    for (int step = 0; step < steps; step++) {
        double total;
        if (batch_loss(
                cells, genes, width, targets, mask, predictions, embedding, genes_gradient,
                embedding_gradient, &total)
            != FASTLOSS_OK) {
            fprintf(stderr, "%s\n", fastloss_last_error());
            return 1;
        }
        if (!(total < last)) {
            fprintf(stderr, "step %d: the loss is %g after %g\n", step, total, last);
            return 1;
        }
        last = total;
        for (int i = 0; i < cells * genes; i++) predictions[i] -= 0.05f * genes_gradient[i];
        for (int i = 0; i < cells * width; i++) embedding[i] -= 0.05f * embedding_gradient[i];
    }
    printf("%d steps, loss %g\n", (int)steps, last);
    return 0;
}
