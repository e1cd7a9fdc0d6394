// Ties the templates to one Kernels table. Included inside an anonymous namespace, after a Vec; each instruction set has its
// own copy of everything in here.
#include "cell.h"
#include "epilogue.h"
#include "direct.h"
#include "tile.h"
#include "winograd.h"
#include "winograd_f4.h"
#include "winograd_gauss.h"
#include "small_layers.h"

template <Store kStore>
void conv_stored(const PackedConv& p, const uint8_t* in, ptrdiff_t in_row, const Region& r, const Epilogue& e, void* scratch) {
    if constexpr (Vec::kFastBytes) {
        if (p.algorithm == Algorithm::direct) return Direct<kStore>::run(p, in, in_row, r, e);
        if constexpr (kStore != Store::pixels) {
            switch (p.algorithm) {
                case Algorithm::winograd: return Winograd<kStore>::run(p, in, in_row, r, e, scratch);
                case Algorithm::winograd_gauss: return WinogradGauss<kStore>::run(p, in, in_row, r, e, scratch);
                default: break;
            }
        }
    }
    WinogradF4<kStore>::run(p, in, in_row, r, e, scratch);
}

// The others are slower where products of bytes take as long as those of words.
constexpr unsigned kHas = Vec::kFastBytes ? (1u << kAlgorithms) - 1 : bit_of(Algorithm::winograd_f4);

void conv(const PackedConv& p, const uint8_t* in, ptrdiff_t in_row, const Region& r, const Epilogue& e, void* scratch) {
    switch (e.store) {
        case Store::raw: return conv_stored<Store::raw>(p, in, in_row, r, e, scratch);
        case Store::codes: return conv_stored<Store::codes>(p, in, in_row, r, e, scratch);
        case Store::stream: return conv_stored<Store::stream>(p, in, in_row, r, e, scratch);
        case Store::pixels: return conv_stored<Store::pixels>(p, in, in_row, r, e, scratch);
    }
}

size_t scratch_bytes(int cin) {
    const size_t f4 = WinogradF4<Store::raw>::scratch_bytes(cin);
    if (!Vec::kFastBytes) return f4;
    const size_t f2 = winograd_scratch_bytes(cin), gauss = WinogradGauss<Store::raw>::scratch_bytes(cin), most = f2 > f4 ? f2 : f4;
    return most > gauss ? most : gauss;
}

void head(const PackedHead& p, const int16_t* in, ptrdiff_t in_row, const Region& r, const Epilogue& e) {
    switch (e.store) {
        case Store::raw: return Head<Store::raw>::run(p, in, in_row, r, e);
        case Store::codes: return Head<Store::codes>::run(p, in, in_row, r, e);
        case Store::stream: return Head<Store::stream>::run(p, in, in_row, r, e);
        case Store::pixels: return;  // of convolutions alone
    }
}

void pass(int channels, const Region& r, const Epilogue& e) {
    const Strides strides(Store::stream, e);
    for (int first = 0; first < channels; first += 2 * Vec::kLanes) {
        const Emit<Store::stream> emit(e, first);
        for (int y = r.y0; y < r.y1; y++)
            for (int x = r.x0; x < r.x1; x++) emit(Vec::zero(), Vec::zero(), strides.at(y, x));
    }
}

constexpr Kernels make_kernels(const char* name) {
    return {name, {Vec::kLanes, Vec::kDataBias, Vec::kLeastWeight}, kHas, scratch_bytes, conv, head, add_cell, pass, Tail::run};
}
