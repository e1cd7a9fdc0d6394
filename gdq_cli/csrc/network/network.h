// Integer operations of a program (gdq_cli/program/operations.py), one window at a time.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "layers/pack.h"
#include "team.h"

namespace gdq {

constexpr int kPartRows = 16;  // rows of a map that are worth a thread

// A convolution that is packed when it is first run: a picture may need few of the bit-widths. Threads may share it.
class LazyConv {
  public:
    // As of pack_conv, by the fastest algorithm.
    LazyConv(const int8_t* weight, int cout, int cin, Range codes, const std::vector<int>& order, const Kernels& kernels);
    Algorithm algorithm() const { return algorithm_; }
    // Whether it would be packed alike; before it is.
    bool equals(const LazyConv& other) const;
    const PackedConv& packed() const;

  private:
    const int cout_, cin_;
    const Range codes_;
    const std::vector<int> order_;
    const Kernels& kernels_;
    const Algorithm algorithm_;
    mutable std::vector<int8_t> weight_;    // until it is packed
    mutable std::once_flag once_;
    mutable Conv conv_;
};

// A convolution and the affine map of its accumulators.
struct Layer {
    std::shared_ptr<const LazyConv> conv;
    Aligned m, c;      // float, one per (padded, reordered) output channel
    double peak = 0;   // largest possible magnitude of a * m + c
};

// What becomes of a layer's values: buffers by number, -1 for none; of each channel of the features, or empty:
struct Ending {
    std::vector<float> slope;          // factor of negative values
    int add = -1;                      // stream, times add_factor
    float add_factor = 1;
    int keep = -1;                     // stream
    int to = -1;                       // map of codes
    std::vector<float> factor, shift;  // values -> codes; empty: m and c give codes as they are stored
    Range codes{};                     // that are made
};

// An Ending in its place among others.
struct Finish : Ending {
    Store store = Store::stream;
    int border = -1;     // byte around the map, where it is another than what is there
};

// An operation at the size of the patch.
struct Step {
    enum class Reads { pixels, codes, nothing };  // what it sums; of nothing, a stream that it adds becomes codes
    Reads reads;
    std::shared_ptr<const Layer> layer;
    int source;          // map of codes
    Finish finish;
};

struct Sequence {
    std::vector<Step> steps;
    int end = -1;        // map of codes that the upsampler or tail reads
};

struct UpLayer {
    Layer layer;
    int r = 0;           // pixel shuffle factor
    Range codes{};       // that it makes
};

// One window to upscale: where its pixels are, which of them to keep and where they go.
struct Job {
    const uint8_t* pixels;
    ptrdiff_t row, column, channel;     // byte strides
    int height, width;
    int bit_width;
    int patches;                        // that it stands for, in reports of progress
    Region core;                        // in window pixels
    uint8_t* out;                       // first pixel of the upscaled core
    ptrdiff_t out_row;
    float* const* streams;              // those of Network::outer, (height, width, features)
};

// What all threads of a call share.
struct Run {
    std::atomic<bool> cancel{false};
    std::atomic<int64_t> work{0};       // done, in units of Network::work
};

// Room for the largest of some windows.
struct Room {
    size_t area = 0;                    // pixels of a map with its border
    int width = 0;
    void hold(int height, int width);
};

// Everything one thread needs for one window; kept between calls.
class Workspace {
  public:
    Workspace(Room room, int features, int scale, int maps, size_t conv_scratch);
    bool fits(Room room) const { return room.area <= room_.area && room.width <= room_.width; }

    Aligned pixels, conv_scratch, tail_scratch;
    std::vector<Aligned> maps;          // of codes, with a border
    std::vector<Aligned> streams;       // of float32, where the caller has no place for them
    std::vector<Aligned> planes;        // sliding rows of the upsampled codes
    Aligned enlarged;                   // input pixels as often as they have sub-pixels

  private:
    const Room room_;
};

class Network {
  public:
    // outer: streams in memory of the caller. The first `given` of them hold values that stay below `largest` in magnitude; all
    // are left with what was last kept in them.
    // Throws std::invalid_argument for sizes that the kernels do not take.
    Network(const Kernels& kernels, int features, int scale, std::vector<int> outer, int given, float largest);

