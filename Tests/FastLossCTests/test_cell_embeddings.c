// Elastic cell similarity, contrastive cell embedding and cosine similarities against PyTorch.

#include <math.h>
#include <string.h>

#include "support.h"

/// The size of a row's gradient before the normalisation's projection, which may cancel most of it.
static double scale_of_row(const float *row, int64_t columns, double floor, double derivative) {
    double squares = 0;
    for (int64_t i = 0; i < columns; i++) squares += (double)row[i] * (double)row[i];
    return derivative / fmax(sqrt(squares), floor);
}

static void check_rows(
    const float *actual, const double *expected, const float *embeddings, int64_t rows, int64_t columns,
    double floor, double derivative) {
    for (int64_t row = 0; row < rows; row++) {
        double largest = 0;
        for (int64_t i = 0; i < columns; i++) largest = fmax(largest, fabs(expected[row * columns + i]));
        CHECK_CLOSE(
            actual + row * columns, expected + row * columns, columns, PRODUCT,
            largest + scale_of_row(embeddings + row * columns, columns, floor, derivative));
    }
}

static void test_elastic_cell_similarity(void) {
    goldens file = read_goldens("ElasticCellSimilarity");
    for (size_t i = 0; i < file.cases->count; i++) {
        const json *golden = &file.cases->members[i];
        int64_t rows = (int64_t)parameter(golden, "rows"), columns = (int64_t)parameter(golden, "columns");
        for (int64_t gap = 0; gap <= 4; gap += 4) {
            now_testing("ElasticCellSimilarity, %s, gaps of %d", golden_name(golden), (int)gap);
            const float *dense = floats(golden, "embeddings");
            const float *embeddings = spread(dense, rows, columns, gap);
            fastloss_elastic_options options = FASTLOSS_ELASTIC_OPTIONS;
            options.threshold = (float)parameter(golden, "threshold");
            float *memory = blank(rows, columns, gap, 7);
            fastloss_gradient gradient = FASTLOSS_GRADIENT(memory, columns + gap);
            fastloss_loss_value value = {-1, -1}, again = {-1, -1};
            CHECK_OK(fastloss_elastic_cell_similarity(
                rows, columns, embeddings, columns + gap, &options, &gradient, NULL, &value));
            CHECK_OK(fastloss_elastic_cell_similarity(
                rows, columns, embeddings, columns + gap, &options, NULL, NULL, &again));
            CHECK(memcmp(&again.value, &value.value, sizeof value.value) == 0);
            CHECK_NUMBER(value.value, truth(golden, "value")[0], PRODUCT);
            CHECK(value.selected_count == rows);
            const float *actual = gather(memory, rows, columns, gap);
            check_rows(actual, truth(golden, "gradient"), dense, rows, columns, 1e-12, 4.0 / (double)rows);

            float *similarities = blank(rows, rows, gap, 7);
            CHECK_OK(fastloss_cosine_similarity(
                rows, columns, embeddings, columns + gap, similarities, rows + gap, NULL));
            CHECK_CLOSE(
                gather(similarities, rows, rows, gap), truth(golden, "similarities"), rows * rows, PRODUCT,
                1);

            // Twice the gradient, added to what was there, is a different call with the same result.
            float *sum = blank(rows, columns, gap, 0);
            gradient.data = sum;
            gradient.scale = 2;
            gradient.update = FASTLOSS_UPDATE_ACCUMULATE;
            CHECK_OK(fastloss_elastic_cell_similarity(
                rows, columns, embeddings, columns + gap, &options, &gradient, NULL, &value));
            double *doubled = (double *)remember((size_t)(rows * columns) * sizeof(double));
            for (int64_t j = 0; j < rows * columns; j++) doubled[j] = 2 * truth(golden, "gradient")[j];
            check_rows(
                gather(sum, rows, columns, gap), doubled, dense, rows, columns, 1e-12, 8.0 / (double)rows);
        }
        forget();
    }
    json_free(file.file);
}

/// 1,100 rows within 15 degrees of an axis, which certify all pairs.
enum { CONE_ROWS = 1100, CONE_COLUMNS = 4 };

