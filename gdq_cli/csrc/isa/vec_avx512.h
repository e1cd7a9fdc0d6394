// 512-bit vectors with VNNI. Included by one translation unit only, inside its anonymous namespace.
struct Vec {
    static constexpr int kLanes = 16;
    static constexpr int kBytes = 64;
    static constexpr int kTiles = 6;    // Winograd tiles of a micro kernel: 2 * 6 * 2 accumulators live at once
    static constexpr int kPairs = 6;    // pixel pairs of a direct micro kernel: 24 accumulators
    static constexpr int kTailPixels = 12;
    static constexpr int kDataBias = 0;
    static constexpr int kLeastWeight = -128;
    static constexpr bool kFastBytes = true;  // multiplies bytes faster than words
    using I = __m512i;
    using F = __m512;
    using Data = __m512i;

    static GDQ_INLINE I load(const void* p) { return _mm512_loadu_si512(p); }
    static GDQ_INLINE void store(void* p, I a) { _mm512_storeu_si512(p, a); }
    static GDQ_INLINE I zero() { return _mm512_setzero_si512(); }
    static GDQ_INLINE I bytes(int v) { return _mm512_set1_epi8(static_cast<char>(v)); }
    static GDQ_INLINE I add8(I a, I b) { return _mm512_add_epi8(a, b); }
    static GDQ_INLINE I sub8(I a, I b) { return _mm512_sub_epi8(a, b); }
    static GDQ_INLINE I xor_(I a, I b) { return _mm512_xor_si512(a, b); }
    static GDQ_INLINE I add32(I a, I b) { return _mm512_add_epi32(a, b); }
    static GDQ_INLINE I sub32(I a, I b) { return _mm512_sub_epi32(a, b); }
    static GDQ_INLINE I half(I a) { return _mm512_srai_epi32(a, 1); }
    static GDQ_INLINE I lanes(uint32_t v) { return _mm512_set1_epi32(static_cast<int>(v)); }
    static GDQ_INLINE I mul32(I a, I b) { return _mm512_mullo_epi32(a, b); }
    static GDQ_INLINE I shl32(I a, int by) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(by)); }
    static GDQ_INLINE I shr32(I a, int by) { return _mm512_sra_epi32(a, _mm_cvtsi32_si128(by)); }

    // 32 codes as they are stored, to words
    static GDQ_INLINE I words(const uint8_t* p) {
        return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static GDQ_INLINE I signed_words(const uint8_t* p) {
        const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        return _mm512_cvtepi8_epi16(_mm256_xor_si256(codes, _mm256_set1_epi8(-128)));
    }
    static GDQ_INLINE I add16(I a, I b) { return _mm512_add_epi16(a, b); }
    static GDQ_INLINE I sub16(I a, I b) { return _mm512_sub_epi16(a, b); }
    static GDQ_INLINE I shl16(I a) { return _mm512_slli_epi16(a, 2); }

    // Settles a value in a register of its own, so that the compiler does not copy it to and fro in a loop.
    static GDQ_INLINE void pin(I& a) { __asm__("" : "+v"(a)); }

    // Four consecutive channels in every lane.
    static GDQ_INLINE Data data(const void* p) {
        int32_t four;
        __builtin_memcpy(&four, p, 4);
        return _mm512_set1_epi32(four);
    }
    static GDQ_INLINE Data stored(const void* p) { return data(p); }  // from codes as they are stored
    static GDQ_INLINE I dot(I acc, Data d, const int8_t* weights) { return _mm512_dpbusd_epi32(acc, d, load(weights)); }
    static GDQ_INLINE I dot16(I acc, const void* two, const int16_t* weights) {
        return _mm512_dpwssd_epi32(acc, data(two), load(weights));
    }

    static GDQ_INLINE F loadf(const float* p) { return _mm512_loadu_ps(p); }
    static GDQ_INLINE void storef(float* p, F a) { _mm512_storeu_ps(p, a); }
    static GDQ_INLINE F floats(float v) { return _mm512_set1_ps(v); }
    static GDQ_INLINE F to_float(I a) { return _mm512_cvtepi32_ps(a); }
    static GDQ_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
    static GDQ_INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
    static GDQ_INLINE F max(F a, F b) { return _mm512_max_ps(a, b); }
    static GDQ_INLINE F min(F a, F b) { return _mm512_min_ps(a, b); }

    // 32 consecutive channels to bytes. Packs saturate, so narrow bounds are the only ones left to clamp to; as packs work within
    // 128 bits, a permutation of dwords restores the order.
    struct Clamp {
        __m256i lo, hi;
        I order;
        GDQ_INLINE Clamp(int low, int high)
            : lo(_mm256_set1_epi8(static_cast<char>(low))),
              hi(_mm256_set1_epi8(static_cast<char>(high))),
              order(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 4, 8, 12, 1, 5, 9, 13)) {}

        static GDQ_INLINE I words(F a, F b) { return _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b)); }
        GDQ_INLINE __m256i natural(I bytes) const { return _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, bytes)); }

        // clamp(rne(v), lo, hi)
        GDQ_INLINE void put_unsigned(uint8_t* p, F a, F b) const {
            const I w = words(a, b);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_max_epu8(_mm256_min_epu8(natural(_mm512_packus_epi16(w, w)), hi), lo));
        }
        // clamp(rne(v), lo, hi) + 128
        GDQ_INLINE void put_signed(uint8_t* p, F a, F b) const {
            const I w = words(a, b);
            const __m256i codes = _mm256_max_epi8(_mm256_min_epi8(natural(_mm512_packs_epi16(w, w)), hi), lo);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_xor_si256(codes, _mm256_set1_epi8(-128)));
        }
    };
};
