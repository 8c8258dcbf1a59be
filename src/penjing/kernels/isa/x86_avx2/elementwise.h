/* elementwise and pooling: see x86_avx512vnni.h. A pj_b of fewer than PJ_BYTES codes holds some of them twice. */
#define PJ_BYTES 32
#define PJ_SUMMED 256
#define PJ_FUSES 1

typedef __m256i pj_b;
typedef struct {
    __m256i pairs, odd;
} pj_h;

PJ_WORD pj_b pj_load_b(const uint8_t *x, int32_t n)
{
    uint64_t ends[2] = {0, 0};
    if (n == PJ_BYTES)
        return _mm256_loadu_si256((const __m256i *)x);
    if (n > 16)
        return _mm256_set_m128i(_mm_loadu_si128((const __m128i *)(x + n - 16)), _mm_loadu_si128((const __m128i *)x));
    if (n >= 8)
        memcpy(ends, x, 8), memcpy(ends + 1, x + n - 8, 8);
    else if (n >= 4)
        memcpy(ends, x, 4), memcpy(ends + 1, x + n - 4, 4);
    else
        ends[0] = (uint64_t)(x[0] | x[n / 2] << 8), ends[1] = x[n - 1];
    return _mm256_castsi128_si256(_mm_set_epi64x((int64_t)ends[1], (int64_t)ends[0]));
}

PJ_WORD void pj_store_b(uint8_t *y, pj_b v, int32_t n)
{
    const __m128i low = _mm256_castsi256_si128(v);
    const uint64_t ends[2] = {(uint64_t)_mm_cvtsi128_si64(low), (uint64_t)_mm_extract_epi64(low, 1)};
    if (n == PJ_BYTES) {
        _mm256_storeu_si256((__m256i *)y, v);
    } else if (n > 16) {
        _mm_storeu_si128((__m128i *)y, low);
        _mm_storeu_si128((__m128i *)(y + n - 16), _mm256_extracti128_si256(v, 1));
    } else if (n >= 8) {
        memcpy(y, ends, 8), memcpy(y + n - 8, ends + 1, 8);
    } else if (n >= 4) {
        memcpy(y, ends, 4), memcpy(y + n - 4, ends + 1, 4);
    } else {
        y[0] = (uint8_t)ends[0], y[n / 2] = (uint8_t)(ends[0] >> 8), y[n - 1] = (uint8_t)ends[1];
    }
}

PJ_WORD pj_b pj_max_b(pj_b a, pj_b b)
{
    return _mm256_max_epu8(a, b);
}

PJ_WORD pj_b pj_max_pairs_16(pj_b a, pj_b b)
{
    return _mm256_max_epu8(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

PJ_WORD pj_h pj_zero_h(void)
{
    pj_h sum;
    sum.pairs = sum.odd = _mm256_setzero_si256();
    return sum;
}

PJ_WORD pj_h pj_add_h(pj_h sum, pj_b v)
{
    sum.pairs = _mm256_add_epi16(sum.pairs, v);
    sum.odd = _mm256_add_epi16(sum.odd, _mm256_srli_epi16(v, 8));
    return sum;
}

PJ_WORD void pj_flush_h(int32_t *to, pj_h sum)
{
    const __m256i even = _mm256_sub_epi16(sum.pairs, _mm256_slli_epi16(sum.odd, 8));
    const __m256i lo = _mm256_unpacklo_epi16(even, sum.odd), hi = _mm256_unpackhi_epi16(even, sum.odd);
    uint16_t wide[PJ_BYTES];
    int32_t i;
    _mm256_storeu_si256((__m256i *)wide, _mm256_permute2x128_si256(lo, hi, 0x20));
    _mm256_storeu_si256((__m256i *)wide + 1, _mm256_permute2x128_si256(lo, hi, 0x31));
    for (i = 0; i < PJ_BYTES; i++)
        to[i] += wide[i];
}

PJ_WORD pj_f pj_load_f(const float *x)
{
    pj_f v;
    v.lo = _mm256_loadu_ps(x), v.hi = _mm256_loadu_ps(x + 8);
    return v;
}

PJ_WORD pj_f pj_number_f(pj_f v, pj_f x)
{
    v.lo = _mm256_and_ps(v.lo, _mm256_cmp_ps(x.lo, x.lo, _CMP_ORD_Q));
    v.hi = _mm256_and_ps(v.hi, _mm256_cmp_ps(x.hi, x.hi, _CMP_ORD_Q));
    return v;
}

PJ_WORD pj_f pj_set_f(float value)
{
    pj_f v;
    v.lo = v.hi = _mm256_set1_ps(value);
    return v;
}

PJ_WORD pj_f pj_from_codes(const uint8_t *codes, int32_t zero)
{
    const __m128i c = _mm_loadu_si128((const __m128i *)codes);
    const __m256i z = _mm256_set1_epi32(zero);
    pj_f v;
    v.lo = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepu8_epi32(c), z));
    v.hi = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepu8_epi32(_mm_srli_si128(c, 8)), z));
    return v;
}

