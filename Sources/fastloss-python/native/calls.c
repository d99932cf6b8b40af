// The losses as Python functions of positional arguments.
//
// Each function reads its arguments in place, calls libfastloss without the GIL, and returns
//
// - its result, or True;
// - None, before it writes anything, if an argument is not exactly what it reads. The package then converts
//   the argument, or raises the error that describes it;
// - the status of the call, an int, if libfastloss refuses the arguments.

#include "arguments.h"

#include <float.h>
#include <stddef.h>
#include <string.h>

#include "openmp.h"

/// The parameters of a matrix, and of its shape.
#define MATRIX(matrix) (matrix).data, (matrix).stride
#define SHAPE(matrix) (matrix).rows, (matrix).columns

/// The functions of this module read tensors, all others read NumPy arrays.
static PyObject *torch_module;

reader *reader_of(PyObject *module) { return module == torch_module ? read_tensor : read_ndarray; }

// -----------------------------------------------------------------------------------------------------------
// Arguments. Each returns false, with no exception set, for an object that it does not read.
// -----------------------------------------------------------------------------------------------------------

bool read_workspace(PyObject *object, fastloss_workspace **workspace) {
    *workspace = NULL;
    if (object == Py_None) return true;
    *workspace = PyLong_AsVoidPtr(object);
    if (!*workspace) PyErr_Clear();
    return *workspace;
}

bool read_float(PyObject *object, float *number) {
    if (!PyFloat_CheckExact(object)) return false;
    const double value = PyFloat_AsDouble(object);
    *number = (float)value;
    return -FLT_MAX <= value && value <= FLT_MAX;
}

static bool read_int32(PyObject *object, int32_t *number) {
    if (!PyLong_CheckExact(object)) return false;
    int overflow;
    const long value = PyLong_AsLongAndOverflow(object, &overflow);
    *number = (int32_t)value;
    return !overflow && *number == value;
}

static bool read_update(PyObject *object, fastloss_update *update) {
    *update = object == Py_True ? FASTLOSS_UPDATE_ACCUMULATE : FASTLOSS_UPDATE_OVERWRITE;
    return object == Py_True || object == Py_False;
}

/// True for a certificate where it saves time, False for none.
static bool read_certificate(PyObject *object, fastloss_certificate *certificate) {
    *certificate = object == Py_True ? FASTLOSS_CERTIFICATE_AUTOMATIC : FASTLOSS_CERTIFICATE_NEVER;
    return object == Py_True || object == Py_False;
}

/// The index of a word in a list that ends with NULL.
static bool read_word(PyObject *object, const char *const *words, int32_t *index) {
    if (!PyUnicode_CheckExact(object)) return false;
    for (*index = 0; words[*index]; ++*index) {
        if (PyUnicode_CompareWithASCIIString(object, words[*index]) == 0) return true;
    }
    return false;
}

static bool read_reduction(PyObject *object, fastloss_reduction *reduction) {
    static const char *const words[] = {
        [FASTLOSS_REDUCTION_MEAN] = "mean", [FASTLOSS_REDUCTION_SUM] = "sum", NULL};
    return read_word(object, words, reduction);
}

static bool read_empty_rule(PyObject *object, fastloss_empty_rule *rule) {
    static const char *const words[] = {
        [FASTLOSS_EMPTY_ERROR] = "error", [FASTLOSS_EMPTY_ZERO] = "zero", [FASTLOSS_EMPTY_NAN] = "nan", NULL};
    return read_word(object, words, rule);
}

/// An array and the matrix that the library takes it for.
typedef struct {
    array array;
    matrix matrix;
} operand;

static bool read_operand(reader *read, form *as, PyObject *object, element element, operand *operand) {
    return read(object, &operand->array) && operand->array.element == element
        && as(&operand->array, &operand->matrix);
}

bool read_type(const array *array, fastloss_element_type *type) {
    switch (array->element) {
    case FLOAT32: *type = FASTLOSS_ELEMENT_FLOAT32; return true;
    case BFLOAT16: *type = FASTLOSS_ELEMENT_BFLOAT16; return true;
    case FLOAT16: *type = FASTLOSS_ELEMENT_FLOAT16; return true;
    default: return false;
    }
}

/// An output of the model.
static bool read_output(
    reader *read, form *as, PyObject *object, fastloss_element_type *type, operand *operand) {
    return read(object, &operand->array) && as(&operand->array, &operand->matrix)
        && read_type(&operand->array, type);
}

