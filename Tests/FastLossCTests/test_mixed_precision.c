// Losses and heads of 16-bit outputs: exact numbers, gaps between rows, alignment, and the errors.

#include <math.h>
#include <string.h>

#include "support.h"

/// A number that a normal bfloat16 or float16 holds exactly, as such.
static uint16_t narrow(float value, fastloss_element_type type) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (type == FASTLOSS_ELEMENT_BFLOAT16) return (uint16_t)(bits >> 16);
    if (value == 0) return 0;
    return (uint16_t)((bits >> 16 & 0x8000) | (((bits & 0x7fffffff) - (112u << 23)) >> 13));
}

static float widen(uint16_t element, fastloss_element_type type) {
    uint32_t bits = (uint32_t)element << 16;
    if (type == FASTLOSS_ELEMENT_FLOAT16) {
        if ((element & 0x7fff) == 0) return 0;
        bits = (bits & 0x80000000u) | (((uint32_t)(element & 0x7fff) << 13) + (112u << 23));
    }
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static fastloss_masked_options sum_of(fastloss_element_type type) {
    fastloss_masked_options options = FASTLOSS_MASKED_OPTIONS;
    options.reduction = FASTLOSS_REDUCTION_SUM;
    options.predictions = type;
    return options;
}

/// 3 cells of 37 tokens, with 5 elements between the rows: quarters, whose squared errors are exact.
enum { ROWS = 3, COLUMNS = 37, STRIDE = 42, SENTINEL = 0x1234 };

typedef struct problem {
    uint16_t predictions[1 + ROWS * STRIDE];
    uint16_t gradient[1 + ROWS * STRIDE];
    float targets[ROWS * COLUMNS];
    bool mask[ROWS * COLUMNS];
} problem;

static void test_exact_numbers(fastloss_element_type type, int offset) {
    problem p;
    double sum = 0, cells[ROWS] = {0, 0, 0};
    int64_t count = 0;
    for (int i = 0; i < 1 + ROWS * STRIDE; i++) {
        // NaN in the gaps.
        p.predictions[i] = 0x7fff;
        p.gradient[i] = SENTINEL;
    }
    for (int row = 0; row < ROWS; row++) {
        for (int column = 0; column < COLUMNS; column++) {
            int i = row * COLUMNS + column, place = offset + row * STRIDE + column;
            float x = 0.25f * (float)((i * 7) % 23 - 11);
            p.targets[i] = 0.5f * (float)(i % 5);
            p.mask[i] = i % 3 != 1;
            p.predictions[place] = p.mask[i] ? narrow(x, type) : 0x7fff;
            double error = (double)(x - p.targets[i]);
            if (p.mask[i]) sum += error * error, cells[row] += error * error, count++;
        }
    }
    fastloss_masked_options options = sum_of(type);
    fastloss_gradient gradient = FASTLOSS_GRADIENT((float *)(void *)(p.gradient + offset), STRIDE);
    const float *predictions = (const float *)(const void *)(p.predictions + offset);
    fastloss_loss_value value;
    for (int updates = 1; updates <= 2; updates++) {
        CHECK_OK(fastloss_masked_mse(
            ROWS, COLUMNS, predictions, STRIDE, p.targets, COLUMNS, p.mask, COLUMNS, &options, &gradient,
            NULL, &value));
        CHECK(value.value == sum && value.selected_count == count);
        for (int row = 0; row < ROWS; row++) {
            for (int column = 0; column < STRIDE; column++) {
                int i = row * COLUMNS + column, place = offset + row * STRIDE + column;
                if (place >= 1 + ROWS * STRIDE) continue;
                if (column >= COLUMNS) {
                    CHECK(p.gradient[place] == SENTINEL);
                } else if (!p.mask[i]) {
                    CHECK(p.gradient[place] == 0);
                } else {
                    float slope = 2 * (widen(p.predictions[place], type) - p.targets[i]);
                    CHECK(widen(p.gradient[place], type) == (float)updates * slope);
                }
            }
        }
        // The second time, on top.
        gradient.update = FASTLOSS_UPDATE_ACCUMULATE;
    }
    float values[ROWS];
    CHECK_OK(fastloss_masked_mse_per_cell(
        ROWS, COLUMNS, predictions, STRIDE, p.targets, COLUMNS, p.mask, COLUMNS, &options, NULL, NULL, values,
        NULL));
    for (int row = 0; row < ROWS; row++) CHECK((double)values[row] == cells[row]);
}

/// The other losses agree with float32 to the bit.
static void test_other_losses(fastloss_element_type type) {
    uint16_t elements[ROWS * COLUMNS];
    float floats[ROWS * COLUMNS], targets[ROWS * COLUMNS];
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        elements[i] = narrow((float)(1 + i % 62) / 64, type);
        floats[i] = widen(elements[i], type);
        targets[i] = (float)(i % 4);
    }
    const float *predictions = (const float *)(const void *)elements;
    fastloss_masked_options options = sum_of(type), plain = sum_of(FASTLOSS_ELEMENT_FLOAT32);
    fastloss_loss_value value, expected;
#define AGREES(loss, ...)                                                                                    \
    do {                                                                                                     \
        CHECK_OK(loss(                                                                                       \
            ROWS, COLUMNS, predictions, COLUMNS, targets, COLUMNS, NULL, 0, &options, __VA_ARGS__, &value)); \
        CHECK_OK(loss(                                                                                       \
            ROWS, COLUMNS, floats, COLUMNS, targets, COLUMNS, NULL, 0, &plain, __VA_ARGS__, &expected));     \
        CHECK(value.value == expected.value && value.selected_count == ROWS * COLUMNS);                      \
    } while (0)
    AGREES(fastloss_bernoulli_nll, NULL, NULL);
    AGREES(fastloss_bernoulli_nll_logits, NULL, NULL);
    AGREES(fastloss_masked_relative_error, NULL);

    // 1.5 is no probability.
    elements[40] = narrow(1.5f, type);
    CHECK_FAILS(
        fastloss_bernoulli_nll(
            ROWS, COLUMNS, predictions, COLUMNS, targets, COLUMNS, NULL, 0, &options, NULL, NULL, &value),
        FASTLOSS_ERROR_PROBABILITY_OUT_OF_RANGE,
        "probability 1.5 at element 40 of predictions is not in [0, 1]; all outputs hold unspecified values; "
        "for logits, use the logit form");
}

