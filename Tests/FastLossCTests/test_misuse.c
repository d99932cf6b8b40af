// The article "Bad input" has a table of misuses of C with the status and the message that each gets. Here
// every row is run, and no output may have been written.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

// ---- The table

enum { MOST_ROWS = 256, MOST_CELLS = 4 };

/// A row: the call, the misuse, the status, the message.
typedef struct table_row {
    char *cells[MOST_CELLS];
    int was_run;
} table_row;

static char *text = NULL;
static table_row rows[MOST_ROWS];
static int row_count = 0;

/// The next cell of a line, without its backquotes and the spaces around it; NULL at the line's end.
static char *next_cell(char **at) {
    char *cell = *at, *const end = strchr(cell, '|');
    if (end == NULL) return NULL;
    *end = 0;
    *at = end + 1;
    while (*cell == ' ') cell++;
    char *kept = cell;
    for (const char *next = cell; *next != 0; next++)
        if (*next != '`') *kept++ = *next;
    while (kept > cell && kept[-1] == ' ') kept--;
    *kept = 0;
    return cell;
}

static void read_table(void) {
    char path[4096];
    snprintf(
        path, sizeof path, "%s/../../../Sources/FastLoss/FastLoss.docc/Articles/BadInput.md", goldens_path());
    FILE *const file = fopen(path, "rb");
    check(file != NULL, __FILE__, __LINE__, "%s is there", path);
    if (file == NULL) return;
    fseek(file, 0, SEEK_END);
    const long size = ftell(file);
    rewind(file);
    text = (char *)malloc((size_t)size + 1);
    if (text == NULL || fread(text, 1, (size_t)size, file) != (size_t)size) abort();
    text[size] = 0;
    fclose(file);
    row_count = 0;
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (strncmp(line, "| `fastloss_", 12) != 0) continue;
        if (row_count == MOST_ROWS) abort();
        table_row *const row = &rows[row_count++];
        char *at = line + 1;
        row->was_run = 0;
        for (int i = 0; i < MOST_CELLS; i++) row->cells[i] = next_cell(&at);
        check(row->cells[MOST_CELLS - 1] != NULL, __FILE__, __LINE__, "a row has %d cells", MOST_CELLS);
    }
}

// ---- A small valid problem, which each misuse breaks in one place

/// 2 cells, 3 tokens, genes or columns, 4 columns of states, 2 batches, 5 genes.
enum { B = 2, L = 3, D = 4, BATCHES = 2, GENES = 5, MEMORY = 512 };

static float x[MEMORY], t[MEMORY], out[MEMORY];
static double norms[B];
static bool m[B * L];
static int32_t labels[B], genes[B * L];
static fastloss_gradient gradient, second;
static fastloss_masked_options options;
static fastloss_cross_entropy_options class_options;
static fastloss_domain_adversarial_options adversarial;
static fastloss_elastic_options elastic;
static fastloss_contrastive_options contrastive;
static fastloss_loss_value loss;
static fastloss_objective objective;
static fastloss_objective_inputs objective_inputs;
static fastloss_objective_gradients objective_gradients;
static fastloss_objective_value value;
static fastloss_expression_decoder decoder;
static fastloss_expression_decoder_inputs inputs;
static fastloss_expression_decoder_gradients gradients;
static fastloss_masked_value_decoder value_decoder;
static fastloss_masked_value_inputs value_inputs;
static fastloss_masked_value_gradients value_gradients;
static fastloss_decoder_targets targets;
static fastloss_decoder_losses losses;
static fastloss_classifier classifier;
static fastloss_classifier_block block;
static fastloss_classifier_gradients classifier_gradients;
static fastloss_batch_label_encoder encoder;
static fastloss_batch_label_encoder_gradients encoder_gradients;

static fastloss_layer some_layer(void) {
    fastloss_layer layer;
    layer.weight = layer.bias = x;
    return layer;
}

static fastloss_view view_of(const float *data, int64_t stride) {
    fastloss_view view;
    view.data = data;
    view.stride = stride;
    return view;
}

