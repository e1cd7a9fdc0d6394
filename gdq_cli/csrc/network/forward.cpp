// One window through the network: all layers by one thread, feature maps in its own workspace.
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
constexpr int kTileRows = 4;   // rows that Winograd computes at once, at most
constexpr size_t kChain = 8;   // layers whose rows follow each other through a window,
constexpr int kChainRows = 32; // so many at a time, that caches hold them and the layers' weights
constexpr int kEndWork = 8;    // what the layers behind those of the patch's size count for, in reports of progress

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

// One of several parts of a region's rows, whole tiles.
Region part_of(const Region& r, int part, int parts) {
    const int tiles = (r.y1 - r.y0 + kTileRows - 1) / kTileRows;
    return {r.y0 + kTileRows * (tiles * part / parts), std::min(r.y1, r.y0 + kTileRows * (tiles * (part + 1) / parts)), r.x0, r.x1};
}

int parts_in(const Region& r) { return (r.y1 - r.y0) / kPartRows; }

Region multiplied(const Region& r, int by) { return {r.y0 * by, r.y1 * by, r.x0 * by, r.x1 * by}; }

// Whether a step can compute rows while the one before goes on: it reads the codes that this one writes, which may take the
// place of those that it has read, and no border changes meanwhile.
bool follows(const Step& before, const Step& step) {
    const auto is_conv = [](const Step& s) { return s.reads == Step::Reads::codes; };
    return is_conv(before) && is_conv(step) && step.source == before.finish.to && step.finish.border < 0;
}

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

void Room::hold(int height, int wide) {
    area = std::max(area, static_cast<size_t>(height + kBorder) * (wide + kBorder));
    width = std::max(width, wide);
}

Workspace::Workspace(Room room, int features, int scale, int map_count, size_t scratch)
    : pixels(room.area * 3 * sizeof(int16_t) + 128),
      conv_scratch(scratch),
      tail_scratch(static_cast<size_t>(room.width * scale + 32) * 16 * sizeof(int32_t)),
      room_(room) {
    for (int i = 0; i < map_count; i++) maps.emplace_back(room.area * features);
}

Epilogue Network::epilogue(const Layer& layer) const {
    Epilogue e{};
    e.m = layer.m.as<float>();
    e.c = layer.c.as<float>();
    e.group = plain_groups_.data();
    return e;
}

// Pixels minus the mean, as the head reads them: with a border of zeros.
void Network::centre(const Job& job, Workspace& w) const {
    int16_t* centred = w.pixels.as<int16_t>();
    const ptrdiff_t row = static_cast<ptrdiff_t>(job.width + 2) * 3;
    std::memset(centred, 0, w.pixels.size());
    for (int y = 0; y < job.height; y++)
        for (int x = 0; x < job.width; x++)
            for (int c = 0; c < 3; c++)
                centred[(y + 1) * row + (x + 1) * 3 + c] =
                    static_cast<int16_t>(job.pixels[y * job.row + x * job.column + c * job.channel] - mean_[c]);
}

// Where each stream of a window is: with the caller, or in the workspace.
std::vector<float*> Network::place_streams(const Job& job, Workspace& w) const {
    std::vector<float*> streams(streams_, nullptr);
    for (size_t i = 0; i < outer_.size(); i++) streams[outer_[i]] = job.streams[i];
    w.streams.resize(streams_);
    for (int s = 0; s < streams_; s++) {
        if (streams[s]) continue;
        const size_t bytes = static_cast<size_t>(job.height) * job.width * features_ * sizeof(float);
        if (w.streams[s].size() < bytes) w.streams[s] = Aligned(bytes);
        streams[s] = w.streams[s].as<float>();
    }
    return streams;
}

// Where a layer's values go, and its map's border.
Epilogue Network::finished(Epilogue e, const Finish& f, int height, int width, Workspace& w,
                           const std::vector<float*>& streams) const {
    e.store = f.store;
    if (f.to >= 0) {
        const ptrdiff_t row = static_cast<ptrdiff_t>(width + kBorder) * features_;
        uint8_t* map = w.maps[f.to].as();
        if (f.border >= 0) fill_border(map, height, width, features_, f.border);
        e.codes = map + kBefore * row + static_cast<ptrdiff_t>(kBefore) * features_;
        e.code_row = row;
        e.code_px = features_;
    }
    e.slope = f.slope.empty() ? nullptr : f.slope.data();
    e.inv = f.factor.data();
    e.shift = f.shift.data();
    e.x_in = f.add < 0 ? nullptr : streams[f.add];
    e.x_factor = f.add_factor;
    e.x_out = f.keep < 0 ? nullptr : streams[f.keep];
    e.x_row = static_cast<ptrdiff_t>(width) * features_;
    e.x_px = features_;
    const int zero = f.store == Store::codes ? zero_of(f.codes) : 0;  // c brings it
    e.lo = f.codes.lo + zero, e.hi = f.codes.hi + zero;
    return e;
}

