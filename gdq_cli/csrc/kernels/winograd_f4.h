// Exact integer Winograd F(4x4, 3x3) at the points 0, 1, -1, 2, -2 and infinity. Included inside an anonymous namespace, after
// epilogue.h.
//
// A tile is a 4x4 block of outputs: 36 multiplications replace 144. Operands are words: with rows of G in whole numbers
// (layers/pack.cpp) transformed weights reach 49 * 128 and transformed codes 68 * 255 (100 * 128 signed). The sums that come out
// are 2^n * 9 times the convolution, which may leave 32 bits; but they are right modulo 2^32, where 9 has an inverse, and what
// is left, at most 2^6 times a sum below 2^24, fits. So every 8-bit convolution is exact, whatever the weights.
//
// The tiles of all rows form one sequence, as in winograd.h. Per block of them: the input transform of all channels, then for
// each block of output channels 36 small matrix products, each with the weights of one position in the first-level cache, and
// the output transform.

template <Store kStore>
struct WinogradF4 {
    static constexpr int kSide = TilePath::kSide, kPositions = kSide * kSide, kOutputs = TilePath::kOutputs;
    static constexpr int kTiles = Vec::kTiles, kBlockTiles = 12;
    static constexpr int kBlock = 2 * Vec::kLanes;
    static constexpr int kWords = Vec::kBytes / 2;                // words of a vector
    static constexpr ptrdiff_t kPosition = kBlockTiles * kGroup;  // words: [cin / 64][36 positions][tile][64]
    static constexpr ptrdiff_t kGroupData = kPositions * kPosition;
    static constexpr uint32_t kNinth = 954437177;                 // 9 * kNinth = 1 modulo 2^32

    struct Scratch {
        Vec::I sums[kPositions][kBlockTiles][2];
        Tile tiles[kBlockTiles];
    };
    static constexpr size_t kScratch = (sizeof(Scratch) + 63) / 64 * 64;

    static size_t scratch_bytes(int cin) { return kScratch + sizeof(int16_t) * kGroupData * (cin / kGroup) + 64; }

    static void run(const PackedConv& p, const uint8_t* in, ptrdiff_t in_row, const Region& r, const Epilogue& e, void* memory) {
        Scratch& s = *static_cast<Scratch*>(memory);
        int16_t* v = reinterpret_cast<int16_t*>(static_cast<uint8_t*>(memory) + kScratch);
        const int16_t* weights = reinterpret_cast<const int16_t*>(p.weights);
        const float* stream = kStore == Store::stream ? e.x_in : nullptr;
        const Strides strides(kStore, e);
        TilePath path(in, in_row, p.cin, r, strides);
        while (!path.done()) {
            int count = 0;
            for (; count < kBlockTiles && !path.done(); count++, path.next()) {
                s.tiles[count] = path.tile();
                transform_input(p, path, v + count * kGroup);
            }
            const ptrdiff_t position = static_cast<ptrdiff_t>(p.cin) * kBlock;
            for (int first = 0; first < p.cout; first += kBlock) {
                const Emit<kStore> emit(e, first);
                const int16_t* w = weights + first / kBlock * kPositions * position;
                for (int at = 0; at < kPositions; at++) {
                    if (stream && at < count) prefetch(s.tiles[at], strides, stream + first);
                    for (int t = 0; t < count; t += kTiles)
                        product(s.sums[at] + t, v + at * kPosition + t * kGroup, w + at * position, p.cin);
                }
                for (int t = 0; t < count; t++) transform_output(s, t, strides, emit);
            }
        }
    }

  private:
    // B^T: six values to six, in words.
    static GDQ_INLINE void forward(const Vec::I (&d)[kSide], Vec::I (&to)[kSide]) {
        const Vec::I even = Vec::sub16(d[4], d[2]), odd = Vec::sub16(d[3], d[1]), twice = Vec::add16(odd, odd);
        const Vec::I outer = Vec::sub16(d[4], Vec::shl16(d[2])), inner = Vec::sub16(d[3], Vec::shl16(d[1]));
        to[0] = Vec::add16(Vec::shl16(Vec::sub16(d[0], d[2])), even);
        to[1] = Vec::add16(outer, inner);
        to[2] = Vec::sub16(outer, inner);
        to[3] = Vec::add16(even, twice);
        to[4] = Vec::sub16(even, twice);
        to[5] = Vec::sub16(Vec::sub16(d[5], d[3]), Vec::add16(twice, twice));
    }

