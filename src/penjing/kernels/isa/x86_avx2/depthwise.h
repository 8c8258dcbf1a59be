/* depthwise */
#define PJ_DW_WIDE 32
#define PJ_DW_RECTIFIES 0 /* a twentieth of the time is worth no second copy of all sweeps */
typedef int16_t pj_dw_stored;
typedef int16_t pj_dw_staged;
typedef struct {
    __m256i a, b, c, d; /* two rows for lanes 0-7, for lanes 8-15; the next two rows for these */
} pj_dw_taps;
typedef pj_dw_taps pj_dw_weights;
typedef struct {
    __m256i lo, hi;
} pj_dw_sums;
typedef struct {
    const int32_t *bias;
    const float *multiplier;
} pj_dw_rule;
typedef struct {
    __m128i at[4];
} pj_dw_codes;
typedef struct {
    __m256i a, b, c, d; /* two rows of channels 0-3, 16-19; 4-7, 20-23; ...; so that packing restores the order */
    __m256i e, f, g, h; /* the next two rows */
} pj_dw_column;
typedef struct {
    pj_dw_column ring[3];
    pj_dw_column *x[3]; /* they stay in memory, as there are too few registers */
} pj_dw_window;
typedef struct {
    __m256i a, b, c, d;
} pj_dw_pixel;
typedef pj_dw_rule pj_dw_wide_rule;

PJ_WORD pj_dw_taps pj_dw_load(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d,
                              const int32_t rows)
{
    const __m128i x0 = _mm_loadu_si128((const __m128i *)a), x1 = _mm_loadu_si128((const __m128i *)b);
    const __m128i x2 = _mm_loadu_si128((const __m128i *)c), x3 = rows == 4 ? _mm_loadu_si128((const __m128i *)d) : x2;
    pj_dw_taps taps;
    taps.a = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(x0, x1));
    taps.b = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(x0, x1));
    taps.c = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(x2, x3));
    taps.d = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(x2, x3));
    return taps;
}

PJ_WORD pj_dw_taps pj_dw_fill(int32_t code)
{
    pj_dw_taps taps;
    taps.a = taps.b = taps.c = taps.d = _mm256_set1_epi16((int16_t)code);
    return taps;
}

PJ_WORD void pj_dw_stage(pj_dw_staged *to, pj_dw_taps taps)
{
    _mm256_storeu_si256((__m256i *)to, taps.a);
    _mm256_storeu_si256((__m256i *)to + 1, taps.b);
    _mm256_storeu_si256((__m256i *)to + 2, taps.c);
    _mm256_storeu_si256((__m256i *)to + 3, taps.d);
}

PJ_WORD pj_dw_taps pj_dw_staged_taps(const pj_dw_staged *x)
{
    pj_dw_taps taps;
    taps.a = _mm256_loadu_si256((const __m256i *)x);
    taps.b = _mm256_loadu_si256((const __m256i *)x + 1);
    taps.c = _mm256_loadu_si256((const __m256i *)x + 2);
    taps.d = _mm256_loadu_si256((const __m256i *)x + 3);
    return taps;
}

PJ_WORD pj_dw_weights pj_dw_load_w(const pj_dw_stored *w)
{
    return pj_dw_staged_taps(w);
}

/* s8 [8 lanes][4] as pairs in 16 bits: of the first two weights to `to`, of the others to `to` + 32. */
PJ_WORD void pj_dw_widen(pj_dw_stored *to, __m256i w)
{
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), odd = _mm256_srai_epi16(w, 8);
    _mm256_storeu_si256((__m256i *)to, _mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0xAA));
    _mm256_storeu_si256((__m256i *)(to + 32), _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0xAA));
}

PJ_WORD void pj_dw_prepare(pj_dw_stored *to, const int8_t *w, int32_t n)
{
    int32_t i;
    for (i = 0; i < 2 * n; i++) {
        const __m256i x = _mm256_loadu_si256((const __m256i *)w + i);
        pj_dw_stored *at = to + i / 2 * 64 + i % 2 * 16;
        pj_dw_widen(at, x);
        pj_dw_widen(at + 64 * n, _mm256_slli_epi32(x, 8));
    }
}

PJ_WORD pj_dw_rule pj_dw_rule_of(const int32_t *bias, const float *multiplier, const int32_t rectified)
{
    pj_dw_rule rule;
    PJ_UNUSED(rectified);
    rule.bias = bias;
    rule.multiplier = multiplier;
    return rule;
}