static void reset_losses(void) {
    const fastloss_gradient start = FASTLOSS_GRADIENT(out, L);
    const fastloss_masked_options start_options = FASTLOSS_MASKED_OPTIONS;
    const fastloss_cross_entropy_options start_classes = FASTLOSS_CROSS_ENTROPY_OPTIONS;
    const fastloss_domain_adversarial_options start_adversarial = FASTLOSS_DOMAIN_ADVERSARIAL_OPTIONS;
    const fastloss_elastic_options start_elastic = FASTLOSS_ELASTIC_OPTIONS;
    const fastloss_contrastive_options start_contrastive = FASTLOSS_CONTRASTIVE_OPTIONS;
    for (int i = 0; i < MEMORY; i++) {
        x[i] = (float)(i % 7) / 8.0f;
        t[i] = (float)(i % 3);
        out[i] = 42;
    }
    for (int i = 0; i < B * L; i++) {
        m[i] = true;
        genes[i] = i % GENES;
    }
    for (int i = 0; i < B; i++) {
        labels[i] = i % BATCHES;
        norms[i] = 42;
    }
    gradient = second = start;
    second.data = out + 32;
    options = start_options;
    class_options = start_classes;
    adversarial = start_adversarial;
    elastic = start_elastic;
    contrastive = start_contrastive;
    loss.value = 42;
    loss.selected_count = 42;
}

static void reset_objective(void) {
    const fastloss_objective start = FASTLOSS_OBJECTIVE;
    const fastloss_objective_inputs start_inputs = FASTLOSS_OBJECTIVE_INPUTS;
    const fastloss_objective_gradients start_gradients = FASTLOSS_OBJECTIVE_GRADIENTS;
    const fastloss_objective_value start_value = FASTLOSS_OBJECTIVE_VALUE;
    objective = start;
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_MASKED_GENE, 1));
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_ELASTIC, 10));
    CHECK_OK(fastloss_objective_enable(&objective, FASTLOSS_TERM_BATCH, 1));
    objective_inputs = start_inputs;
    objective_inputs.cells = B, objective_inputs.genes = L, objective_inputs.width = D;
    objective_inputs.batch_count = BATCHES;
    objective_inputs.targets = view_of(t, L);
    objective_inputs.gene_predictions = view_of(x, L);
    objective_inputs.cell_embedding = view_of(x, D);
    objective_inputs.batch_logits = view_of(x, BATCHES);
    objective_inputs.batch_labels = labels;
    objective_gradients = start_gradients;
    objective_gradients.gene_predictions.data = out, objective_gradients.gene_predictions.stride = L;
    objective_gradients.cell_embedding.data = out + 32, objective_gradients.cell_embedding.stride = D;
    value = start_value;
    value.total = 42;
}

static void reset_heads(void) {
    const fastloss_expression_decoder start = FASTLOSS_EXPRESSION_DECODER(D);
    const fastloss_expression_decoder_inputs start_inputs = FASTLOSS_EXPRESSION_DECODER_INPUTS;
    const fastloss_expression_decoder_gradients start_gradients = FASTLOSS_EXPRESSION_DECODER_GRADIENTS;
    const fastloss_masked_value_decoder start_values = FASTLOSS_MASKED_VALUE_DECODER(D);
    const fastloss_masked_value_inputs start_value_inputs = FASTLOSS_MASKED_VALUE_INPUTS;
    const fastloss_masked_value_gradients start_value_gradients = FASTLOSS_MASKED_VALUE_GRADIENTS;
    const fastloss_decoder_targets start_targets = FASTLOSS_DECODER_TARGETS(t, L);
    const fastloss_decoder_losses start_losses = FASTLOSS_DECODER_LOSSES;
    const fastloss_classifier start_classifier = FASTLOSS_CLASSIFIER(D, 3);
    const fastloss_classifier_gradients start_classifier_gradients = FASTLOSS_CLASSIFIER_GRADIENTS;
    const fastloss_batch_label_encoder start_encoder = FASTLOSS_BATCH_LABEL_ENCODER(GENES, D);
    const fastloss_batch_label_encoder_gradients start_encoder_gradients =
        FASTLOSS_BATCH_LABEL_ENCODER_GRADIENTS;
    decoder = start;
    decoder.batch_embeddings = true;
    decoder.fc.first = decoder.fc.second = decoder.fc.third = some_layer();
    inputs = start_inputs;
    inputs.cells = B, inputs.tokens = L, inputs.batch_count = BATCHES;
    inputs.states = t + 256, inputs.states_token_stride = D, inputs.states_cell_stride = L * D;
    inputs.mask.data = m, inputs.mask.stride = L;
    inputs.batch_embeddings = view_of(x, D);
    inputs.batch_labels = labels;
    gradients = start_gradients;
    gradients.states = out, gradients.states_token_stride = D, gradients.states_cell_stride = L * D;
    gradients.fc.first.weight = out + 100;
    value_decoder = start_values;
    value_decoder.batch_embeddings = true;
    value_decoder.gene2query = value_decoder.w_zero_logit = value_decoder.fc1 = value_decoder.fc2 =
        some_layer();
    value_decoder.w_weight = value_decoder.hidden_activation = x;
    value_inputs = start_value_inputs;
    value_inputs.cells = B, value_inputs.tokens = L, value_inputs.gene_count = GENES;
    value_inputs.batch_count = BATCHES;
    value_inputs.cell_embeddings = value_inputs.gene_embeddings = value_inputs.batch_embeddings =
        view_of(x, D);
    value_inputs.genes = genes, value_inputs.genes_stride = L;
    value_inputs.mask = inputs.mask;
    value_inputs.batch_labels = labels;
    value_gradients = start_value_gradients;
    value_gradients.cell_embeddings.data = out, value_gradients.cell_embeddings.stride = D;
    targets = start_targets;
    losses = start_losses;
    losses.squared_error = 42;
    block.linear = block.norm = some_layer();
    classifier = start_classifier;
    classifier.block_count = 1;
    classifier.blocks = &block;
    classifier.out_layer = some_layer();
    classifier_gradients = start_classifier_gradients;
    classifier_gradients.cell_embeddings.data = out, classifier_gradients.cell_embeddings.stride = D;
    encoder = start_encoder;
    encoder.embedding = x;
    encoder.enc_norm = some_layer();
    encoder_gradients = start_encoder_gradients;
    encoder_gradients.embedding = out;
}

