/* products of two activations, and means weighted by 16 bits
 *
 *   pj_pairs  4 codes for each of 16 features, as two pairs of 16 bits: codes 0 and 2, codes 1 and 3
 *   pj_exp    a table of 256 entries of 15 bits, looked up by the bytes of the entries
 */
#define PJ_MATMUL_ROWS 6 /* rows, and vectors of 16 columns, that a tile holds */
#define PJ_MATMUL_VECTORS 4
#define PJ_MATMUL_TILES(T) T(6, 4) T(6, 2) T(6, 1) T(1, 4) T(1, 2) T(1, 1)
#define PJ_ATTEND_ROWS 6
#define PJ_ATTEND_VECTORS 4
#define PJ_ATTEND_TILES(T) T(6, 4) T(6, 2) T(6, 1) T(1, 4) T(1, 2) T(1, 1)

typedef struct {
    __m512i even, odd;
} pj_pairs;
typedef struct {
    __m512i low[4], high[4];
} pj_exp;

PJ_WORD pj_pairs pj_pairs_load(const uint8_t *v)
{
    const __m512i codes = _mm512_loadu_si512(v);
    pj_pairs two;
    two.even = _mm512_and_si512(codes, _mm512_set1_epi16(255));
    two.odd = _mm512_srli_epi16(codes, 8);
    return two;
}

/* In assembly for the reason that pj_dot4 has. */
PJ_WORD __m512i pj_pairs_add(__m512i acc, __m512i a, __m512i b)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
    return acc;
}

/* Adds the products of 4 codes with 4 weights, of which 0 and 2 lie in front and 1 and 3 `odd` weights behind. */
PJ_WORD pj_fc_acc pj_pairs_dot(pj_fc_acc acc, const int16_t *weights, int64_t odd, pj_pairs codes)
{
    int32_t a, b;
    memcpy(&a, weights, 4), memcpy(&b, weights + odd, 4);
    acc = pj_pairs_add(acc, _mm512_set1_epi32(a), codes.even);
    return pj_pairs_add(acc, _mm512_set1_epi32(b), codes.odd);
}

/* In each 128 bits of the result: a sum of each of the four. */
PJ_WORD __m512i pj_four_sums(__m512i a, __m512i b, __m512i c, __m512i d)
{
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

PJ_WORD __m512i pj_wide_dot(__m512i acc, __m512i w, __mmask32 some, const uint8_t *codes)
{
    return pj_pairs_add(acc, w, _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(some, codes)));
}

/* Four sums of n products: of `a` with the codes of rows that lie `step` apart. Of `a`, whole vectors are read; what stands
 * behind the n meets zeros. */
PJ_WORD void pj_row_dots(int32_t *sums, const int16_t *a, const uint8_t *b, int64_t step, int32_t n)
{
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
    __m256i half;
    int32_t i;
    for (i = 0; i < n; i += 32) {
        const __mmask32 some = n - i < 32 ? (UINT32_C(1) << (n - i)) - 1 : ~UINT32_C(0);
        const __m512i w = _mm512_loadu_si512(a + i);
        s0 = pj_wide_dot(s0, w, some, b + i);
        s1 = pj_wide_dot(s1, w, some, b + step + i);
        s2 = pj_wide_dot(s2, w, some, b + 2 * step + i);
        s3 = pj_wide_dot(s3, w, some, b + 3 * step + i);
    }
    s0 = pj_four_sums(s0, s1, s2, s3);
    half = _mm256_add_epi32(_mm512_castsi512_si256(s0), _mm512_extracti64x4_epi64(s0, 1));
    _mm_storeu_si128((__m128i *)sums, _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
}

PJ_WORD pj_exp pj_exp_load(const int32_t *table)
{
    pj_exp e;
    int32_t i, j;
    uint8_t bytes[2][64];
    for (i = 0; i < 4; i++, table += 64) {
        for (j = 0; j < 64; j += 16) {
            const __m512i entries = _mm512_loadu_si512(table + j);
            _mm_storeu_si128((__m128i *)(bytes[0] + j), _mm512_cvtepi32_epi8(entries));
            _mm_storeu_si128((__m128i *)(bytes[1] + j), _mm512_cvtepi32_epi8(_mm512_srli_epi32(entries, 8)));
        }
        e.low[i] = _mm512_loadu_si512(bytes[0]), e.high[i] = _mm512_loadu_si512(bytes[1]);
    }
    return e;
}

PJ_WORD __m512i pj_look_up_64(const __m512i table[4], __m512i at)
{
    const __m512i low = _mm512_permutex2var_epi8(table[0], at, table[1]);
    const __m512i high = _mm512_permutex2var_epi8(table[2], at, table[3]);
    return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(at), high);
}