    void set_head(const int16_t* weight, const float* m, const float* c, const int* mean);
    // Begins the operations of a bit-width. end: map that the upsampler or tail reads, -1 without one
    void begin(int bit_width, int end);
    // The next operation of a bit-width: the head; a stream that becomes codes; a convolution. codes: of its input
    void add_head(int bit_width, Ending ending);
    void add_pass(int bit_width, Ending ending);
    void add_conv(int bit_width, int source, const int8_t* weight, const float* m, const float* c, Range codes, Ending ending);
    // The layers behind, of all bit-widths. codes: of its input; made: of its output, both signed
    void add_up(const int8_t* weight, const float* m, const float* c, int r, Range codes, Range made);
    // r: pixel shuffle factor of the pixels; above 1 the tail stands alone, without an upsampler.
    // enlarged: the input pixel is added to each of its sub-pixels
    void set_tail(const int8_t* weight, const float* m, const float* c, int r, Range codes, bool enlarged);
    // Throws std::invalid_argument if a part is missing or parts do not fit together.
    void finish();

    bool has_bit_width(int bit_width) const { return sequences_.count(bit_width) != 0; }
    int features() const { return features_; }
    int scale() const { return scale_; }
    bool has_head() const { return head_layer_ != nullptr; }
    bool has_pixels() const { return tail_.packed.weights || shuffled_tail_.conv; }
    const std::vector<int>& outer() const { return outer_; }
    // Algorithms of the layers of one bit-width at the size of the patch, in order; for reports.
    std::vector<Algorithm> algorithms(int bit_width) const;

    // Returns false if cancelled. The team's helpers take part.
    bool run(const Job& job, Workspace& w, Team& team, Run& all) const;
    // Units of work in a job: its patches, layer by layer.
    int64_t work(const Job& job) const;
    // About how long a job takes, next to others.
    int64_t effort(const Job& job) const;

    std::unique_ptr<Workspace> take_workspace(Room room) const;
    void return_workspace(std::unique_ptr<Workspace> w) const;

  private:
    Layer make_layer(const int8_t* weight, int cout, Range codes, const float* m, const float* c, const std::vector<int>& order);
    Finish make_finish(Ending ending, double peak);
    void add_step(int bit_width, Step::Reads reads, int source, std::shared_ptr<const Layer> layer, Ending ending);
    Epilogue epilogue(const Layer& layer) const;
    Epilogue finished(Epilogue e, const Finish& finish, int height, int width, Workspace& w,
                      const std::vector<float*>& streams) const;
    std::vector<float*> place_streams(const Job& job, Workspace& w) const;
    bool run_layers(const Job& job, Workspace& w, Team& team, Run& all) const;
    void centre(const Job& job, Workspace& w) const;
    Region needed_features(const Region& core, int height, int width) const;
    // Both read codes of the body convolution's sums; hidden: the memory of their map.
    void shuffle_pixels(const Job& job, const uint8_t* hidden, Workspace& w, const std::atomic<bool>& cancel) const;
    void upsample(const Job& job, uint8_t* hidden, Workspace& w, const std::atomic<bool>& cancel) const;

    const Kernels& kernels_;
    const int features_, scale_;
    const std::vector<int> outer_;
    const int given_;
    const double largest_;
    Head head_;
    std::shared_ptr<const Layer> head_layer_, no_layer_;
    int mean_[3] = {0, 0, 0};
    std::map<int, Sequence> sequences_;
    int maps_ = 0, streams_ = 0;            // buffers of all sequences
    std::vector<int> borders_;              // while a sequence is built: bytes around its maps
    std::vector<double> peaks_;             // and the largest possible magnitudes in its streams
    std::vector<UpLayer> ups_;
    Tail tail_;                             // 3 channels behind an upsampler, or
    Layer shuffled_tail_;                   // 3 * scale^2 without one, each row of a pixel's sub-pixels side by side
    bool enlarged_ = false;
    std::vector<ptrdiff_t> plain_groups_;   // offsets of 64-channel groups in an ordinary pixel

    std::vector<std::shared_ptr<const LazyConv>> convs_;  // while it is built: widths with equal ones share them
    mutable std::mutex mutex_;
    mutable std::vector<std::unique_ptr<Workspace>> idle_;
};

}  // namespace gdq