static void reset(void) {
    reset_losses();
    reset_objective();
    reset_heads();
}

// ---- The check

/// Whether two messages agree; the table has "…" for an address.
static int same_message(const char *found, const char *expected) {
    const char *const dots = strstr(expected, "…");
    if (dots == NULL) return strcmp(found, expected) == 0;
    const size_t start = (size_t)(dots - expected);
    if (strncmp(found, expected, start) != 0) return 0;
    return strcmp(found + start + strspn(found + start, "0123456789"), dots + strlen("…")) == 0;
}

/// Checks the outcome of a misuse, and makes the problem valid again.
static void expect_row(const char *call, const char *misuse, fastloss_status status, int writes) {
    table_row *row = NULL;
    for (int i = 0; i < row_count && row == NULL; i++)
        if (strcmp(rows[i].cells[0], call) == 0 && strcmp(rows[i].cells[1], misuse) == 0) row = &rows[i];
    const char *const name = fastloss_status_name(status), *const message = fastloss_last_error();
    now_testing("%s: %s", call, misuse);
    check(
        row != NULL && status != FASTLOSS_OK && strcmp(row->cells[2], name) == 0
            && same_message(message, row->cells[3]),
        __FILE__, __LINE__, "the row of BadInput.md is not\n| `%s` | %s | `%s` | %s |", call, misuse, name,
        status == FASTLOSS_OK ? "" : message);
    if (row != NULL) row->was_run = 1;
    int untouched = loss.value == 42 && loss.selected_count == 42 && value.total == 42
        && losses.squared_error == 42 && norms[0] == 42;
    // The one error after which gradients are unspecified.
    for (int i = 0; i < MEMORY && !writes; i++) untouched = untouched && out[i] == 42;
    check(untouched, __FILE__, __LINE__, "an output was written");
    reset();
}

#define MISUSE(call, misuse, ...) expect_row(call, misuse, (__VA_ARGS__), 0)

static fastloss_status mse(int64_t row_number, int64_t columns, int64_t stride) {
    return fastloss_masked_mse(
        row_number, columns, x, stride, t, columns, m, columns, &options, &gradient, NULL, &loss);
}

static fastloss_status per_cell(float *values) {
    return fastloss_masked_mse_per_cell(B, L, x, L, t, L, m, L, NULL, &gradient, NULL, values, NULL);
}

