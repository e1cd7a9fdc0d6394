// Runs the kernels' self-test without Python, for cross-compiled kernels in an emulator (tests/kernels/neon.sh, cross.sh).
#include <cstdio>

#include "isa/isa.h"
#include "layers/layer.h"

using gdq::Algorithm;

int main() {
    gdq::Isa isas[gdq::kMaxIsas];
    const int n = gdq::list_isas(isas);
    int right = 0, wrong = 0;
    for (int i = 0; i < n; i++) {
        const char* difference = isas[i].runnable ? gdq::self_test(*isas[i].kernels) : nullptr;
        std::printf("%s: %s\n", isas[i].kernels->name, !isas[i].runnable ? "cannot run here" : difference ? difference : "ok");
        if (isas[i].runnable)
            std::printf("  8 bits: %s\n",
                        gdq::faster(*isas[i].kernels, Algorithm::direct, Algorithm::winograd_f4) == Algorithm::direct
                            ? "direct" : "Winograd F(4x4)");
        right += isas[i].runnable && !difference;
        wrong += difference != nullptr;
    }
    return wrong != 0 || right < 2;  // the portable kernels alone prove nothing
}
