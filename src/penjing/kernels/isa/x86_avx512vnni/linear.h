/* linear */
#define PJ_LINEAR_CENTRED 0 /* whether the codes that meet weights are differences from 128 */
#define PJ_LINEAR_ROWS 6
#define PJ_LINEAR_VECTORS_1 8 /* blocks that a tile of one row takes at once, and a tile of PJ_LINEAR_ROWS */
#define PJ_LINEAR_VECTORS 4
#define PJ_LINEAR_TILES(T) T(1, 8, 1) T(1, 4, 2) T(1, 2, 4) T(1, 1, 4) T(6, 4, 1) T(6, 2, 1) T(6, 1, 2)
#define PJ_LINEAR_FOURS 1 /* whether finishing four blocks at once pays */

typedef pj_acc pj_fc_acc;
typedef pj_w pj_fc_w;
typedef pj_x pj_fc_x;
#define pj_fc_start pj_acc_start
#define pj_fc_zero pj_acc_zero
#define pj_fc_add pj_acc_add
#define pj_fc_dot4 pj_dot4
#define pj_fc_load_w pj_load_w
#define pj_fc_load_x pj_load_x
#define pj_fc_store(to, acc) pj_acc_store(to, acc, 0)

PJ_WORD pj_acc pj_acc_zero(void)
{
    return _mm512_setzero_si512();
}

PJ_WORD pj_acc pj_acc_add(pj_acc a, pj_acc b)
{
    return _mm512_add_epi32(a, b);
}

#define PJ_BOOK_VECTORS 8 /* blocks that a tile takes at once, of weights by a codebook, and of 4 bits */
#define PJ_INT4_VECTORS 8
#define PJ_INT4_RUN INT32_MAX /* groups of 4 codes after which pj_int4_carry is due */

/* Keeps what was read: gcc would rather read it again for its next use, and these kernels wait for what they read. */
PJ_WORD __m512i pj_once(__m512i value)
{
    __asm__("" : "+v"(value));
    return value;
}

/* Indices need not be moved to the lowest bits, nor others be cleared: vpermb reads 6 bits, for which there are tables. */
typedef struct {
    __m512i at0, at2, at4; /* by the bit at which an index of 2 bits lies; at0 also for 4 bits */
} pj_book;
typedef __m512i pj_int4_x;
typedef struct {
    __m512i all, high; /* sums of whole bytes, and of their high halves */
} pj_int4_acc;

PJ_WORD pj_book pj_book_load(const int8_t *table, const int32_t bits)
{
    const __m512i each = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x01010101, 0x02020202, 0x03030303));
    const __m512i quarter = _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3), each);
    pj_book book;
    book.at0 = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table));
    book.at2 = bits == 2 ? _mm512_shuffle_epi8(book.at0, each) : book.at0;
    book.at4 = bits == 2 ? _mm512_shuffle_epi8(book.at0, quarter) : book.at0;
    return book;
}

PJ_WORD pj_fc_w pj_book_indices(const uint8_t *w)
{
    return pj_once(_mm512_loadu_si512(w));
}

PJ_WORD pj_fc_acc pj_book_dot4(pj_fc_acc acc, pj_fc_x x, pj_fc_w indices, pj_book book, const int32_t bits,
                               const int32_t i)
{
    const __m512i table = bits == 4 || i == 0 || i == 3 ? book.at0 : i == 1 ? book.at2 : book.at4;
    if (bits == 4 && i == 1)
        indices = _mm512_srli_epi16(indices, 4);
    if (bits == 2 && i == 3)
        indices = _mm512_srli_epi16(indices, 6);
    return pj_dot4(acc, x, _mm512_permutexvar_epi8(indices, table));
}

PJ_WORD int32_t pj_sum_codes(const uint8_t *x, int32_t n)
{
    __m512i sums = _mm512_setzero_si512();
    for (; n > 0; n -= 64, x += 64) {
        const __mmask64 some = n < 64 ? (UINT64_C(1) << n) - 1 : ~UINT64_C(0);
        sums = pj_dot4(sums, _mm512_maskz_loadu_epi8(some, x), _mm512_set1_epi8(1));
    }
    return _mm512_reduce_add_epi32(sums);
}

PJ_WORD pj_int4_x pj_int4_load_x(const uint8_t *x)
{
    return _mm512_xor_si512(pj_load_x(x), _mm512_set1_epi8((char)0x80));
}

PJ_WORD pj_int4_acc pj_int4_zero(void)
{
    pj_int4_acc acc;
    acc.all = acc.high = _mm512_setzero_si512();
    return acc;
}

PJ_WORD pj_int4_acc pj_int4_dot4(pj_int4_acc acc, pj_int4_x x, const uint8_t *w)
{
    const __m512i both = pj_once(_mm512_loadu_si512(w));
    acc.all = pj_dot4(acc.all, both, x);
    acc.high = pj_dot4(acc.high, _mm512_and_si512(both, _mm512_set1_epi8((char)0xF0)), x);
    return acc;
}

PJ_WORD pj_int4_acc pj_int4_carry(pj_int4_acc acc)
{
    return acc;
}

PJ_WORD void pj_int4_store(int32_t *to, pj_int4_acc acc, const int32_t *bias, int32_t less)
{
    const __m512i low = _mm512_sub_epi32(acc.all, acc.high), high = _mm512_srai_epi32(acc.high, 4);
    const __m512i by = _mm512_set1_epi32(less);
    _mm512_storeu_si512(to, _mm512_add_epi32(low, _mm512_sub_epi32(_mm512_loadu_si512(bias), by)));
    _mm512_storeu_si512(to + 16, _mm512_add_epi32(high, _mm512_sub_epi32(_mm512_loadu_si512(bias + 16), by)));
}