static const float *cone(void) {
    float *rows = (float *)remember(CONE_ROWS * CONE_COLUMNS * sizeof(float));
    for (int64_t i = 0; i < CONE_ROWS * CONE_COLUMNS; i++) {
        rows[i] = i % CONE_COLUMNS ? 0.01f * (float)(i * 7 % 31 - 15) : 1;
    }
    return rows;
}

static void test_certificate(void) {
    now_testing("the certificate of ECS");
    const float *embeddings = cone();
    int64_t pairs = -1;
    fastloss_elastic_options options = FASTLOSS_ELASTIC_OPTIONS;
    options.certified_pairs = &pairs;
    fastloss_loss_value certified, computed;
    float *gradients[2];
    for (int never = 0; never < 2; never++) {
        gradients[never] = blank(CONE_ROWS, CONE_COLUMNS, 0, 7);
        const fastloss_gradient gradient = FASTLOSS_GRADIENT(gradients[never], CONE_COLUMNS);
        options.certificate = never ? FASTLOSS_CERTIFICATE_NEVER : FASTLOSS_CERTIFICATE_AUTOMATIC;
        CHECK_OK(fastloss_elastic_cell_similarity(
            CONE_ROWS, CONE_COLUMNS, embeddings, CONE_COLUMNS, &options, &gradient, NULL,
            never ? &computed : &certified));
        CHECK(pairs == (never ? 0 : CONE_ROWS * CONE_ROWS));
    }
    CHECK(fabs(certified.value - computed.value) <= 1e-6 * fabs(computed.value));
    double largest = 0, difference = 0;
    for (int64_t i = 0; i < CONE_ROWS * CONE_COLUMNS; i++) {
        largest = fmax(largest, fabs((double)gradients[1][i]));
        difference = fmax(difference, fabs((double)gradients[0][i] - (double)gradients[1][i]));
    }
    CHECK(largest > 0 && difference <= 1e-5 * largest);

    // Options of the header before the certificate, and a failure, leave the number alone.
    pairs = -1;
    options.size = 24;
    fastloss_loss_value value;
    CHECK_OK(fastloss_elastic_cell_similarity(
        CONE_ROWS, CONE_COLUMNS, embeddings, CONE_COLUMNS, &options, NULL, NULL, &value));
    CHECK(pairs == -1 && memcmp(&value.value, &certified.value, sizeof value.value) == 0);
    options.size = sizeof options;
    options.reserved_last = 1;
    CHECK_FAILS(
        fastloss_elastic_cell_similarity(
            CONE_ROWS, CONE_COLUMNS, embeddings, CONE_COLUMNS, &options, NULL, NULL, &value),
        FASTLOSS_ERROR_INVALID_STRUCT, "options.reserved_last is 1, but it must be 0");
    options.reserved_last = 0;
    options.threshold = 2;
    CHECK_FAILS(
        fastloss_elastic_cell_similarity(
            CONE_ROWS, CONE_COLUMNS, embeddings, CONE_COLUMNS, &options, NULL, NULL, &value),
        FASTLOSS_ERROR_INVALID_PARAMETER, "threshold is 2, but it must be between -1 and 1");
    CHECK(pairs == -1);
    forget();
}

static void test_certificate_of_the_objective(void) {
    now_testing("the certificate of the objective");
    fastloss_objective objective = FASTLOSS_OBJECTIVE;
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_ELASTIC, 10));
    fastloss_objective_inputs inputs = FASTLOSS_OBJECTIVE_INPUTS;
    inputs.cells = CONE_ROWS, inputs.width = CONE_COLUMNS;
    inputs.cell_embedding.data = cone(), inputs.cell_embedding.stride = CONE_COLUMNS;
    fastloss_objective_value certified = FASTLOSS_OBJECTIVE_VALUE, computed = FASTLOSS_OBJECTIVE_VALUE;
    CHECK_OK(fastloss_total_objective(&objective, &inputs, NULL, NULL, &certified));
    CHECK(certified.certified_pairs == CONE_ROWS * CONE_ROWS);
    objective.elastic_certificate = FASTLOSS_CERTIFICATE_NEVER;
    CHECK_OK(fastloss_total_objective(&objective, &inputs, NULL, NULL, &computed));
    CHECK(computed.certified_pairs == 0);
    CHECK(fabs(certified.total - computed.total) <= 1e-6 * fabs(computed.total));

    // Structs of the header before the certificate.
    objective.size = 128;
    fastloss_objective_value old = FASTLOSS_OBJECTIVE_VALUE;
    old.size = 424;
    old.certified_pairs = -1;
    CHECK_OK(fastloss_total_objective(&objective, &inputs, NULL, NULL, &old));
    CHECK(old.certified_pairs == -1 && memcmp(&old.total, &certified.total, sizeof old.total) == 0);

    // A preset sets the default.
    objective.size = sizeof objective;
    CHECK_OK(fastloss_objective_integration(&objective, true, true, 0.8f, 1));
    CHECK(objective.elastic_certificate == FASTLOSS_CERTIFICATE_AUTOMATIC);
    forget();
}

