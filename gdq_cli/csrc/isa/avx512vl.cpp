// The 256-bit kernels with the EVEX encoding of VNNI and 32 registers: AVX-512 processors that slow down in 512 bits.
#include <immintrin.h>

#include "isa.h"
#include "macros.h"

#define GDQ_256_REGISTERS 32
#define GDQ_DPBUSD(acc, u, s) _mm256_dpbusd_epi32(acc, u, s)
#define GDQ_DPWSSD(acc, a, b) _mm256_dpwssd_epi32(acc, a, b)

namespace gdq {
namespace {
#include "vec_256.h"
#include "kernels/kernels.h"
}  // namespace

const Kernels kAvx512Vl = make_kernels("avx512vl-vnni");

}  // namespace gdq
