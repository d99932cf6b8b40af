// Everything that can be wrong with a call: the status, the message, and that no output was written.

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support.h"

// A small valid problem, which each test breaks in one place.
static float x[16], t[16], p[8], out[64];
static bool m[32] __attribute__((aligned(4)));
static int32_t labels[4];
static fastloss_gradient gradient;
static fastloss_masked_options options;
static fastloss_loss_value loss;

static void reset(void) {
    static const float values[8] = {0.25f, 0.5f, 0.75f, 1, 0, 0.125f, 0.375f, 0.625f};
    static const fastloss_gradient start = FASTLOSS_GRADIENT(NULL, 3);
    static const fastloss_masked_options defaults = FASTLOSS_MASKED_OPTIONS;
    for (int i = 0; i < 8; i++) {
        x[i] = p[i] = values[i];
        t[i] = (float)(i % 3);
        m[i] = true;
    }
    for (int i = 0; i < 64; i++) out[i] = 42;
    for (int i = 0; i < 4; i++) labels[i] = i % 2;
    gradient = start;
    gradient.data = out;
    options = defaults;
    loss.value = 42;
    loss.selected_count = 42;
}

/// Checks that the outputs of a call that failed hold what they held, and makes the problem valid again.
static void untouched(int line) {
    int same = loss.value == 42 && loss.selected_count == 42;
    for (int i = 0; i < 64; i++) same = same && out[i] == 42;
    check(same, __FILE__, line, "an output was written");
    reset();
}

#define FAILS(call, status, message)        \
    do {                                    \
        CHECK_FAILS(call, status, message); \
        untouched(__LINE__);                \
    } while (0)

static fastloss_status mse(int64_t rows, int64_t columns, int64_t xs, int64_t ts, int64_t ms) {
    return fastloss_masked_mse(rows, columns, x, xs, t, ts, m, ms, &options, &gradient, NULL, &loss);
}

static void test_pointers(void) {
    now_testing("pointers");
    FAILS(
        fastloss_masked_mse(2, 3, NULL, 3, t, 3, m, 3, NULL, &gradient, NULL, &loss),
        FASTLOSS_ERROR_NULL_POINTER, "predictions is NULL, but it must have 6 elements");
    FAILS(
        fastloss_masked_mse(2, 3, x, 3, NULL, 3, m, 3, NULL, &gradient, NULL, &loss),
        FASTLOSS_ERROR_NULL_POINTER, "targets is NULL, but it must have 6 elements");
    FAILS(
        fastloss_masked_mse(2, 3, x, 3, t, 3, m, 3, NULL, &gradient, NULL, NULL), FASTLOSS_ERROR_NULL_POINTER,
        "loss is NULL");
    gradient.data = NULL;
    FAILS(mse(2, 3, 3, 3, 3), FASTLOSS_ERROR_NULL_POINTER, "gradient is NULL, but it must have 6 elements");
    FAILS(
        fastloss_masked_mse_per_cell(2, 3, x, 3, t, 3, m, 3, NULL, NULL, NULL, NULL, NULL),
        FASTLOSS_ERROR_NULL_POINTER, "values is NULL, but it must have 2 elements");
    FAILS(
        fastloss_cross_entropy(2, 2, x, 2, NULL, NULL, NULL, NULL, &loss), FASTLOSS_ERROR_NULL_POINTER,
        "labels is NULL, but it must have 2 elements");
    FAILS(
        fastloss_gradient_reversal(2, 2, x, 2, 1, NULL, NULL), FASTLOSS_ERROR_NULL_POINTER,
        "reversed is NULL");
    FAILS(
        fastloss_masked_reductions_gradient(2, 3, 1, x, 1, m, 3, NULL, NULL, NULL),
        FASTLOSS_ERROR_NULL_POINTER, "gradient is NULL");
    FAILS(
        fastloss_token_pooling_gradient(FASTLOSS_POOLING_CLS, 1, 2, 3, x, 3, NULL, NULL),
        FASTLOSS_ERROR_NULL_POINTER, "gradient is NULL");
    FAILS(
        fastloss_weighted_token_pooling_states_gradient(1, 2, 3, 1, x, 3, t, 2, NULL, NULL),
        FASTLOSS_ERROR_NULL_POINTER, "gradient is NULL");
    FAILS(
        fastloss_weighted_token_pooling_weights_gradient(1, 2, 3, 1, x, 3, t, 3, 6, NULL, NULL),
        FASTLOSS_ERROR_NULL_POINTER, "gradient is NULL");
    FAILS(
        fastloss_normalized_weighted_token_pooling(1, 2, 2, 1, x, 2, 4, t, 2, out, 2, NULL, NULL),
        FASTLOSS_ERROR_NULL_POINTER, "norms is NULL, but it must have 1 elements");
    FAILS(fastloss_workspace_create(0, NULL), FASTLOSS_ERROR_NULL_POINTER, "workspace is NULL");
    FAILS(fastloss_objective_annotation(NULL), FASTLOSS_ERROR_NULL_POINTER, "objective is NULL");
    FAILS(
        fastloss_objective_enable(NULL, FASTLOSS_TERM_BATCH, 1), FASTLOSS_ERROR_NULL_POINTER,
        "objective is NULL");
    FAILS(
        fastloss_objective_disable(NULL, FASTLOSS_TERM_BATCH), FASTLOSS_ERROR_NULL_POINTER,
        "objective is NULL");
    // Nothing may be nowhere.
    fastloss_masked_options zero = FASTLOSS_MASKED_OPTIONS;
    zero.when_empty = FASTLOSS_EMPTY_ZERO;
    CHECK_OK(fastloss_masked_mse(0, 3, NULL, 3, NULL, 3, NULL, 0, &zero, NULL, NULL, &loss));
    CHECK(loss.value == 0 && loss.selected_count == 0);
    reset();

    char message[128];
    const float *misaligned = (const float *)(const void *)((const char *)x + 1);
    snprintf(
        message, sizeof message, "predictions is at address %llu, but it must be a multiple of 4",
        (unsigned long long)(uintptr_t)misaligned);
    FAILS(
        fastloss_masked_mse(1, 3, misaligned, 3, t, 3, m, 3, NULL, &gradient, NULL, &loss),
        FASTLOSS_ERROR_MISALIGNED_POINTER, message);
}

