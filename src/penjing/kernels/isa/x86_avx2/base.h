/* The SIMD vocabulary on x86 with AVX2. Codes are staged in 16 bits and multiplied exactly: vpmaddubsw would saturate. */
#include <immintrin.h>

#if defined(__clang__)
#define PJ_TARGETED
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define PJ_WORD static inline __attribute__((always_inline, unused))
#define PJ_STAGES_CODES 0
#define PJ_MASKS 0
#define PJ_VECTORS 1
#define PJ_TILES_1(T) T(1) T(2) T(3)
#define PJ_PIXELS_1 3
#define PJ_PIXELS 3
#define PJ_STRETCH 8
#define PJ_SUMS 24

typedef int16_t pj_staged;
typedef struct {
    __m256i a, b, c, d; /* channels 0-3, 4-7, ...: two sums for each, to be added at the end */
} pj_acc;
typedef struct {
    __m256i a, b, c, d;
} pj_w;
typedef __m256i pj_x;
typedef struct {
    __m256 lo, hi;
} pj_f;

PJ_WORD void pj_stage(pj_staged *to, const uint8_t *x, int32_t n)
{
    int32_t i;
    for (i = 0; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *)(to + i), _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(x + i))));
    for (; i < n; i++)
        to[i] = x[i];
}

PJ_WORD void pj_stage_zero(pj_staged *to, int32_t zero, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++)
        to[i] = (int16_t)zero;
}

PJ_WORD pj_acc pj_acc_start(const int32_t *bias)
{
    pj_acc acc;
    PJ_UNUSED(bias);
    acc.a = acc.b = acc.c = acc.d = _mm256_setzero_si256();
    return acc;
}

PJ_WORD pj_w pj_load_w(const int8_t *w)
{
    const __m128i *from = (const __m128i *)w;
    pj_w wide;
    wide.a = _mm256_cvtepi8_epi16(_mm_loadu_si128(from));
    wide.b = _mm256_cvtepi8_epi16(_mm_loadu_si128(from + 1));
    wide.c = _mm256_cvtepi8_epi16(_mm_loadu_si128(from + 2));
    wide.d = _mm256_cvtepi8_epi16(_mm_loadu_si128(from + 3));
    return wide;
}

PJ_WORD pj_x pj_load_x(const pj_staged *x)
{
    int64_t four;
    memcpy(&four, x, 8);
    return _mm256_set1_epi64x(four);
}

PJ_WORD void pj_prefetch(const void *at)
{
    _mm_prefetch((const char *)at, _MM_HINT_T1);
}

PJ_WORD pj_acc pj_dot4(pj_acc acc, pj_x x, pj_w w)
{
    acc.a = _mm256_add_epi32(acc.a, _mm256_madd_epi16(x, w.a));
    acc.b = _mm256_add_epi32(acc.b, _mm256_madd_epi16(x, w.b));
    acc.c = _mm256_add_epi32(acc.c, _mm256_madd_epi16(x, w.c));
    acc.d = _mm256_add_epi32(acc.d, _mm256_madd_epi16(x, w.d));
    return acc;
}

PJ_WORD void pj_acc_store(int32_t *to, pj_acc acc, const int32_t *bias)
{
    const __m256i lo = _mm256_permute4x64_epi64(_mm256_hadd_epi32(acc.a, acc.b), 0xD8);
    const __m256i hi = _mm256_permute4x64_epi64(_mm256_hadd_epi32(acc.c, acc.d), 0xD8);
    const __m256i *b = (const __m256i *)bias;
    _mm256_storeu_si256((__m256i *)to, _mm256_add_epi32(lo, _mm256_loadu_si256(b)));
    _mm256_storeu_si256((__m256i *)to + 1, _mm256_add_epi32(hi, _mm256_loadu_si256(b + 1)));
}

PJ_WORD __m256i pj_larger(const int32_t *a, const int32_t *b)
{
    return _mm256_max_epi32(_mm256_loadu_si256((const __m256i *)a), _mm256_loadu_si256((const __m256i *)b));
}

PJ_WORD void pj_largest(int32_t *to, const int32_t *a, const int32_t *b, int32_t step, const int32_t n)
{
    __m256i lo = pj_larger(a, b), hi = pj_larger(a + 8, b + 8);
    int32_t i;
    for (i = 1; i < n; i++) {
        lo = _mm256_max_epi32(lo, pj_larger(a + i * step, b + i * step));
        hi = _mm256_max_epi32(hi, pj_larger(a + i * step + 8, b + i * step + 8));
    }
    _mm256_storeu_si256((__m256i *)to, lo);
    _mm256_storeu_si256((__m256i *)to + 1, hi);
}

PJ_WORD pj_f pj_scale(const int32_t *acc, const float *multiplier)
{
    const __m256i *from = (const __m256i *)acc;
    pj_f v;
    v.lo = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_loadu_si256(from)), _mm256_loadu_ps(multiplier));
    v.hi = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_loadu_si256(from + 1)), _mm256_loadu_ps(multiplier + 8));
    return v;
}

/* As floats, sums that start at the bits of 2^23 need a subtraction where others need a conversion; the difference is
 * exact. */
PJ_WORD pj_f pj_scale_rectified(const int32_t *acc, const float *multiplier)
{
    const __m256i *from = (const __m256i *)acc;
    const __m256 start = _mm256_set1_ps(8388608.0f);
    const __m256 lo = _mm256_sub_ps(_mm256_castsi256_ps(_mm256_loadu_si256(from)), start);
    const __m256 hi = _mm256_sub_ps(_mm256_castsi256_ps(_mm256_loadu_si256(from + 1)), start);
    pj_f v;
    v.lo = _mm256_mul_ps(lo, _mm256_loadu_ps(multiplier));
    v.hi = _mm256_mul_ps(hi, _mm256_loadu_ps(multiplier + 8));
    return v;
}

PJ_WORD pj_f pj_add_codes(pj_f value, const uint8_t *codes, int32_t zero, float scale)
{
    const __m128i c = _mm_loadu_si128((const __m128i *)codes);
    const __m256i z = _mm256_set1_epi32(zero);
    const __m256 s = _mm256_set1_ps(scale);
    const __m256i lo = _mm256_sub_epi32(_mm256_cvtepu8_epi32(c), z);
    const __m256i hi = _mm256_sub_epi32(_mm256_cvtepu8_epi32(_mm_srli_si128(c, 8)), z);
    value.lo = _mm256_add_ps(value.lo, _mm256_mul_ps(_mm256_cvtepi32_ps(lo), s));
    value.hi = _mm256_add_ps(value.hi, _mm256_mul_ps(_mm256_cvtepi32_ps(hi), s));
    return value;
}

PJ_WORD void pj_put1(uint8_t *y, pj_f v, const struct pj_codes *q)
{
    const __m256i s = _mm256_packs_epi32(_mm256_cvtps_epi32(v.lo), _mm256_cvtps_epi32(v.hi));
    const __m256i moved = _mm256_adds_epi16(_mm256_permute4x64_epi64(s, 0xD8), _mm256_set1_epi16((int16_t)q->zero));
    __m128i u = _mm_packus_epi16(_mm256_castsi256_si128(moved), _mm256_extracti128_si256(moved, 1));
    u = _mm_min_epu8(_mm_max_epu8(u, _mm_set1_epi8((char)q->qmin)), _mm_set1_epi8((char)q->qmax));
    _mm_storeu_si128((__m128i *)y, u);
}
