// Masked reductions and every pooling against PyTorch.

#include <math.h>
#include <string.h>

#include "support.h"

static void test_masked_reductions(void) {
    goldens file = read_goldens("MaskedReductions");
    for (size_t i = 0; i < file.cases->count; i++) {
        const json *golden = &file.cases->members[i];
        int64_t rows = (int64_t)parameter(golden, "rows"), columns = (int64_t)parameter(golden, "columns");
        int64_t masks = (int64_t)parameter(golden, "maskCount");
        for (int64_t gap = 0; gap <= 3; gap += 3) {
            for (int is_mean = 0; is_mean < 2; is_mean++) {
                now_testing("MaskedReductions, %s, gaps of %d", golden_name(golden), (int)gap);
                fastloss_masked_options options = FASTLOSS_MASKED_OPTIONS;
                options.reduction = is_mean ? FASTLOSS_REDUCTION_MEAN : FASTLOSS_REDUCTION_SUM;
                options.when_empty = is_mean ? FASTLOSS_EMPTY_NAN : FASTLOSS_EMPTY_ZERO;
                const float *values = spread(floats(golden, "values"), rows, columns, gap);
                const bool *selections = spread_mask(bools(golden, "masks"), masks, columns, 2 * gap);
                float *outputs = blank(rows, masks, gap, 7);
                CHECK_OK(fastloss_masked_reductions(
                    rows, columns, masks, values, columns + gap, selections, columns + 2 * gap, &options,
                    outputs, masks + gap, NULL));
                CHECK_CLOSE(
                    gather(outputs, rows, masks, gap), truth(golden, is_mean ? "means" : "sums"),
                    rows * masks, PRODUCT, 1);

                const float *upstream = spread(floats(golden, "outputGradient"), rows, masks, gap);
                float *memory = blank(rows, columns, gap, 7);
                fastloss_gradient gradient = FASTLOSS_GRADIENT(memory, columns + gap);
                CHECK_OK(fastloss_masked_reductions_gradient(
                    rows, columns, masks, upstream, masks + gap, selections, columns + 2 * gap, &options,
                    &gradient, NULL));
                CHECK_CLOSE(
                    gather(memory, rows, columns, gap),
                    truth(golden, is_mean ? "meansGradient" : "sumsGradient"), rows * columns, PRODUCT, 1);
            }
        }
        forget();
    }
    json_free(file.file);
}

/// Token states with `gap` elements after each token and twice as many more after each cell.
typedef struct states_layout { int64_t cells, tokens, width, gap; } states_layout;

static int64_t token_stride(const states_layout *s) { return s->width + s->gap; }
static int64_t cell_stride(const states_layout *s) { return s->tokens * token_stride(s) + 2 * s->gap; }

static float *blank_states(const states_layout *s, float value) {
    return blank(s->cells, cell_stride(s), 0, value);
}

static const float *spread_states(const float *dense, const states_layout *s) {
    float *result = blank_states(s, NAN);
    for (int64_t i = 0; i < s->cells * s->tokens * s->width; i++) {
        int64_t token = i / s->width;
        result[token / s->tokens * cell_stride(s) + token % s->tokens * token_stride(s) + i % s->width] =
            dense[i];
    }
    return result;
}

/// The states without their gaps, which are checked to hold 7 still.
static const float *gather_states(const float *states, const states_layout *s) {
    int64_t count = s->cells * s->tokens * s->width, gaps = 0;
    float *result = (float *)remember((size_t)count * sizeof(float));
    for (int64_t i = 0; i < s->cells * cell_stride(s); i++) {
        int64_t in_cell = i % cell_stride(s);
        int64_t token = in_cell / token_stride(s), element = in_cell % token_stride(s);
        if (token < s->tokens && element < s->width) {
            result[(i / cell_stride(s) * s->tokens + token) * s->width + element] = states[i];
        } else {
            gaps += states[i] == 7.0f;
        }
    }
    CHECK(gaps == s->cells * cell_stride(s) - count);
    return result;
}

static void test_token_pooling(const json *golden, const states_layout *s) {
    const char *names[2][2] = {{"cls", "clsStatesGradient"}, {"average", "averageStatesGradient"}};
    const float *states = spread_states(floats(golden, "states"), s);
    const float *upstream = spread(floats(golden, "outputGradient"), s->cells, s->width, s->gap);
    for (fastloss_pooling pooling = FASTLOSS_POOLING_CLS; pooling <= FASTLOSS_POOLING_AVERAGE; pooling++) {
        float *embeddings = blank(s->cells, s->width, s->gap, 7);
        CHECK_OK(fastloss_token_pooling(
            pooling, s->cells, s->tokens, s->width, states, token_stride(s), cell_stride(s), embeddings,
            s->width + s->gap, NULL));
        CHECK_CLOSE(
            gather(embeddings, s->cells, s->width, s->gap), truth(golden, names[pooling][0]),
            s->cells * s->width, PRODUCT, 1);
        float *memory = blank_states(s, 7);
        fastloss_gradient gradient = FASTLOSS_STATES_GRADIENT(memory, token_stride(s), cell_stride(s));
        CHECK_OK(fastloss_token_pooling_gradient(
            pooling, s->cells, s->tokens, s->width, upstream, s->width + s->gap, &gradient, NULL));
        CHECK_CLOSE(
            gather_states(memory, s), truth(golden, names[pooling][1]), s->cells * s->tokens * s->width,
            PRODUCT, 1);
    }
}

