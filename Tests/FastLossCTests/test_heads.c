// The task heads against PyTorch: outputs, gradients of given output gradients, and fused losses.

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support.h"

// ---- Comparing

enum { most_gradients = 40 };

/// The gradients of a call: the name in the goldens, the memory, the sides and the gap.
typedef struct output {
    char name[64];
    float *memory;
    int64_t rows, columns, gap;
} output;

typedef struct outputs {
    output list[most_gradients];
    int count;
    /// What the memory holds before the call.
    float before;
} outputs;

static int64_t input_count(const json *golden, const char *name) {
    const json *array = json_member(json_member(golden, "inputs"), name);
    return array == NULL ? 0 : (int64_t)array->count;
}

static float *add_output(outputs *all, const char *name, int64_t rows, int64_t columns, int64_t gap) {
    output *const added = &all->list[all->count++];
    snprintf(added->name, sizeof added->name, "gradient.%s", name);
    added->memory = blank(rows, columns, gap, all->before);
    added->rows = rows, added->columns = columns, added->gap = gap;
    return added->memory;
}

/// Checks a result relative to the largest element of the truth.
static void check_result(
    const json *golden, const char *name, const output *actual, float before, float scale) {
    const double *expected = truth(golden, name);
    check(expected != NULL, __FILE__, __LINE__, "%s is a golden", name);
    if (expected == NULL) return;
    int64_t count = actual->rows * actual->columns;
    double *sums = (double *)remember((size_t)(count + 1) * sizeof(double));
    double largest = 1e-9;
    for (int64_t i = 0; i < count; i++) {
        sums[i] = (double)before + (double)scale * expected[i];
        if (fabs(sums[i]) > largest) largest = fabs(sums[i]);
    }
    now_testing("%s: %s", golden_name(golden), name);
    CHECK_CLOSE(
        gather(actual->memory, actual->rows, actual->columns, actual->gap), sums, count, HEAD, largest);
}

static void check_gradients(const json *golden, const outputs *all, float scale, int accumulates) {
    for (int i = 0; i < all->count; i++)
        check_result(golden, all->list[i].name, &all->list[i], accumulates ? all->before : 0, scale);
}

// ---- Layers by their names in the goldens

static const float *part(const json *golden, const char *layer, const char *suffix) {
    char name[64];
    snprintf(name, sizeof name, "%s.%s", layer, suffix);
    return floats(golden, name);
}

static fastloss_layer layer(const json *golden, const char *name) {
    fastloss_layer result = {part(golden, name, "weight"), part(golden, name, "bias")};
    return result;
}

static float *part_gradient(outputs *all, const json *golden, const char *layer, const char *suffix) {
    char name[64];
    snprintf(name, sizeof name, "%s.%s", layer, suffix);
    int64_t count = input_count(golden, name);
    return count == 0 ? NULL : add_output(all, name, 1, count, 0);
}

static fastloss_layer_gradient layer_gradient(outputs *all, const json *golden, const char *name) {
    fastloss_layer_gradient result = {
        part_gradient(all, golden, name, "weight"), part_gradient(all, golden, name, "bias")};
    return result;
}

// ---- The expression decoder

static fastloss_perceptron perceptron(const json *golden, const char *name) {
    char names[3][32];
    for (int i = 0; i < 3; i++) snprintf(names[i], sizeof names[i], "%s.%d", name, 2 * i);
    fastloss_perceptron result = {layer(golden, names[0]), layer(golden, names[1]), layer(golden, names[2])};
    return result;
}

static fastloss_perceptron_gradient perceptron_gradient(outputs *all, const json *golden, const char *name) {
    char names[3][32];
    for (int i = 0; i < 3; i++) snprintf(names[i], sizeof names[i], "%s.%d", name, 2 * i);
    fastloss_perceptron_gradient result = {
        layer_gradient(all, golden, names[0]), layer_gradient(all, golden, names[1]),
        layer_gradient(all, golden, names[2])};
    return result;
}

/// The labels 0, 1, ...: the goldens have an embedding for each cell, as scGPT.
static const int32_t *numbers(int64_t count) {
    int32_t *result = (int32_t *)remember((size_t)count * sizeof(int32_t));
    for (int64_t i = 0; i < count; i++) result[i] = (int32_t)i;
    return result;
}