// -----------------------------------------------------------------------------------------------------------
// Losses whose arithmetic is that of float32: the same value, and a gradient rounded once
// -----------------------------------------------------------------------------------------------------------

/// An output of a model in both types, with gaps in the 16-bit one, and its gradients.
typedef struct output {
    float floats[ROWS * COLUMNS];
    float exact[ROWS * COLUMNS];
    uint16_t elements[ROWS * STRIDE];
    uint16_t gradient[ROWS * STRIDE];
    fastloss_gradient float_gradient;
    fastloss_gradient element_gradient;
} output;

/// Quarters from -5 / 4 to 17 / 4, so that all rows are similar.
static void make_output(output *o, int seed, fastloss_element_type type) {
    for (int i = 0; i < ROWS * STRIDE; i++) {
        o->elements[i] = 0x7fff;
        o->gradient[i] = SENTINEL;
    }
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        o->floats[i] = 0.25f * (float)((i * seed) % 23 - 5);
        o->elements[i / COLUMNS * STRIDE + i % COLUMNS] = narrow(o->floats[i], type);
    }
    fastloss_gradient floats = FASTLOSS_GRADIENT(o->exact, COLUMNS);
    fastloss_gradient elements = FASTLOSS_GRADIENT((float *)(void *)o->gradient, STRIDE);
    o->float_gradient = floats, o->element_gradient = elements;
    // Far above the smallest float16.
    o->float_gradient.scale = o->element_gradient.scale = 1000;
}

/// Half a unit in the last place, and nothing written between the rows.
static void check_gradient(const output *o, fastloss_element_type type) {
    const double half = type == FASTLOSS_ELEMENT_BFLOAT16 ? 1.0 / 256 : 1.0 / 2048;
    double largest = 0;
    for (int row = 0; row < ROWS; row++) {
        for (int column = 0; column < STRIDE; column++) {
            const uint16_t element = o->gradient[row * STRIDE + column];
            if (column >= COLUMNS) {
                CHECK(element == SENTINEL);
                continue;
            }
            const double exact = (double)o->exact[row * COLUMNS + column];
            CHECK(fabs((double)widen(element, type) - exact) <= half * fabs(exact) + 1.0 / 16384);
            largest = fmax(largest, fabs(exact));
        }
    }
    CHECK(largest > 0.1);
}

static const float *as_floats(const uint16_t *elements) { return (const float *)(const void *)elements; }

static void test_cell_embeddings_of(fastloss_element_type type) {
    output first, second;
    make_output(&first, 7, type);
    make_output(&second, 5, type);
    fastloss_loss_value value = {-1, -1}, expected = {-2, -2};

    fastloss_elastic_options elastic = FASTLOSS_ELASTIC_OPTIONS;
    CHECK_OK(fastloss_elastic_cell_similarity(
        ROWS, COLUMNS, first.floats, COLUMNS, &elastic, &first.float_gradient, NULL, &expected));
    elastic.embeddings = type;
    CHECK_OK(fastloss_elastic_cell_similarity(
        ROWS, COLUMNS, as_floats(first.elements), STRIDE, &elastic, &first.element_gradient, NULL, &value));
    CHECK(value.value == expected.value && value.selected_count == ROWS);
    check_gradient(&first, type);
    // The value alone.
    CHECK_OK(fastloss_elastic_cell_similarity(
        ROWS, COLUMNS, as_floats(first.elements), STRIDE, &elastic, NULL, NULL, &value));
    CHECK(value.value == expected.value);

    fastloss_contrastive_options contrastive = FASTLOSS_CONTRASTIVE_OPTIONS;
    CHECK_OK(fastloss_contrastive_cell_embedding(
        ROWS, COLUMNS, first.floats, COLUMNS, second.floats, COLUMNS, &contrastive, &first.float_gradient,
        &second.float_gradient, NULL, &expected));
    contrastive.embeddings = type;
    CHECK_OK(fastloss_contrastive_cell_embedding(
        ROWS, COLUMNS, as_floats(first.elements), STRIDE, as_floats(second.elements), STRIDE, &contrastive,
        &first.element_gradient, &second.element_gradient, NULL, &value));
    CHECK(value.value == expected.value && value.selected_count == ROWS);
    check_gradient(&first, type);
    check_gradient(&second, type);

    elastic.reserved = 1;
    CHECK_FAILS(
        fastloss_elastic_cell_similarity(
            ROWS, COLUMNS, as_floats(first.elements), STRIDE, &elastic, NULL, NULL, &value),
        FASTLOSS_ERROR_INVALID_STRUCT, "options.reserved is 1, but it must be 0");
    // The first version of the struct ended before the type.
    elastic.size = 16;
    CHECK_OK(
        fastloss_elastic_cell_similarity(ROWS, COLUMNS, first.floats, COLUMNS, &elastic, NULL, NULL, &value));
    contrastive.embeddings = 3;
    CHECK_FAILS(
        fastloss_contrastive_cell_embedding(
            ROWS, COLUMNS, first.floats, COLUMNS, second.floats, COLUMNS, &contrastive, NULL, NULL, NULL,
            &value),
        FASTLOSS_ERROR_INVALID_ENUMERATION,
        "options.embeddings is 3, which is not a constant of its enumeration");
}

