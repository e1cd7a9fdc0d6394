// ARMv8.2 with the dot product extension (Cortex-A75 on, Apple M1 on, Graviton 2 on).
#include <arm_neon.h>

#include "isa.h"
#include "macros.h"

namespace gdq {
namespace {
#include "vec_neon.h"
#include "kernels/kernels.h"
}  // namespace

const Kernels kNeon = make_kernels("neon-dotprod");

}  // namespace gdq
