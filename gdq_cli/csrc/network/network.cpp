#include "network.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace gdq {
namespace {

// Largest magnitude. Throws std::invalid_argument unless there are none or n, all of them finite.
double largest(const std::vector<float>& values, int n, const char* what) {
    if (!values.empty() && values.size() != static_cast<size_t>(n))
        throw std::invalid_argument(std::string(what) + ": " + std::to_string(values.size()) + " instead of " + std::to_string(n));
    double most = 0;
    for (float value : values) {
        if (!std::isfinite(value)) throw std::invalid_argument(std::string(what) + " must be finite");
        most = std::max(most, static_cast<double>(std::fabs(value)));
    }
    return most;
}

void check_signed(Range codes, const char* what) {
    if (codes.lo < -128 || codes.lo >= 0 || codes.hi > 127 || codes.hi < 0)
        throw std::invalid_argument(std::string(what) + " takes signed codes of at most 8 bits");
}

constexpr int kMostBuffers = 64;

void check_buffer(int buffer, int least) {
    if (buffer < least || buffer >= kMostBuffers) throw std::invalid_argument("no such buffer: " + std::to_string(buffer));
}

}  // namespace

Network::Network(const Kernels& kernels, int features, int scale, std::vector<int> outer, int given, float largest)
    : kernels_(kernels), features_(features), scale_(scale), outer_(std::move(outer)), given_(given), largest_(largest) {
    if (features <= 0 || features % kGroup || features > 1024)
        throw std::invalid_argument("the kernels take features in multiples of 64 up to 1024, not " + std::to_string(features));
    if (scale < 2 || scale > 8) throw std::invalid_argument("scale must be 2 to 8, not " + std::to_string(scale));
    for (int stream : outer_) check_buffer(stream, 0);
    for (int g = 0; g < features / kGroup; g++) plain_groups_.push_back(g * kGroup);
    const size_t bytes = features * sizeof(float);
    no_layer_ = std::make_shared<Layer>(Layer{nullptr, Aligned(bytes), Aligned(bytes), 0});
}

LazyConv::LazyConv(const int8_t* weight, int cout, int cin, Range codes, const std::vector<int>& order, const Kernels& kernels)
    : cout_(cout), cin_(cin), codes_(codes), order_(order), kernels_(kernels),
      algorithm_(choose_algorithm(weight, cout, cin, codes, kernels)), weight_(weight, weight + static_cast<size_t>(cout) * cin * 9) {}

bool LazyConv::equals(const LazyConv& other) const {
    return algorithm_ == other.algorithm_ && zero_of(codes_) == zero_of(other.codes_) && order_ == other.order_ &&
           weight_ == other.weight_;
}

const PackedConv& LazyConv::packed() const {
    std::call_once(once_, [this] {
        conv_ = pack_conv(weight_.data(), cout_, cin_, codes_, algorithm_, order_, kernels_);
        std::vector<int8_t>().swap(weight_);  // an assignment would keep its memory
    });
    return conv_.packed;
}

Layer Network::make_layer(const int8_t* weight, int cout, Range codes, const float* m, const float* c,
                          const std::vector<int>& order) {
    const double peak = affine_peak(accumulator_peaks(weight, cout, features_, codes), m, c);
    std::shared_ptr<const LazyConv> conv = std::make_shared<LazyConv>(weight, cout, features_, codes, order, kernels_);
    const auto same = std::find_if(convs_.begin(), convs_.end(), [&](const auto& other) { return other->equals(*conv); });
    if (same != convs_.end()) conv = *same;
    else convs_.push_back(conv);
    return {std::move(conv), padded_floats(m, cout, order), padded_floats(c, cout, order), peak};
}

void Network::set_head(const int16_t* weight, const float* m, const float* c, const int* mean) {
    for (int i = 0; i < 3; i++)
        if (mean[i] < 0 || mean[i] > 255) throw std::invalid_argument("channel means must be within 0..255");
    head_ = pack_head(weight, features_, mean, kernels_);
    const double peak = affine_peak(head_.peaks, m, c);
    head_layer_ = std::make_shared<Layer>(Layer{nullptr, padded_floats(m, features_), padded_floats(c, features_), peak});
    std::copy(mean, mean + 3, mean_);
}

// Follows the largest possible values through the layers: kernels convert them to int32 without a clamp of their own.
Finish Network::make_finish(Ending ending, double peak) {
    check_buffer(ending.add, -1), check_buffer(ending.keep, -1), check_buffer(ending.to, -1);
    const double slope = largest(ending.slope, features_, "slopes"), factor = largest(ending.factor, features_, "factors");
    const double shift = largest(ending.shift, features_, "shifts");
    peak *= std::max(1.0, slope);
    if (ending.add >= 0) {
        if (ending.add >= static_cast<int>(peaks_.size()) || peaks_[ending.add] < 0)
            throw std::invalid_argument("a stream is added before it is kept");
        peak += peaks_[ending.add] * std::fabs(ending.add_factor);
    }
    if (ending.keep >= 0) {
        if (ending.keep >= static_cast<int>(peaks_.size())) peaks_.resize(ending.keep + 1, -1);
        peaks_[ending.keep] = peak;
        streams_ = std::max(streams_, static_cast<int>(peaks_.size()));
    }
    const bool is_plain = ending.slope.empty() && ending.add < 0 && ending.keep < 0;
    const Range codes = ending.codes;
    Finish finish{std::move(ending)};
    if (finish.to < 0) return finish;
    if (codes.lo > 0 || codes.hi < codes.lo || codes.hi > (codes.lo < 0 ? 127 : 255) || codes.lo < -128)
        throw std::invalid_argument("codes are of 8 bits at most");
    if (!finish.factor.empty() && !finish.shift.empty()) {
        check_value(peak * factor + shift);
    } else {
        if (!is_plain) throw std::invalid_argument("codes without a factor come straight from a layer");
        finish.store = Store::codes;
        check_value(peak);
    }
    if (finish.to >= static_cast<int>(borders_.size())) borders_.resize(finish.to + 1, -1);
    if (borders_[finish.to] != zero_of(codes)) finish.border = borders_[finish.to] = zero_of(codes);
    maps_ = std::max(maps_, static_cast<int>(borders_.size()));
    return finish;
}

