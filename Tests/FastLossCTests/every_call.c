// Every function of the header that computes, at shapes that are worth sharing among workers.

#include "every_call.h"

#include <stdlib.h>
#include <string.h>

enum {
    rows = 301,     // cells
    columns = 207,  // genes or tokens
    classes = 70,   // computed row by row; fewer classes are computed sixteen rows at a time
    width = 96,     // of embeddings
    masks = 7,
    few = 40,  // cells of token states
    tokens = 61,
    weightings = 3,
};

/// Of the task heads.
enum {
    head_cells = 10,
    head_tokens = 50,
    head_width = 24,
    head_genes = 70,
    head_hidden = 20,
    head_batches = 3
};

/// Values between -1 and 1, times the factor.
static float values[2][rows * columns];
static float probabilities[rows * columns];
static bool mask[rows * columns];
static int32_t labels[rows];
static double norms[few * weightings];
static int32_t genes[head_cells * head_tokens];

static void fill(float factor) {
    uint32_t state = 7;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < rows * columns; i++) {
            state = state * 1664525u + 1013904223u;
            values[k][i] = ((float)(state >> 8) / 8388608.0f - 1.0f) * factor;
        }
    for (int i = 0; i < rows * columns; i++) {
        probabilities[i] = (float)(i % 101) / 100.0f;
        mask[i] = i % 5 < 2;
    }
    for (int i = 0; i < rows; i++) labels[i] = i % 11 == 0 ? FASTLOSS_IGNORED_LABEL : i % classes;
    for (int i = 0; i < head_cells * head_tokens; i++) genes[i] = i * 7 % head_genes;
    for (int i = 0; i < few * weightings; i++) norms[i] = (0.5 + i % 3) * factor;
}

void scale_inputs(float factor) { fill(factor); }

// ---- Value losses

#define MASKED_LOSS(name, predictions)                                                               \
    static fastloss_status name(fastloss_workspace *workspace, call_results *results) {              \
        fastloss_gradient gradient = FASTLOSS_GRADIENT(results->outputs, columns);                   \
        fastloss_loss_value loss;                                                                    \
        fastloss_status status = fastloss_##name(                                                    \
            rows, columns, predictions, columns, values[1], columns, mask, columns, NULL, &gradient, \
            workspace, &loss);                                                                       \
        if (status == FASTLOSS_OK) results->value = loss.value;                                      \
        return status;                                                                               \
    }                                                                                                \
    static fastloss_status name##_per_cell(fastloss_workspace *workspace, call_results *results) {   \
        fastloss_gradient gradient = FASTLOSS_GRADIENT(results->outputs + rows, columns);            \
        return fastloss_##name##_per_cell(                                                           \
            rows, columns, predictions, columns, values[1], columns, mask, columns, NULL, &gradient, \
            workspace, results->outputs, NULL);                                                      \
    }

MASKED_LOSS(masked_mse, values[0])
MASKED_LOSS(bernoulli_nll, probabilities)
MASKED_LOSS(bernoulli_nll_logits, values[0])

static fastloss_status masked_relative_error(fastloss_workspace *workspace, call_results *results) {
    fastloss_loss_value loss;
    fastloss_status status = fastloss_masked_relative_error(
        rows, columns, values[0], columns, values[1], columns, mask, columns, NULL, workspace, &loss);
    if (status == FASTLOSS_OK) results->value = loss.value;
    return status;
}

static fastloss_status masked_relative_error_per_cell(fastloss_workspace *workspace, call_results *results) {
    return fastloss_masked_relative_error_per_cell(
        rows, columns, values[0], columns, values[1], columns, mask, columns, NULL, workspace,
        results->outputs, NULL);
}

// ---- Classification

