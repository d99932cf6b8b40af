// The rule by which structs may grow: older ones are taken, newer ones as long as they say nothing new.

#include <string.h>

#include "support.h"

static const float x[4] = {1, 2, 3, 4}, t[4] = {0, 0, 0, 0};

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
        "fastloss_masked_options has 32 bytes, but those after the 24 that this library knows must be 0");
    // Of a struct that says it ends before, the rest is not looked at.
    newer.known.size = sizeof newer.known;
    CHECK_OK(mse(&newer.known));
    static const char *too_small =
        "fastloss_masked_options.size is 15, but it must be 24; the initialiser in the header sets it";
    newer.known.size = 15;
    CHECK_FAILS(mse(&newer.known), FASTLOSS_ERROR_INVALID_STRUCT, too_small);
    newer.known.size = 0;
    CHECK(mse(&newer.known) == FASTLOSS_ERROR_INVALID_STRUCT);
    newer.known.size = (size_t)-1;
    CHECK(mse(&newer.known) == FASTLOSS_ERROR_INVALID_STRUCT);
    // The first version ended before the type of the predictions, which is then float32.
    newer.known.predictions = 77;
    newer.known.reserved = 77;
    newer.known.size = 16;
    CHECK_OK(mse(&newer.known));
    newer.known.size = sizeof newer.known;
    CHECK_FAILS(
        mse(&newer.known), FASTLOSS_ERROR_INVALID_ENUMERATION,
        "options.predictions is 77, which is not a constant of its enumeration");
    newer.known.predictions = FASTLOSS_ELEMENT_BFLOAT16;
    CHECK_FAILS(mse(&newer.known), FASTLOSS_ERROR_INVALID_STRUCT, "options.reserved is 77, but it must be 0");

    fastloss_cross_entropy_options reserved = FASTLOSS_CROSS_ENTROPY_OPTIONS;
    reserved.reserved = 5;
    int32_t labels[2] = {0, 1};
    fastloss_loss_value loss;
    CHECK_FAILS(
        fastloss_cross_entropy(2, 2, x, 2, labels, &reserved, NULL, NULL, &loss),
        FASTLOSS_ERROR_INVALID_STRUCT, "reserved is 5, but it must be 0");
    // The first version ended before the type of the logits.
    reserved.reserved = 0;
    reserved.logits = 5;
    CHECK_FAILS(
        fastloss_cross_entropy(2, 2, x, 2, labels, &reserved, NULL, NULL, &loss),
        FASTLOSS_ERROR_INVALID_ENUMERATION,
        "options.logits is 5, which is not a constant of its enumeration");
    reserved.size = 24;
    CHECK_OK(fastloss_cross_entropy(2, 2, x, 2, labels, &reserved, NULL, NULL, &loss));
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

typedef struct newer_losses {
    fastloss_decoder_losses known;
    double unknown;
} newer_losses;

typedef struct newer_decoder {
    fastloss_expression_decoder known;
    int64_t unknown;
} newer_decoder;

