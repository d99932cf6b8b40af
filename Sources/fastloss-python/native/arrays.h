// Reads NumPy arrays and PyTorch tensors: where their elements are, without a copy and without the headers of
// either library.

#ifndef FASTLOSS_PYTHON_ARRAYS_H
#define FASTLOSS_PYTHON_ARRAYS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

/// The element types of the C interface, and PyTorch's type of labels.
typedef enum { OTHER, FLOAT32, BFLOAT16, FLOAT16, BOOL, INT32, INT64 } element;

/// The most dimensions that `array` holds. The package flattens tensors with more.
enum { MAX_DIMENSIONS = 4 };

/// An array in memory. Strides count elements.
typedef struct array {
    void *data;
    element element;
    bool is_tensor;
    bool is_writable;
    int dimensions;
    int64_t shape[MAX_DIMENSIONS];
    int64_t strides[MAX_DIMENSIONS];
} array;

/// A matrix of the C interface.
typedef struct matrix {
    void *data;
    int64_t rows, columns, stride;
} matrix;

/// Reads an array of one library. Returns false, with no exception set, for any object that libfastloss
/// cannot read in place: another type (subclasses included), another element type or device.
typedef bool reader(PyObject *object, array *array);

/// Reads a numpy.ndarray.
reader read_ndarray;

/// Reads a torch.Tensor, after `use_torch`.
reader read_tensor;

/// Prepares `read_ndarray`. Returns false with an exception set.
bool use_numpy(void);

/// Prepares `read_tensor` for a tuple of types: torch.Tensor and its plain subclasses. Returns false with an
/// exception set.
bool use_torch(PyObject *types);

/// Takes an array as a matrix, or returns false.
typedef bool form(const array *array, matrix *matrix);

/// Two dimensions, of which the rows are in ascending order and have no gaps between their elements. A NumPy
/// vector is one row.
form as_matrix;

/// As `as_matrix`, but a contiguous tensor of any shape is one row of all its elements.
form as_values;

/// Whether the elements have no gaps and are in row-major order.
bool is_contiguous(const array *array);

#endif