static fastloss_status cross_entropy(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient gradient = FASTLOSS_GRADIENT(results->outputs, classes);
    fastloss_loss_value loss;
    fastloss_status status =
        fastloss_cross_entropy(rows, classes, values[0], classes, labels, NULL, &gradient, workspace, &loss);
    if (status == FASTLOSS_OK) results->value = loss.value;
    return status;
}

static fastloss_status gradient_reversal(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient reversed = FASTLOSS_GRADIENT(results->outputs, columns);
    return fastloss_gradient_reversal(rows, columns, values[0], columns, 0.3f, &reversed, workspace);
}

static fastloss_status domain_adversarial(fastloss_workspace *workspace, call_results *results) {
    fastloss_domain_adversarial_options options = FASTLOSS_DOMAIN_ADVERSARIAL_OPTIONS;
    options.lambda = 0.3f;
    fastloss_gradient discriminator = FASTLOSS_GRADIENT(results->outputs, classes);
    fastloss_gradient embedding = FASTLOSS_GRADIENT(results->outputs + rows * classes, classes);
    discriminator.update = FASTLOSS_UPDATE_ACCUMULATE;
    fastloss_loss_value loss;
    fastloss_status status = fastloss_domain_adversarial(
        rows, classes, values[0], classes, labels, &options, &discriminator, &embedding, workspace, &loss);
    if (status == FASTLOSS_OK) results->value = loss.value;
    return status;
}

// ---- Cell embeddings

static fastloss_status elastic_cell_similarity(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient gradient = FASTLOSS_GRADIENT(results->outputs, width);
    fastloss_loss_value loss;
    fastloss_status status =
        fastloss_elastic_cell_similarity(rows, width, values[0], width, NULL, &gradient, workspace, &loss);
    if (status == FASTLOSS_OK) results->value = loss.value;
    return status;
}

/// More rows than the whole matrix of similarities is kept for.
static fastloss_status elastic_cell_similarity_in_tiles(
    fastloss_workspace *workspace, call_results *results) {
    enum { many = 1100, narrow = 32 };
    fastloss_gradient gradient = FASTLOSS_GRADIENT(results->outputs, narrow);
    fastloss_loss_value loss;
    fastloss_status status =
        fastloss_elastic_cell_similarity(many, narrow, values[0], narrow, NULL, &gradient, workspace, &loss);
    if (status == FASTLOSS_OK) results->value = loss.value;
    return status;
}

static fastloss_status contrastive_cell_embedding(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient first = FASTLOSS_GRADIENT(results->outputs, width);
    fastloss_gradient second = FASTLOSS_GRADIENT(results->outputs + rows * width, width);
    fastloss_loss_value loss;
    fastloss_status status = fastloss_contrastive_cell_embedding(
        rows, width, values[0], width, values[1], width, NULL, &first, &second, workspace, &loss);
    if (status == FASTLOSS_OK) results->value = loss.value;
    return status;
}

static fastloss_status cosine_similarity(fastloss_workspace *workspace, call_results *results) {
    return fastloss_cosine_similarity(rows, width, values[0], width, results->outputs, rows, workspace);
}

// ---- Reductions and pooling

static fastloss_status masked_reductions(fastloss_workspace *workspace, call_results *results) {
    return fastloss_masked_reductions(
        rows, columns, masks, values[0], columns, mask, columns, NULL, results->outputs, masks, workspace);
}

static fastloss_status masked_reductions_gradient(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient gradient = FASTLOSS_GRADIENT(results->outputs, columns);
    return fastloss_masked_reductions_gradient(
        rows, columns, masks, values[0], masks, mask, columns, NULL, &gradient, workspace);
}

/// Token states in `values`: `few` cells fit.
enum { narrow_width = 20, cell_stride = tokens * narrow_width };

static fastloss_status token_pooling(fastloss_workspace *workspace, call_results *results) {
    return fastloss_token_pooling(
        FASTLOSS_POOLING_AVERAGE, few, tokens, narrow_width, values[0], narrow_width, cell_stride,
        results->outputs, narrow_width, workspace);
}

