// Exact integer Winograd F(2x2, 3x3). Included inside an anonymous namespace, after epilogue.h.
//
// A tile is a 2x2 block of outputs; the tiles of all rows form one sequence that is cut into blocks of kBlockTiles, so any
// width is as fast as a multiple of the block. Per block: the input transform writes 16 positions (i, j) of every tile as
// bytes (value + 128, which fits because codes have at most 6 bits), then 16 small matrix products run against transformed
// weights, with the output transform between them. G's rows are (1,0,0), (1,1,1), (1,-1,1), (0,0,1), so inner positions count
// double and their sums are halved, exactly, on the way. Tricks, each measured in the prototype:
// - the transform of the next block is interleaved with the products of this one (`next.step()`): additions run beside VNNI;
// - the products of positions j = 1 and 2 are turned into sum and difference in registers, j = 0 and 3 accumulate on top;
// - the sign of row 3 of A^T is folded into the weights, the +128 of the data into the initial accumulators.
// Additions of bytes wrap; the true values fit, so stored codes with an offset of 128 and plain ones give the same result.

constexpr int kBlockTiles = 24;
constexpr ptrdiff_t kPosition = kBlockTiles * kGroup;  // bytes of transformed data: [cin / 64][16 positions][tile][64]
constexpr ptrdiff_t kGroupData = 16 * kPosition;

struct TileScratch {
    uint8_t* v[2];                                          // transformed data of this block and the next
    Vec::I z[2][2][kBlockTiles][2];                         // contributions of rows i = 1, 2 to both output columns
    Place to[2][kBlockTiles];                               // of the top left output of each tile
    uint8_t outputs[2][kBlockTiles];                        // bit 2 * row + column: this output lies in the region
};

inline size_t winograd_scratch_bytes(int cin) {
    return (sizeof(TileScratch) + 63) / 64 * 64 + static_cast<size_t>(2) * kGroupData * (cin / kGroup) + 64;
}

// Walks over the tiles of the region and transforms one per step.
class TileWalk {
  public:
    GDQ_INLINE TileWalk(const PackedConv& p, const uint8_t* in, ptrdiff_t in_row, const Region& region, const Epilogue& e, Store store)
        : in_(in), in_row_(in_row), cin_(p.cin), r_(region), strides_(store, e), y_(region.y0), x_(region.x0),
          stream_(store == Store::stream ? e.x_in : nullptr), flip_sum_(Vec::bytes(p.signed_in ? 0 : 0x80)) {}

    GDQ_INLINE void start(TileScratch& s, int which, int count) {
        v_ = s.v[which];
        to_ = s.to[which];
        outputs_ = s.outputs[which];
        filled_ = 0;
        wanted_ = count;
        for (int t = 0; t < kBlockTiles; t++) outputs_[t] = 0;
    }

    bool done() const { return filled_ >= wanted_; }

    GDQ_NOINLINE void step() {
        if (done()) return;
        const uint8_t* corner = in_ + (y_ - 1) * in_row_ + static_cast<ptrdiff_t>(x_ - 1) * cin_;
        GDQ_ROLLED
        for (int k = 0; k < cin_; k += Vec::kBytes)
            transform(corner + k, v_ + k / kGroup * kGroupData + filled_ * kGroup + k % kGroup);
        const Place to = strides_.at(y_, x_);
        const bool right = x_ + 1 < r_.x1, lower = y_ + 1 < r_.y1;
        to_[filled_] = to;
        outputs_[filled_] = static_cast<uint8_t>(1 | right << 1 | lower << 2 | (right && lower) << 3);
        if (stream_) {  // a block ahead, so that the epilogue finds it in the second-level cache
            prefetch(stream_ + to.x, right);
            if (lower) prefetch(stream_ + to.x + strides_.row.x, right);
        }
        filled_++;
        x_ += 2;
        if (x_ >= r_.x1) x_ = r_.x0, y_ += 2;
    }

  private:
    GDQ_INLINE void prefetch(const float* x, bool both) const {
        const ptrdiff_t bytes = strides_.px.x * static_cast<ptrdiff_t>(sizeof(float)) * (both ? 2 : 1);
        for (ptrdiff_t at = 0; at < bytes; at += 64) GDQ_PREFETCH(reinterpret_cast<const char*>(x) + at);
    }

