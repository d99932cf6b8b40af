// The task heads with their losses as Python functions of positional arguments; results as in calls.c.
//
// Parameters and their gradients come as tuples in the order of the struct's pointers. A gradient of None is
// not wanted. States, embeddings and their gradients may be 16-bit. An embedding of a batch comes once for
// each cell, or once for each batch with a label for each cell.

#include "arguments.h"

#include <stddef.h>
#include <string.h>

// -----------------------------------------------------------------------------------------------------------
// Arguments. Each returns false, with no exception set, for an object that it does not read.
// -----------------------------------------------------------------------------------------------------------

/// The columns of a vector of parameters.
enum { VECTOR = -1 };

/// A contiguous array of rows × columns elements, or of `rows` if `columns` is VECTOR.
static bool read_dense(
    reader *read, PyObject *object, element element, int64_t rows, int64_t columns, bool is_written,
    float **data) {
    array array;
    if (!read(object, &array) || array.element != element || (is_written && !array.is_writable)) return false;
    if (array.dimensions != (columns == VECTOR ? 1 : 2) || array.shape[0] != rows) return false;
    if (columns != VECTOR && array.shape[1] != columns) return false;
    *data = array.data;
    return is_contiguous(&array);
}

typedef struct { int64_t rows, columns; } parameter_shape;

/// Parameters or, if `are_written`, their gradients from the elements `first` … of a tuple.
static bool read_parameters(
    reader *read, PyObject *tuple, Py_ssize_t first, const parameter_shape *shapes, int count,
    bool are_written, float **pointers) {
    for (int index = 0; index < count; index++) {
        PyObject *object = PyTuple_GetItem(tuple, first + index);
        if (are_written && object == Py_None) continue;
        const parameter_shape *shape = &shapes[index];
        if (!read_dense(read, object, FLOAT32, shape->rows, shape->columns, are_written, &pointers[index])) {
            return false;
        }
    }
    return true;
}

static bool is_tuple(PyObject *object, Py_ssize_t length) {
    return PyTuple_Check(object) && PyTuple_Size(object) == length;
}

/// A matrix of `rows` × `columns`; −1 for any number of them.
static bool read_view(
    reader *read, PyObject *object, element element, int64_t rows, int64_t columns, matrix *matrix) {
    array array;
    return read(object, &array) && array.element == element && array.dimensions == 2
        && as_matrix(&array, matrix) && (rows < 0 || matrix->rows == rows)
        && (columns < 0 || matrix->columns == columns);
}

/// A matrix of the model's outputs, of any of their types, and its shape; −1 for any.
typedef struct {
    matrix matrix;
    element element;
    fastloss_element_type type;
} output;

static bool read_output(reader *read, PyObject *object, int64_t rows, int64_t columns, output *output) {
    array array;
    if (!read(object, &array) || array.dimensions != 2 || !as_matrix(&array, &output->matrix)) return false;
    output->element = array.element;
    return read_type(&array, &output->type) && (rows < 0 || output->matrix.rows == rows)
        && (columns < 0 || output->matrix.columns == columns);
}

/// The memory of the gradient of a matrix, of the same shape and type; NULL for None.
static bool read_place(reader *read, PyObject *object, const output *like, fastloss_mutable_view *view) {
    const matrix *matrix = &like->matrix;
    *view = (fastloss_mutable_view){NULL, matrix->columns};
    return object == Py_None
        || read_dense(read, object, like->element, matrix->rows, matrix->columns, true, &view->data);
}

/// A mask of cells × tokens.
static bool read_mask(
    reader *read, PyObject *object, int64_t cells, int64_t tokens, fastloss_mask_view *mask) {
    matrix matrix;
    if (!read_view(read, object, BOOL, cells, tokens, &matrix)) return false;
    *mask = (fastloss_mask_view){matrix.data, matrix.stride};
    return true;
}