static void misuse_value_losses(void) {
    const char *const call = "fastloss_masked_mse";
    MISUSE(
        call, "predictions is NULL",
        fastloss_masked_mse(B, L, NULL, L, t, L, m, L, NULL, &gradient, NULL, &loss));
    MISUSE(
        call, "targets is NULL",
        fastloss_masked_mse(B, L, x, L, NULL, L, m, L, NULL, &gradient, NULL, &loss));
    MISUSE(call, "loss is NULL", fastloss_masked_mse(B, L, x, L, t, L, m, L, NULL, &gradient, NULL, NULL));
    MISUSE(call, "gradient.data is NULL", (gradient.data = NULL, mse(B, L, L)));
    MISUSE(
        call, "predictions at an odd address",
        fastloss_masked_mse(
            1, L, (const float *)(const void *)((const char *)x + 1), L, t, L, m, L, NULL, &gradient, NULL,
            &loss));
    MISUSE(call, "a stride of 2 for 3 columns", mse(B, L, 2));
    MISUSE(call, "a stride of −3", mse(B, L, -3));
    MISUSE(call, "gradient.stride is 1", (gradient.stride = 1, mse(B, L, L)));
    MISUSE(call, "gradient.cell_stride is 6", (gradient.cell_stride = 6, mse(B, L, L)));
    MISUSE(call, "−1 rows", mse(-1, L, L));
    MISUSE(call, "2⁶³ − 1 rows of 2 columns", mse(INT64_MAX, 2, 2));
    MISUSE(call, "2⁶⁰ rows, more than the address space holds", mse(INT64_C(1) << 60, 4, 4));
    MISUSE(call, "a stride of 2⁶³ − 1", mse(B, 1, INT64_MAX));
    MISUSE(
        call, "the gradient in the memory of the predictions", (gradient.data = x + B * L - 1, mse(B, L, L)));
    MISUSE(
        call, "the gradient in the memory of the mask",
        (gradient.data = (float *)(void *)m, gradient.stride = 1,
         fastloss_masked_mse(1, 1, x, 1, t, 1, m, 1, NULL, &gradient, NULL, &loss)));
    MISUSE(call, "a mask that selects nothing", (memset(m, 0, sizeof m), mse(B, L, L)));
    MISUSE(call, "no rows", fastloss_masked_mse(0, L, NULL, L, NULL, L, NULL, L, NULL, NULL, NULL, &loss));
    MISUSE(call, "gradient.update is 9", (gradient.update = 9, mse(B, L, L)));
    MISUSE(call, "gradient.scale is infinite", (gradient.scale = INFINITY, mse(B, L, L)));
    MISUSE(call, "gradient.size is 1", (gradient.size = 1, mse(B, L, L)));
    MISUSE(call, "options.reduction is 2", (options.reduction = 2, mse(B, L, L)));
    MISUSE(call, "options.when_empty is −1", (options.when_empty = -1, mse(B, L, L)));
    MISUSE(call, "options.predictions is 3", (options.predictions = (fastloss_element_type)3, mse(B, L, L)));
    MISUSE(
        call, "bfloat16 at an odd address",
        (options.predictions = FASTLOSS_ELEMENT_BFLOAT16,
         fastloss_masked_mse(
             1, L, (const float *)(const void *)((const char *)x + 1), L, t, L, m, L, &options, &gradient,
             NULL, &loss)));
    MISUSE("fastloss_masked_mse_per_cell", "values is NULL", per_cell(NULL));
    MISUSE("fastloss_masked_mse_per_cell", "the values in the memory of the gradient", per_cell(out + 5));
    MISUSE(
        "fastloss_masked_mse_per_cell", "a cell without a selected element",
        (memset(m, 0, L), per_cell(out + 32)));
    expect_row(
        "fastloss_bernoulli_nll", "a probability of 1.5",
        (x[4] = 1.5f, fastloss_bernoulli_nll(B, L, x, L, t, L, m, L, NULL, &gradient, NULL, &loss)), 1);
    expect_row(
        "fastloss_bernoulli_nll", "a probability that is NaN",
        (x[0] = NAN, fastloss_bernoulli_nll(B, L, x, L, t, L, m, L, NULL, &gradient, NULL, &loss)), 1);
    MISUSE(
        "fastloss_bernoulli_nll_logits", "targets is NULL",
        fastloss_bernoulli_nll_logits(B, L, x, L, NULL, L, m, L, NULL, &gradient, NULL, &loss));
    MISUSE(
        "fastloss_masked_relative_error", "loss is NULL",
        fastloss_masked_relative_error(B, L, x, L, t, L, m, L, NULL, NULL, NULL));
}

static fastloss_status cross_entropy(void) {
    return fastloss_cross_entropy(B, L, x, L, labels, &class_options, &gradient, NULL, &loss);
}

