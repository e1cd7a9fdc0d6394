// The first and the last convolution: 3 -> 64 on centred pixels, 64 -> 3 into pixels. Included inside an anonymous namespace.

// Nine consecutive int16 (three taps of three channels) of a row and the one after it, whose weight is 0, are five pairs.
template <Store kStore>
struct Head {
    static constexpr int kPixels = 6;
    static constexpr int kBlock = 2 * Vec::kLanes;

    static void run(const PackedHead& p, const int16_t* in, ptrdiff_t in_row, const Region& r, const Epilogue& e) {
        const Strides strides(kStore, e);
        for (int y = r.y0; y < r.y1; y++)
            for (int first = 0; first < p.cout; first += kBlock) {
                const Emit<kStore> emit(e, first);
                const int16_t* weights = p.weights + first * 30;  // 3 rows x 5 pairs x 2
                for (int x = r.x0; x < r.x1; x += kPixels) 
                    group(in + y * in_row + x * 3, in_row, weights, emit, strides.at(y, x), strides.px, r.x1 - x);
            }
    }

    static GDQ_NOINLINE void group(const int16_t* in, ptrdiff_t in_row, const int16_t* w, const Emit<kStore>& emit, Place at,
                                   Place px, int count) {
        Vec::I acc[kPixels][2];
        GDQ_UNROLL(8)
        for (int t = 0; t < kPixels; t++) acc[t][0] = acc[t][1] = Vec::zero();
        GDQ_ROLLED
        for (int ky = 0; ky < 3; ky++, in += in_row) {
            GDQ_ROLLED
            for (int pair = 0; pair < 5; pair++, w += 4 * Vec::kLanes) {
                GDQ_UNROLL(8)
                for (int t = 0; t < kPixels; t++) {
                    acc[t][0] = Vec::dot16(acc[t][0], in + 3 * t + 2 * pair, w);
                    acc[t][1] = Vec::dot16(acc[t][1], in + 3 * t + 2 * pair, w + 2 * Vec::kLanes);
                }
            }
        }
        GDQ_UNROLL(8)
        for (int t = 0; t < kPixels; t++, at = at + px)
            if (t < count) emit(acc[t][0], acc[t][1], at);
    }
};

// Lanes hold kx * 4 + output: the three taps of a row for the three outputs. A pixel is then the sum of lane groups 0, 1 and 2
// of its left neighbour, itself and its right neighbour.
struct Tail {
    static constexpr int kVectors = 16 / Vec::kLanes;
    static constexpr int kPixels = Vec::kTailPixels;
    static constexpr int kStep = 64;  // weight bytes of four input channels

    typedef int32_t Int4 __attribute__((vector_size(16), aligned(4)));
    typedef float Float4 __attribute__((vector_size(16), aligned(4)));

    static void run(const PackedTail& p, const uint8_t* in, ptrdiff_t in_row, const Region& r, uint8_t* out, ptrdiff_t out_row,
                    int32_t* sums) {
        const int width = r.x1 - r.x0 + 2;
        for (int y = r.y0; y < r.y1; y++, out += out_row) {
            const uint8_t* row = in + (y - 1) * in_row + static_cast<ptrdiff_t>(r.x0 - 1) * p.cin;
            int x = 0;
            for (; x + kPixels <= width; x += kPixels) group<kPixels>(p, row + x * p.cin, in_row, sums + x * 16);
            if (x < width && width >= kPixels) {
                x = width - kPixels;  // the last group overlaps its neighbour
                group<kPixels>(p, row + x * p.cin, in_row, sums + x * 16);
                x = width;
            }
            for (; x < width; x++) group<1>(p, row + x * p.cin, in_row, sums + x * 16);
            pixels(p, sums, r.x1 - r.x0, out);
        }
    }

    template <int kCount>
    static GDQ_NOINLINE void group(const PackedTail& p, const uint8_t* in, ptrdiff_t in_row, int32_t* sums) {
        Vec::I acc[kCount][kVectors];
        GDQ_UNROLL(16)
        for (int t = 0; t < kCount; t++)
            for (int n = 0; n < kVectors; n++) acc[t][n] = Vec::load(p.init + n * Vec::kLanes);
        const int8_t* w = p.weights;
        for (int ky = 0; ky < 3; ky++, in += in_row) {
            GDQ_ROLLED
            for (int k = 0; k < p.cin; k += 4, w += kStep) {
                GDQ_UNROLL(16)
                for (int t = 0; t < kCount; t++) {
                    const Vec::Data d = Vec::stored(in + t * p.cin + k);
                    for (int n = 0; n < kVectors; n++) acc[t][n] = Vec::dot(acc[t][n], d, w + n * (kStep / kVectors));
                }
            }
        }
        GDQ_UNROLL(16)
        for (int t = 0; t < kCount; t++)
            for (int n = 0; n < kVectors; n++) Vec::store(sums + t * 16 + n * Vec::kLanes, acc[t][n]);
    }

    static GDQ_INLINE Int4 lanes(const int32_t* p) { return *reinterpret_cast<const Int4*>(p); }

    static GDQ_INLINE void pixels(const PackedTail& p, const int32_t* sums, int count, uint8_t* out) {
        const Float4 m = *reinterpret_cast<const Float4*>(p.m), c = *reinterpret_cast<const Float4*>(p.c);
        const Float4 high = {255.0f, 255.0f, 255.0f, 255.0f}, low = {0, 0, 0, 0};
        const float half_even = 12582912.0f;  // adding 1.5 * 2^23 rounds half to even
        const Float4 round = {half_even, half_even, half_even, half_even};
        for (int x = 0; x < count; x++, sums += 16, out += 3) {
            const Int4 a = lanes(sums) + lanes(sums + 16 + 4) + lanes(sums + 32 + 8);
            const Float4 scaled = __builtin_convertvector(a, Float4) * m;
            Float4 v = scaled + c;
            v = v < high ? v : high;
            v = v > low ? v : low;
            const Int4 codes = reinterpret_cast<Int4>(v + round);
            out[0] = static_cast<uint8_t>(codes[0]);
            out[1] = static_cast<uint8_t>(codes[1]);
            out[2] = static_cast<uint8_t>(codes[2]);
        }
    }
};
