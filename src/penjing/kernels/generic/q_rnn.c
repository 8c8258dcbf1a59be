/* q_rnn: x u8 (n, steps, features), w_ih s8 (units, features), bias s32, multiplier f32, w_hh s8 (units, width), bias,
 * multiplier; unless rectified, the table of tanh s16 (2048); if stateful, h u8, whose samples lie h_step apart.
 * y u8 (n, steps, units).
 *
 * Scratch: products of x with w_ih for a block of steps, all at once; then differences from the zero points, of two rows
 * of x and of the last h.
 */
struct pj_q_rnn {
    int32_t n, steps, features, units, width;
    int32_t reverse, rectified, stateful, h_step;
    int32_t x_zero, y_zero;
    float high;
};

static void pj_q_rnn(const struct pj_q_rnn *p, const void *const *in, void *const *out, void *scratch)
{
    const int32_t block = p->steps < PJ_STEPS_AT_ONCE ? p->steps : PJ_STEPS_AT_ONCE;
    const int8_t *w = in[4];
    const int32_t *bias = in[5];
    const float *multiplier = in[6];
    const int16_t *tanhs = p->rectified ? 0 : in[7];
    const uint8_t *h0 = p->stateful ? in[p->rectified ? 7 : 8] : 0;
    float *read = scratch;
    int16_t *centred = (int16_t *)(read + (int64_t)block * p->units), *h = centred + 2 * p->features;
    int32_t n, step, first = 0, j;

    for (n = 0; n < p->n; n++) {
        const uint8_t *x = (const uint8_t *)in[0] + (int64_t)n * p->steps * p->features;
        uint8_t *y = (uint8_t *)out[0] + (int64_t)n * p->steps * p->units;
        for (j = 0; j < p->units; j++)
            h[j] = (int16_t)(p->stateful ? h0[n * p->h_step + j] - p->y_zero : 0);
        for (step = 0; step < p->steps; step++) {
            const int32_t t = p->reverse ? p->steps - 1 - step : step;
            uint8_t *codes = y + (int64_t)t * p->units;
            if (step % block == 0) {
                const int32_t some = p->steps - step < block ? p->steps - step : block;
                first = p->reverse ? p->steps - step - some : step;
                pj_project(read, centred, x + (int64_t)first * p->features, in[1], in[2], in[3], some, p->features,
                           p->units, p->x_zero);
            }
            for (j = 0; j < p->units; j++) {
                const int32_t acc = pj_dot(h, w + (int64_t)j * p->width, p->width) + bias[j];
                const float again = (float)acc * multiplier[j];
                const float steps = read[(int64_t)(t - first) * p->units + j] + again;
                const int32_t made = p->rectified ? pj_round(steps, 0.0f, p->high)
                                                  : pj_clamp(pj_shift(pj_gate(tanhs, steps) + 128, 8), -128, 127);
                codes[j] = (uint8_t)(made + p->y_zero);
            }
            pj_centre(h, codes, p->units, p->y_zero);
        }
    }
}