static void test_classification_of(fastloss_element_type type) {
    output logits, reversed;
    make_output(&logits, 7, type);
    make_output(&reversed, 7, type);
    const int32_t labels[ROWS] = {36, FASTLOSS_IGNORED_LABEL, 0};
    fastloss_loss_value value = {-1, -1}, expected = {-2, -2};

    fastloss_cross_entropy_options options = FASTLOSS_CROSS_ENTROPY_OPTIONS;
    CHECK_OK(fastloss_cross_entropy(
        ROWS, COLUMNS, logits.floats, COLUMNS, labels, &options, &logits.float_gradient, NULL, &expected));
    options.logits = type;
    CHECK_OK(fastloss_cross_entropy(
        ROWS, COLUMNS, as_floats(logits.elements), STRIDE, labels, &options, &logits.element_gradient, NULL,
        &value));
    CHECK(value.value == expected.value && value.selected_count == 2);
    check_gradient(&logits, type);

    fastloss_domain_adversarial_options adversarial = FASTLOSS_DOMAIN_ADVERSARIAL_OPTIONS;
    adversarial.lambda = 0.5f;
    CHECK_OK(fastloss_domain_adversarial(
        ROWS, COLUMNS, logits.floats, COLUMNS, labels, &adversarial, &logits.float_gradient,
        &reversed.float_gradient, NULL, &expected));
    adversarial.logits = type;
    CHECK_OK(fastloss_domain_adversarial(
        ROWS, COLUMNS, as_floats(logits.elements), STRIDE, labels, &adversarial, &logits.element_gradient,
        &reversed.element_gradient, NULL, &value));
    CHECK(value.value == expected.value && value.selected_count == 2);
    check_gradient(&logits, type);
    check_gradient(&reversed, type);
    adversarial.reserved = 2;
    CHECK_FAILS(
        fastloss_domain_adversarial(
            ROWS, COLUMNS, as_floats(logits.elements), STRIDE, labels, &adversarial, NULL, NULL, NULL,
            &value),
        FASTLOSS_ERROR_INVALID_STRUCT, "options.reserved is 2, but it must be 0");
    // The first version of the struct ended before the type.
    adversarial.size = 24;
    CHECK_OK(fastloss_domain_adversarial(
        ROWS, COLUMNS, logits.floats, COLUMNS, labels, &adversarial, NULL, NULL, NULL, &value));
    CHECK(value.value == expected.value);
}