/// Targets of cells × tokens, the factors of both losses in the gradient, and the form of the output.
static bool read_targets(
    reader *read, PyObject *const *given, int64_t cells, int64_t tokens, fastloss_decoder_targets *targets) {
    matrix matrix;
    *targets = (fastloss_decoder_targets){.size = sizeof *targets};
    if (!read_view(read, given[0], FLOAT32, cells, tokens, &matrix)) return false;
    targets->values = (fastloss_view){matrix.data, matrix.stride};
    return read_float(given[1], &targets->squared_error_weight)
        && read_float(given[2], &targets->nonzero_weight);
}

/// 0, 1, 2, …: one embedding for each cell, or one gene for each token. NULL if there is no memory for it.
static int32_t *new_range(int64_t count) {
    int32_t *numbers = PyMem_Malloc((size_t)(count ? count : 1) * sizeof *numbers);
    for (int64_t index = 0; numbers && index < count; index++) numbers[index] = (int32_t)index;
    return numbers;
}

/// The embeddings of the cells' batches, which are given.
typedef struct {
    output embeddings;
    labels labels;
    /// The label of each cell, if the embeddings are those of the cells; freed by `release_batches`.
    int32_t *range;
} batches;

/// One embedding for each cell, or with labels one for each batch.
static bool read_batches(
    reader *read, PyObject *const *given, int64_t cells, int64_t width, batches *batches) {
    const bool has_labels = given[1] != Py_None;
    if (!read_output(read, given[0], has_labels ? -1 : cells, width, &batches->embeddings)) return false;
    if (has_labels) return read_labels(read, given[1], cells, &batches->labels);
    batches->labels.data = batches->range = new_range(cells);
    return batches->range;
}

static void release_batches(batches *batches) {
    release_labels(&batches->labels);
    PyMem_Free(batches->range);
}

/// Both losses, the relative error and the number of selected tokens.
static PyObject *decoder_result(fastloss_status status, const fastloss_decoder_losses *losses) {
    if (status) return PyLong_FromLong(status);
    return Py_BuildValue(
        "dddL", losses->squared_error, losses->nonzero, losses->relative_error,
        (long long)losses->selected_count);
}

// -----------------------------------------------------------------------------------------------------------
// The decoder of expression values from token states
// -----------------------------------------------------------------------------------------------------------

enum { PERCEPTRON = sizeof(fastloss_perceptron) / sizeof(float *) };

/// States of cells × tokens × width, of which the rows have no gaps between their elements.
static bool read_states(
    reader *read, PyObject *object, fastloss_expression_decoder_inputs *inputs, int64_t *width,
    element *element) {
    array array;
    if (!read(object, &array) || !read_type(&array, &inputs->states_type) || array.dimensions != 3)
        return false;
    *element = array.element;
    inputs->states = array.data;
    inputs->cells = array.shape[0];
    inputs->tokens = array.shape[1];
    *width = array.shape[2];
    inputs->states_token_stride = inputs->tokens > 1 ? array.strides[1] : *width;
    const int64_t span = inputs->tokens ? (inputs->tokens - 1) * inputs->states_token_stride + *width : 0;
    inputs->states_cell_stride = inputs->cells > 1 ? array.strides[0] : span;
    if (inputs->cells == 0 || inputs->tokens == 0 || *width == 0) {
        inputs->states_token_stride = *width;
        inputs->states_cell_stride = inputs->tokens * *width;
        return true;
    }
    return (*width == 1 || array.strides[2] == 1) && inputs->states_token_stride >= *width
        && inputs->states_cell_stride >= span;
}

/// The parameters of one or two perceptrons, or their gradients.
static bool read_perceptrons(
    reader *read, PyObject *tuple, Py_ssize_t first, const fastloss_expression_decoder *decoder,
    bool are_written, void *fc, void *zero_logit) {
    const int64_t width = decoder->width;
    const parameter_shape shapes[PERCEPTRON] = {
        {width, decoder->batch_embeddings ? 2 * width : width},
        {width, VECTOR},
        {width, width},
        {width, VECTOR},
        {1, width},
        {1, VECTOR}};
    return read_parameters(read, tuple, first, shapes, PERCEPTRON, are_written, fc)
        && (!decoder->explicit_zeros
            || read_parameters(read, tuple, first + PERCEPTRON, shapes, PERCEPTRON, are_written, zero_logit));
}