static fastloss_status token_pooling_gradient(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient gradient = FASTLOSS_STATES_GRADIENT(results->outputs, narrow_width, cell_stride);
    return fastloss_token_pooling_gradient(
        FASTLOSS_POOLING_AVERAGE, few, tokens, narrow_width, values[0], narrow_width, &gradient, workspace);
}

static fastloss_status weighted_token_pooling(fastloss_workspace *workspace, call_results *results) {
    return fastloss_weighted_token_pooling(
        few, tokens, narrow_width, weightings, values[0], narrow_width, cell_stride, values[1], tokens,
        results->outputs, narrow_width, workspace);
}

static fastloss_status weighted_states_gradient(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient gradient = FASTLOSS_STATES_GRADIENT(results->outputs, narrow_width, cell_stride);
    return fastloss_weighted_token_pooling_states_gradient(
        few, tokens, narrow_width, weightings, values[0], narrow_width, values[1], tokens, &gradient,
        workspace);
}

static fastloss_status weighted_weights_gradient(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient gradient = FASTLOSS_GRADIENT(results->outputs, tokens);
    return fastloss_weighted_token_pooling_weights_gradient(
        few, tokens, narrow_width, weightings, values[1], narrow_width, values[0], narrow_width, cell_stride,
        &gradient, workspace);
}

static fastloss_status normalized_token_pooling(fastloss_workspace *workspace, call_results *results) {
    static double lengths[few * weightings];
    return fastloss_normalized_weighted_token_pooling(
        few, tokens, narrow_width, weightings, values[0], narrow_width, cell_stride, values[1], tokens,
        results->outputs, narrow_width, lengths, workspace);
}

static fastloss_status normalized_states_gradient(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient gradient = FASTLOSS_STATES_GRADIENT(results->outputs, narrow_width, cell_stride);
    return fastloss_normalized_weighted_token_pooling_states_gradient(
        few, tokens, narrow_width, weightings, values[0], narrow_width, values[1], narrow_width, norms,
        values[1], tokens, &gradient, workspace);
}

static fastloss_status normalized_weights_gradient(fastloss_workspace *workspace, call_results *results) {
    fastloss_gradient gradient = FASTLOSS_GRADIENT(results->outputs, tokens);
    return fastloss_normalized_weighted_token_pooling_weights_gradient(
        few, tokens, narrow_width, weightings, values[1], narrow_width, values[1], narrow_width, norms,
        values[0], narrow_width, cell_stride, &gradient, workspace);
}

// ---- The objective

static fastloss_status total_objective(fastloss_workspace *workspace, call_results *results) {
    fastloss_objective objective = FASTLOSS_OBJECTIVE;
    fastloss_status status = fastloss_objective_scformer(&objective, true, true);
    if (status != FASTLOSS_OK) return status;
    fastloss_objective_inputs inputs = FASTLOSS_OBJECTIVE_INPUTS;
    inputs.cells = rows, inputs.genes = columns, inputs.width = width;
    inputs.cell_type_count = classes, inputs.batch_count = classes;
    inputs.targets.data = values[1], inputs.targets.stride = columns;
    inputs.mask.data = mask, inputs.mask.stride = columns;
    inputs.gene_predictions.data = values[0], inputs.gene_predictions.stride = columns;
    inputs.gene_nonzero.data = probabilities, inputs.gene_nonzero.stride = columns;
    inputs.cell_predictions.data = values[0], inputs.cell_predictions.stride = columns;
    inputs.cell_nonzero.data = probabilities, inputs.cell_nonzero.stride = columns;
    inputs.cell_embedding.data = values[0], inputs.cell_embedding.stride = width;
    inputs.second_cell_embedding.data = values[1], inputs.second_cell_embedding.stride = width;
    inputs.cell_type_logits.data = values[0], inputs.cell_type_logits.stride = classes;
    inputs.cell_type_labels = labels;
    inputs.batch_logits.data = values[1], inputs.batch_logits.stride = classes;
    inputs.batch_labels = labels;
    fastloss_objective_gradients gradients = FASTLOSS_OBJECTIVE_GRADIENTS;
    gradients.gene_predictions.data = results->outputs, gradients.gene_predictions.stride = columns;
    gradients.gene_nonzero.data = results->outputs + rows * columns, gradients.gene_nonzero.stride = columns;
    float *const rest = results->outputs + 2 * rows * columns;
    gradients.cell_embedding.data = rest, gradients.cell_embedding.stride = width;
    gradients.second_cell_embedding.data = rest + rows * width,
    gradients.second_cell_embedding.stride = width;
    gradients.batch_logits.data = rest + 2 * rows * width, gradients.batch_logits.stride = classes;
    gradients.reversed_batch_logits.data = rest + 2 * rows * width + rows * classes;
    gradients.reversed_batch_logits.stride = classes;
    fastloss_objective_value value = FASTLOSS_OBJECTIVE_VALUE;
    status = fastloss_total_objective(&objective, &inputs, &gradients, workspace, &value);
    if (status == FASTLOSS_OK) results->value = value.total;
    return status;
}