    // A^T: six sums to four; they count 24, 12, 6 and 6 times.
    static GDQ_INLINE void backward(const Vec::I (&n)[kSide], Vec::I (&to)[kOutputs]) {
        const Vec::I near = Vec::add32(n[1], n[2]), across = Vec::sub32(n[1], n[2]);
        const Vec::I far = Vec::add32(n[3], n[4]), beyond = Vec::sub32(n[3], n[4]);
        to[0] = Vec::add32(Vec::sub32(far, Vec::shl32(near, 2)), n[0]);
        to[1] = Vec::sub32(beyond, Vec::shl32(across, 1));
        to[2] = Vec::sub32(far, near);
        to[3] = Vec::add32(Vec::sub32(Vec::shl32(beyond, 1), across), n[5]);
    }
    static constexpr int kShift[kOutputs] = {3, 2, 1, 1};  // powers of two in these factors; all have one 3

    // What the epilogue of a tile will read.
    static GDQ_INLINE void prefetch(const Tile& tile, const Strides& strides, const float* stream) {
        for (int i = 0; i < tile.rows; i++)
            for (int j = 0; j < tile.columns; j++) {
                const float* x = stream + tile.to.x + i * strides.row.x + j * strides.px.x;
                for (int n = 0; n < 2 * Vec::kLanes; n += 16) GDQ_PREFETCH(x + n);
            }
    }

    static GDQ_NOINLINE void transform_input(const PackedConv& p, const TilePath& path, int16_t* v) {
        const uint8_t* rows[kSide];
        ptrdiff_t columns[kSide];
        path.look(rows, columns);
        GDQ_ROLLED
        for (int k = 0; k < p.cin; k += kWords) {
            Vec::I columned[kSide][kSide], d[kSide], made[kSide];
            int16_t* to = v + k / kGroup * kGroupData + k % kGroup;
            GDQ_UNROLL(6)
            for (int j = 0; j < kSide; j++) {
                for (int i = 0; i < kSide; i++) {
                    const uint8_t* bytes = rows[i] + columns[j] + k;
                    d[i] = p.signed_in ? Vec::signed_words(bytes) : Vec::words(bytes);
                }
                forward(d, made);
                for (int i = 0; i < kSide; i++) columned[i][j] = made[i];
            }
            GDQ_UNROLL(6)
            for (int i = 0; i < kSide; i++) {
                forward(columned[i], made);
                for (int j = 0; j < kSide; j++) Vec::store(to + (i * kSide + j) * kPosition, made[j]);
            }
        }
    }

    // sums = v x w over all input channels, for kTiles tiles at one position.
    static GDQ_NOINLINE void product(Vec::I (*sums)[2], const int16_t* v, const int16_t* w, int cin) {
        constexpr int kStep = 2 * kWords;  // weights of two input channels
        Vec::I acc[kTiles][2];
        GDQ_UNROLL(8)
        for (int t = 0; t < kTiles; t++) acc[t][0] = acc[t][1] = Vec::zero();
        for (int group = 0; group < cin; group += kGroup, v += kGroupData - kGroup) {
            GDQ_UNROLL(2)
            for (int k = 0; k < kGroup; k += 2, v += 2, w += kStep) {
                GDQ_UNROLL(8)
                for (int t = 0; t < kTiles; t++) {
                    acc[t][0] = Vec::dot16(acc[t][0], v + t * kGroup, w);
                    acc[t][1] = Vec::dot16(acc[t][1], v + t * kGroup, w + kWords);
                }
            }
        }
        GDQ_UNROLL(8)
        for (int t = 0; t < kTiles; t++)
            for (int n = 0; n < 2; n++) sums[t][n] = acc[t][n];
    }

    static GDQ_NOINLINE void transform_output(const Scratch& s, int t, const Strides& strides, const Emit<kStore>& emit) {
        const Vec::I ninth = Vec::lanes(kNinth);
        Vec::I made[kOutputs][kOutputs][2];
        GDQ_ROLLED
        for (int n = 0; n < 2; n++) {
            Vec::I rowed[kOutputs][kSide], from[kSide], to[kOutputs];
            GDQ_UNROLL(6)
            for (int j = 0; j < kSide; j++) {
                for (int i = 0; i < kSide; i++) from[i] = s.sums[i * kSide + j][t][n];
                backward(from, to);
                for (int i = 0; i < kOutputs; i++) rowed[i][j] = to[i];
            }
            GDQ_UNROLL(4)
            for (int i = 0; i < kOutputs; i++) {
                backward(rowed[i], to);
                GDQ_UNROLL(4)
                for (int j = 0; j < kOutputs; j++)
                    made[i][j][n] = Vec::shr32(Vec::mul32(to[j], ninth), kShift[i] + kShift[j]);
            }
        }
        const Tile& tile = s.tiles[t];
        for (int i = 0; i < tile.rows; i++) {
            Place to = {tile.to.code + i * strides.row.code, tile.to.x + i * strides.row.x};
            for (int j = 0; j < tile.columns; j++, to = to + strides.px) emit(made[i][j][0], made[i][j][1], to);
        }
    }
};