static void test_shapes_and_strides(void) {
    now_testing("shapes and strides");
    const char *impossible = "a shape of -1 rows and 3 columns is invalid: both must be at least 0, and the "
                             "matrix must fit the address space";
    FAILS(mse(-1, 3, 3, 3, 3), FASTLOSS_ERROR_INVALID_SHAPE, impossible);
    CHECK(mse(2, -3, 3, 3, 3) == FASTLOSS_ERROR_INVALID_SHAPE);
    CHECK(mse(INT64_MAX, 2, 2, 2, 2) == FASTLOSS_ERROR_INVALID_SHAPE);
    CHECK(mse(INT64_MAX / 8, 1, 1, 1, 1) == FASTLOSS_ERROR_INVALID_SHAPE);
    CHECK(mse(3, 1, INT64_MAX, 1, 1) == FASTLOSS_ERROR_INVALID_SHAPE);
    CHECK(mse(2, 1, INT64_MAX / 8, 1, 1) == FASTLOSS_ERROR_INVALID_SHAPE);
    CHECK(mse(INT64_MIN, INT64_MIN, 0, 0, 0) == FASTLOSS_ERROR_INVALID_SHAPE);
    untouched(__LINE__);
    FAILS(
        mse(2, 3, 2, 3, 3), FASTLOSS_ERROR_INVALID_STRIDE,
        "the stride of predictions is 2, but it must be at least 3, the number of columns");
    FAILS(
        mse(2, 3, 3, 0, 3), FASTLOSS_ERROR_INVALID_STRIDE,
        "the stride of targets is 0, but it must be at least 3, the number of columns");
    FAILS(
        mse(2, 3, 3, 3, -3), FASTLOSS_ERROR_INVALID_STRIDE,
        "the stride of mask is -3, but it must be at least 3, the number of columns");
    gradient.stride = 1;
    FAILS(
        mse(2, 3, 3, 3, 3), FASTLOSS_ERROR_INVALID_STRIDE,
        "the stride of gradient is 1, but it must be at least 3, the number of columns");
    gradient.cell_stride = 6;
    FAILS(
        mse(2, 3, 3, 3, 3), FASTLOSS_ERROR_INVALID_STRIDE,
        "gradient.cell_stride is 6, but it must be 0 for a matrix");
    FAILS(
        fastloss_token_pooling(FASTLOSS_POOLING_AVERAGE, 2, 2, 2, x, 1, 4, out, 2, NULL),
        FASTLOSS_ERROR_INVALID_STRIDE,
        "the token stride of states is 1, but it must be at least 2, the number of columns");
    FAILS(
        fastloss_token_pooling(FASTLOSS_POOLING_CLS, 2, 2, 2, x, 2, 3, out, 2, NULL),
        FASTLOSS_ERROR_INVALID_STRIDE,
        "the cell stride of states is 3, but it must be at least 4, the extent of a cell");
    FAILS(
        fastloss_cosine_similarity(2, 3, x, 3, out, 1, NULL), FASTLOSS_ERROR_INVALID_STRIDE,
        "the stride of similarities is 1, but it must be at least 2, the number of columns");
    FAILS(
        fastloss_token_pooling(FASTLOSS_POOLING_AVERAGE, 2, 0, 2, NULL, 2, 0, out, 2, NULL),
        FASTLOSS_ERROR_INVALID_PARAMETER, "tokens is 0, but it must be at least 1");
    FAILS(
        fastloss_token_pooling(FASTLOSS_POOLING_CLS, 2, 0, 2, NULL, 2, 0, out, 2, NULL),
        FASTLOSS_ERROR_INVALID_PARAMETER, "tokens is 0, but it must be at least 1");
    FAILS(
        fastloss_weighted_token_pooling(1, 2, 3, -1, x, 3, 6, t, 2, out, 3, NULL),
        FASTLOSS_ERROR_INVALID_SHAPE,
        "a shape of 1 rows and -1 columns is invalid: both must be at least 0, and the matrix must fit the "
        "address space");
    // No element, and yet a side that BLAS cannot take.
    FAILS(
        fastloss_elastic_cell_similarity(INT64_C(1) << 31, 0, NULL, 0, NULL, NULL, NULL, &loss),
        FASTLOSS_ERROR_DIMENSION_TOO_LARGE, "rows is 2147483648, but BLAS takes sizes up to 2147483647");
}

