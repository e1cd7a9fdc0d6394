// Exact integer Winograd F(4x4, 3x3) at the points 0, 1, -1, i, -i and infinity, for codes of 4 bits. Included inside an
// anonymous namespace, after tile.h and winograd.h.
//
// Of real data, position -i is the conjugate of i, and a complex product takes three real ones: a 6x6 tile of 16 outputs takes
// 16 + 24 + 6 = 46 multiplications, 2.9 an output where F(2x2) takes 4. All coefficients of the input transform are 0 or +-1, so
// a span of 16 codes grows to one of at most 241, which fits a byte; no other F(4x4) does. Positions 0 and infinity count double
// in either direction, which is done to the data, so sums are 4 times the convolution's.
//
// (x + iy)(u + iv) is taken as a = (x + y)u, b = x(v - u), c = -y(u + v): its parts are a + c and a + b. A row of positions has the
// order 1, -1, i (a, b, c), 0, infinity. The rows are those of 1 and -1, then that of i, whose own positions are all complex, in
// the order 1, -1, i, -i, 0, infinity, then those of 0 and infinity.
//
// Products are half as many as those of F(2x2), so all the rest weighs twice: it is hidden behind them. The tiles of all rows form
// one sequence, cut into blocks; a unit of work is a block of tiles and one of output channels. While its products run, which are
// multiplications, chores are done in four slots of each, which are additions: the output transform and the epilogue of
// the unit before, and the input transform of the next block.

template <Store kStore>
struct WinogradGauss {
    static constexpr int kSide = TilePath::kSide, kOutputs = TilePath::kOutputs, kPositions = 46;
    static constexpr int kTiles = Vec::kTiles, kBlockTiles = 12;
    static constexpr int kBlock = 2 * Vec::kLanes;
    static constexpr ptrdiff_t kPosition = kBlockTiles * kGroup;  // bytes: [cin / 64][46 positions][tile][64]
    static constexpr ptrdiff_t kGroupData = kPositions * kPosition;
    static constexpr float kGain = 4;

    using Sums = Vec::I[kPositions][kBlockTiles][2];
    struct Scratch {
        Sums sums[2];                                                    // of this unit and the one before
        Vec::I columns[kSide][kSide];                                    // of the tile that is transformed: [form][column]
        Vec::I even[kOutputs], odd[kOutputs], re[kOutputs], im[kOutputs];  // of the tile that is finished: rows 1, -1 and i
        Vec::I outputs[kOutputs][kOutputs][2];
        Tile tiles[3][kBlockTiles];                                      // of the block before, this one and the next
    };
    static constexpr size_t kScratch = (sizeof(Scratch) + 63) / 64 * 64;

    static size_t scratch_bytes(int cin) { return kScratch + static_cast<size_t>(2) * kGroupData * (cin / kGroup) + 64; }

    static void run(const PackedConv& p, const uint8_t* in, ptrdiff_t in_row, const Region& r, const Epilogue& e, void* memory) {
        Scratch& s = *static_cast<Scratch*>(memory);
        uint8_t* v[2] = {static_cast<uint8_t*>(memory) + kScratch};
        v[1] = v[0] + kGroupData * (p.cin / kGroup);
        const int total = ((r.x1 - r.x0 + kOutputs - 1) / kOutputs) * ((r.y1 - r.y0 + kOutputs - 1) / kOutputs);
        const auto size = [&](int from) { return from >= total ? 0 : total - from < kBlockTiles ? total - from : kBlockTiles; };
        const int blocks = p.cout / kBlock;
        Input next(s, p, in, in_row, r, e);
        next.start(s.tiles[0], v[0], size(0));
        next.finish();
        Unit before = {s.tiles[0], 0, 0, &s.sums[1], nullptr, nullptr};
        int block = 0, half = 0;
        for (int done = 0; done < total; done += kBlockTiles, block++) {
            const int coming = size(done + kBlockTiles);
            next.start(s.tiles[(block + 1) % 3], v[(block + 1) % 2], coming);
            for (int b = 0; b < blocks; b++, half ^= 1) {
                const Unit unit = {s.tiles[block % 3], size(done), b * kBlock, &s.sums[half], v[block % 2],
                                   p.weights + static_cast<ptrdiff_t>(b) * kPositions * p.cin * kBlock};
                next.allow((coming + blocks - 1) / blocks);
                work(s, p, e, before, unit, next);
                before = unit;
            }
            next.finish();
        }
        work(s, p, e, before, {nullptr, 0, 0, nullptr, nullptr, nullptr}, next);
    }

