#include "layer.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace gdq {
namespace {

constexpr int64_t kExact = 1 << 24;                // integers below it are exact in float32

// A 3x3 kernel as it is.
struct Taps {
    static constexpr int kPositions = 9;

    explicit Taps(const int8_t* w) { std::copy(w, w + kPositions, sums); }

    int sums[kPositions];
};

// A 3x3 kernel at the positions of winograd.h, row by row, in the order of columns in which the kernel consumes them: 1, 2, 0, 3.
struct Forms {
    static constexpr int kPositions = 16;

    explicit Forms(const int8_t* w) {
        int rows[4][3];
        for (int j = 0; j < 3; j++) {
            const int a = w[j], b = w[3 + j], c = w[6 + j];
            rows[0][j] = a, rows[1][j] = a + b + c, rows[2][j] = a - b + c, rows[3][j] = -c;  // the sign is that of A^T
        }
        int* to = sums;
        for (const auto& [a, b, c] : rows) *to++ = a + b + c, *to++ = a - b + c, *to++ = a, *to++ = -c;
    }

    int sums[kPositions];
};

// A 3x3 kernel at the positions of winograd_gauss.h, in their order.
struct GaussForms {
    static constexpr int kPositions = 46;

    explicit GaussForms(const int8_t* w) {
        Six rows[3], columns[6];  // forms of each column of the kernel, then of each of these
        for (int j = 0; j < 3; j++) rows[j] = Six(w[j], w[3 + j], w[6 + j]);
        for (int i = 0; i < 6; i++) columns[i] = Six(rows[0].at[i], rows[1].at[i], rows[2].at[i]);
        const int *re = columns[kRe].at, *im = columns[kIm].at;
        int* to = sums;
        const auto put_complex = [&](int u, int v) { *to++ = u, *to++ = v - u, *to++ = -(u + v); };
        const auto put_row = [&](const int* form) {
            *to++ = form[kOne], *to++ = form[kMinus];
            put_complex(form[kRe], form[kIm]);
            *to++ = form[kZero], *to++ = form[kInfinity];
        };
        put_row(columns[kOne].at), put_row(columns[kMinus].at);
        put_complex(re[kOne], im[kOne]), put_complex(re[kMinus], im[kMinus]);
        put_complex(re[kRe] - im[kIm], im[kRe] + re[kIm]), put_complex(re[kRe] + im[kIm], im[kRe] - re[kIm]);
        put_complex(re[kZero], im[kZero]), put_complex(re[kInfinity], im[kInfinity]);
        put_row(columns[kZero].at), put_row(columns[kInfinity].at);
    }

    int sums[kPositions];

  private:
    enum { kOne, kMinus, kRe, kIm, kZero, kInfinity };
    struct Six {
        Six() = default;
        Six(int a, int b, int c) : at{a + b + c, a - b + c, a - c, b, a, c} {}
        int at[6];
    };
};

// Whether transformed weights fit int8.
template <class AnyForms>
bool fits(const int8_t* weight, int cout, int cin) {
    for (int64_t n = 0; n < static_cast<int64_t>(cout) * cin; n++)
        for (int sum : AnyForms(weight + 9 * n).sums)
            if (std::abs(sum) > 127) return false;
    return true;
}

// Transformed codes must fit a byte: +-126 where an input difference is involved, 4 * code where it is not.
bool codes_fit(Range codes) { return codes.lo >= 0 ? codes.hi <= 63 : codes.lo >= -32 && codes.hi <= 31; }

// Here 16 times a code and a span of 241.
bool codes_fit_gauss(Range codes) { return codes.lo >= 0 ? codes.hi <= 15 : codes.lo >= -8 && codes.hi <= 7; }

// Where weights lie in the kernel's order: blocks of 2 * lanes outputs, rows of four inputs.
class Order {
  public:
    Order(const Layout& layout, int cin) : lanes_(layout.lanes), cin_(cin) {}

