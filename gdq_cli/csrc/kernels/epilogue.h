// From accumulators to what the next layer reads. Included inside an anonymous namespace, after a Vec.

// Where one output pixel goes: offset into codes (or raw) and into the residual stream.
struct Place {
    ptrdiff_t code, x;
    GDQ_INLINE Place operator+(Place o) const { return {code + o.code, x + o.x}; }
};

struct Strides {
    Place row, px;
    GDQ_INLINE Strides(Store store, const Epilogue& e)
        : row{store == Store::raw ? e.raw_row : e.code_row, e.x_row}, px{store == Store::raw ? e.raw_px : e.code_px, e.x_px} {}
    GDQ_INLINE Place at(int y, int x) const { return {y * row.code + x * px.code, y * row.x + x * px.x}; }
};

template <Store kStore>
class Emit {
  public:
    // first: channel of this block of 2 * kLanes output channels.
    // gain: power of two by which the kernel's accumulators exceed the convolution; folding it into m is exact.
    GDQ_INLINE Emit(const Epilogue& e, int first, float gain = 1) : constants_(e) {
        Constants& k = constants_;
        k.channel = first;
        k.e = e;
        if (kStore == Store::raw) return;
        if (e.codes) k.e.codes += e.group[first / kGroup] + first % kGroup;
        for (int n = 0; n < 2; n++) {
            k.m[n] = Vec::mul(Vec::loadf(e.m + first + n * Vec::kLanes), Vec::floats(1 / gain));
            k.c[n] = Vec::loadf(e.c + first + n * Vec::kLanes);
            if (kStore == Store::stream && e.codes) {
                k.inv[n] = Vec::loadf(e.inv + first + n * Vec::kLanes);
                k.shift[n] = Vec::loadf(e.shift + first + n * Vec::kLanes);
            }
        }
    }
    Emit(const Emit&) = delete;

    GDQ_INLINE void operator()(Vec::I a0, Vec::I a1, Place at) const {
        const Constants& k = constants_;
        if (kStore == Store::raw) {
            Vec::store(k.e.raw + at.code + k.channel, a0);
            Vec::store(k.e.raw + at.code + k.channel + Vec::kLanes, a1);
            return;
        }
        Vec::F v0 = Vec::add(Vec::mul(Vec::to_float(a0), k.m[0]), k.c[0]);
        Vec::F v1 = Vec::add(Vec::mul(Vec::to_float(a1), k.m[1]), k.c[1]);
        if (kStore == Store::stream && k.e.slope) {
            v0 = leaky(v0, Vec::loadf(k.e.slope + k.channel));
            v1 = leaky(v1, Vec::loadf(k.e.slope + k.channel + Vec::kLanes));
        }
        if (kStore == Store::pixels) {
            const float* x = k.e.x_in + at.x + k.channel;
            v0 = Vec::add(v0, Vec::loadf(x));
            v1 = Vec::add(v1, Vec::loadf(x + Vec::kLanes));
        }
        if (kStore == Store::stream) {
            if (k.e.x_in) {
                const float* x = k.e.x_in + at.x + k.channel;
                const Vec::F factor = Vec::floats(k.e.x_factor);
                v0 = Vec::add(v0, Vec::mul(Vec::loadf(x), factor));
                v1 = Vec::add(v1, Vec::mul(Vec::loadf(x + Vec::kLanes), factor));
            }
            if (k.e.x_out) {
                float* x = k.e.x_out + at.x + k.channel;
                Vec::storef(x, v0);
                Vec::storef(x + Vec::kLanes, v1);
            }
            if (!k.e.codes) return;
            v0 = Vec::add(Vec::mul(v0, k.inv[0]), k.shift[0]);
            v1 = Vec::add(Vec::mul(v1, k.inv[1]), k.shift[1]);
        }
        if (kStore == Store::stream && k.e.lo < 0)
            k.clamp.put_signed(k.e.codes + at.code, v0, v1);
        else
            k.clamp.put_unsigned(k.e.codes + at.code, v0, v1);
    }

  private:
    // One of the two terms is zero, so the sum is exact.
    static GDQ_INLINE Vec::F leaky(Vec::F v, Vec::F slope) {
        const Vec::F zero = Vec::floats(0);
        return Vec::add(Vec::max(v, zero), Vec::mul(Vec::min(v, zero), slope));
    }

    struct Constants {
        GDQ_INLINE explicit Constants(const Epilogue& e) : clamp(e.lo, e.hi) {}
        Vec::F m[2], c[2], inv[2], shift[2];
        Vec::Clamp clamp;
        Epilogue e;
        int channel;
    };
    Constants constants_;
};