void Network::begin(int bit_width, int end) {
    if (bit_width < 2 || bit_width > 8) throw std::invalid_argument("bit-widths are 2 to 8, not " + std::to_string(bit_width));
    if (has_bit_width(bit_width)) throw std::invalid_argument("a bit-width is given twice");
    borders_.clear();
    peaks_.clear();
    for (int i = 0; i < given_; i++) {
        if (outer_[i] >= static_cast<int>(peaks_.size())) peaks_.resize(outer_[i] + 1, -1);
        peaks_[outer_[i]] = largest_;
    }
    streams_ = std::max(streams_, static_cast<int>(peaks_.size()));
    sequences_[bit_width].end = end;
}

void Network::add_step(int bit_width, Step::Reads reads, int source, std::shared_ptr<const Layer> layer, Ending ending) {
    if (!has_bit_width(bit_width)) throw std::invalid_argument("the bit-width was not begun");
    const double peak = layer->peak;
    sequences_.at(bit_width).steps.push_back({reads, std::move(layer), source, make_finish(std::move(ending), peak)});
}

void Network::add_head(int bit_width, Ending ending) {
    if (!has_head()) throw std::invalid_argument("the network has no head");
    add_step(bit_width, Step::Reads::pixels, -1, head_layer_, std::move(ending));
}

void Network::add_pass(int bit_width, Ending ending) {
    if (ending.add < 0) throw std::invalid_argument("there is no stream to become codes");
    add_step(bit_width, Step::Reads::nothing, -1, no_layer_, std::move(ending));
}

void Network::add_conv(int bit_width, int source, const int8_t* weight, const float* m, const float* c, Range codes,
                       Ending ending) {
    if (source < 0 || source >= static_cast<int>(borders_.size()) || borders_[source] != zero_of(codes))
        throw std::invalid_argument("a layer reads codes that are not there");
    if (source == ending.to) throw std::invalid_argument("a layer cannot write to the map that it reads");
    auto layer = std::make_shared<Layer>(make_layer(weight, features_, codes, m, c, {}));
    add_step(bit_width, Step::Reads::codes, source, std::move(layer), std::move(ending));
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
    if (enlarged) codes = {-128, 127};  // so that its kernel is one that adds pixels
    shuffled_tail_ = make_layer(weight, 3 * r * r, codes, m, c, order);
    check_value(shuffled_tail_.peak + 255);
}

void Network::finish() {
    const bool upsamples = !ups_.empty(), shuffles = shuffled_tail_.conv != nullptr;
    if (has_pixels() ? upsamples == shuffles : upsamples || outer_.empty())
        throw std::invalid_argument("the network lacks its upsampler or tail, or streams to leave behind");
    int product = 1;
    for (const UpLayer& up : ups_) product *= up.r;
    if (upsamples && product != scale_) throw std::invalid_argument("the upsampler's factors do not multiply to the scale");
    if (sequences_.empty()) throw std::invalid_argument("the network has no bit-width");
    for (const auto& [bits, sequence] : sequences_) {
        bool feeds = false;
        std::vector<int> kept(outer_.begin(), outer_.begin() + given_);
        for (const Step& step : sequence.steps) {
            kept.push_back(step.finish.keep);
            if (step.finish.to >= 0 && step.finish.to == sequence.end) feeds = step.finish.codes.lo < 0;
        }
        if (has_pixels() ? !feeds : sequence.end >= 0)
            throw std::invalid_argument("the last layer at the size of the patch does not feed the upsampler or tail");
        for (int stream : outer_)
            if (std::find(kept.begin(), kept.end(), stream) == kept.end())
                throw std::invalid_argument("a stream is left behind before it is kept");
    }
    convs_ = {};
}

std::vector<Algorithm> Network::algorithms(int bit_width) const {
    std::vector<Algorithm> found;
    for (const Step& step : sequences_.at(bit_width).steps)
        if (step.layer->conv) found.push_back(step.layer->conv->algorithm());
    return found;
}

int64_t Network::effort(const Job& job) const {
    int64_t layers = 0;  // the direct kernel takes about twice as long as the others
    for (const Step& step : sequences_.at(job.bit_width).steps)
        if (step.layer->conv) layers += step.layer->conv->algorithm() == Algorithm::direct ? 2 : 1;
    return layers * job.height * job.width;
}

std::unique_ptr<Workspace> Network::take_workspace(Room room) const {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        while (!idle_.empty()) {
            std::unique_ptr<Workspace> w = std::move(idle_.back());
            idle_.pop_back();
            if (w->fits(room)) return w;
        }
    }
    return std::make_unique<Workspace>(room, features_, scale_, maps_, kernels_.scratch_bytes(features_));
}

void Network::return_workspace(std::unique_ptr<Workspace> w) const {
    std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(std::move(w));
}

}  // namespace gdq
