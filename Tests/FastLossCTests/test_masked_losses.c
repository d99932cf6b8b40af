// The masked losses against PyTorch: mean, sum and cell by cell, without gaps and with, overwriting and
// adding.

#include <math.h>
#include <string.h>

#include "support.h"

/// Below it, times the tolerance, a gradient counts as 0: a difference of nearly equal numbers has no
/// relative accuracy to lose.
#define SMALLEST_GRADIENT 1e-6

typedef fastloss_status (*masked_loss)(
    int64_t, int64_t, const float *, int64_t, const float *, int64_t, const bool *, int64_t,
    const fastloss_masked_options *, const fastloss_gradient *, fastloss_workspace *, fastloss_loss_value *);
typedef fastloss_status (*masked_loss_per_cell)(
    int64_t, int64_t, const float *, int64_t, const float *, int64_t, const bool *, int64_t,
    const fastloss_masked_options *, const fastloss_gradient *, fastloss_workspace *, float *, int64_t *);

typedef struct problem {
    const json *golden;
    int64_t rows, columns, gap;
    const float *predictions, *targets;
    const bool *mask;
    int64_t selected;
    int has_empty_row;
    fastloss_workspace *workspace;
} problem;

/// A golden as the arguments of a call, with `gap` elements after each row, more of them for the targets and
/// the mask.
static problem problem_of(
    const json *golden, const char *predictions, int64_t gap, fastloss_workspace *workspace) {
    problem p;
    p.golden = golden;
    p.rows = (int64_t)parameter(golden, "rows");
    p.columns = (int64_t)parameter(golden, "columns");
    p.gap = gap;
    p.workspace = workspace;
    const bool *mask = bools(golden, "mask");
    p.selected = 0;
    p.has_empty_row = 0;
    for (int64_t row = 0; row < p.rows; row++) {
        int64_t in_row = 0;
        for (int64_t column = 0; column < p.columns; column++) in_row += mask[row * p.columns + column];
        p.selected += in_row;
        if (in_row == 0) p.has_empty_row = 1;
    }
    p.predictions = spread(floats(golden, predictions), p.rows, p.columns, gap);
    p.targets = spread(floats(golden, "targets"), p.rows, p.columns, 2 * gap);
    p.mask = spread_mask(mask, p.rows, p.columns, 3 * gap);
    return p;
}

static fastloss_masked_options options_for(fastloss_reduction reduction, fastloss_empty_rule when_empty) {
    fastloss_masked_options options = FASTLOSS_MASKED_OPTIONS;
    options.reduction = reduction;
    options.when_empty = when_empty;
    return options;
}

static fastloss_status call(
    masked_loss loss, const problem *p, const fastloss_masked_options *options,
    const fastloss_gradient *gradient, fastloss_loss_value *value) {
    return loss(
        p->rows, p->columns, p->predictions, p->columns + p->gap, p->targets, p->columns + 2 * p->gap,
        p->mask, p->columns + 3 * p->gap, options, gradient, p->workspace, value);
}

static void test_reduction(masked_loss loss, const problem *p, fastloss_reduction reduction) {
    int is_mean = reduction == FASTLOSS_REDUCTION_MEAN;
    // PyTorch's mean of nothing is NaN, its sum is 0.
    fastloss_masked_options options =
        options_for(reduction, is_mean ? FASTLOSS_EMPTY_NAN : FASTLOSS_EMPTY_ZERO);
    double expected = truth(p->golden, is_mean ? "mean" : "sum")[0];
    const double *expected_gradient = truth(p->golden, is_mean ? "meanGradient" : "sumGradient");

    fastloss_loss_value value = {-1, -1};
    CHECK_OK(call(loss, p, &options, NULL, &value));
    CHECK_NUMBER(value.value, expected, ELEMENTWISE);
    CHECK(value.selected_count == p->selected);

    int64_t count = p->rows * p->columns;
    float *memory = blank(p->rows, p->columns, p->gap, 7);
    fastloss_gradient gradient = FASTLOSS_GRADIENT(memory, p->columns + p->gap);
    fastloss_loss_value again = {-1, -1};
    CHECK_OK(call(loss, p, &options, &gradient, &again));
    CHECK(memcmp(&again.value, &value.value, sizeof value.value) == 0);
    CHECK(again.selected_count == p->selected);
    if (p->selected == 0 && is_mean) {
        // The gradient of 0/0 is NaN by this rule and 0, as the goldens have it, by the other.
        const float *actual = gather(memory, p->rows, p->columns, p->gap);
        for (int64_t i = 0; i < count; i++) CHECK(isnan(actual[i]));
        options.when_empty = FASTLOSS_EMPTY_ZERO;
        CHECK_OK(call(loss, p, &options, &gradient, &again));
        CHECK(again.value == 0);
    }
    CHECK_CLOSE(
        gather(memory, p->rows, p->columns, p->gap), expected_gradient, count, ELEMENTWISE,
        SMALLEST_GRADIENT);

    // -0.5 times the gradient on top of 3.
    double *sum = (double *)remember((size_t)count * sizeof(double));
    for (int64_t i = 0; i < count; i++) sum[i] = 3 - 0.5 * expected_gradient[i];
    gradient.data = memory = blank(p->rows, p->columns, p->gap, 3);
    gradient.scale = -0.5f;
    gradient.update = FASTLOSS_UPDATE_ACCUMULATE;
    CHECK_OK(call(loss, p, &options, &gradient, &again));
    CHECK_CLOSE(gather(memory, p->rows, p->columns, p->gap), sum, count, ELEMENTWISE, 3);

    // Nothing selected is an error, unless it is chosen not to be.
    if (p->selected == 0) {
        options.when_empty = FASTLOSS_EMPTY_ERROR;
        CHECK(call(loss, p, &options, NULL, &value) == FASTLOSS_ERROR_EMPTY_SELECTION);
        CHECK(call(loss, p, NULL, NULL, &value) == FASTLOSS_ERROR_EMPTY_SELECTION);
    } else if (is_mean) {
        // NULL options are the defaults.
        CHECK_OK(call(loss, p, NULL, NULL, &again));
        CHECK(memcmp(&again.value, &value.value, sizeof value.value) == 0);
    }
}