  private:
    struct Unit {
        const Tile* tiles;
        int count, first;     // of tiles; output channel
        Sums* sums;
        const uint8_t* v;
        const int8_t* weights;
    };

    // The input transform: three chores of four slots for each tile and Vec::kBytes channels.
    class Input {
      public:
        GDQ_INLINE Input(Scratch& s, const PackedConv& p, const uint8_t* in, ptrdiff_t in_row, const Region& region, const Epilogue& e)
            : s_(s), cin_(p.cin), path_(in, in_row, p.cin, region, Strides(kStore, e)), offset_(Vec::bytes(Vec::kDataBias ? 0 : 0x80)),
              sum_offset_(Vec::bytes((p.signed_in ? 0x80 : 0) ^ (Vec::kDataBias ? 0x80 : 0))) {}

        // A block of tiles; `allow` how many of them may be begun.
        void start(Tile* tiles, uint8_t* v, int count) { tile_ = tiles, v_ = v, left_ = count, allowed_ = 0; }
        void allow(int tiles) { allowed_ += tiles; }

        void finish() {
            allowed_ = left_;
            while (ready()) {
                for (int slot = 0; slot < 4; slot++) load(slot);
                for (int slot = 0; slot < 4; slot++) upper(slot);
                for (int slot = 0; slot < 4; slot++) lower(slot);
                advance();
            }
        }

        GDQ_INLINE bool ready() {
            if (left_ == 0 || (allowed_ <= 0 && channel_ == 0)) return false;
            if (channel_ == 0 && !begun_) begin();
            return true;
        }

        // Chores: columns 0 to 3; columns 4, 5 and rows 1, -1; the row of i and rows 0, infinity.
        GDQ_INLINE void load(int slot) { column(slot); }
        GDQ_INLINE void upper(int slot) {
            if (slot < 2)
                column(4 + slot);
            else
                row(slot - 2, slot - 2, false);
        }
        GDQ_INLINE void lower(int slot) {
            if (slot < 2)
                complex_row(slot);
            else
                row(slot + 2, slot + 2, true);
        }

        GDQ_INLINE void advance() {
            channel_ += Vec::kBytes;
            if (channel_ < cin_) return;
            channel_ = 0, begun_ = false;
            tile_++, left_--, allowed_--, v_ += kGroup;
            path_.next();
        }

      private:
        GDQ_NOINLINE void begin() {
            path_.look(rows_, columns_);
            *tile_ = path_.tile();
            begun_ = true;
        }

        // Six values to the forms 1, -1, the two parts of i, 0, infinity.
        static GDQ_INLINE void forward(const Vec::I (&d)[kSide], Vec::I (&to)[kSide]) {
            const Vec::I even = Vec::add8(d[4], d[2]), odd = Vec::add8(d[3], d[1]);
            to[0] = Vec::add8(even, odd), to[1] = Vec::sub8(even, odd);
            to[2] = Vec::sub8(d[4], d[2]), to[3] = Vec::sub8(d[3], d[1]);
            to[4] = Vec::sub8(d[0], d[4]), to[5] = Vec::sub8(d[5], d[1]);
        }
        static GDQ_INLINE Vec::I twice(Vec::I v) { return Vec::add8(v, v); }
        GDQ_INLINE uint8_t* at(int position) const { return v_ + channel_ / kGroup * kGroupData + channel_ % kGroup + position * kPosition; }
        GDQ_INLINE void put(uint8_t* to, Vec::I v) const { Vec::store(to, Vec::xor_(v, offset_)); }
        GDQ_INLINE void put_complex(uint8_t* to, Vec::I x, Vec::I y) const {
            put(to, Vec::add8(x, y)), put(to + kPosition, x), put(to + 2 * kPosition, y);
        }

