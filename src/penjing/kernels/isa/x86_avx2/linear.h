/* linear: where each weight meets few codes, moving signs costs less than widening weights. With d = x - 128 and weights
 * of -127..127, |d| * (w with the sign of d) stays below 2^15 for two neighbours, so that vpmaddubsw is exact. */
#define PJ_LINEAR_CENTRED 1 /* whether the codes that meet weights are differences from 128 */
#define PJ_LINEAR_ROWS 3
#define PJ_LINEAR_VECTORS_1 4 /* blocks that a tile of one row takes at once, and a tile of PJ_LINEAR_ROWS */
#define PJ_LINEAR_VECTORS 1
#define PJ_LINEAR_TILES(T) T(1, 4, 1) T(1, 2, 1) T(1, 1, 2) T(3, 1, 1)
#define PJ_LINEAR_FOURS 0

typedef struct {
    __m256i lo, hi; /* 8 channels each */
} pj_fc_acc;
typedef pj_fc_acc pj_fc_w;
typedef struct {
    __m256i size, sign;
} pj_fc_x;

PJ_WORD pj_fc_x pj_fc_load_x(const uint8_t *x)
{
    pj_fc_x four;
    int32_t codes;
    memcpy(&codes, x, 4);
    four.sign = _mm256_xor_si256(_mm256_set1_epi32(codes), _mm256_set1_epi8((char)0x80));
    four.size = _mm256_abs_epi8(four.sign);
    return four;
}

/* Asks early for weights that lie ahead: these tiles skip half of each group, which the processor alone follows too late
 * from beyond the second-level cache. */
PJ_WORD pj_fc_w pj_fc_load_w(const int8_t *w)
{
    pj_fc_w two;
    _mm_prefetch((const char *)((uintptr_t)w + 4096), _MM_HINT_T0);
    two.lo = _mm256_loadu_si256((const __m256i *)w);
    two.hi = _mm256_loadu_si256((const __m256i *)w + 1);
    return two;
}

PJ_WORD pj_fc_acc pj_fc_start(const int32_t *bias)
{
    pj_fc_acc acc;
    acc.lo = _mm256_loadu_si256((const __m256i *)bias);
    acc.hi = _mm256_loadu_si256((const __m256i *)bias + 1);
    return acc;
}

PJ_WORD pj_fc_acc pj_fc_zero(void)
{
    pj_fc_acc acc;
    acc.lo = acc.hi = _mm256_setzero_si256();
    return acc;
}

PJ_WORD pj_fc_acc pj_fc_add(pj_fc_acc a, pj_fc_acc b)
{
    a.lo = _mm256_add_epi32(a.lo, b.lo);
    a.hi = _mm256_add_epi32(a.hi, b.hi);
    return a;
}

PJ_WORD pj_fc_acc pj_fc_dot4(pj_fc_acc acc, pj_fc_x x, pj_fc_w w)
{
    const __m256i one = _mm256_set1_epi16(1);
    w.lo = _mm256_madd_epi16(_mm256_maddubs_epi16(x.size, _mm256_sign_epi8(w.lo, x.sign)), one);
    w.hi = _mm256_madd_epi16(_mm256_maddubs_epi16(x.size, _mm256_sign_epi8(w.hi, x.sign)), one);
    return pj_fc_add(acc, w);
}

PJ_WORD void pj_fc_store(int32_t *to, pj_fc_acc acc)
{
    _mm256_storeu_si256((__m256i *)to, acc.lo);
    _mm256_storeu_si256((__m256i *)to + 1, acc.hi);
}

PJ_WORD pj_acc pj_acc_zero(void)
{
    return pj_acc_start(0);
}

PJ_WORD pj_acc pj_acc_add(pj_acc x, pj_acc y)
{
    x.a = _mm256_add_epi32(x.a, y.a);
    x.b = _mm256_add_epi32(x.b, y.b);
    x.c = _mm256_add_epi32(x.c, y.c);
    x.d = _mm256_add_epi32(x.d, y.d);
    return x;
}

#define PJ_BOOK_VECTORS 4 /* blocks that a tile takes at once, of weights by a codebook, and of 4 bits */
#define PJ_INT4_VECTORS 2
#define PJ_INT4_RUN 8 /* groups of 4 codes after which pj_int4_carry is due: 8 * 2 * 15 * 128 < 2^15 */

typedef __m256i pj_book;
typedef __m256i pj_int4_x;
typedef struct {
    __m256i a, b, c, d; /* sums of 16 bits: 8 channels of the low halves, 8 more, and the same of the high halves */
    __m256i sum_a, sum_b, sum_c, sum_d;
} pj_int4_acc;

