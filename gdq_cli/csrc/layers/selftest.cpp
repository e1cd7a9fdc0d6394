#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/portable.h"
#include "layer.h"

namespace gdq {
namespace {

// A small generator with fixed values everywhere, so that a failure can be repeated.
class Random {
  public:
    explicit Random(uint32_t seed) : state_(seed) {}
    int within(int lo, int hi) {  // both included
        state_ = state_ * 1664525u + 1013904223u;
        return lo + static_cast<int>((state_ >> 8) % static_cast<uint32_t>(hi - lo + 1));
    }

  private:
    uint32_t state_;
};

constexpr int kHeight = 5, kWidth = 11, kPixels = kHeight * kWidth, kChannels = 64;

struct Results {
    std::vector<int32_t> raw = std::vector<int32_t>(kPixels * kChannels);
    std::vector<uint8_t> codes = std::vector<uint8_t>(kPixels * kChannels), streamed = codes;
    std::vector<float> x = std::vector<float>(kPixels * kChannels);
    bool operator==(const Results& o) const {
        return raw == o.raw && codes == o.codes && streamed == o.streamed &&
               std::memcmp(x.data(), o.x.data(), x.size() * sizeof(float)) == 0;
    }
};

struct Case {
    Algorithm algorithm;
    Range codes;
    int weight;  // largest
    const char* name;
};

constexpr Case kCases[] = {
    {Algorithm::direct, {-128, 127}, 128, "direct convolution of signed codes"},
    {Algorithm::direct, {0, 255}, 60, "direct convolution of unsigned codes"},
    {Algorithm::winograd, {-32, 31}, 14, "Winograd convolution of signed codes"},
    {Algorithm::winograd, {0, 63}, 14, "Winograd convolution of unsigned codes"},
    {Algorithm::winograd_f4, {-128, 127}, 128, "Winograd convolution F(4x4) of signed codes"},
    {Algorithm::winograd_f4, {0, 255}, 60, "Winograd convolution F(4x4) of unsigned codes"},
    {Algorithm::winograd_gauss, {-8, 7}, 14, "Gaussian Winograd convolution of signed codes"},
    {Algorithm::winograd_gauss, {0, 15}, 14, "Gaussian Winograd convolution of unsigned codes"},
};

Results run_case(const Kernels& kernels, const Case& c, const std::vector<int8_t>& weight, const std::vector<uint8_t>& codes,
                 const std::vector<float>& m, const std::vector<float>& offset, const std::vector<float>& x) {
    const Algorithm algorithm = &kernels == &kPortable ? Algorithm::direct : c.algorithm;
    const Conv conv = pack_conv(weight.data(), kChannels, kChannels, c.codes, algorithm, {}, kernels);
    Results r;
    LayerCall call{};
    call.codes = codes.data();
    call.height = kHeight, call.width = kWidth, call.r = 1;
    call.m = m.data(), call.c = offset.data(), call.inv = call.shift = offset.data();
    call.store = Store::raw, call.raw = r.raw.data();
    run_layer(kernels, conv, kChannels, kChannels, call, 1);
    call.store = Store::codes, call.raw = nullptr, call.out = r.codes.data();
    call.hi = 63;
    run_layer(kernels, conv, kChannels, kChannels, call, 1);
    call.store = Store::stream, call.out = r.streamed.data(), call.x_in = x.data(), call.x_out = r.x.data();
    call.x_factor = 0.7f;
    call.lo = -128, call.hi = 127;
    run_layer(kernels, conv, kChannels, kChannels, call, 1);
    return r;
}

bool convs_agree(const Kernels& kernels, const Case& c, Random& random) {
    std::vector<int8_t> weight(kChannels * kChannels * 9);
    for (auto& w : weight) w = static_cast<int8_t>(random.within(-c.weight, std::min(c.weight, 127)));
    std::vector<uint8_t> codes(kPixels * kChannels);
    const int zero = c.codes.lo < 0 ? kSignedZero : 0;
    for (auto& q : codes) {
        const int kind = random.within(0, 3);  // a quarter of the codes at each end of the range
        const int code = kind == 0 ? c.codes.lo : kind == 1 ? c.codes.hi : random.within(c.codes.lo, c.codes.hi);
        q = static_cast<uint8_t>(code + zero);
    }
    std::vector<float> m(kChannels), offset(kChannels), x(kPixels * kChannels);
    for (auto& v : m) v = static_cast<float>(random.within(1, 1000)) / 300000.0f;
    for (auto& v : offset) v = static_cast<float>(random.within(-1000, 1000)) / 37.0f;
    for (auto& v : x) v = static_cast<float>(random.within(-1000, 1000)) / 77.0f;
    return run_case(kernels, c, weight, codes, m, offset, x) == run_case(kPortable, c, weight, codes, m, offset, x);
}

bool heads_agree(const Kernels& kernels, Random& random) {
    std::vector<int16_t> weight(kChannels * 27), pixels((kHeight + 2) * (kWidth + 2) * 3 + 64);
    for (auto& w : weight) w = static_cast<int16_t>(random.within(-2047, 2047));
    for (auto& p : pixels) p = static_cast<int16_t>(random.within(-114, 152));
    const int mean[3] = {114, 111, 103};
    std::vector<int32_t> results[2];
    const Kernels* both[2] = {&kernels, &kPortable};
    for (int i = 0; i < 2; i++) {
        const Head head = pack_head(weight.data(), kChannels, mean, *both[i]);
        results[i].resize(kPixels * kChannels);
        Epilogue e{};
        e.store = Store::raw;
        e.raw = results[i].data();
        e.raw_px = kChannels;
        e.raw_row = kWidth * kChannels;
        both[i]->head(head.packed, pixels.data(), (kWidth + 2) * 3, {0, kHeight, 0, kWidth}, e);
    }
    return results[0] == results[1];
}

bool cells_agree(const Kernels& kernels, Random& random) {
    constexpr int kAccumulator = (1 << 24) - 1;
    std::vector<int32_t> pixels(16 * kChannels);
    for (auto& p : pixels) p = random.within(-kAccumulator, kAccumulator);
    std::vector<int64_t> details[2];
    std::vector<int32_t> sums[2];
    const Kernels* both[2] = {&kernels, &kPortable};
    for (int i = 0; i < 2; i++) {
        details[i].resize(2 * kChannels);
        sums[i].resize(kChannels);
        both[i]->add_cell(pixels.data(), 4 * kChannels, kChannels, kChannels, details[i].data(), details[i].data() + kChannels,
                          sums[i].data());
    }
    return details[0] == details[1] && sums[0] == sums[1];
}

bool tails_agree(const Kernels& kernels, Random& random) {
    std::vector<int8_t> weight(3 * kChannels * 9);
    std::vector<uint8_t> codes(kPixels * kChannels);
    for (auto& w : weight) w = static_cast<int8_t>(random.within(-127, 127));
    for (auto& q : codes) q = static_cast<uint8_t>(random.within(0, 255));
    const float m[3] = {1e-4f, 3e-4f, 7e-4f}, c[3] = {114.3f, 111.7f, 103.1f};
    std::vector<uint8_t> results[2];
    const Kernels* both[2] = {&kernels, &kPortable};
    for (int i = 0; i < 2; i++) {
        results[i].resize(kPixels * 3);
        const Tail tail = pack_tail(weight.data(), kChannels, m, c, *both[i]);
        run_tail_layer(*both[i], tail, kChannels, codes.data(), kHeight, kWidth, results[i].data());
    }
    return results[0] == results[1];
}

}  // namespace

const char* self_test(const Kernels& kernels) {
    Random random(1);
    for (const Case& c : kCases)
        if (kernels.algorithms & bit_of(c.algorithm) && !convs_agree(kernels, c, random)) return c.name;
    if (!heads_agree(kernels, random)) return "first convolution";
    if (!cells_agree(kernels, random)) return "texture";
    if (!tails_agree(kernels, random)) return "last convolution";
    return nullptr;
}

}  // namespace gdq