// ---- Task heads: parameters and inputs in `values`, gradients one after the other in the outputs

static const int32_t batches[head_cells] = {0, 1, 2, 0, 1, 2, 0, 1, 2, 0};

/// The next parameter and the next gradient.
typedef struct cursor {
    const float *input;
    float *output;
} cursor;

static const float *take(cursor *at, int count) {
    const float *taken = at->input;
    at->input += count;
    return taken;
}

static float *give(cursor *at, int count) {
    float *given = at->output;
    at->output += count;
    return given;
}

static fastloss_layer take_layer(cursor *at, int outputs, int inputs) {
    fastloss_layer taken;
    taken.weight = take(at, outputs * inputs);
    taken.bias = take(at, outputs);
    return taken;
}

static fastloss_layer_gradient give_layer(cursor *at, int outputs, int inputs) {
    fastloss_layer_gradient given;
    given.weight = give(at, outputs * inputs);
    given.bias = give(at, outputs);
    return given;
}

static fastloss_perceptron take_perceptron(cursor *at) {
    fastloss_perceptron taken;
    taken.first = take_layer(at, head_width, 2 * head_width);
    taken.second = take_layer(at, head_width, head_width);
    taken.third = take_layer(at, 1, head_width);
    return taken;
}

static fastloss_perceptron_gradient give_perceptron(cursor *at) {
    fastloss_perceptron_gradient given;
    given.first = give_layer(at, head_width, 2 * head_width);
    given.second = give_layer(at, head_width, head_width);
    given.third = give_layer(at, 1, head_width);
    return given;
}

/// What a call of a head does.
typedef enum { PREDICT, GRADIENT, LOSS } verb;

