// No function touches memory outside its operands: each operand lies against an unreadable page, inputs are
// read-only, gaps between rows hold NaN, and the results are those of operands in ordinary memory.

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guarded.h"

/// The sizes of a call. Rows are cells; heads have a hidden width equal to the number of classes.
typedef struct shape {
    int64_t rows;
    int64_t columns;  // tokens or genes
    int64_t width;    // of embeddings
    int64_t classes;
    int64_t gap;  // elements between the rows of every matrix
    fastloss_update update;
    fastloss_element_type type;  // of a model's outputs
} shape;

typedef struct bounded_call {
    const char *name;
    int has_types;  // whether it reads outputs of a model, of any type
    fastloss_status (*run)(const shape *s, fastloss_workspace *workspace);
} bounded_call;

enum { BATCHES = 3, MASKS = 3 };

static fastloss_gradient matrix_gradient(const shape *s, int64_t rows, int64_t columns) {
    fastloss_gradient result = FASTLOSS_GRADIENT(output(rows, columns, s->gap), columns + s->gap);
    result.update = s->update;
    return result;
}

/// Outputs of a model, and the gradient of one.
static const float *model_values(const shape *s, int64_t rows, int64_t columns) {
    return model_input(rows, columns, s->gap, s->type);
}

static const float *model_chances(const shape *s, int64_t rows, int64_t columns) {
    return model_probabilities(rows, columns, s->gap, s->type);
}

static fastloss_gradient model_gradient(const shape *s, int64_t rows, int64_t columns) {
    fastloss_gradient result =
        FASTLOSS_GRADIENT(model_output(rows, columns, s->gap, s->type), columns + s->gap);
    result.update = s->update;
    return result;
}

/// States B x L x D, with a gap after each token. The gap after a cell's last token is one of the same size.
static int64_t token_stride(const shape *s) { return s->width + s->gap; }
static int64_t cell_stride(const shape *s) { return s->columns * token_stride(s); }
static const float *input_states(const shape *s) { return input(s->rows * s->columns, s->width, s->gap); }

static fastloss_gradient states_gradient(const shape *s) {
    fastloss_gradient result = FASTLOSS_STATES_GRADIENT(
        output(s->rows * s->columns, s->width, s->gap), token_stride(s), cell_stride(s));
    result.update = s->update;
    return result;
}

/// The struct that receives a loss is an operand, too.
static fastloss_loss_value *output_loss(void) {
    return (fastloss_loss_value *)(void *)output_doubles(sizeof(fastloss_loss_value) / sizeof(double));
}

// ---- Value losses

static fastloss_masked_options masked_options(const shape *s) {
    fastloss_masked_options result = FASTLOSS_MASKED_OPTIONS;
    result.predictions = s->type;
    return result;
}

#define MASKED_LOSS(name, predictions)                                                                  \
    static fastloss_status name(const shape *s, fastloss_workspace *workspace) {                        \
        const int64_t stride = s->columns + s->gap;                                                     \
        const fastloss_masked_options options = masked_options(s);                                      \
        fastloss_gradient gradient = model_gradient(s, s->rows, s->columns);                            \
        const float *const x = predictions(s, s->rows, s->columns);                                     \
        const float *const t = input(s->rows, s->columns, s->gap);                                      \
        return fastloss_##name(                                                                         \
            s->rows, s->columns, x, stride, t, stride, input_mask(s->rows, s->columns, s->gap), stride, \
            &options, &gradient, workspace, output_loss());                                             \
    }                                                                                                   \
    static fastloss_status name##_per_cell(const shape *s, fastloss_workspace *workspace) {             \
        const int64_t stride = s->columns + s->gap;                                                     \
        const fastloss_masked_options options = masked_options(s);                                      \
        fastloss_gradient gradient = model_gradient(s, s->rows, s->columns);                            \
        const float *const x = predictions(s, s->rows, s->columns);                                     \
        const float *const t = input(s->rows, s->columns, s->gap);                                      \
        float *const values = output(1, s->rows, 0);                                                    \
        return fastloss_##name##_per_cell(                                                              \
            s->rows, s->columns, x, stride, t, stride, input_mask(s->rows, s->columns, s->gap), stride, \
            &options, &gradient, workspace, values, output_counts(1));                                  \
    }

MASKED_LOSS(masked_mse, model_values)
MASKED_LOSS(bernoulli_nll, model_chances)
MASKED_LOSS(bernoulli_nll_logits, model_values)

static fastloss_status masked_relative_error(const shape *s, fastloss_workspace *workspace) {
    const fastloss_masked_options options = masked_options(s);
    const int64_t stride = s->columns + s->gap;
    const float *const x = model_values(s, s->rows, s->columns);
    const float *const t = input_probabilities(s->rows, s->columns, s->gap);
    return fastloss_masked_relative_error(
        s->rows, s->columns, x, stride, t, stride, input_mask(s->rows, s->columns, s->gap), stride, &options,
        workspace, output_loss());
}

