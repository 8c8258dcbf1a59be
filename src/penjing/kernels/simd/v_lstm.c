/* v_lstm: x u8 (n, steps, features), w_ih, bias and multiplier as pj_recurrent.h has them, w_hh, bias and multiplier, the
 * tables of sigmoid and tanh s16 (2048); if projected, w_hr likewise, of one gate, and its multiplier; if stateful, h u8 and
 * c s16, whose samples lie h_step and c_step apart. y u8 (n, steps, width), last c s16 (n, units).
 *
 * Steps go to and fro over w_hh: what the last read at its end is in the first-level cache when the next begins there.
 */
struct pj_v_lstm {
    int32_t n, steps, features, units, width;
    int32_t reverse, projected, stateful, h_step, c_step;
    int32_t y_zero;
};

PJ_SHARED void pj_v_lstm_sums(const struct pj_linear_walk *k, const uint8_t *x, const int8_t *w, const int32_t *bias,
                              int32_t *sums, int32_t rows, int32_t blocks)
{
    pj_gates_tiles(k, x, w, bias, sums, rows, blocks, 4);
}

PJ_SHARED void pj_v_lstm_projected(const struct pj_linear_walk *k, const uint8_t *x, const int8_t *w,
                                   const int32_t *bias, int32_t *sums, int32_t rows, int32_t blocks)
{
    PJ_UNUSED(rows);
    pj_gates_tiles(k, x, w, bias, sums, 1, blocks, 1);
}

/* One step of a block: c, and the codes of o * tanh(c). */
PJ_WORD void pj_v_lstm_cell(const int32_t *sums, const float *multiplier, const float *read, const int16_t *sigmoids,
                            const int16_t *tanhs, int16_t *c, uint8_t *made)
{
    const pj_e input = pj_gate_e(sigmoids, sums, multiplier, read);
    const pj_e forget = pj_gate_e(sigmoids, sums + 16, multiplier + 16, read + 16);
    const pj_e fresh = pj_gate_e(tanhs, sums + 32, multiplier + 32, read + 32);
    const pj_e output = pj_gate_e(sigmoids, sums + 48, multiplier + 48, read + 48);
    const pj_i sum = pj_add_i(pj_mul_ei(forget, pj_load_i(c)), pj_shift_i(pj_mul_e(input, fresh), 4));
    const pj_i next = pj_shift_i(pj_add_i(sum, pj_set_i(16384)), 15);
    /* a cell that saturates has the tanh of one that does not */
    const pj_e t = pj_entry_i(tanhs, pj_shift_i(pj_add_i(next, pj_set_i(8)), 4));
    pj_store_i(c, next);
    pj_put_i(made, pj_shift_i(pj_add_i(pj_mul_e(output, t), pj_set_i(4194304)), 23));
}

/* bias: what takes the sums of codes that all mean 0 to 0. */
PJ_INLINE void pj_v_lstm_level(const struct pj_gates *g, int32_t *bias, uint8_t *zeros)
{
    int32_t space[16 * 3], *sums = pj_aligned(space);
    int32_t block, blocks, j;
    memset(bias, 0, (size_t)(64 * g->blocks));
    memset(zeros, 128, (size_t)g->wide);
    for (block = 0; block < g->blocks; block += blocks) {
        struct pj_linear_walk k;
        blocks = pj_gates_pair(g, &k, block, 1);
        pj_v_lstm_projected(&k, zeros, g->w + (int64_t)16 * block * g->wide, bias + 16 * block, sums, 1, blocks);
        for (j = 0; j < 16 * blocks; j++)
            bias[16 * block + j] = -sums[j];
    }
}

PJ_INLINE void pj_v_lstm_project(const struct pj_gates *g, const int32_t *bias, const uint8_t *made, uint8_t *h,
                                 const struct pj_codes *codes)
{
    int32_t space[16 * 3], *sums = pj_aligned(space);
    int32_t block, blocks, b;
    for (block = 0; block < g->blocks; block += blocks) {
        struct pj_linear_walk k;
        blocks = pj_gates_pair(g, &k, block, 1);
        pj_v_lstm_projected(&k, made, g->w + (int64_t)16 * block * g->wide, bias + 16 * block, sums, 1, blocks);
        for (b = 0; b < blocks; b++)
            pj_put1(h + 16 * (block + b), pj_scale(sums + 16 * b, g->multiplier + 16 * (block + b)), codes);
    }
}