static fastloss_status run_expression_decoder(
    verb what, fastloss_workspace *workspace, call_results *results) {
    cursor start = {values[0], results->outputs};
    cursor *const at = &start;
    fastloss_expression_decoder decoder = FASTLOSS_EXPRESSION_DECODER(head_width);
    decoder.explicit_zeros = decoder.batch_embeddings = true;
    decoder.fc = take_perceptron(at);
    decoder.zero_logit = take_perceptron(at);
    fastloss_expression_decoder_inputs inputs = FASTLOSS_EXPRESSION_DECODER_INPUTS;
    inputs.cells = head_cells, inputs.tokens = head_tokens, inputs.batch_count = head_batches;
    inputs.states = values[1];
    inputs.states_token_stride = head_width, inputs.states_cell_stride = head_tokens * head_width;
    inputs.mask.data = mask, inputs.mask.stride = head_tokens;
    inputs.batch_embeddings.data = take(at, head_batches * head_width);
    inputs.batch_embeddings.stride = head_width;
    inputs.batch_labels = batches;
    if (what == PREDICT) {
        float *predictions = give(at, head_cells * head_tokens);
        return fastloss_expression_decoder_predict(
            &decoder, &inputs, predictions, head_tokens, give(at, head_cells * head_tokens), head_tokens,
            workspace);
    }
    fastloss_expression_decoder_gradients gradients = FASTLOSS_EXPRESSION_DECODER_GRADIENTS;
    gradients.states = give(at, head_cells * head_tokens * head_width);
    gradients.states_token_stride = head_width, gradients.states_cell_stride = head_tokens * head_width;
    gradients.batch_embeddings.data = give(at, head_batches * head_width);
    gradients.batch_embeddings.stride = head_width;
    gradients.fc = give_perceptron(at);
    gradients.zero_logit = give_perceptron(at);
    if (what == GRADIENT)
        return fastloss_expression_decoder_gradient(
            &decoder, &inputs, values[1], head_tokens, values[1], head_tokens, &gradients, workspace);
    fastloss_decoder_targets targets = FASTLOSS_DECODER_TARGETS(values[1], head_tokens);
    fastloss_decoder_losses losses = FASTLOSS_DECODER_LOSSES;
    fastloss_status status =
        fastloss_expression_decoder_loss(&decoder, &inputs, &targets, &gradients, workspace, &losses);
    if (status == FASTLOSS_OK) results->value = losses.squared_error + losses.nonzero;
    return status;
}

static fastloss_status run_masked_value_decoder(
    fastloss_query_style style, verb what, fastloss_workspace *workspace, call_results *results) {
    const int is_inner = style <= FASTLOSS_QUERY_INNER_PRODUCT_DETACHED;
    const int query = style == FASTLOSS_QUERY_CONCAT ? head_hidden : head_width;
    const int hidden_inputs = style == FASTLOSS_QUERY_CONCAT ? head_width + head_hidden : head_width;
    cursor start = {values[0], results->outputs};
    cursor *const at = &start;
    fastloss_masked_value_decoder decoder = FASTLOSS_MASKED_VALUE_DECODER(head_width);
    decoder.style = style;
    decoder.hidden_width = head_hidden;
    decoder.explicit_zeros = decoder.batch_embeddings = is_inner;
    decoder.gene2query = take_layer(at, query, head_width);
    decoder.w_weight = take(at, 2 * head_width * head_width);
    decoder.w_zero_logit = take_layer(at, 2 * head_width, head_width);
    decoder.fc1 = take_layer(at, head_hidden, hidden_inputs);
    decoder.hidden_activation = take(at, 1);
    decoder.fc2 = take_layer(at, 1, head_hidden);
    fastloss_masked_value_inputs inputs = FASTLOSS_MASKED_VALUE_INPUTS;
    inputs.cells = head_cells, inputs.tokens = head_tokens;
    inputs.gene_count = head_genes, inputs.batch_count = head_batches;
    inputs.cell_embeddings.data = values[1], inputs.cell_embeddings.stride = head_width;
    inputs.gene_embeddings.data = values[1] + head_cells * head_width;
    inputs.gene_embeddings.stride = head_width;
    inputs.genes = genes, inputs.genes_stride = head_tokens;
    inputs.mask.data = mask, inputs.mask.stride = head_tokens;
    inputs.batch_embeddings.data = take(at, head_batches * head_width);
    inputs.batch_embeddings.stride = head_width;
    inputs.batch_labels = batches;
    if (what == PREDICT) {
        float *predictions = give(at, head_cells * head_tokens);
        return fastloss_masked_value_decoder_predict(
            &decoder, &inputs, predictions, head_tokens, is_inner ? give(at, head_cells * head_tokens) : NULL,
            head_tokens, workspace);
    }
    fastloss_masked_value_gradients gradients = FASTLOSS_MASKED_VALUE_GRADIENTS;
    gradients.cell_embeddings.data = give(at, head_cells * head_width);
    gradients.gene_embeddings.data = give(at, head_genes * head_width);
    gradients.cell_embeddings.stride = gradients.gene_embeddings.stride = head_width;
    gradients.gene2query = give_layer(at, query, head_width);
    if (is_inner) {
        gradients.batch_embeddings.data = give(at, head_batches * head_width);
        gradients.batch_embeddings.stride = head_width;
        gradients.w_weight = give(at, 2 * head_width * head_width);
        gradients.w_zero_logit = give_layer(at, 2 * head_width, head_width);
    } else {
        gradients.fc1 = give_layer(at, head_hidden, hidden_inputs);
        gradients.hidden_activation = give(at, 1);
        gradients.fc2 = give_layer(at, 1, head_hidden);
    }
    if (what == GRADIENT)
        return fastloss_masked_value_decoder_gradient(
            &decoder, &inputs, values[1], head_tokens, is_inner ? values[1] : NULL, head_tokens, &gradients,
            workspace);
    fastloss_decoder_targets targets = FASTLOSS_DECODER_TARGETS(values[1], head_tokens);
    fastloss_decoder_losses losses = FASTLOSS_DECODER_LOSSES;
    fastloss_status status =
        fastloss_masked_value_decoder_loss(&decoder, &inputs, &targets, &gradients, workspace, &losses);
    if (status == FASTLOSS_OK) results->value = losses.squared_error + losses.relative_error;
    return status;
}

