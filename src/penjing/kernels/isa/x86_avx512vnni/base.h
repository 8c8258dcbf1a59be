/* The SIMD vocabulary on x86 with AVX-512 F, BW, DQ, VL, VNNI and VBMI: Ice Lake, Zen 4 and later.
 *
 *   pj_staged  an activation code as the kernels read it
 *   pj_acc     16 sums of 32 bits, one per output channel
 *   pj_w       4 weights for each of 16 channels;  pj_x: the 4 codes that meet them
 *   pj_f       16 floats
 */
#include <immintrin.h>

#if defined(__clang__)
#define PJ_TARGETED
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")
#endif

#define PJ_WORD static inline __attribute__((always_inline, unused))
#define PJ_STAGES_CODES 1 /* pj_staged is the code itself, so an input may be read where it lies */
#define PJ_MASKS 1        /* words for fewer lanes are below; pj_simd.h has them for others */
#define PJ_VECTORS 2      /* vectors of 16 channels that a tile may hold */
#define PJ_TILES_1(T) T(1) T(2) T(3) T(4) T(5) T(6) T(7) T(8) T(9) T(10) T(11) T(12) T(13) T(14) T(15) T(16)
#define PJ_TILES_2(T) T(1) T(2) T(3) T(4) T(5) T(6) T(7) T(8) T(9) T(10) T(11) T(12)
#define PJ_PIXELS_1 16 /* pixels in a tile of one vector, and of PJ_VECTORS */
#define PJ_PIXELS 12
#define PJ_STRETCH 1 /* tiles whose sums are finished together */
#define PJ_SUMS 24   /* vectors in the longest stretch of tiles */

typedef uint8_t pj_staged;
typedef __m512i pj_acc;
typedef __m512i pj_w;
typedef __m512i pj_x;
typedef __m512 pj_f;

PJ_WORD void pj_stage(pj_staged *to, const uint8_t *x, int32_t n)
{
    int32_t i;
    for (i = 0; i + 64 <= n; i += 64)
        _mm512_storeu_si512(to + i, _mm512_loadu_si512(x + i));
    if (i < n) {
        const __mmask64 rest = ~UINT64_C(0) >> (64 - (n - i));
        _mm512_mask_storeu_epi8(to + i, rest, _mm512_maskz_loadu_epi8(rest, x + i));
    }
}

PJ_WORD void pj_stage_zero(pj_staged *to, int32_t zero, int32_t n)
{
    const __m512i value = _mm512_set1_epi8((char)zero);
    int32_t i;
    for (i = 0; i + 64 <= n; i += 64)
        _mm512_storeu_si512(to + i, value);
    if (i < n)
        _mm512_mask_storeu_epi8(to + i, ~UINT64_C(0) >> (64 - (n - i)), value);
}

PJ_WORD pj_acc pj_acc_start(const int32_t *bias)
{
    return _mm512_loadu_si512(bias);
}

PJ_WORD pj_w pj_load_w(const int8_t *w)
{
    return _mm512_loadu_si512(w);
}

PJ_WORD pj_x pj_load_x(const pj_staged *x)
{
    int32_t four;
    memcpy(&four, x, 4);
    return _mm512_set1_epi32(four);
}

/* A hint that `at` will be read: into the second-level cache, which is where a whole layer's weights fit. */
PJ_WORD void pj_prefetch(const void *at)
{
    _mm_prefetch((const char *)at, _MM_HINT_T1);
}

/* In assembly: around the intrinsic gcc 12 copies each sum to another register and back. */
PJ_WORD pj_acc pj_dot4(pj_acc acc, pj_x x, pj_w w)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
    return acc;
}

PJ_WORD void pj_acc_store(int32_t *to, pj_acc acc, const int32_t *bias)
{
    PJ_UNUSED(bias);
    _mm512_storeu_si512(to, acc);
}

/* to = the largest of n vectors from a on and n from b on, `step` apart. */
PJ_WORD void pj_largest(int32_t *to, const int32_t *a, const int32_t *b, int32_t step, const int32_t n)
{
    __m512i most = _mm512_max_epi32(_mm512_loadu_si512(a), _mm512_loadu_si512(b));
    int32_t i;
    for (i = 1; i < n; i++)
        most = _mm512_max_epi32(
            most, _mm512_max_epi32(_mm512_loadu_si512(a + i * step), _mm512_loadu_si512(b + i * step)));
    _mm512_storeu_si512(to, most);
}

PJ_WORD pj_f pj_scale(const int32_t *acc, const float *multiplier)
{
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(acc)), _mm512_loadu_ps(multiplier));
}

/* The same for sums that start at the bits of 2^23: they are floats without a conversion, and (2^23 + sum) * m - 2^23 * m
 * is one rounding of the exact product. What lies below zero stays there, whatever becomes of it. */
