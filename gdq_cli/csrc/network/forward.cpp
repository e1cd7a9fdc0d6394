// One patch through the network: all layers by one thread, feature maps in its own workspace.
#include <algorithm>
#include <cstring>

#include "network.h"

namespace gdq {
namespace {

// Code maps have a border of one pixel above and to the left and two below and to the right (an odd side makes the kernels
// read one pixel further), filled with the code of zero.
constexpr int kBefore = 1, kAfter = 2, kBorder = kBefore + kAfter;
constexpr int kBandRows = 4;   // rows of low-resolution pixels that go through the upsampler at once
constexpr int kKeptRows = 8;   // more than the rows a sliding plane keeps for the next band

void fill_border(uint8_t* map, int height, int width, int channels, int value) {
    const ptrdiff_t row = static_cast<ptrdiff_t>(width + kBorder) * channels;
    std::memset(map, value, row);
    for (int y = kBefore; y < kBefore + height; y++) {
        std::memset(map + y * row, value, static_cast<size_t>(kBefore) * channels);
        std::memset(map + y * row + static_cast<ptrdiff_t>(kBefore + width) * channels, value,
                    static_cast<size_t>(kAfter) * channels);
    }
    std::memset(map + (kBefore + height) * row, value, kAfter * row);
}

Region grown(const Region& r, int height, int width) {
    return {std::max(r.y0 - 1, 0), std::min(r.y1 + 1, height), std::max(r.x0 - 1, 0), std::min(r.x1 + 1, width)};
}

Region divided(const Region& r, int by) {
    return {r.y0 / by, (r.y1 + by - 1) / by, r.x0 / by, (r.x1 + by - 1) / by};
}

// One of several parts of a region's rows. Parts begin at even rows: Winograd computes two at once.
Region part_of(const Region& r, int part, int parts) {
    const int pairs = (r.y1 - r.y0 + 1) / 2;
    return {r.y0 + 2 * (pairs * part / parts), std::min(r.y1, r.y0 + 2 * (pairs * (part + 1) / parts)), r.x0, r.x1};
}

int parts_in(const Region& r) { return (r.y1 - r.y0) / kPartRows; }

Region multiplied(const Region& r, int by) { return {r.y0 * by, r.y1 * by, r.x0 * by, r.x1 * by}; }

}  // namespace

// Codes of one resolution; at(y, x) counts in pixels of that resolution of the whole window.
struct Plane {
    uint8_t* memory;
    ptrdiff_t row;
    int channels;
    int top, left;     // pixel stored first
    int end;           // rows computed so far
    Region content;    // pixels that will have been computed in the end
    int height;        // of the whole window at this resolution

    uint8_t* at(int y, int x) const { return memory + (y - top) * row + static_cast<ptrdiff_t>(x - left) * channels; }