static void test_overlap(void) {
    now_testing("overlap");
    gradient.data = x;
    FAILS(
        mse(2, 3, 3, 3, 3), FASTLOSS_ERROR_OVERLAPPING_BUFFERS,
        "output gradient shares memory with predictions");
    // The last element of the targets, and the first.
    gradient.data = t + 5;
    FAILS(
        mse(2, 3, 3, 3, 3), FASTLOSS_ERROR_OVERLAPPING_BUFFERS, "output gradient shares memory with targets");
    gradient.data = (float *)(void *)m;
    FAILS(mse(2, 3, 3, 3, 3), FASTLOSS_ERROR_OVERLAPPING_BUFFERS, "output gradient shares memory with mask");
    FAILS(
        fastloss_masked_mse_per_cell(2, 3, x, 3, t, 3, m, 3, NULL, &gradient, NULL, out + 5, NULL),
        FASTLOSS_ERROR_OVERLAPPING_BUFFERS, "output values shares memory with gradient");
    gradient.data = (float *)(void *)labels;
    gradient.stride = 2;
    FAILS(
        fastloss_cross_entropy(2, 2, x, 2, labels, NULL, &gradient, NULL, &loss),
        FASTLOSS_ERROR_OVERLAPPING_BUFFERS, "output gradient shares memory with labels");
    fastloss_gradient second = gradient;
    second.data = out + 4;
    FAILS(
        fastloss_contrastive_cell_embedding(2, 3, x, 3, t, 3, NULL, &gradient, &second, NULL, &loss),
        FASTLOSS_ERROR_OVERLAPPING_BUFFERS, "output second_gradient shares memory with first_gradient");
    FAILS(
        fastloss_domain_adversarial(2, 3, x, 3, labels, NULL, &gradient, &gradient, NULL, &loss),
        FASTLOSS_ERROR_OVERLAPPING_BUFFERS,
        "output embedding_gradient shares memory with discriminator_gradient");
    FAILS(
        fastloss_cosine_similarity(2, 3, x, 3, x + 4, 2, NULL), FASTLOSS_ERROR_OVERLAPPING_BUFFERS,
        "output similarities shares memory with embeddings");
    // What cls does not read may not be written either.
    FAILS(
        fastloss_token_pooling(FASTLOSS_POOLING_CLS, 1, 3, 2, x, 2, 6, x + 4, 2, NULL),
        FASTLOSS_ERROR_OVERLAPPING_BUFFERS, "output embeddings shares memory with states");
    double norms[2] = {42, 42};
    FAILS(
        fastloss_normalized_weighted_token_pooling(
            1, 2, 2, 1, x, 2, 4, t, 2, (float *)(void *)norms, 2, norms, NULL),
        FASTLOSS_ERROR_OVERLAPPING_BUFFERS, "output norms shares memory with embeddings");
    CHECK(norms[0] == 42 && norms[1] == 42);
}

