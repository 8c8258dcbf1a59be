/* recurrent layers */
#define PJ_GATES_PAIRED 0
#define PJ_GATES_1(gates) 1
#define PJ_GATES(gates) 1
#define PJ_GATE_CHAINS(vectors) 1

typedef struct {
    int32_t at[16];
} pj_i;
typedef pj_i pj_e; /* values */

PJ_WORD void pj_store_f(float *to, pj_f v)
{
    memcpy(to, v.at, sizeof v.at);
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

PJ_WORD pj_i pj_shift_i(pj_i v, const int32_t n)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        v.at[j] = pj_shift(v.at[j], n);
    return v;
}

PJ_WORD pj_e pj_entry_f(const int16_t *table, pj_f at)
{
    pj_e e;
    int32_t j;
    for (j = 0; j < 16; j++)
        e.at[j] = pj_gate(table, at.at[j]);
    return e;
}

PJ_WORD pj_e pj_entry_i(const int16_t *table, pj_i at)
{
    pj_e e;
    int32_t j;
    for (j = 0; j < 16; j++)
        e.at[j] = table[pj_clamp(at.at[j], -1024, 1023) + 1024];
    return e;
}

PJ_WORD pj_i pj_value_e(pj_e e)
{
    return e;
}

PJ_WORD pj_i pj_mul_ei(pj_e a, pj_i b)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        a.at[j] *= b.at[j];
    return a;
}

PJ_WORD pj_i pj_mul_e(pj_e a, pj_e b)
{
    return pj_mul_ei(a, b);
}

PJ_WORD pj_i pj_whole_e(pj_e e)
{
    return pj_mul_ei(e, pj_set_i(32768));
}

PJ_WORD void pj_put_i(uint8_t *to, pj_i v)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        to[j] = (uint8_t)(pj_clamp(v.at[j], -128, 127) + 128);
}
