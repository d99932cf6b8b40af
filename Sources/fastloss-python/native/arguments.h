// The arguments and results that the functions of the losses and of the heads share.

#ifndef FASTLOSS_PYTHON_ARGUMENTS_H
#define FASTLOSS_PYTHON_ARGUMENTS_H

#include "library.h"

/// A function of `expected` arguments, `given`. `read` reads the arrays of the module that the function is
/// in.
#define FUNCTION(name, expected)                                                                       \
    static PyObject *name##_of(reader *read, PyObject *const *given);                                  \
    static PyObject *name(PyObject *module, PyObject *const *given, Py_ssize_t count) {                \
        if (count == (expected)) return name##_of(reader_of(module), given);                           \
        return PyErr_Format(PyExc_TypeError, #name " takes %d arguments, not %zd", (expected), count); \
    }                                                                                                  \
    static PyObject *name##_of(reader *read, PyObject *const *given)

/// Calls a function of the library without the GIL.
#define CALL(status, call)                            \
    do {                                              \
        Py_BEGIN_ALLOW_THREADS status = library.call; \
        Py_END_ALLOW_THREADS                          \
    } while (0)

/// A function with its parameters and its first line, which help() and inspect.signature() show.
#define METHOD(name, parameters, text)                                                          \
    {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, #name parameters "\n--\n\n" text}

/// The reader of the arrays that a module's functions take.
reader *reader_of(PyObject *module);

// Each returns false, with no exception set, for an object that it does not read.

/// The address of a workspace, or None.
bool read_workspace(PyObject *object, fastloss_workspace **workspace);

/// A finite number within the range of float32.
bool read_float(PyObject *object, float *number);

/// The type of an output of the model: float32, or 16-bit.
bool read_type(const array *array, fastloss_element_type *type);

/// Labels. `copy` holds PyTorch's int64 as int32; `release_labels` frees it.
typedef struct {
    const int32_t *data;
    int32_t *copy;
} labels;

bool read_labels(reader *read, PyObject *object, int64_t count, labels *labels);

void release_labels(labels *labels);

/// The value and the number of selected elements.
PyObject *loss_result(fastloss_status status, const fastloss_loss_value *loss);

/// The functions of heads.c.
extern PyMethodDef head_functions[];

#endif