/// Which bytes of `bytes` the rows of a matrix take.
static void mark(unsigned char *bytes, int64_t start, int64_t rows, int64_t columns, int64_t stride) {
    memset(bytes, 0, sizeof out);
    for (int64_t row = 0; row < rows; row++) {
        memset(bytes + (size_t)(start + row * stride) * sizeof(float), 1, (size_t)columns * sizeof(float));
    }
}

/// Matrices of the same shape anywhere in one buffer, with any strides: an error exactly where a byte is
/// shared.
static void test_interleaved_rows(void) {
    now_testing("interleaved rows");
    enum { size = (int)(sizeof out / sizeof out[0]) };
    static unsigned char read[sizeof out], written[sizeof out];
    uint32_t state = 7;
    int shared_count = 0;
    for (int trial = 0; trial < 20000; trial++) {
        int64_t random[6];
        for (int i = 0; i < 6; i++) {
            state = state * 1664525u + 1013904223u;
            random[i] = (int64_t)(state >> 16);
        }
        int64_t rows = 1 + random[0] % 4, columns = 1 + random[1] % 5;
        int64_t stride = columns + random[2] % 8, other_stride = columns + random[3] % 8;
        int64_t start = random[4] % (size - (rows - 1) * stride - columns + 1);
        int64_t other_start = random[5] % (size - (rows - 1) * other_stride - columns + 1);
        mark(read, start, rows, columns, stride);
        mark(written, other_start, rows, columns, other_stride);
        int shares = 0;
        for (size_t i = 0; i < sizeof out; i++) shares = shares || (read[i] && written[i]);
        shared_count += shares;
        fastloss_gradient reversed = FASTLOSS_GRADIENT(out + other_start, other_stride);
        fastloss_status status =
            fastloss_gradient_reversal(rows, columns, out + start, stride, 0, &reversed, NULL);
        CHECK(status == (shares ? FASTLOSS_ERROR_OVERLAPPING_BUFFERS : FASTLOSS_OK));
    }
    CHECK(shared_count > 1000 && shared_count < 19000);
    reset();
}

static void test_enumerations(void) {
    now_testing("enumerations");
    options.reduction = 2;
    FAILS(
        mse(2, 3, 3, 3, 3), FASTLOSS_ERROR_INVALID_ENUMERATION,
        "reduction is 2, which is not a constant of its enumeration");
    options.when_empty = -1;
    FAILS(
        mse(2, 3, 3, 3, 3), FASTLOSS_ERROR_INVALID_ENUMERATION,
        "when_empty is -1, which is not a constant of its enumeration");
    gradient.update = 9;
    FAILS(
        mse(2, 3, 3, 3, 3), FASTLOSS_ERROR_INVALID_ENUMERATION,
        "gradient.update is 9, which is not a constant of its enumeration");
    FAILS(
        fastloss_token_pooling(2, 1, 1, 3, x, 3, 3, out, 3, NULL), FASTLOSS_ERROR_INVALID_ENUMERATION,
        "pooling is 2, which is not a constant of its enumeration");
    FAILS(
        fastloss_token_pooling_gradient(-1, 1, 1, 3, x, 3, &gradient, NULL),
        FASTLOSS_ERROR_INVALID_ENUMERATION, "pooling is -1, which is not a constant of its enumeration");
}

