/* recurrent layers
 *
 *   pj_i  16 integers of 32 bits
 *   pj_e  16 entries of a table s16 (2048)
 */
#define PJ_GATES_PAIRED 1 /* whether a tile of one row takes two blocks of units at once */
#define PJ_GATES_1(gates) (gates) /* vectors in a tile of one row of one block, and of PJ_LINEAR_ROWS */
#define PJ_GATES(gates) (gates)
#define PJ_GATE_CHAINS(vectors) ((vectors) >= 8 ? 1 : (vectors) >= 4 ? 2 : 4)

typedef __m512i pj_i;
typedef __m512i pj_e; /* in the upper 16 bits; what lies below is nothing */

PJ_WORD void pj_store_f(float *to, pj_f v)
{
    _mm512_storeu_ps(to, v);
}

PJ_WORD pj_f pj_float_i(pj_i v)
{
    return _mm512_cvtepi32_ps(v);
}

PJ_WORD pj_i pj_set_i(int32_t value)
{
    return _mm512_set1_epi32(value);
}

PJ_WORD pj_i pj_load_i(const int16_t *from)
{
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)from));
}

/* Saturated to 16 bits. */
PJ_WORD void pj_store_i(int16_t *to, pj_i v)
{
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtsepi32_epi16(v));
}

PJ_WORD pj_i pj_add_i(pj_i a, pj_i b)
{
    return _mm512_add_epi32(a, b);
}

PJ_WORD pj_i pj_sub_i(pj_i a, pj_i b)
{
    return _mm512_sub_epi32(a, b);
}

/* v / 2^n, rounded down. */
PJ_WORD pj_i pj_shift_i(pj_i v, const int32_t n)
{
    return _mm512_srai_epi32(v, (unsigned)n);
}

/* For -1024..1023; beyond these are the ends. Entries are read in pairs, which never cross a cache line or an end. */
PJ_WORD pj_e pj_entry_i(const int16_t *table, pj_i v)
{
    const __m512i low = _mm512_set1_epi32(-1024), high = _mm512_set1_epi32(1023);
    const __m512i at = _mm512_min_epi32(_mm512_max_epi32(v, low), high);
    const __m512i pairs = _mm512_i32gather_epi32(_mm512_srai_epi32(at, 1), table + 1024, 4);
    return _mm512_mask_slli_epi32(pairs, _mm512_testn_epi32_mask(at, _mm512_set1_epi32(1)), pairs, 16);
}

/* For the nearest integers, ties to even; v lies within int32. */
PJ_WORD pj_e pj_entry_f(const int16_t *table, pj_f v)
{
    return pj_entry_i(table, _mm512_cvtps_epi32(v));
}

PJ_WORD pj_i pj_value_e(pj_e e)
{
    return _mm512_srai_epi32(e, 16);
}

/* e * 2^15. */
PJ_WORD pj_i pj_whole_e(pj_e e)
{
    return _mm512_slli_epi32(_mm512_srai_epi32(e, 16), 15);
}

PJ_WORD pj_i pj_mul_e(pj_e a, pj_e b)
{
    return _mm512_madd_epi16(_mm512_and_si512(a, _mm512_set1_epi32(-65536)), b);
}

/* a * b, for b of 16 bits. */
PJ_WORD pj_i pj_mul_ei(pj_e a, pj_i b)
{
    return _mm512_madd_epi16(_mm512_srli_epi32(a, 16), b);
}

/* 16 codes around 128, saturated. */
PJ_WORD void pj_put_i(uint8_t *to, pj_i v)
{
    _mm_storeu_si128((__m128i *)to, _mm_xor_si128(_mm512_cvtsepi32_epi8(v), _mm_set1_epi8((char)0x80)));
}
