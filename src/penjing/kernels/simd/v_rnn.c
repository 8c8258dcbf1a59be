/* v_rnn: x u8 (n, steps, features), w_ih, bias and multiplier as pj_recurrent.h has them, w_hh, bias and multiplier; unless
 * rectified, the table of tanh s16 (2048); if stateful, h u8, whose samples lie h_step apart. y u8 (n, steps, units).
 */
struct pj_v_rnn {
    int32_t n, steps, features, units;
    int32_t reverse, rectified, stateful, h_step;
    int32_t y_zero;
};

PJ_SHARED void pj_v_rnn_sums(const struct pj_linear_walk *k, const uint8_t *x, const int8_t *w, const int32_t *bias,
                             int32_t *sums, int32_t rows, int32_t blocks)
{
    pj_gates_tiles(k, x, w, bias, sums, rows, blocks, 1);
}

/* One step of a block. `tanhs` is null where the layer is rectified. */
PJ_WORD void pj_v_rnn_cell(const int32_t *sums, const float *multiplier, const float *read, const int16_t *tanhs,
                           const struct pj_codes *codes, uint8_t *h)
{
    const pj_f steps = pj_add_f(pj_load_f(read), pj_scale(sums, multiplier));
    if (tanhs)
        pj_put_i(h, pj_shift_i(pj_add_i(pj_value_e(pj_entry_f(tanhs, steps)), pj_set_i(128)), 8));
    else
        pj_put1(h, steps, codes);
}

static void pj_v_rnn(const struct pj_v_rnn *p, const void *const *in, void *const *out, void *scratch)
{
    const struct pj_gates x_gates = pj_gates_open(in + 1, p->features, p->units, 1);
    const struct pj_gates h_gates = pj_gates_open(in + 4, p->units, p->units, 1);
    const int16_t *tanhs = p->rectified ? 0 : in[7];
    const uint8_t *h0 = p->stateful ? in[p->rectified ? 7 : 8] : 0;
    const int32_t units = 16 * x_gates.blocks;
    int32_t space[16 * 3], *sums = pj_aligned(space);
    struct pj_codes codes;
    struct pj_reading r = pj_reading_open(&x_gates, p->steps, p->reverse, scratch, 1);
    uint8_t *h = r.rest, *next = h + units;
    int32_t n, step, block, blocks, b;

    codes.zero = codes.qmin = p->y_zero, codes.qmax = 255;
    for (n = 0; n < p->n; n++) {
        const uint8_t *x = (const uint8_t *)in[0] + (int64_t)n * p->steps * p->features;
        uint8_t *y = (uint8_t *)out[0] + (int64_t)n * p->steps * p->units;
        memset(h, p->y_zero, (size_t)units);
        if (p->stateful)
            memcpy(h, h0 + n * p->h_step, (size_t)p->units);
        for (step = 0; step < p->steps; step++) {
            const float *read = pj_reading_next(&r, &x_gates, pj_v_rnn_sums, x, step, 1);
            uint8_t *last = h;
            for (block = 0; block < h_gates.blocks; block += blocks) {
                const int32_t at = 16 * block;
                struct pj_linear_walk k;
                blocks = pj_gates_pair(&h_gates, &k, block, 1);
                pj_v_rnn_sums(&k, h, h_gates.w + (int64_t)at * h_gates.wide, h_gates.bias + at, sums, 1, blocks);
                for (b = 0; b < 16 * blocks; b += 16)
                    pj_v_rnn_cell(sums + b, h_gates.multiplier + at + b, read + at + b, tanhs, &codes, next + at + b);
            }
            memcpy(y + (int64_t)pj_reading_time(&r, step) * p->units, next, (size_t)p->units);
            h = next, next = last;
        }
    }
}
