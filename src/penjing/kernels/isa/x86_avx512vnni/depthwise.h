/* depthwise */
#define PJ_DW_WIDE 64      /* channels that a column holds */
#define PJ_DW_RECTIFIES 1  /* whether there is a shorter rule for layers that end in a rectifier */
typedef int8_t pj_dw_stored;    /* weights as the kernel reads them, and staged taps */
typedef uint8_t pj_dw_staged;
typedef __m512i pj_dw_taps;     /* 4 codes, one above the other, for each of 16 lanes */
typedef __m512i pj_dw_weights;
typedef __m512i pj_dw_sums;
typedef struct {
    __m512i bias;
    __m512 multiplier, shift;
} pj_dw_rule;
typedef struct {
    __m128i at[4];
} pj_dw_codes;
typedef struct {
    __m512i a, b, c, d; /* taps of channels 0-3, 16-19, 32-35, 48-51; 4-7, 20-23, ...; packing restores the order */
} pj_dw_column;
typedef struct {
    pj_dw_column x[3];
} pj_dw_window; /* the columns that a pixel of output sees */
typedef pj_dw_column pj_dw_pixel; /* sums in this order */
typedef struct {
    pj_dw_rule a, b, c, d;
} pj_dw_wide_rule;

/* `d` is not read where there are only 3 rows: weights of 0 will meet whatever stands in its place. */
PJ_WORD pj_dw_taps pj_dw_load(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d,
                              const int32_t rows)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i each = _mm512_mullo_epi32(lane, _mm512_set1_epi32(0x01010101));
    __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)a));
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)b), 1);
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)c), 2);
    if (rows == 4)
        x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)d), 3);
    return _mm512_permutexvar_epi8(_mm512_add_epi32(each, _mm512_set1_epi32(0x30201000)), x);
}

PJ_WORD pj_dw_taps pj_dw_fill(int32_t code)
{
    return _mm512_set1_epi8((char)code);
}

PJ_WORD void pj_dw_stage(pj_dw_staged *to, pj_dw_taps taps)
{
    _mm512_storeu_si512(to, taps);
}

PJ_WORD pj_dw_taps pj_dw_staged_taps(const pj_dw_staged *x)
{
    return _mm512_loadu_si512(x);
}

PJ_WORD pj_dw_weights pj_dw_load_w(const pj_dw_stored *w)
{
    return _mm512_loadu_si512(w);
}

/* n vectors of weights as this header stores them; those of the row below, moved by one tap, follow. */
PJ_WORD void pj_dw_prepare(pj_dw_stored *to, const int8_t *w, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        const __m512i x = _mm512_loadu_si512(w + 64 * i);
        _mm512_storeu_si512(to + 64 * i, x);
        _mm512_storeu_si512(to + 64 * (n + i), _mm512_slli_epi32(x, 8));
    }
}

/* With `rectified`, where no sum below zero matters, sums start at the bits of 2^23: they are floats without a
 * conversion, and (2^23 + sum) * m - 2^23 * m is one rounding of the exact product, as the definition wants it. */
PJ_WORD pj_dw_rule pj_dw_rule_of(const int32_t *bias, const float *multiplier, const int32_t rectified)
{
    pj_dw_rule rule;
    rule.bias = _mm512_loadu_si512(bias);
    rule.multiplier = _mm512_loadu_ps(multiplier);
    rule.shift = _mm512_mul_ps(rule.multiplier, _mm512_set1_ps(-8388608.0f));
    if (rectified)
        rule.bias = _mm512_add_epi32(rule.bias, _mm512_set1_epi32(0x4B000000));
    return rule;
}

PJ_WORD pj_dw_sums pj_dw_start(const pj_dw_rule *rule)
{
    return rule->bias;
}

PJ_WORD pj_dw_sums pj_dw_dot(pj_dw_sums sums, pj_dw_taps x, pj_dw_weights w)
{
    return pj_dot4(sums, x, w);
}

PJ_WORD __m512i pj_dw_round(pj_dw_sums sums, const pj_dw_rule *rule, const int32_t rectified)
{
    if (rectified)
        return _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_castsi512_ps(sums), rule->multiplier, rule->shift));
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), rule->multiplier));
}

PJ_WORD __m512i pj_dw_pack(__m512i ab, __m512i cd, const struct pj_codes *q, const int32_t rectified)
{
    const __m512i zero = _mm512_set1_epi16((int16_t)q->zero);
    __m512i u;
    if (rectified)
        return _mm512_packus_epi16(ab, cd);
    u = _mm512_packus_epi16(_mm512_adds_epi16(ab, zero), _mm512_adds_epi16(cd, zero));
    return _mm512_min_epu8(_mm512_max_epu8(u, _mm512_set1_epi8((char)q->qmin)), _mm512_set1_epi8((char)q->qmax));
}

PJ_WORD pj_dw_codes pj_dw_finish(const pj_dw_sums sums[4], const pj_dw_rule *rule, const struct pj_codes *q,
                                 const int32_t rectified)
{
    const __m512i back = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i ab = _mm512_packs_epi32(pj_dw_round(sums[0], rule, rectified), pj_dw_round(sums[1], rule, rectified));
    const __m512i cd = _mm512_packs_epi32(pj_dw_round(sums[2], rule, rectified), pj_dw_round(sums[3], rule, rectified));
    const __m512i u = _mm512_permutexvar_epi32(back, pj_dw_pack(ab, cd, q, rectified));
    pj_dw_codes codes;
    codes.at[0] = _mm512_castsi512_si128(u);
    codes.at[1] = _mm512_extracti32x4_epi32(u, 1);
    codes.at[2] = _mm512_extracti32x4_epi32(u, 2);
    codes.at[3] = _mm512_extracti32x4_epi32(u, 3);
    return codes;
}