/// Tensors must have the same shape; of NumPy arrays, a vector and a matrix of one row agree.
static bool same_shape(const operand *first, const operand *second) {
    const array *a = &first->array, *b = &second->array;
    if (a->is_tensor) {
        return a->dimensions == b->dimensions
            && !memcmp(a->shape, b->shape, (size_t)a->dimensions * sizeof *a->shape);
    }
    return first->matrix.rows == second->matrix.rows && first->matrix.columns == second->matrix.columns;
}

/// A gradient, and where the library finds it: NULL if it is not wanted.
typedef struct {
    fastloss_gradient memory;
    const fastloss_gradient *address;
} gradient;

/// A writable array of the shape and element type of `like`, or None; `scale` has the factor, and whether to
/// accumulate.
static bool read_gradient(
    reader *read, form *as, PyObject *object, PyObject *const *scale, const operand *like,
    gradient *gradient) {
    fastloss_gradient *memory = &gradient->memory;
    *memory = (fastloss_gradient){.size = sizeof *memory};
    gradient->address = NULL;
    if (!read_float(scale[0], &memory->scale) || !read_update(scale[1], &memory->update)) return false;
    if (object == Py_None) return true;
    operand place;
    if (!read_operand(read, as, object, like->array.element, &place)) return false;
    memory->data = place.matrix.data;
    memory->stride = place.matrix.stride;
    gradient->address = memory;
    return place.array.is_writable && same_shape(&place, like);
}

bool read_labels(reader *read, PyObject *object, int64_t count, labels *labels) {
    array array;
    if (!read(object, &array) || array.dimensions != 1 || array.shape[0] != count) return false;
    if (!is_contiguous(&array)) return false;
    labels->copy = NULL;
    labels->data = array.data;
    if (array.element == INT32) return true;
    if (array.element != INT64) return false;
    labels->data = labels->copy = PyMem_Malloc((size_t)count * sizeof *labels->copy);
    for (int64_t row = 0; labels->copy && row < count; row++) {
        // Labels beyond int32 must stay out of range instead of wrapping around.
        const int64_t label = ((const int64_t *)array.data)[row];
        labels->copy[row] = (int32_t)(label < INT32_MIN ? INT32_MIN : label > INT32_MAX ? INT32_MAX : label);
    }
    return labels->copy;
}

void release_labels(labels *labels) { PyMem_Free(labels->copy); }

// -----------------------------------------------------------------------------------------------------------
// Results
// -----------------------------------------------------------------------------------------------------------

PyObject *loss_result(fastloss_status status, const fastloss_loss_value *loss) {
    if (status) return PyLong_FromLong(status);
    PyObject *result = PyTuple_New(2);
    if (!result) return NULL;
    PyTuple_SetItem(result, 0, PyFloat_FromDouble(loss->value));
    PyTuple_SetItem(result, 1, PyLong_FromLongLong(loss->selected_count));
    return result;
}

/// True, for a function whose results are arrays.
static PyObject *plain_result(fastloss_status status) {
    return status ? PyLong_FromLong(status) : PyBool_FromLong(true);
}

// -----------------------------------------------------------------------------------------------------------
// Masked value losses
// -----------------------------------------------------------------------------------------------------------

typedef struct masked {
    fastloss_workspace *workspace;
    operand predictions, targets, mask;
    fastloss_masked_options options;
} masked;

/// Workspace, predictions, targets, mask or None, reduction, rule for an empty mask.
static bool read_masked(reader *read, PyObject *const *given, masked *masked) {
    *masked = (struct masked){.options.size = sizeof masked->options};
    if (!read_workspace(given[0], &masked->workspace)) return false;
    fastloss_element_type *const type = &masked->options.predictions;
    if (!read_output(read, as_values, given[1], type, &masked->predictions)) return false;
    if (!read_operand(read, as_values, given[2], FLOAT32, &masked->targets)) return false;
    if (!same_shape(&masked->targets, &masked->predictions)) return false;
    if (given[3] != Py_None) {
        if (!read_operand(read, as_values, given[3], BOOL, &masked->mask)) return false;
        if (!same_shape(&masked->mask, &masked->predictions)) return false;
    }
    return read_reduction(given[4], &masked->options.reduction)
        && read_empty_rule(given[5], &masked->options.when_empty);
}

/// The parameters that the functions of all masked losses begin with.
#define MASKED(a)                                                                              \
    SHAPE((a).predictions.matrix), MATRIX((a).predictions.matrix), MATRIX((a).targets.matrix), \
        MATRIX((a).mask.matrix), &(a).options