/// Each input has its own type. ECS and CCE add up their gradients before these are rounded.
static void test_objective_of(fastloss_element_type type) {
    output genes, first, second, logits;
    make_output(&genes, 7, type);
    make_output(&first, 11, type);
    make_output(&second, 5, type);
    make_output(&logits, 3, type);
    float targets[ROWS * COLUMNS];
    for (int i = 0; i < ROWS * COLUMNS; i++) targets[i] = 0.5f * (float)(i % 5);
    const int32_t labels[ROWS] = {36, 1, 0};
    fastloss_objective objective = FASTLOSS_OBJECTIVE;
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_MASKED_GENE, 1));
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_ELASTIC, 10));
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_CONTRASTIVE, 10));
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_BATCH, 1));
    fastloss_objective_inputs inputs = FASTLOSS_OBJECTIVE_INPUTS;
    inputs.cells = ROWS, inputs.genes = inputs.width = inputs.batch_count = COLUMNS;
    inputs.targets.data = targets, inputs.targets.stride = COLUMNS;
    inputs.batch_labels = labels;
    fastloss_objective_gradients gradients = FASTLOSS_OBJECTIVE_GRADIENTS;
    gradients.scale = 1000;
    fastloss_objective_value expected = FASTLOSS_OBJECTIVE_VALUE, value = FASTLOSS_OBJECTIVE_VALUE;

    inputs.gene_predictions.data = genes.floats, inputs.gene_predictions.stride = COLUMNS;
    inputs.cell_embedding.data = first.floats, inputs.cell_embedding.stride = COLUMNS;
    inputs.second_cell_embedding.data = second.floats, inputs.second_cell_embedding.stride = COLUMNS;
    inputs.batch_logits.data = logits.floats, inputs.batch_logits.stride = COLUMNS;
    gradients.gene_predictions.data = genes.exact, gradients.gene_predictions.stride = COLUMNS;
    gradients.cell_embedding.data = first.exact, gradients.cell_embedding.stride = COLUMNS;
    gradients.second_cell_embedding.data = second.exact, gradients.second_cell_embedding.stride = COLUMNS;
    gradients.reversed_batch_logits.data = logits.exact, gradients.reversed_batch_logits.stride = COLUMNS;
    CHECK_OK(fastloss_total_objective(&objective, &inputs, &gradients, NULL, &expected));

    // The second embedding stays float32.
    inputs.gene_predictions.data = as_floats(genes.elements), inputs.gene_predictions.stride = STRIDE;
    inputs.cell_embedding.data = as_floats(first.elements), inputs.cell_embedding.stride = STRIDE;
    inputs.batch_logits.data = as_floats(logits.elements), inputs.batch_logits.stride = STRIDE;
    inputs.gene_predictions_type = inputs.cell_embedding_type = inputs.batch_logits_type = type;
    gradients.gene_predictions.data = (float *)(void *)genes.gradient;
    gradients.cell_embedding.data = (float *)(void *)first.gradient;
    gradients.reversed_batch_logits.data = (float *)(void *)logits.gradient;
    gradients.gene_predictions.stride = gradients.cell_embedding.stride = STRIDE;
    gradients.reversed_batch_logits.stride = STRIDE;
    float of_second[ROWS * COLUMNS];
    gradients.second_cell_embedding.data = of_second;
    CHECK_OK(fastloss_total_objective(&objective, &inputs, &gradients, NULL, &value));
    CHECK(value.total == expected.total && value.relative_error == expected.relative_error);
    check_gradient(&genes, type);
    check_gradient(&first, type);
    check_gradient(&logits, type);
    CHECK_SAME(of_second, second.exact, ROWS * COLUMNS);

    // Twice the gradient is the sum of the rounded one and the exact one, rounded: within a unit.
    gradients.update = FASTLOSS_UPDATE_ACCUMULATE;
    CHECK_OK(fastloss_total_objective(&objective, &inputs, &gradients, NULL, &value));
    const double unit = type == FASTLOSS_ELEMENT_BFLOAT16 ? 1.0 / 128 : 1.0 / 1024;
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        const double sum = (double)widen(first.gradient[i / COLUMNS * STRIDE + i % COLUMNS], type);
        const double exact = 2 * (double)first.exact[i];
        CHECK(fabs(sum - exact) <= unit * fabs(exact) + 1.0 / 8192);
    }

    inputs.batch_logits_type = 3;
    CHECK_FAILS(
        fastloss_total_objective(&objective, &inputs, NULL, NULL, &value), FASTLOSS_ERROR_INVALID_ENUMERATION,
        "batch_logits_type is 3, which is not a constant of its enumeration");
    // The first version of the struct ended before the types.
    inputs.gene_predictions.data = genes.floats, inputs.gene_predictions.stride = COLUMNS;
    inputs.cell_embedding.data = first.floats, inputs.cell_embedding.stride = COLUMNS;
    inputs.batch_logits.data = logits.floats, inputs.batch_logits.stride = COLUMNS;
    inputs.size = 240;
    CHECK_OK(fastloss_total_objective(&objective, &inputs, NULL, NULL, &value));
    CHECK(value.total == expected.total);
}

