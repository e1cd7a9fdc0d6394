// From plain weights to the layouts of the kernels, with every bound that makes the kernels exact checked here.
#pragma once
#include <vector>

#include "types.h"

namespace gdq {

// 64-byte aligned storage, zero filled.
class Aligned {
  public:
    Aligned() = default;
    explicit Aligned(size_t bytes);
    Aligned(Aligned&& other) noexcept;
    Aligned& operator=(Aligned&& other) noexcept;
    Aligned(const Aligned&) = delete;
    Aligned& operator=(const Aligned&) = delete;
    ~Aligned();

    template <class T = uint8_t>
    T* as() const { return static_cast<T*>(static_cast<void*>(memory_)); }
    size_t size() const { return size_; }

  private:
    uint8_t* memory_ = nullptr;
    size_t size_ = 0, alignment_ = 64;
};

inline int padded(int channels) { return (channels + kGroup - 1) / kGroup * kGroup; }

// One value per channel, in the order given or as they stand, and zeros behind them; zeros alone for none.
Aligned padded_floats(const float* values, int n, const std::vector<int>& order = {});

struct Range {
    int lo, hi;  // of codes; lo is 0 for unsigned ones
};

// The byte that stands for code 0.
inline int zero_of(Range codes) { return codes.lo < 0 ? kSignedZero : 0; }

struct Conv {
    PackedConv packed{};
    Aligned weights, init;
    std::vector<float> peaks;  // of the accumulators, in the order of the weights given
};
struct Tail {
    PackedTail packed{};
    Aligned weights, init, affine;
};
struct Head {
    PackedHead packed{};
    Aligned weights;
    std::vector<float> peaks;  // of the accumulators
};

// Largest possible magnitude of each output channel's accumulators. weight: (cout, cin, 3, 3).
// Throws std::invalid_argument if one reaches 2^24.
std::vector<float> accumulator_peaks(const int8_t* weight, int cout, int cin, Range codes);

// Largest possible magnitude of a * m + c over all channels. Throws std::invalid_argument for values that are not finite, or so
// small that scaling them by 1/4, as a kernel does, would not be exact.
double affine_peak(const std::vector<float>& peaks, const float* m, const float* c);

// Throws std::invalid_argument if a value of this magnitude cannot be turned into a code exactly.
void check_value(double magnitude);

// The fastest algorithm that is exact for these weights and codes.
Algorithm choose_algorithm(const int8_t* weight, int cout, int cin, Range codes, const Kernels& kernels);

// weight: (cout, cin, 3, 3). order: output channel stored at each position, or empty for the identity.
// Throws std::invalid_argument where the algorithm would not be exact or the accumulators reach 2^24.
Conv pack_conv(const int8_t* weight, int cout, int cin, Range codes, Algorithm algorithm, const std::vector<int>& order,
               const Kernels& kernels);
// weight: (3, cin, 3, 3)
Tail pack_tail(const int8_t* weight, int cin, const float* m, const float* c, const Kernels& kernels);
// weight: (cout, 3, 3, 3) within +-2047
Head pack_head(const int16_t* weight, int cout, const int* mean, const Kernels& kernels);

}  // namespace gdq