    GDQ_INLINE void transform(const uint8_t* corner, uint8_t* to) const {
        const Vec::I offset = Vec::bytes(0x80);
        Vec::I t[4][4];
        GDQ_UNROLL(4)
        for (int c = 0; c < 4; c++) {
            const uint8_t* column = corner + c * cin_;
            const Vec::I d0 = Vec::load(column), d1 = Vec::load(column + in_row_);
            Vec::I d2 = Vec::load(column + 2 * in_row_), d3 = Vec::load(column + 3 * in_row_);
            if (c >= 2) {  // two of four columns carry the +128 into all sixteen positions
                d2 = Vec::xor_(d2, offset);
                d3 = Vec::xor_(d3, offset);
            }
            t[0][c] = Vec::sub8(d0, d2);
            t[1][c] = Vec::add8(d1, d2);
            t[2][c] = Vec::sub8(d2, d1);
            t[3][c] = Vec::sub8(d1, d3);
        }
        // order of positions in a row: j = 1, 2, 0, 3
        GDQ_UNROLL(4)
        for (int i = 0; i < 4; i++) {
            uint8_t* row = to + i * 4 * kPosition;
            const Vec::I sum = Vec::add8(t[i][1], t[i][2]);
            put(row, i == 1 ? Vec::xor_(sum, flip_sum_) : sum);
            put(row + kPosition, Vec::sub8(t[i][2], t[i][1]));
            put(row + 2 * kPosition, Vec::sub8(t[i][0], t[i][2]));
            put(row + 3 * kPosition, Vec::sub8(t[i][1], t[i][3]));
        }
    }

    static GDQ_INLINE void put(uint8_t* p, Vec::I v) {
        Vec::store(p, Vec::kDataBias ? Vec::xor_(v, Vec::bytes(0x80)) : v);
    }

    const uint8_t* const in_;
    const ptrdiff_t in_row_;
    const int cin_;
    const Region r_;
    const Strides strides_;
    int y_, x_;                   // next tile
    const float* const stream_;   // residual stream that the epilogue will read, or null
    const Vec::I flip_sum_;       // undoes the +128 at position (1, 1) for unsigned input: its sums reach 252
    uint8_t *v_ = nullptr, *outputs_ = nullptr;
    Place* to_ = nullptr;
    int filled_ = 0, wanted_ = 0;
};

constexpr int kWeightStep = 2 * Vec::kBytes;  // weights of four input channels and a block of outputs

// acc += v x w over four input channels, for as many tiles as a micro kernel has
GDQ_INLINE void multiply(Vec::I (&acc)[Vec::kTiles][2], const uint8_t* v, const int8_t* w) {
    GDQ_UNROLL(8)
    for (int t = 0; t < Vec::kTiles; t++) {
        const Vec::Data d = Vec::data(v + t * kGroup);
        acc[t][0] = Vec::dot(acc[t][0], d, w);
        acc[t][1] = Vec::dot(acc[t][1], d, w + kWeightStep / 2);
    }
}

template <Store kStore>
struct Winograd {
    static constexpr int kTiles = Vec::kTiles;
    static constexpr int kBlock = 2 * Vec::kLanes;

    // acc += v x w over all input channels; a rolled loop: its body stays in the micro-op cache
    static GDQ_INLINE void product(Vec::I (&acc)[kTiles][2], const uint8_t* v, const int8_t* w, int cin) {
        for (int group = 0; group < cin; group += kGroup, v += kGroupData - kGroup) {
            GDQ_ROLLED
            for (int k = 0; k < kGroup; k += 4, v += 4, w += kWeightStep) multiply(acc, v, w);
        }
    }

    // One row i of positions for kTiles tiles: calls done(column, result) for both output columns. with(column, k, n, sum) adds what
    // the other rows have, before sums are halved.
    template <class With, class Done>
    static GDQ_INLINE void row(const uint8_t* v, const int8_t* w, const int32_t* init, int cout, int cin, const With& with,
                               const Done& done) {
        const ptrdiff_t next = static_cast<ptrdiff_t>(cin / 4) * kWeightStep;
        Vec::I s[kTiles][2], d[kTiles][2];
        GDQ_UNROLL(8)
        for (int t = 0; t < kTiles; t++)
            for (int n = 0; n < 2; n++) {
                s[t][n] = Vec::load(init + n * Vec::kLanes);
                d[t][n] = Vec::load(init + cout + n * Vec::kLanes);
            }
        product(s, v, w, cin);
        product(d, v + kPosition, w + next, cin);
        GDQ_UNROLL(8)
        for (int t = 0; t < kTiles; t++)
            for (int n = 0; n < 2; n++) {
                const Vec::I a = Vec::add32(s[t][n], d[t][n]), b = Vec::sub32(s[t][n], d[t][n]);
                s[t][n] = Vec::half(with(0, t, n, a));  // exact: the sum is even
                d[t][n] = Vec::half(with(1, t, n, b));
                Vec::pin(s[t][n]);
                Vec::pin(d[t][n]);
            }
        product(s, v + 2 * kPosition, w + 2 * next, cin);
        done(0, s);
        product(d, v + 3 * kPosition, w + 3 * next, cin);
        done(1, d);
    }

