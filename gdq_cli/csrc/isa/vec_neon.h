// 128-bit NEON with the dot product extension, which takes signed data. Included inside an anonymous namespace.
struct Vec {
    static constexpr int kLanes = 4;
    static constexpr int kBytes = 16;
    static constexpr int kTiles = 6;
    static constexpr int kPairs = 6;
    static constexpr int kTailPixels = 4;
    static constexpr int kDataBias = -128;
    static constexpr int kLeastWeight = -128;
    static constexpr bool kFastBytes = true;  // multiplies bytes faster than words
    using I = int32x4_t;
    using F = float32x4_t;
    using Data = int8x16_t;

    static GDQ_INLINE uint8x16_t as_bytes(I a) { return vreinterpretq_u8_s32(a); }
    static GDQ_INLINE I load(const void* p) { return vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(p))); }
    static GDQ_INLINE void store(void* p, I a) { vst1q_u8(static_cast<uint8_t*>(p), as_bytes(a)); }
    static GDQ_INLINE I zero() { return vdupq_n_s32(0); }
    static GDQ_INLINE I bytes(int v) { return vreinterpretq_s32_u8(vdupq_n_u8(static_cast<uint8_t>(v))); }
    static GDQ_INLINE I add8(I a, I b) { return vreinterpretq_s32_u8(vaddq_u8(as_bytes(a), as_bytes(b))); }
    static GDQ_INLINE I sub8(I a, I b) { return vreinterpretq_s32_u8(vsubq_u8(as_bytes(a), as_bytes(b))); }
    static GDQ_INLINE I xor_(I a, I b) { return veorq_s32(a, b); }
    static GDQ_INLINE I add32(I a, I b) { return vaddq_s32(a, b); }
    static GDQ_INLINE I sub32(I a, I b) { return vsubq_s32(a, b); }
    static GDQ_INLINE I half(I a) { return vshrq_n_s32(a, 1); }
    static GDQ_INLINE I lanes(uint32_t v) { return vreinterpretq_s32_u32(vdupq_n_u32(v)); }
    static GDQ_INLINE I mul32(I a, I b) { return vmulq_s32(a, b); }
    static GDQ_INLINE I shl32(I a, int by) { return vshlq_s32(a, vdupq_n_s32(by)); }
    static GDQ_INLINE I shr32(I a, int by) { return vshlq_s32(a, vdupq_n_s32(-by)); }

    // 8 codes as they are stored, to words
    static GDQ_INLINE I words(const uint8_t* p) { return vreinterpretq_s32_u16(vmovl_u8(vld1_u8(p))); }
    static GDQ_INLINE I signed_words(const uint8_t* p) { return sub16(words(p), vreinterpretq_s32_s16(vdupq_n_s16(kSignedZero))); }
    static GDQ_INLINE int16x8_t as_words(I a) { return vreinterpretq_s16_s32(a); }
    static GDQ_INLINE I add16(I a, I b) { return vreinterpretq_s32_s16(vaddq_s16(as_words(a), as_words(b))); }
    static GDQ_INLINE I sub16(I a, I b) { return vreinterpretq_s32_s16(vsubq_s16(as_words(a), as_words(b))); }
    static GDQ_INLINE I shl16(I a) { return vreinterpretq_s32_s16(vshlq_n_s16(as_words(a), 2)); }
    static GDQ_INLINE void pin(I& a) { __asm__("" : "+w"(a)); }

    static GDQ_INLINE Data data(const void* p) {
        int32_t four;
        __builtin_memcpy(&four, p, 4);
        return vreinterpretq_s8_s32(vdupq_n_s32(four));
    }
    static GDQ_INLINE Data stored(const void* p) { return veorq_s8(data(p), vdupq_n_s8(-128)); }
    static GDQ_INLINE I dot(I acc, Data d, const int8_t* weights) { return vdotq_s32(acc, d, vld1q_s8(weights)); }
    static GDQ_INLINE I dot16(I acc, const void* two, const int16_t* weights) {
        int16_t pair[2];
        __builtin_memcpy(pair, two, 4);
        const int16x4x2_t w = vld2_s16(weights);
        return vmlal_n_s16(vmlal_n_s16(acc, w.val[0], pair[0]), w.val[1], pair[1]);
    }

    static GDQ_INLINE F loadf(const float* p) { return vld1q_f32(p); }
    static GDQ_INLINE void storef(float* p, F a) { vst1q_f32(p, a); }
    static GDQ_INLINE F floats(float v) { return vdupq_n_f32(v); }
    static GDQ_INLINE F to_float(I a) { return vcvtq_f32_s32(a); }
    static GDQ_INLINE F mul(F a, F b) { return vmulq_f32(a, b); }
    static GDQ_INLINE F add(F a, F b) { return vaddq_f32(a, b); }
    static GDQ_INLINE F max(F a, F b) { return vmaxq_f32(a, b); }
    static GDQ_INLINE F min(F a, F b) { return vminq_f32(a, b); }

    // 8 consecutive channels to bytes; narrowing saturates, so narrow bounds are the only ones left to clamp to.
    struct Clamp {
        int8x8_t lo, hi;
        GDQ_INLINE Clamp(int low, int high)
            : lo(vdup_n_s8(static_cast<int8_t>(low))), hi(vreinterpret_s8_u8(vdup_n_u8(static_cast<uint8_t>(high)))) {}

        static GDQ_INLINE int16x8_t words(F a, F b) {
            return vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(a)), vqmovn_s32(vcvtnq_s32_f32(b)));
        }
        // clamp(rne(v), lo, hi)
        GDQ_INLINE void put_unsigned(uint8_t* p, F a, F b) const {
            const uint8x8_t codes = vmin_u8(vqmovun_s16(words(a, b)), vreinterpret_u8_s8(hi));
            vst1_u8(p, vmax_u8(codes, vreinterpret_u8_s8(lo)));
        }
        // clamp(rne(v), lo, hi) + 128
        GDQ_INLINE void put_signed(uint8_t* p, F a, F b) const {
            const int8x8_t codes = vmax_s8(vmin_s8(vqmovn_s16(words(a, b)), hi), lo);
            vst1_u8(p, veor_u8(vreinterpret_u8_s8(codes), vdup_n_u8(0x80)));
        }
    };
};