/// Checks the masked elements against the truth, and that the others hold what they held.
static void check_tokens(
    const json *golden, const char *name, const float *actual, int64_t cells, int64_t tokens, int64_t gap) {
    const float *dense = gather(actual, cells, tokens, gap);
    const double *expected = truth(golden, name);
    const bool *mask = bools(golden, "mask");
    now_testing("%s: %s", golden_name(golden), name);
    for (int64_t i = 0; i < cells * tokens; i++) {
        if (mask[i])
            CHECK_CLOSE(dense + i, expected + i, 1, HEAD, 1);
        else
            CHECK(dense[i] == 7);
    }
}

static void test_expression_golden(const json *golden, int64_t gap) {
    const int64_t cells = (int64_t)parameter(golden, "cells"), tokens = (int64_t)parameter(golden, "tokens");
    const int64_t width = (int64_t)parameter(golden, "width");
    fastloss_expression_decoder decoder = FASTLOSS_EXPRESSION_DECODER(width);
    decoder.explicit_zeros = parameter(golden, "explicitZeros") != 0;
    decoder.batch_embeddings = parameter(golden, "usesBatchLabels") != 0;
    decoder.nonzero_form = FASTLOSS_NONZERO_PROBABILITIES;
    decoder.fc = perceptron(golden, "fc");
    if (decoder.explicit_zeros) decoder.zero_logit = perceptron(golden, "zero_logit");
    fastloss_expression_decoder_inputs inputs = FASTLOSS_EXPRESSION_DECODER_INPUTS;
    inputs.cells = cells, inputs.tokens = tokens;
    inputs.states = spread(floats(golden, "states"), cells * tokens, width, gap);
    inputs.states_token_stride = width + gap;
    inputs.states_cell_stride = tokens * (width + gap);
    inputs.mask.data = spread_mask(bools(golden, "mask"), cells, tokens, gap);
    inputs.mask.stride = tokens + gap;
    if (decoder.batch_embeddings) {
        inputs.batch_count = input_count(golden, "batchEmbeddings") / width;
        inputs.batch_embeddings.data =
            spread(floats(golden, "batchEmbeddings"), inputs.batch_count, width, gap);
        inputs.batch_embeddings.stride = width + gap;
        inputs.batch_labels = numbers(cells);
    }

    float *predictions = blank(cells, tokens, gap, 7);
    float *nonzero = decoder.explicit_zeros ? blank(cells, tokens, gap, 7) : NULL;
    CHECK_OK(fastloss_expression_decoder_predict(
        &decoder, &inputs, predictions, tokens + gap, nonzero, tokens + gap, NULL));
    check_tokens(golden, "predictions", predictions, cells, tokens, gap);
    if (nonzero != NULL) check_tokens(golden, "nonzeroProbabilities", nonzero, cells, tokens, gap);

    const float *predictions_gradient =
        spread(floats(golden, "outputGradient.predictions"), cells, tokens, gap);
    const float *nonzero_gradient = decoder.explicit_zeros
        ? spread(floats(golden, "outputGradient.nonzeroProbabilities"), cells, tokens, gap)
        : NULL;
    for (int accumulates = 0; accumulates < 2; accumulates++) {
        outputs all = {{{"", NULL, 0, 0, 0}}, 0, 1};
        fastloss_expression_decoder_gradients gradients = FASTLOSS_EXPRESSION_DECODER_GRADIENTS;
        gradients.scale = accumulates ? 0.5f : 1;
        gradients.update = accumulates ? FASTLOSS_UPDATE_ACCUMULATE : FASTLOSS_UPDATE_OVERWRITE;
        gradients.states = add_output(&all, "states", cells * tokens, width, gap);
        gradients.states_token_stride = width + gap;
        gradients.states_cell_stride = tokens * (width + gap);
        if (decoder.batch_embeddings) {
            gradients.batch_embeddings.data =
                add_output(&all, "batchEmbeddings", inputs.batch_count, width, gap);
            gradients.batch_embeddings.stride = width + gap;
        }
        gradients.fc = perceptron_gradient(&all, golden, "fc");
        if (decoder.explicit_zeros) gradients.zero_logit = perceptron_gradient(&all, golden, "zero_logit");
        CHECK_OK(fastloss_expression_decoder_gradient(
            &decoder, &inputs, predictions_gradient, tokens + gap, nonzero_gradient, tokens + gap, &gradients,
            NULL));
        check_gradients(golden, &all, gradients.scale, accumulates);

        // A gradient that is wanted alone is the same.
        float *const all_states = gradients.states;
        float *alone = blank(cells * tokens, width, gap, all.before);
        fastloss_expression_decoder_gradients only = FASTLOSS_EXPRESSION_DECODER_GRADIENTS;
        only.scale = gradients.scale, only.update = gradients.update, only.states = alone;
        only.states_token_stride = width + gap, only.states_cell_stride = tokens * (width + gap);
        CHECK_OK(fastloss_expression_decoder_gradient(
            &decoder, &inputs, predictions_gradient, tokens + gap, nonzero_gradient, tokens + gap, &only,
            NULL));
        CHECK_SAME(alone, all_states, cells * tokens * (width + gap));
    }
}

