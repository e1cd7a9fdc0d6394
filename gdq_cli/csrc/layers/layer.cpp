#include "layer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <tuple>

#include "kernels/portable.h"

namespace gdq {
namespace {

constexpr int kBorder = 3;  // one pixel before, two behind: see network/forward.cpp

// (height, width, cin) bytes into a bordered map of padded channels.
Aligned bordered(const uint8_t* codes, int height, int width, int cin, int zero) {
    const int channels = padded(cin);
    const size_t row = static_cast<size_t>(width + kBorder) * channels;
    Aligned map((height + kBorder) * row);
    std::memset(map.as(), zero, map.size());
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            std::memcpy(map.as() + (y + 1) * row + static_cast<size_t>(x + 1) * channels,
                        codes + (static_cast<size_t>(y) * width + x) * cin, cin);
    return map;
}

double largest(const float* values, size_t n) {
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        if (!std::isfinite(values[i])) return HUGE_VAL;
        most = std::max(most, static_cast<double>(std::fabs(values[i])));
    }
    return most;
}

template <class T>
void copy_channels(T* to, int to_channels, const T* from, int from_channels, size_t pixels) {
    for (size_t i = 0; i < pixels; i++)
        std::copy(from + i * from_channels, from + i * from_channels + std::min(to_channels, from_channels), to + i * to_channels);
}

}  // namespace

double run_layer(const Kernels& kernels, const Conv& conv, int cin, int cout, const LayerCall& call, int repeat) {
    const PackedConv& p = conv.packed;
    const int zero = p.signed_in ? kSignedZero : 0, r = call.r;
    const size_t pixels = static_cast<size_t>(call.height) * call.width;
    if (r > 1 && (call.store != Store::codes || cout % (r * r * kGroup)))
        throw std::invalid_argument("pixel shuffle needs the codes store and 64 * r * r output channels");
    if (call.store != Store::raw) {
        double most = affine_peak(conv.peaks, call.m, call.c);
        if (call.store == Store::stream) {
            if (call.x_in) most += largest(call.x_in, pixels * cout) * largest(&call.x_factor, 1);
            most = most * largest(call.inv, cout) + (call.shift ? largest(call.shift, cout) : 0);
        }
        check_value(most);
    }
    const Aligned map = bordered(call.codes, call.height, call.width, cin, zero);
    const Aligned m = padded_floats(call.m, cout), c = padded_floats(call.c, cout), inv = padded_floats(call.inv, cout);
    const Aligned shift = padded_floats(call.shift, cout);
    const Aligned raw(call.store == Store::raw ? pixels * p.cout * sizeof(int32_t) : 0);
    const Aligned out(call.store == Store::raw ? 0 : pixels * p.cout);
    const Aligned x_in(call.x_in ? pixels * p.cout * sizeof(float) : 0), x_out(call.x_out ? pixels * p.cout * sizeof(float) : 0);
    const Aligned scratch(kernels.scratch_bytes(p.cin));
    if (call.x_in) copy_channels(x_in.as<float>(), p.cout, call.x_in, cout, pixels);

    const int out_channels = r > 1 ? cout / (r * r) : p.cout;
    const ptrdiff_t out_px = out_channels, out_row = static_cast<ptrdiff_t>(call.width) * r * out_px;
    std::vector<ptrdiff_t> groups;
    for (int o = 0; o < p.cout; o += kGroup) {
        const int ij = o / out_channels;
        groups.push_back(ij / r * out_row + ij % r * out_px + o % out_channels);
    }
    Epilogue e{};
    e.store = call.store;
    e.m = m.as<float>();
    e.c = c.as<float>();
    e.inv = inv.as<float>();
    e.shift = shift.as<float>();
    e.x_factor = call.x_factor;
    e.lo = call.lo, e.hi = call.hi;
    e.codes = out.as();
    e.code_px = r * out_px;
    e.code_row = r * out_row;
    e.group = groups.data();
    e.raw = raw.as<int32_t>();
    e.raw_px = p.cout;
    e.raw_row = static_cast<ptrdiff_t>(call.width) * p.cout;
    e.x_in = call.x_in ? x_in.as<float>() : nullptr;
    e.x_out = call.x_out ? x_out.as<float>() : nullptr;
    e.x_px = e.raw_px;
    e.x_row = e.raw_row;

    const ptrdiff_t row = static_cast<ptrdiff_t>(call.width + kBorder) * p.cin;
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < repeat; i++)
        kernels.conv(p, map.as() + row + p.cin, row, {0, call.height, 0, call.width}, e, scratch.as());
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;

    if (call.raw) copy_channels(call.raw, cout, raw.as<int32_t>(), p.cout, pixels);
    if (call.out) copy_channels(call.out, r > 1 ? out_channels : cout, out.as(), out_channels, pixels * r * r);
    if (call.x_out) copy_channels(call.x_out, cout, x_out.as<float>(), p.cout, pixels);
    return taken.count() / std::max(repeat, 1);
}

Algorithm faster(const Kernels& kernels, Algorithm a, Algorithm b) {
    const Algorithm both[2] = {a, b};
    for (int i = 0; i < 2; i++)
        if (!(kernels.algorithms & bit_of(both[i]))) return both[1 - i];
    static std::mutex mutex;
    static std::map<std::tuple<const Kernels*, Algorithm, Algorithm>, Algorithm> known;
    const std::lock_guard<std::mutex> lock(mutex);
    const auto [found, is_new] = known.try_emplace({&kernels, a, b}, a);
    if (!is_new) return found->second;
    constexpr int kSide = 32, kChannels = 64;  // within the second-level cache, as a layer's rows are
    const std::vector<int8_t> weight(kChannels * kChannels * 9, 1);
    const std::vector<float> ones(kChannels, 1.0f);
    const std::vector<uint8_t> codes(kSide * kSide * kChannels, 1);
    std::vector<uint8_t> out(codes.size());
    LayerCall call{};
    call.codes = codes.data(), call.out = out.data();
    call.height = call.width = kSide, call.r = 1;
    call.m = call.c = call.inv = call.shift = ones.data();
    call.store = Store::codes, call.hi = 255;
    const auto packed = [&](Algorithm one) { return pack_conv(weight.data(), kChannels, kChannels, {0, 15}, one, {}, kernels); };
    const Conv convs[2] = {packed(a), packed(b)};
    double least[2] = {1e9, 1e9};
    for (int round = 0; round < 12; round++)  // short ones: the least of many is hardly touched by what else runs here
        for (int i = 0; i < 2; i++) least[i] = std::min(least[i], run_layer(kernels, convs[i], kChannels, kChannels, call, 1));
    return found->second = both[least[1] < least[0]];
}

void run_tail_layer(const Kernels& kernels, const Tail& tail, int cin, const uint8_t* codes, int height, int width, uint8_t* out) {
    const Aligned map = bordered(codes, height, width, cin, kSignedZero);
    const Aligned scratch(static_cast<size_t>(width + 32) * 16 * sizeof(int32_t));
    const int channels = tail.packed.cin;
    const ptrdiff_t row = static_cast<ptrdiff_t>(width + kBorder) * channels;
    kernels.tail(tail.packed, map.as() + row + channels, row, {0, height, 0, width}, out, static_cast<ptrdiff_t>(width) * 3,
                 scratch.as<int32_t>());
}

}  // namespace gdq