static fastloss_status masked_relative_error_per_cell(const shape *s, fastloss_workspace *workspace) {
    const fastloss_masked_options options = masked_options(s);
    const int64_t stride = s->columns + s->gap;
    const float *const x = model_values(s, s->rows, s->columns);
    const float *const t = input_probabilities(s->rows, s->columns, s->gap);
    float *const values = output(1, s->rows, 0);
    return fastloss_masked_relative_error_per_cell(
        s->rows, s->columns, x, stride, t, stride, input_mask(s->rows, s->columns, s->gap), stride, &options,
        workspace, values, output_counts(1));
}

// ---- Classification

static fastloss_status cross_entropy(const shape *s, fastloss_workspace *workspace) {
    fastloss_cross_entropy_options options = FASTLOSS_CROSS_ENTROPY_OPTIONS;
    options.logits = s->type;
    fastloss_gradient gradient = model_gradient(s, s->rows, s->columns);
    const float *const logits = model_values(s, s->rows, s->columns);
    return fastloss_cross_entropy(
        s->rows, s->columns, logits, s->columns + s->gap, input_labels(1, s->rows, 0, (int32_t)s->columns),
        &options, &gradient, workspace, output_loss());
}

static fastloss_status gradient_reversal(const shape *s, fastloss_workspace *workspace) {
    fastloss_gradient reversed = matrix_gradient(s, s->rows, s->columns);
    return fastloss_gradient_reversal(
        s->rows, s->columns, input(s->rows, s->columns, s->gap), s->columns + s->gap, 0.3f, &reversed,
        workspace);
}

static fastloss_status domain_adversarial(const shape *s, fastloss_workspace *workspace) {
    fastloss_domain_adversarial_options options = FASTLOSS_DOMAIN_ADVERSARIAL_OPTIONS;
    options.logits = s->type;
    fastloss_gradient discriminator = model_gradient(s, s->rows, s->columns);
    fastloss_gradient embedding = model_gradient(s, s->rows, s->columns);
    const float *const logits = model_values(s, s->rows, s->columns);
    return fastloss_domain_adversarial(
        s->rows, s->columns, logits, s->columns + s->gap, input_labels(1, s->rows, 0, (int32_t)s->columns),
        &options, &discriminator, &embedding, workspace, output_loss());
}

// ---- Cell embeddings: as many cells as the shape has columns

static int32_t start_exchange(
    void *context, const void *bytes, size_t byte_count, int32_t receiver, void *buffer, size_t buffer_count,
    int32_t sender) {
    (void)context, (void)bytes, (void)byte_count, (void)receiver, (void)buffer, (void)buffer_count;
    (void)sender;
    abort();  // There is no other rank.
}

static int32_t finish_exchange(void *context) {
    (void)context;
    return 0;
}

static int32_t gather_own(void *context, const void *bytes, size_t byte_count, void *all) {
    (void)context;
    memcpy(all, bytes, byte_count);
    return 0;
}

/// A group of one rank.
static fastloss_communicator lone_rank(void) {
    const fastloss_communicator result = {
        sizeof(fastloss_communicator), NULL, 0, 1, start_exchange, finish_exchange, gather_own};
    return result;
}

/// Across ranks, if there is a communicator.
static fastloss_status elastic(
    const shape *s, const fastloss_communicator *ranks, fastloss_workspace *workspace) {
    fastloss_elastic_options options = FASTLOSS_ELASTIC_OPTIONS;
    options.embeddings = s->type;
    fastloss_gradient gradient = model_gradient(s, s->columns, s->width);
    const float *const embeddings = model_values(s, s->columns, s->width);
    const int64_t stride = s->width + s->gap;
    return ranks == NULL
        ? fastloss_elastic_cell_similarity(
              s->columns, s->width, embeddings, stride, &options, &gradient, workspace, output_loss())
        : fastloss_ranks_elastic_cell_similarity(
              s->columns, s->width, embeddings, stride, &options, &gradient, ranks, workspace, output_loss());
}

static fastloss_status elastic_cell_similarity(const shape *s, fastloss_workspace *workspace) {
    return elastic(s, NULL, workspace);
}

static fastloss_status ranks_elastic_cell_similarity(const shape *s, fastloss_workspace *workspace) {
    const fastloss_communicator ranks = lone_rank();
    return elastic(s, &ranks, workspace);
}

/// Across ranks, if there is a communicator.
static fastloss_status contrastive(
    const shape *s, const fastloss_communicator *ranks, fastloss_workspace *workspace) {
    fastloss_contrastive_options options = FASTLOSS_CONTRASTIVE_OPTIONS;
    options.embeddings = s->type;
    const int64_t stride = s->width + s->gap;
    fastloss_gradient first = model_gradient(s, s->columns, s->width);
    fastloss_gradient second = model_gradient(s, s->columns, s->width);
    const float *const one = model_values(s, s->columns, s->width);
    const float *const other = model_values(s, s->columns, s->width);
    return ranks == NULL ? fastloss_contrastive_cell_embedding(
                               s->columns, s->width, one, stride, other, stride, &options, &first, &second,
                               workspace, output_loss())
                         : fastloss_ranks_contrastive_cell_embedding(
                               s->columns, s->width, one, stride, other, stride, &options, &first, &second,
                               ranks, workspace, output_loss());
}

static fastloss_status contrastive_cell_embedding(const shape *s, fastloss_workspace *workspace) {
    return contrastive(s, NULL, workspace);
}