static fastloss_status domain_adversarial(void) {
    return fastloss_domain_adversarial(B, L, x, L, labels, &adversarial, &gradient, &second, NULL, &loss);
}

static void misuse_classification(void) {
    const char *const call = "fastloss_cross_entropy";
    MISUSE(call, "labels is NULL", fastloss_cross_entropy(B, L, x, L, NULL, NULL, &gradient, NULL, &loss));
    MISUSE(call, "label 3 of 3 classes", (labels[1] = 3, cross_entropy()));
    MISUSE(call, "label −1", (labels[0] = -1, cross_entropy()));
    MISUSE(call, "only ignored labels", (labels[0] = labels[1] = FASTLOSS_IGNORED_LABEL, cross_entropy()));
    MISUSE(call, "options.logits is 3", (class_options.logits = (fastloss_element_type)3, cross_entropy()));
    MISUSE(call, "options.size is 1", (class_options.size = 1, cross_entropy()));
    MISUSE(
        "fastloss_gradient_reversal", "reversed is NULL",
        fastloss_gradient_reversal(B, L, x, L, 1, NULL, NULL));
    MISUSE(
        "fastloss_gradient_reversal", "a λ that is NaN",
        fastloss_gradient_reversal(B, L, x, L, NAN, &gradient, NULL));
    MISUSE(
        "fastloss_gradient_reversal", "a product of λ and scale of 10⁶⁰",
        (gradient.scale = 1e30f, fastloss_gradient_reversal(B, L, x, L, 1e30f, &gradient, NULL)));
    MISUSE(
        "fastloss_domain_adversarial", "both gradients in one memory",
        (second = gradient, domain_adversarial()));
    MISUSE(
        "fastloss_domain_adversarial", "an infinite λ",
        (adversarial.lambda = -INFINITY, domain_adversarial()));
}

static fastloss_status elastic_of(int64_t row_number, int64_t columns, const float *data) {
    return fastloss_elastic_cell_similarity(row_number, columns, data, columns, &elastic, NULL, NULL, &loss);
}

static fastloss_status contrastive_of(const float *other) {
    return fastloss_contrastive_cell_embedding(
        B, L, x, L, other, L, &contrastive, &gradient, &second, NULL, &loss);
}

static void misuse_pairs(void) {
    MISUSE("fastloss_elastic_cell_similarity", "embeddings is NULL", elastic_of(B, L, NULL));
    MISUSE("fastloss_elastic_cell_similarity", "no rows", elastic_of(0, L, NULL));
    MISUSE(
        "fastloss_elastic_cell_similarity", "2³¹ rows of no columns", elastic_of(INT64_C(1) << 31, 0, NULL));
    MISUSE(
        "fastloss_elastic_cell_similarity", "a threshold of 1.5",
        (elastic.threshold = 1.5f, elastic_of(B, L, x)));
    MISUSE(
        "fastloss_elastic_cell_similarity", "options.embeddings is 3",
        (elastic.embeddings = (fastloss_element_type)3, elastic_of(B, L, x)));
    MISUSE(
        "fastloss_elastic_cell_similarity", "options.certificate is 2",
        (elastic.certificate = (fastloss_certificate)2, elastic_of(B, L, x)));
    MISUSE("fastloss_contrastive_cell_embedding", "second is NULL", contrastive_of(NULL));
    MISUSE(
        "fastloss_contrastive_cell_embedding", "a temperature of 0",
        (contrastive.temperature = 0, contrastive_of(t)));
    MISUSE(
        "fastloss_contrastive_cell_embedding", "both gradients in one memory",
        (second.data = out + 1, contrastive_of(t)));
    MISUSE(
        "fastloss_cosine_similarity", "similarities is NULL",
        fastloss_cosine_similarity(B, L, x, L, NULL, B, NULL));
    MISUSE(
        "fastloss_cosine_similarity", "a stride of 1 for 2 cells",
        fastloss_cosine_similarity(B, L, x, L, out, 1, NULL));
    MISUSE(
        "fastloss_cosine_similarity", "the similarities in the memory of the embeddings",
        fastloss_cosine_similarity(B, L, x, L, x + 4, B, NULL));
}

