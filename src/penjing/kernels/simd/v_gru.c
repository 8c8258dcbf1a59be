/* v_gru: x u8 (n, steps, features), w_ih, bias and multiplier as pj_recurrent.h has them, w_hh, bias and multiplier, the
 * tables of sigmoid and tanh s16 (2048); if stateful, h s16, whose samples lie h_step apart. y u8 (n, steps, units), last
 * h s16 (n, units).
 */
struct pj_v_gru {
    int32_t n, steps, features, units;
    int32_t reverse, stateful, h_step;
};

PJ_SHARED void pj_v_gru_sums(const struct pj_linear_walk *k, const uint8_t *x, const int8_t *w, const int32_t *bias,
                             int32_t *sums, int32_t rows, int32_t blocks)
{
    pj_gates_tiles(k, x, w, bias, sums, rows, blocks, 3);
}

PJ_WORD void pj_v_gru_codes(uint8_t *to, pj_i h)
{
    pj_put_i(to, pj_shift_i(pj_add_i(h, pj_set_i(128)), 8));
}

/* One step of a block: h, and its codes. */
PJ_WORD void pj_v_gru_cell(const int32_t *sums, const float *multiplier, const float *read, const int16_t *sigmoids,
                           const int16_t *tanhs, int16_t *h, uint8_t *codes)
{
    const pj_e r = pj_gate_e(sigmoids, sums, multiplier, read);
    const pj_e z = pj_gate_e(sigmoids, sums + 16, multiplier + 16, read + 16);
    const pj_f reset = pj_mul_f(pj_float_i(pj_value_e(r)), pj_set_f(0x1p-15f));
    const pj_f again = pj_mul_f(reset, pj_scale(sums + 32, multiplier + 32));
    const pj_e n = pj_entry_f(tanhs, pj_add_f(pj_load_f(read + 32), again));
    const pj_i fresh = pj_sub_i(pj_whole_e(n), pj_mul_e(z, n)); /* (2^15 - z) * n */
    const pj_i sum = pj_add_i(pj_mul_ei(z, pj_load_i(h)), fresh);
    const pj_i next = pj_shift_i(pj_add_i(sum, pj_set_i(16384)), 15);
    pj_store_i(h, next);
    pj_v_gru_codes(codes, next);
}

/* One step of all blocks, the first first or the last: see v_lstm. */
PJ_INLINE void pj_v_gru_step(const struct pj_gates *g, const int16_t *const *tables, const float *read,
                             const uint8_t *last, int16_t *h, uint8_t *codes, int32_t back)
{
    const int32_t pairs = (g->blocks + 1) / 2;
    int32_t space[16 * 7], *sums = pj_aligned(space);
    int32_t i, b;
    for (i = 0; i < pairs; i++) {
        const int32_t block = 2 * (back ? pairs - 1 - i : i);
        struct pj_linear_walk k;
        const int32_t blocks = pj_gates_pair(g, &k, block, 3);
        pj_v_gru_sums(&k, last, g->w + (int64_t)48 * block * g->wide, g->bias + 48 * block, sums, 1, blocks);
        for (b = 0; b < blocks; b++) {
            const int32_t at = 48 * (block + b);
            pj_v_gru_cell(sums + 48 * b, g->multiplier + at, read + at, tables[0], tables[1], h + at / 3, codes + at / 3);
        }
    }
}

static void pj_v_gru(const struct pj_v_gru *p, const void *const *in, void *const *out, void *scratch)
{
    const struct pj_gates x_gates = pj_gates_open(in + 1, p->features, p->units, 3);
    const struct pj_gates h_gates = pj_gates_open(in + 4, p->units, p->units, 3);
    const int16_t *const tables[2] = {in[7], in[8]}, *h0 = p->stateful ? in[9] : 0;
    const int32_t units = 16 * x_gates.blocks;
    struct pj_reading r = pj_reading_open(&x_gates, p->steps, p->reverse, scratch, 3);
    int16_t *h = r.rest;
    uint8_t *codes = (uint8_t *)(h + units), *next = codes + units;
    int32_t n, step, j;

    for (n = 0; n < p->n; n++) {
        const uint8_t *x = (const uint8_t *)in[0] + (int64_t)n * p->steps * p->features;
        uint8_t *y = (uint8_t *)out[0] + (int64_t)n * p->steps * p->units;
        memset(h, 0, (size_t)(2 * units));
        if (p->stateful)
            memcpy(h, h0 + n * p->h_step, (size_t)(2 * p->units));
        for (j = 0; j < units; j += 16)
            pj_v_gru_codes(codes + j, pj_load_i(h + j));
        for (step = 0; step < p->steps; step++) {
            const float *read = pj_reading_next(&r, &x_gates, pj_v_gru_sums, x, step, 3);
            uint8_t *last = codes;
            pj_v_gru_step(&h_gates, tables, read, codes, h, next, step & 1);
            memcpy(y + (int64_t)pj_reading_time(&r, step) * p->units, next, (size_t)p->units);
            codes = next, next = last;
        }
        memcpy((int16_t *)out[1] + (int64_t)n * p->units, h, (size_t)(2 * p->units));
    }
}