/// Outputs without gaps are read in place, and their gradients written there: without memory for copies, and
/// with the bits of copies.
static void test_objective_in_place(fastloss_element_type type) {
    output genes, first, second;
    make_output(&genes, 7, type);
    make_output(&first, 11, type);
    make_output(&second, 5, type);
    output *outputs[] = {&genes, &first, &second};
    float targets[ROWS * COLUMNS];
    for (int i = 0; i < ROWS * COLUMNS; i++) targets[i] = 0.5f * (float)(i % 5);
    fastloss_objective objective = FASTLOSS_OBJECTIVE;
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_MASKED_GENE, 1));
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_ELASTIC, 10));
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_CONTRASTIVE, 10));
    fastloss_objective_inputs inputs = FASTLOSS_OBJECTIVE_INPUTS;
    inputs.cells = ROWS, inputs.genes = inputs.width = COLUMNS;
    inputs.targets.data = targets, inputs.targets.stride = COLUMNS;
    inputs.gene_predictions_type = inputs.cell_embedding_type = inputs.second_cell_embedding_type = type;
    fastloss_objective_gradients gradients = FASTLOSS_OBJECTIVE_GRADIENTS;
    gradients.scale = 1000;
    fastloss_view *views[] = {
        &inputs.gene_predictions, &inputs.cell_embedding, &inputs.second_cell_embedding};
    fastloss_mutable_view *places[] = {
        &gradients.gene_predictions, &gradients.cell_embedding, &gradients.second_cell_embedding};
    uint16_t dense[3][ROWS * COLUMNS], dense_gradients[3][ROWS * COLUMNS];
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < ROWS * COLUMNS; i++) {
            dense[k][i] = outputs[k]->elements[i / COLUMNS * STRIDE + i % COLUMNS];
            dense_gradients[k][i] = SENTINEL;
        }
    }
    fastloss_workspace *with_gaps = NULL, *in_place = NULL;
    CHECK_OK(fastloss_workspace_create(1, &with_gaps));
    CHECK_OK(fastloss_workspace_create(1, &in_place));
    fastloss_objective_value expected = FASTLOSS_OBJECTIVE_VALUE, value = FASTLOSS_OBJECTIVE_VALUE;
    // The second time on top of the first.
    for (int k = 0; k < 2; k++) {
        gradients.update = k == 0 ? FASTLOSS_UPDATE_OVERWRITE : FASTLOSS_UPDATE_ACCUMULATE;
        for (int i = 0; i < 3; i++) {
            views[i]->data = as_floats(outputs[i]->elements), views[i]->stride = STRIDE;
            places[i]->data = (float *)(void *)outputs[i]->gradient, places[i]->stride = STRIDE;
        }
        CHECK_OK(fastloss_total_objective(&objective, &inputs, &gradients, with_gaps, &expected));
        for (int i = 0; i < 3; i++) {
            views[i]->data = as_floats(dense[i]), views[i]->stride = COLUMNS;
            places[i]->data = (float *)(void *)dense_gradients[i], places[i]->stride = COLUMNS;
        }
        CHECK_OK(fastloss_total_objective(&objective, &inputs, &gradients, in_place, &value));
        CHECK(value.total == expected.total && value.relative_error == expected.relative_error);
        for (int i = 0; i < 3 * ROWS * COLUMNS; i++) {
            const int o = i / (ROWS * COLUMNS), j = i % (ROWS * COLUMNS);
            CHECK(dense_gradients[o][j] == outputs[o]->gradient[j / COLUMNS * STRIDE + j % COLUMNS]);
        }
    }
    CHECK(fastloss_workspace_byte_count(in_place) < fastloss_workspace_byte_count(with_gaps));
    fastloss_workspace_destroy(in_place);
    fastloss_workspace_destroy(with_gaps);

    // Buffers that share an element.
    gradients.second_cell_embedding.data = (float *)(void *)(dense_gradients[1] + ROWS * COLUMNS - 1);
    CHECK_FAILS(
        fastloss_total_objective(&objective, &inputs, &gradients, NULL, &value),
        FASTLOSS_ERROR_OVERLAPPING_BUFFERS,
        "output gradients.second_cell_embedding shares memory with gradients.cell_embedding");
}

// -----------------------------------------------------------------------------------------------------------
// Task heads: parameters, targets and losses stay float32
// -----------------------------------------------------------------------------------------------------------

/// As many numbers as a layer of [state; embedding] has, from -1/8 to 1/8.
enum { WEIGHTS = 2 * COLUMNS * COLUMNS };

typedef struct parameters {
    float weight[WEIGHTS];
    float bias[2 * COLUMNS];
    /// Of the gradients by floats and by 16-bit inputs.
    float exact[2][WEIGHTS];
} parameters;

static void make_parameters(parameters *p, int seed) {
    for (int i = 0; i < WEIGHTS; i++) p->weight[i] = (float)((i * seed) % 17 - 8) / 64;
    for (int i = 0; i < 2 * COLUMNS; i++) p->bias[i] = (float)(i % 3) / 8;
    memset(p->exact, 0, sizeof p->exact);
}

static fastloss_layer layer_of(const parameters *p) {
    const fastloss_layer layer = {p->weight, p->bias};
    return layer;
}

static fastloss_layer_gradient gradient_of(parameters *p, int of_elements) {
    const fastloss_layer_gradient layer = {p->exact[of_elements], NULL};
    return layer;
}

static const float targets_of_rows[ROWS * ROWS] = {1, 0, 2, 0.5f, 3, 0, 1, 1, 2};
static const int32_t labels_of_rows[ROWS] = {0, 2, 1};

