// AVX2 without VNNI.
#include <immintrin.h>

#include "isa.h"
#include "macros.h"

#define GDQ_256_REGISTERS 16

namespace gdq {
namespace {
#include "vec_256.h"
#include "kernels/kernels.h"
}  // namespace

const Kernels kAvx2 = make_kernels("avx2");

}  // namespace gdq