static void test_per_cell(masked_loss_per_cell loss, const problem *p) {
    fastloss_masked_options options = options_for(FASTLOSS_REDUCTION_MEAN, FASTLOSS_EMPTY_NAN);
    float *values = blank(p->rows, 1, 0, 7);
    float *memory = blank(p->rows, p->columns, p->gap, 7);
    fastloss_gradient gradient = FASTLOSS_GRADIENT(memory, p->columns + p->gap);
    int64_t selected = -1;
    for (int wants_gradient = 0; wants_gradient < 2; wants_gradient++) {
        CHECK_OK(loss(
            p->rows, p->columns, p->predictions, p->columns + p->gap, p->targets, p->columns + 2 * p->gap,
            p->mask, p->columns + 3 * p->gap, &options, wants_gradient ? &gradient : NULL, p->workspace,
            values, &selected));
        CHECK(selected == p->selected);
        CHECK_CLOSE(values, truth(p->golden, "perCell"), p->rows, ELEMENTWISE, 1e-12);
        // The goldens' gradient of an empty row is 0.
        if (p->has_empty_row) options.when_empty = wants_gradient ? FASTLOSS_EMPTY_ZERO : FASTLOSS_EMPTY_NAN;
    }
    if (p->has_empty_row) {
        CHECK_OK(loss(
            p->rows, p->columns, p->predictions, p->columns + p->gap, p->targets, p->columns + 2 * p->gap,
            p->mask, p->columns + 3 * p->gap, &options, &gradient, p->workspace, values, NULL));
    }
    CHECK_CLOSE(
        gather(memory, p->rows, p->columns, p->gap), truth(p->golden, "perCellGradient"),
        p->rows * p->columns, ELEMENTWISE, SMALLEST_GRADIENT);
    if (p->has_empty_row) {
        CHECK(
            loss(
                p->rows, p->columns, p->predictions, p->columns + p->gap, p->targets, p->columns + 2 * p->gap,
                p->mask, p->columns + 3 * p->gap, NULL, NULL, p->workspace, values, NULL)
            == FASTLOSS_ERROR_EMPTY_SELECTION);
    }
}

static void test_loss(
    const char *stem, const char *predictions, masked_loss loss, masked_loss_per_cell per_cell,
    fastloss_workspace *workspace) {
    goldens file = read_goldens(stem);
    int cases = 0;
    for (size_t i = 0; i < file.cases->count; i++) {
        const json *golden = &file.cases->members[i];
        if (floats(golden, predictions) == NULL) continue;
        cases++;
        for (int64_t gap = 0; gap <= 5; gap += 5) {
            now_testing("%s, %s, gaps of %d", stem, golden_name(golden), (int)gap);
            problem p = problem_of(golden, predictions, gap, workspace);
            test_reduction(loss, &p, FASTLOSS_REDUCTION_MEAN);
            test_reduction(loss, &p, FASTLOSS_REDUCTION_SUM);
            test_per_cell(per_cell, &p);
            forget();
        }
    }
    CHECK(cases > 0);
    json_free(file.file);
}

