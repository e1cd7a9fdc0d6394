// Python functions of the module, split over module.cpp and module_network.cpp.
#pragma once
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "types.h"

namespace gdq {

// Throws std::invalid_argument if there are no such kernels or the processor cannot run them.
const Kernels& kernels_named(const char* name);

PyObject* network_new(PyObject*, PyObject* args);
PyObject* network_head(PyObject*, PyObject* args);
PyObject* network_begin(PyObject*, PyObject* args);
PyObject* network_add_head(PyObject*, PyObject* args);
PyObject* network_pass(PyObject*, PyObject* args);
PyObject* network_conv(PyObject*, PyObject* args);
PyObject* network_up(PyObject*, PyObject* args);
PyObject* network_tail(PyObject*, PyObject* args);
PyObject* network_finish(PyObject*, PyObject* capsule);
PyObject* network_algorithms(PyObject*, PyObject* args);
PyObject* network_run(PyObject*, PyObject* args);
PyObject* network_bands(PyObject*, PyObject* args);

}  // namespace gdq