// ---- The masked-value decoder

static fastloss_query_style style_of(const char *name) {
    if (strncmp(name, "inner product, detach", 21) == 0) return FASTLOSS_QUERY_INNER_PRODUCT_DETACHED;
    if (strncmp(name, "concat", 6) == 0) return FASTLOSS_QUERY_CONCAT;
    if (strncmp(name, "sum", 3) == 0) return FASTLOSS_QUERY_SUM;
    return FASTLOSS_QUERY_INNER_PRODUCT;
}

static void test_masked_value_golden(const json *golden, int64_t gap) {
    const int64_t cells = (int64_t)parameter(golden, "cells"), tokens = (int64_t)parameter(golden, "tokens");
    const int64_t width = (int64_t)parameter(golden, "width"), genes = (int64_t)parameter(golden, "genes");
    fastloss_masked_value_decoder decoder = FASTLOSS_MASKED_VALUE_DECODER(width);
    decoder.style = style_of(golden_name(golden));
    const int is_hidden = decoder.style >= FASTLOSS_QUERY_CONCAT;
    if (is_hidden) decoder.hidden_width = (int64_t)parameter(golden, "hiddenWidth");
    decoder.explicit_zeros = parameter(golden, "explicitZeros") != 0;
    decoder.batch_embeddings = parameter(golden, "usesBatchLabels") != 0;
    decoder.nonzero_form = FASTLOSS_NONZERO_PROBABILITIES;
    decoder.gene2query = layer(golden, "gene2query");
    decoder.w_weight = floats(golden, "W.weight");
    decoder.w_zero_logit = layer(golden, "W_zero_logit");
    decoder.fc1 = layer(golden, "fc1");
    decoder.hidden_activation = floats(golden, "hidden_activation.weight");
    decoder.fc2 = layer(golden, "fc2");
    fastloss_masked_value_inputs inputs = FASTLOSS_MASKED_VALUE_INPUTS;
    inputs.cells = cells, inputs.tokens = tokens, inputs.gene_count = genes;
    inputs.cell_embeddings.data = spread(floats(golden, "cellEmbeddings"), cells, width, gap);
    inputs.cell_embeddings.stride = width + gap;
    inputs.gene_embeddings.data = spread(floats(golden, "geneTable"), genes, width, gap);
    inputs.gene_embeddings.stride = width + gap;
    inputs.genes = int32s(golden, "genes");
    inputs.genes_stride = tokens;
    inputs.mask.data = spread_mask(bools(golden, "mask"), cells, tokens, gap);
    inputs.mask.stride = tokens + gap;
    // All cells may share one list of genes.
    int is_shared = 1;
    for (int64_t i = 0; i < cells * tokens; i++) is_shared &= inputs.genes[i] == inputs.genes[i % tokens];
    if (is_shared && gap > 0) inputs.genes_stride = 0;
    if (decoder.batch_embeddings) {
        inputs.batch_count = input_count(golden, "batchEmbeddings") / width;
        inputs.batch_embeddings.data =
            spread(floats(golden, "batchEmbeddings"), inputs.batch_count, width, gap);
        inputs.batch_embeddings.stride = width + gap;
        inputs.batch_labels = numbers(cells);
    }

    float *predictions = blank(cells, tokens, gap, 7);
    float *nonzero = decoder.explicit_zeros ? blank(cells, tokens, gap, 7) : NULL;
    CHECK_OK(fastloss_masked_value_decoder_predict(
        &decoder, &inputs, predictions, tokens + gap, nonzero, tokens + gap, NULL));
    check_tokens(golden, "predictions", predictions, cells, tokens, gap);
    if (nonzero != NULL) check_tokens(golden, "nonzeroProbabilities", nonzero, cells, tokens, gap);

    const float *predictions_gradient =
        spread(floats(golden, "outputGradient.predictions"), cells, tokens, gap);
    const float *nonzero_gradient = decoder.explicit_zeros
        ? spread(floats(golden, "outputGradient.nonzeroProbabilities"), cells, tokens, gap)
        : NULL;
    for (int accumulates = 0; accumulates < 2; accumulates++) {
        outputs all = {{{"", NULL, 0, 0, 0}}, 0, 1};
        fastloss_masked_value_gradients gradients = FASTLOSS_MASKED_VALUE_GRADIENTS;
        gradients.scale = accumulates ? 0.5f : 1;
        gradients.update = accumulates ? FASTLOSS_UPDATE_ACCUMULATE : FASTLOSS_UPDATE_OVERWRITE;
        gradients.cell_embeddings.data = add_output(&all, "cellEmbeddings", cells, width, gap);
        gradients.cell_embeddings.stride = width + gap;
        gradients.gene_embeddings.data = add_output(&all, "geneTable", genes, width, gap);
        gradients.gene_embeddings.stride = width + gap;
        if (decoder.batch_embeddings) {
            gradients.batch_embeddings.data =
                add_output(&all, "batchEmbeddings", inputs.batch_count, width, gap);
            gradients.batch_embeddings.stride = width + gap;
        }
        gradients.gene2query = layer_gradient(&all, golden, "gene2query");
        gradients.w_weight = part_gradient(&all, golden, "W", "weight");
        gradients.w_zero_logit = layer_gradient(&all, golden, "W_zero_logit");
        gradients.fc1 = layer_gradient(&all, golden, "fc1");
        gradients.hidden_activation = part_gradient(&all, golden, "hidden_activation", "weight");
        gradients.fc2 = layer_gradient(&all, golden, "fc2");
        CHECK_OK(fastloss_masked_value_decoder_gradient(
            &decoder, &inputs, predictions_gradient, tokens + gap, nonzero_gradient, tokens + gap, &gradients,
            NULL));
        check_gradients(golden, &all, gradients.scale, accumulates);

        // A gradient that is wanted alone is the same.
        float *alone = blank(cells, width, gap, all.before);
        fastloss_masked_value_gradients only = FASTLOSS_MASKED_VALUE_GRADIENTS;
        only.scale = gradients.scale, only.update = gradients.update;
        only.cell_embeddings.data = alone, only.cell_embeddings.stride = width + gap;
        CHECK_OK(fastloss_masked_value_decoder_gradient(
            &decoder, &inputs, predictions_gradient, tokens + gap, nonzero_gradient, tokens + gap, &only,
            NULL));
        CHECK_SAME(alone, gradients.cell_embeddings.data, cells * (width + gap));
    }
}

