#include "describe.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <thread>

namespace gdq {
namespace {

constexpr int kCell = 4;  // side of a coarse cell in pixels
constexpr int kGrey[3] = {2989, 5870, 1140}, kSublevels = 32, kNode = 10000;  // as in gdq_cli/bits/entropy.py

}  // namespace

Texture::Texture(const Kernels& kernels, const int16_t* weight, int features, const int* mean)
    : kernels_(kernels), features_(features), head_(pack_head(weight, features, mean, kernels)), mean_{mean[0], mean[1], mean[2]} {}

void Texture::sums(const Core& core, int64_t* out) const {
    const int rows = std::max(kCell, core.height / kCell * kCell), columns = std::max(kCell, core.width / kCell * kCell);
    const int channels = features_, across = head_.packed.cout, cells_across = columns / kCell;
    const int64_t cells = static_cast<int64_t>(rows / kCell) * cells_across;
    // The patch alone, its border pixels repeated
    const ptrdiff_t row = static_cast<ptrdiff_t>(columns + 2) * 3;
    const Aligned centred((rows + 2) * row * sizeof(int16_t) + 128);
    for (int y = 0; y < rows + 2; y++)
        for (int x = 0; x < columns + 2; x++) {
            const int from_y = std::min(std::max(y - 1, 0), std::min(rows, core.height) - 1);
            const int from_x = std::min(std::max(x - 1, 0), std::min(columns, core.width) - 1);
            const uint8_t* pixel = core.pixels + from_y * core.row + from_x * core.column;
            for (int c = 0; c < 3; c++)
                centred.as<int16_t>()[y * row + x * 3 + c] = static_cast<int16_t>(pixel[c * core.channel] - mean_[c]);
        }

    const ptrdiff_t raw_row = static_cast<ptrdiff_t>(columns) * across;
    const Aligned raw(kCell * raw_row * sizeof(int32_t));  // accumulators of one row of cells
    const Aligned sums(cells * channels * sizeof(int32_t));
    int64_t *fine = out, *medium = out + channels, *coarse = out + 2 * channels;
    std::memset(out, 0, 3 * channels * sizeof(int64_t));
    Epilogue e{};
    e.store = Store::raw;
    e.raw = raw.as<int32_t>();
    e.raw_row = raw_row;
    e.raw_px = across;
    for (int y = 0; y < rows; y += kCell) {
        kernels_.head(head_.packed, centred.as<int16_t>() + y * row, row, {0, kCell, 0, columns}, e);
        int32_t* to = sums.as<int32_t>() + static_cast<ptrdiff_t>(y / kCell) * cells_across * channels;
        for (int cell = 0; cell < cells_across; cell++)
            kernels_.add_cell(raw.as<int32_t>() + static_cast<ptrdiff_t>(cell) * kCell * across, raw_row, across, channels, fine,
                              medium, to + static_cast<ptrdiff_t>(cell) * channels);
    }
    std::vector<int64_t> total(channels);
    for (int64_t cell = 0; cell < cells; cell++)
        for (int c = 0; c < channels; c++) total[c] += sums.as<int32_t>()[cell * channels + c];
    for (int64_t cell = 0; cell < cells; cell++)
        for (int c = 0; c < channels; c++) coarse[c] += std::abs(sums.as<int32_t>()[cell * channels + c] * cells - total[c]);
}

void grey_sums(const Core& core, const double* kernel, double* out) {
    std::vector<double> histogram(kGreyNodes);  // whole numbers
    for (int y = 0; y < core.height; y++) {
        const uint8_t* pixel = core.pixels + y * core.row;
        for (int x = 0; x < core.width; x++, pixel += core.column) {
            int grey = 0;
            for (int c = 0; c < 3; c++) grey += kGrey[c] * pixel[c * core.channel];
            const int node = grey * kSublevels / kNode, beyond = grey * kSublevels % kNode;
            histogram[node] += kNode - beyond;
            histogram[node + 1] += beyond;
        }
    }
    double sums[kBins] = {};
    for (int node = 0; node < kGreyNodes; node++) {
        const double weight = histogram[node];
        if (weight == 0) continue;
        for (int bin = 0; bin < kBins; bin++) sums[bin] += weight * kernel[static_cast<ptrdiff_t>(node) * kBins + bin];
    }
    std::copy(sums, sums + kBins, out);
}

void each_on_threads(int count, int threads, const std::function<void(int)>& work) {
    std::atomic<int> next{0};
    const auto loop = [&] {
        for (int i; (i = next.fetch_add(1)) < count;) work(i);
    };
    std::vector<std::thread> workers;
    try {
        for (int t = 1; t < std::min(threads, count); t++) workers.emplace_back(loop);
    } catch (const std::system_error&) {  // no more threads to be had: this one does the rest
    }
    loop();
    for (std::thread& w : workers) w.join();
}

}  // namespace gdq
