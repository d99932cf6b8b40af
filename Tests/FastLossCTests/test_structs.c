// The rule by which structs may grow: older ones are taken, newer ones as long as they say nothing new.

#include <string.h>

#include "support.h"

static const float x[4] = { 1, 2, 3, 4 }, t[4] = { 0, 0, 0, 0 };

static fastloss_status mse(const fastloss_masked_options *options) {
    fastloss_loss_value loss;
    return fastloss_masked_mse(2, 2, x, 2, t, 2, NULL, 0, options, NULL, NULL, &loss);
}

/// An options struct of a header to come.
typedef struct newer_options {
    fastloss_masked_options known;
    int64_t unknown;
} newer_options;

static void test_options(void) {
    now_testing("the size of options");
    newer_options newer;
    memset(&newer, 0, sizeof newer);
    newer.known.size = sizeof newer;
    CHECK_OK(mse(&newer.known));
    newer.unknown = 1;
    CHECK_FAILS(
        mse(&newer.known), FASTLOSS_ERROR_INVALID_STRUCT,
        "fastloss_masked_options has 24 bytes, of which this library knows 16; what it does not know must be "
        "0");
    // Of a struct that says it ends before, the rest is not looked at.
    newer.known.size = sizeof newer.known;
    CHECK_OK(mse(&newer.known));
    static const char *too_small = "the size of fastloss_masked_options is 15, but it must be 16: start with "
                                   "the initialiser of fastloss.h";
    newer.known.size = 15;
    CHECK_FAILS(mse(&newer.known), FASTLOSS_ERROR_INVALID_STRUCT, too_small);
    newer.known.size = 0;
    CHECK(mse(&newer.known) == FASTLOSS_ERROR_INVALID_STRUCT);
    newer.known.size = (size_t)-1;
    CHECK(mse(&newer.known) == FASTLOSS_ERROR_INVALID_STRUCT);

    fastloss_cross_entropy_options reserved = FASTLOSS_CROSS_ENTROPY_OPTIONS;
    reserved.reserved = 5;
    int32_t labels[2] = { 0, 1 };
    fastloss_loss_value loss;
    CHECK_FAILS(
        fastloss_cross_entropy(2, 2, x, 2, labels, &reserved, NULL, NULL, &loss),
        FASTLOSS_ERROR_INVALID_STRUCT, "reserved is 5, but it must be 0");
}

typedef struct newer_value {
    fastloss_objective_value known;
    double unknown;
} newer_value;

static void test_objective(void) {
    now_testing("the size of the objective's structs");
    fastloss_objective objective = FASTLOSS_OBJECTIVE;
    CHECK_OK(fastloss_objective_perturbation(&objective));
    fastloss_objective_inputs inputs = FASTLOSS_OBJECTIVE_INPUTS;
    inputs.cells = inputs.genes = 2;
    inputs.targets.data = t;
    inputs.gene_predictions.data = x;
    inputs.targets.stride = inputs.gene_predictions.stride = 2;
    newer_value value;
    memset(&value, 0, sizeof value);
    value.known.size = sizeof value;
    CHECK_OK(fastloss_total_objective(&objective, &inputs, NULL, NULL, &value.known));
    CHECK(value.known.total == 7.5 && value.known.size == sizeof value && value.unknown == 0);
    value.known.size = 8;
    CHECK(
        fastloss_total_objective(&objective, &inputs, NULL, NULL, &value.known)
        == FASTLOSS_ERROR_INVALID_STRUCT);
    value.known.size = sizeof value.known;
    objective.size = 0;
    CHECK(
        fastloss_total_objective(&objective, &inputs, NULL, NULL, &value.known)
        == FASTLOSS_ERROR_INVALID_STRUCT);
    CHECK(fastloss_objective_annotation(&objective) == FASTLOSS_ERROR_INVALID_STRUCT);
    objective.size = sizeof objective;
    inputs.size = 16;
    CHECK(
        fastloss_total_objective(&objective, &inputs, NULL, NULL, &value.known)
        == FASTLOSS_ERROR_INVALID_STRUCT);
    inputs.size = sizeof inputs;
    fastloss_objective_gradients gradients = FASTLOSS_OBJECTIVE_GRADIENTS;
    gradients.size = 1;
    CHECK(
        fastloss_total_objective(&objective, &inputs, &gradients, NULL, &value.known)
        == FASTLOSS_ERROR_INVALID_STRUCT);
    fastloss_gradient gradient = FASTLOSS_GRADIENT(NULL, 2);
    gradient.size = 0;
    fastloss_loss_value loss;
    CHECK(
        fastloss_masked_mse(2, 2, x, 2, t, 2, NULL, 0, NULL, &gradient, NULL, &loss)
        == FASTLOSS_ERROR_INVALID_STRUCT);
}

void test_structs(void) {
    test_options();
    test_objective();
}
