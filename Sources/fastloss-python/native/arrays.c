// NumPy arrays through NumPy's array interface, and PyTorch tensors through DLPack's exchange functions. Both
// are stable binary interfaces that are looked up at run time. Python's buffer protocol would need
// Python 3.11. Older versions of PyTorch lack the exchange functions. There, the attributes of a tensor
// (address, type, shape, strides, device) are read, which takes several times as long.

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

/// Whether the array has the type of the package ml_dtypes. NumPy describes it as two bytes without a
/// meaning.
static bool is_bfloat16(PyObject *array) {
    PyObject *type = PyObject_GetAttrString(array, "dtype");
    PyObject *name = type ? PyObject_GetAttrString(type, "name") : NULL;
    const bool found =
        name && PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, "bfloat16") == 0;
    Py_XDECREF(type);
    Py_XDECREF(name);
    if (PyErr_Occurred()) PyErr_Clear();
    return found;
}

static element numpy_element(PyObject *array, const numpy_interface *interface) {
    if (interface->element_bytes == 2 && is_bfloat16(array)) return BFLOAT16;
    if (!(interface->flags & NUMPY_NATIVE_BYTE_ORDER)) return OTHER;
    switch (interface->kind) {
    case 'f':
        return interface->element_bytes == 4 ? FLOAT32 : interface->element_bytes == 2 ? FLOAT16 : OTHER;
    case 'b': return interface->element_bytes == 1 ? BOOL : OTHER;
    case 'i': return interface->element_bytes == 4 ? INT32 : OTHER;
    default: return OTHER;
    }
}