/* One step of all blocks, the first first or the last. */
PJ_INLINE void pj_v_lstm_step(const struct pj_gates *g, const int16_t *const *tables, const float *read, const uint8_t *h,
                              int16_t *c, uint8_t *made, int32_t back)
{
    const int32_t pairs = (g->blocks + 1) / 2;
    int32_t space[16 * 9], *sums = pj_aligned(space);
    int32_t i, b;
    for (i = 0; i < pairs; i++) {
        const int32_t block = 2 * (back ? pairs - 1 - i : i);
        struct pj_linear_walk k;
        const int32_t blocks = pj_gates_pair(g, &k, block, 4);
        pj_v_lstm_sums(&k, h, g->w + (int64_t)64 * block * g->wide, g->bias + 64 * block, sums, 1, blocks);
        for (b = 0; b < blocks; b++) {
            const int32_t at = 64 * (block + b);
            pj_v_lstm_cell(sums + 64 * b, g->multiplier + at, read + at, tables[0], tables[1], c + at / 4, made + at / 4);
        }
    }
}

static void pj_v_lstm(const struct pj_v_lstm *p, const void *const *in, void *const *out, void *scratch)
{
    const struct pj_gates x_gates = pj_gates_open(in + 1, p->features, p->units, 4);
    const struct pj_gates h_gates = pj_gates_open(in + 4, p->width, p->units, 4);
    const int16_t *const tables[2] = {in[7], in[8]};
    const int32_t units = 16 * x_gates.blocks, width = (p->width + 15) / 16 * 16, states = 9 + 2 * p->projected;
    const uint8_t *h0 = p->stateful ? in[states] : 0;
    const int16_t *c0 = p->stateful ? in[states + 1] : 0;
    struct pj_gates r_gates = x_gates;
    struct pj_codes codes;
    struct pj_reading r = pj_reading_open(&x_gates, p->steps, p->reverse, scratch, 4);
    int32_t *bias = r.rest;
    int16_t *c = (int16_t *)(bias + (p->projected ? width : 0));
    uint8_t *h = (uint8_t *)(c + units), *next = h + width, *made = next + width;
    int32_t n, step;

    codes.zero = p->y_zero, codes.qmin = 0, codes.qmax = 255;
    if (p->projected) {
        r_gates.w = in[9], r_gates.bias = bias, r_gates.multiplier = in[10];
        r_gates.k = p->units, r_gates.wide = (p->units + 3) / 4 * 4, r_gates.blocks = width / 16;
        pj_v_lstm_level(&r_gates, bias, made);
    }
    for (n = 0; n < p->n; n++) {
        const uint8_t *x = (const uint8_t *)in[0] + (int64_t)n * p->steps * p->features;
        uint8_t *y = (uint8_t *)out[0] + (int64_t)n * p->steps * p->width;
        memset(h, p->y_zero, (size_t)width);
        memset(c, 0, (size_t)(2 * units));
        if (p->stateful) {
            memcpy(h, h0 + n * p->h_step, (size_t)p->width);
            memcpy(c, c0 + n * p->c_step, (size_t)(2 * p->units));
        }
        for (step = 0; step < p->steps; step++) {
            const float *read = pj_reading_next(&r, &x_gates, pj_v_lstm_sums, x, step, 4);
            uint8_t *last = h;
            pj_v_lstm_step(&h_gates, tables, read, h, c, p->projected ? made : next, step & 1);
            if (p->projected)
                pj_v_lstm_project(&r_gates, bias, made, next, &codes);
            memcpy(y + (int64_t)pj_reading_time(&r, step) * p->width, next, (size_t)p->width);
            h = next, next = last;
        }
        memcpy((int16_t *)out[1] + (int64_t)n * p->units, c, (size_t)(2 * p->units));
    }
}