PJ_WORD pj_dw_sums pj_dw_start(const pj_dw_rule *rule)
{
    pj_dw_sums sums;
    sums.lo = _mm256_loadu_si256((const __m256i *)rule->bias);
    sums.hi = _mm256_loadu_si256((const __m256i *)rule->bias + 1);
    return sums;
}

/* In assembly: gcc 12 multiplies early and adds up in another order, for which there are too few registers. */
PJ_WORD __m256i pj_dw_dot_pair(__m256i sums, __m256i x, __m256i w)
{
    __m256i product;
    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sums), "=&x"(product) : "x"(x), "xm"(w));
    return sums;
}

PJ_WORD pj_dw_sums pj_dw_dot(pj_dw_sums sums, pj_dw_taps x, pj_dw_weights w)
{
    sums.lo = pj_dw_dot_pair(pj_dw_dot_pair(sums.lo, x.a, w.a), x.c, w.c);
    sums.hi = pj_dw_dot_pair(pj_dw_dot_pair(sums.hi, x.b, w.b), x.d, w.d);
    return sums;
}

PJ_WORD __m256i pj_dw_round(__m256i sums, const float *multiplier)
{
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(multiplier)));
}

PJ_WORD __m256i pj_dw_pack(__m256i a, __m256i b, const struct pj_codes *q, const int32_t rectified)
{
    const __m256i zero = _mm256_set1_epi16((int16_t)q->zero);
    __m256i u;
    PJ_UNUSED(rectified);
    u = _mm256_packus_epi16(_mm256_adds_epi16(a, zero), _mm256_adds_epi16(b, zero));
    return _mm256_min_epu8(_mm256_max_epu8(u, _mm256_set1_epi8((char)q->qmin)), _mm256_set1_epi8((char)q->qmax));
}

