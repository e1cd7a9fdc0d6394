// Single convolutions on plain buffers, for tests, the self-test and benchmarks: maps are copied into bordered ones.
#pragma once
#include "pack.h"

namespace gdq {

// Arrays of one call; those that the store does not use are null. Channels are not padded here.
struct LayerCall {
    Store store;
    const uint8_t* codes;       // (height, width, cin) stored bytes
    int height, width;
    const float *m, *c, *inv;   // (cout,)
    const float* shift;         // (cout,), or null for none
    int lo, hi;
    int32_t* raw;               // (height, width, cout)
    uint8_t* out;               // (height * r, width * r, cout / r / r)
    int r;                      // pixel shuffle factor of the store, 1 for none
    const float* x_in;          // (height, width, cout)
    float x_factor;
    float* x_out;
};

// Returns the seconds of one convolution, the mean of `repeat` (copies excluded).
double run_layer(const Kernels& kernels, const Conv& conv, int cin, int cout, const LayerCall& call, int repeat);

void run_tail_layer(const Kernels& kernels, const Tail& tail, int cin, const uint8_t* codes, int height, int width, uint8_t* out);

// The faster one of two convolutions: measured once per process, in about 2 ms, where kernels have both.
Algorithm faster(const Kernels& kernels, Algorithm a, Algorithm b);

// Compares kernels with the portable ones on small random maps. Returns what differs, or null if nothing does.
const char* self_test(const Kernels& kernels);

}  // namespace gdq