PJ_WORD pj_f pj_scale_rectified(const int32_t *acc, const float *multiplier)
{
    const __m512 sums = _mm512_castsi512_ps(_mm512_loadu_si512(acc)), m = _mm512_loadu_ps(multiplier);
    return _mm512_fmadd_ps(sums, m, _mm512_mul_ps(m, _mm512_set1_ps(-8388608.0f)));
}

/* value + scale * (code - zero), in this order, for codes of which only `lanes` exist. */
PJ_WORD pj_f pj_add_some(pj_f value, const uint8_t *codes, int32_t zero, float scale, int32_t lanes)
{
    const __mmask16 some = (__mmask16)(lanes >= 16 ? 0xFFFF : (1 << lanes) - 1);
    const __m512i wide = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(some, codes));
    const __m512 d = _mm512_cvtepi32_ps(_mm512_sub_epi32(wide, _mm512_set1_epi32(zero)));
    return _mm512_add_ps(value, _mm512_mul_ps(d, _mm512_set1_ps(scale)));
}

/* Four vectors rounded, moved by the zero point and clamped: of 4 pixels that lie `step` apart, or of 2 with 2 each, of
 * which `lanes` channels exist. With `plain` the saturation to bytes is all that the codes ask for. */
PJ_WORD void pj_put_tile(uint8_t *y, int64_t step, const int32_t vectors, int32_t lanes, const pj_f v[4],
                         const struct pj_codes *q, const int32_t plain)
{
    const __m512i zero = _mm512_set1_epi16((int16_t)q->zero);
    const __m512i back = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i ab = _mm512_packs_epi32(_mm512_cvtps_epi32(v[0]), _mm512_cvtps_epi32(v[1]));
    __m512i cd = _mm512_packs_epi32(_mm512_cvtps_epi32(v[2]), _mm512_cvtps_epi32(v[3])), u;
    if (!plain)
        ab = _mm512_adds_epi16(ab, zero), cd = _mm512_adds_epi16(cd, zero);
    u = _mm512_packus_epi16(ab, cd);
    if (!plain) {
        u = _mm512_max_epu8(u, _mm512_set1_epi8((char)q->qmin));
        u = _mm512_min_epu8(u, _mm512_set1_epi8((char)q->qmax));
    }
    u = _mm512_permutexvar_epi32(back, u);
    if (lanes < 16 * vectors) {
        const __mmask32 some = (UINT32_C(1) << lanes) - 1;
        if (vectors == 2) {
            _mm256_mask_storeu_epi8(y, some, _mm512_castsi512_si256(u));
            _mm256_mask_storeu_epi8(y + step, some, _mm512_extracti64x4_epi64(u, 1));
            return;
        }
        _mm_mask_storeu_epi8(y, (__mmask16)some, _mm512_castsi512_si128(u));
        _mm_mask_storeu_epi8(y + step, (__mmask16)some, _mm512_extracti32x4_epi32(u, 1));
        _mm_mask_storeu_epi8(y + 2 * step, (__mmask16)some, _mm512_extracti32x4_epi32(u, 2));
        _mm_mask_storeu_epi8(y + 3 * step, (__mmask16)some, _mm512_extracti32x4_epi32(u, 3));
    } else if (vectors == 2) {
        _mm256_storeu_si256((__m256i *)y, _mm512_castsi512_si256(u));
        _mm256_storeu_si256((__m256i *)(y + step), _mm512_extracti64x4_epi64(u, 1));
    } else if (step == 16)
        _mm512_storeu_si512(y, u);
    else {
        _mm_storeu_si128((__m128i *)y, _mm512_castsi512_si128(u));
        _mm_storeu_si128((__m128i *)(y + step), _mm512_extracti32x4_epi32(u, 1));
        _mm_storeu_si128((__m128i *)(y + 2 * step), _mm512_extracti32x4_epi32(u, 2));
        _mm_storeu_si128((__m128i *)(y + 3 * step), _mm512_extracti32x4_epi32(u, 3));
    }
}

PJ_WORD void pj_put1(uint8_t *y, pj_f v, const struct pj_codes *q)
{
    /* saturating at 16 bits keeps what the last clamp decides */
    const __m256i s = _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(v));
    const __m256i moved = _mm256_adds_epi16(s, _mm256_set1_epi16((int16_t)q->zero));
    __m128i u = _mm_packus_epi16(_mm256_castsi256_si128(moved), _mm256_extracti128_si256(moved, 1));
    u = _mm_min_epu8(_mm_max_epu8(u, _mm_set1_epi8((char)q->qmin)), _mm_set1_epi8((char)q->qmax));
    _mm_storeu_si128((__m128i *)y, u);
}
