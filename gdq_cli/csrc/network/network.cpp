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

Aligned inverse_steps(const float* values, int n, bool scalar) {
    Aligned a(static_cast<size_t>(padded(n)) * sizeof(float));
    for (int i = 0; i < n; i++) {
        const float v = values[scalar ? 0 : i];
        if (!std::isfinite(v)) throw std::invalid_argument("inverse steps must be finite");
        a.as<float>()[i] = v;
    }
    return a;
}

}  // namespace

Network::Network(const Kernels& kernels, int features, int scale) : kernels_(kernels), features_(features), scale_(scale) {
    if (features <= 0 || features % kGroup || features > 1024)
        throw std::invalid_argument("the kernels take features in multiples of 64 up to 1024, not " + std::to_string(features));
    if (scale < 2 || scale > 8) throw std::invalid_argument("scale must be 2 to 8, not " + std::to_string(scale));
    for (int g = 0; g < features / kGroup; g++) plain_groups_.push_back(g * kGroup);
}

Layer Network::make_layer(const int8_t* weight, int cout, Range codes, bool winograd, const float* m, const float* c,
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
        const Algorithm a = winograd ? choose_algorithm(weight, cout, features_, codes, kernels_) : Algorithm::direct;
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

void Network::add_block(int bit_width, float inv, const int8_t* weight1, const float* m1, const float* c1,
                        const int8_t* weight2, const float* m2, const float* c2) {
    if (bit_width < 2 || bit_width > 8) throw std::invalid_argument("bit-widths are 2 to 8, not " + std::to_string(bit_width));
    const int half = 1 << (bit_width - 1);
    Block block;
    block.inv = inverse_steps(&inv, features_, true);
    block.conv1 = make_layer(weight1, features_, {-half, half - 1}, true, m1, c1, {});
    block.conv2 = make_layer(weight2, features_, {0, 2 * half - 1}, true, m2, c2, {});
    blocks_[bit_width].push_back(std::move(block));
}

void Network::set_body(const int8_t* weight, const float* m, const float* c, const float* inv) {
    body_ = make_layer(weight, features_, kStatic, false, m, c, {});
    body_inv_ = inverse_steps(inv, features_, false);
}

void Network::add_up(const int8_t* weight, const float* m, const float* c, int r, Range codes, const float* inv) {
    if (r < 2 || r > 4) throw std::invalid_argument("pixel shuffle factors are 2 to 4, not " + std::to_string(r));
    if (codes.lo < kStatic.lo || codes.lo >= 0 || codes.hi > kStatic.hi || codes.hi < 0)
        throw std::invalid_argument("the upsampler's codes are signed and of at most 8 bits");
    if (ups_.empty() != (inv != nullptr))
        throw std::invalid_argument("inverse steps belong to the first upsampler convolution and to no other");
    std::vector<int> order;  // channel c * r * r + (i, j) is stored in sub-pixel (i, j), so a group of 64 is contiguous
    for (int ij = 0; ij < r * r; ij++)
        for (int ch = 0; ch < features_; ch++) order.push_back(ch * r * r + ij);
    UpLayer up;
    up.layer = make_layer(weight, features_ * r * r, codes, true, m, c, order);
    up.r = r;
    up.codes = codes;
    if (inv) up_inv_ = inverse_steps(inv, features_, false);
    ups_.push_back(std::move(up));
}

void Network::set_tail(const int8_t* weight, const float* m, const float* c, int r, const float* inv) {
    if ((r > 1) != (inv != nullptr)) throw std::invalid_argument("inverse steps belong to a tail without an upsampler and to no other");
    if (r == 1) {
        tail_ = pack_tail(weight, features_, m, c, kernels_);
        return;
    }
    std::vector<int> order;  // as the pixels of a patch lie: by row, column, colour
    for (int ij = 0; ij < r * r; ij++)
        for (int colour = 0; colour < 3; colour++) order.push_back(colour * r * r + ij);
    shuffled_tail_ = make_layer(weight, 3 * r * r, kStatic, false, m, c, order);
    up_inv_ = inverse_steps(inv, features_, false);
}

void Network::finish() {
    if (!has_head_ || !body_.conv || ups_.empty() != (shuffled_tail_.conv != nullptr) || ups_.empty() == !!tail_.packed.weights)
        throw std::invalid_argument("the network lacks its head, body, upsampler or tail");
    int product = 1;
    for (const UpLayer& up : ups_) product *= up.r;
    if (!ups_.empty() && product != scale_) throw std::invalid_argument("the upsampler's factors do not multiply to the scale");
    if (blocks_.empty()) throw std::invalid_argument("the network has no residual blocks");
    for (const auto& [bits, blocks] : blocks_)
        if (blocks.size() != blocks_.begin()->second.size())
            throw std::invalid_argument("bit-widths differ in their number of residual blocks");
    check_values();
    shared_ = {};
}

// Follows the largest possible values through the network: kernels convert them to int32 without a clamp of their own.
void Network::check_values() const {
    const auto largest = [&](const Aligned& inv) {
        double most = 0;
        for (int i = 0; i < features_; i++) most = std::max(most, static_cast<double>(std::fabs(inv.as<float>()[i])));
        return most;
    };
    for (const auto& [bits, blocks] : blocks_) {
        double stream = head_peak_;
        for (const Block& block : blocks) {
            check_value(stream * largest(block.inv));
            check_value(block.conv1.peak);
            stream += block.conv2.peak;
        }
        check_value(stream * largest(body_inv_));
    }
    check_value((head_peak_ + body_.peak) * largest(up_inv_));
    for (const UpLayer& up : ups_) check_value(up.layer.peak);
    check_value(shuffled_tail_.peak);
}

std::vector<Algorithm> Network::algorithms(int bit_width) const {
    std::vector<Algorithm> found;
    for (const Block& b : blocks_.at(bit_width)) {
        found.push_back(b.conv1.conv->packed.algorithm);
        found.push_back(b.conv2.conv->packed.algorithm);
    }
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
    return std::make_unique<Workspace>(height, width, features_, scale_, kernels_.scratch_bytes(features_));
}

void Network::return_workspace(std::unique_ptr<Workspace> w) const {
    std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(std::move(w));
}

}  // namespace gdq