static fastloss_status run_classifier(
    int is_discriminator, verb what, fastloss_workspace *workspace, call_results *results) {
    cursor start = {values[0], results->outputs};
    cursor *const at = &start;
    fastloss_classifier_block blocks[2];
    for (int i = 0; i < 2; i++) {
        blocks[i].linear = take_layer(at, width, width);
        blocks[i].norm = take_layer(at, width, 1);
    }
    fastloss_classifier classifier = FASTLOSS_CLASSIFIER(width, classes);
    classifier.block_count = 2;
    classifier.blocks = blocks;
    classifier.out_layer = take_layer(at, classes, width);
    if (what == PREDICT)
        return (
            is_discriminator ? fastloss_adversarial_discriminator_predict
                             : fastloss_cell_type_decoder_predict)(
            &classifier, rows, values[1], width, give(at, rows * classes), classes, workspace);
    fastloss_classifier_block_gradient block_gradients[2];
    fastloss_classifier_gradients gradients = FASTLOSS_CLASSIFIER_GRADIENTS;
    gradients.cell_embeddings.data = give(at, rows * width), gradients.cell_embeddings.stride = width;
    for (int i = 0; i < 2; i++) {
        block_gradients[i].linear = give_layer(at, width, width);
        block_gradients[i].norm = give_layer(at, width, 1);
    }
    gradients.blocks = block_gradients;
    gradients.out_layer = give_layer(at, classes, width);
    if (what == GRADIENT)
        return is_discriminator
            ? fastloss_adversarial_discriminator_gradient(
                  &classifier, 0.3f, rows, values[1], width, values[1], classes, &gradients, workspace)
            : fastloss_cell_type_decoder_gradient(
                  &classifier, rows, values[1], width, values[1], classes, &gradients, workspace);
    fastloss_loss_value loss;
    fastloss_status status = is_discriminator
        ? fastloss_adversarial_discriminator_loss(
              &classifier, rows, values[1], width, labels, NULL, &gradients, workspace, &loss)
        : fastloss_cell_type_decoder_loss(
              &classifier, rows, values[1], width, labels, NULL, &gradients, workspace, &loss);
    if (status == FASTLOSS_OK) results->value = loss.value;
    return status;
}