static fastloss_status ranks_contrastive_cell_embedding(const shape *s, fastloss_workspace *workspace) {
    const fastloss_communicator ranks = lone_rank();
    return contrastive(s, &ranks, workspace);
}

static fastloss_status cosine_similarity(const shape *s, fastloss_workspace *workspace) {
    const float *const embeddings = input(s->columns, s->width, s->gap);
    return fastloss_cosine_similarity(
        s->columns, s->width, embeddings, s->width + s->gap, output(s->columns, s->columns, s->gap),
        s->columns + s->gap, workspace);
}

// ---- Reductions and pooling

static fastloss_status masked_reductions(const shape *s, fastloss_workspace *workspace) {
    const int64_t stride = s->columns + s->gap;
    const float *const values = input(s->rows, s->columns, s->gap);
    const bool *const masks = input_mask(s->width, s->columns, s->gap);
    return fastloss_masked_reductions(
        s->rows, s->columns, s->width, values, stride, masks, stride, NULL, output(s->rows, s->width, s->gap),
        s->width + s->gap, workspace);
}

static fastloss_status masked_reductions_gradient(const shape *s, fastloss_workspace *workspace) {
    fastloss_gradient gradient = matrix_gradient(s, s->rows, s->columns);
    const float *const upstream = input(s->rows, s->width, s->gap);
    return fastloss_masked_reductions_gradient(
        s->rows, s->columns, s->width, upstream, s->width + s->gap, input_mask(s->width, s->columns, s->gap),
        s->columns + s->gap, NULL, &gradient, workspace);
}

static fastloss_status pool(fastloss_pooling pooling, const shape *s, fastloss_workspace *workspace) {
    const float *const states = input_states(s);
    return fastloss_token_pooling(
        pooling, s->rows, s->columns, s->width, states, token_stride(s), cell_stride(s),
        output(s->rows, s->width, s->gap), token_stride(s), workspace);
}

static fastloss_status pool_gradient(
    fastloss_pooling pooling, const shape *s, fastloss_workspace *workspace) {
    fastloss_gradient gradient = states_gradient(s);
    return fastloss_token_pooling_gradient(
        pooling, s->rows, s->columns, s->width, input(s->rows, s->width, s->gap), token_stride(s), &gradient,
        workspace);
}

static fastloss_status token_pooling_cls(const shape *s, fastloss_workspace *workspace) {
    return pool(FASTLOSS_POOLING_CLS, s, workspace);
}

static fastloss_status token_pooling_average(const shape *s, fastloss_workspace *workspace) {
    return pool(FASTLOSS_POOLING_AVERAGE, s, workspace);
}

static fastloss_status token_pooling_cls_gradient(const shape *s, fastloss_workspace *workspace) {
    return pool_gradient(FASTLOSS_POOLING_CLS, s, workspace);
}

static fastloss_status token_pooling_average_gradient(const shape *s, fastloss_workspace *workspace) {
    return pool_gradient(FASTLOSS_POOLING_AVERAGE, s, workspace);
}

static fastloss_status weighted_token_pooling(const shape *s, fastloss_workspace *workspace) {
    const float *const states = input_states(s);
    const float *const weights = input(s->rows * MASKS, s->columns, s->gap);
    return fastloss_weighted_token_pooling(
        s->rows, s->columns, s->width, MASKS, states, token_stride(s), cell_stride(s), weights,
        s->columns + s->gap, output(s->rows * MASKS, s->width, s->gap), token_stride(s), workspace);
}

static fastloss_status weighted_states_gradient(const shape *s, fastloss_workspace *workspace) {
    fastloss_gradient gradient = states_gradient(s);
    const float *const upstream = input(s->rows * MASKS, s->width, s->gap);
    return fastloss_weighted_token_pooling_states_gradient(
        s->rows, s->columns, s->width, MASKS, upstream, token_stride(s),
        input(s->rows * MASKS, s->columns, s->gap), s->columns + s->gap, &gradient, workspace);
}

static fastloss_status weighted_weights_gradient(const shape *s, fastloss_workspace *workspace) {
    fastloss_gradient gradient = matrix_gradient(s, s->rows * MASKS, s->columns);
    const float *const upstream = input(s->rows * MASKS, s->width, s->gap);
    return fastloss_weighted_token_pooling_weights_gradient(
        s->rows, s->columns, s->width, MASKS, upstream, token_stride(s), input_states(s), token_stride(s),
        cell_stride(s), &gradient, workspace);
}

static fastloss_status normalized_token_pooling(const shape *s, fastloss_workspace *workspace) {
    const float *const states = input_states(s);
    const float *const weights = input(s->rows * MASKS, s->columns, s->gap);
    float *const embeddings = output(s->rows * MASKS, s->width, s->gap);
    return fastloss_normalized_weighted_token_pooling(
        s->rows, s->columns, s->width, MASKS, states, token_stride(s), cell_stride(s), weights,
        s->columns + s->gap, embeddings, token_stride(s), output_doubles(s->rows * MASKS), workspace);
}