// ---- Classifiers

static void test_classifier_golden(const json *golden, int64_t gap) {
    const int64_t cells = (int64_t)parameter(golden, "cells"), width = (int64_t)parameter(golden, "width");
    const int64_t classes = (int64_t)parameter(golden, "classes"),
                  blocks = (int64_t)parameter(golden, "blocks");
    const int is_discriminator = has_parameter(golden, "strength");
    const float lambda = is_discriminator ? (float)parameter(golden, "strength") : 0;
    fastloss_classifier_block block_list[FASTLOSS_CLASSIFIER_BLOCK_CAPACITY];
    fastloss_classifier classifier = FASTLOSS_CLASSIFIER(width, classes);
    classifier.block_count = blocks;
    classifier.blocks = block_list;
    for (int i = 0; i < (int)blocks; i++) {
        char linear[32], norm[32];
        snprintf(linear, sizeof linear, "_decoder.%d", 3 * i);
        snprintf(norm, sizeof norm, "_decoder.%d", 3 * i + 2);
        block_list[i].linear = layer(golden, linear);
        block_list[i].norm = layer(golden, norm);
    }
    classifier.out_layer = layer(golden, "out_layer");
    const float *embeddings = spread(floats(golden, "cellEmbeddings"), cells, width, gap);
    output logits = {"logits", blank(cells, classes, gap, 7), cells, classes, gap};
    CHECK_OK(
        is_discriminator
            ? fastloss_adversarial_discriminator_predict(
                  &classifier, cells, embeddings, width + gap, logits.memory, classes + gap, NULL)
            : fastloss_cell_type_decoder_predict(
                  &classifier, cells, embeddings, width + gap, logits.memory, classes + gap, NULL));
    check_result(golden, "logits", &logits, 0, 1);

    const float *logits_gradient = spread(floats(golden, "outputGradient.logits"), cells, classes, gap);
    for (int accumulates = 0; accumulates < 2; accumulates++) {
        outputs all = {{{"", NULL, 0, 0, 0}}, 0, 1};
        fastloss_classifier_block_gradient block_gradients[FASTLOSS_CLASSIFIER_BLOCK_CAPACITY];
        fastloss_classifier_gradients gradients = FASTLOSS_CLASSIFIER_GRADIENTS;
        gradients.scale = accumulates ? 0.5f : 1;
        gradients.update = accumulates ? FASTLOSS_UPDATE_ACCUMULATE : FASTLOSS_UPDATE_OVERWRITE;
        gradients.cell_embeddings.data = add_output(&all, "cellEmbeddings", cells, width, gap);
        gradients.cell_embeddings.stride = width + gap;
        gradients.blocks = block_gradients;
        for (int i = 0; i < (int)blocks; i++) {
            char linear[32], norm[32];
            snprintf(linear, sizeof linear, "_decoder.%d", 3 * i);
            snprintf(norm, sizeof norm, "_decoder.%d", 3 * i + 2);
            block_gradients[i].linear = layer_gradient(&all, golden, linear);
            block_gradients[i].norm = layer_gradient(&all, golden, norm);
        }
        gradients.out_layer = layer_gradient(&all, golden, "out_layer");
        CHECK_OK(
            is_discriminator ? fastloss_adversarial_discriminator_gradient(
                                   &classifier, lambda, cells, embeddings, width + gap, logits_gradient,
                                   classes + gap, &gradients, NULL)
                             : fastloss_cell_type_decoder_gradient(
                                   &classifier, cells, embeddings, width + gap, logits_gradient,
                                   classes + gap, &gradients, NULL));
        check_gradients(golden, &all, gradients.scale, accumulates);
    }
}

