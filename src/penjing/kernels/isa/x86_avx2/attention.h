/* products of two activations, and means weighted by 16 bits: see x86_avx512vnni/attention.h */
#define PJ_MATMUL_ROWS 3
#define PJ_MATMUL_VECTORS 1
#define PJ_MATMUL_TILES(T) T(3, 1) T(1, 1)
#define PJ_ATTEND_ROWS 4
#define PJ_ATTEND_VECTORS 1
#define PJ_ATTEND_TILES(T) T(4, 1) T(1, 1)

typedef struct {
    pj_fc_acc even, odd;
} pj_pairs;

PJ_WORD pj_pairs pj_pairs_load(const uint8_t *v)
{
    const __m256i lo = _mm256_loadu_si256((const __m256i *)v), hi = _mm256_loadu_si256((const __m256i *)v + 1);
    const __m256i byte = _mm256_set1_epi16(255);
    pj_pairs two;
    two.even.lo = _mm256_and_si256(lo, byte), two.even.hi = _mm256_and_si256(hi, byte);
    two.odd.lo = _mm256_srli_epi16(lo, 8), two.odd.hi = _mm256_srli_epi16(hi, 8);
    return two;
}

PJ_WORD pj_fc_acc pj_pairs_dot(pj_fc_acc acc, const int16_t *weights, int64_t odd, pj_pairs codes)
{
    int32_t a, b;
    __m256i even_w, odd_w;
    memcpy(&a, weights, 4), memcpy(&b, weights + odd, 4);
    even_w = _mm256_set1_epi32(a), odd_w = _mm256_set1_epi32(b);
    acc.lo = _mm256_add_epi32(acc.lo, _mm256_madd_epi16(even_w, codes.even.lo));
    acc.hi = _mm256_add_epi32(acc.hi, _mm256_madd_epi16(even_w, codes.even.hi));
    acc.lo = _mm256_add_epi32(acc.lo, _mm256_madd_epi16(odd_w, codes.odd.lo));
    acc.hi = _mm256_add_epi32(acc.hi, _mm256_madd_epi16(odd_w, codes.odd.hi));
    return acc;
}

PJ_WORD __m128i pj_four_sums(__m256i a, __m256i b, __m256i c, __m256i d)
{
    const __m256i all = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    return _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}

PJ_WORD __m256i pj_wide_dot(__m256i acc, __m256i w, const uint8_t *codes)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(w, _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)codes))));
}

PJ_WORD void pj_row_dots(int32_t *sums, const int16_t *a, const uint8_t *b, int64_t step, int32_t n)
{
    __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
    int32_t i;
    for (i = 0; i + 16 <= n; i += 16) {
        const __m256i w = _mm256_loadu_si256((const __m256i *)(a + i));
        s0 = pj_wide_dot(s0, w, b + i);
        s1 = pj_wide_dot(s1, w, b + step + i);
        s2 = pj_wide_dot(s2, w, b + 2 * step + i);
        s3 = pj_wide_dot(s3, w, b + 3 * step + i);
    }
    _mm_storeu_si128((__m128i *)sums, pj_four_sums(s0, s1, s2, s3));
    for (; i < n; i++) {
        sums[0] += a[i] * b[i];
        sums[1] += a[i] * b[step + i];
        sums[2] += a[i] * b[2 * step + i];
        sums[3] += a[i] * b[3 * step + i];
    }
}

/* norms */
#define PJ_SQUARED 4096
PJ_WORD int64_t pj_sum_squares(const uint8_t *x, int32_t n)
{
    const __m256i byte = _mm256_set1_epi16(255);
    int64_t all = 0;
    int32_t i;
    while (n >= 32) {
        __m256i sums = _mm256_setzero_si256(), wide;
        __m128i two;
        for (i = 0; n >= 32 && i < PJ_SQUARED; i++, n -= 32, x += 32) {
            const __m256i v = _mm256_loadu_si256((const __m256i *)x);
            const __m256i even = _mm256_and_si256(v, byte), odd = _mm256_srli_epi16(v, 8);
            sums = _mm256_add_epi32(sums, _mm256_add_epi32(_mm256_madd_epi16(even, even), _mm256_madd_epi16(odd, odd)));
        }
        wide = _mm256_add_epi64(_mm256_srli_epi64(sums, 32), _mm256_and_si256(sums, _mm256_set1_epi64x(UINT32_MAX)));
        two = _mm_add_epi64(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
        all += _mm_cvtsi128_si64(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two)));
    }
    for (; n > 0; n--, x++)
        all += *x * *x;
    return all;
}