/// After the arguments of `read_masked`: gradient or None, scale, accumulate.
#define MASKED_LOSS(name)                                                                      \
    FUNCTION(name, 9) {                                                                        \
        masked a;                                                                              \
        gradient gradient;                                                                     \
        if (!read_masked(read, given, &a)) Py_RETURN_NONE;                                     \
        if (!read_gradient(read, as_values, given[6], given + 7, &a.predictions, &gradient)) { \
            Py_RETURN_NONE;                                                                    \
        }                                                                                      \
        fastloss_loss_value loss;                                                              \
        fastloss_status status;                                                                \
        CALL(status, name(MASKED(a), gradient.address, a.workspace, &loss));                   \
        return loss_result(status, &loss);                                                     \
    }

MASKED_LOSS(masked_mse)
MASKED_LOSS(bernoulli_nll)
MASKED_LOSS(bernoulli_nll_logits)

/// The memory for one value per row.
static float *read_cells(reader *read, PyObject *object, const masked *masked) {
    array cells;
    if (!read(object, &cells) || cells.element != FLOAT32 || !cells.is_writable) return NULL;
    if (cells.dimensions != 1 || cells.shape[0] != masked->predictions.matrix.rows) return NULL;
    return is_contiguous(&cells) ? cells.data : NULL;
}

/// After the arguments of `MASKED_LOSS`: an array for one value per row. Returns True.
#define MASKED_LOSS_PER_CELL(name)                                                             \
    FUNCTION(name, 10) {                                                                       \
        masked a;                                                                              \
        gradient gradient;                                                                     \
        if (!read_masked(read, given, &a)) Py_RETURN_NONE;                                     \
        if (!read_gradient(read, as_values, given[6], given + 7, &a.predictions, &gradient)) { \
            Py_RETURN_NONE;                                                                    \
        }                                                                                      \
        float *cells = read_cells(read, given[9], &a);                                         \
        if (!cells) Py_RETURN_NONE;                                                            \
        fastloss_status status;                                                                \
        CALL(status, name(MASKED(a), gradient.address, a.workspace, cells, NULL));             \
        return plain_result(status);                                                           \
    }

MASKED_LOSS_PER_CELL(masked_mse_per_cell)
MASKED_LOSS_PER_CELL(bernoulli_nll_per_cell)
MASKED_LOSS_PER_CELL(bernoulli_nll_logits_per_cell)

/// The arguments of `read_masked`.
FUNCTION(masked_relative_error, 6) {
    masked a;
    if (!read_masked(read, given, &a)) Py_RETURN_NONE;
    fastloss_loss_value loss;
    fastloss_status status;
    CALL(status, masked_relative_error(MASKED(a), a.workspace, &loss));
    return loss_result(status, &loss);
}

/// After the arguments of `read_masked`: an array for one value per row. Returns True.
FUNCTION(masked_relative_error_per_cell, 7) {
    masked a;
    if (!read_masked(read, given, &a)) Py_RETURN_NONE;
    float *cells = read_cells(read, given[6], &a);
    if (!cells) Py_RETURN_NONE;
    fastloss_status status;
    CALL(status, masked_relative_error_per_cell(MASKED(a), a.workspace, cells, NULL));
    return plain_result(status);
}

// -----------------------------------------------------------------------------------------------------------
// Classification
// -----------------------------------------------------------------------------------------------------------

/// Workspace, logits, labels, ignored label, reduction, rule, gradient or None, scale, accumulate.
FUNCTION(cross_entropy, 9) {
    fastloss_workspace *workspace;
    operand logits;
    gradient gradient;
    labels labels;
    fastloss_cross_entropy_options options = {.size = sizeof options};
    if (!read_workspace(given[0], &workspace)) Py_RETURN_NONE;
    if (!read_output(read, as_matrix, given[1], &options.logits, &logits)) Py_RETURN_NONE;
    if (!read_int32(given[3], &options.ignored_label)) Py_RETURN_NONE;
    if (!read_reduction(given[4], &options.reduction)) Py_RETURN_NONE;
    if (!read_empty_rule(given[5], &options.when_empty)) Py_RETURN_NONE;
    if (!read_gradient(read, as_matrix, given[6], given + 7, &logits, &gradient)) Py_RETURN_NONE;
    if (!read_labels(read, given[2], logits.matrix.rows, &labels)) Py_RETURN_NONE;
    fastloss_loss_value loss;
    fastloss_status status;
    CALL(
        status,
        cross_entropy(
            SHAPE(logits.matrix), MATRIX(logits.matrix), labels.data, &options, gradient.address, workspace,
            &loss));
    release_labels(&labels);
    return loss_result(status, &loss);
}