/// The states of the cell that is not selected are NaN.
static void test_expression_decoder_of(fastloss_element_type type) {
    output states, batches;
    make_output(&states, 7, type);
    make_output(&batches, 5, type);
    static parameters first, second, third;
    make_parameters(&first, 3), make_parameters(&second, 5), make_parameters(&third, 7);
    const bool mask[ROWS] = {true, false, true};
    for (int i = 0; i < COLUMNS; i++) {
        states.floats[COLUMNS + i] = NAN;
        states.elements[STRIDE + i] = 0x7fff;
    }
    fastloss_expression_decoder decoder = FASTLOSS_EXPRESSION_DECODER(COLUMNS);
    decoder.batch_embeddings = true;
    decoder.fc.first = layer_of(&first), decoder.fc.second = layer_of(&second);
    decoder.fc.third = layer_of(&third);
    const fastloss_decoder_targets targets = FASTLOSS_DECODER_TARGETS(targets_of_rows, 1);
    fastloss_expression_decoder_inputs inputs = FASTLOSS_EXPRESSION_DECODER_INPUTS;
    inputs.cells = inputs.batch_count = ROWS, inputs.tokens = 1;
    inputs.mask.data = mask, inputs.mask.stride = 1;
    inputs.batch_labels = labels_of_rows;
    fastloss_expression_decoder_gradients gradients = FASTLOSS_EXPRESSION_DECODER_GRADIENTS;
    gradients.scale = 64;
    fastloss_decoder_losses losses = FASTLOSS_DECODER_LOSSES, expected = FASTLOSS_DECODER_LOSSES;

    inputs.states = states.floats, inputs.states_token_stride = inputs.states_cell_stride = COLUMNS;
    inputs.batch_embeddings.data = batches.floats, inputs.batch_embeddings.stride = COLUMNS;
    gradients.states = states.exact;
    gradients.states_token_stride = gradients.states_cell_stride = COLUMNS;
    gradients.batch_embeddings.data = batches.exact, gradients.batch_embeddings.stride = COLUMNS;
    gradients.fc.first = gradient_of(&first, 0), gradients.fc.second = gradient_of(&second, 0);
    CHECK_OK(fastloss_expression_decoder_loss(&decoder, &inputs, &targets, &gradients, NULL, &expected));

    inputs.states = as_floats(states.elements), inputs.states_cell_stride = STRIDE;
    inputs.batch_embeddings.data = as_floats(batches.elements), inputs.batch_embeddings.stride = STRIDE;
    inputs.states_type = inputs.batch_embeddings_type = type;
    gradients.states = (float *)(void *)states.gradient, gradients.states_cell_stride = STRIDE;
    gradients.batch_embeddings.data = (float *)(void *)batches.gradient;
    gradients.batch_embeddings.stride = STRIDE;
    gradients.fc.first = gradient_of(&first, 1), gradients.fc.second = gradient_of(&second, 1);
    CHECK_OK(fastloss_expression_decoder_loss(&decoder, &inputs, &targets, &gradients, NULL, &losses));
    CHECK(losses.squared_error == expected.squared_error && losses.selected_count == 2);
    check_gradient(&states, type);
    check_gradient(&batches, type);
    CHECK_SAME(first.exact[1], first.exact[0], WEIGHTS);
    CHECK_SAME(second.exact[1], second.exact[0], COLUMNS * COLUMNS);

    // A gradient that shares its first element with the last one of the states.
    gradients.states = (float *)(void *)(states.elements + (ROWS - 1) * STRIDE + COLUMNS - 1);
    gradients.batch_embeddings.data = NULL;
    CHECK_FAILS(
        fastloss_expression_decoder_loss(&decoder, &inputs, &targets, &gradients, NULL, &losses),
        FASTLOSS_ERROR_OVERLAPPING_BUFFERS, "output gradients.states shares memory with states");
    inputs.states = (const float *)(const void *)((const char *)states.elements + 1);
    CHECK(
        fastloss_expression_decoder_loss(&decoder, &inputs, &targets, NULL, NULL, &losses)
        == FASTLOSS_ERROR_MISALIGNED_POINTER);
    CHECK(strstr(fastloss_last_error(), "a multiple of 2") != NULL);
    inputs.states_type = 3;
    CHECK_FAILS(
        fastloss_expression_decoder_loss(&decoder, &inputs, &targets, NULL, NULL, &losses),
        FASTLOSS_ERROR_INVALID_ENUMERATION, "states_type is 3, which is not a constant of its enumeration");
    // The first version of the struct ended before the types.
    inputs.states = states.floats, inputs.states_cell_stride = COLUMNS;
    inputs.batch_embeddings.data = batches.floats, inputs.batch_embeddings.stride = COLUMNS;
    inputs.size = 96;
    CHECK_OK(fastloss_expression_decoder_loss(&decoder, &inputs, &targets, NULL, NULL, &losses));
    CHECK(losses.squared_error == expected.squared_error);
}