static void test_relative_error(fastloss_workspace *workspace) {
    goldens file = read_goldens("MaskedRelativeError");
    for (size_t i = 0; i < file.cases->count; i++) {
        const json *golden = &file.cases->members[i];
        for (int64_t gap = 0; gap <= 5; gap += 5) {
            now_testing("MaskedRelativeError, %s, gaps of %d", golden_name(golden), (int)gap);
            problem p = problem_of(golden, "predictions", gap, workspace);
            fastloss_masked_options mean = options_for(FASTLOSS_REDUCTION_MEAN, FASTLOSS_EMPTY_NAN);
            fastloss_masked_options sum = options_for(FASTLOSS_REDUCTION_SUM, FASTLOSS_EMPTY_ZERO);
            fastloss_loss_value value = {-1, -1};
            CHECK_OK(fastloss_masked_relative_error(
                p.rows, p.columns, p.predictions, p.columns + gap, p.targets, p.columns + 2 * gap, p.mask,
                p.columns + 3 * gap, &mean, workspace, &value));
            CHECK_NUMBER(value.value, truth(golden, "mean")[0], ELEMENTWISE);
            CHECK(value.selected_count == p.selected);
            CHECK_OK(fastloss_masked_relative_error(
                p.rows, p.columns, p.predictions, p.columns + gap, p.targets, p.columns + 2 * gap, p.mask,
                p.columns + 3 * gap, &sum, workspace, &value));
            CHECK_NUMBER(value.value, truth(golden, "sum")[0], ELEMENTWISE);
            float *values = blank(p.rows, 1, 0, 7);
            int64_t selected = -1;
            CHECK_OK(fastloss_masked_relative_error_per_cell(
                p.rows, p.columns, p.predictions, p.columns + gap, p.targets, p.columns + 2 * gap, p.mask,
                p.columns + 3 * gap, &mean, workspace, values, &selected));
            CHECK_CLOSE(values, truth(golden, "perCell"), p.rows, ELEMENTWISE, 1e-12);
            CHECK(selected == p.selected);
            forget();
        }
    }
    json_free(file.file);
}

/// Without a mask everything is selected, whatever the mask's stride says.
static void test_without_mask(void) {
    now_testing("no mask");
    float predictions[6] = {1, 2, 3, 4, 5, 6}, targets[6] = {0, 0, 0, 0, 0, 0};
    fastloss_loss_value value;
    CHECK_OK(fastloss_masked_mse(2, 3, predictions, 3, targets, 3, NULL, -1, NULL, NULL, NULL, &value));
    CHECK(value.value == 91.0 / 6 && value.selected_count == 6);
}

/// The predictions in the left half of the columns of one buffer and the gradient in the right half: rows of
/// the two interleave and share nothing.
static void test_halves_of_one_buffer(void) {
    now_testing("two halves of one buffer");
    float both[12] = {1, 2, 3, 9, 9, 9, 4, 5, 6, 9, 9, 9}, targets[6] = {0, 0, 0, 0, 0, 0};
    fastloss_gradient gradient = FASTLOSS_GRADIENT(both + 3, 6);
    fastloss_masked_options sum = options_for(FASTLOSS_REDUCTION_SUM, FASTLOSS_EMPTY_ERROR);
    fastloss_loss_value value;
    CHECK_OK(fastloss_masked_mse(2, 3, both, 6, targets, 3, NULL, 0, &sum, &gradient, NULL, &value));
    float expected[12] = {1, 2, 3, 2, 4, 6, 4, 5, 6, 8, 10, 12};
    CHECK_SAME(both, expected, 12);
    // One column further to the left they do share memory.
    gradient.data = both + 2;
    CHECK_FAILS(
        fastloss_masked_mse(2, 3, both, 6, targets, 3, NULL, 0, &sum, &gradient, NULL, &value),
        FASTLOSS_ERROR_OVERLAPPING_BUFFERS, "output gradient shares memory with predictions");
    CHECK_SAME(both, expected, 12);
}

void test_masked_losses(void) {
    fastloss_workspace *workspace = NULL;
    CHECK_OK(fastloss_workspace_create(2, &workspace));
    test_loss("MaskedMSE", "predictions", fastloss_masked_mse, fastloss_masked_mse_per_cell, workspace);
    test_loss(
        "BernoulliNLL", "probabilities", fastloss_bernoulli_nll, fastloss_bernoulli_nll_per_cell, workspace);
    test_loss(
        "BernoulliNLL", "logits", fastloss_bernoulli_nll_logits, fastloss_bernoulli_nll_logits_per_cell,
        workspace);
    test_relative_error(workspace);
    fastloss_workspace_destroy(workspace);
    test_without_mask();
    test_halves_of_one_buffer();
}