static fastloss_status run_encoder(verb what, fastloss_workspace *workspace, call_results *results) {
    cursor start = {values[0], results->outputs};
    cursor *const at = &start;
    fastloss_batch_label_encoder encoder = FASTLOSS_BATCH_LABEL_ENCODER(head_genes, width);
    encoder.embedding = take(at, head_genes * width);
    encoder.enc_norm = take_layer(at, width, 1);
    if (what == PREDICT)
        return fastloss_batch_label_encoder_embed(
            &encoder, head_cells * head_tokens, genes, results->outputs, width, workspace);
    fastloss_batch_label_encoder_gradients gradients = FASTLOSS_BATCH_LABEL_ENCODER_GRADIENTS;
    gradients.embedding = give(at, head_genes * width);
    gradients.enc_norm = give_layer(at, width, 1);
    return fastloss_batch_label_encoder_gradient(
        &encoder, head_cells * head_tokens, genes, values[1], width, &gradients, workspace);
}

static fastloss_status expression_decoder_predict(fastloss_workspace *workspace, call_results *results) {
    return run_expression_decoder(PREDICT, workspace, results);
}

static fastloss_status inner_product_predict(fastloss_workspace *workspace, call_results *results) {
    return run_masked_value_decoder(FASTLOSS_QUERY_INNER_PRODUCT, PREDICT, workspace, results);
}

static fastloss_status inner_product_detached_predict(fastloss_workspace *workspace, call_results *results) {
    return run_masked_value_decoder(FASTLOSS_QUERY_INNER_PRODUCT_DETACHED, PREDICT, workspace, results);
}

static fastloss_status concat_query_predict(fastloss_workspace *workspace, call_results *results) {
    return run_masked_value_decoder(FASTLOSS_QUERY_CONCAT, PREDICT, workspace, results);
}

static fastloss_status sum_query_predict(fastloss_workspace *workspace, call_results *results) {
    return run_masked_value_decoder(FASTLOSS_QUERY_SUM, PREDICT, workspace, results);
}

static fastloss_status cell_type_decoder_predict(fastloss_workspace *workspace, call_results *results) {
    return run_classifier(0, PREDICT, workspace, results);
}

static fastloss_status adversarial_discriminator_predict(
    fastloss_workspace *workspace, call_results *results) {
    return run_classifier(1, PREDICT, workspace, results);
}

static fastloss_status batch_label_encoder_predict(fastloss_workspace *workspace, call_results *results) {
    return run_encoder(PREDICT, workspace, results);
}

static fastloss_status expression_decoder_gradient(fastloss_workspace *workspace, call_results *results) {
    return run_expression_decoder(GRADIENT, workspace, results);
}

static fastloss_status inner_product_gradient(fastloss_workspace *workspace, call_results *results) {
    return run_masked_value_decoder(FASTLOSS_QUERY_INNER_PRODUCT, GRADIENT, workspace, results);
}

static fastloss_status inner_product_detached_gradient(fastloss_workspace *workspace, call_results *results) {
    return run_masked_value_decoder(FASTLOSS_QUERY_INNER_PRODUCT_DETACHED, GRADIENT, workspace, results);
}

static fastloss_status concat_query_gradient(fastloss_workspace *workspace, call_results *results) {
    return run_masked_value_decoder(FASTLOSS_QUERY_CONCAT, GRADIENT, workspace, results);
}

static fastloss_status sum_query_gradient(fastloss_workspace *workspace, call_results *results) {
    return run_masked_value_decoder(FASTLOSS_QUERY_SUM, GRADIENT, workspace, results);
}

static fastloss_status cell_type_decoder_gradient(fastloss_workspace *workspace, call_results *results) {
    return run_classifier(0, GRADIENT, workspace, results);
}

static fastloss_status adversarial_discriminator_gradient(
    fastloss_workspace *workspace, call_results *results) {
    return run_classifier(1, GRADIENT, workspace, results);
}

static fastloss_status batch_label_encoder_gradient(fastloss_workspace *workspace, call_results *results) {
    return run_encoder(GRADIENT, workspace, results);
}