static void test_values(void) {
    now_testing("values");
    for (int i = 0; i < 8; i++) m[i] = false;
    FAILS(
        mse(2, 3, 3, 3, 3), FASTLOSS_ERROR_EMPTY_SELECTION,
        "masked_mse: no element is selected; set when_empty to FASTLOSS_EMPTY_ZERO or FASTLOSS_EMPTY_NAN to "
        "get a value instead");
    m[0] = m[1] = m[2] = false;
    FAILS(
        fastloss_masked_mse_per_cell(2, 3, x, 3, t, 3, m, 3, NULL, &gradient, NULL, out + 32, NULL),
        FASTLOSS_ERROR_EMPTY_SELECTION,
        "masked_mse: no element is selected in row 0; set when_empty to FASTLOSS_EMPTY_ZERO or "
        "FASTLOSS_EMPTY_NAN to get a value instead");
    gradient.scale = INFINITY;
    FAILS(mse(2, 3, 3, 3, 3), FASTLOSS_ERROR_INVALID_PARAMETER, "scale is inf, but it must be finite");
    FAILS(
        fastloss_gradient_reversal(2, 3, x, 3, NAN, &gradient, NULL), FASTLOSS_ERROR_INVALID_PARAMETER,
        "lambda is nan, but it must be finite");
    gradient.scale = NAN;
    FAILS(
        fastloss_gradient_reversal(2, 3, x, 3, 1, &gradient, NULL), FASTLOSS_ERROR_INVALID_PARAMETER,
        "scale is nan, but it must be finite");
    gradient.scale = 1e30f;
    FAILS(
        fastloss_gradient_reversal(2, 3, x, 3, 1e30f, &gradient, NULL), FASTLOSS_ERROR_INVALID_PARAMETER,
        "lambda * scale is -1.0000000300949327e+60, but it must be at most 3.4e38 in magnitude");
    labels[1] = 3;
    FAILS(
        fastloss_cross_entropy(2, 3, x, 3, labels, NULL, &gradient, NULL, &loss),
        FASTLOSS_ERROR_LABEL_OUT_OF_RANGE,
        "label 3 in row 1 of labels is neither a class (0 to 2) nor the ignored label");
    labels[0] = -1;
    FAILS(
        fastloss_domain_adversarial(2, 3, x, 3, labels, NULL, &gradient, NULL, NULL, &loss),
        FASTLOSS_ERROR_LABEL_OUT_OF_RANGE,
        "label -1 in row 0 of labels is neither a class (0 to 2) nor the ignored label");
    labels[0] = labels[1] = FASTLOSS_IGNORED_LABEL;
    FAILS(
        fastloss_cross_entropy(2, 3, x, 3, labels, NULL, &gradient, NULL, &loss),
        FASTLOSS_ERROR_EMPTY_SELECTION,
        "cross_entropy: no element is selected; set when_empty to FASTLOSS_EMPTY_ZERO or FASTLOSS_EMPTY_NAN "
        "to get a value instead");
    fastloss_domain_adversarial_options reversal = FASTLOSS_DOMAIN_ADVERSARIAL_OPTIONS;
    reversal.lambda = -INFINITY;
    FAILS(
        fastloss_domain_adversarial(2, 3, x, 3, labels, &reversal, &gradient, NULL, NULL, &loss),
        FASTLOSS_ERROR_INVALID_PARAMETER, "lambda is -inf, but it must be finite");
    fastloss_elastic_options elastic = FASTLOSS_ELASTIC_OPTIONS;
    elastic.threshold = 1.5f;
    FAILS(
        fastloss_elastic_cell_similarity(2, 3, x, 3, &elastic, &gradient, NULL, &loss),
        FASTLOSS_ERROR_INVALID_PARAMETER, "threshold is 1.5, but it must be between -1 and 1");
    FAILS(
        fastloss_elastic_cell_similarity(0, 3, NULL, 3, NULL, NULL, NULL, &loss),
        FASTLOSS_ERROR_EMPTY_SELECTION,
        "elastic_cell_similarity: no element is selected; set when_empty to FASTLOSS_EMPTY_ZERO or "
        "FASTLOSS_EMPTY_NAN to get a value instead");
    fastloss_contrastive_options contrastive = FASTLOSS_CONTRASTIVE_OPTIONS;
    contrastive.temperature = 0;
    FAILS(
        fastloss_contrastive_cell_embedding(2, 3, x, 3, t, 3, &contrastive, &gradient, NULL, NULL, &loss),
        FASTLOSS_ERROR_INVALID_PARAMETER, "temperature is 0, but it must be above 0 and finite");
    m[3] = m[4] = m[5] = false;
    FAILS(
        fastloss_masked_reductions(2, 3, 2, x, 3, m, 3, NULL, out, 2, NULL), FASTLOSS_ERROR_EMPTY_SELECTION,
        "masked_reductions.masks: no element is selected in row 1; set when_empty to FASTLOSS_EMPTY_ZERO or "
        "FASTLOSS_EMPTY_NAN to get a value instead");

    // The one error after which outputs are unspecified.
    p[4] = 1.5f;
    CHECK_FAILS(
        fastloss_bernoulli_nll(2, 3, p, 3, t, 3, m, 3, NULL, &gradient, NULL, &loss),
        FASTLOSS_ERROR_PROBABILITY_OUT_OF_RANGE,
        "probability 1.5 at element 4 of predictions is not in [0, 1]; all outputs hold unspecified values; "
        "for logits, use the logit form");
    CHECK(loss.value == 42);
    reset();
    p[5] = NAN;
    CHECK(
        fastloss_bernoulli_nll_per_cell(2, 3, p, 3, t, 3, m, 3, NULL, NULL, NULL, out, NULL)
        == FASTLOSS_ERROR_PROBABILITY_OUT_OF_RANGE);
    reset();
}

