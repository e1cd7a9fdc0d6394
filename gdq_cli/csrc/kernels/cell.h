// Detail of one 4x4 cell of accumulators. Included inside an anonymous namespace; compilers make vectors of it.

// Adds |4 pixel - its 2x2 sum| to fine and |4 sum - the 4x4 sum| to medium, over the cell and for every channel; 4x4 sums into
// sums. row, across: from one pixel to the one below and to the next. Accumulators are below 2^24, so partial sums fit 32 bits.
inline void add_cell(const int32_t* pixels, ptrdiff_t row, ptrdiff_t across, int channels, int64_t* __restrict fine,
                     int64_t* __restrict medium, int32_t* __restrict sums) {
    const auto distance = [](int32_t four, int32_t sum) { return static_cast<uint32_t>(four > sum ? four - sum : sum - four); };
    for (int c = 0; c < channels; c++) {
        uint32_t finest = 0, middle = 0;
        const auto sum2 = [&](const int32_t* p) {
            const int32_t v[4] = {p[0], p[across], p[row], p[row + across]};
            const int32_t sum = v[0] + v[1] + v[2] + v[3];
            finest += distance(4 * v[0], sum) + distance(4 * v[1], sum) + distance(4 * v[2], sum) + distance(4 * v[3], sum);
            return sum;
        };
        const int32_t* p = pixels + c;
        const int32_t s[4] = {sum2(p), sum2(p + 2 * across), sum2(p + 2 * row), sum2(p + 2 * row + 2 * across)};
        const int32_t sum4 = s[0] + s[1] + s[2] + s[3];
        middle += distance(4 * s[0], sum4) + distance(4 * s[1], sum4) + distance(4 * s[2], sum4) + distance(4 * s[3], sum4);
        fine[c] += finest;
        medium[c] += middle;
        sums[c] = sum4;
    }
}
