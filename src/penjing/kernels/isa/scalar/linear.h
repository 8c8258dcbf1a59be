/* linear */
#define PJ_LINEAR_CENTRED 0
#define PJ_LINEAR_ROWS 1
#define PJ_LINEAR_VECTORS_1 1
#define PJ_LINEAR_VECTORS 1
#define PJ_LINEAR_TILES(T) T(1, 1, 1)
#define PJ_LINEAR_FOURS 0

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
    pj_acc acc;
    memset(acc.at, 0, sizeof acc.at);
    return acc;
}

PJ_WORD pj_acc pj_acc_add(pj_acc a, pj_acc b)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        a.at[j] += b.at[j];
    return a;
}

#define PJ_BOOK_VECTORS 4
#define PJ_INT4_VECTORS 4
#define PJ_INT4_RUN 8

typedef const int8_t *pj_book;
typedef const uint8_t *pj_int4_x;
typedef struct {
    pj_acc low, high;
} pj_int4_acc;

PJ_WORD pj_book pj_book_load(const int8_t *table, const int32_t bits)
{
    PJ_UNUSED(bits);
    return table;
}

PJ_WORD pj_fc_w pj_book_indices(const uint8_t *w)
{
    return pj_fc_load_w((const int8_t *)w);
}

PJ_WORD pj_fc_acc pj_book_dot4(pj_fc_acc acc, pj_fc_x x, pj_fc_w indices, pj_book book, const int32_t bits,
                               const int32_t i)
{
    int8_t w[64];
    int32_t j;
    for (j = 0; j < 64; j++)
        w[j] = book[(uint8_t)indices[j] >> bits * i & 15];
    return pj_dot4(acc, x, w);
}

PJ_WORD int32_t pj_sum_codes(const uint8_t *x, int32_t n)
{
    int32_t sum = 0;
    for (; n > 0; n--)
        sum += *x++;
    return sum;
}

PJ_WORD pj_int4_x pj_int4_load_x(const uint8_t *x)
{
    return x;
}

PJ_WORD pj_int4_acc pj_int4_zero(void)
{
    pj_int4_acc acc;
    acc.low = acc.high = pj_acc_zero();
    return acc;
}

PJ_WORD pj_int4_acc pj_int4_dot4(pj_int4_acc acc, pj_int4_x x, const uint8_t *w)
{
    int32_t j;
    for (j = 0; j < 64; j++) {
        acc.low.at[j / 4] += (uint32_t)((x[j % 4] - 128) * (w[j] & 15));
        acc.high.at[j / 4] += (uint32_t)((x[j % 4] - 128) * (w[j] >> 4));
    }
    return acc;
}

PJ_WORD pj_int4_acc pj_int4_carry(pj_int4_acc acc)
{
    return acc;
}

PJ_WORD void pj_int4_store(int32_t *to, pj_int4_acc acc, const int32_t *bias, int32_t less)
{
    int32_t j;
    for (j = 0; j < 16; j++) {
        acc.low.at[j] += (uint32_t)bias[j] - (uint32_t)less;
        acc.high.at[j] += (uint32_t)bias[16 + j] - (uint32_t)less;
    }
    memcpy(to, acc.low.at, sizeof acc.low.at);
    memcpy(to + 16, acc.high.at, sizeof acc.high.at);
}