static fastloss_objective objective;
static fastloss_objective_inputs inputs;
static fastloss_objective_gradients gradients;
static fastloss_objective_value value;

/// Two cells, three genes, three columns: MSE, NLL and ECS, valid.
static void reset_objective(void) {
    static const fastloss_objective no_terms = FASTLOSS_OBJECTIVE;
    static const fastloss_objective_inputs no_inputs = FASTLOSS_OBJECTIVE_INPUTS;
    static const fastloss_objective_gradients no_gradients = FASTLOSS_OBJECTIVE_GRADIENTS;
    static const fastloss_objective_value no_value = FASTLOSS_OBJECTIVE_VALUE;
    reset();
    objective = no_terms;
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_MASKED_GENE, 1));
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_ELASTIC, 10));
    inputs = no_inputs;
    inputs.cells = 2;
    inputs.genes = inputs.width = 3;
    inputs.targets.data = t;
    inputs.gene_predictions.data = x;
    inputs.cell_embedding.data = p;
    inputs.targets.stride = inputs.gene_predictions.stride = inputs.cell_embedding.stride = 3;
    gradients = no_gradients;
    gradients.gene_predictions.data = out;
    gradients.cell_embedding.data = out + 8;
    gradients.gene_predictions.stride = gradients.cell_embedding.stride = 3;
    value = no_value;
    value.total = 42;
}

#define OBJECTIVE_FAILS(status, message)                                                                   \
    do {                                                                                                   \
        CHECK_FAILS(                                                                                       \
            fastloss_total_objective(&objective, &inputs, &gradients, NULL, &value), (status), (message)); \
        CHECK(value.total == 42);                                                                          \
        untouched(__LINE__);                                                                               \
        reset_objective();                                                                                 \
    } while (0)

