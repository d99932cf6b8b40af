// The total objective against PyTorch: presets, every term, every gradient.

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support.h"

/// An input of the objective: its name in the goldens, its places in the structs, its columns.
typedef struct member {
    const char *name;
    fastloss_view *input;
    fastloss_mutable_view *gradient;
    int64_t columns;
} member;

enum { member_count = 9 };

static void list_members(
    member *members, fastloss_objective_inputs *inputs, fastloss_objective_gradients *gradients) {
    int64_t genes = inputs->genes, width = inputs->width;
    member list[member_count] = {
        {"genePredictions", &inputs->gene_predictions, &gradients->gene_predictions, genes},
        {"geneNonzeroProbabilities", &inputs->gene_nonzero, &gradients->gene_nonzero, genes},
        {"cellPredictions", &inputs->cell_predictions, &gradients->cell_predictions, genes},
        {"cellNonzeroProbabilities", &inputs->cell_nonzero, &gradients->cell_nonzero, genes},
        {"generatedPredictions", &inputs->generated_predictions, &gradients->generated_predictions, genes},
        {"cellEmbedding", &inputs->cell_embedding, &gradients->cell_embedding, width},
        {"secondCellEmbedding", &inputs->second_cell_embedding, &gradients->second_cell_embedding, width},
        {"cellTypeLogits", &inputs->cell_type_logits, &gradients->cell_type_logits, inputs->cell_type_count},
        {"batchLogits", &inputs->batch_logits, &gradients->batch_logits, inputs->batch_count},
    };
    memcpy(members, list, sizeof list);
}

static int64_t input_count(const json *golden, const char *name) {
    const json *array = json_member(json_member(golden, "inputs"), name);
    return array == NULL ? 0 : (int64_t)array->count;
}

static void fill_inputs(fastloss_objective_inputs *inputs, const json *golden, int64_t gap) {
    inputs->cells = (int64_t)parameter(golden, "cells");
    inputs->genes = (int64_t)parameter(golden, "tokens");
    inputs->width = (int64_t)parameter(golden, "width");
    inputs->cell_type_count = input_count(golden, "cellTypeLogits") / inputs->cells;
    inputs->batch_count = input_count(golden, "batchLogits") / inputs->cells;
    if (floats(golden, "targets") != NULL) {
        inputs->targets.data = spread(floats(golden, "targets"), inputs->cells, inputs->genes, gap);
        inputs->targets.stride = inputs->genes + gap;
        inputs->mask.data = spread_mask(bools(golden, "mask"), inputs->cells, inputs->genes, gap);
        inputs->mask.stride = inputs->genes + gap;
    }
    inputs->cell_type_labels = int32s(golden, "cellTypeLabels");
    inputs->batch_labels = int32s(golden, "batchLabels");
    fastloss_objective_gradients unused = FASTLOSS_OBJECTIVE_GRADIENTS;
    member members[member_count];
    list_members(members, inputs, &unused);
    for (int i = 0; i < member_count; i++) {
        const float *dense = floats(golden, members[i].name);
        if (dense == NULL) continue;
        members[i].input->data = spread(dense, inputs->cells, members[i].columns, gap);
        members[i].input->stride = members[i].columns + gap;
    }
}

/// The objective that a golden's weights describe.
static fastloss_objective objective_of(const json *golden) {
    fastloss_objective objective = FASTLOSS_OBJECTIVE;
    for (fastloss_term term = 0; term < FASTLOSS_TERM_COUNT; term++) {
        char name[64];
        snprintf(name, sizeof name, "weight.%s", fastloss_term_name(term));
        if (!has_parameter(golden, name)) continue;
        CHECK_OK(fastloss_objective_enable(&objective, term, (float)parameter(golden, name)));
    }
    objective.elastic_threshold = (float)parameter(golden, "threshold");
    objective.contrastive_temperature = (float)parameter(golden, "temperature");
    return objective;
}

static void check_value(
    const fastloss_objective_value *value, const fastloss_objective *objective, const json *golden) {
    CHECK_NUMBER(value->total, truth(golden, "total")[0], PRODUCT);
    CHECK(value->terms == objective->terms);
    double total = 0;
    for (int term = 0; term < FASTLOSS_TERM_COUNT; term++) {
        char name[64];
        snprintf(name, sizeof name, "value.%s", fastloss_term_name(term));
        const double *expected = truth(golden, name);
        int is_on = (objective->terms & FASTLOSS_TERM_BIT(term)) != 0;
        CHECK(is_on == (expected != NULL));
        if (expected == NULL) {
            CHECK(value->values[term] == 0 && value->weighted[term] == 0 && value->logged[term] == 0);
            continue;
        }
        CHECK_NUMBER(value->values[term], expected[0], PRODUCT);
        CHECK_NUMBER(value->weighted[term], expected[0] * (double)objective->weights[term], PRODUCT);
        snprintf(name, sizeof name, "logged.%s", fastloss_term_name(term));
        CHECK_NUMBER(value->logged[term], truth(golden, name)[0], PRODUCT);
        total += value->weighted[term];
    }
    CHECK_NUMBER(total, value->total, 1e-12);
    if (truth(golden, "relativeError") != NULL) {
        CHECK_NUMBER(value->relative_error, truth(golden, "relativeError")[0], ELEMENTWISE);
    } else {
        CHECK(isnan(value->relative_error));
    }
    const bool *mask = bools(golden, "mask");
    int64_t selected = 0;
    for (int64_t i = 0; i < input_count(golden, "mask"); i++) selected += mask[i];
    CHECK(value->selected_count == selected);
}

