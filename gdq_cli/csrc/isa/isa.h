// The instruction sets of this build and what the processor and the operating system allow.
#pragma once
#include "types.h"

namespace gdq {

// Defined only in builds that have them (GDQ_AVX512VNNI and so on).
extern const Kernels kAvx512Vnni, kAvx512Vl, kAvxVnni, kAvx2, kNeon;

struct Isa {
    const Kernels* kernels;
    bool runnable;         // by this processor under this operating system
};

constexpr int kMaxIsas = 8;

// Fastest first; the last one is the portable one. Returns their number.
int list_isas(Isa (&isas)[kMaxIsas]);

// The kernels called `name`, or the fastest runnable ones for a null name; null if there are none that run here.
const Kernels* find_kernels(const char* name);

// Space separated names of the processor features that matter here, e.g. "avx2 avx512f avx512vnni".
const char* cpu_features();

}  // namespace gdq
