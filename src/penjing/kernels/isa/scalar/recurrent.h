/* recurrent layers */
#define PJ_GATES_PAIRED 0
#define PJ_GATES_1(gates) 1
#define PJ_GATES(gates) 1
#define PJ_GATE_CHAINS(vectors) 1

typedef struct {
    int32_t at[16];
} pj_i;

PJ_WORD void pj_store_f(float *to, pj_f v)
{
    memcpy(to, v.at, sizeof v.at);
}

PJ_WORD pj_i pj_round_i(pj_f v)
{
    pj_i i;
    int32_t j;
    for (j = 0; j < 16; j++)
        i.at[j] = pj_round(v.at[j], -2048.0f, 2048.0f); /* entries end before */
    return i;
}

PJ_WORD pj_f pj_float_i(pj_i v)
{
    pj_f f;
    int32_t j;
    for (j = 0; j < 16; j++)
        f.at[j] = (float)v.at[j];
    return f;
}

PJ_WORD pj_i pj_set_i(int32_t value)
{
    pj_i i;
    int32_t j;
    for (j = 0; j < 16; j++)
        i.at[j] = value;
    return i;
}

PJ_WORD pj_i pj_load_i(const int16_t *from)
{
    pj_i i;
    int32_t j;
    for (j = 0; j < 16; j++)
        i.at[j] = from[j];
    return i;
}

PJ_WORD void pj_store_i(int16_t *to, pj_i v)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        to[j] = (int16_t)pj_clamp(v.at[j], -32768, 32767);
}

PJ_WORD pj_i pj_add_i(pj_i a, pj_i b)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        a.at[j] += b.at[j];
    return a;
}

PJ_WORD pj_i pj_sub_i(pj_i a, pj_i b)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        a.at[j] -= b.at[j];
    return a;
}

PJ_WORD pj_i pj_mul_i(pj_i a, pj_i b)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        a.at[j] *= b.at[j];
    return a;
}

PJ_WORD pj_i pj_shift_i(pj_i v, const int32_t n)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        v.at[j] = pj_shift(v.at[j], n);
    return v;
}

PJ_WORD pj_i pj_entry_i(const int16_t *table, pj_i v)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        v.at[j] = table[pj_clamp(v.at[j], -1024, 1023) + 1024];
    return v;
}

PJ_WORD void pj_put_i(uint8_t *to, pj_i v)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        to[j] = (uint8_t)(pj_clamp(v.at[j], -128, 127) + 128);
}
