/* products of two activations, and means weighted by 16 bits */
#define PJ_MATMUL_ROWS 1
#define PJ_MATMUL_VECTORS 1
#define PJ_MATMUL_TILES(T) T(1, 1)
#define PJ_ATTEND_ROWS 1
#define PJ_ATTEND_VECTORS 1
#define PJ_ATTEND_TILES(T) T(1, 1)

typedef const uint8_t *pj_pairs;

PJ_WORD pj_pairs pj_pairs_load(const uint8_t *v)
{
    return v;
}

PJ_WORD pj_fc_acc pj_pairs_dot(pj_fc_acc acc, const int16_t *weights, int64_t odd, pj_pairs codes)
{
    int32_t j;
    for (j = 0; j < 16; j++, codes += 4)
        acc.at[j] += (uint32_t)(weights[0] * codes[0] + weights[1] * codes[2] + weights[odd] * codes[1] +
                                weights[odd + 1] * codes[3]);
    return acc;
}

/* norms */
PJ_WORD int64_t pj_sum_squares(const uint8_t *x, int32_t n)
{
    int64_t sum = 0;
    for (; n > 0; n--, x++)
        sum += *x * *x;
    return sum;
}

PJ_WORD int32_t pj_sum_wide(const int16_t *x, int32_t n)
{
    int32_t sum = 0;
    for (; n > 0; n--, x++)
        sum += *x;
    return sum;
}

PJ_WORD int64_t pj_sum_squares_wide(const int16_t *x, int32_t n)
{
    int64_t sum = 0;
    for (; n > 0; n--, x++) {
        const int32_t code = *x;
        sum += code * code;
    }
    return sum;
}

PJ_WORD pj_f pj_from_wide(const int16_t *codes, int32_t factor, int32_t less)
{
    pj_f v;
    int32_t j;
    for (j = 0; j < 16; j++)
        v.at[j] = (float)(factor * codes[j] - less);
    return v;
}

PJ_WORD pj_f pj_from_multiples(const uint8_t *codes, int32_t factor, int32_t less)
{
    pj_f v;
    int32_t j;
    for (j = 0; j < 16; j++)
        v.at[j] = (float)(factor * codes[j] - less);
    return v;
}

PJ_SHARED int64_t pj_floor_root(uint64_t w)
{
    return pj_root_digits(w);
}

/* Values in steps as 16 codes of 16 bits. */
PJ_WORD void pj_put_wide(int16_t *to, pj_f v)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        to[j] = pj_wide(v.at[j]);
}
