// Plain C++ kernels: the oracle of the others and the fallback of any machine. No compensation and no transforms here: codes
// are turned back into their values and convolved as the contract says.
#include "portable.h"

#include <vector>

namespace gdq {
namespace {
#include "cell.h"

constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding and subtracting it rounds half to even below 2^22

inline int quantize(float value, float lo, float hi) {
    float v = value < hi ? value : hi;
    v = v > lo ? v : lo;
    return static_cast<int>((v + kRound) - kRound);
}

void store_pixel(const int32_t* acc, int cout, const Epilogue& e, int y, int x) {
    if (e.store == Store::raw) {
        int32_t* out = e.raw + y * e.raw_row + x * e.raw_px;
        for (int o = 0; o < cout; o++) out[o] = acc[o];
        return;
    }
    const float lo = static_cast<float>(e.lo), hi = static_cast<float>(e.hi);
    const int zero = e.store == Store::stream && e.lo < 0 ? kSignedZero : 0;
    const ptrdiff_t to = y * e.code_row + x * e.code_px;
    const ptrdiff_t at = y * e.x_row + x * e.x_px;
    for (int o = 0; o < cout; o++) {
        const float scaled = static_cast<float>(acc[o]) * e.m[o];
        float v = scaled + e.c[o];
        if (e.store == Store::pixels) v = v + e.x_in[at + o];
        if (e.store == Store::stream) {
            if (e.slope && v < 0) v = v * e.slope[o];
            if (e.x_in) {
                const float x_part = e.x_in[at + o] * e.x_factor;
                v = v + x_part;
            }
            if (e.x_out) e.x_out[at + o] = v;
            if (!e.codes) continue;
            v = v * e.inv[o];
            v = v + e.shift[o];
        }
        e.codes[to + e.group[o / kGroup] + o % kGroup] = static_cast<uint8_t>(quantize(v, lo, hi) + zero);
    }
}

size_t scratch_bytes(int) { return 0; }

// weights: int16 [cout][9][cin], so that one output is one contiguous dot product
void conv(const PackedConv& p, const uint8_t* in, ptrdiff_t in_row, const Region& r, const Epilogue& e, void*) {
    const int16_t* weights = reinterpret_cast<const int16_t*>(p.weights);
    const int zero = p.signed_in ? kSignedZero : 0, span = 3 * p.cin, length = 3 * span;
    std::vector<int16_t> window(length);
    std::vector<int32_t> acc(p.cout);
    for (int y = r.y0; y < r.y1; y++)
        for (int x = r.x0; x < r.x1; x++) {
            for (int ky = 0; ky < 3; ky++) {
                const uint8_t* row = in + (y + ky - 1) * in_row + (x - 1) * p.cin;
                for (int k = 0; k < span; k++) window[ky * span + k] = static_cast<int16_t>(row[k] - zero);
            }
            for (int o = 0; o < p.cout; o++) {
                const int16_t* w = weights + static_cast<size_t>(o) * length;
                int32_t sum = 0;
                for (int k = 0; k < length; k++) sum += window[k] * w[k];
                acc[o] = sum;
            }
            store_pixel(acc.data(), p.cout, e, y, x);
        }
}

// weights: int16 [cout][3 ky][9]
void head(const PackedHead& p, const int16_t* in, ptrdiff_t in_row, const Region& r, const Epilogue& e) {
    std::vector<int32_t> acc(p.cout);
    for (int y = r.y0; y < r.y1; y++)
        for (int x = r.x0; x < r.x1; x++) {
            for (int o = 0; o < p.cout; o++) {
                int32_t sum = 0;
                for (int ky = 0; ky < 3; ky++)
                    for (int k = 0; k < 9; k++) sum += in[(y + ky) * in_row + x * 3 + k] * p.weights[(o * 3 + ky) * 9 + k];
                acc[o] = sum;
            }
            store_pixel(acc.data(), p.cout, e, y, x);
        }
}

void pass(int channels, const Region& r, const Epilogue& e) {
    const std::vector<int32_t> nothing(channels);
    for (int y = r.y0; y < r.y1; y++)
        for (int x = r.x0; x < r.x1; x++) store_pixel(nothing.data(), channels, e, y, x);
}

// weights: int16 [4][9][cin]
void tail(const PackedTail& p, const uint8_t* in, ptrdiff_t in_row, const Region& r, uint8_t* out, ptrdiff_t out_row, int32_t*) {
    const int16_t* weights = reinterpret_cast<const int16_t*>(p.weights);
    const int span = 3 * p.cin;
    for (int y = r.y0; y < r.y1; y++)
        for (int x = r.x0; x < r.x1; x++)
            for (int o = 0; o < 3; o++) {
                int32_t sum = 0;
                for (int ky = 0; ky < 3; ky++) {
                    const uint8_t* row = in + (y + ky - 1) * in_row + (x - 1) * p.cin;
                    const int16_t* w = weights + (o * 3 + ky) * span;
                    for (int k = 0; k < span; k++) sum += (row[k] - kSignedZero) * w[k];
                }
                const float scaled = static_cast<float>(sum) * p.m[o];
                out[(y - r.y0) * out_row + (x - r.x0) * 3 + o] = static_cast<uint8_t>(quantize(scaled + p.c[o], 0.0f, 255.0f));
            }
}

}  // namespace

const Kernels kPortable = {"portable", {0, 0, -128}, bit_of(Algorithm::direct), scratch_bytes, conv, head, add_cell, pass, tail};

}  // namespace gdq
