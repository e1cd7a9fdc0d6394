#include "network.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

namespace gdq {
namespace {

Aligned floats(const float* values, int n, const std::vector<int>& order) {
    Aligned a(static_cast<size_t>(padded(n)) * sizeof(float));
    for (int i = 0; i < n; i++) a.as<float>()[i] = values[order.empty() ? i : order[i]];
    return a;
}

Aligned checked_floats(const float* values, int n, const char* what) {
    if (!values) return {};
    for (int i = 0; i < n; i++)
        if (!std::isfinite(values[i])) throw std::invalid_argument(std::string(what) + " must be finite");
    return floats(values, n, {});
}

double largest(const Aligned& values, int n) {
    double most = 0;
    for (int i = 0; i < n; i++) most = std::max(most, static_cast<double>(std::fabs(values.as<float>()[i])));
    return most;
}

void check_signed(Range codes, const char* what) {
    if (codes.lo < -128 || codes.lo >= 0 || codes.hi > 127 || codes.hi < 0)
        throw std::invalid_argument(std::string(what) + " takes signed codes of at most 8 bits");
}

int border_of(Range codes) { return codes.lo < 0 ? kSignedZero : 0; }

}  // namespace

Network::Network(const Kernels& kernels, int features, int scale) : kernels_(kernels), features_(features), scale_(scale) {
    if (features <= 0 || features % kGroup || features > 1024)
        throw std::invalid_argument("the kernels take features in multiples of 64 up to 1024, not " + std::to_string(features));
    if (scale < 2 || scale > 8) throw std::invalid_argument("scale must be 2 to 8, not " + std::to_string(scale));
    for (int g = 0; g < features / kGroup; g++) plain_groups_.push_back(g * kGroup);
}

Layer Network::make_layer(const int8_t* weight, int cout, Range codes, const float* m, const float* c,
                          const std::vector<int>& order) {
    const double peak = affine_peak(accumulator_peaks(weight, cout, features_, codes), m, c);
    const size_t size = static_cast<size_t>(cout) * features_ * 9;
    const auto is_low = [](Range r) { return r.hi - r.lo < 64; };
    std::shared_ptr<const Conv> conv;
    for (const Shared& s : shared_)
        if (order.empty() && s.weight.size() == size && (s.codes.lo < 0) == (codes.lo < 0) && is_low(s.codes) == is_low(codes) &&
            std::memcmp(s.weight.data(), weight, size) == 0)
            conv = s.conv;
    if (!conv) {
        const Algorithm a = choose_algorithm(weight, cout, features_, codes, kernels_);
        conv = std::make_shared<Conv>(pack_conv(weight, cout, features_, codes, a, order, kernels_));
        if (order.empty()) shared_.push_back({std::vector<int8_t>(weight, weight + size), codes, conv});
    }
    return {conv, floats(m, cout, order), floats(c, cout, order), peak};
}

void Network::set_head(const int16_t* weight, const float* m, const float* c, const int* mean) {
    for (int i = 0; i < 3; i++)
        if (mean[i] < 0 || mean[i] > 255) throw std::invalid_argument("channel means must be within 0..255");
    head_ = pack_head(weight, features_, mean, kernels_);
    head_peak_ = affine_peak(head_.peaks, m, c);
    head_m_ = floats(m, features_, {});
    head_c_ = floats(c, features_, {});
    std::copy(mean, mean + 3, mean_);
    has_head_ = true;
}

// Follows the largest possible values through the layers: kernels convert them to int32 without a clamp of their own.
Finish Network::make_finish(const Ending& ending, double peak, bool is_head) {
    constexpr int kMostBuffers = 64;
    const auto number = [&](int buffer, int least) {
        if (buffer < least || buffer >= kMostBuffers) throw std::invalid_argument("no such buffer: " + std::to_string(buffer));
    };
    number(ending.add, -1), number(ending.keep, -1), number(ending.to, 0);
    const Range codes = ending.codes;
    if (codes.lo > 0 || codes.hi < codes.lo || codes.hi > (codes.lo < 0 ? 127 : 255) || codes.lo < -128)
        throw std::invalid_argument("codes are of 8 bits at most");
    Finish finish;
    finish.add = ending.add, finish.keep = ending.keep, finish.to = ending.to, finish.codes = codes;
    finish.slope = checked_floats(ending.slope, features_, "slopes");
    finish.inv = checked_floats(ending.inv, features_, "factors");
    finish.plain = !ending.inv;
    if (finish.plain ? is_head || codes.lo < 0 || ending.slope || ending.add >= 0 || ending.keep >= 0 : codes.lo == 0)
        throw std::invalid_argument("codes from 0 come straight from a layer, signed ones by a factor");
    if (ending.slope) peak *= std::max(1.0, largest(finish.slope, features_));
    if (ending.add >= 0) {
        if (ending.add >= static_cast<int>(peaks_.size()) || peaks_[ending.add] < 0)
            throw std::invalid_argument("a stream is added before it is kept");
        peak += peaks_[ending.add];
    }
    if (ending.keep >= 0) {
        if (ending.keep >= static_cast<int>(peaks_.size())) peaks_.resize(ending.keep + 1, -1);
        peaks_[ending.keep] = peak;
    }
    check_value(finish.plain ? peak : peak * largest(finish.inv, features_));
    if (ending.to >= static_cast<int>(borders_.size())) borders_.resize(ending.to + 1, -1);
    if (borders_[ending.to] != border_of(codes)) finish.border = borders_[ending.to] = border_of(codes);
    maps_ = std::max(maps_, static_cast<int>(borders_.size()));
    streams_ = std::max(streams_, static_cast<int>(peaks_.size()));
    return finish;
}

void Network::begin(int bit_width, int end, const Ending& head) {
    if (!has_head_) throw std::invalid_argument("the head comes first");
    if (bit_width < 2 || bit_width > 8) throw std::invalid_argument("bit-widths are 2 to 8, not " + std::to_string(bit_width));
    if (has_bit_width(bit_width)) throw std::invalid_argument("a bit-width is given twice");
    borders_.clear();
    peaks_.clear();
    Sequence sequence;
    sequence.head = make_finish(head, head_peak_, true);
    if (head.add >= 0) throw std::invalid_argument("there is no stream before the head");
    sequence.end = end;
    sequences_.emplace(bit_width, std::move(sequence));
}

void Network::add_conv(int bit_width, int source, const int8_t* weight, const float* m, const float* c, Range codes,
                       const Ending& ending) {
    if (!has_bit_width(bit_width)) throw std::invalid_argument("the bit-width was not begun");
    if (source < 0 || source >= static_cast<int>(borders_.size()) || borders_[source] != border_of(codes))
        throw std::invalid_argument("a layer reads codes that are not there");
    if (source == ending.to) throw std::invalid_argument("a layer cannot write to the map that it reads");
    Step step;
    step.layer = make_layer(weight, features_, codes, m, c, {});
    step.source = source;
    step.finish = make_finish(ending, step.layer.peak, false);
    sequences_.at(bit_width).steps.push_back(std::move(step));
}

void Network::add_up(const int8_t* weight, const float* m, const float* c, int r, Range codes, Range made) {
    if (r < 2 || r > 4) throw std::invalid_argument("pixel shuffle factors are 2 to 4, not " + std::to_string(r));
    check_signed(codes, "the upsampler");
    check_signed(made, "the upsampler");
    std::vector<int> order;  // channel c * r * r + (i, j) is stored in sub-pixel (i, j), so a group of 64 is contiguous
    for (int ij = 0; ij < r * r; ij++)
        for (int ch = 0; ch < features_; ch++) order.push_back(ch * r * r + ij);
    UpLayer up;
    up.layer = make_layer(weight, features_ * r * r, codes, m, c, order);
    check_value(up.layer.peak);
    up.r = r;
    up.codes = made;
    ups_.push_back(std::move(up));
}

void Network::set_tail(const int8_t* weight, const float* m, const float* c, int r, Range codes, bool enlarged) {
    check_signed(codes, "the tail");
    enlarged_ = enlarged;
    if (r == 1) {
        if (enlarged) throw std::invalid_argument("the kernels add the input pixel to shuffled ones only");
        tail_ = pack_tail(weight, features_, m, c, kernels_);
        return;
    }
    std::vector<int> order;  // as the pixels of a patch lie: by row, column, colour
    for (int ij = 0; ij < r * r; ij++)
        for (int colour = 0; colour < 3; colour++) order.push_back(colour * r * r + ij);
    if (enlarged) codes = {-128, 127};  // so that its kernel is the direct one
    shuffled_tail_ = make_layer(weight, 3 * r * r, codes, m, c, order);
    check_value(shuffled_tail_.peak + 255);
}

void Network::finish() {
    if (!has_head_ || ups_.empty() != (shuffled_tail_.conv != nullptr) || ups_.empty() == !!tail_.packed.weights)
        throw std::invalid_argument("the network lacks its head, upsampler or tail");
    int product = 1;
    for (const UpLayer& up : ups_) product *= up.r;
    if (!ups_.empty() && product != scale_) throw std::invalid_argument("the upsampler's factors do not multiply to the scale");
    if (sequences_.empty()) throw std::invalid_argument("the network has no bit-width");
    for (const auto& [bits, sequence] : sequences_) {
        const Finish& last = sequence.steps.empty() ? sequence.head : sequence.steps.back().finish;
        if (last.to != sequence.end || last.codes.lo >= 0)
            throw std::invalid_argument("the last layer at the size of the patch does not feed the upsampler or tail");
    }
    shared_ = {};
}

std::vector<Algorithm> Network::algorithms(int bit_width) const {
    std::vector<Algorithm> found;
    for (const Step& step : sequences_.at(bit_width).steps) found.push_back(step.layer.conv->packed.algorithm);
    return found;
}

std::unique_ptr<Workspace> Network::take_workspace(int height, int width) const {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        while (!idle_.empty()) {
            std::unique_ptr<Workspace> w = std::move(idle_.back());
            idle_.pop_back();
            if (w->fits(height, width)) return w;
        }
    }
    return std::make_unique<Workspace>(height, width, features_, scale_, maps_, streams_, kernels_.scratch_bytes(features_));
}

void Network::return_workspace(std::unique_ptr<Workspace> w) const {
    std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(std::move(w));
}

}  // namespace gdq