static void test_golden(const json *golden, const fastloss_objective *objective, int64_t gap) {
    fastloss_objective_inputs inputs = FASTLOSS_OBJECTIVE_INPUTS;
    fill_inputs(&inputs, golden, gap);
    fastloss_objective_value value = FASTLOSS_OBJECTIVE_VALUE;
    CHECK_OK(fastloss_total_objective(objective, &inputs, NULL, NULL, &value));
    check_value(&value, objective, golden);

    fastloss_objective_gradients gradients = FASTLOSS_OBJECTIVE_GRADIENTS;
    member members[member_count];
    list_members(members, &inputs, &gradients);
    for (int accumulates = 0; accumulates < 2; accumulates++) {
        gradients.scale = accumulates ? -2.0f : 1.0f;
        gradients.update = accumulates ? FASTLOSS_UPDATE_ACCUMULATE : FASTLOSS_UPDATE_OVERWRITE;
        double before = accumulates ? 1 : 0;
        for (int i = 0; i < member_count; i++) {
            if (members[i].input->data == NULL) continue;
            members[i].gradient->data =
                blank(inputs.cells, members[i].columns, gap, accumulates ? 1.0f : 7.0f);
            members[i].gradient->stride = members[i].columns + gap;
        }
        if (inputs.batch_logits.data != NULL) {
            gradients.reversed_batch_logits.data =
                blank(inputs.cells, inputs.batch_count, gap, accumulates ? 1.0f : 7.0f);
            gradients.reversed_batch_logits.stride = inputs.batch_count + gap;
        }
        fastloss_objective_value again = FASTLOSS_OBJECTIVE_VALUE;
        CHECK_OK(fastloss_total_objective(objective, &inputs, &gradients, NULL, &again));
        check_value(&again, objective, golden);
        for (int i = 0; i < member_count; i++) {
            if (members[i].input->data == NULL) continue;
            int64_t count = inputs.cells * members[i].columns;
            char name[64];
            snprintf(name, sizeof name, "gradient.%s", members[i].name);
            const double *expected = truth(golden, name);
            double *sum = (double *)remember((size_t)count * sizeof(double));
            double largest = 0;
            for (int64_t j = 0; j < count; j++) {
                sum[j] = before + (double)gradients.scale * (expected == NULL ? 0 : expected[j]);
                largest = fmax(largest, fabs(sum[j]));
            }
            CHECK_CLOSE(
                gather(members[i].gradient->data, inputs.cells, members[i].columns, gap), sum, count, PRODUCT,
                largest + before);
        }
        if (inputs.batch_logits.data != NULL) {
            int64_t count = inputs.cells * inputs.batch_count;
            const float *forward = gather(gradients.batch_logits.data, inputs.cells, inputs.batch_count, gap);
            const float *reversed =
                gather(gradients.reversed_batch_logits.data, inputs.cells, inputs.batch_count, gap);
            double *mirrored = (double *)remember((size_t)count * sizeof(double));
            for (int64_t j = 0; j < count; j++) mirrored[j] = 2 * before - (double)forward[j];
            CHECK_CLOSE(reversed, mirrored, count, PRODUCT, before);
        }
    }
}

/// The preset of a golden's name, if it has one.
static int set_preset(fastloss_objective *objective, const char *name) {
    fastloss_objective start = FASTLOSS_OBJECTIVE;
    *objective = start;
    if (strcmp(name, "integration") == 0) {
        CHECK_OK(fastloss_objective_integration(objective, true, true, 0.8f, 1));
    } else if (strcmp(name, "annotation") == 0) {
        CHECK_OK(fastloss_objective_annotation(objective));
    } else if (strcmp(name, "perturbation") == 0) {
        CHECK_OK(fastloss_objective_perturbation(objective));
    } else if (strcmp(name, "multiOmics") == 0) {
        CHECK_OK(fastloss_objective_multi_omics(objective));
    } else if (strcmp(name, "generativePretraining") == 0) {
        CHECK_OK(fastloss_objective_generative_pretraining(objective, true));
    } else if (strcmp(name, "maskedPretraining") == 0) {
        CHECK_OK(fastloss_objective_masked_pretraining(objective));
    } else if (strcmp(name, "scFormer") == 0) {
        CHECK_OK(fastloss_objective_scformer(objective, false, false));
    } else {
        return 0;
    }
    return 1;
}

