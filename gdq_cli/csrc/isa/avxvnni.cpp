// AVX-VNNI: processors without AVX-512 (Alder Lake on).
#include <immintrin.h>

#include "isa.h"
#include "macros.h"

#define GDQ_256_REGISTERS 16
#define GDQ_DPBUSD(acc, u, s) _mm256_dpbusd_avx_epi32(acc, u, s)
#define GDQ_DPWSSD(acc, a, b) _mm256_dpwssd_avx_epi32(acc, a, b)

namespace gdq {
namespace {
#include "vec_256.h"
#include "kernels/kernels.h"
}  // namespace

const Kernels kAvxVnni = make_kernels("avx-vnni");

}  // namespace gdq