/// The embeddings of the genes stay float32.
static void test_masked_value_decoder_of(fastloss_element_type type, fastloss_query_style style) {
    const bool is_product = style == FASTLOSS_QUERY_INNER_PRODUCT;
    output cells, genes, batches;
    make_output(&cells, 7, type);
    make_output(&genes, 11, type);
    make_output(&batches, 5, type);
    static parameters query, answer, second;
    make_parameters(&query, 3), make_parameters(&answer, 5), make_parameters(&second, 7);
    const int32_t genes_of_tokens[ROWS] = {0, 1, 2};
    const float slope = 0.25f;
    fastloss_masked_value_decoder decoder = FASTLOSS_MASKED_VALUE_DECODER(COLUMNS);
    decoder.style = style, decoder.batch_embeddings = is_product, decoder.hidden_width = COLUMNS;
    decoder.gene2query = layer_of(&query);
    decoder.w_weight = answer.weight;
    decoder.fc1 = layer_of(&answer), decoder.fc2 = layer_of(&second), decoder.hidden_activation = &slope;
    const fastloss_decoder_targets targets = FASTLOSS_DECODER_TARGETS(targets_of_rows, ROWS);
    fastloss_masked_value_inputs inputs = FASTLOSS_MASKED_VALUE_INPUTS;
    inputs.cells = inputs.tokens = inputs.gene_count = inputs.batch_count = ROWS;
    inputs.genes = genes_of_tokens;
    inputs.gene_embeddings.data = genes.floats, inputs.gene_embeddings.stride = COLUMNS;
    inputs.batch_labels = labels_of_rows;
    fastloss_masked_value_gradients gradients = FASTLOSS_MASKED_VALUE_GRADIENTS;
    gradients.scale = 64;
    fastloss_decoder_losses losses = FASTLOSS_DECODER_LOSSES, expected = FASTLOSS_DECODER_LOSSES;

    inputs.cell_embeddings.data = cells.floats, inputs.cell_embeddings.stride = COLUMNS;
    inputs.batch_embeddings.data = batches.floats, inputs.batch_embeddings.stride = COLUMNS;
    gradients.cell_embeddings.data = cells.exact, gradients.cell_embeddings.stride = COLUMNS;
    gradients.gene_embeddings.data = genes.exact, gradients.gene_embeddings.stride = COLUMNS;
    gradients.batch_embeddings.data = is_product ? batches.exact : NULL;
    gradients.batch_embeddings.stride = COLUMNS;
    gradients.gene2query = gradient_of(&query, 0);
    CHECK_OK(fastloss_masked_value_decoder_loss(&decoder, &inputs, &targets, &gradients, NULL, &expected));

    float of_genes[ROWS * COLUMNS];
    inputs.cell_embeddings.data = as_floats(cells.elements), inputs.cell_embeddings.stride = STRIDE;
    inputs.batch_embeddings.data = as_floats(batches.elements), inputs.batch_embeddings.stride = STRIDE;
    inputs.cell_embeddings_type = inputs.batch_embeddings_type = type;
    gradients.cell_embeddings.data = (float *)(void *)cells.gradient;
    gradients.cell_embeddings.stride = STRIDE;
    gradients.gene_embeddings.data = of_genes;
    gradients.batch_embeddings.data = is_product ? (float *)(void *)batches.gradient : NULL;
    gradients.batch_embeddings.stride = STRIDE;
    gradients.gene2query = gradient_of(&query, 1);
    CHECK_OK(fastloss_masked_value_decoder_loss(&decoder, &inputs, &targets, &gradients, NULL, &losses));
    CHECK(losses.squared_error == expected.squared_error && losses.selected_count == ROWS * ROWS);
    check_gradient(&cells, type);
    if (is_product) check_gradient(&batches, type);
    CHECK_SAME(of_genes, genes.exact, ROWS * COLUMNS);
    CHECK_SAME(query.exact[1], query.exact[0], COLUMNS * COLUMNS);

    // All of one type.
    inputs.gene_embeddings.data = as_floats(genes.elements), inputs.gene_embeddings.stride = STRIDE;
    inputs.gene_embeddings_type = type;
    gradients.gene_embeddings.data = (float *)(void *)genes.gradient;
    gradients.gene_embeddings.stride = STRIDE;
    CHECK_OK(fastloss_masked_value_decoder_loss(&decoder, &inputs, &targets, &gradients, NULL, &losses));
    CHECK(losses.squared_error == expected.squared_error);
    check_gradient(&genes, type);

    inputs.reserved = 1;
    CHECK_FAILS(
        fastloss_masked_value_decoder_loss(&decoder, &inputs, &targets, NULL, NULL, &losses),
        FASTLOSS_ERROR_INVALID_STRUCT, "inputs.reserved is 1, but it must be 0");
    inputs.reserved = 0, inputs.gene_embeddings_type = -1;
    CHECK_FAILS(
        fastloss_masked_value_decoder_loss(&decoder, &inputs, &targets, NULL, NULL, &losses),
        FASTLOSS_ERROR_INVALID_ENUMERATION,
        "gene_embeddings_type is -1, which is not a constant of its enumeration");
}