// All layers at the size of the window, each on the part of its map that later ones need.
bool Network::run_layers(const Job& job, Workspace& w, Team& team, Run& all) const {
    const int height = job.height, width = job.width;
    const Sequence& sequence = sequences_.at(job.bit_width);
    const ptrdiff_t row = static_cast<ptrdiff_t>(width + kBorder) * features_;
    const ptrdiff_t origin = kBefore * row + static_cast<ptrdiff_t>(kBefore) * features_;

    const Region nothing = {height, 0, width, 0};
    std::vector<Region> of_map(maps_, nothing), of_stream(streams_, nothing);  // what is still needed, from behind
    const auto join = [](Region& a, const Region& b) {
        a = {std::min(a.y0, b.y0), std::max(a.y1, b.y1), std::min(a.x0, b.x0), std::max(a.x1, b.x1)};
    };
    const auto taken = [&](const Finish& f) {  // what a layer has to compute; before it, nobody needs what it writes
        Region region = nothing;
        if (f.to >= 0) std::swap(region, of_map[f.to]);
        if (f.keep >= 0) {
            join(region, of_stream[f.keep]);
            of_stream[f.keep] = nothing;
        }
        if (f.add >= 0) join(of_stream[f.add], region);
        return region;
    };
    if (sequence.end >= 0) join(of_map[sequence.end], needed_features(job.core, height, width));
    for (int stream : outer_) join(of_stream[stream], job.core);
    std::vector<Region> regions(sequence.steps.size());
    for (size_t s = regions.size(); s-- > 0;) {
        regions[s] = taken(sequence.steps[s].finish);
        if (sequence.steps[s].source >= 0) join(of_map[sequence.steps[s].source], grown(regions[s], height, width));
    }

    const std::vector<float*> streams = place_streams(job, w);
    const auto compute = [&](const Step& step, const Region& region, const Epilogue& e) {
        const PackedConv* conv = step.reads == Step::Reads::codes ? &step.layer->conv->packed() : nullptr;
        team.share(parts_in(region), w, [&](int part, int parts, Workspace& own) {
            const Region some = part_of(region, part, parts);
            switch (step.reads) {
                case Step::Reads::pixels:
                    return kernels_.head(head_.packed, w.pixels.as<int16_t>(), static_cast<ptrdiff_t>(width + 2) * 3, some, e);
                case Step::Reads::codes:
                    return kernels_.conv(*conv, w.maps[step.source].as() + origin, row, some, e, own.conv_scratch.as());
                case Step::Reads::nothing: return kernels_.pass(features_, some, e);
            }
        });
    };
    const auto is_read = [&](size_t s) { return regions[s].y0 < regions[s].y1; };  // what it writes
    for (size_t first = 0, end; first < regions.size(); first = end) {
        end = first + 1;
        while (end < regions.size() && end - first < kChain && is_read(end) &&
               follows(sequence.steps[end - 1], sequence.steps[end]))
            end++;
        all.work.fetch_add(job.patches * static_cast<int64_t>(end - first), std::memory_order_relaxed);
        if (!is_read(first)) continue;
        std::vector<Epilogue> epilogues;
        std::vector<int> next;
        for (size_t s = first; s < end; s++) {
            const Step& step = sequence.steps[s];
            if (step.reads == Step::Reads::pixels) centre(job, w);
            epilogues.push_back(finished(epilogue(*step.layer), step.finish, height, width, w, streams));
            next.push_back(regions[s].y0);
        }
        // Bands of rows pass through the chain, so that what one layer writes is still in a cache when the next one reads it.
        const int band = end - first == 1 ? height : kChainRows * (1 + team.helpers());
        while (next.back() < regions[end - 1].y1) {
            if (all.cancel.load(std::memory_order_relaxed)) return false;
            for (size_t i = 0; i < next.size(); i++) {
                Region part = regions[first + i];
                part.y0 = next[i];
                int to = next[i] + band;
                if (i > 0 && next[i - 1] < regions[first + i - 1].y1)  // whole tiles of rows whose neighbours are there
                    to = next[i] + std::max(next[i - 1] - 1 - next[i], 0) / kTileRows * kTileRows;
                else if (i > 0)
                    to = part.y1;
                part.y1 = next[i] = std::min(part.y1, to);
                if (part.y0 < part.y1) compute(sequence.steps[first + i], part, epilogues[i]);
            }
        }
    }
    return !all.cancel.load(std::memory_order_relaxed);
}