static bool read_interface(PyObject *object, const numpy_interface *interface, array *array) {
    if (interface->two != 2 || interface->dimensions > MAX_DIMENSIONS) return false;
    array->element = numpy_element(object, interface);
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
    bool done = interface && read_interface(object, interface, array);
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

enum {
    DLPACK_VERSION = 1,
    DLPACK_CPU = 1,
    DLPACK_INT = 0,
    DLPACK_FLOAT = 2,
    DLPACK_BFLOAT = 4,
    DLPACK_BOOL = 6
};

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

/// NULL if this version of PyTorch has none.
static const dlpack_functions *dlpack;

static element dlpack_element(const dlpack_tensor *tensor) {
    if (tensor->type.lanes != 1) return OTHER;
    switch (tensor->type.code) {
    case DLPACK_FLOAT: return tensor->type.bits == 32 ? FLOAT32 : tensor->type.bits == 16 ? FLOAT16 : OTHER;
    case DLPACK_BFLOAT: return tensor->type.bits == 16 ? BFLOAT16 : OTHER;
    case DLPACK_BOOL: return tensor->type.bits == 8 ? BOOL : OTHER;
    case DLPACK_INT: return tensor->type.bits == 32 ? INT32 : tensor->type.bits == 64 ? INT64 : OTHER;
    default: return OTHER;
    }
}

static bool read_exchanged(PyObject *object, array *array) {
    dlpack_tensor tensor;
    // Fails for sparse tensors, for example, and for those of a transform of torch.func.
    if (dlpack->describe(object, &tensor)) return false;
    if (tensor.device.type != DLPACK_CPU || tensor.dimensions > MAX_DIMENSIONS) return false;
    array->element = dlpack_element(&tensor);
    if (array->element == OTHER) return false;
    array->data = tensor.data ? (char *)tensor.data + tensor.byte_offset : NULL;
    array->dimensions = tensor.dimensions;
    int64_t count = 1;
    for (int axis = tensor.dimensions - 1; axis >= 0; axis--) {
        array->shape[axis] = tensor.shape[axis];
        array->strides[axis] = tensor.strides ? tensor.strides[axis] : count;
        count *= tensor.shape[axis];
    }
    return true;
}

/// Finds the exchange functions. Leaves `dlpack` NULL if there are none, or of another version.
static void use_exchange(PyObject *type) {
    PyObject *capsule = PyObject_GetAttrString(type, "__dlpack_c_exchange_api__");
    const dlpack_functions *functions = capsule ? PyCapsule_GetPointer(capsule, "dlpack_exchange_api") : NULL;
    Py_XDECREF(capsule);
    PyErr_Clear();
    if (functions && functions->version.major == DLPACK_VERSION && functions->describe) dlpack = functions;
}

// -----------------------------------------------------------------------------------------------------------
// PyTorch without the exchange functions
// -----------------------------------------------------------------------------------------------------------

static const struct {
    const char *name;
    element element;
} torch_elements[] = {{"float32", FLOAT32}, {"bfloat16", BFLOAT16}, {"float16", FLOAT16},
                      {"bool", BOOL},       {"int32", INT32},       {"int64", INT64}};

enum { ELEMENTS = sizeof torch_elements / sizeof *torch_elements };

static PyObject *element_types[ELEMENTS];
static PyObject *strided_layout;
static PyObject *name_dtype, *name_layout, *name_is_cpu, *name_shape, *name_stride, *name_data_ptr;

/// Whether an attribute of the tensor is this object.
static bool has(PyObject *tensor, PyObject *name, const PyObject *value) {
    PyObject *found = PyObject_GetAttr(tensor, name);
    Py_XDECREF(found);
    return found == value;
}

static element attribute_element(PyObject *tensor) {
    PyObject *type = PyObject_GetAttr(tensor, name_dtype);
    Py_XDECREF(type);
    for (int index = 0; type && index < ELEMENTS; index++) {
        if (element_types[index] == type) return torch_elements[index].element;
    }
    return OTHER;
}

/// Takes the reference to a tuple of integers. Returns their number, or −1 if there are too many, or none.
static int take_numbers(PyObject *tuple, int64_t *numbers) {
    const Py_ssize_t count = tuple && PyTuple_Check(tuple) ? PyTuple_Size(tuple) : -1;
    bool done = count >= 0 && count <= MAX_DIMENSIONS;
    for (Py_ssize_t index = 0; done && index < count; index++) {
        numbers[index] = PyLong_AsLongLong(PyTuple_GetItem(tuple, index));
        done = numbers[index] != -1 || !PyErr_Occurred();
    }
    Py_XDECREF(tuple);
    return done ? (int)count : -1;
}

static bool read_attributes(PyObject *object, array *array) {
    array->element = attribute_element(object);
    if (array->element == OTHER) return false;
    if (!has(object, name_is_cpu, Py_True) || !has(object, name_layout, strided_layout)) return false;
    array->dimensions = take_numbers(PyObject_GetAttr(object, name_shape), array->shape);
    if (array->dimensions < 0) return false;
    PyObject *strides = PyObject_CallMethodObjArgs(object, name_stride, NULL);
    if (take_numbers(strides, array->strides) != array->dimensions) return false;
    PyObject *address = PyObject_CallMethodObjArgs(object, name_data_ptr, NULL);
    array->data = address ? PyLong_AsVoidPtr(address) : NULL;
    Py_XDECREF(address);
    return !PyErr_Occurred();
}

/// Looks up the attributes. Returns false with an exception set.
static bool use_attributes(void) {
    PyObject *torch = PyImport_ImportModule("torch");
    bool done = torch && (strided_layout = PyObject_GetAttrString(torch, "strided"));
    for (int index = 0; done && index < ELEMENTS; index++) {
        element_types[index] = PyObject_GetAttrString(torch, torch_elements[index].name);
        done = element_types[index];
    }
    Py_XDECREF(torch);
    return done && (name_dtype = PyUnicode_InternFromString("dtype"))
        && (name_layout = PyUnicode_InternFromString("layout"))
        && (name_is_cpu = PyUnicode_InternFromString("is_cpu"))
        && (name_shape = PyUnicode_InternFromString("shape"))
        && (name_stride = PyUnicode_InternFromString("stride"))
        && (name_data_ptr = PyUnicode_InternFromString("data_ptr"));
}

// -----------------------------------------------------------------------------------------------------------
// PyTorch
// -----------------------------------------------------------------------------------------------------------

static PyObject *tensor_types;
static PyObject *is_negated;

static bool is_tensor(PyObject *object) {
    PyObject *type = (PyObject *)Py_TYPE(object);
    for (Py_ssize_t index = 0; index < PyTuple_Size(tensor_types); index++) {
        if (PyTuple_GetItem(tensor_types, index) == type) return true;
    }
    return false;
}

/// Whether the tensor is a view whose elements have the opposite sign of those in memory, which neither
/// DLPack nor the other attributes tell.
static bool has_other_sign(PyObject *object) {
    PyObject *answer = PyObject_CallMethodObjArgs(object, is_negated, NULL);
    Py_XDECREF(answer);
    return answer != Py_False;
}

bool read_tensor(PyObject *object, array *array) {
    if (!is_tensor(object)) return false;
    const bool done = dlpack ? read_exchanged(object, array) : read_attributes(object, array);
    const bool is_float = done && array->element >= FLOAT32 && array->element <= FLOAT16;
    if (!done || (is_float && has_other_sign(object))) {
        PyErr_Clear();
        return false;
    }
    array->is_tensor = true;
    array->is_writable = true;
    int64_t count = 1;
    for (int axis = 0; axis < array->dimensions; axis++) count *= array->shape[axis];
    // A tensor of zeros may have no memory, and the library would read NULL as an absent input.
    return array->data || count == 0;
}

bool use_torch(PyObject *types) {
    is_negated = PyUnicode_InternFromString("is_neg");
    if (!is_negated) return false;
    use_exchange(PyTuple_GetItem(types, 0));
    if (!dlpack && !use_attributes()) return false;
    Py_INCREF(types);
    tensor_types = types;
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