        GDQ_INLINE void column(int j) {
            Vec::I d[kSide], made[kSide];
            GDQ_UNROLL(6)
            for (int i = 0; i < kSide; i++) d[i] = Vec::load(rows_[i] + columns_[j] + channel_);
            forward(d, made);
            GDQ_UNROLL(6)
            for (int i = 0; i < kSide; i++) s_.columns[i][j] = made[i];
        }

        // Row `form` of the forms, the real ones being those of 1, -1, 0 and infinity.
        GDQ_INLINE void row(int form, int index, bool doubled) {
            Vec::I made[kSide];
            forward(s_.columns[form], made);
            if (doubled)
                for (int j = 0; j < kSide; j++) made[j] = twice(made[j]);
            uint8_t* to = at(index < 2 ? 7 * index : 32 + 7 * (index - 4));
            if (form == 0)  // (1, 1): sums of all, up to 240 for unsigned codes, which take no offset
                Vec::store(to, Vec::xor_(made[0], sum_offset_));
            else
                put(to, made[0]);
            put(to + kPosition, made[1]);
            put_complex(to + 2 * kPosition, made[2], made[3]);
            put(to + 5 * kPosition, twice(made[4])), put(to + 6 * kPosition, twice(made[5]));
        }

        GDQ_INLINE void complex_row(int part) {
            Vec::I x[kSide], y[kSide];
            forward(s_.columns[2], x), forward(s_.columns[3], y);
            uint8_t* to = at(14 + 9 * part);
            if (part == 0) {
                put_complex(to, x[0], y[0]), put_complex(to + 3 * kPosition, x[1], y[1]);
                put_complex(to + 6 * kPosition, Vec::sub8(x[2], y[3]), Vec::add8(y[2], x[3]));
            } else {
                put_complex(to, Vec::add8(x[2], y[3]), Vec::sub8(y[2], x[3]));
                put_complex(to + 3 * kPosition, twice(x[4]), twice(y[4])), put_complex(to + 6 * kPosition, twice(x[5]), twice(y[5]));
            }
        }

        Scratch& s_;
        const int cin_;
        TilePath path_;
        const Vec::I offset_, sum_offset_;
        const uint8_t* rows_[kSide];
        ptrdiff_t columns_[kSide];
        uint8_t* v_ = nullptr;
        Tile* tile_ = nullptr;
        int left_ = 0, allowed_ = 0, channel_ = 0;
        bool begun_ = false;
    };

    // The output transform and the epilogue: for each tile two chores of four slots that sum, one for either vector of channels,
    // and four that write.
    class Output {
      public:
        GDQ_INLINE Output(Scratch& s, const Epilogue& e, const Unit& unit)
            : s_(s), sums_(*unit.sums), strides_(kStore, e), emit_(e, unit.first, kGain), tile_(unit.tiles), count_(unit.count),
              stream_(kStore == Store::stream && e.x_in ? e.x_in + unit.first : nullptr) {}

        GDQ_INLINE bool ready() const { return t_ < count_; }
        GDQ_INLINE bool sums_next() const { return chore_ < 2; }
        GDQ_INLINE void advance() {
            if (++chore_ == 6) chore_ = 0, t_++, tile_++;
        }

        GDQ_INLINE void sum(int slot) {
            const int n = chore_;
            if (stream_) prefetch(2 * n + slot / 2, slot % 2 * 2);
            Vec::I y[kOutputs];
            if (slot == 0) {
                Vec::I z[kOutputs];
                real_row(0, n, y), real_row(7, n, z);
                GDQ_UNROLL(4)
                for (int j = 0; j < kOutputs; j++) {
                    s_.even[j] = Vec::half(Vec::add32(y[j], z[j]));
                    s_.odd[j] = Vec::half(Vec::sub32(y[j], z[j]));
                }
            } else if (slot == 1) {
                complex_row(n);
            } else if (slot == 2) {
                real_row(32, n, y);
                GDQ_UNROLL(4)
                for (int j = 0; j < kOutputs; j++) {
                    put(0, j, n, Vec::add32(Vec::add32(s_.even[j], s_.re[j]), y[j]));
                    put(2, j, n, Vec::sub32(s_.even[j], s_.re[j]));
                }
            } else {
                real_row(39, n, y);
                GDQ_UNROLL(4)
                for (int j = 0; j < kOutputs; j++) {
                    put(1, j, n, Vec::sub32(s_.odd[j], s_.im[j]));
                    put(3, j, n, Vec::add32(Vec::add32(s_.odd[j], s_.im[j]), y[j]));
                }
            }
        }

