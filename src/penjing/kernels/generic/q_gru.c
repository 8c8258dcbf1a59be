/* q_gru: x u8 (n, steps, features), w_ih s8 (3 * units, features), bias s32, multiplier f32, w_hh s8 (3 * units, width),
 * bias, multiplier, the tables of sigmoid and tanh s16 (2048); if stateful, h s16, whose samples lie h_step apart.
 * y u8 (n, steps, units), last h s16 (n, units), where it lies from step to step.
 *
 * Scratch: products of x with w_ih for a block of steps, all at once; then differences from the zero points, of two rows
 * of x and of the codes of h.
 */
struct pj_q_gru {
    int32_t n, steps, features, units, width;
    int32_t reverse, stateful, h_step;
    int32_t x_zero;
};

/* One step of h, from the codes of the last. */
PJ_INLINE void pj_q_gru_step(const struct pj_q_gru *p, const void *const *in, const float *read, const int16_t *codes,
                             int16_t *h)
{
    const int8_t *w = in[4];
    const int32_t *bias = in[5];
    const float *multiplier = in[6];
    const int16_t *sigmoids = in[7], *tanhs = in[8];
    int32_t j, k;

    for (j = 0; j < p->units; j++) {
        float again[3], reset;
        int32_t z, n;
        for (k = 0; k < 3; k++) {
            const int32_t row = k * p->units + j;
            const int32_t acc = pj_dot(codes, w + (int64_t)row * p->width, p->width) + bias[row];
            again[k] = (float)acc * multiplier[row];
        }
        reset = (float)pj_gate(sigmoids, read[j] + again[0]) * 0x1p-15f;
        z = pj_gate(sigmoids, read[p->units + j] + again[1]);
        again[2] = reset * again[2];
        n = pj_gate(tanhs, read[2 * p->units + j] + again[2]);
        h[j] = (int16_t)pj_shift(z * h[j] + (32768 - z) * n + 16384, 15);
    }
}

static void pj_q_gru(const struct pj_q_gru *p, const void *const *in, void *const *out, void *scratch)
{
    const int32_t rows = 3 * p->units, block = p->steps < PJ_STEPS_AT_ONCE ? p->steps : PJ_STEPS_AT_ONCE;
    const int16_t *h0 = p->stateful ? in[9] : 0;
    float *read = scratch;
    int16_t *centred = (int16_t *)(read + (int64_t)block * rows), *codes = centred + 2 * p->features;
    int32_t n, step, first = 0, j;

    for (n = 0; n < p->n; n++) {
        const uint8_t *x = (const uint8_t *)in[0] + (int64_t)n * p->steps * p->features;
        uint8_t *y = (uint8_t *)out[0] + (int64_t)n * p->steps * p->units;
        int16_t *h = (int16_t *)out[1] + (int64_t)n * p->units;
        for (j = 0; j < p->units; j++) {
            h[j] = (int16_t)(p->stateful ? h0[n * p->h_step + j] : 0);
            codes[j] = (int16_t)pj_clamp(pj_shift(h[j] + 128, 8), -128, 127);
        }
        for (step = 0; step < p->steps; step++) {
            const int32_t t = p->reverse ? p->steps - 1 - step : step;
            if (step % block == 0) {
                const int32_t some = p->steps - step < block ? p->steps - step : block;
                first = p->reverse ? p->steps - step - some : step;
                pj_project(read, centred, x + (int64_t)first * p->features, in[1], in[2], in[3], some, p->features, rows,
                           p->x_zero);
            }
            pj_q_gru_step(p, in, read + (int64_t)(t - first) * rows, codes, h);
            for (j = 0; j < p->units; j++) {
                codes[j] = (int16_t)pj_clamp(pj_shift(h[j] + 128, 8), -128, 127);
                y[(int64_t)t * p->units + j] = (uint8_t)(codes[j] + 128);
            }
        }
    }
}