/// Workspace, logits, labels, ignored label, reduction, rule, λ, the discriminator's gradient or None, the
/// embedding's or None, scale, accumulate.
FUNCTION(domain_adversarial, 11) {
    fastloss_workspace *workspace;
    operand logits;
    gradient own, reversed;
    labels labels;
    fastloss_domain_adversarial_options options = {.size = sizeof options};
    if (!read_workspace(given[0], &workspace)) Py_RETURN_NONE;
    if (!read_output(read, as_matrix, given[1], &options.logits, &logits)) Py_RETURN_NONE;
    if (!read_int32(given[3], &options.ignored_label)) Py_RETURN_NONE;
    if (!read_reduction(given[4], &options.reduction)) Py_RETURN_NONE;
    if (!read_empty_rule(given[5], &options.when_empty)) Py_RETURN_NONE;
    if (!read_float(given[6], &options.lambda)) Py_RETURN_NONE;
    if (!read_gradient(read, as_matrix, given[7], given + 9, &logits, &own)) Py_RETURN_NONE;
    if (!read_gradient(read, as_matrix, given[8], given + 9, &logits, &reversed)) Py_RETURN_NONE;
    if (!read_labels(read, given[2], logits.matrix.rows, &labels)) Py_RETURN_NONE;
    fastloss_loss_value loss;
    fastloss_status status;
    CALL(
        status,
        domain_adversarial(
            SHAPE(logits.matrix), MATRIX(logits.matrix), labels.data, &options, own.address, reversed.address,
            workspace, &loss));
    release_labels(&labels);
    return loss_result(status, &loss);
}

/// Workspace, gradient, λ, the reversed gradient, scale, accumulate. Returns True.
FUNCTION(gradient_reversal, 6) {
    fastloss_workspace *workspace;
    operand arriving;
    gradient reversed;
    float lambda;
    if (!read_workspace(given[0], &workspace)) Py_RETURN_NONE;
    if (!read_operand(read, as_matrix, given[1], FLOAT32, &arriving)) Py_RETURN_NONE;
    if (!read_float(given[2], &lambda)) Py_RETURN_NONE;
    if (!read_gradient(read, as_matrix, given[3], given + 4, &arriving, &reversed)) Py_RETURN_NONE;
    fastloss_status status;
    CALL(
        status,
        gradient_reversal(
            SHAPE(arriving.matrix), MATRIX(arriving.matrix), lambda, reversed.address, workspace));
    return plain_result(status);
}

// -----------------------------------------------------------------------------------------------------------
// Cell embeddings
// -----------------------------------------------------------------------------------------------------------

/// Workspace, embeddings, threshold, rule, whether signs are certified, gradient or None, scale, accumulate.
/// Returns the value, the number of rows, and the number of pairs that were summed in closed form.
FUNCTION(elastic_cell_similarity, 8) {
    fastloss_workspace *workspace;
    operand embeddings;
    gradient gradient;
    int64_t pairs = 0;
    fastloss_elastic_options options = {.size = sizeof options, .certified_pairs = &pairs};
    if (!read_workspace(given[0], &workspace)) Py_RETURN_NONE;
    if (!read_output(read, as_matrix, given[1], &options.embeddings, &embeddings)) Py_RETURN_NONE;
    if (!read_float(given[2], &options.threshold)) Py_RETURN_NONE;
    if (!read_empty_rule(given[3], &options.when_empty)) Py_RETURN_NONE;
    if (!read_certificate(given[4], &options.certificate)) Py_RETURN_NONE;
    if (!read_gradient(read, as_matrix, given[5], given + 6, &embeddings, &gradient)) Py_RETURN_NONE;
    fastloss_loss_value loss;
    fastloss_status status;
    CALL(
        status,
        elastic_cell_similarity(
            SHAPE(embeddings.matrix), MATRIX(embeddings.matrix), &options, gradient.address, workspace,
            &loss));
    if (status) return PyLong_FromLong(status);
    PyObject *result = PyTuple_New(3);
    if (!result) return NULL;
    PyTuple_SetItem(result, 0, PyFloat_FromDouble(loss.value));
    PyTuple_SetItem(result, 1, PyLong_FromLongLong(loss.selected_count));
    PyTuple_SetItem(result, 2, PyLong_FromLongLong(pairs));
    return result;
}