        GDQ_INLINE void write(int column) {
            const int row = chore_ - 2;
            if (row >= tile_->rows || column >= tile_->columns) return;
            const Place shift = {row * strides_.row.code + column * strides_.px.code, row * strides_.row.x + column * strides_.px.x};
            emit_(s_.outputs[row][column][0], s_.outputs[row][column][1], tile_->to + shift);
        }

      private:
        GDQ_INLINE Vec::I at(int position, int n) const { return sums_[position][t_][n]; }
        GDQ_INLINE void put(int row, int column, int n, Vec::I sum) {
            s_.outputs[row][column][n] = kStore == Store::raw ? Vec::shr32(sum, 2) : sum;
        }

        // One real row of positions to four columns; all halves are exact.
        GDQ_INLINE void real_row(int position, int n, Vec::I (&y)[kOutputs]) const {
            const Vec::I one = at(position, n), minus = at(position + 1, n), a = at(position + 2, n);
            const Vec::I even = Vec::half(Vec::add32(one, minus)), odd = Vec::half(Vec::sub32(one, minus));
            const Vec::I re = Vec::add32(a, at(position + 4, n)), im = Vec::add32(a, at(position + 3, n));
            y[0] = Vec::add32(Vec::add32(even, re), at(position + 5, n)), y[1] = Vec::sub32(odd, im);
            y[2] = Vec::sub32(even, re), y[3] = Vec::add32(Vec::add32(odd, im), at(position + 6, n));
        }

        struct Complex {
            Vec::I re, im;
        };
        GDQ_INLINE Complex complex(int index, int n) const {
            const int position = 14 + 3 * index;
            const Vec::I a = at(position, n);
            return {Vec::add32(a, at(position + 2, n)), Vec::add32(a, at(position + 1, n))};
        }
        GDQ_INLINE void complex_row(int n) {
            const Complex one = complex(0, n), minus = complex(1, n), i = complex(2, n), conjugate = complex(3, n);
            const Vec::I even_re = Vec::add32(one.re, minus.re), even_im = Vec::add32(one.im, minus.im);
            const Vec::I odd_re = Vec::sub32(one.re, minus.re), odd_im = Vec::sub32(one.im, minus.im);
            const Vec::I sum_re = Vec::add32(i.re, conjugate.re), sum_im = Vec::add32(i.im, conjugate.im);
            const Vec::I less_re = Vec::sub32(i.re, conjugate.re), less_im = Vec::sub32(i.im, conjugate.im);
            const Complex zero = complex(4, n), infinity = complex(5, n);
            s_.re[0] = Vec::add32(Vec::half(Vec::add32(even_re, sum_re)), zero.re);
            s_.im[0] = Vec::add32(Vec::half(Vec::add32(even_im, sum_im)), zero.im);
            s_.re[1] = Vec::half(Vec::sub32(odd_re, less_im)), s_.im[1] = Vec::half(Vec::add32(odd_im, less_re));
            s_.re[2] = Vec::half(Vec::sub32(even_re, sum_re)), s_.im[2] = Vec::half(Vec::sub32(even_im, sum_im));
            s_.re[3] = Vec::add32(Vec::half(Vec::add32(odd_re, less_im)), infinity.re);
            s_.im[3] = Vec::add32(Vec::half(Vec::sub32(odd_im, less_re)), infinity.im);
        }