    int block() const { return 2 * lanes_; }
    // bytes of one (taps = 1) matrix of a block
    size_t matrix_bytes() const { return static_cast<size_t>(cin_) * block(); }
    // in a matrix
    size_t place(int output, int input) const { return (static_cast<size_t>(input / 4) * block() + output) * 4 + input % 4; }

  private:
    const int lanes_, cin_;
};

// What is added to true values before the dot product: to codes, or to what a transform makes of them, which is stored signed.
int data_offset(bool stored_signed, const Layout& layout) { return (stored_signed ? kSignedZero : 0) + layout.data_bias; }

// Weights at the positions of a kernel, a matrix for each; calls done(o, totals) with their sums over all input channels.
template <class AnyForms, class Done>
void pack_forms(Conv& conv, const int8_t* weight, int cout, int cin, const std::vector<int>& order, const Layout& layout,
                const Done& done) {
    constexpr int kPositions = AnyForms::kPositions;
    const Order in_kernel(layout, conv.packed.cin);
    conv.weights = Aligned(in_kernel.matrix_bytes() * kPositions * (conv.packed.cout / in_kernel.block()));
    for (int o = 0; o < cout; o++) {
        int8_t* block = conv.weights.as<int8_t>() + (o / in_kernel.block()) * kPositions * in_kernel.matrix_bytes();
        int totals[kPositions] = {};
        for (int k = 0; k < cin; k++) {
            const AnyForms forms(weight + (static_cast<size_t>(order[o]) * cin + k) * 9);
            int8_t* to = block + in_kernel.place(o % in_kernel.block(), k);
            for (int at = 0; at < kPositions; at++, to += in_kernel.matrix_bytes()) {
                *to = static_cast<int8_t>(forms.sums[at]);
                totals[at] += forms.sums[at];
            }
        }
        done(o, totals);
    }
}

void pack_direct(Conv& conv, const int8_t* weight, int cout, int cin, const std::vector<int>& order, const Layout& layout) {
    const PackedConv& p = conv.packed;
    if (layout.lanes == 0) {
        conv.weights = Aligned(static_cast<size_t>(p.cout) * 9 * p.cin * sizeof(int16_t));
        int16_t* to = conv.weights.as<int16_t>();
        for (int o = 0; o < cout; o++)
            for (int tap = 0; tap < 9; tap++)
                for (int k = 0; k < cin; k++)
                    to[(static_cast<size_t>(o) * 9 + tap) * p.cin + k] = weight[(static_cast<size_t>(order[o]) * cin + k) * 9 + tap];
        return;
    }
    pack_forms<Taps>(conv, weight, cout, cin, order, layout, [&](int o, const int* totals) {
        conv.init.as<int32_t>()[o] = -data_offset(p.signed_in, layout) * std::accumulate(totals, totals + Taps::kPositions, 0);
    });
}

// The position whose data are sums of codes alone. Those of unsigned codes need the whole byte and are kept without the +128.
constexpr int kSumsF2 = 4, kSumsGauss = 0;

void pack_winograd(Conv& conv, const int8_t* weight, int cout, int cin, const std::vector<int>& order, const Layout& layout) {
    const PackedConv& p = conv.packed;
    pack_forms<Forms>(conv, weight, cout, cin, order, layout, [&](int o, int* totals) {
        // The kernel adds total * offset at every position; initial values s and d undo it for both output columns:
        // column 0 is (s + d) / 2 + n0, column 1 is (s - d) / 2 + n3.
        for (int at = 0; at < Forms::kPositions; at++)
            totals[at] *= -data_offset(p.signed_in || at != kSumsF2, layout);
        for (int i = 0; i < 4; i++) {
            const int* c = totals + 4 * i;
            int32_t* init = conv.init.as<int32_t>() + static_cast<ptrdiff_t>(i) * 2 * p.cout + o;
            init[0] = c[0] + c[2] + c[3];
            init[p.cout] = c[1] + c[2] - c[3];
        }
    });
}

void pack_winograd_gauss(Conv& conv, const int8_t* weight, int cout, int cin, const std::vector<int>& order, const Layout& layout) {
    const PackedConv& p = conv.packed;
    pack_forms<GaussForms>(conv, weight, cout, cin, order, layout, [&](int o, const int* totals) {
        for (int at = 0; at < GaussForms::kPositions; at++)
            conv.init.as<int32_t>()[at * p.cout + o] = -data_offset(p.signed_in || at != kSumsGauss, layout) * totals[at];
    });
}

// Rows of G in whole numbers: (6,0,0), (1,1,1), (1,-1,1), (1,2,4), (1,-2,4), (0,0,6).
void pack_winograd_f4(Conv& conv, const int8_t* weight, int cout, int cin, const std::vector<int>& order, const Layout& layout) {
    constexpr int kSide = 6;
    const auto combine = [](int a, int b, int c, int* to, int step) {
        to[0] = 6 * a, to[step] = a + b + c, to[2 * step] = a - b + c;
        to[3 * step] = a + 2 * b + 4 * c, to[4 * step] = a - 2 * b + 4 * c, to[5 * step] = 6 * c;
    };
    const PackedConv& p = conv.packed;
    const int block = 2 * layout.lanes;
    const size_t position = static_cast<size_t>(p.cin) * block;  // words of one matrix of a block
    conv.weights = Aligned(position * kSide * kSide * (p.cout / block) * sizeof(int16_t));
    for (int o = 0; o < cout; o++)
        for (int k = 0; k < cin; k++) {
            const int8_t* w = weight + (static_cast<size_t>(order[o]) * cin + k) * 9;
            int rows[kSide][3], kernel[kSide * kSide];
            for (int b = 0; b < 3; b++) combine(w[b], w[3 + b], w[6 + b], rows[0] + b, 3);
            for (int i = 0; i < kSide; i++) combine(rows[i][0], rows[i][1], rows[i][2], kernel + i * kSide, 1);
            int16_t* to = conv.weights.as<int16_t>() + o / block * kSide * kSide * position + static_cast<size_t>(k / 2) * 2 * block +
                          o % block * 2 + k % 2;
            for (int at = 0; at < kSide * kSide; at++) to[at * position] = static_cast<int16_t>(kernel[at]);
        }
}

}  // namespace