static void test_weighted_pooling(const json *golden, const states_layout *s) {
    int64_t weightings = (int64_t)parameter(golden, "weightings"), sums = s->cells * weightings;
    const float *states = spread_states(floats(golden, "states"), s);
    const float *weights = spread(floats(golden, "weights"), sums, s->tokens, s->gap);
    const float *upstream = spread(floats(golden, "weightedOutputGradient"), sums, s->width, s->gap);
    float *embeddings = blank(sums, s->width, s->gap, 7);
    CHECK_OK(fastloss_weighted_token_pooling(
        s->cells, s->tokens, s->width, weightings, states, token_stride(s), cell_stride(s), weights,
        s->tokens + s->gap, embeddings, s->width + s->gap, NULL));
    CHECK_CLOSE(
        gather(embeddings, sums, s->width, s->gap), truth(golden, "weighted"), sums * s->width, PRODUCT, 1);

    float *memory = blank_states(s, 7);
    fastloss_gradient gradient = FASTLOSS_STATES_GRADIENT(memory, token_stride(s), cell_stride(s));
    CHECK_OK(fastloss_weighted_token_pooling_states_gradient(
        s->cells, s->tokens, s->width, weightings, upstream, s->width + s->gap, weights, s->tokens + s->gap,
        &gradient, NULL));
    CHECK_CLOSE(
        gather_states(memory, s), truth(golden, "weightedStatesGradient"), s->cells * s->tokens * s->width,
        PRODUCT, 1);

    float *weights_memory = blank(sums, s->tokens, s->gap, 7);
    fastloss_gradient weights_gradient = FASTLOSS_GRADIENT(weights_memory, s->tokens + s->gap);
    CHECK_OK(fastloss_weighted_token_pooling_weights_gradient(
        s->cells, s->tokens, s->width, weightings, upstream, s->width + s->gap, states, token_stride(s),
        cell_stride(s), &weights_gradient, NULL));
    CHECK_CLOSE(
        gather(weights_memory, sums, s->tokens, s->gap), truth(golden, "weightedWeightsGradient"),
        sums * s->tokens, PRODUCT, 4);
}

static void test_normalized_pooling(const json *golden, const states_layout *s) {
    int64_t weightings = (int64_t)parameter(golden, "weightings"), sums = s->cells * weightings;
    const float *states = spread_states(floats(golden, "states"), s);
    const float *weights = spread(floats(golden, "weights"), sums, s->tokens, s->gap);
    const float *upstream = spread(floats(golden, "weightedOutputGradient"), sums, s->width, s->gap);
    float *embeddings = blank(sums, s->width, s->gap, 7);
    double *norms = (double *)remember((size_t)sums * sizeof(double));
    CHECK_OK(fastloss_normalized_weighted_token_pooling(
        s->cells, s->tokens, s->width, weightings, states, token_stride(s), cell_stride(s), weights,
        s->tokens + s->gap, embeddings, s->width + s->gap, norms, NULL));
    CHECK_CLOSE(
        gather(embeddings, sums, s->width, s->gap), truth(golden, "normalized"), sums * s->width, PRODUCT, 1);
    for (int64_t row = 0; row < sums; row++) {
        double squares = 0;
        for (int64_t i = 0; i < s->width; i++) {
            double sum = truth(golden, "weighted")[row * s->width + i];
            squares += sum * sum;
        }
        CHECK_NUMBER(norms[row], sqrt(squares), PRODUCT);
    }

    float *memory = blank_states(s, 7);
    fastloss_gradient gradient = FASTLOSS_STATES_GRADIENT(memory, token_stride(s), cell_stride(s));
    CHECK_OK(fastloss_normalized_weighted_token_pooling_states_gradient(
        s->cells, s->tokens, s->width, weightings, upstream, s->width + s->gap, embeddings, s->width + s->gap,
        norms, weights, s->tokens + s->gap, &gradient, NULL));
    float *weights_memory = blank(sums, s->tokens, s->gap, 7);
    fastloss_gradient weights_gradient = FASTLOSS_GRADIENT(weights_memory, s->tokens + s->gap);
    CHECK_OK(fastloss_normalized_weighted_token_pooling_weights_gradient(
        s->cells, s->tokens, s->width, weightings, upstream, s->width + s->gap, embeddings, s->width + s->gap,
        norms, states, token_stride(s), cell_stride(s), &weights_gradient, NULL));
    const float *of_states = gather_states(memory, s);
    const float *of_weights = gather(weights_memory, sums, s->tokens, s->gap);
    // Cell by cell: a sum below the floor has a gradient of the size of 1e12.
    for (int64_t cell = 0; cell < s->cells; cell++) {
        double scale = 4;
        for (int64_t k = 0; k < weightings; k++)
            scale = fmax(scale, 4 / fmax(norms[cell * weightings + k], 1e-12));
        int64_t start = cell * s->tokens * s->width;
        CHECK_CLOSE(
            of_states + start, truth(golden, "normalizedStatesGradient") + start, s->tokens * s->width,
            PRODUCT, scale);
        start = cell * weightings * s->tokens;
        CHECK_CLOSE(
            of_weights + start, truth(golden, "normalizedWeightsGradient") + start, weightings * s->tokens,
            PRODUCT, scale);
    }
}

void test_reductions(void) {
    test_masked_reductions();
    goldens file = read_goldens("TokenPooling");
    for (size_t i = 0; i < file.cases->count; i++) {
        const json *golden = &file.cases->members[i];
        states_layout s;
        s.cells = (int64_t)parameter(golden, "cells");
        s.tokens = (int64_t)parameter(golden, "tokens");
        s.width = (int64_t)parameter(golden, "width");
        for (s.gap = 0; s.gap <= 3; s.gap += 3) {
            now_testing("pooling, %s, gaps of %d", golden_name(golden), (int)s.gap);
            test_token_pooling(golden, &s);
            test_weighted_pooling(golden, &s);
            test_normalized_pooling(golden, &s);
        }
        forget();
    }
    json_free(file.file);
}