static void misuse_pooling(void) {
    MISUSE(
        "fastloss_masked_reductions", "masks is NULL",
        fastloss_masked_reductions(B, L, 2, x, L, NULL, L, NULL, out, 2, NULL));
    MISUSE(
        "fastloss_masked_reductions", "−1 masks",
        fastloss_masked_reductions(B, L, -1, x, L, m, L, NULL, out, 2, NULL));
    MISUSE(
        "fastloss_masked_reductions", "an empty mask",
        (memset(m + L, 0, L), fastloss_masked_reductions(B, L, 2, x, L, m, L, NULL, out, 2, NULL)));
    MISUSE(
        "fastloss_masked_reductions", "options.predictions is bfloat16",
        (options.predictions = FASTLOSS_ELEMENT_BFLOAT16,
         fastloss_masked_reductions(B, L, 2, x, L, m, L, &options, out, 2, NULL)));
    MISUSE(
        "fastloss_masked_reductions_gradient", "gradient is NULL",
        fastloss_masked_reductions_gradient(B, L, 1, x, 1, m, L, NULL, NULL, NULL));
    MISUSE(
        "fastloss_token_pooling", "pooling is 2",
        fastloss_token_pooling(2, B, L, D, x, D, L * D, out, D, NULL));
    MISUSE(
        "fastloss_token_pooling", "no tokens",
        fastloss_token_pooling(FASTLOSS_POOLING_AVERAGE, B, 0, D, NULL, D, 0, out, D, NULL));
    MISUSE(
        "fastloss_token_pooling", "a token stride of 1 for 4 columns",
        fastloss_token_pooling(FASTLOSS_POOLING_CLS, B, L, D, x, 1, L * D, out, D, NULL));
    MISUSE(
        "fastloss_token_pooling", "a cell stride of 3",
        fastloss_token_pooling(FASTLOSS_POOLING_CLS, B, L, D, x, D, 3, out, D, NULL));
    MISUSE(
        "fastloss_token_pooling", "the embeddings in the memory of the states",
        fastloss_token_pooling(FASTLOSS_POOLING_CLS, B, L, D, x, D, L * D, x + 4, D, NULL));
    MISUSE(
        "fastloss_weighted_token_pooling", "−1 weightings",
        fastloss_weighted_token_pooling(B, L, D, -1, x, D, L * D, t, L, out, D, NULL));
    MISUSE(
        "fastloss_weighted_token_pooling", "weights is NULL",
        fastloss_weighted_token_pooling(B, L, D, 1, x, D, L * D, NULL, L, out, D, NULL));
    MISUSE(
        "fastloss_weighted_token_pooling_states_gradient", "gradient is NULL",
        fastloss_weighted_token_pooling_states_gradient(B, L, D, 1, x, D, t, L, NULL, NULL));
    MISUSE(
        "fastloss_normalized_weighted_token_pooling", "norms is NULL",
        fastloss_normalized_weighted_token_pooling(B, L, D, 1, x, D, L * D, t, L, out, D, NULL, NULL));
    MISUSE(
        "fastloss_normalized_weighted_token_pooling", "the norms in the memory of the embeddings",
        fastloss_normalized_weighted_token_pooling(
            1, 2, 2, 1, x, 2, 4, t, 2, (float *)(void *)norms, 2, norms, NULL));
}

static fastloss_status total(void) {
    return fastloss_total_objective(&objective, &objective_inputs, &objective_gradients, NULL, &value);
}