/// Workspace, first, second, temperature, rule, the first's gradient or None, the second's or None, scale,
/// accumulate.
FUNCTION(contrastive_cell_embedding, 9) {
    fastloss_workspace *workspace;
    operand first, second;
    gradient of_first, of_second;
    fastloss_contrastive_options options = {.size = sizeof options};
    if (!read_workspace(given[0], &workspace)) Py_RETURN_NONE;
    if (!read_output(read, as_matrix, given[1], &options.embeddings, &first)) Py_RETURN_NONE;
    if (!read_operand(read, as_matrix, given[2], first.array.element, &second)) Py_RETURN_NONE;
    if (!same_shape(&second, &first)) Py_RETURN_NONE;
    if (!read_float(given[3], &options.temperature)) Py_RETURN_NONE;
    if (!read_empty_rule(given[4], &options.when_empty)) Py_RETURN_NONE;
    if (!read_gradient(read, as_matrix, given[5], given + 7, &first, &of_first)) Py_RETURN_NONE;
    if (!read_gradient(read, as_matrix, given[6], given + 7, &second, &of_second)) Py_RETURN_NONE;
    fastloss_loss_value loss;
    fastloss_status status;
    CALL(
        status,
        contrastive_cell_embedding(
            SHAPE(first.matrix), MATRIX(first.matrix), MATRIX(second.matrix), &options, of_first.address,
            of_second.address, workspace, &loss));
    return loss_result(status, &loss);
}

/// Workspace, embeddings, the square matrix that receives the similarities. Returns True.
FUNCTION(cosine_similarity, 3) {
    fastloss_workspace *workspace;
    operand embeddings, similarities;
    if (!read_workspace(given[0], &workspace)) Py_RETURN_NONE;
    if (!read_operand(read, as_matrix, given[1], FLOAT32, &embeddings)) Py_RETURN_NONE;
    if (!read_operand(read, as_matrix, given[2], FLOAT32, &similarities)) Py_RETURN_NONE;
    if (!similarities.array.is_writable) Py_RETURN_NONE;
    if (similarities.matrix.rows != embeddings.matrix.rows) Py_RETURN_NONE;
    if (similarities.matrix.columns != embeddings.matrix.rows) Py_RETURN_NONE;
    fastloss_status status;
    CALL(
        status,
        cosine_similarity(
            SHAPE(embeddings.matrix), MATRIX(embeddings.matrix), MATRIX(similarities.matrix), workspace));
    return plain_result(status);
}

// -----------------------------------------------------------------------------------------------------------
// The total objective
// -----------------------------------------------------------------------------------------------------------

#define INPUT(name, columns)                                                                     \
    {offsetof(fastloss_objective_inputs, name), offsetof(fastloss_objective_inputs, columns), 0}