    // Forgets rows above `first` (never rows still to come).
    void slide(int first) {
        first = std::min(first, end);
        if (first <= top) return;
        std::memmove(memory, memory + (first - top) * row, static_cast<size_t>(end - first) * row);
        top = first;
    }
};

Workspace::Workspace(int height, int width, int features, int scale, size_t scratch)
    : pixels(static_cast<size_t>(height + 2) * (width + 2) * 3 * sizeof(int16_t) + 128),
      codes(static_cast<size_t>(height + kBorder) * (width + kBorder) * features),
      hidden(static_cast<size_t>(height + kBorder) * (width + kBorder) * features),
      skip(static_cast<size_t>(height) * width * features * sizeof(float)),
      stream(static_cast<size_t>(height) * width * features * sizeof(float)),
      conv_scratch(scratch),
      tail_scratch(static_cast<size_t>(width * scale + 32) * 16 * sizeof(int32_t)),
      height_(height),
      width_(width) {}

Epilogue Network::epilogue(const Layer& layer) const {
    Epilogue e{};
    e.m = layer.m.as<float>();
    e.c = layer.c.as<float>();
    e.group = plain_groups_.data();
    return e;
}

// Pixels minus the mean, as the head reads them: with a border of zeros.
void Network::centre(const Job& job, int height, int width, Workspace& w) const {
    int16_t* centred = w.pixels.as<int16_t>();
    const ptrdiff_t row = static_cast<ptrdiff_t>(width + 2) * 3;
    std::memset(centred, 0, w.pixels.size());
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                centred[(y + 1) * row + (x + 1) * 3 + c] =
                    static_cast<int16_t>(job.pixels[y * job.row + x * job.column + c * job.channel] - mean_[c]);
}

bool Network::run(const Job& job, int height, int width, Workspace& w, Team& team, const std::atomic<bool>& cancel) const {
    const std::vector<Block>& blocks = blocks_.at(job.bit_width);
    const ptrdiff_t row = static_cast<ptrdiff_t>(width + kBorder) * features_;
    const ptrdiff_t origin = kBefore * row + static_cast<ptrdiff_t>(kBefore) * features_;
    uint8_t* codes = w.codes.as() + origin;
    uint8_t* hidden = w.hidden.as() + origin;
    const Region window = {0, height, 0, width};
    fill_border(w.codes.as(), height, width, features_, kSignedZero);
    fill_border(w.hidden.as(), height, width, features_, 0);

    const int half = 1 << (job.bit_width - 1);
    // The stream epilogue also makes the codes of whatever reads the stream next: block `next`, or the body convolution.
    const auto streamed = [&](Epilogue e, size_t next) {
        const bool last = next == blocks.size();
        e.store = Store::stream;
        e.codes = codes;
        e.code_row = row;
        e.code_px = features_;
        e.group = plain_groups_.data();
        e.x_row = static_cast<ptrdiff_t>(width) * features_;
        e.x_px = features_;
        e.inv = last ? body_inv_.as<float>() : blocks[next].inv.as<float>();
        e.lo = last ? -128 : -half;
        e.hi = last ? 127 : half - 1;
        return e;
    };

    const auto conv = [&](const Layer& layer, const uint8_t* in, const Region& region, const Epilogue& epilogue) {
        team.share(parts_in(region), w, [&](int part, int parts, Workspace& own) {
            kernels_.conv(layer.conv->packed, in, row, part_of(region, part, parts), epilogue, own.conv_scratch.as());
        });
    };

    Epilogue e{};
    e.x_out = w.skip.as<float>();
    e.m = head_m_.as<float>();
    e.c = head_c_.as<float>();
    e = streamed(e, 0);
    centre(job, height, width, w);
    team.share(parts_in(window), w, [&](int part, int parts, Workspace&) {
        kernels_.head(head_.packed, w.pixels.as<int16_t>(), static_cast<ptrdiff_t>(width + 2) * 3, part_of(window, part, parts), e);
    });
    for (size_t b = 0; b < blocks.size(); b++) {
        if (cancel.load(std::memory_order_relaxed)) return false;
        e = epilogue(blocks[b].conv1);
        e.store = Store::codes;
        e.codes = hidden;
        e.code_row = row;
        e.code_px = features_;
        e.hi = 2 * half - 1;
        conv(blocks[b].conv1, codes, window, e);
        if (cancel.load(std::memory_order_relaxed)) return false;
        e = epilogue(blocks[b].conv2);
        e.x_in = b == 0 ? w.skip.as<float>() : w.stream.as<float>();
        e.x_out = w.stream.as<float>();
        conv(blocks[b].conv2, hidden, window, streamed(e, b + 1));
    }

    // The body convolution reads the residual stream and adds the head features; its codes reuse the hidden map.
    fill_border(w.hidden.as(), height, width, features_, kSignedZero);
    e = epilogue(body_);
    e.store = Store::stream;
    e.codes = hidden;
    e.code_row = row;
    e.code_px = features_;
    e.x_in = w.skip.as<float>();
    e.x_row = static_cast<ptrdiff_t>(width) * features_;
    e.x_px = features_;
    e.inv = up_inv_.as<float>();
    const Range codes_behind = ups_.empty() ? kStatic : ups_[0].codes;
    e.lo = codes_behind.lo, e.hi = codes_behind.hi;
    if (cancel.load(std::memory_order_relaxed)) return false;
    conv(body_, codes, needed_features(job.core, height, width), e);
    team.share(parts_in(job.core), w, [&](int part, int parts, Workspace& own) {
        Job some = job;
        some.core = part_of(job.core, part, parts);
        some.out += (some.core.y0 - job.core.y0) * scale_ * job.out_row;
        if (ups_.empty())
            shuffle_pixels(some, width, w.hidden.as(), own, cancel);
        else
            upsample(some, height, width, w.hidden.as(), own, cancel);
    });
    return !cancel.load(std::memory_order_relaxed);
}

// Low-resolution pixels that the layers behind the body convolution read for a core.
Region Network::needed_features(const Region& core, int height, int width) const {
    if (ups_.empty()) return grown(core, height, width);
    Region features = multiplied(core, scale_);
    int resolution = scale_;
    for (size_t s = ups_.size(); s-- > 0;) {
        features = divided(grown(features, height * resolution, width * resolution), ups_[s].r);
        resolution /= ups_[s].r;
    }
    return grown(features, height, width);
}

// The tail at low resolution, a band of rows at a time, whose sub-pixels then go to their places.
void Network::shuffle_pixels(const Job& job, int width, const uint8_t* hidden, Workspace& w, const std::atomic<bool>& cancel) const {
    const Region& core = job.core;
    const int across = core.x1 - core.x0, stored = shuffled_tail_.conv->packed.cout, taken = 3 * scale_;
    const ptrdiff_t row = static_cast<ptrdiff_t>(width + kBorder) * features_, band_row = static_cast<ptrdiff_t>(across) * stored;
    w.planes.resize(1);
    if (w.planes[0].size() < static_cast<size_t>(kBandRows * band_row)) w.planes[0] = Aligned(kBandRows * band_row);
    std::vector<ptrdiff_t> groups;
    for (int first = 0; first < stored; first += kGroup) groups.push_back(first);
    Epilogue e = epilogue(shuffled_tail_);
    e.store = Store::codes;
    e.codes = w.planes[0].as();
    e.code_row = band_row;
    e.code_px = stored;
    e.group = groups.data();
    e.hi = 255;
    for (int y = core.y0; y < core.y1 && !cancel.load(std::memory_order_relaxed); y += kBandRows) {
        const int rows = std::min(kBandRows, core.y1 - y);
        const uint8_t* in = hidden + (y + kBefore) * row + static_cast<ptrdiff_t>(core.x0 + kBefore) * features_;
        kernels_.conv(shuffled_tail_.conv->packed, in, row, {0, rows, 0, across}, e, w.conv_scratch.as());
        for (int line = 0; line < rows * scale_; line++) {
            const uint8_t* from = e.codes + line / scale_ * band_row + line % scale_ * taken;
            uint8_t* to = job.out + ((y - core.y0) * scale_ + line) * job.out_row;
            for (int x = 0; x < across; x++) std::memcpy(to + x * taken, from + static_cast<ptrdiff_t>(x) * stored, taken);
        }
    }
}

// Rows flow through all upsampler layers and the tail in bands, so that the large maps stay in the cache. Stage s reads plane s;
// the last stage is the tail. Only what the core of the patch needs is computed.
void Network::upsample(const Job& job, int height, int width, uint8_t* hidden, Workspace& w,
                       const std::atomic<bool>& cancel) const {
    const Region features = needed_features(job.core, height, width);
    const size_t stages = ups_.size();
    std::vector<Region> compute(stages + 1);
    compute[stages] = multiplied(job.core, scale_);
    int resolution = scale_;
    for (size_t s = stages; s-- > 0;) {
        compute[s] = divided(grown(compute[s + 1], height * resolution, width * resolution), ups_[s].r);
        resolution /= ups_[s].r;
    }

    std::vector<Plane> planes(stages + 1);
    planes[0] = {hidden, static_cast<ptrdiff_t>(width + kBorder) * features_, features_, -kBefore, -kBefore,
                 features.y1, features, height};
    int most_rows = kBandRows;
    w.planes.resize(stages);
    std::vector<std::vector<ptrdiff_t>> groups(stages);
    for (size_t s = 0; s < stages; s++) {
        const int r = ups_[s].r;
        Plane& p = planes[s + 1];
        resolution *= r;
        p.content = multiplied(compute[s], r);
        p.top = std::min(p.content.y0, compute[s + 1].y0 - 1);
        p.left = std::min(p.content.x0, compute[s + 1].x0 - 1);
        p.end = p.content.y0;
        p.height = height * resolution;
        p.channels = features_;
        p.row = static_cast<ptrdiff_t>(p.content.x1 - p.left + kAfter) * features_;
        const size_t bytes = static_cast<size_t>(r * most_rows + kKeptRows) * p.row;
        if (w.planes[s].size() < bytes) w.planes[s] = Aligned(bytes);
        p.memory = w.planes[s].as();
        std::memset(p.memory, kSignedZero, bytes);
        most_rows = r * most_rows + 2;
        for (int o = 0; o < r * r * features_; o += kGroup) {
            const int ij = o / features_;
            groups[s].push_back(ij / r * p.row + static_cast<ptrdiff_t>(ij % r) * features_ + o % features_);
        }
    }

    std::vector<int> next(stages + 1);
    for (size_t s = 0; s <= stages; s++) next[s] = compute[s].y0;
    while (next[stages] < compute[stages].y1) {
        if (cancel.load(std::memory_order_relaxed)) return;
        for (size_t s = 0; s <= stages; s++) {
            const Plane& from = planes[s];
            int to = from.end == from.content.y1 ? compute[s].y1 : std::min(compute[s].y1, from.end - 1);
            if (s == 0) to = std::min(to, next[0] + kBandRows);
            if (to <= next[s]) continue;
            const uint8_t* in = from.at(next[s], compute[s].x0);
            const Region region = {0, to - next[s], 0, compute[s].x1 - compute[s].x0};
            if (s == stages) {
                kernels_.tail(tail_.packed, in, from.row, region, job.out + (next[s] - compute[s].y0) * job.out_row,
                              job.out_row, w.tail_scratch.as<int32_t>());
            } else {
                const int r = ups_[s].r;
                Plane& onto = planes[s + 1];
                onto.slide(next[s + 1] - 1);
                Epilogue e = epilogue(ups_[s].layer);
                e.store = Store::codes;
                e.codes = onto.at(next[s] * r, compute[s].x0 * r);
                e.code_row = r * onto.row;
                e.code_px = static_cast<ptrdiff_t>(r) * features_;
                e.group = groups[s].data();
                const Range codes = s + 1 < stages ? ups_[s + 1].codes : kStatic;
                e.lo = codes.lo + kSignedZero, e.hi = codes.hi + kSignedZero;  // the offset c brings the +128
                kernels_.conv(ups_[s].layer.conv->packed, in, from.row, region, e, w.conv_scratch.as());
                onto.end = to * r;
                if (onto.end == onto.height) std::memset(onto.at(onto.end, onto.left), kSignedZero, onto.row);
            }
            next[s] = to;
        }
    }
}

}  // namespace gdq