static void test_classifiers_of(fastloss_element_type type) {
    output cells;
    make_output(&cells, 7, type);
    static parameters layer;
    make_parameters(&layer, 3);
    fastloss_classifier classifier = FASTLOSS_CLASSIFIER(COLUMNS, ROWS);
    classifier.out_layer = layer_of(&layer);
    fastloss_classifier_gradients gradients = FASTLOSS_CLASSIFIER_GRADIENTS;
    gradients.scale = 1000;
    fastloss_domain_adversarial_options options = FASTLOSS_DOMAIN_ADVERSARIAL_OPTIONS;
    options.lambda = 0.5f;
    fastloss_loss_value value = {-1, -1}, expected = {-2, -2};

    gradients.cell_embeddings.data = cells.exact, gradients.cell_embeddings.stride = COLUMNS;
    gradients.out_layer = gradient_of(&layer, 0);
    CHECK_OK(fastloss_adversarial_discriminator_loss(
        &classifier, ROWS, cells.floats, COLUMNS, labels_of_rows, &options, &gradients, NULL, &expected));
    classifier.cell_embeddings_type = type;
    gradients.cell_embeddings.data = (float *)(void *)cells.gradient;
    gradients.cell_embeddings.stride = STRIDE;
    gradients.out_layer = gradient_of(&layer, 1);
    CHECK_OK(fastloss_adversarial_discriminator_loss(
        &classifier, ROWS, as_floats(cells.elements), STRIDE, labels_of_rows, &options, &gradients, NULL,
        &value));
    CHECK(value.value == expected.value && value.selected_count == ROWS);
    check_gradient(&cells, type);
    CHECK_SAME(layer.exact[1], layer.exact[0], ROWS * COLUMNS);

    float logits[2][ROWS * ROWS];
    CHECK_OK(fastloss_cell_type_decoder_predict(
        &classifier, ROWS, as_floats(cells.elements), STRIDE, logits[0], ROWS, NULL));
    classifier.cell_embeddings_type = FASTLOSS_ELEMENT_FLOAT32;
    CHECK_OK(
        fastloss_cell_type_decoder_predict(&classifier, ROWS, cells.floats, COLUMNS, logits[1], ROWS, NULL));
    CHECK_SAME(logits[0], logits[1], ROWS * ROWS);

    classifier.cell_embeddings_type = 4;
    CHECK_FAILS(
        fastloss_cell_type_decoder_predict(&classifier, ROWS, cells.floats, COLUMNS, logits[0], ROWS, NULL),
        FASTLOSS_ERROR_INVALID_ENUMERATION,
        "cell_embeddings_type is 4, which is not a constant of its enumeration");
    classifier.cell_embeddings_type = type, classifier.reserved = 1;
    CHECK_FAILS(
        fastloss_cell_type_decoder_predict(&classifier, ROWS, cells.floats, COLUMNS, logits[0], ROWS, NULL),
        FASTLOSS_ERROR_INVALID_STRUCT, "reserved is 1, but it must be 0");
    // The first version of the struct ended before the type.
    classifier.size = 56;
    CHECK_OK(
        fastloss_cell_type_decoder_predict(&classifier, ROWS, cells.floats, COLUMNS, logits[0], ROWS, NULL));
    CHECK_SAME(logits[0], logits[1], ROWS * ROWS);
}

static void test_errors_of_types(fastloss_element_type type) {
    uint16_t elements[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    const float targets[4] = {0, 0, 0, 0};
    fastloss_masked_options options = sum_of(type);
    fastloss_loss_value value;
    const float *odd = (const float *)(const void *)((const char *)elements + 1);
    CHECK(
        fastloss_masked_mse(2, 2, odd, 2, targets, 2, NULL, 0, &options, NULL, NULL, &value)
        == FASTLOSS_ERROR_MISALIGNED_POINTER);
    CHECK(strstr(fastloss_last_error(), "a multiple of 2") != NULL);
    // A gradient that begins with the last of the predictions.
    fastloss_gradient gradient = FASTLOSS_GRADIENT((float *)(void *)(elements + 3), 2);
    const float *predictions = (const float *)(const void *)elements;
    CHECK_FAILS(
        fastloss_masked_mse(2, 2, predictions, 2, targets, 2, NULL, 0, &options, &gradient, NULL, &value),
        FASTLOSS_ERROR_OVERLAPPING_BUFFERS, "output gradient shares memory with predictions");
    gradient.data = (float *)(void *)(elements + 4);
    CHECK_OK(
        fastloss_masked_mse(2, 2, predictions, 2, targets, 2, NULL, 0, &options, &gradient, NULL, &value));

    bool masks[2] = {true, true};
    float sums[2] = {5, 5};
    CHECK_FAILS(
        fastloss_masked_reductions(2, 2, 1, targets, 2, masks, 2, &options, sums, 1, NULL),
        FASTLOSS_ERROR_INVALID_PARAMETER,
        "options.predictions is a 16-bit type, but this function reads FASTLOSS_ELEMENT_FLOAT32 alone");
    CHECK(sums[0] == 5 && sums[1] == 5);
}

void test_mixed_precision(void) {
    const fastloss_element_type types[2] = {FASTLOSS_ELEMENT_BFLOAT16, FASTLOSS_ELEMENT_FLOAT16};
    for (int i = 0; i < 2; i++) {
        now_testing("predictions of the type %d", (int)types[i]);
        // An offset of 1 is an address that no float has.
        test_exact_numbers(types[i], 0);
        test_exact_numbers(types[i], 1);
        test_other_losses(types[i]);
        test_cell_embeddings_of(types[i]);
        test_classification_of(types[i]);
        test_objective_of(types[i]);
        test_objective_in_place(types[i]);
        test_expression_decoder_of(types[i]);
        test_masked_value_decoder_of(types[i], FASTLOSS_QUERY_INNER_PRODUCT);
        test_masked_value_decoder_of(types[i], FASTLOSS_QUERY_SUM);
        test_classifiers_of(types[i]);
        test_errors_of_types(types[i]);
    }
}