typedef struct {
    fastloss_expression_decoder decoder;
    fastloss_expression_decoder_inputs inputs;
    fastloss_decoder_targets targets;
    fastloss_expression_decoder_gradients gradients;
    bool has_gradients;
    batches batches;
} expression;

static bool read_expression(reader *read, PyObject *const *given, expression *call) {
    fastloss_expression_decoder *decoder = &call->decoder;
    fastloss_expression_decoder_inputs *inputs = &call->inputs;
    fastloss_expression_decoder_gradients *gradients = &call->gradients;
    memset(call, 0, sizeof *call);
    decoder->size = sizeof *decoder;
    decoder->nonzero_form = FASTLOSS_NONZERO_PROBABILITIES;
    decoder->when_empty = FASTLOSS_EMPTY_NAN;
    inputs->size = sizeof *inputs;
    gradients->size = sizeof *gradients;
    gradients->scale = 1;
    gradients->update = FASTLOSS_UPDATE_OVERWRITE;

    element element;
    if (!read_states(read, given[0], inputs, &decoder->width, &element)) return false;
    const int64_t cells = inputs->cells, tokens = inputs->tokens, width = decoder->width;
    decoder->batch_embeddings = given[1] != Py_None;
    if (decoder->batch_embeddings) {
        if (!read_batches(read, given + 1, cells, width, &call->batches)) return false;
        const output *embeddings = &call->batches.embeddings;
        inputs->batch_embeddings = (fastloss_view){embeddings->matrix.data, embeddings->matrix.stride};
        inputs->batch_embeddings_type = embeddings->type;
        inputs->batch_count = embeddings->matrix.rows;
        inputs->batch_labels = call->batches.labels.data;
    }
    if (!read_mask(read, given[3], cells, tokens, &inputs->mask)) return false;
    if (!read_targets(read, given + 4, cells, tokens, &call->targets)) return false;
    decoder->explicit_zeros = is_tuple(given[7], 2 * PERCEPTRON);
    const Py_ssize_t count = decoder->explicit_zeros ? 2 * PERCEPTRON : PERCEPTRON;
    if (!is_tuple(given[7], count)) return false;
    if (!read_perceptrons(read, given[7], 0, decoder, false, &decoder->fc, &decoder->zero_logit))
        return false;
    call->has_gradients = given[8] != Py_None;
    if (!call->has_gradients) return true;
    if (!is_tuple(given[8], 2 + count)) return false;
    PyObject *states = PyTuple_GetItem(given[8], 0), *batches = PyTuple_GetItem(given[8], 1);
    if (states != Py_None) {
        array array;
        if (!read(states, &array) || array.element != element || !array.is_writable) return false;
        if (array.dimensions != 3 || array.shape[0] != cells || array.shape[1] != tokens) return false;
        if (array.shape[2] != width || !is_contiguous(&array)) return false;
        gradients->states = array.data;
        gradients->states_token_stride = width;
        gradients->states_cell_stride = tokens * width;
    }
    if (batches != Py_None && !decoder->batch_embeddings) return false;
    return read_place(read, batches, &call->batches.embeddings, &gradients->batch_embeddings)
        && read_perceptrons(read, given[8], 2, decoder, true, &gradients->fc, &gradients->zero_logit);
}

/// Workspace, states, batch embeddings or None, batch labels or None (the cell's number), mask, targets, both
/// factors, 6 or 12 parameters, gradients (of states, batch embeddings, parameters) or None.
FUNCTION(expression_decoder, 10) {
    fastloss_workspace *workspace;
    expression call;
    if (!read_workspace(given[0], &workspace)) Py_RETURN_NONE;
    const bool is_read = read_expression(read, given + 1, &call);
    fastloss_decoder_losses losses = FASTLOSS_DECODER_LOSSES;
    fastloss_status status = FASTLOSS_OK;
    if (is_read) {
        CALL(
            status,
            expression_decoder_loss(
                &call.decoder, &call.inputs, &call.targets, call.has_gradients ? &call.gradients : NULL,
                workspace, &losses));
    }
    release_batches(&call.batches);
    if (!is_read) Py_RETURN_NONE;
    return decoder_result(status, &losses);
}

