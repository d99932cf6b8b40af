// Everything that can be wrong with a call of a head: the status, the message, and that no output was
// written.

#include <math.h>
#include <string.h>

#include "support.h"

// A small valid problem, which each test breaks in one place: 2 cells, 3 tokens, 4 columns, 2 batches, 5
// genes.
enum { cells = 2, tokens = 3, width = 4, batches = 2, gene_count = 5, memory = 512 };

static float x[memory], out[memory];
static bool mask[cells * tokens];
static int32_t batch_labels[cells], genes[cells * tokens];
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
static fastloss_loss_value loss;

static fastloss_layer some_layer(void) {
    fastloss_layer layer = {x, x};
    return layer;
}

static void reset(void) {
    const fastloss_expression_decoder start = FASTLOSS_EXPRESSION_DECODER(width);
    const fastloss_expression_decoder_inputs start_inputs = FASTLOSS_EXPRESSION_DECODER_INPUTS;
    const fastloss_expression_decoder_gradients start_gradients = FASTLOSS_EXPRESSION_DECODER_GRADIENTS;
    const fastloss_masked_value_decoder start_values = FASTLOSS_MASKED_VALUE_DECODER(width);
    const fastloss_masked_value_inputs start_value_inputs = FASTLOSS_MASKED_VALUE_INPUTS;
    const fastloss_masked_value_gradients start_value_gradients = FASTLOSS_MASKED_VALUE_GRADIENTS;
    const fastloss_decoder_targets start_targets = FASTLOSS_DECODER_TARGETS(x, tokens);
    const fastloss_decoder_losses start_losses = FASTLOSS_DECODER_LOSSES;
    const fastloss_classifier start_classifier = FASTLOSS_CLASSIFIER(width, 3);
    const fastloss_classifier_gradients start_classifier_gradients = FASTLOSS_CLASSIFIER_GRADIENTS;
    const fastloss_batch_label_encoder start_encoder = FASTLOSS_BATCH_LABEL_ENCODER(gene_count, width);
    const fastloss_batch_label_encoder_gradients start_encoder_gradients =
        FASTLOSS_BATCH_LABEL_ENCODER_GRADIENTS;
    for (int i = 0; i < memory; i++) {
        x[i] = (float)(i % 7) / 8.0f;
        out[i] = 42;
    }
    for (int i = 0; i < cells * tokens; i++) {
        mask[i] = true;
        genes[i] = i % gene_count;
    }
    for (int i = 0; i < cells; i++) batch_labels[i] = i % batches;
    const fastloss_perceptron perceptron = {some_layer(), some_layer(), some_layer()};
    decoder = start;
    decoder.batch_embeddings = true;
    decoder.fc = perceptron;
    inputs = start_inputs;
    inputs.cells = cells, inputs.tokens = tokens, inputs.batch_count = batches;
    inputs.states = x, inputs.states_token_stride = width, inputs.states_cell_stride = tokens * width;
    inputs.mask.data = mask, inputs.mask.stride = tokens;
    inputs.batch_embeddings.data = x, inputs.batch_embeddings.stride = width;
    inputs.batch_labels = batch_labels;
    gradients = start_gradients;
    gradients.states = out, gradients.states_token_stride = width;
    gradients.states_cell_stride = tokens * width;
    gradients.fc.first.weight = out + 100;
    value_decoder = start_values;
    value_decoder.batch_embeddings = true;
    value_decoder.gene2query = value_decoder.w_zero_logit = value_decoder.fc1 = value_decoder.fc2 =
        some_layer();
    value_decoder.w_weight = value_decoder.hidden_activation = x;
    value_inputs = start_value_inputs;
    value_inputs.cells = cells, value_inputs.tokens = tokens, value_inputs.gene_count = gene_count;
    value_inputs.batch_count = batches;
    value_inputs.cell_embeddings.data = value_inputs.gene_embeddings.data =
        value_inputs.batch_embeddings.data = x;
    value_inputs.cell_embeddings.stride = value_inputs.gene_embeddings.stride =
        value_inputs.batch_embeddings.stride = width;
    value_inputs.genes = genes, value_inputs.genes_stride = tokens;
    value_inputs.mask = inputs.mask;
    value_inputs.batch_labels = batch_labels;
    value_gradients = start_value_gradients;
    value_gradients.cell_embeddings.data = out, value_gradients.cell_embeddings.stride = width;
    targets = start_targets;
    losses = start_losses;
    losses.squared_error = 42;
    block.linear = block.norm = some_layer();
    classifier = start_classifier;
    classifier.block_count = 1;
    classifier.blocks = &block;
    classifier.out_layer = some_layer();
    classifier_gradients = start_classifier_gradients;
    classifier_gradients.cell_embeddings.data = out, classifier_gradients.cell_embeddings.stride = width;
    encoder = start_encoder;
    encoder.embedding = x;
    encoder.enc_norm = some_layer();
    encoder_gradients = start_encoder_gradients;
    encoder_gradients.embedding = out;
    loss.value = 42;
}

