// The functions of the loaded libfastloss, and what every call of them shares.

#ifndef FASTLOSS_PYTHON_LIBRARY_H
#define FASTLOSS_PYTHON_LIBRARY_H

#include "arrays.h"
#include "fastloss.h"
#include "functions.h"

/// The functions of libfastloss, found at run time: the environment may name another library.
#define MEMBER(name) __typeof__(fastloss_##name) *name;
typedef struct { FASTLOSS_FUNCTIONS(MEMBER) } fastloss_library;
#undef MEMBER

extern fastloss_library library;

/// Loads libfastloss from a path. Raises ImportError.
PyObject *open_library(PyObject *module, PyObject *path);

#endif
