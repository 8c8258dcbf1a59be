/* elementwise and pooling: see x86_avx512vnni.h */
#define PJ_BYTES 16
#define PJ_SUMMED 256
#define PJ_FUSES 0

typedef struct {
    uint8_t at[16];
} pj_b;
typedef struct {
    uint16_t at[16];
} pj_h;

PJ_WORD pj_b pj_load_b(const uint8_t *x, int32_t n)
{
    pj_b v = {{0}};
    memcpy(v.at, x, (size_t)n);
    return v;
}

PJ_WORD void pj_store_b(uint8_t *y, pj_b v, int32_t n)
{
    memcpy(y, v.at, (size_t)n);
}

PJ_WORD pj_b pj_max_b(pj_b a, pj_b b)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        a.at[j] = a.at[j] > b.at[j] ? a.at[j] : b.at[j];
    return a;
}

PJ_WORD pj_b pj_max_pairs_16(pj_b a, pj_b b)
{
    return pj_max_b(a, b);
}

PJ_WORD pj_h pj_zero_h(void)
{
    const pj_h sum = {{0}};
    return sum;
}

PJ_WORD pj_h pj_add_h(pj_h sum, pj_b v)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        sum.at[j] = (uint16_t)(sum.at[j] + v.at[j]);
    return sum;
}

PJ_WORD void pj_flush_h(int32_t *to, pj_h sum)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        to[j] += sum.at[j];
}

PJ_WORD pj_f pj_load_f(const float *x)
{
    pj_f v;
    memcpy(v.at, x, sizeof v.at);
    return v;
}

PJ_WORD pj_f pj_set_f(float value)
{
    pj_f v;
    int32_t j;
    for (j = 0; j < 16; j++)
        v.at[j] = value;
    return v;
}

PJ_WORD pj_f pj_from_codes(const uint8_t *codes, int32_t zero)
{
    pj_f v;
    int32_t j;
    for (j = 0; j < 16; j++)
        v.at[j] = (float)(codes[j] - zero);
    return v;
}

PJ_WORD pj_f pj_from_sums(const int32_t *sums, int32_t less)
{
    pj_f v;
    int32_t j;
    for (j = 0; j < 16; j++)
        v.at[j] = (float)(sums[j] - less);
    return v;
}

PJ_WORD pj_f pj_add_f(pj_f a, pj_f b)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        a.at[j] = a.at[j] + b.at[j];
    return a;
}

PJ_WORD pj_f pj_mul_f(pj_f a, pj_f b)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        a.at[j] = a.at[j] * b.at[j];
    return a;
}

PJ_WORD pj_f pj_div_f(pj_f a, pj_f b)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        a.at[j] = a.at[j] / b.at[j];
    return a;
}

PJ_WORD pj_f pj_clamp_f(pj_f v, float low, float high)
{
    int32_t j;
    for (j = 0; j < 16; j++) {
        v.at[j] = v.at[j] < low ? low : v.at[j];
        v.at[j] = v.at[j] > high ? high : v.at[j];
    }
    return v;
}

PJ_WORD pj_b pj_round_b(const pj_f v[PJ_BYTES / 16], int32_t zero)
{
    pj_b codes;
    int32_t j;
    for (j = 0; j < 16; j++)
        codes.at[j] = (uint8_t)(pj_round(v[0].at[j], -255.0f, 255.0f) + zero);
    return codes;
}

PJ_WORD void pj_look_up(uint8_t *y, const uint8_t *x, int32_t n, const uint8_t *table)
{
    int32_t i;
    for (i = 0; i < n; i++)
        y[i] = table[x[i]];
}

PJ_SHARED void pj_interleave_3(uint8_t *y, const uint8_t *x, int64_t step, int32_t n)
{
    int32_t i, k;
    for (i = 0; i < n; i++)
        for (k = 0; k < 3; k++)
            y[3 * (int64_t)i + k] = x[i + k * step];
}
