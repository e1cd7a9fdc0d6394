// Plain structures shared by every kernel. Kept free of std:: templates: the instruction-set files include this header with
// wider target flags, and an inline std:: function compiled there could be picked by the linker for the whole program.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace gdq {

constexpr int kGroup = 64;          // channels are padded to this; one packed block of input or output channels
constexpr int kSignedZero = 128;    // a signed code q is stored as the byte q + 128, an unsigned one as it is

enum class Algorithm : int {
    direct = 0,            // 9 taps, any 8-bit codes
    winograd = 1,          // F(2x2,3x3) in bytes, codes of 6 bits: see winograd.h
    winograd_f4 = 2,       // F(4x4,3x3) in 16 bits, any 8-bit codes: see winograd_f4.h
    winograd_gauss = 3,    // F(4x4,3x3) in bytes, codes of 4 bits: see winograd_gauss.h
};
constexpr int kAlgorithms = 4;
constexpr unsigned bit_of(Algorithm a) { return 1u << static_cast<int>(a); }

// How a kernel wants its weights laid out; layers/pack.cpp obeys it.
struct Layout {
    int lanes;         // int32 lanes of a vector; a block is two vectors of output channels. 0: the portable layout
    int data_bias;     // added to stored bytes before the dot product (-128 where the instruction wants signed data)
    int least_weight;  // that the tail takes
};

// One 3x3 convolution, prepared. Channel counts are multiples of 64 (zero padded).
struct PackedConv {
    Algorithm algorithm;
    int cin, cout;
    bool signed_in;          // stored zero is 128, else 0
    const int8_t* weights;   // 64-byte aligned, layout of the kernel
    const int32_t* init;     // direct: [cout]; F(2x2): [4][2][cout]; Gaussian: [46][cout]: initial accumulators, undo the +128 of the data
};

// The 64 -> 3 convolution: lanes are kx * 4 + output, so one vector holds a whole row of taps.
struct PackedTail {
    int cin;
    const int8_t* weights;   // [3 ky][cin / 4][16 lanes][4]
    const int32_t* init;     // [16]
    const float* m;          // [4]
    const float* c;          // [4]
};

// The 3 -> cout convolution on 16-bit data.
struct PackedHead {
    int cout;
    const int16_t* weights;  // [cout / block][3 ky][5 pairs][2 vectors][lanes][2]
};

enum class Store : int {
    raw = 0,     // int32 accumulators
    codes = 1,   // clamp(rne(a * m + c), lo, hi) as bytes
    stream = 2,  // x = a * m + c (* slope if negative) (+ x_in * x_factor); optionally kept as float32;
                 // optionally clamp(rne(x * inv + shift), lo, hi), + 128 if lo is negative
    pixels = 3,  // clamp(rne(a * m + c + x_in), lo, hi) as bytes; of the direct kernel and F(4x4)
};

// Values that become codes must stay below this in magnitude, which whoever fills in an Epilogue has to prove: the conversion to
// int32 is then exact, and saturating packs do most of the clamping.
constexpr float kLargestValue = 1073741824.0f;  // 2^30

// What happens to the accumulators. All strides count from output pixel (0, 0); multiply and add round separately.
struct Epilogue {
    Store store;
    const float* m;            // [cout]
    const float* c;            // [cout]
    int lo, hi;                // of the codes, for Store::codes as they are stored
    uint8_t* codes;            // may be null, for Store::stream
    ptrdiff_t code_row, code_px;   // bytes
    const ptrdiff_t* group;    // [cout / 64] byte offset of each group of 64 output channels (pixel shuffle on store)
    int32_t* raw;
    ptrdiff_t raw_row, raw_px;     // elements
    const float* x_in;         // may be null
    float* x_out;              // may be null; may equal x_in
    ptrdiff_t x_row, x_px;         // elements
    float x_factor;
    const float *inv, *shift;  // [cout]
    const float* slope;        // [cout], or null: factor of negative values
};

struct Region {
    int y0, y1, x0, x1;        // output pixels [y0, y1) x [x0, x1)
};

// One instruction set. `in` points at pixel (0, 0); rows -1..H+1 and columns -1..W+1 must be readable.
struct Kernels {
    const char* name;
    Layout layout;
    unsigned algorithms;       // that it has, bit by bit
    size_t (*scratch_bytes)(int cin);
    void (*conv)(const PackedConv&, const uint8_t* in, ptrdiff_t in_row, const Region&, const Epilogue&, void* scratch);
    // in: int16 (H + 2, W + 2, 3) with the border, pointer at the top left corner of the border, 64 bytes readable past the end
    void (*head)(const PackedHead&, const int16_t* in, ptrdiff_t in_row, const Region&, const Epilogue&);
    // See cell.h
    void (*add_cell)(const int32_t* pixels, ptrdiff_t row, ptrdiff_t across, int channels, int64_t* fine, int64_t* medium,
                     int32_t* sums);
    // No convolution: sums of 0, so that Store::stream makes codes of x_in alone
    void (*pass)(int channels, const Region&, const Epilogue&);
    // scratch: (x1 - x0 + 2 + 16) * 16 int32
    void (*tail)(const PackedTail&, const uint8_t* in, ptrdiff_t in_row, const Region&, uint8_t* out, ptrdiff_t out_row,
                 int32_t* scratch);
};

}  // namespace gdq
