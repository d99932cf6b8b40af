// Loads libfastloss.

#include "library.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

fastloss_library library;

static const struct {
    const char *name;
    size_t member;
} members[] = {
#define MEMBER(name) {"fastloss_" #name, offsetof(fastloss_library, name)},
    FASTLOSS_FUNCTIONS(MEMBER)
#undef MEMBER
};

PyObject *open_library(PyObject *module, PyObject *path) {
    (void)module;
    const char *text = PyUnicode_AsUTF8AndSize(path, NULL);
    if (!text) return NULL;
    // RTLD_LOCAL keeps its OpenBLAS apart from those of NumPy and SciPy.
    void *handle = dlopen(text, RTLD_NOW | RTLD_LOCAL);
    if (!handle) return PyErr_Format(PyExc_ImportError, "%s cannot be loaded: %s", text, dlerror());
    for (size_t index = 0; index < sizeof members / sizeof *members; index++) {
        void *symbol = dlsym(handle, members[index].name);
        if (!symbol) {
            return PyErr_Format(
                PyExc_ImportError, "%s is not a libfastloss that this package supports: %s", text, dlerror());
        }
        memcpy((char *)&library + members[index].member, &symbol, sizeof symbol);
    }
    Py_RETURN_NONE;
}
