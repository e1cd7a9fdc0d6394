// AVX2 without VNNI.
#include <immintrin.h>

#include "isa.h"
#include "macros.h"

#define GDQ_256_REGISTERS 16

namespace gdq {
namespace {
#include "vec_256.h"
#include "kernels_impl.h"
}  // namespace

const Kernels kAvx2 = {"avx2", {Vec::kLanes, Vec::kDataBias, Vec::kLeastWeight}, kHas, scratch_bytes,
                       conv, head, add_cell, pass, Tail::run};

}  // namespace gdq