static void test_contrastive_cell_embedding(void) {
    goldens file = read_goldens("ContrastiveCellEmbedding");
    for (size_t i = 0; i < file.cases->count; i++) {
        const json *golden = &file.cases->members[i];
        int64_t rows = (int64_t)parameter(golden, "rows"), columns = (int64_t)parameter(golden, "columns");
        double temperature = parameter(golden, "temperature");
        // The error of a similarity, divided by the temperature, is that of a logit.
        double relative = PRODUCT * fmax(1, 0.1 / temperature);
        double derivative = 4 / (temperature * (double)rows);
        for (int64_t gap = 0; gap <= 4; gap += 4) {
            now_testing("ContrastiveCellEmbedding, %s, gaps of %d", golden_name(golden), (int)gap);
            const float *dense = floats(golden, "first"), *second_dense = floats(golden, "second");
            const float *first = spread(dense, rows, columns, gap);
            const float *second = spread(second_dense, rows, columns, 2 * gap);
            fastloss_contrastive_options options = FASTLOSS_CONTRASTIVE_OPTIONS;
            options.temperature = (float)temperature;
            float *memory = blank(rows, columns, gap, 7), *second_memory = blank(rows, columns, gap, 7);
            fastloss_gradient first_gradient = FASTLOSS_GRADIENT(memory, columns + gap);
            fastloss_gradient second_gradient = FASTLOSS_GRADIENT(second_memory, columns + gap);
            fastloss_loss_value value = {-1, -1}, again = {-1, -1};
            CHECK_OK(fastloss_contrastive_cell_embedding(
                rows, columns, first, columns + gap, second, columns + 2 * gap, &options, &first_gradient,
                &second_gradient, NULL, &value));
            CHECK_OK(fastloss_contrastive_cell_embedding(
                rows, columns, first, columns + gap, second, columns + 2 * gap, &options, NULL, NULL, NULL,
                &again));
            CHECK(memcmp(&again.value, &value.value, sizeof value.value) == 0);
            CHECK(
                fabs(value.value - truth(golden, "value")[0])
                <= relative * fabs(truth(golden, "value")[0]) + 1e-6 * PRODUCT);
            CHECK(value.selected_count == rows);
            const float *of_first = gather(memory, rows, columns, gap);
            const float *of_second = gather(second_memory, rows, columns, gap);
            check_rows(of_first, truth(golden, "firstGradient"), dense, rows, columns, 1e-8, derivative);
            check_rows(
                of_second, truth(golden, "secondGradient"), second_dense, rows, columns, 1e-8, derivative);

            // One gradient alone is the same.
            float *alone = blank(rows, columns, gap, 7);
            second_gradient.data = alone;
            CHECK_OK(fastloss_contrastive_cell_embedding(
                rows, columns, first, columns + gap, second, columns + 2 * gap, &options, NULL,
                &second_gradient, NULL, &again));
            CHECK_SAME(gather(alone, rows, columns, gap), of_second, rows * columns);
        }
        forget();
    }
    json_free(file.file);
}

void test_cell_embeddings(void) {
    test_elastic_cell_similarity();
    test_certificate();
    test_certificate_of_the_objective();
    test_contrastive_cell_embedding();
}
