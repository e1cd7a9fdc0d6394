// The AVX-512 and VNNI intrinsics of the kernels on a processor that has only AVX2: SIMDe's, and what SIMDe 0.7.4 lacks.
#pragma once
#include_next <immintrin.h>
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <string.h>

// Every lane of the result from the same lane of the argument.
template <class To, class From, class Result, class Vector, class Each>
static inline Result emulate(Vector a, Each each) {
    From from[sizeof(Vector) / sizeof(From)];
    To to[sizeof(Result) / sizeof(To)];
    Result result;
    memcpy(from, &a, sizeof a);
    for (unsigned i = 0; i < sizeof to / sizeof *to; i++) to[i] = each(from[i]);
    memcpy(&result, to, sizeof to);
    return result;
}

template <class A, class B, class Vector>
static inline Vector emulate_dot(Vector sums, Vector a, Vector b) {
    constexpr int kLanes = sizeof(Vector) / 4, kEach = 4 / sizeof(A);
    uint32_t to[kLanes];
    A left[kLanes * kEach];
    B right[kLanes * kEach];
    memcpy(to, &sums, sizeof sums), memcpy(left, &a, sizeof a), memcpy(right, &b, sizeof b);
    for (int i = 0; i < kLanes * kEach; i++) to[i / kEach] += static_cast<uint32_t>(left[i] * right[i]);
    memcpy(&sums, to, sizeof sums);
    return sums;
}

#define EMULATE(name, result, argument, ...)                                                                    \
    static inline result emulated##name(argument a) { return __VA_ARGS__; }
EMULATE(_cvtepu8_epi16, simde__m512i, __m256i, emulate<int16_t, uint8_t, simde__m512i>(a, [](uint8_t v) { return v; }))
EMULATE(_cvtepi8_epi16, simde__m512i, __m256i, emulate<int16_t, int8_t, simde__m512i>(a, [](int8_t v) { return v; }))
EMULATE(_cvtepi32_ps, simde__m512, simde__m512i, emulate<float, int32_t, simde__m512>(a, [](int32_t v) { return static_cast<float>(v); }))
EMULATE(_cvtps_epi32, simde__m512i, simde__m512, emulate<int32_t, float, simde__m512i>(a, [](float v) { return _mm_cvtss_si32(_mm_set_ss(v)); }))
static inline simde__m512i emulated_srai_epi32(simde__m512i a, int by) {
    return emulate<int32_t, int32_t, simde__m512i>(a, [=](int32_t v) { return v >> by; });
}
static inline simde__m512i emulated_sll_epi32(simde__m512i a, __m128i by) {
    return emulate<uint32_t, uint32_t, simde__m512i>(a, [=](uint32_t v) { return v << _mm_cvtsi128_si32(by); });
}
static inline simde__m512i emulated_sra_epi32(simde__m512i a, __m128i by) { return emulated_srai_epi32(a, _mm_cvtsi128_si32(by)); }
static inline simde__m512i emulated_slli_epi16(simde__m512i a, int by) {
    return emulate<uint16_t, uint16_t, simde__m512i>(a, [=](uint16_t v) { return static_cast<uint16_t>(v << by); });
}

#undef _mm512_cvtepu8_epi16
#undef _mm512_cvtepi8_epi16
#undef _mm512_cvtepi32_ps
#undef _mm512_cvtps_epi32
#undef _mm512_srai_epi32
#undef _mm512_sll_epi32
#undef _mm512_sra_epi32
#undef _mm512_slli_epi16
#undef _mm512_dpbusd_epi32
#undef _mm512_dpwssd_epi32
#define _mm512_cvtepu8_epi16 emulated_cvtepu8_epi16
#define _mm512_cvtepi8_epi16 emulated_cvtepi8_epi16
#define _mm512_cvtepi32_ps emulated_cvtepi32_ps
#define _mm512_cvtps_epi32 emulated_cvtps_epi32
#define _mm512_srai_epi32 emulated_srai_epi32
#define _mm512_sll_epi32 emulated_sll_epi32
#define _mm512_sra_epi32 emulated_sra_epi32
#define _mm512_slli_epi16 emulated_slli_epi16
#define _mm512_dpbusd_epi32 (emulate_dot<uint8_t, int8_t>)
#define _mm512_dpwssd_epi32 (emulate_dot<int16_t, int16_t>)
#define _mm256_dpbusd_avx_epi32 (emulate_dot<uint8_t, int8_t>)
#define _mm256_dpwssd_avx_epi32 (emulate_dot<int16_t, int16_t>)
