// A whole EDSR-like network on integers, one patch at a time.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "pack.h"
#include "team.h"

namespace gdq {

constexpr Range kStatic = {-128, 127};  // codes of the layers behind the blocks, except where an upsampler layer has fewer bits
constexpr int kPartRows = 16;  // rows of a map that are worth a thread

// A convolution and the affine map of its accumulators.
struct Layer {
    std::shared_ptr<const Conv> conv;
    Aligned m, c;      // float, one per (padded, reordered) output channel
    double peak = 0;   // largest possible magnitude of a * m + c
};

struct Block {
    Aligned inv;       // float, (features,): residual stream -> codes of conv1
    Layer conv1, conv2;
};

struct UpLayer {
    Layer layer;
    int r = 0;         // pixel shuffle factor
    Range codes{};     // of its input
};

// One window to upscale: where its pixels are, which of them to keep and where they go.
struct Job {
    const uint8_t* pixels;
    ptrdiff_t row, column, channel;     // byte strides
    int bit_width;
    Region core;                        // in window pixels
    uint8_t* out;                       // first pixel of the upscaled core
    ptrdiff_t out_row;
};

// Everything one thread needs for one window; kept between calls.
class Workspace {
  public:
    Workspace(int height, int width, int features, int scale, size_t conv_scratch);
    bool fits(int height, int width) const { return height == height_ && width == width_; }

    Aligned pixels, codes, hidden, skip, stream, conv_scratch, tail_scratch;
    std::vector<Aligned> planes;        // sliding rows of the upsampled codes

  private:
    int height_, width_;
};

class Network {
  public:
    // Throws std::invalid_argument for sizes that the kernels do not take.
    Network(const Kernels& kernels, int features, int scale);

    void set_head(const int16_t* weight, const float* m, const float* c, const int* mean);
    void add_block(int bit_width, float inv, const int8_t* weight1, const float* m1, const float* c1, const int8_t* weight2,
                   const float* m2, const float* c2);
    void set_body(const int8_t* weight, const float* m, const float* c, const float* inv);
    // codes: of its input. inv: for the first upsampler convolution only, the next ones read codes
    void add_up(const int8_t* weight, const float* m, const float* c, int r, Range codes, const float* inv);
    // r: pixel shuffle factor of the pixels; above 1 the tail stands alone behind the body, and inv belongs to it
    void set_tail(const int8_t* weight, const float* m, const float* c, int r, const float* inv);
    // Throws std::invalid_argument if a part is missing or parts do not fit together.
    void finish();

    bool has_bit_width(int bit_width) const { return blocks_.count(bit_width) != 0; }
    int features() const { return features_; }
    int scale() const { return scale_; }
    // Algorithms of the block convolutions of one bit-width, in order; for reports.
    std::vector<Algorithm> algorithms(int bit_width) const;

    // Returns false if cancelled. The team's helpers take part.
    bool run(const Job& job, int height, int width, Workspace& w, Team& team, const std::atomic<bool>& cancel) const;
    // Sums below the controller's band energies over the core alone: int64 (3, features), fine, medium and coarse
    void band_sums(const Job& job, int64_t* out) const;

    std::unique_ptr<Workspace> take_workspace(int height, int width) const;
    void return_workspace(std::unique_ptr<Workspace> w) const;

  private:
    Layer make_layer(const int8_t* weight, int cout, Range codes, bool winograd, const float* m, const float* c,
                     const std::vector<int>& order);
    void check_values() const;
    Epilogue epilogue(const Layer& layer) const;
    void centre(const Job& job, int height, int width, Workspace& w) const;
    Region needed_features(const Region& core, int height, int width) const;
    // Both read codes of the body convolution's sums; hidden: the memory of their map.
    void shuffle_pixels(const Job& job, int width, const uint8_t* hidden, Workspace& w, const std::atomic<bool>& cancel) const;
    void upsample(const Job& job, int height, int width, uint8_t* hidden, Workspace& w, const std::atomic<bool>& cancel) const;

    const Kernels& kernels_;
    const int features_, scale_;
    Head head_;
    Aligned head_m_, head_c_;
    int mean_[3] = {0, 0, 0};
    bool has_head_ = false;
    double head_peak_ = 0;
    std::map<int, std::vector<Block>> blocks_;
    Layer body_;
    Aligned body_inv_, up_inv_;
    std::vector<UpLayer> ups_;
    Tail tail_;                             // 3 channels behind an upsampler, or
    Layer shuffled_tail_;                   // 3 * scale^2 without one, each row of a pixel's sub-pixels side by side
    std::vector<ptrdiff_t> plain_groups_;   // offsets of 64-channel groups in an ordinary pixel

    struct Shared {                         // widths up to 6 bits with equal weights share one packed copy
        std::vector<int8_t> weight;
        Range codes;
        std::shared_ptr<const Conv> conv;
    };
    std::vector<Shared> shared_;
    mutable std::mutex mutex_;
    mutable std::vector<std::unique_ptr<Workspace>> idle_;
};

}  // namespace gdq