// ---- The encoder

static void test_encoder_golden(const json *golden, int64_t gap) {
    const int64_t rows = (int64_t)parameter(golden, "cells"), width = (int64_t)parameter(golden, "width");
    const int64_t label_count = (int64_t)parameter(golden, "batches");
    fastloss_batch_label_encoder encoder = FASTLOSS_BATCH_LABEL_ENCODER(label_count, width);
    encoder.embedding = floats(golden, "embedding.weight");
    encoder.enc_norm = layer(golden, "enc_norm");
    const int32_t *labels = int32s(golden, "labels");
    output embeddings = {"embeddings", blank(rows, width, gap, 7), rows, width, gap};
    CHECK_OK(
        fastloss_batch_label_encoder_embed(&encoder, rows, labels, embeddings.memory, width + gap, NULL));
    check_result(golden, "embeddings", &embeddings, 0, 1);
    const float *given = spread(floats(golden, "outputGradient.embeddings"), rows, width, gap);
    for (int accumulates = 0; accumulates < 2; accumulates++) {
        outputs all = {{{"", NULL, 0, 0, 0}}, 0, 1};
        fastloss_batch_label_encoder_gradients gradients = FASTLOSS_BATCH_LABEL_ENCODER_GRADIENTS;
        gradients.scale = accumulates ? 0.5f : 1;
        gradients.update = accumulates ? FASTLOSS_UPDATE_ACCUMULATE : FASTLOSS_UPDATE_OVERWRITE;
        gradients.embedding = part_gradient(&all, golden, "embedding", "weight");
        gradients.enc_norm = layer_gradient(&all, golden, "enc_norm");
        CHECK_OK(fastloss_batch_label_encoder_gradient(
            &encoder, rows, labels, given, width + gap, &gradients, NULL));
        check_gradients(golden, &all, gradients.scale, accumulates);
    }
}