static void test_options_of_presets(void) {
    now_testing("options of presets");
    fastloss_objective objective = FASTLOSS_OBJECTIVE;
    uint32_t mse = FASTLOSS_TERM_BIT(FASTLOSS_TERM_MASKED_GENE),
             zero = FASTLOSS_TERM_BIT(FASTLOSS_TERM_MASKED_GENE_ZERO);
    uint32_t mvc = FASTLOSS_TERM_BIT(FASTLOSS_TERM_CELL_GENE), ecs = FASTLOSS_TERM_BIT(FASTLOSS_TERM_ELASTIC);
    uint32_t dab = FASTLOSS_TERM_BIT(FASTLOSS_TERM_BATCH), cls = FASTLOSS_TERM_BIT(FASTLOSS_TERM_CELL_TYPE);
    uint32_t cce = FASTLOSS_TERM_BIT(FASTLOSS_TERM_CONTRASTIVE);
    CHECK_OK(fastloss_objective_integration(&objective, true, false, 0, 0.5f));
    CHECK(objective.terms == (mse | zero | dab) && objective.weights[FASTLOSS_TERM_BATCH] == 0.5f);
    CHECK_OK(fastloss_objective_integration(&objective, false, true, 0.6f, 1));
    CHECK(objective.terms == (mse | mvc | ecs | dab) && objective.elastic_threshold == 0.6f);
    CHECK(objective.weights[FASTLOSS_TERM_ELASTIC] == 10 && objective.size == sizeof objective);
    CHECK_OK(fastloss_objective_generative_pretraining(&objective, false));
    CHECK(objective.terms == (mse | mvc));
    CHECK_OK(fastloss_objective_scformer(&objective, true, true));
    CHECK(
        (objective.terms & (cls | cce)) == (cls | cce) && objective.weights[FASTLOSS_TERM_CONTRASTIVE] == 10);
    CHECK_OK(fastloss_objective_disable(&objective, FASTLOSS_TERM_CONTRASTIVE));
    CHECK((objective.terms & (cls | cce)) == cls);
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_CELL_TYPE, 0.25f));
    CHECK(objective.weights[FASTLOSS_TERM_CELL_TYPE] == 0.25f);
}

/// From logits the explicit-zero terms equal the loss computed alone.
static void test_logits(void) {
    now_testing("explicit zeros from logits");
    float logits[6] = {-3, 0, 2, 30, -30, 1}, targets[6] = {0, 1, 0, 4, 0, 2};
    float expected[6], actual[6];
    fastloss_gradient gradient = FASTLOSS_GRADIENT(expected, 3);
    fastloss_loss_value loss;
    CHECK_OK(
        fastloss_bernoulli_nll_logits(2, 3, logits, 3, targets, 3, NULL, 0, NULL, &gradient, NULL, &loss));
    fastloss_objective objective = FASTLOSS_OBJECTIVE;
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_CELL_GENE_ZERO, 1));
    objective.nonzero_form = FASTLOSS_NONZERO_LOGITS;
    fastloss_objective_inputs inputs = FASTLOSS_OBJECTIVE_INPUTS;
    inputs.cells = 2;
    inputs.genes = 3;
    inputs.targets.data = targets;
    inputs.targets.stride = 3;
    inputs.cell_nonzero.data = logits;
    inputs.cell_nonzero.stride = 3;
    fastloss_objective_gradients gradients = FASTLOSS_OBJECTIVE_GRADIENTS;
    gradients.cell_nonzero.data = actual;
    gradients.cell_nonzero.stride = 3;
    fastloss_objective_value value = FASTLOSS_OBJECTIVE_VALUE;
    CHECK_OK(fastloss_total_objective(&objective, &inputs, &gradients, NULL, &value));
    CHECK(value.total == loss.value && value.selected_count == 6);
    CHECK_SAME(actual, expected, 6);
}

void test_total_objective(void) {
    goldens file = read_goldens("TotalObjective");
    int presets = 0;
    for (size_t i = 0; i < file.cases->count; i++) {
        const json *golden = &file.cases->members[i];
        for (int64_t gap = 0; gap <= 3; gap += 3) {
            now_testing("TotalObjective, %s, gaps of %d", golden_name(golden), (int)gap);
            fastloss_objective objective = objective_of(golden), preset;
            test_golden(golden, &objective, gap);
            if (set_preset(&preset, golden_name(golden))) {
                presets++;
                CHECK(preset.terms == objective.terms);
                test_golden(golden, &preset, gap);
            }
            forget();
        }
    }
    CHECK(presets == 14);
    json_free(file.file);
    test_options_of_presets();
    test_logits();
}
