// AVX-512 with VNNI (Ice Lake and Cascade Lake on, Zen 4 on).
#include <immintrin.h>

#include "isa.h"
#include "macros.h"

namespace gdq {
namespace {
#include "vec_avx512.h"
#include "kernels/kernels.h"
}  // namespace

const Kernels kAvx512Vnni = make_kernels("avx512-vnni");

}  // namespace gdq