Aligned::Aligned(size_t bytes) : size_(std::max<size_t>((bytes + 63) / 64 * 64, 64)) {
    constexpr size_t huge_page = size_t{2} << 20;
    alignment_ = size_ >= 2 * huge_page ? huge_page : 64;
    memory_ = static_cast<uint8_t*>(::operator new(size_, std::align_val_t(alignment_)));
#ifdef MADV_HUGEPAGE
    // feature maps of a patch are walked row by row at a large stride: fewer page table misses
    if (alignment_ == huge_page) madvise(memory_, size_ / huge_page * huge_page, MADV_HUGEPAGE);
#endif
    std::memset(memory_, 0, size_);
}

Aligned::Aligned(Aligned&& other) noexcept { *this = std::move(other); }

Aligned& Aligned::operator=(Aligned&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(size_, other.size_);
    std::swap(alignment_, other.alignment_);
    return *this;
}

Aligned::~Aligned() {
    if (memory_) ::operator delete(memory_, std::align_val_t(alignment_));
}

Aligned padded_floats(const float* values, int n, const std::vector<int>& order) {
    Aligned a(static_cast<size_t>(padded(n)) * sizeof(float));
    for (int i = 0; values && i < n; i++) a.as<float>()[i] = values[order.empty() ? i : order[i]];
    return a;
}

