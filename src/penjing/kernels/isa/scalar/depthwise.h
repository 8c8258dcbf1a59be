/* depthwise */
#define PJ_DW_WIDE 64
#define PJ_DW_RECTIFIES 0
typedef int8_t pj_dw_stored;
typedef uint8_t pj_dw_staged;
typedef struct {
    uint8_t at[4][16]; /* row by row, so that a compiler finds vectors in the loops over lanes */
} pj_dw_taps;
typedef const int8_t *pj_dw_weights; /* likewise */
typedef pj_acc pj_dw_sums;
typedef struct {
    const int32_t *bias;
    const float *multiplier;
} pj_dw_rule;
typedef struct {
    uint8_t at[4][16];
} pj_dw_codes;
typedef struct {
    pj_dw_taps at[4]; /* in the order of vectors that are unpacked lane by lane: 0-3, 16-19, ...; 4-7, 20-23, ... */
} pj_dw_column;
typedef struct {
    pj_dw_column ring[3];
    pj_dw_column *x[3];
} pj_dw_window;
typedef struct {
    pj_dw_sums at[4];
} pj_dw_pixel;
typedef pj_dw_rule pj_dw_wide_rule;

PJ_SHARED pj_dw_taps pj_dw_load(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d,
                                const int32_t rows)
{
    pj_dw_taps taps;
    memcpy(taps.at[0], a, 16);
    memcpy(taps.at[1], b, 16);
    memcpy(taps.at[2], c, 16);
    memcpy(taps.at[3], rows == 4 ? d : c, 16);
    return taps;
}

PJ_WORD pj_dw_taps pj_dw_fill(int32_t code)
{
    pj_dw_taps taps;
    memset(taps.at, code, sizeof taps.at);
    return taps;
}

PJ_WORD void pj_dw_stage(pj_dw_staged *to, pj_dw_taps taps)
{
    memcpy(to, taps.at, sizeof taps.at);
}

PJ_WORD pj_dw_taps pj_dw_staged_taps(const pj_dw_staged *x)
{
    pj_dw_taps taps;
    memcpy(taps.at, x, sizeof taps.at);
    return taps;
}

PJ_WORD pj_dw_weights pj_dw_load_w(const pj_dw_stored *w)
{
    return w;
}

PJ_SHARED void pj_dw_prepare(pj_dw_stored *to, const int8_t *w, int32_t n)
{
    int32_t i, j, tap;
    for (i = 0; i < n; i++)
        for (j = 0; j < 16; j++)
            for (tap = 0; tap < 4; tap++) {
                const int8_t *from = w + 64 * i + 4 * j + tap;
                pj_dw_stored *at = to + 64 * i + 16 * tap + j;
                at[0] = from[0];
                at[64 * n] = tap ? from[-1] : 0;
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
    return pj_acc_start(rule->bias);
}

PJ_SHARED void pj_dw_add(uint32_t *sums, const uint8_t *x, const int8_t *w)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        sums[j] += (uint32_t)(x[j] * w[j] + x[16 + j] * w[16 + j] + x[32 + j] * w[32 + j] + x[48 + j] * w[48 + j]);
}

PJ_SHARED pj_dw_sums pj_dw_dot(pj_dw_sums sums, pj_dw_taps x, pj_dw_weights w)
{
    pj_dw_add(sums.at, x.at[0], w);
    return sums;
}

PJ_SHARED void pj_dw_finish1(uint8_t *y, const uint32_t *sums, const float *multiplier, const struct pj_codes *q)
{
    int32_t acc[16];
    memcpy(acc, sums, sizeof acc);
    pj_put1(y, pj_scale(acc, multiplier), q);
}

PJ_SHARED pj_dw_codes pj_dw_finish(const pj_dw_sums sums[4], const pj_dw_rule *rule, const struct pj_codes *q,
                                   const int32_t rectified)
{
    pj_dw_codes codes;
    int32_t v;
    PJ_UNUSED(rectified);
    for (v = 0; v < 4; v++)
        pj_dw_finish1(codes.at[v], sums[v].at, rule->multiplier, q);
    return codes;
}

PJ_WORD void pj_dw_put(uint8_t *y, const pj_dw_codes *codes, const int32_t vector)
{
    memcpy(y, codes->at[vector], 16);
}

PJ_SHARED pj_dw_column pj_dw_wide_load(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d)
{
    pj_dw_column column;
    int32_t i, j;
    for (i = 0; i < 4; i++)
        for (j = 0; j < 16; j += 4) {
            const int32_t from = 4 * j + 4 * i;
            memcpy(column.at[i].at[0] + j, a + from, 4);
            memcpy(column.at[i].at[1] + j, b + from, 4);
            memcpy(column.at[i].at[2] + j, c + from, 4);
            memcpy(column.at[i].at[3] + j, d + from, 4);
        }
    return column;
}

PJ_WORD pj_dw_column pj_dw_wide_fill(int32_t code)
{
    pj_dw_column column;
    memset(column.at, code, sizeof column.at);
    return column;
}

PJ_WORD void pj_dw_window_begin(pj_dw_window *window)
{
    window->x[0] = window->ring, window->x[1] = window->ring + 1, window->x[2] = window->ring + 2;
}

PJ_SHARED void pj_dw_push(pj_dw_window *window, pj_dw_column next)
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
    PJ_UNUSED(half);
    return pj_dw_rule_of(bias, multiplier, rectified);
}

PJ_WORD pj_dw_pixel pj_dw_wide_start(const pj_dw_wide_rule *rule)
{
    pj_dw_pixel sums;
    memcpy(sums.at, rule->bias, sizeof sums.at);
    return sums;
}

PJ_SHARED void pj_dw_wide_dot(pj_dw_pixel *sums, const pj_dw_column *x, const pj_dw_stored *w, const int32_t half,
                              const int32_t rows)
{
    int32_t r, i;
    PJ_UNUSED(half);
    for (r = 0; r < rows; r++)
        for (i = 0; i < 4; i++)
            pj_dw_add(sums[r].at[i].at, x->at[i].at[0], w + (12 * r + 3 * i) * 64);
}

PJ_SHARED void pj_dw_wide_put(uint8_t *y, const pj_dw_pixel *sums, const pj_dw_wide_rule *rule,
                              const struct pj_codes *q, const int32_t rectified)
{
    uint8_t codes[16];
    int32_t i, j;
    PJ_UNUSED(rectified);
    for (i = 0; i < 4; i++) {
        pj_dw_finish1(codes, sums->at[i].at, rule->multiplier + 16 * i, q);
        for (j = 0; j < 4; j++)
            memcpy(y + 16 * j + 4 * i, codes + 4 * j, 4);
    }
}
