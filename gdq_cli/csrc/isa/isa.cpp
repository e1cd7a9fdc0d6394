#include "isa.h"

#include <cstring>
#include <string>

#include "kernels/portable.h"

#if defined(__x86_64__) || defined(__i386__)
#define GDQ_X86 1
#include <cpuid.h>
#include <immintrin.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1 << 20)
#endif
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace gdq {
namespace {

struct Features {
    bool avx2 = false, fma = false, avxvnni = false, avx512 = false, avx512vnni = false, dotprod = false;
};

#ifdef GDQ_X86
// Which register states the operating system saves: the processor's word alone is not enough.
__attribute__((target("xsave"))) unsigned long long enabled_states() { return _xgetbv(0); }

Features detect() {
    Features f;
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return f;
    const unsigned long long states = enabled_states();
    const bool ymm = (states & 0x6) == 0x6, zmm = ymm && (states & 0xe0) == 0xe0;
    f.fma = ymm && (c & bit_FMA);
    unsigned most;
    if (!__get_cpuid_count(7, 0, &most, &b, &c, &d)) return f;
    f.avx2 = ymm && (b & bit_AVX2);
    f.avx512 = zmm && (b & bit_AVX512F) && (b & bit_AVX512BW) && (b & bit_AVX512VL) && (b & bit_AVX512DQ);
    f.avx512vnni = f.avx512 && (c & (1u << 11));
    if (most >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) f.avxvnni = f.avx2 && (a & (1u << 4));
    return f;
}
#elif defined(__aarch64__) && defined(__linux__)
Features detect() {
    Features f;
    f.dotprod = getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
    return f;
}
#elif defined(__aarch64__) && defined(__APPLE__)
Features detect() {
    Features f;
    int value = 0;
    size_t size = sizeof(value);
    f.dotprod = sysctlbyname("hw.optional.arm.FEAT_DotProd", &value, &size, nullptr, 0) == 0 && value;
    return f;
}
#else
Features detect() { return {}; }
#endif

const Features& features() {
    static const Features found = detect();
    return found;
}

}  // namespace

int list_isas(Isa (&isas)[kMaxIsas]) {
    int n = 0;
    [[maybe_unused]] const Features& f = features();
#ifdef GDQ_AVX512VNNI
    isas[n++] = {&kAvx512Vnni, f.avx512vnni};
#endif
#ifdef GDQ_AVXVNNI
    isas[n++] = {&kAvxVnni, f.avxvnni};
#endif
#ifdef GDQ_AVX512VL
    isas[n++] = {&kAvx512Vl, f.avx512vnni};
#endif
#ifdef GDQ_AVX2
    isas[n++] = {&kAvx2, f.avx2};
#endif
#ifdef GDQ_NEON
    isas[n++] = {&kNeon, f.dotprod};
#endif
    isas[n++] = {&kPortable, true};
    return n;
}

const Kernels* find_kernels(const char* name) {
    Isa isas[kMaxIsas];
    const int n = list_isas(isas);
    for (int i = 0; i < n; i++)
        if (isas[i].runnable && (!name || std::strcmp(name, isas[i].kernels->name) == 0)) return isas[i].kernels;
    return nullptr;
}

const char* cpu_features() {
    static const std::string text = [] {
        const Features& f = features();
        std::string s;
        const auto note = [&](bool present, const char* name) {
            if (present) s += s.empty() ? name : std::string(" ") + name;
        };
        note(f.avx2, "avx2");
        note(f.fma, "fma");
        note(f.avxvnni, "avx-vnni");
        note(f.avx512, "avx512");
        note(f.avx512vnni, "avx512-vnni");
        note(f.dotprod, "dotprod");
        return s;
    }();
    return text.c_str();
}

}  // namespace gdq
