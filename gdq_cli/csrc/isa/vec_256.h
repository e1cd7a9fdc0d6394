// 256-bit vectors. Included inside an anonymous namespace after GDQ_256_REGISTERS (16 or 32) and, for VNNI, the macro
// GDQ_DPBUSD(acc, u8, s8) and GDQ_DPWSSD(acc, s16, s16).
//
// Without VNNI data are signed bytes, and vpmaddubsw multiplies their magnitudes (at most 128) by weights that take over their
// signs: a pair of products is at most 2 * 128 * 127 = 32512, so the 16-bit sums cannot saturate for any codes and weights.
struct Vec {
    static constexpr int kLanes = 8;
    static constexpr int kBytes = 32;
#if defined(GDQ_DPBUSD)
    static constexpr int kTiles = 6;
    static constexpr int kPairs = GDQ_256_REGISTERS == 32 ? 6 : 3;
    static constexpr int kTailPixels = 6;
    static constexpr int kDataBias = 0;
    static constexpr int kLeastWeight = -128;
    static constexpr bool kFastBytes = true;  // multiplies bytes faster than words
#else
    static constexpr int kTiles = 4;
    static constexpr int kPairs = 2;
    static constexpr int kTailPixels = 4;
    static constexpr int kDataBias = -128;
    static constexpr int kLeastWeight = -127;  // the negative of -128 would not fit
    static constexpr bool kFastBytes = false;
#endif
    using I = __m256i;
    using F = __m256;

    static GDQ_INLINE I load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
    static GDQ_INLINE void store(void* p, I a) { _mm256_storeu_si256(static_cast<__m256i*>(p), a); }
    static GDQ_INLINE I zero() { return _mm256_setzero_si256(); }
    static GDQ_INLINE I bytes(int v) { return _mm256_set1_epi8(static_cast<char>(v)); }
    static GDQ_INLINE I add8(I a, I b) { return _mm256_add_epi8(a, b); }
    static GDQ_INLINE I sub8(I a, I b) { return _mm256_sub_epi8(a, b); }
    static GDQ_INLINE I xor_(I a, I b) { return _mm256_xor_si256(a, b); }
    static GDQ_INLINE I add32(I a, I b) { return _mm256_add_epi32(a, b); }
    static GDQ_INLINE I sub32(I a, I b) { return _mm256_sub_epi32(a, b); }
    static GDQ_INLINE I half(I a) { return _mm256_srai_epi32(a, 1); }
    static GDQ_INLINE I lanes(uint32_t v) { return _mm256_set1_epi32(static_cast<int>(v)); }
    static GDQ_INLINE I mul32(I a, I b) { return _mm256_mullo_epi32(a, b); }
    static GDQ_INLINE I shl32(I a, int by) { return _mm256_slli_epi32(a, by); }
    static GDQ_INLINE I shr32(I a, int by) { return _mm256_srai_epi32(a, by); }

    // 16 codes as they are stored, to words
    static GDQ_INLINE I words(const uint8_t* p) { return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
    static GDQ_INLINE I signed_words(const uint8_t* p) {
        const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return _mm256_cvtepi8_epi16(_mm_xor_si128(codes, _mm_set1_epi8(-128)));
    }
    static GDQ_INLINE I add16(I a, I b) { return _mm256_add_epi16(a, b); }
    static GDQ_INLINE I sub16(I a, I b) { return _mm256_sub_epi16(a, b); }
    static GDQ_INLINE I shl16(I a) { return _mm256_slli_epi16(a, 2); }

    // Accumulators of the sums and of the differences do not fit in 16 registers together: the compiler must be free to spill.
    static GDQ_INLINE void pin(I&) {}

    static GDQ_INLINE I four(const void* p) {
        int32_t v;
        __builtin_memcpy(&v, p, 4);
        return _mm256_set1_epi32(v);
    }
#if defined(GDQ_DPBUSD)
    using Data = I;
    static GDQ_INLINE Data data(const void* p) { return four(p); }
    static GDQ_INLINE Data stored(const void* p) { return four(p); }
    static GDQ_INLINE I dot(I acc, Data d, const int8_t* weights) { return GDQ_DPBUSD(acc, d, load(weights)); }
    static GDQ_INLINE I dot16(I acc, const void* two, const int16_t* weights) { return GDQ_DPWSSD(acc, four(two), load(weights)); }
#else
    struct Data {
        I value, magnitude;
    };
    static GDQ_INLINE Data data(const void* p) {
        const I v = four(p);
        return {v, _mm256_abs_epi8(v)};
    }
    static GDQ_INLINE Data stored(const void* p) {
        const I v = xor_(four(p), bytes(0x80));
        return {v, _mm256_abs_epi8(v)};
    }
    static GDQ_INLINE I dot(I acc, Data d, const int8_t* weights) {
        const I pairs = _mm256_maddubs_epi16(d.magnitude, _mm256_sign_epi8(load(weights), d.value));
        return add32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    static GDQ_INLINE I dot16(I acc, const void* two, const int16_t* weights) {
        return add32(acc, _mm256_madd_epi16(four(two), load(weights)));
    }
#endif

    static GDQ_INLINE F loadf(const float* p) { return _mm256_loadu_ps(p); }
    static GDQ_INLINE void storef(float* p, F a) { _mm256_storeu_ps(p, a); }
    static GDQ_INLINE F floats(float v) { return _mm256_set1_ps(v); }
    static GDQ_INLINE F to_float(I a) { return _mm256_cvtepi32_ps(a); }
    static GDQ_INLINE F mul(F a, F b) { return _mm256_mul_ps(a, b); }
    static GDQ_INLINE F add(F a, F b) { return _mm256_add_ps(a, b); }
    static GDQ_INLINE F max(F a, F b) { return _mm256_max_ps(a, b); }
    static GDQ_INLINE F min(F a, F b) { return _mm256_min_ps(a, b); }

    // 16 consecutive channels to bytes. Packs saturate, so narrow bounds are the only ones left to clamp to.
    struct Clamp {
        __m128i lo, hi;
        GDQ_INLINE Clamp(int low, int high)
            : lo(_mm_set1_epi8(static_cast<char>(low))), hi(_mm_set1_epi8(static_cast<char>(high))) {}

        static GDQ_INLINE I words(F a, F b) {  // packs work within 128 bits: a permutation restores the order
            return _mm256_permute4x64_epi64(_mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b)), 0xd8);
        }

        // clamp(rne(v), lo, hi)
        GDQ_INLINE void put_unsigned(uint8_t* p, F a, F b) const {
            const I w = words(a, b);
            const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_max_epu8(_mm_min_epu8(bytes, hi), lo));
        }
        // clamp(rne(v), lo, hi) + 128
        GDQ_INLINE void put_signed(uint8_t* p, F a, F b) const {
            const I w = words(a, b);
            const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
            const __m128i codes = _mm_max_epi8(_mm_min_epi8(bytes, hi), lo);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_xor_si128(codes, _mm_set1_epi8(-128)));
        }
    };
};