/* The first `seen` lanes from `at` on that the mask, if there is one, keeps. */
PJ_WORD __mmask64 pj_kept(const uint8_t *mask, int32_t at, int32_t seen)
{
    const __mmask64 some = seen - at >= 64 ? ~UINT64_C(0) : seen > at ? pj_first(seen - at) : 0;
    if (!mask)
        return some;
    mask += at;
    return _mm512_mask_test_epi8_mask(some, _mm512_maskz_loadu_epi8(some, mask), _mm512_set1_epi8(-1));
}

/* The largest code that is kept, in all lanes; 0 where none is. */
PJ_WORD __m512i pj_largest_kept(const uint8_t *x, const uint8_t *mask, int32_t seen)
{
    __m512i top = _mm512_setzero_si512();
    __m256i half;
    __m128i most;
    int32_t i;
    for (i = 0; i < seen; i += 64)
        top = _mm512_max_epu8(top, _mm512_maskz_loadu_epi8(pj_kept(mask, i, seen), x + i));
    half = _mm256_max_epu8(_mm512_castsi512_si256(top), _mm512_extracti64x4_epi64(top, 1));
    most = _mm_max_epu8(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    most = _mm_max_epu8(most, _mm_srli_epi16(most, 8)); /* the smallest of 16 bits is a word: of 255 - code */
    most = _mm_minpos_epu16(_mm_xor_si128(_mm_and_si128(most, _mm_set1_epi16(255)), _mm_set1_epi16(255)));
    return _mm512_set1_epi8((char)(255 - _mm_extract_epi16(most, 0)));
}

/* Weights of 4 * quads codes, whose distance from the largest of the kept ones the table maps: those of codes 0 and 2 of
 * every four, then those of codes 1 and 3. What the mask hides, and what stands behind `seen`, has the weight 0. The sum of
 * all. */
PJ_SHARED int32_t pj_weigh(int16_t *weights, const pj_exp *table, const uint8_t *x, const uint8_t *mask, int32_t seen,
                           int32_t quads)
{
    const __m512i top = pj_largest_kept(x, mask, seen);
    __m512i sums = _mm512_setzero_si512();
    int32_t i;
    for (i = 0; i < quads; i += 16) {
        const __mmask64 kept = pj_kept(mask, 4 * i, seen);
        const __mmask16 some = (__mmask16)(quads - i >= 16 ? 0xFFFF : (1 << (quads - i)) - 1);
        const __m512i at = _mm512_sub_epi8(top, _mm512_maskz_loadu_epi8(kept, x + 4 * i));
        const __m512i low = _mm512_maskz_mov_epi8(kept, pj_look_up_64(table->low, at));
        const __m512i high = _mm512_maskz_mov_epi8(kept, pj_look_up_64(table->high, at));
        const __m512i even =
            _mm512_or_si512(_mm512_and_si512(low, _mm512_set1_epi16(255)), _mm512_slli_epi16(high, 8));
        const __m512i odd = _mm512_mask_mov_epi8(_mm512_srli_epi16(low, 8), UINT64_C(0xAAAAAAAAAAAAAAAA), high);
        sums = pj_pairs_add(sums, even, _mm512_set1_epi16(1));
        sums = pj_pairs_add(sums, odd, _mm512_set1_epi16(1));
        _mm512_mask_storeu_epi32(weights + 2 * i, some, even);
        _mm512_mask_storeu_epi32(weights + 2 * (quads + i), some, odd);
    }
    return _mm512_reduce_add_epi32(sums);
}

PJ_WORD void pj_put_weights(int16_t *to, __m256i low, __m256i high, __m512i *sums)
{
    const __m512i wide = _mm512_or_si512(_mm512_cvtepu8_epi16(low), _mm512_slli_epi16(_mm512_cvtepu8_epi16(high), 8));
    *sums = pj_pairs_add(*sums, wide, _mm512_set1_epi16(1));
    _mm512_storeu_si512(to, wide);
}

/* Weights of `seen` codes in their order, and zeros behind them up to 64; their sum. */
PJ_SHARED int32_t pj_weigh_row(int16_t *weights, const pj_exp *table, const uint8_t *x, int32_t seen)
{
    const __m512i top = pj_largest_kept(x, 0, seen);
    __m512i sums = _mm512_setzero_si512();
    int32_t i;
    for (i = 0; i < seen; i += 64) {
        const __mmask64 kept = pj_kept(0, i, seen);
        const __m512i at = _mm512_sub_epi8(top, _mm512_maskz_loadu_epi8(kept, x + i));
        const __m512i low = _mm512_maskz_mov_epi8(kept, pj_look_up_64(table->low, at));
        const __m512i high = _mm512_maskz_mov_epi8(kept, pj_look_up_64(table->high, at));
        pj_put_weights(weights + i, _mm512_castsi512_si256(low), _mm512_castsi512_si256(high), &sums);
        pj_put_weights(weights + i + 32, _mm512_extracti64x4_epi64(low, 1), _mm512_extracti64x4_epi64(high, 1), &sums);
    }
    return _mm512_reduce_add_epi32(sums);
}

/* norms */

/* The sum of squares of n codes; lanes of 32 bits hold those of PJ_SQUARED vectors. */
#define PJ_SQUARED 4096
PJ_WORD int64_t pj_sum_squares(const uint8_t *x, int32_t n)
{
    int64_t all = 0;
    int32_t i, j;
    for (i = 0; i < n; i += 64 * PJ_SQUARED) {
        __m512i sums = _mm512_setzero_si512();
        for (j = i; j < n && j - i < 64 * PJ_SQUARED; j += 64) {
            const __m512i v = pj_load_b(x + j, n - j < 64 ? n - j : 64);
            const __m512i even = _mm512_and_si512(v, _mm512_set1_epi16(255)), odd = _mm512_srli_epi16(v, 8);
            sums = pj_pairs_add(pj_pairs_add(sums, even, even), odd, odd);
        }
        all += _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_srli_epi64(sums, 32),
                                                        _mm512_and_si512(sums, _mm512_set1_epi64(UINT32_MAX))));
    }
    return all;
}

