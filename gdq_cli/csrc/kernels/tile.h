// Tiles of 4x4 outputs and the 6x6 pixels that they read, in the order of F(4x4). Included inside an anonymous namespace, after
// epilogue.h.
struct Tile {
    Place to;            // of its top left output
    int rows, columns;   // of outputs in the region
};

// Walks over the tiles of a region, row by row.
class TilePath {
  public:
    static constexpr int kOutputs = 4, kSide = 6;

    GDQ_INLINE TilePath(const uint8_t* in, ptrdiff_t in_row, int cin, const Region& r, const Strides& strides)
        : in_(in), in_row_(in_row), cin_(cin), r_(r), strides_(strides), y_(r.y0), x_(r.x0) {}

    GDQ_INLINE bool done() const { return y_ >= r_.y1; }
    GDQ_INLINE void next() {
        x_ += kOutputs;
        if (x_ >= r_.x1) x_ = r_.x0, y_ += kOutputs;
    }
    GDQ_INLINE Tile tile() const {
        return {strides_.at(y_, x_), r_.y1 - y_ < kOutputs ? r_.y1 - y_ : kOutputs, r_.x1 - x_ < kOutputs ? r_.x1 - x_ : kOutputs};
    }
    // Where the tile's pixels are: rows, and bytes from their beginning. Those behind the region's border are not there: the last
    // one stands in. None of the outputs that count reads them, but they must be codes, too, where bytes would wrap.
    GDQ_INLINE void look(const uint8_t* (&rows)[kSide], ptrdiff_t (&columns)[kSide]) const {
        for (int i = 0; i < kSide; i++) {
            rows[i] = in_ + (y_ - 1 + i < r_.y1 ? y_ - 1 + i : r_.y1) * in_row_;
            columns[i] = static_cast<ptrdiff_t>(x_ - 1 + i < r_.x1 ? x_ - 1 + i : r_.x1) * cin_;
        }
    }

  private:
    const uint8_t* const in_;
    const ptrdiff_t in_row_;
    const int cin_;
    const Region r_;
    const Strides strides_;
    int y_, x_;
};