/// Checks that the outputs of a call that failed hold what they held, and makes the problem valid again.
static void untouched(int line) {
    int same = losses.squared_error == 42 && loss.value == 42;
    for (int i = 0; i < memory; i++) same = same && out[i] == 42;
    check(same, __FILE__, line, "an output was written");
    reset();
}

#define FAILS(change, call, status, message)                 \
    do {                                                     \
        change;                                              \
        CHECK_FAILS(call, FASTLOSS_ERROR_##status, message); \
        untouched(__LINE__);                                 \
    } while (0)

static fastloss_status expression(void) {
    return fastloss_expression_decoder_loss(&decoder, &inputs, &targets, &gradients, NULL, &losses);
}

static fastloss_status masked_value(void) {
    return fastloss_masked_value_decoder_loss(
        &value_decoder, &value_inputs, &targets, &value_gradients, NULL, &losses);
}

static fastloss_status cell_type(const int32_t *labels) {
    return fastloss_cell_type_decoder_loss(
        &classifier, cells, x, width, labels, NULL, &classifier_gradients, NULL, &loss);
}

static fastloss_status embedding(void) {
    return fastloss_batch_label_encoder_gradient(
        &encoder, cells * tokens, genes, x, width, &encoder_gradients, NULL);
}

static void test_expression_decoder(void) {
    now_testing("errors of the expression decoder");
    FAILS(
        , fastloss_expression_decoder_loss(NULL, &inputs, &targets, &gradients, NULL, &losses), NULL_POINTER,
        "decoder is NULL");
    FAILS(
        , fastloss_expression_decoder_loss(&decoder, NULL, &targets, &gradients, NULL, &losses), NULL_POINTER,
        "inputs is NULL");
    FAILS(
        , fastloss_expression_decoder_gradient(&decoder, &inputs, x, tokens, NULL, 0, NULL, NULL),
        NULL_POINTER, "gradients is NULL");
    FAILS(
        decoder.fc.second.bias = NULL, expression(), NULL_POINTER,
        "fc.second.bias is NULL, but it must have 4 elements");
    FAILS(inputs.states = NULL, expression(), NULL_POINTER, "states is NULL, but it must have 24 elements");
    FAILS(
        inputs.states_token_stride = 3, expression(), INVALID_STRIDE,
        "the token stride of states is 3, but it must be at least 4, the number of columns");
    FAILS(
        inputs.batch_labels = NULL, expression(), NULL_POINTER,
        "batch_labels is NULL, but it must have 2 elements");
    FAILS(
        batch_labels[1] = 2, expression(), LABEL_OUT_OF_RANGE, "2 in row 1 of batch_labels is not in 0..<2");
    FAILS(decoder.width = -1, expression(), INVALID_PARAMETER, NULL);
    FAILS(decoder.width = INT64_MAX, expression(), INVALID_PARAMETER, NULL);
    FAILS(
        decoder.nonzero_form = 2, expression(), INVALID_ENUMERATION,
        "nonzero_form is 2, which is not a constant of its enumeration");
    FAILS(decoder.reserved = 1, expression(), INVALID_STRUCT, "reserved is 1, but it must be 0");
    FAILS(decoder.size = 8, expression(), INVALID_STRUCT, NULL);
    FAILS(inputs.size = 8, expression(), INVALID_STRUCT, NULL);
    FAILS(gradients.size = 8, expression(), INVALID_STRUCT, NULL);
    FAILS(targets.size = 8, expression(), INVALID_STRUCT, NULL);
    FAILS(gradients.scale = INFINITY, expression(), INVALID_PARAMETER, "scale is inf, but it must be finite");
    FAILS(
        targets.nonzero_weight = NAN, expression(), INVALID_PARAMETER,
        "nonzero_weight is nan, but it must be finite");
    FAILS(
        (targets.squared_error_weight = 1.2676506002282294e30f, gradients.scale = -1.2676506002282294e30f),
        expression(), INVALID_PARAMETER,
        "squared_error_weight * scale is -1.6069380442589903e+60, but it must be at most 3.4e38 in "
        "magnitude");
    FAILS(
        inputs.cells = -1, expression(), INVALID_SHAPE,
        "a shape of -1 cells, 3 tokens and 4 columns is invalid: all must be at least 0, and the states must "
        "fit the address space");
    FAILS(
        gradients.update = 2, expression(), INVALID_ENUMERATION,
        "gradients.update is 2, which is not a constant of its enumeration");
    FAILS(
        gradients.zero_logit.third.bias = out, expression(), GRADIENT_WITHOUT_INPUT,
        "gradients.zero_logit.third.bias has a buffer, but the head does not have this part");
    FAILS(
        gradients.fc.first.weight = out + 23, expression(), OVERLAPPING_BUFFERS,
        "output gradients.fc.first.weight shares memory with gradients.states");
    FAILS(
        gradients.states = x, expression(), OVERLAPPING_BUFFERS,
        "output gradients.states shares memory with fc.first.weight");
    FAILS(
        memset(mask, 0, sizeof mask), expression(), EMPTY_SELECTION,
        "expression_decoder: no element is selected; "
        "set when_empty to FASTLOSS_EMPTY_ZERO or FASTLOSS_EMPTY_NAN to get a value instead");
    FAILS(
        , fastloss_expression_decoder_gradient(&decoder, &inputs, x, tokens, x, tokens, &gradients, NULL),
        INVALID_PARAMETER, "nonzero_gradient must be NULL for a decoder without explicit zeros");
    FAILS(
        , fastloss_expression_decoder_predict(&decoder, &inputs, out, tokens, out + 100, tokens, NULL),
        INVALID_PARAMETER, "nonzero must be NULL for a decoder without explicit zeros");
    FAILS(
        , fastloss_expression_decoder_predict(&decoder, &inputs, NULL, tokens, NULL, tokens, NULL),
        NULL_POINTER, "predictions is NULL, but it must have 6 elements");
    CHECK_OK(expression());
    reset();
}

static void test_masked_value_decoder(void) {
    now_testing("errors of the masked-value decoder");
    FAILS(genes[4] = gene_count, masked_value(), LABEL_OUT_OF_RANGE, "5 in row 4 of genes is not in 0..<5");
    FAILS(
        (targets.squared_error_weight = 1.2676506002282294e30f,
         value_gradients.scale = -1.2676506002282294e30f),
        masked_value(), INVALID_PARAMETER,
        "squared_error_weight * scale is -1.6069380442589903e+60, but it must be at most 3.4e38 in "
        "magnitude");
    FAILS(
        value_inputs.genes_stride = 2, masked_value(), INVALID_STRIDE,
        "the stride of genes is 2, but it must be at least 3, the number of columns");
    FAILS(
        value_decoder.style = 4, masked_value(), INVALID_ENUMERATION,
        "style is 4, which is not a constant of its enumeration");
    FAILS(
        value_decoder.style = FASTLOSS_QUERY_SUM, masked_value(), INVALID_PARAMETER,
        "batch_embeddings must be false for a query style");
    FAILS(
        value_decoder.w_weight = NULL, masked_value(), NULL_POINTER,
        "w_weight is NULL, but it must have 32 elements");
    FAILS(
        value_gradients.fc2.weight = out, masked_value(), GRADIENT_WITHOUT_INPUT,
        "gradients.fc2.weight has a buffer, but the head does not have this part");
    FAILS(
        value_inputs.gene_embeddings.data = NULL, masked_value(), NULL_POINTER,
        "gene_embeddings is NULL, but it must have 20 elements");
    FAILS(value_decoder.size = 8, masked_value(), INVALID_STRUCT, NULL);
    FAILS(value_inputs.size = 8, masked_value(), INVALID_STRUCT, NULL);
    FAILS(value_gradients.size = 8, masked_value(), INVALID_STRUCT, NULL);
    CHECK_OK(masked_value());
    reset();
}

static void test_classifiers(void) {
    now_testing("errors of classifiers");
    int32_t labels[cells] = {0, 1};
    FAILS(labels[1] = 3, cell_type(labels), LABEL_OUT_OF_RANGE, NULL);
    labels[1] = 1;
    FAILS(
        classifier.block_count = 17, cell_type(labels), INVALID_PARAMETER,
        "block_count is 17, but it must be between 0 and FASTLOSS_CLASSIFIER_BLOCK_CAPACITY, 16");
    FAILS(classifier.blocks = NULL, cell_type(labels), NULL_POINTER, "blocks is NULL");
    FAILS(
        block.norm.weight = NULL, cell_type(labels), NULL_POINTER,
        "blocks.norm.weight is NULL, but it must have 4 elements");
    FAILS(
        classifier_gradients.cell_embeddings.data = x, cell_type(labels), OVERLAPPING_BUFFERS,
        "output gradients.cell_embeddings shares memory with blocks.linear.weight");
    FAILS(
        ,
        fastloss_adversarial_discriminator_gradient(
            &classifier, NAN, cells, x, width, x, 3, &classifier_gradients, NULL),
        INVALID_PARAMETER, "lambda is nan, but it must be finite");
    labels[0] = labels[1] = FASTLOSS_IGNORED_LABEL;
    FAILS(
        , cell_type(labels), EMPTY_SELECTION,
        "cell_type_decoder: no element is selected; "
        "set when_empty to FASTLOSS_EMPTY_ZERO or FASTLOSS_EMPTY_NAN to get a value instead");
    labels[0] = labels[1] = 1;
    // The largest classifier.
    fastloss_classifier_block blocks[FASTLOSS_CLASSIFIER_BLOCK_CAPACITY];
    fastloss_classifier_block_gradient block_gradients[FASTLOSS_CLASSIFIER_BLOCK_CAPACITY];
    for (int i = 0; i < FASTLOSS_CLASSIFIER_BLOCK_CAPACITY; i++) {
        blocks[i] = block;
        float *const part = (float *)remember(4 * width * width * sizeof(float));
        const fastloss_layer_gradient linear = {part, part + width * width};
        const fastloss_layer_gradient norm = {part + 2 * width * width, part + 3 * width * width};
        block_gradients[i].linear = linear;
        block_gradients[i].norm = norm;
    }
    classifier.block_count = FASTLOSS_CLASSIFIER_BLOCK_CAPACITY;
    classifier.blocks = blocks;
    classifier_gradients.blocks = block_gradients;
    classifier_gradients.out_layer.weight = out + 100;
    classifier_gradients.out_layer.bias = out + 200;
    CHECK_OK(cell_type(labels));
    reset();
}

static void test_encoder(void) {
    now_testing("errors of the encoder");
    FAILS(genes[2] = -1, embedding(), LABEL_OUT_OF_RANGE, "-1 in row 2 of labels is not in 0..<5");
    FAILS(
        encoder.embedding = NULL, embedding(), NULL_POINTER,
        "embedding is NULL, but it must have 20 elements");
    FAILS(encoder.label_count = -1, embedding(), INVALID_PARAMETER, NULL);
    FAILS(encoder.size = 0, embedding(), INVALID_STRUCT, NULL);
    FAILS(encoder_gradients.size = 0, embedding(), INVALID_STRUCT, NULL);
    FAILS(
        encoder_gradients.embedding = x, embedding(), OVERLAPPING_BUFFERS,
        "output gradients.embedding shares memory with embedding");
    CHECK_OK(embedding());
    reset();
}

/// Sides of any size, without memory behind them: a status, and no crash.
static void test_extreme_sides(void) {
    now_testing("extreme sides of heads");
    static const int64_t sides[] = {
        -1, 0, 1, (int64_t)1 << 28, ((int64_t)1 << 28) + 1, (int64_t)1 << 40, INT64_MAX};
    enum { count = 7 };
    // Large scratch memory goes when the test ends.
    fastloss_workspace *workspace = NULL;
    CHECK_OK(fastloss_workspace_create(1, &workspace));
    for (int a = 0; a < count; a++)
        for (int b = 0; b < count; b++)
            for (int c = 0; c < count; c++) {
                // Large matrices are NULL, so nothing is read.
                fastloss_expression_decoder none = FASTLOSS_EXPRESSION_DECODER(sides[a]);
                fastloss_expression_decoder_inputs nothing = FASTLOSS_EXPRESSION_DECODER_INPUTS;
                nothing.cells = sides[b], nothing.tokens = sides[c];
                CHECK(
                    fastloss_expression_decoder_predict(&none, &nothing, NULL, sides[c], NULL, 0, workspace)
                    != FASTLOSS_OK);
                fastloss_masked_value_decoder no_values = FASTLOSS_MASKED_VALUE_DECODER(sides[a]);
                fastloss_masked_value_inputs no_genes = FASTLOSS_MASKED_VALUE_INPUTS;
                no_genes.cells = sides[b], no_genes.tokens = no_genes.gene_count = sides[c];
                no_genes.cell_embeddings.stride = no_genes.gene_embeddings.stride = sides[a];
                no_genes.genes_stride = sides[c];
                const int is_empty =
                    sides[a] == 0 && (sides[b] == 0 || sides[c] == 0) && sides[b] >= 0 && sides[c] >= 0;
                const fastloss_status status = fastloss_masked_value_decoder_predict(
                    &no_values, &no_genes, NULL, sides[c], NULL, 0, workspace);
                CHECK(status != FASTLOSS_OK || is_empty);
                if (sides[c] == 0) continue;
                fastloss_classifier no_classes = FASTLOSS_CLASSIFIER(sides[a], sides[c]);
                CHECK(
                    fastloss_cell_type_decoder_predict(
                        &no_classes, sides[b], NULL, sides[a], NULL, sides[c], workspace)
                    != FASTLOSS_OK);
            }
    fastloss_workspace_destroy(workspace);
}

void test_head_errors(void) {
    reset();
    test_expression_decoder();
    test_masked_value_decoder();
    test_classifiers();
    test_encoder();
    test_extreme_sides();
    forget();
}