static fastloss_status normalized_states_gradient(const shape *s, fastloss_workspace *workspace) {
    fastloss_gradient gradient = states_gradient(s);
    const float *const upstream = input(s->rows * MASKS, s->width, s->gap);
    const float *const embeddings = input(s->rows * MASKS, s->width, s->gap);
    const double *const norms = input_norms(s->rows * MASKS);
    return fastloss_normalized_weighted_token_pooling_states_gradient(
        s->rows, s->columns, s->width, MASKS, upstream, token_stride(s), embeddings, token_stride(s), norms,
        input(s->rows * MASKS, s->columns, s->gap), s->columns + s->gap, &gradient, workspace);
}

static fastloss_status normalized_weights_gradient(const shape *s, fastloss_workspace *workspace) {
    fastloss_gradient gradient = matrix_gradient(s, s->rows * MASKS, s->columns);
    const float *const upstream = input(s->rows * MASKS, s->width, s->gap);
    const float *const embeddings = input(s->rows * MASKS, s->width, s->gap);
    const double *const norms = input_norms(s->rows * MASKS);
    return fastloss_normalized_weighted_token_pooling_weights_gradient(
        s->rows, s->columns, s->width, MASKS, upstream, token_stride(s), embeddings, token_stride(s), norms,
        input_states(s), token_stride(s), cell_stride(s), &gradient, workspace);
}

// ---- The objective

static fastloss_view view(const float *data, int64_t stride) {
    fastloss_view result;
    result.data = data;
    result.stride = stride;
    return result;
}

static fastloss_mask_view mask_view(const bool *data, int64_t stride) {
    fastloss_mask_view result;
    result.data = data;
    result.stride = stride;
    return result;
}

static fastloss_mutable_view mutable_view(const shape *s, int64_t rows, int64_t columns) {
    fastloss_mutable_view result;
    result.data = model_output(rows, columns, s->gap, s->type);
    result.stride = columns + s->gap;
    return result;
}

/// Every term, on every input; across ranks, if there is a communicator.
static fastloss_status objective_of_everything(
    const shape *s, const fastloss_communicator *ranks, fastloss_workspace *workspace) {
    const int64_t genes = s->columns + s->gap, width = s->width + s->gap, classes = s->classes + s->gap;
    fastloss_objective objective = FASTLOSS_OBJECTIVE;
    for (int term = 0; term < FASTLOSS_TERM_COUNT; term++) {
        const fastloss_status status = fastloss_objective_enable(&objective, term, 1);
        if (status != FASTLOSS_OK) return status;
    }
    fastloss_objective_inputs inputs = FASTLOSS_OBJECTIVE_INPUTS;
    inputs.cells = s->rows, inputs.genes = s->columns, inputs.width = s->width;
    inputs.cell_type_count = inputs.batch_count = s->classes;
    inputs.targets = view(input(s->rows, s->columns, s->gap), genes);
    inputs.mask = mask_view(input_mask(s->rows, s->columns, s->gap), genes);
    inputs.gene_predictions = view(model_values(s, s->rows, s->columns), genes);
    inputs.gene_nonzero = view(model_chances(s, s->rows, s->columns), genes);
    inputs.cell_predictions = view(model_values(s, s->rows, s->columns), genes);
    inputs.cell_nonzero = view(model_chances(s, s->rows, s->columns), genes);
    inputs.generated_predictions = view(model_values(s, s->rows, s->columns), genes);
    inputs.cell_embedding = view(model_values(s, s->rows, s->width), width);
    inputs.second_cell_embedding = view(model_values(s, s->rows, s->width), width);
    inputs.cell_type_logits = view(model_values(s, s->rows, s->classes), classes);
    inputs.batch_logits = view(model_values(s, s->rows, s->classes), classes);
    inputs.gene_predictions_type = inputs.gene_nonzero_type = s->type;
    inputs.cell_predictions_type = inputs.cell_nonzero_type = inputs.generated_predictions_type = s->type;
    inputs.cell_embedding_type = inputs.second_cell_embedding_type = s->type;
    inputs.cell_type_logits_type = inputs.batch_logits_type = s->type;
    inputs.cell_type_labels = input_labels(1, s->rows, 0, (int32_t)s->classes);
    inputs.batch_labels = input_labels(1, s->rows, 0, (int32_t)s->classes);
    fastloss_objective_gradients gradients = FASTLOSS_OBJECTIVE_GRADIENTS;
    gradients.update = s->update;
    gradients.gene_predictions = mutable_view(s, s->rows, s->columns);
    gradients.gene_nonzero = mutable_view(s, s->rows, s->columns);
    gradients.cell_predictions = mutable_view(s, s->rows, s->columns);
    gradients.cell_nonzero = mutable_view(s, s->rows, s->columns);
    gradients.generated_predictions = mutable_view(s, s->rows, s->columns);
    gradients.cell_embedding = mutable_view(s, s->rows, s->width);
    gradients.second_cell_embedding = mutable_view(s, s->rows, s->width);
    gradients.cell_type_logits = mutable_view(s, s->rows, s->classes);
    gradients.batch_logits = mutable_view(s, s->rows, s->classes);
    gradients.reversed_batch_logits = mutable_view(s, s->rows, s->classes);
    fastloss_objective_value value = FASTLOSS_OBJECTIVE_VALUE;
    const fastloss_status status = ranks == NULL
        ? fastloss_total_objective(&objective, &inputs, &gradients, workspace, &value)
        : fastloss_ranks_total_objective(&objective, &inputs, &gradients, ranks, workspace, &value);
    *output_doubles(1) = value.total;
    return status;
}