std::vector<float> accumulator_peaks(const int8_t* weight, int cout, int cin, Range codes) {
    std::vector<float> peaks;
    for (int o = 0; o < cout; o++) {
        int sum = 0, magnitude = 0;
        for (int k = 0; k < cin * 9; k++) {
            const int w = weight[static_cast<int64_t>(o) * cin * 9 + k];
            sum += w, magnitude += std::abs(w);
        }
        const int64_t positive = (magnitude + sum) / 2, negative = (magnitude - sum) / 2;
        const int64_t most = std::max(positive * codes.hi - negative * codes.lo, negative * codes.hi - positive * codes.lo);
        if (most >= kExact)
            throw std::invalid_argument("accumulators of output channel " + std::to_string(o) + " can reach " +
                                        std::to_string(most) + ", beyond 2^24");
        peaks.push_back(static_cast<float>(most));
    }
    return peaks;
}

double affine_peak(const std::vector<float>& peaks, const float* m, const float* c) {
    double most = 0;
    for (size_t i = 0; i < peaks.size(); i++) {
        if (!std::isfinite(m[i]) || !std::isfinite(c[i]) || (m[i] != 0 && std::fabs(m[i]) < 1e-30f))
            throw std::invalid_argument("multipliers and offsets must be finite, multipliers 0 or at least 1e-30");
        most = std::max(most, static_cast<double>(peaks[i]) * std::fabs(m[i]) + std::fabs(c[i]));
    }
    return most;
}

void check_value(double magnitude) {
    if (!(magnitude < kLargestValue)) throw std::invalid_argument("values before quantization can reach 2^30: steps are far too small");
}

Algorithm choose_algorithm(const int8_t* weight, int cout, int cin, Range codes, const Kernels& kernels) {
    constexpr Algorithm kF2 = Algorithm::winograd, kGauss = Algorithm::winograd_gauss;
    if (kernels.algorithms & bit_of(kGauss) && codes_fit_gauss(codes) && fits<GaussForms>(weight, cout, cin) &&
        faster(kernels, kF2, kGauss) == kGauss)
        return kGauss;
    if (kernels.algorithms & bit_of(kF2) && codes_fit(codes) && fits<Forms>(weight, cout, cin)) return kF2;
    return faster(kernels, Algorithm::direct, Algorithm::winograd_f4);
}

Conv pack_conv(const int8_t* weight, int cout, int cin, Range codes, Algorithm algorithm, const std::vector<int>& order,
               const Kernels& kernels) {
    std::vector<float> peaks = accumulator_peaks(weight, cout, cin, codes);
    if (!(kernels.algorithms & bit_of(algorithm))) throw std::invalid_argument("these kernels have no such convolution");
    const bool is_f2 = algorithm == Algorithm::winograd, is_gauss = algorithm == Algorithm::winograd_gauss;
    if (is_f2 && !codes_fit(codes)) throw std::invalid_argument("the Winograd kernel F(2x2) takes codes of at most 6 bits");
    if (is_gauss && !codes_fit_gauss(codes)) throw std::invalid_argument("the Gaussian Winograd kernel takes codes of at most 4 bits");
    if ((is_f2 && !fits<Forms>(weight, cout, cin)) || (is_gauss && !fits<GaussForms>(weight, cout, cin)))
        throw std::invalid_argument("transformed weights do not fit in int8");
    Conv conv;
    conv.packed.algorithm = algorithm;
    conv.packed.cin = padded(cin), conv.packed.cout = padded(cout);
    conv.packed.signed_in = codes.lo < 0;
    constexpr size_t kInits[kAlgorithms] = {1, 8, 0, GaussForms::kPositions};
    constexpr decltype(&pack_direct) kPack[kAlgorithms] = {pack_direct, pack_winograd, pack_winograd_f4, pack_winograd_gauss};
    const int number = static_cast<int>(algorithm);
    conv.init = Aligned(kInits[number] * static_cast<size_t>(conv.packed.cout) * sizeof(int32_t));
    std::vector<int> from = order;
    if (from.empty()) from.resize(cout), std::iota(from.begin(), from.end(), 0);
    kPack[number](conv, weight, cout, cin, from, kernels.layout);
    conv.packed.weights = conv.weights.as<int8_t>();
    conv.packed.init = conv.init.as<int32_t>();
    conv.peaks = std::move(peaks);
    return conv;
}

