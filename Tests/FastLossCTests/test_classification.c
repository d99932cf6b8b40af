// Cross-entropy, gradient reversal and the domain-adversarial loss against PyTorch.

#include <math.h>
#include <string.h>

#include "support.h"

static void test_cross_entropy(void) {
    goldens file = read_goldens("CrossEntropy");
    for (size_t i = 0; i < file.cases->count; i++) {
        const json *golden = &file.cases->members[i];
        int64_t rows = (int64_t)parameter(golden, "rows"), classes = (int64_t)parameter(golden, "classes");
        const int32_t *labels = int32s(golden, "labels");
        int64_t selected = 0;
        for (int64_t row = 0; row < rows; row++) selected += labels[row] != FASTLOSS_IGNORED_LABEL;
        for (int64_t gap = 0; gap <= 3; gap += 3) {
            for (int is_mean = 0; is_mean < 2; is_mean++) {
                now_testing("CrossEntropy, %s, gaps of %d", golden_name(golden), (int)gap);
                const float *logits = spread(floats(golden, "logits"), rows, classes, gap);
                fastloss_cross_entropy_options options = FASTLOSS_CROSS_ENTROPY_OPTIONS;
                options.reduction = is_mean ? FASTLOSS_REDUCTION_MEAN : FASTLOSS_REDUCTION_SUM;
                options.when_empty = is_mean ? FASTLOSS_EMPTY_NAN : FASTLOSS_EMPTY_ZERO;
                float *memory = blank(rows, classes, gap, 7);
                fastloss_gradient gradient = FASTLOSS_GRADIENT(memory, classes + gap);
                fastloss_loss_value value = {-1, -1}, again = {-1, -1};
                CHECK_OK(fastloss_cross_entropy(
                    rows, classes, logits, classes + gap, labels, &options, &gradient, NULL, &value));
                CHECK_OK(fastloss_cross_entropy(
                    rows, classes, logits, classes + gap, labels, &options, NULL, NULL, &again));
                CHECK(memcmp(&again.value, &value.value, sizeof value.value) == 0);
                CHECK_NUMBER(value.value, truth(golden, is_mean ? "mean" : "sum")[0], ELEMENTWISE);
                CHECK(value.selected_count == selected);
                CHECK_CLOSE(
                    gather(memory, rows, classes, gap),
                    truth(golden, is_mean ? "meanGradient" : "sumGradient"), rows * classes, ELEMENTWISE,
                    1e-2);
            }
        }
        labels = NULL;
    }
    json_free(file.file);
    forget();
}

/// Another label can be the ignored one; -100 is out of range then.
static void test_ignored_label(void) {
    now_testing("another ignored label");
    float logits[4] = {0, 0, 5, 6};
    int32_t labels[2] = {1, -1};
    fastloss_cross_entropy_options options = FASTLOSS_CROSS_ENTROPY_OPTIONS;
    options.ignored_label = -1;
    fastloss_loss_value value;
    CHECK_OK(fastloss_cross_entropy(2, 2, logits, 2, labels, &options, NULL, NULL, &value));
    CHECK_NUMBER(value.value, log(2.0), ELEMENTWISE);
    CHECK(value.selected_count == 1);
}

