// The Python module, split over module.cpp, module_network.cpp and module_describe.cpp.
#pragma once
#include "arrays.h"
#include "types.h"

namespace gdq {

// Throws std::invalid_argument if there are no such kernels or the processor cannot run them.
const Kernels& kernels_named(const char* name);

constexpr int64_t kMostPixels = int64_t{1} << 26;  // of a patch

// Row i of cores, (y, x, height, width), as a region of a picture. Throws std::invalid_argument if it does not lie there.
Region read_core(const Array<const int32_t, 2>& cores, const char* name, int i, int height, int width);

void check_threads(int threads);

void bind_network(nb::module_& m);
void bind_describe(nb::module_& m);

}  // namespace gdq