static fastloss_status total_objective(const shape *s, fastloss_workspace *workspace) {
    return objective_of_everything(s, NULL, workspace);
}

static fastloss_status ranks_total_objective(const shape *s, fastloss_workspace *workspace) {
    const fastloss_communicator ranks = lone_rank();
    return objective_of_everything(s, &ranks, workspace);
}

// ---- Task heads

typedef enum { PREDICT, GRADIENT, LOSS } verb;

static fastloss_layer layer(int64_t outputs, int64_t inputs) {
    fastloss_layer result;
    result.weight = input(outputs, inputs, 0);
    result.bias = input(1, outputs, 0);
    return result;
}

static fastloss_layer_gradient layer_gradient(int64_t outputs, int64_t inputs) {
    fastloss_layer_gradient result;
    result.weight = output(outputs, inputs, 0);
    result.bias = output(1, outputs, 0);
    return result;
}

static fastloss_perceptron perceptron(int64_t width) {
    fastloss_perceptron result;
    result.first = layer(width, 2 * width);
    result.second = layer(width, width);
    result.third = layer(1, width);
    return result;
}

static fastloss_perceptron_gradient perceptron_gradient(int64_t width) {
    fastloss_perceptron_gradient result;
    result.first = layer_gradient(width, 2 * width);
    result.second = layer_gradient(width, width);
    result.third = layer_gradient(1, width);
    return result;
}

static fastloss_decoder_targets decoder_targets(const shape *s) {
    fastloss_decoder_targets result =
        FASTLOSS_DECODER_TARGETS(input(s->rows, s->columns, s->gap), s->columns + s->gap);
    return result;
}

static fastloss_status expression_decoder(verb what, const shape *s, fastloss_workspace *workspace) {
    const int64_t stride = s->columns + s->gap;
    fastloss_expression_decoder decoder = FASTLOSS_EXPRESSION_DECODER(s->width);
    decoder.explicit_zeros = decoder.batch_embeddings = true;
    decoder.fc = perceptron(s->width);
    decoder.zero_logit = perceptron(s->width);
    fastloss_expression_decoder_inputs inputs = FASTLOSS_EXPRESSION_DECODER_INPUTS;
    inputs.cells = s->rows, inputs.tokens = s->columns, inputs.batch_count = BATCHES;
    inputs.states = model_values(s, s->rows * s->columns, s->width);
    inputs.states_token_stride = token_stride(s), inputs.states_cell_stride = cell_stride(s);
    inputs.states_type = inputs.batch_embeddings_type = s->type;
    inputs.mask = mask_view(input_mask(s->rows, s->columns, s->gap), stride);
    inputs.batch_embeddings = view(model_values(s, BATCHES, s->width), token_stride(s));
    inputs.batch_labels = input_labels(1, s->rows, 0, BATCHES);
    if (what == PREDICT) {
        float *const predictions = output(s->rows, s->columns, s->gap);
        return fastloss_expression_decoder_predict(
            &decoder, &inputs, predictions, stride, output(s->rows, s->columns, s->gap), stride, workspace);
    }
    fastloss_expression_decoder_gradients gradients = FASTLOSS_EXPRESSION_DECODER_GRADIENTS;
    gradients.update = s->update;
    gradients.states = model_output(s->rows * s->columns, s->width, s->gap, s->type);
    gradients.states_token_stride = token_stride(s), gradients.states_cell_stride = cell_stride(s);
    gradients.batch_embeddings = mutable_view(s, BATCHES, s->width);
    gradients.fc = perceptron_gradient(s->width);
    gradients.zero_logit = perceptron_gradient(s->width);
    if (what == GRADIENT) {
        const float *const upstream = input(s->rows, s->columns, s->gap);
        return fastloss_expression_decoder_gradient(
            &decoder, &inputs, upstream, stride, input(s->rows, s->columns, s->gap), stride, &gradients,
            workspace);
    }
    const fastloss_decoder_targets targets = decoder_targets(s);
    fastloss_decoder_losses losses = FASTLOSS_DECODER_LOSSES;
    const fastloss_status status =
        fastloss_expression_decoder_loss(&decoder, &inputs, &targets, &gradients, workspace, &losses);
    *output_doubles(1) = losses.squared_error + losses.nonzero;
    return status;
}