static void misuse_objective(void) {
    const char *const call = "fastloss_total_objective";
    MISUSE(
        call, "objective is NULL",
        fastloss_total_objective(NULL, &objective_inputs, &objective_gradients, NULL, &value));
    MISUSE(
        call, "inputs is NULL",
        fastloss_total_objective(&objective, NULL, &objective_gradients, NULL, &value));
    MISUSE(
        call, "value is NULL",
        fastloss_total_objective(&objective, &objective_inputs, &objective_gradients, NULL, NULL));
    MISUSE(call, "value.size is 0", (value.size = 0, total()));
    MISUSE(call, "inputs.size is 8", (objective_inputs.size = 8, total()));
    MISUSE(
        call, "a term without its input",
        (objective_inputs.cell_embedding.data = NULL, objective_gradients.cell_embedding.data = NULL,
         total()));
    MISUSE(call, "a gradient without its input", (objective_inputs.gene_predictions.data = NULL, total()));
    MISUSE(call, "logits without labels", (objective_inputs.batch_labels = NULL, total()));
    MISUSE(call, "label 7 of 2 batches", (labels[1] = 7, total()));
    MISUSE(call, "a weight that is NaN", (objective.weights[FASTLOSS_TERM_ELASTIC] = NAN, total()));
    MISUSE(call, "a term's bit that has no term", (objective.terms |= FASTLOSS_TERM_BIT(9), total()));
    MISUSE(call, "a threshold of 2", (objective.elastic_threshold = 2, total()));
    MISUSE(call, "nonzero_form is 2", (objective.nonzero_form = 2, total()));
    MISUSE(
        call, "cell_embedding_type is 3",
        (objective_inputs.cell_embedding_type = (fastloss_element_type)3, total()));
    MISUSE(call, "gradients.update is 2", (objective_gradients.update = 2, total()));
    MISUSE(call, "two gradients in one memory", (objective_gradients.cell_embedding.data = out + 2, total()));
    MISUSE(call, "a stride of 2 for 4 columns", (objective_inputs.cell_embedding.stride = 2, total()));
    MISUSE(
        "fastloss_objective_enable", "term 9", fastloss_objective_enable(&objective, FASTLOSS_TERM_COUNT, 1));
    fastloss_workspace *workspace = NULL;
    MISUSE("fastloss_workspace_create", "workspace is NULL", fastloss_workspace_create(0, NULL));
    MISUSE("fastloss_workspace_create", "−1 workers", fastloss_workspace_create(-1, &workspace));
    MISUSE("fastloss_workspace_create", "4097 workers", fastloss_workspace_create(4097, &workspace));
    CHECK(workspace == NULL);
    fastloss_thread_pool pool;
    memset(&pool, 0, sizeof pool);
    MISUSE("fastloss_set_thread_pool", "pool.size is 0", fastloss_set_thread_pool(&pool));
    pool.size = sizeof pool;
    MISUSE("fastloss_set_thread_pool", "pool.threads is NULL", fastloss_set_thread_pool(&pool));
}

static fastloss_status expression(void) {
    return fastloss_expression_decoder_loss(&decoder, &inputs, &targets, &gradients, NULL, &losses);
}

static fastloss_status masked_values(void) {
    return fastloss_masked_value_decoder_loss(
        &value_decoder, &value_inputs, &targets, &value_gradients, NULL, &losses);
}

static fastloss_status classify(void) {
    return fastloss_cell_type_decoder_loss(
        &classifier, B, x, D, labels, NULL, &classifier_gradients, NULL, &loss);
}

static void misuse_decoders(void) {
    const char *call = "fastloss_expression_decoder_loss";
    MISUSE(
        call, "decoder is NULL",
        fastloss_expression_decoder_loss(NULL, &inputs, &targets, &gradients, NULL, &losses));
    MISUSE(
        call, "inputs is NULL",
        fastloss_expression_decoder_loss(&decoder, NULL, &targets, &gradients, NULL, &losses));
    MISUSE(
        call, "targets is NULL",
        fastloss_expression_decoder_loss(&decoder, &inputs, NULL, &gradients, NULL, &losses));
    MISUSE(
        call, "losses is NULL",
        fastloss_expression_decoder_loss(&decoder, &inputs, &targets, &gradients, NULL, NULL));
    MISUSE(call, "a weight is NULL", (decoder.fc.second.weight = NULL, expression()));
    MISUSE(call, "states is NULL", (inputs.states = NULL, expression()));
    MISUSE(call, "decoder.size is 1", (decoder.size = 1, expression()));
    MISUSE(call, "a width of −1", (decoder.width = -1, expression()));
    MISUSE(call, "2²⁸ + 1 columns", (decoder.width = (1 << 28) + 1, expression()));
    MISUSE(call, "−1 cells", (inputs.cells = -1, expression()));
    MISUSE(call, "a token stride of 3 for 4 columns", (inputs.states_token_stride = 3, expression()));
    MISUSE(call, "a batch label that has no embedding", (labels[1] = 2, expression()));
    MISUSE(call, "a mask that selects nothing", (memset(m, 0, sizeof m), expression()));
    MISUSE(call, "nonzero_form is 7", (decoder.nonzero_form = 7, expression()));
    MISUSE(call, "gradients.update is 2", (gradients.update = 2, expression()));
    MISUSE(call, "gradients.scale is NaN", (gradients.scale = NAN, expression()));
    MISUSE(call, "a loss's weight that is NaN", (targets.squared_error_weight = NAN, expression()));
    MISUSE(
        call, "a product of a loss's weight and scale of 10⁶⁰",
        (targets.squared_error_weight = 1e30f, gradients.scale = 1e30f, expression()));
    MISUSE(call, "a gradient in the memory of the states", (gradients.states = t + 256, expression()));
    MISUSE(call, "two gradients in one memory", (gradients.fc.first.weight = out + 1, expression()));
    MISUSE(
        call, "a gradient of a part that the decoder lacks",
        (gradients.zero_logit.first.weight = out + 200, expression()));
    MISUSE(
        "fastloss_expression_decoder_predict", "nonzero of a decoder without explicit zeros",
        fastloss_expression_decoder_predict(&decoder, &inputs, out, L, out + 32, L, NULL));
    MISUSE(
        "fastloss_expression_decoder_predict", "predictions is NULL",
        fastloss_expression_decoder_predict(&decoder, &inputs, NULL, L, NULL, L, NULL));
    MISUSE(
        "fastloss_expression_decoder_gradient", "gradients is NULL",
        fastloss_expression_decoder_gradient(&decoder, &inputs, x, L, NULL, L, NULL, NULL));
    call = "fastloss_masked_value_decoder_loss";
    MISUSE(call, "style is 4", (value_decoder.style = 4, masked_values()));
    MISUSE(
        call, "explicit zeros of a query style",
        (value_decoder.style = FASTLOSS_QUERY_SUM, value_decoder.batch_embeddings = false,
         value_decoder.explicit_zeros = true, masked_values()));
    MISUSE(call, "genes is NULL", (value_inputs.genes = NULL, masked_values()));
    MISUSE(call, "a gene that has no embedding", (genes[4] = GENES, masked_values()));
    MISUSE(call, "a stride of genes of 2 for 3 tokens", (value_inputs.genes_stride = 2, masked_values()));
    MISUSE(call, "w_weight is NULL", (value_decoder.w_weight = NULL, masked_values()));
    MISUSE(call, "a mask that selects nothing", (memset(m, 0, sizeof m), masked_values()));
}

