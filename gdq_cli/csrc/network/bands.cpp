// Texture of a patch per granularity and channel: the sums that the controller's descriptor is made of (gdq_cli/bits/controller.py).
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "network.h"

namespace gdq {
namespace {

constexpr int kCell = 4;  // side of a coarse cell in pixels

// Adds one coarse cell of every channel: |4 pixel - its 2x2 sum| to fine, |4 sum - the 4x4 sum| to medium; 4x4 sums into sums.
// Accumulators are below 2^24, so the partial sums fit 32 bits.
void add_cell(const int32_t* pixels, ptrdiff_t row, int channels, int64_t* fine, int64_t* medium, int32_t* sums) {
    for (int c = 0; c < channels; c++) {
        const auto sum2 = [&](int y, int x, uint32_t& detail) {
            const int32_t* p = pixels + y * row + static_cast<ptrdiff_t>(x) * channels + c;
            const int32_t v[4] = {p[0], p[channels], p[row], p[row + channels]};
            const int32_t sum = v[0] + v[1] + v[2] + v[3];
            for (int i = 0; i < 4; i++) detail += static_cast<uint32_t>(std::abs(4 * v[i] - sum));
            return sum;
        };
        uint32_t finest = 0, middle = 0;
        const int32_t s[4] = {sum2(0, 0, finest), sum2(0, 2, finest), sum2(2, 0, finest), sum2(2, 2, finest)};
        const int32_t sum4 = s[0] + s[1] + s[2] + s[3];
        for (int i = 0; i < 4; i++) middle += static_cast<uint32_t>(std::abs(4 * s[i] - sum4));
        fine[c] += finest;
        medium[c] += middle;
        sums[c] = sum4;
    }
}

}  // namespace

void Network::band_sums(const Job& job, int64_t* out) const {
    const int height = job.core.y1 - job.core.y0, width = job.core.x1 - job.core.x0;
    const int rows = std::max(kCell, height / kCell * kCell), columns = std::max(kCell, width / kCell * kCell);
    const int channels = features_, cells_across = columns / kCell;
    const int64_t cells = static_cast<int64_t>(rows / kCell) * cells_across;
    // The patch alone, its border pixels repeated
    const ptrdiff_t row = static_cast<ptrdiff_t>(columns + 2) * 3;
    const Aligned centred((rows + 2) * row * sizeof(int16_t) + 128);
    for (int y = 0; y < rows + 2; y++)
        for (int x = 0; x < columns + 2; x++) {
            const int from_y = std::min(std::max(y - 1, 0), std::min(rows, height) - 1);
            const int from_x = std::min(std::max(x - 1, 0), std::min(columns, width) - 1);
            const uint8_t* pixel = job.pixels + (job.core.y0 + from_y) * job.row + (job.core.x0 + from_x) * job.column;
            for (int c = 0; c < 3; c++)
                centred.as<int16_t>()[y * row + x * 3 + c] = static_cast<int16_t>(pixel[c * job.channel] - mean_[c]);
        }

    const ptrdiff_t raw_row = static_cast<ptrdiff_t>(columns) * channels;
    const Aligned raw(kCell * raw_row * sizeof(int32_t));  // accumulators of one row of cells
    const Aligned sums(cells * channels * sizeof(int32_t));
    int64_t *fine = out, *medium = out + channels, *coarse = out + 2 * channels;
    std::memset(out, 0, 3 * channels * sizeof(int64_t));
    Epilogue e{};
    e.store = Store::raw;
    e.raw = raw.as<int32_t>();
    e.raw_row = raw_row;
    e.raw_px = channels;
    for (int y = 0; y < rows; y += kCell) {
        kernels_.head(head_.packed, centred.as<int16_t>() + y * row, row, {0, kCell, 0, columns}, e);
        int32_t* to = sums.as<int32_t>() + static_cast<ptrdiff_t>(y / kCell) * cells_across * channels;
        for (int cell = 0; cell < cells_across; cell++)
            add_cell(raw.as<int32_t>() + static_cast<ptrdiff_t>(cell) * kCell * channels, raw_row, channels, fine, medium,
                     to + static_cast<ptrdiff_t>(cell) * channels);
    }
    std::vector<int64_t> total(channels);
    for (int64_t cell = 0; cell < cells; cell++)
        for (int c = 0; c < channels; c++) total[c] += sums.as<int32_t>()[cell * channels + c];
    for (int64_t cell = 0; cell < cells; cell++)
        for (int c = 0; c < channels; c++) coarse[c] += std::abs(sums.as<int32_t>()[cell * channels + c] * cells - total[c]);
}

}  // namespace gdq