// ---- Fused losses: what the outputs, the losses and the gradients give one after the other

static void test_fused_golden(const json *golden) {
    const int64_t cells = (int64_t)parameter(golden, "cells"), width = (int64_t)parameter(golden, "width");
    const int64_t tokens = (int64_t)parameter(golden, "tokens");
    fastloss_expression_decoder decoder = FASTLOSS_EXPRESSION_DECODER(width);
    decoder.explicit_zeros = parameter(golden, "explicitZeros") != 0;
    decoder.fc = perceptron(golden, "fc");
    if (decoder.explicit_zeros) decoder.zero_logit = perceptron(golden, "zero_logit");
    fastloss_expression_decoder_inputs inputs = FASTLOSS_EXPRESSION_DECODER_INPUTS;
    inputs.cells = cells, inputs.tokens = tokens;
    inputs.states = floats(golden, "states");
    inputs.states_token_stride = width, inputs.states_cell_stride = tokens * width;
    inputs.mask.data = bools(golden, "mask"), inputs.mask.stride = tokens;
    float *values = blank(cells, tokens, 0, 0);
    for (int64_t i = 0; i < cells * tokens; i++) values[i] = (float)(i % 3);
    fastloss_decoder_targets targets = FASTLOSS_DECODER_TARGETS(values, tokens);
    targets.nonzero_weight = 0.5f;

    now_testing("fused: %s", golden_name(golden));
    float *predictions = blank(cells, tokens, 0, 0), *nonzero = blank(cells, tokens, 0, 0);
    CHECK_OK(fastloss_expression_decoder_predict(
        &decoder, &inputs, predictions, tokens, decoder.explicit_zeros ? nonzero : NULL, tokens, NULL));
    float *predictions_gradient = blank(cells, tokens, 0, 0), *nonzero_gradient = blank(cells, tokens, 0, 0);
    fastloss_gradient first = FASTLOSS_GRADIENT(predictions_gradient, tokens);
    fastloss_gradient second = FASTLOSS_GRADIENT(nonzero_gradient, tokens);
    second.scale = targets.nonzero_weight;
    fastloss_loss_value mse, nll;
    CHECK_OK(fastloss_masked_mse(
        cells, tokens, predictions, tokens, values, tokens, inputs.mask.data, tokens, NULL, &first, NULL,
        &mse));
    CHECK_OK(fastloss_bernoulli_nll_logits(
        cells, tokens, nonzero, tokens, values, tokens, inputs.mask.data, tokens, NULL, &second, NULL, &nll));

    fastloss_expression_decoder_gradients gradients = FASTLOSS_EXPRESSION_DECODER_GRADIENTS;
    float *apart = blank(cells * tokens, width, 0, 7), *fused = blank(cells * tokens, width, 0, 7);
    gradients.states = apart;
    gradients.states_token_stride = width, gradients.states_cell_stride = tokens * width;
    CHECK_OK(fastloss_expression_decoder_gradient(
        &decoder, &inputs, predictions_gradient, tokens, decoder.explicit_zeros ? nonzero_gradient : NULL,
        tokens, &gradients, NULL));
    gradients.states = fused;
    fastloss_decoder_losses losses = FASTLOSS_DECODER_LOSSES, without = FASTLOSS_DECODER_LOSSES;
    CHECK_OK(fastloss_expression_decoder_loss(&decoder, &inputs, &targets, &gradients, NULL, &losses));
    CHECK_OK(fastloss_expression_decoder_loss(&decoder, &inputs, &targets, NULL, NULL, &without));
    CHECK_NUMBER(losses.squared_error, mse.value, ELEMENTWISE);
    CHECK(losses.squared_error == without.squared_error && losses.size == sizeof losses);
    CHECK(losses.selected_count == mse.selected_count);
    if (decoder.explicit_zeros)
        CHECK_NUMBER(losses.nonzero, nll.value, ELEMENTWISE);
    else
        CHECK(isnan(losses.nonzero));
    double *expected = (double *)remember((size_t)(cells * tokens * width) * sizeof(double));
    for (int64_t i = 0; i < cells * tokens * width; i++) expected[i] = (double)apart[i];
    CHECK_CLOSE(fused, expected, cells * tokens * width, HEAD, 1);
}

