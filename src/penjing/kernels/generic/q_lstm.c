/* q_lstm: x u8 (n, steps, features), w_ih s8 (4 * units, features), bias s32, multiplier f32, w_hh s8 (4 * units, width),
 * bias, multiplier, the tables of sigmoid and tanh s16 (2048); if projected, w_hr s8 (width, units) and its multiplier; if
 * stateful, h u8 and c s16, whose samples lie h_step and c_step apart. y u8 (n, steps, width), last c s16 (n, units).
 *
 * Scratch: products of x with w_ih for a block of steps, all at once; then differences from the zero points, of two rows
 * of x, of the last h, and of what is projected. The cell lies in its output.
 */
struct pj_q_lstm {
    int32_t n, steps, features, units, width;
    int32_t reverse, projected, stateful, h_step, c_step;
    int32_t x_zero, y_zero;
    float low, high;
};

/* One step: c and, as differences from their zero point, the codes of o * tanh(c). */
PJ_INLINE void pj_q_lstm_step(const struct pj_q_lstm *p, const void *const *in, const float *read, const int16_t *h,
                              int16_t *c, int16_t *made)
{
    const int8_t *w = in[4];
    const int32_t *bias = in[5];
    const float *multiplier = in[6];
    const int16_t *sigmoids = in[7], *tanhs = in[8];
    int32_t j, k;

    for (j = 0; j < p->units; j++) {
        int32_t gate[4], next, t;
        for (k = 0; k < 4; k++) {
            const int32_t row = k * p->units + j;
            const int32_t acc = pj_dot(h, w + (int64_t)row * p->width, p->width) + bias[row];
            const float again = (float)acc * multiplier[row];
            gate[k] = pj_gate(k == 2 ? tanhs : sigmoids, read[row] + again);
        }
        next = pj_shift(gate[1] * c[j] + pj_shift(gate[0] * gate[2], 4) + 16384, 15);
        c[j] = (int16_t)pj_clamp(next, -32768, 32767);
        t = tanhs[pj_clamp(pj_shift(c[j] + 8, 4), -1024, 1023) + 1024];
        made[j] = (int16_t)pj_clamp(pj_shift(gate[3] * t + 4194304, 23), -128, 127);
    }
}

static void pj_q_lstm(const struct pj_q_lstm *p, const void *const *in, void *const *out, void *scratch)
{
    const int32_t rows = 4 * p->units, block = p->steps < PJ_STEPS_AT_ONCE ? p->steps : PJ_STEPS_AT_ONCE;
    const int32_t states = 9 + 2 * p->projected;
    const int8_t *w_hr = p->projected ? in[9] : 0;
    const float *multiplier = p->projected ? in[10] : 0;
    const uint8_t *h0 = p->stateful ? in[states] : 0;
    const int16_t *c0 = p->stateful ? in[states + 1] : 0;
    float *read = scratch;
    int16_t *centred = (int16_t *)(read + (int64_t)block * rows), *h = centred + 2 * p->features;
    int16_t *made = h + p->width;
    int32_t n, step, first = 0, j;

    for (n = 0; n < p->n; n++) {
        const uint8_t *x = (const uint8_t *)in[0] + (int64_t)n * p->steps * p->features;
        uint8_t *y = (uint8_t *)out[0] + (int64_t)n * p->steps * p->width;
        int16_t *c = (int16_t *)out[1] + (int64_t)n * p->units;
        for (j = 0; j < p->width; j++)
            h[j] = (int16_t)(p->stateful ? h0[n * p->h_step + j] - p->y_zero : 0);
        for (j = 0; j < p->units; j++)
            c[j] = (int16_t)(p->stateful ? c0[n * p->c_step + j] : 0);
        for (step = 0; step < p->steps; step++) {
            const int32_t t = p->reverse ? p->steps - 1 - step : step;
            uint8_t *codes = y + (int64_t)t * p->width;
            if (step % block == 0) {
                const int32_t some = p->steps - step < block ? p->steps - step : block;
                first = p->reverse ? p->steps - step - some : step;
                pj_project(read, centred, x + (int64_t)first * p->features, in[1], in[2], in[3], some, p->features, rows,
                           p->x_zero);
            }
            pj_q_lstm_step(p, in, read + (int64_t)(t - first) * rows, h, c, made);
            if (p->projected) {
                for (j = 0; j < p->width; j++)
                    codes[j] = pj_requantize(pj_dot(made, w_hr + (int64_t)j * p->units, p->units), multiplier[j],
                                             p->y_zero, p->low, p->high);
                pj_centre(h, codes, p->width, p->y_zero);
            } else {
                int16_t *last = h;
                for (j = 0; j < p->width; j++)
                    codes[j] = (uint8_t)(made[j] + 128);
                h = made, made = last;
            }
        }
    }
}