// -----------------------------------------------------------------------------------------------------------
// The decoder of expression values from the cell embedding
// -----------------------------------------------------------------------------------------------------------

enum { QUERY, ANSWER = 2, ZERO_ANSWER = 3, HIDDEN = 5, MASKED_VALUE = 10 };

_Static_assert(
    offsetof(fastloss_masked_value_decoder, fc2) + sizeof(fastloss_layer)
            - offsetof(fastloss_masked_value_decoder, gene2query)
        == MASKED_VALUE * sizeof(float *),
    "the pointers of the decoder follow each other");
_Static_assert(
    offsetof(fastloss_masked_value_gradients, fc2) + sizeof(fastloss_layer_gradient)
            - offsetof(fastloss_masked_value_gradients, gene2query)
        == MASKED_VALUE * sizeof(float *),
    "the pointers of the gradients follow each other");

/// The parameters that the style has, or their gradients.
static bool read_answers(
    reader *read, PyObject *tuple, Py_ssize_t first, const fastloss_masked_value_decoder *decoder,
    bool are_written, void *pointers) {
    const int64_t width = decoder->width, hidden = decoder->hidden_width;
    const int64_t answer = decoder->batch_embeddings ? 2 * width : width;
    const bool is_product = decoder->style <= FASTLOSS_QUERY_INNER_PRODUCT_DETACHED;
    const bool is_concat = decoder->style == FASTLOSS_QUERY_CONCAT;
    const int64_t query = is_concat ? hidden : width;
    const parameter_shape shapes[MASKED_VALUE] = {
        {query, width},   {query, VECTOR},  {answer, width},
        {answer, width},  {answer, VECTOR}, {hidden, is_concat ? width + hidden : width},
        {hidden, VECTOR}, {1, VECTOR},      {1, hidden},
        {1, VECTOR}};
    float **places = pointers;
    const int ends[2][2] = {
        {QUERY, is_product ? (decoder->explicit_zeros ? HIDDEN : ZERO_ANSWER) : ANSWER},
        {HIDDEN, is_product ? HIDDEN : MASKED_VALUE}};
    for (int part = 0; part < 2; part++) {
        const int from = ends[part][0], to = ends[part][1];
        if (!read_parameters(
                read, tuple, first + from, shapes + from, to - from, are_written, places + from)) {
            return false;
        }
    }
    return true;
}

/// Rows of the genes' embeddings. `copy` is freed by the caller.
static bool read_genes(reader *read, PyObject *object, fastloss_masked_value_inputs *inputs, int32_t **copy) {
    if (object == Py_None) {
        inputs->tokens = inputs->gene_count;
        inputs->genes = *copy = new_range(inputs->tokens);
        return *copy;
    }
    array array;
    if (!read(object, &array) || array.dimensions != 2 || array.shape[0] != inputs->cells) return false;
    if (!is_contiguous(&array)) return false;
    inputs->tokens = inputs->genes_stride = array.shape[1];
    inputs->genes = array.data;
    if (array.element == INT32) return true;
    if (array.element != INT64) return false;
    const int64_t count = array.shape[0] * array.shape[1];
    inputs->genes = *copy = PyMem_Malloc((size_t)(count ? count : 1) * sizeof **copy);
    for (int64_t index = 0; *copy && index < count; index++) {
        // Numbers beyond int32 must stay out of range instead of wrapping around.
        const int64_t gene = ((const int64_t *)array.data)[index];
        (*copy)[index] = (int32_t)(gene < INT32_MIN ? INT32_MIN : gene > INT32_MAX ? INT32_MAX : gene);
    }
    return *copy;
}

typedef struct {
    fastloss_masked_value_decoder decoder;
    fastloss_masked_value_inputs inputs;
    fastloss_decoder_targets targets;
    fastloss_masked_value_gradients gradients;
    bool has_gradients;
    int32_t *genes;
    batches batches;
} masked_value;