static void test_heads_structs(void) {
    now_testing("the size of the heads' structs");
    newer_decoder decoder;
    memset(&decoder, 0, sizeof decoder);
    const fastloss_expression_decoder start = FASTLOSS_EXPRESSION_DECODER(2);
    const fastloss_layer layer = {x, x};
    const fastloss_perceptron perceptron = {layer, layer, layer};
    decoder.known = start;
    decoder.known.size = sizeof decoder;
    decoder.known.fc = perceptron;
    fastloss_expression_decoder_inputs inputs = FASTLOSS_EXPRESSION_DECODER_INPUTS;
    inputs.cells = 1, inputs.tokens = 2;
    inputs.states = x, inputs.states_token_stride = 2, inputs.states_cell_stride = 4;
    fastloss_decoder_targets targets = FASTLOSS_DECODER_TARGETS(t, 2);
    newer_losses losses;
    memset(&losses, 0, sizeof losses);
    losses.known.size = sizeof losses;
    CHECK_OK(fastloss_expression_decoder_loss(&decoder.known, &inputs, &targets, NULL, NULL, &losses.known));
    CHECK(losses.known.size == sizeof losses && losses.known.selected_count == 2 && losses.unknown == 0);
    CHECK(losses.known.squared_error > 0);
    decoder.unknown = 1;
    CHECK_FAILS(
        fastloss_expression_decoder_loss(&decoder.known, &inputs, &targets, NULL, NULL, &losses.known),
        FASTLOSS_ERROR_INVALID_STRUCT,
        "fastloss_expression_decoder has 136 bytes, but those after the 128 that this library knows must be "
        "0");
    decoder.unknown = 0;
    losses.known.size = 8;
    CHECK(
        fastloss_expression_decoder_loss(&decoder.known, &inputs, &targets, NULL, NULL, &losses.known)
        == FASTLOSS_ERROR_INVALID_STRUCT);
}

/// What the initialisers say is what the library does without options.
static void test_defaults(void) {
    now_testing("defaults");
    static const float e[6] = {1, 2, 3, -1, 0.5f, 2}, f[6] = {0, 2, 1, 1, 1, 1};
    static const int32_t labels[3] = {1, FASTLOSS_IGNORED_LABEL, 0};
    fastloss_loss_value with, without;
    fastloss_elastic_options elastic = FASTLOSS_ELASTIC_OPTIONS;
    CHECK_OK(fastloss_elastic_cell_similarity(3, 2, e, 2, &elastic, NULL, NULL, &with));
    CHECK_OK(fastloss_elastic_cell_similarity(3, 2, e, 2, NULL, NULL, NULL, &without));
    CHECK(with.value == without.value);
    fastloss_contrastive_options contrastive = FASTLOSS_CONTRASTIVE_OPTIONS;
    CHECK_OK(fastloss_contrastive_cell_embedding(3, 2, e, 2, f, 2, &contrastive, NULL, NULL, NULL, &with));
    CHECK_OK(fastloss_contrastive_cell_embedding(3, 2, e, 2, f, 2, NULL, NULL, NULL, NULL, &without));
    CHECK(with.value == without.value);
    fastloss_cross_entropy_options cross_entropy = FASTLOSS_CROSS_ENTROPY_OPTIONS;
    CHECK_OK(fastloss_cross_entropy(3, 2, e, 2, labels, &cross_entropy, NULL, NULL, &with));
    CHECK_OK(fastloss_cross_entropy(3, 2, e, 2, labels, NULL, NULL, NULL, &without));
    CHECK(with.value == without.value && with.selected_count == 2 && without.selected_count == 2);
    fastloss_domain_adversarial_options adversarial = FASTLOSS_DOMAIN_ADVERSARIAL_OPTIONS;
    float first[6], second[6];
    fastloss_gradient gradient = FASTLOSS_GRADIENT(first, 2);
    CHECK_OK(fastloss_domain_adversarial(3, 2, e, 2, labels, &adversarial, NULL, &gradient, NULL, &with));
    gradient.data = second;
    CHECK_OK(fastloss_domain_adversarial(3, 2, e, 2, labels, NULL, NULL, &gradient, NULL, &without));
    CHECK(with.value == without.value);
    CHECK_SAME(first, second, 6);

    // A preset sets every field to the library's default, but for the terms and their weights.
    fastloss_objective start = FASTLOSS_OBJECTIVE, preset;
    memset(&preset, 0x5a, sizeof preset);
    preset.size = sizeof preset;
    CHECK_OK(fastloss_objective_perturbation(&preset));
    CHECK_OK(fastloss_objective_enable(&start, FASTLOSS_TERM_MASKED_GENE, 1));
    CHECK(memcmp(&preset, &start, sizeof start) == 0);
}

void test_structs(void) {
    test_defaults();
    test_options();
    test_objective();
    test_heads_structs();
}