static void misuse_classifiers(void) {
    const char *call = "fastloss_cell_type_decoder_loss";
    MISUSE(call, "17 blocks", (classifier.block_count = 17, classify()));
    MISUSE(call, "blocks is NULL", (classifier.blocks = NULL, classify()));
    MISUSE(call, "−1 classes", (classifier.classes = -1, classify()));
    MISUSE(call, "label 3 of 3 classes", (labels[0] = 3, classify()));
    MISUSE(call, "only ignored labels", (labels[0] = labels[1] = FASTLOSS_IGNORED_LABEL, classify()));
    MISUSE(
        call, "a stride of 3 for 4 columns",
        fastloss_cell_type_decoder_loss(
            &classifier, B, x, 3, labels, NULL, &classifier_gradients, NULL, &loss));
    MISUSE(
        "fastloss_cell_type_decoder_predict", "the logits in the memory of a weight",
        fastloss_cell_type_decoder_predict(&classifier, B, t, D, x + 4, L, NULL));
    MISUSE(
        "fastloss_adversarial_discriminator_gradient", "a λ that is NaN",
        fastloss_adversarial_discriminator_gradient(
            &classifier, NAN, B, t, D, t, L, &classifier_gradients, NULL));
    MISUSE(
        "fastloss_batch_label_encoder_embed", "label 5 of 5",
        (labels[1] = GENES, fastloss_batch_label_encoder_embed(&encoder, B, labels, out, D, NULL)));
    MISUSE(
        "fastloss_batch_label_encoder_embed", "embedding is NULL",
        (encoder.embedding = NULL, fastloss_batch_label_encoder_embed(&encoder, B, labels, out, D, NULL)));
    MISUSE(
        "fastloss_batch_label_encoder_gradient", "gradients is NULL",
        fastloss_batch_label_encoder_gradient(&encoder, B, labels, t, D, NULL, NULL));
}

void test_misuse(void) {
    now_testing("the table of BadInput.md");
    read_table();
    reset();
    CHECK_OK(mse(B, L, L));
    CHECK_OK(total());
    CHECK_OK(expression());
    CHECK_OK(masked_values());
    CHECK_OK(classify());
    reset();
    misuse_value_losses();
    misuse_classification();
    misuse_pairs();
    misuse_pooling();
    misuse_objective();
    misuse_decoders();
    misuse_classifiers();
    for (int i = 0; i < row_count; i++)
        check(
            rows[i].was_run, __FILE__, __LINE__, "the row of BadInput.md is not run: %s: %s",
            rows[i].cells[0], rows[i].cells[1]);
    free(text);
}