PJ_WORD __m256i pj_dw_finish2(const pj_dw_sums *sums, const float *multiplier, const struct pj_codes *q,
                              const int32_t rectified)
{
    const __m256i a = _mm256_packs_epi32(pj_dw_round(sums[0].lo, multiplier), pj_dw_round(sums[0].hi, multiplier + 8));
    const __m256i b = _mm256_packs_epi32(pj_dw_round(sums[1].lo, multiplier), pj_dw_round(sums[1].hi, multiplier + 8));
    return _mm256_permutevar8x32_epi32(pj_dw_pack(a, b, q, rectified), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

PJ_WORD pj_dw_codes pj_dw_finish(const pj_dw_sums sums[4], const pj_dw_rule *rule, const struct pj_codes *q,
                                 const int32_t rectified)
{
    const __m256i ab = pj_dw_finish2(sums, rule->multiplier, q, rectified);
    const __m256i cd = pj_dw_finish2(sums + 2, rule->multiplier, q, rectified);
    pj_dw_codes codes;
    codes.at[0] = _mm256_castsi256_si128(ab);
    codes.at[1] = _mm256_extracti128_si256(ab, 1);
    codes.at[2] = _mm256_castsi256_si128(cd);
    codes.at[3] = _mm256_extracti128_si256(cd, 1);
    return codes;
}

PJ_WORD void pj_dw_put(uint8_t *y, const pj_dw_codes *codes, const int32_t vector)
{
    _mm_storeu_si128((__m128i *)y, codes->at[vector]);
}

PJ_WORD pj_dw_column pj_dw_wide_load(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d)
{
    const __m256i x0 = _mm256_loadu_si256((const __m256i *)a), x1 = _mm256_loadu_si256((const __m256i *)b);
    const __m256i x2 = _mm256_loadu_si256((const __m256i *)c), x3 = _mm256_loadu_si256((const __m256i *)d);
    const __m256i none = _mm256_setzero_si256();
    const __m256i lo01 = _mm256_unpacklo_epi8(x0, x1), hi01 = _mm256_unpackhi_epi8(x0, x1);
    const __m256i lo23 = _mm256_unpacklo_epi8(x2, x3), hi23 = _mm256_unpackhi_epi8(x2, x3);
    pj_dw_column column;
    column.a = _mm256_unpacklo_epi8(lo01, none);
    column.b = _mm256_unpackhi_epi8(lo01, none);
    column.c = _mm256_unpacklo_epi8(hi01, none);
    column.d = _mm256_unpackhi_epi8(hi01, none);
    column.e = _mm256_unpacklo_epi8(lo23, none);
    column.f = _mm256_unpackhi_epi8(lo23, none);
    column.g = _mm256_unpacklo_epi8(hi23, none);
    column.h = _mm256_unpackhi_epi8(hi23, none);
    return column;
}

PJ_WORD pj_dw_column pj_dw_wide_fill(int32_t code)
{
    const __m256i x = _mm256_set1_epi16((int16_t)code);
    pj_dw_column column;
    column.a = column.b = column.c = column.d = column.e = column.f = column.g = column.h = x;
    return column;
}

PJ_WORD void pj_dw_window_begin(pj_dw_window *window)
{
    window->x[0] = window->ring, window->x[1] = window->ring + 1, window->x[2] = window->ring + 2;
}

PJ_WORD void pj_dw_push(pj_dw_window *window, pj_dw_column next)
{
    pj_dw_column *oldest = window->x[0];
    *oldest = next;
    window->x[0] = window->x[1], window->x[1] = window->x[2], window->x[2] = oldest;
}

PJ_WORD const pj_dw_column *pj_dw_at(const pj_dw_window *window, const int32_t kx)
{
    return window->x[kx];
}

PJ_WORD pj_dw_wide_rule pj_dw_wide_rule_of(const int32_t *bias, const float *multiplier, const int32_t half,
                                           const int32_t rectified)
{
    return pj_dw_rule_of(bias + 8 * half, multiplier + 8 * half, rectified);
}

PJ_WORD pj_dw_pixel pj_dw_wide_start(const pj_dw_wide_rule *rule)
{
    pj_dw_pixel sums;
    sums.a = _mm256_loadu_si256((const __m256i *)rule->bias);
    sums.b = _mm256_loadu_si256((const __m256i *)rule->bias + 2);
    sums.c = _mm256_loadu_si256((const __m256i *)rule->bias + 4);
    sums.d = _mm256_loadu_si256((const __m256i *)rule->bias + 6);
    return sums;
}

PJ_WORD __m256i pj_dw_wide_dot1(__m256i sums, __m256i x01, __m256i x23, const pj_dw_stored *w)
{
    sums = pj_dw_dot_pair(sums, x01, _mm256_loadu_si256((const __m256i *)w));
    return pj_dw_dot_pair(sums, x23, _mm256_loadu_si256((const __m256i *)w + 2));
}

PJ_WORD void pj_dw_wide_dot(pj_dw_pixel sums[2], const pj_dw_column *x, const pj_dw_stored *w, const int32_t half,
                            const int32_t rows)
{
    const pj_dw_stored *below = w + 12 * 64 + 16 * half;
    w += 16 * half;
    sums[0].a = pj_dw_wide_dot1(sums[0].a, x->a, x->e, w);
    if (rows == 2)
        sums[1].a = pj_dw_wide_dot1(sums[1].a, x->a, x->e, below);
    sums[0].b = pj_dw_wide_dot1(sums[0].b, x->b, x->f, w + 3 * 64);
    if (rows == 2)
        sums[1].b = pj_dw_wide_dot1(sums[1].b, x->b, x->f, below + 3 * 64);
    sums[0].c = pj_dw_wide_dot1(sums[0].c, x->c, x->g, w + 6 * 64);
    if (rows == 2)
        sums[1].c = pj_dw_wide_dot1(sums[1].c, x->c, x->g, below + 6 * 64);
    sums[0].d = pj_dw_wide_dot1(sums[0].d, x->d, x->h, w + 9 * 64);
    if (rows == 2)
        sums[1].d = pj_dw_wide_dot1(sums[1].d, x->d, x->h, below + 9 * 64);
}

PJ_WORD void pj_dw_wide_put(uint8_t *y, const pj_dw_pixel *sums, const pj_dw_wide_rule *rule, const struct pj_codes *q,
                            const int32_t rectified)
{
    const float *m = rule->multiplier;
    const __m256i ab = _mm256_packs_epi32(pj_dw_round(sums->a, m), pj_dw_round(sums->b, m + 16));
    const __m256i cd = _mm256_packs_epi32(pj_dw_round(sums->c, m + 32), pj_dw_round(sums->d, m + 48));
    _mm256_storeu_si256((__m256i *)y, pj_dw_pack(ab, cd, q, rectified));
}
