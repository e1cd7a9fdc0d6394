// 3x3 convolution with all nine taps. Included inside an anonymous namespace, after epilogue.h.
//
// A micro kernel computes kPairs pairs of neighbouring pixels (anywhere in the patch) times 2 * kLanes output channels; a row
// is cut into pairs, the pairs of all rows form one sequence, so only an odd width and the very last group waste work.

template <Store kStore>
struct Direct {
    static constexpr int kPairs = Vec::kPairs;
    static constexpr int kBlock = 2 * Vec::kLanes;
    static constexpr int kRun = 16;  // groups that share a block of weights while it stays in the first-level cache

    struct Group {
        const uint8_t* in[kPairs];
        Place to[kPairs];            // of the left pixel
        uint8_t pixels[kPairs];      // how many of the pair to store
    };

    static GDQ_INLINE void run(const PackedConv& p, const uint8_t* in, ptrdiff_t in_row, const Region& r, const Epilogue& e) {
        const int per_row = (r.x1 - r.x0 + 1) / 2, total = per_row * (r.y1 - r.y0);
        const int cin = p.cin;
        const Strides strides(kStore, e);
        Group groups[kRun];
        int y = r.y0, x = r.x0;
        for (int done = 0; done < total;) {
            int used = 0;
            for (; used < kRun && done < total; used++) {
                Group& g = groups[used];
                for (int q = 0; q < kPairs; q++) {
                    const bool real = done < total;  // the last group is filled up with its first pair
                    g.in[q] = real ? in + (y - 1) * in_row + static_cast<ptrdiff_t>(x - 1) * cin : g.in[0];
                    g.to[q] = strides.at(y, x);
                    g.pixels[q] = static_cast<uint8_t>(!real ? 0 : x + 1 < r.x1 ? 2 : 1);
                    if (!real) continue;
                    done++;
                    x += 2;
                    if (x >= r.x1) x = r.x0, y++;
                }
            }
            const ptrdiff_t block_bytes = static_cast<ptrdiff_t>(9) * cin * kBlock;
            for (int first = 0; first < p.cout; first += kBlock) {
                const Emit<kStore> emit(e, first);
                const int8_t* weights = p.weights + first / kBlock * block_bytes;
                for (int g = 0; g < used; g++) group(groups[g], p, first, in_row, weights, emit, strides.px);
            }
        }
    }

    static GDQ_NOINLINE void group(const Group& g, const PackedConv& p, int first, ptrdiff_t in_row, const int8_t* w,
                                   const Emit<kStore>& emit, Place px) {
        const int cin = p.cin;
        Vec::I acc[2 * kPairs][2];
        const Vec::I i0 = Vec::load(p.init + first), i1 = Vec::load(p.init + first + Vec::kLanes);
        GDQ_UNROLL(16)
        for (int t = 0; t < 2 * kPairs; t++) acc[t][0] = i0, acc[t][1] = i1;
        const uint8_t* in[kPairs];
        GDQ_UNROLL(8)
        for (int q = 0; q < kPairs; q++) in[q] = g.in[q];
        GDQ_ROLLED
        for (int ky = 0; ky < 3; ky++) {
            const ptrdiff_t row = ky * in_row;
            GDQ_ROLLED
            for (ptrdiff_t k = row; k < row + 3 * cin; k += 4) {  // the three taps of a row lie side by side
                GDQ_UNROLL(16)
                for (int t = 0; t < 2 * kPairs; t++) {
                    const Vec::Data d = Vec::stored(in[t / 2] + k + (t % 2) * cin);
                    acc[t][0] = Vec::dot(acc[t][0], d, w);
                    acc[t][1] = Vec::dot(acc[t][1], d, w + Vec::kBytes);
                }
                w += 2 * Vec::kBytes;
            }
        }
        GDQ_UNROLL(8)
        for (int q = 0; q < kPairs; q++) {
            if (g.pixels[q] > 0) emit(acc[2 * q][0], acc[2 * q][1], g.to[q]);
            if (g.pixels[q] > 1) emit(acc[2 * q + 1][0], acc[2 * q + 1][1], g.to[q] + px);
        }
    }
};