int64_t Network::work(const Job& job) const {
    return job.patches * (static_cast<int64_t>(sequences_.at(job.bit_width).steps.size()) + (has_pixels() ? kEndWork : 0));
}

bool Network::run(const Job& job, Workspace& w, Team& team, Run& all) const {
    if (!run_layers(job, w, team, all)) return false;
    if (!has_pixels()) return true;
    uint8_t* codes = w.maps[sequences_.at(job.bit_width).end].as();
    team.share(parts_in(job.core), w, [&](int part, int parts, Workspace& own) {
        Job some = job;
        some.core = part_of(job.core, part, parts);
        some.out += (some.core.y0 - job.core.y0) * scale_ * job.out_row;
        if (ups_.empty())
            shuffle_pixels(some, codes, own, all.cancel);
        else
            upsample(some, codes, own, all.cancel);
    });
    all.work.fetch_add(job.patches * kEndWork, std::memory_order_relaxed);
    return !all.cancel.load(std::memory_order_relaxed);
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
void Network::shuffle_pixels(const Job& job, const uint8_t* hidden, Workspace& w, const std::atomic<bool>& cancel) const {
    const Region& core = job.core;
    const PackedConv& conv = shuffled_tail_.conv->packed();
    const int width = job.width, across = core.x1 - core.x0, stored = conv.cout, taken = 3 * scale_;
    const ptrdiff_t row = static_cast<ptrdiff_t>(width + kBorder) * features_, band_row = static_cast<ptrdiff_t>(across) * stored;
    w.planes.resize(1);
    if (w.planes[0].size() < static_cast<size_t>(kBandRows * band_row)) w.planes[0] = Aligned(kBandRows * band_row);
    std::vector<ptrdiff_t> groups;
    for (int first = 0; first < stored; first += kGroup) groups.push_back(first);
    Epilogue e = epilogue(shuffled_tail_);
    e.store = enlarged_ ? Store::pixels : Store::codes;
    e.codes = w.planes[0].as();
    e.code_row = band_row;
    e.code_px = stored;
    e.group = groups.data();
    e.hi = 255;
    if (enlarged_) {
        if (w.enlarged.size() < kBandRows * band_row * sizeof(float)) w.enlarged = Aligned(kBandRows * band_row * sizeof(float));
        e.x_in = w.enlarged.as<float>();
        e.x_row = band_row;
        e.x_px = stored;
    }
    for (int y = core.y0; y < core.y1 && !cancel.load(std::memory_order_relaxed); y += kBandRows) {
        const int rows = std::min(kBandRows, core.y1 - y);
        if (enlarged_)
            for (int line = 0; line < rows; line++)
                for (int x = 0; x < across; x++) {
                    const uint8_t* pixel = job.pixels + (y + line) * job.row + (core.x0 + x) * job.column;
                    float* to = w.enlarged.as<float>() + line * band_row + static_cast<ptrdiff_t>(x) * stored;
                    for (int o = 0; o < 3 * scale_ * scale_; o++) to[o] = pixel[o % 3 * job.channel];
                }
        const uint8_t* in = hidden + (y + kBefore) * row + static_cast<ptrdiff_t>(core.x0 + kBefore) * features_;
        kernels_.conv(conv, in, row, {0, rows, 0, across}, e, w.conv_scratch.as());
        for (int line = 0; line < rows * scale_; line++) {
            const uint8_t* from = e.codes + line / scale_ * band_row + line % scale_ * taken;
            uint8_t* to = job.out + ((y - core.y0) * scale_ + line) * job.out_row;
            for (int x = 0; x < across; x++) std::memcpy(to + x * taken, from + static_cast<ptrdiff_t>(x) * stored, taken);
        }
    }
}

// Rows flow through all upsampler layers and the tail in bands, so that the large maps stay in the cache. Stage s reads plane s;
// the last stage is the tail. Only what the core of the patch needs is computed.
void Network::upsample(const Job& job, uint8_t* hidden, Workspace& w, const std::atomic<bool>& cancel) const {
    const int height = job.height, width = job.width;
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
                const Range codes = ups_[s].codes;
                e.lo = codes.lo + kSignedZero, e.hi = codes.hi + kSignedZero;  // the offset c brings the +128
                kernels_.conv(ups_[s].layer.conv->packed(), in, from.row, region, e, w.conv_scratch.as());
                onto.end = to * r;
                if (onto.end == onto.height) std::memset(onto.at(onto.end, onto.left), kSignedZero, onto.row);
            }
            next[s] = to;
        }
    }
}

}  // namespace gdq