static bool read_masked_value(reader *read, PyObject *const *given, masked_value *call) {
    fastloss_masked_value_decoder *decoder = &call->decoder;
    fastloss_masked_value_inputs *inputs = &call->inputs;
    fastloss_masked_value_gradients *gradients = &call->gradients;
    memset(call, 0, sizeof *call);
    decoder->size = sizeof *decoder;
    decoder->nonzero_form = FASTLOSS_NONZERO_PROBABILITIES;
    decoder->when_empty = FASTLOSS_EMPTY_NAN;
    inputs->size = sizeof *inputs;
    gradients->size = sizeof *gradients;
    gradients->scale = 1;
    gradients->update = FASTLOSS_UPDATE_OVERWRITE;

    if (!PyLong_CheckExact(given[0]) || !is_tuple(given[10], MASKED_VALUE)) return false;
    int overflow;
    const long style = PyLong_AsLongAndOverflow(given[0], &overflow);
    if (style < FASTLOSS_QUERY_INNER_PRODUCT || style > FASTLOSS_QUERY_SUM) return false;
    decoder->style = (fastloss_query_style)style;
    output cell, genes;
    if (!read_output(read, given[2], -1, -1, &genes)) return false;
    const int64_t width = genes.matrix.columns;
    if (!read_output(read, given[1], -1, width, &cell)) return false;
    const int64_t cells = cell.matrix.rows;
    decoder->width = width;
    decoder->batch_embeddings = given[3] != Py_None;
    if (decoder->batch_embeddings) {
        if (!read_batches(read, given + 3, cells, width, &call->batches)) return false;
        const output *embeddings = &call->batches.embeddings;
        inputs->batch_embeddings = (fastloss_view){embeddings->matrix.data, embeddings->matrix.stride};
        inputs->batch_embeddings_type = embeddings->type;
        inputs->batch_count = embeddings->matrix.rows;
        inputs->batch_labels = call->batches.labels.data;
    }
    decoder->explicit_zeros = PyTuple_GetItem(given[10], ZERO_ANSWER) != Py_None;
    if (style > FASTLOSS_QUERY_INNER_PRODUCT_DETACHED) {
        matrix hidden;
        if (!read_view(read, PyTuple_GetItem(given[10], HIDDEN), FLOAT32, -1, -1, &hidden)) return false;
        decoder->hidden_width = hidden.rows;
    }
    if (!read_answers(read, given[10], 0, decoder, false, &decoder->gene2query)) return false;

    inputs->cells = cells;
    inputs->gene_count = genes.matrix.rows;
    inputs->cell_embeddings = (fastloss_view){cell.matrix.data, cell.matrix.stride};
    inputs->cell_embeddings_type = cell.type;
    inputs->gene_embeddings = (fastloss_view){genes.matrix.data, genes.matrix.stride};
    inputs->gene_embeddings_type = genes.type;
    call->has_gradients = given[11] != Py_None;
    if (call->has_gradients) {
        if (!is_tuple(given[11], 3 + MASKED_VALUE)) return false;
        PyObject *of_batches = PyTuple_GetItem(given[11], 2);
        if (of_batches != Py_None && !decoder->batch_embeddings) return false;
        if (!read_place(read, PyTuple_GetItem(given[11], 0), &cell, &gradients->cell_embeddings)
            || !read_place(read, PyTuple_GetItem(given[11], 1), &genes, &gradients->gene_embeddings)
            || !read_place(read, of_batches, &call->batches.embeddings, &gradients->batch_embeddings)
            || !read_answers(read, given[11], 3, decoder, true, &gradients->gene2query)) {
            return false;
        }
    }
    return read_genes(read, given[5], inputs, &call->genes)
        && read_mask(read, given[6], cells, inputs->tokens, &inputs->mask)
        && read_targets(read, given + 7, cells, inputs->tokens, &call->targets);
}