static fastloss_status expression_decoder_loss(fastloss_workspace *workspace, call_results *results) {
    return run_expression_decoder(LOSS, workspace, results);
}

static fastloss_status inner_product_loss(fastloss_workspace *workspace, call_results *results) {
    return run_masked_value_decoder(FASTLOSS_QUERY_INNER_PRODUCT, LOSS, workspace, results);
}

static fastloss_status inner_product_detached_loss(fastloss_workspace *workspace, call_results *results) {
    return run_masked_value_decoder(FASTLOSS_QUERY_INNER_PRODUCT_DETACHED, LOSS, workspace, results);
}

static fastloss_status concat_query_loss(fastloss_workspace *workspace, call_results *results) {
    return run_masked_value_decoder(FASTLOSS_QUERY_CONCAT, LOSS, workspace, results);
}

static fastloss_status sum_query_loss(fastloss_workspace *workspace, call_results *results) {
    return run_masked_value_decoder(FASTLOSS_QUERY_SUM, LOSS, workspace, results);
}

static fastloss_status cell_type_decoder_loss(fastloss_workspace *workspace, call_results *results) {
    return run_classifier(0, LOSS, workspace, results);
}

static fastloss_status adversarial_discriminator_loss(fastloss_workspace *workspace, call_results *results) {
    return run_classifier(1, LOSS, workspace, results);
}

// ---- The list

#define CALL(name) {#name, name}
const every_call every_calls[] = {
    CALL(masked_mse),
    CALL(masked_mse_per_cell),
    CALL(bernoulli_nll),
    CALL(bernoulli_nll_per_cell),
    CALL(bernoulli_nll_logits),
    CALL(bernoulli_nll_logits_per_cell),
    CALL(masked_relative_error),
    CALL(masked_relative_error_per_cell),
    CALL(cross_entropy),
    CALL(gradient_reversal),
    CALL(domain_adversarial),
    CALL(elastic_cell_similarity),
    CALL(elastic_cell_similarity_in_tiles),
    CALL(contrastive_cell_embedding),
    CALL(cosine_similarity),
    CALL(masked_reductions),
    CALL(masked_reductions_gradient),
    CALL(token_pooling),
    CALL(token_pooling_gradient),
    CALL(weighted_token_pooling),
    CALL(weighted_states_gradient),
    CALL(weighted_weights_gradient),
    CALL(normalized_token_pooling),
    CALL(normalized_states_gradient),
    CALL(normalized_weights_gradient),
    CALL(total_objective),
    CALL(expression_decoder_predict),
    CALL(inner_product_predict),
    CALL(inner_product_detached_predict),
    CALL(concat_query_predict),
    CALL(sum_query_predict),
    CALL(cell_type_decoder_predict),
    CALL(adversarial_discriminator_predict),
    CALL(batch_label_encoder_predict),
    CALL(expression_decoder_gradient),
    CALL(inner_product_gradient),
    CALL(inner_product_detached_gradient),
    CALL(concat_query_gradient),
    CALL(sum_query_gradient),
    CALL(cell_type_decoder_gradient),
    CALL(adversarial_discriminator_gradient),
    CALL(batch_label_encoder_gradient),
    CALL(expression_decoder_loss),
    CALL(inner_product_loss),
    CALL(inner_product_detached_loss),
    CALL(concat_query_loss),
    CALL(sum_query_loss),
    CALL(cell_type_decoder_loss),
    CALL(adversarial_discriminator_loss),
};
const int every_call_count = (int)(sizeof every_calls / sizeof every_calls[0]);

fastloss_status run_call(const every_call *call, fastloss_workspace *workspace, call_results *results) {
    memset(results, 0, sizeof *results);
    return call->run(workspace, results);
}

int same_results(const call_results *a, const call_results *b) { return memcmp(a, b, sizeof *a) == 0; }
