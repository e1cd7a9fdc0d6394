// AVX-512 with VNNI (Ice Lake and Cascade Lake on, Zen 4 on).
#include <immintrin.h>

#include "isa.h"
#include "macros.h"

namespace gdq {
namespace {
#include "vec_avx512.h"
#include "kernels_impl.h"
}  // namespace

const Kernels kAvx512Vnni = {"avx512-vnni", {Vec::kLanes, Vec::kDataBias, Vec::kLeastWeight}, kHas, scratch_bytes,
                             conv, head, add_cell, pass, Tail::run};

}  // namespace gdq