/* factor * code - less for 16 codes, as floats. */
PJ_WORD __m512i pj_first_wide(const int16_t *x, int32_t n)
{
    return _mm512_maskz_loadu_epi16(n < 32 ? (UINT32_C(1) << n) - 1 : ~UINT32_C(0), x);
}

PJ_WORD int32_t pj_sum_wide(const int16_t *x, int32_t n)
{
    __m512i sums = _mm512_setzero_si512();
    for (; n > 0; n -= 32, x += 32)
        sums = _mm512_add_epi32(sums, _mm512_madd_epi16(pj_first_wide(x, n), _mm512_set1_epi16(1)));
    return _mm512_reduce_add_epi32(sums);
}

/* Two squares are at most 2^31, which is no int32, but 32 bits. */
PJ_WORD int64_t pj_sum_squares_wide(const int16_t *x, int32_t n)
{
    __m512i sums = _mm512_setzero_si512();
    for (; n > 0; n -= 32, x += 32) {
        const __m512i v = pj_first_wide(x, n), two = _mm512_madd_epi16(v, v);
        const __m512i even = _mm512_and_si512(two, _mm512_set1_epi64(UINT32_MAX));
        sums = _mm512_add_epi64(sums, _mm512_add_epi64(even, _mm512_srli_epi64(two, 32)));
    }
    return _mm512_reduce_add_epi64(sums);
}

PJ_WORD pj_f pj_from_wide(const int16_t *codes, int32_t factor, int32_t less)
{
    const __m512i wide = _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)codes));
    const __m512i products = _mm512_mullo_epi32(wide, _mm512_set1_epi32(factor));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(products, _mm512_set1_epi32(less)));
}

PJ_WORD pj_f pj_from_multiples(const uint8_t *codes, int32_t factor, int32_t less)
{
    const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)codes));
    const __m512i products = _mm512_mullo_epi32(wide, _mm512_set1_epi32(factor));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(products, _mm512_set1_epi32(less)));
}

/* The largest integer whose square is at most w < 2^62. Rounding w to a double may lead to the next one, never to one less. */
PJ_WORD int64_t pj_floor_root(uint64_t w)
{
    const __m128d root = _mm_sqrt_pd(_mm_set1_pd((double)(int64_t)w));
    const int64_t near = _mm_cvttsd_si64(root);
    return near - (near * near > (int64_t)w);
}

/* Values in steps as 16 codes of 16 bits. */
PJ_WORD void pj_put_wide(int16_t *to, pj_f v)
{
    const __m512 within = _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(-32768.0f)), _mm512_set1_ps(32767.0f));
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(within)));
}