/// Workspace, style, cell embeddings, gene embeddings, batch embeddings or None, batch labels or None (the
/// cell's number), genes or None (the token's number), mask, targets, both factors, 10 parameters, gradients
/// (of cell, gene and batch embeddings, parameters) or None.
FUNCTION(masked_value_decoder, 13) {
    fastloss_workspace *workspace;
    masked_value call;
    if (!read_workspace(given[0], &workspace)) Py_RETURN_NONE;
    const bool is_read = read_masked_value(read, given + 1, &call);
    fastloss_decoder_losses losses = FASTLOSS_DECODER_LOSSES;
    fastloss_status status = FASTLOSS_OK;
    if (is_read) {
        CALL(
            status,
            masked_value_decoder_loss(
                &call.decoder, &call.inputs, &call.targets, call.has_gradients ? &call.gradients : NULL,
                workspace, &losses));
    }
    PyMem_Free(call.genes);
    release_batches(&call.batches);
    if (!is_read) Py_RETURN_NONE;
    return decoder_result(status, &losses);
}

// -----------------------------------------------------------------------------------------------------------
// Classifiers of cell embeddings
// -----------------------------------------------------------------------------------------------------------

enum { BLOCK = sizeof(fastloss_classifier_block) / sizeof(float *), OUT_LAYER = 2 };

typedef struct {
    fastloss_classifier classifier;
    fastloss_classifier_block blocks[FASTLOSS_CLASSIFIER_BLOCK_CAPACITY];
    fastloss_classifier_gradients gradients;
    fastloss_classifier_block_gradient block_gradients[FASTLOSS_CLASSIFIER_BLOCK_CAPACITY];
    bool has_gradients;
} classifier;

/// The parameters of all layers, or their gradients.
static bool read_layers(
    reader *read, PyObject *tuple, Py_ssize_t first, const fastloss_classifier *classifier, bool are_written,
    void *blocks, void *out_layer) {
    const int64_t width = classifier->width;
    const parameter_shape shapes[BLOCK] = {{width, width}, {width, VECTOR}, {width, VECTOR}, {width, VECTOR}};
    const parameter_shape last[OUT_LAYER] = {{classifier->classes, width}, {classifier->classes, VECTOR}};
    float **pointers = blocks;
    for (int64_t block = 0; block < classifier->block_count; block++) {
        if (!read_parameters(read, tuple, first, shapes, BLOCK, are_written, pointers)) return false;
        first += BLOCK;
        pointers += BLOCK;
    }
    return read_parameters(read, tuple, first, last, OUT_LAYER, are_written, out_layer);
}

/// Embeddings, 4 parameters for each block and 2 for the last layer, gradients.
static bool read_classifier(
    reader *read, PyObject *const *given, const output *embeddings, classifier *call) {
    fastloss_classifier *classifier = &call->classifier;
    fastloss_classifier_gradients *gradients = &call->gradients;
    memset(call, 0, sizeof *call);
    if (!PyTuple_Check(given[0])) return false;
    const Py_ssize_t count = PyTuple_Size(given[0]), in_blocks = count - OUT_LAYER;
    if (in_blocks < 0 || in_blocks % BLOCK || in_blocks / BLOCK > FASTLOSS_CLASSIFIER_BLOCK_CAPACITY) {
        return false;
    }
    matrix last;
    if (!read_view(read, PyTuple_GetItem(given[0], in_blocks), FLOAT32, -1, -1, &last)) return false;
    *classifier = (fastloss_classifier){
        .size = sizeof *classifier,
        .width = embeddings->matrix.columns,
        .classes = last.rows,
        .block_count = in_blocks / BLOCK,
        .blocks = call->blocks,
        .cell_embeddings_type = embeddings->type};
    if (!read_layers(read, given[0], 0, classifier, false, call->blocks, &classifier->out_layer))
        return false;
    *gradients = (fastloss_classifier_gradients){
        .size = sizeof *gradients, .scale = 1, .blocks = call->block_gradients};
    call->has_gradients = given[1] != Py_None;
    if (!call->has_gradients) return true;
    return is_tuple(given[1], 1 + count)
        && read_place(read, PyTuple_GetItem(given[1], 0), embeddings, &gradients->cell_embeddings)
        && read_layers(read, given[1], 1, classifier, true, call->block_gradients, &gradients->out_layer);
}