PJ_WORD pj_f pj_from_sums(const int32_t *sums, int32_t less)
{
    const __m256i *from = (const __m256i *)sums, l = _mm256_set1_epi32(less);
    pj_f v;
    v.lo = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_loadu_si256(from), l));
    v.hi = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_loadu_si256(from + 1), l));
    return v;
}

PJ_WORD pj_f pj_add_f(pj_f a, pj_f b)
{
    a.lo = _mm256_add_ps(a.lo, b.lo), a.hi = _mm256_add_ps(a.hi, b.hi);
    return a;
}

PJ_WORD pj_f pj_mul_f(pj_f a, pj_f b)
{
    a.lo = _mm256_mul_ps(a.lo, b.lo), a.hi = _mm256_mul_ps(a.hi, b.hi);
    return a;
}

PJ_WORD pj_f pj_div_f(pj_f a, pj_f b)
{
    a.lo = _mm256_div_ps(a.lo, b.lo), a.hi = _mm256_div_ps(a.hi, b.hi);
    return a;
}

PJ_WORD pj_f pj_within_f(pj_f v, float far)
{
    const __m256 h = _mm256_set1_ps(far), l = _mm256_set1_ps(-far);
    v.lo = _mm256_min_ps(_mm256_max_ps(v.lo, l), h), v.hi = _mm256_min_ps(_mm256_max_ps(v.hi, l), h);
    return v;
}

PJ_WORD pj_f pj_fma_f(pj_f a, pj_f b, pj_f c)
{
    a.lo = _mm256_fmadd_ps(a.lo, b.lo, c.lo), a.hi = _mm256_fmadd_ps(a.hi, b.hi, c.hi);
    return a;
}

PJ_WORD pj_f pj_clamp_f(pj_f v, float low, float high)
{
    const __m256 l = _mm256_set1_ps(low), h = _mm256_set1_ps(high);
    v.lo = _mm256_min_ps(_mm256_max_ps(v.lo, l), h), v.hi = _mm256_min_ps(_mm256_max_ps(v.hi, l), h);
    return v;
}

PJ_WORD pj_b pj_round_b(const pj_f v[PJ_BYTES / 16], int32_t zero)
{
    const __m256i back = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7), z = _mm256_set1_epi16((int16_t)zero);
    const __m256i a = _mm256_packs_epi32(_mm256_cvtps_epi32(v[0].lo), _mm256_cvtps_epi32(v[0].hi));
    const __m256i b = _mm256_packs_epi32(_mm256_cvtps_epi32(v[1].lo), _mm256_cvtps_epi32(v[1].hi));
    const __m256i u = _mm256_packus_epi16(_mm256_add_epi16(a, z), _mm256_add_epi16(b, z));
    return _mm256_permutevar8x32_epi32(u, back);
}

PJ_WORD void pj_look_up(uint8_t *y, const uint8_t *x, int32_t n, const uint8_t *table)
{
    int32_t i;
    for (i = 0; i < n; i++)
        y[i] = table[x[i]];
}

/* 16 bytes of what three planes make of 16 pixels, of which `places` tells where bytes of each plane go. */
PJ_WORD __m128i pj_mix_3(const __m128i plane[3], const int8_t *places)
{
    const __m128i a = _mm_shuffle_epi8(plane[0], _mm_loadu_si128((const __m128i *)(places + 2)));
    const __m128i b = _mm_shuffle_epi8(plane[1], _mm_loadu_si128((const __m128i *)(places + 1)));
    return _mm_or_si128(_mm_or_si128(a, b), _mm_shuffle_epi8(plane[2], _mm_loadu_si128((const __m128i *)places)));
}

/* y[3 * i + k] = plane k [i]; planes lie `step` bytes apart. */
PJ_SHARED void pj_interleave_3(uint8_t *y, const uint8_t *x, int64_t step, int32_t n)
{
    /* where bytes of plane 0 go; plane k is the same k bytes on, and -1 makes 0 */
    static const int8_t place[50] = {-1, -1, 0,  -1, -1, 1,  -1, -1, 2,  -1, -1, 3,  -1, -1, 4,  -1, -1,
                                     5,  -1, -1, 6,  -1, -1, 7,  -1, -1, 8,  -1, -1, 9,  -1, -1, 10, -1,
                                     -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1, -1};
    int32_t i, k;
    for (i = 0; i + 16 <= n; i += 16) {
        __m128i plane[3], *to = (__m128i *)(y + 3 * (int64_t)i);
        plane[0] = _mm_loadu_si128((const __m128i *)(x + i));
        plane[1] = _mm_loadu_si128((const __m128i *)(x + i + step));
        plane[2] = _mm_loadu_si128((const __m128i *)(x + i + 2 * step));
        _mm_storeu_si128(to, pj_mix_3(plane, place));
        _mm_storeu_si128(to + 1, pj_mix_3(plane, place + 16));
        _mm_storeu_si128(to + 2, pj_mix_3(plane, place + 32));
    }
    for (; i < n; i++)
        for (k = 0; k < 3; k++)
            y[3 * (int64_t)i + k] = x[i + k * step];
}