        // Two pixels of the residual stream, which the epilogue of this tile will read.
        GDQ_INLINE void prefetch(int row, int column) const {
            if (row >= tile_->rows) return;
            const float* x = stream_ + tile_->to.x + row * strides_.row.x + column * strides_.px.x;
            for (int n = 0; n < kBlock; n += 16) {
                GDQ_PREFETCH(x + n);
                GDQ_PREFETCH(x + strides_.px.x + n);
            }
        }

        Scratch& s_;
        const Sums& sums_;
        const Strides strides_;
        const Emit<kStore> emit_;
        const Tile* tile_;
        const int count_;
        const float* const stream_;
        int t_ = 0, chore_ = 0;
    };

    // One unit's products with chores beside them, and the chores that are left.
    static void work(Scratch& s, const PackedConv& p, const Epilogue& e, const Unit& before, const Unit& unit, Input& next) {
        Output done(s, e, before);
        const ptrdiff_t matrix = static_cast<ptrdiff_t>(p.cin) * kBlock;
        int part = 0;  // of the input transform of one tile
        for (int at = 0; at < kPositions; at++)
            for (int t = 0; t < unit.count; t += kTiles) {
                Vec::I(*sums)[2] = &(*unit.sums)[at][t];
                const uint8_t* v = unit.v + at * kPosition + t * kGroup;
                const int8_t* w = unit.weights + at * matrix;
                const int32_t* init = p.init + static_cast<ptrdiff_t>(at) * p.cout + unit.first;
                if (done.ready()) {
                    if (done.sums_next())
                        product(sums, v, w, init, p.cin, [&](int slot) GDQ_LAMBDA { done.sum(slot); });
                    else
                        product(sums, v, w, init, p.cin, [&](int slot) GDQ_LAMBDA { done.write(slot); });
                    done.advance();
                } else if (part || next.ready()) {
                    if (part == 0)
                        product(sums, v, w, init, p.cin, [&](int slot) GDQ_LAMBDA { next.load(slot); });
                    else if (part == 1)
                        product(sums, v, w, init, p.cin, [&](int slot) GDQ_LAMBDA { next.upper(slot); });
                    else
                        product(sums, v, w, init, p.cin, [&](int slot) GDQ_LAMBDA { next.lower(slot); });
                    part = (part + 1) % 3;
                    if (part == 0) next.advance();
                } else {
                    product(sums, v, w, init, p.cin, [](int) GDQ_LAMBDA {});
                }
            }
        for (; part; part = (part + 1) % 3) {
            for (int slot = 0; slot < 4; slot++) part == 1 ? next.upper(slot) : next.lower(slot);
            if (part == 2) next.advance();
        }
        for (; done.ready(); done.advance())
            for (int slot = 0; slot < 4; slot++) done.sums_next() ? done.sum(slot) : done.write(slot);
    }

    // sums = init + v x w over all input channels, for kTiles tiles at one position, and a chore.
    template <class Chore>
    static GDQ_NOINLINE void product(Vec::I (*sums)[2], const uint8_t* v, const int8_t* w, const int32_t* init, int cin,
                                     const Chore& chore) {
        Vec::I acc[kTiles][2];
        GDQ_UNROLL(8)
        for (int t = 0; t < kTiles; t++)
            for (int n = 0; n < 2; n++) {
                acc[t][n] = Vec::load(init + n * Vec::kLanes);
                Vec::pin(acc[t][n]);
            }
        const auto steps = [&](int count) GDQ_LAMBDA {
            GDQ_UNROLL(4)
            for (int k = 0; k < count; k += 4, v += 4, w += kWeightStep) multiply(acc, v, w);
        };
        chore(0), steps(kGroup / 4);
        chore(1), steps(kGroup / 4);
        chore(2), steps(kGroup / 4);
        chore(3), steps(kGroup / 4);
        for (int group = kGroup; group < cin; group += kGroup) v += kGroupData - kGroup, steps(kGroup);
        GDQ_UNROLL(8)
        for (int t = 0; t < kTiles; t++)
            for (int n = 0; n < 2; n++) sums[t][n] = acc[t][n];
    }
};