    static void run(const PackedConv& p, const uint8_t* in, ptrdiff_t in_row, const Region& r, const Epilogue& e,
                    void* memory) {
        TileScratch& s = *static_cast<TileScratch*>(memory);
        s.v[0] = static_cast<uint8_t*>(memory) + (sizeof(TileScratch) + 63) / 64 * 64;
        s.v[1] = s.v[0] + kGroupData * (p.cin / kGroup);
        const int total = ((r.x1 - r.x0 + 1) / 2) * ((r.y1 - r.y0 + 1) / 2);
        TileWalk next(p, in, in_row, r, e, kStore);
        const auto size = [&](int done) { return total - done < kBlockTiles ? total - done : kBlockTiles; };
        next.start(s, 0, size(0));
        while (!next.done()) next.step();
        int which = 0;
        for (int done = 0; done < total; done += kBlockTiles, which ^= 1) {
            const int tiles = size(done);
            const int rest = done + tiles < total ? size(done + tiles) : 0;
            next.start(s, which ^ 1, rest);
            const ptrdiff_t row_bytes = static_cast<ptrdiff_t>(p.cin) * kWeightStep;
            for (int first = 0; first < p.cout; first += kBlock)
                block(s, which, tiles, p, first, p.weights + first / kBlock * 4 * row_bytes, row_bytes, e, next);
            while (!next.done()) next.step();
        }
    }

    static GDQ_INLINE void block(TileScratch& s, int which, int tiles, const PackedConv& p, int first, const int8_t* w,
                                 ptrdiff_t row_bytes, const Epilogue& e, TileWalk& next) {
        const Strides strides(kStore, e);
        const Emit<kStore> emit(e, first);
        const uint8_t* v = s.v[which];
        constexpr ptrdiff_t row_data = 4 * kPosition;
        const int32_t* init = p.init + first;
        const ptrdiff_t row_init = static_cast<ptrdiff_t>(2) * p.cout;
        for (int i = 1; i <= 2; i++)
            for (int t = 0; t < tiles; t += kTiles) {
                next.step();
                row_centre(s, i, t, v + i * row_data, w + i * row_bytes, init + i * row_init, p);
            }
        for (int t = 0; t < tiles; t += kTiles) {
            next.step();
            row_outer<false>(s, which, t, v, w, init, p, strides, emit);
        }
        for (int t = 0; t < tiles; t += kTiles) {
            next.step();
            row_outer<true>(s, which, t, v + 3 * row_data, w + 3 * row_bytes, init + 3 * row_init, p, strides, emit);
        }
    }

    static GDQ_NOINLINE void row_centre(TileScratch& s, int i, int t, const uint8_t* v, const int8_t* w, const int32_t* init,
                                        const PackedConv& p) {
        const auto alone = [](int, int, int, Vec::I sum) GDQ_LAMBDA { return sum; };
        row(v + t * kGroup, w, init, p.cout, p.cin, alone, [&](int column, Vec::I(&a)[kTiles][2]) GDQ_LAMBDA {
            GDQ_UNROLL(8)
            for (int k = 0; k < kTiles; k++)
                for (int n = 0; n < 2; n++) s.z[i - 1][column][t + k][n] = a[k][n];
        });
    }

    // Rows 0 (upper output row) and 3 (lower one) complete the outputs.
    template <bool kLower>
    static GDQ_NOINLINE void row_outer(TileScratch& s, int which, int t, const uint8_t* v, const int8_t* w, const int32_t* init,
                                       const PackedConv& p, const Strides& strides, const Emit<kStore>& emit) {
        const Place* to = s.to[which] + t;
        const uint8_t* outputs = s.outputs[which] + t;
        const auto with_centre = [&](int column, int k, int n, Vec::I sum) GDQ_LAMBDA {
            const Vec::I z1 = s.z[0][column][t + k][n], z2 = s.z[1][column][t + k][n];
            return Vec::add32(sum, kLower ? Vec::sub32(z1, z2) : Vec::add32(z1, z2));
        };
        row(v + t * kGroup, w, init, p.cout, p.cin, with_centre, [&](int column, Vec::I(&a)[kTiles][2]) GDQ_LAMBDA {
            const Place shift = {(kLower ? strides.row.code : 0) + (column ? strides.px.code : 0),
                                 (kLower ? strides.row.x : 0) + (column ? strides.px.x : 0)};
            const int output = 1 << (2 * kLower + column);
            GDQ_UNROLL(8)
            for (int k = 0; k < kTiles; k++) {
                if (outputs[k] & output) emit(a[k][0], a[k][1], to[k] + shift);
            }
        });
    }
};