static fastloss_status masked_value_decoder(
    fastloss_query_style style, verb what, const shape *s, fastloss_workspace *workspace) {
    const int64_t stride = s->columns + s->gap, genes = s->columns + 2, hidden = s->classes;
    const int is_inner = style <= FASTLOSS_QUERY_INNER_PRODUCT_DETACHED;
    const int64_t query = style == FASTLOSS_QUERY_CONCAT ? hidden : s->width;
    const int64_t hidden_inputs = style == FASTLOSS_QUERY_CONCAT ? s->width + hidden : s->width;
    fastloss_masked_value_decoder decoder = FASTLOSS_MASKED_VALUE_DECODER(s->width);
    decoder.style = style;
    decoder.hidden_width = hidden;
    decoder.explicit_zeros = decoder.batch_embeddings = is_inner;
    decoder.gene2query = layer(query, s->width);
    if (is_inner) {
        decoder.w_weight = input(2 * s->width, s->width, 0);
        decoder.w_zero_logit = layer(2 * s->width, s->width);
    } else {
        decoder.fc1 = layer(hidden, hidden_inputs);
        decoder.hidden_activation = input(1, 1, 0);
        decoder.fc2 = layer(1, hidden);
    }
    fastloss_masked_value_inputs inputs = FASTLOSS_MASKED_VALUE_INPUTS;
    inputs.cells = s->rows, inputs.tokens = s->columns, inputs.gene_count = genes;
    inputs.batch_count = BATCHES;
    inputs.cell_embeddings = view(model_values(s, s->rows, s->width), token_stride(s));
    inputs.gene_embeddings = view(model_values(s, genes, s->width), token_stride(s));
    inputs.cell_embeddings_type = inputs.gene_embeddings_type = inputs.batch_embeddings_type = s->type;
    // Without gaps, one list of genes for all cells.
    inputs.genes = input_labels(s->gap == 0 ? 1 : s->rows, s->columns, s->gap, (int32_t)genes);
    inputs.genes_stride = s->gap == 0 ? 0 : stride;
    inputs.mask = mask_view(input_mask(s->rows, s->columns, s->gap), stride);
    if (is_inner) {
        inputs.batch_embeddings = view(model_values(s, BATCHES, s->width), token_stride(s));
        inputs.batch_labels = input_labels(1, s->rows, 0, BATCHES);
    }
    if (what == PREDICT) {
        float *const predictions = output(s->rows, s->columns, s->gap);
        return fastloss_masked_value_decoder_predict(
            &decoder, &inputs, predictions, stride, is_inner ? output(s->rows, s->columns, s->gap) : NULL,
            stride, workspace);
    }
    fastloss_masked_value_gradients gradients = FASTLOSS_MASKED_VALUE_GRADIENTS;
    gradients.update = s->update;
    gradients.cell_embeddings = mutable_view(s, s->rows, s->width);
    gradients.gene_embeddings = mutable_view(s, genes, s->width);
    gradients.gene2query = layer_gradient(query, s->width);
    if (is_inner) {
        gradients.batch_embeddings = mutable_view(s, BATCHES, s->width);
        gradients.w_weight = output(2 * s->width, s->width, 0);
        gradients.w_zero_logit = layer_gradient(2 * s->width, s->width);
    } else {
        gradients.fc1 = layer_gradient(hidden, hidden_inputs);
        gradients.hidden_activation = output(1, 1, 0);
        gradients.fc2 = layer_gradient(1, hidden);
    }
    if (what == GRADIENT) {
        const float *const upstream = input(s->rows, s->columns, s->gap);
        return fastloss_masked_value_decoder_gradient(
            &decoder, &inputs, upstream, stride, is_inner ? input(s->rows, s->columns, s->gap) : NULL, stride,
            &gradients, workspace);
    }
    const fastloss_decoder_targets targets = decoder_targets(s);
    fastloss_decoder_losses losses = FASTLOSS_DECODER_LOSSES;
    const fastloss_status status =
        fastloss_masked_value_decoder_loss(&decoder, &inputs, &targets, &gradients, workspace, &losses);
    *output_doubles(1) = losses.squared_error;
    return status;
}

static fastloss_status classifier(
    int is_discriminator, verb what, const shape *s, fastloss_workspace *workspace) {
    const int64_t cells = s->columns, width = s->width, classes = s->classes;
    fastloss_classifier_block blocks[2];
    fastloss_classifier head = FASTLOSS_CLASSIFIER(width, classes);
    for (int i = 0; i < 2; i++) {
        blocks[i].linear = layer(width, width);
        blocks[i].norm = layer(width, 1);
    }
    head.block_count = 2;
    head.blocks = blocks;
    head.out_layer = layer(classes, width);
    head.cell_embeddings_type = s->type;
    const float *const embeddings = model_values(s, cells, width);
    const int64_t stride = width + s->gap, logits_stride = classes + s->gap;
    if (what == PREDICT)
        return (
            is_discriminator ? fastloss_adversarial_discriminator_predict
                             : fastloss_cell_type_decoder_predict)(
            &head, cells, embeddings, stride, output(cells, classes, s->gap), logits_stride, workspace);
    fastloss_classifier_block_gradient block_gradients[2];
    fastloss_classifier_gradients gradients = FASTLOSS_CLASSIFIER_GRADIENTS;
    gradients.update = s->update;
    gradients.cell_embeddings = mutable_view(s, cells, width);
    for (int i = 0; i < 2; i++) {
        block_gradients[i].linear = layer_gradient(width, width);
        block_gradients[i].norm = layer_gradient(width, 1);
    }
    gradients.blocks = block_gradients;
    gradients.out_layer = layer_gradient(classes, width);
    if (what == GRADIENT) {
        const float *const upstream = input(cells, classes, s->gap);
        return is_discriminator
            ? fastloss_adversarial_discriminator_gradient(
                  &head, 0.3f, cells, embeddings, stride, upstream, logits_stride, &gradients, workspace)
            : fastloss_cell_type_decoder_gradient(
                  &head, cells, embeddings, stride, upstream, logits_stride, &gradients, workspace);
    }
    const int32_t *const labels = input_labels(1, cells, 0, (int32_t)classes);
    fastloss_loss_value *const loss = output_loss();
    return is_discriminator
        ? fastloss_adversarial_discriminator_loss(
              &head, cells, embeddings, stride, labels, NULL, &gradients, workspace, loss)
        : fastloss_cell_type_decoder_loss(
              &head, cells, embeddings, stride, labels, NULL, &gradients, workspace, loss);
}

