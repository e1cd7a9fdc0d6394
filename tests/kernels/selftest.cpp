// Runs the kernels' self-test without Python, for cross-compiled kernels in an emulator (tests/kernels/neon.sh).
#include <cstdio>

#include "kernels/isa.h"
#include "network/layer.h"

int main() {
    gdq::Isa isas[gdq::kMaxIsas];
    const int n = gdq::list_isas(isas);
    int wrong = n < 2;  // the portable kernels alone prove nothing
    for (int i = 0; i < n; i++) {
        const char* difference = isas[i].runnable ? gdq::self_test(*isas[i].kernels) : "cannot run here";
        std::printf("%s: %s\n", isas[i].kernels->name, difference ? difference : "ok");
        wrong += difference != nullptr;
    }
    return wrong;
}