#define OUTPUT(name, columns)                                                                 \
    {offsetof(fastloss_objective_inputs, name), offsetof(fastloss_objective_inputs, columns), \
     offsetof(fastloss_objective_inputs, name##_type)}
#define GRADIENT(name, input) {offsetof(fastloss_objective_gradients, name), input}

/// The matrices of the inputs, each with the member that has its number of columns, and, for an output of the
/// model, the one that has its type.
static const struct {
    size_t view, columns, type;
} objective_inputs[] = {
    INPUT(targets, genes),
    INPUT(mask, genes),
    OUTPUT(gene_predictions, genes),
    OUTPUT(gene_nonzero, genes),
    OUTPUT(cell_predictions, genes),
    OUTPUT(cell_nonzero, genes),
    OUTPUT(generated_predictions, genes),
    OUTPUT(cell_embedding, width),
    OUTPUT(second_cell_embedding, width),
    OUTPUT(cell_type_logits, cell_type_count),
    OUTPUT(batch_logits, batch_count),
};

/// The gradients, each with the index of its input.
static const struct {
    size_t view, input;
} objective_gradients[] = {
    GRADIENT(gene_predictions, 2),       GRADIENT(gene_nonzero, 3),          GRADIENT(cell_predictions, 4),
    GRADIENT(cell_nonzero, 5),           GRADIENT(generated_predictions, 6), GRADIENT(cell_embedding, 7),
    GRADIENT(second_cell_embedding, 8),  GRADIENT(cell_type_logits, 9),      GRADIENT(batch_logits, 10),
    GRADIENT(reversed_batch_logits, 10),
};

#define COUNT(array) (sizeof(array) / sizeof *(array))
enum {
    MASK = 1,
    MATRICES = COUNT(objective_inputs),
    INPUTS = MATRICES + 2,
    GRADIENTS = COUNT(objective_gradients)
};

typedef struct {
    fastloss_workspace *workspace;
    const fastloss_objective *objective;
    operand operands[MATRICES];
    labels labels[INPUTS - MATRICES];
    fastloss_objective_inputs inputs;
    fastloss_objective_gradients gradients;
    bool has_gradients;
} step;

static void release_step(step *step) {
    for (int index = 0; index < INPUTS - MATRICES; index++) release_labels(&step->labels[index]);
}

/// The inputs, in the order of `fastloss_objective_inputs`; None for absent ones.
static bool read_objective_inputs(reader *read, PyObject *given, step *step) {
    fastloss_objective_inputs *inputs = &step->inputs;
    *inputs = (fastloss_objective_inputs){.size = sizeof *inputs, .cells = -1};
    bool has_columns[sizeof *inputs] = {false};
    for (int index = 0; index < MATRICES; index++) {
        PyObject *object = PyTuple_GetItem(given, index);
        if (object == Py_None) continue;
        operand *operand = &step->operands[index];
        const size_t type = objective_inputs[index].type;
        const bool done = type
            ? read_output(read, as_matrix, object, (fastloss_element_type *)((char *)inputs + type), operand)
            : read_operand(read, as_matrix, object, index == MASK ? BOOL : FLOAT32, operand);
        if (!done) return false;
        const matrix *matrix = &operand->matrix;
        const size_t member = objective_inputs[index].columns;
        int64_t *columns = (int64_t *)((char *)inputs + member);
        if (inputs->cells >= 0 && matrix->rows != inputs->cells) return false;
        if (has_columns[member] && matrix->columns != *columns) return false;
        inputs->cells = matrix->rows;
        *columns = matrix->columns;
        has_columns[member] = true;
        const fastloss_view view = {matrix->data, matrix->stride};
        memcpy((char *)inputs + objective_inputs[index].view, &view, sizeof view);
    }
    if (inputs->cells < 0) inputs->cells = 0;
    for (int index = MATRICES; index < INPUTS; index++) {
        PyObject *object = PyTuple_GetItem(given, index);
        if (object == Py_None) continue;
        if (!read_labels(read, object, inputs->cells, &step->labels[index - MATRICES])) return false;
    }
    inputs->cell_type_labels = step->labels[0].data;
    inputs->batch_labels = step->labels[1].data;
    return true;
}

/// The gradients, in the order of `fastloss_objective_gradients`; None for those that are not wanted.
static bool read_objective_gradients(reader *read, PyObject *given, PyObject *const *scale, step *step) {
    fastloss_objective_gradients *gradients = &step->gradients;
    *gradients = (fastloss_objective_gradients){.size = sizeof *gradients};
    if (!read_float(scale[0], &gradients->scale) || !read_update(scale[1], &gradients->update)) return false;
    for (int index = 0; index < GRADIENTS; index++) {
        PyObject *object = PyTuple_GetItem(given, index);
        if (object == Py_None) continue;
        operand place;
        const operand *input = &step->operands[objective_gradients[index].input];
        if (input->array.element == OTHER) return false;
        if (!read_operand(read, as_matrix, object, input->array.element, &place)) return false;
        if (!place.array.is_writable || !same_shape(&place, input)) return false;
        const fastloss_mutable_view view = {place.matrix.data, place.matrix.stride};
        memcpy((char *)gradients + objective_gradients[index].view, &view, sizeof view);
        step->has_gradients = true;
    }
    return true;
}

/// Workspace, objective (the bytes of a `fastloss_objective`), inputs, gradients, scale, accumulate.
static bool read_step(reader *read, PyObject *const *given, step *step) {
    memset(step, 0, sizeof *step);
    if (!read_workspace(given[0], &step->workspace)) return false;
    if (!PyBytes_Check(given[1]) || PyBytes_Size(given[1]) != sizeof *step->objective) return false;
    if (!PyTuple_Check(given[2]) || PyTuple_Size(given[2]) != INPUTS) return false;
    if (!PyTuple_Check(given[3]) || PyTuple_Size(given[3]) != GRADIENTS) return false;
    step->objective = (const fastloss_objective *)PyBytes_AsString(given[1]);
    if (read_objective_inputs(read, given[2], step)
        && read_objective_gradients(read, given[3], given + 4, step)) {
        return true;
    }
    release_step(step);
    return false;
}

static fastloss_status run_step(step *step, fastloss_objective_value *value) {
    fastloss_status status;
    *value = (fastloss_objective_value){.size = sizeof *value};
    CALL(
        status,
        total_objective(
            step->objective, &step->inputs, step->has_gradients ? &step->gradients : NULL, step->workspace,
            value));
    release_step(step);
    return status;
}

static PyObject *numbers(const double *values) {
    PyObject *tuple = PyTuple_New(FASTLOSS_TERM_COUNT);
    for (int term = 0; tuple && term < FASTLOSS_TERM_COUNT; term++) {
        PyTuple_SetItem(tuple, term, PyFloat_FromDouble(values[term]));
    }
    return tuple;
}

/// The arguments of `read_step`. Returns total, relative error, number of selected elements, for every term
/// its value, its weighted value and its logged value, and the pairs that ECS summed in closed form.
FUNCTION(total_objective, 6) {
    step step;
    fastloss_objective_value value;
    if (!read_step(read, given, &step)) Py_RETURN_NONE;
    const fastloss_status status = run_step(&step, &value);
    if (status) return PyLong_FromLong(status);
    PyObject *result = PyTuple_New(7);
    if (!result) return NULL;
    PyTuple_SetItem(result, 0, PyFloat_FromDouble(value.total));
    PyTuple_SetItem(result, 1, PyFloat_FromDouble(value.relative_error));
    PyTuple_SetItem(result, 2, PyLong_FromLongLong(value.selected_count));
    PyTuple_SetItem(result, 3, numbers(value.values));
    PyTuple_SetItem(result, 4, numbers(value.weighted));
    PyTuple_SetItem(result, 5, numbers(value.logged));
    PyTuple_SetItem(result, 6, PyLong_FromLongLong(value.certified_pairs));
    return result;
}

/// The arguments of `read_step`, and an array that receives the enabled terms as upstream logs them, and the
/// relative error. Returns the total.
FUNCTION(logged_objective, 7) {
    step step;
    array log;
    fastloss_objective_value value;
    if (!read(given[6], &log) || log.element != FLOAT32 || log.dimensions != 1) Py_RETURN_NONE;
    if (!log.is_writable || !is_contiguous(&log)) Py_RETURN_NONE;
    if (!read_step(read, given, &step)) Py_RETURN_NONE;
    if (log.shape[0] != __builtin_popcount(step.objective->terms) + 1) {
        release_step(&step);
        Py_RETURN_NONE;
    }
    const fastloss_status status = run_step(&step, &value);
    if (status) return PyLong_FromLong(status);
    float *next = log.data;
    for (int term = 0; term < FASTLOSS_TERM_COUNT; term++) {
        if (value.terms >> term & 1) *next++ = (float)value.logged[term];
    }
    *next = (float)value.relative_error;
    return PyFloat_FromDouble(value.total);
}

// -----------------------------------------------------------------------------------------------------------
// The backward pass
// -----------------------------------------------------------------------------------------------------------

/// Whether an array is the single number 1. False for an array that cannot be read.
FUNCTION(is_one, 1) {
    array array;
    const bool is_number = read(given[0], &array) && array.element == FLOAT32 && array.dimensions == 0;
    return PyBool_FromLong(is_number && *(const float *)array.data == 1);
}

// -----------------------------------------------------------------------------------------------------------
// The modules
// -----------------------------------------------------------------------------------------------------------

static PyMethodDef functions[] = {
    METHOD(
        masked_mse,
        "($module, workspace, predictions, targets, mask, reduction, when_empty, gradient, scale, "
        "accumulate, /)",
        "The masked mean squared error."),
    METHOD(
        bernoulli_nll,
        "($module, workspace, predictions, targets, mask, reduction, when_empty, gradient, scale, "
        "accumulate, /)",
        "The negative log-likelihood of a nonzero value, from probabilities."),
    METHOD(
        bernoulli_nll_logits,
        "($module, workspace, predictions, targets, mask, reduction, when_empty, gradient, scale, "
        "accumulate, /)",
        "The negative log-likelihood of a nonzero value, from logits."),
    METHOD(
        masked_relative_error, "($module, workspace, predictions, targets, mask, reduction, when_empty, /)",
        "The masked relative error."),
    METHOD(
        masked_mse_per_cell,
        "($module, workspace, predictions, targets, mask, reduction, when_empty, gradient, scale, "
        "accumulate, cells, /)",
        "As masked_mse, one value per row, written to cells."),
    METHOD(
        bernoulli_nll_per_cell,
        "($module, workspace, predictions, targets, mask, reduction, when_empty, gradient, scale, "
        "accumulate, cells, /)",
        "As bernoulli_nll, one value per row, written to cells."),
    METHOD(
        bernoulli_nll_logits_per_cell,
        "($module, workspace, predictions, targets, mask, reduction, when_empty, gradient, scale, "
        "accumulate, cells, /)",
        "As bernoulli_nll_logits, one value per row, written to cells."),
    METHOD(
        masked_relative_error_per_cell,
        "($module, workspace, predictions, targets, mask, reduction, when_empty, cells, /)",
        "As masked_relative_error, one value per row, written to cells."),
    METHOD(
        cross_entropy,
        "($module, workspace, logits, labels, ignored_label, reduction, when_empty, gradient, scale, "
        "accumulate, /)",
        "The cross-entropy of logits."),
    METHOD(
        domain_adversarial,
        "($module, workspace, logits, labels, ignored_label, reduction, when_empty, lambd, "
        "discriminator_gradient, embedding_gradient, scale, accumulate, /)",
        "The cross-entropy behind a gradient reversal."),
    METHOD(
        gradient_reversal, "($module, workspace, arriving, lambd, reversed, scale, accumulate, /)",
        "Writes -lambd times the arriving gradient."),
    METHOD(
        elastic_cell_similarity,
        "($module, workspace, embeddings, threshold, when_empty, certifies, gradient, scale, accumulate, /)",
        "The elastic cell similarity. Returns value, number of rows, and number of pairs that were summed in "
        "closed form."),
    METHOD(
        contrastive_cell_embedding,
        "($module, workspace, first, second, temperature, when_empty, first_gradient, second_gradient, "
        "scale, accumulate, /)",
        "The contrastive loss of two encodings."),
    METHOD(
        cosine_similarity, "($module, workspace, embeddings, similarities, /)",
        "Writes the cosine similarities of the rows."),
    METHOD(
        total_objective, "($module, workspace, objective, inputs, gradients, scale, accumulate, /)",
        "All enabled terms. Returns total, relative error, number of selected elements, for every term its "
        "value, its\nweighted value and its logged value, and the pairs that ECS summed in closed form."),
    METHOD(
        logged_objective, "($module, workspace, objective, inputs, gradients, scale, accumulate, log, /)",
        "All enabled terms, of which log receives the logged values, followed by the relative error. Returns "
        "the total."),
    METHOD(
        is_one, "($module, array, /)",
        "Whether an array is the single number 1. False for an array that cannot be read."),
    {NULL, NULL, 0, NULL},
};

/// The module with the same functions for tensors of the types of a tuple.
static PyObject *for_torch(PyObject *module, PyObject *types) {
    if (!torch_module) {
        if (!use_torch(types)) return NULL;
        PyObject *made = PyModule_New("fastloss._native.torch");
        if (!made || PyModule_AddFunctions(made, functions) || PyModule_AddFunctions(made, head_functions)) {
            return NULL;
        }
        torch_module = made;
    }
    (void)module;
    Py_INCREF(torch_module);
    return torch_module;
}

static PyMethodDef preparations[] = {
    {"open_library", open_library, METH_O,
     "open_library($module, path, /)\n--\n\nLoads libfastloss, which all other functions call."},
    {"use_openmp", use_openmp, METH_O,
     "use_openmp($module, path, /)\n--\n\n"
     "Has libfastloss use the threads of the OpenMP library that a loaded library is linked with. Returns "
     "whether it could."},
    {"for_torch", for_torch, METH_O,
     "for_torch($module, types, /)\n--\n\nThe module with the same functions for tensors of these types."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "fastloss._native",
    .m_doc =
        "The calls of libfastloss for NumPy arrays, and `for_torch`, which returns those for tensors.\n\n"
        "A function returns its result, or True; None, before it writes anything, if an argument is not\n"
        "exactly what it reads; or the status, an int, if libfastloss refuses the arguments.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__native(void);
PyMODINIT_FUNC PyInit__native(void) {
    PyObject *module = PyModule_Create(&definition);
    if (!module) return NULL;
    if (PyModule_AddFunctions(module, head_functions) || PyModule_AddFunctions(module, preparations)
        || !use_numpy()) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