static fastloss_batch_label_encoder encoder_of(const shape *s) {
    fastloss_batch_label_encoder encoder = FASTLOSS_BATCH_LABEL_ENCODER(s->classes, s->width);
    encoder.embedding = input(s->classes, s->width, 0);
    encoder.enc_norm = layer(s->width, 1);
    return encoder;
}

static fastloss_status batch_label_encoder_embed(const shape *s, fastloss_workspace *workspace) {
    const fastloss_batch_label_encoder encoder = encoder_of(s);
    const int32_t *const labels = input_labels(1, s->columns, 0, (int32_t)s->classes);
    return fastloss_batch_label_encoder_embed(
        &encoder, s->columns, labels, output(s->columns, s->width, s->gap), token_stride(s), workspace);
}

static fastloss_status batch_label_encoder_gradient(const shape *s, fastloss_workspace *workspace) {
    const fastloss_batch_label_encoder encoder = encoder_of(s);
    fastloss_batch_label_encoder_gradients gradients = FASTLOSS_BATCH_LABEL_ENCODER_GRADIENTS;
    gradients.update = s->update;
    gradients.embedding = output(s->classes, s->width, 0);
    gradients.enc_norm = layer_gradient(s->width, 1);
    const int32_t *const labels = input_labels(1, s->columns, 0, (int32_t)s->classes);
    return fastloss_batch_label_encoder_gradient(
        &encoder, s->columns, labels, input(s->columns, s->width, s->gap), token_stride(s), &gradients,
        workspace);
}

#define THREE_VERBS(name, call)                                                             \
    static fastloss_status name##_predict(const shape *s, fastloss_workspace *workspace) {  \
        const verb what = PREDICT;                                                          \
        return call;                                                                        \
    }                                                                                       \
    static fastloss_status name##_gradient(const shape *s, fastloss_workspace *workspace) { \
        const verb what = GRADIENT;                                                         \
        return call;                                                                        \
    }                                                                                       \
    static fastloss_status name##_loss(const shape *s, fastloss_workspace *workspace) {     \
        const verb what = LOSS;                                                             \
        return call;                                                                        \
    }

THREE_VERBS(expression_decoder, expression_decoder(what, s, workspace))
THREE_VERBS(inner_product, masked_value_decoder(FASTLOSS_QUERY_INNER_PRODUCT, what, s, workspace))
THREE_VERBS(
    inner_product_detached, masked_value_decoder(FASTLOSS_QUERY_INNER_PRODUCT_DETACHED, what, s, workspace))
THREE_VERBS(concat_query, masked_value_decoder(FASTLOSS_QUERY_CONCAT, what, s, workspace))
THREE_VERBS(sum_query, masked_value_decoder(FASTLOSS_QUERY_SUM, what, s, workspace))
THREE_VERBS(cell_type_decoder, classifier(0, what, s, workspace))
THREE_VERBS(adversarial_discriminator, classifier(1, what, s, workspace))

// ---- The test

#define CALL(name) {#name, 0, name}
#define TYPED_CALL(name) {#name, 1, name}
#define THREE_CALLS(name) TYPED_CALL(name##_predict), TYPED_CALL(name##_gradient), TYPED_CALL(name##_loss)
static const bounded_call calls[] = {
    TYPED_CALL(masked_mse),
    TYPED_CALL(masked_mse_per_cell),
    TYPED_CALL(bernoulli_nll),
    TYPED_CALL(bernoulli_nll_per_cell),
    TYPED_CALL(bernoulli_nll_logits),
    TYPED_CALL(bernoulli_nll_logits_per_cell),
    TYPED_CALL(masked_relative_error),
    TYPED_CALL(masked_relative_error_per_cell),
    TYPED_CALL(cross_entropy),
    CALL(gradient_reversal),
    TYPED_CALL(domain_adversarial),
    TYPED_CALL(elastic_cell_similarity),
    TYPED_CALL(contrastive_cell_embedding),
    CALL(cosine_similarity),
    CALL(masked_reductions),
    CALL(masked_reductions_gradient),
    CALL(token_pooling_cls),
    CALL(token_pooling_average),
    CALL(token_pooling_cls_gradient),
    CALL(token_pooling_average_gradient),
    CALL(weighted_token_pooling),
    CALL(weighted_states_gradient),
    CALL(weighted_weights_gradient),
    CALL(normalized_token_pooling),
    CALL(normalized_states_gradient),
    CALL(normalized_weights_gradient),
    TYPED_CALL(total_objective),
    TYPED_CALL(ranks_elastic_cell_similarity),
    TYPED_CALL(ranks_contrastive_cell_embedding),
    TYPED_CALL(ranks_total_objective),
    THREE_CALLS(expression_decoder),
    THREE_CALLS(inner_product),
    THREE_CALLS(inner_product_detached),
    THREE_CALLS(concat_query),
    THREE_CALLS(sum_query),
    THREE_CALLS(cell_type_decoder),
    THREE_CALLS(adversarial_discriminator),
    CALL(batch_label_encoder_embed),
    CALL(batch_label_encoder_gradient),
};

