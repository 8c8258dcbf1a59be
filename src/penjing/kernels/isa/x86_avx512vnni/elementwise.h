/* elementwise and pooling
 *
 *   pj_b  PJ_BYTES codes side by side; where there are fewer, n says how many
 *   pj_h  sums of 16 bits over up to PJ_SUMMED vectors of codes
 */
#define PJ_BYTES 64
#define PJ_SUMMED 256
#define PJ_FUSES 1 /* whether there is pj_fma_f */

typedef __m512i pj_b;
typedef struct {
    __m512i pairs, odd; /* sums of even codes + 256 * odd codes, which may wrap, and of the odd codes alone */
} pj_h;

PJ_WORD __mmask64 pj_first(int32_t n)
{
    return ~(uint64_t)0 >> (64 - n);
}

PJ_WORD pj_b pj_load_b(const uint8_t *x, int32_t n)
{
    return n == PJ_BYTES ? _mm512_loadu_si512(x) : _mm512_maskz_loadu_epi8(pj_first(n), x);
}

PJ_WORD void pj_store_b(uint8_t *y, pj_b v, int32_t n)
{
    if (n == PJ_BYTES)
        _mm512_storeu_si512(y, v);
    else
        _mm512_mask_storeu_epi8(y, pj_first(n), v);
}

PJ_WORD pj_b pj_max_b(pj_b a, pj_b b)
{
    return _mm512_max_epu8(a, b);
}

/* The larger ones of neighbouring groups of 16: of those of a, then of those of b. */
PJ_WORD pj_b pj_max_pairs_16(pj_b a, pj_b b)
{
    return _mm512_max_epu8(_mm512_shuffle_i64x2(a, b, 0x88), _mm512_shuffle_i64x2(a, b, 0xDD));
}

PJ_WORD pj_h pj_zero_h(void)
{
    pj_h sum;
    sum.pairs = sum.odd = _mm512_setzero_si512();
    return sum;
}

PJ_WORD pj_h pj_add_h(pj_h sum, pj_b v)
{
    sum.pairs = _mm512_add_epi16(sum.pairs, v);
    sum.odd = _mm512_add_epi16(sum.odd, _mm512_srli_epi16(v, 8));
    return sum;
}

/* Adds the sums of all PJ_BYTES places to `to`. */
PJ_WORD void pj_flush_h(int32_t *to, pj_h sum)
{
    const __m512i even = _mm512_sub_epi16(sum.pairs, _mm512_slli_epi16(sum.odd, 8));
    const __m512i lo = _mm512_unpacklo_epi16(even, sum.odd), hi = _mm512_unpackhi_epi16(even, sum.odd);
    uint16_t wide[PJ_BYTES];
    int32_t i;
    _mm512_storeu_si512(wide, _mm512_permutex2var_epi64(lo, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), hi));
    _mm512_storeu_si512(wide + 32, _mm512_permutex2var_epi64(lo, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), hi));
    for (i = 0; i < PJ_BYTES; i++)
        to[i] += wide[i];
}

PJ_WORD pj_f pj_load_f(const float *x)
{
    return _mm512_loadu_ps(x);
}

/* v, but 0 where x is no number. */
PJ_WORD pj_f pj_number_f(pj_f v, pj_f x)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), v);
}

PJ_WORD pj_f pj_set_f(float value)
{
    return _mm512_set1_ps(value);
}

PJ_WORD pj_f pj_from_codes(const uint8_t *codes, int32_t zero)
{
    const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)codes));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(wide, _mm512_set1_epi32(zero)));
}

PJ_WORD pj_f pj_from_sums(const int32_t *sums, int32_t less)
{
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(sums), _mm512_set1_epi32(less)));
}

PJ_WORD pj_f pj_add_f(pj_f a, pj_f b)
{
    return _mm512_add_ps(a, b);
}

PJ_WORD pj_f pj_mul_f(pj_f a, pj_f b)
{
    return _mm512_mul_ps(a, b);
}

PJ_WORD pj_f pj_div_f(pj_f a, pj_f b)
{
    return _mm512_div_ps(a, b);
}

/* v, or `far` with its sign where that is nearer to 0. */
PJ_WORD pj_f pj_within_f(pj_f v, float far)
{
    return _mm512_range_ps(v, _mm512_set1_ps(far), 2);
}