PJ_WORD int32_t pj_sum_wide(const int16_t *x, int32_t n)
{
    __m256i sums = _mm256_setzero_si256();
    __m128i four;
    int32_t all;
    for (; n >= 16; n -= 16, x += 16)
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_loadu_si256((const __m256i *)x), _mm256_set1_epi16(1)));
    four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    all = _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
    for (; n > 0; n--, x++)
        all += *x;
    return all;
}

/* Two squares are at most 2^31, which is no int32, but 32 bits. */
PJ_WORD int64_t pj_sum_squares_wide(const int16_t *x, int32_t n)
{
    __m256i sums = _mm256_setzero_si256();
    __m128i two;
    int64_t all;
    for (; n >= 16; n -= 16, x += 16) {
        const __m256i v = _mm256_loadu_si256((const __m256i *)x), pairs = _mm256_madd_epi16(v, v);
        const __m256i even = _mm256_and_si256(pairs, _mm256_set1_epi64x(UINT32_MAX));
        sums = _mm256_add_epi64(sums, _mm256_add_epi64(even, _mm256_srli_epi64(pairs, 32)));
    }
    two = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    all = _mm_cvtsi128_si64(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two)));
    for (; n > 0; n--, x++)
        all += *x * *x;
    return all;
}

PJ_WORD pj_f pj_from_wide(const int16_t *codes, int32_t factor, int32_t less)
{
    const __m256i f = _mm256_set1_epi32(factor), l = _mm256_set1_epi32(less);
    const __m128i *from = (const __m128i *)codes;
    pj_f v;
    v.lo = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_mullo_epi32(_mm256_cvtepi16_epi32(_mm_loadu_si128(from)), f), l));
    v.hi = _mm256_cvtepi32_ps(
        _mm256_sub_epi32(_mm256_mullo_epi32(_mm256_cvtepi16_epi32(_mm_loadu_si128(from + 1)), f), l));
    return v;
}

PJ_WORD pj_f pj_from_multiples(const uint8_t *codes, int32_t factor, int32_t less)
{
    const __m128i c = _mm_loadu_si128((const __m128i *)codes);
    const __m256i f = _mm256_set1_epi32(factor), l = _mm256_set1_epi32(less);
    const __m256i lo = _mm256_mullo_epi32(_mm256_cvtepu8_epi32(c), f);
    const __m256i hi = _mm256_mullo_epi32(_mm256_cvtepu8_epi32(_mm_srli_si128(c, 8)), f);
    pj_f v;
    v.lo = _mm256_cvtepi32_ps(_mm256_sub_epi32(lo, l));
    v.hi = _mm256_cvtepi32_ps(_mm256_sub_epi32(hi, l));
    return v;
}

PJ_WORD int64_t pj_floor_root(uint64_t w)
{
    const __m128d root = _mm_sqrt_pd(_mm_set1_pd((double)(int64_t)w));
    const int64_t near = _mm_cvttsd_si64(root);
    return near - (near * near > (int64_t)w);
}

/* Values in steps as 16 codes of 16 bits. */
PJ_WORD void pj_put_wide(int16_t *to, pj_f v)
{
    const __m256 low = _mm256_set1_ps(-32768.0f), high = _mm256_set1_ps(32767.0f);
    const __m256i a = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v.lo, low), high));
    const __m256i b = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v.hi, low), high));
    _mm256_storeu_si256((__m256i *)to, _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8));
}