/// Names the call that touched an unreadable page, or wrote to an input, and ends the process.
static const char *running = "";
static void report_violation(int signal_number) {
    (void)signal_number;
    static const char text[] = " touched memory outside its operands\n";
    if (write(2, running, strlen(running)) < 0 || write(2, text, sizeof text - 1) < 0) _exit(4);
    _exit(3);
}

static void check_type(const bounded_call *call, const shape *s, fastloss_workspace *workspace) {
    static const placement guarded[] = {AT_START, AT_END};
    const uint32_t seed = (uint32_t)(s->rows * 977 + s->columns);
    running = call->name;
    now_testing(
        "bounds of %s at %lld x %lld, width %lld, type %d", call->name, (long long)s->rows,
        (long long)s->columns, (long long)s->width, s->type);
    begin_operands(ORDINARY, seed);
    CHECK_OK(call->run(s, workspace));
    const output_bytes expected = all_outputs();
    unsigned char *const copy = (unsigned char *)malloc(expected.size + 1);
    if (copy == NULL) abort();
    memcpy(copy, expected.bytes, expected.size);
    end_operands();
    for (int i = 0; i < 2; i++) {
        begin_operands(guarded[i], seed);
        CHECK_OK(call->run(s, workspace));
        const output_bytes found = all_outputs();
        CHECK(found.size == expected.size && memcmp(found.bytes, copy, found.size) == 0);
        CHECK(operands_are_intact());
        end_operands();
    }
    free(copy);
}

static void check_call(const bounded_call *call, shape s, fastloss_workspace *workspace) {
    const fastloss_element_type last = call->has_types ? FASTLOSS_ELEMENT_FLOAT16 : FASTLOSS_ELEMENT_FLOAT32;
    for (s.type = FASTLOSS_ELEMENT_FLOAT32; s.type <= last; s.type++) check_type(call, &s, workspace);
}

/// A child that reads or writes beside an operand ends with a violation.
static void test_the_guards(void) {
    now_testing("the guards of the bounds' test");
    for (int i = 0; i < 4; i++) {
        const pid_t child = fork();
        if (child == 0) {
            signal(SIGSEGV, SIG_DFL);
            begin_operands(i % 2 == 0 ? AT_START : AT_END, 1);
            const float *const read = input(1, 3, 0);
            float *const written = output(1, 3, 0);
            volatile float *place = i % 2 == 0 ? written - 1 : written + 3;
            // The last two write to an input.
            if (i >= 2) place = (volatile float *)(uintptr_t)read;
            *place = 1;
            _exit(0);
        }
        int status = 0;
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    }
    begin_operands(AT_END, 1);
    output(1, 3, 0)[-1] = 1;
    CHECK(!operands_are_intact());
    end_operands();
}

void test_bounds(void) {
    test_the_guards();
    // Around vectors of 4, 8 and 16 floats, and odd ones: operands that end at an unreadable page begin at
    // every alignment of a float, masks at every alignment of a byte.
    static const int64_t sizes[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12,
                                    13, 14, 15, 16, 17, 18, 31, 33, 47, 63, 65, 97};
    static const int64_t cells[] = {1, 3};
    const int call_count = (int)(sizeof calls / sizeof calls[0]);
    void (*const before)(int) = signal(SIGSEGV, report_violation);
    fastloss_workspace *one = NULL, *two = NULL;
    CHECK_OK(fastloss_workspace_create(1, &one));
    CHECK_OK(fastloss_workspace_create(2, &two));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t k = 0; k < sizeof cells / sizeof cells[0]; k++) {
            shape s;
            s.rows = cells[k], s.columns = sizes[i];
            s.width = 1 + sizes[i] * 5 % 19, s.classes = 1 + sizes[i] * 7 % 17;
            s.gap = (sizes[i] + cells[k]) % 2 == 0 ? 0 : 3;
            s.type = FASTLOSS_ELEMENT_FLOAT32;
            s.update = i % 3 == 0 ? FASTLOSS_UPDATE_ACCUMULATE : FASTLOSS_UPDATE_OVERWRITE;
            for (int call = 0; call < call_count; call++) check_call(&calls[call], s, one);
        }
    }
    // Shapes that several workers share, and whose pairs of cells are computed in tiles.
    const shape large[] = {
        {37, 701, 41, 67, 0, FASTLOSS_UPDATE_OVERWRITE, FASTLOSS_ELEMENT_FLOAT32},
        {21, 1101, 33, 5, 1, FASTLOSS_UPDATE_ACCUMULATE, FASTLOSS_ELEMENT_FLOAT32}};
    for (int i = 0; i < 2; i++)
        for (int call = 0; call < call_count; call++) check_call(&calls[call], large[i], two);
    fastloss_workspace_destroy(one);
    fastloss_workspace_destroy(two);
    signal(SIGSEGV, before);
}
