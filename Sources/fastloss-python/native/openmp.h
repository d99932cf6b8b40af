// PyTorch's OpenMP threads for libfastloss.

#ifndef FASTLOSS_PYTHON_OPENMP_H
#define FASTLOSS_PYTHON_OPENMP_H

#include "arrays.h"

/// Has libfastloss use the threads of the OpenMP library that a loaded library is linked with. Takes the path
/// of that library. Returns whether it could.
PyObject *use_openmp(PyObject *module, PyObject *path);

#endif
