// Ties the templates to one Kernels table. Included inside an anonymous namespace, after a Vec; each instruction set has its
// own copy of everything in here.
#include "cell.h"
#include "epilogue.h"
#include "direct.h"
#include "winograd.h"
#include "small_layers.h"

template <Store kStore>
void conv_stored(const PackedConv& p, const uint8_t* in, ptrdiff_t in_row, const Region& r, const Epilogue& e, void* scratch) {
    switch (p.algorithm) {
        case Algorithm::direct: return Direct<kStore>::run(p, in, in_row, r, e);
        case Algorithm::winograd: return Winograd<kStore, Algorithm::winograd>::run(p, in, in_row, r, e, scratch);
        case Algorithm::winograd_corners: return Winograd<kStore, Algorithm::winograd_corners>::run(p, in, in_row, r, e, scratch);
        case Algorithm::winograd_plain: return Winograd<kStore, Algorithm::winograd_plain>::run(p, in, in_row, r, e, scratch);
        case Algorithm::winograd_split: return Winograd<kStore, Algorithm::winograd_split>::run(p, in, in_row, r, e, scratch);
    }
}

void conv(const PackedConv& p, const uint8_t* in, ptrdiff_t in_row, const Region& r, const Epilogue& e, void* scratch) {
    switch (e.store) {
        case Store::raw: return conv_stored<Store::raw>(p, in, in_row, r, e, scratch);
        case Store::codes: return conv_stored<Store::codes>(p, in, in_row, r, e, scratch);
        case Store::stream: return conv_stored<Store::stream>(p, in, in_row, r, e, scratch);
        case Store::pixels: return Direct<Store::pixels>::run(p, in, in_row, r, e);
    }
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
        const Emit<Store::stream> emit(e, first, 1.0f);
        for (int y = r.y0; y < r.y1; y++)
            for (int x = r.x0; x < r.x1; x++) emit(Vec::zero(), Vec::zero(), strides.at(y, x));
    }
}