Tail pack_tail(const int8_t* weight, int cin, const float* m, const float* c, const Kernels& kernels) {
    affine_peak(accumulator_peaks(weight, 3, cin, {-128, 127}), m, c);
    for (int i = 0; i < 3 * cin * 9; i++)
        if (weight[i] < kernels.layout.least_weight) throw std::invalid_argument("these kernels take no weight of -128 in the tail");
    Tail tail;
    const int channels = padded(cin);
    const Layout& layout = kernels.layout;
    tail.packed.cin = channels;
    tail.init = Aligned(16 * sizeof(int32_t));
    tail.affine = Aligned(8 * sizeof(float));
    std::memcpy(tail.affine.as<float>(), m, 3 * sizeof(float));
    std::memcpy(tail.affine.as<float>() + 4, c, 3 * sizeof(float));
    const auto at = [&](int o, int k, int ky, int kx) { return weight[(o * cin + k) * 9 + ky * 3 + kx]; };
    if (layout.lanes == 0) {
        tail.weights = Aligned(static_cast<size_t>(27) * channels * sizeof(int16_t));
        for (int o = 0; o < 3; o++)
            for (int tap = 0; tap < 9; tap++)
                for (int k = 0; k < cin; k++)
                    tail.weights.as<int16_t>()[(o * 9 + tap) * channels + k] = at(o, k, tap / 3, tap % 3);
    } else {
        tail.weights = Aligned(static_cast<size_t>(3) * channels * 16);
        for (int o = 0; o < 3; o++)
            for (int kx = 0; kx < 3; kx++) {
                const int output = kx * 4 + o;
                for (int ky = 0; ky < 3; ky++)
                    for (int k = 0; k < cin; k++) {
                        const int w = at(o, k, ky, kx);
                        tail.weights.as<int8_t>()[((static_cast<size_t>(ky) * (channels / 4) + k / 4) * 16 + output) * 4 + k % 4] =
                            static_cast<int8_t>(w);
                        tail.init.as<int32_t>()[output] -= data_offset(true, layout) * w;
                    }
            }
    }
    tail.packed.weights = tail.weights.as<int8_t>();
    tail.packed.init = tail.init.as<int32_t>();
    tail.packed.m = tail.affine.as<float>();
    tail.packed.c = tail.affine.as<float>() + 4;
    return tail;
}

Head pack_head(const int16_t* weight, int cout, const int* mean, const Kernels& kernels) {
    Head head;
    for (int o = 0; o < cout; o++) {
        int64_t most = 0;
        for (int k = 0; k < 27; k++) {
            const int w = weight[o * 27 + k];
            if (std::abs(w) > 2047) throw std::invalid_argument("head weights must be within -2047..2047");
            most += static_cast<int64_t>(std::abs(w)) * std::max(mean[k / 9], 255 - mean[k / 9]);
        }
        if (most >= kExact) throw std::invalid_argument("head accumulators can reach 2^24");
        head.peaks.push_back(static_cast<float>(most));
    }
    head.packed.cout = padded(cout);
    const int lanes = kernels.layout.lanes;
    head.weights = Aligned(static_cast<size_t>(head.packed.cout) * 30 * sizeof(int16_t));
    int16_t* to = head.weights.as<int16_t>();
    for (int o = 0; o < cout; o++)
        for (int ky = 0; ky < 3; ky++)
            for (int k = 0; k < 9; k++) {
                const int16_t w = weight[o * 27 + (k % 3) * 9 + ky * 3 + k / 3];
                if (lanes == 0) {
                    to[(o * 3 + ky) * 9 + k] = w;
                } else {
                    const int block = o / (2 * lanes), n = o / lanes % 2, lane = o % lanes;
                    to[block * 60 * lanes + ((ky * 5 + k / 2) * 2 + n) * 2 * lanes + lane * 2 + k % 2] = w;
                }
            }
    head.packed.weights = to;
    return head;
}

}  // namespace gdq
