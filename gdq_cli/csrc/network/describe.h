// What controller and entropy are told of patches (gdq_cli/bits/controller.py and entropy.py), each seen alone.
#pragma once
#include <functional>

#include "layers/pack.h"

namespace gdq {

// Pixels of one patch.
struct Core {
    const uint8_t* pixels;
    ptrdiff_t row, column, channel;     // byte strides
    int height, width;
};

// Texture of a patch per granularity and channel of the head.
class Texture {
  public:
    // weight: (features, 3, 3, 3). Throws std::invalid_argument as pack_head does.
    Texture(const Kernels& kernels, const int16_t* weight, int features, const int* mean);

    int features() const { return features_; }
    // int64 (3, features): fine, medium and coarse
    void sums(const Core& core, int64_t* out) const;

  private:
    const Kernels& kernels_;
    const int features_;
    const Head head_;
    const int mean_[3];
};

constexpr int kBins = 32;                    // of the soft histogram of grey values
constexpr int kGreyNodes = 255 * 32 + 2;     // between which its kernel is interpolated

// The histogram of a patch's grey values over the nodes, times kernel (kGreyNodes, kBins), added up node by node: double (kBins,)
void grey_sums(const Core& core, const double* kernel, double* out);

// Calls work(index) for every index below count, from up to `threads` threads.
void each_on_threads(int count, int threads, const std::function<void(int)>& work);

}  // namespace gdq