static void test_objective(void) {
    now_testing("the objective's errors");
    reset_objective();
    CHECK_OK(fastloss_total_objective(&objective, &inputs, &gradients, NULL, &value));
    reset_objective();
    CHECK_FAILS(
        fastloss_total_objective(NULL, &inputs, &gradients, NULL, &value), FASTLOSS_ERROR_NULL_POINTER,
        "objective is NULL");
    CHECK_FAILS(
        fastloss_total_objective(&objective, NULL, &gradients, NULL, &value), FASTLOSS_ERROR_NULL_POINTER,
        "inputs is NULL");
    CHECK_FAILS(
        fastloss_total_objective(&objective, &inputs, &gradients, NULL, NULL), FASTLOSS_ERROR_NULL_POINTER,
        "value is NULL");
    inputs.gene_predictions.data = NULL;
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_GRADIENT_WITHOUT_INPUT,
        "gradients.gene_predictions has a buffer, but its input is NULL");
    inputs.gene_predictions.data = NULL;
    gradients.gene_predictions.data = NULL;
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_MISSING_INPUT,
        "the term FASTLOSS_TERM_MASKED_GENE is enabled, but gene_predictions is NULL");
    inputs.targets.data = NULL;
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_MISSING_INPUT, "the term FASTLOSS_TERM_MASKED_GENE is enabled, but targets is NULL");
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_CONTRASTIVE, 10));
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_MISSING_INPUT,
        "the term FASTLOSS_TERM_CONTRASTIVE is enabled, but second_cell_embedding is NULL");
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_BATCH, 1));
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_MISSING_INPUT, "the term FASTLOSS_TERM_BATCH is enabled, but batch_logits is NULL");
    inputs.batch_logits.data = x;
    inputs.batch_logits.stride = inputs.batch_count = 2;
    OBJECTIVE_FAILS(FASTLOSS_ERROR_NULL_POINTER, "batch_labels is NULL, but it must have 2 elements");
    inputs.cell_type_labels = labels;
    inputs.cell_type_count = 2;
    inputs.cell_type_logits.stride = 2;
    OBJECTIVE_FAILS(FASTLOSS_ERROR_NULL_POINTER, "cell_type_logits is NULL, but it must have 4 elements");
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_ELASTIC, NAN));
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_INVALID_PARAMETER,
        "the weight of FASTLOSS_TERM_ELASTIC is nan, but it must be finite");
    gradients.scale = INFINITY;
    OBJECTIVE_FAILS(FASTLOSS_ERROR_INVALID_PARAMETER, "scale is inf, but it must be finite");
    gradients.update = 2;
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_INVALID_ENUMERATION,
        "gradients.update is 2, which is not a constant of its enumeration");
    objective.terms |= FASTLOSS_TERM_BIT(FASTLOSS_TERM_COUNT);
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_INVALID_ENUMERATION,
        "objective.terms has bits 1010000001, but only the lowest 9 are terms");
    objective.nonzero_form = 2;
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_INVALID_ENUMERATION, "nonzero_form is 2, which is not a constant of its enumeration");
    objective.batch_reduction = 2;
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_INVALID_ENUMERATION,
        "batch_reduction is 2, which is not a constant of its enumeration");
    objective.mask_when_empty = 3;
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_INVALID_ENUMERATION,
        "mask_when_empty is 3, which is not a constant of its enumeration");
    gradients.cell_embedding.data = out + 2;
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_OVERLAPPING_BUFFERS,
        "output gradients.cell_embedding shares memory with gradients.gene_predictions");
    gradients.cell_embedding.stride = 2;
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_INVALID_STRIDE,
        "the stride of gradients.cell_embedding is 2, but it must be at least 3, the number of columns");
    inputs.cells = -2;
    CHECK(
        fastloss_total_objective(&objective, &inputs, &gradients, NULL, &value)
        == FASTLOSS_ERROR_INVALID_SHAPE);
    reset_objective();
    CHECK_FAILS(
        fastloss_objective_enable(&objective, FASTLOSS_TERM_COUNT, 1), FASTLOSS_ERROR_INVALID_ENUMERATION,
        "term is 9, which is not a constant of its enumeration");
    CHECK_FAILS(
        fastloss_objective_disable(&objective, -1), FASTLOSS_ERROR_INVALID_ENUMERATION,
        "term is -1, which is not a constant of its enumeration");
    inputs.batch_logits.data = x;
    inputs.batch_logits.stride = inputs.batch_count = 2;
    inputs.batch_labels = labels;
    labels[0] = labels[1] = FASTLOSS_IGNORED_LABEL;
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_BATCH, 1));
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_EMPTY_SELECTION,
        "cross_entropy of batch_labels: no element is selected; set the term's when_empty to "
        "FASTLOSS_EMPTY_ZERO "
        "or FASTLOSS_EMPTY_NAN to get a value instead");
    inputs.batch_logits.data = x;
    inputs.batch_logits.stride = inputs.batch_count = 2;
    inputs.batch_labels = labels;
    labels[1] = 7;
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_BATCH, 1));
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_LABEL_OUT_OF_RANGE,
        "label 7 in row 1 of batch_labels is neither a class (0 to 1) nor the ignored label");
    objective.contrastive_temperature = -1;
    inputs.second_cell_embedding = inputs.cell_embedding;
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_CONTRASTIVE, 1));
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_INVALID_PARAMETER, "contrastive_temperature is -1, but it must be above 0 and finite");
    // The loss checks the threshold; the message names the member of the objective.
    objective.elastic_threshold = 2;
    OBJECTIVE_FAILS(
        FASTLOSS_ERROR_INVALID_PARAMETER, "elastic_threshold is 2, but it must be between -1 and 1");
}

void test_errors(void) {
    reset();
    test_pointers();
    test_shapes_and_strides();
    test_overlap();
    test_interleaved_rows();
    test_enumerations();
    test_values();
    test_objective();
}