/// Workspace, cell embeddings, labels, parameters, gradients (of cell embeddings, parameters) or None.
FUNCTION(cell_type_decoder, 5) {
    fastloss_workspace *workspace;
    output embeddings;
    classifier call;
    labels labels;
    if (!read_workspace(given[0], &workspace)) Py_RETURN_NONE;
    if (!read_output(read, given[1], -1, -1, &embeddings)) Py_RETURN_NONE;
    if (!read_classifier(read, given + 3, &embeddings, &call)) Py_RETURN_NONE;
    if (!read_labels(read, given[2], embeddings.matrix.rows, &labels)) Py_RETURN_NONE;
    fastloss_cross_entropy_options options = FASTLOSS_CROSS_ENTROPY_OPTIONS;
    options.when_empty = FASTLOSS_EMPTY_NAN;
    fastloss_loss_value loss;
    fastloss_status status;
    CALL(
        status,
        cell_type_decoder_loss(
            &call.classifier, embeddings.matrix.rows, embeddings.matrix.data, embeddings.matrix.stride,
            labels.data, &options, call.has_gradients ? &call.gradients : NULL, workspace, &loss));
    release_labels(&labels);
    return loss_result(status, &loss);
}

/// As `cell_type_decoder`; before the gradients, λ: the gradient of the embeddings is −λ times that of the
/// loss.
FUNCTION(adversarial_discriminator, 6) {
    fastloss_workspace *workspace;
    output embeddings;
    classifier call;
    labels labels;
    fastloss_domain_adversarial_options options = FASTLOSS_DOMAIN_ADVERSARIAL_OPTIONS;
    options.when_empty = FASTLOSS_EMPTY_NAN;
    if (!read_workspace(given[0], &workspace)) Py_RETURN_NONE;
    if (!read_float(given[5], &options.lambda)) Py_RETURN_NONE;
    if (!read_output(read, given[1], -1, -1, &embeddings)) Py_RETURN_NONE;
    if (!read_classifier(read, given + 3, &embeddings, &call)) Py_RETURN_NONE;
    if (!read_labels(read, given[2], embeddings.matrix.rows, &labels)) Py_RETURN_NONE;
    fastloss_loss_value loss;
    fastloss_status status;
    CALL(
        status,
        adversarial_discriminator_loss(
            &call.classifier, embeddings.matrix.rows, embeddings.matrix.data, embeddings.matrix.stride,
            labels.data, &options, call.has_gradients ? &call.gradients : NULL, workspace, &loss));
    release_labels(&labels);
    return loss_result(status, &loss);
}

// -----------------------------------------------------------------------------------------------------------
// The table
// -----------------------------------------------------------------------------------------------------------

PyMethodDef head_functions[] = {
    METHOD(
        expression_decoder,
        "($module, workspace, states, batch_embeddings, batch_labels, mask, targets, mse_weight, "
        "nzlp_weight, "
        "parameters, gradients, /)",
        "The losses of the decoder from token states. Returns both, the relative error, and the number of "
        "selected tokens."),
    METHOD(
        masked_value_decoder,
        "($module, workspace, style, cell_embeddings, gene_embeddings, batch_embeddings, batch_labels, "
        "genes, "
        "mask, targets, mse_weight, nzlp_weight, parameters, gradients, /)",
        "The losses of the decoder from cell embeddings. Returns both, the relative error, and the number of "
        "selected tokens."),
    METHOD(
        cell_type_decoder, "($module, workspace, embeddings, labels, parameters, gradients, /)",
        "The cross-entropy of the decoder of cell types."),
    METHOD(
        adversarial_discriminator,
        "($module, workspace, embeddings, labels, parameters, gradients, lambd, /)",
        "The cross-entropy of the discriminator of batches behind a gradient reversal."),
    {NULL, NULL, 0, NULL},
};
