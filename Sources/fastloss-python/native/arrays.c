// NumPy arrays through NumPy's array interface, and PyTorch tensors through DLPack's exchange functions. Both
// are stable binary interfaces that are looked up at run time. The attributes of a tensor (address, type,
// shape, strides, device) take several times as long to read, and Python's buffer protocol would need
// Python 3.11.

#include "arrays.h"

#include <string.h>

// -----------------------------------------------------------------------------------------------------------
// NumPy: https://numpy.org/doc/stable/reference/arrays.interface.html#c-struct-access
// -----------------------------------------------------------------------------------------------------------

enum { NUMPY_NATIVE_BYTE_ORDER = 0x200, NUMPY_WRITEABLE = 0x400 };

typedef struct {
    int two;
    int dimensions;
    char kind;
    int element_bytes;
    int flags;
    Py_ssize_t *shape;
    Py_ssize_t *strides;  // in bytes
    void *data;
    PyObject *description;
} numpy_interface;

static PyTypeObject *numpy_type;
static PyObject *numpy_attribute;

static element numpy_element(const numpy_interface *interface) {
    if (!(interface->flags & NUMPY_NATIVE_BYTE_ORDER)) return OTHER;
    switch (interface->kind) {
    case 'f': return interface->element_bytes == 4 ? FLOAT32 : OTHER;
    case 'b': return interface->element_bytes == 1 ? BOOL : OTHER;
    case 'i': return interface->element_bytes == 4 ? INT32 : OTHER;
    default: return OTHER;
    }
}

static bool read_interface(const numpy_interface *interface, array *array) {
    if (interface->two != 2 || interface->dimensions > MAX_DIMENSIONS) return false;
    array->element = numpy_element(interface);
    if (array->element == OTHER) return false;
    array->data = interface->data;
    array->is_tensor = false;
    array->is_writable = interface->flags & NUMPY_WRITEABLE;
    array->dimensions = interface->dimensions;
    for (int axis = 0; axis < array->dimensions; axis++) {
        if (interface->strides[axis] % interface->element_bytes) return false;
        array->shape[axis] = interface->shape[axis];
        array->strides[axis] = interface->strides[axis] / interface->element_bytes;
    }
    return true;
}

bool read_ndarray(PyObject *object, array *array) {
    if (Py_TYPE(object) != numpy_type) return false;
    PyObject *capsule = PyObject_GetAttr(object, numpy_attribute);
    const numpy_interface *interface = capsule ? PyCapsule_GetPointer(capsule, NULL) : NULL;
    bool done = interface && read_interface(interface, array);
    Py_XDECREF(capsule);
    if (!done) PyErr_Clear();
    return done;
}

bool use_numpy(void) {
    PyObject *numpy = PyImport_ImportModule("numpy");
    numpy_type = numpy ? (PyTypeObject *)PyObject_GetAttrString(numpy, "ndarray") : NULL;
    numpy_attribute = PyUnicode_InternFromString("__array_struct__");
    Py_XDECREF(numpy);
    return numpy_type && numpy_attribute;
}

// -----------------------------------------------------------------------------------------------------------
// PyTorch: https://dmlc.github.io/dlpack/latest/c_api.html, version 1
// -----------------------------------------------------------------------------------------------------------

enum { DLPACK_VERSION = 1, DLPACK_CPU = 1, DLPACK_INT = 0, DLPACK_FLOAT = 2, DLPACK_BOOL = 6 };

typedef struct {
    void *data;
    struct { int32_t type, index; } device;
    int32_t dimensions;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } type;
    int64_t *shape;
    int64_t *strides;  // in elements; NULL if the elements are contiguous
    uint64_t byte_offset;
} dlpack_tensor;

typedef struct {
    struct { uint32_t major, minor; } version;
    void *previous;
    void (*allocate)(void);
    void (*from_object)(void);
    void (*to_object)(void);
    /// Describes a tensor, which keeps shape and strides. Returns 0, or −1 with an exception set.
    int (*describe)(void *object, dlpack_tensor *tensor);
    void (*stream)(void);
} dlpack_functions;

static PyObject *tensor_types;
static PyObject *is_negated;
static const dlpack_functions *dlpack;

