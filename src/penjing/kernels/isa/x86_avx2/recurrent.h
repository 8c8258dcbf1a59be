/* recurrent layers */
#define PJ_GATES_PAIRED 0
#define PJ_GATES_1(gates) (gates)
#define PJ_GATES(gates) 1
#define PJ_GATE_CHAINS(vectors) ((vectors) > 1 ? 1 : 2)

typedef struct {
    __m256i lo, hi;
} pj_i;
typedef pj_i pj_e; /* as with AVX-512 */

PJ_WORD void pj_store_f(float *to, pj_f v)
{
    _mm256_storeu_ps(to, v.lo);
    _mm256_storeu_ps(to + 8, v.hi);
}

PJ_WORD pj_f pj_float_i(pj_i v)
{
    pj_f f;
    f.lo = _mm256_cvtepi32_ps(v.lo), f.hi = _mm256_cvtepi32_ps(v.hi);
    return f;
}

PJ_WORD pj_i pj_set_i(int32_t value)
{
    pj_i i;
    i.lo = i.hi = _mm256_set1_epi32(value);
    return i;
}

PJ_WORD pj_i pj_load_i(const int16_t *from)
{
    pj_i i;
    i.lo = _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)from));
    i.hi = _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)from + 1));
    return i;
}

PJ_WORD void pj_store_i(int16_t *to, pj_i v)
{
    _mm256_storeu_si256((__m256i *)to, _mm256_permute4x64_epi64(_mm256_packs_epi32(v.lo, v.hi), 0xD8));
}

PJ_WORD pj_i pj_add_i(pj_i a, pj_i b)
{
    a.lo = _mm256_add_epi32(a.lo, b.lo), a.hi = _mm256_add_epi32(a.hi, b.hi);
    return a;
}

PJ_WORD pj_i pj_sub_i(pj_i a, pj_i b)
{
    a.lo = _mm256_sub_epi32(a.lo, b.lo), a.hi = _mm256_sub_epi32(a.hi, b.hi);
    return a;
}

PJ_WORD pj_i pj_shift_i(pj_i v, const int32_t n)
{
    v.lo = _mm256_srai_epi32(v.lo, n), v.hi = _mm256_srai_epi32(v.hi, n);
    return v;
}

PJ_WORD __m256i pj_entry_8(const int16_t *table, __m256i v)
{
    const __m256i low = _mm256_set1_epi32(-1024), high = _mm256_set1_epi32(1023);
    const __m256i at = _mm256_min_epi32(_mm256_max_epi32(v, low), high);
    const __m256i pairs = _mm256_i32gather_epi32((const void *)(table + 1024), _mm256_srai_epi32(at, 1), 4);
    return _mm256_sllv_epi32(pairs, _mm256_andnot_si256(_mm256_slli_epi32(at, 4), _mm256_set1_epi32(16)));
}

PJ_WORD pj_e pj_entry_i(const int16_t *table, pj_i v)
{
    v.lo = pj_entry_8(table, v.lo), v.hi = pj_entry_8(table, v.hi);
    return v;
}

PJ_WORD pj_e pj_entry_f(const int16_t *table, pj_f v)
{
    pj_i i;
    i.lo = _mm256_cvtps_epi32(v.lo), i.hi = _mm256_cvtps_epi32(v.hi);
    return pj_entry_i(table, i);
}

PJ_WORD pj_i pj_value_e(pj_e e)
{
    return pj_shift_i(e, 16);
}

PJ_WORD pj_i pj_whole_e(pj_e e)
{
    const pj_i v = pj_shift_i(e, 16);
    e.lo = _mm256_slli_epi32(v.lo, 15), e.hi = _mm256_slli_epi32(v.hi, 15);
    return e;
}

PJ_WORD pj_i pj_mul_e(pj_e a, pj_e b)
{
    const __m256i upper = _mm256_set1_epi32(-65536);
    a.lo = _mm256_madd_epi16(_mm256_and_si256(a.lo, upper), b.lo);
    a.hi = _mm256_madd_epi16(_mm256_and_si256(a.hi, upper), b.hi);
    return a;
}

PJ_WORD pj_i pj_mul_ei(pj_e a, pj_i b)
{
    a.lo = _mm256_madd_epi16(_mm256_srli_epi32(a.lo, 16), b.lo);
    a.hi = _mm256_madd_epi16(_mm256_srli_epi32(a.hi, 16), b.hi);
    return a;
}

PJ_WORD void pj_put_i(uint8_t *to, pj_i v)
{
    const __m256i s = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.lo, v.hi), 0xD8);
    const __m128i codes = _mm_packs_epi16(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    _mm_storeu_si128((__m128i *)to, _mm_xor_si128(codes, _mm_set1_epi8((char)0x80)));
}
