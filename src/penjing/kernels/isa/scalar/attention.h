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