/* a * b + c, rounded once. */
PJ_WORD pj_f pj_fma_f(pj_f a, pj_f b, pj_f c)
{
    return _mm512_fmadd_ps(a, b, c);
}

PJ_WORD pj_f pj_clamp_f(pj_f v, float low, float high)
{
    return _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(low)), _mm512_set1_ps(high));
}

/* PJ_BYTES codes of values that are clamped already. */
PJ_WORD pj_b pj_round_b(const pj_f v[PJ_BYTES / 16], int32_t zero)
{
    const __m512i back = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i z = _mm512_set1_epi16((int16_t)zero);
    const __m512i ab = _mm512_packs_epi32(_mm512_cvtps_epi32(v[0]), _mm512_cvtps_epi32(v[1]));
    const __m512i cd = _mm512_packs_epi32(_mm512_cvtps_epi32(v[2]), _mm512_cvtps_epi32(v[3]));
    const __m512i u = _mm512_packus_epi16(_mm512_add_epi16(ab, z), _mm512_add_epi16(cd, z));
    return _mm512_permutexvar_epi32(back, u);
}

/* y[i] = table[x[i]] for n codes, perhaps in place; table has 256 entries. */
PJ_WORD void pj_look_up(uint8_t *y, const uint8_t *x, int32_t n, const uint8_t *table)
{
    const __m512i a = _mm512_loadu_si512(table), b = _mm512_loadu_si512(table + 64);
    const __m512i c = _mm512_loadu_si512(table + 128), d = _mm512_loadu_si512(table + 192);
    int32_t i;
    for (i = 0; i < n; i += PJ_BYTES) {
        const int32_t left = n - i < PJ_BYTES ? n - i : PJ_BYTES;
        const __m512i v = pj_load_b(x + i, left);
        const __m512i low = _mm512_permutex2var_epi8(a, v, b), high = _mm512_permutex2var_epi8(c, v, d);
        pj_store_b(y + i, _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(v), high), left);
    }
}

#define PJ_TRIPLE(i) i, 64 + (i), i
#define PJ_TRIPLES(i) PJ_TRIPLE(i), PJ_TRIPLE((i) + 1), PJ_TRIPLE((i) + 2), PJ_TRIPLE((i) + 3)

/* 64 bytes of what planes a, b and c make of 64 pixels: those at `place`, of which `third` tells those of c. */
PJ_WORD void pj_mix_3(uint8_t *y, __m512i a, __m512i b, __m512i c, const uint8_t *place, uint64_t third)
{
    const __m512i at = _mm512_loadu_si512(place);
    _mm512_storeu_si512(y, _mm512_mask_permutexvar_epi8(_mm512_permutex2var_epi8(a, at, b), third, at, c));
}

/* y[3 * i + k] = plane k [i]; planes lie `step` bytes apart. */
PJ_SHARED void pj_interleave_3(uint8_t *y, const uint8_t *x, int64_t step, int32_t n)
{
    static const uint8_t place[192] = {
        PJ_TRIPLES(0),  PJ_TRIPLES(4),  PJ_TRIPLES(8),  PJ_TRIPLES(12), PJ_TRIPLES(16), PJ_TRIPLES(20),
        PJ_TRIPLES(24), PJ_TRIPLES(28), PJ_TRIPLES(32), PJ_TRIPLES(36), PJ_TRIPLES(40), PJ_TRIPLES(44),
        PJ_TRIPLES(48), PJ_TRIPLES(52), PJ_TRIPLES(56), PJ_TRIPLES(60)};
    int32_t i, k;
    if (n >= PJ_BYTES)
        for (i = 0; i < n; i += PJ_BYTES) {
            const int32_t at = i < n - PJ_BYTES ? i : n - PJ_BYTES; /* the last ones may be mixed again */
            const __m512i a = _mm512_loadu_si512(x + at), b = _mm512_loadu_si512(x + at + step);
            const __m512i c = _mm512_loadu_si512(x + at + 2 * step);
            uint8_t *to = y + 3 * (int64_t)at;
            pj_mix_3(to, a, b, c, place, UINT64_C(0x4924924924924924));
            pj_mix_3(to + 64, a, b, c, place + 64, UINT64_C(0x2492492492492492));
            pj_mix_3(to + 128, a, b, c, place + 128, UINT64_C(0x9249249249249249));
        }
    else
        for (i = 0; i < n; i++)
            for (k = 0; k < 3; k++)
                y[3 * (int64_t)i + k] = x[i + k * step];
}
