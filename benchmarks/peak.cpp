// Peak of the 8-bit dot product on this processor, from registers only; benchmarks/engines.py compiles and loads it.
#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>

namespace {

constexpr int kChains = 12;  // independent accumulators: more than latency times throughput

__attribute__((target("avx512f,avx512vnni"))) int avx512(long rounds) {
    __m512i acc[kChains];
    const __m512i x = _mm512_set1_epi32(static_cast<int>(rounds)), y = _mm512_set1_epi32(static_cast<int>(rounds) + 1);
    for (int i = 0; i < kChains; i++) acc[i] = _mm512_set1_epi32(i);
    for (long n = 0; n < rounds; n++) {
#pragma GCC unroll 12
        for (int i = 0; i < kChains; i++) acc[i] = _mm512_dpbusd_epi32(acc[i], x, y);
    }
    __m512i sum = acc[0];
    for (int i = 1; i < kChains; i++) sum = _mm512_xor_si512(sum, acc[i]);
    return _mm512_reduce_add_epi32(sum);
}

__attribute__((target("avx2,avxvnni"))) int avx(long rounds) {
    __m256i acc[kChains];
    const __m256i x = _mm256_set1_epi32(static_cast<int>(rounds)), y = _mm256_set1_epi32(static_cast<int>(rounds) + 1);
    for (int i = 0; i < kChains; i++) acc[i] = _mm256_set1_epi32(i);
    for (long n = 0; n < rounds; n++) {
#pragma GCC unroll 12
        for (int i = 0; i < kChains; i++) acc[i] = _mm256_dpbusd_avx_epi32(acc[i], x, y);
    }
    __m256i sum = acc[0];
    for (int i = 1; i < kChains; i++) sum = _mm256_xor_si256(sum, acc[i]);
    return _mm256_extract_epi32(sum, 0);
}

volatile int sink;

}  // namespace

// 1e9 multiply-adds a second of all threads together; 0 where the processor has no such instruction.
extern "C" double vnni_peak(int threads, long rounds) {
    const bool wide = __builtin_cpu_supports("avx512vnni");
    if (!wide && !__builtin_cpu_supports("avxvnni")) return 0;
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> workers;
    for (int t = 0; t < threads; t++) workers.emplace_back([=] { sink = wide ? avx512(rounds) : avx(rounds); });
    for (std::thread& w : workers) w.join();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    return static_cast<double>(rounds) * kChains * (wide ? 64 : 32) * threads / taken.count() / 1e9;
}
#else
extern "C" double vnni_peak(int, long) { return 0; }
#endif