PJ_WORD void pj_dw_put(uint8_t *y, const pj_dw_codes *codes, const int32_t vector)
{
    _mm_storeu_si128((__m128i *)y, codes->at[vector]);
}

PJ_WORD pj_dw_column pj_dw_wide_load(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d)
{
    const __m512i x0 = _mm512_loadu_si512(a), x1 = _mm512_loadu_si512(b);
    const __m512i x2 = _mm512_loadu_si512(c), x3 = _mm512_loadu_si512(d);
    const __m512i lo01 = _mm512_unpacklo_epi8(x0, x1), hi01 = _mm512_unpackhi_epi8(x0, x1);
    const __m512i lo23 = _mm512_unpacklo_epi8(x2, x3), hi23 = _mm512_unpackhi_epi8(x2, x3);
    pj_dw_column column;
    column.a = _mm512_unpacklo_epi16(lo01, lo23);
    column.b = _mm512_unpackhi_epi16(lo01, lo23);
    column.c = _mm512_unpacklo_epi16(hi01, hi23);
    column.d = _mm512_unpackhi_epi16(hi01, hi23);
    return column;
}

PJ_WORD pj_dw_column pj_dw_wide_fill(int32_t code)
{
    pj_dw_column column;
    column.a = column.b = column.c = column.d = pj_dw_fill(code);
    return column;
}

PJ_WORD void pj_dw_window_begin(pj_dw_window *window)
{
    window->x[0] = window->x[1] = window->x[2] = pj_dw_wide_fill(0);
}

/* The window moves by one column. */
PJ_WORD void pj_dw_push(pj_dw_window *window, pj_dw_column next)
{
    window->x[0] = window->x[1];
    window->x[1] = window->x[2];
    window->x[2] = next;
}

PJ_WORD const pj_dw_column *pj_dw_at(const pj_dw_window *window, const int32_t kx)
{
    return &window->x[kx];
}

/* bias, multiplier: of 64 channels, in the order of columns; `half` is which of them, where a vector holds fewer. */
PJ_WORD pj_dw_wide_rule pj_dw_wide_rule_of(const int32_t *bias, const float *multiplier, const int32_t half,
                                           const int32_t rectified)
{
    pj_dw_wide_rule rule;
    PJ_UNUSED(half);
    rule.a = pj_dw_rule_of(bias, multiplier, rectified);
    rule.b = pj_dw_rule_of(bias + 16, multiplier + 16, rectified);
    rule.c = pj_dw_rule_of(bias + 32, multiplier + 32, rectified);
    rule.d = pj_dw_rule_of(bias + 48, multiplier + 48, rectified);
    return rule;
}

PJ_WORD pj_dw_pixel pj_dw_wide_start(const pj_dw_wide_rule *rule)
{
    pj_dw_pixel sums;
    sums.a = rule->a.bias, sums.b = rule->b.bias, sums.c = rule->c.bias, sums.d = rule->d.bias;
    return sums;
}

/* One column, for one row of output or two. w: [4 vectors][3 columns] as stored, then the same for the second row. */
PJ_WORD void pj_dw_wide_dot(pj_dw_pixel sums[2], const pj_dw_column *x, const pj_dw_stored *w, const int32_t half,
                            const int32_t rows)
{
    const pj_dw_stored *below = w + 12 * 64;
    PJ_UNUSED(half);
    sums[0].a = pj_dot4(sums[0].a, x->a, pj_dw_load_w(w));
    sums[0].b = pj_dot4(sums[0].b, x->b, pj_dw_load_w(w + 3 * 64));
    sums[0].c = pj_dot4(sums[0].c, x->c, pj_dw_load_w(w + 6 * 64));
    sums[0].d = pj_dot4(sums[0].d, x->d, pj_dw_load_w(w + 9 * 64));
    if (rows == 1)
        return;
    sums[1].a = pj_dot4(sums[1].a, x->a, pj_dw_load_w(below));
    sums[1].b = pj_dot4(sums[1].b, x->b, pj_dw_load_w(below + 3 * 64));
    sums[1].c = pj_dot4(sums[1].c, x->c, pj_dw_load_w(below + 6 * 64));
    sums[1].d = pj_dot4(sums[1].d, x->d, pj_dw_load_w(below + 9 * 64));
}

PJ_WORD void pj_dw_wide_put(uint8_t *y, const pj_dw_pixel *sums, const pj_dw_wide_rule *rule, const struct pj_codes *q,
                            const int32_t rectified)
{
    const __m512i a = pj_dw_round(sums->a, &rule->a, rectified), b = pj_dw_round(sums->b, &rule->b, rectified);
    const __m512i c = pj_dw_round(sums->c, &rule->c, rectified), d = pj_dw_round(sums->d, &rule->d, rectified);
    _mm512_storeu_si512(y, pj_dw_pack(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d), q, rectified));
}
