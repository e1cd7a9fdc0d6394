// Python functions of the module, split over module.cpp, module_network.cpp and module_describe.cpp.
#pragma once
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "types.h"

namespace gdq {

// Throws std::invalid_argument if there are no such kernels or the processor cannot run them.
const Kernels& kernels_named(const char* name);

constexpr int64_t kMostPixels = int64_t{1} << 26;  // of a patch

class Buffer;
// Row i of cores, (y, x, height, width), as a region of a picture. Throws std::invalid_argument if it does not lie there.
Region read_core(const Buffer& cores, const char* name, int i, int height, int width);

void check_threads(int threads);

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

PyObject* texture_new(PyObject*, PyObject* args);
PyObject* texture_sums(PyObject*, PyObject* args);
PyObject* grey_sums(PyObject*, PyObject* args);

}  // namespace gdq