static void for_each_golden(const char *stem, void (*test)(const json *golden, int64_t gap)) {
    goldens all = read_goldens(stem);
    for (size_t i = 0; i < all.cases->count; i++)
        for (int64_t gap = 0; gap <= 2; gap += 2) {
            now_testing("%s: %s", stem, golden_name(&all.cases->members[i]));
            test(&all.cases->members[i], gap);
        }
    json_free(all.file);
    forget();
}

/// The cross-entropy of logits against the fused call, with its rule for ignored labels.
static void test_fused_classifiers(void) {
    goldens all = read_goldens("AdversarialDiscriminator");
    const json *golden = &all.cases->members[0];
    const int64_t cells = (int64_t)parameter(golden, "cells"), width = (int64_t)parameter(golden, "width");
    const int64_t classes = (int64_t)parameter(golden, "classes");
    fastloss_classifier classifier = FASTLOSS_CLASSIFIER(width, classes);
    classifier.out_layer = layer(golden, "out_layer");
    const float *embeddings = floats(golden, "cellEmbeddings");
    int32_t labels[64];
    for (int i = 0; i < 64; i++) labels[i] = i == 1 ? FASTLOSS_IGNORED_LABEL : (int32_t)(i % (int)classes);
    float *logits = blank(cells, classes, 0, 0);
    now_testing("fused classifiers");
    CHECK_OK(
        fastloss_cell_type_decoder_predict(&classifier, cells, embeddings, width, logits, classes, NULL));
    fastloss_loss_value apart, fused;
    CHECK_OK(fastloss_cross_entropy(cells, classes, logits, classes, labels, NULL, NULL, NULL, &apart));
    float *plain = blank(cells, width, 0, 7), *reversed = blank(cells, width, 0, 7);
    fastloss_classifier_gradients gradients = FASTLOSS_CLASSIFIER_GRADIENTS;
    gradients.cell_embeddings.data = plain, gradients.cell_embeddings.stride = width;
    CHECK_OK(fastloss_cell_type_decoder_loss(
        &classifier, cells, embeddings, width, labels, NULL, &gradients, NULL, &fused));
    CHECK_NUMBER(fused.value, apart.value, ELEMENTWISE);
    CHECK(fused.selected_count == cells - 1 && apart.selected_count == cells - 1);
    gradients.cell_embeddings.data = reversed;
    fastloss_domain_adversarial_options options = FASTLOSS_DOMAIN_ADVERSARIAL_OPTIONS;
    options.lambda = 0.5f;
    CHECK_OK(fastloss_adversarial_discriminator_loss(
        &classifier, cells, embeddings, width, labels, &options, &gradients, NULL, &fused));
    CHECK_NUMBER(fused.value, apart.value, ELEMENTWISE);
    for (int64_t i = 0; i < cells * width; i++) CHECK(reversed[i] == -0.5f * plain[i]);
    json_free(all.file);
    forget();
}

void test_heads(void) {
    for_each_golden("ExpressionDecoder", test_expression_golden);
    for_each_golden("MaskedValueDecoder", test_masked_value_golden);
    for_each_golden("CellTypeDecoder", test_classifier_golden);
    for_each_golden("AdversarialDiscriminator", test_classifier_golden);
    for_each_golden("BatchLabelEncoder", test_encoder_golden);
    goldens all = read_goldens("ExpressionDecoder");
    // The first two are those without batch embeddings.
    for (size_t i = 0; i < 2 && i < all.cases->count; i++) test_fused_golden(&all.cases->members[i]);
    json_free(all.file);
    forget();
    test_fused_classifiers();
}