static element dlpack_element(const dlpack_tensor *tensor) {
    if (tensor->type.lanes != 1) return OTHER;
    switch (tensor->type.code) {
    case DLPACK_FLOAT: return tensor->type.bits == 32 ? FLOAT32 : OTHER;
    case DLPACK_BOOL: return tensor->type.bits == 8 ? BOOL : OTHER;
    case DLPACK_INT: return tensor->type.bits == 32 ? INT32 : tensor->type.bits == 64 ? INT64 : OTHER;
    default: return OTHER;
    }
}

/// Whether the tensor is a view whose elements have the opposite sign of those in memory. DLPack does not
/// say.
static bool has_other_sign(PyObject *object) {
    PyObject *answer = PyObject_CallMethodObjArgs(object, is_negated, NULL);
    Py_XDECREF(answer);
    if (!answer) PyErr_Clear();
    return answer != Py_False;
}

static bool is_tensor(PyObject *object) {
    PyObject *type = (PyObject *)Py_TYPE(object);
    for (Py_ssize_t index = 0; index < PyTuple_Size(tensor_types); index++) {
        if (PyTuple_GetItem(tensor_types, index) == type) return true;
    }
    return false;
}

bool read_tensor(PyObject *object, array *array) {
    dlpack_tensor tensor;
    if (!is_tensor(object)) return false;
    if (dlpack->describe(object, &tensor)) {
        // Sparse tensors, for example, and those of a transform of torch.func.
        PyErr_Clear();
        return false;
    }
    if (tensor.device.type != DLPACK_CPU || tensor.dimensions > MAX_DIMENSIONS) return false;
    array->element = dlpack_element(&tensor);
    if (array->element == OTHER) return false;
    if (array->element == FLOAT32 && has_other_sign(object)) return false;
    array->data = tensor.data ? (char *)tensor.data + tensor.byte_offset : NULL;
    array->is_tensor = true;
    array->is_writable = true;
    array->dimensions = tensor.dimensions;
    int64_t count = 1;
    for (int axis = tensor.dimensions - 1; axis >= 0; axis--) {
        array->shape[axis] = tensor.shape[axis];
        array->strides[axis] = tensor.strides ? tensor.strides[axis] : count;
        count *= tensor.shape[axis];
    }
    // A tensor of zeros may have no memory, and the library would read NULL as an absent input.
    return tensor.data || count == 0;
}

bool use_torch(PyObject *types) {
    PyObject *capsule = PyObject_GetAttrString(PyTuple_GetItem(types, 0), "__dlpack_c_exchange_api__");
    const dlpack_functions *functions = capsule ? PyCapsule_GetPointer(capsule, "dlpack_exchange_api") : NULL;
    Py_XDECREF(capsule);
    is_negated = PyUnicode_InternFromString("is_neg");
    if (!functions || !is_negated) return false;
    if (functions->version.major != DLPACK_VERSION || !functions->describe) {
        PyErr_SetString(PyExc_ImportError, "this version of PyTorch has other functions of DLPack");
        return false;
    }
    Py_INCREF(types);
    tensor_types = types;
    dlpack = functions;
    return true;
}

// -----------------------------------------------------------------------------------------------------------
// Both
// -----------------------------------------------------------------------------------------------------------

bool is_contiguous(const array *array) {
    int64_t count = 1;
    bool without_gaps = true;
    for (int axis = array->dimensions - 1; axis >= 0; axis--) {
        if (array->shape[axis] == 0) return true;
        if (array->shape[axis] > 1 && array->strides[axis] != count) without_gaps = false;
        count *= array->shape[axis];
    }
    return without_gaps;
}

bool as_matrix(const array *array, matrix *matrix) {
    if (array->dimensions != 2 && (array->dimensions != 1 || array->is_tensor)) return false;
    const int last = array->dimensions - 1;
    matrix->data = array->data;
    matrix->rows = last ? array->shape[0] : 1;
    matrix->columns = matrix->stride = array->shape[last];
    if (matrix->rows == 0 || matrix->columns == 0) return true;
    if (matrix->columns > 1 && array->strides[last] != 1) return false;
    if (matrix->rows > 1) matrix->stride = array->strides[0];
    return matrix->stride >= matrix->columns;
}

bool as_values(const array *array, matrix *matrix) {
    if (!array->is_tensor) return as_matrix(array, matrix);
    *matrix = (struct matrix){.data = array->data, .rows = 1, .columns = 1};
    for (int axis = 0; axis < array->dimensions; axis++) matrix->columns *= array->shape[axis];
    matrix->stride = matrix->columns;
    return is_contiguous(array);
}