/// A linear discriminator behind the reversal, as PyTorch sees it from both sides.
static void test_domain_adversarial(void) {
    goldens file = read_goldens("GradientReversal");
    for (size_t i = 0; i < file.cases->count; i++) {
        const json *golden = &file.cases->members[i];
        int64_t rows = (int64_t)parameter(golden, "rows"), columns = (int64_t)parameter(golden, "columns");
        int64_t classes = (int64_t)parameter(golden, "classes");
        double lambda = parameter(golden, "strength");
        const double *exact = truth(golden, "logits");
        const float *weights = floats(golden, "weights");
        const int32_t *labels = int32s(golden, "labels");
        float *dense = (float *)remember((size_t)(rows * classes) * sizeof(float));
        for (int64_t j = 0; j < rows * classes; j++) dense[j] = (float)exact[j];
        for (int64_t gap = 0; gap <= 2; gap += 2) {
            now_testing("DomainAdversarialLoss, %s, gaps of %d", golden_name(golden), (int)gap);
            const float *logits = spread(dense, rows, classes, gap);
            fastloss_domain_adversarial_options options = FASTLOSS_DOMAIN_ADVERSARIAL_OPTIONS;
            options.lambda = (float)lambda;
            float *memory = blank(rows, classes, gap, 7), *reversed_memory = blank(rows, classes, gap, 7);
            fastloss_gradient discriminator = FASTLOSS_GRADIENT(memory, classes + gap);
            fastloss_gradient embedding = FASTLOSS_GRADIENT(reversed_memory, classes + gap);
            fastloss_loss_value value;
            CHECK_OK(fastloss_domain_adversarial(
                rows, classes, logits, classes + gap, labels, &options, &discriminator, &embedding, NULL,
                &value));
            CHECK_NUMBER(value.value, truth(golden, "value")[0], PRODUCT);
            const float *actual = gather(memory, rows, classes, gap);
            const float *reversed = gather(reversed_memory, rows, classes, gap);
            CHECK_CLOSE(actual, truth(golden, "logitsGradient"), rows * classes, PRODUCT, 1);
            // Through the discriminator: dE = dZ W.
            float *embeddings = (float *)remember((size_t)(rows * columns) * sizeof(float));
            for (int64_t j = 0; j < rows * columns; j++) {
                double sum = 0;
                for (int64_t k = 0; k < classes; k++) {
                    sum += (double)reversed[j / columns * classes + k]
                        * (double)weights[k * columns + j % columns];
                }
                embeddings[j] = (float)sum;
            }
            CHECK_CLOSE(embeddings, truth(golden, "embeddingsGradient"), rows * columns, PRODUCT, 1);

            // Each gradient alone, and none.
            float *alone = blank(rows, classes, gap, 7);
            embedding.data = alone;
            CHECK_OK(fastloss_domain_adversarial(
                rows, classes, logits, classes + gap, labels, &options, NULL, &embedding, NULL, &value));
            CHECK_SAME(gather(alone, rows, classes, gap), reversed, rows * classes);
            discriminator.data = alone;
            CHECK_OK(fastloss_domain_adversarial(
                rows, classes, logits, classes + gap, labels, &options, &discriminator, NULL, NULL, &value));
            CHECK_SAME(gather(alone, rows, classes, gap), actual, rows * classes);
            CHECK_OK(fastloss_domain_adversarial(
                rows, classes, logits, classes + gap, labels, &options, NULL, NULL, NULL, &value));
            CHECK_NUMBER(value.value, truth(golden, "value")[0], PRODUCT);

            // The reversal alone turns one gradient into the other.
            float *turned = blank(rows, classes, 2 * gap, 7);
            fastloss_gradient output = FASTLOSS_GRADIENT(turned, classes + 2 * gap);
            CHECK_OK(fastloss_gradient_reversal(
                rows, classes, spread(actual, rows, classes, gap), classes + gap, (float)lambda, &output,
                NULL));
            CHECK_SAME(gather(turned, rows, classes, 2 * gap), reversed, rows * classes);
        }
    }
    json_free(file.file);
    forget();
}

static void test_gradient_reversal(void) {
    now_testing("GradientReversal");
    float gradient[4] = {1, -2, 0, 4}, reversed[4] = {10, 10, 10, 10};
    fastloss_gradient output = FASTLOSS_GRADIENT(reversed, 2);
    output.scale = 0.5f;
    output.update = FASTLOSS_UPDATE_ACCUMULATE;
    CHECK_OK(fastloss_gradient_reversal(2, 2, gradient, 2, 3, &output, NULL));
    float expected[4] = {8.5f, 13, 10, 4};
    CHECK_SAME(reversed, expected, 4);
}

void test_classification(void) {
    test_cross_entropy();
    test_ignored_label();
    test_domain_adversarial();
    test_gradient_reversal();
}