PJ_WORD pj_book pj_book_load(const int8_t *table, const int32_t bits)
{
    PJ_UNUSED(bits);
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
}

PJ_WORD __m256i pj_book_at(__m256i indices, __m256i book, const int32_t shift)
{
    return _mm256_shuffle_epi8(book, _mm256_and_si256(_mm256_srli_epi16(indices, shift), _mm256_set1_epi8(15)));
}

PJ_WORD pj_fc_w pj_book_indices(const uint8_t *w)
{
    return pj_fc_load_w((const int8_t *)w);
}

PJ_WORD pj_fc_acc pj_book_dot4(pj_fc_acc acc, pj_fc_x x, pj_fc_w indices, pj_book book, const int32_t bits,
                               const int32_t i)
{
    indices.lo = pj_book_at(indices.lo, book, bits * i);
    indices.hi = pj_book_at(indices.hi, book, bits * i);
    return pj_fc_dot4(acc, x, indices);
}

PJ_WORD int32_t pj_sum_codes(const uint8_t *x, int32_t n)
{
    __m256i sums = _mm256_setzero_si256();
    __m128i two;
    int32_t sum;
    for (; n >= 32; n -= 32, x += 32)
        sums = _mm256_add_epi64(sums, _mm256_sad_epu8(_mm256_loadu_si256((const __m256i *)x), _mm256_setzero_si256()));
    two = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    sum = _mm_cvtsi128_si32(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two)));
    for (; n > 0; n--)
        sum += *x++;
    return sum;
}

PJ_WORD pj_int4_x pj_int4_load_x(const uint8_t *x)
{
    return pj_fc_load_x(x).sign;
}

PJ_WORD pj_int4_acc pj_int4_zero(void)
{
    pj_int4_acc acc;
    acc.a = acc.b = acc.c = acc.d = acc.sum_a = acc.sum_b = acc.sum_c = acc.sum_d = _mm256_setzero_si256();
    return acc;
}

PJ_WORD pj_int4_acc pj_int4_dot4(pj_int4_acc acc, pj_int4_x x, const uint8_t *w)
{
    const __m256i half = _mm256_set1_epi8(15);
    const pj_fc_w two = pj_fc_load_w((const int8_t *)w);
    acc.a = _mm256_add_epi16(acc.a, _mm256_maddubs_epi16(_mm256_and_si256(two.lo, half), x));
    acc.b = _mm256_add_epi16(acc.b, _mm256_maddubs_epi16(_mm256_and_si256(two.hi, half), x));
    acc.c = _mm256_add_epi16(acc.c, _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(two.lo, 4), half), x));
    acc.d = _mm256_add_epi16(acc.d, _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(two.hi, 4), half), x));
    return acc;
}

PJ_WORD pj_int4_acc pj_int4_carry(pj_int4_acc acc)
{
    const __m256i one = _mm256_set1_epi16(1);
    acc.sum_a = _mm256_add_epi32(acc.sum_a, _mm256_madd_epi16(acc.a, one));
    acc.sum_b = _mm256_add_epi32(acc.sum_b, _mm256_madd_epi16(acc.b, one));
    acc.sum_c = _mm256_add_epi32(acc.sum_c, _mm256_madd_epi16(acc.c, one));
    acc.sum_d = _mm256_add_epi32(acc.sum_d, _mm256_madd_epi16(acc.d, one));
    acc.a = acc.b = acc.c = acc.d = _mm256_setzero_si256();
    return acc;
}

PJ_WORD void pj_int4_store(int32_t *to, pj_int4_acc acc, const int32_t *bias, int32_t less)
{
    const __m256i *b = (const __m256i *)bias, by = _mm256_set1_epi32(less);
    __m256i *out = (__m256i *)to;
    _mm256_storeu_si256(out, _mm256_add_epi32(acc.sum_a, _mm256_sub_epi32(_mm256_loadu_si256(b), by)));
    _mm256_storeu_si256(out + 1, _mm256_add_epi32(acc.sum_b, _mm256_sub_epi32(_mm256_loadu_si256(b + 1), by)));
    _mm256_storeu_si256(out + 2, _mm256_add_epi32(acc.sum_c, _mm256_sub_epi32(_mm256_loadu_si256(b + 2), by)));
    _mm256_storeu_si256(out + 3, _mm256_add_epi32(acc.sum_d, _mm256_sub_epi32(_mm256_loadu_si256(b + 3), by)));
}
